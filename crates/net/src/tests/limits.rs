//! Blocked sources, floods, stalled handshakes: what a stranger can do to us.

use std::io::Write;
use std::net::UdpSocket;

use rustls::version::TLS13;
use wire::net::{HandshakeFault, Transport};

use super::pki::{Device, Pki};
use super::udp::BINDING_REQUEST;
use super::*;

#[test]
fn a_blocked_source_gets_not_a_byte() {
    let pki = Pki::new();
    let kinds = [ListenerKind::Tls, ListenerKind::Tcp, ListenerKind::Udp { stun: true }, ListenerKind::Stun];
    let mut rig = Rig::start(NetConfig {
        identity: Some(pki.identity(ClientAuth::CertificateOnly)),
        lists: lists(&[source(9)], &[], &[]),
        ..outside(&kinds)
    });
    for listener in [0, 1] {
        let mut client = connect_from(source(9), rig.address(listener));
        write_or_not(&mut client, b"OPTIONS sip:nm SIP/2.0\r\n\r\n");
        assert_eq!(read_to_close(&mut client), b"");
    }
    let blocked = UdpSocket::bind((source(9), 0)).unwrap();
    blocked.set_nonblocking(true).unwrap();
    for listener in [2, 3] {
        blocked.send_to(&BINDING_REQUEST, rig.address(listener)).unwrap();
        blocked.send_to(b"OPTIONS sip:nm SIP/2.0\r\n\r\n", rig.address(listener)).unwrap();
    }
    rig.counted(Count::BlockedDatagram, 4);
    rig.net.send(rig.net.listening()[2].flow, blocked.local_addr().unwrap(), Bytes::from_static(b"hello"));
    assert_eq!(rig.net.counters().read(Count::BlockedSend), 1);
    assert_eq!(rig.net.counters().read(Count::BlockedConnection), 2);
    assert_eq!(rig.net.counters().read(Count::StunAnswered), 0);
    let error = blocked.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

    // The others go on, and hear of nothing.
    let mut other = connect_from(source(8), rig.address(1));
    other.write_all(b"hello").unwrap();
    assert_eq!(&rig.bytes()[..], b"hello");
}

#[test]
fn a_block_ends_the_flows_that_are_not_spared() {
    let mut rig = Rig::start(outside(&[ListenerKind::Tcp]));
    let mut ended = connect_from(source(9), rig.address(0));
    let ended_flow = rig.opened();
    let mut spared = connect_from(source(9), rig.address(0));
    let spared_flow = rig.opened();
    rig.net.set_lists(lists(&[source(9)], &[], &[spared_flow]));
    spared.write_all(b"still here").unwrap();
    assert_eq!(&rig.bytes()[..], b"still here");
    ended.write_all(b"still here").unwrap();
    rig.wait(|event| match event {
        NetEvent::FlowClosed { flow } => {
            assert_eq!(flow, ended_flow);
            Some(())
        }
        NetEvent::Bytes { bytes, .. } => panic!("{bytes:?}"),
        _ => None,
    });
    assert_eq!(read_to_close(&mut ended), b"");
    assert_eq!(rig.net.counters().read(Count::BlockedStream), 1);
}

