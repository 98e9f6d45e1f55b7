//! The mechanism of RFC 3261: transactions, dialogs, digest.
//!
//! Owns the retransmissions and timers of §17 as amended by RFC 6026, the dialog of §12, and the digest
//! of §22 (RFC 7616). Never knows a PBX, decides policy, reads a clock, draws a random number, opens a
//! socket, or creates state for an unmatched response.
//!
//! ```text
//! TransactionLayer::receive_request / receive_response   a parsed message came
//! TransactionLayer::request / respond / cancel           the transaction user acts
//! TransactionLayer::handle_timeout / poll_timeout        time passes
//! TransactionLayer::poll                                 what is to be sent, what ended
//! Dialog, auth::Challenge, auth::Credentials             plain data
//! ```
//!
//! Start reading at [`TransactionLayer`]. RFC 3261 §8.2.6, §9, §12, §17, §22; RFC 6026; RFC 7616.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

pub mod auth;
pub mod dialog;
mod quoted;
pub mod response;
pub mod timer;
pub mod transaction;

pub use dialog::{Dialog, DialogId};
pub use transaction::{
    ClientId, Hop, RequestOutcome, ResponseOutcome, ServerId, TransactionEvent, TransactionLayer,
};
