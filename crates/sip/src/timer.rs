//! The timers of RFC 3261 Table 4 as amended by RFC 6026, and a table of the ones that run.
//!
//! Never reads a clock: `now` is an argument, and what comes out is a deadline.

use std::time::Duration;

use wire::clock::Instant;
use wire::net::Transport;

/// Estimate of the round-trip time (RFC 3261 §17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);
/// The longest interval between two retransmissions of a non-INVITE request or an INVITE's answer.
pub const T2: Duration = Duration::from_secs(4);
/// The longest time that a message stays in the network.
pub const T4: Duration = Duration::from_secs(5);
/// 64·T1: how long a transaction waits for what does not come.
pub const PATIENCE: Duration = Duration::from_secs(32);

/// Timers that end a wait for what may never come fire at full multiples of this, a little late: so
/// transactions end many at a time, and the thread that waits is not woken for each.
const TOGETHER: Duration = Duration::from_millis(20);

/// A timer of a transaction. Timer C belongs to proxies and is the transaction user's here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// INVITE request retransmission, unreliable transports only (§17.1.1.2).
    A,
    /// INVITE transaction timeout (§17.1.1.2).
    B,
    /// Wait for retransmissions of a final answer to an INVITE (§17.1.1.2).
    D,
    /// Non-INVITE request retransmission, unreliable transports only (§17.1.2.2).
    E,
    /// Non-INVITE transaction timeout (§17.1.2.2). The server uses it too, for a request that nobody
    /// answers: past it the client has given up (RFC 4320 §4.2).
    F,
    /// Retransmission of a final answer other than 2xx, unreliable transports only (§17.2.1).
    G,
    /// Wait for the ACK of such an answer (§17.2.1).
    H,
    /// Wait for retransmissions of the ACK (§17.2.1).
    I,
    /// Wait for retransmissions of a non-INVITE request (§17.2.2).
    J,
    /// Wait for retransmissions of the answer to a non-INVITE request (§17.1.2.2).
    K,
    /// Wait for retransmissions of an accepted INVITE (RFC 6026 §8.7).
    L,
    /// Wait for further 2xx of an INVITE (RFC 6026 §8.4).
    M,
    /// How long the transaction user may think before the layer says `100 Trying` (§17.2.1).
    Trying,
    /// Retransmission of a 2xx until its ACK, on every transport: it travels end to end, and a hop behind
    /// the next may be unreliable (§13.3.1.4).
    Success,
    /// Wait for the final answer of an INVITE that was cancelled (§9.1).
    Cancel,
}

impl Timer {
    /// How long the timer runs at first. `None`: it does not run on this transport. Zero: the state it
    /// guards is left at once.
    pub fn first(self, transport: Transport) -> Option<Duration> {
        match self {
            Self::A | Self::E | Self::G => (!transport.is_reliable()).then_some(T1),
            Self::D | Self::J => Some(if transport.is_reliable() { Duration::ZERO } else { PATIENCE }),
            Self::I | Self::K => Some(if transport.is_reliable() { Duration::ZERO } else { T4 }),
            Self::B | Self::F | Self::H | Self::L | Self::M | Self::Cancel => Some(PATIENCE),
            Self::Success => Some(T1),
            Self::Trying => Some(Duration::from_millis(200)),
        }
    }

    /// Whether it is a retransmission's.
    fn repeats(self) -> bool {
        matches!(self, Self::A | Self::E | Self::G | Self::Success)
    }

    /// The interval after `interval`: doubled, for all but timer A at most T2.
    pub fn next(self, interval: Duration) -> Duration {
        let doubled = interval.saturating_mul(2);
        if self == Self::A { doubled } else { doubled.min(T2) }
    }
}

/// The deadlines of one transaction: at most one retransmission and one end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerTable {
    armed: [Option<(Instant, Timer)>; 2],
    /// What the retransmission waits this time.
    interval: Duration,
}

impl TimerTable {
    pub(crate) const fn new() -> Self {
        Self { armed: [None, None], interval: T1 }
    }

    /// Arms a timer, in place of its earlier deadline where it had one, for its first duration. Not where
    /// it does not run on this transport.
    pub(crate) fn start(&mut self, timer: Timer, transport: Transport, now: Instant) {
        let Some(wait) = timer.first(transport) else { return };
        if timer.repeats() {
            self.interval = wait;
        }
        let at = now + wait;
        self.set(timer, if wait >= T4 { at.next_multiple_of(TOGETHER) } else { at });
    }

    /// Arms the retransmission again, for its next interval.
    pub(crate) fn back_off(&mut self, timer: Timer, now: Instant) {
        debug_assert!(timer.repeats(), "the others run once");
        self.interval = timer.next(self.interval);
        self.set(timer, now + self.interval);
    }

    /// Lets the retransmission run at T2 from its next turn on.
    pub(crate) fn slow_down(&mut self) {
        self.interval = T2;
    }

    /// Disarms everything: the state is left.
    pub(crate) fn clear(&mut self) {
        self.armed = [None, None];
    }

    /// Disarms one.
    pub(crate) fn stop(&mut self, timer: Timer) {
        for slot in &mut self.armed {
            slot.take_if(|(_, armed)| *armed == timer);
        }
    }

