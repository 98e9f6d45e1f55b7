//! A long time of ordinary work, and what it leaves: memory and descriptors over time.

use std::io;
use std::time::Duration;

use super::{Site, prepare};
use crate::load::calls::Offer;
use crate::load::phones::{Job, Phones, Work};
use crate::load::pki::Credentials;
use crate::measure::memory::Memory;
use crate::measure::time::Nanos;
use crate::report::record::{DONE, Record};
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
        let point = work(&running, &mut phones, apart)?;
        records.push(Record { round: site.round, load: end, ..point }.on_curve());
        if end >= whole {
            break;
        }
        let left = started + Nanos::from(Duration::from_secs_f64(end));
        phones.idle(left.since(Nanos::now()))?;
    }
    records.extend(summary(&records));
    Ok(records)
}

/// The work of one point: refreshes, calls, and some phones that lose their connection and come back.
fn work(running: &Running, phones: &mut Phones, seconds: f64) -> io::Result<Record> {
    let mut faults = std::collections::BTreeMap::new();
    let (mut asked, mut done) = (0, 0);
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
    let mut record = Record::new("soak", System::Portcullis, 0, 0.0)
        .with("memory_mb", memory.processes_kb as f64 / KB_IN_MB)
        .with("descriptors", running.descriptors()? as f64)
        .with("done", done as f64)
        .with(DONE, 100.0 * done as f64 / f64::from(u32::try_from(asked).unwrap_or(u32::MAX)));
    record.faults = faults;
    Ok(record)
}

/// The end beside the beginning: the first tenth is for filling caches, the next is the beginning.
fn summary(points: &[Record]) -> Option<Record> {
    let tenth = points.len() / 10;
    let begins = points.get(tenth).or(points.first())?;
    let ends = points.last()?;
    let mut summary = Record { curve: false, ..ends.clone() };
    let grown = ends.figure("memory_mb")? / begins.figure("memory_mb")?.max(1e-9);
    summary.figures.insert("of_beginning", grown);
    summary.figures.insert("descriptors_more", ends.figure("descriptors")? - begins.figure("descriptors")?);
    Some(summary)
}
