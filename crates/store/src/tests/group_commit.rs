//! The writing thread: order, grouping, refusal, failure.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;

const LONG: Duration = Duration::from_secs(20);

type Answer = (Vec<u64>, bool);

fn thread(store: Store) -> (StoreThread, mpsc::Receiver<Answer>) {
    let (answers, received) = mpsc::channel();
    let stored = move |tickets, outcome: WriteOutcome| {
        answers.send((tickets, matches!(outcome, WriteOutcome::Written { lost: 0 }))).unwrap();
    };
    (StoreThread::start(store, || Duration::ZERO, stored).unwrap(), received)
}

#[test]
fn every_ticket_is_answered_once_and_in_order() {
    let directory = Scratch::new();
    let (thread, answers) = thread(Store::open(&directory).unwrap().0);
    for ticket in 0..2_000 {
        assert!(thread.persist(ticket, row(1, &format!("{:02}", ticket % 50), &ticket.to_string())));
    }
    let (mut tickets, mut commits) = (Vec::new(), 0);
    while tickets.len() < 2_000 {
        let (some, ok) = answers.recv_timeout(LONG).unwrap();
        assert!(ok);
        tickets.extend(some);
        commits += 1;
    }
    assert_eq!(tickets, (0..2_000).collect::<Vec<_>>());
    assert!(commits < 1_000, "{commits} commits for 2,000 rows");
    drop(thread);
    let rows = Store::open(&directory).unwrap().1;
    assert_eq!(rows.len(), 50);
    assert_eq!(rows[49], row(1, "49", "1999"));
}

#[test]
fn a_row_alone_is_written_at_once() {
    let directory = Scratch::new();
    let (thread, answers) = thread(Store::open(&directory).unwrap().0);
    for ticket in 0..5 {
        assert!(thread.persist(ticket, row(1, "key", &ticket.to_string())));
        assert_eq!(answers.recv_timeout(LONG).unwrap(), (vec![ticket], true));
    }
    drop(thread);
}

#[test]
fn the_end_writes_what_waits() {
    let directory = Scratch::new();
    let (thread, answers) = thread(Store::open(&directory).unwrap().0);
    for ticket in 0..100 {
        assert!(thread.persist(ticket, row(1, &format!("{ticket:03}"), "")));
    }
    drop(thread);
    assert_eq!(answers.iter().flat_map(|(tickets, _)| tickets).count(), 100);
    assert_eq!(Store::open(&directory).unwrap().1.len(), 100);
}

/// A disk that can be full, and that can be held up.
#[derive(Debug)]
struct Disk {
    memory: InMemoryBackend,
    full: Arc<AtomicBool>,
    syncs: Arc<AtomicU64>,
    gate: Arc<Mutex<()>>,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        drop(self.gate.lock().unwrap());
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.memory.write(offset, data)
    }
}

struct Lab {
    store: Store,
    full: Arc<AtomicBool>,
    syncs: Arc<AtomicU64>,
    gate: Arc<Mutex<()>>,
}

fn lab(file: PathBuf) -> Lab {
    let (full, syncs, gate) = (Arc::default(), Arc::default(), Arc::default());
    let disk = Disk {
        memory: InMemoryBackend::new(),
        full: Arc::clone(&full),
        syncs: Arc::clone(&syncs),
        gate: Arc::clone(&gate),
    };
    let database = redb::Database::builder().create_with_backend(disk).unwrap();
    Lab { store: Store::with_database(file, database), full, syncs, gate }
}

#[test]
fn rows_that_come_during_a_commit_share_the_next() {
    let directory = Scratch::new();
    let Lab { store, gate, .. } = lab(directory.file());
    let (thread, answers) = thread(store);
    let held = gate.lock().unwrap();
    assert!(thread.persist(0, row(1, "0", "")));
    // The first commit hangs at the disk, with the rows that came before it began.
    while !thread.is_idle() {
        std::thread::yield_now();
    }
    for ticket in 1..500 {
        assert!(thread.persist(ticket, row(1, "1", "")));
    }
    drop(held);
    assert_eq!(answers.recv_timeout(LONG).unwrap(), (vec![0], true));
    assert_eq!(answers.recv_timeout(LONG).unwrap(), ((1..500).collect(), true));
}

