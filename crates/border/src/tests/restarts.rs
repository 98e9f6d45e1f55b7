//! What outlives a restart of ours, and what a restart of the PBX is taken for.

use super::*;
use crate::command::{BlockView, RegistrationView};

fn cseq(sent: &Sent) -> u32 {
    sent.read(|_, essentials| essentials.cseq.number)
}

fn node_records(bench: &Bench) -> Vec<&[u8]> {
    bench.stored.keys().filter(|(table, _)| *table == Table::Node).map(|(_, key)| key.as_slice()).collect()
}

/// Two devices of 1001: one is registered, and the REGISTER of the other is on its way.
fn two_devices(bench: &mut Bench) {
    bench.registered(100);
    let second = bench.connect(101, Some(OTHER_DEVICE));
    let text = register("1001", 1).replace("reg-1001", "reg-other").replace("z9hG4bKr", "z9hG4bKo");
    bench.phone_says(second, &text);
}

#[test]
fn the_secret_and_the_cseqs_are_written_until_they_are_on_disk() {
    for disk in [Disk::Full, Disk::Hangs] {
        let mut bench = Bench::started(config(), Vec::new(), Instant::ZERO, disk);
        bench.pass(Duration::from_secs(60));
        let tries = bench.writes;
        assert!((8..=14).contains(&tries), "two records, after 1, 2, 4, … s: {tries}");
        let told = bench.events.iter().filter(|event| event.code == Code::StoreFailed).count();
        assert_eq!((told, node_records(&bench).len()), (1, 0), "{disk:?}");
        bench.disk = Disk::Good;
        bench.pass(Duration::from_secs(65));
        assert_eq!(node_records(&bench), [&b"cseq"[..], b"secret"]);
        let written = bench.writes;
        bench.pass(Duration::from_secs(600));
        assert_eq!(bench.writes, written, "what is on disk is not written again");
    }
}

#[test]
fn a_cseq_never_goes_back_whether_the_disk_works_or_not() {
    for disk in [Disk::Good, Disk::Full] {
        let mut bench = Bench::started(config(), Vec::new(), Instant::ZERO, disk);
        let options = bench.take("OPTIONS");
        bench.pbx_says(&options.answer(200, "o", ""));
        bench.sent.clear();
        let mut last = 0;
        for cseq_of_phone in 1..=30 {
            let flow = bench.connect(100, Some(DEVICE));
            bench.phone_says(flow, &register("1001", cseq_of_phone));
            let asked = bench.take("REGISTER");
            assert!(cseq(&asked) > last);
            last = cseq(&asked);
            bench.pbx_says(&asked.registered(&[]));
            let leave = register("1001", 1_000 + cseq_of_phone).replace("expires=120", "expires=0");
            bench.phone_says(flow, &leave);
            bench.pass(Duration::from_secs(5));
            bench.put(Input::FlowClosed { flow });
            bench.sent.clear();
        }
        let mut again = Bench::started(config(), bench.records(), bench.now, Disk::Good);
        let options = again.take("OPTIONS");
        again.pbx_says(&options.answer(200, "o", ""));
        let query = again.take("REGISTER");
        assert!(cseq(&query) > last, "{} after {last}, {disk:?}", cseq(&query));
    }
}

#[test]
fn what_the_disk_has_not_reserved_is_a_series_of_this_start_alone() {
    let series = |sent: &Sent| sent.header(HeaderName::CallId);
    let query = |bench: &mut Bench| {
        let options = bench.take("OPTIONS");
        bench.pbx_says(&options.answer(200, "o", ""));
        bench.take("REGISTER")
    };
    let kept = Bench::new(config()).records();
    let begin = |seed, disk| Bench::seeded(config(), seed, kept.clone(), wall(Instant::ZERO), disk);
    let good = [1, 2].map(|seed| query(&mut begin(seed, Disk::Good)));
    assert_eq!(series(&good[0]), series(&good[1]));
    for disk in [Disk::Full, Disk::Hangs] {
        let lost = [1, 2].map(|seed| query(&mut begin(seed, disk)));
        assert_eq!(cseq(&lost[0]), cseq(&lost[1]), "killed at once, the next start cannot know the number");
        let all = [&lost[0], &lost[1], &good[0]].map(series);
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{disk:?}: {all:?}");
    }
    let later = [Disk::Good, Disk::Hangs].map(|disk| {
        let mut bench = begin(1, disk);
        let first = query(&mut bench);
        bench.pbx_says(&first.answer(200, "q", ""));
        bench.disk = Disk::Good;
        let mut again = || {
            bench.pass(Duration::from_secs(12));
            let query = query(&mut bench);
            bench.pbx_says(&query.answer(200, "q", ""));
            // what comes again is of no interest
            std::iter::from_fn(|| bench.try_take("REGISTER")).last().unwrap_or(query)
        };
        let soon = again();
        assert_eq!(series(&soon), series(&first), "a challenge is answered as it was asked");
        (0..4).map(|_| again()).last().expect("four")
    });
    assert_eq!(series(&later[0]), series(&later[1]), "from then on it is known what was used");
}

