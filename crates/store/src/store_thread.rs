//! The thread that writes the store for the core thread.
//!
//! Group commit without a timer: a commit begins the moment the one before has ended, with every row that
//! came meanwhile. The queue is bounded; a row that has no room is refused at once, never waited for.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::embedded::{Row, Store};
use crate::error::StoreError;

/// Rows that may wait for the disk.
pub const QUEUE_ROWS_MAX: usize = 65_536;
/// Bytes in them.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// The running thread. Dropping it writes what waits, then ends it.
#[derive(Debug)]
pub struct StoreThread {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    tickets: Vec<u64>,
    rows: Vec<Row>,
    bytes: usize,
    closing: bool,
}

impl StoreThread {
    /// Starts the thread. It calls `stored` after each commit, with the tickets in the order in which they
    /// came, and whether their rows are on disk.
    pub fn start(
        store: Store,
        stored: impl FnMut(Vec<u64>, Result<(), StoreError>) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let thread = {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("store".into()).spawn(move || run(&queue, store, stored))?
        };
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Hands a row over to be written; does not wait. `false`: there is no room, and the ticket will not
    /// be answered.
    #[must_use]
    pub fn persist(&self, ticket: u64, row: Row) -> bool {
        let mut waiting = self.queue.lock();
        if waiting.rows.len() >= QUEUE_ROWS_MAX || waiting.bytes >= QUEUE_BYTES_MAX {
            return false;
        }
        waiting.bytes = waiting.bytes.saturating_add(row.weight());
        waiting.tickets.push(ticket);
        waiting.rows.push(row);
        let first = waiting.rows.len() == 1;
        drop(waiting);
        if first {
            self.queue.changed.notify_one();
        }
        true
    }

    /// Whether no row waits for its commit to begin; one may be under way.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.lock().rows.is_empty()
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.queue.lock().closing = true;
        self.queue.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing left to save.
            let _panicked_or_not = thread.join();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that waits, as soon as something does; none at the end.
    fn take(&self) -> Option<(Vec<u64>, Vec<Row>)> {
        let mut waiting = self.lock();
        while waiting.rows.is_empty() {
            if waiting.closing {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.bytes = 0;
        Some((std::mem::take(&mut waiting.tickets), std::mem::take(&mut waiting.rows)))
    }
}

fn run(queue: &Queue, mut store: Store, mut stored: impl FnMut(Vec<u64>, Result<(), StoreError>)) {
    while let Some((tickets, rows)) = queue.take() {
        let outcome = store.commit(&rows);
        stored(tickets, outcome);
    }
}
