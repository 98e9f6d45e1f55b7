//! The machine's clock is set while we run. Everything here runs on monotonic time and goes on; but what is kept for
//! a restart, and shown to people, is written in wall time, so it is written anew.
//!
//! Slewing, a second now and then, is no step: a restart may be wrong by as much.

use std::time::Duration;

use wire::clock::Now;
use wire::net::Prefix;

use crate::Border;
use crate::binding::BindingId;
use crate::event::Code;
use crate::record::Then;
use crate::report::About;
use crate::timers::Timer;

/// A smaller difference is no step.
const STEP_MIN_MS: u64 = 10_000;
/// Records written at once, and the pause until the next: a long block list must not fill the store's queue.
const SLICE: usize = 1_024;
const PAUSE: Duration = Duration::from_millis(100);

/// How the two clocks stand to each other, and what is still to be written anew.
pub(crate) struct ClockWatch {
    /// The wall time of our own zero, in milliseconds since 1970; negative where the clock stood before that.
    zero_ms: i64,
    bindings: Vec<BindingId>,
    blocks: Vec<Prefix>,
}

impl ClockWatch {
    pub(crate) fn new(now: Now) -> Self {
        Self { zero_ms: zero_ms(now), bindings: Vec::new(), blocks: Vec::new() }
    }
}

fn zero_ms(now: Now) -> i64 {
    let mono = i64::try_from(now.mono.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
    i64::try_from(now.wall.0).unwrap_or(i64::MAX).saturating_sub(mono)
}

impl Border {
    /// What time it is now, for everything that follows.
    pub(crate) fn tell_time(&mut self, now: Now) {
        self.now = now;
        let zero = zero_ms(now);
        let before = self.clock.zero_ms;
        if zero.abs_diff(before) >= STEP_MIN_MS {
            self.clock.zero_ms = zero;
            self.on_clock_step(zero > before, Duration::from_millis(zero.abs_diff(before)));
        }
    }

    fn on_clock_step(&mut self, forward: bool, step: Duration) {
        self.event(Code::ClockStepped, About::default(), || {
            let (way, seconds) = (if forward { "forward" } else { "back" }, step.as_secs());
            (
                format!(
                    "the clock of this machine was set {way} by {seconds} s; registrations and blocks go on"
                ),
                "nothing to do; if the clock is wrong now, certificates may be refused for their dates"
                    .into(),
            )
        });
        self.clock.bindings = self.bindings.iter().map(|(id, _)| id).collect();
        self.clock.blocks = self.blocking.lists().blocks().map(|entry| entry.prefix).collect();
        self.write_for_the_new_clock();
    }

    /// Writes the next slice of what is kept, with the times of the clock as it is now.
    pub(crate) fn write_for_the_new_clock(&mut self) {
        let now = self.now;
        let bindings = self.clock.bindings.len().saturating_sub(SLICE);
        for id in self.clock.bindings.split_off(bindings) {
            let Some(binding) = self.bindings.binding_mut(id) else { continue };
            binding.expires_wall = now.wall + (binding.expires - now.mono);
            if binding.was_registered {
                self.persist_binding(id, Then::Nothing);
            }
        }
        let blocks = self.clock.blocks.len().saturating_sub(SLICE);
        for prefix in self.clock.blocks.split_off(blocks) {
            if let Some(entry) = self.blocking.lists_mut().date_anew(&prefix, now).cloned() {
                self.persist_block(&entry);
            }
        }
        if !(self.clock.bindings.is_empty() && self.clock.blocks.is_empty()) {
            self.timers.arm(now.mono + PAUSE, Timer::ClockStep);
        }
    }
}
