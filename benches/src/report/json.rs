//! Every record as a line of JSON, written as it comes: a run that is broken off has its figures.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::output::naming;
use super::record::Record;

/// The file.
#[derive(Debug)]
pub struct Lines {
    file: File,
    path: PathBuf,
}

impl Lines {
    /// A new one, with a first line about the machine and the run.
    pub fn create(path: PathBuf, about: &Value) -> io::Result<Self> {
        let file = naming(&path, File::create(&path))?;
        let mut lines = Self { file, path };
        lines.add(about)?;
        Ok(lines)
    }

    /// One line more.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        self.add(&of(record))
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn add(&mut self, line: &Value) -> io::Result<()> {
        let written = writeln!(self.file, "{line}");
        naming(&self.path, written)
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
