//! Calls whose answer comes late, and phones that come back by another connection.

use std::time::Duration;

use super::*;
use crate::command::{Answer, Command};

/// A call from the phone on `flow` that the desk accepted and the phone acknowledged: the INVITE that the desk got.
pub(super) fn call(bench: &mut Bench, flow: FlowId) -> Sent {
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    bench.phone_says(flow, &request("ACK", 1, Some("desk"), "", ""));
    bench.take("ACK");
    bench.sent.clear();
    invite
}

#[test]
fn a_late_answer_is_acknowledged_as_often_as_it_comes_and_hung_up_once() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(180, "one", ""));
    // It rings for too long and is given up; two desks accept before they hear of it.
    while bench.try_take("CANCEL").is_none() {
        bench.pass(Duration::from_secs(1));
        if bench.now.as_nanos().is_multiple_of(60_000_000_000) {
            bench.phone_says(
                flow,
                &register("1001", u32::try_from(bench.now.as_nanos() / 1_000_000_000).unwrap()),
            );
        }
    }
    bench.sent.clear();
    let mut seen = Vec::new();
    for _ in 0..4 {
        for tag in ["one", "two"] {
            bench.pbx_says(&accepted(&invite, tag));
            bench.pass(Duration::from_millis(100));
        }
    }
    for method in ["ACK", "BYE"] {
        for tag in ["one", "two"] {
            let to = |sent: &&Sent| {
                sent.text.starts_with(method) && sent.read(|_, essentials| essentials.to.tag() == Some(tag))
            };
            let branches: std::collections::BTreeSet<String> =
                bench.sent.iter().filter(to).map(|sent| sent.header(HeaderName::Via)).collect();
            seen.push((method, tag, bench.sent.iter().filter(to).count(), branches.len()));
        }
    }
    assert_eq!(seen[..2], [("ACK", "one", 4, 1), ("ACK", "two", 4, 1)]);
    for (_, tag, _, transactions) in &seen[2..] {
        assert_eq!(*transactions, 1, "one BYE to {tag}");
    }
}

#[test]
fn the_way_of_a_request_stands_in_the_answers_that_make_a_dialog_and_in_no_others() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let way = "<sip:192.168.1.99;lr>";
    for (cseq, method, status, stands) in
        [(1, "INVITE", 180, true), (2, "INVITE", 486, false), (3, "MESSAGE", 200, false)]
    {
        let text = request(method, cseq, None, "", "").replace("Call-ID: ", &format!("Call-ID: {cseq}"));
        bench.phone_says(flow, &text.replace("CSeq:", &format!("Record-Route: {way}\r\nCSeq:")));
        let asked = bench.take(method);
        bench.pbx_says(&asked.answer(status, "desk", "Contact: <sip:desk@10.0.1.1>"));
        let answers = std::iter::from_fn(|| bench.take_answer(flow));
        let ways: Vec<String> = answers
            .filter(|answer| answer.status() == Some(status))
            .map(|answer| answer.header(HeaderName::RecordRoute))
            .collect();
        assert_eq!(ways, [if stands { way } else { "" }], "{status} to {method}");
    }
}

#[test]
fn what_a_phone_says_in_a_call_goes_the_way_that_the_pbx_gave() {
    // RFC 3261 §12.2.1.1: by a proxy that leaves the target as it is, and by one that replaces it.
    for (way, uri, routes) in [
        ("<sip:10.0.1.1;lr>", "sip:desk@10.0.1.1", "<sip:10.0.1.1;lr>"),
        ("<sip:10.0.1.1>", "sip:10.0.1.1", "<sip:desk@10.0.1.1>"),
    ] {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.registered(100);
        bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
        let invite = bench.take("INVITE");
        let answer = accepted(&invite, "desk");
        bench.pbx_says(&answer.replace("Contact:", &format!("Record-Route: {way}\r\nContact:")));
        bench.phone_says(flow, &request("ACK", 1, Some("desk"), "", ""));
        bench.phone_says(flow, &request("INFO", 2, Some("desk"), "", ""));
        for method in ["ACK", "INFO"] {
            let said = bench.take(method);
            assert!(said.text.starts_with(&format!("{method} {uri} SIP/2.0\r\n")), "{said:?}");
            assert_eq!(said.header(HeaderName::Route), routes, "{method}");
        }
    }
}

