//! The disk: takes writes in order, each in its time; what it did not take is kept, and tried again as `store` does.

use std::collections::BTreeMap;
use std::time::Duration;

use border::{Record, Table};
use wire::clock::Instant;

use crate::decision::{Decider, Decisions};

/// After a failure nothing is tried for so long.
const PAUSE: Duration = Duration::from_secs(1);

type Place = (Table, Vec<u8>);

/// The disk, with the thread of the border's process that writes to it.
#[derive(Debug)]
pub(crate) struct Disk {
    kept: BTreeMap<Place, Vec<u8>>,
    /// The newest that it did not take, for each place.
    unsaved: BTreeMap<Place, Option<Vec<u8>>>,
    /// The ticket that is answered when all of this is there.
    owed: Option<u64>,
    failed_at: Instant,
    busy_until: Instant,
    /// Of a thousand writes, so many fail.
    fails: u64,
    /// The longest that a write takes, in milliseconds.
    delay: u64,
    /// A write had no room in the queue: nobody knows what is kept.
    pub(crate) lost: bool,
}

impl Disk {
    /// An empty one.
    pub(crate) fn new(fails: u64, delay: u64) -> Self {
        Self {
            kept: BTreeMap::new(),
            unsaved: BTreeMap::new(),
            owed: None,
            failed_at: Instant::ZERO,
            busy_until: Instant::ZERO,
            fails,
            delay,
            lost: false,
        }
    }

    /// From now on every write succeeds, and soon.
    pub(crate) fn heal(&mut self) {
        (self.fails, self.delay) = (0, 2);
    }

    /// Whether its queue has no room for one more write: that one is lost.
    pub(crate) fn refuses(&mut self, decisions: &mut Decisions) -> bool {
        let (mut rng, by) = (decisions.turn(Decider::Disk), Decider::Disk);
        let refuses = rng.chance(self.fails / 10) && decisions.may(by, "has a full queue");
        self.lost |= refuses;
        refuses
    }

    /// A write is handed over: when it is over, and whether it succeeds.
    pub(crate) fn take(&mut self, now: Instant, decisions: &mut Decisions) -> (Instant, bool) {
        let (mut rng, by) = (decisions.turn(Decider::Disk), Decider::Disk);
        let mut delay = rng.millis(1, self.delay);
        let (fails, hangs) = (rng.chance(self.fails), rng.chance(200));
        let hangs = fails && hangs && decisions.may(by, "hangs");
        if hangs {
            delay = rng.millis(300, 20_000);
        }
        let ok = hangs || !(fails && decisions.may(by, "fails to write"));
        self.busy_until = self.busy_until.max(now + delay);
        (self.busy_until, ok)
    }

    /// A write is over: tickets to be answered, and how.
    pub(crate) fn written(
        &mut self,
        ticket: u64,
        record: Record,
        ok: bool,
        now: Instant,
    ) -> Vec<(u64, bool)> {
        let place = (record.table, record.key);
        let pauses = self.is_owing() && now.since(self.failed_at) < PAUSE;
        self.unsaved.insert(place, record.value);
        if !ok || pauses {
            if !pauses {
                self.failed_at = now;
            }
            self.owed = Some(ticket);
            return vec![(ticket, false)];
        }
        self.flush().into_iter().chain([ticket]).map(|ticket| (ticket, true)).collect()
    }

    /// Tries what it did not take: the ticket to be answered where it does now.
    pub(crate) fn try_again(&mut self, now: Instant, decisions: &mut Decisions) -> Option<u64> {
        let mut rng = decisions.turn(Decider::Disk);
        if rng.chance(self.fails) && decisions.may(Decider::Disk, "fails to write") {
            self.failed_at = now;
            return None;
        }
        self.flush()
    }

    fn flush(&mut self) -> Option<u64> {
        for (place, value) in std::mem::take(&mut self.unsaved) {
            match value {
                Some(value) => {
                    self.kept.insert(place, value);
                }
                None => {
                    self.kept.remove(&place);
                }
            }
        }
        self.owed.take()
    }

    /// Whether something waits to be tried again.
    pub(crate) fn is_owing(&self) -> bool {
        self.owed.is_some()
    }

    /// Whether all that was handed over is there.
    pub(crate) fn is_done(&self, now: Instant) -> bool {
        !self.is_owing() && !self.lost && self.busy_until <= now
    }

    /// The process is killed: what is on disk, and nothing else.
    pub(crate) fn records_after_kill(&mut self) -> Vec<Record> {
        let (kept, lost) = (std::mem::take(&mut self.kept), self.lost);
        *self = Self { kept, lost, ..Self::new(self.fails, self.delay) };
        let record = |((table, key), value): (&Place, &Vec<u8>)| Record {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        };
        self.kept.iter().map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: u8, value: Option<u8>) -> Record {
        Record { table: Table::Bindings, key: vec![key], value: value.map(|value| vec![value]) }
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn what_was_not_taken_is_written_with_the_next_that_is_and_answered_once_more() {
        let mut disk = Disk::new(0, 2);
        assert_eq!(disk.written(1, record(1, Some(1)), true, at(0)), [(1, true)]);
        assert_eq!(disk.written(2, record(1, None), false, at(10)), [(2, false)]);
        assert_eq!(disk.written(3, record(2, Some(3)), true, at(500)), [(3, false)], "it pauses");
        assert!(disk.is_owing());
        assert_eq!(disk.written(4, record(3, Some(4)), true, at(1_100)), [(3, true), (4, true)]);
        assert_eq!(disk.records_after_kill(), [record(2, Some(3)), record(3, Some(4))]);
        assert!(!disk.is_owing());
    }

    #[test]
    fn a_kill_takes_what_was_not_written() {
        let (mut disk, mut decisions) = (Disk::new(0, 2), Decisions::default());
        disk.written(1, record(1, Some(1)), false, at(0));
        assert_eq!(disk.records_after_kill(), []);
        disk.written(2, record(1, Some(1)), false, at(0));
        assert_eq!(disk.try_again(at(2_000), &mut decisions), Some(2));
        assert_eq!(disk.records_after_kill(), [record(1, Some(1))]);
    }

    #[test]
    fn writes_come_to_their_end_in_order() {
        let (mut disk, mut decisions) = (Disk::new(300, 400), Decisions::default());
        let mut last = Instant::ZERO;
        for ms in 0..2_000 {
            let (end, _) = disk.take(at(ms), &mut decisions);
            assert!(end >= last && end > at(ms));
            last = end;
        }
        let done = |what| decisions.deeds.iter().filter(|deed| deed.what == what).count();
        assert!(done("hangs") > 50 && done("fails to write") > 200);
    }
}
