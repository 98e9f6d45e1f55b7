//! The latch as tables: what comes when, and what becomes of it.

use super::*;

use wire::net::Prefix;

const ADVERTISED: &str = "10.1.1.1:4000";
const NAT: &str = "192.0.2.1:61000";
const NAT_OTHER_PORT: &str = "192.0.2.1:61002";
const ELSEWHERE: &str = "198.51.100.9:5000";
const ELSEWHERE_TOO: &str = "198.51.100.10:5000";
const RTP: Kind = Kind::Rtp { ssrc: 7 };
const OTHER_SSRC: Kind = Kind::Rtp { ssrc: 8 };

type Judged = Result<Option<SourceRank>, DropReason>;
const PASS: Judged = Ok(None);
const FIRST: Judged = Ok(Some(SourceRank::Advertised));
const SECOND: Judged = Ok(Some(SourceRank::SignallingSource));
const THIRD: Judged = Ok(Some(SourceRank::Other));
const UNPROVEN: Judged = Err(DropReason::Unproven);
const STRANGER: Judged = Err(DropReason::Stranger);

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("socket address")
}

fn ranked() -> Rules {
    Rules {
        policy: LatchPolicy::Ranked,
        advertised: Some(socket(ADVERTISED)),
        spared: false,
        signalling_source: Some(socket(NAT).ip()),
    }
}

fn claim(kind: Kind, from: &str, ms: u64) -> Claim {
    Claim { kind, from: socket(from), scope: Scope::Any, now: at(ms) }
}

fn send(latch: &mut Latch, kind: Kind, from: &str, ms: u64) -> Judged {
    latch.admit(claim(kind, from, ms), |_| true, Some(&PrefixSet::default()))
}

fn check(rules: Rules, steps: &[(u64, &str, Kind, Judged)]) -> Latch {
    let mut latch = Latch::new(rules, at(0));
    for (step, &(ms, from, kind, expect)) in steps.iter().enumerate() {
        assert_eq!(send(&mut latch, kind, from, ms), expect, "step {step}: {from} at {ms} ms");
    }
    latch
}

#[test]
fn rank_1_and_2_are_learned_at_once_and_then_strictly() {
    check(
        ranked(),
        &[
            (0, ADVERTISED, RTP, FIRST),
            (20, ADVERTISED, RTP, PASS),
            (40, NAT, RTP, STRANGER),
            (5_000, NAT, RTP, STRANGER),
            (5_020, ADVERTISED, OTHER_SSRC, PASS),
        ],
    );
    check(
        ranked(),
        &[
            (0, NAT, RTP, SECOND),
            (20, NAT_OTHER_PORT, RTP, STRANGER),
            (40, ELSEWHERE, RTP, STRANGER),
            (60, NAT, RTP, PASS),
        ],
    );
}

#[test]
fn a_better_rank_displaces_in_the_first_second_only() {
    check(ranked(), &[(0, NAT, RTP, SECOND), (999, ADVERTISED, RTP, FIRST), (1_000, NAT, RTP, STRANGER)]);
    check(ranked(), &[(0, NAT, RTP, SECOND), (1_000, ADVERTISED, RTP, STRANGER), (1_001, NAT, RTP, PASS)]);
    // the second runs from the first learning, not from the last
    check(
        ranked(),
        &[
            (2_000, ELSEWHERE, RTP, UNPROVEN),
            (2_020, ELSEWHERE, RTP, UNPROVEN),
            (2_040, ELSEWHERE, RTP, THIRD),
            (2_900, NAT, RTP, SECOND),
            (3_039, ADVERTISED, RTP, FIRST),
        ],
    );
    check(
        ranked(),
        &[
            (2_000, ELSEWHERE, RTP, UNPROVEN),
            (2_020, ELSEWHERE, RTP, UNPROVEN),
            (2_040, ELSEWHERE, RTP, THIRD),
            (2_900, NAT, RTP, SECOND),
            (3_040, ADVERTISED, RTP, STRANGER),
        ],
    );
}

