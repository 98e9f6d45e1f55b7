//! The one place that reads the clocks. Everything else is handed the time.

use std::time::{Duration, SystemTime};

use wire::clock::{Instant, Now, WallTime};

/// Both clocks of the machine. A copy of it tells the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: std::time::Instant,
}

impl Clock {
    /// Starts the monotonic clock at zero. Once in a process: times of two starts cannot be compared.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Self { started: std::time::Instant::now() }
    }

    /// Time since the start, which never jumps.
    pub fn mono(self) -> Instant {
        let nanos = self.started.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The time of day, which may jump; 1970 where the machine's clock stands before that.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn wall(self) -> WallTime {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        WallTime(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }

    /// Both, read together.
    pub fn now(self) -> Now {
        Now { mono: self.mono(), wall: self.wall() }
    }

    /// The same moment for a timer of tokio.
    pub fn deadline(self, then: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started + Duration::from_nanos(then.as_nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_begins_near_zero_and_never_goes_back() {
        let clock = Clock::start();
        let copy = clock;
        let (first, second) = (clock.mono(), copy.mono());
        assert!(first <= second);
        assert!(first < Instant::ZERO + Duration::from_secs(60));
        assert_eq!(clock.deadline(Instant::ZERO).into_std(), clock.started);
    }

    #[test]
    fn wall_time_is_of_this_century() {
        assert!(Clock::start().wall() > WallTime(1_700_000_000_000));
    }
}
