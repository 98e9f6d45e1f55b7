//! Our scanner beside rsip, a parser of foreign make: where both accept a message, both read the same.
//!
//! What rsip reads otherwise, and why ours is right, stands in `sip_differential/mod.rs`.
#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where its own ground gives way")]

mod sip_corpus;
mod sip_differential;
mod sip_mutants;

use rsip::SipMessage;
use sip_differential::compare;
use sip_mutants::Mutants;
use wire::sip::{Message, StartLine, Uri};

/// Messages whose Request-URI rsip misreads.
const MISREAD_URIS: &[&str] = &["semiuri"];

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
