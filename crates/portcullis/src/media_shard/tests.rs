//! The shard on real sockets, all on loopback addresses of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};

use media::{LatchPolicy, LegSpec, Payload, RelayFault, RelayId, RelaySpec, SourceRank};
use wire::net::{Prefix, Side};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

#[expect(
    clippy::disallowed_methods,
    reason = "the shard needs a clock that runs, and the test has none from outside"
)]
fn clock() -> impl Fn() -> Instant + Send + Clone + 'static {
    let started = std::time::Instant::now();
    move || Instant::ZERO + started.elapsed()
}

/// Addresses of one test: 127.77.n.x, which no other test uses.
struct Net(u8);

impl Net {
    fn host(&self, last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 77, self.0, last))
    }

    fn config(&self) -> TableConfig {
        TableConfig {
            faces: [self.host(2), self.host(3)],
            ports: [40_000..=40_019, 50_000..=50_019],
            forbidden: Default::default(),
            seed: 7,
            spare_from: usize::MAX,
        }
    }

    /// A socket of a peer, on a port that the system chose.
    fn peer(&self, last: u8) -> UdpSocket {
        let socket = UdpSocket::bind((self.host(last), 0)).expect("bind a peer");
        socket.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        socket
    }
}

struct Rig {
    shard: Shard,
    /// Tells when an order is given.
    clock: Box<dyn Fn() -> Instant>,
    events: Receiver<RelayEvent>,
}

impl Rig {
    fn start(config: TableConfig, clock: impl Fn() -> Instant + Send + 'static, blocks: PrefixSet) -> Self {
        let sets = AddressSets::default();
        sets.blocked.store(Arc::new(blocks));
        Self::start_with(config, clock, sets)
    }

    fn start_with(
        config: TableConfig,
        clock: impl Fn() -> Instant + Send + 'static,
        sets: AddressSets,
    ) -> Self {
        let (told, events) = channel();
        let hear = Box::new(move |event| told.send(event).unwrap_or_default());
        let shard = Shard::spawn("shard".to_owned(), config, clock, sets, hear).expect("spawn");
        Self { shard, clock: Box::new(self::clock()), events }
    }

    fn order(&self, order: Order) -> Result<(), OrderRefused> {
        self.shard.order(order, (self.clock)())
    }

    fn next(&self) -> RelayEvent {
        self.events.recv_timeout(PATIENCE).expect("an event in time")
    }

    /// The next event that is no count.
    fn next_change(&self) -> RelayEvent {
        loop {
            match self.next() {
                RelayEvent::Stats { .. } => {}
                event => return event,
            }
        }
    }

    fn open(&self, relay: u64, phone: SocketAddr, pbx: SocketAddr) -> [u16; 2] {
        let open = Order::Open { relay: RelayId(relay), spec: spec(phone, pbx) };
        self.order(open).expect("order");
        match self.next_change() {
            RelayEvent::Ready { relay: RelayId(id), ports } if id == relay => ports,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until address sets that were stored before decide on every packet that is sent from now on: an order
    /// is answered at the end of a round, and each round reads the sets.
    fn apply_sets(&self) {
        self.order(Order::Close { relay: RelayId(u64::MAX) }).expect("order");
        while !matches!(self.next(), RelayEvent::Closed { relay: RelayId(u64::MAX), .. }) {}
    }

    fn close(&self, relay: u64) -> [media::Traffic; 2] {
        self.order(Order::Close { relay: RelayId(relay) }).expect("order");
        match self.next_change() {
            RelayEvent::Closed { received, .. } => received,
            other => panic!("{other:?}"),
        }
    }
}

fn spec(phone: SocketAddr, pbx: SocketAddr) -> RelaySpec {
    let leg = |advertised, latch| LegSpec {
        advertised_rtp: Some(advertised),
        advertised_rtcp: None,
        rtcp_mux: false,
        signalling_source: None,
        spared: false,
        latch,
        send: true,
        relatch: 0,
    };
    RelaySpec {
        legs: [leg(phone, LatchPolicy::Ranked), leg(pbx, LatchPolicy::Advertised)],
        payload: Payload::Rtp,
        idle: Duration::from_secs(30),
        generation: 1,
    }
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("local address")
}

fn rtp(sequence: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..172).map(|byte| byte ^ sequence).collect();
    bytes[..4].copy_from_slice(&[0x80, 0, 0, sequence]);
    bytes
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_048];
    let (len, from) = socket.recv_from(&mut buffer).expect("a packet in time");
    (buffer[..len].to_vec(), from)
}

