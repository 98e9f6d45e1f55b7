//! The table as its shard and its border see it.

use std::cell::RefCell;

use proptest::prelude::*;
use wire::net::Prefix;

use super::*;
use crate::{LatchPolicy, LegSpec, SourceRank};

const PHONE: &str = "192.0.2.1:4000";
const PHONE_RTCP: &str = "192.0.2.1:4001";
const PBX: &str = "10.0.0.9:6000";
const PBX_RTCP: &str = "10.0.0.9:6001";
const STRANGER: &str = "198.51.100.66:666";

/// Sockets of the first relay.
const OUT_RTP: usize = 0;
const OUT_RTCP: usize = 1;
const IN_RTP: usize = 2;
const IN_RTCP: usize = 3;

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("socket address")
}

fn config() -> TableConfig {
    TableConfig {
        faces: ["203.0.113.10".parse().expect("outside"), "10.0.0.2".parse().expect("inside")],
        ports: [10_000..=10_007, 20_000..=20_007],
        forbidden: Default::default(),
        seed: 7,
        spare_from: usize::MAX,
    }
}

fn leg(latch: LatchPolicy, advertised: &str) -> LegSpec {
    LegSpec {
        advertised_rtp: Some(socket(advertised)),
        advertised_rtcp: None,
        rtcp_mux: false,
        signalling_source: None,
        spared: false,
        latch,
        send: true,
        relatch: 0,
    }
}

fn spec() -> RelaySpec {
    RelaySpec {
        legs: [leg(LatchPolicy::Ranked, PHONE), leg(LatchPolicy::Advertised, PBX)],
        payload: Payload::Rtp,
        idle: Duration::from_secs(30),
        generation: 1,
    }
}

fn rtp(ssrc: u8) -> Vec<u8> {
    let mut bytes = vec![0; 172];
    bytes[0] = 0x80;
    bytes[11] = ssrc;
    bytes
}

fn rtcp() -> Vec<u8> {
    let mut bytes = vec![0; 28];
    bytes[..2].copy_from_slice(&[0x80, 200]);
    bytes
}

fn forward(socket_index: usize, to: &str) -> Verdict {
    Verdict::Forward { socket: socket_index, to: socket(to) }
}

/// A table whose binds all succeed.
struct Rig {
    table: RelayTable,
}

impl Rig {
    fn new() -> Self {
        Self { table: RelayTable::new(config()) }
    }

    /// With relay 1 open in slot 0.
    fn open(spec: RelaySpec) -> Self {
        let mut rig = Self::new();
        rig.order(Order::Open { relay: RelayId(1), spec }, 0);
        assert!(matches!(rig.events()[..], [RelayEvent::Ready { relay: RelayId(1), .. }]));
        rig
    }

    fn order(&mut self, order: Order, ms: u64) {
        self.table.handle_order(order, at(ms));
        self.bind(|_, _| Ok(()), ms);
    }

    fn bind(&mut self, outcome: impl Fn(Side, u16) -> Result<(), BindFault>, ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = self.table.poll_action() {
            if let Action::Bind { slot, side, port } = action {
                self.table.on_bind(slot, side, port, outcome(side, port), at(ms));
            }
            actions.push(action);
        }
        actions
    }

    fn update(&mut self, spec: RelaySpec, ms: u64) {
        self.order(Order::Update { relay: RelayId(1), spec }, ms);
    }

    fn send(&mut self, index: usize, from: &str, bytes: &[u8], ms: u64) -> Verdict {
        self.table.on_datagram(index, socket(from), bytes, at(ms))
    }

    fn events(&mut self) -> Vec<RelayEvent> {
        std::iter::from_fn(|| self.table.poll_event()).collect()
    }

    /// Runs the timers that are due up to `ms`, each at its own time.
    fn run_to(&mut self, ms: u64) -> Vec<(u64, RelayEvent)> {
        let mut events = Vec::new();
        while let Some(due) = self.table.poll_timeout().filter(|due| *due <= at(ms)) {
            self.table.handle_timeout(due);
            assert!(self.table.poll_timeout().is_none_or(|next| next > due), "time stands still");
            events.extend(self.events().into_iter().map(|event| (due.as_nanos() / 1_000_000, event)));
        }
        events
    }
}

#[test]
fn audio_passes_both_ways_and_each_port_keeps_to_itself() {
    let mut rig = Rig::open(spec());
    for (index, from, bytes, expect) in [
        (OUT_RTP, PHONE, rtp(1), forward(IN_RTP, PBX)),
        (IN_RTP, PBX, rtp(2), forward(OUT_RTP, PHONE)),
        (OUT_RTCP, PHONE_RTCP, rtcp(), forward(IN_RTCP, PBX_RTCP)),
        (IN_RTCP, PBX_RTCP, rtcp(), forward(OUT_RTCP, PHONE_RTCP)),
        (OUT_RTP, PHONE, rtcp(), Verdict::Drop(DropReason::WrongPort)),
        (IN_RTP, STRANGER, rtp(3), Verdict::Drop(DropReason::Stranger)),
        (4, PHONE, rtp(1), Verdict::Drop(DropReason::NotOpen)),
    ] {
        assert_eq!(rig.send(index, from, &bytes, 5), expect, "socket {index} from {from}");
    }
}

