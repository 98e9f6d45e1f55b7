//! Limits that turn somebody away: each by its own name.

use super::*;

fn codes(bench: &Bench) -> Vec<Code> {
    let mut codes: Vec<Code> = bench.events.iter().map(|event| event.code).collect();
    codes.dedup();
    codes
}

/// A REGISTER of a name that no extension has, with this much in it beside.
fn stranger(number: usize, padding: usize) -> String {
    let header = format!("X-Padding: {}\r\n", "x".repeat(7_000));
    let headers = header.repeat(padding / header.len()) + "Content-Length";
    register(&format!("47{number}"), 1).replace("Content-Length", &headers)
}

#[test]
fn a_device_too_many_is_no_matter_of_its_source() {
    let mut config = config();
    config.registration.max_contacts = 1;
    let mut bench = Bench::with_pbx_up(config);
    bench.registered(100);
    bench.events.clear();
    let second = bench.connect(101, Some(OTHER_DEVICE));
    bench.phone_says(second, &register("1001", 1));
    assert_eq!(bench.final_answer(second).and_then(|answer| answer.status()), Some(403));
    assert_eq!(codes(&bench), [Code::ContactsLimited]);
    let event = &bench.events[0];
    assert_eq!((event.rule.as_deref(), event.extension.as_deref()), (Some("max_contacts"), Some("1001")));
    assert!(event.next_step.contains("registration.max_contacts"));
}

