//! Calls both ways, their audio, and their end (issue items 4 and 5).

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_tests::deadline::never_within;
use portcullis_tests::dialog::Dialog;
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab, Variation, register_at_pbx};
use portcullis_tests::portcullis::command;
use portcullis_tests::raw_message::{Draft, audio_sdp};
use portcullis_tests::raw_phone::{RawPhone, Silence};
use portcullis_tests::rtp::RtpEnd;
use portcullis_tests::sipp::Scenario;
use portcullis_tests::tls_pipe::TlsPipe;
use serde_json::Value;

use crate::support::{
    Established, SOON, call_desk, call_phone, hang_up, invite, media_address, number, talk, text, wait_idle,
};

struct Ends {
    lab: Lab,
    phone: RawPhone,
    desk: RawPhone,
    outside: RtpEnd,
    inside: RtpEnd,
}

fn ends() -> Ends {
    let lab = Lab::start();
    let (phone, desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let outside = RtpEnd::open(lab.addresses.phone(1), None);
    let inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    Ends { lab, phone, desk, outside, inside }
}

#[test]
fn a_phone_calls_and_both_are_heard() {
    let Ends { lab, mut phone, mut desk, mut outside, mut inside } = ends();
    let mark = lab.pbx.mark();
    let Established { mut caller, arrived, answered, .. } =
        call_desk(&mut phone, &mut desk, [&outside, &inside]);
    talk((&mut outside, &answered, 440), (&mut inside, &arrived, 880));

    let rows = lab.portcullis.wait_rows(&["calls"], 1);
    assert_eq!((text(&rows[0], "extension"), text(&rows[0], "direction")), ("1001", "out"));
    assert!(text(&rows[0], "peer").contains("2001"), "{rows:?}");
    assert!(number(&lab.portcullis.ask(&["status"]), "relays") >= 1.0);

    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);
    lab.portcullis.wait_rows(&["calls"], 0);

    // What each side was shown.
    let (face, pbx) = (lab.addresses.inside().to_string(), lab.addresses.pbx().to_string());
    let desk_ip = lab.addresses.inside_phone().to_string();
    for hidden in [&face, &pbx, &desk_ip] {
        assert!(
            !answered.0.contains(hidden.as_str()),
            "{hidden} of the inside is shown outside: {answered:?}"
        );
    }
    let (phone_ip, own) = (lab.addresses.phone(1).to_string(), lab.addresses.outside().to_string());
    for message in lab.pbx.received_after(mark) {
        for hidden in [&phone_ip, &own] {
            assert!(
                !message.0.contains(hidden.as_str()),
                "{hidden} of the outside is shown inside: {message:?}"
            );
        }
    }
}

#[test]
fn a_phone_is_called_and_both_are_heard() {
    let Ends { lab, mut phone, mut desk, mut outside, mut inside } = ends();
    let Established { arrived, answered, mut callee, .. } =
        call_phone(&mut desk, &mut phone, [&inside, &outside]);
    talk((&mut inside, &answered, 880), (&mut outside, &arrived, 440));
    let hidden = [lab.addresses.inside(), lab.addresses.pbx(), lab.addresses.inside_phone()];
    for address in hidden {
        assert!(!arrived.0.contains(&address.to_string()), "{address} is shown outside: {arrived:?}");
    }
    assert_eq!(text(&lab.portcullis.wait_rows(&["calls"], 1)[0], "direction"), "in");
    hang_up(&mut phone, &mut callee, &mut desk);
    wait_idle(&lab);
}

#[test]
fn two_softphones_hear_each_other_through_the_border_twice() {
    let lab = Lab::start();
    let mut caller = lab.softphone("1001", DEVICE_1001, 1, 440);
    let callee = lab.softphone("1002", DEVICE_1002, 2, 880);
    caller.dial("sip:1002@pbx.lab");
    caller.wait_event(0, "CALL_ESTABLISHED", SOON);
    caller.wait_heard(880, 10, SOON);
    callee.wait_heard(440, 10, SOON);
    lab.portcullis.wait_rows(&["calls"], 2);
    let file = lab.configuration().display().to_string();
    for (verb, said) in
        [("calls", "one row for each of the two phones"), ("status", "of which one from phone")]
    {
        let shown = command(&[verb, "-c", &file], lab.directory()).stdout;
        assert!(String::from_utf8_lossy(&shown).contains(said), "{}", String::from_utf8_lossy(&shown));
    }
    caller.hang_up();
    callee.wait_event(0, "CALL_CLOSED", SOON);
    wait_idle(&lab);
    let inside = [lab.addresses.inside(), lab.addresses.pbx()].map(|address| address.to_string());
    for log in [caller.log(), callee.log()] {
        assert!(
            !inside.iter().any(|address| log.contains(address.as_str())),
            "the inside is shown to a phone"
        );
    }
}