#[test]
fn a_phone_behind_nat_is_answered_where_it_sends_from_rtcp_apart() {
    let mut phone = leg(LatchPolicy::Ranked, "192.168.1.5:4000");
    phone.signalling_source = Some(socket(PHONE).ip());
    let mut rig = Rig::open(RelaySpec { legs: [phone, leg(LatchPolicy::Advertised, PBX)], ..spec() });
    let unproven = Verdict::Drop(DropReason::UnprovenDestination);
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(2), 1), unproven);
    assert_eq!(rig.send(OUT_RTP, "192.0.2.1:61000", &rtp(1), 2), forward(IN_RTP, PBX));
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(2), 3), forward(OUT_RTP, "192.0.2.1:61000"));
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 4), unproven);
    assert_eq!(rig.send(OUT_RTCP, "192.0.2.1:61007", &rtcp(), 5), forward(IN_RTCP, PBX_RTCP));
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 6), forward(OUT_RTCP, "192.0.2.1:61007"));
    let learned: Vec<_> = rig
        .events()
        .into_iter()
        .map(|event| match event {
            RelayEvent::Learned { side, source, rank, .. } => (side, source, rank),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        learned,
        [
            (Side::Inside, socket(PBX), SourceRank::Advertised),
            (Side::Outside, socket("192.0.2.1:61000"), SourceRank::SignallingSource),
        ]
    );
}

/// A table with a phone behind NAT, which sends from elsewhere than it says.
fn behind_nat() -> Rig {
    let mut phone = leg(LatchPolicy::Ranked, "192.168.1.5:4000");
    phone.signalling_source = Some(socket(PHONE).ip());
    Rig::open(RelaySpec { legs: [phone, leg(LatchPolicy::Advertised, PBX)], ..spec() })
}

#[test]
fn nobody_takes_the_rtcp_of_a_phone_that_sends_none() {
    let mut rig = behind_nat();
    // before its first RTP, and after
    for ms in [2_500, 2_600, 2_700, 2_800] {
        let judged = rig.send(OUT_RTCP, STRANGER, &rtcp(), ms);
        assert_eq!(judged, Verdict::Drop(DropReason::Unproven), "{ms}");
    }
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 3_000), forward(IN_RTP, PBX));
    for ms in [6_000, 6_100, 6_200, 6_300] {
        let judged = rig.send(OUT_RTCP, STRANGER, &rtcp(), ms);
        assert_eq!(judged, Verdict::Drop(DropReason::Stranger), "{ms}");
    }
    let unproven = Verdict::Drop(DropReason::UnprovenDestination);
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 6_400), unproven);
    assert_eq!(rig.send(OUT_RTCP, PHONE_RTCP, &rtcp(), 6_500), forward(IN_RTCP, PBX_RTCP));
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 6_600), forward(OUT_RTCP, PHONE_RTCP));
}

#[test]
fn rtcp_goes_where_rtp_goes() {
    let mut rig = behind_nat();
    // a phone whose media come from another host than its signalling
    let (media, media_rtcp) = ("198.51.100.20:7000", "198.51.100.20:7009");
    for ms in [2_500, 2_520] {
        assert_eq!(rig.send(OUT_RTP, media, &rtp(1), ms), Verdict::Drop(DropReason::Unproven), "{ms}");
    }
    assert_eq!(rig.send(OUT_RTP, media, &rtp(1), 2_540), forward(IN_RTP, PBX));
    for ms in [2_550, 2_560] {
        assert_eq!(rig.send(OUT_RTCP, media_rtcp, &rtcp(), ms), Verdict::Drop(DropReason::Unproven), "{ms}");
    }
    assert_eq!(rig.send(OUT_RTCP, media_rtcp, &rtcp(), 2_570), forward(IN_RTCP, PBX_RTCP));
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 2_580), forward(OUT_RTCP, media_rtcp));
    // a better rank displaces it, and takes the RTCP with it
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(2), 3_000), forward(IN_RTP, PBX));
    let unproven = Verdict::Drop(DropReason::UnprovenDestination);
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 3_010), unproven);
    let judged = rig.send(OUT_RTCP, media_rtcp, &rtcp(), 3_020);
    assert_eq!(judged, Verdict::Drop(DropReason::Stranger));
    assert_eq!(rig.send(OUT_RTCP, PHONE_RTCP, &rtcp(), 3_030), forward(IN_RTCP, PBX_RTCP));
}

