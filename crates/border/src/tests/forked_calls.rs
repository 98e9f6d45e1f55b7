//! Calls that several parties accept: each has its own dialog, its ACK and its end.

use super::*;

/// A desk that accepts at an address of its own.
fn accepted_at(invite: &Sent, tag: &str, host: &str) -> String {
    accepted(invite, tag).replace("10.0.1.1", host)
}

/// What relays were changed to.
fn changes(bench: &Bench) -> Vec<&media::RelaySpec> {
    bench
        .media
        .iter()
        .filter_map(|order| match order {
            media::Order::Update { spec, .. } => Some(spec),
            media::Order::Open { .. } | media::Order::Close { .. } => None,
        })
        .collect()
}

/// A call from the phone on `flow` that two desks accepted at once.
fn call_two(bench: &mut Bench, flow: FlowId) -> Sent {
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    for (tag, host) in [("one", "10.0.1.11"), ("two", "10.0.1.12")] {
        bench.pbx_says(&accepted_at(&invite, tag, host));
        let answer = bench.final_answer(flow).unwrap();
        assert_eq!(answer.read(|_, essentials| essentials.to.tag().map(str::to_owned)).as_deref(), Some(tag));
    }
    bench.sent.clear();
    invite
}

fn acknowledge(bench: &mut Bench, flow: FlowId, tag: &str) {
    bench.phone_says(flow, &request("ACK", 1, Some(tag), "", ""));
    bench.take("ACK");
}

fn hang_up(bench: &mut Bench, flow: FlowId, tag: &str) {
    bench.phone_says(flow, &request("BYE", 2, Some(tag), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&bye.answer(200, tag, ""));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
}

#[test]
fn who_hangs_up_on_one_party_goes_on_with_the_other() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call_two(&mut bench, flow);
    acknowledge(&mut bench, flow, "one");
    acknowledge(&mut bench, flow, "two");
    bench.media.clear();
    hang_up(&mut bench, flow, "two");

    let media = changes(&bench).last().unwrap().legs[Side::Inside.index()].advertised_rtp;
    assert_eq!(media.map(|rtp| rtp.ip().to_string()).as_deref(), Some("10.0.1.11"), "media of the one left");
    bench.phone_says(flow, &request("INFO", 3, Some("two"), "application/dtmf-relay", "Signal=1"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(481), "that dialog is over");
    bench.phone_says(flow, &request("INFO", 4, Some("one"), "application/dtmf-relay", "Signal=1"));
    let info = bench.take("INFO");
    bench.pbx_says(&info.answer(200, "one", ""));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    bench.phone_says(flow, &request("BYE", 5, Some("one"), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&bye.answer(200, "one", ""));
    assert_eq!(bench.border.calls.len(), 0, "with the last party the call ends");
}

#[test]
fn a_second_answer_is_repeated_until_its_own_ack() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let invite = call_two(&mut bench, flow);
    acknowledge(&mut bench, flow, "one");
    bench.sent.clear();
    bench.pass(Duration::from_secs(1));
    let tag = |sent: &Sent| sent.read(|_, essentials| essentials.to.tag().map(str::to_owned));
    assert!(bench.sent.iter().any(|sent| tag(sent).as_deref() == Some("two")), "{:#?}", bench.sent);

    // The first one's ACK was lost on its way: it says so, and is acknowledged again.
    bench.sent.clear();
    bench.pbx_says(&accepted_at(&invite, "one", "10.0.1.11"));
    assert_eq!(tag(&bench.take("ACK")).as_deref(), Some("one"));

    acknowledge(&mut bench, flow, "two");
    bench.sent.clear();
    bench.pass(Duration::from_secs(5));
    assert!(bench.sent.iter().all(|sent| sent.flow != flow), "both are acknowledged: {:#?}", bench.sent);
}

#[test]
fn a_lost_first_answer_is_passed_on_again_while_a_second_waits() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let invite = call_two(&mut bench, flow);
    bench.pbx_says(&accepted_at(&invite, "one", "10.0.1.11"));
    let again = bench.final_answer(flow).unwrap();
    assert_eq!(again.read(|_, essentials| essentials.to.tag().map(str::to_owned)).as_deref(), Some("one"));
}

