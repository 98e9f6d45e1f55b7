//! A PBX that says nothing to what is begun there, and who waits for it.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// One whose PBX took a phone in and is next asked for its health in a minute.
fn bench() -> (Bench, FlowId) {
    let mut config = config();
    config.pbx[0].health_check = Duration::from_secs(60);
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.registered(100);
    bench.pass(SECOND);
    (bench, flow)
}

fn invite(cseq: u32) -> String {
    request("INVITE", cseq, None, "application/sdp", OFFER)
}

impl Bench {
    fn count_sent(&self, method: &str) -> usize {
        self.sent.iter().filter(|sent| sent.text.starts_with(method)).count()
    }

    #[track_caller]
    fn refused_for_now(&mut self, flow: FlowId, seconds: &str) {
        let refused = self.final_answer(flow).expect("an answer");
        assert_eq!(
            (refused.status(), refused.header(HeaderName::RetryAfter)),
            (Some(503), seconds.to_owned())
        );
    }

    fn failed_calls(&self) -> Vec<&Event> {
        self.events.iter().filter(|event| event.code == Code::CallFailed).collect()
    }
}

#[test]
fn a_pbx_that_says_nothing_is_asked_after_4_s_and_down_after_8() {
    for method in ["INVITE", "MESSAGE"] {
        let (mut bench, flow) = bench();
        let text =
            if method == "INVITE" { invite(1) } else { request(method, 1, None, "text/plain", "hello") };
        bench.phone_says(flow, &text);
        let went = bench.take(method);
        bench.pass(Duration::from_millis(3_999));
        assert_eq!(bench.count_sent("OPTIONS"), 0);
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.count_sent("OPTIONS"), 1);
        bench.pass(Duration::from_millis(3_999));
        assert!(!bench.has_event(Code::PbxDown) && bench.final_answer(flow).is_none());
        bench.pass(Duration::from_millis(1));
        assert!(bench.has_event(Code::PbxDown));
        bench.refused_for_now(flow, "60");
        let [failed] = bench.failed_calls()[..] else { panic!("{:#?}", bench.events) };
        assert!(failed.text.contains("PBX main is down and had not answered it"), "{failed:?}");
        assert!(failed.next_step.contains("look whether PBX main runs"), "{failed:?}");
        assert_eq!(failed.extension.as_deref(), Some("1001"));
        assert_eq!((bench.status().calls, bench.border.unanswered.len()), (0, 0));

        // Whoever comes now hears it at once.
        bench.phone_says(flow, &text.replace(&format!("z9hG4bK{method}1"), "z9hG4bKagain"));
        bench.refused_for_now(flow, "60");

        // What comes too late is hung up, or forgotten.
        bench.sent.clear();
        bench.pbx_says(&if method == "INVITE" {
            accepted(&went, "desk")
        } else {
            went.answer(200, "desk", "")
        });
        let hung_up = [bench.count_sent("ACK"), bench.count_sent("BYE")];
        assert_eq!(hung_up, if method == "INVITE" { [1, 1] } else { [0, 0] });
        assert!(bench.final_answer(flow).is_none(), "answered twice");
    }
}

#[test]
fn a_request_goes_on_to_its_own_timer_where_the_pbx_says_anything_else() {
    let (mut bench, flow) = bench();
    bench.phone_says(flow, &invite(1));
    bench.pass(SECOND * 5);
    let options = bench.take("OPTIONS");
    bench.pbx_says(&options.answer(200, "o", ""));
    bench.pass(SECOND * 26);
    assert!(bench.final_answer(flow).is_none() && !bench.has_event(Code::PbxDown));
    bench.pass(SECOND * 2);
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(408));
    assert!(!bench.has_event(Code::PbxDown));
    assert_eq!(bench.border.unanswered.len(), 0);
}