#[test]
fn only_a_relatch_that_rises_opens_the_latch() {
    let mut phone = leg(LatchPolicy::Ranked, "192.168.1.5:4000");
    phone.signalling_source = Some(socket(PHONE).ip());
    let mut spec = RelaySpec { legs: [phone, leg(LatchPolicy::Advertised, PBX)], ..spec() };
    spec.legs[0].relatch = 3;
    let mut rig = Rig::open(spec.clone());
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 1), forward(IN_RTP, PBX));
    let elsewhere = "192.0.2.1:5555";
    for (relatch, expect) in [
        (3, Verdict::Drop(DropReason::Stranger)),
        (2, Verdict::Drop(DropReason::Stranger)),
        (4, forward(IN_RTP, PBX)),
    ] {
        spec.legs[0].relatch = relatch;
        rig.update(spec.clone(), 5_000);
        assert_eq!(rig.send(OUT_RTP, elsewhere, &rtp(1), 5_001), expect, "relatch {relatch}");
    }
}

#[test]
fn rtcp_mux_on_one_side_alone() {
    let mut legs = spec().legs;
    legs[0].rtcp_mux = true;
    let mut rig = Rig::open(RelaySpec { legs, ..spec() });
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtcp(), 1), forward(IN_RTCP, PBX_RTCP));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 2), forward(IN_RTP, PBX));
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 3), forward(OUT_RTP, PHONE));

    let mut legs = spec().legs;
    legs[1].rtcp_mux = true;
    let mut rig = Rig::open(RelaySpec { legs, ..spec() });
    assert_eq!(rig.send(OUT_RTCP, PHONE_RTCP, &rtcp(), 1), forward(IN_RTP, PBX));
    assert_eq!(rig.send(IN_RTP, PBX, &rtcp(), 2), forward(OUT_RTCP, PHONE_RTCP));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtcp(), 3), Verdict::Drop(DropReason::WrongPort));
}

#[test]
fn rtcp_goes_where_its_own_attribute_says() {
    let mut legs = spec().legs;
    legs[1].advertised_rtcp = Some(socket("10.0.0.9:7777"));
    let mut rig = Rig::open(RelaySpec { legs, ..spec() });
    assert_eq!(rig.send(OUT_RTCP, PHONE_RTCP, &rtcp(), 1), forward(IN_RTCP, "10.0.0.9:7777"));
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 2), Verdict::Drop(DropReason::Stranger));
    // no port above 65,535
    let mut legs = spec().legs;
    legs[1] = leg(LatchPolicy::Advertised, "10.0.0.9:65535");
    let mut rig = Rig::open(RelaySpec { legs, ..spec() });
    assert_eq!(rig.send(OUT_RTCP, PHONE_RTCP, &rtcp(), 1), Verdict::Drop(DropReason::PeerUnknown));
}

#[test]
fn what_cannot_be_sent_yet_is_dropped_but_teaches() {
    let mut unknown = spec();
    unknown.legs[1].advertised_rtp = None;
    let mut rig = Rig::open(unknown.clone());
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 1), Verdict::Drop(DropReason::PeerUnknown));
    assert!(matches!(rig.events()[..], [RelayEvent::Learned { side: Side::Outside, .. }]));
    rig.update(spec(), 10);
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 20), forward(IN_RTP, PBX));
    let mut held = spec();
    held.legs[1].send = false;
    held.generation = 9;
    rig.update(held, 30);
    assert_eq!(rig.events().last(), Some(&RelayEvent::Updated { relay: RelayId(1), generation: 9 }));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 40), Verdict::Drop(DropReason::NotSending));
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 50), forward(OUT_RTP, PHONE));
}

#[test]
fn forbidden_addresses_get_nothing_and_teach_nothing() {
    for bad in [
        "203.0.113.10:10002",
        "10.0.0.2:20002",
        "127.0.0.1:4000",
        "224.0.0.5:4000",
        "0.0.0.0:4000",
        "192.0.2.1:0",
    ] {
        let mut legs = spec().legs;
        legs[0] = leg(LatchPolicy::Ranked, bad);
        let mut rig = Rig::open(RelaySpec { legs, ..spec() });
        let drop = Verdict::Drop(DropReason::ForbiddenDestination);
        assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 1), drop, "{bad}");
        assert_eq!(rig.send(OUT_RTP, bad, &rtp(1), 1), Verdict::Drop(DropReason::ForbiddenSource), "{bad}");
        let told = |reason| RelayEvent::Refused {
            relay: RelayId(1),
            side: Side::Outside,
            reason,
            count: 1,
            sample: socket(bad),
        };
        let events: Vec<_> = rig.run_to(1_000).into_iter().map(|(_, event)| event).collect();
        assert!(events.contains(&told(DropReason::ForbiddenSource)), "{bad}: {events:?}");
        assert!(events.contains(&told(DropReason::ForbiddenDestination)), "{bad}: {events:?}");
        rig.update(spec(), 1_002);
        assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 1_003), forward(OUT_RTP, PHONE), "{bad}");
    }
    // a call between two of our phones: our own inside port, on the inside
    let mut legs = spec().legs;
    legs[1] = leg(LatchPolicy::Advertised, "10.0.0.2:20002");
    let mut rig = Rig::open(RelaySpec { legs, ..spec() });
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 1), forward(IN_RTP, "10.0.0.2:20002"));
}

