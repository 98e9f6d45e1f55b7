//! Portcullis itself: the real binary with a configuration file, asked by its own command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};
use serde_json::Value;

use crate::deadline::{Stopwatch, pause, wait_until};
use crate::netns::Namespace;
use crate::process::{Process, Recipe};

const SOON: Duration = Duration::from_secs(15);

/// The binary that cargo built beside these tests, or the one that `PORTCULLIS_BIN` names.
pub fn binary() -> PathBuf {
    let built = std::env::var_os("PORTCULLIS_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        let directory =
            test.parent().and_then(Path::parent).expect("tests are built below the target directory");
        directory.join("portcullis")
    });
    assert!(built.is_file(), "{} is not built; run `cargo xtask test e2e`", built.display());
    built
}

/// Runs the command line to its end.
pub fn command(arguments: &[&str], directory: &Path) -> Output {
    let mut command = std::process::Command::new(binary());
    command.args(arguments).current_dir(directory).stdin(std::process::Stdio::null());
    command.output().expect("the binary can be run")
}

/// Where it runs, if not like the test itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// Its network.
    pub namespace: Option<&'a Namespace>,
    /// The process whose mounts it sees.
    pub mounts_of: Option<u32>,
    /// More variables of its environment.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Surroundings<'_> {
    fn recipe(&self, configuration: &Path) -> Recipe {
        let directory = configuration.parent().expect("a configuration lies in a directory");
        let file = configuration.display().to_string();
        let mut recipe = Recipe::new(binary(), directory).args(["run", "-c", &file]).within(self.namespace);
        if let Some(pid) = self.mounts_of {
            recipe = recipe.with_mounts_of(pid);
        }
        self.environment.iter().fold(recipe, |recipe, (name, value)| recipe.env(name, value))
    }
}

/// The running border.
#[derive(Debug)]
pub struct Portcullis {
    process: Process,
    /// The line that said it is ready.
    pub ready: String,
    /// How long it took until then.
    pub started_in: Duration,
    configuration: PathBuf,
}

impl Portcullis {
    /// Starts it and waits until it is ready.
    pub fn start(configuration: &Path, namespace: Option<&Namespace>) -> Self {
        Self::start_in(configuration, &Surroundings { namespace, ..Surroundings::default() })
    }

    /// Starts it where something is special, and waits until it is ready.
    pub fn start_in(configuration: &Path, surroundings: &Surroundings<'_>) -> Self {
        let since = Stopwatch::start();
        let process = surroundings.recipe(configuration).start();
        let ready = process.wait_for("ready:", SOON);
        let started_in = since.elapsed();
        Self { process, ready, started_in, configuration: configuration.to_owned() }
    }

    /// Starts it, and kills it so soon that it may not be ready.
    pub fn cut_short(configuration: &Path, surroundings: &Surroundings<'_>, after: Duration) {
        let mut process = surroundings.recipe(configuration).start();
        pause(after);
        process.kill();
    }

    /// Starts it where it cannot run, and waits for its end: the exit code, and what it said.
    #[track_caller]
    pub fn start_in_vain(configuration: &Path, surroundings: &Surroundings<'_>) -> (Option<i32>, String) {
        let mut process = surroundings.recipe(configuration).start();
        let code = process.wait(SOON).code();
        (code, process.whole_text())
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and the exit code.
    #[track_caller]
    pub fn terminate(&mut self) -> Option<i32> {
        self.process.signal(Signal::TERM);
        self.process.wait(SOON).code()
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        self.process.text_after(0)
    }

    /// Resident memory in kilobytes.
    pub fn memory_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it is running");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel counts memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kilobytes")
    }

    /// Lets it open so many more files and sockets than it has now.
    pub fn leave_open_files(&self, left: usize) {
        let taken = self.open_files();
        // The limit is the first number that may not be used.
        let free = (0..).filter(|number| !taken.contains(number)).nth(left);
        self.process.limit(Resource::Nofile, Rlimit { current: free, maximum: free });
    }

    /// The numbers of its open descriptors.
    pub fn open_files(&self) -> Vec<u64> {
        let names = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it is running");
        names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    /// Asks its command line with `--json`; panics where that fails.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> Value {
        let output = self.command(words);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{words:?}: {}{text}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error} in {text}"))
    }

    /// Runs its command line with `--json`, whatever comes of it.
    pub fn command(&self, words: &[&str]) -> Output {
        let file = self.configuration.display().to_string();
        let mut arguments = words.to_vec();
        arguments.extend(["-c", &file, "--json"]);
        command(&arguments, self.configuration.parent().expect("a configuration lies in a directory"))
    }

    /// The rows of a table: `registrations`, `calls`, `block list`, …
    #[track_caller]
    pub fn rows(&self, words: &[&str]) -> Vec<Value> {
        match self.ask(words) {
            Value::Array(rows) => rows,
            other => panic!("{words:?} gave no array but {other}"),
        }
    }

    /// All its events with this code, oldest first.
    #[track_caller]
    pub fn events(&self, code: &str) -> Vec<Value> {
        self.rows(&["events", "--code", code])
    }

    /// Waits for an event with this code that fits.
    #[track_caller]
    pub fn wait_event(&self, code: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait_until(&format!("an event {code} that fits"), SOON, || self.events(code).into_iter().find(&fits))
    }

    /// Waits until a table has so many rows, and tells them.
    #[track_caller]
    pub fn wait_rows(&self, words: &[&str], count: usize) -> Vec<Value> {
        wait_until(&format!("{count} rows of {words:?}"), SOON, || {
            Some(self.rows(words)).filter(|rows| rows.len() == count)
        })
    }

    /// The listener of a transport, as the ready line names it.
    #[track_caller]
    pub fn listener(&self, transport: &str) -> SocketAddr {
        let list = self.ready.split_once("ready:").map_or("", |(_, list)| list);
        let entry = list
            .split(',')
            .map(str::trim)
            .find_map(|entry| entry.strip_prefix(transport)?.trim().parse().ok());
        entry.unwrap_or_else(|| panic!("no {transport} in {:?}", self.ready))
    }
}
