//! Rows that the disk did not take: kept, newest value for each key, until it does.
//!
//! A disk that fails is not tried for every row that comes, but a second after the last failure at the soonest,
//! and by itself ever more rarely. Knows no clock: the time is told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::embedded::Row;
use crate::store_thread::{QUEUE_BYTES_MAX, QUEUE_ROWS_MAX};

/// No second try within this time after a failure; by itself the first comes then, each further one after twice
/// as long.
const PAUSE: Duration = Duration::from_secs(1);
/// Doublings at most: half a minute.
const DOUBLINGS_MAX: u32 = 5;

/// The rows, and when to try again.
#[derive(Debug, Default)]
pub(crate) struct Unsaved {
    rows: BTreeMap<(u8, Vec<u8>), Row>,
    bytes: usize,
    /// Of the newest of them.
    ticket: Option<u64>,
    /// How many had no room here.
    lost: u64,
    failures: u32,
    failed_at: Duration,
}

impl Unsaved {
    /// Nothing waits for the disk.
    pub(crate) fn is_empty(&self) -> bool {
        self.ticket.is_none()
    }

    /// Keeps these.
    pub(crate) fn keep(&mut self, tickets: &[u64], rows: Vec<Row>) {
        self.ticket = tickets.last().copied().or(self.ticket);
        for row in rows {
            let key = (row.table, row.key.clone());
            let old = self.rows.get(&key).map(Row::weight);
            let bytes = self.bytes.saturating_sub(old.unwrap_or(0)).saturating_add(row.weight());
            if old.is_none() && (self.rows.len() >= QUEUE_ROWS_MAX || bytes > QUEUE_BYTES_MAX) {
                self.lost += 1;
                continue;
            }
            self.bytes = bytes;
            self.rows.insert(key, row);
        }
    }

    /// So many came while there was no room even to wait.
    pub(crate) fn refused(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    /// All of them, to be tried.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.rows.values().cloned().collect()
    }

    /// They could not be written.
    pub(crate) fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
    }

    /// They are on disk: the newest ticket of them, and how many were lost.
    pub(crate) fn written(&mut self) -> (Option<u64>, u64) {
        let Self { ticket, lost, .. } = std::mem::take(self);
        (ticket, lost)
    }

    /// Whether rows that come now may be tried at once.
    pub(crate) fn may_try(&self, now: Duration) -> bool {
        self.failures == 0 || now.saturating_sub(self.failed_at) >= PAUSE
    }

    /// How long until a try without any new row; none where nothing is kept.
    pub(crate) fn wait(&self, now: Duration) -> Option<Duration> {
        if self.is_empty() {
            return None;
        }
        let pause = PAUSE * (1 << self.failures.saturating_sub(1).min(DOUBLINGS_MAX));
        Some((self.failed_at + pause).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: usize, value: usize) -> Row {
        Row { table: 1, key: key.to_be_bytes().to_vec(), value: Some(vec![0; value]) }
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_newest_value_of_each_row_is_kept_within_bounds() {
        let mut unsaved = Unsaved::default();
        unsaved.keep(&[1, 2], vec![row(1, 1), row(2, 1)]);
        unsaved.keep(&[3], vec![row(1, 9)]);
        assert_eq!(unsaved.rows(), [row(1, 9), row(2, 1)]);
        assert_eq!(unsaved.written(), (Some(3), 0));
        assert!(unsaved.is_empty() && unsaved.rows().is_empty());

        unsaved.keep(&[4], (0..QUEUE_ROWS_MAX + 7).map(|key| row(key, 0)).collect());
        unsaved.keep(&[5], vec![row(3, 1)]);
        assert!(unsaved.rows().contains(&row(3, 1)), "what is there takes its newest value");
        assert_eq!(unsaved.written(), (Some(5), 7));

        unsaved.keep(&[6], vec![row(1, QUEUE_BYTES_MAX - 100), row(2, 200)]);
        assert_eq!(unsaved.written(), (Some(6), 1));
    }

    #[test]
    fn tries_become_rare_and_never_crowd() {
        let mut unsaved = Unsaved::default();
        assert_eq!((unsaved.wait(at(5)), unsaved.may_try(at(5))), (None, true));
        unsaved.keep(&[1], vec![row(1, 1)]);
        let mut now = at(5);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            unsaved.failed(now);
            assert!(!unsaved.may_try(now + PAUSE / 2) && unsaved.may_try(now + PAUSE));
            let pause = unsaved.wait(now).unwrap();
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 32, 32]);
    }
}