/// A block list of these hosts.
#[test]
fn a_relay_never_feeds_itself_where_its_port_is_named_as_that_of_a_call_before() {
    let mut rig = Rig::new();
    rig.order(Order::Open { relay: RelayId(1), spec: spec() }, 0);
    let [RelayEvent::Ready { ports: [_, inside], .. }] = rig.events()[..] else { panic!("it is not open") };
    let open = |port: u16| {
        let mut spec = spec();
        spec.legs[1].advertised_rtp = Some(SocketAddr::new(config().faces[1], port));
        Rig::open(spec)
    };
    for (port, itself) in [(inside, true), (inside + 1, true), (inside ^ 2, false)] {
        let verdict = open(port).send(OUT_RTP, PHONE, &rtp(1), 1);
        let forbidden = verdict == Verdict::Drop(DropReason::ForbiddenDestination);
        assert_eq!(forbidden, itself, "{port}: {verdict:?}");
    }
}

fn blocked(hosts: &[&str]) -> Arc<PrefixSet> {
    Arc::new(hosts.iter().map(|host| Prefix::single(socket(host).ip())).collect())
}

#[test]
fn a_private_address_gets_nothing_before_it_has_shown_itself() {
    let mut legs = spec().legs;
    let private = "192.168.7.7:4000";
    legs[0] = LegSpec {
        signalling_source: Some(socket("198.51.100.1:1").ip()),
        ..leg(LatchPolicy::Ranked, private)
    };
    let spec = RelaySpec { legs, ..spec() };
    let drop = Verdict::Drop(DropReason::UnprovenDestination);
    // behind a NAT: its own packets say where it is
    let mut rig = Rig::open(spec.clone());
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 1), drop);
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 2), drop);
    rig.send(OUT_RTP, "198.51.100.1:30000", &rtp(1), 3);
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 4), forward(OUT_RTP, "198.51.100.1:30000"));
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 5), drop, "RTCP has shown nothing");
    let refused = |event: &RelayEvent| match event {
        RelayEvent::Refused { reason, count, sample, .. } => Some((*reason, *count, *sample)),
        _ => None,
    };
    let told: Vec<_> = rig.run_to(1_000).iter().filter_map(|(_, event)| refused(event)).collect();
    assert_eq!(told, [(DropReason::UnprovenDestination, 1, socket(private))], "RTCP is not told of");
    // it is there indeed, and says so
    let mut rig = Rig::open(spec.clone());
    rig.send(OUT_RTP, private, &rtp(1), 1);
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 2), forward(OUT_RTP, private));
    assert_eq!(rig.send(IN_RTCP, PBX_RTCP, &rtcp(), 3), forward(OUT_RTCP, "192.168.7.7:4001"));
    // it signals from there
    let mut legs = spec.legs.clone();
    legs[0].signalling_source = Some(socket(private).ip());
    let mut rig = Rig::open(RelaySpec { legs, ..spec });
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 1), forward(OUT_RTP, private));
}

#[test]
fn a_host_that_turns_out_to_be_of_the_inside_is_held_no_more() {
    let mut rig = Rig::open(spec());
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 1), forward(IN_RTP, PBX));
    let host = Prefix::single(socket(PHONE).ip());
    rig.table.set_hosts_inside(PrefixSet::from_prefixes([host]), at(2));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 3), Verdict::Drop(DropReason::ForbiddenSource));
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 4), Verdict::Drop(DropReason::ForbiddenDestination));
    // the PBX itself remains the PBX
    rig.table.set_hosts_inside(PrefixSet::from_prefixes([Prefix::single(socket(PBX).ip())]), at(5));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 6), forward(IN_RTP, PBX));
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 7), forward(OUT_RTP, PHONE));
}

#[test]
fn a_blocked_source_is_not_learned_outside_and_is_nobody_inside() {
    let mut rig = Rig::open(spec());
    rig.table.set_blocked(blocked(&[PHONE, PBX]), at(0));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 1), Verdict::Drop(DropReason::Blocked));
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 2), Verdict::Drop(DropReason::ForbiddenDestination));
    rig.table.set_blocked(Arc::default(), at(3));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 4), forward(IN_RTP, PBX));
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 5), forward(OUT_RTP, PHONE));
}

#[test]
fn a_source_that_was_learned_is_forgotten_when_it_is_blocked() {
    let mut rig = Rig::open(spec());
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 1), forward(IN_RTP, PBX));
    assert_eq!(rig.send(OUT_RTCP, PHONE_RTCP, &rtcp(), 2), forward(IN_RTCP, PBX_RTCP));
    rig.table.set_blocked(blocked(&[STRANGER]), at(3));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 4), forward(IN_RTP, PBX), "somebody else was blocked");
    rig.table.set_blocked(blocked(&[PHONE]), at(5));
    for ms in [6, 900, 5_000, 30_000] {
        assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), ms), Verdict::Drop(DropReason::Blocked), "at {ms}");
        assert_eq!(rig.send(OUT_RTCP, PHONE_RTCP, &rtcp(), ms), Verdict::Drop(DropReason::Blocked));
        let back = rig.send(IN_RTP, PBX, &rtp(1), ms);
        assert_eq!(back, Verdict::Drop(DropReason::ForbiddenDestination), "nothing is sent to it either");
    }
    rig.update(spec(), 30_001);
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 30_002), Verdict::Drop(DropReason::ForbiddenDestination));
}

