//! Plants one bug into the copy of the tree, builds the simulation, runs its seeds, and takes the bug out again.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::bug::Bug;
use crate::children::{self, Running};
use crate::stage::{self, SIGN_OF_LIFE};

/// As many seeds as `cargo xtask test` runs, each with so many steps in which things break.
const SEEDS: &str = "256";
const STEPS: &str = "2000";

/// How often is looked whether a build has ended.
const LOOK: Duration = Duration::from_millis(100);

/// What came of a bug.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A rule was broken, first with this seed.
    Caught { rule: String, seed: u64, took: Duration },
    /// No rule was.
    Survived,
    /// It cannot be planted any more, or does not compile: why.
    Gone(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught { rule, seed, took } => {
                write!(f, "noticed: {rule}, seed {seed}, after {:.1} s", took.as_secs_f32())
            }
            Self::Survived => write!(f, "NOT NOTICED by {SEEDS} seeds of {STEPS} steps"),
            Self::Gone(why) => write!(f, "CANNOT BE PLANTED: {why}"),
        }
    }
}

/// Where bugs are tried.
pub(super) struct Trial<'a> {
    /// Ours, with the copy of the tree in it.
    pub(super) directory: &'a Path,
}

impl Trial<'_> {
    /// The tree as it is: everything else means something only where this survives.
    pub(super) fn run_unchanged(&self) -> Result<Outcome> {
        self.build_and_simulate("unchanged")
    }

    /// Plants a bug, and takes it out again.
    pub(super) fn run(&self, bug: &Bug) -> Result<Outcome> {
        let tree = self.directory.join("tree");
        let planted = match bug.plant(&tree) {
            Ok(files) => files,
            Err(error) => return Ok(Outcome::Gone(format!("{error:#}"))),
        };
        let mut before = Vec::new();
        for (path, text) in planted {
            let path = tree.join(path);
            before.push((path.clone(), fs::read_to_string(&path)?));
            write(&path, &text)?;
        }
        let outcome = self.build_and_simulate(&bug.key);
        for (path, text) in before {
            write(&path, &text)?;
        }
        outcome
    }

    fn build_and_simulate(&self, key: &str) -> Result<Outcome> {
        let log = self.directory.join(format!("{key}.log"));
        if !self.build(&log)? {
            return Ok(Outcome::Gone(format!("it does not compile, see {}", log.display())));
        }
        let begun = stage::now();
        let mut simulation = Command::new(self.directory.join("target/sim/sim"));
        simulation.args(["--seeds", SEEDS, "--steps", STEPS, "--no-shrink"]);
        let output = children::output(simulation.stdin(Stdio::null()).stderr(Stdio::null()))
            .context("cannot run the simulation")?;
        fs::write(&log, &output.stdout).with_context(|| format!("cannot write {}", log.display()))?;
        if output.status.success() {
            return Ok(Outcome::Survived);
        }
        let (seed, rule) = first_failure(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("the simulation ended by {}, see {}", output.status, log.display()))?;
        Ok(Outcome::Caught { rule, seed, took: begun.elapsed() })
    }

    /// Whether the tree compiles; what the compiler says goes to the log.
    fn build(&self, log: &Path) -> Result<bool> {
        let errors = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(self.directory.join("tree"))
            .args(["build", "--quiet", "--locked", "--profile", "sim", "--package", "sim"])
            .env("CARGO_TARGET_DIR", self.directory.join("target"))
            // many small builds of a program that nobody debugs
            .env("CARGO_PROFILE_SIM_INCREMENTAL", "true")
            .env("CARGO_PROFILE_SIM_DEBUG", "false")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors);
        let mut cargo = Running::start(&mut cargo).context("cannot run cargo")?;
        let begun = stage::now();
        let mut said = begun;
        loop {
            if let Some(status) = cargo.ended().context("cannot wait for cargo")? {
                return Ok(status.success());
            }
            if said.elapsed() >= SIGN_OF_LIFE {
                said = stage::now();
                println!("      … it is being built, {:.0} s so far", begun.elapsed().as_secs_f32());
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn write(path: &PathBuf, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The lowest seed of the lines `seed 12: "calls at once" in step 345`, and what is said of it.
fn first_failure(output: &str) -> Option<(u64, String)> {
    let failure = |line: &str| {
        let (seed, rule) = line.strip_prefix("seed ")?.split_once(": ")?;
        Some((seed.parse().ok()?, rule.split(" in step ").next()?.to_owned()))
    };
    output.lines().filter_map(failure).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_that_of_the_lowest_seed() {
        let output = "[###] 9/256 seeds\nseed 12: \"calls at once\" in step 345\nseed 7: \"at rest\" in step 8\n\
                      9 seeds (1 of them twice)\n2 of them failed; the first of those:\n\nseed 7 step 8: oracle \"at rest\"";
        assert_eq!(first_failure(output), Some((7, "\"at rest\"".to_owned())));
        assert_eq!(first_failure("seed 3: two runs differ; again: x").map(|(seed, _)| seed), Some(3));
        assert_eq!(first_failure("every rule holds"), None);
    }

    #[test]
    fn a_bug_is_taken_out_again_though_it_does_not_fit() -> Result<()> {
        let directory = std::env::temp_dir().join(format!("planted-{}", std::process::id()));
        fs::create_dir_all(directory.join("tree"))?;
        fs::write(directory.join("tree/a.rs"), "b\n")?;
        let bug = Bug::parse("limits", "x", "It is wrong.\nNobody is called.\n--- a.rs\n@@\n-c\n+d\n")?;
        let trial = Trial { directory: &directory };
        assert!(matches!(trial.run(&bug)?, Outcome::Gone(why) if why.contains("a.rs has 0 times")));
        let bug = Bug::parse("limits", "x", "It is wrong.\nNobody is called.\n--- a.rs\n@@\n-b\n+d\n")?;
        // there is no package to build
        assert!(matches!(trial.run(&bug)?, Outcome::Gone(why) if why.contains("does not compile")));
        assert_eq!(fs::read_to_string(directory.join("tree/a.rs"))?, "b\n");
        fs::remove_dir_all(&directory)?;
        Ok(())
    }
}