#[test]
fn a_pbx_that_restarted_is_not_said_to_keep_one_contact() {
    let mut bench = Bench::with_pbx_up(config());
    two_devices(&mut bench);
    // The PBX restarted a moment after it had confirmed the first device: its list has the second alone.
    let second = bench.take("REGISTER");
    bench.pbx_says(&second.registered(&[]));
    let first = bench.take("REGISTER");
    assert_ne!(first.header(HeaderName::Contact), second.header(HeaderName::Contact), "it is made again");
    bench.pbx_says(&first.registered(&[&second.header(HeaderName::Contact)]));
    bench.pass(Duration::from_secs(5));
    assert!(!bench.has_event(Code::PbxSingleContact) && !bench.has_event(Code::PbxLostBindings));
    assert!(bench.try_take("REGISTER").is_none(), "nothing is left to be repaired");
}

#[test]
fn devices_that_displace_each_other_name_the_pbx_and_the_newest_stays() {
    let mut bench = Bench::with_pbx_up(config());
    two_devices(&mut bench);
    let newest = bench.take("REGISTER");
    bench.pbx_says(&newest.registered(&[]));
    let older = bench.take("REGISTER");
    bench.pbx_says(&older.registered(&[]));
    assert!(!bench.has_event(Code::PbxSingleContact), "it could still have restarted twice");
    let again = bench.take("REGISTER");
    assert_eq!(again.header(HeaderName::Contact), newest.header(HeaderName::Contact));
    bench.pbx_says(&again.registered(&[]));
    assert!(bench.has_event(Code::PbxSingleContact));
    assert!(bench.try_take("REGISTER").is_none(), "and they are left in peace");
    bench.pass(Duration::from_secs(10));
    while let Some(options) = bench.try_take("OPTIONS") {
        bench.pbx_says(&options.answer(200, "o", ""));
    }
    let query = bench.take("REGISTER");
    let kept = format!("Contact: {}", newest.header(HeaderName::Contact));
    bench.pbx_says(&query.answer(200, "q", &kept));
    assert!(bench.try_take("REGISTER").is_none() && !bench.has_event(Code::PbxLostBindings));
    assert_eq!(bench.events.iter().filter(|event| event.code == Code::PbxSingleContact).count(), 1);
}

#[test]
fn after_a_restart_a_registration_is_shown_with_the_time_that_its_phone_has_to_come_back() {
    let mut bench = Bench::with_pbx_up(config());
    bench.registered(100);
    let mut again = Bench::started(config(), bench.records(), bench.now, Disk::Good);
    again.pass(Duration::from_secs(10));
    let row = registration(&mut again);
    assert_eq!((row.pbx_state, row.expires), ("grace", Duration::from_secs(20)));
    let flow = again.connect(101, Some(DEVICE));
    again.phone_says(flow, &register("1001", 2));
    let row = registration(&mut again);
    assert_eq!((row.pbx_state, row.expires), ("registered", Duration::from_secs(120)));
}

fn registration(bench: &mut Bench) -> RegistrationView {
    bench.border.handle_input(Input::Command { id: 1, command: Command::Registrations }, wall(bench.now));
    let mut rows = Vec::new();
    while let Some(output) = bench.border.poll_output() {
        if let Output::Answer { answer: Answer::Registrations(found), .. } = output {
            rows = found;
        }
    }
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

#[test]
fn a_phone_that_signs_off_hears_of_it_when_it_is_on_disk_and_so_does_the_pbx() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.disk = Disk::Hangs;
    bench.phone_says(flow, &register("1001", 2).replace("expires=120", "expires=0"));
    assert!(bench.final_answer(flow).is_none() && bench.try_take("REGISTER").is_none());
    bench.pass(Duration::from_millis(250));
    assert_eq!(
        bench.final_answer(flow).and_then(|answer| answer.status()),
        Some(200),
        "it need not wait longer"
    );
    assert!(bench.take("REGISTER").header(HeaderName::Contact).ends_with(";expires=0"));
}