#[test]
fn a_flood_of_connections_is_cut_and_reported() {
    let mut rig = Rig::start(outside(&[ListenerKind::Tcp]));
    let port = rig.address(0).port();
    let clients: Vec<_> = (0..60).map(|_| connect_from(source(9), rig.address(0))).collect();
    let (mut opened, mut refused) = (0, 0);
    while opened + refused < 60 {
        match rig.next() {
            NetEvent::FlowOpened { .. } => opened += 1,
            NetEvent::Flood { source: flooder, transport, port: hit, refused: many } => {
                assert_eq!((flooder.ip(), transport, hit), (source(9), Transport::Tcp, port));
                refused += many;
            }
            NetEvent::Listening { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((20..60).contains(&opened), "{opened} of 60 passed");
    assert_eq!(rig.net.counters().read(Count::ConnectionRate), refused);
    // Another source is not touched by it.
    let _other = connect_from(source(8), rig.address(0));
    rig.opened();
    drop(clients);
}

#[test]
fn unregistered_connections_of_a_source_are_bounded() {
    let allowed = source(7);
    let mut rig =
        Rig::start(NetConfig { lists: lists(&[], &[allowed], &[]), ..outside(&[ListenerKind::Tcp]) });
    let mut clients = Vec::new();
    let mut flows = Vec::new();
    while flows.len() < 32 {
        clients.push(connect_from(source(9), rig.address(0)));
        let limited = rig.net.counters().read(Count::ConnectionRate);
        flows.extend(rig.wait(|event| match event {
            NetEvent::FlowOpened { flow, .. } => Some(Some(flow)),
            NetEvent::Flood { .. } => Some(None),
            _ => None,
        }));
        assert!(limited < 10_000);
    }
    let refused_before = rig.net.counters().read(Count::UnregisteredOfSource);
    let knock = |rig: &mut Rig| {
        // Until the rate lets it through to the limit in question.
        for _ in 0..2_000 {
            let before = rig.net.counters().read(Count::UnregisteredOfSource);
            let mut client = connect_from(source(9), rig.address(0));
            assert_eq!(read_to_close(&mut client), b"");
            if rig.net.counters().read(Count::UnregisteredOfSource) > before {
                return;
            }
            let _event = rig.recv(Duration::from_millis(5));
        }
        panic!("never refused for the number of its connections");
    };
    knock(&mut rig);
    assert_eq!(refused_before, 0);
    let port = rig.address(0).port();
    rig.wait(|event| match event {
        NetEvent::SourceLimited { source: crowd, transport, port: hit, refused } => {
            assert_eq!((crowd.ip(), transport, hit), (source(9), Transport::Tcp, port));
            assert!(refused > 0);
            Some(())
        }
        _ => None,
    });
    rig.net.register_flow(flows[0]);
    clients[0].write_all(b"registered").unwrap();
    assert_eq!(&rig.bytes()[..], b"registered");
    let mut next = None;
    while next.is_none() {
        clients.push(connect_from(source(9), rig.address(0)));
        next = rig.wait(|event| match event {
            NetEvent::FlowOpened { flow, .. } => Some(Some(flow)),
            NetEvent::Flood { .. } => Some(None),
            _ => None,
        });
    }
    knock(&mut rig);
}

#[test]
fn stalled_handshakes_harm_nobody_and_end() {
    let pki = Pki::new();
    let good = pki.device_ca.device(&Device::default());
    let identity = Some(pki.identity(ClientAuth::CertificateOnly));
    let mut rig = Rig::start(NetConfig { identity, ..outside(&[ListenerKind::Tls]) });
    let config = pki.client(&TLS13, Some(&good));
    let mut hello = Vec::new();
    let name = "localhost".try_into().unwrap();
    ClientConnection::new(Arc::clone(&config), name).unwrap().write_tls(&mut hello).unwrap();
    // Nothing, a part of a record header, half a ClientHello, a whole one and then nothing.
    let stages = [0, 3, hello.len() / 2, hello.len()];
    let mut stalled = Vec::new();
    for host in 10..20 {
        for stage in stages {
            let mut client = connect_from(source(host), rig.address(0));
            client.write_all(&hello[..stage]).unwrap();
            stalled.push(client);
        }
    }
    let mut client = tls_client(&config, connect_from(source(1), rig.address(0)));
    client.write_all(b"hello").unwrap();
    assert_eq!(&rig.bytes()[..], b"hello");

    for _ in 0..stalled.len() {
        let fault = rig.wait(|event| match event {
            NetEvent::HandshakeFailed { fault, .. } => Some(fault),
            _ => None,
        });
        assert_eq!(fault, HandshakeFault::TimedOut);
    }
    for mut client in stalled {
        read_to_close(&mut client);
    }
    client.write_all(b"still here").unwrap();
    assert_eq!(&rig.bytes()[..], b"still here");
}

#[test]
fn unfinished_handshakes_of_a_source_are_a_flood() {
    let pki = Pki::new();
    let identity = Some(pki.identity(ClientAuth::CertificateOnly));
    let mut rig = Rig::start(NetConfig { identity, ..outside(&[ListenerKind::Tls]) });
    let mut stalled = Vec::new();
    while rig.net.counters().read(Count::UnfinishedHandshakes) == 0 {
        stalled.push(connect_from(source(9), rig.address(0)));
        // The rate lets in 20 a second: wait for it as for an event.
        let _event = rig.recv(Duration::from_millis(5));
        assert!(stalled.len() < 2_000, "no limit reached");
    }
    rig.counted(Count::Accepted, stalled.len() as u64);
    let read = |count| rig.net.counters().read(count);
    let kept = read(Count::Accepted) - read(Count::ConnectionRate) - read(Count::UnfinishedHandshakes);
    assert_eq!(kept, 32);
    rig.wait(|event| matches!(event, NetEvent::Flood { transport: Transport::Tls, .. }).then_some(()));
}

#[test]
fn a_stranger_that_talks_without_end_is_held_back_and_reported_until_he_registers() {
    const SENT: usize = 4 << 20;
    let mut rig = Rig::start(outside(&[ListenerKind::Tcp]));
    let address = rig.address(0);
    let mut client = connect_from(source(9), address);
    let writer = std::thread::spawn(move || client.write_all(&vec![b'x'; SENT]).map(|()| client));
    let flow = rig.opened();
    let mut received = 0;
    let flooder = rig.wait(|event| match event {
        NetEvent::Bytes { bytes, .. } => {
            assert!(bytes.len() <= 4096, "a bite of {} bytes", bytes.len());
            received += bytes.len();
            None
        }
        NetEvent::Flood { source, transport, port, .. } => Some((source.ip(), transport, port)),
        other => panic!("{other:?}"),
    });
    assert_eq!(flooder, (source(9), Transport::Tcp, address.port()));
    assert!((200_000..600_000).contains(&received), "{received} bytes were read");
    // Another stranger of another source is not touched by it.
    let mut other = connect_from(source(8), address);
    other.write_all(b"hello").unwrap();
    rig.wait(|event| match event {
        NetEvent::Bytes { bytes, flow: of, .. } if of == flow => {
            received += bytes.len();
            None
        }
        NetEvent::Bytes { bytes, .. } => {
            assert_eq!(&bytes[..], b"hello");
            Some(())
        }
        _ => None,
    });
    assert!(received < SENT / 2, "{received} bytes were read");
    rig.net.register_flow(flow);
    while received < SENT {
        received += rig.bytes().len();
    }
    assert_eq!(received, SENT);
    writer.join().unwrap().unwrap();
}
