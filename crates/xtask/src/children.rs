//! What is started here ends with us, and with it all that it has started.
//!
//! Each child leads a process group of its own. A signal that ends this program ends the groups first; who kills it
//! outright, by SIGKILL, leaves them running. Whatever needs no more after it takes our place instead
//! ([`take_our_place`]).

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The groups that are running, by the process that leads them.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Ends all groups, then this program, by the signal that came.
pub(crate) fn end_with_us() -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot listen to signals")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // kept to the end: nothing is started any more
            let running = running();
            running.iter().for_each(|leader| end_group(*leader));
            // by now nothing but this is left to do, so there is nobody to tell where it fails
            signal_hook::low_level::emulate_default_handler(signal).unwrap_or_default();
        }
    });
    Ok(())
}

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end_group(leader: u32) {
    let group = i32::try_from(leader).ok().and_then(Pid::from_raw);
    // it may have ended by itself
    group.map_or(Ok(()), |group| kill_process_group(group, Signal::TERM)).unwrap_or_default();
}

/// A process and its group, which end where this is dropped before.
pub(crate) struct Running {
    /// What leads the group.
    pub(crate) child: Child,
    waited: bool,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let mut running = running();
        let child = command.process_group(0).spawn()?;
        running.insert(child.id());
        Ok(Self { child, waited: false })
    }

    /// How it ended, where it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.waited |= status.is_some();
        Ok(status)
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.waited = true;
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited {
            end_group(self.child.id());
            // it fails for who is no child of ours alone
            drop(self.child.wait());
        }
        running().remove(&self.child.id());
    }
}

/// Runs it to its end.
pub(crate) fn status(command: &mut Command) -> io::Result<ExitStatus> {
    Running::start(command)?.wait()
}

/// Runs it to its end, and reads what it prints; what it says of errors goes where the command says.
pub(crate) fn output(command: &mut Command) -> io::Result<Output> {
    let mut running = Running::start(command.stdout(Stdio::piped()))?;
    let mut stdout = Vec::new();
    if let Some(pipe) = &mut running.child.stdout {
        io::Read::read_to_end(pipe, &mut stdout)?;
    }
    Ok(Output { status: running.wait()?, stdout, stderr: Vec::new() })
}

/// Becomes this program, so that signals reach it and its exit code is ours; comes back only where that fails.
pub(crate) fn take_our_place(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};

    use super::*;

    /// A shell that has started another process, and waits for it.
    fn shell() -> Result<Running> {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo started; wait"]).stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Running::start(&mut command)?)
    }

    #[test]
    fn what_a_child_has_started_ends_with_it() -> Result<()> {
        let mut running = shell()?;
        let mut pipe = BufReader::new(running.child.stdout.take().context("it has an output")?);
        pipe.read_line(&mut String::new())?;
        let leader = running.child.id();
        assert!(super::running().contains(&leader));
        drop(running);
        assert!(!super::running().contains(&leader));
        // it ends when nobody has the other end any more: neither the shell nor what that started
        assert_eq!(pipe.read_to_end(&mut Vec::new())?, 0);
        Ok(())
    }

    #[test]
    fn what_ends_by_itself_says_how() -> Result<()> {
        assert_eq!(status(Command::new("sh").args(["-c", "exit 3"]))?.code(), Some(3));
        let output = output(Command::new("sh").args(["-c", "echo well; exit 4"]))?;
        assert_eq!((output.stdout, output.status.code()), (b"well\n".to_vec(), Some(4)));
        Ok(())
    }

    #[test]
    fn who_cannot_be_started_is_named() {
        let error = take_our_place(&mut Command::new("/no/such/program")).unwrap_err();
        assert_eq!(error.to_string(), "cannot run /no/such/program");
    }
}
