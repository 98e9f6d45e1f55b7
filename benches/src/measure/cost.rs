//! CPU of a system over a time, and the CPU that nobody of ours used: noise.

use std::io;
use std::time::Duration;

use super::process::{cpu_time, datagrams_dropped, machine_busy};
use super::time::Nanos;

/// A run in which others used more than this share of a CPU is noisy.
pub const NOISY: f64 = 0.2;

/// The counters at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Nanos,
    system: Duration,
    own: Duration,
    busy: [Duration; 2],
    processes: usize,
    dropped: u64,
}

/// What a time cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// How long it was.
    pub lasted: Duration,
    /// CPU of all processes and threads of the system.
    pub system: Duration,
    /// Share of a CPU that the generator took, its PBX included.
    pub generator: f64,
    /// Share of a CPU that neither of them nor the idle loop used.
    pub alien: f64,
    /// Share of a CPU that the hypervisor gave to others.
    pub steal: f64,
    /// Datagrams that a receiver, whoever it was, was too slow for.
    pub dropped: u64,
    /// A process of the system went away.
    pub crashed: bool,
}

impl Sample {
    /// Now.
    pub fn take(system: &[u32]) -> io::Result<Self> {
        let mut spent = Duration::ZERO;
        for pid in system {
            spent += cpu_time(*pid).unwrap_or_default();
        }
        Ok(Self {
            at: Nanos::now(),
            system: spent,
            own: cpu_time(std::process::id())?,
            busy: machine_busy()?,
            processes: system.len(),
            dropped: datagrams_dropped()?,
        })
    }

    /// What it cost since an earlier one.
    pub fn since(&self, earlier: &Self) -> Cost {
        let lasted = self.at.since(earlier.at);
        let share = |time: Duration| time.as_secs_f64() / lasted.as_secs_f64().max(1e-9);
        let system = self.system.saturating_sub(earlier.system);
        let own = self.own.saturating_sub(earlier.own);
        let [busy, steal] = [0, 1].map(|which| self.busy[which].saturating_sub(earlier.busy[which]));
        Cost {
            lasted,
            system,
            generator: share(own),
            alien: share(busy.saturating_sub(system + own)),
            steal: share(steal),
            dropped: self.dropped.saturating_sub(earlier.dropped),
            crashed: self.processes < earlier.processes || self.processes == 0,
        }
    }
}
