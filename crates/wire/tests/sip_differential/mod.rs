//! Our scanner beside rsip, a parser of foreign make. The fuzz targets compare by it too.
//!
//! What rsip reads otherwise, and why ours is right:
//! - it takes all that follows the header section for the body; Content-Length cuts it (RFC 3261 §18.3), so
//!   our body is the beginning of its body;
//! - it leaves white space at the end of a value (RFC 3261 §7.3.1 says it is none of the value), so values
//!   are compared trimmed;
//! - without any header it reads on in the body up to an empty line there, so such messages are left out;
//! - it reads the methods that it knows in any case (RFC 3261 §7.1 says that case counts);
//! - it takes `user` for the host in `sip:user;par=u%40example.net@example.com` (RFC 4475 §3.1.1.9);
//! - it writes the scheme of a foreign URI with `//`, so only sip and sips are compared;
//! - it lets such a Request-URI go on over line ends, up to a later ` SIP/2.0`, and the headers between are
//!   part of it, so what it reads so is left out.

use rsip::SipMessage;
use rsip::message::HasHeaders;
use wire::sip::{Header, HeaderName, Message, StartLine};

/// Compares all but the Request-URI; `None` where one of the two refuses the message.
pub(crate) fn compare(bytes: &[u8]) -> Option<(Message<'_>, SipMessage)> {
    let ours = Message::parse(bytes).ok()?;
    ours.headers().next()?;
    let theirs = SipMessage::try_from(bytes).ok()?;
    if matches!(&theirs, SipMessage::Request(theirs) if theirs.uri().to_string().contains(['\r', '\n'])) {
        return None;
    }
    let shown = bytes.escape_ascii();
    match (&theirs, ours.start()) {
        (SipMessage::Request(theirs), StartLine::Request { method, .. }) => {
            assert!(theirs.method().to_string().eq_ignore_ascii_case(method.as_str()), "{shown}");
        }
        (SipMessage::Response(theirs), StartLine::Status { code, .. }) => {
            assert_eq!(theirs.status_code().code(), code, "{shown}");
        }
        _ => panic!("a request to one, a response to the other: {shown}"),
    }
    let lines: Vec<String> = theirs.headers().iter().map(ToString::to_string).collect();
    let their_headers: Vec<_> = lines.iter().map(|line| header(line)).collect();
    let our_headers: Vec<_> = ours.headers().collect();
    assert_eq!(our_headers, their_headers, "{shown}");
    assert!(theirs.body().starts_with(ours.body()), "{shown}");
    Some((ours, theirs))
}

fn header(line: &str) -> Header<'_> {
    let (name, value) = line.split_once(':').expect("a header line");
    Header { name: HeaderName::parse(name), value: value.trim_matches([' ', '\t', '\r', '\n']) }
}