#[test]
fn a_spared_phone_goes_on_in_spite_of_the_block_and_nobody_else_at_its_relay() {
    let phone = |spared| {
        let [mut outside, inside] = spec().legs;
        outside.signalling_source = Some(socket(PHONE).ip());
        outside.spared = spared;
        RelaySpec { legs: [outside, inside], generation: 2, ..spec() }
    };
    let mut rig = Rig::open(phone(true));
    rig.table.set_blocked(blocked(&[PHONE, STRANGER]), at(0));
    assert_eq!(rig.send(OUT_RTP, STRANGER, &rtp(1), 1), Verdict::Drop(DropReason::Blocked));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 2), forward(IN_RTP, PBX));
    assert_eq!(rig.send(IN_RTP, PBX, &rtp(1), 3), forward(OUT_RTP, PHONE));
    rig.table.set_blocked(blocked(&[PHONE]), at(4));
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 5), forward(IN_RTP, PBX));
    rig.update(phone(false), 6);
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 7), Verdict::Drop(DropReason::Blocked));
}

#[test]
fn datagrams_that_are_no_rtp() {
    let mut rig = Rig::open(RelaySpec { payload: Payload::Datagram, ..spec() });
    assert_eq!(rig.send(OUT_RTP, PHONE, b"x", 1), forward(IN_RTP, PBX));
    assert_eq!(rig.send(OUT_RTCP, PHONE_RTCP, b"x", 2), Verdict::Drop(DropReason::WrongPort));
    assert_eq!(rig.send(OUT_RTP, PHONE, b"", 3), Verdict::Drop(DropReason::TooShort));
    assert_eq!(rig.send(OUT_RTP, STRANGER, b"x", 9_000), Verdict::Drop(DropReason::Stranger));
}

#[test]
fn busy_ports_are_passed_over_and_none_is_lost() {
    let mut rig = Rig::new();
    rig.table.handle_order(Order::Open { relay: RelayId(1), spec: spec() }, at(0));
    let tried = RefCell::new(Vec::new());
    rig.bind(
        |side, port| {
            tried.borrow_mut().push((side, port));
            if port == 10_004 || port == 20_002 { Ok(()) } else { Err(BindFault::Taken) }
        },
        0,
    );
    assert_eq!(rig.events(), [RelayEvent::Ready { relay: RelayId(1), ports: [10_004, 20_002] }]);
    let mut seen = tried.into_inner();
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all, "a pair was tried twice within its rest");
}

#[test]
fn no_port_and_no_socket_are_told_apart_and_leak_nothing() {
    for (side, fault, expect) in [
        (Side::Outside, BindFault::Taken, RelayFault::NoPorts),
        (Side::Inside, BindFault::Taken, RelayFault::NoPorts),
        (Side::Outside, BindFault::System, RelayFault::System),
        (Side::Inside, BindFault::System, RelayFault::System),
    ] {
        let mut rig = Rig::new();
        rig.table.handle_order(Order::Open { relay: RelayId(1), spec: spec() }, at(0));
        let actions = rig.bind(|asked, _| if asked == side { Err(fault) } else { Ok(()) }, 0);
        assert_eq!(rig.events(), [RelayEvent::Failed { relay: RelayId(1), fault: expect }]);
        assert_eq!(actions.last(), Some(&Action::Release { slot: 0 }));
        assert!(rig.table.is_empty());
        assert_eq!(rig.table.poll_timeout(), None);
        // a second later all four pairs are there again
        for relay in 2..6 {
            rig.order(Order::Open { relay: RelayId(relay), spec: spec() }, 1_000);
        }
        assert_eq!(rig.table.len(), 4);
        assert!(rig.events().iter().all(|event| matches!(event, RelayEvent::Ready { .. })));
        rig.order(Order::Open { relay: RelayId(6), spec: spec() }, 1_000);
        assert_eq!(rig.events(), [RelayEvent::Failed { relay: RelayId(6), fault: RelayFault::NoPorts }]);
    }
}

#[test]
fn a_closed_relay_hears_nothing_more_and_its_ports_rest() {
    let mut rig = Rig::open(spec());
    rig.send(OUT_RTP, PHONE, &rtp(1), 1);
    rig.send(OUT_RTP, STRANGER, &rtp(1), 1);
    rig.events();
    rig.order(Order::Close { relay: RelayId(1) }, 2);
    let received = [Traffic { packets: 1, bytes: 172, dropped: 1 }, Traffic::default()];
    assert_eq!(rig.events(), [RelayEvent::Closed { relay: RelayId(1), received }]);
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 3), Verdict::Drop(DropReason::NotOpen));
    // an order for what is gone is answered all the same
    let gone = RelayEvent::Closed { relay: RelayId(1), received: Default::default() };
    rig.order(Order::Close { relay: RelayId(1) }, 4);
    rig.update(spec(), 5);
    assert_eq!(rig.events(), [gone.clone(), gone]);
    // a relay that is closed while its ports are being bound gives them back too
    rig.table.handle_order(Order::Open { relay: RelayId(2), spec: spec() }, at(10));
    rig.table.handle_order(Order::Close { relay: RelayId(2) }, at(10));
    let actions = rig.bind(|_, _| Ok(()), 10);
    assert!(
        matches!(actions[..], [Action::Bind { slot: 0, .. }, Action::Release { slot: 0 }]),
        "{actions:?}"
    );
    assert!(matches!(rig.events()[..], [RelayEvent::Closed { relay: RelayId(2), .. }]));
}