#[test]
fn rank_3_needs_silence_and_three_of_one_ssrc() {
    // three packets are not enough before 2 s are over; the run counts from before
    check(
        ranked(),
        &[
            (0, ELSEWHERE, RTP, UNPROVEN),
            (20, ELSEWHERE, RTP, UNPROVEN),
            (40, ELSEWHERE, RTP, UNPROVEN),
            (1_999, ELSEWHERE, RTP, UNPROVEN),
            (2_000, ELSEWHERE, RTP, THIRD),
            (2_020, ELSEWHERE, RTP, PASS),
        ],
    );
    // another SSRC or another source breaks the run
    check(
        ranked(),
        &[
            (3_000, ELSEWHERE, RTP, UNPROVEN),
            (3_020, ELSEWHERE, RTP, UNPROVEN),
            (3_040, ELSEWHERE, OTHER_SSRC, UNPROVEN),
            (3_060, ELSEWHERE, RTP, UNPROVEN),
            (3_080, ELSEWHERE_TOO, RTP, UNPROVEN),
            (3_100, ELSEWHERE, RTP, UNPROVEN),
            (3_120, ELSEWHERE, RTP, UNPROVEN),
            (3_140, ELSEWHERE, RTP, THIRD),
            (3_160, ELSEWHERE_TOO, RTP, STRANGER),
        ],
    );
    // without an SSRC there is no third rank
    let datagrams: Vec<_> = (0..5).map(|k| (3_000 + k, ELSEWHERE, Kind::Datagram, UNPROVEN)).collect();
    check(ranked(), &datagrams);
    check(ranked(), &[(0, NAT, Kind::Datagram, SECOND)]);
}

#[test]
fn rank_3_waits_for_an_advertised_address() {
    let unknown = Rules { advertised: None, ..ranked() };
    let run: Vec<_> = (0..4).map(|k| (9_000 + k, ELSEWHERE, RTP, UNPROVEN)).collect();
    let mut latch = check(unknown, &run);
    latch.apply(ranked(), false, at(10_000));
    for ms in [10_100, 10_120, 10_140, 11_999] {
        assert_eq!(send(&mut latch, RTP, ELSEWHERE, ms), UNPROVEN, "{ms}");
    }
    assert_eq!(send(&mut latch, RTP, ELSEWHERE, 12_000), THIRD);
    // the signalling source needs none
    check(unknown, &[(0, NAT, RTP, SECOND)]);
}

#[test]
fn relatch_opens_and_the_previous_source_may_go_on() {
    // rank 3 goes on without a gap; a better rank displaces it again within a second
    let mut latch = check(
        ranked(),
        &[
            (2_000, ELSEWHERE, RTP, UNPROVEN),
            (2_020, ELSEWHERE, RTP, UNPROVEN),
            (2_040, ELSEWHERE, RTP, THIRD),
            (9_000, NAT, RTP, STRANGER),
        ],
    );
    latch.apply(ranked(), true, at(10_000));
    assert_eq!(latch.learned(), Some(socket(ELSEWHERE)));
    assert_eq!(send(&mut latch, RTP, ELSEWHERE_TOO, 10_005), UNPROVEN);
    assert_eq!(send(&mut latch, RTP, ELSEWHERE, 10_010), THIRD);
    assert_eq!(send(&mut latch, RTP, NAT, 10_500), SECOND);
    assert_eq!(send(&mut latch, RTP, ELSEWHERE, 10_510), STRANGER);

    // a change of address while it is open ends the previous source too
    let mut open_again = check(ranked(), &[(0, NAT, RTP, SECOND)]);
    open_again.apply(ranked(), true, at(6_000));
    assert_eq!(open_again.learned(), Some(socket(NAT)));
    open_again.apply(Rules { advertised: Some(socket("10.1.1.1:4444")), ..ranked() }, false, at(6_500));
    assert_eq!(open_again.learned(), None);

    // another port of the same rank is learned, which strictness forbade
    let mut latch = check(ranked(), &[(0, NAT, RTP, SECOND), (5_000, NAT_OTHER_PORT, RTP, STRANGER)]);
    latch.apply(ranked(), true, at(6_000));
    assert_eq!(send(&mut latch, RTP, NAT_OTHER_PORT, 6_010), SECOND);

    // a new advertised address ends the old source
    let mut latch = check(ranked(), &[(0, ADVERTISED, RTP, FIRST)]);
    latch.apply(Rules { advertised: Some(socket("10.1.1.1:4444")), ..ranked() }, true, at(6_000));
    assert_eq!(latch.learned(), None);
    assert_eq!(send(&mut latch, RTP, ADVERTISED, 6_010), UNPROVEN);
    assert_eq!(send(&mut latch, RTP, "10.1.1.1:4444", 6_020), FIRST);
}

