//! How long a phone waits for the PBX, and what it is told.

use super::*;
use crate::command::PbxHealth;

fn health(bench: &mut Bench) -> PbxHealth {
    bench.status().pbx[0].1
}

#[test]
fn a_pbx_that_was_not_heard_is_not_called_down_until_one_health_check_was_in_vain() {
    let mut bench = Bench::new(config());
    assert_eq!(health(&mut bench), PbxHealth::Unknown);
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    bench.pass(Duration::from_millis(9_900));
    assert_eq!((health(&mut bench), bench.final_answer(flow).is_none()), (PbxHealth::Unknown, true));
    bench.pass(Duration::from_millis(200));
    assert_eq!(health(&mut bench), PbxHealth::Down);
    assert!(bench.has_event(Code::PbxDown));
    let answer = bench.final_answer(flow).unwrap();
    assert_eq!((answer.status(), answer.header(HeaderName::RetryAfter).as_str()), (Some(503), "10"));
    // It is there at last: the phone's next try succeeds.
    bench.pass(Duration::from_secs(10));
    bench.sent.retain(|sent| sent.flow != INSIDE_UDP || sent.at == bench.now);
    bench.pass(Duration::from_millis(500));
    let options = bench.take("OPTIONS");
    bench.pbx_says(&options.answer(200, "o", ""));
    assert_eq!(health(&mut bench), PbxHealth::Up);
    bench.sent.clear();
    bench.phone_says(flow, &register("1001", 2));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
}

#[test]
fn nobody_waits_longer_for_a_pbx_that_hangs_than_ten_seconds() {
    let mut bench = Bench::with_pbx_up(config());
    let known = bench.registered(100);
    // The PBX forgets the phone and hangs: our next question has no answer.
    let new = bench.connect(101, Some("009033010205"));
    bench.phone_says(new, &register("1002", 1));
    let asked = bench.take("REGISTER");
    let since = bench.now;
    while bench.now - since < Duration::from_secs(12) {
        bench.pass(Duration::from_millis(100));
        // It answers health checks all the same.
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
    }
    let answer = bench.final_answer(new).unwrap();
    assert_eq!((answer.status(), answer.at - since), (Some(503), Duration::from_secs(10)));
    assert!(!answer.header(HeaderName::RetryAfter).is_empty());
    // A late yes is taken back: the phone was told no.
    bench.sent.clear();
    bench.pbx_says(&asked.registered(&[]));
    assert!(bench.take("REGISTER").header(HeaderName::Contact).ends_with(";expires=0"));
    bench.phone_says(known, &register("1001", 2));
    assert_eq!(bench.final_answer(known).and_then(|answer| answer.status()), Some(200));
}

#[test]
fn a_known_phone_whose_registration_is_being_repaired_hears_200_in_time() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.pass(Duration::from_secs(10));
    while let Some(options) = bench.try_take("OPTIONS") {
        bench.pbx_says(&options.answer(200, "o", ""));
    }
    let query = bench.take("REGISTER");
    assert!(query.header(HeaderName::Contact).is_empty(), "a question which contacts it has");
    bench.pbx_says(&query.answer(200, "q", ""));
    assert!(bench.has_event(Code::PbxLostBindings));
    bench.take("REGISTER");
    bench.phone_says(flow, &register("1001", 2));
    let since = bench.now;
    assert!(bench.final_answer(flow).is_none(), "it waits for the repair");
    while bench.now - since < Duration::from_secs(11) {
        bench.pass(Duration::from_millis(100));
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
    }
    let answer = bench.final_answer(flow).unwrap();
    assert_eq!((answer.status(), answer.at - since), (Some(200), Duration::from_secs(10)));
}

#[test]
fn a_registration_ends_with_the_certificate_of_its_phone_and_nothing_begins_after_it() {
    let mut bench = Bench::with_pbx_up(config());
    let not_after = wall(bench.now).wall + Duration::from_secs(90);
    let flow = bench.connect_until(100, Some(DEVICE), not_after);
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    let expires = |bench: &mut Bench| {
        let answer = bench.final_answer(flow).expect("an answer");
        assert_eq!(answer.status(), Some(200));
        answer.header(HeaderName::Expires)
    };
    assert_eq!(expires(&mut bench), "90", "not the 120 s that it wished");
    bench.sent.clear();
    bench.pass(Duration::from_secs(60));
    bench.phone_says(flow, &register("1001", 2));
    assert_eq!(expires(&mut bench), "30");
    bench.pass(Duration::from_secs(31));
    assert!(bench.has_event(Code::Deregistered));

    let refusals = |bench: &Bench| -> Vec<(Option<String>, Option<String>, String)> {
        let expired = bench.events.iter().filter(|event| event.code == Code::CertExpired);
        expired.map(|it| (it.extension.clone(), it.hardware_id.clone(), it.next_step.clone())).collect()
    };
    let told = (Some("1001".into()), Some(DEVICE.into()), "give the device a new certificate".into());
    bench.sent.clear();
    bench.phone_says(flow, &request("INVITE", 5, None, "", ""));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(403));
    assert_eq!(refusals(&bench), std::slice::from_ref(&told));
    bench.sent.clear();
    bench.phone_says(flow, &register("1001", 3));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(403));
    assert_eq!(refusals(&bench), [told.clone(), told]);
    assert_eq!(bench.closed, [flow], "another certificate wants another handshake");
}

