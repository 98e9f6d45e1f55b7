//! Handshakes alone: refused, resumed, and all phones at once.

use std::io;

use super::{Site, measured, prepare};
use crate::load::phones::{Job, Work};
use crate::load::pki::Credentials;
use crate::measure::memory::Memory;
use crate::report::record::{CPU, Record};
use crate::systems::{System, Transport, Wanted};

/// Phones that come and go; each comes so seldom that no limit of a source is met.
const VISITORS: u32 = 256;
const KB_IN_MB: f64 = 1_024.0;
/// How long a system has to notice that all its phones are gone.
const CUT: std::time::Duration = std::time::Duration::from_millis(1_500);

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
    Ok(records)
}

pub(super) fn storm(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let [count, at_once] = site.amount.storm;
    let running = site.start(system, wanted(count, false))?;
    let mut phones = site.tls_phones(&running, count, Credentials::Good)?;
    let all_back = |at_once: u32| Job {
        work: Work::ComeBack(at_once as usize),
        rate: f64::INFINITY,
        total: u64::from(count),
    };
    phones.run(all_back(at_once.min(32)))?;
    phones.hang_up();
    phones.idle(CUT)?;
    let (outcome, cost) = measured(&running, &mut phones, all_back(at_once))?;
    let memory = Memory::read(&running.processes()?)?.processes_kb as f64 / KB_IN_MB;
    let record = |row| Record::new(row, system, site.round, f64::from(count));
    let back = outcome.lasted.as_secs_f64();
    let storm = record("storm")
        .with_job(&outcome, &cost)
        .with("back_s", back)
        .with("memory_mb", memory)
        .with("retries", outcome.retries as f64);
    let mut rows =
        vec![record("storm-time").with("back_s", back), record("storm-memory").with("memory_mb", memory)];
    for row in &mut rows {
        (row.noisy, row.crashed) = (storm.noisy, storm.crashed);
        row.figures.extend(storm.figure(CPU).map(|cpu| (CPU, cpu)));
    }
    rows.push(storm);
    Ok(rows)
}
