//! The block list: who gets no byte from us, until when, and why.
//!
//! Keeps at most [`Guard::BLOCKS_MAX`] entries, of which at most [`Guard::MANUAL_BLOCKS_MAX`] by
//! operators, so that there is always room for an automatic one. Where the list is full, the automatic entry
//! that ends first goes. Ends run on the monotonic clock; the wall time of an entry is for people and for
//! the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::{Instant, WallTime};
use wire::net::{Prefix, PrefixSet, Transport};

use crate::Guard;

/// Who made a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockKind {
    /// The guard, after offences.
    Automatic,
    /// An operator.
    Manual,
}

impl BlockKind {
    /// As operators see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An entry of the block list, as it is shown and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// What is blocked.
    pub prefix: Prefix,
    /// The address that offended, or the first one of what the operator named.
    pub source: IpAddr,
    /// Who made it.
    pub kind: BlockKind,
    /// The code of the offence that was one too many, or `operator`.
    pub code: String,
    /// How that offence came.
    pub transport: Option<Transport>,
    /// Our port that it came to.
    pub port: Option<u16>,
    /// When the block began.
    pub since: WallTime,
    /// When it ends.
    pub expires: WallTime,
    /// How long it is in all.
    pub length: Duration,
    /// The offences in words, or the operator's reason.
    pub evidence: String,
}

/// The entries in force, and when each ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockList {
    entries: BTreeMap<Prefix, (Instant, BlockEntry)>,
    automatic: BTreeSet<(Instant, Prefix)>,
    manual: BTreeSet<(Instant, Prefix)>,
    /// How many entries there are of each prefix length, so that a look-up tries only those.
    lens: BTreeMap<(bool, u8), usize>,
}

impl BlockList {
    /// Puts an entry in force until `ends`, in place of one for the same prefix. Returns the entry that had
    /// to go for it, if the list was full; an `Err` gives a manual entry back that found no room.
    pub(crate) fn insert(
        &mut self,
        entry: BlockEntry,
        ends: Instant,
    ) -> Result<Option<BlockEntry>, Box<BlockEntry>> {
        let replaces = self.entries.get(&entry.prefix).map(|(_, old)| old.kind);
        let room_for_manual =
            self.manual.len() < Guard::MANUAL_BLOCKS_MAX || replaces == Some(BlockKind::Manual);
        if entry.kind == BlockKind::Manual && !room_for_manual {
            return Err(Box::new(entry));
        }
        self.remove(&entry.prefix);
        let full = self.entries.len() >= Guard::BLOCKS_MAX;
        let first_to_end = self.automatic.first().map(|(_, prefix)| *prefix).filter(|_| full);
        let displaced = first_to_end.and_then(|prefix| self.remove(&prefix)).map(|(_, entry)| entry);
        self.ends_of(entry.kind).insert((ends, entry.prefix));
        *self.lens.entry(len_key(&entry.prefix)).or_default() += 1;
        self.entries.insert(entry.prefix, (ends, entry));
        self.check_invariants();
        Ok(displaced)
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, prefix: &Prefix) -> Option<(Instant, BlockEntry)> {
        let (ends, entry) = self.entries.remove(prefix)?;
        self.ends_of(entry.kind).remove(&(ends, *prefix));
        if let Some(count) = self.lens.get_mut(&len_key(prefix)) {
            *count -= 1;
            if *count == 0 {
                self.lens.remove(&len_key(prefix));
            }
        }
        Some((ends, entry))
    }

    /// Takes out the entry that has ended first, if any has.
    pub(crate) fn pop_ended(&mut self, now: Instant) -> Option<(Instant, BlockEntry)> {
        let automatic = self.automatic.first();
        let (ends, prefix) = match (automatic, self.manual.first()) {
            (Some(a), Some(m)) => a.min(m),
            (a, m) => a.or(m)?,
        };
        if *ends > now {
            return None;
        }
        let prefix = *prefix;
        self.remove(&prefix)
    }

    /// When the next entry ends.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        let ends = |set: &BTreeSet<(Instant, Prefix)>| set.first().map(|(ends, _)| *ends);
        ends(&self.automatic).into_iter().chain(ends(&self.manual)).min()
    }

    /// The entry for exactly this prefix and its end.
    pub(crate) fn entry(&self, prefix: &Prefix) -> Option<&(Instant, BlockEntry)> {
        self.entries.get(prefix)
    }

    /// The same, to be changed; its prefix and its kind may not be.
    pub(crate) fn entry_mut(&mut self, prefix: &Prefix) -> Option<&mut (Instant, BlockEntry)> {
        self.entries.get_mut(prefix)
    }

    /// The entry that ends last of those that hold `ip`.
    pub(crate) fn covering(&self, ip: IpAddr) -> Option<&(Instant, BlockEntry)> {
        self.all_covering(ip).max_by_key(|(ends, _)| *ends)
    }

    /// The entries that hold `ip`.
    pub(crate) fn all_covering(&self, ip: IpAddr) -> impl Iterator<Item = &(Instant, BlockEntry)> {
        let ip = ip.to_canonical();
        self.lens
            .keys()
            .filter(move |(is_v4, _)| *is_v4 == ip.is_ipv4())
            .filter_map(move |(_, len)| self.entries.get(&Prefix::new(ip, *len)?))
    }

    /// The entries in the order of their prefixes.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &BlockEntry> {
        self.entries.values().map(|(_, entry)| entry)
    }

    /// All that the entries hold.
    pub(crate) fn set(&self) -> PrefixSet {
        self.entries.keys().copied().collect()
    }

    fn ends_of(&mut self, kind: BlockKind) -> &mut BTreeSet<(Instant, Prefix)> {
        match kind {
            BlockKind::Automatic => &mut self.automatic,
            BlockKind::Manual => &mut self.manual,
        }
    }

    pub(crate) fn check_invariants(&self) {
        debug_assert_eq!(self.entries.len(), self.automatic.len() + self.manual.len());
        debug_assert!(self.entries.len() <= Guard::BLOCKS_MAX);
        debug_assert!(self.manual.len() <= Guard::MANUAL_BLOCKS_MAX);
        debug_assert_eq!(self.entries.len(), self.lens.values().sum());
        debug_assert!(!self.lens.values().any(|count| *count == 0));
    }
}

fn len_key(prefix: &Prefix) -> (bool, u8) {
    (prefix.addr().is_ipv4(), prefix.len())
}
