//! Every record as a line of JSON, written as it comes: a run that is broken off has its figures.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::record::Record;

/// The file.
#[derive(Debug)]
pub struct Lines(File);

impl Lines {
    /// A new one, with a first line about the machine and the run.
    pub fn create(path: &Path, about: &Value) -> io::Result<Self> {
        let mut lines = Self(File::create(path)?);
        writeln!(lines.0, "{about}")?;
        Ok(lines)
    }

    /// One line more.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        writeln!(self.0, "{}", of(record))
    }
}

/// A record.
pub fn of(record: &Record) -> Value {
    let figures: Map<String, Value> =
        record.figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({
        "row": record.row,
        "system": record.system.name(),
        "round": record.round,
        "load": record.load,
        "curve": record.curve,
        "figures": figures,
        "faults": record.faults,
        "noisy": record.noisy,
        "crashed": record.crashed,
    })
}

/// The processor, how many of it there are, and the time of day.
pub fn machine() -> Value {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    json!({ "unix_time": time, "cpu": model.trim_start_matches([' ', '\t', ':']), "cpus": cpus, "kernel": kernel.trim() })
}
