//! Packets that get lost: all of them on the way to the PBX, or half of them on either side. Needs root.

use std::collections::BTreeSet;
use std::time::Duration;

use portcullis_tests::deadline::{Deadline, pause, wait_until};
use portcullis_tests::dialog::Dialog;
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab, Variation};
use portcullis_tests::raw_message::{Draft, RawMessage};
use portcullis_tests::raw_phone::RawPhone;
use portcullis_tests::rtp::RtpEnd;

use super::party::{Answering, attend, is_answer, turn_away};
use crate::support::{SOON, call_desk, challenged_invite, hang_up, invite, number, talk, text, wait_idle};

/// A phone that registers first while nobody hears the PBX waits ten seconds for its answer; more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// 64·T1 (RFC 3261 §17): after that a phone gives up.
const GIVES_UP: Duration = Duration::from_secs(32);
/// For what needs several tries when half of the packets are lost.
const MANY_TRIES: Duration = Duration::from_secs(300);

/// A lab in which packets can get lost.
fn lab() -> Lab {
    let rules = [("rules = [\"5/1s\", \"60/1h\"]", "rules = [\"50/1s\", \"9000/1h\"]")];
    Lab::with(&Variation { isolated: true, replace: &rules, ..Variation::default() })
}

fn lose(lab: &Lab, rules: &[String]) {
    let network = lab.network().expect("a network of its own");
    rules.iter().for_each(|rule| network.lose(rule));
}

fn heal(lab: &Lab) {
    let lost = lab.network().expect("a network of its own").heal();
    assert!(lost > 0, "the rules fit no packet");
}

/// Rules for the way from the border to the PBX, and for the way back.
fn ways(lab: &Lab) -> [String; 2] {
    let (own, pbx) = (lab.addresses.inside(), lab.addresses.pbx());
    [(own, pbx), (pbx, own)].map(|(from, to)| format!("ip saddr {from} ip daddr {to}"))
}

