//! Streams: order, backpressure, slow readers, closes, and connections that we open.

use std::io::{Read, Write};
use std::net::TcpListener;

use wire::net::Transport;

use super::pki::Pki;
use super::*;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect()
}

fn inside_config() -> NetConfig {
    NetConfig { inside: Some(source(200)), ..NetConfig::default() }
}

#[test]
fn bytes_then_the_close() {
    let mut rig = Rig::start(outside(&[ListenerKind::Tcp]));
    let mut client = connect_from(source(1), rig.address(0));
    let from = client.local_addr().unwrap();
    client.write_all(b"OPTIONS sip:a SIP/2.0\r\n\r\n").unwrap();
    drop(client);
    let mut seen = Vec::new();
    let flow = rig.opened();
    rig.wait(|event| match event {
        NetEvent::Bytes { flow: of, from: sender, bytes } => {
            assert_eq!((of, sender), (flow, from));
            seen.extend_from_slice(&bytes);
            None
        }
        NetEvent::FlowClosed { flow: closed } => {
            assert_eq!(closed, flow);
            Some(())
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(seen, b"OPTIONS sip:a SIP/2.0\r\n\r\n");
    assert_eq!(rig.net.flows(), 0);
    rig.net.send(flow, from, Bytes::from_static(b"late"));
    assert_eq!(rig.net.counters().read(Count::SendNoFlow), 1);
}

#[test]
fn a_close_of_ours_comes_after_our_last_bytes() {
    let mut rig = Rig::start(outside(&[ListenerKind::Tcp]));
    let mut client = connect_from(source(1), rig.address(0));
    // Bytes that nobody reads any more must not turn the close into a reset.
    client.write_all(&pattern(3000)).unwrap();
    let flow = rig.opened();
    let answer = pattern(200_000);
    rig.net.send(flow, rig.address(0), Bytes::from(answer.clone()));
    rig.net.close_flow(flow);
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received, answer);
    drop(client);
    assert!(rig.recv(Duration::from_millis(50)).is_none_or(|event| matches!(event, NetEvent::Bytes { .. })));
}

#[test]
fn a_full_lane_stops_the_reading_and_loses_nothing() {
    let limits = LaneLimits { events: 8, bytes: 16 * 1024 };
    let mut rig = Rig::with_limits(outside(&[ListenerKind::Tcp]), limits);
    let sent = pattern(4_000_000);
    let mut client = connect_from(source(1), rig.address(0));
    let writer = {
        let sent = sent.clone();
        std::thread::spawn(move || client.write_all(&sent).map(|()| client))
    };
    // Nobody reads yet; the thread still serves others.
    let flow = rig.opened();
    rig.net.register_flow(flow);
    rig.net.send(flow, rig.address(0), Bytes::from_static(b"out"));
    let mut received = Vec::new();
    while received.len() < sent.len() {
        received.extend_from_slice(&rig.bytes());
    }
    assert_eq!(received, sent);
    let mut client = writer.join().unwrap().unwrap();
    let mut out = [0; 3];
    client.read_exact(&mut out).unwrap();
    assert_eq!(&out, b"out");
}

#[test]
fn a_flow_that_registers_keeps_the_order_of_its_bytes() {
    let mut rig = Rig::start(outside(&[ListenerKind::Tcp]));
    let sent = pattern(2_000_000);
    let mut client = connect_from(source(1), rig.address(0));
    let writer = {
        let sent = sent.clone();
        std::thread::spawn(move || client.write_all(&sent).map(|()| client))
    };
    let flow = rig.opened();
    let mut received = Vec::new();
    while received.len() < sent.len() {
        if received.len() > 100_000 {
            rig.net.register_flow(flow);
        }
        received.extend_from_slice(&rig.bytes());
    }
    assert_eq!(received, sent);
    writer.join().unwrap().unwrap();
}

#[test]
fn a_slow_reader_is_closed_and_blocks_nobody() {
    let mut rig = Rig::start(outside(&[ListenerKind::Tcp]));
    let slow = connect_from(source(1), rig.address(0));
    let slow_flow = rig.opened();
    let mut other = connect_from(source(2), rig.address(0));
    let other_flow = rig.opened();
    let chunk = Bytes::from(pattern(64 * 1024));
    while rig.net.counters().read(Count::WriterOverflow) == 0 {
        rig.net.send(slow_flow, rig.address(0), chunk.clone());
        rig.net.send(other_flow, rig.address(0), Bytes::from_static(b"x"));
        other.read_exact(&mut [0]).unwrap();
    }
    rig.closed(slow_flow);
    other.write_all(b"still here").unwrap();
    assert_eq!(&rig.bytes()[..], b"still here");
    drop(slow);
}

#[test]
fn what_waits_in_a_tls_session_reaches_a_slow_reader() {
    let pki = Pki::new();
    let identity = Some(pki.identity(ClientAuth::CertificateOrDigest));
    let mut rig = Rig::start(NetConfig { identity, ..outside(&[ListenerKind::Tls]) });
    // Small segments and a small window: the rest waits in the session, to which nothing more is written.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&rig.address(0).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut client = tls_client(&pki.client(&rustls::version::TLS13, None), stream);
    client.write_all(b"ping").unwrap();
    let flow = rig.opened();
    assert_eq!(&rig.bytes()[..], b"ping");
    let sent = pattern(100_000);
    rig.net.send(flow, rig.address(0), Bytes::from(sent.clone()));
    let mut received = vec![0; sent.len()];
    client.read_exact(&mut received).unwrap();
    assert_eq!(received, sent);
}

#[test]
fn we_open_connections_from_the_inside_address() {
    let pbx = TcpListener::bind((source(100), 0)).unwrap();
    let to = pbx.local_addr().unwrap();
    let mut rig = Rig::start(inside_config());
    let flow = FlowId(FlowId::OPENED_BY_BORDER + 5);
    rig.net.open_flow(flow, Transport::Tcp, to);
    rig.net.send(flow, to, Bytes::from_static(b"REGISTER"));
    let (mut accepted, from) = pbx.accept().unwrap();
    accepted.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(from.ip(), source(200));
    rig.wait(|event| match event {
        NetEvent::FlowOpened { flow: opened, side, tuple, device } => {
            assert_eq!((opened, side, device), (flow, Side::Inside, None));
            assert_eq!((tuple.transport, tuple.local, tuple.remote), (Transport::Tcp, from, to));
            Some(())
        }
        _ => None,
    });
    let mut request = [0; 8];
    accepted.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"REGISTER");
    accepted.write_all(b"401").unwrap();
    assert_eq!(&rig.bytes()[..], b"401");
    drop(accepted);
    rig.closed(flow);
}

#[test]
fn what_cannot_be_opened_fails() {
    let closed = TcpListener::bind((source(100), 0)).unwrap().local_addr().unwrap();
    let mut rig = Rig::start(inside_config());
    for (number, transport) in [(1, Transport::Tcp), (2, Transport::Tls), (3, Transport::Udp)] {
        let flow = FlowId(FlowId::OPENED_BY_BORDER + number);
        rig.net.open_flow(flow, transport, closed);
        rig.wait(|event| match event {
            NetEvent::FlowFailed { flow: failed } => {
                assert_eq!(failed, flow);
                Some(())
            }
            _ => None,
        });
    }
    assert_eq!(rig.net.flows(), 0);
}

#[test]
fn the_inside_face_goes_before_strangers() {
    let mut rig = Rig::start(NetConfig {
        listeners: vec![
            listener(ListenerKind::Tcp, Side::Outside),
            listener(ListenerKind::Tcp, Side::Inside),
        ],
        ..NetConfig::default()
    });
    let mut stranger = connect_from(source(1), rig.address(0));
    let strangers_flow = rig.opened();
    stranger.write_all(b"stranger").unwrap();
    let mut pbx = connect_from(source(2), rig.address(1));
    pbx.write_all(b"pbx").unwrap();
    // Whatever came first: once both wait, the inside one is read first.
    let mut order = Vec::new();
    while order.len() < 2 {
        if let NetEvent::Bytes { flow, .. } = rig.next() {
            order.push(flow == strangers_flow);
        }
    }
    order.sort_unstable();
    assert_eq!(order, [false, true]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind((source(1), 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let (lanes, _receiver) = lanes::<u32>(LaneLimits::default());
    let listeners = vec![Listener { side: Side::Outside, kind: ListenerKind::Tcp, address }];
    let error = Net::bind(NetConfig { listeners, ..NetConfig::default() }, Arc::clone(&lanes)).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address} (tcp): Address already in use"));
    let listeners = vec![Listener { side: Side::Outside, kind: ListenerKind::Tls, address }];
    let error = Net::bind(NetConfig { listeners, ..NetConfig::default() }, lanes).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {address} (tls): there is no server certificate")
    );
}

#[test]
fn the_end_of_net_ends_its_connections_and_frees_its_ports() {
    let mut rig = Rig::start(outside(&[ListenerKind::Tcp, ListenerKind::Udp { stun: true }]));
    let address = rig.address(0);
    let mut client = connect_from(source(1), address);
    rig.opened();
    drop(rig);
    assert_eq!(read_to_close(&mut client), b"");
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}