#[test]
fn a_port_that_the_peer_has_left_gives_way_to_the_one_that_he_named() {
    let moved = Rules { advertised: Some(socket("10.1.1.1:4444")), ..ranked() };
    let mut latch = check(ranked(), &[(0, NAT, RTP, SECOND)]);
    latch.apply(moved, true, at(6_000));
    // until his change is answered he speaks from where he was, however long that takes
    assert_eq!(send(&mut latch, RTP, NAT, 6_020), SECOND);
    assert_eq!(send(&mut latch, RTP, NAT, 9_000), PASS);
    assert_eq!(latch.learned(), Some(socket(NAT)));
    assert_eq!(send(&mut latch, RTP, ELSEWHERE, 9_010), STRANGER);
    assert_eq!(send(&mut latch, Kind::Dtls, NAT_OTHER_PORT, 9_020), STRANGER);
    assert_eq!(send(&mut latch, RTP, NAT_OTHER_PORT, 9_030), SECOND);
    assert_eq!(send(&mut latch, RTP, NAT, 9_040), STRANGER, "once he has moved, he is there");
    // the same where he was not heard between two changes
    latch.apply(ranked(), true, at(20_000));
    latch.apply(moved, true, at(20_010));
    assert_eq!(send(&mut latch, RTP, NAT_OTHER_PORT, 20_020), SECOND);
    assert_eq!(send(&mut latch, RTP, NAT, 22_000), SECOND);
}

#[test]
fn without_relatch_an_update_changes_nothing() {
    let mut latch = check(ranked(), &[(0, NAT, RTP, SECOND)]);
    latch.apply(Rules { advertised: Some(socket("10.1.1.1:4444")), ..ranked() }, false, at(6_000));
    assert_eq!(latch.learned(), Some(socket(NAT)));
    assert_eq!(send(&mut latch, RTP, "10.1.1.1:4444", 6_010), STRANGER);
    assert_eq!(send(&mut latch, RTP, NAT, 6_020), PASS);
}

#[test]
fn the_inside_is_exact_and_follows_its_sdp() {
    let exact = Rules { policy: LatchPolicy::Advertised, ..ranked() };
    let mut latch = check(
        exact,
        &[
            (0, NAT, RTP, STRANGER),
            (5_000, ELSEWHERE, RTP, STRANGER),
            (5_001, ADVERTISED, RTP, FIRST),
            (5_002, ADVERTISED, RTP, PASS),
            (5_003, NAT, RTP, STRANGER),
        ],
    );
    let moved = Rules { advertised: Some(socket(ELSEWHERE)), ..exact };
    latch.apply(moved, false, at(6_000));
    assert_eq!(latch.learned(), None);
    assert_eq!(send(&mut latch, RTP, ADVERTISED, 6_001), STRANGER);
    assert_eq!(send(&mut latch, RTP, ELSEWHERE, 6_002), FIRST);
    check(Rules { advertised: None, ..exact }, &[(9_000, NAT, RTP, UNPROVEN)]);
}

#[test]
fn a_handshake_passes_from_known_places_and_teaches_nothing() {
    let d = Kind::Dtls;
    let mut latch = check(
        ranked(),
        &[
            (0, ADVERTISED, d, PASS),
            (1, NAT, d, UNPROVEN),
            (2, ELSEWHERE, d, UNPROVEN),
            (1_000, NAT, d, UNPROVEN),
            // rank 2 was heard 1 s ago: not silent for 2 s yet
            (2_500, ELSEWHERE, RTP, UNPROVEN),
            (2_520, ELSEWHERE, RTP, UNPROVEN),
            (2_540, ELSEWHERE, RTP, UNPROVEN),
            (2_560, NAT, RTP, SECOND),
            (2_570, NAT, d, PASS),
            (2_580, ADVERTISED, d, STRANGER),
        ],
    );
    latch.apply(ranked(), true, at(9_000));
    assert_eq!(send(&mut latch, d, NAT, 9_010), PASS);
    assert_eq!(send(&mut latch, d, NAT_OTHER_PORT, 9_020), UNPROVEN);
}

#[test]
fn blocked_and_forbidden_sources_are_never_learned_but_a_held_one_stays() {
    let blocks = PrefixSet::from_prefixes([Prefix::single(socket(NAT).ip())]);
    let mut latch = Latch::new(ranked(), at(0));
    let none = PrefixSet::default();
    for (blocks, legal, expect) in [
        (Some(&blocks), true, Err(DropReason::Blocked)),
        (Some(&none), false, Err(DropReason::ForbiddenSource)),
        (None, true, SECOND),
        (Some(&blocks), true, PASS),
    ] {
        assert_eq!(latch.admit(claim(RTP, NAT, 1), |_| legal, blocks), expect);
    }
}
