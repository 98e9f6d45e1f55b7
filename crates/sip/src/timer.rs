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

    /// The interval after `interval`: doubled, for all but timer A at most T2.
    pub fn next(self, interval: Duration) -> Duration {
        let doubled = interval.saturating_mul(2);
        if self == Self::A { doubled } else { doubled.min(T2) }
    }
}

/// The deadlines of one transaction: at most one retransmission and one end.
///
/// `E` is the event that each stands for, so that no state machine can be handed a timer it does not know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerTable<E> {
    armed: [Option<(Instant, E)>; 2],
}

impl<E: Copy + PartialEq> TimerTable<E> {
    pub(crate) const fn new() -> Self {
        Self { armed: [None, None] }
    }

    /// Arms `event`, in place of its earlier deadline where it had one.
    pub(crate) fn set(&mut self, event: E, at: Instant) {
        let same = self.armed.iter().position(|slot| slot.is_some_and(|(_, armed)| armed == event));
        let place = same.or_else(|| self.armed.iter().position(Option::is_none));
        debug_assert!(place.is_some(), "a state runs at most two timers");
        if let Some(slot) = place.and_then(|place| self.armed.get_mut(place)) {
            *slot = Some((at, event));
        }
    }

    /// Disarms everything: the state is left.
    pub(crate) fn clear(&mut self) {
        self.armed = [None, None];
    }

    /// Disarms one.
    pub(crate) fn stop(&mut self, event: E) {
        for slot in &mut self.armed {
            slot.take_if(|(_, armed)| *armed == event);
        }
    }

    /// The next deadline.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.armed.iter().flatten().map(|(at, _)| *at).min()
    }

    /// Takes the earliest deadline that has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<E> {
        let next = self.poll_timeout().filter(|at| *at <= now)?;
        let slot = self.armed.iter_mut().find(|slot| slot.is_some_and(|(at, _)| at == next))?;
        slot.take().map(|(_, event)| event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Timer; 15] = [
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
    fn table_fires_in_order_and_once() {
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let mut table = TimerTable::new();
        table.set('b', at(20));
        table.set('a', at(10));
        assert_eq!(table.poll_timeout(), Some(at(10)));
        assert_eq!(table.pop_due(at(9)), None);
        assert_eq!(table.pop_due(at(30)), Some('a'));
        table.set('b', at(25));
        assert_eq!(table.poll_timeout(), Some(at(25)));
        assert_eq!(table.pop_due(at(24)), None);
        assert_eq!(table.pop_due(at(25)), Some('b'));
        assert_eq!(table.pop_due(at(99)), None);
        table.set('a', at(40));
        table.set('b', at(50));
        table.stop('a');
        assert_eq!(table.poll_timeout(), Some(at(50)));
        table.clear();
        assert_eq!(table.poll_timeout(), None);
    }
}
