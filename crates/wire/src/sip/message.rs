//! The scanner: one message from its bytes in one pass, and the headers every message must have.
//!
//! Never allocates and never copies: the index of header fields has a fixed size, all text is a slice of the
//! input. Never lets through a header section that two readers could cut differently: lines end with CRLF
//! and nothing else, Content-Length stands once. RFC 3261 §7, §8.1.1, §18.3, §20.

use super::error::{ParseError, ParseErrorKind};
use super::grammar;
use super::header::UNKNOWN;
use super::{Header, HeaderName, Limits, Method, NameAddr, Params, StartLine, Via};

/// One SIP message, as slices of the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The input up to the end of the header section.
    head: &'a str,
    start: StartLine<'a>,
    body: &'a [u8],
    count: usize,
    fields: [Field; Limits::HEADERS],
}

/// Where one header field stands in the head. All offsets are below [`Limits::MESSAGE`].
#[derive(Clone, Copy, Debug)]
struct Field {
    number: u8,
    name_length: u8,
    name_start: u16,
    value_start: u16,
    value_length: u16,
}

/// What every request and response must have (RFC 3261 §8.1.1), typed and checked against each other.
#[derive(Clone, Copy, Debug)]
pub struct Essentials<'a> {
    /// The topmost Via.
    pub via: Via<'a>,
    /// From.
    pub from: NameAddr<'a>,
    /// To.
    pub to: NameAddr<'a>,
    /// Call-ID.
    pub call_id: &'a str,
    /// CSeq; of a request, its method is the request's.
    pub cseq: CSeq<'a>,
    /// Max-Forwards, where it stands.
    pub max_forwards: Option<u8>,
}

/// The value of CSeq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31 (RFC 3261 §8.1.1.5).
    pub number: u32,
    /// The method.
    pub method: Method<'a>,
}

