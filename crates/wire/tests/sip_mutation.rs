//! Spoiled messages by the hundred thousand: nothing panics, and what is accepted holds together.
//!
//! The seed is fixed, so a failure is found again; it prints the mutant.
#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where its own ground gives way")]

mod sip_corpus;
mod sip_mutants;

use sip_mutants::Mutants;
use wire::sip::{
    CSeq, Frame, Framer, HeaderName, Host, Limits, Message, NameAddr, Params, StartLine, Uri, Via, Writer,
    split_list, unescape, unfold,
};

const MUTANTS: usize = 300_000;

/// Reads `value` as every type, whatever it was meant for.
fn read_value(value: &str) {
    for item in split_list(value) {
        if let Ok(address) = NameAddr::parse(item) {
            assert!(!address.uri.contains(['<', '>', '"', ' ', '\r', '\n', '\0']), "{item:?}");
            read_params(&address.params);
            read_uri(address.uri);
        }
        if let Ok(via) = Via::parse(item) {
            assert_eq!(via.branch(), via.params.value("BRANCH"));
            assert_eq!(Host::parse(&via.host.to_string()), Some(via.host), "{item:?}");
            read_params(&via.params);
        }
    }
    if let Ok(cseq) = CSeq::parse(value) {
        let written = format!("{} {}", cseq.number, cseq.method);
        assert_eq!(CSeq::parse(&written), Ok(cseq));
    }
    if let Ok(params) = Params::parse(value) {
        read_params(&params);
    }
    assert!(!unfold(value).contains(['\r', '\n']));
    unescape(value);
}

fn read_params(params: &Params<'_>) {
    for (name, value) in params.iter() {
        assert!(params.has(name), "{params:?}");
        assert!(!name.is_empty() && !name.contains([';', ',', ' ', '=', '"']), "{params:?}");
        assert!(value != Some("") || params.as_str().contains("\"\""), "{params:?}");
    }
}

fn read_uri(text: &str) {
    if let Ok(uri) = Uri::parse(text) {
        let written = uri.to_string();
        assert_eq!(Uri::parse(&written), Ok(uri), "{text:?}");
        assert!(uri.user.is_none_or(|user| !user.contains('@')));
        uri.user_unescaped();
    }
}

/// What the scanner accepts, the framer cuts at the same place.
fn check_framing(bytes: &[u8], message: &Message<'_>) {
    if bytes.starts_with(b"\r") || message.value(HeaderName::ContentLength).is_none() {
        return;
    }
    let body = bytes.len() - message.body().as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
    let length = bytes.len() - body + message.body().len();
    let mut framer = Framer::default();
    framer.push(bytes).expect("within its limits");
    assert_eq!(framer.next(), Some(Ok(Frame::Message(bytes.get(..length).unwrap_or_default().to_vec()))));
}

/// What was read, written, and read again, is the same.
fn check_writing(message: &Message<'_>) {
    let mut writer = match message.start() {
        StartLine::Request { method, uri } => Writer::request(method.as_str(), uri),
        StartLine::Status { code, reason } => Writer::response(code, reason),
    };
    let kept = |name: &HeaderName<'_>| *name != HeaderName::ContentLength;
    for header in message.headers().filter(|header| kept(&header.name)) {
        writer.header(header.name.as_str(), unfold(header.value));
    }
    let bytes = writer.finish(message.body());
    // The length line is ours, and may be one more than there was room for.
    if bytes.len() > Limits::MESSAGE || message.headers().count() == Limits::HEADERS {
        return;
    }
    let again = Message::parse(&bytes).unwrap_or_else(|fault| panic!("{fault}: {}", bytes.escape_ascii()));
    assert_eq!((again.start(), again.body()), (message.start(), message.body()));
    let blanked = |text: &str| {
        text.replace(|character: char| character.is_ascii_control() && character != '\t', " ")
            .trim()
            .to_owned()
    };
    let before = message
        .headers()
        .filter(|header| kept(&header.name))
        .map(|header| (header.name, blanked(&unfold(header.value))));
    let after = again
        .headers()
        .filter(|header| kept(&header.name))
        .map(|header| (header.name, header.value.to_owned()));
    assert!(before.eq(after), "{}", bytes.escape_ascii());
}

/// Reads all there is to read; whether the message was accepted.
fn read(bytes: &[u8]) -> bool {
    let Ok(message) = Message::parse(bytes) else {
        return false;
    };
    for header in message.headers() {
        assert!(message.values(header.name).any(|value| value == header.value));
        read_value(header.value);
    }
    if let StartLine::Request { uri, .. } = message.start() {
        assert!(!uri.contains([' ', '<', '>', '"', '\r', '\n', '\0']));
        read_uri(uri);
    }
    if let Ok(essentials) = message.essentials() {
        assert!(message.method().is_none_or(|method| method == essentials.cseq.method));
        assert!(!essentials.call_id.is_empty() && essentials.call_id.len() <= Limits::CALL_ID);
    }
    check_framing(bytes, &message);
    // Writing is the slowest part of this test by far, so one length in four has to do.
    if bytes.len().is_multiple_of(4) {
        check_writing(&message);
    }
    true
}

/// Reads half of all mutants; two tests, so that they run side by side.
fn read_mutants(seed: u64) {
    let mut mutants = Mutants::new(seed);
    let accepted = (0..MUTANTS / 2).filter(|_| read(&mutants.draw())).count();
    // Both sides are worth nothing without the other.
    assert!((MUTANTS / 20..MUTANTS / 2 - MUTANTS / 20).contains(&accepted), "{accepted} accepted");
}

#[test]
fn mutants_never_panic_and_what_is_accepted_holds_together() {
    read_mutants(0x5eed_0000_0000_0009);
}

#[test]
fn mutants_of_another_seed_do_neither() {
    read_mutants(0x5eed_0000_0000_000a);
}

#[test]
fn every_beginning_of_a_message_is_refused_or_whole() {
    for (name, bytes) in sip_corpus::files_of("sip_corpus") {
        let whole = Message::parse(&bytes).expect(&name);
        let body_start = bytes.len() - whole.body().len();
        for end in 0..bytes.len() {
            let parsed = Message::parse(bytes.get(..end).expect("in range"));
            assert!(
                parsed.is_err() || (end >= body_start && whole.value(HeaderName::ContentLength).is_none()),
                "{name} {end}"
            );
        }
    }
}
