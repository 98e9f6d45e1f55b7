//! One line that tells how far it is: drawn over again at a terminal, line by line elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::measure::time::Nanos;

const WIDTH: usize = 24;

/// The line. It is written to standard error, so that the report alone is on standard output.
#[derive(Debug)]
pub struct Progress {
    begun: Nanos,
    steps: [usize; 2],
    /// How long steps take, about, by whatever clock: of those that are over, of the one under way, and of all.
    over: f64,
    step: f64,
    whole: f64,
    terminal: bool,
}

impl Progress {
    /// Of so many steps, which take so long together, about.
    pub fn new(steps: usize, whole: f64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { begun: Nanos::now(), steps: [0, steps], over: 0.0, step: 0.0, whole, terminal }
    }

    /// One more begins, which takes so long, about.
    pub fn begin(&mut self, what: &str, step: f64) {
        self.over += std::mem::replace(&mut self.step, step);
        let line = self.line(what, Nanos::now().since(self.begun));
        if self.terminal {
            eprint!("\r{line}\x1b[K");
            // a terminal that is gone does not stop the work
            std::io::stderr().flush().unwrap_or_default();
        } else {
            eprintln!("{line}");
        }
        self.steps[0] += 1;
    }

    fn line(&self, what: &str, time: Duration) -> String {
        let share = (self.over / self.whole.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        let full = (share * WIDTH as f64) as usize;
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
        let [done, of] = self.steps;
        // how fast this machine goes is known after the first
        let left = (share > 0.0).then(|| time.mul_f64(1.0 / share - 1.0));
        let left = left.map(|left| format!(", {} left", clock(left))).unwrap_or_default();
        format!("[{bar}] {done}/{of} {}{left} {what}", clock(time))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_what_is_over() {
        let mut progress = Progress::new(3, 40.0);
        progress.begin("handshake", 10.0);
        let minute = Duration::from_secs(60);
        assert_eq!(progress.line("handshake", minute), "[........................] 1/3 1:00 handshake");
        progress.begin("calls", 20.0);
        // a quarter took a minute, though it was a third of the steps
        assert_eq!(progress.line("calls", minute), "[######..................] 2/3 1:00, 3:00 left calls");
        progress.begin("rtp", 10.0);
        assert_eq!(progress.line("rtp", 2 * minute), "[##################......] 3/3 2:00, 0:40 left rtp");
    }
}
