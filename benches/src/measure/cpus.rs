//! One CPU for the system that is measured, another for the load, so that neither takes the other's time.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The two CPUs; the same one twice where the machine has but one.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    system: usize,
    load: usize,
}

/// The first and the last CPU that this thread may use; to be asked before it binds itself to one.
pub fn two() -> io::Result<Cpus> {
    let may = sched_getaffinity(None)?;
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| may.is_set(*cpu));
    let system = usable.next().ok_or_else(|| io::Error::other("no CPU to run on"))?;
    Ok(Cpus { system, load: usable.next_back().unwrap_or(system) })
}

impl Cpus {
    /// Where this thread may be now.
    pub fn keep(self) -> io::Result<Kept> {
        Ok(Kept(sched_getaffinity(None)?))
    }

    /// This thread, and what it starts from now on.
    pub fn stay_on_system(self) -> io::Result<()> {
        stay_on(self.system)
    }

    /// This thread alone.
    pub fn stay_on_load(self) -> io::Result<()> {
        stay_on(self.load)
    }
}

/// Where a thread was before it was bound.
#[derive(Debug)]
pub struct Kept(CpuSet);

impl Kept {
    /// It may go there again.
    pub fn restore(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.0)?)
    }
}

fn stay_on(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
