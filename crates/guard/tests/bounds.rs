//! No table grows beyond its bound, and what goes is what the bound says.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use guard::{
    AllowEntry, BlockEntry, BlockKind, BlockPolicy, Guard, GuardError, Offence, OffenceOutcome,
    VerifiedSource,
};
use wire::clock::{Instant, Now, WallTime};
use wire::net::{Prefix, Transport};

const POLICY: BlockPolicy = BlockPolicy {
    after: 2,
    within: Duration::from_secs(3_600),
    time: Duration::from_secs(600),
    max_time: Duration::from_secs(86_400),
    ipv6_prefix: 64,
};

fn at(nanos: u64) -> Now {
    Now { mono: Instant::from_nanos(nanos), wall: WallTime(1_000_000 + nanos / 1_000_000) }
}

fn ip(number: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0A00_0000 + number as u32).into()
}

fn offend(guard: &mut Guard, number: usize, nanos: u64) -> OffenceOutcome {
    let offence = Offence { code: "flood", transport: Transport::Udp, port: 5060, detail: String::new() };
    guard.offence(VerifiedSource::assertion(ip(number)), offence, at(nanos))
}

fn stored(number: usize, kind: BlockKind) -> BlockEntry {
    // The higher the number, the later the end.
    let length = Duration::from_millis(1_000_000 + number as u64);
    BlockEntry {
        prefix: Prefix::single(ip(number)),
        source: ip(number),
        kind,
        code: "flood".to_owned(),
        transport: None,
        port: None,
        since: at(0).wall,
        expires: at(0).wall + length,
        length,
        evidence: String::new(),
    }
}

#[test]
fn sources_beyond_the_bound_push_the_oldest_out() {
    let mut guard = Guard::new(POLICY);
    for number in 0..Guard::SOURCES_MAX {
        assert_eq!(offend(&mut guard, number, number as u64), OffenceOutcome::First);
    }
    let now = Guard::SOURCES_MAX as u64;
    assert_eq!(offend(&mut guard, Guard::SOURCES_MAX, now), OffenceOutcome::First);
    assert!(
        matches!(offend(&mut guard, 1, now), OffenceOutcome::Blocked(_)),
        "the second oldest is still counted"
    );
    assert_eq!(offend(&mut guard, 0, now), OffenceOutcome::First, "the oldest is not");
}

#[test]
fn blocks_beyond_the_bound_push_the_automatic_one_out_that_ends_first() {
    let mut guard = Guard::new(POLICY);
    let manual = 10;
    for number in 0..Guard::BLOCKS_MAX {
        let kind = if number < manual { BlockKind::Manual } else { BlockKind::Automatic };
        assert!(guard.restore(stored(number, kind), at(0)));
        assert_eq!(guard.take_displaced(), None);
    }
    assert_eq!(guard.blocks().count(), Guard::BLOCKS_MAX);
    let newcomer = Guard::BLOCKS_MAX;
    assert_eq!(offend(&mut guard, newcomer, 0), OffenceOutcome::First);
    assert!(matches!(offend(&mut guard, newcomer, 0), OffenceOutcome::Blocked(_)));
    assert_eq!(guard.take_displaced(), Some(stored(manual, BlockKind::Automatic)));
    assert_eq!(guard.take_displaced(), None);
    assert!(guard.is_blocked(ip(newcomer)) && guard.is_blocked(ip(0)) && !guard.is_blocked(ip(manual)));
    assert_eq!(guard.blocks().count(), Guard::BLOCKS_MAX);

    // The newcomer's ten minutes end before all the others: an operator's order pushes it out in turn.
    guard.block(Prefix::single(ip(newcomer + 1)), None, String::new(), at(0)).unwrap();
    assert_eq!(guard.take_displaced().map(|entry| entry.source), Some(ip(newcomer)));
    let again = guard.block(Prefix::single(ip(newcomer + 1)), None, String::new(), at(0));
    assert!(again.is_ok());
    assert_eq!(guard.take_displaced(), None, "an entry in place of its own needs no room");
    guard.check_invariants();
}

#[test]
fn operators_cannot_fill_the_list() {
    let mut guard = Guard::new(POLICY);
    for number in 0..Guard::MANUAL_BLOCKS_MAX {
        assert!(guard.restore(stored(number, BlockKind::Manual), at(0)));
    }
    let one_more = Guard::MANUAL_BLOCKS_MAX;
    let order = guard.block(Prefix::single(ip(one_more)), None, String::new(), at(0));
    assert_eq!(order, Err(GuardError::ListFull));
    assert!(!guard.restore(stored(one_more, BlockKind::Manual), at(0)));
    assert!(guard.block(Prefix::single(ip(7)), None, String::new(), at(0)).is_ok(), "in place of its own");
    assert_eq!(offend(&mut guard, one_more, 0), OffenceOutcome::First);
    assert!(
        matches!(offend(&mut guard, one_more, 0), OffenceOutcome::Blocked(_)),
        "the guard still has room"
    );
}

#[test]
fn past_blocks_beyond_the_bound_are_forgotten_in_the_order_of_their_ends() {
    let mut guard = Guard::new(POLICY);
    for number in 0..=Guard::PAST_BLOCKS_MAX {
        assert!(guard.restore(stored(number, BlockKind::Automatic), at(0)));
    }
    let now = 2_000_000_000_000;
    assert_eq!(guard.handle_timeout(at(now)).len(), Guard::PAST_BLOCKS_MAX + 1);
    let next_length = |guard: &mut Guard, number| {
        offend(guard, number, now);
        match offend(guard, number, now) {
            OffenceOutcome::Blocked(entry) => entry.length,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(guard.take_forgotten(), [Prefix::single(ip(0))]);
    assert_eq!(next_length(&mut guard, 0), POLICY.time, "forgotten");
    assert_eq!(next_length(&mut guard, 1), 2 * stored(1, BlockKind::Automatic).length);
}

#[test]
fn the_allow_list_is_bounded() {
    let mut guard = Guard::new(POLICY);
    let entry = |number: usize| AllowEntry {
        name: format!("entry {number}"),
        description: String::new(),
        address: format!("host{number}.example"),
        prefixes: Vec::new(),
        from_config: false,
    };
    for number in 0..Guard::ALLOWED_MAX {
        guard.allow(entry(number)).unwrap();
    }
    assert_eq!(guard.allow(entry(Guard::ALLOWED_MAX)), Err(GuardError::ListFull));
    guard.disallow("entry 5").unwrap();
    assert_eq!(guard.allow(entry(Guard::ALLOWED_MAX)), Ok(()));
}
