//! CPU for an RTP packet: our media shard beside rtpengine in user space, in turns, in one run.
//!
//! Both relay the same sessions of G.711, 50 packets a second each way, each in a process of its own on one
//! CPU; the load comes from this process on another. The figure is the ratio: microseconds of one machine say
//! little on the next. rtpengine is what the distribution packages, without its kernel module.

mod contender;
mod cpus;
mod load;
mod ng;
mod shard;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use portcullis_benches::figures::{Spread, quantile};
use portcullis_benches::process::cpu_time;

use self::contender::{Contender, Running};
use self::cpus::Cpus;
use self::load::Load;

/// The ratio that the project asks of itself.
const GOAL: f64 = 0.8;
/// Both have learned their peers and filled their caches after that.
const WARM_UP: Duration = Duration::from_secs(1);
/// What is under way when the load ends arrives in it.
const LAST_PACKETS: Duration = Duration::from_millis(300);

/// CPU for an RTP packet, ours beside rtpengine's.
#[derive(Debug, Parser)]
struct Arguments {
    /// Calls at once; each is two streams.
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// How long each run is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Runs of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Poller threads of rtpengine.
    #[arg(long, default_value_t = 1)]
    rtpengine_threads: usize,
    /// Be the media shard: how this program starts itself.
    #[arg(long, hide = true, num_args = 2, value_names = ["PHONES", "PBX"])]
    shard: Vec<SocketAddr>,
}

/// One run of one of them.
struct Run {
    cpu_us: f64,
    lost: u64,
    sent: u64,
    damaged: u64,
    delay_us: [u32; 2],
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.shard[..] {
        [phones, pbx] => shard::serve(arguments.sessions, [phones, pbx]),
        _ => compare(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("rtp_against_rtpengine: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> io::Result<()> {
    let contenders = [Contender::Portcullis, Contender::Rtpengine { threads: arguments.rtpengine_threads }];
    let cpus = cpus::two()?;
    let mut runs = [Vec::new(), Vec::new()];
    for round in 0..arguments.rounds {
        // whoever comes first in one round comes last in the next
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let run = measure(contenders[which], cpus, arguments)?;
            eprintln!("round {}: {} {:.2} us a packet", round + 1, contenders[which], run.cpu_us);
            runs[which].push(run);
        }
    }
    let [ours, theirs] = &runs;
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours.cpu_us / theirs.cpu_us);
    let Some(ratio) = Spread::of(ratios) else { return Err(io::Error::other("no round was run")) };
    let verdict = if ratio.median <= GOAL { "met" } else { "missed" };
    println!("{ratio} of rtpengine's CPU for an RTP packet (goal: at most {GOAL}; {verdict})");
    println!("{} sessions, {} s a run, one CPU each", arguments.sessions, arguments.seconds);
    for (contender, runs) in contenders.iter().zip(&runs) {
        print_runs(*contender, runs);
    }
    Ok(())
}

fn print_runs(contender: Contender, runs: &[Run]) {
    let (lost, sent, damaged) =
        runs.iter().fold((0, 0, 0), |(a, b, c), run| (a + run.lost, b + run.sent, c + run.damaged));
    if let Some(cpu) = Spread::of(runs.iter().map(|run| run.cpu_us)) {
        let delay = |index: usize| {
            Spread::of(runs.iter().map(|run| f64::from(run.delay_us[index]))).map_or(0.0, |s| s.median)
        };
        println!(
            "{contender:<12} {cpu} us a packet; {lost} of {sent} lost, {damaged} damaged; \
             through it in {:.0} us, 99 of 100 in {:.0} us",
            delay(0),
            delay(1),
        );
    }
}

fn measure(contender: Contender, cpus: Cpus, arguments: &Arguments) -> io::Result<Run> {
    let mut load = Load::new()?;
    cpus.stay_on_relays()?;
    let running = Running::start(contender, arguments.sessions, load.ends()?)?;
    cpus.stay_on_load()?;
    load.call(running.sessions());
    load.run(WARM_UP)?;
    load.forget();
    let before = cpu_time(running.pid())?;
    load.run(Duration::from_secs(arguments.seconds))?;
    let spent = cpu_time(running.pid())? - before;
    load.listen(LAST_PACKETS)?;
    let outcome = load.outcome();
    let mut delays = outcome.delays_us;
    delays.sort_unstable();
    Ok(Run {
        cpu_us: spent.as_secs_f64() * 1e6 / outcome.sent as f64,
        lost: outcome.sent.saturating_sub(outcome.received),
        sent: outcome.sent,
        damaged: outcome.damaged,
        delay_us: [quantile(&delays, 0.5), quantile(&delays, 0.99)],
    })
}
