//! A long time of ordinary work, and what it leaves: memory and descriptors over time.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::{Site, prepare};
use crate::interrupt;
use crate::load::calls::Offer;
use crate::load::phones::{Job, Phones, Work};
use crate::load::pki::Credentials;
use crate::measure::figures::Spread;
use crate::measure::memory::Memory;
use crate::measure::time::Nanos;
use crate::report::record::{DONE, Record};
use crate::report::rows::SOAK;
use crate::systems::{Running, System, Transport, Wanted};

const PHONES: u32 = 200;
/// Points of the plot, at most.
const POINTS: f64 = 240.0;
/// What happens in the time of a point takes at least this long.
const POINT_MIN: f64 = 1.0;
/// Of the operations in that time.
const REFRESHES: f64 = 50.0;
const CALLS: f64 = 5.0;
/// Phones that leave and come back in it.
const RETURNS: f64 = 5.0;
const KB_IN_MB: f64 = 1_024.0;

pub(super) fn run(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let count = PHONES.min(site.amount.phones);
    let running = site.start(system, Wanted::phones(Transport::Tls, count))?;
    let mut phones = site.tls_phones(&running, count, Credentials::Good)?;
    prepare(&mut phones, Work::Connect, site.amount.handshakes)?;
    prepare(&mut phones, Work::Register, site.amount.handshakes)?;
    let whole = site.amount.soak;
    let apart = (whole / POINTS).max(POINT_MIN);
    let started = Nanos::now();
    let mut records = Vec::new();
    loop {
        let at = Nanos::now().since(started).as_secs_f64();
        let end = at + apart;
        let point = match work(&running, &mut phones, apart) {
            // what was seen until now says something too
            Err(_) if interrupt::is_told() && !records.is_empty() => break,
            point => point?,
        };
        records.push(Record { round: site.round, load: end, ..point }.on_curve());
        if end >= whole {
            break;
        }
        let left = started + Nanos::from(Duration::from_secs_f64(end));
        match phones.idle(left.since(Nanos::now())) {
            Err(_) if interrupt::is_told() => break,
            idled => idled?,
        }
    }
    records.extend(summary(&records));
    Ok(records)
}

/// The work of one point: refreshes, calls, and some phones that lose their connection and come back.
fn work(running: &Running, phones: &mut Phones, seconds: f64) -> io::Result<Record> {
    let mut faults = BTreeMap::new();
    let (mut asked, mut done) = (0_u64, 0);
    let jobs = [
        (Work::Register, REFRESHES, 4.0),
        (Work::Call(Offer::Audio, Duration::from_millis(100)), CALLS, 4.0),
        (Work::ComeBack(1), RETURNS, 4.0),
    ];
    for (work, rate, shares) in jobs {
        // each has its share of the time, and as many operations as in all of it
        let job = Job { work, rate: rate * shares, total: (rate * seconds).ceil() as u64 };
        let outcome = phones.run(job)?;
        asked += outcome.asked;
        done += outcome.done;
        for (what, count) in outcome.faults {
            *faults.entry(what).or_default() += count;
        }
    }
    let memory = Memory::read(&running.processes()?)?;
    let mut record = Record::new(SOAK, System::Portcullis, 0, 0.0)
        .with("memory_mb", memory.processes_kb as f64 / KB_IN_MB)
        .with("descriptors", running.descriptors()? as f64)
        .with("asked", asked as f64)
        .with("done", done as f64)
        .with(DONE, 100.0 * done as f64 / (asked as f64).max(1.0));
    record.faults = faults;
    Ok(record)
}

/// The end beside the beginning: the first half is for filling caches and what is kept for an hour, the next tenth
/// is the beginning, the last one the end.
fn summary(points: &[Record]) -> Option<Record> {
    let last = points.last()?;
    let tenth = (points.len() / 10).max(1);
    let begins = points.get(points.len() / 2..).unwrap_or_default();
    let begins = begins.get(..tenth).unwrap_or(points);
    let ends = points.get(points.len() - tenth..)?;
    let middle = |points: &[Record], figure: &str| {
        Spread::of(points.iter().filter_map(|it| it.figure(figure))).map(|spread| spread.median)
    };
    let of_beginning =
        |figure: &str| Some(middle(ends, figure)? / middle(begins, figure)?.max(f64::MIN_POSITIVE));
    let sum = |figure: &str| points.iter().filter_map(|it| it.figure(figure)).sum::<f64>();
    let mut summary = Record { curve: false, faults: BTreeMap::new(), ..last.clone() }
        .with("of_beginning", of_beginning("memory_mb")?)
        .with("descriptors_of_beginning", of_beginning("descriptors")?)
        .with("asked", sum("asked"))
        .with("done", sum("done"))
        .with(DONE, 100.0 * sum("done") / sum("asked").max(1.0));
    for (what, count) in points.iter().flat_map(|it| &it.faults) {
        *summary.faults.entry(what.clone()).or_default() += count;
    }
    Some(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_compared_with_the_beginning_once_caches_are_full() {
        let memory = |minute: u32| match minute {
            0..50 => 10.0,
            // a leak from here on, with a moment of much at its beginning and at the end
            _ => 20.0 + f64::from(minute - 50) / 5.0 + if minute % 40 == 19 { 99.0 } else { 0.0 },
        };
        let points: Vec<Record> = (0..100)
            .map(|minute| {
                Record::new(SOAK, System::Portcullis, 0, f64::from(minute))
                    .with("memory_mb", memory(minute))
                    .with("descriptors", 200.0)
                    .with("asked", 10.0)
                    .with("done", if minute == 30 { 0.0 } else { 10.0 })
                    .on_curve()
            })
            .collect();
        let found = summary(&points).expect("there are points");
        let figure = |name| found.figure(name).expect("it is a figure");
        assert!((figure("of_beginning") - 29.0 / 21.0).abs() < 0.01, "{found:?}");
        assert_eq!(figure("descriptors_of_beginning"), 1.0);
        assert_eq!((figure("done"), figure(DONE)), (990.0, 99.0), "what failed in between counts");
        assert!(!found.curve);
        assert!(summary(&points[..1]).is_some(), "a short one has its figures too");
        assert!(summary(&[]).is_none());
    }
}
