//! What the node itself must not forget: its secret, and how far its CSeqs go (contract section 5).
//!
//! A write that failed, or that the disk never confirmed, is repeated until it is there. Until then the clock
//! stands in: a start takes a CSeq no lower than the seconds since 2020 (RFC 3261 §8.1.1.5 knows such a clock),
//! so that a PBX does not see numbers go backwards because a disk was full.
//!
//! A start that is killed early may have used more numbers than seconds went by. What it says with numbers that the
//! disk has not confirmed is therefore a series of its own: a registrar compares numbers under one Call-ID alone (RFC
//! 3261 §10.3).

use std::collections::BTreeMap;
use std::time::Duration;

use wire::clock::{Instant, WallTime};

use crate::Border;
use crate::interface::Table;
use crate::keys::Lasts;
use crate::record::{FieldWriter, Then};
use crate::timers::{Deadline, Timer};

/// CSeqs that are reserved at once.
const CSEQ_BLOCK: u32 = 1_000;
/// CSeqs have 31 bits (RFC 3261 §8.1.1.5).
const CSEQ_MAX: u32 = 0x7fff_ffff;
/// 2020-01-01T00:00:00Z, in seconds.
const EPOCH: u64 = 1_577_836_800;
/// The clock alone never takes the numbers of the last decades.
const CLOCK_MAX: u32 = 0x7000_0000;
/// The first repetition of a write comes after this; each further one after twice as long.
const RETRY: Duration = Duration::from_secs(1);
/// For so long what follows a number that was not confirmed is of the same series: a challenge is answered as it was asked
/// (RFC 3261 §22.2).
const ONE_SERIES: Duration = Duration::from_secs(32);
/// Doublings at most: about a minute.
const DOUBLINGS_MAX: u32 = 6;

pub(crate) const SECRET: &[u8] = b"secret";
pub(crate) const CSEQ: &[u8] = b"cseq";

/// The node's own records, and what of them is not on disk yet.
pub(crate) struct NodeRecords {
    unsaved_secret: Option<[u8; 32]>,
    cseq: u32,
    /// Up to where they are ours.
    reserved: u32,
    /// The same, as the disk has it.
    saved: u32,
    /// The newest writes, by ticket.
    writes: BTreeMap<u64, Write>,
    failures: u32,
    deadline: Deadline,
    /// When a number was used last that the disk had not confirmed.
    unsaved_used: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Write {
    Secret,
    /// With CSeqs up to this one.
    Cseq(u32),
}

impl NodeRecords {
    /// `reserved`: up to where CSeqs may have been used before the restart.
    pub(crate) fn new(reserved: u32, unsaved_secret: Option<[u8; 32]>, now: WallTime) -> Self {
        let clock = u32::try_from((now.0 / 1_000).saturating_sub(EPOCH)).unwrap_or(CLOCK_MAX).min(CLOCK_MAX);
        let cseq = reserved.max(clock);
        Self {
            unsaved_secret,
            cseq,
            reserved: cseq,
            saved: reserved,
            writes: BTreeMap::new(),
            failures: 0,
            deadline: Deadline::default(),
            unsaved_used: None,
        }
    }

    fn reserve(&mut self) {
        self.reserved = self.cseq.wrapping_add(CSEQ_BLOCK) & CSEQ_MAX;
    }

    /// Whether a start knows that this number was used.
    fn is_saved(&self, cseq: u32) -> bool {
        self.saved.wrapping_sub(cseq) & CSEQ_MAX <= CSEQ_BLOCK
    }

    fn all_saved(&self) -> bool {
        self.unsaved_secret.is_none() && self.saved == self.reserved
    }
}

impl Border {
    /// The next CSeq of our own requests; reserved on disk before it is used (contract section 5).
    pub(crate) fn next_cseq(&mut self) -> u32 {
        let node = &mut self.node;
        node.cseq = node.cseq.wrapping_add(1) & CSEQ_MAX;
        let cseq = node.cseq;
        if node.reserved.wrapping_sub(cseq) < CSEQ_BLOCK / 2 {
            self.reserve_cseqs();
        }
        cseq
    }

    /// What numbers a REGISTER of ours: Call-ID and From-tag of its series, and its CSeq there.
    pub(crate) fn next_in_series(&mut self, extension: &str, series: &str) -> (String, String, u32) {
        let cseq = self.next_cseq();
        let now = self.now.mono;
        if !self.node.is_saved(cseq) {
            self.node.unsaved_used = Some(now);
        }
        let of_this_start = self.node.unsaved_used.is_some_and(|at| now.since(at) < ONE_SERIES);
        let lasts = if of_this_start { Lasts::ThisStart } else { Lasts::ForEver };
        let (call_id, tag) = self.keys.series(extension, series, lasts);
        (call_id, tag, cseq)
    }

    pub(crate) fn reserve_cseqs(&mut self) {
        self.node.reserve();
        self.write_node_records();
    }

    /// Writes what is not on disk yet, and waits for it.
    fn write_node_records(&mut self) {
        self.node.writes.clear();
        if let Some(secret) = self.node.unsaved_secret {
            let value = FieldWriter::new().raw(&secret).done();
            let ticket = self.persist(Table::Node, SECRET.to_vec(), Some(value), Then::Nothing);
            self.node.writes.insert(ticket, Write::Secret);
        }
        let reserved = self.node.reserved;
        if self.node.saved != reserved {
            let value = FieldWriter::new().number(u64::from(reserved)).done();
            let ticket = self.persist(Table::Node, CSEQ.to_vec(), Some(value), Then::Nothing);
            self.node.writes.insert(ticket, Write::Cseq(reserved));
        }
        let wait = RETRY * (1 << self.node.failures.min(DOUBLINGS_MAX));
        self.node.deadline.clear(Timer::NodeRecords, &mut self.timers);
        self.node.deadline.set(self.now.mono + wait, Timer::NodeRecords, &mut self.timers);
    }

    /// A write was answered: one of ours, perhaps.
    pub(crate) fn on_node_record_stored(&mut self, ticket: u64, ok: bool) {
        let Some(write) = self.node.writes.remove(&ticket).filter(|_| ok) else { return };
        match write {
            Write::Secret => self.node.unsaved_secret = None,
            Write::Cseq(reserved) => self.node.saved = reserved,
        }
        if self.node.all_saved() {
            self.node.failures = 0;
            self.node.deadline.clear(Timer::NodeRecords, &mut self.timers);
        }
    }

    pub(crate) fn on_node_timer(&mut self) {
        if !self.node.deadline.fired(self.now.mono, Timer::NodeRecords, &mut self.timers) {
            return;
        }
        if !self.node.writes.is_empty() {
            self.store_failed("it did not confirm a write");
        }
        self.node.failures = self.node.failures.saturating_add(1);
        self.reserve_cseqs();
    }
}
