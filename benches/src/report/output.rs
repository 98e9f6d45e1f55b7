//! Where a run writes, and what became of the run before it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json::Lines;

/// The lines of a run, and its table.
const LINES: &str = "results.jsonl";
const TABLE: &str = "report.txt";
/// How its plots begin; how they end is said beside them.
const PLOTS: [&str; 2] = ["latency-", "soak-"];
const PLOT: &str = ".svg";
/// What the run before has written lies there.
const PREVIOUS: &str = "previous";

/// The directory of a run.
#[derive(Debug)]
pub struct Output(PathBuf);

impl Output {
    /// Makes it; what an earlier run wrote there is moved to `previous`, and what was in that is gone.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let previous = directory.join(PREVIOUS);
        naming(directory, fs::create_dir_all(directory))?;
        let earlier = files_of_a_run(directory)?;
        if !earlier.is_empty() {
            naming(&previous, fs::create_dir_all(&previous))?;
            for older in files_of_a_run(&previous)? {
                naming(&older, fs::remove_file(&older))?;
            }
        }
        for path in earlier {
            let kept = path.file_name().map(|name| fs::rename(&path, previous.join(name)));
            naming(&path, kept.unwrap_or(Ok(())))?;
        }
        Ok(Self(directory.to_owned()))
    }

    /// Begins the lines with one about the machine and the run.
    pub fn lines(&self, about: &Value) -> io::Result<Lines> {
        Lines::create(self.0.join(LINES), about)
    }

    /// Writes the table; where.
    pub fn table(&self, text: &str) -> io::Result<PathBuf> {
        self.write(TABLE, text)
    }

    /// Writes a plot; where.
    pub fn plot(&self, name: &str, drawing: &str) -> io::Result<PathBuf> {
        self.write(&format!("{name}{PLOT}"), drawing)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        naming(&path, fs::write(&path, text))?;
        Ok(path)
    }
}

/// Whatever else lies there is not ours to move.
fn files_of_a_run(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let is_plot = |name: &str| name.ends_with(PLOT) && PLOTS.iter().any(|start| name.starts_with(start));
    let mut files = Vec::new();
    for entry in naming(directory, fs::read_dir(directory))? {
        let entry = naming(directory, entry)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name == LINES || name == TABLE || is_plot(name)) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// The fault says what it is about.
pub fn naming<T>(path: &Path, done: io::Result<T>) -> io::Result<T> {
    done.map_err(|fault| io::Error::new(fault.kind(), format!("{}: {fault}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_run_keeps_the_one_before_and_no_more() {
        let directory = std::env::temp_dir().join(format!("bench-output-{}", std::process::id()));
        let about = serde_json::json!({});
        let first = Output::open(&directory).unwrap();
        first.lines(&about).unwrap();
        first.table("first").unwrap();
        first.plot("soak-memory", "a plot").unwrap();
        fs::write(directory.join("notes.txt"), "mine").unwrap();
        let second = Output::open(&directory).unwrap();
        assert_eq!(names(&directory), ["notes.txt", PREVIOUS], "nothing of the first is among the second's");
        assert_eq!(names(&directory.join(PREVIOUS)), [TABLE, LINES, "soak-memory.svg"]);
        second.table("second").unwrap();
        Output::open(&directory).unwrap();
        assert_eq!(names(&directory.join(PREVIOUS)), [TABLE]);
        assert_eq!(fs::read_to_string(directory.join(PREVIOUS).join(TABLE)).unwrap(), "second");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_fault_names_its_path() {
        let fault = Output::open(Path::new("/proc/no-such")).unwrap_err().to_string();
        assert!(fault.starts_with("/proc/no-such: "), "{fault}");
    }
}
