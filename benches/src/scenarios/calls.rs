//! REGISTER that is passed through, and calls: over UDP, over TLS, with and without media.

use std::io;
use std::time::Duration;

use super::{Site, curve, measured, prepare};
use crate::load::calls::Offer;
use crate::load::phones::{Job, Phones, Work};
use crate::load::pki::Credentials;
use crate::report::record::Record;
use crate::systems::{Running, System, Transport, Wanted};

/// Phones of these; no source of theirs sends more than a border lets one send.
const PHONES: u32 = 1_000;
/// How fast they register first.
const FIRST_RATE: f64 = 1_000.0;

pub(super) fn registers(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let rate = site.amount.registers;
    let (running, mut phones) = registered(site, system, Transport::Udp)?;
    let asked_before = site.ground.pbx.requests("REGISTER");
    let (outcome, cost) = measured(&running, &mut phones, site.job(Work::Register, rate))?;
    let passed = site.ground.pbx.requests("REGISTER") - asked_before;
    let record = Record::new("register-passed", system, site.round, rate)
        .with_job(&outcome, &cost)
        .with("pbx_requests", passed as f64);
    let rows = ["register-passed", "register-passed-max"];
    let curve = up(site, (system, rows), (&running, &mut phones), (Work::Register, 1_000.0))?;
    Ok([record].into_iter().chain(curve).collect())
}

pub(super) fn with_audio(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let (running, mut phones) = registered(site, system, Transport::Udp)?;
    let call = Work::Call(Offer::Audio, hold(site));
    let record = one(site, (system, "calls"), (&running, &mut phones), site.job(call, site.amount.calls))?;
    let curve = up(site, (system, ["calls", "calls-max"]), (&running, &mut phones), (call, 100.0))?;
    Ok([record].into_iter().chain(curve).collect())
}

pub(super) fn bare(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let (running, mut phones) = registered(site, system, Transport::Udp)?;
    let job = site.job(Work::Call(Offer::Nothing, hold(site)), site.amount.calls);
    Ok(vec![one(site, (system, "calls-bare"), (&running, &mut phones), job)?])
}

pub(super) fn with_media(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let (running, mut phones) = registered(site, system, Transport::Udp)?;
    let call = Work::Call(Offer::Audio, hold(site));
    let rate = site.amount.media_calls;
    let record = one(site, (system, "calls-media"), (&running, &mut phones), site.job(call, rate))?;
    let rows = ["calls-media", "calls-media-max"];
    let curve = up(site, (system, rows), (&running, &mut phones), (call, rate))?;
    Ok([record].into_iter().chain(curve).collect())
}

pub(super) fn over_tls(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let (running, mut phones) = registered(site, system, Transport::Tls)?;
    let job = site.job(Work::Call(Offer::Audio, hold(site)), site.amount.media_calls);
    Ok(vec![one(site, (system, "calls-tls"), (&running, &mut phones), job)?])
}

/// The system with phones that are registered.
fn registered(site: &Site<'_>, system: System, transport: Transport) -> io::Result<(Running, Phones)> {
    let count = match transport {
        Transport::Udp => PHONES.min(site.amount.phones),
        Transport::Tls => (PHONES / 4).min(site.amount.phones),
    };
    let running = site.start(system, Wanted::phones(transport, count))?;
    let mut phones = match transport {
        Transport::Udp => Phones::over_udp(running.udp, count)?,
        Transport::Tls => site.tls_phones(&running, count, Credentials::Good)?,
    };
    if transport == Transport::Tls {
        prepare(&mut phones, Work::Connect, site.amount.handshakes)?;
    }
    prepare(&mut phones, Work::Register, FIRST_RATE.min(site.amount.registers))?;
    Ok((running, phones))
}

fn one(
    site: &Site<'_>,
    (system, row): (System, &'static str),
    (running, phones): (&Running, &mut Phones),
    job: Job,
) -> io::Result<Record> {
    let taken_before = site.ground.pbx.requests("INVITE");
    let (outcome, cost) = measured(running, phones, job)?;
    let taken = site.ground.pbx.requests("INVITE") - taken_before;
    let record = Record::new(row, system, site.round, job.rate).with_job(&outcome, &cost);
    Ok(record.with("pbx_requests", taken as f64))
}

/// The curve of a row from a first rate on, and its highest clean rate as another row.
fn up(
    site: &Site<'_>,
    (system, [row, highest]): (System, [&'static str; 2]),
    (running, phones): (&Running, &mut Phones),
    (work, first): (Work, f64),
) -> io::Result<Vec<Record>> {
    let mut points = curve::rates(site, (system, row), first, |rate, total| {
        measured(running, phones, Job { work, rate, total })
    })?;
    points.extend(curve::highest(highest, &points));
    Ok(points)
}

fn hold(site: &Site<'_>) -> Duration {
    Duration::from_secs_f64(site.amount.hold)
}
