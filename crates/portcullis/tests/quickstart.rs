//! The quickstart as a person starts it: the whole binary, real sockets, and what is printed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// What must be shown, in this order.
const STEPS: [&str; 14] = [
    "certificates",
    "lab PBX",
    "frontend",
    "phone 1001",
    "phone 1002",
    "call 1001 → 1002",
    "hidden inside",
    "audio",
    "hanging up",
    "another CA",
    "guessed names",
    "blocked",
    "burst of calls",
    "phone 1002 leaves",
];

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A process that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already where all went well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn portcullis(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

fn marked(mark: char, text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(mark)).map(str::trim_start).collect()
}

#[test]
fn once_shows_every_step_and_ends_well() {
    let scratch = Scratch::new("once");
    let directory = scratch.0.to_str().unwrap();
    let Output { status, stdout, stderr } = portcullis(&["quickstart", "--once", "--dir", directory]);
    let shown = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{shown}\n{}", String::from_utf8_lossy(&stderr));
    let seen = marked('✓', &shown);
    assert_eq!(seen.len(), STEPS.len(), "{shown}");
    for (line, step) in seen.iter().zip(STEPS) {
        assert!(line.starts_with(step), "{step} is not where it should be:\n{shown}");
    }
    assert!(marked('✗', &shown).is_empty() && shown.contains(directory), "{shown}");

    let file = scratch.0.join("portcullis.toml");
    let checked = portcullis(&["check", "-c", file.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    for secret in ["portcullis.toml", "certs/server.key", "certs/device-ca.key", "certs/009033010203.key"] {
        let mode = std::fs::metadata(scratch.0.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{secret} is for its owner alone");
    }
}

#[test]
fn what_cannot_be_seen_is_said_and_ends_badly() {
    let scratch = Scratch::new("starved");
    // Too few files for a phone, a PBX and a frontend.
    let shell = format!("ulimit -n 24; exec {BINARY} quickstart --once --dir \"$0\"");
    let output = Command::new("sh").arg("-c").arg(shell).arg(&scratch.0).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert_eq!(marked('✗', &shown).len(), 1, "{shown}");
    assert!(shown.contains("Too many open files") && shown.contains("portcullis.log"), "{shown}");
}

#[test]
fn a_directory_with_something_in_it_is_left_alone() {
    let scratch = Scratch::new("taken");
    std::fs::write(scratch.0.join("portcullis.toml"), "mine").unwrap();
    let output = portcullis(&["quickstart", "--once", "--dir", scratch.0.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not empty"));
    assert_eq!(std::fs::read(scratch.0.join("portcullis.toml")).unwrap(), b"mine");
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1);
}

#[test]
fn without_once_it_says_how_to_go_on_and_stays_until_it_is_ended() {
    let scratch = Scratch::new("stays");
    let mut command = Command::new(BINARY);
    command.arg("quickstart").arg("--dir").arg(&scratch.0).stdout(Stdio::piped());
    let mut running = Running(command.spawn().unwrap());
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut shown = String::new();
    while !shown.contains("Running until Ctrl-C") {
        let line = lines.next().unwrap_or_else(|| panic!("it ended:\n{shown}")).unwrap();
        shown.extend([&line, "\n"]);
    }
    for wanted in ["[[pbx]]", "baresip -f baresip", "009033010204.pem", "127.0.0.2:"] {
        assert!(shown.contains(wanted), "{wanted} is not in:\n{shown}");
    }

    let file = scratch.0.join("portcullis.toml");
    let registrations = portcullis(&["registrations", "--json", "-c", file.to_str().unwrap()]);
    let rows: serde_json::Value = serde_json::from_slice(&registrations.stdout).unwrap();
    let extensions: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["extension"].clone()).collect();
    assert_eq!(extensions, ["1001"], "1002 has left, 1001 stays on");

    kill_process(Pid::from_child(&running.0), Signal::INT).unwrap();
    assert!(running.0.wait().unwrap().success());
}