#[test]
fn a_relay_that_was_ordered_to_close_keeps_nobody_from_calling() {
    let mut bench = Bench::with_pbx_up(Config { relays_max: 1, ..config() });
    let flow = bench.registered(100);
    call(&mut bench, flow);
    bench.phone_says(flow, &request("INVITE", 2, None, "application/sdp", OFFER));
    let refused = bench.final_answer(flow).and_then(|answer| answer.status());
    assert_eq!(refused, Some(503), "its one relay is taken");

    bench.phone_says(flow, &request("BYE", 3, Some("desk"), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&bye.answer(200, "desk", ""));
    bench.sent.clear();
    for closed in [false, true] {
        // The bench's media plane never says by itself that a relay is closed.
        if closed {
            let event = media::RelayEvent::Closed { relay: media::RelayId(1), received: Default::default() };
            bench.put(Input::Media(event));
        }
        bench.phone_says(flow, &request("INVITE", 4, None, "application/sdp", OFFER));
        assert_eq!(bench.try_take("INVITE").is_some(), !closed, "new at first, a repetition then");
        bench.phone_says(flow, &request("INVITE", 5 + u32::from(closed), None, "application/sdp", OFFER));
        let refused = bench.final_answer(flow).and_then(|answer| answer.status());
        assert_eq!(refused, Some(503), "and there is room for one");
    }
}

#[test]
fn a_phone_that_signs_off_while_its_call_rings_may_still_give_it_up() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(180, "one", ""));
    bench.phone_says(flow, &register("1001", 2).replace("expires=120", "expires=0"));
    bench.sent.clear();
    let before = bench.status().drops;
    let of_invite = |method: &str| {
        let request = request("INVITE", 1, None, "", "");
        request.replace("INVITE sip:", &format!("{method} sip:")).replace("1 INVITE", &format!("1 {method}"))
    };
    let another = of_invite("CANCEL").replace("z9hG4bKINVITE1", "z9hG4bKanother");
    bench.phone_says(flow, &another);
    assert!(bench.try_take("CANCEL").is_none() && bench.final_answer(flow).is_none(), "it is for no INVITE");
    bench.phone_says(flow, &of_invite("CANCEL"));
    bench.take("CANCEL");
    bench.pbx_says(&invite.answer(487, "one", ""));
    bench.phone_says(flow, &of_invite("ACK"));
    assert_eq!(bench.dropped_since(&before), [(crate::DropReason::FlowNotRegistered, 1)]);
}

#[test]
fn a_call_that_its_peer_ends_is_not_ended_once_more_for_a_missing_ack() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    bench.pass(Duration::from_millis(31_900));
    bench.sent.clear();
    bench.phone_says(flow, &request("BYE", 2, Some("desk"), "", ""));
    let bye = bench.take("BYE");
    bench.pass(Duration::from_secs(2));
    while let Some(again) = bench.try_take("BYE") {
        assert_eq!(again.text, bye.text, "no other than the phone's");
    }
    bench.pbx_says(&bye.answer(200, "desk", ""));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    assert_eq!(bench.border.calls.len(), 0);
}

#[test]
fn a_call_that_its_peer_ends_is_not_ended_once_more_for_a_change_that_is_refused() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call(&mut bench, flow);
    bench.phone_says(flow, &request("INVITE", 2, Some("desk"), "application/sdp", OFFER));
    let change = bench.take("INVITE");
    bench.phone_says(flow, &request("BYE", 3, Some("desk"), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&change.answer(481, "desk", ""));
    assert!(bench.try_take("BYE").is_none(), "both ends know of the end");
    bench.pbx_says(&bye.answer(200, "desk", ""));
    assert_eq!(bench.border.calls.len(), 0);
}

