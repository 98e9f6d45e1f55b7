//! Who may say what on the inside face, who may not speak in another's call, and what is told of the phone
//! (contract sections 3 and 4).

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use portcullis_tests::deadline::wait_until;
use portcullis_tests::dialog::Dialog;
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1002, Lab};
use portcullis_tests::raw_message::{Draft, audio_sdp};
use portcullis_tests::raw_phone::{RawPhone, Silence};
use portcullis_tests::rtp::RtpEnd;

use crate::support::{
    Established, SOON, accept, call_desk, challenged_invite, connect, hang_up, invite, registered_by_digest,
    wait_idle,
};

/// The border's UDP port inside.
fn face(lab: &Lab) -> SocketAddr {
    SocketAddr::new(lab.addresses.inside(), 5060)
}

fn audio(lab: &Lab) -> [RtpEnd; 2] {
    [lab.addresses.phone(1), lab.addresses.inside_phone()].map(|address| RtpEnd::open(address, None))
}

#[test]
fn options_reaches_the_phone_behind_a_contact_or_gets_480() {
    let lab = Lab::start();
    let mut phone = lab.registered_phone(1);
    let contact = lab.pbx.wait_contacts("1001", 1, SOON).remove(0);
    let mut pbx = RawPhone::udp(lab.addresses.pbx(), face(&lab));
    let ask = |uri: &str| Draft::request("OPTIONS", uri, "sip:pbx.lab", "sip:1001@pbx.lab");
    pbx.send(&ask(&contact));
    let arrived = phone.receive_request("OPTIONS");
    assert_eq!(arrived.request_uri(), phone.contact("1001"));
    assert!(!arrived.0.contains(&lab.addresses.pbx().to_string()), "{arrived:?}");
    phone.reply(&Draft::answer(&arrived, 200, "OK", "phone"));
    assert_eq!(pbx.receive_status(200).tag("To").as_deref(), Some("phone"));
    drop(phone);
    wait_until("without the phone it is 480", SOON, || {
        (pbx.ask(&ask(&contact)).status() == 480).then_some(())
    });
    let ours = pbx.ask(&ask(&format!("sip:{}", face(&lab))));
    assert_eq!(ours.status(), 200, "we are there ourselves");
    let mut stranger = RawPhone::udp(lab.addresses.phone(50), face(&lab));
    stranger.send(&ask(&contact));
    assert_eq!(stranger.receive(Duration::from_millis(500)), Err(Silence::Nothing));
}

#[test]
fn a_trusted_server_beside_the_pbx_may_call() {
    let mut lab = Lab::start();
    let text = fs::read_to_string(lab.configuration()).expect("its configuration");
    let trusted = format!("[inside]\ntrusted = [\"{}\"]\n", lab.addresses.inside_phone());
    fs::write(lab.configuration(), text.replace("[inside]\n", &trusted)).expect("its configuration");
    assert_eq!(lab.portcullis.terminate(), Some(0));
    lab.restart();
    let mut phone = lab.registered_phone(1);
    let contact = lab.pbx.wait_contacts("1001", 1, SOON).remove(0);
    let mut server = RawPhone::udp(lab.addresses.inside_phone(), face(&lab));
    let [outside, inside] = audio(&lab);
    let sdp = audio_sdp(&inside.local.ip().to_string(), inside.local.port());
    let mut draft = Draft::request("INVITE", &contact, "sip:conference@pbx.lab", "sip:1001@pbx.lab");
    draft.set("Contact", &format!("<{}>", server.contact("conference"))).sdp(&sdp);
    let mut call = connect(&mut server, &draft, (&mut phone, "1001"), &outside);
    hang_up(&mut phone, &mut call.callee, &mut server);
    wait_idle(&lab);
}