#[test]
fn a_call_goes_on_when_the_certificate_of_its_phone_has_expired() {
    let mut bench = Bench::with_pbx_up(config());
    let not_after = wall(bench.now).wall + Duration::from_secs(90);
    let flow = bench.connect_until(100, Some(DEVICE), not_after);
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    calls::call(&mut bench, flow);
    let tag = "desk";
    bench.pass(Duration::from_secs(91));
    bench.phone_says(flow, &request("INFO", 6, Some(tag), "", ""));
    bench.take("INFO");
    assert!(!bench.has_event(Code::CertExpired));
    // It is not registered again, and its connection stays for the call, however long that is.
    bench.sent.clear();
    bench.phone_says(flow, &register("1001", 2));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(403));
    bench.pass(Duration::from_secs(200));
    assert!(bench.has_event(Code::CertExpired) && bench.closed.is_empty());
    bench.sent.clear();
    bench.phone_says(flow, &request("BYE", 7, Some(tag), "", ""));
    let bye = bench.take("BYE");
    bench.pass(Duration::from_secs(1));
    bench.pbx_says(&bye.answer(200, "pbx", ""));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    bench.pass(Duration::from_secs(4));
    assert!(bench.closed.is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.closed, [flow], "the last call on it has ended");
}

#[test]
fn a_pbx_that_wants_longer_registrations_gets_them() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let brief = |asked: &Sent, least: &str| asked.answer(423, "r", &format!("Min-Expires: {least}\r\n"));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&brief(&asked, "7200"));
    let asked = bench.take("REGISTER");
    assert!(asked.header(HeaderName::Contact).ends_with(";expires=7200"), "{asked:?}");
    bench.pbx_says(&asked.registered(&[]));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));

    // What was granted already, or is beyond measure, is no reason to ask again.
    for (flow, least) in [(101, "7200"), (102, "4000000000")] {
        let flow = bench.connect(flow, Some("009033010205"));
        bench.phone_says(flow, &register("1002", 1));
        let asked = bench.take("REGISTER");
        assert!(asked.header(HeaderName::Contact).ends_with(";expires=7200"), "others learn from it");
        bench.pbx_says(&brief(&asked, least));
        assert!(bench.try_take("REGISTER").is_none(), "{least}");
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503));
        bench.pass(Duration::from_secs(5));
        bench.sent.clear();
    }
}

#[test]
fn phones_that_ask_a_pbx_that_wants_longer_at_once_all_get_it() {
    let mut bench = Bench::with_pbx_up(config());
    let phones = [(101, DEVICE, "1001"), (102, "009033010205", "1002")];
    let asked = phones.map(|(flow, device, name)| {
        let flow = bench.connect(flow, Some(device));
        bench.phone_says(flow, &register(name, 1));
        (flow, bench.take("REGISTER"))
    });
    for (flow, asked) in asked {
        bench.pbx_says(&asked.answer(423, "r", "Min-Expires: 7200\r\n"));
        let asked = bench.take("REGISTER");
        assert!(asked.header(HeaderName::Contact).ends_with(";expires=7200"), "{asked:?}");
        bench.pbx_says(&asked.registered(&[]));
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    }
}

#[test]
fn of_two_registers_of_one_binding_the_newer_ones_answer_counts() {
    let mut config = config();
    config.pbx[0].health_check = Duration::from_secs(86_400);
    let mut bench = Bench::with_pbx_up(config);
    let granted =
        |asked: &Sent, secs: u32| asked.registered(&[]).replace("expires=3600", &format!("expires={secs}"));
    for (flow, device, name) in [(100, DEVICE, "1001"), (101, "009033010205", "1002")] {
        let flow = bench.connect(flow, Some(device));
        bench.phone_says(flow, &register(name, 1));
        let asked = bench.take("REGISTER");
        bench.pbx_says(&granted(&asked, 100));
    }
    bench.sent.clear();
    bench.pass(Duration::from_secs(76));
    let asked = |bench: &mut Bench| {
        ["1001", "1002"].map(|name| {
            let is_his = |sent: &Sent| sent.text.starts_with("REGISTER") && sent.text.contains(name);
            let place = bench.sent.iter().position(is_his).unwrap();
            bench.sent.remove(place)
        })
    };
    let [older, others] = asked(&mut bench);
    bench.sent.clear();
    bench.pbx_says(&others.answer(481, "r", ""));
    assert!(bench.has_event(Code::PbxLostBindings));
    let [newer, others] = asked(&mut bench);
    bench.sent.clear();
    for answer in [granted(&others, 100), granted(&newer, 40), granted(&older, 3600)] {
        bench.pbx_says(&answer);
    }
    bench.pass(Duration::from_secs(29));
    assert!(bench.try_take("REGISTER").is_none(), "the older one is not repeated");
    bench.pass(Duration::from_secs(2));
    assert!(bench.take("REGISTER").text.contains("1001"));
}

