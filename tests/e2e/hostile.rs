//! Bad input: a clear rejection or a silent drop, no growth, calls in progress untouched (issue, "Bad input").

use std::net::TcpStream;
use std::time::Duration;

use portcullis_tests::deadline::{Stopwatch, pause, wait_until};
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, Lab, Variation};
use portcullis_tests::process::allow_open_files;
use portcullis_tests::raw_message::{Draft, unique};
use portcullis_tests::raw_phone::{RawPhone, Silence, connect};
use portcullis_tests::rtp::RtpEnd;

use crate::support::{Established, SOON, call_desk, hang_up, media_address, registered_by_digest, wait_idle};

/// No automatic blocks, for tests that offend on purpose.
const PATIENT: (&str, &str) = ("[block]\n", "[block]\nafter = 1000\n");

/// A word that must never arrive inside.
const MARK: &str = "smuggled";

/// A request without a fault, of this extension for this URI. The mark stands where it would cross the border.
fn clean(method: &str, extension: &str, uri: &str, mark: &str) -> String {
    let branch = unique("b");
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:{extension}@pbx.lab>;tag={mark}\r\nTo: <{uri}>\r\nCall-ID: {branch}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:{mark}@192.0.2.1>\r\nX-Mark: {mark}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The same request with one fault each, as nobody may pass it on.
fn unclean(method: &str, extension: &str, uri: &str) -> Vec<Vec<u8>> {
    let start = format!("{method} {uri} SIP/2.0");
    let (from, to) = (format!("<sip:{extension}@pbx.lab>;tag"), format!("To: <{uri}>"));
    let edits: Vec<(&str, String)> = vec![
        ("\r\n", "\n".to_owned()),
        ("Content-Length: 0", "Content-Length: 0\r\nContent-Length: 5".to_owned()),
        ("Content-Length: 0", "Content-Length: -1".to_owned()),
        ("Content-Length: 0", "Content-Length: 99999999999999999999".to_owned()),
        ("Content-Length: 0", "Content-Length: 0x10".to_owned()),
        ("Content-Length: 0\r\n", "X-Many: y\r\n".repeat(200)),
        ("Content-Length: 0", format!("X-Long: {}", "y".repeat(9_000))),
        ("Content-Length: 0", format!("Route: {}<sip:a>", "<sip:a>,".repeat(1_100))),
        ("Call-ID: ", "Call-ID : a\r\nCall-ID: ".to_owned()),
        ("CSeq: 1 ", "CSeq: 4294967296 ".to_owned()),
        ("CSeq: 1 ", "CSeq: 1 X".to_owned()),
        ("Max-Forwards: 70", "Max-Forwards: 256".to_owned()),
        ("From: ", "From: \u{0}".to_owned()),
        ("From: <", "From: \"unclosed <".to_owned()),
        (&from, from.replace("@", "\r@")),
        (&from, from.replace(";tag", ";tag=other;tag")),
        (&to, format!("{to}\r\n{to}")),
        (&to, to.replace("sip:", "sip:\u{7f}")),
        ("Via:", "Vie:".to_owned()),
        ("SIP/2.0/UDP", "SIP/2.0/UDP 192.0.2.1;received=\"\r\nVia: SIP/2.0/UDP".to_owned()),
        (&start, start.replace("SIP/2.0", "SIP/7.0")),
        (&start, start.replacen(' ', "  ", 1)),
        (&start, format!("{method} SIP/2.0")),
        (&start, format!("BREW {uri} SIP/2.0")),
        (&start, "SIP/2.0 200 OK".to_owned()),
        (&start, "SIP/2.0 999 Odd".to_owned()),
        (&start, "GET / HTTP/1.1".to_owned()),
    ];
    let faulty = edits.iter().map(|(old, new)| {
        let good = clean(method, extension, uri, MARK);
        let bad = good.replace(old, new);
        assert_ne!(bad, good, "each case changes something");
        bad.into_bytes()
    });
    faulty.collect()
}

/// What is hardly SIP at all.
fn garbage() -> Vec<Vec<u8>> {
    let good = clean("REGISTER", "1001", "sip:pbx.lab", MARK);
    vec![
        vec![0; 1_000],
        (0..=255).cycle().take(3_000).collect(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        [good.as_bytes(), b"\xff\xfe\x00"].concat(),
        good.replace("Contact: <", "Contact: *, <").into_bytes(),
        good.replace("To: <sip:pbx.lab>", "To: <sip:1001@pbx.lab:99999>").into_bytes(),
        good.replace("To: <sip:pbx.lab>", "To: <sip:1001@[::1>").into_bytes(),
    ]
}

#[test]
fn nothing_unclean_is_accepted_and_calls_in_progress_go_on() {
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

    let messages = [unclean("REGISTER", "1001", "sip:pbx.lab"), garbage()].concat();
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

/// Sends the clean request, waits until the PBX has it, and looks at all that came there with it.
#[track_caller]
fn assert_only_clean_arrives(lab: &Lab, mark: usize, method: &str, control: &str, phone: &mut RawPhone) {
    phone.send_bytes(control.as_bytes());
    wait_until("the request without a fault is at the PBX", SOON, || {
        lab.pbx.requests_after(mark, method).iter().any(|it| it.0.contains("spotless")).then_some(())
    });
    let smuggled: Vec<_> =
        lab.pbx.received_after(mark).into_iter().filter(|message| message.0.contains(MARK)).collect();
    assert!(smuggled.is_empty(), "{smuggled:#?}");
}

#[test]
fn nothing_unclean_passes_from_a_registered_phone() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let mut plain = registered_by_digest(&lab, RawPhone::udp(lab.addresses.phone(1), lab.plain()));
    for method in ["MESSAGE", "INVITE"] {
        let mark = lab.pbx.mark();
        for message in unclean(method, "1003", "sip:2001@pbx.lab") {
            plain.send_bytes(&message);
            if let Ok(answer) = plain.receive(Duration::from_millis(50)) {
                assert!(answer.status() >= 400, "{answer:?} to {:?}", String::from_utf8_lossy(&message));
            }
        }
        // The datagrams of one phone are read in their order: the last of them tells that all were.
        let control = clean(method, "1003", "sip:2001@pbx.lab", "spotless");
        assert_only_clean_arrives(&lab, mark, method, &control, &mut plain);
    }
    for method in ["MESSAGE", "INVITE"] {
        let mark = lab.pbx.mark();
        for (number, message) in unclean(method, "1001", "sip:2001@pbx.lab").iter().enumerate() {
            // A connection of its own for each: a fault in the framing ends it.
            let mut phone = lab.registered_phone(20 + number as u8);
            phone.send_bytes(message);
            if let Ok(answer) = phone.receive(Duration::from_millis(200)) {
                assert!(answer.status() >= 400, "{answer:?} to {:?}", String::from_utf8_lossy(message));
            }
        }
        let control = clean(method, "1001", "sip:2001@pbx.lab", "spotless");
        assert_only_clean_arrives(&lab, mark, method, &control, &mut lab.registered_phone(1));
    }
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
        .filter_map(|_| {
            pause(Duration::from_millis(80)); // slower than the limit on new connections in a second
            RawPhone::tcp(from, lab.plain()).ok() // a reset may come before the client saw its handshake done
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
