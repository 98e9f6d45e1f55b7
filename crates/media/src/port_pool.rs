//! Which even port, and the odd one above it, to try next (RFC 3550 §11).
//!
//! The pool proposes and is told: only `bind` knows that a port is free. The order looks random, from a seed
//! passed in, so that a stranger who knows one call's port learns nothing of the next. A port rests before it
//! is proposed again, so that late packets of one call never reach another. Never proposes a port twice
//! before it came back.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use wire::clock::Instant;

use crate::random::SplitMix;

/// How long a port rests after its relay was closed, or after `bind` refused it.
pub const REST: Duration = Duration::from_secs(1);

/// The even ports of one face.
#[derive(Clone, Debug)]
pub struct PortPool {
    free: VecDeque<u16>,
    /// Oldest first.
    resting: VecDeque<(Instant, u16)>,
    random: SplitMix,
    capacity: usize,
}

impl PortPool {
    /// All pairs that lie wholly within `range`, shuffled by `seed`.
    pub fn new(range: RangeInclusive<u16>, seed: u64) -> Self {
        let (first, last) = range.into_inner();
        let pairs = (first..last).filter(|port| port % 2 == 0 && *port != 0);
        let mut pool = Self {
            free: VecDeque::new(),
            resting: VecDeque::new(),
            random: SplitMix::new(seed),
            capacity: 0,
        };
        for port in pairs {
            pool.insert(port);
        }
        pool.capacity = pool.free.len();
        pool
    }

    /// How many pairs there are in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The next even port to try, or none at present.
    pub fn propose(&mut self, now: Instant) -> Option<u16> {
        self.wake(now);
        self.free.pop_front()
    }

    /// Whether there is one to try.
    pub fn has_one(&mut self, now: Instant) -> bool {
        self.wake(now);
        !self.free.is_empty()
    }

    /// Ports that have rested may be proposed again.
    fn wake(&mut self, now: Instant) {
        while let Some(&(until, port)) = self.resting.front() {
            if until > now {
                break;
            }
            self.resting.pop_front();
            self.insert(port);
        }
    }

    /// A proposed port comes back: it was closed, or could not be bound. It rests from `now` on.
    pub fn give_back(&mut self, port: u16, now: Instant) {
        debug_assert!(!self.free.contains(&port), "port {port} came back twice");
        self.resting.push_back((now + REST, port));
        debug_assert!(self.free.len() + self.resting.len() <= self.capacity);
    }

    /// Ports that are neither proposed nor bound.
    pub fn idle(&self) -> usize {
        self.free.len() + self.resting.len()
    }

    /// Puts a port at a random place of the queue (inside-out shuffle).
    fn insert(&mut self, port: u16) {
        self.free.push_back(port);
        let last = self.free.len() - 1;
        let place = self.random.below(self.free.len());
        self.free.swap(place, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(pool: &mut PortPool, now: Instant) -> Vec<u16> {
        std::iter::from_fn(|| pool.propose(now)).collect()
    }

    #[test]
    fn proposes_each_whole_even_pair_once() {
        for (range, expect) in [
            (10_000..=10_007, vec![10_000, 10_002, 10_004, 10_006]),
            (10_001..=10_006, vec![10_002, 10_004]),
            (10_000..=10_000, vec![]),
            (65_532..=65_535, vec![65_532, 65_534]),
            (0..=5, vec![2, 4]),
        ] {
            let mut pool = PortPool::new(range, 7);
            assert_eq!(pool.capacity(), expect.len());
            let mut got = drain(&mut pool, Instant::ZERO);
            got.sort_unstable();
            assert_eq!(got, expect);
        }
    }

    #[test]
    fn the_order_comes_from_the_seed_and_is_not_the_natural_one() {
        let order = |seed| drain(&mut PortPool::new(10_000..=10_999, seed), Instant::ZERO);
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let natural = order(1).windows(2).filter(|pair| pair[1] == pair[0] + 2).count();
        assert!(natural < 10, "{natural} of 499 neighbours are in natural order");
    }

    #[test]
    fn a_port_rests_one_second() {
        let mut pool = PortPool::new(10_000..=10_001, 7);
        assert_eq!(pool.propose(Instant::ZERO), Some(10_000));
        let closed = Instant::ZERO + Duration::from_secs(5);
        pool.give_back(10_000, closed);
        assert_eq!(pool.idle(), 1);
        for (after, expect) in [(0, None), (999, None), (1_000, Some(10_000)), (2_000, None)] {
            assert_eq!(pool.propose(closed + Duration::from_millis(after)), expect, "{after} ms");
        }
    }
}
