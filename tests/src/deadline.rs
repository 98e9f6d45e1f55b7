//! Deadlines: everything that a test waits for has one. The only file of the tests that reads the clock.

use std::time::{Duration, Instant};

/// The pause between two looks at something that cannot be waited for otherwise.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A point in time after which waiting is pointless.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// So much from now.
    pub fn after(time: Duration) -> Self {
        Self(now() + time)
    }

    /// What is left; nothing once it has passed.
    pub fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(now()).filter(|left| !left.is_zero())
    }
}

/// A stopwatch, for answers that must be fast, or alike in time.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Self {
        Self(now())
    }

    /// How long it has run.
    pub fn elapsed(self) -> Duration {
        now() - self.0
    }
}

/// Looks again and again until there is something to see; panics with `what` when time is over.
#[track_caller]
pub fn wait_until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(within);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(deadline.left().is_some(), "not within {within:?}: {what}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// Lets time pass: between two attempts of somebody who stays below a rate.
pub fn pause(time: Duration) {
    let deadline = Deadline::after(time);
    while let Some(left) = deadline.left() {
        std::thread::park_timeout(left);
    }
}

/// Looks again and again for the whole time, and panics with `what` as soon as something is seen.
#[track_caller]
pub fn never_within(what: &str, time: Duration, mut look: impl FnMut() -> bool) {
    let deadline = Deadline::after(time);
    while deadline.left().is_some() {
        assert!(!look(), "happened within {time:?}: {what}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

#[expect(clippy::disallowed_methods, reason = "tests wait on real sockets, in real time")]
fn now() -> Instant {
    Instant::now()
}
