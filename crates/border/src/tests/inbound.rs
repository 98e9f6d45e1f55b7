//! Calls from the PBX to a phone.

use super::*;

use crate::command::{Answer, Command};

/// A phone of 1001, and the URI by which the PBX reaches it.
fn phone(bench: &mut Bench) -> (FlowId, String) {
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.sent.clear();
    let contact = asked.header(HeaderName::Contact);
    let (uri, _) = contact.trim_start_matches('<').split_once('>').unwrap();
    (flow, uri.to_owned())
}

/// The desk 2001 calls, or says something in that call.
fn desk(method: &str, uri: &str, call: u32, to_tag: &str, body: &str) -> String {
    let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1;branch=z9hG4bK{method}{call}\r\nMax-Forwards: 70\r\n\
         From: <sip:2001@main.example>;tag=desk{call}\r\nTo: <sip:1001@main.example>{to_tag}\r\n\
         Call-ID: in-{call}\r\nCSeq: 1 {method}\r\nContact: <sip:2001@10.0.1.1>\r\n{content}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_call_beyond_max_calls_hears_480_and_when_to_try_again() {
    let mut config = config();
    config.extensions[0].max_calls = 1;
    let mut bench = Bench::with_pbx_up(config);
    let (flow, uri) = phone(&mut bench);
    bench.pbx_says(&desk("INVITE", &uri, 1, "", OFFER));
    bench.take("INVITE");
    assert!(bench.final_answer(INSIDE_UDP).is_none());
    bench.pbx_says(&desk("INVITE", &uri, 2, "", OFFER));
    assert!(bench.try_take("INVITE").is_none());
    let refused = bench.final_answer(INSIDE_UDP).unwrap();
    assert_eq!((refused.status(), refused.header(HeaderName::RetryAfter).as_str()), (Some(480), "5"));
    assert_eq!(refused.header(HeaderName::Warning), "399 10.0.0.1 \"max_calls\"");
    let event = bench.events.iter().find(|event| event.code == Code::CallLimited).unwrap();
    assert_eq!((event.rule.as_deref(), event.extension.as_deref()), (Some("max_calls"), Some("1001")));
    assert!(event.text.contains("max_calls 1"), "{event:?}");
    // The phone's own call says it alike.
    bench.events.clear();
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let event = bench.events.iter().find(|event| event.code == Code::CallLimited).unwrap();
    assert!(event.rule.as_deref() == Some("max_calls") && event.text.contains("max_calls 1"), "{event:?}");
}

#[test]
fn a_phone_that_moves_while_it_rings_is_known_by_both_its_places() {
    let mut bench = Bench::with_pbx_up(config());
    let (flow, uri) = phone(&mut bench);
    bench.pbx_says(&desk("INVITE", &uri, 1, "", OFFER));
    let invite = bench.take("INVITE");
    bench.phone_says(flow, &register("1001", 2).replace("192.168.1.20", "192.168.9.90"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    bench.sent.clear();
    for (old_or_new, crosses) in [("192.168.1.20", false), ("192.168.9.90", false), ("192.168.1.21", true)] {
        // An address of its network that is no name of its own is no matter of ours.
        bench.phone_says(flow, &invite.answer(180, "phone", &format!("Subject: {old_or_new}")));
        let ringing = bench.take_answer(INSIDE_UDP).unwrap();
        assert_eq!(ringing.text.contains(old_or_new), crosses, "{ringing:?}");
    }
}

#[test]
fn the_pbx_hears_whether_a_phone_is_gone_or_says_nothing() {
    let silent_for = Duration::from_secs(33);
    for (method, body, gone, status) in [
        ("INVITE", OFFER, true, Some(480)),
        ("INVITE", OFFER, false, Some(408)),
        ("MESSAGE", "", true, Some(480)),
        // Whoever asks has given up as well by then (RFC 4320 §4.2).
        ("MESSAGE", "", false, None),
    ] {
        let mut bench = Bench::with_pbx_up(config());
        let (flow, uri) = phone(&mut bench);
        bench.pbx_says(&desk(method, &uri, 1, "", body));
        bench.take(method);
        if gone {
            bench.put(Input::FlowClosed { flow });
        }
        bench.pass(silent_for);
        let heard = bench.final_answer(INSIDE_UDP).and_then(|answer| answer.status());
        assert_eq!(heard, status, "{method}, gone: {gone}");
    }
}

#[test]
fn each_call_that_fails_is_told_with_its_reason() {
    let mut bench = Bench::with_pbx_up(config());
    let (flow, uri) = phone(&mut bench);
    let told = |bench: &mut Bench| {
        let events = std::mem::take(&mut bench.events);
        let failed: Vec<Event> = events.into_iter().filter(|event| event.code == Code::CallFailed).collect();
        let [one] = &failed[..] else { panic!("{failed:#?}") };
        assert_eq!(one.extension.as_deref(), Some("1001"));
        (one.source.unwrap(), one.text.clone())
    };
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(500, "desk", ""));
    let (source, text) = told(&mut bench);
    assert!(
        source == phone_address(flow) && text.ends_with("the other side answered 500 Server Internal Error")
    );
    bench.put(Input::FlowClosed { flow });
    bench.pbx_says(&desk("INVITE", &uri, 1, "", OFFER));
    assert_eq!(bench.final_answer(INSIDE_UDP).and_then(|answer| answer.status()), Some(480));
    let (source, text) = told(&mut bench);
    assert!(source == pbx_address(0) && text.contains("connection is lost"), "{text}");
}

#[test]
fn a_phone_is_told_who_calls_or_writes_but_no_name_of_the_inside() {
    let mut config = config();
    config.extensions[0].max_calls = 10;
    let mut bench = Bench::with_pbx_up(config);
    let (_, uri) = phone(&mut bench);
    for (call, method, who, from) in [
        (1, "MESSAGE", "2001@main.example", "2001@main.example"),
        (2, "MESSAGE", "10.0.0.1@main.example", "main.example"),
        (3, "INVITE", "2001@main.example", "2001@main.example"),
        (4, "INVITE", "2001@10.0.1.1", "2001@main.example"),
        (5, "INVITE", "10.0.0.1@main.example", "anonymous@main.example"),
        (6, "INVITE", "anonymous@anonymous.invalid", "anonymous@anonymous.invalid"),
        (7, "INVITE", "anonymous@Anonymous.Invalid", "anonymous@anonymous.invalid"),
        (8, "MESSAGE", "anonymous@anonymous.invalid", "anonymous@anonymous.invalid"),
        (9, "INVITE", "a%3E%2C%3Csip:b@main.example", "a%3E%2C%3Csip@main.example"),
        (10, "MESSAGE", "a%3E%2C%3Csip:b@main.example", "a%3E%2C%3Csip@main.example"),
    ] {
        let text = desk(method, &uri, call, "", "").replace("sip:2001@main.example>", &format!("sip:{who}>"));
        bench.pbx_says(&text);
        let told = bench.take(method).header(HeaderName::From);
        assert_eq!(told, format!("<sip:{from}>;tag=desk{call}"), "{method} of {who}");
    }
}

#[test]
fn a_phone_of_one_domain_is_called_by_no_pbx_of_another() {
    for (domain, trusted, may) in
        [("other.example", false, false), ("MAIN.example", false, true), ("other.example", true, true)]
    {
        let mut config = config();
        config.pbx.push(Pbx { domain: domain.into(), ..pbx("other", 2) });
        config.inside.trusted.extend(trusted.then(|| pbx_address(1).ip()));
        let mut bench = Bench::with_pbx_up(config);
        let (_, uri) = phone(&mut bench);
        for (method, body) in [("INVITE", OFFER), ("MESSAGE", "")] {
            bench.pbx_says_from(1, &desk(method, &uri, 1, "", body));
            let refused = bench.final_answer(INSIDE_UDP).and_then(|answer| answer.status());
            assert_eq!(refused, (!may).then_some(404), "{method} of {domain}");
            assert_eq!(bench.try_take(method).is_some(), may, "{method} of {domain}");
        }
    }
}

#[test]
fn a_call_from_the_pbx_goes_from_its_invite_to_its_bye() {
    let mut bench = Bench::with_pbx_up(config());
    let (flow, uri) = phone(&mut bench);
    bench.pbx_says(&desk("INVITE", &uri, 1, "", &OFFER.replace("192.168.1.20", "10.0.1.1")));
    let invite = bench.take("INVITE");
    assert_eq!(invite.flow, flow);
    assert!(invite.text.starts_with("INVITE sip:line@192.168.1.20 SIP/2.0\r\n"), "{invite:?}");
    assert!(!invite.text.contains("10.0.") && !invite.text.contains("Call-ID: in-1"), "{invite:?}");
    assert!(invite.body().contains("c=IN IP4 203.0.113.10"), "{invite:?}");

    bench.phone_says(flow, &invite.answer(180, "phone", "Contact: <sip:line@192.168.1.20>"));
    let rings = bench.take_answer(INSIDE_UDP).filter(|answer| answer.status() == Some(180)).unwrap();
    let more = format!("Contact: <sip:line@192.168.1.20>\r\nContent-Type: application/sdp\r\n\r\n{OFFER}");
    bench.phone_says(flow, &invite.answer(200, "phone", &more));
    let accepted = bench.final_answer(INSIDE_UDP).unwrap();
    assert_eq!(accepted.status(), Some(200));
    assert!(
        accepted.body().contains("c=IN IP4 10.0.0.1") && !accepted.text.contains("192.168."),
        "{accepted:?}"
    );
    // Each side has the name by which the other was called.
    let ours = [&invite, &rings, &accepted].map(|sent| sent.header(HeaderName::Contact));
    assert!(ours[0].starts_with("<sip:2001@203.0.113.10:5061"), "{}", ours[0]);
    assert_eq!(ours[1..], [format!("<{uri}>"), format!("<{uri}>")]);

    bench.pbx_says(&desk("ACK", &uri, 1, ";tag=phone", ""));
    let ack = bench.take("ACK");
    assert_eq!((ack.flow, ack.header(HeaderName::CallId)), (flow, invite.header(HeaderName::CallId)));
    bench.pbx_says(&desk("BYE", &uri, 1, ";tag=phone", "").replace("CSeq: 1", "CSeq: 2"));
    let bye = bench.take("BYE");
    assert_eq!(bye.flow, flow);
    bench.phone_says(flow, &bye.answer(200, "phone", ""));
    assert_eq!(bench.final_answer(INSIDE_UDP).and_then(|answer| answer.status()), Some(200));
    assert_eq!(bench.status().calls, 0);
}

#[test]
fn an_answer_that_waits_for_ports_is_passed_on_though_its_connection_breaks_meanwhile() {
    for ready in [true, false] {
        let mut bench = Bench::with_pbx_up(config());
        let (flow, uri) = phone(&mut bench);
        bench.pbx_says(&desk("INVITE", &uri, 1, "", ""));
        let invite = bench.take("INVITE");
        let more =
            format!("Contact: <sip:line@192.168.1.20>\r\nContent-Type: application/sdp\r\n\r\n{OFFER}");
        let accepted = invite.answer(200, "phone", &more);
        let input = Input::Bytes { flow, from: phone_address(flow), bytes: accepted.as_bytes() };
        bench.border.handle_input(input, bench.time());
        bench.border.handle_input(Input::FlowClosed { flow }, bench.time());
        let ordered = std::iter::from_fn(|| bench.border.poll_output()).find_map(|output| {
            let Output::Media(media::Order::Open { relay, .. }) = output else { return None };
            Some(relay)
        });
        let relay = ordered.unwrap();
        let ports = [40_000, 40_002];
        let fault = media::RelayFault::NoPorts;
        bench.put(Input::Media(match ready {
            true => media::RelayEvent::Ready { relay, ports },
            false => media::RelayEvent::Failed { relay, fault },
        }));
        let answer = bench.final_answer(INSIDE_UDP).and_then(|answer| answer.status());
        assert_eq!(answer, Some(if ready { 200 } else { 503 }));
        assert_eq!(bench.status().calls, usize::from(ready));
    }
}

#[test]
fn people_read_whose_phone_it_is() {
    let mut config = config();
    config.extensions[0].display_name = Some("Home office".into());
    let mut bench = Bench::with_pbx_up(config);
    let (_, uri) = phone(&mut bench);
    bench.pbx_says(&desk("INVITE", &uri, 1, "", OFFER));
    let Answer::Registrations(rows) = bench.ask(Command::Registrations) else { panic!("no registrations") };
    assert_eq!(rows[0].display_name.as_deref(), Some("Home office"));
    let Answer::Calls(rows) = bench.ask(Command::Calls) else { panic!("no calls") };
    assert_eq!((rows[0].display_name.as_deref(), rows[0].direction), (Some("Home office"), "in"));
}

#[test]
fn what_a_contact_asks_for_in_headers_stands_in_no_request_uri() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some(DEVICE));
    let asks =
        register("1001", 1).replace("line@192.168.1.20>", "line@192.168.1.20?Subject=now&Priority=urgent>");
    bench.phone_says(flow, &asks);
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.sent.clear();
    let contact = asked.header(HeaderName::Contact);
    let (uri, _) = contact.trim_start_matches('<').split_once('>').unwrap();
    bench.pbx_says(&desk("INVITE", uri, 1, "", OFFER));
    let invite = bench.take("INVITE").text;
    let (line, _) = invite.split_once("\r\n").unwrap();
    assert!(line.starts_with("INVITE sip:") && !line.contains('?'), "{line}");
}
