//! Many seeds, on all cores.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use sim::{Failure, Plan, Report, Tally, run};

use crate::progress::{Progress, bar, clock, processor_time};

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
    /// Two runs of it did not do the same.
    Differs(Plan),
    /// It does not come to its end.
    Endless(Plan),
}

/// What came of a sweep.
pub(crate) struct Outcome {
    pub(crate) found: Vec<Found>,
    pub(crate) summary: Summary,
}

/// What was run, and what was seen.
pub(crate) struct Summary {
    seeds: u64,
    /// Of seeds that were run twice, both times.
    steps: u64,
    twice: u64,
    elapsed: Duration,
    processor: Duration,
    trace: u64,
    tally: Tally,
}

/// What a worker tells.
enum Note {
    Begins(usize, u64),
    Ended(usize, u64, Result<Report, Found>),
}

impl Sweep {
    /// Runs all seeds, or as many as there are up to the first failure.
    pub(crate) fn run(&self) -> Outcome {
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
        self.collect(&receiver, &stop)
    }

    fn collect(&self, receiver: &Receiver<Note>, stop: &AtomicBool) -> Outcome {
        let mut progress = Progress::new();
        let mut outcome = Outcome { found: Vec::new(), summary: Summary::new() };
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
                        println!("{}", found.title());
                    }
                    outcome.take(seed, result);
                    stop.fetch_or(!(self.keep_going || outcome.found.is_empty()), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
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
        (Err(one), Err(other)) if one.step == other.step => Err(Found::Broken(one)),
        _ => Err(Found::Differs(plan.clone())),
    }
}

impl Found {
    /// Of which seed.
    pub(crate) fn seed(&self) -> u64 {
        match self {
            Self::Broken(failure) => failure.plan.seed,
            Self::Differs(plan) | Self::Endless(plan) => plan.seed,
        }
    }

    /// In a line.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Broken(failure) => {
                format!("seed {}: \"{}\" in step {}", self.seed(), failure.violation.oracle, failure.step)
            }
            Self::Differs(plan) => format!("seed {}: two runs differ; again: {plan}", plan.seed),
            Self::Endless(plan) => format!("seed {}: it never ends; again: {plan}", plan.seed),
        }
    }
}

impl Outcome {
    fn take(&mut self, seed: u64, result: Result<Report, Found>) {
        let summary = &mut self.summary;
        summary.seeds += 1;
        match result {
            Ok(report) => {
                let times = if seed.is_multiple_of(TWICE_EVERY) { 2 } else { 1 };
                summary.twice += times - 1;
                summary.steps += report.steps * times;
                // a sum: whatever the order in which they end
                summary.trace = summary.trace.wrapping_add(report.trace);
                summary.tally.add(&report.tally);
            }
            Err(found) => self.found.push(found),
        }
    }
}

impl Summary {
    fn new() -> Self {
        let (elapsed, processor, tally) = (Duration::ZERO, Duration::ZERO, Tally::default());
        Self { seeds: 0, steps: 0, twice: 0, elapsed, processor, trace: 0, tally }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.elapsed.as_secs_f64();
        let Self { seeds, steps, twice, tally, .. } = self;
        writeln!(
            f,
            "{seeds} seeds ({twice} of them twice, with the same trace), {steps} steps in {}; {:.1} seeds/s, \
             {:.0} steps a millisecond of a core; trace {:016x}",
            clock(self.elapsed),
            *seeds as f64 / secs,
            *steps as f64 / 1_000.0 / self.processor.as_secs_f64(),
            self.trace
        )?;
        let Tally { answered, changed, audio, restarts: [border, pbx], .. } = tally;
        writeln!(f, "calls: {answered} answered, {changed} changed; {audio} packets of audio")?;
        writeln!(f, "restarts: {border} of the border, {pbx} of the PBX")?;
        writeln!(f, "events: {}", listed(&tally.events))?;
        writeln!(f, "free decisions: {}", listed(&tally.deeds))?;
        write!(f, "what came of them: {}", listed(&tally.sights))
    }
}

fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    let rows = counts.iter().map(|(name, count)| format!("{name} {count}"));
    rows.collect::<Vec<_>>().join(", ")
}
