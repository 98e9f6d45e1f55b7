//! Call frequency, exact, and calls at once (issue item 6, contract section 6).

use std::time::Duration;

use portcullis_tests::deadline::{Stopwatch, wait_until};
use portcullis_tests::lab::{Lab, Variation};
use portcullis_tests::raw_message::{Draft, RawMessage};
use portcullis_tests::raw_phone::RawPhone;
use portcullis_tests::rtp::RtpEnd;

use crate::support::{SOON, challenged_invite, invite, registered_by_digest, text, wait_idle};

/// Calls that the PBX refuses at once, for there is no 9999.
fn try_call(phone: &mut RawPhone, audio: &RtpEnd) -> RawMessage {
    let draft = invite(phone, "1001", "9999", audio);
    phone.invite(&draft)
}

/// The Call-IDs of different calls that reached the PBX.
fn calls_at_pbx(lab: &Lab, mark: usize) -> usize {
    let mut ids: Vec<String> =
        lab.pbx.requests_after(mark, "INVITE").iter().map(|it| it.value("Call-ID")).collect();
    ids.sort();
    ids.dedup();
    ids.len()
}

#[test]
fn the_call_after_the_last_allowed_one_is_refused_and_never_reaches_the_pbx() {
    let replace = [(r#"rules = ["5/1s", "60/1h"]"#, r#"rules = ["5/30s", "60/1h"]"#)];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let mut phone = lab.registered_phone(1);
    let audio = RtpEnd::open(lab.addresses.phone(1), None);
    let mark = lab.pbx.mark();
    for call in 1..=5 {
        assert_eq!(try_call(&mut phone, &audio).status(), 404, "call {call} is within the rule");
    }
    for _ in 0..3 {
        let refused = try_call(&mut phone, &audio);
        assert_eq!(refused.status(), 480, "{refused:?}");
        let wait: u32 = refused.value("Retry-After").parse().expect("a number of seconds");
        assert!((1..=30).contains(&wait), "{refused:?}");
        assert!(refused.value("Warning").contains("default"), "{refused:?}");
    }
    assert_eq!(calls_at_pbx(&lab, mark), 5);
    let event = lab.portcullis.wait_event("call_limited", |event| text(event, "extension") == "1001");
    assert!(text(&event, "rule").contains("default"), "{event}");
    wait_idle(&lab);
}

#[test]
fn in_no_window_are_there_more_calls_than_the_rule_says() {
    let replace = [(r#"rules = ["5/1s", "60/1h"]"#, r#"rules = ["3/2s", "7/30s"]"#)];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let mut phone = lab.registered_phone(1);
    let audio = RtpEnd::open(lab.addresses.phone(1), None);
    let watch = Stopwatch::start();
    let mut admitted = Vec::new();
    while watch.elapsed() < Duration::from_secs(8) {
        let asked = watch.elapsed();
        if try_call(&mut phone, &audio).status() != 480 {
            admitted.push((asked, watch.elapsed()));
        }
    }
    assert_eq!(admitted.len(), 7, "the second rule holds too: {admitted:?}");
    for window in admitted.windows(4) {
        // The border took each somewhere between question and answer: the widest reading must still fit.
        assert!(window[3].1 - window[0].0 >= Duration::from_secs(2), "{window:?}");
    }
}

#[test]
fn retransmissions_and_challenges_count_once() {
    let replace = [(r#"rules = ["5/1s", "60/1h"]"#, r#"rules = ["2/30s"]"#)];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let mut phone = lab.registered_phone(1);
    let audio = RtpEnd::open(lab.addresses.phone(1), None);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let draft = invite(&phone, "1001", "9999", &audio);
        let via = phone.send(&draft);
        phone.send_by(&draft, &via);
        phone.send_by(&draft, &via);
        // Finals of the call before may come again: they are not this one's.
        let answer = wait_until("the call is answered", SOON, || {
            Some(phone.receive_final(SOON)).filter(|answer| answer.value("Call-ID") == draft.get("Call-ID"))
        });
        phone.acknowledge(&draft, &via, &answer);
        statuses.push(answer.status());
    }
    assert_eq!(statuses, [404, 404, 480], "each was challenged by the PBX and sent three times");
}

#[test]
fn calls_at_once_are_limited() {
    let replace = [(
        "frequency = \"default\"\n\n[[extension]]\nname = \"1002\"",
        "max_calls = 2\n\n[[extension]]\nname = \"1002\"",
    )];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let audio = RtpEnd::open(lab.addresses.phone(1), None);
    for _ in 0..2 {
        let draft = invite(&phone, "1001", "2001", &audio);
        phone.send(&draft);
        let arrived = desk.receive_request("INVITE");
        desk.reply(&Draft::answer(&arrived, 180, "Ringing", "desk"));
        phone.receive_status(180);
    }
    let draft = invite(&phone, "1001", "2001", &audio);
    assert_eq!(phone.invite(&draft).status(), 480);
    let event = lab.portcullis.wait_event("call_limited", |event| text(event, "extension") == "1001");
    assert_eq!(text(&event, "rule"), "max_calls");
}

#[test]
fn calls_to_a_phone_at_once_are_limited_too() {
    let replace = [(
        "frequency = \"default\"\n\n[[extension]]\nname = \"1002\"",
        "max_calls = 1\n\n[[extension]]\nname = \"1002\"",
    )];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let audio = RtpEnd::open(lab.addresses.inside_phone(), None);
    let first = challenged_invite(&mut desk, "2001", "1001", &audio);
    desk.send(&first);
    let arrived = phone.receive_request("INVITE");
    phone.reply(&Draft::answer(&arrived, 180, "Ringing", "phone"));
    desk.receive_status(180);
    let second = challenged_invite(&mut desk, "2001", "1001", &audio);
    let refused = desk.invite(&second);
    assert_eq!((refused.status(), refused.value("Retry-After").as_str()), (480, "5"));
    let event = lab.portcullis.wait_event("call_limited", |event| text(event, "extension") == "1001");
    assert_eq!(text(&event, "rule"), "max_calls");
    assert_eq!(lab.portcullis.rows(&["calls"]).len(), 1, "the call that rings goes on");
}

#[test]
fn wrong_credentials_buy_no_further_tries() {
    let replace =
        [(r#"rules = ["5/1s", "60/1h"]"#, r#"rules = ["3/30s"]"#), ("[block]\n", "[block]\nafter = 1000\n")];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let mut phone = registered_by_digest(&lab, RawPhone::udp(lab.addresses.phone(1), lab.plain()));
    let audio = RtpEnd::open(lab.addresses.phone(1), None);
    let mark = lab.pbx.mark();
    // The same call again and again, by its Call-ID and tag, each time with credentials that prove nothing.
    let mut draft = invite(&phone, "1003", "2001", &audio);
    let junk =
        "Digest username=\"1003\", realm=\"pbx.lab\", nonce=\"0\", uri=\"sip:2001@pbx.lab\", response=\"0\"";
    draft.set("Proxy-Authorization", junk);
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let via = phone.send(&draft);
        // Finals of the try before may come again: they are not this one's.
        let answer = wait_until("the try is answered", SOON, || {
            Some(phone.receive_final(SOON)).filter(|answer| answer.value("CSeq") == draft.get("CSeq"))
        });
        phone.acknowledge(&draft, &via, &answer);
        statuses.push(answer.status());
        draft.follow_up();
    }
    let mut tries: Vec<String> =
        lab.pbx.requests_after(mark, "INVITE").iter().map(|it| it.value("CSeq")).collect();
    tries.sort();
    tries.dedup();
    assert!((1..=6).contains(&tries.len()), "three calls and a few retries: {statuses:?} {tries:?}");
    assert_eq!(statuses.last(), Some(&480), "{statuses:?}");
    lab.portcullis.wait_event("digest_failed", |event| text(event, "extension") == "1003");
}
