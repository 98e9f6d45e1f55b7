//! The same work at more and more load, until a system no longer keeps up: the points of a curve.

use std::io;

use super::Site;
use crate::load::phones::Outcome;
use crate::measure::cost::Cost;
use crate::report::record::{RATE, Record};
use crate::systems::System;

/// From one point to the next, until one is not clean.
const STEP: f64 = 2.0;
/// So often the gap between the last clean point and the first that is not is halved: a sixth of the rate is left.
const HALVINGS: u32 = 2;
/// A rate is clean where so many are done, the rate was kept, and no queue grew: in a short time a deep queue
/// hides that a system does not keep up.
const DONE_MIN: f64 = 0.999;
const KEPT_MIN: f64 = 0.97;
const P50_MAX_US: f64 = 25_000.0;
/// Beyond this the generator itself may be what is slow.
const GENERATOR_MAX: f64 = 0.9;
/// No system here goes beyond it.
const DOUBLINGS_MAX: u32 = 8;

/// Does `work` at rates from `first` on, in the first round only.
pub(super) fn rates(
    site: &Site<'_>,
    (system, row): (System, &'static str),
    first: f64,
    mut work: impl FnMut(f64, u64) -> io::Result<(Outcome, Cost)>,
) -> io::Result<Vec<Record>> {
    let mut points = Vec::new();
    let Some(seconds) = site.amount.point.filter(|_| site.round == 0) else { return Ok(points) };
    search(first, |rate| {
        let (outcome, cost) = work(rate, (rate * seconds).ceil() as u64)?;
        let clean = is_clean(&outcome, rate);
        let point = Record::new(row, system, site.round, rate).with_job(&outcome, &cost).on_curve();
        points.push(point.with("clean", f64::from(u8::from(clean))));
        Ok(clean)
    })?;
    Ok(points)
}

/// Tries more and more until it is too much, and then between.
fn search(first: f64, mut is_clean_at: impl FnMut(f64) -> io::Result<bool>) -> io::Result<()> {
    let mut clean = None;
    let mut rate = first;
    for _ in 0..=DOUBLINGS_MAX {
        if !is_clean_at(rate)? {
            break;
        }
        clean = Some(rate);
        rate *= STEP;
    }
    let Some(mut clean) = clean else { return Ok(()) };
    let mut unclean = clean * STEP;
    for _ in 0..HALVINGS {
        let middle = (clean * unclean).sqrt();
        *(if is_clean_at(middle)? { &mut clean } else { &mut unclean }) = middle;
    }
    Ok(())
}

/// Whether the work was done, at the rate that was asked for.
fn is_clean(outcome: &Outcome, rate: f64) -> bool {
    let queued = outcome.latency.quantiles().is_none_or(|[p50, ..]| p50 > P50_MAX_US);
    !queued && outcome.done as f64 >= outcome.asked as f64 * DONE_MIN && outcome.rate() >= rate * KEPT_MIN
}

/// The highest clean rate of these points, as the figure of a row.
pub(super) fn highest(row: &'static str, points: &[Record]) -> Option<Record> {
    let clean = points.iter().filter(|it| it.figure("clean") == Some(1.0));
    let best = clean.max_by(|a, b| a.load.total_cmp(&b.load))?;
    let beyond = points.iter().filter(|it| it.load > best.load);
    let beyond = beyond.min_by(|a, b| a.load.total_cmp(&b.load)).unwrap_or(best);
    let limited = beyond.figure("generator_percent")? > 100.0 * GENERATOR_MAX;
    let mut record = Record { row, curve: false, ..best.clone() };
    record.figures.insert(RATE, best.load);
    // the system might do more, had the generator not been at its own end
    Some(record.with("generator_limited", f64::from(u8::from(limited))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_is_clean_where_it_was_kept_and_all_was_done() {
        let outcome = |done, millis, latency| {
            let sending = Duration::from_millis(millis);
            let mut outcome = Outcome { asked: 1_000, done, sending, ..Outcome::default() };
            outcome.latency.add(Duration::from_millis(latency));
            outcome
        };
        assert!(is_clean(&outcome(1_000, 1_000, 1), 1_000.0));
        assert!(!is_clean(&outcome(998, 1_000, 1), 1_000.0));
        assert!(!is_clean(&outcome(1_000, 1_100, 1), 1_000.0));
        assert!(!is_clean(&outcome(1_000, 1_000, 80), 1_000.0));
    }

    #[test]
    fn the_highest_rate_is_looked_for_between_two_points() {
        let tried = |limit: f64| {
            let mut tried = Vec::new();
            search(100.0, |rate| {
                tried.push(rate.round());
                Ok(rate <= limit)
            })
            .expect("nothing fails");
            tried
        };
        assert_eq!(tried(50.0), [100.0]);
        assert_eq!(tried(250.0), [100.0, 200.0, 400.0, 283.0, 238.0]);
        assert_eq!(tried(390.0), [100.0, 200.0, 400.0, 283.0, 336.0]);
        assert_eq!(tried(f64::INFINITY).len() as u32, DOUBLINGS_MAX + 1 + HALVINGS);
    }

    #[test]
    fn the_highest_clean_point_is_the_figure() {
        let point = |load, clean, generator| {
            Record::new("calls", System::Portcullis, 0, load)
                .with("clean", clean)
                .with("generator_percent", generator)
                .on_curve()
        };
        let points = [point(100.0, 1.0, 10.0), point(225.0, 0.0, 95.0), point(150.0, 1.0, 50.0)];
        let highest = highest("calls-max", &points).expect("there are clean points");
        assert_eq!((highest.figure(RATE), highest.figure("generator_limited")), (Some(150.0), Some(1.0)));
        assert!(!highest.curve);
    }
}
