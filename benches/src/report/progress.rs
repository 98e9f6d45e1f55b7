//! One line that tells how far it is: drawn over again at a terminal, line by line elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::measure::time::Nanos;

const WIDTH: usize = 24;

/// The line. It is written to standard error, so that the report alone is on standard output.
#[derive(Debug)]
pub struct Progress {
    begun: Nanos,
    done: usize,
    of: usize,
    terminal: bool,
}

impl Progress {
    /// Of so many steps.
    pub fn new(of: usize) -> Self {
        Self { begun: Nanos::now(), done: 0, of, terminal: std::io::stderr().is_terminal() }
    }

    /// One more begins.
    pub fn begin(&mut self, what: &str) {
        let full = (self.done * WIDTH).checked_div(self.of).unwrap_or(WIDTH).min(WIDTH);
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
        let (done, of) = (self.done, self.of);
        let time = clock(Nanos::now().since(self.begun));
        let line = format!("[{bar}] {done}/{of} {time} {what}");
        if self.terminal {
            eprint!("\r{line}\x1b[K");
            // a terminal that is gone does not stop the work
            std::io::stderr().flush().unwrap_or_default();
        } else {
            eprintln!("{line}");
        }
        self.done += 1;
    }

    /// Says something beside it.
    pub fn say(&self, words: &str) {
        self.end();
        eprintln!("{words}");
    }

    /// Takes the line away.
    pub fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// `12:05`
fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