#[test]
fn an_answer_for_which_no_ports_can_be_had_is_hung_up_once_and_its_caller_hears_of_no_call() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "", ""));
    // it makes the offer, so that the ports are wanted only now
    let answer = accepted(&bench.take("INVITE"), "desk");
    bench.sent.clear();
    let now = bench.time();
    bench
        .border
        .handle_input(Input::Bytes { flow: INSIDE_UDP, from: pbx_address(0), bytes: answer.as_bytes() }, now);
    let ordered = std::iter::from_fn(|| bench.border.poll_output()).find_map(|output| {
        let Output::Media(media::Order::Open { relay, .. }) = output else { return None };
        Some(relay)
    });
    let fault = media::RelayFault::NoPorts;
    bench.put(Input::Media(media::RelayEvent::Failed { relay: ordered.unwrap(), fault }));
    let byes: Vec<FlowId> = std::iter::from_fn(|| bench.try_take("BYE")).map(|bye| bye.flow).collect();
    assert_eq!((byes, bench.take("ACK").flow), (vec![INSIDE_UDP], INSIDE_UDP));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503));
}

#[test]
fn a_word_that_comes_before_the_answer_and_gets_no_ports_is_not_acknowledged() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "", ""));
    let invite = bench.take("INVITE");
    let offers = format!(
        "Require: 100rel\r\nRSeq: 7\r\nContact: <sip:desk@10.0.1.1>\r\nContent-Type: application/sdp\r\n\r\n{OFFER}"
    );
    let word = invite.answer(183, "desk", &offers.replace("192.168.1.20", "10.0.1.1"));
    bench.sent.clear();
    let input = Input::Bytes { flow: INSIDE_UDP, from: pbx_address(0), bytes: word.as_bytes() };
    bench.border.handle_input(input, bench.time());
    let ordered = std::iter::from_fn(|| bench.border.poll_output()).find_map(|output| {
        let Output::Media(media::Order::Open { relay, .. }) = output else { return None };
        Some(relay)
    });
    let fault = media::RelayFault::NoPorts;
    bench.put(Input::Media(media::RelayEvent::Failed { relay: ordered.unwrap(), fault }));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503));
    bench.take("CANCEL");
    assert!(bench.try_take("ACK").is_none() && bench.try_take("BYE").is_none(), "nobody has accepted");
    bench.pbx_says(&invite.answer(487, "desk", ""));
    assert_eq!(bench.border.calls.len(), 0);
}

#[test]
fn what_comes_after_a_change_that_waits_for_ports_goes_after_it_and_a_bye_before() {
    for says in ["INFO", "BYE"] {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.registered(100);
        call(&mut bench, flow);
        let video = format!("{OFFER}m=video 30002 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n");
        let change = request("INVITE", 2, Some("desk"), "application/sdp", &video);
        let input = Input::Bytes { flow, from: phone_address(flow), bytes: change.as_bytes() };
        bench.border.handle_input(input, bench.time());
        let ordered = std::iter::from_fn(|| bench.border.poll_output()).find_map(|output| {
            let Output::Media(media::Order::Open { relay, .. }) = output else { return None };
            Some(relay)
        });
        bench.sent.clear();
        bench.phone_says(flow, &request(says, 3, Some("desk"), "", ""));
        if says == "BYE" {
            assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(487), "the change");
            bench.take("BYE");
        } else {
            assert!(bench.try_take(says).is_none(), "it waits");
        }
        let ready = media::RelayEvent::Ready { relay: ordered.unwrap(), ports: [40_900, 40_902] };
        bench.put(Input::Media(ready));
        let next: Vec<_> = bench.sent.iter().filter(|sent| sent.flow == INSIDE_UDP).collect();
        let methods: Vec<_> = next.iter().filter_map(|sent| sent.text.split(" ").next()).collect();
        assert_eq!(methods, if says == "INFO" { vec!["INVITE", "INFO"] } else { vec![] });
    }
}

