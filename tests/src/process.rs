//! Programs that a test runs: found by path, logged, and ended by the handle that started them.
//!
//! Each runs in a process group of its own, so that its children end with it. They also end when the test is
//! killed: `setpriv` asks the kernel for that, and one thread that lives as long as the tests starts them all,
//! because the kernel means the thread when it says parent. Never ends a process that it did not start.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, kill_process_group, prlimit, setrlimit,
};

use crate::deadline::{Deadline, wait_until};
use crate::netns::Namespace;

/// Lines of a log that a failure shows.
const SHOWN_LINES: usize = 60;

/// Where a program is; panics with what to do where it is not.
pub fn program(name: &str) -> PathBuf {
    let mut directories = std::env::var_os("PATH").unwrap_or_default();
    directories.push(":/usr/local/sbin:/usr/sbin:/sbin");
    std::env::split_paths(&directories)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; `cargo xtask test` says how, or installs it"))
}

/// Lets this process, and those it starts, have many open files, as far as the system allows.
pub fn allow_open_files(count: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        limit.current = Some(limit.maximum.map_or(count, |maximum| maximum.min(count)));
        setrlimit(Resource::Nofile, limit).expect("a limit below the maximum may be set");
    }
}

/// How to start a program.
#[derive(Debug)]
pub struct Recipe {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    /// What `nsenter` enters first.
    namespaces: Vec<String>,
}

impl Recipe {
    /// A program that runs in `directory` and logs there.
    pub fn new(program: impl Into<PathBuf>, directory: &Path) -> Self {
        let program = program.into();
        let name = program.file_name().expect("a program has a name").to_string_lossy().into_owned();
        let directory = directory.to_owned();
        let (arguments, environment, namespaces) = Default::default();
        Self { name, program, arguments, directory, environment, namespaces }
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The name of its log, where one program runs twice.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Within a network namespace, where there is one.
    #[must_use]
    pub fn within(mut self, namespace: Option<&Namespace>) -> Self {
        self.namespaces.extend(namespace.map(|it| format!("--net=/proc/{}/ns/net", it.pid())));
        self
    }

    /// Within the mounts that this process sees.
    #[must_use]
    pub fn with_mounts_of(mut self, pid: u32) -> Self {
        self.namespaces.push(format!("--mount=/proc/{pid}/ns/mnt"));
        // Else the working directory would be the root.
        self.namespaces.push(format!("--wdns={}", self.directory.display()));
        self
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it.
    pub fn start(self) -> Process {
        let mut command = Command::new(program("setpriv"));
        command.args(["--pdeathsig", "KILL", "--"]);
        if !self.namespaces.is_empty() {
            command.arg(program("nsenter")).args(&self.namespaces).arg("--");
        }
        if !self.environment.is_empty() {
            // Not for the programs before it: a preloaded library is meant for this one alone.
            let words = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
            command.arg(program("env")).args(words);
        }
        command.arg(&self.program).args(&self.arguments).current_dir(&self.directory).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            spawn(command).unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.name));
        let log = Arc::new(Log::default());
        let path = self.directory.join(format!("{}.log", self.name));
        let file = Arc::new(Mutex::new(File::create(path).expect("a log can be written")));
        log.follow(child.stdout.take().expect("its output is piped"), file.clone());
        log.follow(child.stderr.take().expect("its errors are piped"), file);
        Process { name: self.name, child, log }
    }
}

/// Starts a program from the one thread that starts them all.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                answer.send(command.spawn()).expect("whoever ordered waits");
            }
        });
        Mutex::new(sender)
    });
    let (answer, started) = mpsc::channel();
    starter.lock().unwrap().send((command, answer)).expect("the starting thread lives");
    started.recv().expect("the starting thread answers")
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
}

impl Process {
    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The number of lines so far, to look only at later ones.
    pub fn mark(&self) -> usize {
        self.log.lines.lock().unwrap().len()
    }

    /// Waits for a line that contains `text`, from the beginning of the log.
    #[track_caller]
    pub fn wait_for(&self, text: &str, within: Duration) -> String {
        self.wait_after(0, text, within)
    }

    /// Waits for a line that contains `text`, after a mark.
    #[track_caller]
    pub fn wait_after(&self, mark: usize, text: &str, within: Duration) -> String {
        match self.log.wait(mark, within, |line| line.contains(text)) {
            Some(line) => line,
            None => panic!(
                "{}: no line with {text:?} within {within:?}, or before its end; its log ends:\n{}",
                self.name,
                self.tail()
            ),
        }
    }

    /// All lines after a mark, joined.
    pub fn text_after(&self, mark: usize) -> String {
        self.log.lines.lock().unwrap().get(mark..).unwrap_or_default().join("\n")
    }