#[test]
fn a_first_answer_ends_the_watch_and_so_does_a_request_of_the_pbx() {
    for heard in ["100", "OPTIONS", "nonsense"] {
        let (mut bench, flow) = bench();
        bench.phone_says(flow, &invite(1));
        let went = bench.take("INVITE");
        bench.pass(SECOND * 3);
        match heard {
            "100" => bench.pbx_says(&went.answer(100, "t", "")),
            "OPTIONS" => bench
                .pbx_says(&request("OPTIONS", 9, None, "", "").replace("TLS 192.168.1.20", "UDP 10.0.1.1")),
            other => bench.pbx_says(other),
        }
        bench.sent.clear();
        bench.pass(SECOND * 9);
        assert_eq!((bench.count_sent("OPTIONS"), bench.has_event(Code::PbxDown)), (0, false), "{heard}");
    }
}

#[test]
fn a_pbx_that_answers_from_another_of_its_addresses_is_there() {
    for heard in ["INVITE", "OPTIONS"] {
        let (mut bench, flow) = bench();
        bench.phone_says(flow, &invite(1));
        let mut went = bench.take("INVITE");
        bench.pass(SECOND * 3);
        if heard == "OPTIONS" {
            bench.pass(SECOND);
            went = bench.take("OPTIONS");
        }
        let answer = went.answer(if heard == "INVITE" { 100 } else { 200 }, "t", "");
        let from = "10.0.9.9:5060".parse().unwrap();
        bench.put(Input::Bytes { flow: INSIDE_UDP, from, bytes: answer.as_bytes() });
        bench.sent.clear();
        bench.pass(SECOND * 20);
        assert_eq!((bench.count_sent("OPTIONS"), bench.has_event(Code::PbxDown)), (0, false), "{heard}");
    }
}

#[test]
fn requests_in_a_dialog_keep_their_timers() {
    let (mut bench, flow) = bench();
    calls::call(&mut bench, flow);
    bench.phone_says(flow, &request("INVITE", 2, Some("desk"), "application/sdp", OFFER));
    bench.pass(SECOND * 20);
    assert_eq!((bench.count_sent("OPTIONS"), bench.has_event(Code::PbxDown)), (0, false));
    assert!(bench.final_answer(flow).is_none());
}

#[test]
fn who_changes_a_call_hears_408_where_no_answer_comes() {
    let (mut bench, flow) = bench();
    calls::call(&mut bench, flow);
    bench.phone_says(flow, &request("INVITE", 2, Some("desk"), "application/sdp", OFFER));
    bench.pass(SECOND * 33);
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(408));
}

#[test]
fn whoever_waits_hears_of_it_when_his_pbx_goes_down_for_another_reason() {
    let mut config = config();
    config.pbx[0].health_check = SECOND * 5;
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.registered(100);
    // It is heard for the last time a moment after this call.
    bench.pass(SECOND * 4);
    bench.phone_says(flow, &invite(1));
    let given_up = invite(1).replace("z9hG4bKINVITE1", "z9hG4bKother").replace("call-1", "call-2");
    bench.phone_says(flow, &given_up);
    bench.phone_says(flow, &given_up.replace("INVITE sip:", "CANCEL sip:").replace("1 INVITE", "1 CANCEL"));
    bench.pass(SECOND);
    let options = bench.take("OPTIONS");
    bench.pbx_says(&options.answer(200, "o", ""));
    bench.sent.clear();
    let called = bench.now;
    while !bench.has_event(Code::PbxDown) {
        bench.pass(Duration::from_millis(100));
        assert!(bench.now - called < SECOND * 20);
    }
    let answers: Vec<_> =
        std::iter::from_fn(|| bench.final_answer(flow)).map(|answer| answer.status()).collect();
    assert_eq!(answers, [Some(503), Some(487)]);
    assert_eq!(bench.failed_calls().len(), 1, "nobody waits for what he gave up");
}

