//! Spoiled messages by the hundred thousand: nothing panics, and what is accepted holds together.
//!
//! The seed is fixed, so a failure is found again; it prints the mutant.
#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where its own ground gives way")]

mod sip_corpus;
mod sip_mutants;
mod sip_oracle;

use sip_mutants::Mutants;
use wire::sip::{HeaderName, Message};

const MUTANTS: usize = 300_000;

/// Judges one mutant. Writing is the slowest part by far, so one length in four has to do.
fn is_accepted(bytes: &[u8]) -> bool {
    let message = sip_oracle::read(bytes);
    if let Some(message) = message.as_ref().filter(|_| bytes.len().is_multiple_of(4)) {
        sip_oracle::check_writing(message);
    }
    message.is_some()
}

/// Reads half of all mutants; two tests, so that they run side by side.
fn read_mutants(seed: u64) {
    let mut mutants = Mutants::new(seed);
    let accepted = (0..MUTANTS / 2).filter(|_| is_accepted(&mutants.draw())).count();
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