    /// All lines of a program that has ended.
    pub fn whole_text(&self) -> String {
        wait_until("the output of an ended program is read", Duration::from_secs(5), || {
            (self.log.open.load(Ordering::SeqCst) == 0).then_some(())
        });
        self.text_after(0)
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let name = self.name.clone();
        let ended = {
            let child = &mut self.child;
            let deadline = Deadline::after(within);
            loop {
                match child.try_wait().expect("a child can be asked") {
                    Some(status) => break Some(status),
                    None if deadline.left().is_none() => break None,
                    None => std::thread::park_timeout(Duration::from_millis(5)),
                }
            }
        };
        ended.unwrap_or_else(|| {
            panic!("{name} has not ended within {within:?}; its log ends:\n{}", self.tail())
        })
    }

    /// Asks it to end (SIGTERM) and waits for that.
    #[track_caller]
    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(within)
    }

    /// `kill -9`, of its children too.
    pub fn kill(&mut self) {
        let pid = Pid::from_child(&self.child);
        if self.is_running() {
            // The group may be gone between the question and the signal: that is what was wanted.
            let _already_gone = kill_process_group(pid, Signal::KILL);
            self.child.wait().expect("a child can be waited for");
        }
    }

    /// Sets a limit of the program itself.
    pub fn limit(&self, resource: Resource, limit: Rlimit) {
        prlimit(Some(Pid::from_child(&self.child)), resource, limit).expect("a child can be limited");
    }

    /// Sends a signal to the program itself.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
    }

    /// Stops it where it is, with its children, and lets nothing end.
    pub fn freeze(&self) {
        kill_process_group(Pid::from_child(&self.child), Signal::STOP).expect("a child can be stopped");
    }

    /// Lets it go on, with its children.
    pub fn thaw(&self) {
        kill_process_group(Pid::from_child(&self.child), Signal::CONT).expect("a child can go on");
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let lines = self.log.lines.lock().unwrap();
        lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, self.tail());
        }
    }
}

/// The lines that a program wrote, in order.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    /// Outputs that are still open.
    open: AtomicUsize,
    grown: Condvar,
}

impl Log {
    /// Copies an output to the log and to a file, until it ends.
    fn follow(self: &Arc<Self>, output: impl Read + Send + 'static, file: Arc<Mutex<File>>) {
        let log = Arc::clone(self);
        log.open.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                // A full disk must not end the reading, or the program would stand still.
                let _written = writeln!(file.lock().unwrap(), "{line}");
                log.lines.lock().unwrap().push(line);
                log.grown.notify_all();
            }
            let _lines = log.lines.lock().unwrap();
            log.open.fetch_sub(1, Ordering::SeqCst);
            log.grown.notify_all();
        });
    }

    fn wait(&self, mark: usize, within: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Deadline::after(within);
        let mut lines = self.lines.lock().unwrap();
        let mut seen = mark;
        loop {
            if let Some(found) = lines.get(seen..).unwrap_or_default().iter().find(|line| wanted(line)) {
                return Some(found.clone());
            }
            if self.open.load(Ordering::SeqCst) == 0 {
                return None;
            }
            seen = lines.len().max(mark);
            lines = self.grown.wait_timeout(lines, deadline.left()?).unwrap().0;
        }
    }
}

/// Runs a program to its end; its standard output, where it succeeded.
#[track_caller]
pub fn run(recipe: Recipe, within: Duration) -> Result<String, String> {
    let name = recipe.name.clone();
    let mut process = recipe.start();
    let status = process.wait(within);
    let text = process.whole_text();
    if status.success() { Ok(text) } else { Err(format!("{name} ended with {status}:\n{text}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_process_and_its_children_end_with_their_handle() {
        let scratch = Scratch::new();
        let script = "sleep 1000 & echo child $!; echo ready; wait";
        let process = Recipe::new(program("sh"), scratch.path()).args(["-c", script]).start();
        process.wait_for("ready", SOON);
        let line = process.wait_for("child", SOON);
        let child = PathBuf::from(format!("/proc/{}/cmdline", line.trim_start_matches("child ")));
        assert!(child.exists());
        drop(process);
        wait_until("the child is gone", SOON, || {
            std::fs::read(&child).map_or(true, |command| command.is_empty()).then_some(())
        });
    }

    #[test]
    fn a_program_run_to_its_end_gives_its_output_or_its_fault() {
        let scratch = Scratch::new();
        let shell = |script: &str| Recipe::new(program("sh"), scratch.path()).args(["-c", script]);
        assert_eq!(run(shell("echo one; echo two"), SOON).as_deref(), Ok("one\ntwo"));
        let fault = run(shell("echo no >&2; exit 3"), SOON).expect_err("it failed");
        assert!(fault.contains("no") && fault.contains('3'), "{fault}");
    }
}
