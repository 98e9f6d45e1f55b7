//! Fuzz targets as ordinary functions: bytes in, a panic where something does not hold.
//!
//! The tests of this crate run them on stable, over their seeds and over seeded mutations of those; the
//! workspace in `tests/fuzz` hands them to cargo-fuzz. Each target has its oracles: what is accepted is
//! written and read again the same, a reader of foreign make reads it the same, what the border sends can be
//! read, and nothing of the inside is told outside. Never shipped, never depended on by a shipped crate.
//!
//! Start reading at [`TARGETS`].
#![forbid(unsafe_code)]
#![expect(clippy::panic, clippy::expect_used, reason = "a rule that does not hold ends the run")]

pub mod border_steps;
mod framing;
mod hardware_id;
mod message;
pub mod mutation;
mod rtp;
mod scene;
mod sdp;
#[path = "../../wire/tests/sip_differential/mod.rs"]
mod sip_differential;
#[path = "../../wire/tests/sip_oracle/mod.rs"]
mod sip_oracle;
mod stun;
mod uri;

/// One thing to throw bytes at.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, as cargo-fuzz has it.
    pub name: &'static str,
    /// The function itself; panics where a rule does not hold.
    pub run: fn(&[u8]),
    /// Folders of seeds, from the root of the tree.
    pub seeds: &'static [&'static str],
    /// Its dictionary in `tests/fuzz/dictionaries`.
    pub dictionary: &'static str,
    /// The longest input that is worth trying.
    pub input_max: usize,
}

/// The messages that the tests of the parser have.
const MESSAGES: [&str; 2] = ["crates/wire/tests/sip_torture", "crates/wire/tests/sip_corpus"];

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "message",
        run: message::run,
        seeds: &[MESSAGES[0], MESSAGES[1], "tests/fuzz/seeds/message"],
        dictionary: "sip.dict",
        input_max: 4_096,
    },
    Target {
        name: "framing",
        run: framing::run,
        seeds: &["tests/fuzz/seeds/framing", MESSAGES[1]],
        dictionary: "sip.dict",
        input_max: 4_096,
    },
    Target {
        name: "uri",
        run: uri::run,
        seeds: &["tests/fuzz/seeds/uri"],
        dictionary: "uri.dict",
        input_max: 512,
    },
    Target {
        name: "sdp",
        run: sdp::run,
        seeds: &["tests/fuzz/seeds/sdp"],
        dictionary: "sdp.dict",
        input_max: 2_048,
    },
    Target {
        name: "stun",
        run: stun::run,
        seeds: &["tests/fuzz/seeds/stun"],
        dictionary: "stun.dict",
        input_max: 512,
    },
    Target {
        name: "rtp",
        run: rtp::run,
        seeds: &["tests/fuzz/seeds/rtp"],
        dictionary: "rtp.dict",
        input_max: 1_024,
    },
    Target {
        name: "hardware_id",
        run: hardware_id::run,
        seeds: &["tests/fuzz/seeds/hardware_id"],
        dictionary: "hardware_id.dict",
        input_max: 128,
    },
    Target {
        name: "border_steps",
        run: border_steps::run,
        seeds: &["tests/fuzz/seeds/border_steps"],
        dictionary: "border.dict",
        input_max: 1_024,
    },
];

/// The target of this name, for cargo-fuzz.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    (target.run)(bytes);
}
