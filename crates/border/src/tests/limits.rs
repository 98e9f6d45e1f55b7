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
