//! What was measured: the machine, the commit, and everybody's version.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::systems::{Programs, find_program};

/// Peers, and how each is asked for its version.
const PEERS: [(&str, &str); 2] = [("kamailio", "-v"), ("rtpengine", "--version")];

/// Of one run.
#[derive(Clone, Debug)]
pub struct About {
    /// Of the tree that this kit was built from, with `-dirty` where it was changed since.
    commit: Option<String>,
    /// Programs, each with what it says of itself.
    versions: Vec<(String, String)>,
    cpu: String,
    cpus: usize,
    kernel: String,
}

impl About {
    /// Asks the system, git and each program.
    pub fn ask(programs: &Programs) -> Self {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let product = ("portcullis".to_owned(), said(&programs.portcullis, "--version"));
        let peers = PEERS
            .iter()
            .filter_map(|(name, option)| Some(((*name).to_owned(), said(&find_program(name)?, option))));
        Self {
            commit: commit(),
            versions: std::iter::once(product)
                .chain(peers)
                .filter_map(|(name, version)| Some((name, version?)))
                .collect(),
            cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }

    /// As a line among the figures, with the time of day.
    pub fn to_json(&self) -> Value {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        let versions = self.versions.iter().map(|(name, version)| (name.clone(), json!(version)));
        json!({
            "machine": { "unix_time": time, "cpu": self.cpu, "cpus": self.cpus, "kernel": self.kernel },
            "commit": self.commit,
            "versions": versions.collect::<Map<_, _>>(),
        })
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        let versions: Vec<&str> = self.versions.iter().map(|(_, version)| version.as_str()).collect();
        writeln!(f, "commit {commit}; {}", versions.join(", "))?;
        writeln!(f, "{} CPUs, {}, Linux {}", self.cpus, self.cpu, self.kernel)
    }
}

fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"]);
    first_line(git)
}

/// `kamailio 5.6.3`, whatever stands before and behind it.
fn said(program: &Path, option: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(option);
    let name = program.file_name()?.to_str()?;
    let line = first_line(command)?;
    let line = line.trim_start_matches("Version:").trim_start_matches("version:").trim();
    let version = line.trim_start_matches(name).split_ascii_whitespace().next()?;
    Some(format!("{name} {version}"))
}

fn first_line(mut command: Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    // one of them says it to standard error
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_asked_for_their_versions() {
        let echo = Path::new("/bin/echo");
        assert_eq!(said(echo, "version: echo 5.6.3 (x86_64/linux)").as_deref(), Some("echo 5.6.3"));
        assert_eq!(said(echo, "Version: 10.5.3.5-1").as_deref(), Some("echo 10.5.3.5-1"));
        assert_eq!(said(echo, "echo 0.1.0").as_deref(), Some("echo 0.1.0"));
        assert_eq!(said(Path::new("/bin/false"), "-v"), None);
        assert_eq!(said(Path::new("/no/such/program"), "-v"), None);
    }
}
