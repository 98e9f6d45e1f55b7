//! The first line of a message: method, URI and version, or version, code and reason. RFC 3261 §7.1, §7.2.
//! Never takes more than one blank between the parts (RFC 4475 §3.1.2.9).

use std::fmt;

use super::Uri;
use super::error::{ParseError, ParseErrorKind};
use super::grammar;

/// What a message is: a request or a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// A request.
    Request {
        /// What is asked for.
        method: Method<'a>,
        /// The Request-URI: an absolute URI of any scheme, its inner grammar not yet checked.
        uri: &'a str,
    },
    /// A response.
    Status {
        /// 100 to 699.
        code: u16,
        /// The words after the code; may be empty.
        reason: &'a str,
    },
}

/// A request method; case matters (RFC 3261 §7.1). Made by [`Method::parse`], equal if the names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// RFC 3261 §13.
    Invite,
    /// RFC 3261 §13.
    Ack,
    /// RFC 3261 §15.
    Bye,
    /// RFC 3261 §9.
    Cancel,
    /// RFC 3261 §10.
    Register,
    /// RFC 3261 §11.
    Options,
    /// RFC 6086.
    Info,
    /// RFC 3311.
    Update,
    /// RFC 3262.
    Prack,
    /// RFC 6665.
    Subscribe,
    /// RFC 6665.
    Notify,
    /// RFC 3515.
    Refer,
    /// RFC 3428.
    Message,
    /// RFC 3903.
    Publish,
    /// Any other token.
    Other(&'a str),
}

impl<'a> Method<'a> {
    /// The method of this name. Any token is one; the caller has seen to it that `name` is a token.
    pub fn parse(name: &'a str) -> Self {
        match name {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "REGISTER" => Self::Register,
            "OPTIONS" => Self::Options,
            "INFO" => Self::Info,
            "UPDATE" => Self::Update,
            "PRACK" => Self::Prack,
            "SUBSCRIBE" => Self::Subscribe,
            "NOTIFY" => Self::Notify,
            "REFER" => Self::Refer,
            "MESSAGE" => Self::Message,
            "PUBLISH" => Self::Publish,
            other => Self::Other(other),
        }
    }

    /// The name as it stands in a message.
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Prack => "PRACK",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Refer => "REFER",
            Self::Message => "MESSAGE",
            Self::Publish => "PUBLISH",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const VERSION: &str = "SIP/2.0";

impl<'a> StartLine<'a> {
    /// Parses a start line without its line end.
    pub(super) fn parse(line: &'a str) -> Result<Self, ParseError> {
        let is_status =
            line.as_bytes().first_chunk().is_some_and(|start: &[u8; 4]| start.eq_ignore_ascii_case(b"SIP/"));
        if is_status { Self::parse_status(line) } else { Self::parse_request(line) }
    }

    fn parse_request(line: &'a str) -> Result<Self, ParseError> {
        let method_end = grammar::run(line.as_bytes(), grammar::TOKEN);
        let (method, rest) = grammar::cut(line, method_end);
        if method.is_empty() {
            return Err(ParseError::new(ParseErrorKind::Method, 0));
        }
        let rest = rest.strip_prefix(' ').ok_or(ParseError::new(ParseErrorKind::StartLine, method_end))?;
        let uri_start = method_end + 1;
        let uri_end = grammar::run(rest.as_bytes(), grammar::URI);
        let (uri, rest) = grammar::cut(rest, uri_end);
        if !has_scheme(uri) || has_headers(uri) {
            return Err(ParseError::new(ParseErrorKind::Uri, uri_start));
        }
        let version =
            rest.strip_prefix(' ').ok_or(ParseError::new(ParseErrorKind::StartLine, uri_start + uri_end))?;
        if !version.eq_ignore_ascii_case(VERSION) {
            let looks_like_one = version.len() >= 4 && version.is_char_boundary(4) && !version.contains(' ');
            let kind = if looks_like_one { ParseErrorKind::Version } else { ParseErrorKind::StartLine };
            return Err(ParseError::new(kind, uri_start + uri_end + 1));
        }
        Ok(Self::Request { method: Method::parse(method), uri })
    }

    fn parse_status(line: &'a str) -> Result<Self, ParseError> {
        let Some((version, rest)) = line.split_once(' ') else {
            return Err(ParseError::new(ParseErrorKind::StartLine, 0));
        };
        if !version.eq_ignore_ascii_case(VERSION) {
            return Err(ParseError::new(ParseErrorKind::Version, 0));
        }
        let Some((code, reason)) = rest.split_once(' ') else {
            return Err(ParseError::new(ParseErrorKind::StartLine, VERSION.len() + 1));
        };
        let number = if code.len() == 3 { grammar::number(code, 699) } else { None };
        let code = number.and_then(|number| u16::try_from(number).ok()).filter(|&code| code >= 100);
        let code = code.ok_or(ParseError::new(ParseErrorKind::StatusCode, VERSION.len() + 1))?;
        // No quotes stand in a reason phrase that could make one legal.
        if let Some(at) = reason.bytes().position(|byte| byte.is_ascii_control() && byte != b'\t') {
            let offset = line.len() - reason.len() + at;
            return Err(ParseError::new(ParseErrorKind::ControlCharacter, offset));
        }
        Ok(Self::Status { code, reason })
    }
}

/// Whether `uri` carries headers for the request, which no Request-URI may (RFC 3261 §19.1.1, table 1).
fn has_headers(uri: &str) -> bool {
    uri.contains('?') && Uri::parse(uri).is_ok_and(|uri| uri.headers.is_some())
}

/// Whether `uri` begins with a scheme and has something after the colon (RFC 3986 §3.1).
pub(super) fn has_scheme(uri: &str) -> bool {
    let bytes = uri.as_bytes();
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let colon = bytes.iter().position(|byte| !is_scheme(byte)).unwrap_or(bytes.len());
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.get(colon) == Some(&b':')
        && colon + 1 < bytes.len()
}
