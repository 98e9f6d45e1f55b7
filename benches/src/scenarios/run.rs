//! A whole run: every system through every scenario, by turns and in random order, and the report of it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setpriority_process, setrlimit};
use serde_json::json;

use super::{Amount, Scenario, Site, amounts};
use crate::load::pbx::Pbx;
use crate::load::pki::Authority;
use crate::measure::cpus;
use crate::measure::time::Nanos;
use crate::report::json::{Lines, machine};
use crate::report::plots;
use crate::report::progress::Progress;
use crate::report::record::Record;
use crate::report::table;
use crate::systems::{Ground, OUTSIDE, Programs, System};

/// Nobody's background work shall take our time.
const PRIORITY: i32 = -15;
/// Of a system with all its ports and phones.
const FILES: u64 = 200_000;
/// Runs the rest in a network of its own, in which nobody else's packets are.
const OWN_NETWORK: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// What a run is told.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// The rows to measure; all where none is named.
    rows: Vec<String>,
    /// One round of short measurements, without curves.
    #[arg(long)]
    quick: bool,
    /// These systems alone.
    #[arg(long, value_enum, num_args = 1.., value_name = "SYSTEM")]
    systems: Vec<System>,
    /// How often each system goes through each scenario.
    #[arg(long)]
    rounds: Option<u32>,
    /// How long the soak lasts.
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<f64>,
    /// Where table, lines and plots are written.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// The product; left out: the one that was built beside this program.
    #[arg(long)]
    portcullis: Option<PathBuf>,
    /// In this network, and not in one of its own.
    #[arg(long)]
    here: bool,
}

/// Measures, compares and draws.
pub fn run(arguments: &RunArguments) -> io::Result<()> {
    let scenarios = amounts::chosen(&arguments.rows)?;
    if !arguments.here {
        enter_own_network()?;
    }
    raise_file_limit()?;
    if setpriority_process(None, PRIORITY).is_err() {
        eprintln!("note: not root, so others may take our time: mind what is marked as noisy");
    }
    let load = std::env::current_exe()?;
    let portcullis = match &arguments.portcullis {
        // systems run in directories of their own
        Some(portcullis) => std::path::absolute(portcullis)?,
        None => load.with_file_name("portcullis"),
    };
    if !portcullis.is_file() {
        return Err(io::Error::other(format!("{} is not built", portcullis.display())));
    }
    let amount = amount(arguments);
    fs::create_dir_all(&arguments.output)?;
    let lines_path = arguments.output.join("results.jsonl");
    let seed = Nanos::now().as_u64() | 1;
    let about =
        json!({ "machine": machine(), "seed": seed, "rounds": amount.rounds, "quick": arguments.quick });
    let mut lines = Lines::create(&lines_path, &about)?;
    let systems = arguments.systems.clone();
    let programs = Programs { portcullis, load };
    let conductor = Conductor { programs, amount, seed, systems, left_out: BTreeSet::new() };
    let (records, left_out) = conductor.conduct(&scenarios, &mut |record| lines.write(record))?;
    report(arguments, &records, &left_out, &lines_path)
}

fn amount(arguments: &RunArguments) -> Amount {
    let mut amount = if arguments.quick { Amount::quick() } else { Amount::full() };
    if let Some(rounds) = arguments.rounds {
        (amount.rounds, amount.tail_rounds) = (rounds.max(1), rounds.max(1));
    }
    amount.soak = arguments.minutes.map_or(amount.soak, |minutes| minutes * 60.0);
    amount
}

