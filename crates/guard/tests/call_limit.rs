//! Call frequency against a recount of every window.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod seeded;

use std::time::Duration;

use guard::{CallLimit, CallRule, CallRuleError};
use wire::clock::Instant;

use seeded::Seeded;

fn rule(text: &str) -> CallRule {
    text.parse().unwrap()
}

fn rules(texts: &[&str]) -> Vec<CallRule> {
    texts.iter().map(|text| rule(text)).collect()
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

const NANO: Duration = Duration::from_nanos(1);

#[test]
fn rules_read_and_written() {
    for (text, expected) in [
        ("5/1s", Ok((5, 1_000, "5/1s"))),
        ("60/1h", Ok((60, 3_600_000, "60/1h"))),
        ("60/60m", Ok((60, 3_600_000, "60/1h"))),
        ("1/90s", Ok((1, 90_000, "1/90s"))),
        ("3/1500ms", Ok((3, 1_500, "3/1500ms"))),
        ("100/1d", Ok((100, 86_400_000, "100/1d"))),
        ("100/24h", Ok((100, 86_400_000, "100/1d"))),
        ("10000/366d", Ok((10_000, 366 * 86_400_000, "10000/366d"))),
        ("", Err(CallRuleError::Form)),
        ("5", Err(CallRuleError::Form)),
        ("5 per 1s", Err(CallRuleError::Form)),
        ("0/1s", Err(CallRuleError::Calls)),
        ("10001/1s", Err(CallRuleError::Calls)),
        ("+5/1s", Err(CallRuleError::Calls)),
        ("-5/1s", Err(CallRuleError::Calls)),
        ("/1s", Err(CallRuleError::Calls)),
        ("99999999999999999999/1s", Err(CallRuleError::Calls)),
        ("5/0s", Err(CallRuleError::Period)),
        ("5/s", Err(CallRuleError::Period)),
        ("5/1", Err(CallRuleError::Period)),
        ("5/", Err(CallRuleError::Period)),
        ("5/1x", Err(CallRuleError::Period)),
        ("5/1 s", Err(CallRuleError::Period)),
        ("5/+1s", Err(CallRuleError::Period)),
        ("5/1.5s", Err(CallRuleError::Period)),
        ("5/1m30s", Err(CallRuleError::Period)),
        ("5/367d", Err(CallRuleError::Period)),
        ("5/18446744073709551615d", Err(CallRuleError::Period)),
    ] {
        let read = text.parse::<CallRule>().map(|rule| (rule.calls, rule.period, rule.to_string()));
        let expected =
            expected.map(|(calls, millis, text)| (calls, Duration::from_millis(millis), text.to_owned()));
        assert_eq!(read, expected, "{text:?}");
    }
}

#[test]
fn a_text_that_is_no_rule_is_told_what_is_wrong_with_it() {
    for (text, words) in [
        ("5", "not a rule: write calls and period, as in 5/1s"),
        ("0/1s", "the number of calls must be 1 to 10000"),
        ("5/1", "the period must be 1ms to 366d, with one unit of ms, s, m, h, d"),
    ] {
        assert_eq!(text.parse::<CallRule>().unwrap_err().to_string(), words, "{text}");
    }
}

#[test]
fn the_window_is_exact_to_the_nanosecond() {
    let mut limit = CallLimit::new(rules(&["2/1s"]));
    assert_eq!(limit.admit(at(0)), Ok(()));
    assert_eq!(limit.admit(at(400)), Ok(()));
    let refusal = limit.admit(at(500)).unwrap_err();
    assert_eq!((refusal.rule, refusal.retry_after), (rule("2/1s"), Duration::from_millis(500)));
    let early = Instant::from_nanos(999_999_999);
    assert_eq!(limit.admit(early).unwrap_err().retry_after, NANO);
    assert_eq!(limit.admit(at(1_000)), Ok(()));
    assert_eq!(limit.admit(at(1_000)).unwrap_err().retry_after, Duration::from_millis(400));
    assert_eq!(limit.admit(at(1_400)), Ok(()));
}

#[test]
fn a_refused_call_is_not_counted() {
    let mut limit = CallLimit::new(rules(&["1/1s"]));
    assert_eq!(limit.admit(at(0)), Ok(()));
    for millis in 1..1_000 {
        assert_eq!(limit.admit(at(millis)).unwrap_err().retry_after, Duration::from_millis(1_000 - millis));
    }
    assert_eq!(limit.admit(at(1_000)), Ok(()));
}

#[test]
fn the_rule_that_waits_longest_is_named() {
    let mut limit = CallLimit::new(rules(&["5/1s", "6/1h"]));
    for _ in 0..5 {
        assert_eq!(limit.admit(at(0)), Ok(()));
    }
    assert_eq!(limit.admit(at(10)).unwrap_err().rule, rule("5/1s"));
    assert_eq!(limit.admit(at(1_000)), Ok(()));
    let refusal = limit.admit(at(1_001)).unwrap_err();
    assert_eq!(refusal.rule, rule("6/1h"));
    assert_eq!(refusal.retry_after, Duration::from_millis(3_600_000 - 1_001));
}

#[test]
fn without_a_rule_everything_is_admitted_and_a_rule_of_no_calls_admits_nothing() {
    let mut free = CallLimit::new(Vec::new());
    assert!((0..10_000).all(|_| free.admit(at(0)).is_ok()));
    let none = CallRule { calls: 0, period: Duration::from_secs(9) };
    let refusal = CallLimit::new(vec![none]).admit(at(0)).unwrap_err();
    assert_eq!((refusal.rule, refusal.retry_after), (none, none.period));
}

#[test]
fn a_rule_beyond_the_bound_counts_as_the_bound() {
    let vast = CallRule { calls: u32::MAX, period: Duration::from_secs(3_600) };
    let mut limit = CallLimit::new(vec![vast]);
    let admitted = (0..20_000).filter(|_| limit.admit(at(0)).is_ok()).count();
    assert_eq!(admitted, CallRule::CALLS_MAX as usize);
}

#[test]
fn a_clock_that_steps_back_admits_no_more() {
    let mut limit = CallLimit::new(rules(&["2/1s"]));
    assert_eq!(limit.admit(at(5_000)), Ok(()));
    assert_eq!(limit.admit(at(1_000)), Ok(()));
    assert!(limit.admit(at(5_999)).is_err());
    assert_eq!(limit.admit(at(6_000)), Ok(()));
}

/// Many random schedules: after every answer all windows are counted anew from the list of admitted calls.
#[test]
fn no_window_of_any_schedule_holds_more_than_its_rule() {
    let (mut admitted_in_all, mut refused_in_all) = (0, 0);
    for seed in 0..400 {
        let mut seeded = Seeded(seed);
        let rules: Vec<CallRule> = (0..=seeded.below(3))
            .map(|_| CallRule {
                calls: 1 + seeded.below(12) as u32,
                period: Duration::from_nanos(1 + seeded.below(2_000) as u64),
            })
            .collect();
        let mut limit = CallLimit::new(rules.clone());
        let mut admitted: Vec<u64> = Vec::new();
        let mut now = 0;
        for _ in 0..300 {
            // Bursts, lulls, and calls exactly when a window opens.
            now += [0, 0, 1, seeded.below(40) as u64, seeded.below(700) as u64][seeded.below(5)];
            // Whether no window that ends with a start then would be overfull. The later the start, the
            // fewer earlier calls are in its window, so the first fitting instant follows the last other.
            let fits = |start: u64| {
                rules.iter().all(|rule| {
                    let period = rule.period.as_nanos() as u64;
                    admitted.iter().filter(|at| start - **at < period).count() < rule.calls as usize
                })
            };
            match limit.admit(Instant::from_nanos(now)) {
                Ok(()) => {
                    assert!(fits(now), "seed {seed}");
                    admitted.push(now);
                    admitted_in_all += 1;
                }
                Err(refusal) => {
                    let first_fit = now + refusal.retry_after.as_nanos() as u64;
                    assert!(first_fit > now && fits(first_fit) && !fits(first_fit - 1), "seed {seed}");
                    assert!(rules.contains(&refusal.rule));
                    refused_in_all += 1;
                    if seeded.below(3) == 0 {
                        now = first_fit;
                    }
                }
            }
        }
    }
    assert!(admitted_in_all > 10_000 && refused_in_all > 10_000, "{admitted_in_all}, {refused_in_all}");
}
