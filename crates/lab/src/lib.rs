//! The actors of the quickstart: phones, a PBX, an intruder, and a CA that certifies them.
//!
//! Owns their sockets and tasks. Of foreign make on purpose: their SIP is rsip's, their candidates are
//! webrtc-ice's, so that our own parser and writer are not their own witnesses. Never uses a crate of ours,
//! never looks into Portcullis: it sees what phones and PBXs see. Gives what was seen as plain data.
//!
//! - [`Authority`] makes certificates; [`Identity`] is one with its key.
//! - [`Phone`] connects and registers; its calls are [`Call`]s, which exchange [`Tone`]s.
//! - [`Pbx`] is registrar and proxy, and keeps a [`Journal`] of what reached it.
//! - [`guess`] is an intruder's attempt, [`Got`] what he got for it.
//!
//! Start reading at `phone.rs` and `pbx.rs`. RFC 3261 (SIP), RFC 8866 (SDP), RFC 8445 (ICE), RFC 3550 (RTP).
#![forbid(unsafe_code)]

mod answer;
mod audio;
mod authority;
mod call;
mod fault;
mod ice;
mod intruder;
mod link;
mod media;
mod message;
mod pbx;
mod phone;
mod sdp;
mod user_agent;

pub use answer::Answer;
pub use audio::{Heard, Tone};
pub use authority::{Authority, Identity, Pem};
pub use call::Call;
pub use fault::{Fault, in_time};
pub use intruder::{Got, guess};
pub use pbx::{Account, CallSeen, Contact, Journal, Pbx};
pub use phone::Phone;
pub use sdp::Description;
pub use user_agent::Owner;