#[test]
fn a_phone_that_is_back_before_its_end_was_on_disk_keeps_its_contact_at_the_pbx() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.disk = Disk::Hangs;
    bench.phone_says(flow, &register("1001", 2).replace("expires=120", "expires=0"));
    bench.phone_says(flow, &register("1001", 3));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.pass(Duration::from_secs(1));
    assert!(bench.try_take("REGISTER").is_none(), "nothing takes the new contact back");
}

#[test]
fn an_operator_hears_that_a_block_is_gone_when_that_is_on_disk() {
    let mut bench = Bench::new(config());
    let prefix = "198.51.100.7".parse().unwrap();
    let order = |bench: &mut Bench, command| bench.put(Input::Command { id: 1, command });
    let (time, why) = (None, String::new());
    order(&mut bench, Command::BlockAdd { prefix, time, why, force: false });
    assert!(matches!(bench.answers.pop(), Some(Answer::Done(_))));
    bench.disk = Disk::Hangs;
    order(&mut bench, Command::BlockRemove { prefixes: vec![prefix] });
    assert!(bench.answers.is_empty());
    bench.pass(Duration::from_millis(250));
    assert!(matches!(bench.answers.pop(), Some(Answer::Done(text)) if text.contains("not on disk yet")));
    let nobody = "198.51.100.8".parse().unwrap();
    order(&mut bench, Command::BlockRemove { prefixes: vec![nobody] });
    assert!(
        matches!(bench.answers.pop(), Some(Answer::Refused(_))),
        "what changes nothing waits for nothing"
    );
}

#[test]
fn a_disk_that_fails_is_told_of_once_and_once_more_when_it_works() {
    let mut bench = Bench::with_pbx_up(config());
    let told = |bench: &Bench| {
        let counts = [Code::StoreFailed, Code::StoreWorks];
        counts.map(|code| bench.events.iter().filter(|event| event.code == code).count())
    };
    let block = |bench: &mut Bench, last: u8| {
        let prefix = wire::net::Prefix::single([198, 51, 100, last].into());
        let command = Command::BlockAdd { prefix, time: None, why: String::new(), force: false };
        bench.put(Input::Command { id: 1, command });
        bench.pass(Duration::from_millis(250));
    };
    for (disk, expected) in [
        (Disk::Full, [1, 0]),
        (Disk::Hangs, [1, 0]),
        (Disk::Good, [1, 1]),
        (Disk::Hangs, [2, 1]),
        (Disk::Good, [2, 1]),
    ] {
        bench.disk = disk;
        block(&mut bench, 1);
        block(&mut bench, 2);
        assert_eq!(told(&bench), expected, "{disk:?}: a slow disk has lost nothing");
    }
}

/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;

fn rows(bench: &mut Bench) -> (Vec<BlockView>, Vec<RegistrationView>) {
    for command in [Command::BlockList, Command::Registrations] {
        bench.put(Input::Command { id: 1, command });
    }
    match (bench.answers.pop(), bench.answers.pop()) {
        (Some(Answer::Registrations(phones)), Some(Answer::Blocks(blocks))) => (blocks, phones),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clock_that_was_set_shortens_nothing_and_prolongs_nothing() {
    for (first, then) in [(0, 3 * DAY_MS), (3 * DAY_MS, 0)] {
        let mut bench = Bench::with_pbx_up(config());
        bench.clock_set = first;
        bench.registered(100);
        let told = bench.events.iter().filter(|event| event.code == Code::ClockStepped).count();
        let prefix = "198.51.100.7".parse().unwrap();
        let (time, why) = (Some(Duration::from_secs(600)), String::new());
        bench.put(Input::Command { id: 1, command: Command::BlockAdd { prefix, time, why, force: false } });
        bench.pass(Duration::from_secs(100));
        bench.clock_set = then;
        bench.pass(Duration::from_secs(10));
        let steps = bench.events.iter().filter(|event| event.code == Code::ClockStepped).count();
        assert_eq!(steps, told + 1, "told once");

        let mut again = Bench::started_at(config(), bench.records(), bench.time());
        let (blocks, phones) = rows(&mut again);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].remaining, Duration::from_secs(490));
        assert_eq!(blocks[0].expires.since(again.time().wall), Duration::from_secs(490));
        assert_eq!(phones.len(), 1);
        assert!(phones[0].pbx_expires > Duration::from_secs(3_400), "{phones:?}");
        assert!(phones[0].pbx_expires <= Duration::from_secs(3_600), "{phones:?}");
    }
}