#[test]
fn a_pbx_behind_a_black_hole_is_down_until_it_is_back() {
    let lab = lab();
    let (mut known, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let contact = lab.pbx.wait_contacts("1001", 1, SOON);
    let mut outside = RtpEnd::open(lab.addresses.phone(1), lab.network());
    let mut inside = RtpEnd::open(lab.addresses.inside_phone(), lab.network());
    let mut up = call_desk(&mut known, &mut desk, [&outside, &inside]);

    lose(&lab, &ways(&lab));
    let mut newcomer = lab.tls_phone(2, &lab.pki.device(DEVICE_1002));
    refused_for_now(&mut newcomer, "1002");
    assert_eq!(known.register("1001", DOMAIN).status(), 200, "a refresh is ours to answer");
    let down = lab.portcullis.wait_event("pbx_down", |_| true);
    assert!(text(&down, "next_step").contains("PBX"), "{down}");
    let refused = known.invite(&invite(&known, "1001", "2001", &outside));
    assert_eq!(refused.status(), 503, "{refused:?}");
    lab.portcullis.wait_event("call_failed", |event| text(event, "extension") == "1001");
    refused_for_now(&mut newcomer, "1002");
    let mut stranger = lab.tls_phone(3, &lab.pki.device("009033fffffe"));
    assert_eq!(stranger.register("1001", DOMAIN).status(), 403, "nobody gets in by it");
    talk((&mut outside, &up.answered, 440), (&mut inside, &up.arrived, 880));

    heal(&lab);
    lab.portcullis.wait_event("pbx_up", |event| text(event, "time") > text(&down, "time"));
    hang_up(&mut known, &mut up.caller, &mut desk);
    wait_idle(&lab);
    assert_eq!(newcomer.register("1002", DOMAIN).status(), 200);
    assert_eq!(lab.pbx.wait_contacts("1001", 1, SOON), contact, "neither lost nor doubled");
    assert_eq!(lab.pbx.contacts("1002").len(), 1);
}

/// A phone that is not known yet is told to come again.
fn refused_for_now(phone: &mut RawPhone, extension: &str) {
    phone.send(&Draft::register(extension, DOMAIN, &phone.contact(extension), 60));
    let refused = phone.receive_final(PATIENCE);
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert!(refused.value("Retry-After").parse::<u32>().is_ok(), "{refused:?}");
}

#[test]
fn a_way_that_is_lost_in_one_direction_is_a_way_that_is_lost() {
    for direction in [0, 1] {
        let lab = lab();
        let (mut known, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
        let contact = lab.pbx.wait_contacts("1001", 1, SOON);
        let mut newcomer = lab.tls_phone(2, &lab.pki.device(DEVICE_1002));
        let audio = RtpEnd::open(lab.addresses.inside_phone(), lab.network());
        let ringing = challenged_invite(&mut desk, "2001", "1001", &audio);

        lose(&lab, &ways(&lab)[direction..=direction]);
        refused_for_now(&mut newcomer, "1002");
        let down = lab.portcullis.wait_event("pbx_down", |_| true);
        assert_eq!(known.register("1001", DOMAIN).status(), 200);
        if direction == 0 {
            desk.send(&ringing);
            let arrived = known.receive_request("INVITE");
            known.reply(&Draft::answer(&arrived, 486, "Busy Here", "busy"));
        }

        heal(&lab);
        lab.portcullis.wait_event("pbx_up", |event| text(event, "time") > text(&down, "time"));
        assert_eq!(newcomer.register("1002", DOMAIN).status(), 200);
        assert_eq!(lab.pbx.wait_contacts("1001", 1, SOON), contact);
        lab.pbx.wait_contacts("1002", 1, SOON);
        wait_at_rest(&lab, &mut [&mut known, &mut desk]);
    }
}

#[test]
fn half_of_the_packets_outside_may_be_lost() {
    let lab = lab();
    let inside = RtpEnd::open(lab.addresses.inside_phone(), lab.network());
    let outside = RtpEnd::open(lab.addresses.phone(1), lab.network());
    let _desk = Answering::start(lab.desk_phone("2001"), "2001", inside.local);
    let (mut phone, mark) = (lab.udp_phone(1), lab.pbx.mark());
    let (own, half) = (lab.addresses.outside(), "meta l4proto udp numgen random mod 2 == 0");
    lose(&lab, &[format!("ip daddr {own} {half}"), format!("ip saddr {own} {half}")]);

    until_it_works("1003 registers", || {
        let mut register = Draft::register("1003", DOMAIN, &phone.contact("1003"), 60);
        let challenge = persist(&mut phone, &register)?;
        register.follow_up().authorize(&challenge, "1003", "secret1003");
        persist(&mut phone, &register).filter(|answer| answer.status() == 200)
    });
    assert_eq!(lab.pbx.contacts("1003").len(), 1);
    until_it_works("1003 calls 2001", || {
        let mut draft = invite(&phone, "1003", "2001", &outside);
        let challenge = persist(&mut phone, &draft)?;
        draft.follow_up().authorize(&challenge, "1003", "secret1003");
        call_and_hang_up(&mut phone, &draft)
    });

    heal(&lab);
    wait_at_rest(&lab, &mut [&mut phone]);
    let received = lab.pbx.received_after(mark);
    let from_phones = received.iter().filter(|message| ["REGISTER", "INVITE"].contains(&message.method()));
    let mut seen = BTreeSet::new();
    for request in from_phones {
        let first = seen.insert(request.value("Call-ID") + " " + &request.value("CSeq"));
        assert!(first, "what a phone sends again reaches the PBX once: {request:?}");
    }
}

#[test]
fn half_of_the_packets_inside_may_be_lost() {
    let lab = lab();
    let inside = RtpEnd::open(lab.addresses.inside_phone(), lab.network());
    let outside = RtpEnd::open(lab.addresses.phone(1), lab.network());
    let _desk = Answering::start(lab.desk_phone("2001"), "2001", inside.local);
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    lose(&lab, &ways(&lab).map(|way| format!("{way} meta l4proto udp numgen random mod 2 == 0")));

    until_it_works("1001 registers", || {
        phone.send(&Draft::register("1001", DOMAIN, &phone.contact("1001"), 60));
        let answer = phone.receive_final(PATIENCE);
        assert!([200, 503].contains(&answer.status()), "{answer:?}");
        assert!(lab.pbx.contacts("1001").len() <= 1, "one contact for each device");
        (answer.status() == 200).then_some(())
    });
    until_it_works("1001 calls 2001", || {
        // its registration may be over by now
        phone.send(&Draft::register("1001", DOMAIN, &phone.contact("1001"), 60));
        let registers = |answer: &RawMessage| answer.value("CSeq").ends_with("REGISTER");
        let answer = std::iter::repeat_with(|| phone.receive_final(PATIENCE)).find(registers)?;
        if answer.status() != 200 {
            return None;
        }
        let draft = invite(&phone, "1001", "2001", &outside);
        call_and_hang_up(&mut phone, &draft)
    });

    heal(&lab);
    wait_at_rest(&lab, &mut [&mut phone]);
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    lab.pbx.wait_contacts("1001", 1, SOON);
}

/// Tries again, a second later, until something comes of it.
#[track_caller]
fn until_it_works<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(MANY_TRIES);
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(deadline.left().is_some(), "not within {MANY_TRIES:?}: {what}");
        pause(Duration::from_secs(1));
    }
}