#[test]
fn a_softphone_hears_its_own_echo_from_the_inside() {
    let lab = Lab::start();
    let desk = SocketAddr::new(lab.addresses.inside_phone(), 5060);
    let mut register = RawPhone::udp(desk.ip(), lab.pbx.address());
    register_at_pbx(&mut register, "2001", Some(&format!("sip:2001@{desk}")));
    let answer =
        Scenario { echo: Some(31_200), ..Scenario::new("answer", desk) }.start(lab.directory(), None);
    let mut phone = lab.softphone("1001", DEVICE_1001, 1, 440);
    phone.dial("sip:2001@pbx.lab");
    phone.wait_heard(440, 10, SOON);
    phone.hang_up();
    answer.succeed(SOON);
    wait_idle(&lab);
}

#[test]
fn sipp_calls_over_mutual_tls() {
    let lab = Lab::start();
    let desk = SocketAddr::new(lab.addresses.inside_phone(), 5060);
    let mut register = RawPhone::udp(desk.ip(), lab.pbx.address());
    register_at_pbx(&mut register, "2001", Some(&format!("sip:2001@{desk}")));
    let answer = Scenario::new("answer", desk).start(lab.directory(), None);
    let identity = lab.pki.device(DEVICE_1001);
    let pipe = TlsPipe::open(lab.addresses.phone(1), lab.tls(), &lab.pki, &identity);
    let call = Scenario {
        remote: Some(pipe.address),
        transport: "tcp",
        keys: &[("extension", "1001"), ("via", "TLS"), ("callee", "2001")],
        ..Scenario::new("register_and_call", SocketAddr::new(lab.addresses.phone(1), 5062))
    };
    call.start(lab.directory(), None).succeed(SOON);
    answer.succeed(SOON);
    wait_idle(&lab);
}

#[test]
fn the_caller_gives_up() {
    let Ends { lab, mut phone, mut desk, outside, .. } = ends();
    let draft = invite(&phone, "1001", "2001", &outside);
    let via = phone.send(&draft);
    let arrived = desk.receive_request("INVITE");
    desk.reply(&Draft::answer(&arrived, 180, "Ringing", "desk"));
    phone.receive_status(180);
    phone.send_by(&draft.same_transaction("CANCEL", draft.get("To")), &via);
    phone.receive_status(200);
    let cancel = desk.receive_request("CANCEL");
    desk.reply(&Draft::answer(&cancel, 200, "OK", "desk"));
    desk.reply(&Draft::answer(&arrived, 487, "Request Terminated", "desk"));
    desk.receive_request("ACK");
    let answer = phone.receive_status(487);
    phone.acknowledge(&draft, &via, &answer);
    wait_idle(&lab);
}

#[test]
fn the_called_party_is_busy() {
    let Ends { lab, mut phone, mut desk, outside, inside } = ends();
    let draft = invite(&phone, "1001", "2001", &outside);
    let via = phone.send(&draft);
    let arrived = desk.receive_request("INVITE");
    desk.reply(&Draft::answer(&arrived, 486, "Busy Here", "desk"));
    desk.receive_request("ACK");
    let busy = phone.receive_status(486);
    phone.acknowledge(&draft, &via, &busy);
    wait_idle(&lab);
    // The other way round.
    let draft = crate::support::challenged_invite(&mut desk, "2001", "1001", &inside);
    let via = desk.send(&draft);
    let arrived = phone.receive_request("INVITE");
    phone.reply(&Draft::answer(&arrived, 603, "Decline", "phone"));
    phone.receive_request("ACK");
    let declined = desk.receive_status(603);
    desk.acknowledge(&draft, &via, &declined);
    wait_idle(&lab);
}

