//! Bad input: a clear rejection or a silent drop, no growth, calls in progress untouched (issue, "Bad input").

use std::net::TcpStream;
use std::time::Duration;

use portcullis_tests::deadline::{Stopwatch, pause};
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, Lab, Variation};
use portcullis_tests::process::allow_open_files;
use portcullis_tests::raw_message::Draft;
use portcullis_tests::raw_phone::{RawPhone, Silence, connect};
use portcullis_tests::rtp::RtpEnd;

use crate::support::{Established, SOON, call_desk, hang_up, media_address, wait_idle};

/// No automatic blocks, for tests that offend on purpose.
const PATIENT: (&str, &str) = ("[block]\n", "[block]\nafter = 1000\n");

/// A word that must never arrive inside.
const MARK: &str = "smuggled";

fn whole(start: &str, more: &str) -> String {
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{MARK}\r\nMax-Forwards: 70\r\nFrom: <sip:1001@pbx.lab>;tag={MARK}\r\n\
         To: <sip:1001@pbx.lab>\r\nCall-ID: {MARK}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{MARK}@192.0.2.1>\r\n{more}\r\n"
    )
}

fn bad_messages() -> Vec<Vec<u8>> {
    let register = "REGISTER sip:pbx.lab SIP/2.0";
    let good = whole(register, "Content-Length: 0\r\n");
    let mut all: Vec<Vec<u8>> = [
        good.replace("\r\n", "\n"),
        good.replace("Content-Length: 0", "Content-Length: 0\r\nContent-Length: 5"),
        good.replace("Content-Length: 0", "Content-Length: -1"),
        good.replace("Content-Length: 0", "Content-Length: 99999999999999999999"),
        good.replace("Content-Length: 0", "Content-Length: 0x10"),
        good.replace("Call-ID: ", "Call-ID : a\r\nCall-ID: "),
        good.replace("CSeq: 1 REGISTER", "CSeq: 4294967296 REGISTER"),
        good.replace("CSeq: 1 REGISTER", "CSeq: 1 INVITE"),
        good.replace("Max-Forwards: 70", "Max-Forwards: 256"),
        good.replace("From: ", "From: \u{0}"),
        good.replace("<sip:1001@pbx.lab>;tag", "<sip:1001\r@pbx.lab>;tag"),
        good.replace("To: <sip:1001@pbx.lab>", "To: <sip:1001@pbx.lab>\r\nTo: <sip:1002@pbx.lab>"),
        good.replace("Via:", "Vie:"),
        good.replace("SIP/2.0\r\n", "SIP/7.0\r\n"),
        good.replace("SIP/2.0/UDP", "SIP/2.0/UDP 192.0.2.1;received=\"\r\nVia: SIP/2.0/UDP"),
        good.replace(register, "REGISTER  sip:pbx.lab SIP/2.0"),
        good.replace(register, "REGISTER SIP/2.0"),
        good.replace(register, "BREW sip:pot@pbx.lab SIP/2.0"),
        good.replace(register, "SIP/2.0 200 OK"),
        good.replace(register, "SIP/2.0 999 Odd"),
        good.replace(register, "GET / HTTP/1.1"),
        good.replace("From: <sip:1001@pbx.lab>", "From: \"unclosed <sip:1001@pbx.lab>"),
        good.replace("sip:1001@pbx.lab>\r\nCall", "sip:1001@pbx.lab:99999>\r\nCall"),
        good.replace("sip:1001@pbx.lab>\r\nCall", "sip:1001@[::1>\r\nCall"),
        good.replace("Contact: <", "Contact: *, <"),
        whole(register, &"X-Many: y\r\n".repeat(200)),
        whole(register, &format!("X-Long: {}\r\n", "y".repeat(9_000))),
        whole(register, &format!("Route: {}<sip:a>\r\n", "<sip:a>,".repeat(900))),
    ]
    .into_iter()
    .map(|message| {
        assert_ne!(message, good, "each case changes something");
        message.into_bytes()
    })
    .collect();
    all.push(vec![0; 1_000]);
    all.push((0..=255).cycle().take(3_000).collect());
    all.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
    all.push([good.as_bytes(), b"\xff\xfe\x00"].concat());
    all
}

