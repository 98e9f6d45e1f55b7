//! `cargo xtask sim`: runs many seeds, or one again. Its use stands in `crates/sim/README.md`.
#![forbid(unsafe_code)]

mod progress;
mod stop;
mod sweep;

use std::io;
use std::num::NonZero;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, value_parser};
use sim::decision::Actions;
use sim::{Failure, Plan, Report};

use crate::progress::{Progress, say};
use crate::stop::Stop;
use crate::sweep::{Found, Seen, Sweep};

/// Runs the real border in a false world, from seeds that replay exactly.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u64).range(1..), conflicts_with = "seed")]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1, conflicts_with = "seed")]
    from: u64,
    /// How many happenings the half with faults has
    #[arg(long, default_value_t = 2_000)]
    steps: u64,
    /// How many at once [default: as many as there are cores]
    #[arg(long, conflicts_with = "seed")]
    jobs: Option<NonZero<usize>>,
    /// This seed alone
    #[arg(long)]
    seed: Option<u64>,
    /// Only these free decisions are carried out, as in phone0:1-4,net-pbx0:7,chaos:2
    #[arg(long, requires = "seed")]
    only: Option<Actions>,
    /// Go on after a failure; each is named as it is found, the lowest is shown whole
    #[arg(long, conflicts_with = "seed")]
    keep_going: bool,
    /// Print a failure as it is, without looking for a smaller run that fails too
    #[arg(long)]
    no_shrink: bool,
}

impl Arguments {
    fn checked(self) -> Result<Self, clap::Error> {
        match self.from.checked_add(self.seeds - 1) {
            Some(_) => Ok(self),
            None => {
                let words = format!("there are no {} seeds from {} on", self.seeds, self.from);
                Err(Self::command().error(ErrorKind::ValueValidation, words))
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse().checked().unwrap_or_else(|error| error.exit());
    let done = match arguments.seed {
        Some(seed) => Ok(replay(&arguments, seed)),
        None => sweep(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("cannot listen to signals: {error}");
        ExitCode::FAILURE
    })
}

/// Runs one plan twice.
fn replay(arguments: &Arguments, seed: u64) -> ExitCode {
    let plan = Plan { seed, steps: arguments.steps, only: arguments.only.clone() };
    match sweep::run_twice(&plan) {
        Ok(report) => {
            let Report { trace, steps, tally } = report;
            say(format_args!("seed {seed}: {steps} steps, trace {trace:016x}\n{}", Seen(&tally)));
            say("every rule holds, twice with the same trace");
            ExitCode::SUCCESS
        }
        Err(found) => {
            show(found, arguments.no_shrink);
            ExitCode::FAILURE
        }
    }
}

/// Runs many seeds.
fn sweep(arguments: &Arguments) -> io::Result<ExitCode> {
    let stop = Stop::listen()?;
    let cores = || std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let sweep = Sweep {
        from: arguments.from,
        seeds: arguments.seeds,
        steps: arguments.steps,
        jobs: arguments.jobs.unwrap_or_else(cores).get(),
        keep_going: arguments.keep_going,
    };
    let outcome = sweep.run(&stop);
    stop.is_over();
    say(&outcome.summary);
    let (ran, begun) = (outcome.summary.seeds, outcome.begun);
    let code = if outcome.found.is_empty() {
        match stop.signal() {
            _ if ran < begun => {
                say(format_args!("{ran} of {begun} seeds were run: a worker is lost"));
                ExitCode::FAILURE
            }
            Some(signal) if begun < arguments.seeds => {
                say(format_args!("stopped after {ran} of {} seeds; every rule held", arguments.seeds));
                ExitCode::from(128 + signal)
            }
            _ => {
                say("every rule holds");
                ExitCode::SUCCESS
            }
        }
    } else {
        show_first(outcome.found, arguments);
        ExitCode::FAILURE
    };
    if begun < arguments.seeds {
        let (next, left, steps) = (arguments.from + begun, arguments.seeds - begun, arguments.steps);
        say(format_args!("go on: cargo xtask sim --from {next} --seeds {left} --steps {steps}"));
    }
    Ok(code)
}

fn show_first(mut found: Vec<Found>, arguments: &Arguments) {
    found.sort_by_key(Found::seed);
    say(format_args!("{} of them failed; the first of those:\n", found.len()));
    if let Some(first) = found.into_iter().next() {
        show(first, arguments.no_shrink);
    }
    if !arguments.keep_going {
        say("the sweep ended at the first failure; --keep-going goes on");
    }
}

/// Prints a failure whole, then as small as it can be made.
fn show(found: Found, no_shrink: bool) {
    match found {
        Found::Broken(failure) if no_shrink => say(format_args!("{failure}\n")),
        Found::Broken(failure) => {
            say(format_args!("{failure}\n"));
            show_smaller(failure);
        }
        Found::Differs(plan, runs) => {
            for failure in runs.into_iter().filter_map(Result::err) {
                say(format_args!("{failure}\n"));
            }
            say(format_args!("two runs of it differ; again: {plan}\n"));
        }
        other => say(format_args!("{}\n", other.title())),
    }
}

fn show_smaller(failure: Box<Failure>) {
    let mut progress = Progress::new();
    let shrunk = sim::shrink(failure, |runs, left| {
        progress.line(|| format!("looking for a smaller run: {runs} tried, {left} free decisions left"));
    });
    progress.end();
    say(format_args!(
        "---- as small as it could be made, in {} runs ----\n\n{}\n",
        shrunk.runs, shrunk.failure
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_of_nothing_is_refused() {
        let parse = |words: &[&str]| {
            Arguments::try_parse_from([&["sim"], words].concat()).and_then(Arguments::checked)
        };
        assert!(parse(&["--seeds", "0"]).is_err());
        assert!(parse(&["--from", "18446744073709551613", "--seeds", "4"]).is_err());
        assert!(parse(&["--from", "18446744073709551613", "--seeds", "3"]).is_ok());
    }
}