#[test]
fn hold_and_resume() {
    let Ends { lab, mut phone, mut desk, mut outside, mut inside } = ends();
    let Established { mut caller, arrived, answered, .. } =
        call_desk(&mut phone, &mut desk, [&outside, &inside]);
    talk((&mut outside, &answered, 440), (&mut inside, &arrived, 880));
    for (direction, mirrored) in [("sendonly", "recvonly"), ("sendrecv", "sendrecv")] {
        let offer = |end: &RtpEnd, direction| {
            audio_sdp(&end.local.ip().to_string(), end.local.port()).replace("sendrecv", direction)
        };
        let mut again = caller.request("INVITE");
        again.set("Contact", &format!("<{}>", phone.contact("1001"))).sdp(&offer(&outside, direction));
        phone.send(&again);
        let arrived = desk.receive_request("INVITE");
        assert!(arrived.body().contains(&format!("a={direction}")), "{arrived:?}");
        let mut answer = Draft::answer(&arrived, 200, "OK", "desk");
        answer.set("Contact", &format!("<{}>", desk.contact("2001"))).sdp(&offer(&inside, mirrored));
        desk.reply(&answer);
        let answered = phone.receive_status(200);
        assert!(answered.body().contains(&format!("a={mirrored}")), "{answered:?}");
        phone.send(&caller.ack());
        desk.receive_request("ACK");
    }
    outside.forget();
    outside.wait_heard(880, 5, SOON);
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);
}

#[test]
fn a_change_that_gets_no_ports_is_refused_and_the_call_goes_on() {
    let replace = [("20000-21999", "20000-20001"), ("22000-23999", "22000-22001")];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let mut outside = RtpEnd::open(lab.addresses.phone(1), None);
    let mut inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    let Established { mut caller, arrived, answered, .. } =
        call_desk(&mut phone, &mut desk, [&outside, &inside]);
    talk((&mut outside, &answered, 440), (&mut inside, &arrived, 880));
    let mark = lab.pbx.mark();
    let video = format!("m=video {} RTP/AVP 31\r\n", outside.local.port() + 2);
    let offer = audio_sdp(&outside.local.ip().to_string(), outside.local.port()) + &video;
    let mut change = caller.request("INVITE");
    change.set("Contact", &format!("<{}>", phone.contact("1001"))).sdp(&offer);
    assert_eq!(phone.invite(&change).status(), 503);
    assert_eq!(lab.pbx.requests_after(mark, "INVITE").len(), 0);
    for end in [&outside, &inside] {
        end.forget();
    }
    inside.wait_heard(440, 5, SOON);
    outside.wait_heard(880, 5, SOON);
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);
}

#[test]
fn who_does_not_belong_to_a_call_is_not_heard() {
    let Ends { lab, mut phone, mut desk, mut outside, mut inside } = ends();
    let Established { mut caller, arrived, answered, .. } =
        call_desk(&mut phone, &mut desk, [&outside, &inside]);
    talk((&mut outside, &answered, 440), (&mut inside, &arrived, 880));
    let [intruder, insider] =
        [lab.addresses.phone(66), lab.addresses.phone(67)].map(|address| RtpEnd::open(address, None));
    for _ in 0..10 {
        intruder.send_packets(media_address(&answered), 1_500, 50);
        insider.send_packets(media_address(&arrived), 1_500, 50);
    }
    inside.forget();
    inside.wait_heard(440, 8, SOON);
    assert_eq!(inside.tenths_heard(1_500) + outside.tenths_heard(1_500), 0);
    assert_eq!((intruder.sources(), insider.sources()), (vec![], vec![]), "and no byte goes to them");
    hang_up(&mut phone, &mut caller, &mut desk);
}

#[test]
fn a_call_to_nobody_fails_and_costs_nothing() {
    let Ends { lab, mut phone, outside, .. } = ends();
    let draft = invite(&phone, "1001", "9999", &outside);
    assert_eq!(phone.invite(&draft).status(), 404, "the PBX's own answer");
    wait_idle(&lab);
}

#[test]
fn the_pbx_hangs_up() {
    let Ends { lab, mut phone, mut desk, outside, inside } = ends();
    let Established { mut callee, .. } = call_desk(&mut phone, &mut desk, [&outside, &inside]);
    hang_up(&mut desk, &mut callee, &mut phone);
    wait_idle(&lab);
}

#[test]
fn a_retransmitted_invite_is_one_call() {
    let Ends { lab, mut phone, mut desk, outside, inside } = ends();
    let mark = lab.pbx.mark();
    let draft = invite(&phone, "1001", "2001", &outside);
    let via = phone.send(&draft);
    phone.send_by(&draft, &via);
    phone.send_by(&draft, &via);
    let arrived = desk.receive_request("INVITE");
    crate::support::accept(&mut desk, &arrived, "2001", &inside);
    let answered = phone.receive_status(200);
    let mut caller = Dialog::of_caller(&draft, &answered);
    phone.send(&caller.ack());
    desk.receive_request("ACK");
    // The challenged one and its repetition with credentials: two transactions, whatever the phone repeated.
    let invites = lab.pbx.requests_after(mark, "INVITE");
    let branches: std::collections::BTreeSet<_> = invites.iter().map(|it| it.value("Via")).collect();
    assert!(branches.len() <= 2, "{branches:?}");
    assert_eq!(lab.portcullis.rows(&["calls"]).len(), 1);
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);
}

