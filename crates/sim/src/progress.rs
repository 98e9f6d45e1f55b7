//! One line that tells how far it is: drawn over again at a terminal, now and then elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Between two lines at a terminal, and elsewhere.
const REDRAW: Duration = Duration::from_millis(200);
const NOW_AND_THEN: Duration = Duration::from_secs(30);

/// The line.
pub(crate) struct Progress {
    begun: Instant,
    said: Instant,
    terminal: bool,
}

impl Progress {
    /// Nothing was said yet.
    pub(crate) fn new() -> Self {
        let now = now();
        Self { begun: now, said: now, terminal: std::io::stdout().is_terminal() }
    }

    /// How long it has been going on.
    pub(crate) fn elapsed(&self) -> Duration {
        now().duration_since(self.begun)
    }

    /// Says how far it is, where it is time to.
    pub(crate) fn line(&mut self, words: impl FnOnce() -> String) {
        let now = now();
        let after = if self.terminal { REDRAW } else { NOW_AND_THEN };
        if now.duration_since(self.said) < after {
            return;
        }
        self.said = now;
        if self.terminal {
            draw(&words());
        } else {
            say(words());
        }
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        if self.terminal {
            draw("");
        }
    }
}

/// Prints a line. Who reads it may be gone, as `head` is: that stops no work, and the exit code tells all the same.
pub(crate) fn say(words: impl Display) {
    writeln!(std::io::stdout(), "{words}").unwrap_or_default();
}

/// Draws the line over again, or takes it away.
fn draw(words: &str) {
    let mut terminal = std::io::stdout();
    write!(terminal, "\r{words}\x1b[K").and_then(|()| terminal.flush()).unwrap_or_default();
}

/// `##########..........`
pub(crate) fn bar(done: u64, of: u64) -> String {
    const WIDTH: u64 = 24;
    let full = (done * WIDTH).checked_div(of).unwrap_or(WIDTH).min(WIDTH);
    (0..WIDTH).map(|place| if place < full { '#' } else { '.' }).collect()
}

/// `1:02:03`
pub(crate) fn clock(time: Duration) -> String {
    let secs = time.as_secs();
    format!("{}:{:02}:{:02}", secs / 3_600, secs / 60 % 60, secs % 60)
}

/// Time that all threads of this process have had of a processor.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the sweep tells how fast it is; no run sees this clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_and_clock() {
        assert_eq!(bar(0, 10), ".".repeat(24));
        assert_eq!(bar(5, 10), format!("{}{}", "#".repeat(12), ".".repeat(12)));
        assert_eq!((bar(10, 10), bar(0, 0)), ("#".repeat(24), "#".repeat(24)));
        assert_eq!(clock(Duration::from_secs(3_723)), "1:02:03");
    }
}
