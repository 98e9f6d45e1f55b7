//! Audio both ways through a relay, every packet checked by its content.
//!
//! Ours is the whole product, told its calls by real INVITEs of a registered phone; rtpengine is told by its
//! control protocol, the floor by its command line.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::curve::CLEAN;
use super::{Site, curve, prepare};
use crate::load::phones::{Phones, Work};
use crate::load::rtp::Streams;
use crate::measure::cost::Sample;
use crate::report::record::{DONE, Record};
use crate::systems::{Running, System, Transport, Wanted};

/// All have learned their peers and filled their caches after that.
const WARM_UP: Duration = Duration::from_millis(300);
/// So many must arrive; what arrives later than that is as good as lost.
const DONE_MIN: f64 = 99.9;
const LATE_US: f64 = 10_000.0;
/// Of a point that is not clean: a single stall of the machine is no limit of the system's.
const TRIES: u32 = 2;
/// What is under way when the load ends arrives in it; a packet that comes late is late, not lost.
const LAST_PACKETS: Duration = Duration::from_secs(1);
/// Calls that one phone holds: a border lets no phone begin too many at once.
const CALLS: usize = 250;
/// How fast they register.
const REGISTERS: f64 = 20.0;

pub(super) fn run(site: &Site<'_>, system: System) -> io::Result<Vec<Record>> {
    let amount = site.amount;
    let curve = amount.point.filter(|_| site.round == 0);
    let more: &[usize] = if curve.is_some() { &amount.more_sessions } else { &[] };
    let most = more.iter().copied().chain([amount.sessions]).max().unwrap_or_default();
    let mut streams = Streams::new()?;
    let ends = streams.ends()?;
    let (running, _phones, sessions) = open(site, system, most, ends)?;
    let time = Duration::from_secs_f64(amount.seconds);
    let first = measure(site, system, (&running, &mut streams), (&sessions, amount.sessions), time)?;
    let mut records: Vec<Record> =
        ["rtp", "rtp-p50", "rtp-p99"].map(|row| Record { row, ..first.clone() }).into();
    let time = Duration::from_secs_f64(curve.unwrap_or_default());
    for count in more {
        let mut kept = false;
        for _ in 0..TRIES {
            let point = measure(site, system, (&running, &mut streams), (&sessions, *count), time)?;
            kept = point.figure(DONE) >= Some(DONE_MIN);
            let clean = kept && point.figure("p99_us").is_some_and(|p99| p99 <= LATE_US);
            records.push(point.with(CLEAN, f64::from(u8::from(clean))).on_curve());
            if clean {
                break;
            }
        }
        if !kept {
            break;
        }
    }
    records.extend(curve::highest("rtp-sessions", &records));
    Ok(records)
}

/// A relay with its sessions open; the phones hold the calls.
fn open(
    site: &Site<'_>,
    system: System,
    count: usize,
    ends: [SocketAddr; 2],
) -> io::Result<(Running, Option<Phones>, Vec<[SocketAddr; 2]>)> {
    if system != System::Portcullis {
        let (running, sessions) = Running::start_relay(system, count, ends, &site.ground)?;
        return Ok((running, None, sessions));
    }
    site.ground.pbx.hear_at(ends[1]);
    let callers = u32::try_from(count.div_ceil(CALLS)).map_err(io::Error::other)?;
    let running = site.start(system, Wanted::phones(Transport::Udp, callers))?;
    let mut phones = Phones::over_udp(running.udp, callers)?;
    prepare(&mut phones, Work::Register, REGISTERS)?;
    let mut sessions = Vec::new();
    for call in 0..count {
        let outside = phones.place(call / CALLS, call as u64, ends[0])?;
        let inside = site.ground.pbx.heard().offer;
        let inside = inside.ok_or_else(|| io::Error::other("the PBX got no offer"))?;
        sessions.push([outside, inside]);
    }
    Ok((running, Some(phones), sessions))
}

fn measure(
    site: &Site<'_>,
    system: System,
    (running, streams): (&Running, &mut Streams),
    (sessions, count): (&[[SocketAddr; 2]], usize),
    time: Duration,
) -> io::Result<Record> {
    streams.call(sessions.get(..count).unwrap_or(sessions));
    streams.run(WARM_UP)?;
    streams.forget();
    let before: Sample = running.sample()?;
    streams.run(time)?;
    let cost = running.sample()?.since(&before);
    streams.hang_up();
    streams.listen(LAST_PACKETS)?;
    let outcome = streams.outcome();
    let mut record = Record::new("rtp", system, site.round, count as f64)
        .with_cost(&cost, outcome.received)
        .with_latency(&outcome.delays)
        .with(DONE, 100.0 * outcome.received as f64 / (outcome.sent as f64).max(1.0))
        .with("done", outcome.received as f64)
        .with("damaged", outcome.damaged as f64);
    if outcome.damaged > 0 {
        record.faults.insert("damaged".into(), outcome.damaged);
    }
    Ok(record)
}
