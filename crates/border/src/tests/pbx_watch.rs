//! How many health checks a PBX may miss before it is down.

use super::*;
use crate::command::{Answer, Command};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// One whose PBX took a phone in, is asked each `health_check`, and says nothing more.
fn silent_pbx(health_check: Duration) -> Bench {
    let mut config = config();
    config.pbx[0].health_check = health_check;
    let mut bench = Bench::with_pbx_up(config);
    bench.registered(100);
    bench
}

/// When the PBX was called down, within the next five minutes.
fn down_at(bench: &mut Bench) -> Option<Duration> {
    let until = bench.now + seconds(300);
    while bench.now < until {
        bench.pass(Duration::from_millis(500));
        if bench.has_event(Code::PbxDown) {
            return Some(bench.now - Instant::ZERO);
        }
    }
    None
}

#[test]
fn a_pbx_is_down_after_two_checks_in_vain_and_not_within_the_first() {
    // Each check has its whole time-out (RFC 3261, timer F) to be answered …
    assert_eq!(down_at(&mut silent_pbx(seconds(60))), Some(seconds(120 + 32)));
    // … or until the next one, where that comes sooner; the time-out of an older one counts for nothing.
    assert_eq!(down_at(&mut silent_pbx(seconds(10))), Some(seconds(30)));
    assert_eq!(down_at(&mut silent_pbx(seconds(20))), Some(seconds(60)));
}

#[test]
fn where_it_was_asked_is_told() {
    let mut bench = silent_pbx(seconds(10));
    down_at(&mut bench);
    let down = bench.events.iter().find(|event| event.code == Code::PbxDown).unwrap();
    assert!(down.text.starts_with("PBX main (10.0.1.1:5060, udp) is down: it does not answer"), "{down:?}");
    assert!(down.next_step.ends_with("or correct its `uri`"), "{down:?}");
}

#[test]
fn an_answer_between_two_missed_checks_begins_anew() {
    let mut bench = silent_pbx(seconds(60));
    bench.pass(seconds(60 + 32));
    bench.sent.clear();
    bench.pass(seconds(28));
    let options = bench.take("OPTIONS");
    bench.pbx_says(&options.answer(200, "o", ""));
    assert_eq!(down_at(&mut bench), Some(seconds(240 + 32)));
}

#[test]
fn registrations_without_an_answer_are_no_health_checks() {
    let mut bench = silent_pbx(seconds(60));
    for (flow, device) in [(101, OTHER_DEVICE), (102, "009033010205")] {
        let flow = bench.connect(flow, Some(device));
        bench.phone_says(flow, &register(if device == OTHER_DEVICE { "1001" } else { "1002" }, 1));
    }
    assert_eq!(down_at(&mut bench), Some(seconds(120 + 32)));
}

#[test]
fn who_is_registered_again_at_a_pbx_that_was_down_is_told_of_once() {
    let mut bench = known_bench();
    bench.pass(seconds(40));
    assert!(bench.has_event(Code::PbxDown) && state(&mut bench) == "registered");
    bench.sent.clear();
    // It says nothing of its contacts.
    let well = |asked: &Sent, names_one| match names_one {
        true => asked.registered(&[]),
        false => asked.answer(500, "q", ""),
    };
    watched(&mut bench, seconds(30), well);
    let told: Vec<_> = bench.events.iter().filter(|event| event.code == Code::Reregistered).collect();
    let [told] = told[..] else { panic!("{:#?}", bench.events) };
    assert_eq!(told.extension.as_deref(), Some("1001"));
    // The refresh after that is none.
    watched(&mut bench, seconds(2_800), well);
    assert_eq!(bench.events.iter().filter(|event| event.code == Code::Reregistered).count(), 1);
}

#[test]
fn a_phone_that_comes_back_while_its_pbx_is_down_is_not_said_to_be_registered_there() {
    let mut bench = known_bench();
    bench.pass(seconds(40));
    let flow = bench.connect(101, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 2));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    let told = bench.events.last().unwrap();
    assert_eq!(told.code, Code::Registered);
    assert!(told.text.contains("registered here from a new flow (tls); PBX main is down"), "{told:?}");
}

/// One with the agreed realm and a registered phone, whose PBX answers what it is asked for a while: health checks
/// well, and each REGISTER as it is told to by whether that names a contact. How often it was asked which contacts it
/// has, and how often it was to take one.
fn watched(bench: &mut Bench, time: Duration, says: impl Fn(&Sent, bool) -> String) -> (usize, usize) {
    let (mut queries, mut registrations) = (0, 0);
    let until = bench.now + time;
    while bench.now < until {
        bench.pass(Duration::from_millis(500));
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
        while let Some(asked) = bench.try_take("REGISTER") {
            let names_one = !asked.header(HeaderName::Contact).is_empty();
            *if names_one { &mut registrations } else { &mut queries } += 1;
            let answer = says(&asked, names_one);
            bench.pbx_says(&answer);
        }
    }
    (queries, registrations)
}

fn known_bench() -> Bench {
    let mut config = config();
    config.pbx[0].realm = Some("main.example".into());
    // The phone's own refreshes shall not be in the way.
    config.registration.phone_expires = seconds(3_600);
    let mut bench = Bench::with_pbx_up(config);
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1).replace("expires=120", "expires=3600"));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.sent.clear();
    bench.events.clear();
    bench
}

fn state(bench: &mut Bench) -> &'static str {
    let Answer::Registrations(rows) = bench.ask(Command::Registrations) else { panic!("no rows") };
    rows[0].pbx_state
}

#[test]
fn a_pbx_that_lost_all_and_refuses_the_password_is_noticed_at_the_next_query() {
    for (status, more, code) in [(401, CHALLENGE, Code::DigestFailed), (403, "", Code::PbxRefused)] {
        let mut bench = known_bench();
        assert_eq!(state(&mut bench), "registered");
        watched(&mut bench, seconds(15), |asked, _| asked.answer(status, "t", more));
        assert_eq!(state(&mut bench), "lost", "{status}");
        let told: Vec<_> =
            bench.events.iter().map(|event| (event.code, event.extension.as_deref())).collect();
        assert_eq!(told, [(code, Some("1001")); 2], "{status}: the query and the registration");
        assert!(bench.events[0].text.contains("which contacts it has"), "{:#?}", bench.events);

        // It is of one mind with us again: registered within the minute, and watched as before.
        bench.events.clear();
        let well = |asked: &Sent, _| asked.registered(&[]);
        watched(&mut bench, seconds(65), well);
        assert_eq!(
            (state(&mut bench), bench.has_event(Code::Reregistered)),
            ("registered", true),
            "{status}"
        );
        watched(&mut bench, seconds(15), |asked, _| asked.answer(status, "t", more));
        assert_eq!(state(&mut bench), "lost", "{status} once more");
    }
}

#[test]
fn a_pbx_that_never_says_which_contacts_it_has_is_told_of_once_and_left_alone() {
    for (status, told) in [(405, 1), (603, 1), (500, 0), (480, 0)] {
        let mut bench = known_bench();
        let says = |asked: &Sent, names_one| match names_one {
            true => asked.registered(&[]),
            false => asked.answer(status, "t", ""),
        };
        let (queries, registrations) = watched(&mut bench, seconds(95), says);
        assert_eq!((queries, registrations), (9, told), "{status}");
        let codes: Vec<_> = bench.events.iter().map(|event| event.code).collect();
        assert_eq!((state(&mut bench), codes), ("registered", vec![Code::PbxRefused; told]), "{status}");
    }
}