impl<'a> Message<'a> {
    /// Parses one message. Line ends before it are passed over (RFC 3261 §7.5).
    ///
    /// The body is as long as Content-Length says, and what follows is left out; fewer bytes than that are
    /// an error. Without a Content-Length the body is all that is left, which is right for datagrams only:
    /// on a stream [`super::Framer`] has refused such a message before (RFC 3261 §18.3).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if bytes.len() > Limits::MESSAGE {
            return Err(ParseError::new(ParseErrorKind::MessageTooLong, Limits::MESSAGE));
        }
        let begin = leading_line_ends(bytes);
        let line_end = line_end(bytes, begin)?.ok_or(not_ended(bytes))?;
        if line_end == begin {
            return Err(ParseError::new(ParseErrorKind::Empty, begin));
        }
        if line_end - begin > Limits::FIELD {
            return Err(ParseError::new(ParseErrorKind::FieldTooLong, begin));
        }
        let mut fields =
            [Field { number: UNKNOWN, name_length: 0, name_start: 0, value_start: 0, value_length: 0 };
                Limits::HEADERS];
        let scanned = scan_fields(bytes, line_end + 2, &mut fields, Length::Sound)?;
        let head = checked_text(bytes, begin, scanned.end)?;
        let shifted = |fault: ParseError| ParseError { offset: begin + fault.offset, ..fault };
        let start = StartLine::parse(head.get(begin..line_end).unwrap_or_default()).map_err(shifted)?;
        let rest = bytes.get(scanned.end..).unwrap_or_default();
        let body = match scanned.content_length {
            None => rest,
            Some(length) => {
                let too_short = ParseError::new(ParseErrorKind::BodyTooShort, bytes.len());
                rest.get(..length).ok_or(too_short.within(HeaderName::ContentLength, 0))?
            }
        };
        Ok(Self { head, start, body, count: scanned.count, fields })
    }

    /// The headers of a request that [`Message::parse`] refuses for its first line or its length, so that it can be
    /// answered with a refusal, and for nothing else: there is neither a URI nor a body in what this gives.
    ///
    /// None where they cannot be read, of a response, of an ACK, and of what only might be a request.
    pub fn salvage(bytes: &'a [u8]) -> Option<Self> {
        let begin = leading_line_ends(bytes);
        let line_end = line_end(bytes, begin).ok()??;
        if bytes.len() > Limits::MESSAGE || line_end - begin > Limits::FIELD {
            return None;
        }
        let mut fields =
            [Field { number: UNKNOWN, name_length: 0, name_start: 0, value_start: 0, value_length: 0 };
                Limits::HEADERS];
        let scanned = scan_fields(bytes, line_end + 2, &mut fields, Length::Any).ok()?;
        let head = checked_text(bytes, begin, scanned.end).ok()?;
        let (method, rest) = head.get(begin..line_end)?.split_once(' ')?;
        let is_request = grammar::is_token(method) && !rest.trim().is_empty();
        let start = StartLine::Request { method: Method::parse(method), uri: "" };
        (is_request && method != Method::Ack.as_str()).then_some(Self {
            head,
            start,
            body: &[],
            count: scanned.count,
            fields,
        })
    }

    /// The start line.
    pub fn start(&self) -> StartLine<'a> {
        self.start
    }

    /// The method of a request; `None` of a response.
    pub fn method(&self) -> Option<Method<'a>> {
        match self.start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Status { .. } => None,
        }
    }

    /// The status code of a response; `None` of a request.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Status { code, .. } => Some(code),
        }
    }

    /// All header fields, in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> {
        self.index().iter().map(|field| Header { name: self.name_of(field), value: self.value_of(field) })
    }

    /// The values of one header, one for each line; a line may hold a list, which [`super::split_list`] cuts.
    pub fn values(&self, name: HeaderName<'_>) -> impl Iterator<Item = &'a str> {
        self.fields_of(name).map(|field| self.value_of(field))
    }

    /// The value of the first line of one header.
    pub fn value(&self, name: HeaderName<'_>) -> Option<&'a str> {
        self.fields_of(name).next().map(|field| self.value_of(field))
    }

    /// The body; empty if there is none.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Checks and types the headers that every message must have.
    ///
    /// From, To, Call-ID and CSeq stand once; there is a Via, and its topmost value is sound; CSeq's method
    /// is the request's; Max-Forwards stands at most once and is at most 255; a tag or branch is a token,
    /// stands once and is not too long. A missing tag or branch is left to the reader: RFC 2543 knew none.
    pub fn essentials(&self) -> Result<Essentials<'a>, ParseError> {
        let places = self.places()?;
        let essentials = Essentials {
            via: self.typed(&places, HeaderName::Via, parse_via)?,
            from: self.typed(&places, HeaderName::From, parse_party)?,
            to: self.typed(&places, HeaderName::To, parse_party)?,
            call_id: self.typed(&places, HeaderName::CallId, parse_call_id)?,
            cseq: self.typed(&places, HeaderName::CSeq, CSeq::parse)?,
            max_forwards: match places.of(HeaderName::MaxForwards) {
                None => None,
                Some(_) => Some(self.typed(&places, HeaderName::MaxForwards, parse_max_forwards)?),
            },
        };
        if self.method().is_some_and(|method| method != essentials.cseq.method) {
            let at = places.of(HeaderName::CSeq).map_or(0, |field| field.value_start.into());
            return Err(ParseError::new(ParseErrorKind::CSeqMethod, 0).within(HeaderName::CSeq, at));
        }
        Ok(essentials)
    }

    /// Where the headers stand that every message must have; one that stands twice is an error, but for Via.
    fn places(&self) -> Result<Places<'_>, ParseError> {
        let mut places = Places([None; PLACES]);
        for field in self.index() {
            match places.0.get_mut(usize::from(field.number)) {
                None => {}
                Some(place) if place.is_none() => *place = Some(field),
                Some(_) if MAY_REPEAT.contains(&field.number) => {}
                Some(_) => {
                    let name = HeaderName::from_number(field.number, "");
                    let repeated = ParseError::new(ParseErrorKind::RepeatedHeader, 0);
                    return Err(repeated.within(name, field.name_start.into()));
                }
            }
        }
        Ok(places)
    }

    fn typed<T>(
        &self,
        places: &Places<'_>,
        name: HeaderName<'static>,
        parse: impl FnOnce(&'a str) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        let Some(field) = places.of(name) else {
            return Err(ParseError::new(ParseErrorKind::MissingHeader, 0).within(name, self.head.len()));
        };
        parse(self.value_of(field)).map_err(|fault| fault.within(name, field.value_start.into()))
    }

    fn index(&self) -> &[Field] {
        self.fields.get(..self.count).unwrap_or_default()
    }

    fn fields_of(&self, name: HeaderName<'_>) -> impl Iterator<Item = &Field> {
        let number = name.to_number();
        self.index().iter().filter(move |field| {
            field.number == number
                && (number != UNKNOWN || self.spelling(field).eq_ignore_ascii_case(name.as_str()))
        })
    }

    fn name_of(&self, field: &Field) -> HeaderName<'a> {
        HeaderName::from_number(field.number, self.spelling(field))
    }

    fn spelling(&self, field: &Field) -> &'a str {
        self.slice(field.name_start, field.name_length.into())
    }

    fn value_of(&self, field: &Field) -> &'a str {
        self.slice(field.value_start, field.value_length)
    }

    fn slice(&self, start: u16, length: u16) -> &'a str {
        let start = usize::from(start);
        self.head.get(start..start + usize::from(length)).unwrap_or_default()
    }
}

/// How many names, from the first on, hold all that every message must have.
const PLACES: usize = 7;
/// Those of them that may stand more than once.
const MAY_REPEAT: [u8; 2] = [HeaderName::Via.to_number(), HeaderName::Contact.to_number()];

