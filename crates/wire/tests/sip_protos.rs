//! One anomaly at a time, by the ten thousand: no panic, always a verdict, in bounded time, and what is accepted
//! is written and read again the same.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where its own ground gives way"
)]

mod protos;
mod seeded;
mod sip_oracle;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use protos::{FAMILIES, Family, anomaly};
use seeded::Seeded;
use wire::sip::{Frame, Framer, HeaderName, Limits, Message};

const EACH: usize = 2_500;

/// Far more than the longest message takes on the slowest machine; a parser that reads its input over and over
/// takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "how long a parser takes is for the clock of the machine")]
fn now() -> Instant {
    Instant::now()
}

/// The verdict on an anomaly, as text: accepted, or why it was not.
fn verdict(bytes: &[u8]) -> String {
    let Some(message) = sip_oracle::read(bytes) else {
        return Message::parse(bytes).map(drop).expect_err("it was refused").kind.to_string();
    };
    sip_oracle::check_writing(&message);
    match message.essentials() {
        Ok(_) => "accepted".to_owned(),
        Err(fault) => fault.kind.to_string(),
    }
}

/// What the framer makes of it: it ends, and holds no more than it may.
fn frame(bytes: &[u8]) {
    let mut framer = Framer::default();
    for piece in bytes.chunks(1_000) {
        if framer.push(piece).is_err() {
            return;
        }
        for frame in framer.by_ref() {
            let Ok(frame) = frame else { return };
            if let Frame::Message(message) = frame {
                assert!(message.len() <= Limits::MESSAGE);
            }
        }
    }
}

#[test]
fn every_anomaly_gets_a_verdict_in_time() {
    let mut seeded = Seeded(0x5eed_0000_0000_000c);
    let mut below = |bound: usize| seeded.below(bound);
    for family in FAMILIES {
        let mut verdicts = BTreeMap::<String, usize>::new();
        for _ in 0..EACH {
            let bytes = anomaly(family, &mut below);
            let begun = now();
            frame(&bytes);
            *verdicts.entry(verdict(&bytes)).or_default() += 1;
            assert!(begun.elapsed() < PATIENCE, "{family:?} {} bytes: {}", bytes.len(), bytes.escape_ascii());
        }
        let accepted = verdicts.get("accepted").copied().unwrap_or(0);
        // Both sides are worth nothing without the other, and one reason for all would be no verdict.
        assert!((1..EACH).contains(&accepted) && verdicts.len() >= 3, "{family:?}: {verdicts:?}");
    }
}

#[test]
fn a_number_that_overflows_is_no_number() {
    let mut seeded = Seeded(0x5eed_0000_0000_000d);
    let mut below = |bound: usize| seeded.below(bound);
    for _ in 0..EACH {
        let bytes = anomaly(Family::CSeq, &mut below);
        let Ok(message) = Message::parse(&bytes) else { continue };
        let Ok(essentials) = message.essentials() else { continue };
        let value = message.value(HeaderName::CSeq).expect("there");
        let digits = value.split([' ', '\t', '\r']).next().expect("a number").trim_start_matches('0');
        assert_eq!(essentials.cseq.number.to_string().trim_start_matches('0'), digits, "{value:?}");
    }
}

#[test]
fn an_accepted_length_is_the_bodys() {
    let mut seeded = Seeded(0x5eed_0000_0000_000e);
    let mut below = |bound: usize| seeded.below(bound);
    let mut accepted = 0;
    for _ in 0..EACH {
        let bytes = anomaly(Family::ContentLength, &mut below);
        let Ok(message) = Message::parse(&bytes) else { continue };
        let values: Vec<&str> = message.values(HeaderName::ContentLength).collect();
        assert_eq!(values.len(), 1, "{values:?}");
        assert_eq!(values[0].parse(), Ok(message.body().len()), "{values:?}");
        accepted += 1;
    }
    assert!(accepted > EACH / 100, "{accepted}");
}
