//! One CPU for the relays, another for the load, so that neither takes the other's time.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The two CPUs; the same one twice where the machine has but one.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    relays: usize,
    load: usize,
}

/// The CPUs that this process may use: the first and the last. Each is asked for anew, so it is read before
/// this process binds itself to one.
pub fn two() -> io::Result<Cpus> {
    let may = whole_machine()?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| may.is_set(*cpu));
    let relays = usable.next().ok_or_else(|| io::Error::other("no CPU to run on"))?;
    Ok(Cpus { relays, load: usable.last().unwrap_or(relays) })
}

/// What the process was started with: its own limits, not those of this thread.
fn whole_machine() -> io::Result<CpuSet> {
    static STARTED_WITH: std::sync::OnceLock<CpuSet> = std::sync::OnceLock::new();
    if let Some(started) = STARTED_WITH.get() {
        return Ok(*started);
    }
    let started = sched_getaffinity(None)?;
    Ok(*STARTED_WITH.get_or_init(|| started))
}

impl Cpus {
    /// This thread, and what it starts from now on.
    pub fn stay_on_relays(self) -> io::Result<()> {
        stay_on(self.relays)
    }

    /// This thread alone.
    pub fn stay_on_load(self) -> io::Result<()> {
        stay_on(self.load)
    }
}

fn stay_on(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