#[test]
fn a_bind_that_is_answered_late_does_not_count_for_the_next_relay() {
    let mut rig = Rig::new();
    rig.table.handle_order(Order::Open { relay: RelayId(1), spec: spec() }, at(0));
    let Some(Action::Bind { slot, side, port }) = rig.table.poll_action() else { panic!("no bind") };
    rig.table.handle_order(Order::Close { relay: RelayId(1) }, at(0));
    rig.table.handle_order(Order::Open { relay: RelayId(2), spec: spec() }, at(0));
    rig.events();
    rig.table.on_bind(slot, side, port, Ok(()), at(0));
    rig.bind(|_, _| Ok(()), 0);
    let ready = rig.events();
    let [RelayEvent::Ready { relay: RelayId(2), ports }] = ready[..] else { panic!("{ready:?}") };
    assert_ne!(ports[0], port);
}

#[test]
fn an_open_that_comes_twice_is_answered_twice() {
    let mut rig = Rig::new();
    rig.order(Order::Open { relay: RelayId(1), spec: spec() }, 0);
    rig.order(Order::Open { relay: RelayId(1), spec: spec() }, 1);
    let events = rig.events();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0], events[1]);
    assert_eq!(rig.table.len(), 1);
}

#[test]
fn silence_is_told_once_and_exactly() {
    let silent = RelayEvent::Silent { relay: RelayId(1), idle: Duration::from_secs(30) };
    let mut rig = Rig::open(spec());
    rig.send(OUT_RTP, STRANGER, &rtp(1), 29_000);
    let told: Vec<_> = rig.run_to(29_999).into_iter().filter(|(_, event)| *event == silent).collect();
    assert!(told.is_empty(), "{told:?}");
    let told = |rig: &mut Rig, to| -> Vec<u64> {
        rig.run_to(to).into_iter().filter(|(_, event)| *event == silent).map(|(ms, _)| ms).collect()
    };
    assert_eq!(told(&mut rig, 100_000), [30_000]);
    assert!(matches!(rig.send(OUT_RTP, PHONE, &rtp(1), 100_500), Verdict::Forward { .. }));
    assert!(matches!(rig.send(IN_RTP, PBX, &rtp(1), 110_250), Verdict::Forward { .. }));
    assert_eq!(told(&mut rig, 200_000), [140_250]);
    // what could not be sent was not forwarded
    assert!(matches!(rig.send(IN_RTP, PBX, &rtp(1), 200_001), Verdict::Forward { .. }));
    rig.table.on_send_failed(IN_RTP, 172, DropReason::SendFailed);
    assert!(told(&mut rig, 300_000).is_empty());
    // a new specification is a new patience
    rig.update(RelaySpec { idle: Duration::from_secs(5), ..spec() }, 300_000);
    let silent = RelayEvent::Silent { relay: RelayId(1), idle: Duration::from_secs(5) };
    let told: Vec<_> = rig.run_to(400_000).into_iter().filter(|(_, event)| *event == silent).collect();
    assert_eq!(told, [(305_000, silent)]);
}

#[test]
fn counters_and_refused_addresses_are_told_once_a_second_while_they_change() {
    let mut rig = Rig::open(spec());
    for ms in 0..50 {
        rig.send(OUT_RTP, PHONE, &rtp(1), ms * 20);
        rig.send(OUT_RTP, STRANGER, &rtp(1), ms * 20);
    }
    rig.events();
    let received = [Traffic { packets: 50, bytes: 50 * 172, dropped: 50 }, Traffic::default()];
    assert_eq!(
        rig.run_to(10_000),
        [
            (1_000, RelayEvent::Stats { relay: RelayId(1), received }),
            (
                1_000,
                RelayEvent::Refused {
                    relay: RelayId(1),
                    side: Side::Outside,
                    reason: DropReason::Stranger,
                    count: 50,
                    sample: socket(STRANGER)
                }
            ),
        ]
    );
}

#[test]
fn every_reason_is_counted_where_it_comes_up() {
    let mut rig = Rig::open(spec());
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 1), forward(IN_RTP, PBX));
    rig.table.on_send_failed(OUT_RTP, 172, DropReason::SendBufferFull);
    rig.send(OUT_RTP, STRANGER, &rtp(1), 2);
    rig.send(OUT_RTP, PHONE, &[0; 4], 2);
    let drops = rig.table.drops();
    for reason in DropReason::ALL {
        let one = [DropReason::SendBufferFull, DropReason::Stranger, DropReason::TooShort].contains(&reason);
        assert_eq!(drops.of(reason), u64::from(one), "{reason}");
    }
    rig.events();
    rig.order(Order::Close { relay: RelayId(1) }, 3);
    let received = [Traffic { packets: 0, bytes: 0, dropped: 3 }, Traffic::default()];
    assert_eq!(rig.events(), [RelayEvent::Closed { relay: RelayId(1), received }]);
}

