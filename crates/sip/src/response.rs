//! The part of a response that is copied from its request (RFC 3261 §8.2.6, §18.2.1; RFC 3581).
//!
//! Never chooses a status, adds a header of its own, or trusts a `received` that the request brought.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use wire::sip::{HeaderName, Message, NameAddr, Writer, split_list};

use crate::quoted::split_unquoted;

/// Begins the response to `request`, which came from `source`: status line, every Via (the top one stamped
/// with where it came from), From, To, Call-ID, CSeq, and the Timestamp of a `100`.
///
/// `to_tag` is added where the request's To has none.
pub fn response(
    request: &Message<'_>,
    source: SocketAddr,
    code: u16,
    reason: &str,
    to_tag: Option<&str>,
) -> Writer {
    let mut writer = Writer::response(code, reason);
    for (place, line) in request.values(HeaderName::Via).enumerate() {
        if place == 0 {
            writer.header(HeaderName::Via.as_str(), stamped_via(line, source));
        } else {
            writer.header(HeaderName::Via.as_str(), line);
        }
    }
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
        for value in request.values(name).take(1) {
            match to_tag.filter(|_| name == HeaderName::To && !has_tag(value)) {
                Some(tag) => writer.header(name.as_str(), format_args!("{value};tag={tag}")),
                None => writer.header(name.as_str(), value),
            };
        }
    }
    if code == 100 {
        for value in request.values(HeaderName::Timestamp).take(1) {
            writer.header(HeaderName::Timestamp.as_str(), value);
        }
    }
    writer
}

/// A Via line whose first value says where the request really came from: `received` always when it differs
/// from the sent-by or the client asked for `rport`, and the port where it asked (RFC 3581 §4).
pub fn stamped_via(line: &str, source: SocketAddr) -> String {
    let top = split_list(line).next().unwrap_or(line);
    let below = line.trim_start().strip_prefix(top).unwrap_or_default();
    let mut segments = split_unquoted(top, b';');
    let sent_by = segments.next().unwrap_or_default();
    let mut stamped = sent_by.trim_end().to_owned();
    let mut asked = false;
    for segment in segments {
        let name = segment.split('=').next().unwrap_or_default().trim();
        if name.eq_ignore_ascii_case("rport") {
            asked = true;
        } else if !name.eq_ignore_ascii_case("received") {
            stamped.push(';');
            stamped.push_str(segment.trim());
        }
    }
    let source_ip = source.ip().to_canonical();
    if asked || !names_address(sent_by, source_ip) {
        append(&mut stamped, format_args!(";received={source_ip}"));
    }
    if asked {
        append(&mut stamped, format_args!(";rport={}", source.port()));
    }
    stamped.push_str(below);
    stamped
}

fn append(text: &mut String, what: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(what);
    debug_assert!(written.is_ok(), "a String takes everything");
}

fn has_tag(name_addr: &str) -> bool {
    NameAddr::parse(name_addr).is_ok_and(|parsed| parsed.tag().is_some())
}

/// Whether the sent-by of `SIP/2.0/UDP host:port` is this very address.
fn names_address(sent_by: &str, address: IpAddr) -> bool {
    let host_port = sent_by.split_ascii_whitespace().last().unwrap_or_default();
    host_port
        .parse::<SocketAddr>()
        .map(|parsed| parsed.ip())
        .or_else(|_| host_port.trim_matches(['[', ']']).parse())
        .is_ok_and(|ip: IpAddr| ip.to_canonical() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(line: &str, source: &str) -> String {
        stamped_via(line, source.parse().expect("an address"))
    }

    #[test]
    fn via_says_where_the_request_came_from() {
        let rows = [
            (
                "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1",
                "192.0.2.1:5060",
                "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1",
            ),
            (
                "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
                "192.0.2.1:5060",
                "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
            ),
            (
                "SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK1;rport",
                "192.0.2.1:40000",
                "SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK1;received=192.0.2.1;rport=40000",
            ),
            (
                "SIP/2.0/TLS phone.example;received=203.0.113.1;branch=z9hG4bK1 ; x=\"a;rport\"",
                "[2001:db8::1]:5061",
                "SIP/2.0/TLS phone.example;branch=z9hG4bK1;x=\"a;rport\";received=2001:db8::1",
            ),
            (
                "SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1",
                "[2001:db8::1]:9",
                "SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1",
            ),
            (
                "SIP/2.0/UDP 192.0.2.7;rport;branch=z9hG4bK1, SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK2",
                "192.0.2.7:7",
                "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1;received=192.0.2.7;rport=7, SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK2",
            ),
        ];
        for (line, source, expected) in rows {
            assert_eq!(via(line, source), expected, "{line}");
        }
    }

    #[test]
    fn response_copies_what_section_8_2_6_names() {
        let bytes = b"OPTIONS sip:a@example.com SIP/2.0\r\n\
            Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1;rport\r\n\
            Via: SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK0\r\n\
            Max-Forwards: 70\r\nFrom: <sip:b@example.com>;tag=f\r\nTo: <sip:a@example.com>\r\n\
            Call-ID: c1\r\nCSeq: 7 OPTIONS\r\nTimestamp: 54\r\nSubject: no\r\n\r\n";
        let request = Message::parse(bytes).expect("a request");
        let source = "192.0.2.1:40000".parse().expect("an address");
        let text = |code, tag| {
            String::from_utf8(response(&request, source, code, "OK", tag).finish(b"")).expect("text")
        };
        let answer = text(200, Some("t"));
        assert!(answer.starts_with(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1;received=192.0.2.1;rport=40000\r\n\
             Via: SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK0\r\nFrom: <sip:b@example.com>;tag=f\r\n\
             To: <sip:a@example.com>;tag=t\r\nCall-ID: c1\r\nCSeq: 7 OPTIONS\r\n"
        ));
        assert!(!answer.contains("Timestamp") && !answer.contains("Subject"));
        assert!(text(100, None).contains("\r\nTimestamp: 54\r\n"));
        assert!(text(200, None).contains("\r\nTo: <sip:a@example.com>\r\n"));
    }

    #[test]
    fn a_tag_is_not_added_twice() {
        let bytes = b"BYE sip:a@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1\r\n\
            From: <sip:b@example.com>;tag=f\r\nTo: <sip:a@example.com>;tag=mine\r\n\
            Call-ID: c1\r\nCSeq: 7 BYE\r\n\r\n";
        let request = Message::parse(bytes).expect("a request");
        let source = "10.0.0.9:5060".parse().expect("an address");
        let answer = response(&request, source, 200, "OK", Some("other")).finish(b"");
        assert!(String::from_utf8(answer).expect("text").contains("To: <sip:a@example.com>;tag=mine\r\n"));
    }
}
