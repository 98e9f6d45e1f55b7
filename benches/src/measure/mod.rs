//! What a system costs and how well it serves: CPU, memory, latency, and who else was on the machine.

pub mod cost;
pub mod cpus;
pub mod figures;
pub mod latency;
pub mod memory;
pub mod process;
pub mod time;
