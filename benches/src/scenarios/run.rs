//! A whole run: what it is told, where it takes place, and what it says in the end.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::{Args, value_parser};
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setpriority_process, setrlimit};
use serde_json::json;

use super::conductor::{Conductor, Findings, clear_stale};
use super::{Amount, amounts};
use crate::interrupt;
use crate::measure::time::Nanos;
use crate::report::about::About;
use crate::report::output::Output;
use crate::report::record::Record;
use crate::report::{plots, ratios, table};
use crate::systems::{Programs, System};

/// Nobody's background work shall take our time.
const PRIORITY: i32 = -15;
/// A soak of ten weeks.
const MINUTES_MAX: f64 = 100_000.0;
/// Of a system with all its ports and phones.
const FILES: u64 = 200_000;
/// Runs the rest in a network of its own, in which nobody else's packets are.
const OWN_NETWORK: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// What a run is told.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// The rows to measure; all where none is named.
    rows: Vec<String>,
    /// One round of short measurements, three of an attack's, without curves.
    #[arg(long)]
    quick: bool,
    /// These systems alone.
    #[arg(long, value_enum, num_args = 1.., value_name = "SYSTEM")]
    systems: Vec<System>,
    /// How often each system goes through each scenario.
    #[arg(long, value_parser = value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// How long the soak lasts.
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    minutes: Option<f64>,
    /// Where table, lines and plots are written; those of the run before go to `previous` there.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// The product; left out: the one that was built beside this program.
    #[arg(long)]
    portcullis: Option<PathBuf>,
    /// In this network, and not in one of its own.
    #[arg(long)]
    here: bool,
}

/// More than none, and no more than somebody waits for.
fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| *minutes > 0.0 && *minutes <= MINUTES_MAX);
    minutes.ok_or_else(|| format!("a number of minutes, at most {MINUTES_MAX}"))
}

/// Measures, compares and draws.
pub fn run(arguments: &RunArguments) -> io::Result<()> {
    let scenarios = amounts::chosen(&arguments.rows, &arguments.systems)?;
    if !arguments.here {
        enter_own_network()?;
    }
    interrupt::heed()?;
    raise_file_limit()?;
    if setpriority_process(None, PRIORITY).is_err() {
        eprintln!("note: not root, so others may take our time: mind what is marked as noisy");
    }
    let programs = programs(arguments)?;
    clear_stale(&std::env::temp_dir());
    let amount = amount(arguments);
    let output = Output::open(&arguments.output)?;
    let about = About::ask(&programs);
    let seed = Nanos::now().as_u64() | 1;
    let mut first = about.to_json();
    first["run"] = json!({
        "portcullis": programs.portcullis, "seed": seed, "rounds": amount.rounds, "quick": arguments.quick
    });
    let mut lines = output.lines(&first)?;
    let conductor = Conductor { programs, amount, seed, systems: arguments.systems.clone() };
    let mut written = Ok(());
    let findings = conductor.conduct(&scenarios, &mut |record| {
        // a disk that is full does not take the report away
        if written.is_ok() {
            written = lines.write(record);
        }
    })?;
    let text = text(&findings, &about);
    print!("{text}");
    println!("\nwritten: {}", lines.path().display());
    written.and(write(&output, &text, &findings.records))?;
    interrupt::check()?;
    if findings.records.is_empty() {
        return Err(io::Error::other("nothing was measured"));
    }
    let failures = ratios::failures(&findings.records);
    if failures.is_empty() { Ok(()) } else { Err(io::Error::other(failures.join("; "))) }
}

/// Ratios first, then whatever they are to be read with, then the table.
fn text(findings: &Findings, about: &About) -> String {
    let ratios = ratios::ratios(&findings.records);
    let mut text = ratios::draw_ratios(&ratios) + &ratios::draw_verdict(&ratios);
    for words in &findings.left_out {
        text.push_str(&format!("  left out: {words}\n"));
    }
    text + &about.to_string() + &table::draw_table(&findings.records)
}

fn write(output: &Output, text: &str, records: &[Record]) -> io::Result<()> {
    println!("written: {}", output.table(text)?.display());
    for (name, plot) in plots::of(records) {
        println!("written: {}", output.plot(&name, &plot.draw())?.display());
    }
    Ok(())
}

fn programs(arguments: &RunArguments) -> io::Result<Programs> {
    let load = std::env::current_exe()?;
    let portcullis = match &arguments.portcullis {
        // systems run in directories of their own
        Some(portcullis) => std::path::absolute(portcullis)?,
        None => load.with_file_name("portcullis"),
    };
    if !portcullis.is_file() {
        return Err(io::Error::other(format!("{} is not built", portcullis.display())));
    }
    Ok(Programs { portcullis, load })
}

fn amount(arguments: &RunArguments) -> Amount {
    let mut amount = if arguments.quick { Amount::quick() } else { Amount::full() };
    if let Some(rounds) = arguments.rounds {
        (amount.rounds, amount.tail_rounds) = (rounds, rounds);
    }
    amount.soak = arguments.minutes.map_or(amount.soak, |minutes| minutes * 60.0);
    amount
}

/// Starts this program again in a network namespace of its own, where that can be.
fn enter_own_network() -> io::Result<()> {
    let probe = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    if !getuid().is_root() || !probe.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "note: no network namespace here (it needs root, util-linux and iproute2): others share ours"
        );
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", OWN_NETWORK]).arg(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg("--here");
    // comes back only where it failed
    Err(command.exec())
}

/// Each phone is a file here and one there; systems inherit the limit.
fn raise_file_limit() -> io::Result<()> {
    let wanted = Some(FILES);
    if setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted }).is_ok() {
        return Ok(());
    }
    let hard = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_lasts_some_time() {
        assert_eq!(minutes("120"), Ok(120.0));
        assert_eq!(minutes("0.1"), Ok(0.1));
        for wrong in ["0", "-1", "nan", "inf", "1e9", "long"] {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
    }
}
