//! One CPU for the relays, another for the load, so that neither takes the other's time.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The two CPUs; the same one twice where the machine has but one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    relays: usize,
    load: usize,
}

/// The first and the last CPU that this thread may use; to be asked before it binds itself to one.
pub(crate) fn two() -> io::Result<Cpus> {
    let may = sched_getaffinity(None)?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| may.is_set(*cpu));
    let relays = usable.next().ok_or_else(|| io::Error::other("no CPU to run on"))?;
    Ok(Cpus { relays, load: usable.next_back().unwrap_or(relays) })
}

impl Cpus {
    /// This thread, and what it starts from now on.
    pub(crate) fn stay_on_relays(self) -> io::Result<()> {
        stay_on(self.relays)
    }

    /// This thread alone.
    pub(crate) fn stay_on_load(self) -> io::Result<()> {
        stay_on(self.load)
    }
}

fn stay_on(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
