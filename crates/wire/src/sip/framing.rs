//! Cuts a byte stream into messages. RFC 3261 §7.5, §18.3; RFC 5626 §3.5.1 (keepalives).
//!
//! Content-Length alone says where a message ends, so a stream whose next end is in doubt is given up: no
//! error is mended by searching on. Holds at most one message and one read, nothing while the stream is idle.

use super::message::{content_length, line_end};
use super::{HeaderName, Limits, grammar};

/// What a stream held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message; [`super::Message::parse`] takes it.
    Message(Vec<u8>),
    /// A double CRLF, to be answered by a single one.
    Ping,
    /// A single CRLF: the answer to a ping of ours, or nothing.
    Pong,
}

/// Why a stream cannot be read on. Each is final for the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message or a field is over its limit, or the reader pushed without taking frames.
    #[error("message or field too long")]
    TooLong,
    /// A CR or LF alone in a header section.
    #[error("line end is not CRLF")]
    LineEnd,
    /// A message without Content-Length.
    #[error("no Content-Length")]
    NoContentLength,
    /// A Content-Length that is no number, or a second one, be it equal.
    #[error("malformed or repeated Content-Length")]
    ContentLength,
}

impl FrameError {
    /// The fault in words, the same on every run.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "message or field too long",
            Self::LineEnd => "line end is not CRLF",
            Self::NoContentLength => "no Content-Length",
            Self::ContentLength => "malformed or repeated Content-Length",
        }
    }
}

/// Cuts one stream. After an error it takes and gives nothing more.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// What of the buffer has been given out.
    taken: usize,
    head: Head,
    /// A CRLF has just been given as [`Frame::Pong`]; with the next it makes a ping.
    after_line_end: bool,
    failed: Option<FrameError>,
}

/// How far the header section of the next message has been read, so that no byte is read twice however
/// small the pieces are. Offsets are from the start of the message.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    line_start: usize,
    field_start: usize,
    /// Where the search for the next line end goes on.
    searched: usize,
    content_length: Option<usize>,
    /// Length of the whole message, once its header section has ended.
    length: Option<usize>,
}

impl Framer {
    /// Bytes that may wait here after a push: a message that lacks one byte, and a read.
    const CAPACITY: usize = Limits::MESSAGE * 2;

    /// Takes what was read from the stream; [`Framer::next`] is to be called until it has no more.
    ///
    /// At most 64 KiB at a time.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if let Some(fault) = self.failed {
            return Err(fault);
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.len() + bytes.len() > Self::CAPACITY {
            return Err(self.fail(FrameError::TooLong));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

impl Framer {
    /// Whether a message has begun and is not yet whole. Lone line ends begin none.
    pub fn is_partial(&self) -> bool {
        !matches!(self.pending(), [] | [b'\r'])
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    fn fail(&mut self, fault: FrameError) -> FrameError {
        *self = Self { failed: Some(fault), ..Self::default() };
        fault
    }

    /// A line end before a message, if the next bytes are one.
    fn keepalive(&mut self) -> Option<Frame> {
        let pending = self.pending();
        let (frame, length) = match pending {
            [b'\r', b'\n', ..] if self.after_line_end => (Frame::Ping, 2),
            [b'\r', b'\n', b'\r', b'\n', ..] => (Frame::Ping, 4),
            [b'\r', b'\n', ..] => (Frame::Pong, 2),
            [] | [b'\r'] => return None,
            _ => {
                self.after_line_end = false;
                return None;
            }
        };
        self.after_line_end = frame == Frame::Pong;
        self.taken += length;
        Some(frame)
    }

    /// The first `length` bytes that wait; without a copy where nothing else waits.
    fn take(&mut self, length: usize) -> Vec<u8> {
        self.head = Head::default();
        if self.taken == 0 && self.buffer.len() == length {
            return std::mem::take(&mut self.buffer);
        }
        let message = self.pending().get(..length).unwrap_or_default().to_vec();
        self.taken += length;
        message
    }
}

/// Gives what is whole; after `None` it waits for the next [`Framer::push`].
impl Iterator for Framer {
    type Item = Result<Frame, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.head.searched == 0
            && let Some(frame) = self.keepalive()
        {
            return Some(Ok(frame));
        }
        let pending = self.buffer.get(self.taken..).unwrap_or_default();
        if let [] | [b'\r'] = pending {
            if pending.is_empty() {
                self.buffer = Vec::new();
                self.taken = 0;
            }
            return None;
        }
        match self.head.read(pending) {
            Err(fault) => Some(Err(self.fail(fault))),
            Ok(Some(length)) if length <= pending.len() => Some(Ok(Frame::Message(self.take(length)))),
            Ok(_) => None,
        }
    }
}

impl Head {
    /// Reads on in `message`; the length of the whole message, once its header section has ended.
    fn read(&mut self, message: &[u8]) -> Result<Option<usize>, FrameError> {
        while self.length.is_none() {
            match line_end(message, self.searched) {
                Err(_) => return Err(FrameError::LineEnd),
                Ok(Some(end)) => self.on_line(message, end)?,
                Ok(None) => {
                    // The last byte may be the CR of a line end.
                    self.searched = message.len().saturating_sub(1).max(self.line_start);
                    let field = if self.continues(message) { self.field_start } else { self.line_start };
                    let is_long = message.len() - field > Limits::FIELD + 2;
                    return if is_long || message.len() > Limits::MESSAGE {
                        Err(FrameError::TooLong)
                    } else {
                        Ok(None)
                    };
                }
            }
        }
        Ok(self.length)
    }

    /// Whether the line that is read belongs to the field of those before it.
    fn continues(&self, message: &[u8]) -> bool {
        matches!(message.get(self.line_start), Some(b' ' | b'\t'))
    }

    /// A line that ends at `end` is whole.
    fn on_line(&mut self, message: &[u8], end: usize) -> Result<(), FrameError> {
        if !self.continues(message) && self.line_start > 0 {
            let field = message.get(self.field_start..self.line_start - 2).unwrap_or_default();
            self.on_field(field)?;
            self.field_start = self.line_start;
        }
        if end - self.field_start > Limits::FIELD || end + 2 > Limits::MESSAGE {
            return Err(FrameError::TooLong);
        }
        if end == self.line_start {
            let length = end + 2 + self.content_length.ok_or(FrameError::NoContentLength)?;
            self.length = Some(length).filter(|length| *length <= Limits::MESSAGE);
            return self.length.map(|_| ()).ok_or(FrameError::TooLong);
        }
        self.line_start = end + 2;
        self.searched = self.line_start;
        Ok(())
    }

    /// A header field with all its lines, or the start line, is whole.
    fn on_field(&mut self, field: &[u8]) -> Result<(), FrameError> {
        let (name, rest) = field.split_at(grammar::run(field, grammar::TOKEN));
        if HeaderName::known(name) != HeaderName::ContentLength.to_number() || self.field_start == 0 {
            return Ok(());
        }
        let rest = rest.trim_ascii_start();
        let length = rest.strip_prefix(b":").and_then(|value| content_length(value.trim_ascii()));
        if length.is_none() || self.content_length.is_some() {
            return Err(FrameError::ContentLength);
        }
        self.content_length = length;
        Ok(())
    }
}
