//! Runs cargo-mutants over what is not known yet of one crate: first against the tests of the crate, then what
//! passed these against the simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kept::{Kept, Outcome};
use super::list::Mutant;
use crate::children::{self, Running};
use crate::stage;

/// How many seeds of the simulation each mutant meets that passed the tests.
const SEEDS: &str = "16";

/// A mutant may ask for memory without end, in KiB: then it dies, not the machine.
const MEMORY_MAX: &str = "8000000";

/// So many at once, for the names of all stand on one command line.
const BATCH: usize = 500;

/// What cargo-mutants calls the trial of the tree as it is, which comes before all others.
const BASELINE: &str = "Unmutated baseline";

/// Between two lines of progress where there is no terminal.
const NOW_AND_THEN: Duration = Duration::from_secs(30);

/// What the mutants of a crate are tried with.
pub(super) struct Judge<'a> {
    /// cargo-mutants.
    pub(super) tools: &'a Path,
    /// Ours, with the copy of the tree in it.
    pub(super) directory: &'a Path,
    pub(super) package: &'static str,
    pub(super) simulated: bool,
    /// What the tests and the simulation are now.
    pub(super) against: u64,
}

/// One of the two trials.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trial {
    Tests,
    Simulation,
}

impl Judge<'_> {
    /// Tries those that are not known yet, or all of them once more; then what did not end, once more.
    pub(super) fn try_all(&self, mutants: &[&Mutant], again: bool, kept: &mut Kept) -> Result<()> {
        let unknown = |kept: &Kept| -> Vec<&Mutant> {
            let mutants = mutants.iter().copied();
            mutants.filter(|mutant| kept.known(mutant.key, self.against).is_none()).collect()
        };
        let untried = if again { mutants.to_vec() } else { unknown(kept) };
        println!("[{}] {} mutants, {} of them to try", self.package, mutants.len(), untried.len());
        self.try_these(&untried, mutants, kept)?;
        let not_ended = unknown(kept);
        if !not_ended.is_empty() {
            println!("[{}] {} did not end: once more", self.package, not_ended.len());
            self.try_these(&not_ended, mutants, kept)?;
        }
        Ok(())
    }

    /// These against the tests, and which of all passed them, against the simulation.
    fn try_these(&self, these: &[&Mutant], all: &[&Mutant], kept: &mut Kept) -> Result<()> {
        for batch in these.chunks(BATCH) {
            self.try_some(batch, Trial::Tests, kept)?;
        }
        let known = |mutant: &Mutant, kept: &Kept| kept.known(mutant.key, self.against);
        let left = all.iter().filter(|mutant| known(mutant, kept) == Some(Outcome::PassedTests));
        let left: Vec<&Mutant> = left.copied().collect();
        for batch in left.chunks(BATCH) {
            self.try_some(batch, Trial::Simulation, kept)?;
        }
        Ok(())
    }

    fn try_some(&self, mutants: &[&Mutant], trial: Trial, kept: &mut Kept) -> Result<()> {
        let by_name: BTreeMap<String, &Mutant> =
            mutants.iter().map(|mutant| (mutant.printed(), *mutant)).collect();
        let mut progress = Progress::new(self.package, trial, mutants.len());
        let (mut tool, mut log) = (self.start(&by_name, trial)?, self.log(trial)?);
        let mut others = Vec::new();
        for line in tool.child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()) {
            let line = line.context("cannot read what cargo-mutants says")?;
            writeln!(log, "{line}").context("cannot write the log")?;
            let Some((outcome, mutant)) = self.result(&line, trial, &by_name) else {
                if line.contains(BASELINE) {
                    progress.begins();
                }
                others.push(line);
                continue;
            };
            kept.note(mutant.key, outcome, self.against, &mutant.name)?;
            progress.count(outcome, &line);
        }
        tool.wait().context("cannot wait for cargo-mutants")?;
        progress.end();
        if progress.done < mutants.len() {
            let shown = others.len().saturating_sub(60);
            eprintln!("{}", others.split_off(shown).join("\n"));
            bail!("cargo-mutants tried {} of {} mutants of {}", progress.done, mutants.len(), self.package);
        }
        Ok(())
    }

    /// Starts cargo-mutants in the copy.
    fn start(&self, by_name: &BTreeMap<String, &Mutant>, trial: Trial) -> Result<Running> {
        let mut command = Command::new("sh");
        // a test that a mutant sends round in circles must not take the machine with it
        command.args(["-c", &format!("ulimit -v {MEMORY_MAX}; exec \"$@\""), "sh"]).arg(self.tools);
        command.args(["mutants", "--in-place", "--no-times", "--caught", "--unviable", "--colors", "never"]);
        command.args(["--annotations", "none", "--package", self.package, "--output"]);
        command.arg(self.directory).arg("--dir").arg(self.directory.join("tree"));
        match trial {
            Trial::Tests => command.arg("--cargo-arg=--tests"),
            Trial::Simulation => {
                // cargo-mutants would try the unchanged tree with the tests of the mutants' crate alone
                let secs = self.simulate_unchanged()?.as_secs() * 5 + 60;
                command.args(["--test-package", "sim", "--cargo-arg=--test=simulation", "--baseline=skip"]);
                command.arg(format!("--timeout={secs}"))
            }
        };
        // some kinds of mutants heed no name: without their file they would be tried, and nobody asked for them
        let files: BTreeSet<&str> = by_name.values().map(|mutant| mutant.file.as_str()).collect();
        command.args(files.into_iter().flat_map(|file| ["--file", file]));
        command.args(by_name.keys().flat_map(|name| ["--re".to_owned(), format!("^{}$", escape(name))]));
        self.set_environment(&mut command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.log_of_errors()?);
        Running::start(&mut command).context("cannot run cargo-mutants")
    }

    /// The simulation without any mutant, which must pass; how long it takes.
    fn simulate_unchanged(&self) -> Result<Duration> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(self.directory.join("tree"));
        command.args(["test", "--quiet", "--profile", "mutants", "-p", "sim", "--test", "simulation"]);
        self.set_environment(&mut command).stdin(Stdio::null()).stdout(Stdio::null());
        let begun = stage::now();
        let status = children::status(command.stderr(self.log_of_errors()?)).context("cannot run cargo")?;
        if status.success() { Ok(begun.elapsed()) } else { bail!("the simulation fails without any mutant") }
    }

    /// What cargo needs to know, directly or by cargo-mutants.
    fn set_environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("PORTCULLIS_SIM_SEEDS", SEEDS);
        command.env("CARGO_TARGET_DIR", self.directory.join("tree/target"))
    }

    /// `MISSED   crates/…: replace …` → what is known of that mutant now.
    fn result<'m>(
        &self,
        line: &str,
        trial: Trial,
        by_name: &BTreeMap<String, &'m Mutant>,
    ) -> Option<(Outcome, &'m Mutant)> {
        let (word, name) = line.split_once(' ')?;
        let outcome = match (word, trial) {
            ("caught", Trial::Tests) => Outcome::Killed,
            ("caught", Trial::Simulation) => Outcome::KilledBySimulation,
            ("MISSED", Trial::Tests) if self.simulated => Outcome::PassedTests,
            ("MISSED", _) => Outcome::Survived,
            ("TIMEOUT", _) => Outcome::Timeout,
            ("unviable", _) => Outcome::Unviable,
            _ => return None,
        };
        Some((outcome, by_name.get(name.trim())?))
    }

    fn log(&self, trial: Trial) -> Result<File> {
        let kind = if trial == Trial::Tests { "tests" } else { "simulation" };
        let path = self.directory.join(format!("{}-{kind}.log", self.package));
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn log_of_errors(&self) -> Result<File> {
        let path = self.directory.join("errors.log");
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A regular expression that means these very characters. Not all of them may be escaped: `\<` begins a word.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len() + 16);
    for c in name.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// How far it is, and what lives.
struct Progress {
    title: String,
    of: usize,
    done: usize,
    living: usize,
    timeouts: usize,
    unviable: usize,
    begun: Instant,
    said: Instant,
    terminal: bool,
}

impl Progress {
    fn new(package: &str, trial: Trial, of: usize) -> Self {
        let against = if trial == Trial::Tests { "its tests" } else { "the simulation" };
        let (begun, terminal) = (stage::now(), std::io::stdout().is_terminal());
        let title = format!("[{package}] against {against}");
        Self { title, of, done: 0, living: 0, timeouts: 0, unviable: 0, begun, said: begun, terminal }
    }

    /// Only now are mutants tried.
    fn begins(&mut self) {
        self.begun = stage::now();
    }

    /// Counts one, prints it where it lives, and says how far it is where it is time to.
    fn count(&mut self, outcome: Outcome, line: &str) {
        self.done += 1;
        self.timeouts += usize::from(outcome == Outcome::Timeout);
        self.unviable += usize::from(outcome == Outcome::Unviable);
        if matches!(outcome, Outcome::PassedTests | Outcome::Survived) {
            self.living += 1;
            self.end();
            println!("      {line}");
        }
        if self.terminal {
            print!("\r{}\x1b[K", self.line());
            // a terminal that is gone does not stop the work
            std::io::stdout().flush().unwrap_or_default();
        } else if self.said.elapsed() >= NOW_AND_THEN || self.done == self.of {
            self.said = stage::now();
            println!("{}", self.line());
        }
    }

    fn line(&self) -> String {
        let each = self.begun.elapsed().as_secs_f64() / self.done.max(1) as f64;
        let left = each * (self.of - self.done) as f64 / 60.0;
        format!(
            "{}: {}/{} done, {} killed, {} live, {} timeouts, {} unviable; {each:.1} s each, {left:.0} min left",
            self.title,
            self.done,
            self.of,
            self.done - self.living - self.timeouts - self.unviable,
            self.living,
            self.timeouts,
            self.unviable,
        )
    }

    /// Takes the line away.
    fn end(&self) {
        if self.terminal {
            print!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_mutants_are_read() {
        let judge = |simulated| Judge {
            tools: Path::new("t"),
            directory: Path::new("d"),
            package: "guard",
            simulated,
            against: 1,
        };
        let file = "crates/guard/src/ban.rs".to_owned();
        let name = format!("{file}: replace > with >= in f");
        let mutant = Mutant { package: "guard".into(), file, line: 3, column: 4, name, key: 9 };
        let by_name = BTreeMap::from([(mutant.printed(), &mutant)]);
        let read = |word: &str, trial, simulated| {
            let line = format!("{word:8} crates/guard/src/ban.rs:3:4: replace > with >= in f");
            judge(simulated).result(&line, trial, &by_name).map(|(outcome, mutant)| (outcome, mutant.key))
        };
        assert_eq!(read("caught", Trial::Tests, true), Some((Outcome::Killed, 9)));
        assert_eq!(read("MISSED", Trial::Tests, true), Some((Outcome::PassedTests, 9)));
        assert_eq!(read("MISSED", Trial::Tests, false), Some((Outcome::Survived, 9)));
        assert_eq!(read("MISSED", Trial::Simulation, true), Some((Outcome::Survived, 9)));
        assert_eq!(read("caught", Trial::Simulation, true), Some((Outcome::KilledBySimulation, 9)));
        assert_eq!(read("TIMEOUT", Trial::Simulation, true), Some((Outcome::Timeout, 9)));
        assert_eq!(read("ok", Trial::Tests, true), None);
        assert!(judge(true).result("MISSED   another", Trial::Tests, &by_name).is_none());
    }

    #[test]
    fn what_does_not_compile_is_not_counted_as_killed() {
        let mut progress = Progress::new("wire", Trial::Tests, 9);
        for outcome in
            [Outcome::Killed, Outcome::Killed, Outcome::Unviable, Outcome::Timeout, Outcome::Survived]
        {
            progress.count(outcome, "");
        }
        let line = progress.line();
        assert!(line.contains("5/9 done, 2 killed, 1 live, 1 timeouts, 1 unviable; "), "{line}");
    }

    #[test]
    fn names_match_themselves_alone() {
        assert_eq!(escape("f<'_>::g: a|b"), r"f<'_>::g: a\|b");
    }
}