#[test]
fn who_knows_a_call_but_does_not_belong_to_it_cannot_end_it() {
    let lab = Lab::start();
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let mut other = lab.tls_phone(2, &lab.pki.device(DEVICE_1002));
    assert_eq!(other.register("1002", DOMAIN).status(), 200);
    let [outside, inside] = audio(&lab);
    let Established { mut caller, mut callee, .. } = call_desk(&mut phone, &mut desk, [&outside, &inside]);
    // Another customer with every word of the dialog, and a stranger inside with every word of its other leg.
    let refused = other.ask(&caller.request("BYE"));
    assert!((400..500).contains(&refused.status()), "{refused:?}");
    let mut stranger = RawPhone::udp(lab.addresses.phone(50), face(&lab));
    stranger.send(&callee.request("BYE"));
    assert_eq!(stranger.receive(Duration::from_secs(1)), Err(Silence::Nothing));
    assert_eq!(lab.portcullis.rows(&["calls"]).len(), 1);
    // The called party itself may, past the PBX too.
    let mut direct = RawPhone::udp(lab.addresses.inside_phone(), face(&lab));
    direct.send(&callee.request("BYE"));
    let bye = phone.receive_request("BYE");
    phone.reply(&Draft::answer(&bye, 200, "OK", "bye"));
    direct.receive_status(200);
    wait_idle(&lab);
}

#[test]
fn the_pbx_is_told_the_phones_make_and_nothing_else_of_it() {
    let lab = Lab::start();
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let [outside, inside] = audio(&lab);
    let mut draft = invite(&phone, "1001", "2001", &outside);
    draft.set("User-Agent", "Desk Phone/1.2").set("Organization", "Home of the Smiths");
    let mark = lab.pbx.mark();
    let mut call = connect(&mut phone, &draft, (&mut desk, "2001"), &inside);
    let answered = &call.answered;
    assert_eq!(call.arrived.value("User-Agent"), "Desk Phone/1.2");
    assert_ne!(call.arrived.value("Call-ID"), draft.get("Call-ID"), "a Call-ID of its own for each leg");
    assert_eq!(answered.value("Call-ID"), draft.get("Call-ID"));
    let own = lab.addresses.outside().to_string();
    assert!(answered.uri_of("Contact").contains(&own), "{answered:?}");
    assert_eq!(call.arrived.uri_of("From"), format!("sip:1001@{DOMAIN}"));
    assert_eq!(call.arrived.uri_of("To"), format!("sip:2001@{DOMAIN}"));
    hang_up(&mut phone, &mut call.caller, &mut desk);
    for message in lab.pbx.received_after(mark) {
        let told = message.0.to_ascii_lowercase();
        assert!(!told.contains("portcullis") && !told.contains(draft.get("Call-ID")), "{message:?}");
    }
}

#[test]
fn calls_to_a_digest_phone_that_lost_its_connection_get_480_until_it_is_back() {
    let lab = Lab::start();
    let connection = || RawPhone::tcp(lab.addresses.phone(1), lab.plain()).expect("TCP is open");
    drop(registered_by_digest(&lab, connection()));
    let mut desk = lab.desk_phone("2001");
    let [outside, inside] = audio(&lab);
    let draft = challenged_invite(&mut desk, "2001", "1003", &inside);
    assert_eq!(desk.invite(&draft).status(), 480);
    assert_eq!(lab.pbx.contacts("1003").len(), 1, "its binding is the PBX's to end");

    let mut phone = connection();
    let mut register = Draft::register("1003", DOMAIN, &phone.contact("1003"), 60);
    let challenge = phone.ask(&register);
    assert_eq!(phone.ask(register.follow_up().authorize(&challenge, "1003", "secret1003")).status(), 200);
    let draft = challenged_invite(&mut desk, "2001", "1003", &inside);
    desk.send(&draft);
    let arrived = phone.receive_request("INVITE");
    accept(&mut phone, &arrived, "1003", &outside);
    let mut caller = Dialog::of_caller(&draft, &desk.receive_status(200));
    desk.send(&caller.ack());
    phone.receive_request("ACK");
    hang_up(&mut desk, &mut caller, &mut phone);
    wait_idle(&lab);
}
