//! Nothing is dropped without a count: each silent way out, driven once or more.

use super::*;
use crate::{DropCounts, DropReason};
use DropReason::*;

impl Bench {
    /// What was dropped since `before`.
    pub(super) fn dropped_since(&mut self, before: &DropCounts) -> Vec<(DropReason, u64)> {
        let after = self.status().drops;
        let more = after.iter().map(|(reason, count)| (reason, count - before.of(reason)));
        more.filter(|(_, count)| *count > 0).collect()
    }

    fn udp_says(&mut self, flow: FlowId, from: &str, text: &str) {
        self.put(Input::Bytes { flow, from: from.parse().unwrap(), bytes: text.as_bytes() });
    }
}

#[test]
fn what_strangers_send_leaves_no_answer_and_no_event_but_a_count() {
    let mut bench = Bench::with_pbx_up(config());
    let before = bench.status().drops;
    let flow = bench.connect(100, None);
    bench.events.clear();
    for number in 1..=40 {
        bench.phone_says(flow, &request("OPTIONS", number, None, "", ""));
        bench.phone_says(flow, &request("MESSAGE", number, None, "text/plain", "x"));
    }
    assert_eq!((bench.sent.len(), bench.events.len()), (0, 0));
    assert_eq!(bench.dropped_since(&before), [(FlowNotRegistered, 80)]);
    // A call is answered, not dropped.
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(403));
    assert_eq!(bench.dropped_since(&before), [(FlowNotRegistered, 80)]);
}

#[test]
fn each_silent_way_out_has_its_own_count() {
    let mut bench = Bench::with_pbx_up(config());
    let known = bench.registered(100);
    let mut before = bench.status().drops;
    let mut expect = |bench: &mut Bench, reason: DropReason, count: u64| {
        assert_eq!(bench.dropped_since(&before), [(reason, count)]);
        assert!(bench.sent.is_empty(), "{reason}: {:#?}", bench.sent);
        before = bench.status().drops;
    };

    bench.udp_says(INSIDE_UDP, "10.0.9.9:5060", &request("OPTIONS", 1, None, "", ""));
    bench.udp_says(INSIDE_UDP, "10.0.9.9:5060", &request("OPTIONS", 2, None, "", ""));
    expect(&mut bench, InsideStranger, 2);

    bench.phone_says(known, &request("ACK", 9, Some("nobody"), "", ""));
    expect(&mut bench, StrayAck, 1);

    let response = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKours\r\nFrom: <sip:a@b>;tag=1\r\n\
                    To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    bench.pbx_says(response);
    expect(&mut bench, StrayResponse, 1);
    bench
        .pbx_says(&response.replace("\r\nFrom", "\r\nVia: SIP/2.0/UDP 10.0.7.7;branch=z9hG4bKbelow\r\nFrom"));
    expect(&mut bench, ForeignVia, 1);

    bench.udp_says(OUTSIDE_UDP, "192.0.2.1:5060", "no SIP at all\r\n\r\n");
    bench.udp_says(OUTSIDE_UDP, "192.0.2.1:5060", &"x".repeat(5_000));
    let stream = bench.connect(101, None);
    bench.phone_says(stream, "no SIP at all\r\n\r\n");
    expect(&mut bench, Malformed, 3);
    bench.phone_says(stream, "more of it");
    expect(&mut bench, FlowClosed, 1);
}

#[test]
fn what_a_blocked_source_still_tries_is_counted() {
    let mut bench = Bench::with_pbx_up(config());
    let old = bench.registered(100);
    let before = bench.status().drops;
    let prefix = wire::net::Prefix::single(phone_address(old).ip());
    let command = Command::BlockAdd { prefix, time: None, why: String::new(), force: false };
    bench.put(Input::Command { id: 2, command });
    // Its connection is closed; it tries another, and UDP.
    bench.phone_says(old, &register("1001", 2));
    bench.connect(100, Some(DEVICE));
    let from = phone_address(old).to_string();
    bench.udp_says(OUTSIDE_UDP, &from, &register("1003", 1));
    assert_eq!(bench.dropped_since(&before), [(Blocked, 2), (FlowClosed, 1)]);
}