#[test]
fn a_change_whose_answer_cannot_be_carried_ends_the_call_at_both_ends() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call(&mut bench, flow);
    bench.phone_says(flow, &request("INVITE", 2, Some("desk"), "application/sdp", OFFER));
    let change = bench.take("INVITE");
    bench.sent.clear();
    bench.pbx_says(&accepted(&change, "desk").replace("v=0", "v=zero"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(488));
    let byes: Vec<FlowId> = std::iter::from_fn(|| bench.try_take("BYE")).map(|bye| bye.flow).collect();
    assert_eq!(byes, [flow, INSIDE_UDP]);
    assert_eq!(bench.border.calls.len(), 0);
}

#[test]
fn a_device_that_came_back_may_go_on_with_its_call_before_it_registers() {
    let mut bench = Bench::with_pbx_up(config());
    let old = bench.registered(100);
    call(&mut bench, old);
    bench.put(Input::FlowClosed { flow: old });

    let other = bench.connect(101, Some(OTHER_DEVICE));
    bench.phone_says(other, &request("BYE", 7, Some("desk"), "", ""));
    assert_eq!(bench.take_answer(other).and_then(|answer| answer.status()), Some(481), "not its call");
    for (flow, device) in [(102, Some("009033ffffff")), (103, None)] {
        let stranger = bench.connect(flow, device);
        bench.phone_says(stranger, &request("BYE", 7, Some("desk"), "", ""));
        assert_eq!(bench.take_answer(stranger).map(|answer| answer.text), None, "{device:?} is a stranger");
    }
    assert!(bench.try_take("BYE").is_none());

    let new = bench.connect(104, Some(DEVICE));
    bench.phone_says(new, &request("INFO", 2, Some("desk"), "application/dtmf-relay", "Signal=1"));
    let info = bench.take("INFO");
    bench.pbx_says(&info.answer(200, "desk", ""));
    assert_eq!(bench.take_answer(new).and_then(|answer| answer.status()), Some(200));
    bench.phone_says(new, &request("BYE", 3, Some("desk"), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&bye.answer(200, "desk", ""));
    assert_eq!(bench.take_answer(new).and_then(|answer| answer.status()), Some(200));
    assert!(!bench.has_event(Code::FlowNotRegistered));
    bench.phone_says(new, &request("INVITE", 4, Some("desk"), "application/sdp", OFFER));
    assert_eq!(bench.final_answer(new).and_then(|answer| answer.status()), Some(481), "the call is over");
    assert!(!bench.has_event(Code::FlowNotRegistered), "a device of ours is no offender for it");
}

#[test]
fn the_400_for_what_cannot_be_read_has_a_tag() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let broken =
        request("MESSAGE", 2, None, "text/plain", "x").replace("Max-Forwards: 70", "Content-Type: a/b");
    bench.phone_says(flow, &broken);
    let answer = bench.take_answer(flow).unwrap();
    assert_eq!(answer.status(), Some(400));
    let tag = answer.read(|_, essentials| essentials.to.tag().map(str::to_owned));
    assert!(tag.as_ref().is_some_and(|tag| !tag.is_empty()), "{answer:?}");
    bench.phone_says(flow, &broken);
    assert_eq!(
        bench.take_answer(flow).map(|again| again.text),
        Some(answer.text),
        "a repetition is the same"
    );
}

