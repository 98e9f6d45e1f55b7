//! Extensions that prove themselves by the PBX's own digest, over UDP and TCP (contract section 3, pass-through).

use std::net::SocketAddr;

use portcullis_tests::dialog::Dialog;
use portcullis_tests::kamailio::{DOMAIN, Manner};
use portcullis_tests::lab::{Lab, Variation};
use portcullis_tests::raw_message::{Draft, parameter};
use portcullis_tests::raw_phone::{ANSWER, RawPhone};
use portcullis_tests::rtp::RtpEnd;
use portcullis_tests::sipp::Scenario;

use crate::support::{
    SOON, accept, call_desk, challenged_invite, hang_up, media_address, registered_by_digest, text, wait_idle,
};

#[test]
fn the_challenge_of_the_pbx_passes_through() {
    let lab = Lab::start();
    let mut phone = RawPhone::udp(lab.addresses.phone(1), lab.plain());
    let mut register = Draft::register("1003", DOMAIN, &phone.contact("1003"), 60);
    let challenge = phone.ask(&register);
    let asked = challenge.value("WWW-Authenticate");
    assert_eq!(parameter(&asked, "qop").as_deref(), Some("auth"));
    assert!(parameter(&asked, "opaque").is_some(), "ours, which proves the source: {asked}");
    phone.ask(register.follow_up().authorize(&challenge, "1003", "secret1003"));
    let contacts = lab.pbx.wait_contacts("1003", 1, SOON);
    assert!(contacts[0].contains(&lab.addresses.inside().to_string()), "{contacts:?}");

    let at_pbx: Vec<_> =
        lab.pbx.requests_after(0, "REGISTER").into_iter().filter(|it| it.0.contains("sip:1003@")).collect();
    let series: Vec<_> = at_pbx.iter().filter(|it| !it.values("Contact").is_empty()).collect();
    assert_eq!(series.len(), 2, "challenge and retry: {series:#?}");
    assert_eq!(series[0].value("Call-ID"), series[1].value("Call-ID"));
    assert!(series[0].value("CSeq") < series[1].value("CSeq"));
    let credentials = series[1].value("Authorization");
    assert!(
        credentials.contains("username=\"1003\"") && !credentials.contains("opaque=\"\""),
        "{credentials}"
    );
    let phone_ip = lab.addresses.phone(1).to_string();
    assert!(!series[1].0.contains(&phone_ip), "{:?}", series[1]);
    lab.portcullis.wait_event("registered", |event| text(event, "extension") == "1003");
}

#[test]
fn it_works_over_tcp_and_over_tls_without_certificate() {
    let lab = Lab::start();
    let tcp =
        registered_by_digest(&lab, RawPhone::tcp(lab.addresses.phone(1), lab.plain()).expect("TCP is open"));
    drop(tcp);
    let lab = Lab::start();
    registered_by_digest(
        &lab,
        RawPhone::tls(lab.addresses.phone(2), lab.tls(), &lab.pki, None).expect("1003 uses digest"),
    );
}

#[test]
fn sipp_registers_over_udp_and_tcp() {
    let lab = Lab::start();
    for (number, transport, via) in [(1, "udp", "UDP"), (2, "tcp", "TCP")] {
        let register = Scenario {
            remote: Some(lab.plain()),
            transport,
            keys: &[("extension", "1003"), ("via", via)],
            credentials: Some(("1003", "secret1003")),
            ..Scenario::new("register_digest", SocketAddr::new(lab.addresses.phone(number), 5060))
        };
        register.start(lab.directory(), None).succeed(SOON);
    }
}

#[test]
fn a_wrong_password_is_the_pbxs_to_refuse_and_an_event() {
    let lab = Lab::start();
    let mut phone = RawPhone::udp(lab.addresses.phone(1), lab.plain());
    let mut register = Draft::register("1003", DOMAIN, &phone.contact("1003"), 60);
    let challenge = phone.ask(&register);
    let answer = phone.ask(register.follow_up().authorize(&challenge, "1003", "wrong"));
    assert_eq!(answer.status(), 401, "{answer:?}");
    lab.portcullis.wait_event("digest_failed", |event| text(event, "extension") == "1003");
    assert_eq!(lab.pbx.contacts("1003").len(), 0);
}

