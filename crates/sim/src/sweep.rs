//! Many seeds, on all cores.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use sim::{Failure, Plan, Report, Tally, run};

use crate::progress::{Progress, bar, clock, processor_time, say};
use crate::stop::Stop;

/// Of so many seeds one is run twice.
const TWICE_EVERY: u64 = 16;
/// A run that takes more of a processor never ends. The clock says nothing: the machine may be busy, or we stopped.
const RUN_MAX: Duration = Duration::from_secs(300);
/// How often the progress is looked at where nothing else happens.
const LOOK: Duration = Duration::from_millis(200);

/// What to run.
pub(crate) struct Sweep {
    pub(crate) from: u64,
    pub(crate) seeds: u64,
    pub(crate) steps: u64,
    pub(crate) jobs: usize,
    pub(crate) keep_going: bool,
}

/// What is wrong with a seed.
pub(crate) enum Found {
    /// A rule does not hold.
    Broken(Box<Failure>),
    /// Two runs of it did not do the same: what came of each.
    Differs(Plan, Box<[Result<Report, Box<Failure>>; 2]>),
    /// It does not come to its end.
    Endless(Plan),
}

/// What came of a sweep.
pub(crate) struct Outcome {
    pub(crate) found: Vec<Found>,
    pub(crate) summary: Summary,
    /// So many were begun, from the first on.
    pub(crate) begun: u64,
}

/// What was run, and what was seen.
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    failed: u64,
    /// Of seeds that were run twice, both times; of those that failed too.
    steps: u64,
    twice: u64,
    elapsed: Duration,
    processor: Duration,
    /// Of those that kept every rule.
    trace: u64,
    tally: Tally,
}

/// What a worker tells.
enum Note {
    Begins(usize, u64),
    Ended(usize, u64, Result<Report, Found>),
}

impl Sweep {
    /// Runs all seeds, or as many as there are up to the first failure or a signal.
    pub(crate) fn run(&self, wish: &Stop) -> Outcome {
        let (sender, receiver) = mpsc::channel();
        let next = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        for worker in 0..self.jobs {
            let (next, stop, sender) = (Arc::clone(&next), Arc::clone(&stop), sender.clone());
            let (from, seeds, steps) = (self.from, self.seeds, self.steps);
            // not scoped: a run that never ends must not keep the others from being told
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= seeds || work(worker, from + place, steps, &sender).is_none() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut outcome = self.collect(&receiver, &stop, wish);
        outcome.begun = next.load(Ordering::Relaxed).min(self.seeds);
        outcome
    }

    fn collect(&self, receiver: &Receiver<Note>, stop: &AtomicBool, wish: &Stop) -> Outcome {
        let mut progress = Progress::new();
        let mut outcome = Outcome { found: Vec::new(), summary: Summary::new(), begun: 0 };
        let mut running: BTreeMap<usize, (u64, Duration)> = BTreeMap::new();
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(Note::Begins(worker, seed)) => {
                    running.insert(worker, (seed, processor_time()));
                }
                Ok(Note::Ended(worker, seed, result)) => {
                    running.remove(&worker);
                    if let Err(found) = &result {
                        progress.end();
                        say(found.title());
                    }
                    outcome.take(seed, result);
                    stop.fetch_or(!(self.keep_going || outcome.found.is_empty()), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if wish.signal().is_some() && !stop.swap(true, Ordering::Relaxed) {
                progress.end();
                say("the runs that have begun end first; another signal ends at once");
            }
            let (elapsed, used) = (progress.elapsed(), processor_time());
            let endless = |since: Duration| (used - since) / u32::try_from(self.jobs).unwrap_or(1) > RUN_MAX;
            if let Some((seed, _)) = running.values().find(|(_, since)| endless(*since)) {
                outcome.found.push(Found::Endless(Plan::new(*seed, self.steps)));
                break;
            }
            progress.line(|| self.line(&outcome, elapsed));
        }
        progress.end();
        outcome.summary.elapsed = progress.elapsed();
        outcome.summary.processor = processor_time();
        outcome
    }

    fn line(&self, outcome: &Outcome, elapsed: Duration) -> String {
        let Summary { seeds, steps, .. } = outcome.summary;
        let rate = seeds as f64 / elapsed.as_secs_f64();
        let left = (self.seeds - seeds) as f64 / rate;
        let left = Duration::try_from_secs_f64(left).map_or("?".to_owned(), clock);
        let failed = match outcome.found.len() {
            0 => String::new(),
            failed => format!(", {failed} FAILED"),
        };
        format!(
            "[{}] {seeds}/{} seeds, {rate:.1} seeds/s, {:.0} steps/s, {left} left{failed}",
            bar(seeds, self.seeds),
            self.seeds,
            steps as f64 / elapsed.as_secs_f64()
        )
    }
}

/// Runs a seed, and tells of it; none where nobody listens any more.
fn work(worker: usize, seed: u64, steps: u64, sender: &Sender<Note>) -> Option<()> {
    sender.send(Note::Begins(worker, seed)).ok()?;
    let plan = Plan::new(seed, steps);
    let result =
        if seed.is_multiple_of(TWICE_EVERY) { run_twice(&plan) } else { run(&plan).map_err(Found::Broken) };
    sender.send(Note::Ended(worker, seed, result)).ok()
}

/// Runs a plan twice; both runs must do the same.
pub(crate) fn run_twice(plan: &Plan) -> Result<Report, Found> {
    match (run(plan), run(plan)) {
        (Ok(one), Ok(other)) if one == other => Ok(one),
        (Err(one), Err(other)) if one.is_as(&other) => Err(Found::Broken(one)),
        (one, other) => Err(Found::Differs(plan.clone(), Box::new([one, other]))),
    }
}

impl Found {
    /// Of which seed.
    pub(crate) fn seed(&self) -> u64 {
        match self {
            Self::Broken(failure) => failure.plan.seed,
            Self::Differs(plan, _) | Self::Endless(plan) => plan.seed,
        }
    }

    /// In a line.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Broken(failure) => {
                format!("seed {}: \"{}\" in step {}", self.seed(), failure.violation.oracle, failure.step)
            }
            Self::Differs(plan, runs) => {
                let [one, other] = (**runs).each_ref().map(|run| match run {
                    Ok(Report { steps, trace, .. }) => {
                        format!("every rule held, {steps} steps, trace {trace:016x}")
                    }
                    Err(failure) => format!(
                        "\"{}\" in step {}, trace {:016x}",
                        failure.violation.oracle, failure.step, failure.trace
                    ),
                });
                format!("seed {}: two runs differ: {one}; then {other}; again: {plan}", plan.seed)
            }
            Self::Endless(plan) => format!("seed {}: it never ends; again: {plan}", plan.seed),
        }
    }
}