#[test]
fn refused_media_are_told_once_for_each_leg_and_reason() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let refused = |side, reason, from: &str| {
        let sample = from.parse().unwrap();
        Input::Media(media::RelayEvent::Refused { relay: media::RelayId(1), side, reason, count: 50, sample })
    };
    for _ in 0..10 {
        bench.put(refused(Side::Outside, media::DropReason::ForbiddenSource, "203.0.113.10:4000"));
        bench.put(refused(Side::Inside, media::DropReason::ForbiddenSource, "10.0.0.1:4000"));
    }
    let told: Vec<_> = bench.events.iter().filter(|event| event.code == Code::MediaRefused).collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    let first = told[0];
    assert_eq!(first.source, Some("203.0.113.10:4000".parse().unwrap()));
    assert_eq!(
        (first.extension.as_deref(), first.rule.as_deref()),
        (Some("1001"), Some("media forbidden_source"))
    );
    assert!(
        first.text.contains("our own outside address") && first.next_step.contains("hairpin"),
        "{first:?}"
    );
    // What comes in good calls as well is told when it goes on.
    for second in 1..=10 {
        bench.put(refused(Side::Outside, media::DropReason::Stranger, "198.51.100.9:4000"));
        let told = bench.events.iter().filter(|event| event.code == Code::MediaRefused).count();
        assert_eq!(told, if second < 4 { 2 } else { 3 });
    }
    bench.put(Input::Media(media::RelayEvent::Refused {
        relay: media::RelayId(77),
        side: Side::Outside,
        reason: media::DropReason::Blocked,
        count: 1,
        sample: "198.51.100.9:4000".parse().unwrap(),
    }));
    assert_eq!(bench.events.iter().filter(|event| event.code == Code::MediaRefused).count(), 3);
}

#[test]
fn a_stored_password_is_given_where_it_was_asked_for() {
    for (status, asked, given, other) in [
        (401, "WWW-Authenticate", "Authorization", "Proxy-Authorization"),
        (407, "Proxy-Authenticate", "Proxy-Authorization", "Authorization"),
    ] {
        let mut config = config();
        config.pbx[0].realm = Some("main.example".into());
        let mut bench = Bench::with_pbx_up(config);
        let flow = bench.registered(100);
        bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
        let invite = bench.take("INVITE");
        bench.sent.clear();
        bench.pbx_says(&invite.answer(status, "pbx", &CHALLENGE.replace("WWW-Authenticate", asked)));
        let again = bench.take("INVITE").text;
        assert!(again.contains(&format!("\r\n{given}: Digest username=\"1001\"")), "{status}: {again}");
        assert!(!again.contains(&format!("\r\n{other}: ")), "{status}: {again}");
    }
}

#[test]
fn a_caller_is_his_extension_to_the_pbx_and_stays_hidden_where_he_hides() {
    for (from, told) in [
        ("<sip:1001@main.example>", "<sip:1001@main.example>"),
        ("\"Ann\" <sip:1001@203.0.113.10>", "\"Ann\" <sip:1001@main.example>"),
        ("Anonymous <sip:anonymous@anonymous.invalid>", "\"Anonymous\" <sip:anonymous@anonymous.invalid>"),
        ("<sip:anonymous@Anonymous.Invalid>", "<sip:anonymous@anonymous.invalid>"),
    ] {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.registered(100);
        let invite = request("INVITE", 1, None, "application/sdp", OFFER);
        bench.phone_says(flow, &invite.replace("<sip:1001@main.example>", from));
        let invite = bench.take("INVITE");
        assert_eq!(invite.header(HeaderName::From), format!("{told};tag=phone"));
        assert_eq!(invite.text.contains("1001"), told.contains("1001"), "{invite:?}");
    }
}

#[test]
fn an_answer_under_another_name_than_its_invite_makes_no_dialog() {
    for (from, to) in [(";tag=phone", ";tag=other"), (";tag=phone", ""), ("Call-ID: ", "Call-ID: x")] {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.registered(100);
        bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
        let invite = bench.take("INVITE");
        let answer = accepted(&invite, "desk").replace(from, to);
        bench.pbx_says(&answer);
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(502), "{to}");
        assert!(states(&mut bench).is_empty(), "{to}");
        // It is repeated when the call is over.
        bench.pbx_says(&answer);
        let acknowledged = bench.sent.iter().filter(|sent| sent.text.starts_with("ACK")).count();
        assert_eq!(acknowledged, if from.starts_with(';') { 0 } else { 2 }, "{to}");
    }
}

