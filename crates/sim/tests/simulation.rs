//! Runs seeds. `PORTCULLIS_SIM_SEED` runs one, `PORTCULLIS_SIM_SEEDS` that many, `PORTCULLIS_SIM_STEPS`
//! sets the length of the faulty half.

use sim::{Failure, Plan, Report, run};

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn steps() -> u64 {
    setting("PORTCULLIS_SIM_STEPS").unwrap_or(3_000)
}

fn report(seed: u64) -> Result<Report, Box<Failure>> {
    run(&Plan::new(seed, steps()))
}

#[test]
fn every_rule_holds_for_every_seed() -> Result<(), Box<Failure>> {
    if let Some(seed) = setting("PORTCULLIS_SIM_SEED") {
        println!("{:#?}", report(seed)?);
        return Ok(());
    }
    let seeds = setting("PORTCULLIS_SIM_SEEDS").unwrap_or(64);
    let mut seen = std::collections::BTreeMap::<&str, u64>::new();
    let (mut restarts, mut audio, mut answered, mut changed) = ([0, 0], 0, 0, 0);
    for seed in 1..=seeds {
        let tally = report(seed)?.tally;
        for (code, count) in tally.events {
            *seen.entry(code).or_default() += count;
        }
        restarts = [restarts[0] + tally.restarts[0], restarts[1] + tally.restarts[1]];
        audio += tally.audio;
        answered += tally.answered;
        changed += tally.changed;
    }
    println!(
        "{seeds} seeds: {answered} calls answered, {changed} changed, {audio} packets, {restarts:?} restarts, {seen:?}"
    );
    if seeds < 16 {
        return Ok(());
    }
    // a world in which nothing happens would keep every rule
    assert!(
        answered > 10 * seeds
            && changed > seeds / 2
            && audio > 50 * seeds
            && restarts.iter().all(|count| *count > 0)
    );
    for code in [
        "registered",
        "deregistered",
        "reregistered",
        "cert_missing",
        "cert_untrusted",
        "name_unknown",
        "digest_failed",
        "flow_not_registered",
        "malformed",
        "detected",
        "blocked",
        "unblocked",
        "call_limited",
        "call_failed",
        "pbx_down",
        "pbx_up",
        "pbx_lost_bindings",
        "store_failed",
    ] {
        assert!(seen.contains_key(code), "no {code} in {seeds} seeds");
    }
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
