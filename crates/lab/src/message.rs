//! What the PBX and the phones need of SIP, on rsip's untyped messages (RFC 3261 §7, §18.3, §20).
//!
//! Reads no more than they look at, and writes what they say.

use rsip::headers::UntypedHeader;
use rsip::message::{HasHeaders, HeadersExt};
use rsip::{Header, Headers, Request, Response, SipMessage, StatusCode, Uri};

use crate::fault::Fault;

/// The largest message that the lab takes.
pub(crate) const MESSAGE_MAX: usize = 64 * 1024;

/// A random word of 16 letters and digits.
pub(crate) fn token() -> Result<String, Fault> {
    Ok(format!("{:016x}", getrandom::u64()?))
}

/// A branch of our own (RFC 3261 §8.1.1.7).
pub(crate) fn branch() -> Result<String, Fault> {
    Ok(format!("z9hG4bK{}", token()?))
}

/// Bytes for the wire: with a Content-Length that is right.
pub(crate) fn encode(message: impl Into<SipMessage>) -> Vec<u8> {
    let mut message = message.into();
    let length = u32::try_from(message.body().len()).unwrap_or(u32::MAX);
    message.headers_mut().unique_push(Header::ContentLength(length.into()));
    message.into()
}

/// One whole message.
pub(crate) fn decode(bytes: &[u8]) -> Result<SipMessage, Fault> {
    Ok(SipMessage::try_from(bytes)?)
}

/// The Call-ID; an empty word where there is none.
pub(crate) fn call_id(message: &impl HeadersExt) -> &str {
    message.call_id_header().map_or("", |header| header.value())
}

/// The From.
pub(crate) fn from(message: &impl HeadersExt) -> &str {
    message.from_header().map_or("", |header| header.value())
}

/// The To.
pub(crate) fn to(message: &impl HeadersExt) -> &str {
    message.to_header().map_or("", |header| header.value())
}

/// Number and method of the CSeq.
pub(crate) fn cseq(message: &impl HeadersExt) -> Option<(u32, &str)> {
    let (number, method) = message.cseq_header().ok()?.value().trim().split_once(char::is_whitespace)?;
    Some((number.parse().ok()?, method.trim()))
}

/// The values of all headers of one kind, lists taken apart.
pub(crate) fn values<'a>(headers: &'a Headers, pick: fn(&'a Header) -> Option<&'a str>) -> Vec<&'a str> {
    headers.iter().filter_map(pick).flat_map(split_list).collect()
}

/// For [`values`].
pub(crate) fn via(header: &Header) -> Option<&str> {
    if let Header::Via(value) = header { Some(value.value()) } else { None }
}

/// For [`values`].
pub(crate) fn contact(header: &Header) -> Option<&str> {
    if let Header::Contact(value) = header { Some(value.value()) } else { None }
}

/// For [`values`].
pub(crate) fn route(header: &Header) -> Option<&str> {
    if let Header::Route(value) = header { Some(value.value()) } else { None }
}

/// For [`values`].
pub(crate) fn record_route(header: &Header) -> Option<&str> {
    if let Header::RecordRoute(value) = header { Some(value.value()) } else { None }
}

/// For [`values`].
pub(crate) fn retry_after(header: &Header) -> Option<&str> {
    if let Header::RetryAfter(value) = header { Some(value.value()) } else { None }
}

/// For [`values`].
pub(crate) fn warning(header: &Header) -> Option<&str> {
    if let Header::Warning(value) = header { Some(value.value()) } else { None }
}

/// The items of a list: cut at commas that stand neither in quotes nor in `<>`.
pub(crate) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut bracketed) = (false, false);
    text.split(move |letter: char| {
        match letter {
            '"' => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            _ => {}
        }
        letter == ',' && !quoted && !bracketed
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
}

/// The URI of a From, To, Contact or Route.
pub(crate) fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split_once('>').map_or(rest, |(uri, _)| uri),
        None => value.split(';').next().unwrap_or(value),
    }
    .trim()
}