#[test]
fn a_call_that_would_take_the_name_of_another_is_hung_up() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call(&mut bench, flow);
    // The same Call-ID and From tag in another INVITE, and the PBX gives the same To tag.
    let again =
        request("INVITE", 1, None, "application/sdp", OFFER).replace("z9hG4bKINVITE1", "z9hG4bKagain");
    bench.phone_says(flow, &again);
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(502));
    assert!(bench.try_take("ACK").is_some() && bench.try_take("BYE").is_some());
    assert_eq!(states(&mut bench), ["confirmed"], "the first one");
    bench.phone_says(flow, &request("BYE", 2, Some("desk"), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&bye.answer(200, "desk", ""));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    assert!(states(&mut bench).is_empty());
}

/// The states of all calls, as the operator reads them.
fn states(bench: &mut Bench) -> Vec<&'static str> {
    let Answer::Calls(rows) = bench.ask(Command::Calls) else { panic!("no calls") };
    rows.iter().map(|row| row.state).collect()
}

#[test]
fn a_call_that_ends_does_not_ring_again() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    assert_eq!(states(&mut bench), ["trying"]);
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(180, "desk", ""));
    assert_eq!(states(&mut bench), ["ringing"]);
    bench.phone_says(flow, &request("BYE", 2, Some("desk"), "", ""));
    assert_eq!(states(&mut bench), ["ending"]);
    // Another desk of the fork rings a moment later; the BYE is never answered.
    bench.pass(Duration::from_secs(1));
    bench.pbx_says(&invite.answer(180, "other", ""));
    assert_eq!(states(&mut bench), ["ending"]);
    bench.pass(Duration::from_secs(40));
    assert!(states(&mut bench).is_empty(), "its time to end is not prolonged");
}

#[test]
fn what_rings_after_somebody_accepted_changes_nothing() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    bench.pbx_says(&invite.answer(180, "other", ""));
    assert_eq!(states(&mut bench), ["confirmed"]);
    bench.pbx_says(&accepted(&invite, "other"));
    assert_eq!(states(&mut bench), ["confirmed"], "both accepted");
}

/// A call that the PBX accepted with this Contact, and the ACK for it.
fn acknowledged(bench: &mut Bench, flow: FlowId, contact: &str) -> Sent {
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk").replace("sip:desk@10.0.1.1", contact));
    bench.phone_says(flow, &request("ACK", 1, Some("desk"), "", ""));
    bench.take("ACK")
}

#[test]
fn the_pbx_cannot_send_us_to_addresses_that_are_none_of_the_inside() {
    for (contact, to) in [
        ("sip:desk@10.0.5.5:5070", Some("10.0.5.5:5070")),
        ("sip:desk@10.0.1.1:7000;transport=tcp", Some("10.0.1.1:7000")),
        ("sip:desk@10.0.0.1:5060", Some("10.0.0.1:5060")),
        ("sip:desk@127.0.0.1:46379;transport=tcp", None),
        ("sip:desk@[::ffff:127.0.0.1]:46379;transport=tcp", None),
        ("sip:desk@127.0.0.1", None),
        ("sip:desk@10.0.0.1:22;transport=tcp", None),
        ("sip:desk@203.0.113.10:5061;transport=tcp", None),
        ("sip:desk@224.0.0.1", None),
        ("sip:desk@169.254.169.254:80;transport=tcp", None),
        ("sip:desk@255.255.255.255", None),
        ("sip:desk@0.0.0.0", None),
        ("sip:desk@[2001:db8::1]", None),
        ("sip:desk@10.0.5.5:0", None),
    ] {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.registered(100);
        let ack = acknowledged(&mut bench, flow, contact);
        let expected = to.map_or(pbx_address(0), |to| to.parse().unwrap());
        assert_eq!(ack.to, expected, "{contact}");
        assert!(ack.text.starts_with(&format!("ACK {contact} SIP/2.0\r\n")), "{}", ack.text);
        bench.phone_says(flow, &request("BYE", 2, Some("desk"), "", ""));
        let bye = bench.take("BYE");
        assert_eq!(bye.to, expected, "{contact}");
        let told = bench.events.iter().filter(|event| event.code == Code::TargetRefused).count();
        assert_eq!(told, usize::from(to.is_none()), "one event for {contact}");
        if to.is_none() {
            bench.pbx_says(&bye.answer(200, "desk", ""));
            assert_eq!(bench.border.unfinished()[3], ("calls", 0));
        }
    }
}