const _: () =
    assert!(HeaderName::MaxForwards.to_number() as usize == PLACES - 1, "the order of the list of names");

/// The first field of each of the names in [`PLACES`], found in one pass.
struct Places<'m>([Option<&'m Field>; PLACES]);

impl<'m> Places<'m> {
    #[inline]
    fn of(&self, name: HeaderName<'_>) -> Option<&'m Field> {
        self.0.get(usize::from(name.to_number())).copied().flatten()
    }
}

impl<'a> CSeq<'a> {
    /// Parses the value of a CSeq header.
    pub fn parse(value: &'a str) -> Result<Self, ParseError> {
        let digits = value.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = grammar::cut(value, digits);
        let number = grammar::number(number, i32::MAX.unsigned_abs());
        let number = number.ok_or(ParseError::new(ParseErrorKind::Number, 0))?;
        let method = grammar::trim_start(rest);
        if method.len() == rest.len() || !grammar::is_token(method) {
            return Err(ParseError::new(ParseErrorKind::Method, digits));
        }
        Ok(Self { number, method: Method::parse(method) })
    }
}

/// What Content-Length must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    /// At most one, and a number.
    Sound,
    /// Anything: it is not used.
    Any,
}

/// What the scan of the header section found.
struct Scanned {
    count: usize,
    /// Offset after the empty line.
    end: usize,
    content_length: Option<usize>,
}

/// Fills the index from the first header line on, up to the empty line.
fn scan_fields(
    bytes: &[u8],
    begin: usize,
    fields: &mut [Field; Limits::HEADERS],
    length: Length,
) -> Result<Scanned, ParseError> {
    let mut count = 0;
    let mut content_length = None;
    let mut at = begin;
    loop {
        match bytes.get(at) {
            None => return Err(not_ended(bytes)),
            Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => {
                return Ok(Scanned { count, end: at + 2, content_length });
            }
            Some(b' ' | b'\t') => return Err(ParseError::new(ParseErrorKind::Continuation, at)),
            Some(_) => {}
        }
        let (field, end) = scan_field(bytes, at)?;
        if length == Length::Sound && field.number == HeaderName::ContentLength.to_number() {
            let found = content_length_of(bytes, &field, content_length.is_some())?;
            content_length = Some(found);
        }
        let slot = fields.get_mut(count).ok_or(ParseError::new(ParseErrorKind::TooManyHeaders, at))?;
        *slot = field;
        count += 1;
        at = end;
    }
}

/// The header field that begins at `at`, with its continuation lines, and the offset after its line end.
#[inline]
fn scan_field(bytes: &[u8], at: usize) -> Result<(Field, usize), ParseError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let before_colon = memchr::memchr(b':', rest).map(|colon| rest.get(..colon).unwrap_or_default());
    let named =
        before_colon.and_then(|text| name_of(text).map(|(number, length)| (text.len(), number, length)));
    let Some((colon, number, name_length)) = named else {
        // A line end that is none is the truer reason where there is one.
        line_end(bytes, at)?.ok_or(not_ended(bytes))?;
        return Err(ParseError::new(ParseErrorKind::HeaderName, at));
    };
    let value_start = at + colon + 1;
    let mut end = line_end(bytes, value_start)?.ok_or(not_ended(bytes))?;
    while let Some(b' ' | b'\t') = bytes.get(end + 2) {
        end = line_end(bytes, end + 2)?.ok_or(not_ended(bytes))?;
    }
    if end - at > Limits::FIELD || name_length > Limits::NAME {
        return Err(ParseError::new(ParseErrorKind::FieldTooLong, at));
    }
    let mut value = grammar::skip_space(bytes.get(value_start..end).unwrap_or_default());
    let value_start = end - value.len();
    while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = value {
        value = rest;
    }
    // The casts lose nothing: a message has at most 64 KiB, a name at most 255 bytes.
    let field = Field {
        number,
        name_length: name_length as u8,
        name_start: at as u16,
        value_start: value_start as u16,
        value_length: value.len() as u16,
    };
    Ok((field, end + 2))
}

/// Number and length of the name that stands before a colon, if all of it is a token and blanks after it.
#[inline]
fn name_of(mut text: &[u8]) -> Option<(u8, usize)> {
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    // A name that we know is a token; only another is read byte by byte.
    let number = HeaderName::known(text);
    let is_token =
        number != UNKNOWN || (!text.is_empty() && grammar::run(text, grammar::TOKEN) == text.len());
    is_token.then_some((number, text.len()))
}

