//! `cargo xtask planted`: plants bugs that were thought of, one after the other, and looks whether the simulation
//! notices each.
//!
//! They stand in `crates/sim/planted/KIND/NAME.patch`. Each is planted into a copy of the tree, so that nobody's
//! work is touched, built as `cargo xtask sim` builds, and met by so many seeds as the tests run, up to the first
//! that fails. What is not noticed, and what cannot be planted any more, makes the command fail.

mod bug;
mod trial;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::mutants::tree;
use crate::stage;
use bug::Bug;
use trial::{Outcome, Trial};

/// Where the bugs are.
const DIRECTORY: &str = "crates/sim/planted";

const USAGE: &str = "\
usage: cargo xtask planted [KIND | NAME | KIND/NAME…]    all, or those that are named

kinds: hiding limits ports registration transactions; crates/sim/planted has the names.
What each build and each simulation printed is in target/xtask/planted/NAME.log.";

/// Plants those of these names or kinds, or all.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if words.iter().any(|word| matches!(*word, "--help" | "-h")) {
        println!("{USAGE}");
        return Ok(());
    }
    let begun = stage::now();
    let bugs = choose(bug::read_all(Path::new(DIRECTORY))?, words)?;
    let directory = std::path::absolute(stage::directory().join("planted"))?;
    let written = tree::copy(Path::new("."), &directory.join("tree"))?;
    println!(
        "planted: {written} files of the tree are new or changed; logs: {}/NAME.log",
        directory.display()
    );
    println!("first without any bug: it is built (some minutes the first time) and must keep every rule");
    let trial = Trial { directory: &directory };
    match trial.run_unchanged()? {
        Outcome::Survived => {
            println!("it keeps every rule, {:.0} s with its build", begun.elapsed().as_secs_f32())
        }
        outcome => bail!("without any bug: {outcome}"),
    }
    let mut progress = Progress::new(bugs.len());
    let mut outcomes = Vec::new();
    for bug in &bugs {
        progress.begins(&bug.name());
        let begun = stage::now();
        let outcome = trial.run(bug)?;
        progress.ended(bug, &outcome, begun.elapsed());
        outcomes.push(outcome);
    }
    conclude(&bugs, &outcomes, begun.elapsed())
}

/// The bugs that were asked for: by kind, by name, or by both as in the list.
fn choose(bugs: Vec<Bug>, words: &[&str]) -> Result<Vec<Bug>> {
    let is_meant = |bug: &Bug, word: &str| bug.kind == word || bug.key == word || bug.name() == word;
    if let Some(unknown) = words.iter().find(|word| bugs.iter().all(|bug| !is_meant(bug, word))) {
        bail!("{unknown:?} is neither a bug in {DIRECTORY} nor a kind of them\n{USAGE}");
    }
    let chosen = |bug: &Bug| words.is_empty() || words.iter().any(|word| is_meant(bug, word));
    Ok(bugs.into_iter().filter(chosen).collect())
}

/// Prints the table; fails where a bug was not noticed or could not be planted.
fn conclude(bugs: &[Bug], outcomes: &[Outcome], took: Duration) -> Result<()> {
    let widest = bugs.iter().map(|bug| bug.name().len()).max().unwrap_or(0);
    println!("\n{:widest$}  came of it", "bug");
    for (bug, outcome) in bugs.iter().zip(outcomes) {
        println!("{:widest$}  {outcome}", bug.name());
    }
    let count = |of: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| of(outcome)).count();
    let caught = count(|outcome| matches!(outcome, Outcome::Caught { .. }));
    let survived = count(|outcome| matches!(outcome, Outcome::Survived));
    println!(
        "\n{caught} of {} bugs were noticed, in {:.0} s with all builds",
        bugs.len(),
        took.as_secs_f32()
    );
    for (bug, _) in bugs.iter().zip(outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Survived)) {
        println!("\n{} lives:\n{}", bug.name(), bug.about);
    }
    let gone = outcomes.len() - caught - survived;
    if survived + gone > 0 {
        bail!("{survived} bugs were not noticed, {gone} cannot be planted any more");
    }
    Ok(())
}

/// A line that tells how far it is, and one for each bug that was tried.
struct Progress {
    of: usize,
    done: usize,
    begun: Instant,
    terminal: bool,
}

impl Progress {
    fn new(of: usize) -> Self {
        Self { of, done: 0, begun: stage::now(), terminal: std::io::stdout().is_terminal() }
    }

    fn begins(&self, name: &str) {
        if !self.terminal {
            return;
        }
        let each = self.begun.elapsed().as_secs_f32() / self.done.max(1) as f32;
        let left = match self.done {
            0 => String::new(),
            done => format!(", {:.0} min left", (each * (self.of - done) as f32 / 60.0).ceil()),
        };
        print!("\r[{}/{}{left}] {name}\x1b[K", self.done + 1, self.of);
        // a terminal that is gone does not stop the work
        std::io::stdout().flush().unwrap_or_default();
    }

    fn ended(&mut self, bug: &Bug, outcome: &Outcome, took: Duration) {
        self.done += 1;
        if self.terminal {
            print!("\r\x1b[K");
        }
        let secs = took.as_secs_f32();
        println!("[{}/{}] {}: {outcome} ({secs:.0} s with its build)", self.done, self.of, bug.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bugs() -> Result<Vec<Bug>> {
        bug::read_all(&Path::new("../..").join(DIRECTORY))
    }

    #[test]
    fn each_can_be_planted_into_the_tree_as_it_is() -> Result<()> {
        let bugs = bugs()?;
        let gone: Vec<String> = bugs
            .iter()
            .filter_map(|bug| Some(format!("{:#}", bug.plant(Path::new("../..")).err()?)))
            .collect();
        assert!(gone.is_empty(), "these cannot be planted any more:\n{}", gone.join("\n"));
        for kind in ["transactions", "registration", "limits", "ports", "hiding"] {
            assert!(bugs.iter().filter(|bug| bug.kind == kind).count() >= 8, "too few bugs of {kind}");
        }
        Ok(())
    }

    #[test]
    fn bugs_are_chosen_by_kind_and_by_name() -> Result<()> {
        let all = bugs()?;
        let (first, count) = (all[0].name(), all.len());
        assert_eq!(choose(all, &[])?.len(), count);
        let chosen = choose(bugs()?, &[&first, "limits"])?;
        assert!(chosen.iter().all(|bug| bug.kind == "limits" || bug.name() == first) && chosen.len() < count);
        assert!(choose(bugs()?, &["no-such-bug"]).is_err());
        Ok(())
    }

    #[test]
    fn only_where_all_were_noticed_is_all_well() {
        let bug = |key: &str| {
            let text = "It is wrong.\nNobody is called.\n--- a.rs\n@@\n-a\n+b\n";
            Bug::parse("limits", key, text).unwrap_or_else(|error| panic!("{error:#}"))
        };
        let caught = || Outcome::Caught { rule: "calls at once".into(), seed: 3, took: Duration::ZERO };
        let conclude = |outcomes: &[Outcome]| conclude(&[bug("a"), bug("b")], outcomes, Duration::ZERO);
        assert!(conclude(&[caught(), caught()]).is_ok());
        assert!(conclude(&[caught(), Outcome::Survived]).is_err());
        assert!(conclude(&[Outcome::Gone("it is not there".into()), caught()]).is_err());
    }
}