#[test]
fn a_queue_without_room_refuses_at_once() {
    let directory = Scratch::new();
    let Lab { store, gate, .. } = lab(directory.file());
    let (thread, answers) = thread(store);
    let held = gate.lock().unwrap();
    let large = Row { table: 1, key: vec![1], value: Some(vec![0; 1 << 20]) };
    let mut accepted = 0;
    while thread.persist(accepted, large.clone()) {
        accepted += 1;
        assert!(accepted < 1_000, "no limit");
    }
    assert!(accepted as usize >= QUEUE_BYTES_MAX >> 20);
    drop(held);
    let mut answered = 0;
    while answered < accepted {
        answered += answers.recv_timeout(LONG).unwrap().0.len() as u64;
    }
    assert_eq!(answered, accepted);
}

#[test]
fn a_full_disk_fails_its_tickets_and_ends() {
    let directory = Scratch::new();
    let (mut real, _) = Store::open(&directory).unwrap();
    real.commit(&[row(1, "before", "")]).unwrap();
    drop(real);
    let Lab { mut store, full, syncs, .. } = lab(directory.file());
    store.commit(&[row(1, "good", "")]).unwrap();
    assert!(syncs.load(Ordering::SeqCst) > 0);
    full.store(true, Ordering::SeqCst);
    let error = store.commit(&[row(1, "lost", "")]).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains(FILE_NAME), "{error}");
    // The next write opens the file anew: one failure is not the end of the store.
    let (thread, answers) = thread(store);
    assert!(thread.persist(7, row(1, "after", "")));
    assert_eq!(answers.recv_timeout(LONG).unwrap(), (vec![7], true));
    drop(thread);
    assert_eq!(Store::open(&directory).unwrap().1, [row(1, "after", ""), row(1, "before", "")]);
}

#[test]
fn a_store_that_is_gone_fails_its_tickets() {
    let directory = Scratch::new();
    let Lab { mut store, full, .. } = lab(directory.file());
    full.store(true, Ordering::SeqCst);
    assert!(store.commit(&[row(1, "lost", "")]).is_err());
    let (thread, answers) = thread(store);
    for ticket in [1, 2] {
        assert!(thread.persist(ticket, row(1, "lost too", "")));
        assert_eq!(answers.recv_timeout(LONG).unwrap(), (vec![ticket], false));
    }
}

#[test]
fn what_could_not_be_written_is_when_the_disk_is_well_again() {
    let directory = Scratch::new();
    let Lab { mut store, full, .. } = lab(directory.file());
    full.store(true, Ordering::SeqCst);
    assert!(store.commit(&[row(1, "lost", "")]).is_err());
    let (thread, answers) = thread(store);
    for (ticket, value) in [(1, "old"), (2, "new")] {
        assert!(thread.persist(ticket, row(1, "kept", value)));
        assert_eq!(answers.recv_timeout(LONG).unwrap(), (vec![ticket], false));
    }
    drop(Store::open(&directory).unwrap());
    // Tries in between that fail again are nobody's ticket.
    let answer =
        std::iter::from_fn(|| answers.recv_timeout(LONG).ok()).find(|(tickets, _)| !tickets.is_empty());
    assert_eq!(answer, Some((vec![2], true)), "without another row");
    drop(thread);
    assert_eq!(Store::open(&directory).unwrap().1, [row(1, "kept", "new")]);
}

#[test]
fn what_is_kept_is_tried_once_more_at_the_end() {
    let directory = Scratch::new();
    let Lab { mut store, full, .. } = lab(directory.file());
    full.store(true, Ordering::SeqCst);
    assert!(store.commit(&[row(1, "lost", "")]).is_err());
    let (thread, answers) = thread(store);
    assert!(thread.persist(1, row(1, "kept", "")));
    assert_eq!(answers.recv_timeout(LONG).unwrap(), (vec![1], false));
    drop(Store::open(&directory).unwrap());
    drop(thread);
    assert_eq!(Store::open(&directory).unwrap().1, [row(1, "kept", "")]);
}