fn content_length_of(bytes: &[u8], field: &Field, is_repeated: bool) -> Result<usize, ParseError> {
    let start = usize::from(field.value_start);
    let kind = if is_repeated { ParseErrorKind::RepeatedHeader } else { ParseErrorKind::Number };
    let value = bytes.get(start..start + usize::from(field.value_length)).unwrap_or_default();
    let length = content_length(value).filter(|_| !is_repeated);
    length.ok_or(ParseError::new(kind, 0).within(HeaderName::ContentLength, start))
}

/// The value of Content-Length: digits only, at most what a message may have.
pub(super) fn content_length(value: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(value).ok()?;
    usize::try_from(grammar::number(text, u32::MAX)?).ok().filter(|length| *length <= Limits::MESSAGE)
}

/// Offset of the CRLF that ends the line in which `from` is, if it is there. A CR or LF alone is an error,
/// so that no other reader finds a line where we find none.
#[inline]
pub(super) fn line_end(bytes: &[u8], from: usize) -> Result<Option<usize>, ParseError> {
    let Some(found) = bytes.get(from..).and_then(|rest| memchr::memchr2(b'\r', b'\n', rest)) else {
        return Ok(None);
    };
    let at = from + found;
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Some(at)),
        (Some(b'\r'), None) => Ok(None),
        (Some(b'\r'), Some(_)) => Err(ParseError::new(ParseErrorKind::BareCarriageReturn, at)),
        _ => Err(ParseError::new(ParseErrorKind::BareLineFeed, at)),
    }
}

fn not_ended(bytes: &[u8]) -> ParseError {
    ParseError::new(ParseErrorKind::HeadersNotEnded, bytes.len())
}

fn leading_line_ends(bytes: &[u8]) -> usize {
    bytes.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2
}

/// The head as text, if it is UTF-8 without control characters in places where they are not legal.
fn checked_text(bytes: &[u8], begin: usize, end: usize) -> Result<&str, ParseError> {
    let head = bytes.get(..end).unwrap_or_default();
    if has_control(head)
        && let Some(offset) = illegal_control(head, begin)
    {
        return Err(ParseError::new(ParseErrorKind::ControlCharacter, offset));
    }
    std::str::from_utf8(head).map_err(|fault| ParseError::new(ParseErrorKind::NotUtf8, fault.valid_up_to()))
}

/// Whether there is a control character other than tab and line end. Branchless, for the compiler to do in
/// wide steps; nearly no message has one.
fn has_control(head: &[u8]) -> bool {
    let is_control =
        |byte: u8| ((byte < b' ') & (byte != b'\t') & (byte != b'\r') & (byte != b'\n')) | (byte == 0x7f);
    head.iter().fold(false, |found, &byte| found | is_control(byte))
}

/// Offset of the first control character that is not a quoted pair inside a quoted string, the one place
/// where the grammar has them, NUL included (RFC 3261 §25.1, RFC 4475 §3.1.1.2).
fn illegal_control(head: &[u8], begin: usize) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in head.iter().enumerate().skip(begin) {
        let starts_field = byte == b'\n' && !matches!(head.get(at + 1), Some(b' ' | b'\t'));
        match byte {
            _ if starts_field => (quoted, escaped) = (false, false),
            b'\r' | b'\n' => escaped = false,
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'\t' => {}
            _ if byte.is_ascii_control() => return Some(at),
            _ => {}
        }
    }
    None
}

fn parse_via(value: &str) -> Result<Via<'_>, ParseError> {
    let via = Via::parse(value)?;
    check_token(via.params, "branch")?;
    Ok(via)
}

fn parse_party(value: &str) -> Result<NameAddr<'_>, ParseError> {
    let party = NameAddr::parse(value)?;
    check_token(party.params, "tag")?;
    Ok(party)
}

/// A tag or branch is written on without quotes: where it stands twice, is no token (RFC 3261 §25.1), so that
/// another reader would cut it differently, or is too long to be kept, it is refused.
fn check_token(params: Params<'_>, name: &str) -> Result<(), ParseError> {
    match params.single(name)? {
        Some(value) if !grammar::is_token(value) => Err(ParseError::new(ParseErrorKind::Params, 0)),
        Some(token) if token.len() > Limits::TOKEN => Err(ParseError::new(ParseErrorKind::FieldTooLong, 0)),
        _ => Ok(()),
    }
}

fn parse_max_forwards(value: &str) -> Result<u8, ParseError> {
    let number = grammar::number(value, u32::from(u8::MAX)).and_then(|number| u8::try_from(number).ok());
    number.ok_or(ParseError::new(ParseErrorKind::Number, 0))
}

/// Call-ID: visible ASCII. The grammar's `word` has all of it but a few signs that phones write all the same.
fn parse_call_id(value: &str) -> Result<&str, ParseError> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ParseError::new(ParseErrorKind::CallId, 0));
    }
    if value.len() > Limits::CALL_ID {
        return Err(ParseError::new(ParseErrorKind::FieldTooLong, 0));
    }
    Ok(value)
}