/// Sends a request as often as RFC 3261 says until its final answer; none where the phone gives up.
fn persist(phone: &mut RawPhone, draft: &Draft) -> Option<RawMessage> {
    let via = phone.send(draft);
    let answer = repeat(phone, draft, &via, None)?;
    if answer.status() >= 300 && is_invite(draft) {
        phone.acknowledge(draft, &via, &answer);
    }
    Some(answer)
}

/// A call that is answered, acknowledged and hung up; none where it was refused, or given up.
fn call_and_hang_up(phone: &mut RawPhone, draft: &Draft) -> Option<()> {
    let answered = persist(phone, draft).filter(|answer| answer.status() == 200)?;
    let mut dialog = Dialog::of_caller(draft, &answered);
    let ack = dialog.ack();
    phone.send(&ack);
    let bye = dialog.request("BYE");
    let via = phone.send(&bye);
    let answer = repeat(phone, &bye, &via, Some(&ack))?;
    (answer.status() == 200).then_some(())
}

/// The final answer to a request that was sent by this Via. Over UDP the request is sent again meanwhile, an INVITE
/// only until it has any answer. Who does not hear the ACK says 200 again, and gets it again.
fn repeat(phone: &mut RawPhone, draft: &Draft, via: &str, ack: Option<&Draft>) -> Option<RawMessage> {
    let deadline = Deadline::after(GIVES_UP);
    let (mut pause, mut heard) = (Duration::from_millis(500), false);
    let mut next = Deadline::after(pause);
    while let Some(left) = deadline.left() {
        match phone.receive(next.left().unwrap_or_default().min(left)) {
            Ok(message) if is_answer(&message, draft) && message.status() >= 200 => return Some(message),
            Ok(message) if is_answer(&message, draft) => heard = true,
            Ok(message) => match ack.filter(|_| message.status() == 200) {
                Some(ack) => drop(phone.send(ack)),
                None => turn_away(phone, &message),
            },
            Err(_) => {}
        }
        if next.left().is_none() {
            pause = (pause * 2).min(Duration::from_secs(4));
            next = Deadline::after(pause);
            if phone.transport() == "UDP" && !(is_invite(draft) && heard) {
                phone.send_by(draft, via);
            }
        }
    }
    None
}

fn is_invite(draft: &Draft) -> bool {
    draft.get("CSeq").ends_with(" INVITE")
}

/// Waits until calls, relays and ports are given back; the phones turn away what still comes.
#[track_caller]
fn wait_at_rest(lab: &Lab, phones: &mut [&mut RawPhone]) {
    wait_until("everything comes to rest", MANY_TRIES, || {
        phones.iter_mut().for_each(|phone| attend(phone));
        let status = lab.portcullis.ask(&["status"]);
        let counts = [number(&status, "calls"), number(&status, "relays"), lab.media_ports() as f64];
        (counts == [0.0; 3]).then_some(())
    });
}