#[test]
fn connections_that_the_pbx_makes_us_open_have_a_bound() {
    let bound = 64;
    let mut config = Config { relays_max: 200, ..config() };
    config.extensions[0].max_calls = 200;
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.registered(100);
    for number in 0..=bound {
        let of_call = |text: String| {
            text.replace("call-1", &format!("call-{number}")).replace("z9hG4bK", &format!("z9hG4bK{number}"))
        };
        bench.phone_says(flow, &of_call(request("INVITE", 1, None, "application/sdp", OFFER)));
        let invite = bench.take("INVITE");
        let contact = format!("sip:desk@10.0.5.{};transport=tcp", number + 1);
        bench.pbx_says(&accepted(&invite, "desk").replace("sip:desk@10.0.1.1", &contact));
        bench.phone_says(flow, &of_call(request("ACK", 1, Some("desk"), "", "")));
        let ack = bench.take("ACK");
        assert_eq!(ack.to == pbx_address(0), number == bound, "the PBX gets what there is no room for");
        bench.now += Duration::from_millis(100);
    }
    // One of them is there by now: it goes for the next.
    let opened = bench.opening.remove(0);
    let tuple = FiveTuple {
        transport: Transport::Tcp,
        local: "10.0.0.1:40000".parse().unwrap(),
        remote: "10.0.5.1:5060".parse().unwrap(),
    };
    bench.put(Input::FlowOpened { flow: opened, side: Side::Inside, tuple, device: None });
    bench.phone_says(
        flow,
        &request("BYE", 2, Some("desk"), "", "").replace("call-1", &format!("call-{bound}")),
    );
    assert_eq!(bench.take("BYE").to, format!("10.0.5.{}:5060", bound + 1).parse().unwrap());
    assert!(bench.closed.contains(&opened));
}

/// What the phone's REFER, with this target, is at the PBX.
fn referred(bench: &mut Bench, flow: FlowId, cseq: u32, target: &str) -> String {
    let refer = request("REFER", cseq, Some("desk"), "", "");
    let refer = refer.replace("Max-Forwards", &format!("Refer-To: <{target}>\r\nMax-Forwards"));
    bench.phone_says(flow, &refer);
    bench.take("REFER").header(HeaderName::ReferTo)
}

