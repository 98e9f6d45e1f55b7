//! What one transaction costs from its first message to its end, parsing left out.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use divan::{Bencher, black_box};
use sip::{Hop, RequestOutcome, ResponseOutcome, TransactionEvent, TransactionLayer};
use wire::clock::Instant;
use wire::net::{FlowId, Transport};
use wire::sip::{Essentials, Message, Method};

const OPTIONS: &[u8] = b"OPTIONS sip:pbx@192.0.2.1 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKnashds8;rport\r\nMax-Forwards: 70\r\n\
    From: <sip:1001@example.com>;tag=1928301774\r\nTo: <sip:pbx@example.com>\r\n\
    Call-ID: a84b4c76e66710@192.0.2.9\r\nCSeq: 314159 OPTIONS\r\nContent-Length: 0\r\n\r\n";
const INVITE: &[u8] = b"INVITE sip:1002@192.0.2.9 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours\r\nMax-Forwards: 70\r\n\
    From: <sip:1001@example.com>;tag=1928301774\r\nTo: <sip:1002@example.com>\r\n\
    Call-ID: a84b4c76e66710@192.0.2.1\r\nCSeq: 1 INVITE\r\nContact: <sip:t@192.0.2.1>\r\n\
    Content-Length: 0\r\n\r\n";
const BUSY: &[u8] = b"SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours\r\n\
    From: <sip:1001@example.com>;tag=1928301774\r\nTo: <sip:1002@example.com>;tag=x\r\n\
    Call-ID: a84b4c76e66710@192.0.2.1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
const OK: &[u8] = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Longer than any transaction that has its final answer.
const LONG: Duration = Duration::from_secs(40);
/// Others that live meanwhile, so that the maps are not empty.
const OTHERS: u64 = 10_000;

fn main() {
    divan::main();
}

fn hop() -> Hop {
    Hop { flow: FlowId(1), remote: SocketAddr::from(([192, 0, 2, 9], 5060)), transport: Transport::Udp }
}

/// A layer in which [`OTHERS`] INVITEs ring.
fn busy_layer() -> TransactionLayer {
    let mut layer = TransactionLayer::new(100_000);
    let ringing = String::from_utf8_lossy(BUSY).replace("486 Busy Here", "180 Ringing");
    for number in 0..OTHERS {
        let branch = format!("z9hG4bK{number:016x}");
        let flow = Hop { flow: FlowId(number % 500 + 2), ..hop() };
        let sent = layer.request(flow, Method::Invite, &branch, Bytes::from_static(INVITE), Instant::ZERO);
        assert!(sent.is_some(), "there is room");
        let ringing = ringing.replace("z9hG4bKours", &branch);
        assert!(matches!(response(&mut layer, flow, ringing.as_bytes()), ResponseOutcome::Deliver(_)));
    }
    assert_eq!(drained(&mut layer), OTHERS);
    layer
}

/// A message of the constants above.
#[expect(
    clippy::expect_used,
    reason = "the constants are whole messages, and without one there is nothing to measure"
)]
fn parsed(bytes: &[u8]) -> (Message<'_>, Essentials<'_>) {
    let message = Message::parse(bytes).expect("a message");
    let essentials = message.essentials().expect("essentials");
    (message, essentials)
}

fn response(layer: &mut TransactionLayer, hop: Hop, bytes: &[u8]) -> ResponseOutcome {
    let (message, essentials) = parsed(bytes);
    layer.receive_response(hop, &message, &essentials, Instant::ZERO)
}

/// Takes all events; how many there were.
fn drained(layer: &mut TransactionLayer) -> u64 {
    let mut events = 0;
    while let Some(event) = layer.poll() {
        black_box::<TransactionEvent>(event);
        events += 1;
    }
    events
}

/// A request of the peer: taken, answered, forgotten when timer J ends.
#[divan::bench(sample_size = 20, sample_count = 200)]
fn non_invite_server(bencher: Bencher<'_, '_>) {
    let mut layer = busy_layer();
    let (message, essentials) = parsed(OPTIONS);
    let mut now = Instant::ZERO;
    bencher.bench_local(|| {
        let outcome = layer.receive_request(hop(), black_box(&message), &essentials, now);
        let answered = match outcome {
            RequestOutcome::New(id) => layer.respond(id, 200, Bytes::from_static(OK), now),
            _ => false,
        };
        assert!(answered, "not new: {outcome:?}");
        now += LONG;
        layer.handle_timeout(now);
        assert_eq!(drained(&mut layer), 2, "the answer and the end");
    });
}

/// An INVITE of ours: sent, refused, acknowledged, forgotten when timer D ends.
#[divan::bench(sample_size = 20, sample_count = 200)]
fn invite_client(bencher: Bencher<'_, '_>) {
    let mut layer = busy_layer();
    let (message, essentials) = parsed(BUSY);
    let mut now = Instant::ZERO;
    bencher.bench_local(|| {
        let sent = layer.request(hop(), Method::Invite, "z9hG4bKours", Bytes::from_static(INVITE), now);
        assert!(sent.is_some(), "there is room");
        let outcome = layer.receive_response(hop(), black_box(&message), &essentials, now);
        assert!(matches!(outcome, ResponseOutcome::Deliver(_)));
        now += LONG;
        layer.handle_timeout(now);
        assert_eq!(drained(&mut layer), 3, "the INVITE, its ACK and the end");
    });
}
