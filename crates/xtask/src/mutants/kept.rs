//! What came of each mutant, kept between runs: a file of lines, to which each result is added at once.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// What came of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// A test of its crate failed.
    Killed,
    /// The tests passed; a rule of the simulation was broken.
    KilledBySimulation,
    /// The tests or the simulation did not end.
    Timeout,
    /// It did not compile.
    Unviable,
    /// The tests passed, and the simulation is still to come.
    PassedTests,
    /// Nothing noticed it.
    Survived,
}

impl Outcome {
    const WORDS: &[(Self, &str)] = &[
        (Self::Killed, "killed"),
        (Self::KilledBySimulation, "killed-by-simulation"),
        (Self::Timeout, "timeout"),
        (Self::Unviable, "unviable"),
        (Self::PassedTests, "passed-tests"),
        (Self::Survived, "survived"),
    ];

    /// Whether it holds only for the tests and the simulation that it was tried against.
    fn is_alive(self) -> bool {
        matches!(self, Self::PassedTests | Self::Survived)
    }

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, word)| word)
    }

    fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, known)| *known == word).map(|(outcome, _)| *outcome)
    }
}

/// All results by the mutants' keys.
#[derive(Default)]
pub(super) struct Kept {
    results: BTreeMap<u64, (Outcome, u64)>,
    file: Option<File>,
}

impl Kept {
    /// Reads what is there; of several results of a mutant the last one counts.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).unwrap_or_default();
        // the last line of a run that was killed may be half a line
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let results =
            whole.filter_map(parse).map(|(key, outcome, against)| (key, (outcome, against))).collect();
        let cannot = || format!("cannot write {}", path.display());
        let mut file = OpenOptions::new().create(true).append(true).open(path).with_context(cannot)?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(file).with_context(cannot)?;
        }
        Ok(Self { results, file: Some(file) })
    }

    /// Keeps a result, and what it was tried against.
    pub(super) fn note(&mut self, key: u64, outcome: Outcome, against: u64, name: &str) -> Result<()> {
        self.results.insert(key, (outcome, against));
        if let Some(file) = &mut self.file {
            writeln!(file, "{key:016x}\t{}\t{against:016x}\t{name}", outcome.word())
                .context("cannot keep a result")?;
        }
        Ok(())
    }

    /// What came of it when it was last tried.
    pub(super) fn outcome(&self, key: u64) -> Option<Outcome> {
        self.results.get(&key).map(|(outcome, _)| *outcome)
    }

    /// What is known of it, where it is to be tried against this.
    pub(super) fn known(&self, key: u64, against: u64) -> Option<Outcome> {
        let (outcome, then) = *self.results.get(&key)?;
        (!outcome.is_alive() || then == against).then_some(outcome)
    }
}

fn parse(line: &str) -> Option<(u64, Outcome, u64)> {
    let mut words = line.split('\t');
    let key = u64::from_str_radix(words.next()?, 16).ok()?;
    let outcome = Outcome::parse(words.next()?)?;
    let against = u64::from_str_radix(words.next()?, 16).ok()?;
    Some((key, outcome, against))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_outlive_the_run_and_half_lines_do_not_count() -> Result<()> {
        let path = std::env::temp_dir().join(format!("kept-mutants-{}.tsv", std::process::id()));
        fs::remove_file(&path).unwrap_or_default();
        let mut kept = Kept::open(&path)?;
        kept.note(1, Outcome::PassedTests, 7, "a")?;
        kept.note(1, Outcome::Survived, 7, "a")?;
        kept.note(2, Outcome::Killed, 7, "b")?;
        drop(kept);
        let half = "0000000000000003\tkilled\t00000000";
        fs::write(&path, fs::read_to_string(&path)? + half)?;
        for _ in 0..2 {
            let mut kept = Kept::open(&path)?;
            let outcomes = [1, 2, 3].map(|key| kept.outcome(key));
            assert_eq!(outcomes, [Some(Outcome::Survived), Some(Outcome::Killed), None]);
            kept.note(2, Outcome::Killed, 8, "b")?;
        }
        fs::remove_file(&path)?;
        Ok(())
    }

    #[test]
    fn what_lives_is_tried_again_when_the_tests_change() -> Result<()> {
        let mut kept = Kept::default();
        kept.note(1, Outcome::Survived, 7, "")?;
        kept.note(2, Outcome::Killed, 7, "")?;
        assert_eq!((kept.known(1, 7), kept.known(1, 8)), (Some(Outcome::Survived), None));
        assert_eq!(kept.known(2, 8), Some(Outcome::Killed));
        Ok(())
    }
}