#[test]
fn a_call_to_a_phone_that_lost_its_connection_gets_480() {
    let Ends { lab, phone, mut desk, inside, .. } = ends();
    drop(phone);
    lab.portcullis.wait_rows(&["registrations"], 1);
    let draft = crate::support::challenged_invite(&mut desk, "2001", "1001", &inside);
    assert_eq!(desk.invite(&draft).status(), 480);
    wait_idle(&lab);
}

#[test]
fn strangers_on_the_inside_are_dropped() {
    let lab = Lab::start();
    let phone = lab.registered_phone(1);
    let contact = lab.pbx.wait_contacts("1001", 1, SOON).remove(0);
    let to = SocketAddr::new(lab.addresses.inside(), 5060);
    let mut stranger = RawPhone::udp(lab.addresses.phone(50), to);
    let mut invite = Draft::invite("2001", "1001", "pbx.lab", &stranger.contact("2001"), "");
    invite.set("To", &format!("<{contact}>"));
    stranger.send(&invite);
    assert_eq!(stranger.receive(Duration::from_secs(2)), Err(Silence::Nothing));
    lab.portcullis.wait_event("inside_stranger", |event| {
        text(event, "source").starts_with(&lab.addresses.phone(50).to_string())
    });
    never_within("a call begins", Duration::from_secs(1), || !lab.portcullis.rows(&["calls"]).is_empty());
    drop(phone);
}

#[test]
fn a_phone_that_came_back_may_hang_up_before_it_registers() {
    let Ends { lab, phone, mut desk, outside, inside } = ends();
    let mut phone = phone;
    let mut call = call_desk(&mut phone, &mut desk, [&outside, &inside]);
    drop(phone);
    let mut other = lab.tls_phone(2, &lab.pki.device(DEVICE_1002));
    other.send(&call.caller.request("BYE"));
    assert_eq!(other.receive_final(SOON).status(), 481, "not its call");
    let mut again = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    hang_up(&mut again, &mut call.caller, &mut desk);
    wait_idle(&lab);
}

#[test]
fn media_from_our_own_outside_address_are_not_heard_and_the_operator_is_told_why() {
    let Ends { lab, mut phone, mut desk, outside, inside } = ends();
    let Established { mut caller, answered, .. } = call_desk(&mut phone, &mut desk, [&outside, &inside]);
    // What a router makes of them that puts our address in the place of the phone's.
    let mut translated = RtpEnd::open(lab.addresses.outside(), None);
    let source = translated.local.to_string();
    translated.send_tone(media_address(&answered), 440);
    let event = lab.portcullis.wait_event("media_refused", |event| text(event, "source") == source);
    assert_eq!((text(&event, "extension"), text(&event, "rule")), ("1001", "media forbidden_source"));
    assert!(text(&event, "next_step").contains("NAT"), "{event}");
    assert_eq!(inside.tenths_heard(440), 0);
    let dropped = lab.portcullis.ask(&["status"]);
    let reasons = dropped.get("dropped").and_then(Value::as_array).expect("the reasons");
    assert!(reasons.iter().any(|it| it.as_str().is_some_and(|it| it.starts_with("media forbidden_source "))));
    never_within("it is told again", Duration::from_millis(2_500), || {
        lab.portcullis.events("media_refused").len() > 1
    });
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);
}

#[test]
fn a_phone_cannot_have_its_media_sent_to_the_inside() {
    let Ends { lab, mut phone, mut desk, outside: _, mut inside } = ends();
    // The victim is a port of the PBX's machine; the call goes as a phone asks for it.
    let victim = RtpEnd::open(lab.addresses.pbx(), None);
    let Established { mut caller, arrived, .. } = call_desk(&mut phone, &mut desk, [&victim, &inside]);
    inside.send_tone(media_address(&arrived), 440);
    let wanted = victim.local.to_string();
    let event = lab.portcullis.wait_event("media_refused", |event| text(event, "source") == wanted);
    assert_eq!((text(&event, "extension"), text(&event, "rule")), ("1001", "media forbidden_destination"));
    assert_eq!(victim.tenths_heard(440), 0);
    assert!(victim.sources().is_empty(), "it got a packet: {:?}", victim.sources());
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);
}
