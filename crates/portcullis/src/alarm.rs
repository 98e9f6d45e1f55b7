//! The core's timer: wakes its task at a moment of our own clock, within a millisecond.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Sleep, sleep};
use wire::clock::Instant;

use crate::clock::Clock;

/// Rings once for the earliest moment that was asked for since it rang last. May ring too early, where that
/// moment was taken back: putting a timer off at every message would cost more than looking once in vain.
#[derive(Debug)]
pub struct Alarm {
    clock: Clock,
    sleep: Pin<Box<Sleep>>,
    set_for: Option<Instant>,
}

impl Alarm {
    /// Not set. Must be made where a tokio runtime with timers runs.
    pub fn new(clock: Clock) -> Self {
        Self { clock, sleep: Box::pin(sleep(std::time::Duration::ZERO)), set_for: None }
    }

    /// Shall ring at `then`, or sooner.
    pub fn set(&mut self, then: Instant) {
        if self.set_for.is_none_or(|set_for| then < set_for) {
            self.set_for = Some(then);
            self.sleep.as_mut().reset(self.clock.deadline(then));
        }
    }

    /// Ready when it rings; never where it is not set.
    pub fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.set_for.is_none() {
            return Poll::Pending;
        }
        ready!(self.sleep.as_mut().poll(cx));
        self.set_for = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[test]
    fn rings_once_for_the_earliest() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::start();
            let mut alarm = Alarm::new(clock);
            alarm.set(clock.mono() + Duration::from_secs(3600));
            let soon = clock.mono() + Duration::from_millis(3);
            alarm.set(soon);
            alarm.set(clock.mono() + Duration::from_secs(1800));
            poll_fn(|cx| alarm.poll_ring(cx)).await;
            assert!(clock.mono() >= soon);
            let again = poll_fn(|cx| Poll::Ready(alarm.poll_ring(cx))).await;
            assert!(again.is_pending(), "it is not set any more");
        });
    }
}