    /// The next deadline.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.armed.iter().flatten().map(|(at, _)| *at).min()
    }

    /// Takes the earliest timer whose deadline has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let next = self.poll_timeout().filter(|at| *at <= now)?;
        let slot = self.armed.iter_mut().find(|slot| slot.is_some_and(|(at, _)| at == next))?;
        slot.take().map(|(_, timer)| timer)
    }

    /// What runs, and until when.
    #[cfg(test)]
    pub(crate) fn armed(&self) -> impl Iterator<Item = (Instant, Timer)> {
        self.armed.iter().flatten().copied()
    }

    fn set(&mut self, timer: Timer, at: Instant) {
        let same = self.armed.iter().position(|slot| slot.is_some_and(|(_, armed)| armed == timer));
        let place = same.or_else(|| self.armed.iter().position(Option::is_none));
        debug_assert!(place.is_some(), "a state runs at most two timers");
        if let Some(slot) = place.and_then(|place| self.armed.get_mut(place)) {
            *slot = Some((at, timer));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const ALL: [Timer; 15] = [
        Timer::A,
        Timer::B,
        Timer::D,
        Timer::E,
        Timer::F,
        Timer::G,
        Timer::H,
        Timer::I,
        Timer::J,
        Timer::K,
        Timer::L,
        Timer::M,
        Timer::Trying,
        Timer::Success,
        Timer::Cancel,
    ];

    #[test]
    fn first_durations_are_those_of_table_4() {
        let ms = |timer: Timer, transport| timer.first(transport).map(|duration| duration.as_millis());
        let udp: Vec<_> = ALL.iter().map(|timer| ms(*timer, Transport::Udp)).collect();
        let expected = [
            500, 32_000, 32_000, 500, 32_000, 500, 32_000, 5_000, 32_000, 5_000, 32_000, 32_000, 200, 500,
            32_000,
        ];
        assert_eq!(udp, expected.map(Some));
        for transport in [Transport::Tcp, Transport::Tls] {
            let reliable: Vec<_> = ALL.iter().map(|timer| ms(*timer, transport)).collect();
            let mut expected = expected.map(Some);
            for (place, timer) in ALL.iter().enumerate() {
                match timer {
                    Timer::A | Timer::E | Timer::G => expected[place] = None,
                    Timer::D | Timer::I | Timer::J | Timer::K => expected[place] = Some(0),
                    _ => {}
                }
            }
            assert_eq!(reliable, expected);
        }
        assert_eq!(PATIENCE, T1 * 64);
    }

    #[test]
    fn intervals_double_and_only_timer_a_passes_t2() {
        assert_eq!(Timer::A.next(T1), T1 * 2);
        assert_eq!(Timer::A.next(T2), T2 * 2);
        for timer in [Timer::E, Timer::G, Timer::Success] {
            assert_eq!(timer.next(T1), T1 * 2);
            assert_eq!(timer.next(T2), T2);
            assert_eq!(timer.next(Duration::from_secs(3)), T2);
        }
    }

    #[test]
    fn what_may_never_come_is_waited_for_together_and_all_else_to_the_moment() {
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        for timer in ALL {
            let mut table = TimerTable::new();
            table.start(timer, Transport::Udp, at(7));
            let due = match timer {
                Timer::A | Timer::E | Timer::G | Timer::Success => at(507),
                Timer::Trying => at(207),
                Timer::I | Timer::K => at(5_020),
                Timer::B
                | Timer::D
                | Timer::F
                | Timer::H
                | Timer::J
                | Timer::L
                | Timer::M
                | Timer::Cancel => at(32_020),
            };
            assert_eq!(table.poll_timeout(), Some(due), "{timer:?}");
        }
    }

    #[test]
    fn table_fires_in_order_and_once() {
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let mut table = TimerTable::new();
        table.start(Timer::F, Transport::Udp, at(0));
        table.start(Timer::E, Transport::Udp, at(0));
        assert_eq!(table.poll_timeout(), Some(at(500)));
        assert_eq!(table.pop_due(at(499)), None);
        assert_eq!(table.pop_due(at(40_000)), Some(Timer::E));
        table.back_off(Timer::E, at(500));
        assert_eq!(table.poll_timeout(), Some(at(1_500)), "doubled");
        table.slow_down();
        assert_eq!(table.poll_timeout(), Some(at(1_500)), "not before the next turn");
        table.back_off(Timer::E, at(1_500));
        assert_eq!(table.poll_timeout(), Some(at(5_500)), "in place of the earlier deadline, at T2");
        table.stop(Timer::E);
        table.start(Timer::F, Transport::Udp, at(1_000));
        assert_eq!(table.pop_due(at(32_999)), None, "in place of the earlier deadline");
        assert_eq!(table.pop_due(at(33_000)), Some(Timer::F));
        assert_eq!(table.pop_due(at(99_000)), None);
        table.start(Timer::E, Transport::Udp, at(0));
        assert_eq!(table.poll_timeout(), Some(at(500)), "at T1 again");
        table.clear();
        assert_eq!(table.poll_timeout(), None);
        table.start(Timer::A, Transport::Tls, at(0));
        assert_eq!(table.poll_timeout(), None, "not on a reliable transport");
    }
}
