//! Who is refused, and how: alike in bytes and time, with one event that tells the truth (contract section 2).

use std::time::Duration;

use portcullis_tests::deadline::{Stopwatch, wait_until};
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab, Variation};
use portcullis_tests::pki::{Device, Identity, Pki, Validity};
use portcullis_tests::raw_message::{Draft, RawMessage};
use portcullis_tests::raw_phone::{RawPhone, Silence};
use rcgen::ExtendedKeyUsagePurpose;

use crate::support::{SOON, text};

/// The extension without which nobody may come without a certificate.
const DIGEST_EXTENSION: &str = "[[extension]]\nname = \"1003\"\nauthentication = \"digest\"\n";

/// No automatic blocks, for tests that offend on purpose.
const PATIENT: (&str, &str) = ("[block]\n", "[block]\nafter = 1000\n");

#[test]
fn a_bad_certificate_ends_the_handshake_with_one_alert_for_every_cause() {
    let replace = [(DIGEST_EXTENSION, ""), PATIENT];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let stranger = Pki::only_ca(&lab.directory().join("stranger"), "ca", "Somebody else");
    let device =
        |validity, purpose| lab.pki.issue(&Device { common_names: vec![DEVICE_1001], validity, purpose });
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let cases: Vec<(&str, Option<Identity>)> = vec![
        ("cert_untrusted", Some(stranger.device(DEVICE_1001))),
        ("cert_expired", Some(device(Validity::Past, client.clone()))),
        ("cert_not_yet_valid", Some(device(Validity::Future, client))),
        ("cert_purpose", Some(device(Validity::Now, ExtendedKeyUsagePurpose::ServerAuth))),
        ("cert_missing", None),
    ];
    let mut alerts = Vec::new();
    for (number, (code, identity)) in cases.iter().enumerate() {
        let phone = lab.addresses.phone(number as u8);
        let refused = RawPhone::tls(phone, lab.tls(), &lab.pki, identity.as_ref())
            .and_then(|mut phone| phone.receive_bytes(SOON))
            .expect_err("no byte of SIP");
        let Silence::Alert(alert) = refused else { panic!("{code}: no alert but {refused:?}") };
        alerts.push(alert);
        let event =
            lab.portcullis.wait_event(code, |event| text(event, "source").starts_with(&phone.to_string()));
        assert_eq!(text(&event, "extension"), "not asked");
        assert!(!text(&event, "text").is_empty() && !text(&event, "next_step").is_empty(), "{event}");
        assert_eq!(lab.portcullis.events(code).len(), 1, "one event for one refusal");
    }
    assert!(alerts.iter().all(|alert| alert == &alerts[0] && alert.contains("AccessDenied")), "{alerts:?}");
    let untrusted = lab.portcullis.events("cert_untrusted");
    assert!(text(&untrusted[0], "text").contains("Somebody else"), "the issuer is named: {untrusted:?}");
    assert_eq!(lab.pbx.requests_after(0, "REGISTER").iter().filter(|it| it.0.contains("1001")).count(), 0);
}

#[test]
fn a_valid_certificate_without_right_gets_one_403_whatever_the_reason() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let two_names = Device { common_names: vec![DEVICE_1001, DEVICE_1002], ..Device::default() };
    let cases = [
        ("hwid_unknown", lab.pki.device("009033999999"), "1001"),
        ("cn_mismatch", lab.pki.device(DEVICE_1001), "1002"),
        ("name_unknown", lab.pki.device(DEVICE_1001), "4711"),
        ("cert_ambiguous", lab.pki.issue(&two_names), "1001"),
        ("cert_ambiguous", lab.pki.device("*"), "1001"),
        ("cert_ambiguous", lab.pki.device("009033010203\u{0430}"), "1001"),
    ];
    let mark = lab.pbx.mark();
    let mut templates = Vec::new();
    for (number, (code, identity, extension)) in cases.iter().enumerate() {
        let mut phone = lab.tls_phone(number as u8, identity);
        let answer = phone.register(extension, DOMAIN);
        assert_eq!(answer.status(), 403, "{code}: {answer:?}");
        templates.push(template(&answer, &phone, extension));
        let source = phone.local().to_string();
        let event = lab.portcullis.wait_event(code, |event| text(event, "source") == source);
        assert_eq!(text(&event, "extension"), *extension);
    }
    assert!(templates.iter().all(|template| template == &templates[0]), "{templates:#?}");
    let mismatch = lab.portcullis.events("cn_mismatch");
    assert_eq!(mismatch.len(), 1);
    assert!(text(&mismatch[0], "text").contains("1001"), "the owner of the ID is named: {mismatch:?}");
    assert!(lab.pbx.requests_after(mark, "REGISTER").iter().all(|it| it.values("Contact").is_empty()));
}

