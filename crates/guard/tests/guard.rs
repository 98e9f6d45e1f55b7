//! From offences to blocks, and the lists: every rule of the guard, row by row.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod seeded;

use std::net::IpAddr;
use std::time::Duration;

use guard::{
    AllowEntry, BlockEntry, BlockKind, BlockPolicy, EVIDENCE_MAX, Guard, GuardError, Offence, OffenceOutcome,
    VerifiedSource,
};
use wire::clock::{Instant, Now, WallTime};
use wire::net::{Prefix, Transport};

use seeded::Seeded;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 86_400 * SECOND;
/// 2026-11-21T00:00:00Z
const EPOCH_MS: u64 = 1_795_219_200_000;

const POLICY: BlockPolicy = BlockPolicy {
    after: 5,
    within: Duration::from_secs(60),
    time: Duration::from_secs(600),
    max_time: Duration::from_secs(3_600),
    ipv6_prefix: 64,
};

/// Both clocks, `nanos` after the start.
fn at(nanos: u64) -> Now {
    Now { mono: Instant::from_nanos(nanos), wall: WallTime(EPOCH_MS + nanos / 1_000_000) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn offend_as(guard: &mut Guard, source: &str, code: &'static str, nanos: u64) -> OffenceOutcome {
    let offence = Offence { code, transport: Transport::Tls, port: 5061, detail: format!("{code} seen") };
    guard.offence(VerifiedSource::assertion(ip(source)), offence, at(nanos))
}

fn offend(guard: &mut Guard, source: &str, nanos: u64) -> OffenceOutcome {
    offend_as(guard, source, "hwid_unknown", nanos)
}

/// Offends until blocked, all at `nanos`, and returns the entry.
fn provoke(guard: &mut Guard, source: &str, nanos: u64) -> BlockEntry {
    for _ in 0..POLICY.after {
        if let OffenceOutcome::Blocked(entry) = offend(guard, source, nanos) {
            return entry;
        }
    }
    unreachable!("{source} is not blocked")
}

fn office(address: &str) -> AllowEntry {
    AllowEntry {
        name: "office".to_owned(),
        description: String::new(),
        address: address.to_owned(),
        prefixes: vec![prefix(address)],
        from_config: false,
    }
}

const A: &str = "198.51.100.7";
const B: &str = "198.51.100.8";

/// What a step of the table does, and what must come of it.
enum Step {
    /// Four offences at 0 to 3 ns: one less than enough.
    Four(&'static str),
    Offend(&'static str, u64, &'static str),
    Success(&'static str),
    Blocked(&'static str, bool),
}
use Step::{Blocked, Four, Offend, Success};

const V6: &str = "2001:db8:0:1::1";
const V6_NEIGHBOUR: &str = "2001:db8:0:1:ffff::9";
const V6_OTHER: &str = "2001:db8:0:2::1";
const MAPPED: &str = "::ffff:198.51.100.7";

const ROWS: &[(&str, &[Step])] = &[
    (
        "five within the window",
        &[Four(A), Blocked(A, false), Offend(A, MINUTE - 1, "blocked"), Blocked(A, true)],
    ),
    (
        "the first has left the window exactly when the fifth comes",
        &[Four(A), Offend(A, MINUTE, "counted"), Offend(A, MINUTE, "blocked")],
    ),
    ("all have left the window", &[Four(A), Offend(A, MINUTE + 3, "first"), Blocked(A, false)]),
    ("a success clears the count", &[Four(A), Success(A), Offend(A, 4, "first"), Offend(A, 5, "counted")]),
    ("a success of another source does not", &[Four(A), Success(B), Offend(A, 4, "blocked")]),
    ("sources are counted apart", &[Four(A), Four(B), Offend(B, 4, "blocked"), Blocked(A, false)]),
    (
        "once blocked, nothing is counted",
        &[Four(A), Offend(A, 4, "blocked"), Offend(A, 5, "already"), Offend(A, 6, "already")],
    ),
    ("a mapped address is the IPv4 address", &[Four(MAPPED), Offend(A, 4, "blocked"), Blocked(MAPPED, true)]),
    (
        "an IPv6 source is its network",
        &[
            Four(V6),
            Offend(V6_OTHER, 4, "first"),
            Offend(V6_NEIGHBOUR, 4, "blocked"),
            Blocked(V6, true),
            Blocked(V6_OTHER, false),
        ],
    ),
    (
        "a success of an IPv6 neighbour clears the count",
        &[Four(V6), Success(V6_NEIGHBOUR), Offend(V6, 4, "first")],
    ),
];

#[test]
fn offences_lead_to_blocks() {
    let name = |outcome: OffenceOutcome| match outcome {
        OffenceOutcome::Exempt => "exempt",
        OffenceOutcome::First => "first",
        OffenceOutcome::Counted => "counted",
        OffenceOutcome::Blocked(_) => "blocked",
        OffenceOutcome::AlreadyBlocked => "already",
    };
    for (row, steps) in ROWS {
        let mut guard = Guard::new(POLICY);
        for step in *steps {
            match step {
                Four(source) => {
                    let outcomes = [0, 1, 2, 3].map(|nanos| name(offend(&mut guard, source, nanos)));
                    assert_eq!(outcomes, ["first", "counted", "counted", "counted"], "{row}");
                }
                Offend(source, nanos, expected) => {
                    assert_eq!(name(offend(&mut guard, source, *nanos)), *expected, "{row}");
                }
                Success(source) => guard.success(ip(source)),
                Blocked(source, expected) => assert_eq!(guard.is_blocked(ip(source)), *expected, "{row}"),
            }
        }
    }
}

#[test]
fn what_is_blocked_for_an_ipv6_source() {
    for (ipv6_prefix, expected) in [
        (0, "2001:db8::/32"),
        (32, "2001:db8::/32"),
        (56, "2001:db8:1:200::/56"),
        (128, "2001:db8:1:2ff::9"),
        (255, "2001:db8:1:2ff::9"),
    ] {
        let policy = BlockPolicy { ipv6_prefix, ..POLICY };
        assert_eq!(policy.prefix_of(ip("2001:db8:1:2ff::9")), prefix(expected), "{ipv6_prefix}");
        assert_eq!(policy.prefix_of(ip("::ffff:198.51.100.7")), prefix(A));
    }
}

#[test]
fn one_offence_may_be_enough() {
    for after in [0, 1] {
        let mut guard = Guard::new(BlockPolicy { after, ..POLICY });
        assert!(matches!(offend(&mut guard, A, 0), OffenceOutcome::Blocked(_)), "after = {after}");
    }
    let mut guard = Guard::new(BlockPolicy { after: u32::MAX, ..POLICY });
    let blocked_by = (1..).find(|_| matches!(offend(&mut guard, A, 0), OffenceOutcome::Blocked(_)));
    assert_eq!(blocked_by, Some(BlockPolicy::AFTER_MAX), "more counts as the bound");
}

#[test]
fn an_entry_says_what_happened() {
    let mut guard = Guard::new(POLICY);
    for (nanos, code) in [(0, "malformed"), (1, "hwid_unknown"), (2, "malformed"), (3, "flood")] {
        offend_as(&mut guard, "2001:db8::7", code, nanos);
    }
    let OffenceOutcome::Blocked(entry) = offend_as(&mut guard, "2001:db8::7", "cn_mismatch", 7 * SECOND)
    else {
        panic!("not blocked")
    };
    let expected = BlockEntry {
        prefix: prefix("2001:db8::/64"),
        source: ip("2001:db8::7"),
        kind: BlockKind::Automatic,
        code: "cn_mismatch".to_owned(),
        transport: Some(Transport::Tls),
        port: Some(5061),
        since: WallTime(EPOCH_MS + 7_000),
        expires: WallTime(EPOCH_MS + 607_000),
        length: POLICY.time,
        evidence: "5 offences in 60 s: cn_mismatch 1, flood 1, hwid_unknown 1, malformed 2; \
                   last: cn_mismatch seen"
            .to_owned(),
    };
    assert_eq!(entry, expected);
    assert_eq!(guard.blocks().collect::<Vec<_>>(), [&expected]);
    assert_eq!(guard.remaining(&entry.prefix, at(67 * SECOND).mono), Some(Duration::from_secs(540)));
    assert_eq!(guard.remaining(&prefix(A), at(0).mono), None);
}

#[test]
fn evidence_is_cut_at_a_character() {
    let mut guard = Guard::new(BlockPolicy { after: 1, ..POLICY });
    let offence =
        Offence { code: "malformed", transport: Transport::Udp, port: 5060, detail: "ß".repeat(9_999) };
    let OffenceOutcome::Blocked(entry) = guard.offence(VerifiedSource::assertion(ip(A)), offence, at(0))
    else {
        panic!("not blocked")
    };
    assert!((EVIDENCE_MAX - 1..=EVIDENCE_MAX).contains(&entry.evidence.len()));
    let entry = guard.block(prefix(B), None, "x".repeat(9_999), at(0)).unwrap();
    assert_eq!(entry.evidence.len(), EVIDENCE_MAX);
}

#[test]
fn a_block_lasts_ten_minutes_to_the_nanosecond() {
    let mut guard = Guard::new(POLICY);
    let start = 17 * SECOND + 123;
    let entry = provoke(&mut guard, A, start);
    let end = start + 10 * MINUTE;
    assert_eq!(guard.poll_timeout(), Some(at(end).mono));
    assert_eq!(guard.handle_timeout(at(end - 1)), []);
    assert!(guard.is_blocked(ip(A)));
    assert!(matches!(offend(&mut guard, A, end - 1), OffenceOutcome::AlreadyBlocked));
    assert_eq!(guard.handle_timeout(at(end)), [entry]);
    assert!(!guard.is_blocked(ip(A)));
    assert_eq!((guard.poll_timeout(), guard.blocks().count()), (None, 0));
    assert!(matches!(offend(&mut guard, A, end), OffenceOutcome::First));
}

#[test]
fn ends_follow_the_monotonic_clock_and_not_the_wall() {
    let mut guard = Guard::new(POLICY);
    provoke(&mut guard, A, 0);
    let jumped = |nanos, wall| Now { mono: Instant::from_nanos(nanos), wall: WallTime(wall) };
    assert_eq!(guard.handle_timeout(jumped(10 * MINUTE - 1, EPOCH_MS + DAY)), []);
    assert_eq!(guard.handle_timeout(jumped(10 * MINUTE, 0)).len(), 1);
}

#[test]
fn blocks_end_in_the_order_of_their_ends() {
    let mut guard = Guard::new(POLICY);
    let minutes = |count: u64| Some(Duration::from_secs(60 * count));
    provoke(&mut guard, A, 0);
    guard.block(prefix("192.0.2.1"), minutes(5), String::new(), at(0)).unwrap();
    guard.block(prefix("192.0.2.2"), minutes(15), String::new(), at(0)).unwrap();
    assert_eq!(guard.poll_timeout(), Some(at(5 * MINUTE).mono));
    let ended: Vec<String> =
        guard.handle_timeout(at(DAY)).iter().map(|entry| entry.prefix.to_string()).collect();
    assert_eq!(ended, ["192.0.2.1", A, "192.0.2.2"]);
}

#[test]
fn an_end_that_was_not_collected_yet_is_an_end() {
    let mut guard = Guard::new(POLICY);
    provoke(&mut guard, A, 0);
    let again = provoke(&mut guard, A, 10 * MINUTE);
    assert_eq!(again.length, 2 * POLICY.time);
    assert_eq!(guard.blocks().collect::<Vec<_>>(), [&again]);
    assert_eq!(guard.poll_timeout(), Some(at(30 * MINUTE).mono));
}

#[test]
fn repeated_blocks_double_up_to_the_longest() {
    let mut guard = Guard::new(POLICY);
    let mut now = 0;
    for minutes in [10, 20, 40, 60, 60] {
        let entry = provoke(&mut guard, A, now);
        assert_eq!(entry.length, Duration::from_secs(60 * minutes));
        now += minutes * MINUTE;
        assert_eq!(guard.handle_timeout(at(now)).len(), 1);
    }
    assert_eq!(provoke(&mut guard, B, now).length, POLICY.time, "another source starts anew");
}

#[test]
fn only_a_block_within_a_day_of_the_last_end_is_doubled() {
    for (after_the_end, minutes) in [(0, 20), (DAY - 1, 20), (DAY, 10), (DAY + 1, 10)] {
        // The end is collected in time, late, or by the very offence.
        for collected in [Some(10 * MINUTE), Some(10 * MINUTE + after_the_end), None] {
            let mut guard = Guard::new(POLICY);
            provoke(&mut guard, A, 0);
            if let Some(collected) = collected {
                guard.handle_timeout(at(collected));
            }
            let entry = provoke(&mut guard, A, 10 * MINUTE + after_the_end);
            assert_eq!(
                entry.length,
                Duration::from_secs(60 * minutes),
                "{after_the_end} ns after, {collected:?}"
            );
        }
    }
}

#[test]
fn a_longest_time_below_the_first_one_is_that() {
    let mut guard = Guard::new(BlockPolicy { max_time: Duration::from_secs(1), ..POLICY });
    assert_eq!(provoke(&mut guard, A, 0).length, POLICY.time);
    guard.handle_timeout(at(10 * MINUTE));
    assert_eq!(provoke(&mut guard, A, 10 * MINUTE).length, POLICY.time);
}

#[test]
fn an_operators_block_is_no_reason_to_double_and_his_pardon_is_complete() {
    let mut guard = Guard::new(POLICY);
    guard.block(prefix(A), None, String::new(), at(0)).unwrap();
    guard.handle_timeout(at(10 * MINUTE));
    assert_eq!(provoke(&mut guard, A, 10 * MINUTE).length, POLICY.time);
    guard.unblock(&prefix(A)).unwrap();
    assert!(!guard.is_blocked(ip(A)));
    assert!(matches!(offend(&mut guard, A, 10 * MINUTE), OffenceOutcome::First));
    // Nor does what he blocked had done before.
    guard.block(prefix(A), None, String::new(), at(10 * MINUTE)).unwrap();
    guard.unblock(&prefix(A)).unwrap();
    assert!(matches!(offend(&mut guard, A, 10 * MINUTE), OffenceOutcome::First));
    guard.success(ip(A));
    assert_eq!(provoke(&mut guard, A, 11 * MINUTE).length, POLICY.time);
}

#[test]
fn a_pardon_holds_for_all_who_are_counted_in_the_network_or_with_it() {
    const V6: &str = "2001:db8:0:7::1";
    for (pardoned, within, beside) in [
        ("198.51.100.0/24", A, "198.51.101.7"),
        ("198.51.100.0/24", "198.51.100.255", "198.51.99.255"),
        ("2001:db8::/48", V6, "2001:db8:1::1"),
        // An IPv6 address is counted with its network.
        ("2001:db8:0:7::9", V6, "2001:db8:0:8::1"),
    ] {
        let mut guard = Guard::new(POLICY);
        for source in [within, beside] {
            provoke(&mut guard, source, 0);
        }
        guard.handle_timeout(at(10 * MINUTE));
        for source in [within, beside] {
            for _ in 1..POLICY.after {
                offend(&mut guard, source, 10 * MINUTE);
            }
        }
        guard.block(prefix(pardoned), None, String::new(), at(10 * MINUTE)).unwrap();
        guard.unblock(&prefix(pardoned)).unwrap();
        assert_eq!(offend(&mut guard, within, 10 * MINUTE), OffenceOutcome::First, "{within} in {pardoned}");
        guard.success(ip(within));
        assert_eq!(provoke(&mut guard, within, 10 * MINUTE).length, POLICY.time, "{within} in {pardoned}");
        let OffenceOutcome::Blocked(entry) = offend(&mut guard, beside, 10 * MINUTE) else {
            panic!("{beside} is not in {pardoned}")
        };
        assert_eq!(entry.length, 2 * POLICY.time, "{beside} is not in {pardoned}");
        guard.check_invariants();
    }
}

#[test]
fn allowed_sources_are_exempt_and_never_blocked() {
    let mut guard = Guard::new(POLICY);
    guard.allow(office("198.51.100.0/29")).unwrap();
    for nanos in 0..20 {
        assert_eq!(offend(&mut guard, A, nanos), OffenceOutcome::Exempt);
        assert_eq!(offend(&mut guard, "::ffff:198.51.100.7", nanos), OffenceOutcome::Exempt);
    }
    assert!(guard.is_allowed(ip(A)) && !guard.is_allowed(ip(B)));
    assert!(!guard.is_blocked(ip(A)));
    assert_eq!(guard.blocks().count(), 0);
    guard.disallow("office").unwrap();
    assert!(matches!(offend(&mut guard, A, 20), OffenceOutcome::First), "what was exempt was not counted");
}

#[test]
fn allowing_suspends_a_block_and_disallowing_brings_it_back() {
    let mut guard = Guard::new(POLICY);
    provoke(&mut guard, A, 0);
    guard.allow(office(A)).unwrap();
    assert!(!guard.is_blocked(ip(A)));
    assert_eq!(guard.blocks().count(), 1);
    let (blocked, allowed) = guard.sets();
    assert!(blocked.is_empty() && allowed.contains(ip(A)));
    assert_eq!(guard.disallow("office").unwrap().name, "office");
    assert!(guard.is_blocked(ip(A)));
    assert!(guard.sets().0.contains(ip(A)));
}

#[test]
fn an_operator_blocks_and_unblocks() {
    let mut guard = Guard::new(POLICY);
    let entry = guard.block(prefix("203.0.113.0/24"), None, "scanners".to_owned(), at(SECOND)).unwrap();
    assert_eq!(
        (entry.kind, entry.code.as_str(), entry.evidence.as_str()),
        (BlockKind::Manual, "operator", "scanners")
    );
    assert_eq!((entry.length, entry.expires), (POLICY.time, WallTime(EPOCH_MS + 601_000)));
    assert_eq!((entry.source, entry.transport, entry.port), (ip("203.0.113.0"), None, None));
    assert!(guard.is_blocked(ip("203.0.113.255")) && !guard.is_blocked(ip("203.0.114.0")));
    assert!(matches!(offend(&mut guard, "203.0.113.9", SECOND), OffenceOutcome::AlreadyBlocked));

    let longer = guard.block(
        prefix("203.0.113.0/24"),
        Some(Duration::from_secs(7_200)),
        String::new(),
        at(2 * SECOND),
    );
    assert_eq!(longer.unwrap().length, Duration::from_secs(7_200));
    assert_eq!(guard.blocks().count(), 1, "the same network is one entry");
    assert_eq!(guard.poll_timeout(), Some(at(7_202 * SECOND).mono));

    let part = prefix("203.0.113.9");
    assert_eq!(guard.unblock(&part), Err(GuardError::NotBlocked(part)));
    assert_eq!(guard.unblock(&prefix("203.0.113.0/24")).unwrap().length, Duration::from_secs(7_200));
    assert!(!guard.is_blocked(ip("203.0.113.9")));
    assert_eq!(guard.poll_timeout(), None);
    assert_eq!(guard.block(part, Some(Duration::ZERO), String::new(), at(0)), Err(GuardError::NoTime));
}

#[test]
fn whoever_blocks_an_address_is_known_and_the_operator_first() {
    let mut guard = Guard::new(POLICY);
    assert_eq!(guard.blocked_by(ip(A)), None);
    provoke(&mut guard, A, 0);
    assert_eq!((guard.blocked_by(ip(A)), guard.blocked_by(ip(B))), (Some(BlockKind::Automatic), None));
    guard.block(prefix("198.51.100.0/24"), None, String::new(), at(0)).unwrap();
    assert_eq!([A, B].map(|source| guard.blocked_by(ip(source))), [Some(BlockKind::Manual); 2]);
    guard.allow(office(A)).unwrap();
    assert_eq!((guard.blocked_by(ip(A)), guard.blocked_by(ip(B))), (None, Some(BlockKind::Manual)));
}

#[test]
fn of_two_blocks_one_may_end_and_the_other_holds() {
    for ended in [[A, B], [B, A]] {
        let mut guard = Guard::new(POLICY);
        provoke(&mut guard, ended[0], 0);
        provoke(&mut guard, ended[1], MINUTE);
        assert_eq!(guard.handle_timeout(at(10 * MINUTE)).len(), 1);
        assert_eq!(ended.map(|source| guard.is_blocked(ip(source))), [false, true]);
        guard.unblock(&prefix(ended[1])).unwrap();
        assert!(!guard.is_blocked(ip(ended[1])));
    }
}

#[test]
fn an_entry_is_dated_anew_when_the_wall_clock_was_set() {
    let mut guard = Guard::new(POLICY);
    let entry = provoke(&mut guard, A, 0);
    let hour_ahead = Now { mono: at(4 * MINUTE).mono, wall: WallTime(EPOCH_MS + 64 * 60_000) };
    let dated = guard.date_anew(&entry.prefix, hour_ahead).unwrap();
    assert_eq!(*dated, BlockEntry { expires: WallTime(EPOCH_MS + 70 * 60_000), ..entry.clone() });
    assert_eq!(guard.blocks().next().map(|entry| entry.expires), Some(WallTime(EPOCH_MS + 70 * 60_000)));
    assert_eq!(guard.poll_timeout(), Some(at(10 * MINUTE).mono), "its end stays where it was");
    assert_eq!(guard.date_anew(&prefix(B), hour_ahead), None);
}

#[test]
fn operators_see_who_made_a_block() {
    let words = [BlockKind::Automatic, BlockKind::Manual].map(|kind| (kind.as_str(), kind.to_string()));
    assert_eq!(words, ["automatic", "manual"].map(|word| (word, word.to_owned())));
}

#[test]
fn an_operator_cannot_block_what_is_allowed() {
    let mut guard = Guard::new(POLICY);
    guard.allow(office("198.51.100.0/25")).unwrap();
    guard.allow(AllowEntry { name: "annex".to_owned(), ..office("198.51.100.128/25") }).unwrap();
    for (network, by) in [
        (A, Some("office")),
        ("198.51.100.200", Some("annex")),
        ("198.51.100.0/25", Some("office")),
        ("198.51.100.0/24", Some("annex")),
        ("198.51.101.0/24", None),
        ("198.51.0.0/16", None),
    ] {
        let outcome = guard.block(prefix(network), None, String::new(), at(0)).map(|_| ());
        let expected = by.map_or(Ok(()), |name| {
            Err(GuardError::Allowed { prefix: prefix(network), name: name.to_owned() })
        });
        assert_eq!(outcome, expected, "{network}");
        assert_eq!(guard.allowed_by(&prefix(network)).map(|entry| entry.name.as_str()), by, "{network}");
    }
    assert!(guard.is_blocked(ip("198.51.99.1")) && !guard.is_blocked(ip(A)));
    let (blocked, allowed) = guard.sets();
    assert!(blocked.contains(ip("198.51.99.255")) && blocked.contains(ip("198.51.101.0")));
    assert!(!blocked.contains(ip("198.51.100.0")) && !blocked.contains(ip("198.51.100.255")));
    assert!(allowed.contains(ip("198.51.100.0")) && !allowed.contains(ip("198.51.101.0")));
    let error = guard.block(prefix(A), None, String::new(), at(0)).unwrap_err();
    assert_eq!(error.to_string(), "198.51.100.7 is on the allow list as \"office\"; remove that entry first");
}

#[test]
fn the_allow_list_by_name() {
    let mut guard = Guard::new(POLICY);
    guard.allow(office(A)).unwrap();
    guard.allow(AllowEntry { name: "file".to_owned(), from_config: true, ..office(B) }).unwrap();
    let named = |name: &str| AllowEntry { name: name.to_owned(), ..office(A) };
    let long = "n".repeat(AllowEntry::NAME_MAX);
    for (entry, expected) in [
        (named("office"), Err(GuardError::NameTaken("office".to_owned()))),
        (named(""), Err(GuardError::BadName)),
        (named(&format!("{long}n")), Err(GuardError::BadName)),
        (named(&long), Ok(())),
        (AllowEntry { prefixes: vec![prefix(B); AllowEntry::PREFIXES_MAX], ..named("wide") }, Ok(())),
        (
            AllowEntry { prefixes: vec![prefix(A); AllowEntry::PREFIXES_MAX + 1], ..named("vast") },
            Err(GuardError::ListFull),
        ),
        (AllowEntry { prefixes: vec![], ..named("unresolved") }, Ok(())),
    ] {
        assert_eq!(guard.allow(entry), expected);
    }
    let names: Vec<_> = guard.allowed().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["file", &long, "office", "unresolved", "wide"]);
    assert_eq!(guard.disallow("nobody"), Err(GuardError::NoSuchName("nobody".to_owned())));
    assert_eq!(guard.disallow("file"), Err(GuardError::FromConfig("file".to_owned())));
    assert!(guard.is_allowed(ip(B)));
    guard.disallow("office").unwrap();
    assert!(guard.is_allowed(ip(A)), "another entry still allows it");
    guard.disallow(&long).unwrap();
    assert!(!guard.is_allowed(ip(A)));
}

#[test]
fn a_domain_that_is_resolved_again_moves() {
    let mut guard = Guard::new(POLICY);
    guard.allow(AllowEntry { prefixes: vec![], ..office(A) }).unwrap();
    assert!(!guard.is_allowed(ip(A)));
    for (name, addresses, changed) in [
        ("office", vec![prefix(A)], true),
        ("office", vec![prefix(A)], false),
        ("nobody", vec![prefix(B)], false),
        ("office", vec![prefix(B)], true),
    ] {
        assert_eq!(guard.set_allowed_addresses(name, addresses), changed);
    }
    assert!(!guard.is_allowed(ip(A)) && guard.is_allowed(ip(B)));
    let many =
        (0..2_000).map(|low| Prefix::single(IpAddr::from([10, 0, (low / 256) as u8, low as u8]))).collect();
    assert!(guard.set_allowed_addresses("office", many));
    assert_eq!(guard.allowed().next().unwrap().prefixes.len(), AllowEntry::PREFIXES_MAX);
    assert!(guard.is_allowed(ip("10.0.3.255")) && !guard.is_allowed(ip("10.0.4.0")));
}

#[test]
fn a_stored_block_runs_on_after_a_restart() {
    const LENGTH_MS: u64 = 600_000;
    let stored = {
        let mut guard = Guard::new(POLICY);
        provoke(&mut guard, A, 0)
    };
    // The wall clock at the restart, in ms after the block began, and what is left of it then.
    for (wall, left) in [
        (0, Some(LENGTH_MS)),
        (1, Some(LENGTH_MS - 1)),
        (599_999, Some(1)),
        (600_000, None),
        (3_600_000, None),
        // The clock was set back: never more than the whole length.
        (-3_600_000, Some(LENGTH_MS)),
        (-86_400_000, Some(LENGTH_MS)),
    ] {
        let mut guard = Guard::new(POLICY);
        let wall = WallTime(EPOCH_MS.saturating_add_signed(wall));
        let now = Now { mono: Instant::from_nanos(5 * SECOND), wall };
        assert_eq!(guard.restore(stored.clone(), now), left.is_some(), "{wall:?}");
        assert_eq!(guard.is_blocked(ip(A)), left.is_some(), "{wall:?}");
        let end = left.map(|left| now.mono + Duration::from_millis(left));
        assert_eq!(guard.poll_timeout(), end, "{wall:?}");
        if let (Some(left), Some(end)) = (left, end) {
            let entry = BlockEntry { expires: WallTime(wall.0 + left), ..stored.clone() };
            assert_eq!(guard.blocks().collect::<Vec<_>>(), [&entry]);
            let early = Now { mono: Instant::from_nanos(end.as_nanos() - 1), wall };
            assert_eq!(guard.handle_timeout(early), []);
            assert_eq!(guard.handle_timeout(Now { mono: end, wall }), [entry]);
        }
    }
}

#[test]
fn a_restart_does_not_forget_to_double() {
    let stored = provoke(&mut Guard::new(POLICY), A, 0);
    // The wall clock at the restart, in seconds after the end, and whether the next block is doubled.
    for (over, minutes) in [(-3_600, 20), (0, 20), (86_399, 20), (86_400, 10), (200_000, 10)] {
        let mut guard = Guard::new(POLICY);
        let wall = WallTime((EPOCH_MS + 600_000).saturating_add_signed(over * 1_000));
        let counts = guard.remember(&stored, Now { mono: Instant::ZERO, wall });
        assert_eq!((counts, guard.is_blocked(ip(A))), (minutes == 20, false), "{over} s after");
        assert_eq!(provoke(&mut guard, A, 0).length, Duration::from_secs(60 * minutes), "{over} s after");
    }
    let mut guard = Guard::new(POLICY);
    let now = Now { mono: Instant::ZERO, wall: WallTime(EPOCH_MS + 600_000) };
    assert!(guard.remember(&stored, now));
    assert_eq!(provoke(&mut guard, A, DAY).length, POLICY.time, "the day runs on from the end");
    let mut guard = Guard::new(POLICY);
    assert!(!guard.remember(&BlockEntry { kind: BlockKind::Manual, ..stored }, now));
    assert_eq!(provoke(&mut guard, A, 0).length, POLICY.time, "an operator's block does not count");
}

#[test]
fn who_is_forgotten_is_named_once_and_not_while_it_is_blocked() {
    let mut guard = Guard::new(POLICY);
    let end = 10 * MINUTE;
    provoke(&mut guard, A, 0);
    provoke(&mut guard, B, 0);
    assert_eq!(guard.handle_timeout(at(end)).len(), 2);
    assert_eq!(guard.take_forgotten(), [], "both count for a day");
    provoke(&mut guard, A, end + DAY - 1);
    guard.handle_timeout(at(end + DAY));
    assert_eq!(guard.take_forgotten(), [prefix(B)], "the other is blocked");
    assert_eq!(guard.take_forgotten(), []);
    guard.handle_timeout(at(end + DAY + 20 * MINUTE));
    assert_eq!(guard.take_forgotten(), [], "and is remembered anew");
    guard.block(prefix("198.51.100.0/24"), None, String::new(), at(2 * DAY)).unwrap();
    guard.unblock(&prefix("198.51.100.0/24")).unwrap();
    assert_eq!(guard.take_forgotten(), [prefix(A)], "a pardon");
}

/// Random offences, successes, orders and waits beside a model that keeps everything and counts anew.
#[test]
fn the_guard_does_what_a_naive_model_does() {
    const SOURCES: [&str; 4] = ["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8:0:0:5::1"];
    #[derive(Default)]
    struct Model {
        offences: Vec<u64>,
        /// Beginning and end of each block.
        blocks: Vec<(u64, u64)>,
    }
    let (mut blocks, mut doubled) = (0, 0);
    for seed in 0..300 {
        let mut seeded = Seeded(seed);
        let mut guard = Guard::new(POLICY);
        // The last two sources are one network.
        let mut models: [Model; 3] = Default::default();
        let mut now = 0;
        for _ in 0..250 {
            now += [0, 1, SECOND, 20 * SECOND, 9 * MINUTE, DAY / 3][seeded.below(6)];
            let which = seeded.below(4);
            let model = &mut models[which.min(2)];
            let blocked = model.blocks.last().is_some_and(|(_, end)| now < *end);
            if seeded.below(2) == 0 {
                guard.handle_timeout(at(now));
                assert_eq!(guard.is_blocked(ip(SOURCES[which])), blocked, "seed {seed}");
                assert!(guard.poll_timeout().is_none_or(|next| next > at(now).mono), "seed {seed}");
            }
            if seeded.below(12) == 0 {
                guard.success(ip(SOURCES[which]));
                model.offences.clear();
                continue;
            }
            let outcome = offend(&mut guard, SOURCES[which], now);
            if blocked {
                assert_eq!(outcome, OffenceOutcome::AlreadyBlocked, "seed {seed}");
                continue;
            }
            model.offences.push(now);
            match model.offences.iter().filter(|at| now - **at < MINUTE).count() {
                1 => assert_eq!(outcome, OffenceOutcome::First, "seed {seed}"),
                2..5 => assert_eq!(outcome, OffenceOutcome::Counted, "seed {seed}"),
                _ => {
                    let OffenceOutcome::Blocked(entry) = outcome else { panic!("seed {seed}: {outcome:?}") };
                    let again = model.blocks.last().copied().filter(|(_, end)| now - *end < DAY);
                    let length =
                        again.map_or(10 * MINUTE, |(start, end)| (2 * (end - start)).min(60 * MINUTE));
                    assert_eq!(entry.length, Duration::from_nanos(length), "seed {seed}");
                    model.blocks.push((now, now + length));
                    model.offences.clear();
                    blocks += 1;
                    doubled += usize::from(again.is_some());
                }
            }
            guard.check_invariants();
        }
    }
    assert!(blocks > 500 && doubled > 50 && doubled < blocks, "{blocks} blocks, {doubled} doubled");
}
