//! Our scanner beside rsip, a parser of foreign make: where both accept a message, both read the same.
//!
//! What rsip reads otherwise, and why ours is right:
//! - it takes all that follows the header section for the body; Content-Length cuts it (RFC 3261 §18.3), so
//!   our body is the beginning of its body;
//! - it leaves white space at the end of a value (RFC 3261 §7.3.1 says it is none of the value), so values
//!   are compared trimmed;
//! - without any header it reads on in the body up to an empty line there, so such messages are left out;
//! - it takes `user` for the host in `sip:user;par=u%40example.net@example.com` (RFC 4475 §3.1.1.9);
//! - it writes the scheme of a foreign URI with `//`, so only sip and sips are compared.
#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where its own ground gives way")]

mod sip_corpus;
mod sip_mutants;

use rsip::SipMessage;
use rsip::message::HasHeaders;
use sip_mutants::Mutants;
use wire::sip::{Header, HeaderName, Message, StartLine, Uri};

/// Messages whose Request-URI rsip misreads.
const MISREAD_URIS: &[&str] = &["semiuri"];

/// Compares all but the Request-URI; `None` where one of the two refuses the message.
fn compare(bytes: &[u8]) -> Option<(Message<'_>, SipMessage)> {
    let ours = Message::parse(bytes).ok()?;
    ours.headers().next()?;
    let theirs = SipMessage::try_from(bytes).ok()?;
    let shown = bytes.escape_ascii();
    match (&theirs, ours.start()) {
        (SipMessage::Request(theirs), StartLine::Request { method, .. }) => {
            assert_eq!(theirs.method().to_string(), method.as_str(), "{shown}");
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
    Header { name: HeaderName::parse(name), value: value.trim() }
}

fn compare_uri(name: &str, ours: &Message<'_>, theirs: &SipMessage) {
    let (StartLine::Request { uri, .. }, SipMessage::Request(theirs)) = (ours.start(), theirs) else {
        return;
    };
    if let Ok(uri) = Uri::parse(uri) {
        let same = uri.to_string().eq_ignore_ascii_case(&theirs.uri().to_string());
        assert_eq!(same, !MISREAD_URIS.contains(&name), "{name}: {uri} and {}", theirs.uri());
    }
}

#[test]
fn both_read_the_corpus_the_same() {
    let mut compared = Vec::new();
    for folder in ["sip_torture", "sip_corpus"] {
        for (name, bytes) in sip_corpus::files_of(folder) {
            if let Some((ours, theirs)) = compare(&bytes) {
                compare_uri(&name, &ours, &theirs);
                compared.push(name);
            }
        }
    }
    assert!(compared.len() >= 30, "only {compared:?}");
}

#[test]
fn both_read_mutants_the_same() {
    let mut mutants = Mutants::new(0x5eed_0000_0000_000b);
    let compared = (0..20_000).filter(|_| compare(&mutants.draw()).is_some()).count();
    assert!(compared >= 2_000, "only {compared}");
}
