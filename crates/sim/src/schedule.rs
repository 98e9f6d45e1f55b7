//! What happens when: happenings ordered by time and number, and one timer for everybody who has one.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use wire::clock::Instant;

use crate::network::Who;
use crate::world::Happening;

/// Whose timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The border's.
    Border,
    /// The relay table's.
    Media,
    /// An actor's.
    Actor(Who),
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    number: u64,
    happening: Happening,
}

impl Entry {
    fn order(&self) -> Reverse<(Instant, u64)> {
        Reverse((self.at, self.number))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

/// All that is still to happen.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    heap: BinaryHeap<Entry>,
    numbers: u64,
    /// The one entry of each timer that counts, and for when it is.
    armed: BTreeMap<Timer, (Instant, u64)>,
}

impl Schedule {
    /// Lets something happen.
    pub(crate) fn put(&mut self, at: Instant, happening: Happening) {
        self.numbers += 1;
        self.heap.push(Entry { at, number: self.numbers, happening });
    }

    /// Wants a timer to fire: true where it was not armed for as early already.
    pub(crate) fn is_late(&self, timer: Timer, at: Instant) -> bool {
        self.armed.get(&timer).is_none_or(|(armed, _)| *armed > at)
    }

    /// Arms a timer that is wanted at `at` to fire at `fires`; what it was armed for before is void.
    pub(crate) fn arm(&mut self, timer: Timer, at: Instant, fires: Instant) {
        self.put(fires, Happening::Timer(timer));
        self.armed.insert(timer, (at, self.numbers));
    }

    /// The next to happen, unless it is later than `until`.
    pub(crate) fn pop(&mut self, until: Option<Instant>) -> Option<(Instant, Happening)> {
        while self.heap.peek().is_some_and(|entry| until.is_none_or(|until| entry.at <= until)) {
            let Entry { at, number, happening } = self.heap.pop()?;
            if let Happening::Timer(timer) = happening {
                if self.armed.get(&timer).is_none_or(|(_, armed)| *armed != number) {
                    continue;
                }
                self.armed.remove(&timer);
            }
            return Some((at, happening));
        }
        None
    }

    /// Takes away what may not happen any more.
    pub(crate) fn retain(&mut self, stays: impl Fn(&Happening) -> bool) {
        self.heap.retain(|entry| stays(&entry.happening));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn what_is_put_first_happens_first_of_what_is_due_together() {
        let mut schedule = Schedule::default();
        schedule.put(at(2), Happening::Chaos);
        schedule.put(at(1), Happening::Operator);
        schedule.put(at(1), Happening::PbxStarts(0));
        assert!(matches!(schedule.pop(Some(at(1))), Some((_, Happening::Operator))));
        assert!(matches!(schedule.pop(Some(at(1))), Some((_, Happening::PbxStarts(0)))));
        assert!(schedule.pop(Some(at(1))).is_none());
        assert!(matches!(schedule.pop(None), Some((_, Happening::Chaos))));
    }

    #[test]
    fn a_timer_that_is_armed_again_fires_once() {
        let mut schedule = Schedule::default();
        let timer = Timer::Actor(Who::Pbx(0));
        schedule.arm(timer, at(9), at(9));
        assert!(schedule.is_late(timer, at(5)) && !schedule.is_late(timer, at(9)));
        schedule.arm(timer, at(5), at(6));
        assert!(!schedule.is_late(timer, at(5)));
        assert!(matches!(schedule.pop(None), Some((when, Happening::Timer(_))) if when == at(6)));
        assert!(schedule.pop(None).is_none() && schedule.is_late(timer, at(9)));
    }
}