#[test]
fn nothing_unclean_passes_and_calls_in_progress_go_on() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let mut outside = RtpEnd::open(lab.addresses.phone(1), None);
    let mut inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    let Established { mut caller, arrived, answered, .. } =
        call_desk(&mut phone, &mut desk, [&outside, &inside]);
    outside.send_tone(media_address(&answered), 440);
    inside.send_tone(media_address(&arrived), 880);
    inside.wait_heard(440, 5, SOON);
    let mark = lab.pbx.mark();

    let messages = bad_messages();
    for (number, message) in messages.iter().enumerate() {
        let from = lab.addresses.phone(20 + number as u8);
        let identity = lab.pki.device("009033fffffe");
        let tls = RawPhone::tls(from, lab.tls(), &lab.pki, Some(&identity)).expect("a connection");
        for mut link in
            [RawPhone::udp(from, lab.plain()), RawPhone::tcp(from, lab.plain()).expect("TCP is open"), tls]
        {
            link.send_bytes(message);
            // Whatever comes back: a refusal, the end of the connection, or nothing. Never 2xx.
            if let Ok(answer) = link.receive(Duration::from_millis(200)) {
                assert!(answer.status() >= 400, "{answer:?} to {:?}", String::from_utf8_lossy(message));
            }
        }
    }
    inside.forget();
    outside.forget();
    inside.wait_heard(440, 5, SOON);
    outside.wait_heard(880, 5, SOON);
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);
    let smuggled: Vec<_> =
        lab.pbx.received_after(mark).into_iter().filter(|message| message.0.contains(MARK)).collect();
    assert!(smuggled.is_empty(), "{smuggled:#?}");
    lab.portcullis.wait_event("malformed", |_| true);
}

#[test]
fn a_flood_of_garbage_is_summed_up() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let mut noisy = RawPhone::udp(lab.addresses.phone(1), lab.plain());
    for _ in 0..500 {
        noisy.send_bytes(b"INVITE \x00\xff nonsense\r\n\r\n");
    }
    let mut phone = lab.tls_phone(2, &lab.pki.device(DEVICE_1001));
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    assert!(lab.portcullis.events("malformed").len() < 50, "an event for many, not one for each");
    assert_eq!(noisy.receive(Duration::from_millis(500)), Err(Silence::Nothing), "and no answer");
}

#[test]
fn a_message_split_at_every_byte_is_still_a_message() {
    let lab = Lab::start();
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let contact = phone.contact("1001");
    let mut register = Draft::register("1001", DOMAIN, &contact, 60);
    register.push_front("Via", &format!("SIP/2.0/TLS {};branch=z9hG4bKsplit", phone.local()));
    for byte in register.text().as_bytes() {
        phone.send_bytes(&[*byte]);
    }
    assert_eq!(phone.receive_final(SOON).status(), 200);
}

#[test]
fn a_message_over_the_limit_ends_the_connection() {
    let lab = Lab::start();
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let contact = phone.contact("1001");
    let mut register = Draft::register("1001", DOMAIN, &contact, 60);
    register.push_front("Via", "SIP/2.0/TLS a;branch=z9hG4bKlarge").sdp(&"y".repeat(70_000));
    phone.send_bytes(register.text().as_bytes());
    let end = phone.receive(SOON).and_then(|_refusal| phone.receive(SOON));
    assert_eq!(end.map(|answer| answer.status()), Err(Silence::Closed));
}

#[test]
fn half_a_message_is_not_waited_for_longer_than_its_time() {
    let lab = Lab::start();
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let watch = Stopwatch::start();
    phone.send_bytes(b"REGISTER sip:pbx.lab SIP/2.0\r\nVia: SIP/2.0/TLS a");
    let end = phone.receive(Duration::from_secs(14));
    assert!(end.is_err() && end != Err(Silence::Nothing), "{end:?}");
    assert!((8..=13).contains(&watch.elapsed().as_secs()), "about 10 s: {:?}", watch.elapsed());
}

