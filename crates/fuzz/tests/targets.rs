//! Every target over its seeds, and over seeded mutations of them for a while.
//!
//! `PORTCULLIS_FUZZ_SECONDS` says for how long each (1 where it says nothing), `PORTCULLIS_FUZZ_SEED` where the
//! mutations begin. What fails is printed, so that it becomes a seed with a name.
#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where its own ground gives way")]

use std::time::{Duration, Instant};

use fuzz::mutation::{Random, dictionary, mutate, seeds};
use fuzz::{TARGETS, Target};

/// Prints the input of a run that panics, and what to do with it.
struct Shown<'a> {
    target: &'a str,
    /// The file that it is, where it is a seed.
    seed: Option<&'a str>,
    bytes: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.words());
        }
    }
}

impl Shown<'_> {
    fn words(&self) -> String {
        let Self { target, seed, bytes } = self;
        match seed {
            Some(name) => format!("{target} fails for its seed {name}: b\"{}\"", bytes.escape_ascii()),
            None => format!(
                "{target} fails for b\"{}\"\nkeep it: printf -- '{}' > tests/fuzz/seeds/{target}/NAME; then: \
                 cargo test -p fuzz {target}",
                bytes.escape_ascii(),
                printable(bytes)
            ),
        }
    }
}

/// The format from which printf makes these bytes, in single quotes.
fn printable(bytes: &[u8]) -> String {
    let plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && !b"\\'%".contains(&byte);
    // in octal, which every printf has, and always three digits: the next byte may be one
    let one = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("\\{byte:03o}") };
    bytes.iter().map(one).collect()
}

fn run(target: &Target, seed: Option<&str>, bytes: &[u8]) {
    let _shown = Shown { target: target.name, seed, bytes };
    (target.run)(bytes);
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[expect(clippy::disallowed_methods, reason = "how long a test may last is for the clock of the machine")]
fn now() -> Instant {
    Instant::now()
}

/// The seeds, then mutations until the time is up: at least a few hundred, however slow the machine is.
fn exercise(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let seeds = seeds(target);
    assert!(seeds.len() >= 4, "{name} has {} seeds", seeds.len());
    for (name, bytes) in &seeds {
        run(target, Some(name), bytes);
    }
    let words = dictionary(target);
    let mut random = Random(variable("PORTCULLIS_FUZZ_SEED").unwrap_or(10));
    let until = now() + Duration::from_secs(variable("PORTCULLIS_FUZZ_SECONDS").unwrap_or(1));
    let mut runs = 0_u64;
    while runs < 200 || now() < until {
        for _ in 0..50 {
            let pick = |random: &mut Random| &seeds.get(random.below(seeds.len())).expect("in range").1;
            let (seed, other) = (pick(&mut random), pick(&mut random));
            run(target, None, &mutate(seed, other, &words, target.input_max, &mut random));
            runs += 1;
        }
    }
    println!("{name}: {} seeds, {runs} mutations", seeds.len());
}

#[test]
fn message() {
    exercise("message");
}

#[test]
fn framing() {
    exercise("framing");
}

#[test]
fn uri() {
    exercise("uri");
}

#[test]
fn sdp() {
    exercise("sdp");
}

#[test]
fn stun() {
    exercise("stun");
}

#[test]
fn rtp() {
    exercise("rtp");
}

#[test]
fn hardware_id() {
    exercise("hardware_id");
}

#[test]
fn border_steps() {
    exercise("border_steps");
}

#[test]
fn what_fails_can_be_kept() {
    let words = |seed, bytes| Shown { target: "uri", seed, bytes }.words();
    assert_eq!(words(Some("seeds/uri/a"), b"x\r\n"), "uri fails for its seed seeds/uri/a: b\"x\\r\\n\"");
    let bytes: Vec<u8> = b"-".iter().copied().chain(0..=255).collect();
    let words = words(None, &bytes);
    let command = words.split("keep it: ").nth(1).expect("what to do");
    let (printf, rest) = command.split_once(" > ").expect("where to");
    assert_eq!(rest, "tests/fuzz/seeds/uri/NAME; then: cargo test -p fuzz uri");
    let output = std::process::Command::new("sh").args(["-c", printf]).output().expect("there is a shell");
    assert_eq!(output.stdout, bytes, "{printf}");
}

#[test]
fn no_target_is_left_out_here_or_there() {
    let own = include_str!("targets.rs");
    for target in TARGETS {
        assert!(own.contains(&format!("exercise(\"{}\");", target.name)), "{} has a test here", target.name);
        let path = fuzz::mutation::root().join(format!("tests/fuzz/fuzz_targets/{}.rs", target.name));
        let text = std::fs::read_to_string(path).expect("cargo-fuzz has each target");
        assert!(text.contains(&format!("fuzz::run(\"{}\", bytes)", target.name)), "{}", target.name);
    }
}
