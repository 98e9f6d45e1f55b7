//! Datagrams: to the core, from the core, STUN, and what is dropped.

use std::net::{Ipv6Addr, UdpSocket};

use wire::net::Transport;
use wire::stun;

use super::*;

/// A plain Binding request with the transaction id 1, 1, 1, ...
pub(super) const BINDING_REQUEST: [u8; 20] =
    [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

fn phone(source: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((source, 0)).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

#[test]
fn datagrams_both_ways() {
    let mut rig = Rig::start(outside(&[ListenerKind::Udp { stun: true }]));
    let (flow, address) = (rig.net.listening()[0].flow, rig.address(0));
    assert!(
        matches!(rig.next(), NetEvent::Listening { flow: of, local, transport: Transport::Udp, side: Side::Outside }
        if of == flow && local == address)
    );
    let phone = phone(source(1));
    phone.send_to(b"", address).unwrap();
    phone.send_to(b"OPTIONS sip:a SIP/2.0\r\n\r\n", address).unwrap();
    let (of, from, bytes) = rig.wait(|event| match event {
        NetEvent::Bytes { flow, from, bytes } => Some((flow, from, bytes)),
        _ => None,
    });
    assert_eq!(
        (of, from, &bytes[..]),
        (flow, phone.local_addr().unwrap(), &b"OPTIONS sip:a SIP/2.0\r\n\r\n"[..])
    );
    assert_eq!(rig.net.counters().read(Count::DatagramEmpty), 1);
    rig.net.send(flow, from, Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n"));
    let mut answer = [0; 100];
    let (length, sender) = phone.recv_from(&mut answer).unwrap();
    assert_eq!((&answer[..length], sender), (&b"SIP/2.0 200 OK\r\n\r\n"[..], address));
}

#[test]
fn stun_is_answered_at_once_and_never_queued() {
    let kinds = [ListenerKind::Udp { stun: true }, ListenerKind::Stun, ListenerKind::Udp { stun: false }];
    let mut rig = Rig::start(outside(&kinds));
    let phone = phone(source(1));
    for listener in [0, 1] {
        phone.send_to(&BINDING_REQUEST, rig.address(listener)).unwrap();
        let mut answer = [0; 100];
        let (length, sender) = phone.recv_from(&mut answer).unwrap();
        assert_eq!(sender, rig.address(listener));
        assert_eq!(stun::mapped_address(&answer[..length], &[1; 12]), Some(phone.local_addr().unwrap()));
    }
    phone.send_to(&BINDING_REQUEST, rig.address(2)).unwrap();
    phone.send_to(&BINDING_REQUEST[..19], rig.address(0)).unwrap();
    phone.send_to(b"OPTIONS sip:a SIP/2.0\r\n\r\n", rig.address(1)).unwrap();
    rig.counted(Count::StunIgnored, 3);
    assert_eq!(rig.net.counters().read(Count::StunAnswered), 2);
    assert!(rig.receiver.try_recv().is_none_or(|event| !matches!(event, NetEvent::Bytes { .. })));
}

#[test]
fn a_flood_of_datagrams_is_cut_and_reported() {
    let mut rig = Rig::start(outside(&[ListenerKind::Udp { stun: true }]));
    let phone = phone(source(1));
    let mut sent = 0;
    while rig.net.counters().read(Count::DatagramRate) < 100 {
        phone.send_to(b"x", rig.address(0)).unwrap();
        sent += 1;
        assert!(sent < 2_000_000, "no limit reached");
    }
    let refused = rig.wait(|event| match event {
        NetEvent::Flood { source: flooder, transport: Transport::Udp, refused, .. } => {
            assert_eq!(flooder, phone.local_addr().unwrap());
            Some(refused)
        }
        _ => None,
    });
    assert!(refused >= 1);
}

/// Waits until a counter has reached a value, and leaves all events where they are.
fn reached(rig: &Rig, count: Count, many: u64) {
    while rig.net.counters().read(count) < many {
        std::thread::yield_now();
    }
}

#[test]
fn a_registered_source_overtakes_strangers_and_finds_room_without_them() {
    let limits = LaneLimits { events: 10, bytes: 1 << 20 };
    let mut rig = Rig::with_limits(outside(&[ListenerKind::Udp { stun: true }]), limits);
    let (flow, address) = (rig.net.listening()[0].flow, rig.address(0));
    // One house: a phone that has registered, and somebody else.
    let (stranger, known) = (phone(source(1)), phone(source(1)));
    rig.net.register_source(flow, known.local_addr().unwrap());
    for _ in 0..30 {
        stranger.send_to(b"x", address).unwrap();
    }
    reached(&rig, Count::CoreBusy, 20);
    known.send_to(b"registered", address).unwrap();
    stranger.send_to(b"x", address).unwrap();
    reached(&rig, Count::CoreBusy, 21);
    rig.net.unregister_source(flow, known.local_addr().unwrap());
    known.send_to(b"a stranger again", address).unwrap();
    reached(&rig, Count::CoreBusy, 22);
    let kept: Vec<_> = (0..11).map(|_| rig.bytes()).collect();
    assert_eq!(kept[0], "registered");
    assert!(kept[1..].iter().all(|bytes| bytes == "x"), "{kept:?}");
}

#[test]
fn a_registered_source_has_a_rate_of_its_own() {
    let mut rig = Rig::start(outside(&[ListenerKind::Udp { stun: true }, ListenerKind::Tcp]));
    let (flow, address) = (rig.net.listening()[0].flow, rig.address(0));
    let (flooder, known) = (phone(source(1)), phone(source(1)));
    rig.net.register_source(flow, known.local_addr().unwrap());
    let stream = rig.net.listening()[1].flow;
    rig.net.register_source(stream, known.local_addr().unwrap());
    assert_eq!(rig.net.shared.registered_sources.admit(stream, known.local_addr().unwrap()), None);
    while rig.net.counters().read(Count::DatagramRate) == 0 {
        flooder.send_to(b"x", address).unwrap();
    }
    for _ in 0..1_000 {
        known.send_to(b"registered", address).unwrap();
        rig.wait(|event| {
            matches!(event, NetEvent::Bytes { bytes, .. } if bytes == "registered").then_some(())
        });
    }
}

#[test]
fn a_long_datagram_is_dropped_outside_and_read_inside() {
    let kind = ListenerKind::Udp { stun: true };
    let listeners = vec![listener(kind, Side::Outside), listener(kind, Side::Inside)];
    let mut rig = Rig::start(NetConfig { listeners, ..NetConfig::default() });
    let phone = phone(source(1));
    let longest = vec![b'x'; 8 * 1024];
    let longer = vec![b'x'; 8 * 1024 + 1];
    phone.send_to(&longer, rig.address(0)).unwrap();
    phone.send_to(&longest, rig.address(0)).unwrap();
    assert_eq!(rig.bytes(), longest);
    assert_eq!(rig.net.counters().read(Count::DatagramTooLong), 1);
    phone.send_to(&longer, rig.address(1)).unwrap();
    assert_eq!(rig.bytes(), longer);
}

#[test]
fn the_inside_face_has_no_rate() {
    let mut rig = Rig::start(NetConfig {
        listeners: vec![listener(ListenerKind::Udp { stun: true }, Side::Inside)],
        ..NetConfig::default()
    });
    let pbx = phone(source(1));
    for _ in 0..3_000 {
        pbx.send_to(b"x", rig.address(0)).unwrap();
        assert_eq!(&rig.bytes()[..], b"x");
    }
    assert_eq!(rig.net.counters().read(Count::DatagramRate), 0);
    pbx.send_to(&BINDING_REQUEST, rig.address(0)).unwrap();
    rig.counted(Count::StunIgnored, 1);
}

#[test]
fn a_busy_core_drops_datagrams() {
    let limits = LaneLimits { events: 10, bytes: 1 << 20 };
    let mut rig = Rig::with_limits(outside(&[ListenerKind::Udp { stun: true }]), limits);
    let phone = phone(source(1));
    let counters = rig.net.counters();
    for sent in 1..=200 {
        phone.send_to(b"x", rig.address(0)).unwrap();
        if sent > 10 && counters.read(Count::CoreBusy) > 0 {
            break;
        }
    }
    // All that can be dropped is, while nobody takes anything out.
    while counters.read(Count::CoreBusy) == 0 {
        std::thread::yield_now();
    }
    let kept = std::iter::from_fn(|| rig.receiver.try_recv())
        .filter(|event| matches!(event, NetEvent::Bytes { .. }))
        .count();
    assert!((10..=20).contains(&kept), "{kept} datagrams kept");
}

#[test]
fn one_socket_for_both_families() {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let kind = ListenerKind::Udp { stun: true };
    let listeners = vec![Listener { side: Side::Outside, kind, address }];
    let mut rig = Rig::start(NetConfig { listeners, ..NetConfig::default() });
    let phone = phone(source(1));
    phone.send_to(b"hello", (source(50), rig.address(0).port())).unwrap();
    let from = rig.wait(|event| match event {
        NetEvent::Bytes { from, .. } => Some(from),
        _ => None,
    });
    assert_eq!(from, phone.local_addr().unwrap());
    rig.net.send(rig.net.listening()[0].flow, from, Bytes::from_static(b"back"));
    let mut answer = [0; 10];
    assert_eq!(phone.recv(&mut answer).unwrap(), 4);
}
