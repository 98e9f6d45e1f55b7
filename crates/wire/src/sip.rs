//! SIP messages as bytes: framing, scanning, the typed values the border decides on, and writing.
//!
//! Everything read is a slice of the input; only [`Framer`] and [`Writer`] hold memory. Limits are tested
//! before anything else. A value is given a type only when it is asked for, so what the border does not look
//! at passes through as it came. Never guesses: what the grammar does not allow is refused, and the few
//! places where phones in the field need more room than the grammar gives are named where they are.
//!
//! Start reading at [`Message`]. RFC 3261 §7, §18.3, §19.1, §20 and §25; RFC 3966 (tel); RFC 5626 §3.5.1
//! (keepalives); RFC 4475 and RFC 5118 are its test tables.

mod encode;
mod error;
mod framing;
mod grammar;
mod header;
mod message;
mod name_addr;
mod params;
mod start_line;
mod uri;
mod via;

pub use encode::{HeaderValue, OneLine, Writer};
pub use error::{ParseError, ParseErrorKind};
pub use framing::{Frame, FrameError, Framer};
pub use grammar::{split_list, unescape, unfold};
pub use header::{Header, HeaderName};
pub use message::{CSeq, Essentials, Message};
pub use name_addr::NameAddr;
pub use params::Params;
pub use start_line::{Method, StartLine};
pub use uri::{Host, Scheme, Uri};
pub use via::Via;

/// The sizes that end a message before it is looked at any closer.
#[derive(Debug)]
pub struct Limits;

impl Limits {
    /// Bytes of one message, start line to end of body.
    pub const MESSAGE: usize = 64 * 1024;
    /// Bytes of one header field with its name and folds, and of the start line.
    pub const FIELD: usize = 8 * 1024;
    /// Bytes of a header field's name.
    pub const NAME: usize = 255;
    /// Header fields of one message.
    pub const HEADERS: usize = 128;
    /// Bytes of a Call-ID.
    pub const CALL_ID: usize = 512;
    /// Bytes of a tag or of a branch.
    pub const TOKEN: usize = 512;
}