#[test]
fn a_source_that_fills_its_share_is_named_and_a_full_house_is_nobodys_fault() {
    let mut bench = Bench::with_pbx_up(config());
    bench.events.clear();
    let one: SocketAddr = "192.0.2.1:5060".parse().unwrap();
    for number in 0..1_001 {
        let text = stranger(number, 0);
        bench.put(Input::Bytes { flow: OUTSIDE_UDP, from: one, bytes: text.as_bytes() });
    }
    let limited: Vec<_> = bench.events.iter().filter(|event| event.code == Code::SourceLimited).collect();
    assert_eq!(limited.len(), 1);
    assert_eq!(limited[0].source, Some(one));
    assert!(!bench.has_event(Code::NoRoom));

    // Others fill the bytes that all strangers may have together.
    for number in 0..1_200 {
        let flow = bench.connect(1_000 + number, None);
        bench.phone_says(flow, &stranger(usize::try_from(number).unwrap(), 60_000));
        if bench.has_event(Code::NoRoom) {
            break;
        }
    }
    let full = bench.events.iter().find(|event| event.code == Code::NoRoom).expect("no room is left");
    assert_eq!(full.severity, Severity::Error);
    assert_eq!(bench.events.iter().filter(|event| event.code == Code::SourceLimited).count(), 1);
    // A phone of ours is no stranger.
    let flow = bench.connect(110, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.sent.iter().rposition(|sent| sent.text.contains("sip:1001@main.example")).unwrap();
    let asked = bench.sent.remove(asked);
    bench.pbx_says(&asked.registered(&[]));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
}

#[test]
fn connections_that_a_source_was_refused_are_told_and_no_offence() {
    let mut config = config();
    config.block.after = 1;
    let mut bench = Bench::with_pbx_up(config);
    bench.events.clear();
    let source: SocketAddr = "192.0.2.1:4711".parse().unwrap();
    bench.put(Input::SourceLimited { source, refused: 37 });
    assert_eq!(codes(&bench), [Code::SourceLimited]);
    let told = &bench.events[0];
    assert_eq!(told.source, Some(source));
    assert!(told.text.starts_with("37 connections refused"), "{told:?}");
    assert!(told.next_step.contains("[[allowed]]"), "{told:?}");
}

/// A MESSAGE of the phone of 1001 with much in it.
fn large(number: u32) -> String {
    request("MESSAGE", number, None, "text/plain", &"x".repeat(60_000))
}

/// The same from the PBX to that phone.
fn large_inward(number: u32, token: &str) -> String {
    large(number)
        .replace("MESSAGE sip:2001@main.example", &format!("MESSAGE {token}"))
        .replace("TLS 192.168.1.20", "UDP 10.0.1.1")
}

/// The status of the last answer there, and when to try again.
fn last_answer(bench: &mut Bench, flow: FlowId) -> (Option<u16>, String) {
    let mut last = (None, String::new());
    while let Some(answer) = bench.take_answer(flow) {
        last = (answer.status(), answer.header(HeaderName::RetryAfter));
    }
    last
}

fn under_way(bench: &Bench, table: &str) -> usize {
    bench.border.unfinished().into_iter().find(|(name, _)| *name == table).map(|(_, count)| count).unwrap()
}

#[test]
fn a_phone_that_floods_is_refused_and_its_call_goes_on() {
    let mut bench = Bench::with_pbx_up(config());
    let other = bench.connect(101, Some("009033010205"));
    bench.phone_says(other, &register("1002", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    let flow = bench.registered(100);
    calls::call(&mut bench, flow);
    let before = under_way(&bench, "transactions");
    bench.sent.clear();
    bench.events.clear();
    for number in 1..=100 {
        bench.phone_says(flow, &large(number));
    }
    let forwarded = bench.sent.iter().filter(|sent| sent.text.starts_with("MESSAGE")).count();
    assert_eq!(forwarded, (2 << 20) / large(10).len());
    assert_eq!(under_way(&bench, "transactions") - before, 2 * forwarded);
    assert_eq!(last_answer(&mut bench, flow), (Some(503), "5".to_owned()));
    let told: Vec<_> = bench.events.iter().filter(|event| event.code == Code::SourceLimited).collect();
    assert!((1..=20).contains(&told.len()), "summed up: {}", told.len());
    assert!(told.iter().all(|event| event.extension.as_deref() == Some("1001")));

    // What it repeats is no more than it was, and nothing new begins.
    bench.phone_says(flow, &large(1));
    assert_eq!(last_answer(&mut bench, flow).0, None);
    let offer = OFFER.to_owned() + &"a=x\r\n".repeat(12_000);
    let call = request("INVITE", 200, None, "application/sdp", &offer).replace("call-1", "call-2");
    bench.phone_says(flow, &call);
    assert_eq!(last_answer(&mut bench, flow).0, Some(503));
    // Another phone has its own room, and its registration and its call go on.
    bench.phone_says(other, &large(300).replace("1001@", "1002@"));
    assert!(bench.try_take("MESSAGE").is_some());
    bench.phone_says(flow, &register("1001", 2));
    assert_eq!(last_answer(&mut bench, flow).0, Some(200));
    bench.phone_says(flow, &request("INFO", 201, Some("desk"), "text/plain", "x"));
    assert!(bench.try_take("INFO").is_some());
    bench.phone_says(flow, &request("BYE", 202, Some("desk"), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&bye.answer(200, "desk", ""));
    assert_eq!(last_answer(&mut bench, flow).0, Some(200));

    // With its flow goes all that stands alone, on both sides.
    bench.put(Input::FlowClosed { flow: other });
    bench.put(Input::FlowClosed { flow });
    bench.pass(Duration::from_secs(6));
    assert_eq!(
        (under_way(&bench, "forwards"), under_way(&bench, "requests with room")),
        (2, 2),
        "what is of the call"
    );
    bench.pass(Duration::from_secs(27));
    assert_eq!((under_way(&bench, "forwards"), under_way(&bench, "requests with room")), (0, 0));
}

#[test]
fn what_is_answered_takes_no_room() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    for number in 1..=100 {
        bench.phone_says(flow, &large(number));
        let message = bench.take("MESSAGE");
        bench.pbx_says(&message.answer(200, "d", ""));
        assert_eq!(last_answer(&mut bench, flow).0, Some(200), "{number}");
    }
    assert_eq!((under_way(&bench, "forwards"), under_way(&bench, "requests with room")), (0, 0));
}

#[test]
fn what_was_answered_over_udp_takes_no_room_while_it_may_come_again() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    let token = asked.header(HeaderName::Contact).split(['<', '>']).nth(1).unwrap().to_owned();
    bench.pbx_says(&asked.registered(&[]));
    let mut said = String::new();
    for number in 1..=100 {
        said = large_inward(number, &token);
        bench.pbx_says(&said);
        let message = bench.take("MESSAGE");
        bench.phone_says(flow, &message.answer(200, "d", ""));
        assert_eq!(last_answer(&mut bench, INSIDE_UDP).0, Some(200), "{number}");
    }
    assert_eq!(under_way(&bench, "requests with room"), 0);
    bench.pbx_says(&said);
    assert_eq!(last_answer(&mut bench, INSIDE_UDP).0, Some(200), "the same again");
    assert!(bench.try_take("MESSAGE").is_none());
}

#[test]
fn what_is_left_of_a_closed_flow_in_a_call_still_counts() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    calls::call(&mut bench, flow);
    let info = |number| request("INFO", number, Some("desk"), "text/plain", &"x".repeat(60_000));
    for number in 2..60 {
        bench.phone_says(flow, &info(number));
    }
    let forwarded = under_way(&bench, "forwards");
    bench.put(Input::FlowClosed { flow });
    assert!(under_way(&bench, "requests with room") >= forwarded && forwarded > 40);
}

#[test]
fn a_pbx_that_floods_a_phone_is_refused_too() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    let token = asked.header(HeaderName::Contact);
    let token = token.split(['<', '>']).nth(1).unwrap().to_owned();
    bench.pbx_says(&asked.registered(&[]));
    bench.sent.clear();
    bench.events.clear();
    for number in 1..=100 {
        bench.pbx_says(&large_inward(number, &token));
    }
    let forwarded = bench.sent.iter().filter(|sent| sent.text.starts_with("MESSAGE")).count();
    assert_eq!(forwarded, (2 << 20) / large_inward(10, &token).len());
    assert_eq!(last_answer(&mut bench, INSIDE_UDP), (Some(503), "5".to_owned()));
    let told = bench.events.iter().find(|event| event.code == Code::SourceLimited).unwrap();
    assert!(told.text.contains("of the PBX"), "{told:?}");
    assert_eq!((told.extension.as_deref(), told.source), (Some("1001"), Some(phone_address(flow))));
    // The phone itself may speak.
    bench.phone_says(flow, &large(1));
    assert_eq!(last_answer(&mut bench, flow).0, None);
    bench.pass(Duration::from_secs(64));
    assert_eq!(under_way(&bench, "requests with room"), 0);
}

#[test]
fn a_registered_source_at_the_udp_port_has_a_share_as_well() {
    let mut bench = Bench::with_pbx_up(config());
    let from: SocketAddr = "192.0.2.7:5060".parse().unwrap();
    let say = |bench: &mut Bench, text: &str| {
        bench.put(Input::Bytes { flow: OUTSIDE_UDP, from, bytes: text.replace("/TLS", "/UDP").as_bytes() });
    };
    say(&mut bench, &register("1003", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.sent.clear();
    let message =
        |number| request("MESSAGE", number, None, "text/plain", "x").replace("1001@main", "1003@main");
    for number in 1..=1_001 {
        say(&mut bench, &message(number));
    }
    let forwarded = bench.sent.iter().filter(|sent| sent.text.starts_with("MESSAGE")).count();
    assert_eq!((forwarded, last_answer(&mut bench, OUTSIDE_UDP).0), (1_000, Some(503)));
}
