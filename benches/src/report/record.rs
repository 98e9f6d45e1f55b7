//! What was measured of one system in one round.

use std::collections::BTreeMap;

use crate::load::phones::Outcome;
use crate::measure::cost::{Cost, NOISY};
use crate::measure::latency::{Latencies, SHARES};
use crate::systems::System;

/// CPU of the system for each operation.
pub const CPU: &str = "cpu_us";
/// Operations that were done, of those that were begun.
pub const DONE: &str = "done_percent";
/// Operations begun a second.
pub const RATE: &str = "rate";
/// Share of a CPU that the generator took.
pub const GENERATOR: &str = "generator_percent";
/// Whether the generator was at its own end at the first rate that was not clean: the system might do more.
pub const LIMITED: &str = "generator_limited";

/// One measurement.
#[derive(Clone, Debug)]
pub struct Record {
    /// The row that it belongs to.
    pub row: &'static str,
    /// Of whom.
    pub system: System,
    /// In which round.
    pub round: u32,
    /// At which load: operations a second, or sessions.
    pub load: f64,
    /// Whether it is a point of a curve, and not the row's own figure.
    pub curve: bool,
    /// By name, which ends in its unit.
    pub figures: BTreeMap<&'static str, f64>,
    /// Operations that failed, by what became of them.
    pub faults: BTreeMap<String, u64>,
    /// Whether others used the machine meanwhile.
    pub noisy: bool,
    /// Whether a process of the system went away: no figure counts.
    pub crashed: bool,
}

impl Record {
    /// Without figures.
    pub fn new(row: &'static str, system: System, round: u32, load: f64) -> Self {
        Self {
            row,
            system,
            round,
            load,
            curve: false,
            figures: BTreeMap::new(),
            faults: BTreeMap::new(),
            noisy: false,
            crashed: false,
        }
    }

    /// With one figure more.
    pub fn with(mut self, name: &'static str, value: f64) -> Self {
        self.figures.insert(name, value);
        self
    }

    /// With what a job cost and how long its operations took.
    pub fn with_job(self, outcome: &Outcome, cost: &Cost) -> Self {
        let mut record = self.with_cost(cost, outcome.done).with_latency(&outcome.latency);
        record.faults.clone_from(&outcome.faults);
        record
            .with(DONE, 100.0 * outcome.done as f64 / (outcome.asked as f64).max(1.0))
            .with(RATE, outcome.rate())
            .with("done", outcome.done as f64)
    }

    /// With what so many operations cost.
    pub fn with_cost(mut self, cost: &Cost, operations: u64) -> Self {
        self.noisy |= cost.alien > NOISY;
        self.crashed |= cost.crashed;
        if operations > 0 {
            self.figures.insert(CPU, cost.system.as_secs_f64() * 1e6 / operations as f64);
        }
        self.with("core_percent", 100.0 * cost.system.as_secs_f64() / cost.lasted.as_secs_f64().max(1e-9))
            .with(GENERATOR, 100.0 * cost.generator)
            .with("alien_cores", cost.alien)
            .with("steal_cores", cost.steal)
            .with("dropped", cost.dropped as f64)
    }

    /// With the quantiles of these.
    pub fn with_latency(mut self, latencies: &Latencies) -> Self {
        if let Some(quantiles) = latencies.quantiles() {
            self.figures.extend(SHARES.iter().map(|(name, _)| *name).zip(quantiles));
        }
        self
    }

    /// As a point of a curve.
    pub fn on_curve(mut self) -> Self {
        self.curve = true;
        self
    }

    /// A figure by name.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }
}
