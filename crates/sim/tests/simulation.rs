//! Runs seeds, and looks whether the machine that runs them sees anything.
//!
//! `PORTCULLIS_SIM_SEEDS` and `PORTCULLIS_SIM_STEPS` set how many seeds, and how long their half with faults is.
//! `cargo xtask sim` does the same on a larger scale.
#![expect(clippy::panic, reason = "a setting that cannot be read ends the test")]

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::decision::Actions;
use sim::{Failure, Plan, Report, Tally, run};

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?.to_string_lossy().into_owned();
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn report(seed: u64) -> Result<Report, Box<Failure>> {
    run(&Plan::new(seed, setting("PORTCULLIS_SIM_STEPS").unwrap_or(2_000)))
}

/// What was seen in all seeds from 1 on; the failure of the lowest seed that was found to fail.
fn tally_of(seeds: u64) -> Result<Tally, Box<Failure>> {
    let next = AtomicU64::new(1);
    let worker = || {
        let mut tally = Tally::default();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                seed if seed <= seeds => tally.add(&report(seed)?.tally),
                _ => return Ok(tally),
            }
        }
    };
    let jobs = std::thread::available_parallelism().map_or(1, NonZero::get);
    let outcomes: Vec<Result<Tally, Box<Failure>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut sum = Tally::default();
    let mut failures: Vec<Box<Failure>> = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(tally) => sum.add(&tally),
            Err(failure) => failures.push(failure),
        }
    }
    match failures.into_iter().min_by_key(|failure| failure.plan.seed) {
        Some(failure) => Err(failure),
        None => Ok(sum),
    }
}

/// Events that no run can lead to: why.
const NOT_SEEN: &[(&str, &str)] = &[
    ("cert_not_yet_valid", "a fault of a handshake like the others"),
    ("cert_purpose", "a fault of a handshake like the others"),
    ("server_cert_ending", "our certificate has no end there"),
    ("server_cert_ended", "our certificate has no end there"),
    ("source_limited", "what `net` refuses does not come here"),
    ("name_unresolved", "names are looked up by the shell; the fault lab takes the name server away"),
    ("files_exhausted", "descriptors are the shell's; the fault lab takes them away"),
    ("inside_stranger", "on the inside there is nobody but the PBX"),
    ("target_refused", "the PBX names addresses of the inside alone"),
    ("pbx_refused", "the PBX refuses a registration for its password alone"),
    ("no_room", "no table of the border is ever full"),
    ("pbx_single_contact", "the PBX keeps as many contacts as come; a rule forbids this one"),
];

/// Free decisions that must be seen.
const DEEDS: &[&str] = &[
    "a PBX crashes",
    "a block overtakes a message",
    "a PBX forbids an extension",
    "a PBX hangs",
    "a connection breaks",
    "a phone is unplugged",
    "a phone moves",
    "a phone pauses",
    "a stranger speaks",
    "accepts what was given up",
    "acknowledges late",
    "acknowledges twice",
    "adds video",
    "asks for abilities",
    "asks for another realm",
    "breaks a connection",
    "calls",
    "calls a phone",
    "calls without a hop to go",
    "calls without its name",
    "crosses",
    "doubles a datagram",
    "fails to write",
    "finds a port taken",
    "handshakes fail",
    "hangs",
    "has no sockets",
    "has too much to do",
    "hides its name",
    "holds",
    "keeps its flow alive",
    "leaves the offer to the other side",
    "listens elsewhere",
    "loses a datagram",
    "loses audio",
    "loses patience",
    "never acknowledges",
    "refuses",
    "refuses a change",
    "rings too long",
    "scans",
    "sends a message",
    "sends digits",
    "shows old credentials",
    "speaks",
    "subscribes",
    "the PBX is not there at first",
    "the border is killed",
    "the clock is set",
    "the limits change",
    "the operator commands",
    "the weather changes",
    "transfers",
    "transfers to a call",
    "updates",
    "vanishes",
    "wants audio where none may go",
    "waits a second less",
    "waits as long as it was told",
    "acknowledges an overheard call",
    "acknowledges in another's name",
    "answers an overheard request",
    "answers in another's name",
    "asks in another's name",
    "calls in another's name",
    "cancels an overheard call",
    "cancels in another's name",
    "changes an overheard call",
    "hangs up an overheard call",
    "hangs up in another's name",
    "registers in another's name",
    "speaks in an overheard call",
    "writes in another's name",
    "shows a made-up value",
    "shows what another was given",
    "tries a challenged call again and again",
    "connects and says nothing",
    "goes in the midst of a message",
    "sends a byte now and then",
    "sends blank lines alone",
    "sends half a message",
    "stalls a connection",
    "calls many at once",
    "calls by another's certificate",
    "registers by another's certificate",
    "speaks by another's certificate",
    "floods",
    "has a full queue",
    "the media plane is busy",
    "the core is busy",
];

