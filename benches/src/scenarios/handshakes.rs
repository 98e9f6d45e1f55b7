//! Handshakes alone: refused, resumed, and all phones at once.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::{Site, curve, measured, prepare};
use crate::load::phones::{Job, Phones, Work};
use crate::load::pki::Credentials;
use crate::measure::memory::Memory;
use crate::measure::time::Nanos;
use crate::report::record::{CPU, Record};
use crate::systems::{Running, System, Transport, Wanted};

/// Phones that come and go; each comes so seldom that no limit of a source is met.
const VISITORS: u32 = 256;
const KB_IN_MB: f64 = 1_024.0;
/// How long a system has to notice that all its phones are gone, and how often that is looked at.
const CUT_MAX: Nanos = Nanos::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);
/// What it may have opened for itself meanwhile.
const LEFT_OPEN: u64 = 8;

/// Where several TLS workers crash under this (Kamailio 5.6), one is used.
fn wanted(extensions: u32, phones_allowed: bool) -> Wanted {
    Wanted { phones_allowed, single: true, ..Wanted::phones(Transport::Tls, extensions) }
}

pub(super) fn run(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    // the load's sources are allowed: a refused source would be blocked soon, and cost no handshake
    let running = site.start(system, wanted(VISITORS, true))?;
    let rate = site.amount.handshakes;
    for (row, credentials) in
        [("refused-none", Credentials::Nothing), ("refused-stranger", Credentials::Stranger)]
    {
        let mut phones = site.tls_phones(&running, VISITORS, credentials)?;
        let (outcome, cost) = measured(&running, &mut phones, site.job(Work::BeRefused, rate))?;
        records.push(Record::new(row, system, site.round, rate).with_job(&outcome, &cost));
    }
    let mut phones = site.tls_phones(&running, VISITORS, Credentials::Resuming)?;
    // the first time gives them their tickets
    prepare(&mut phones, Work::Visit, rate)?;
    let (outcome, cost) = measured(&running, &mut phones, site.job(Work::Return, rate))?;
    records.push(Record::new("resumed", system, site.round, rate).with_job(&outcome, &cost));

    let mut phones = site.tls_phones(&running, VISITORS, Credentials::Good)?;
    let curve = curve::rates(site, (system, "handshake-max"), rate / 2.0, |rate, total| {
        measured(&running, &mut phones, Job { work: Work::Visit, rate, total })
    })?;
    records.extend(curve::highest("handshake-max", &curve));
    records.extend(curve);
    Ok(records)
}

/// All phones at once: first without tickets, then with those that they were given there.
pub(super) fn storm(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let [count, at_once] = site.amount.storm;
    let running = site.start(system, wanted(count, false))?;
    let unused = running.descriptors()?;
    let mut phones = site.tls_phones(&running, count, Credentials::Good)?;
    phones.run(all_back(count, at_once.min(32)))?;
    all_gone(&running, &mut phones, unused)?;
    // from now on they keep the tickets that they are given
    phones.show(site.authority, Credentials::Resuming)?;
    let unresumed = come_back(site, (system, "storm"), &running, &mut phones)?;
    let mut rows =
        vec![beside("storm-time", &unresumed, "back_s"), beside("storm-memory", &unresumed, "memory_mb")];
    all_gone(&running, &mut phones, unused)?;
    let mut resumed = come_back(site, (system, "storm-resumed"), &running, &mut phones)?;
    if let (Some(with), Some(without)) = (resumed.figure(CPU), unresumed.figure(CPU)) {
        resumed = resumed.with("of_unresumed", with / without.max(f64::MIN_POSITIVE));
    }
    rows.push(beside("storm-resumed-time", &resumed, "back_s"));
    rows.extend([unresumed, resumed]);
    Ok(rows)
}

fn all_back(count: u32, at_once: u32) -> Job {
    let work = Work::ComeBack(at_once as usize);
    Job { work, rate: f64::INFINITY, total: u64::from(count) }
}

/// Cuts all connections, and waits until the system has noticed.
fn all_gone(running: &Running, phones: &mut Phones, unused: u64) -> io::Result<()> {
    phones.hang_up();
    let until = Nanos::now() + CUT_MAX;
    while running.descriptors()? > unused + LEFT_OPEN && Nanos::now() < until {
        phones.idle(LOOK)?;
    }
    Ok(())
}

fn come_back(
    site: &Site<'_>,
    (system, row): (System, &'static str),
    running: &Running,
    phones: &mut Phones,
) -> io::Result<Record> {
    let [count, at_once] = site.amount.storm;
    let (outcome, cost) = measured(running, phones, all_back(count, at_once))?;
    let memory = Memory::read(&running.processes()?)?.processes_kb as f64 / KB_IN_MB;
    Ok(Record::new(row, system, site.round, f64::from(count))
        .with_job(&outcome, &cost)
        .with("back_s", outcome.lasted.as_secs_f64())
        .with("memory_mb", memory)
        .with("retries", outcome.retries as f64)
        .with("resumed_percent", 100.0 * outcome.resumed as f64 / (outcome.done as f64).max(1.0)))
}

/// A row of one figure more of the same storm.
fn beside(row: &'static str, storm: &Record, figure: &'static str) -> Record {
    let figures = [CPU, figure].into_iter().filter_map(|name| Some((name, storm.figure(name)?)));
    Record { row, figures: figures.collect(), faults: BTreeMap::new(), ..storm.clone() }
}