#[test]
fn a_call_that_a_dead_pbx_left_waiting_is_told_to_go_to_the_standby() {
    let mut config = config();
    let mut standby = pbx("standby", 2);
    standby.domain = "main.example".into();
    config.pbx.push(standby);
    // The same machine: that one of them is heard says nothing of the other.
    let mut bench = Bench::with_pbx_up(config);
    let address = SocketAddr::new(pbx_address(0).ip(), 5070);
    let targets = vec![Target { transport: Transport::Udp, address }];
    bench.put(Input::Resolved { name: ResolvedName::Pbx(1), targets });
    let at_standby = |bench: &mut Bench, method: &str| {
        let place = bench.sent.iter().position(|sent| sent.to == address && sent.text.starts_with(method))?;
        Some(bench.sent.remove(place))
    };
    let flow = bench.registered(100);
    bench.phone_says(flow, &invite(1));
    bench.pass(SECOND * 5);
    let word = request("OPTIONS", 9, None, "", "").replace("TLS 192.168.1.20", "UDP 10.0.1.1:5070");
    bench.put(Input::Bytes { flow: INSIDE_UDP, from: address, bytes: word.as_bytes() });
    assert!(
        bench.sent.iter().any(|sent| sent.to == address && sent.status() == Some(200)),
        "it was not heard"
    );
    bench.pass(SECOND * 3);
    bench.refused_for_now(flow, "1");
    let [failed] = bench.failed_calls()[..] else { panic!("{:#?}", bench.events) };
    assert!(failed.next_step.contains("the next try goes to PBX standby"), "{failed:?}");
    bench.phone_says(flow, &invite(2));
    assert!(at_standby(&mut bench, "INVITE").is_some());
}

/// A call to a PBX that answers all that it hears at once; `lost` says of each packet whether it is lost. Whether the
/// PBX was called down.
fn down_with_losses(lost: &mut dyn FnMut(Side) -> bool) -> bool {
    let (mut bench, flow) = bench();
    bench.phone_says(flow, &invite(1));
    for _ in 0..100 {
        for sent in std::mem::take(&mut bench.sent) {
            let code = if sent.text.starts_with("INVITE") { 100 } else { 200 };
            let heard = sent.flow == INSIDE_UDP && sent.status().is_none() && !lost(Side::Inside);
            if heard && !lost(Side::Outside) {
                bench.pbx_says(&sent.answer(code, "o", ""));
            }
        }
        bench.pass(Duration::from_millis(100));
    }
    bench.has_event(Code::PbxDown)
}

#[test]
fn a_living_pbx_is_not_down_where_half_of_the_packets_are_lost() {
    for phases in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        let mut counts = phases;
        let down = down_with_losses(&mut |way| {
            counts[way.index()] += 1;
            counts[way.index()] % 2 == 0
        });
        assert!(!down, "every other packet, {phases:?}");
    }
    let mut state = 1_u64;
    let mut one_of_two = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 1
    };
    // Three of four questions are in vain then, and that may be all of them.
    let down = (0..500).filter(|_| down_with_losses(&mut one_of_two)).count();
    assert!(down <= 10, "{down} of 500");
}

#[test]
fn a_call_whose_ports_come_when_its_pbx_is_down_is_not_sent_there() {
    let (mut bench, flow) = bench();
    let call = invite(1);
    let (from, now) = (phone_address(flow), bench.time());
    bench.border.handle_input(Input::Bytes { flow, from, bytes: call.as_bytes() }, now);
    let ordered = std::iter::from_fn(|| bench.border.poll_output()).find_map(|output| {
        let Output::Media(media::Order::Open { relay, .. }) = output else { return None };
        Some(relay)
    });
    let message = request("MESSAGE", 2, None, "text/plain", "hello").replace("call-1", "message-1");
    bench.phone_says(flow, &message);
    bench.pass(SECOND * 8);
    bench.refused_for_now(flow, "60");
    let event = media::RelayEvent::Ready { relay: ordered.unwrap(), ports: [40_000, 40_002] };
    bench.put(Input::Media(event));
    bench.refused_for_now(flow, "60");
    assert_eq!((bench.count_sent("INVITE"), bench.failed_calls().len(), bench.status().calls), (0, 2, 0));
}