#[test]
fn a_party_that_is_never_acknowledged_is_hung_up_alone() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call_two(&mut bench, flow);
    acknowledge(&mut bench, flow, "one");
    bench.pass(Duration::from_millis(32_200));
    let mut ends: Vec<FlowId> = Vec::new();
    while let Some(bye) = bench.try_take("BYE") {
        let tags = bye.read(|_, essentials| {
            [essentials.from.tag(), essentials.to.tag()].map(|tag| tag.map(str::to_owned))
        });
        assert!(tags.contains(&Some("two".to_owned())), "nobody else is hung up: {tags:?}");
        ends.push(bye.flow);
    }
    assert_eq!(ends, [flow, INSIDE_UDP], "both ends of it");
    assert_eq!(bench.border.calls.len(), 1);
    hang_up(&mut bench, flow, "one");
    assert_eq!(bench.border.calls.len(), 0);
}

#[test]
fn the_ack_of_one_invite_does_not_acknowledge_another() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    acknowledge(&mut bench, flow, "desk");
    bench.sent.clear();

    bench.phone_says(flow, &request("INVITE", 2, Some("desk"), "application/sdp", OFFER));
    let change = bench.take("INVITE");
    bench.pbx_says(&accepted(&change, "desk"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    // The ACK of the first INVITE comes once more; that of the second is lost.
    acknowledge(&mut bench, flow, "desk");
    bench.sent.clear();
    bench.pass(Duration::from_secs(1));
    assert_eq!(
        bench.final_answer(flow).and_then(|answer| answer.status()),
        Some(200),
        "it is repeated still"
    );
    bench.phone_says(flow, &request("ACK", 2, Some("desk"), "", ""));
    bench.sent.clear();
    bench.pass(Duration::from_secs(5));
    assert!(bench.final_answer(flow).is_none(), "until its own ACK");
}

#[test]
fn an_answer_that_is_repeated_after_a_newer_one_changes_nothing() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    // The ACK is lost, the phone goes on, and the desk answers from elsewhere now.
    bench.phone_says(flow, &request("INVITE", 2, Some("desk"), "application/sdp", OFFER));
    let change = bench.take("INVITE");
    bench.pbx_says(&accepted_at(&change, "desk", "10.0.1.9"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    bench.media.clear();
    bench.pbx_says(&accepted(&invite, "desk"));
    assert!(changes(&bench).is_empty(), "media stays where the newer answer put it: {:?}", bench.media);
}

#[test]
fn a_party_that_answers_after_the_end_is_hung_up_under_a_number_of_its_own() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(
        183,
        "late",
        "Require: 100rel\r\nRSeq: 7\r\nContact: <sip:desk@10.0.1.12>\r\n",
    ));
    let prack =
        request("PRACK", 2, Some("late"), "", "").replace("Max-Forwards", "RAck: 7 1 INVITE\r\nMax-Forwards");
    bench.phone_says(flow, &prack);
    let prack = bench.take("PRACK");
    bench.pbx_says(&prack.answer(200, "late", ""));
    bench.pbx_says(&accepted(&invite, "one"));
    acknowledge(&mut bench, flow, "one");
    hang_up(&mut bench, flow, "one");

    bench.pbx_says(&accepted_at(&invite, "late", "10.0.1.12"));
    let bye = bench.take("BYE");
    let number = |sent: &Sent| sent.read(|_, essentials| essentials.cseq.number);
    assert!(number(&bye) > number(&prack), "{bye:?} after {prack:?}");
}

