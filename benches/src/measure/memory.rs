//! Memory of a system with its phones, once it is at rest: freed buffers go back late.

use std::io;
use std::time::Duration;

use super::process::{kernel_memory_kb, memory_kb};

/// Memory is at rest when it has not moved by more than this share from one look to the next.
const AT_REST: f64 = 0.001;
const LOOK: Duration = Duration::from_millis(500);
/// Where others use the machine, the kernel's memory never rests.
const LOOKS_MAX: u32 = 6;

/// What is measured, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Of all processes: their own pages whole, shared ones by their share.
    pub processes_kb: u64,
    /// What the kernel of the whole machine cannot take back.
    pub kernel_kb: u64,
}

impl Memory {
    /// Now.
    pub fn read(pids: &[u32]) -> io::Result<Self> {
        let mut processes_kb = 0;
        for pid in pids {
            processes_kb += memory_kb(*pid)?;
        }
        Ok(Self { processes_kb, kernel_kb: kernel_memory_kb()? })
    }

    /// Reads until memory no longer moves; `wait` lets time pass.
    pub fn at_rest(pids: &[u32], mut wait: impl FnMut(Duration) -> io::Result<()>) -> io::Result<Self> {
        let mut last = Self::read(pids)?;
        for _ in 0..LOOKS_MAX {
            wait(LOOK)?;
            let now = Self::read(pids)?;
            let moved = now.processes_kb.abs_diff(last.processes_kb) + now.kernel_kb.abs_diff(last.kernel_kb);
            last = now;
            if moved as f64 <= now.processes_kb as f64 * AT_REST {
                break;
            }
        }
        Ok(last)
    }

    /// What each of so many phones costs: in the processes, and in the kernel, which holds both ends of every
    /// connection here, so that half of it is the system's.
    pub fn per_phone(self, before: Self, phones: u64) -> [f64; 2] {
        let each = |now: u64, then: u64| (now as f64 - then as f64) / phones as f64;
        [each(self.processes_kb, before.processes_kb), each(self.kernel_kb, before.kernel_kb) / 2.0]
    }
}