#[test]
fn a_registration_is_known_after_a_start_for_a_day_beyond_the_end_that_it_had_when_it_was_written() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.pass(Duration::from_secs(60));
    // From another place, so that it is written anew.
    bench.phone_says(flow, &register("1001", 2).replace("line@", "other@"));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    let written = bench.time().wall;
    for (beyond, known) in [(119, 1), (120, 0)] {
        let wall = written + Duration::from_millis(DAY_MS) + Duration::from_secs(beyond);
        let start = Now { mono: Instant::ZERO, wall };
        let (_, phones) = rows(&mut Bench::started_at(config(), bench.records(), start));
        assert_eq!(phones.len(), known, "a day and {beyond} s later");
    }
}

#[test]
fn a_start_with_a_clock_that_is_far_behind_keeps_nothing_for_ever() {
    let mut bench = Bench::with_pbx_up(config());
    bench.registered(100);
    let records = bench.records();
    let long_ago = Now { mono: Instant::ZERO, wall: WallTime(1_000) };
    let (_, phones) = rows(&mut Bench::started_at(config(), records, long_ago));
    assert_eq!(phones.len(), 1);
    assert!(phones[0].expires <= Duration::from_secs(120 + 86_400), "{phones:?}");
    assert!(phones[0].pbx_expires <= Duration::from_secs(3_600), "{phones:?}");
}

#[test]
fn a_start_with_a_clock_that_was_set_back_takes_no_registration_for_longer_than_it_was_granted() {
    const GRANTED: Duration = Duration::from_secs(300);
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    let contact = asked.header(HeaderName::Contact).replace("expires=3600", "expires=300");
    bench.pbx_says(&asked.answer(200, "reg", &format!("Contact: {contact}")));
    let hour_ago = Now { mono: Instant::ZERO, wall: WallTime(bench.time().wall.0 - 3_600_000) };
    let (_, phones) = rows(&mut Bench::started_at(config(), bench.records(), hour_ago));
    assert_eq!(phones[0].pbx_expires, GRANTED);

    // A record of a version that did not say how long it was granted.
    let mut records = bench.records();
    for record in records.iter_mut().filter(|record| record.table == Table::Bindings) {
        let value = record.value.as_mut().unwrap();
        let last = 300_000_u64.to_be_bytes();
        assert_eq!(value.split_off(value.len() - 12), [&[0, 0, 0, 8], &last[..]].concat());
    }
    assert_eq!(crate::record::check_records(&records), Ok(()));
    let (_, phones) = rows(&mut Bench::started_at(config(), records.clone(), hour_ago));
    assert_eq!(phones[0].pbx_expires, Duration::from_secs(3_600), "as long as it is asked for");
    let (_, phones) = rows(&mut Bench::started_at(config(), records, bench.time()));
    assert_eq!(phones[0].pbx_expires, GRANTED);

    let mut records = bench.records();
    for record in records.iter_mut().filter(|record| record.table == Table::Bindings) {
        record.value.as_mut().unwrap().pop();
    }
    assert!(crate::record::check_records(&records).is_err(), "one that was cut off is not read");
}

#[test]
fn a_long_block_list_is_dated_anew_in_slices() {
    let mut bench = Bench::with_pbx_up(config());
    for number in 0..1_200_u32 {
        let prefix = wire::net::Prefix::single(std::net::Ipv4Addr::from(0x0a00_0000 + number).into());
        let (time, why) = (Some(Duration::from_secs(600)), String::new());
        bench.put(Input::Command { id: 1, command: Command::BlockAdd { prefix, time, why, force: true } });
    }
    let before = bench.writes;
    bench.clock_set = DAY_MS;
    bench.put(Input::Command { id: 1, command: Command::Status });
    let first = bench.writes - before;
    assert!((1..1_100).contains(&first), "{first} at once");
    bench.pass(Duration::from_secs(1));
    assert!(bench.writes - before >= 1_200, "and all of them in the end");
}

