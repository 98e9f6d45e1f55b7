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

/// What came of it when it was last tried.
struct Last {
    outcome: Outcome,
    /// The tests and the simulation then.
    against: u64,
    /// How often it did not end, of all times.
    timeouts: usize,
}

impl Last {
    /// Not a first timeout: perhaps the machine was busy.
    fn believed(&self) -> Option<Outcome> {
        (self.outcome != Outcome::Timeout || self.timeouts > 1).then_some(self.outcome)
    }
}

/// All results by the mutants' keys.
#[derive(Default)]
pub(super) struct Kept {
    results: BTreeMap<u64, Last>,
    file: Option<File>,
}

impl Kept {
    /// Reads what is there; of several results of a mutant the last one counts.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).unwrap_or_default();
        // the last line of a run that was killed may be half a line
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let mut kept = Self::default();
        for (key, outcome, against) in whole.filter_map(parse) {
            kept.remember(key, outcome, against);
        }
        let cannot = || format!("cannot write {}", path.display());
        let mut file = OpenOptions::new().create(true).append(true).open(path).with_context(cannot)?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(file).with_context(cannot)?;
        }
        kept.file = Some(file);
        Ok(kept)
    }

    fn remember(&mut self, key: u64, outcome: Outcome, against: u64) {
        let before = self.results.get(&key).map_or(0, |last| last.timeouts);
        let timeouts = before + usize::from(outcome == Outcome::Timeout);
        self.results.insert(key, Last { outcome, against, timeouts });
    }

    /// Keeps a result, and what it was tried against.
    pub(super) fn note(&mut self, key: u64, outcome: Outcome, against: u64, name: &str) -> Result<()> {
        self.remember(key, outcome, against);
        if let Some(file) = &mut self.file {
            writeln!(file, "{key:016x}\t{}\t{against:016x}\t{name}", outcome.word())
                .context("cannot keep a result")?;
        }
        Ok(())
    }

    /// What came of it in the end; none where a trial is still to come.
    pub(super) fn settled(&self, key: u64) -> Option<Outcome> {
        self.results.get(&key)?.believed().filter(|outcome| *outcome != Outcome::PassedTests)
    }

    /// What is known of it, where it is to be tried against this.
    pub(super) fn known(&self, key: u64, against: u64) -> Option<Outcome> {
        let last = self.results.get(&key)?;
        last.believed().filter(|outcome| !outcome.is_alive() || last.against == against)
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
            let outcomes = [1, 2, 3].map(|key| kept.settled(key));
            assert_eq!(outcomes, [Some(Outcome::Survived), Some(Outcome::Killed), None]);
            kept.note(2, Outcome::Killed, 8, "b")?;
        }
        fs::remove_file(&path)?;
        Ok(())
    }

    #[test]
    fn what_did_not_end_once_is_tried_once_more() -> Result<()> {
        let mut kept = Kept::default();
        kept.note(1, Outcome::Timeout, 7, "")?;
        assert_eq!((kept.known(1, 7), kept.settled(1)), (None, None));
        kept.note(2, Outcome::Timeout, 7, "")?;
        kept.note(2, Outcome::Killed, 7, "")?;
        assert_eq!(kept.settled(2), Some(Outcome::Killed), "the machine was busy");
        // where it is the simulation that does not end, the tests pass each time
        for outcome in [Outcome::PassedTests, Outcome::Timeout] {
            kept.note(1, outcome, 7, "")?;
        }
        assert_eq!((kept.known(1, 8), kept.settled(1)), (Some(Outcome::Timeout), Some(Outcome::Timeout)));
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
