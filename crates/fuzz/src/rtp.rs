//! A relay under datagrams of every kind from everybody: each is passed on or counted, and nothing is sent to
//! who was neither advertised nor heard.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use media::{
    Action, LatchPolicy, LegSpec, Order, Payload, RelayId, RelaySpec, RelayTable, SOCKETS_PER_RELAY,
    TableConfig, Verdict,
};
use wire::clock::Instant;
use wire::net::{Prefix, PrefixSet, Side};
use wire::rtp::{Datagram, RtpHeader};

const FACES: [[u8; 4]; 2] = [[203, 0, 113, 10], [10, 77, 0, 1]];
/// Where both peers say that they are.
const ADVERTISED: [([u8; 4], u16); 2] = [([198, 51, 100, 7], 40_000), ([10, 77, 0, 2], 30_000)];
const BLOCKED: [u8; 4] = [192, 0, 2, 66];

/// Who may send: the peers, a NAT's other port, strangers, a blocked one, ourselves.
fn sources() -> [SocketAddr; 8] {
    let at = |ip: [u8; 4], port: u16| SocketAddr::new(IpAddr::from(ip), port);
    let [(phone, phone_port), (pbx, pbx_port)] = ADVERTISED;
    [
        at(phone, phone_port),
        at(phone, phone_port + 1),
        at(phone, 50_001),
        at(pbx, pbx_port),
        at(pbx, pbx_port + 1),
        at([192, 0, 2, 9], 9),
        at(BLOCKED, 6),
        at(FACES[0], 10_000),
    ]
}

/// The first byte chooses the kind of relay; then a head of two bytes (who sends where and when, and how much)
/// and the datagram, over and over.
pub(crate) fn run(bytes: &[u8]) {
    let Some((kind, mut rest)) = bytes.split_first() else { return };
    let payload = if kind & 1 == 0 { Payload::Rtp } else { Payload::Datagram };
    let mut now = Instant::ZERO + Duration::from_secs(1);
    let mut table = open(payload, kind & 2 != 0, now);
    let blocked = PrefixSet::from_prefixes([Prefix::single(IpAddr::from(BLOCKED))]);
    table.set_blocked(Arc::new(blocked), now);
    let mut heard: Vec<SocketAddr> = Vec::new();
    let (mut passed, mut all) = (0, 0);
    while let [head, length, after @ ..] = rest {
        let (datagram, next) = after.split_at_checked(usize::from(*length)).unwrap_or((after, &[]));
        rest = next;
        now += Duration::from_millis(1 << (head >> 5 << 1));
        let from = sources()[usize::from(head >> 2 & 7)];
        let socket = usize::from(head & 3);
        all += 1;
        heard.push(from);
        if let Verdict::Forward { socket: out, to } = table.on_datagram(socket, from, datagram, now) {
            passed += 1;
            judge(payload, (socket, out), (from, to), datagram, &heard);
        }
        if table.poll_timeout().is_some_and(|at| at <= now) {
            table.handle_timeout(now);
            assert!(table.poll_timeout().is_none_or(|at| at > now), "the next timeout lies ahead");
        }
        while table.poll_event().is_some() {}
    }
    assert_eq!(table.drops().total() + passed, all, "each datagram is passed on or counted");
}

fn judge(
    payload: Payload,
    sockets: (usize, usize),
    (from, to): (SocketAddr, SocketAddr),
    datagram: &[u8],
    heard: &[SocketAddr],
) {
    let class = Datagram::classify(datagram);
    assert!(class != Datagram::Stun && !datagram.is_empty());
    if payload == Payload::Rtp {
        assert_ne!(class, Datagram::Other);
        assert!(class != Datagram::Rtp || datagram.len() >= RtpHeader::LEN_MIN);
    }
    assert_ne!(sockets.0 / 2, sockets.1 / 2, "to the other side");
    assert_ne!(from.ip(), IpAddr::from(BLOCKED), "a blocked source is not learned");
    let inside = sockets.1 / 2 == Side::Inside.index();
    assert!(inside || is_advertised(Side::Inside, from), "{from} inside was not advertised");
    let known = match inside {
        true => is_advertised(Side::Inside, to),
        false => is_advertised(Side::Outside, to) || heard.contains(&to),
    };
    assert!(known, "{to} was neither advertised nor heard");
    assert!(!FACES.iter().any(|face| to.ip() == IpAddr::from(*face)), "nothing is sent to ourselves");
}

/// Whether the peer of that side said that it is there, for RTP or for RTCP.
fn is_advertised(side: Side, address: SocketAddr) -> bool {
    let (ip, port) = ADVERTISED[side.index()];
    address.ip() == IpAddr::from(ip) && (address.port() == port || address.port() == port + 1)
}

fn open(payload: Payload, mux: bool, now: Instant) -> RelayTable {
    let mut table = RelayTable::new(TableConfig {
        faces: FACES.map(IpAddr::from),
        ports: [10_000..=10_019, 20_000..=20_019],
        forbidden: [PrefixSet::default(), PrefixSet::default()],
        seed: 1,
        spare_from: usize::MAX,
    });
    let leg = |(ip, port): ([u8; 4], u16), signalling: bool| LegSpec {
        advertised_rtp: Some(SocketAddr::new(IpAddr::from(ip), port)),
        advertised_rtcp: None,
        rtcp_mux: mux,
        signalling_source: signalling.then(|| IpAddr::from(ip)),
        spared: false,
        latch: if signalling { LatchPolicy::Ranked } else { LatchPolicy::Advertised },
        send: true,
        relatch: 0,
    };
    let spec = RelaySpec {
        legs: [leg(ADVERTISED[0], true), leg(ADVERTISED[1], false)],
        payload,
        idle: Duration::from_secs(30),
        generation: 1,
    };
    table.handle_order(Order::Open { relay: RelayId(1), spec }, now);
    while let Some(action) = table.poll_action() {
        if let Action::Bind { slot, side, port } = action {
            assert!(slot < SOCKETS_PER_RELAY);
            table.on_bind(slot, side, port, Ok(()), now);
        }
    }
    table
}