/// A parameter behind the URI of a From, To or Contact, or of a Via.
pub(crate) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let parameters = value.rsplit_once('>').map_or(value, |(_, rest)| rest);
    parameters.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A URI as rsip reads it.
pub(crate) fn parse_uri(text: &str) -> Result<Uri, Fault> {
    Ok(Uri::try_from(text)?)
}

/// An answer: what RFC 3261 §8.2.6 copies from the request, and a tag of ours where the request has none.
pub(crate) fn answer(request: &Request, status: (u16, &str), tag: &str) -> Response {
    let copied = |header: &&Header| {
        matches!(
            header,
            Header::Via(_)
                | Header::From(_)
                | Header::To(_)
                | Header::CallId(_)
                | Header::CSeq(_)
                | Header::RecordRoute(_)
        )
    };
    let mut headers: Headers = request.headers().iter().filter(copied).cloned().collect::<Vec<_>>().into();
    for header in headers.iter_mut() {
        if let Header::To(to) = header
            && parameter(to.value(), "tag").is_none()
            && status.0 != 100
        {
            to.replace(format!("{};tag={tag}", to.value()));
        }
    }
    let status_code = StatusCode::Other(status.0, status.1.to_owned());
    Response { status_code, version: Default::default(), headers, body: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:1002@pbx.lab SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.3;branch=z9hG4bK1\r\n\
        Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK0\r\nFrom: \"A; <b>\" <sip:1001@pbx.lab;x=1>;tag=a\r\n\
        To: <sip:1002@pbx.lab>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\nRecord-Route: <sip:127.0.0.4;lr>\r\n\
        Max-Forwards: 70\r\n\r\n";

    #[test]
    fn an_answer_copies_what_the_rfc_says_and_tags_once() {
        let Ok(SipMessage::Request(invite)) = decode(INVITE.as_bytes()) else { panic!("a request") };
        let text = String::from_utf8(encode(answer(&invite, (180, "Ringing"), "t"))).unwrap();
        assert!(text.starts_with("SIP/2.0 180 Ringing\r\n"), "{text}");
        assert_eq!(text.matches("Via: ").count(), 2);
        assert!(text.contains("To: <sip:1002@pbx.lab>;tag=t\r\n"), "{text}");
        assert!(text.contains("Record-Route: <sip:127.0.0.4;lr>\r\n"));
        assert!(text.contains("Content-Length: 0\r\n"));
        assert!(!text.contains("Max-Forwards"));
        let trying = String::from_utf8(encode(answer(&invite, (100, "Trying"), "t"))).unwrap();
        assert!(trying.contains("To: <sip:1002@pbx.lab>\r\n"));
    }

    #[test]
    fn values_are_found() {
        let Ok(SipMessage::Request(invite)) = decode(INVITE.as_bytes()) else { panic!("a request") };
        assert_eq!((call_id(&invite), cseq(&invite)), ("c", Some((7, "INVITE"))));
        assert_eq!(values(invite.headers(), via).len(), 2);
        assert_eq!(parameter(from(&invite), "tag"), Some("a"));
        assert_eq!(parameter(from(&invite), "x"), None, "that one is the URI's");
        assert_eq!(parameter("SIP/2.0/UDP 127.0.0.3;rport=5;branch=b", "branch"), Some("b"));
        let list = "<sip:a;lr>, \"b, c\" <sip:d,e>,sip:f";
        let items: Vec<&str> = split_list(list).collect();
        assert_eq!(items, ["<sip:a;lr>", "\"b, c\" <sip:d,e>", "sip:f"]);
        assert_eq!(
            items.iter().map(|item| uri_of(item)).collect::<Vec<_>>(),
            ["sip:a;lr", "sip:d,e", "sip:f"]
        );
    }

    #[test]
    fn garbage_is_no_message() {
        assert!(decode(b"garbage\r\n\r\n").is_err());
        assert!(decode(b"").is_err());
    }
}
