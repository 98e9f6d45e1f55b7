//! The stages, each a few commands with one line of progress.
//!
//! A stage's output goes to `target/xtask/NAME.log`; only a failure is shown whole.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::children::Running;

/// How often a stage that has not ended gives a sign of life.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// What a test prints before something that people want to see, though it succeeded.
const REPORT: &str = "report: ";

/// How many lines of a failed stage are shown.
const SHOWN_LINES_MAX: usize = 120;

/// One step of the check.
pub(crate) struct Stage {
    /// As it is asked for on the command line.
    pub(crate) key: &'static str,
    what: &'static str,
    commands: Vec<Vec<&'static str>>,
    environment: Vec<(&'static str, String)>,
}

impl Stage {
    fn new(key: &'static str, what: &'static str, commands: &[&[&'static str]]) -> Self {
        let commands = commands.iter().map(|words| words.to_vec()).collect();
        Self { key, what, commands, environment: Vec::new() }
    }

    /// Sets a variable of the environment for its commands.
    pub(crate) fn set(&mut self, variable: &'static str, value: &str) {
        self.environment.push((variable, value.to_owned()));
    }

    /// Leaves the tests out whose path has one of these in it.
    pub(crate) fn leave_out(&mut self, filters: &[&'static str]) {
        if let Some(command) = self.commands.last_mut() {
            command.extend(filters.iter().flat_map(|filter| ["--skip", filter]));
        }
    }
}

/// The tests, cheapest first.
pub(crate) fn tests() -> Vec<Stage> {
    vec![
        Stage::new(
            "tidy",
            "layers and habits",
            &[&["test", "--locked", "-p", "portcullis-tests", "--test", "tidy"]],
        ),
        Stage::new(
            "unit",
            "unit tests of every crate",
            &[&["test", "--locked", "--workspace", "--exclude", "portcullis-tests", "--exclude", "sim"]],
        ),
        Stage::new(
            "simulation",
            "simulation: the core in a seeded world",
            // optimised, for it runs long; the cores check their invariants all the same
            &[&["test", "--locked", "--profile", "sim", "-p", "sim"]],
        ),
        Stage::new(
            "e2e",
            "end to end: Kamailio, sipp, baresip and linphone on real sockets",
            &[
                &["build", "--locked", "-p", "portcullis"],
                &[
                    "test",
                    "--locked",
                    "-p",
                    "portcullis-tests",
                    "--lib",
                    "--test",
                    "e2e",
                    "--",
                    "--test-threads=4",
                ],
            ],
        ),
    ]
}

/// The fault lab alone, one fault after the other; what it reports is printed.
pub(crate) fn faults() -> Stage {
    let test = ["test", "--locked", "-p", "portcullis-tests", "--test", "e2e", "faults::", "--"];
    let test = [&test[..], &["--test-threads=1", "--nocapture"]].concat();
    Stage::new("faults", "the fault lab", &[&["build", "--locked", "-p", "portcullis"], &test])
}

/// Runs stage after stage, ends at the first failure.
pub(crate) fn run_all(stages: &[Stage]) -> Result<()> {
    let begun = now();
    let mut tests = 0;
    for (index, stage) in stages.iter().enumerate() {
        println!("[{}/{}] {}", index + 1, stages.len(), stage.what);
        let stage_begun = now();
        let passed = run_stage(stage)?;
        tests += passed;
        let counted = if passed == 0 { String::new() } else { format!(", {passed} tests") };
        println!("      ok{counted}, {:.1} s", stage_begun.elapsed().as_secs_f32());
    }
    let names: Vec<&str> = stages.iter().map(|stage| stage.key).collect();
    println!("passed: {} ({tests} tests) in {:.0} s", names.join(", "), begun.elapsed().as_secs_f32());
    Ok(())
}

/// Runs the commands of a stage; the number of tests that passed.
fn run_stage(stage: &Stage) -> Result<usize> {
    let path = log_path(stage.key)?;
    let mut log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut lines = Vec::new();
    for words in &stage.commands {
        let ok = run_command((words, &stage.environment), &mut log, &mut lines)?;
        if !ok {
            let shown = lines.len().saturating_sub(SHOWN_LINES_MAX);
            eprintln!("{}", lines.split_off(shown).join("\n"));
            bail!("{} failed: cargo {} (whole output: {})", stage.key, words.join(" "), path.display());
        }
    }
    for report in lines.iter().filter_map(|line| line.strip_prefix(REPORT)) {
        println!("      {report}");
    }
    Ok(lines.iter().filter_map(|line| passed_tests(line)).sum())
}

/// Runs one cargo command, its output copied to the log; whether it succeeded.
fn run_command(
    (words, environment): (&[&str], &[(&str, String)]),
    log: &mut File,
    lines: &mut Vec<String>,
) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(words)
        .env("CARGO_TERM_COLOR", "never")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut cargo = Running::start(&mut command).context("cannot run cargo")?;
    let (sender, receiver) = mpsc::sync_channel(1024);
    if let Some(output) = cargo.child.stdout.take() {
        copy_lines(output, sender.clone());
    }
    if let Some(errors) = cargo.child.stderr.take() {
        copy_lines(errors, sender.clone());
    }
    drop(sender);
    let mut said = now();
    loop {
        match receiver.recv_timeout(SIGN_OF_LIFE.saturating_sub(said.elapsed())) {
            Ok(line) => {
                writeln!(log, "{line}").context("cannot write the log of the stage")?;
                lines.push(line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if said.elapsed() >= SIGN_OF_LIFE {
            said = now();
            println!("      … {}", lines.last().map_or("", |line| line.trim()));
        }
    }
    let status = cargo.wait().context("cannot wait for cargo")?;
    Ok(status.success())
}

/// Sends each line on, until the other end of either is gone.
fn copy_lines(output: impl Read + Send + 'static, sender: mpsc::SyncSender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

/// `test result: ok. 12 passed; …` → 12.
fn passed_tests(line: &str) -> Option<usize> {
    let rest = line.strip_prefix("test result: ok. ")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn log_path(key: &str) -> Result<PathBuf> {
    let directory = directory();
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory.join(format!("{key}.log")))
}

/// Our own, in the target directory.
pub(crate) fn directory() -> PathBuf {
    target().join("xtask")
}

/// The target directory, wherever cargo was told to have it: this program was built there.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).map_or_else(|| PathBuf::from("target"), Path::to_owned)
}

#[expect(clippy::disallowed_methods, reason = "a build tool measures its own stages")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted_from_cargos_own_line() {
        let line =
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(passed_tests(line), Some(12));
        assert_eq!(passed_tests("test result: FAILED. 3 passed; 1 failed"), None);
        assert_eq!(passed_tests("running 3 tests"), None);
    }

    #[test]
    fn leaving_out_reaches_the_test_command() {
        let mut stages = tests();
        let end_to_end = stages.last_mut().expect("there are stages");
        end_to_end.leave_out(&["nat::", "ipv6::", "disk::"]);
        assert_eq!(end_to_end.commands.last().expect("it has commands").last(), Some(&"disk::"));
    }
}
