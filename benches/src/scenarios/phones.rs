//! N phones with certificates: they connect, register, rest, say that they are there, and refresh.

use std::io;

use super::{Site, curve, measured};
use crate::load::phones::{Job, Work};
use crate::load::pki::Credentials;
use crate::measure::memory::Memory;
use crate::report::record::Record;
use crate::systems::{System, Transport, Wanted};

pub(super) fn run(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let amount = site.amount;
    let running = site.start(system, Wanted::phones(Transport::Tls, amount.phones))?;
    let mut phones = site.tls_phones(&running, amount.phones, Credentials::Good)?;
    let record = |row, load| Record::new(row, system, site.round, load);

    let before = Memory::at_rest(&running.processes()?, |time| phones.idle(time))?;
    let connect = Job { work: Work::Connect, rate: amount.handshakes, total: phones.count() };
    let (opened, cost) = measured(&running, &mut phones, connect)?;
    let handshake = record("handshake", amount.handshakes).with_job(&opened, &cost);

    super::prepare(&mut phones, Work::Register, amount.refreshes)?;
    let after = Memory::at_rest(&running.processes()?, |time| phones.idle(time))?;
    let [processes, kernel] = after.per_phone(before, phones.count());
    let memory = record("memory", phones.count() as f64)
        .with("process_kb", processes)
        .with("kernel_kb", kernel)
        .with("kb_in_all", processes + kernel);

    let (pongs, cost) = measured(&running, &mut phones, site.job(Work::Ping, amount.keepalives))?;
    let keepalive = record("keepalive", amount.keepalives).with_job(&pongs, &cost);

    let asked_before = site.ground.pbx.requests("REGISTER");
    let (done, cost) = measured(&running, &mut phones, site.job(Work::Register, amount.refreshes))?;
    let passed = site.ground.pbx.requests("REGISTER") - asked_before;
    let refresh =
        record("refresh-tls", amount.refreshes).with_job(&done, &cost).with("pbx_requests", passed as f64);

    let mut records = vec![handshake, memory, keepalive, refresh];
    let curve = curve::rates(site, (system, "refresh-tls"), 500.0, |rate, total| {
        measured(&running, &mut phones, Job { work: Work::Register, rate, total })
    })?;
    records.extend(curve::highest("refresh-tls-max", &curve));
    records.extend(curve);
    Ok(records)
}