/// One thing that happens to a table with two relays.
#[derive(Clone, Debug)]
enum Step {
    Datagram { socket: usize, from: usize, bytes: Vec<u8>, fails: bool },
    Update { relay: u64, hold: bool, advertised: usize, relatch: u32, mux: bool },
    Reopen { relay: u64 },
    Wait { ms: u64 },
}

const SOURCES: [&str; 8] =
    [PHONE, PHONE_RTCP, PBX, PBX_RTCP, STRANGER, "192.0.2.1:5555", "127.0.0.1:9", "203.0.113.10:10002"];

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(rtp(1)),
        Just(rtp(2)),
        Just(rtcp()),
        prop::collection::vec(any::<u8>(), 0..40),
        (20_u8..=191, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(first, mut rest)| {
            rest.insert(0, first);
            rest
        }),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let datagram = (0_usize..10, 0..SOURCES.len(), any_bytes(), prop::bool::weighted(0.1))
        .prop_map(|(socket, from, bytes, fails)| Step::Datagram { socket, from, bytes, fails });
    let update = (1_u64..3, any::<bool>(), 0..SOURCES.len(), 0_u32..4, any::<bool>()).prop_map(
        |(relay, hold, advertised, relatch, mux)| Step::Update { relay, hold, advertised, relatch, mux },
    );
    prop_oneof![
        20 => datagram,
        2 => update,
        1 => (1_u64..3).prop_map(|relay| Step::Reopen { relay }),
        2 => (0_u64..3_000).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    /// Whatever happens: all that came was forwarded or counted as dropped, nothing goes where nothing may
    /// go, and what leaves a relay leaves it on the other side of the same relay.
    #[test]
    fn out_is_in_less_counted_drops(steps in prop::collection::vec(any_step(), 1..200)) {
        let mut rig = Rig::new();
        let mut next = 3;
        let mut open = [1_u64, 2];
        for relay in open {
            rig.order(Order::Open { relay: RelayId(relay), spec: spec() }, 0);
        }
        let (mut now, mut came, mut sent) = (0_u64, 0_u64, 0_u64);
        let mut totals = Traffic::default();
        for step in steps {
            match step {
                Step::Datagram { socket: index, from, bytes, fails } => {
                    let before = bytes.clone();
                    came += 1;
                    if let Verdict::Forward { socket: out, to } = rig.send(index, SOURCES[from], &bytes, now) {
                        prop_assert_eq!(&before, &bytes);
                        prop_assert_eq!(out / 4, index / 4);
                        prop_assert_ne!(out & 2, index & 2);
                        prop_assert!(to.port() != 0 && !to.ip().is_loopback());
                        prop_assert_ne!(to.ip().to_string(), "203.0.113.10");
                        if fails {
                            rig.table.on_send_failed(index, bytes.len(), DropReason::SendFailed);
                        } else {
                            sent += 1;
                        }
                    }
                }
                Step::Update { relay, hold, advertised, relatch, mux } => {
                    let mut spec = spec();
                    spec.legs[0].send = !hold;
                    spec.legs[0].rtcp_mux = mux;
                    spec.legs[0].relatch = relatch;
                    spec.legs[0].advertised_rtp = Some(socket(SOURCES[advertised]));
                    rig.order(Order::Update { relay: RelayId(open[relay as usize - 1]), spec }, now);
                }
                Step::Reopen { relay } => {
                    rig.order(Order::Close { relay: RelayId(open[relay as usize - 1]) }, now);
                    open[relay as usize - 1] = next;
                    rig.order(Order::Open { relay: RelayId(next), spec: spec() }, now);
                    next += 1;
                }
                Step::Wait { ms } => {
                    now += ms;
                    rig.run_to(now);
                }
            }
            for event in rig.events() {
                if let RelayEvent::Closed { received, .. } = event {
                    for traffic in received {
                        totals.packets += traffic.packets;
                        totals.dropped += traffic.dropped;
                    }
                }
            }
        }
        for relay in open {
            rig.order(Order::Close { relay: RelayId(relay) }, now);
        }
        for event in rig.events() {
            if let RelayEvent::Closed { received, .. } = event {
                for traffic in received {
                    totals.packets += traffic.packets;
                    totals.dropped += traffic.dropped;
                }
            }
        }
        let drops = rig.table.drops();
        prop_assert_eq!(totals.packets, sent);
        prop_assert_eq!(drops.total(), came - sent);
        prop_assert_eq!(totals.dropped, drops.total() - drops.of(DropReason::NotOpen));
        prop_assert!(rig.table.is_empty());
    }
}