#[test]
fn another_domain_is_refused_like_an_unknown_name() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let contact = phone.contact("1001");
    let elsewhere = phone.ask(&Draft::register("1001", "elsewhere.example", &contact, 60));
    let unknown = phone.register("4711", DOMAIN);
    let own = template(&elsewhere, &phone, "1001").replace("elsewhere.example", DOMAIN);
    assert_eq!(own, template(&unknown, &phone, "4711"));
    for host in [lab.addresses.outside().to_string(), "sbc.lab".to_owned()] {
        assert_eq!(phone.ask(&Draft::register("1001", &host, &contact, 60)).status(), 200, "{host} is ours");
    }
}

#[test]
fn an_existing_name_takes_as_long_as_an_unknown_one() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let mut time = |extension: &str| {
        let stopwatch = Stopwatch::start();
        assert_eq!(phone.register(extension, DOMAIN).status(), 403);
        stopwatch.elapsed()
    };
    takes_as_long(|| {
        let times: Vec<_> = (0..9).map(|_| (time("1002"), time("4711"))).collect();
        let (existing, unknown): (Vec<_>, Vec<_>) = times.into_iter().unzip();
        (median(existing), median(unknown))
    });
}

/// Compares two times, which may differ by 10 ms. A busy machine can make them differ once; what the border does
/// shows each time.
fn takes_as_long(mut measure: impl FnMut() -> (Duration, Duration)) {
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let (one, other) = measure();
        if one.abs_diff(other) < Duration::from_millis(10) {
            return;
        }
        seen.push((one, other));
    }
    panic!("{seen:?}");
}

#[test]
fn without_certificate_every_name_gets_the_challenge_of_the_pbx() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    // One true challenge, so that the border has seen how the PBX writes it.
    let mut digest = RawPhone::udp(lab.addresses.phone(1), lab.plain());
    let genuine = digest.register("1003", DOMAIN);
    assert_eq!(genuine.status(), 401, "{genuine:?}");
    let genuine = template(&genuine, &digest, "1003");
    // what it has done it says a little later
    wait_until("the PBX says that it was asked for 1003", SOON, || {
        let asked = lab.pbx.requests_after(0, "REGISTER");
        asked.iter().any(|asked| !asked.values("Contact").is_empty()).then_some(())
    });
    let mark = lab.pbx.mark();
    for (number, extension) in ["1001", "4711"].into_iter().enumerate() {
        let mut plain = RawPhone::udp(lab.addresses.phone(10 + number as u8), lab.plain());
        let mut secure = RawPhone::tls(lab.addresses.phone(20 + number as u8), lab.tls(), &lab.pki, None)
            .expect("1003 uses digest");
        for phone in [&mut plain, &mut secure] {
            let mut register = Draft::register(extension, DOMAIN, &phone.contact(extension), 60);
            let decoy = phone.ask(&register);
            assert_eq!(
                template(&decoy, phone, extension),
                genuine.replace("UDP", phone.transport()),
                "{extension}"
            );
            let again =
                phone.ask(register.follow_up().authorize(&decoy, extension, &format!("secret{extension}")));
            assert_eq!(again.status(), 401, "whatever it answers: {again:?}");
        }
    }
    let leaked: Vec<RawMessage> = lab.pbx.requests_after(mark, "REGISTER");
    assert!(
        leaked.iter().all(|register| register.values("Contact").is_empty()),
        "the PBX is not asked: {leaked:#?}"
    );
    lab.portcullis.wait_event("name_unknown", |event| text(event, "extension") == "4711");
}

/// Names that a stranger may try: one that exists and proves itself by digest, one that does not exist, one
/// that takes certificates only.
const NAMES: [&str; 3] = ["1003", "4711", "1001"];

#[test]
fn without_certificate_no_name_can_be_told_by_bytes_or_time() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let from = |number| lab.addresses.phone(number);
    // A connection is opened when it is needed: it has ten seconds for its first word.
    for link in ["UDP", "TCP", "TLS"] {
        let mut phone = match link {
            "UDP" => RawPhone::udp(from(1), lab.plain()),
            "TCP" => RawPhone::tcp(from(2), lab.plain()).expect("TCP is open"),
            _ => RawPhone::tls(from(3), lab.tls(), &lab.pki, None).expect("1003 uses digest"),
        };
        for with_credentials in [false, true] {
            for other in &NAMES[1..] {
                takes_as_long(|| challenge_times(&mut phone, [NAMES[0], other], with_credentials));
            }
        }
    }
}

