//! Why bytes are no SIP message, or text is no value of the type asked for. Never says more than a kind, a
//! place and a header: a peer's words are not carried along.

use std::error::Error;
use std::fmt;

use super::HeaderName;

/// What is wrong, where, and in which header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Byte offset in what was parsed: the message, or the value given to a typed `parse`.
    pub offset: usize,
    /// The header concerned, where one is.
    pub header: Option<HeaderName<'static>>,
}

/// What is wrong with a message or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParseErrorKind {
    /// Nothing, or only line ends.
    Empty,
    /// More than [`Limits::MESSAGE`](super::Limits::MESSAGE) bytes.
    MessageTooLong,
    /// More than [`Limits::HEADERS`](super::Limits::HEADERS) header fields.
    TooManyHeaders,
    /// A field, name, tag, branch or Call-ID over its limit.
    FieldTooLong,
    /// The bytes end before the empty line that ends the header section.
    HeadersNotEnded,
    /// The body is shorter than Content-Length says.
    BodyTooShort,
    /// A line feed without a carriage return before it.
    BareLineFeed,
    /// A carriage return without a line feed after it.
    BareCarriageReturn,
    /// A control character where no quoted pair makes it legal.
    ControlCharacter,
    /// The header section is not UTF-8.
    NotUtf8,
    /// The start line is neither `method SP uri SP version` nor `version SP code SP reason`.
    StartLine,
    /// A SIP version other than 2.0.
    Version,
    /// The status code is not three digits from 100 to 699.
    StatusCode,
    /// A method that is no token.
    Method,
    /// A header line without a token and a colon.
    HeaderName,
    /// A continuation line with nothing before it to continue.
    Continuation,
    /// A mandatory header is missing.
    MissingHeader,
    /// A header that may stand once stands again.
    RepeatedHeader,
    /// Not a number of the header's range.
    Number,
    /// The method of CSeq is not that of the request.
    CSeqMethod,
    /// No Call-ID by the grammar.
    CallId,
    /// A Via that is not `SIP/2.0/transport host`.
    Via,
    /// Neither name-addr nor addr-spec.
    NameAddr,
    /// A quoted string without its end.
    Quotes,
    /// Parameters that are not `;name` or `;name=value`, or a tag or branch that stands twice or is no token.
    Params,
    /// A character or an order of parts that no URI has.
    Uri,
    /// A URI whose scheme is none of sip, sips and tel.
    UnknownScheme,
    /// A host that is neither name nor address.
    Host,
    /// A port that is no number up to 65535.
    Port,
}

impl ParseErrorKind {
    /// The kind in words, the same on every run: for events, counters and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty message",
            Self::MessageTooLong => "message too long",
            Self::TooManyHeaders => "too many header fields",
            Self::FieldTooLong => "field too long",
            Self::HeadersNotEnded => "header section not ended",
            Self::BodyTooShort => "body shorter than Content-Length",
            Self::BareLineFeed => "line feed without carriage return",
            Self::BareCarriageReturn => "carriage return without line feed",
            Self::ControlCharacter => "control character",
            Self::NotUtf8 => "not UTF-8",
            Self::StartLine => "malformed start line",
            Self::Version => "SIP version is not 2.0",
            Self::StatusCode => "malformed status code",
            Self::Method => "malformed method",
            Self::HeaderName => "header line without name and colon",
            Self::Continuation => "continuation line after the start line",
            Self::MissingHeader => "header missing",
            Self::RepeatedHeader => "header repeated",
            Self::Number => "number malformed or out of range",
            Self::CSeqMethod => "method differs from the request line",
            Self::CallId => "malformed Call-ID",
            Self::Via => "malformed Via",
            Self::NameAddr => "malformed address",
            Self::Quotes => "quoted string not ended",
            Self::Params => "malformed parameters",
            Self::Uri => "malformed URI",
            Self::UnknownScheme => "unknown URI scheme",
            Self::Host => "malformed host",
            Self::Port => "malformed port",
        }
    }
}

impl fmt::Display for ParseErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(header) = self.header {
            write!(f, "{header}: ")?;
        }
        write!(f, "{} at byte {}", self.kind, self.offset)
    }
}

impl Error for ParseError {}

impl ParseError {
    pub(super) fn new(kind: ParseErrorKind, offset: usize) -> Self {
        Self { kind, offset, header: None }
    }

    /// The same fault seen from the message: in `header`, whose value begins at `base`.
    pub(super) fn within(self, header: HeaderName<'static>, base: usize) -> Self {
        Self { kind: self.kind, offset: base.saturating_add(self.offset), header: Some(header) }
    }
}
