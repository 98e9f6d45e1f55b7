//! The same work at more and more load, until a system no longer keeps up: the points of a curve.

use std::io;

use super::Site;
use crate::load::phones::Outcome;
use crate::measure::cost::Cost;
use crate::report::record::{GENERATOR, LIMITED, RATE, Record};
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
/// Whether a point is clean: a figure of it.
pub(super) const CLEAN: &str = "clean";
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
    let mut is_clean_at = |rate| -> io::Result<bool> {
        let (outcome, cost) = work(rate, (rate * seconds).ceil() as u64)?;
        let clean = is_clean(&outcome, rate);
        let point = Record::new(row, system, site.round, rate).with_job(&outcome, &cost).on_curve();
        points.push(point.with(CLEAN, f64::from(u8::from(clean))));
        Ok(clean)
    };
    // a single stall of the machine is no limit of the system's
    search(first, |rate| Ok(is_clean_at(rate)? || is_clean_at(rate)?))?;
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

/// The highest clean rate of these points, as the figure of a row; nothing where even the lowest was too much.
pub(super) fn highest(row: &'static str, points: &[Record]) -> Option<Record> {
    let clean = points.iter().filter(|it| it.figure(CLEAN) == Some(1.0));
    let Some(best) = clean.max_by(|a, b| a.load.total_cmp(&b.load)) else {
        let lowest = points.iter().filter(|it| it.curve).min_by(|a, b| a.load.total_cmp(&b.load))?;
        return Some(Record { row, curve: false, ..lowest.clone() }.with(RATE, 0.0));
    };
    let beyond = points.iter().filter(|it| it.load > best.load).map(|it| it.load).min_by(f64::total_cmp);
    // all tries of the rate that was too much
    let limits: Vec<&Record> = points.iter().filter(|it| Some(it.load) == beyond).collect();
    let at_its_end = |it: &Record| it.figure(GENERATOR) > Some(100.0 * GENERATOR_MAX);
    let limited = if limits.is_empty() { at_its_end(best) } else { limits.iter().any(|it| at_its_end(it)) };
    let noisy = !limits.is_empty() && limits.iter().all(|it| it.noisy);
    let mut record = Record { row, curve: false, noisy, ..best.clone() };
    record.figures.insert(RATE, best.load);
    // the system might do more, had the generator not been at its own end
    Some(record.with(LIMITED, f64::from(u8::from(limited))))
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
        let point = |load, clean, generator, noisy| {
            let point = Record::new("calls", System::Portcullis, 0, load).on_curve();
            Record { noisy, ..point }.with(CLEAN, clean).with(GENERATOR, generator)
        };
        let mut points = vec![
            point(100.0, 1.0, 10.0, true),
            point(225.0, 0.0, 95.0, true),
            point(150.0, 1.0, 50.0, false),
        ];
        let found = highest("calls-max", &points).expect("there are clean points");
        assert_eq!((found.figure(RATE), found.figure(LIMITED)), (Some(150.0), Some(1.0)));
        assert!(!found.curve && found.noisy, "what was too much may have been noise");
        points.push(point(225.0, 0.0, 95.0, false));
        assert!(
            !highest("calls-max", &points).expect("there are clean points").noisy,
            "tried again in quiet"
        );
    }
}