impl Outcome {
    fn take(&mut self, seed: u64, result: Result<Report, Found>) {
        let summary = &mut self.summary;
        let times = if seed.is_multiple_of(TWICE_EVERY) { 2 } else { 1 };
        summary.seeds += 1;
        match result {
            Ok(report) => {
                summary.twice += times - 1;
                summary.steps += report.steps * times;
                // a sum: whatever the order in which they end
                summary.trace = summary.trace.wrapping_add(report.trace);
                summary.tally.add(&report.tally);
            }
            Err(found) => {
                summary.failed += 1;
                summary.steps += match &found {
                    Found::Broken(failure) => failure.step * times,
                    Found::Differs(_, runs) => runs.iter().map(steps_of).sum(),
                    Found::Endless(_) => 0,
                };
                self.found.push(found);
            }
        }
    }
}

impl Summary {
    fn new() -> Self {
        let (elapsed, processor, tally) = (Duration::ZERO, Duration::ZERO, Tally::default());
        Self { seeds: 0, failed: 0, steps: 0, twice: 0, elapsed, processor, trace: 0, tally }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, failed, steps, twice, .. } = self;
        let (secs, processor_ms) = (self.elapsed.as_secs_f64(), self.processor.as_secs_f64() * 1_000.0);
        write!(f, "{seeds} seeds ({twice} of them twice, with the same trace")?;
        if *failed > 0 {
            write!(f, "; {failed} FAILED")?;
        }
        write!(
            f,
            "), {steps} steps in {}; {:.1} seeds/s, {:.0} steps a millisecond of a core",
            clock(self.elapsed),
            *seeds as f64 / secs,
            *steps as f64 / processor_ms,
        )?;
        match (seeds - failed, failed) {
            (0, _) => writeln!(f)?,
            (_, 0) => writeln!(f, "; trace {:016x}", self.trace)?,
            (kept, _) => writeln!(f, "; trace of the {kept} that kept every rule {:016x}", self.trace)?,
        }
        write!(f, "{}", Seen(&self.tally))
    }
}

/// What was seen, for people to read.
pub(crate) struct Seen<'a>(pub(crate) &'a Tally);

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { answered, changed, audio, restarts: [border, pbx], .. } = self.0;
        writeln!(f, "calls: {answered} answered, {changed} changed; {audio} packets of audio")?;
        writeln!(f, "restarts: {border} of the border, {pbx} of the PBX")?;
        writeln!(f, "events: {}", listed(&self.0.events))?;
        writeln!(f, "free decisions: {}", listed(&self.0.deeds))?;
        write!(f, "what came of them: {}", listed(&self.0.sights))
    }
}

fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    let rows = counts.iter().map(|(name, count)| format!("{name} {count}"));
    rows.collect::<Vec<_>>().join(", ")
}

fn steps_of(run: &Result<Report, Box<Failure>>) -> u64 {
    run.as_ref().map_or_else(|failure| failure.step, |report| report.steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(steps: u64, trace: u64) -> Result<Report, Box<Failure>> {
        Ok(Report { trace, steps, tally: Tally::default() })
    }

    #[test]
    fn a_signal_ends_a_sweep_and_all_that_was_begun_is_counted() -> std::io::Result<()> {
        let stop = Stop::listen()?;
        assert_eq!(stop.signal(), None);
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM)?;
        assert_eq!(stop.signal(), Some(15));
        let sweep = Sweep { from: 7, seeds: 1_000_000, steps: 10, jobs: 2, keep_going: false };
        let outcome = sweep.run(&stop);
        assert!(outcome.begun < 1_000, "{} were begun", outcome.begun);
        assert_eq!(outcome.summary.seeds, outcome.begun);
        Ok(())
    }

    #[test]
    fn runs_that_differ_are_both_told_and_counted() {
        let mut outcome = Outcome { found: Vec::new(), summary: Summary::new(), begun: 2 };
        outcome.take(15, kept(30, 0xa).map_err(Found::Broken));
        outcome.take(16, Err(Found::Differs(Plan::new(16, 5), Box::new([kept(40, 0xb), kept(41, 0xc)]))));
        let title = outcome.found[0].title();
        for run in ["40 steps, trace 000000000000000b", "41 steps, trace 000000000000000c"] {
            assert!(title.contains(run), "{title}");
        }
        let words = outcome.summary.to_string();
        assert!(
            words.starts_with("2 seeds (0 of them twice, with the same trace; 1 FAILED), 111 steps"),
            "{words}"
        );
        assert!(words.contains("trace of the 1 that kept every rule 000000000000000a"), "{words}");
    }
}
