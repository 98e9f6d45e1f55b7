//! Attacks: phones go on working beside them, and what each hostile datagram costs by itself.

use std::io;
use std::time::Duration;

use super::{Site, measured, prepare};
use crate::load::attack::{Attack, Hostile, SOURCES, source_address};
use crate::load::phones::{Job, Phones, Work};
use crate::load::pki::Credentials;
use crate::report::record::{RATE as RATE_KEPT, Record};
use crate::report::rows::find;
use crate::systems::{Running, System, Transport, Wanted};

/// Phones that go on working.
const PHONES: u32 = 100;
/// Their refreshes a second, all together.
const RATE: f64 = 500.0;
/// From the beginning of an attack until it is measured.
const SETTLE: Duration = Duration::from_millis(500);
/// Of the time for which rates are kept elsewhere: one of a hundred is to be a number of operations still.
const LONGER: f64 = 1.5;

/// Refreshes in quiet, and beside each attack.
pub(super) fn beside_phones(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let running = site.start(system, Wanted::phones(Transport::Tls, PHONES))?;
    let mut phones = site.tls_phones(&running, PHONES, Credentials::Good)?;
    prepare(&mut phones, Work::Connect, RATE)?;
    prepare(&mut phones, Work::Register, RATE)?;
    let record = |row, load| Record::new(row, system, site.round, load);
    let (quiet, _) = measured(&running, &mut phones, refreshes_of(site))?;
    let quiet = quiet.latency.quantiles().map(|[p50, _, p99, ..]| [p50, p99]);
    let mut records = Vec::new();
    let attacks = [
        ("flood", Hostile::Requests, site.amount.flood),
        ("garbage", Hostile::Garbage, site.amount.flood),
        ("half-open", Hostile::HalfOpen, site.amount.half_open),
    ];
    let compared =
        |row: &str| find(row).is_some_and(|row| row.goals.iter().any(|(other, _)| *other == system));
    for (row, kind, rate) in attacks {
        // who is not compared in a row need not be brought down for it
        if system != System::Portcullis && !compared(row) {
            continue;
        }
        let server = if kind == Hostile::HalfOpen { running.tls } else { running.udp };
        let (refreshes, attack) = beside(site, &running, &mut phones, Attack::begin(kind, rate, server)?)?;
        let mut result = refreshes(record(row, rate)).with("hostile_sent", attack.sent as f64);
        if let (Some([_, quiet]), Some(p99)) = (quiet, result.figure("p99_us")) {
            result = result.with("quiet_p99_us", quiet).with("of_quiet", p99 / quiet.max(1.0));
        }
        if row == "flood" {
            records.push(Record { row: "flood-quiet", ..result.clone() });
        }
        records.push(result);
    }
    Ok(records)
}

fn refreshes_of(site: &Site<'_>) -> Job {
    Job { work: Work::Register, rate: RATE, total: (RATE * LONGER * site.amount.seconds).ceil() as u64 }
}

/// Refreshes beside an attack: what fills in a record, and the attack after its end.
fn beside(
    site: &Site<'_>,
    running: &Running,
    phones: &mut Phones,
    attack: Attack,
) -> io::Result<(impl FnOnce(Record) -> Record, Attack)> {
    phones.attack = Some(attack);
    phones.idle(SETTLE)?;
    let (outcome, cost) = measured(running, phones, refreshes_of(site))?;
    let attack = phones.attack.take().ok_or_else(|| io::Error::other("the attack is gone"))?;
    // what it left in queues is not the next one's matter
    phones.idle(SETTLE)?;
    Ok((move |record: Record| record.with_job(&outcome, &cost), attack))
}

/// A flood of sources that are blocked.
pub(super) fn blocked(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let running = site.start(system, Wanted::phones(Transport::Udp, 1))?;
    running.block((0..SOURCES).map(source_address))?;
    Ok(vec![alone(site, (system, "blocked"), &running, Hostile::Requests)?])
}

/// Floods of what is no SIP, and of what takes long to read.
pub(super) fn garbage(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for (row, kind) in [("garbage-datagram", Hostile::Garbage), ("headers", Hostile::Headers)] {
        let running = site.start(system, Wanted::phones(Transport::Udp, 1))?;
        records.push(alone(site, (system, row), &running, kind)?);
    }
    Ok(records)
}

/// What a hostile datagram costs where nothing else happens.
fn alone(
    site: &Site<'_>,
    (system, row): (System, &'static str),
    running: &Running,
    kind: Hostile,
) -> io::Result<Record> {
    let rate = site.amount.datagrams;
    let mut nobody = Phones::over_udp(running.udp, 0)?;
    nobody.attack = Some(Attack::begin(kind, rate, running.udp)?);
    nobody.idle(SETTLE)?;
    let sent_before = nobody.attack.as_ref().map_or(0, |attack| attack.sent);
    let before = running.sample()?;
    nobody.idle(Duration::from_secs_f64(site.amount.seconds))?;
    let cost = running.sample()?.since(&before);
    let attack = nobody.attack.take().ok_or_else(|| io::Error::other("the attack is gone"))?;
    let sent = attack.sent - sent_before;
    // what was never read cost it nothing
    let taken = sent.saturating_sub(cost.dropped);
    Ok(Record::new(row, system, site.round, rate)
        .with_cost(&cost, taken)
        .with("done", taken as f64)
        .with(RATE_KEPT, sent as f64 / cost.lasted.as_secs_f64().max(1e-9))
        .with("hostile_sent", sent as f64)
        .with("answers", attack.answers as f64))
}
