//! Makes a failing run smaller: an earlier end, a prefix of its free decisions, then only those it needs.
//!
//! Each smaller run is run whole, and taken where it breaks the same rule. Nothing here is random.

use std::collections::BTreeSet;

use crate::decision::{Action, Actions, Decider};
use crate::failure::Failure;
use crate::run::{Plan, Report, run};

/// Runs at most: some minutes.
const RUNS_MAX: u64 = 4_000;

/// The smallest run that was found.
pub struct Shrunk {
    /// How it fails; its plan says how to run it.
    pub failure: Box<Failure>,
    /// How many runs it took to find.
    pub runs: u64,
}

/// Makes a failing run smaller. `progress` hears, after each run, how many there were and how many free
/// decisions are left.
pub fn shrink(failure: Box<Failure>, progress: impl FnMut(u64, usize)) -> Shrunk {
    shrink_by(run, failure, progress)
}

fn shrink_by(
    run: impl Fn(&Plan) -> Result<Report, Box<Failure>>,
    failure: Box<Failure>,
    progress: impl FnMut(u64, usize),
) -> Shrunk {
    let mut shrinker = Shrinker { run, actions: deeds_of(&failure), best: failure, runs: 0, progress };
    shrinker.end_early();
    shrinker.begin_only();
    shrinker.leave_out_deciders();
    shrinker.leave_out();
    shrinker.end_early();
    Shrunk { failure: shrinker.best, runs: shrinker.runs }
}

struct Shrinker<R, P> {
    run: R,
    best: Box<Failure>,
    /// What was done in it, in order.
    actions: Vec<Action>,
    runs: u64,
    progress: P,
}

impl<R: Fn(&Plan) -> Result<Report, Box<Failure>>, P: FnMut(u64, usize)> Shrinker<R, P> {
    /// Whether a run of so many steps with these actions alone breaks the same rule; then it is the best one.
    fn fails(&mut self, steps: u64, actions: &[Action]) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let only = Some(Actions(actions.iter().copied().collect()));
        let outcome = (self.run)(&Plan { seed: self.best.plan.seed, steps, only });
        let same = outcome.err().filter(|failure| failure.breaks_the_same_rule(&self.best));
        let is_same = same.is_some();
        if let Some(failure) = same {
            self.actions = deeds_of(&failure);
            self.best = failure;
        }
        (self.progress)(self.runs, self.actions.len());
        is_same
    }

    fn fails_with(&mut self, actions: &[Action]) -> bool {
        self.fails(self.best.plan.steps, actions)
    }

    /// The smallest size up to `most` for which a run fails, if failing grows with it.
    fn smallest(&mut self, most: u64, mut fails: impl FnMut(&mut Self, u64) -> bool) {
        let (mut low, mut high) = (0, most);
        while low < high {
            let middle = low.midpoint(high);
            if fails(self, middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
    }

    fn end_early(&mut self) {
        let steps = self.best.plan.steps.min(self.best.step);
        let actions = self.actions.clone();
        self.smallest(steps + 1, |own, steps| own.fails(steps, &actions));
    }

    fn begin_only(&mut self) {
        let all = self.actions.clone();
        self.smallest(all.len() as u64, |own, size| {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            own.fails_with(all.get(..size).unwrap_or(&all))
        });
    }

    fn leave_out_deciders(&mut self) {
        let deciders: BTreeSet<Decider> = self.actions.iter().map(|action| action.by).collect();
        for by in deciders {
            let rest: Vec<Action> = self.actions.iter().filter(|action| action.by != by).copied().collect();
            self.fails_with(&rest);
        }
    }

    /// Leaves out ever smaller parts, until no single action can be left out (delta debugging).
    fn leave_out(&mut self) {
        let mut size = self.actions.len().div_ceil(2);
        while size > 0 && self.runs < RUNS_MAX {
            let before = self.actions.len();
            let mut begin = 0;
            while begin < self.actions.len() {
                let mut rest = self.actions.clone();
                rest.drain(begin..(begin + size).min(rest.len()));
                // what is left has moved up to where the part was
                if !self.fails_with(&rest) {
                    begin += size;
                }
            }
            if size == 1 && self.actions.len() == before {
                return;
            }
            size = (size / 2).max(1).min(self.actions.len());
        }
    }
}

/// What was carried out, each action once, in order.
fn deeds_of(failure: &Failure) -> Vec<Action> {
    let mut seen = BTreeSet::new();
    let deeds = failure.deeds.iter().map(|deed| deed.action);
    deeds.filter(|action| seen.insert(*action)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Deed;
    use crate::oracle::Violation;
    use crate::world::Tally;

    /// A run that does 40 things, and fails where these are among them and it has 30 steps or more.
    fn fails_with(needed: &str) -> impl Fn(&Plan) -> Result<Report, Box<Failure>> {
        let needed: Actions = needed.parse().unwrap();
        let all: Actions = "phone0:1-15,net-pbx0:1-20,chaos:1-5".parse().unwrap();
        move |plan| {
            let done = all.0.iter().filter(|one| plan.only.as_ref().is_none_or(|only| only.0.contains(one)));
            let done: Vec<Action> = done.copied().collect();
            let oracle = if done.len() > 9 && done.len() % 7 == 3 { "another rule" } else { "the rule" };
            if plan.steps < 30 || !needed.0.iter().all(|one| done.contains(one)) {
                return Ok(Report { trace: 0, steps: plan.steps, tally: Tally::default() });
            }
            let at = wire::clock::Instant::ZERO;
            let deeds = done.into_iter().map(|action| Deed { action, what: "acts", step: 1, at }).collect();
            Err(Box::new(Failure::new(plan, 900, Violation::new(oracle, ""), deeds)))
        }
    }

    #[test]
    fn only_what_is_needed_is_left_and_the_end_comes_early() {
        for needed in ["net-pbx0:7,chaos:2", "phone0:3-6,chaos:5", "phone0:15", "none"] {
            let run = fails_with(needed);
            let failure = run(&Plan::new(7, 500)).unwrap_err();
            let shrunk = shrink_by(&run, failure, |_, _| {});
            let plan = shrunk.failure.plan;
            assert_eq!(plan.only, Some(needed.parse().unwrap()), "{needed}");
            assert_eq!((plan.seed, plan.steps, shrunk.failure.violation.oracle), (7, 30, "the rule"));
        }
    }
}