#[test]
fn an_operator_hears_that_an_order_could_not_be_stored() {
    let mut bench = Bench::new(config());
    assert!(!bench.status().store_failing);
    bench.disk = Disk::Full;
    let prefix = "198.51.100.7".parse().unwrap();
    let command =
        Command::BlockAdd { prefix, time: Some(Duration::from_secs(600)), why: String::new(), force: false };
    bench.put(Input::Command { id: 1, command });
    let Some(Answer::Refused(text)) = bench.answers.pop() else { panic!("it is not said") };
    assert!(text.starts_with("198.51.100.7 is blocked for 10m"), "{text}");
    assert!(text.contains("could not be stored"), "{text}");
    let status = bench.status();
    assert!(status.store_failing && status.blocks == 1, "it holds until then");
    bench.disk = Disk::Good;
    let command = Command::BlockRemove { prefixes: vec![prefix] };
    bench.put(Input::Command { id: 2, command });
    assert!(matches!(bench.answers.pop(), Some(Answer::Done(_))));
    assert!(!bench.status().store_failing);
}

#[test]
fn a_time_is_said_in_its_largest_unit() {
    for (seconds, said) in [(172_800, "48h"), (600, "10m"), (5400, "90m"), (90, "90s"), (0, "0s")] {
        assert_eq!(crate::control::in_words(Duration::from_secs(seconds)), said);
    }
}

#[test]
fn a_block_without_effect_names_the_entry_that_allows_it() {
    let mut bench = Bench::new(config());
    let mut order = |command| {
        bench.put(Input::Command { id: 1, command });
        bench.answers.pop().unwrap()
    };
    for address in ["198.51.100.7", "203.0.113.7"] {
        let prefix = address.parse().unwrap();
        order(Command::BlockAdd { prefix, time: None, why: String::new(), force: false });
    }
    let (prefix, name) = ("198.51.100.0/24".parse().unwrap(), "office".to_owned());
    let Answer::Done(text) = order(Command::AllowAdd { prefix, name, description: String::new() }) else {
        panic!("it is refused")
    };
    assert!(text.ends_with("; the block of 198.51.100.7 is without effect from now on"), "{text}");
    let Answer::Blocks(rows) = order(Command::BlockList) else { panic!("no list") };
    let allowed: Vec<_> = rows.iter().map(|row| row.allowed_as.as_deref()).collect();
    assert_eq!(allowed, [Some("office"), None]);
}

#[test]
fn a_call_that_is_challenged_before_a_realm_is_agreed_on_blames_nobody() {
    let mut bench = Bench::with_pbx_up(config());
    bench.registered(100);
    // Killed before a realm was on disk; the PBX is first heard when it challenges a call.
    let mut bench = Bench::started(config(), bench.records(), bench.now, Disk::Good);
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 2));
    bench.sent.clear();
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(407, "i", &CHALLENGE.replace("WWW-", "Proxy-")));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503));
    assert!(!bench.has_event(Code::RealmChanged));
}

#[test]
fn a_phone_that_is_passed_through_is_known_after_a_start_however_long_it_has_refreshed() {
    let mut config = config();
    config.pbx[0].health_check = Duration::from_secs(86_400);
    let mut bench = Bench::with_pbx_up(config.clone());
    let flow = bench.connect(100, None);
    let refresh = |bench: &mut Bench, cseq: u32| {
        bench.phone_says(flow, &register("1003", cseq));
        let asked = bench.take("REGISTER");
        bench.pbx_says(&asked.registered(&[]));
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
        bench.sent.clear();
    };
    refresh(&mut bench, 1);
    let written = bench.writes;
    for cseq in 2..200 {
        bench.pass(Duration::from_secs(60));
        bench.sent.clear();
        refresh(&mut bench, cseq);
        let (_, phones) = rows(&mut Bench::started_at(config.clone(), bench.records(), bench.time()));
        assert_eq!(phones.len(), 1, "after {cseq} minutes");
    }
    assert!((2..=4).contains(&(bench.writes - written)), "an unchanged refresh costs the disk no work");
    bench.put(Input::FlowClosed { flow });
    bench.pass(Duration::from_secs(121));
    let (_, phones) = rows(&mut Bench::started_at(config.clone(), bench.records(), bench.time()));
    assert_eq!(phones, [], "it has run out");
}