#[test]
fn a_call_that_its_called_party_ends_before_it_is_answered_has_its_answer() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(180, "early", "Contact: <sip:desk@10.0.1.12>\r\n"));
    // The 2xx of that party was lost on its way to us; its BYE was not.
    let head = invite.read(|message, essentials| {
        let from = message.value(HeaderName::From).unwrap().to_owned();
        (from, message.value(HeaderName::To).unwrap().to_owned(), essentials.call_id.to_owned())
    });
    let (from, to, call_id) = head;
    bench.pbx_says(&format!(
        "BYE sip:x@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKbye\r\nMax-Forwards: 70\r\n\
         From: {to};tag=early\r\nTo: {from}\r\nCall-ID: {call_id}\r\nCSeq: 9 BYE\r\nContent-Length: 0\r\n\r\n"
    ));
    let bye = bench.take("BYE");
    bench.phone_says(flow, &bye.answer(481, "early", ""));
    bench.sent.clear();
    bench.pbx_says(&accepted(&invite, "early"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(487));
}

#[test]
fn what_a_party_accepted_last_is_not_repeated_after_its_end() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call_two(&mut bench, flow);
    acknowledge(&mut bench, flow, "one");
    acknowledge(&mut bench, flow, "two");
    bench.phone_says(flow, &request("INVITE", 2, Some("two"), "application/sdp", OFFER));
    let change = bench.take("INVITE");
    bench.pbx_says(&accepted_at(&change, "two", "10.0.1.12"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    // It is hung up on before the ACK of the change has come.
    bench.phone_says(flow, &request("BYE", 3, Some("two"), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&bye.answer(200, "two", ""));
    bench.sent.clear();
    bench.pbx_says(&accepted_at(&change, "two", "10.0.1.12"));
    bench.pass(Duration::from_secs(33));
    let answers = bench.sent.iter().filter(|sent| sent.flow == flow && sent.status() == Some(200));
    assert_eq!(answers.count(), 0, "{:#?}", bench.sent);
    assert!(bench.try_take("BYE").is_none(), "it has had its BYE");
    hang_up(&mut bench, flow, "one");
}

#[test]
fn both_parties_are_hung_up_by_their_callers_and_by_nobody_else() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call_two(&mut bench, flow);
    acknowledge(&mut bench, flow, "one");
    acknowledge(&mut bench, flow, "two");
    bench.phone_says(flow, &request("INVITE", 2, Some("one"), "application/sdp", OFFER));
    let change = bench.take("INVITE");
    let mut byes = Vec::new();
    for (number, tag) in [(3, "one"), (4, "two")] {
        bench.phone_says(flow, &request("BYE", number, Some(tag), "", ""));
        byes.push((tag, bench.take("BYE")));
    }
    bench.pbx_says(&change.answer(481, "one", ""));
    assert!(bench.try_take("BYE").is_none(), "each has had its BYE");
    for (tag, bye) in byes {
        bench.pbx_says(&bye.answer(200, tag, ""));
    }
    assert_eq!(bench.border.calls.len(), 0);
}

#[test]
fn a_party_that_accepts_while_another_is_hung_up_is_talked_to() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted_at(&invite, "one", "10.0.1.11"));
    acknowledge(&mut bench, flow, "one");
    bench.phone_says(flow, &request("BYE", 2, Some("one"), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&accepted_at(&invite, "two", "10.0.1.12"));
    bench.pbx_says(&bye.answer(200, "one", ""));
    // longer than a BYE may take
    acknowledge(&mut bench, flow, "two");
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.border.calls.len(), 1, "the call goes on with it");
    hang_up(&mut bench, flow, "two");
    assert_eq!(bench.border.calls.len(), 0);
}

#[test]
fn a_party_that_accepts_while_another_is_hung_up_and_is_not_acknowledged_has_a_bye() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted_at(&invite, "one", "10.0.1.11"));
    acknowledge(&mut bench, flow, "one");
    bench.phone_says(flow, &request("BYE", 2, Some("one"), "", ""));
    let bye = bench.take("BYE");
    bench.pbx_says(&accepted_at(&invite, "two", "10.0.1.12"));
    bench.pbx_says(&bye.answer(200, "one", ""));
    bench.pass(Duration::from_millis(32_200));
    let mut ends: Vec<FlowId> = Vec::new();
    while let Some(bye) = bench.try_take("BYE") {
        ends.push(bye.flow);
    }
    assert_eq!(ends, [flow, INSIDE_UDP], "both ends of it");
    assert_eq!(bench.border.calls.len(), 0);
}
