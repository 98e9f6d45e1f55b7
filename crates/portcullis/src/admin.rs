//! The admin socket: how the command line speaks to the running process. One JSON object a line, both ways.
//!
//! Never decides: a request becomes a `border::command::Command` or is answered from what was recorded.
//! Never holds the core up: every lane to and from it is bounded, and a full one loses the answer, not a call.

pub mod client;
pub mod protocol;
pub mod server;
pub mod socket;
pub mod view;

/// A request in bytes, and any other line that the server reads.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 16;
