//! The thread that writes the store for the core thread.
//!
//! Group commit without a timer: a commit begins the moment the one before has ended, with every row that
//! came meanwhile. The queue is bounded; a row that has no room is refused at once, never waited for.
//! What a commit could not write is tried again until it is on disk.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::embedded::{Row, Store};
use crate::error::StoreError;
use crate::unsaved::Unsaved;

/// Rows that may wait for the disk.
pub const QUEUE_ROWS_MAX: usize = 65_536;
/// Bytes in them.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// What came of rows that were handed over.
#[derive(Debug)]
pub enum WriteOutcome {
    /// They are on disk, and so is everything that could not be written before.
    Written {
        /// Rows that had no room while the disk failed, and are not on it.
        lost: u64,
    },
    /// They are not on disk. They are kept and tried again; when all that was kept is there, the newest ticket of it
    /// is answered once more.
    Failed(StoreError),
    /// The same, without a try: the disk has failed within the last second.
    Postponed,
}

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
    /// Rows that had no room.
    refused: u64,
    closing: bool,
}

/// What the thread has to do.
#[derive(Debug, Default)]
struct Batch {
    tickets: Vec<u64>,
    rows: Vec<Row>,
    refused: u64,
}

impl StoreThread {
    /// Starts the thread. It calls `stored` after each commit, with the tickets in the order in which they
    /// came, and whether their rows are on disk. `now` is any clock that never goes back.
    pub fn start(
        store: Store,
        now: impl Fn() -> Duration + Send + 'static,
        stored: impl FnMut(Vec<u64>, WriteOutcome) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let thread = {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("store".into()).spawn(move || run(&queue, store, now, stored))?
        };
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Hands a row over to be written; does not wait. `false`: there is no room, and the ticket will not
    /// be answered.
    #[must_use]
    pub fn persist(&self, ticket: u64, row: Row) -> bool {
        let mut waiting = self.queue.lock();
        if waiting.rows.len() >= QUEUE_ROWS_MAX || waiting.bytes >= QUEUE_BYTES_MAX {
            waiting.refused = waiting.refused.saturating_add(1);
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

    /// All that waits, as soon as something does, or nothing when this time is over; none at the end.
    fn take(&self, patience: Option<Duration>) -> Option<Batch> {
        let mut waiting = self.lock();
        while waiting.rows.is_empty() {
            if waiting.closing {
                return None;
            }
            let Some(patience) = patience else {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (guard, over) =
                self.changed.wait_timeout(waiting, patience).unwrap_or_else(PoisonError::into_inner);
            waiting = guard;
            if over.timed_out() {
                break;
            }
        }
        waiting.bytes = 0;
        Some(Batch {
            tickets: std::mem::take(&mut waiting.tickets),
            rows: std::mem::take(&mut waiting.rows),
            refused: std::mem::take(&mut waiting.refused),
        })
    }
}

fn run(
    queue: &Queue,
    mut store: Store,
    now: impl Fn() -> Duration,
    mut stored: impl FnMut(Vec<u64>, WriteOutcome),
) {
    let mut unsaved = Unsaved::default();
    while let Some(batch) = queue.take(unsaved.wait(now())) {
        let (tickets, outcome) = write(&mut store, &mut unsaved, batch, &now);
        stored(tickets, outcome);
    }
    // The last chance of what is kept; there is nobody left to hear of it.
    if !unsaved.is_empty() {
        let _written_or_lost = store.commit(&unsaved.rows());
    }
}

/// Writes a batch with everything that is kept, and keeps it where that fails.
fn write(
    store: &mut Store,
    unsaved: &mut Unsaved,
    batch: Batch,
    now: impl Fn() -> Duration,
) -> (Vec<u64>, WriteOutcome) {
    let Batch { tickets, rows, refused } = batch;
    unsaved.refused(refused);
    let outcome = if unsaved.is_empty() {
        store.commit(&rows).inspect_err(|_| unsaved.keep(&tickets, rows))
    } else {
        let news = !rows.is_empty();
        unsaved.keep(&tickets, rows);
        if news && !unsaved.may_try(now()) {
            return (tickets, WriteOutcome::Postponed);
        }
        store.commit(&unsaved.rows())
    };
    match outcome {
        Ok(()) => {
            let (kept, lost) = unsaved.written();
            let tickets = if tickets.is_empty() { Vec::from_iter(kept) } else { tickets };
            (tickets, WriteOutcome::Written { lost })
        }
        Err(error) => {
            unsaved.failed(now());
            (tickets, WriteOutcome::Failed(error))
        }
    }
}
