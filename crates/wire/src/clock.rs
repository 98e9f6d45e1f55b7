//! Time as the cores see it: values handed in by the shell, never read here.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point on the shell's monotonic clock, in nanoseconds since the process started.
///
/// It is a type of ours and not `std::time::Instant`, so that no core can read a clock, a simulation can
/// start at zero, and a state that holds one can be written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// The start of the process.
    pub const ZERO: Self = Self(0);

    /// The instant that lies `nanos` nanoseconds after the start of the process.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start of the process.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The first instant not before `self` that lies a full number of `step`s after the start of the process;
    /// `self` where there is none.
    pub fn next_multiple_of(self, step: Duration) -> Self {
        let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        let over = self.0.checked_rem(step).filter(|over| *over > 0);
        Self(over.map_or(self.0, |over| self.0.checked_add(step - over).unwrap_or(self.0)))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z by the machine's wall clock, which may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub u64);

impl WallTime {
    /// Time from `earlier` to `self`; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Both clocks, read together by the shell once for each input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// What timers and windows run on.
    pub mono: Instant,
    /// What is kept in the store and shown to people.
    pub wall: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_between_two_moments_is_never_negative_and_never_wraps() {
        let at = Instant::from_nanos;
        for (later, earlier, nanos) in [(7, 2, 5), (7, 7, 0), (2, 7, 0), (u64::MAX, 0, u64::MAX)] {
            assert_eq!(at(later).since(at(earlier)), Duration::from_nanos(nanos));
            assert_eq!(at(later) - at(earlier), Duration::from_nanos(nanos));
        }
        assert_eq!(at(5) + Duration::from_nanos(2), at(7));
        assert_eq!(at(5) + Duration::MAX, at(u64::MAX));
        let wall = WallTime;
        for (later, earlier, millis) in [(7, 2, 5), (7, 7, 0), (2, 7, 0)] {
            assert_eq!(wall(later).since(wall(earlier)), Duration::from_millis(millis));
        }
        assert_eq!(wall(5) + Duration::from_millis(2), wall(7));
        assert_eq!(wall(5) + Duration::MAX, wall(u64::MAX));
    }

    #[test]
    fn the_next_multiple_is_never_before() {
        let step = Duration::from_millis(20);
        for (ms, next) in [(0, 0), (1, 20), (19, 20), (20, 20), (21, 40)] {
            let at = |ms| Instant::ZERO + Duration::from_millis(ms);
            assert_eq!(at(ms).next_multiple_of(step), at(next), "{ms}");
        }
        let last = Instant::from_nanos(u64::MAX);
        assert_eq!(last.next_multiple_of(step), last);
        assert_eq!(last.next_multiple_of(Duration::ZERO), last);
    }
}
