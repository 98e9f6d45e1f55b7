//! A rule that did not hold: what is printed of it, and when two runs failed alike.

use std::fmt;

use wire::clock::Instant;

use crate::decision::Deed;
use crate::ladder::Ladder;
use crate::oracle::Violation;
use crate::run::Plan;
use crate::words::{seconds, with_seconds};

/// A rule that did not hold, and what led to it.
pub struct Failure {
    /// What was run.
    pub plan: Plan,
    /// The happening after which it did not hold.
    pub step: u64,
    /// Which rule, and what was seen.
    pub violation: Violation,
    /// The free decisions that had been carried out.
    pub deeds: Vec<Deed>,
    /// Over what went in and out up to then, as a report has it.
    pub trace: u64,
    pub(crate) at: Instant,
    pub(crate) events: String,
    pub(crate) ladder: Ladder,
}

/// So many deeds are printed; a run that was made smaller has fewer.
const DEEDS_SHOWN: usize = 40;

/// The oracle of panics.
pub(crate) const PANIC: &str = "nothing panics";

impl Failure {
    #[cfg(test)]
    pub(crate) fn new(plan: &Plan, step: u64, violation: Violation, deeds: Vec<Deed>) -> Self {
        let (at, events, ladder) = (Instant::ZERO, String::new(), Ladder::default());
        Self { plan: plan.clone(), step, violation, deeds, trace: 0, at, events, ladder }
    }

    /// Whether another run of the same plan did the same up to its end.
    pub fn is_as(&self, other: &Self) -> bool {
        let all = |of: &Self| (of.step, of.trace, of.violation.oracle);
        all(self) == all(other)
    }

    /// Whether another run failed as this one did; a panic has a place.
    pub(crate) fn breaks_the_same_rule(&self, other: &Self) -> bool {
        let place = |of: &Self| of.violation.seen.lines().next().map(str::to_owned);
        let oracle = self.violation.oracle;
        oracle == other.violation.oracle && (oracle != PANIC || place(self) == place(other))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { oracle, seen, call } = &self.violation;
        let (seed, secs) = (self.plan.seed, seconds(self.at));
        writeln!(f, "seed {seed} step {} at {secs:.3} s: oracle \"{oracle}\"", self.step)?;
        let seen = with_seconds(seen);
        writeln!(f, "{seen}\n\nevents:\n{}\n", self.events)?;
        let earlier = self.deeds.len().saturating_sub(DEEDS_SHOWN);
        writeln!(f, "free decisions ({} before these):", earlier)?;
        for Deed { action, what, step, at } in self.deeds.iter().skip(earlier) {
            writeln!(f, "{step:>7} {:>10.3}  {}:{} {what}", seconds(*at), action.by, action.number)?;
        }
        writeln!(f, "\nladder {call}:\n{}", self.ladder.print(call))?;
        write!(f, "trace {:016x}; again: {}", self.trace, self.plan)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}