#[test]
fn a_refresh_that_fails_is_tried_again_before_the_registration_runs_out() {
    for status in [500, 408, 480] {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.connect(100, Some(DEVICE));
        bench.phone_says(flow, &register("1001", 1));
        let asked = bench.take("REGISTER");
        bench.pbx_says(&asked.registered(&[]).replace("expires=3600", "expires=100"));
        bench.sent.clear();
        let mut refreshes = Vec::new();
        while refreshes.len() < 2 {
            assert!(bench.now < Instant::ZERO + Duration::from_secs(99), "{status}: {refreshes:?}");
            bench.pass(Duration::from_millis(100));
            while let Some(options) = bench.try_take("OPTIONS") {
                bench.pbx_says(&options.answer(200, "o", ""));
            }
            while let Some(sent) = bench.try_take("REGISTER") {
                if sent.header(HeaderName::Contact).is_empty() {
                    let kept = format!("Contact: {}", asked.header(HeaderName::Contact));
                    bench.pbx_says(&sent.answer(200, "q", &kept));
                } else {
                    refreshes.push((sent.at - Instant::ZERO).as_secs());
                    bench.pbx_says(&sent.answer(status, "r", ""));
                }
            }
        }
        assert_eq!(refreshes, [75, 85], "{status}");
    }
}

#[test]
fn a_pbx_that_does_not_know_what_it_confirmed_has_forgotten_all_phones() {
    for status in [404, 481] {
        let mut config = config();
        config.pbx[0].health_check = Duration::from_secs(86_400);
        let mut bench = Bench::with_pbx_up(config);
        for (flow, device, name, granted) in [(100, DEVICE, "1001", 100), (101, "009033010205", "1002", 3600)]
        {
            let flow = bench.connect(flow, Some(device));
            bench.phone_says(flow, &register(name, 1));
            let asked = bench.take("REGISTER");
            bench.pbx_says(&asked.registered(&[]).replace("expires=3600", &format!("expires={granted}")));
        }
        bench.sent.clear();
        bench.pass(Duration::from_secs(76));
        let refresh = bench.take("REGISTER");
        bench.sent.clear();
        bench.pbx_says(&refresh.answer(status, "r", ""));
        assert!(bench.has_event(Code::PbxLostBindings), "{status}");
        let again = [bench.take("REGISTER"), bench.take("REGISTER")];
        let names = ["1001", "1002"].map(|name| again.iter().any(|sent| sent.text.contains(name)));
        assert_eq!(names, [true; 2], "{status}");
    }
}

#[test]
fn an_older_register_that_comes_behind_a_newer_one_does_not_reach_the_pbx() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, None);
    bench.phone_says(flow, &register("1003", 3));
    let newer = bench.take("REGISTER");
    bench.phone_says(flow, &register("1003", 2).replace("expires=120", "expires=0"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(500));
    assert!(bench.try_take("REGISTER").is_none());
    bench.pbx_says(&newer.registered(&[]));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    assert_eq!(bench.status().registrations, 1);
}

#[test]
fn a_late_answer_to_a_phone_that_is_passed_through_takes_nothing_back() {
    let mut config = config();
    config.pbx[0].health_check = Duration::from_secs(86_400);
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.connect(100, None);
    bench.phone_says(flow, &register("1003", 1).replace("expires=120", "expires=60"));
    let first = bench.take("REGISTER");
    bench.pass(Duration::from_secs(11));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503));
    bench.sent.clear();
    bench.phone_says(flow, &register("1003", 2));
    let second = bench.take("REGISTER");
    bench.pbx_says(&second.registered(&[]));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    bench.sent.clear();
    bench.pbx_says(&first.registered(&[]));
    assert!(bench.final_answer(flow).is_none(), "it has had its answer");
    bench.pass(Duration::from_secs(100));
    assert_eq!(bench.status().registrations, 1, "it holds for the 120 s that the phone was told");
}