/// What must be seen to come of them, and of what is drawn with each world.
const SIGHTS: &[&str] = &[
    "asks a REGISTER by 401",
    "asks a REGISTER by 407",
    "asks by MD5",
    "asks by SHA-256",
    "asks for its own domain",
    "asks in two realms",
    "asks with a new nonce for an old one",
    "asks without qop",
    "a full lane loses a datagram",
    "a message is cut off",
    "a stream waits for a full lane",
    "an output queue is full",
    "a connection cannot be opened",
    "a connection of a blocked source is refused",
    "a datagram of a blocked source is dropped",
    "a flow closes before its answer",
    "a message of one of many sources",
    "an attacker goes through his network",
    "a message of the torture tests",
    "a standby serves",
    "each transaction is one of the wire",
    "a request goes by two proxies",
];

#[test]
fn every_rule_holds_for_every_seed() -> Result<(), Box<Failure>> {
    let seeds = setting("PORTCULLIS_SIM_SEEDS").unwrap_or(256);
    let tally = tally_of(seeds)?;
    println!("{seeds} seeds: {tally:#?}");
    if seeds < 64 {
        return Ok(());
    }
    // a world in which nothing happens would keep every rule
    assert!(tally.answered > 10 * seeds && tally.changed > seeds / 2, "{tally:?}");
    assert!(tally.audio > 50 * seeds && tally.commands > 2 * seeds, "{tally:?}");
    assert!(tally.restarts.iter().all(|count| *count > seeds / 8), "{tally:?}");
    let unseen = |name: &&str| {
        [&tally.events, &tally.deeds, &tally.sights].iter().all(|counts| !counts.contains_key(name))
    };
    let codes = border::Code::ALL.iter().map(|code| code.as_str());
    let expected = codes.filter(|code| NOT_SEEN.iter().all(|(name, _)| name != code));
    let missing: Vec<&str> = expected.chain(DEEDS.iter().chain(SIGHTS).copied()).filter(unseen).collect();
    assert!(missing.is_empty(), "never seen in {seeds} seeds: {missing:?}");
    let unlisted: Vec<_> = tally.deeds.keys().filter(|deed| !DEEDS.contains(deed)).collect();
    assert!(unlisted.is_empty(), "seen, and DEEDS does not ask for it: {unlisted:?}");
    Ok(())
}

#[test]
fn a_seed_replays_exactly() -> Result<(), Box<Failure>> {
    for seed in [3, 7] {
        assert_eq!(report(seed)?, report(seed)?);
    }
    assert_ne!(report(3)?.trace, report(7)?.trace);
    Ok(())
}

#[test]
fn only_the_named_decisions_are_carried_out() -> Result<(), Box<Failure>> {
    let only = |actions: &str| {
        let only = Some(actions.parse::<Actions>().expect("these are actions"));
        run(&Plan { seed: 3, steps: 600, only })
    };
    let deeds = |report: Report| report.tally.deeds.into_iter().collect::<Vec<_>>();
    assert_eq!(deeds(only("none")?), []);
    assert_eq!(deeds(only("scanner1:2-3")?), [("scans", 2)]);
    Ok(())
}
