//! How many health checks a PBX may miss before it is down.

use super::*;

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
