//! The end of our own certificate.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A border whose certificate ends in so long, and which codes are told within the time after.
fn told(left: Duration, time: Duration) -> Vec<(Code, Duration)> {
    let mut config = config();
    let start = wall(Instant::ZERO);
    config.outside.certificate_ends = Some(start.wall + left);
    let mut border = Border::new(config, [7; 32], Vec::new(), start);
    let mut told = Vec::new();
    while let Some(at) = border.poll_timeout().filter(|at| *at <= Instant::ZERO + time) {
        border.handle_timeout(wall(at));
        while let Some(output) = border.poll_output() {
            if let Output::Event(event) = output
                && event.code.as_str().starts_with("server_cert")
            {
                told.push((event.code, at - Instant::ZERO));
            }
        }
    }
    told
}

#[test]
fn its_end_is_told_two_weeks_before_and_when_it_came_each_once() {
    let told = told(20 * DAY, 40 * DAY);
    let [(ending, soon), (ended, end)] = told[..] else { panic!("{told:?}") };
    assert_eq!((ending, ended), (Code::ServerCertEnding, Code::ServerCertEnded));
    let hour = Duration::from_secs(3_600);
    assert!(
        (6 * DAY..=6 * DAY + hour).contains(&soon) && (20 * DAY..20 * DAY + hour).contains(&end),
        "{told:?}"
    );
}

#[test]
fn a_start_in_the_last_two_weeks_says_so_at_once() {
    assert_eq!(told(DAY, Duration::ZERO), [(Code::ServerCertEnding, Duration::ZERO)]);
    assert_eq!(told(15 * DAY, Duration::ZERO), []);
}

#[test]
fn a_clock_that_is_set_forward_past_the_end_is_noticed_within_the_hour() {
    let mut config = config();
    config.outside.certificate_ends = Some(wall(Instant::ZERO).wall + 100 * DAY);
    let mut bench = Bench::new(config);
    bench.pass(Duration::from_secs(10));
    bench.clock_set += u64::try_from((101 * DAY).as_millis()).unwrap();
    bench.pass(Duration::from_secs(3_600));
    assert!(bench.has_event(Code::ServerCertEnded) && !bench.has_event(Code::ServerCertEnding));
}
