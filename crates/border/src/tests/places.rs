//! Where a registered phone is: its connection or its address at the UDP port, and for how long it has the place of
//! one that is registered.

use super::contacts::{pbx_registers, register_with, status_of};
use super::*;

/// What the border tells the shell about flows when this comes in: `registered 100`, `close 100`.
fn told(bench: &mut Bench, input: Input<'_>) -> Vec<String> {
    bench.border.handle_input(input, bench.time());
    let mut told = Vec::new();
    while let Some(output) = bench.border.poll_output() {
        match output {
            Output::Registered { flow, .. } => told.push(format!("registered {}", flow.0)),
            Output::Unregistered { flow, .. } => told.push(format!("unregistered {}", flow.0)),
            Output::CloseFlow { flow, .. } => told.push(format!("close {}", flow.0)),
            Output::Persist { ticket, .. } => {
                bench.border.handle_input(Input::Stored { ticket, ok: true }, bench.time());
            }
            Output::Send { flow, to, bytes } => {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                bench.sent.push(Sent { at: bench.now, flow, to, text });
            }
            Output::Event(event) => bench.events.push(event),
            Output::OpenFlow { .. }
            | Output::Media(_)
            | Output::Lists { .. }
            | Output::PbxAddresses(_)
            | Output::Answer { .. } => {}
            Output::Fault(fault) => panic!("{fault}"),
        }
    }
    told
}

fn bytes(flow: FlowId, text: &str) -> Input<'_> {
    Input::Bytes { flow, from: phone_address(flow), bytes: text.as_bytes() }
}

/// The PBX answers what it was asked last.
fn told_by_pbx(bench: &mut Bench, answer: impl FnOnce(&Sent) -> String) -> Vec<String> {
    let asked = bench.take("REGISTER");
    let text = answer(&asked);
    told(bench, Input::Bytes { flow: INSIDE_UDP, from: pbx_address(0), bytes: text.as_bytes() })
}

#[test]
fn a_phone_that_comes_by_another_connection_leaves_the_old_one() {
    let mut bench = Bench::with_pbx_up(config());
    let mut has = Vec::new();
    let old = bench.connect(100, Some(DEVICE));
    assert!(told(&mut bench, bytes(old, &register("1001", 1))).contains(&"registered 100".to_owned()));
    pbx_registers(&mut bench, &mut has);
    // More of it on the same connection is no news.
    let again = register("1001", 2);
    assert_eq!(told(&mut bench, bytes(old, &again)), [""; 0]);
    let new = bench.connect(101, Some(DEVICE));
    bench.events.clear();
    let again = register("1001", 3);
    let told = told(&mut bench, bytes(new, &again));
    assert_eq!(told, ["close 100", "registered 101"]);
    assert!(bench.events.iter().any(|event| event.text.contains("from a new flow")), "{:?}", bench.events);
    assert_eq!(status_of(&mut bench, new), Some(200));
}

#[test]
fn a_connection_that_others_are_on_stays_open() {
    let contact =
        |number: u32| format!("Contact: <sip:l@b>;+sip.instance=\"<urn:uuid:{number}>\";reg-id=1\r\n");
    let mut bench = Bench::with_pbx_up(config());
    let mut has = Vec::new();
    let old = bench.connect(100, Some(DEVICE));
    for number in [1, 2] {
        bench.phone_says(old, &register_with("1001", number, &contact(number)));
        pbx_registers(&mut bench, &mut has);
    }
    let new = bench.connect(101, Some(DEVICE));
    let moved = register_with("1001", 3, &contact(1));
    assert_eq!(told(&mut bench, bytes(new, &moved)), ["registered 101"]);
    let moved = register_with("1001", 4, &contact(2));
    assert_eq!(told(&mut bench, bytes(new, &moved)), ["close 100"]);
}

#[test]
fn a_lost_connection_is_waited_for_as_long_as_the_grace_time() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.put(Input::FlowClosed { flow });
    bench.events.clear();
    let quiet = |bench: &mut Bench, time: Duration| {
        let until = bench.now + time;
        while bench.now < until {
            bench.pass(Duration::from_millis(100));
            while let Some(options) = bench.try_take("OPTIONS") {
                bench.pbx_says(&options.answer(200, "o", ""));
            }
        }
    };
    quiet(&mut bench, Duration::from_millis(29_900));
    assert!(!bench.has_event(Code::Deregistered));
    quiet(&mut bench, Duration::from_millis(100));
    let event = bench.events.iter().find(|event| event.code == Code::Deregistered).unwrap();
    assert!(event.text.contains("connection was lost"), "{event:?}");
}

#[test]
fn a_phone_that_does_not_refresh_is_gone_when_its_time_is_over() {
    let mut bench = Bench::with_pbx_up(config());
    bench.registered(100);
    let until = bench.now + Duration::from_secs(120);
    while bench.now < until {
        assert!(!bench.has_event(Code::Deregistered));
        bench.pass(Duration::from_millis(500));
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
    }
    let event = bench.events.iter().find(|event| event.code == Code::Deregistered).unwrap();
    assert!(event.text.contains("did not refresh"), "{event:?}");
    assert_eq!(event.extension.as_deref(), Some("1001"));
    assert_eq!(event.hardware_id.as_deref(), Some(DEVICE));
}