#[test]
fn a_silent_connection_is_closed_after_its_time() {
    let lab = Lab::start();
    let mut phone = RawPhone::tcp(lab.addresses.phone(1), lab.plain()).expect("TCP is open");
    assert_eq!(phone.receive(Duration::from_secs(14)), Err(Silence::Closed), "first message within 10 s");
}

#[test]
fn stalled_handshakes_hold_nobody_up() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let mut known = lab.registered_phone(1);
    // A client hello, cut at every sixteenth of it: 300 connections from 20 addresses.
    let hello = client_hello(&lab);
    let stalled: Vec<TcpStream> = (0..300_usize)
        .filter_map(|number| {
            let stream = connect(lab.addresses.phone(20 + (number % 20) as u8), lab.tls()).ok()?;
            let cut = hello.len() * (number % 16 + 1) / 16;
            // The border may have closed it already: then it stalls nothing.
            std::io::Write::write_all(&mut &stream, &hello[..cut]).ok()?;
            Some(stream)
        })
        .collect();
    assert!(stalled.len() > 100, "the attack takes place: {}", stalled.len());
    let watch = Stopwatch::start();
    let mut newcomer = lab.tls_phone(2, &lab.pki.device("009033010204"));
    assert_eq!(newcomer.register("1002", DOMAIN).status(), 200);
    assert!(watch.elapsed() < Duration::from_secs(2), "{:?}", watch.elapsed());
    assert_eq!(known.register("1001", DOMAIN).status(), 200);
    for stream in &stalled {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut rest = Vec::new();
        // The end may come as a reset: either way it must come.
        let ended = std::io::Read::read_to_end(&mut &*stream, &mut rest);
        assert!(
            !ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "closed after 5 s"
        );
    }
}

#[test]
fn a_thousand_idle_connections_cost_little_and_hold_nobody_up() {
    allow_open_files(8_192);
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let mut known = lab.registered_phone(1);
    let before = lab.portcullis.memory_kb();
    let idle: Vec<TcpStream> = (0..1_000_usize)
        .filter_map(|number| connect(lab.addresses.phone(20 + (number % 100) as u8), lab.plain()).ok())
        .collect();
    assert_eq!(idle.len(), 1_000);
    assert_eq!(known.register("1001", DOMAIN).status(), 200);
    let mut newcomer = lab.tls_phone(2, &lab.pki.device("009033010204"));
    assert_eq!(newcomer.register("1002", DOMAIN).status(), 200);
    let grown = lab.portcullis.memory_kb().saturating_sub(before);
    assert!(grown < 24_000, "{grown} kB for 1,000 connections");
}

#[test]
fn one_source_has_a_bounded_number_of_connections() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let from = lab.addresses.phone(66);
    let mut phones: Vec<RawPhone> = (0..40)
        .map(|_| {
            pause(Duration::from_millis(80)); // slower than the limit on new connections in a second
            RawPhone::tcp(from, lab.plain()).expect("the kernel completes the handshake")
        })
        .collect();
    let open = phones
        .iter_mut()
        .filter_map(|phone| {
            phone.send_bytes(b"\r\n\r\n");
            phone.receive_bytes(Duration::from_secs(1)).ok()
        })
        .count();
    assert_eq!(open, 32, "32 unregistered connections a source");
    lab.portcullis.wait_event("source_limited", |_| true);
}

/// The first bytes that a TLS client sends.
fn client_hello(lab: &Lab) -> Vec<u8> {
    let config = RawPhone::tls_config(&lab.pki, None);
    let name = rustls::pki_types::ServerName::from(lab.tls().ip());
    let mut client = rustls::ClientConnection::new(config, name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory takes it");
    hello
}
