//! Turns bytes into types and back; `parse(encode(x)) == x`.
//!
//! Owns the grammar of SIP, SDP, STUN and RTP, and the words for networks and time that all layers share.
//! Never keeps state, never allocates in proportion to a length field it has not bounded, never panics.
//! It is the only parser of bytes from outside.
//!
//! Start reading at [`sip::Message`]. RFC 3261 §7, §20, §25; RFC 8866; RFC 8489; RFC 3550; RFC 7983.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::string_slice)]

pub mod clock;
pub mod net;
pub mod rtp;
pub mod sdp;
pub mod sip;
pub mod stun;
pub mod words;