/// How long two names wait for the same answer, one in turn with the other.
fn challenge_times(phone: &mut RawPhone, names: [&str; 2], with_credentials: bool) -> (Duration, Duration) {
    let mut templates = Vec::new();
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..8 {
        for (name, times) in names.into_iter().zip(&mut times) {
            let mut register = Draft::register(name, DOMAIN, &phone.contact(name), 60);
            if with_credentials {
                let challenge = phone.ask(&register);
                register.follow_up().authorize(&challenge, name, "wrong");
            }
            let watch = Stopwatch::start();
            let answer = phone.ask(&register);
            times.push(watch.elapsed());
            templates.push((name, template(&answer, phone, name)));
        }
    }
    for (name, template) in &templates {
        assert_eq!(template, &templates[0].1, "{name} beside {} by {}", names[0], phone.transport());
    }
    let [one, other] = times.map(median);
    (one, other)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn bad_contacts_are_refused_alike_for_every_name() {
    let lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let mut phone = RawPhone::udp(lab.addresses.phone(1), lab.plain());
    let host = phone.local();
    for contact in
        ["*".to_owned(), format!("<sip:a@{host}>, <sip:b@{host}>"), "<mailto:a@b.example>".to_owned()]
    {
        let mut templates = Vec::new();
        for name in NAMES {
            let mut register = Draft::register(name, DOMAIN, "sip:a@b", 60);
            let answer = phone.ask(register.set("Contact", &contact));
            assert!(answer.status() >= 400, "{answer:?}");
            templates.push(template(&answer, &phone, name));
        }
        assert!(templates.iter().all(|template| template == &templates[0]), "{contact}: {templates:#?}");
    }
}

#[test]
fn calls_come_from_registered_connections_alone() {
    let lab = Lab::start();
    let mut stranger = RawPhone::udp(lab.addresses.phone(1), lab.plain());
    let mark = lab.pbx.mark();
    let invite = Draft::invite("1003", "2001", DOMAIN, &stranger.contact("1003"), "");
    assert_eq!(stranger.invite(&invite).status(), 403);
    lab.portcullis.wait_event("flow_not_registered", |_| true);
    for method in ["OPTIONS", "MESSAGE", "SUBSCRIBE"] {
        stranger.send(&Draft::request(method, "sip:1001@pbx.lab", "sip:1003@pbx.lab", "sip:1001@pbx.lab"));
    }
    assert_eq!(stranger.receive(Duration::from_secs(2)), Err(Silence::Nothing), "the rest is dropped");
    assert_eq!(lab.pbx.requests_after(mark, "INVITE").len(), 0);
    assert_eq!(lab.pbx.requests_after(mark, "MESSAGE").len(), 0);
}

#[test]
fn keepalives_are_answered_to_everybody() {
    let lab = Lab::start();
    let mut tcp = RawPhone::tcp(lab.addresses.phone(1), lab.plain()).expect("TCP is open");
    tcp.send_bytes(b"\r\n\r\n");
    assert_eq!(tcp.receive_bytes(SOON).as_deref(), Ok(&b"\r\n"[..]), "RFC 5626");
    let stun_port = std::net::SocketAddr::new(lab.addresses.outside(), 3478);
    for to in [lab.plain(), stun_port] {
        let mut phone = RawPhone::udp(lab.addresses.phone(2), to);
        phone.send_bytes(b"\x00\x01\x00\x00\x21\x12\xa4\x42portcullis!!");
        let answer = phone.receive_bytes(SOON).expect("a STUN answer");
        assert_eq!(&answer[..2], b"\x01\x01", "a success response");
        assert_eq!(&answer[4..20], b"\x21\x12\xa4\x42portcullis!!", "of this transaction");
        let port = phone.local().port() ^ 0x2112;
        assert!(answer.windows(2).any(|two| two == port.to_be_bytes()), "with our address: {answer:x?}");
    }
}

fn template(answer: &RawMessage, phone: &RawPhone, extension: &str) -> String {
    let (address, port) = (phone.local().ip().to_string(), format!("{}", phone.local().port()));
    answer.template(&[&address, &port, extension])
}
