//! The streams of a call: how long each may be silent, and what its descriptions say of the inside.

use super::changes::from_desk;
use super::*;

const VIDEO: &str = "m=video 30002 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n";

/// What the relay was ordered to do last.
fn ordered(bench: &Bench) -> &media::RelaySpec {
    let spec = bench.media.iter().rev().find_map(|order| match order {
        media::Order::Update { spec, .. } => Some(spec),
        media::Order::Open { .. } | media::Order::Close { .. } => None,
    });
    spec.expect("an order")
}

#[test]
fn a_call_on_hold_may_be_silent_for_hours_and_one_that_speaks_for_a_minute() {
    let (minute, hours) = (Duration::from_secs(60), Duration::from_secs(4 * 3600));
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let invite = calls::call(&mut bench, flow);
    assert_eq!(ordered(&bench).idle, minute);
    let sends_only = format!("{OFFER}a=sendonly\r\n");
    let is_nowhere = OFFER.replace("c=IN IP4 192.168.1.20", "c=IN IP4 0.0.0.0");
    let rows = [(&sends_only, hours), (&OFFER.to_owned(), minute), (&is_nowhere, hours)];
    for (cseq, (offer, idle)) in (2..).zip(rows) {
        bench.pbx_says(&from_desk(&invite, "UPDATE", cseq, offer));
        assert_eq!(ordered(&bench).idle, idle, "{offer}");
        let update = bench.take("UPDATE");
        let answer = format!("Content-Type: application/sdp\r\n\r\n{}", update.body());
        bench.phone_says(flow, &update.answer(200, "phone", &answer.replace("sendonly", "recvonly")));
        assert_eq!(bench.final_answer(INSIDE_UDP).and_then(|answer| answer.status()), Some(200));
        assert_eq!(ordered(&bench).idle, idle, "the answer to {offer}");
    }
    bench.phone_says(flow, &register("1001", 2).replace("expires=120", "expires=0"));
    assert_eq!(ordered(&bench).idle, minute, "its phone has gone");
}

#[test]
fn who_names_rtcp_mux_no_more_gets_its_reports_apart_again() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let mux = format!("{OFFER}a=rtcp-mux\r\n");
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", &mux));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    bench.phone_says(flow, &request("ACK", 1, Some("desk"), "", ""));
    for (cseq, offer, muxes) in [(2, OFFER, false), (3, &mux, true)] {
        bench.phone_says(flow, &request("UPDATE", cseq, Some("desk"), "application/sdp", offer));
        assert_eq!(ordered(&bench).legs[Side::Outside.index()].rtcp_mux, muxes);
    }
}

#[test]
fn a_call_ends_when_all_its_streams_are_silent_and_no_sooner() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let both = format!("{OFFER}{VIDEO}");
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", &both));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk").replace(OFFER, &both));
    bench.phone_says(flow, &request("ACK", 1, Some("desk"), "", ""));
    let [audio, video] = [1, 2].map(media::RelayId);
    let idle = Duration::from_secs(60);
    let packets = media::Traffic { packets: 1, ..Default::default() };
    for (event, calls) in [
        (media::RelayEvent::Silent { relay: video, idle }, 1),
        (media::RelayEvent::Stats { relay: video, received: [packets; 2] }, 1),
        (media::RelayEvent::Silent { relay: audio, idle }, 1),
        (media::RelayEvent::Silent { relay: video, idle }, 0),
    ] {
        bench.put(Input::Media(event));
        assert_eq!(bench.status().calls, calls);
    }
    assert_eq!([bench.take("BYE").flow, bench.take("BYE").flow], [flow, INSIDE_UDP]);
}

#[test]
fn a_description_names_no_host_of_the_inside() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let answer = accepted(&bench.take("INVITE"), "desk");
    let named = format!("{OFFER}a=label:main.inside.example\r\n").replace("192.168.1.20", "10.0.1.1");
    let (head, _) = answer.split_once("Content-Length").unwrap();
    bench.pbx_says(&format!("{head}Content-Length: {}\r\n\r\n{named}", named.len()));
    let answer = bench.final_answer(flow).unwrap();
    assert!(answer.body().contains("a=label:main.example\r\n"), "{answer:?}");
    assert!(!answer.text.contains("10.0.") && !answer.text.contains("inside"), "{answer:?}");
}

#[test]
fn a_change_that_is_refused_leaves_the_media_that_an_ack_has_agreed_on() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "", ""));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    bench.phone_says(flow, &request("ACK", 1, Some("desk"), "application/sdp", OFFER));
    bench.take("ACK");
    let places = |bench: &Bench| ordered(bench).legs.each_ref().map(|leg| leg.advertised_rtp);
    let agreed = places(&bench);
    assert_eq!(agreed, ["192.168.1.20:4000", "10.0.1.1:4000"].map(|place| place.parse().ok()));
    bench.phone_says(
        flow,
        &request("INVITE", 2, Some("desk"), "application/sdp", &OFFER.replace("4000", "4002")),
    );
    assert_ne!(places(&bench), agreed);
    let change = bench.take("INVITE");
    bench.pbx_says(&change.answer(488, "desk", ""));
    assert_eq!(places(&bench), agreed);
}

#[test]
fn who_accepts_a_caller_that_has_lost_its_connection_is_hung_up() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(180, "desk", ""));
    bench.put(Input::FlowClosed { flow });
    bench.take("CANCEL");
    bench.pbx_says(&accepted(&invite, "desk"));
    bench.take("ACK");
    bench.take("BYE");
    assert_eq!(bench.status().calls, 0);
}

#[test]
fn a_call_whose_ack_went_with_its_connection_waits_for_another_and_is_then_hung_up() {
    for comes_back in [false, true] {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.registered(100);
        bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
        let invite = bench.take("INVITE");
        bench.pbx_says(&accepted(&invite, "desk"));
        bench.put(Input::FlowClosed { flow });
        let back = bench.connect(101, Some(DEVICE));
        if comes_back {
            bench.phone_says(back, &request("ACK", 1, Some("desk"), "", ""));
            bench.take("ACK");
        }
        bench.sent.clear();
        bench.pass(Duration::from_secs(40));
        assert_eq!(bench.try_take("BYE").is_some(), !comes_back);
    }
}
