//! Every system through every scenario, by turns and in random order.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Amount, Scenario, Site};
use crate::interrupt;
use crate::load::pbx::Pbx;
use crate::load::pki::Authority;
use crate::measure::cpus;
use crate::report::output::naming;
use crate::report::progress::Progress;
use crate::report::record::Record;
use crate::systems::{Ground, OUTSIDE, Programs, System};

/// How the directories begin in which systems have what they need; the process and a number follow.
const DIRECTORY: &str = "portcullis-bench-";

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
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Findings {
    /// All that was measured.
    pub records: Vec<Record>,
    /// Whoever is not here, and why.
    pub left_out: BTreeSet<String>,
}

impl Conductor {
    /// All rounds of all scenarios, or as far as it came until it was told to end; each record is told as it comes.
    pub fn conduct(mut self, scenarios: &[&Scenario], tell: &mut dyn FnMut(&Record)) -> io::Result<Findings> {
        let steps = self.steps(scenarios);
        let mut progress = Progress::new(steps.len(), steps.iter().sum());
        let mut findings = Findings::default();
        let directory = Directory::new()?;
        let authority = naming(directory.path(), Authority::write(directory.path(), OUTSIDE))?;
        for (round, scenario) in self.turns(scenarios) {
            for system in self.order(scenario.systems) {
                let seconds = scenario.seconds(round, &self.amount);
                progress.begin(&format!("{}: {}", scenario.rows.join(", "), system.name()), seconds);
                if let Some(missing) = system.missing() {
                    let words = format!("{}: {missing}", system.name());
                    if findings.left_out.insert(words.clone()) {
                        progress.say(&format!("left out: {words}"));
                    }
                    continue;
                }
                let measured = self.one((scenario, system, round), directory.path(), &authority);
                let records = match measured {
                    Ok(records) => records,
                    Err(_) if interrupt::is_told() => Vec::new(),
                    Err(fault) => {
                        progress.say(&format!("{}, {}: {fault}", scenario.rows.join(", "), system.name()));
                        failed(scenario, system, round, &fault)
                    }
                };
                records.iter().for_each(&mut *tell);
                findings.records.extend(records);
                if interrupt::is_told() {
                    progress.end();
                    return Ok(findings);
                }
            }
        }
        progress.end();
        Ok(findings)
    }

    /// Each round of each scenario: first rounds first.
    fn turns<'a>(&self, scenarios: &[&'a Scenario]) -> Vec<(u32, &'a Scenario)> {
        let rounds: Vec<u32> = scenarios.iter().map(|it| (it.rounds)(&self.amount)).collect();
        let most = rounds.iter().copied().max().unwrap_or_default();
        let of = |round| scenarios.iter().zip(&rounds).filter(move |(_, rounds)| round < **rounds);
        (0..most).flat_map(|round| of(round).map(move |(scenario, _)| (round, *scenario))).collect()
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
        let path = std::env::temp_dir().join(format!("{DIRECTORY}{}-{number}", std::process::id()));
        naming(&path, fs::create_dir_all(&path))?;
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

/// Removes what runs have left that were killed: the server's key is in it. How many.
pub(super) fn clear_stale(temporary: &Path) -> usize {
    let entries = fs::read_dir(temporary).into_iter().flatten().filter_map(Result::ok);
    let stale = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_stale));
    // what is not ours to remove stays
    stale.filter(|entry| fs::remove_dir_all(entry.path()).is_ok()).count()
}

/// Whether it is named after a process that is gone.
fn is_stale(name: &str) -> bool {
    let rest = name.strip_prefix(DIRECTORY).and_then(|rest| rest.split_once('-'));
    let process = rest.and_then(|(process, _)| process.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_has_left_is_removed() {
        let temporary = std::env::temp_dir().join(format!("bench-stale-{}", std::process::id()));
        // no process has this number: they end at four million
        let [gone, alive, other] = [
            format!("{DIRECTORY}4294967295-0"),
            format!("{DIRECTORY}{}-7", std::process::id()),
            "something-else-4294967295-0".into(),
        ]
        .map(|name| temporary.join(name));
        for directory in [&gone, &alive, &other] {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join("server.key"), "secret").unwrap();
        }
        assert_eq!(clear_stale(&temporary), 1);
        assert_eq!([&gone, &alive, &other].map(|it| it.exists()), [false, true, true]);
        fs::remove_dir_all(&temporary).unwrap();
    }
}