/// Relays open fast enough that the place of one that ends is kept: two, and both have ended.
fn with_kept_places() -> Rig {
    let mut rig = Rig { table: RelayTable::new(TableConfig { spare_from: 2, ..config() }) };
    for relay in [RelayId(1), RelayId(2)] {
        rig.order(Order::Open { relay, spec: spec() }, 0);
    }
    for relay in [RelayId(1), RelayId(2)] {
        rig.table.handle_order(Order::Close { relay }, at(10));
        assert_eq!(rig.bind(|_, _| Ok(()), 10), [], "nothing is closed");
    }
    rig.events();
    rig
}

#[test]
fn a_relay_takes_a_kept_place_with_its_ports_and_starts_anew() {
    let mut rig = with_kept_places();
    assert!(rig.table.is_empty());
    assert_eq!(rig.send(OUT_RTP, PHONE, &rtp(1), 20), Verdict::Drop(DropReason::NotOpen));
    rig.table.handle_order(Order::Open { relay: RelayId(3), spec: spec() }, at(900));
    assert!(
        matches!(rig.bind(|_, _| Ok(()), 900)[..], [Action::Bind { .. }, Action::Bind { .. }]),
        "they rest"
    );
    rig.table.handle_order(Order::Open { relay: RelayId(4), spec: spec() }, at(1_100));
    assert_eq!(rig.bind(|_, _| Ok(()), 1_100), []);
    let events = rig.events();
    let [RelayEvent::Ready { ports: fresh, .. }, RelayEvent::Ready { relay: RelayId(4), ports: kept }] =
        events[..]
    else {
        panic!("{events:?}");
    };
    assert!(fresh.iter().zip(kept).all(|(one, other)| *one != other));
    // only in one of the two kept places is there a relay, which owes nothing to the one before
    let verdicts = [0, 1].map(|slot| rig.send(slot * SOCKETS_PER_RELAY + IN_RTP, PBX, &rtp(9), 1_200));
    let slot =
        verdicts.iter().position(|verdict| *verdict != Verdict::Drop(DropReason::NotOpen)).expect("open");
    assert_eq!(verdicts[1 - slot], Verdict::Drop(DropReason::NotOpen));
    rig.table.handle_order(Order::Close { relay: RelayId(4) }, at(1_300));
    let closed = rig.events().into_iter().find_map(|event| match event {
        RelayEvent::Closed { relay: RelayId(4), received } => Some(received),
        _ => None,
    });
    let counted = closed.map(|received| received.map(|traffic| traffic.packets + traffic.dropped));
    assert_eq!(counted, Some([0, 1]));
}

#[test]
fn a_relay_in_a_kept_place_never_feeds_itself() {
    let open = |named: Option<u16>| {
        let mut rig = with_kept_places();
        let mut spec = spec();
        if let Some(port) = named {
            spec.legs[1].advertised_rtp = Some(SocketAddr::new(config().faces[1], port));
        }
        rig.table.handle_order(Order::Open { relay: RelayId(3), spec }, at(2_000));
        assert_eq!(rig.bind(|_, _| Ok(()), 2_000), [], "in a kept place");
        let [RelayEvent::Ready { ports: [_, inside], .. }] = rig.events()[..] else {
            panic!("it is not open")
        };
        (rig, inside)
    };
    // the draw is the same each time
    let (_, own) = open(None);
    for (named, itself) in [(own, true), (own + 1, true), (own ^ 2, false)] {
        let (mut rig, inside) = open(Some(named));
        assert_eq!(inside, own);
        let verdicts = [0, 1].map(|slot| rig.send(slot * SOCKETS_PER_RELAY + OUT_RTP, PHONE, &rtp(1), 2_001));
        let forbidden = verdicts.contains(&Verdict::Drop(DropReason::ForbiddenDestination));
        assert_eq!(forbidden, itself, "{named}: {verdicts:?}");
    }
}

#[test]
fn kept_places_are_given_up_in_calm() {
    let mut rig = with_kept_places();
    rig.table.handle_timeout(at(1_000));
    assert_eq!(rig.table.poll_action(), None, "two in this second");
    assert_eq!(rig.table.poll_timeout(), Some(at(2_000)), "kept places are looked after");
    rig.table.handle_timeout(at(2_000));
    assert_eq!(rig.bind(|_, _| Ok(()), 2_000), [Action::Release { slot: 0 }, Action::Release { slot: 1 }]);
    assert_eq!(rig.table.poll_timeout(), None);
}

#[test]
fn a_kept_place_serves_where_no_other_port_is_left() {
    let mut rig = with_kept_places();
    for relay in 3..=4 {
        rig.order(Order::Open { relay: RelayId(relay), spec: spec() }, 20);
    }
    rig.order(Order::Open { relay: RelayId(5), spec: spec() }, 500);
    for relay in 6..=7 {
        rig.order(Order::Open { relay: RelayId(relay), spec: spec() }, 1_500);
    }
    let outcomes: Vec<_> =
        rig.events().iter().map(|event| matches!(event, RelayEvent::Ready { .. })).collect();
    assert_eq!(
        outcomes,
        [true, true, false, true, true],
        "of four pairs two are open, two rested from 1,010 ms on"
    );
}