#[test]
fn a_phone_at_the_udp_port_is_known_there_for_as_long_as_it_is_registered() {
    let mut bench = Bench::with_pbx_up(config());
    let from = "198.51.100.9:5060".parse().unwrap();
    let say = |bench: &mut Bench, text: &str| {
        told(bench, Input::Bytes { flow: OUTSIDE_UDP, from, bytes: text.as_bytes() })
    };
    assert_eq!(say(&mut bench, &register("1003", 1)), [""; 0]);
    assert_eq!(told_by_pbx(&mut bench, |asked| asked.registered(&[])), ["registered 1"]);
    let sign_off = register("1003", 2).replace("expires=120", "expires=0");
    assert_eq!(say(&mut bench, &sign_off), [""; 0]);
    assert_eq!(told_by_pbx(&mut bench, |asked| asked.answer(200, "q", "")), ["unregistered 1"]);
}

#[test]
fn a_phone_that_registers_by_the_pbxs_challenge_keeps_its_time_when_its_connection_is_lost() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, None);
    bench.phone_says(flow, &register("1003", 1));
    let _ = told_by_pbx(&mut bench, |asked| asked.registered(&[]));
    assert_eq!(status_of(&mut bench, flow), Some(200));
    bench.put(Input::FlowClosed { flow });
    let registered = bench.now;
    while bench.now - registered < Duration::from_millis(119_900) {
        bench.pass(Duration::from_millis(100));
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
    }
    assert!(!bench.has_event(Code::Deregistered), "longer than the grace time");
    bench.pass(Duration::from_millis(100));
    assert!(bench.has_event(Code::Deregistered));
}

#[test]
fn a_phone_whose_connection_is_lost_while_the_pbx_takes_it_in_is_nowhere_until_it_comes_again() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, None);
    bench.phone_says(flow, &register("1003", 1));
    let asked = bench.take("REGISTER");
    bench.put(Input::FlowClosed { flow });
    bench.pbx_says(&asked.registered(&[]));
    let states = |bench: &mut Bench| -> Vec<(&'static str, String)> {
        let Answer::Registrations(rows) = bench.ask(Command::Registrations) else {
            panic!("no registrations")
        };
        rows.into_iter().map(|row| (row.pbx_state, row.source)).collect()
    };
    assert_eq!(
        states(&mut bench).first().map(|(state, _)| *state),
        Some("grace"),
        "{:?}",
        states(&mut bench)
    );

    let again = bench.connect(101, None);
    bench.phone_says(again, &register("1003", 2));
    let later = bench.take("REGISTER");
    bench.pbx_says(&later.registered(&[]));
    assert_eq!(states(&mut bench), [("registered", phone_address(again).to_string())]);
}

#[test]
fn a_pbx_that_is_away_is_asked_for_again_after_the_shortest_health_check_but_not_at_once() {
    for (health_checks, wait) in [([40_000, 30_000], "30"), ([30_000, 40_000], "30"), ([900, 900], "1")] {
        let mut config = config();
        config.pbx = vec![pbx("main", 1), pbx("second", 2)];
        for (pbx, millis) in config.pbx.iter_mut().zip(health_checks) {
            pbx.health_check = Duration::from_millis(millis);
        }
        let mut bench = Bench::new(config);
        let flow = bench.connect(100, Some(DEVICE));
        bench.phone_says(flow, &register("1001", 1));
        bench.pass(Duration::from_secs(11));
        let answer = bench.final_answer(flow).unwrap();
        assert_eq!((answer.status(), answer.header(HeaderName::RetryAfter).as_str()), (Some(503), wait));
    }
}

#[test]
fn a_connection_on_which_nobody_is_registered_any_more_does_not_stay() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &register_with("1001", 2, "Contact: *\r\nExpires: 0\r\n"));
    assert_eq!(status_of(&mut bench, flow), Some(200));
    let gone = bench.take("REGISTER");
    bench.pbx_says(&gone.answer(200, "q", ""));
    let mut closed = None;
    let since = bench.now;
    while closed.is_none() && bench.now - since < Duration::from_secs(60) {
        let at = bench.border.poll_timeout().unwrap();
        bench.now = at.max(bench.now);
        bench.border.handle_timeout(bench.time());
        while let Some(output) = bench.border.poll_output() {
            if let Output::CloseFlow { flow, .. } = output {
                closed = Some((flow, bench.now - since));
            }
        }
    }
    assert_eq!(closed, Some((flow, Duration::from_secs(30))));
}

#[test]
fn while_the_pbx_is_down_a_known_phone_hears_200_and_a_new_one_503() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    // Two health checks in vain: it is down.
    bench.pass(Duration::from_secs(40));
    assert!(bench.has_event(Code::PbxDown));
    bench.sent.clear();
    bench.phone_says(flow, &register("1001", 2));
    assert_eq!(status_of(&mut bench, flow), Some(200));
    let new = bench.connect(101, Some("009033010205"));
    bench.phone_says(new, &register("1002", 1));
    assert_eq!(status_of(&mut bench, new), Some(503), "nobody knows it");
}

#[test]
fn what_the_pbx_says_in_a_call_reaches_the_phone_where_it_registered_last() {
    let mut bench = Bench::with_pbx_up(config());
    let old = bench.registered(100);
    bench.phone_says(old, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    bench.phone_says(old, &request("ACK", 1, Some("desk"), "", ""));
    let new = bench.connect(101, Some(DEVICE));
    bench.phone_says(new, &register("1001", 2));
    assert_eq!(status_of(&mut bench, new), Some(200));
    let contact = invite.header(HeaderName::Contact);
    let (uri, _) = contact.trim_start_matches('<').split_once('>').unwrap();
    bench.pbx_says(&format!(
        "BYE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1;branch=z9hG4bKbye\r\nMax-Forwards: 70\r\nFrom: {};tag=desk\r\n\
         To: {}\r\nCall-ID: {}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
        invite.header(HeaderName::To),
        invite.header(HeaderName::From),
        invite.header(HeaderName::CallId),
    ));
    let bye = bench.take("BYE");
    assert_eq!((bye.flow, bye.to), (new, phone_address(new)));
}