/// Ratios first, then the table, then where all of it was written.
fn report(
    arguments: &RunArguments,
    records: &[Record],
    left_out: &BTreeSet<String>,
    lines: &Path,
) -> io::Result<()> {
    let ratios = table::ratios(records);
    let mut text = table::draw_ratios(&ratios) + &table::draw_verdict(&ratios);
    for words in left_out {
        text.push_str(&format!("  left out: {words}\n"));
    }
    text.push_str(&table::draw_table(records));
    let table = arguments.output.join("report.txt");
    fs::write(&table, &text)?;
    print!("{text}");
    println!("\nwritten: {}, {}", table.display(), lines.display());
    for (name, plot) in plots::of(records) {
        let path = arguments.output.join(format!("{name}.svg"));
        fs::write(&path, plot.draw())?;
        println!("written: {}", path.display());
    }
    match table::failures(records).as_slice() {
        [] => Ok(()),
        rows => Err(io::Error::other(format!("crashed, or did not do all of: {}", rows.join(", ")))),
    }
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

/// Leads the systems through the scenarios.
#[derive(Debug)]
pub struct Conductor {
    /// The programs of ours.
    pub programs: Programs,
    /// How much of everything.
    pub amount: Amount,
    /// Of the order.
    pub seed: u64,
    /// These alone; all where none is named.
    pub systems: Vec<System>,
    /// Whoever is not here, and why.
    pub left_out: BTreeSet<String>,
}

impl Conductor {
    /// All rounds of all scenarios; each record is told as it comes. Whoever was left out stands beside them.
    pub fn conduct(
        mut self,
        scenarios: &[&Scenario],
        tell: &mut dyn FnMut(&Record) -> io::Result<()>,
    ) -> io::Result<(Vec<Record>, BTreeSet<String>)> {
        let steps = self.steps(scenarios);
        let mut progress = Progress::new(steps.len(), steps.iter().sum());
        let mut records = Vec::new();
        let directory = Directory::new()?;
        let authority = Authority::write(directory.path(), OUTSIDE)?;
        let rounds: Vec<u32> = scenarios.iter().map(|it| (it.rounds)(&self.amount)).collect();
        for round in 0..rounds.iter().copied().max().unwrap_or_default() {
            for (scenario, _) in scenarios.iter().zip(&rounds).filter(|(_, rounds)| round < **rounds) {
                for system in self.order(scenario.systems) {
                    let seconds = scenario.seconds(round, &self.amount);
                    progress.begin(&format!("{}: {}", scenario.rows.join(", "), system.name()), seconds);
                    if let Some(missing) = system.missing() {
                        if self.left_out.insert(format!("{}: {missing}", system.name())) {
                            progress.say(&format!("left out: {}: {missing}", system.name()));
                        }
                        continue;
                    }
                    let measured = self.one((scenario, system, round), directory.path(), &authority);
                    let measured = measured.unwrap_or_else(|fault| {
                        progress.say(&format!("{}, {}: {fault}", scenario.rows.join(", "), system.name()));
                        failed(scenario, system, round, &fault)
                    });
                    measured.iter().try_for_each(&mut *tell)?;
                    records.extend(measured);
                }
            }
        }
        progress.end();
        Ok((records, self.left_out))
    }

    /// How long each step takes, about.
    fn steps(&self, scenarios: &[&Scenario]) -> Vec<f64> {
        let wanted = |it: &&System| self.systems.is_empty() || self.systems.contains(it);
        let of = |scenario: &&Scenario, round| {
            let seconds = scenario.seconds(round, &self.amount);
            vec![seconds; scenario.systems.iter().filter(wanted).count()]
        };
        let rounds = |scenario: &Scenario| 0..(scenario.rounds)(&self.amount);
        scenarios.iter().flat_map(|it| rounds(it).flat_map(move |round| of(it, round))).collect()
    }

    /// One system through one scenario, everything fresh.
    fn one(
        &self,
        (scenario, system, round): (&Scenario, System, u32),
        directory: &Path,
        authority: &Authority,
    ) -> io::Result<Vec<Record>> {
        let cpus = cpus::two()?;
        let kept = cpus.keep()?;
        cpus.stay_on_load()?;
        let pbx = Pbx::start()?;
        let ground = Ground { programs: &self.programs, directory, pbx: &pbx, cpus };
        let site = Site { ground, authority, amount: &self.amount, round };
        let measured = (scenario.run)(&site, system);
        kept.restore()?;
        measured
    }

    /// The systems in random order.
    fn order(&mut self, systems: &[System]) -> Vec<System> {
        let wanted = |it: &&System| self.systems.is_empty() || self.systems.contains(it);
        let mut order: Vec<System> = systems.iter().filter(wanted).copied().collect();
        for last in (1..order.len()).rev() {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            order.swap(last, (self.seed % (last as u64 + 1)) as usize);
        }
        order
    }
}

/// That all its rows came to nothing, and why.
fn failed(scenario: &Scenario, system: System, round: u32, fault: &io::Error) -> Vec<Record> {
    let record = |row: &&'static str| {
        let mut record = Record::new(row, system, round, 0.0);
        record.faults.insert(fault.to_string(), 1);
        record.crashed = true;
        record
    };
    scenario.rows.iter().map(record).collect()
}

/// A directory that is gone with this value.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-bench-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // what cannot be removed lies in the temporary directory
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}