#[test]
fn an_answer_that_comes_when_its_source_is_blocked_is_not_sent() {
    let mut bench = Bench::with_pbx_up(config());
    let from = "192.0.2.1:5060";
    bench.udp_says(OUTSIDE_UDP, from, &register("1003", 1));
    let asked = bench.take("REGISTER");
    let prefix = "192.0.2.1".parse().unwrap();
    let command = Command::BlockAdd { prefix, time: None, why: String::new(), force: false };
    bench.put(Input::Command { id: 2, command });
    let before = bench.status().drops;
    bench.pbx_says(&asked.answer(401, "q", CHALLENGE));
    assert!(bench.take_answer(OUTSIDE_UDP).is_none());
    assert_eq!(bench.dropped_since(&before), [(Unsendable, 1)]);
}

#[test]
fn the_request_that_leads_to_a_block_is_counted_where_it_is_not_answered() {
    let one = |name: &str| {
        let mut config = config();
        config.block.after = 1;
        let mut bench = Bench::with_pbx_up(config);
        let flow = bench.connect(100, None);
        let before = bench.status().drops;
        let credentials = "Authorization: Digest username=\"1003\", realm=\"main.example\", nonce=\"abc\", \
                           uri=\"sip:main.example\", response=\"0\"\r\nContent-Length";
        bench.phone_says(flow, &register(name, 1).replace("Content-Length", credentials));
        if let Some(asked) = bench.try_take("REGISTER") {
            bench.pbx_says(&asked.answer(401, "q", CHALLENGE));
        }
        assert!(bench.has_event(Code::Blocked) && bench.take_answer(flow).is_none());
        bench.dropped_since(&before)
    };
    assert_eq!(one("1003"), [(Blocked, 1)], "a wrong password");
    assert_eq!(one("4711"), [(Blocked, 1)], "an unknown name");
}

#[test]
fn a_stranger_who_fills_his_share_is_counted() {
    let mut bench = Bench::with_pbx_up(config());
    let before = bench.status().drops;
    for number in 0..1_005 {
        bench.udp_says(OUTSIDE_UDP, "192.0.2.1:5060", &register(&format!("47{number}"), 1));
    }
    assert_eq!(bench.dropped_since(&before), [(NoRoom, 5)]);
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "two and two are five"))]
fn what_cannot_be_stops_a_debug_build_and_is_told_and_counted_in_a_release() {
    let mut bench = Bench::new(config());
    bench.border.never("two and two are five");
    let told = bench.border.poll_output();
    assert!(matches!(told, Some(Output::Fault("two and two are five"))), "{told:?}");
    assert_eq!(bench.status().drops.of(OurFault), 1);
}

#[test]
fn each_stranger_inside_is_told_of_once_a_minute_and_only_so_many_of_them() {
    let mut bench = Bench::with_pbx_up(config());
    let mut number = 0;
    let mut told = |bench: &mut Bench, host: u8| {
        number += 1;
        bench.events.clear();
        bench.udp_says(INSIDE_UDP, &format!("10.0.9.{host}:5060"), &request("OPTIONS", number, None, "", ""));
        bench.has_event(Code::InsideStranger)
    };
    assert_eq!([1, 2, 1, 2, 3].map(|host| told(&mut bench, host)), [true, true, false, false, true]);
    bench.pass(Duration::from_secs(60));
    assert!(told(&mut bench, 1) && !told(&mut bench, 1));
    // A flood of addresses: no more than there is room for, told over some seconds.
    let flood = (10..=250).filter(|host| {
        bench.pass(Duration::from_millis(100));
        told(&mut bench, *host)
    });
    assert_eq!(flood.count(), 63);
    bench.pass(Duration::from_secs(60));
    assert!(told(&mut bench, 251));
}