#[test]
fn a_source_that_returned_our_opaque_is_proved_and_can_be_blocked() {
    let lab = Lab::start();
    let mut phone = RawPhone::udp(lab.addresses.phone(1), lab.plain());
    for _ in 0..8 {
        let mut register = Draft::register("1003", DOMAIN, &phone.contact("1003"), 60);
        phone.send(&register);
        let Ok(challenge) = phone.receive(ANSWER) else { break };
        phone.send(register.follow_up().authorize(&challenge, "1003", "wrong"));
        if phone.receive(ANSWER).is_err() {
            break;
        }
    }
    let rows = lab.portcullis.wait_rows(&["block", "list"], 1);
    assert_eq!(text(&rows[0], "defense_type"), "digest_failed");
    assert_eq!(text(&rows[0], "protocol"), "udp");
}

#[test]
fn calls_both_ways_over_udp() {
    let lab = Lab::start();
    let mut phone = registered_by_digest(&lab, RawPhone::udp(lab.addresses.phone(1), lab.plain()));
    let mut desk = lab.desk_phone("2001");
    let mut outside = RtpEnd::open(lab.addresses.phone(1), None);
    let mut inside = RtpEnd::open(lab.addresses.inside_phone(), None);

    // The PBX challenges the INVITE; the challenge passes to the phone, which knows the password.
    let draft = challenged_invite(&mut phone, "1003", "2001", &outside);
    phone.send(&draft);
    let arrived = desk.receive_request("INVITE");
    accept(&mut desk, &arrived, "2001", &inside);
    let answered = phone.receive_status(200);
    let mut caller = Dialog::of_caller(&draft, &answered);
    phone.send(&caller.ack());
    desk.receive_request("ACK");
    outside.send_tone(media_address(&answered), 440);
    inside.send_tone(media_address(&arrived), 880);
    outside.wait_heard(880, 8, SOON);
    inside.wait_heard(440, 8, SOON);
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);

    let ends = [&inside, &outside];
    let draft = challenged_invite(&mut desk, "2001", "1003", ends[0]);
    desk.send(&draft);
    let arrived = phone.receive_request("INVITE");
    let accepted = accept(&mut phone, &arrived, "1003", ends[1]);
    let answered = desk.receive_status(200);
    let caller = Dialog::of_caller(&draft, &answered);
    desk.send(&caller.ack());
    phone.receive_request("ACK");
    let mut callee = Dialog::of_callee(&arrived, &accepted);
    hang_up(&mut phone, &mut callee, &mut desk);
    wait_idle(&lab);
}

#[test]
fn the_pbx_may_challenge_a_bye() {
    let pbx = Manner { challenge_bye: true, ..Manner::default() };
    let lab = Lab::with(&Variation { pbx, ..Variation::default() });
    let mut desk = lab.desk_phone("2001");
    let [outside, inside] =
        [lab.addresses.phone(1), lab.addresses.inside_phone()].map(|address| RtpEnd::open(address, None));

    // A digest phone gets the challenge and answers it; the call goes on until it has.
    let mut phone = registered_by_digest(&lab, RawPhone::udp(lab.addresses.phone(1), lab.plain()));
    let draft = challenged_invite(&mut phone, "1003", "2001", &outside);
    phone.send(&draft);
    let arrived = desk.receive_request("INVITE");
    accept(&mut desk, &arrived, "2001", &inside);
    let mut caller = Dialog::of_caller(&draft, &phone.receive_status(200));
    phone.send(&caller.ack());
    desk.receive_request("ACK");
    let mark = lab.pbx.mark();
    phone.send(&caller.request("BYE"));
    let challenge = phone.receive_status(407);
    let mut again = caller.request("BYE");
    phone.send(again.authorize(&challenge, "1003", "secret1003"));
    let bye = desk.receive_request("BYE");
    desk.reply(&Draft::answer(&bye, 200, "OK", "bye"));
    phone.receive_status(200);
    wait_idle(&lab);
    let byes = lab.pbx.requests_after(mark, "BYE");
    assert!(byes.iter().any(|bye| !bye.values("Proxy-Authorization").is_empty()), "{byes:#?}");
    assert!(lab.portcullis.events("digest_failed").is_empty(), "a challenge is no failure");

    // For a phone with a certificate the border answers it.
    let mut phone = lab.registered_phone(2);
    let mut established = call_desk(&mut phone, &mut desk, [&outside, &inside]);
    hang_up(&mut phone, &mut established.caller, &mut desk);
    wait_idle(&lab);
}
