//! Places of relays that ended, their ports still bound, for relays to come.
//!
//! To bind four sockets and to close them is about half of what a short call's media cost. So while relays open fast,
//! places are kept. Which one comes next is drawn from many, so that a stranger who knows one call's port
//! learns nothing of the next, and each has rested as [`REST`] says.

use std::collections::VecDeque;
use std::time::Duration;

use wire::clock::Instant;

use crate::REST;
use crate::random::SplitMix;
use crate::relay::TICK;

/// How many places are kept at most: with each go four descriptors.
const MOST: usize = 512;
/// How many are given up in one tick once relays open slowly again: closing all at once would hold up packets.
const GIVEN_UP: usize = 64;

/// A place, and the even ports that are bound there, outside then inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) slot: usize,
    pub(crate) ports: [u16; 2],
}

/// The places of one table.
#[derive(Debug)]
pub(crate) struct Spares {
    /// In the order in which they were put, with the end of their rest.
    places: VecDeque<(Instant, Spare)>,
    /// From how many relays a tick on places are kept; so many must have rested before one is taken, too.
    from: usize,
    /// Relays of this tick, and of the one before.
    opened: [usize; 2],
    random: SplitMix,
}

impl Spares {
    pub(crate) fn new(from: usize, seed: u64) -> Self {
        Self { places: VecDeque::new(), from: from.max(1), opened: [0; 2], random: SplitMix::new(seed) }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Spare> + '_ {
        self.places.iter().map(|(_, spare)| *spare)
    }

    /// A relay opens: a place for it, if enough have rested, or, where there are no other ports (`scarce`), if any has.
    pub(crate) fn take(&mut self, scarce: bool, now: Instant) -> Option<Spare> {
        let [opened, _] = &mut self.opened;
        *opened = opened.saturating_add(1);
        let rested = self.places.partition_point(|(until, _)| *until <= now);
        let least = if scarce { 1 } else { self.from };
        if rested < least {
            return None;
        }
        let drawn = self.random.below(rested);
        self.places.remove(drawn).map(|(_, spare)| spare)
    }

    /// A relay ended. Whether its place is kept; otherwise it is to be given up.
    pub(crate) fn keep(&mut self, spare: Spare, now: Instant) -> bool {
        let keep = self.places.len() < MOST && self.opened.iter().any(|opened| *opened >= self.from);
        if keep {
            self.places.push_back((now + REST, spare));
        }
        keep
    }

    /// A tick has passed: the places to be given up.
    pub(crate) fn tick(&mut self) -> Vec<Spare> {
        let [opened, before] = &mut self.opened;
        *before = std::mem::take(opened);
        let many = if *before < self.from { self.places.len().min(GIVEN_UP) } else { 0 };
        self.places.drain(..many).map(|(_, spare)| spare).collect()
    }
}

/// A place waits no longer than this for a relay, once relays open slowly.
const _: () = assert!(MOST.div_ceil(GIVEN_UP) as u64 * TICK.as_secs() <= Duration::from_secs(10).as_secs());

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn spare(slot: usize) -> Spare {
        Spare { slot, ports: [10_000, 20_000] }
    }

    /// `opened` relays in this tick.
    fn spares(from: usize, opened: usize) -> Spares {
        let mut spares = Spares::new(from, 7);
        for _ in 0..opened {
            assert_eq!(spares.take(true, at(0)), None);
        }
        spares
    }

    #[test]
    fn places_are_kept_from_the_rate_on_and_as_long_as_it_holds() {
        assert!(!spares(3, 2).keep(spare(0), at(0)), "too slow");
        let mut fast = spares(3, 3);
        assert!(fast.keep(spare(0), at(0)));
        assert_eq!(fast.tick(), []);
        assert!(fast.keep(spare(1), at(900)), "the tick before counts");
        assert_eq!(fast.tick(), [spare(0), spare(1)]);
        assert!(!fast.keep(spare(2), at(1_900)));
    }

    #[test]
    fn a_place_rests_and_is_drawn_from_many() {
        let mut spares = spares(3, 3);
        for slot in 0..4 {
            assert!(spares.keep(spare(slot), at(slot as u64)));
        }
        assert_eq!(spares.take(true, at(999)), None, "none has rested");
        assert_eq!(spares.take(false, at(1_001)), None, "two have rested, three it takes");
        assert!(spares.take(true, at(1_001)).is_some_and(|spare| spare.slot < 2), "better than none");
        assert!(spares.take(false, at(1_003)).is_some());
        assert_eq!(spares.take(false, at(5_000)), None);
        assert_eq!(spares.len(), 2);
    }

    #[test]
    fn the_draw_does_not_follow_the_order() {
        let mut spares = spares(1, 1);
        for slot in 0..100 {
            assert!(spares.keep(spare(slot), at(0)));
        }
        let drawn: Vec<_> =
            std::iter::from_fn(|| spares.take(false, at(2_000))).map(|spare| spare.slot).collect();
        let mut sorted = drawn.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>(), "each once");
        let natural = drawn.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(natural < 10, "{natural} of 99 neighbours are in natural order");
    }

    #[test]
    fn no_more_are_kept_than_may_be_nor_given_up_than_is_good() {
        let mut spares = spares(1, 1);
        let kept = (0..MOST + 5).filter(|slot| spares.keep(spare(*slot), at(0))).count();
        assert_eq!(kept, MOST);
        assert_eq!(spares.tick(), [], "busy");
        let ticks = std::iter::from_fn(|| Some(spares.tick().len()).filter(|given_up| *given_up > 0));
        let given_up: Vec<_> = ticks.collect();
        assert_eq!(given_up, vec![GIVEN_UP; MOST / GIVEN_UP]);
        assert_eq!(spares.len(), 0);
    }
}