#[test]
fn a_transfer_names_the_other_call_as_the_other_side_knows_it() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    bench.phone_says(flow, &request("ACK", 1, Some("desk"), "", ""));
    bench.sent.clear();
    let inside = invite.header(HeaderName::CallId);

    let target = |call_id: &str| {
        format!("sip:2002@main.example?Replaces={call_id}%3Bto-tag%3Ddesk%3Bfrom-tag%3Dphone&X-Secret=1")
    };
    let mapped = format!("<sip:2002@main.example?Replaces={inside}%3Bto-tag%3Ddesk%3Bfrom-tag%3Dphone>");
    assert_eq!(referred(&mut bench, flow, 2, &target("call-1")), mapped);
    assert_eq!(referred(&mut bench, flow, 3, &target("no-call")), "<sip:2002@main.example>");
    let elsewhere = target("call-1").replace("main.example", "other.example");
    assert_eq!(
        referred(&mut bench, flow, 4, &elsewhere),
        mapped.replace("2002@main.example", "2002@other.example")
    );

    // The other way, and by a call that begins in the place of another.
    for (call_id, expected) in [
        (inside.as_str(), target("call-1").replace("&X-Secret=1", "")),
        ("secretcid%4010.0.1.1", "sip:2002@main.example".to_owned()),
    ] {
        let refer = format!(
            "REFER sip:1001@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1;branch=z9hG4bK{}\r\n\
             From: <sip:2001@main.example>;tag=desk\r\nTo: <sip:1001@main.example>;tag=phone\r\n\
             Call-ID: {inside}\r\nCSeq: {} REFER\r\nContact: <sip:desk@10.0.1.1>\r\nRefer-To: <{}>\r\n\
             Content-Length: 0\r\n\r\n",
            call_id.len(),
            200 - call_id.len(),
            target(call_id)
        );
        bench.pbx_says(&refer);
        assert_eq!(bench.take("REFER").header(HeaderName::ReferTo), format!("<{expected}>"));
    }
    let again = request("INVITE", 1, None, "application/sdp", OFFER)
        .replace("call-1", "call-2")
        .replace("Max-Forwards", "Replaces: call-1;to-tag=desk;from-tag=phone\r\nMax-Forwards")
        .replace("z9hG4bKINVITE1", "z9hG4bKsecond");
    bench.phone_says(flow, &again);
    let replacing = bench.take("INVITE").header(HeaderName::Replaces);
    assert_eq!(replacing, format!("{inside};to-tag=desk;from-tag=phone"));
}

#[test]
fn what_a_phone_began_while_it_was_registered_is_repeated_and_given_up_as_ever() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let signs_off = |bench: &mut Bench, cseq| {
        bench.phone_says(flow, &register("1001", cseq).replace("expires=120", "expires=0"));
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
        bench.sent.clear();
    };
    let refused = request("INVITE", 1, None, "application/sdp", OFFER);
    bench.phone_says(flow, &refused);
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(486, "busy", ""));
    let first = bench.final_answer(flow).expect("it is refused");
    signs_off(&mut bench, 2);
    bench.phone_says(flow, &refused);
    assert_eq!(bench.final_answer(flow).map(|again| again.text), Some(first.text), "the same answer again");

    bench.phone_says(flow, &register("1001", 3));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.phone_says(flow, &request("INVITE", 4, None, "application/sdp", OFFER));
    let ringing = bench.take("INVITE");
    bench.pbx_says(&ringing.answer(180, "desk", ""));
    signs_off(&mut bench, 5);
    let cancel = request("CANCEL", 4, None, "", "").replace("z9hG4bKCANCEL4", "z9hG4bKINVITE4");
    bench.phone_says(flow, &cancel);
    assert!(bench.try_take("CANCEL").is_some(), "{:#?}", bench.sent);
    assert!(!bench.has_event(Code::FlowNotRegistered));
}

#[test]
fn a_call_has_a_few_re_invites_under_way_and_no_more() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call(&mut bench, flow);
    let again = |cseq| request("INVITE", cseq, Some("desk"), "application/sdp", OFFER);
    let mut under_way = Vec::new();
    for cseq in 2..10 {
        bench.phone_says(flow, &again(cseq));
        under_way.push(bench.take("INVITE"));
    }
    bench.phone_says(flow, &again(10));
    assert!(bench.try_take("INVITE").is_none(), "it crossed");
    let refused = bench.final_answer(flow).unwrap();
    assert_eq!((refused.status(), refused.header(HeaderName::RetryAfter)), (Some(500), "5".into()));
    // When one has its answer there is room again.
    bench.pbx_says(&under_way[3].answer(491, "desk", ""));
    bench.phone_says(flow, &again(11));
    bench.take("INVITE");
}