#[test]
fn packets_pass_unchanged_from_the_right_ports() {
    let net = Net(1);
    let rig = Rig::start(net.config(), clock(), PrefixSet::default());
    let (phone, pbx) = (net.peer(10), net.peer(20));
    let [outside, inside] = rig.open(1, address(&phone), address(&pbx));
    for sequence in 0..200 {
        phone.send_to(&rtp(sequence), (net.host(2), outside)).expect("send");
        assert_eq!(receive(&pbx), (rtp(sequence), SocketAddr::new(net.host(3), inside)));
        pbx.send_to(&rtp(sequence), (net.host(3), inside)).expect("send");
        assert_eq!(receive(&phone), (rtp(sequence), SocketAddr::new(net.host(2), outside)));
    }
    // more than one round's share at once: all of it arrives, in order
    for sequence in 0..150 {
        phone.send_to(&rtp(sequence), (net.host(2), outside)).expect("send");
    }
    for sequence in 0..150 {
        assert_eq!(receive(&pbx).0, rtp(sequence));
    }
    for side in [Side::Outside, Side::Inside] {
        let event = rig.next_change();
        let RelayEvent::Learned { side: learned, rank: SourceRank::Advertised, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(learned, side);
    }
    let received = rig.close(1);
    assert_eq!(received.map(|traffic| (traffic.packets, traffic.dropped)), [(350, 0), (200, 0)]);
    // the ports are free, and rest
    for port in [outside, outside + 1] {
        UdpSocket::bind((net.host(2), port)).expect("a closed port is free");
    }
    let again = rig.open(2, address(&phone), address(&pbx));
    assert_ne!(again[0], outside);
}

#[test]
fn a_relay_that_ends_frees_its_own_ports_alone() {
    let net = Net(13);
    let rig = Rig::start(net.config(), clock(), PrefixSet::default());
    let (phone, pbx) = (net.peer(10), net.peer(20));
    let relays = [1, 2, 3].map(|relay| rig.open(relay, address(&phone), address(&pbx)));
    rig.close(2);
    for (relay, [outside, inside]) in (1..).zip(relays) {
        for (face, port) in [(2, outside), (2, outside + 1), (3, inside), (3, inside + 1)] {
            let free = UdpSocket::bind((net.host(face), port)).is_ok();
            assert_eq!(free, relay == 2, "port {port} of relay {relay}");
        }
    }
    for [outside, _] in [relays[0], relays[2]] {
        phone.send_to(&rtp(1), (net.host(2), outside)).expect("send");
        assert_eq!(receive(&pbx).0, rtp(1));
    }
}

#[test]
fn a_packet_that_follows_an_order_finds_it_done() {
    let net = Net(9);
    let rig = Rig::start(net.config(), clock(), PrefixSet::default());
    let (phone, pbx) = (net.peer(10), net.peer(20));
    let [outside, _] = rig.open(1, address(&phone), address(&pbx));
    let mut wanted = spec(address(&phone), address(&pbx));
    for sequence in 0..100 {
        // As at an answer: from then on audio may come, and the first of it shall not be lost.
        wanted.legs[Side::Inside.index()].send = false;
        wanted.generation += 1;
        rig.order(Order::Update { relay: RelayId(1), spec: wanted.clone() }).expect("order");
        // Not forwarded; with it the order is carried out.
        phone.send_to(&rtp(sequence), (net.host(2), outside)).expect("send");
        while !matches!(rig.next_change(), RelayEvent::Updated { .. }) {}
        wanted.legs[Side::Inside.index()].send = true;
        wanted.generation += 1;
        rig.order(Order::Update { relay: RelayId(1), spec: wanted.clone() }).expect("order");
        phone.send_to(&rtp(100 + sequence), (net.host(2), outside)).expect("send");
        assert_eq!(receive(&pbx).0, rtp(100 + sequence));
        while !matches!(rig.next_change(), RelayEvent::Updated { .. }) {}
    }
}

#[test]
fn an_order_counts_from_when_it_was_given() {
    let net = Net(11);
    let config = TableConfig { ports: [40_000..=40_001, 50_000..=50_001], ..net.config() };
    let time = clock();
    let rig = Rig::start(config, move || time() + Duration::from_secs(3_600), PrefixSet::default());
    let (phone, pbx) = (net.peer(10), net.peer(20));
    // By the shard's clock the relays have been silent for an hour.
    let next = || loop {
        match rig.next_change() {
            RelayEvent::Silent { .. } => {}
            event => return event,
        }
    };
    let mut given = Instant::ZERO;
    for relay in 1..=3 {
        // the only ports there are: they have rested, by the time that the orders tell
        given += 2 * media::REST;
        let open = Order::Open { relay: RelayId(relay), spec: spec(address(&phone), address(&pbx)) };
        rig.shard.order(open, given).expect("order");
        let ready = next();
        assert!(matches!(ready, RelayEvent::Ready { .. }), "{ready:?}");
        // and nobody wakes the shard for the end of a call
        rig.shard.order(Order::Close { relay: RelayId(relay) }, given).expect("order");
        let closed = next();
        assert!(matches!(closed, RelayEvent::Closed { .. }), "{closed:?}");
    }
}

#[test]
fn sockets_that_are_kept_serve_the_next_relay_and_what_came_meanwhile_does_not() {
    let net = Net(12);
    let rig = Rig::start(TableConfig { spare_from: 1, ..net.config() }, clock(), PrefixSet::default());
    let (phone, pbx) = (net.peer(10), net.peer(20));
    let ports = rig.open(1, address(&phone), address(&pbx));
    // each packet makes a round, which takes orders, then packets: after the second the first has been read
    for relay in [1, u64::MAX] {
        rig.order(Order::Close { relay: RelayId(relay) }).expect("order");
        phone.send_to(&rtp(1), (net.host(2), ports[0])).expect("send");
        assert!(matches!(rig.next_change(), RelayEvent::Closed { .. }));
        for (face, port) in [(2, ports[0]), (2, ports[0] + 1), (3, ports[1]), (3, ports[1] + 1)] {
            UdpSocket::bind((net.host(face), port)).expect_err("kept");
        }
    }
    let open = Order::Open { relay: RelayId(2), spec: spec(address(&phone), address(&pbx)) };
    rig.shard.order(open, (rig.clock)() + media::REST).expect("order");
    assert_eq!(rig.next_change(), RelayEvent::Ready { relay: RelayId(2), ports });
    phone.send_to(&rtp(2), (net.host(2), ports[0])).expect("send");
    assert_eq!(receive(&pbx), (rtp(2), SocketAddr::new(net.host(3), ports[1])));
    assert!(matches!(rig.next_change(), RelayEvent::Learned { relay: RelayId(2), .. }));
    let received = rig.close(2);
    assert_eq!(received.map(|traffic| (traffic.packets, traffic.dropped)), [(1, 0), (0, 0)]);
}

#[test]
fn ports_of_others_are_passed_over_and_the_end_is_told() {
    let net = Net(2);
    let rig = Rig::start(net.config(), clock(), PrefixSet::default());
    let (phone, pbx) = (net.peer(10), net.peer(20));
    // an RTCP port taken is a pair taken
    let _taken: Vec<_> = (40_001..=40_015)
        .step_by(2)
        .map(|port| UdpSocket::bind((net.host(2), port)).expect("bind"))
        .collect();
    let mut ports: Vec<_> = (1..=2).map(|id| rig.open(id, address(&phone), address(&pbx))[0]).collect();
    ports.sort_unstable();
    assert_eq!(ports, [40_016, 40_018]);
    rig.order(Order::Open { relay: RelayId(3), spec: spec(address(&phone), address(&pbx)) }).expect("order");
    assert_eq!(rig.next_change(), RelayEvent::Failed { relay: RelayId(3), fault: RelayFault::NoPorts });
}

#[test]
fn a_face_that_is_not_ours_is_the_systems_fault() {
    let net = Net(3);
    let mut config = net.config();
    config.faces[1] = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let rig = Rig::start(config, clock(), PrefixSet::default());
    let peer = address(&net.peer(10));
    rig.order(Order::Open { relay: RelayId(1), spec: spec(peer, peer) }).expect("order");
    assert_eq!(rig.next(), RelayEvent::Failed { relay: RelayId(1), fault: RelayFault::System });
    for port in 40_000..=40_019 {
        UdpSocket::bind((net.host(2), port)).expect("the outside pair was given back");
    }
}

#[test]
fn the_counts_of_the_last_relay_are_left_behind() {
    let net = Net(10);
    let rig = Rig::start(net.config(), clock(), PrefixSet::default());
    let (phone, pbx, stranger) = (net.peer(10), net.peer(20), net.peer(30));
    let [outside, _] = rig.open(1, address(&phone), address(&pbx));
    stranger.send_to(&rtp(1), (net.host(2), outside)).expect("send");
    phone.send_to(&rtp(2), (net.host(2), outside)).expect("send");
    assert_eq!(receive(&pbx).0, rtp(2), "the packet before it was seen");
    while !matches!(rig.next_change(), RelayEvent::Learned { .. }) {}
    rig.close(1);
    let drops = rig.shard.counts().read().drops;
    assert_eq!((drops.of(media::DropReason::Unproven), drops.total()), (1, 1));
}

#[test]
fn the_block_list_in_force_decides_who_is_learned() {
    let net = Net(4);
    let (phone, pbx) = (net.peer(10), net.peer(20));
    let blocked = PrefixSet::from_prefixes([Prefix::single(net.host(10))]);
    let sets = AddressSets::default();
    sets.blocked.store(Arc::new(blocked.clone()));
    let rig = Rig::start_with(net.config(), clock(), sets.clone());
    let [outside, inside] = rig.open(1, address(&phone), address(&pbx));
    phone.send_to(&rtp(1), (net.host(2), outside)).expect("send");
    // the counters say when the shard has seen it
    let seen = rig.next();
    let RelayEvent::Stats { received, .. } = seen else { panic!("{seen:?}") };
    assert_eq!((received[0].packets, received[0].dropped), (0, 1));
    assert_eq!(rig.shard.counts().read().drops.of(media::DropReason::Blocked), 1);
    sets.blocked.store(Arc::default());
    rig.apply_sets();
    phone.send_to(&rtp(2), (net.host(2), outside)).expect("send");
    assert_eq!(receive(&pbx), (rtp(2), SocketAddr::new(net.host(3), inside)));
    // whoever was learned meanwhile is forgotten again
    sets.blocked.store(Arc::new(blocked));
    rig.apply_sets();
    phone.send_to(&rtp(3), (net.host(2), outside)).expect("send");
    let traffic = std::iter::from_fn(|| match rig.next() {
        RelayEvent::Stats { received: [traffic, _], .. } => Some((traffic.packets, traffic.dropped)),
        _ => Some((0, 0)),
    });
    let seen = traffic.take(4).find(|(_, dropped)| *dropped > 1);
    assert_eq!(seen, Some((1, 2)));
}

#[test]
fn hosts_of_the_inside_that_are_found_out_later_get_nothing_more_from_outside() {
    let net = Net(10);
    let (phone, pbx) = (net.peer(10), net.peer(20));
    let sets = AddressSets::default();
    let rig = Rig::start_with(net.config(), clock(), sets.clone());
    let [_, inside] = rig.open(1, address(&phone), address(&pbx));
    pbx.send_to(&rtp(1), (net.host(3), inside)).expect("send");
    assert_eq!(receive(&phone).0, rtp(1));
    sets.hosts_inside.store(Arc::new(PrefixSet::from_prefixes([Prefix::single(net.host(10))])));
    rig.apply_sets();
    pbx.send_to(&rtp(2), (net.host(3), inside)).expect("send");
    loop {
        if let RelayEvent::Refused { reason, sample, .. } = rig.next() {
            assert_eq!((reason, sample), (media::DropReason::ForbiddenDestination, address(&phone)));
            break;
        }
    }
}

#[test]
fn a_panic_loses_the_relays_and_nothing_else() {
    let net = Net(5);
    let broken = Arc::new(AtomicBool::new(false));
    let (time, fuse) = (clock(), Arc::clone(&broken));
    let rig = Rig::start(
        net.config(),
        move || {
            assert!(!fuse.swap(false, Ordering::AcqRel), "told to panic");
            time()
        },
        PrefixSet::default(),
    );
    let (phone, pbx) = (net.peer(10), net.peer(20));
    for round in 0..2 {
        let lost = 2 * round + 1;
        let [outside, inside] = rig.open(lost, address(&phone), address(&pbx));
        broken.store(true, Ordering::Release);
        phone.send_to(&rtp(1), (net.host(2), outside)).expect("send");
        assert_eq!(
            rig.next_change(),
            RelayEvent::Failed { relay: RelayId(lost), fault: RelayFault::ShardLost }
        );
        for (face, port) in [(2, outside), (2, outside + 1), (3, inside), (3, inside + 1)] {
            UdpSocket::bind((net.host(face), port)).expect("the port of a lost relay is free");
        }
        rig.open(lost + 1, address(&phone), address(&pbx));
        rig.close(lost + 1);
    }
}

#[test]
fn too_many_panics_end_the_shard_and_orders_are_handed_back() {
    let net = Net(6);
    let rig = Rig::start(net.config(), || panic!("always"), PrefixSet::default());
    let order = Order::Close { relay: RelayId(1) };
    // the callback goes with the thread
    assert!(rig.events.recv_timeout(PATIENCE).is_err());
    assert_eq!(rig.order(order.clone()), Err(OrderRefused::Gone(Box::new(order))));
}

#[test]
fn a_queue_that_is_full_says_so() {
    let net = Net(7);
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().expect("gate");
    let (time, wait) = (clock(), Arc::clone(&gate));
    let rig = Rig::start(
        net.config(),
        move || {
            drop(wait.lock());
            time()
        },
        PrefixSet::default(),
    );
    let order = |relay| Order::Close { relay: RelayId(relay) };
    for relay in 0..ORDERS_QUEUED as u64 {
        rig.order(order(relay)).expect("room in the queue");
    }
    assert_eq!(rig.order(order(9_999)), Err(OrderRefused::QueueFull(Box::new(order(9_999)))));
    drop(closed);
    for relay in 0..ORDERS_QUEUED as u64 {
        assert_eq!(rig.next(), RelayEvent::Closed { relay: RelayId(relay), received: Default::default() });
    }
}

#[test]
fn dropping_the_shard_frees_every_port() {
    let net = Net(8);
    let rig = Rig::start(net.config(), clock(), PrefixSet::default());
    let peer = address(&net.peer(10));
    let [outside, inside] = rig.open(1, peer, peer);
    drop(rig.shard);
    for (face, port) in [(2, outside), (2, outside + 1), (3, inside), (3, inside + 1)] {
        UdpSocket::bind((net.host(face), port)).expect("free");
    }
}
