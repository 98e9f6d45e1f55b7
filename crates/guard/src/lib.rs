//! Answers: may this source, this device or this extension do this now?
//!
//! Owns the allow list, the block list, the offence counts, the call limits and the forms of hardware IDs.
//! Never sees a message, resolves a name, reads a clock, blocks an unverified source, or exempts an
//! allow-listed source from authentication. Every table is bounded, and says what goes when it is full.
//!
//! ```text
//! offence(verified source) ─► Exempt | First | Counted | Blocked(entry) | AlreadyBlocked
//! poll_timeout ─► handle_timeout ─► entries that ended         sets() ─► what is tested at the sockets
//! ```
//!
//! Start reading at [`Guard::offence`].
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::string_slice)]

mod allow;
mod ban;
mod block;
mod call_limit;
mod hardware_id;
mod offence;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::{Instant, Now};
use wire::net::{Prefix, PrefixSet};

pub use allow::AllowEntry;
pub use ban::BlockPolicy;
pub use block::{BlockEntry, BlockKind};
pub use call_limit::{CallLimit, CallRule, CallRuleError, Refusal};
pub use hardware_id::{HardwareId, HardwareIdError};
pub use offence::{Offence, VerifiedSource};

use allow::AllowList;
use ban::PastBans;
use block::BlockList;
use offence::{Count, OffenceTable};

/// The most bytes of evidence that an entry of the block list keeps.
pub const EVIDENCE_MAX: usize = 512;

/// The allow list, the block list, and what leads from offences to blocks.
#[derive(Clone, Debug)]
pub struct Guard {
    policy: BlockPolicy,
    allowed: AllowList,
    blocked: BlockList,
    offences: OffenceTable,
    past: PastBans,
    displaced: Option<BlockEntry>,
}

/// What an offence came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffenceOutcome {
    /// The source is on the allow list: nothing is counted.
    Exempt,
    /// The first offence of the source within the window.
    First,
    /// One more, but not enough for a block.
    Counted,
    /// The offence was one too many: this block is in force from now on.
    Blocked(BlockEntry),
    /// The source is blocked already: nothing is counted.
    AlreadyBlocked,
}

impl Guard {
    /// Entries of the block list; beyond, the automatic one that ends first goes for a new one.
    pub const BLOCKS_MAX: usize = 100_000;
    /// Those of them by operators; beyond, no more are taken.
    pub const MANUAL_BLOCKS_MAX: usize = 50_000;
    /// Entries of the allow list; beyond, no more are taken.
    pub const ALLOWED_MAX: usize = 10_000;
    /// Sources whose offences are counted; beyond, the one whose latest offence is the oldest is forgotten.
    pub const SOURCES_MAX: usize = 65_536;
    /// Ended blocks that are remembered for doubling; beyond, the one to be forgotten next is.
    pub const PAST_BLOCKS_MAX: usize = 65_536;

    /// A guard with empty lists.
    pub fn new(policy: BlockPolicy) -> Self {
        Self {
            policy,
            allowed: AllowList::default(),
            blocked: BlockList::default(),
            offences: OffenceTable::default(),
            past: PastBans::default(),
            displaced: None,
        }
    }

    /// Adds to the allow list. Blocks of these addresses stay listed, but are without effect as long as the
    /// entry exists.
    pub fn allow(&mut self, entry: AllowEntry) -> Result<(), GuardError> {
        self.allowed.insert(entry)
    }

    /// Takes an entry from the allow list, unless it stands in the configuration.
    pub fn disallow(&mut self, name: &str) -> Result<AllowEntry, GuardError> {
        self.allowed.remove(name)
    }

    /// The allow list by name.
    pub fn allowed(&self) -> impl Iterator<Item = &AllowEntry> {
        self.allowed.entries()
    }

    /// Whether `ip` is on the allow list.
    pub fn is_allowed(&self, ip: IpAddr) -> bool {
        self.allowed.contains(ip)
    }

    /// The entry of the allow list in which all of `prefix` lies: a block of it is without effect.
    pub fn allowed_by(&self, prefix: &Prefix) -> Option<&AllowEntry> {
        self.allowed.covering(prefix)
    }

    /// Other addresses for an entry of the allow list whose domain was resolved again. Of more than
    /// [`AllowEntry::PREFIXES_MAX`], the rest is left out. True where that changed the list.
    pub fn set_allowed_addresses(&mut self, name: &str, prefixes: Vec<Prefix>) -> bool {
        self.allowed.set_prefixes(name, prefixes)
    }

    /// Whether `ip` is blocked and not allowed: it gets no byte.
    pub fn is_blocked(&self, ip: IpAddr) -> bool {
        self.blocked.covering(ip).is_some() && !self.is_allowed(ip)
    }

    /// Who blocks `ip`, where it is blocked and not allowed: the operator, as soon as one entry is his.
    pub fn blocked_by(&self, ip: IpAddr) -> Option<BlockKind> {
        let kinds = self.blocked.all_covering(ip).map(|(_, entry)| entry.kind);
        kinds.max().filter(|_| !self.is_allowed(ip))
    }

    /// Counts an offence of a source that proved its address, and blocks it if that was one too many.
    ///
    /// After `Blocked`, [`Guard::take_displaced`] tells whether another entry had to go.
    pub fn offence(&mut self, source: VerifiedSource, offence: Offence, now: Now) -> OffenceOutcome {
        let ip = source.ip();
        if self.is_allowed(ip) {
            return OffenceOutcome::Exempt;
        }
        // An entry whose end has come but was not collected yet no longer protects from a new count.
        if self.blocked.covering(ip).is_some_and(|(ends, _)| now.mono < *ends) {
            return OffenceOutcome::AlreadyBlocked;
        }
        let prefix = self.policy.prefix_of(ip);
        let window = (self.policy.enough(), self.policy.within);
        match self.offences.count(prefix, offence.code, window, now.mono) {
            Count::First => OffenceOutcome::First,
            Count::More => OffenceOutcome::Counted,
            Count::Enough(counted) => OffenceOutcome::Blocked(self.ban(ip, offence, &counted, now)),
        }
    }

    /// Clears the count of a source that did something right.
    pub fn success(&mut self, ip: IpAddr) {
        self.offences.forget(self.policy.prefix_of(ip));
    }

    /// Blocks what an operator names, for `time` or as long as the policy says, in place of an entry for
    /// the same prefix. Addresses within it that are allowed stay so; if all are, that is an error.
    pub fn block(
        &mut self,
        prefix: Prefix,
        time: Option<Duration>,
        why: String,
        now: Now,
    ) -> Result<BlockEntry, GuardError> {
        if let Some(entry) = self.allowed.covering(&prefix) {
            return Err(GuardError::Allowed { prefix, name: entry.name.clone() });
        }
        let length = time.unwrap_or(self.policy.time);
        if length.is_zero() {
            return Err(GuardError::NoTime);
        }
        let entry = BlockEntry {
            prefix,
            source: prefix.addr(),
            kind: BlockKind::Manual,
            code: "operator".to_owned(),
            transport: None,
            port: None,
            since: now.wall,
            expires: now.wall + length,
            length,
            evidence: cut(why),
        };
        match self.blocked.insert(entry.clone(), now.mono + length) {
            Ok(displaced) => self.displaced = displaced,
            Err(_) => return Err(GuardError::ListFull),
        }
        Ok(entry)
    }

    /// Takes an entry from the block list. Every source in it starts anew, with the network that it is counted
    /// by: neither its offences nor its earlier blocks count any more.
    pub fn unblock(&mut self, prefix: &Prefix) -> Result<BlockEntry, GuardError> {
        let (_, entry) = self.blocked.remove(prefix).ok_or(GuardError::NotBlocked(*prefix))?;
        let counted_by = self.policy.prefix_of(prefix.addr());
        let network = if counted_by.covers(prefix) { counted_by } else { *prefix };
        self.offences.forget_within(&network);
        self.past.forget_within(&network);
        Ok(entry)
    }

    /// Puts a stored entry in force again for what is left of it: the time until its end, but never more
    /// than its length, however the wall clock was set meanwhile. True where the entry is in force.
    pub fn restore(&mut self, mut entry: BlockEntry, now: Now) -> bool {
        let left = entry.expires.since(now.wall).min(entry.length);
        if left.is_zero() {
            return false;
        }
        entry.expires = now.wall + left;
        match self.blocked.insert(entry, now.mono + left) {
            Ok(displaced) => {
                self.displaced = displaced;
                true
            }
            Err(_) => false,
        }
    }

    /// Remembers a stored entry that is over for what is left of the day after its end, so that the next one is
    /// doubled. True where it counts: it is automatic, and no older than that.
    pub fn remember(&mut self, entry: &BlockEntry, now: Now) -> bool {
        let over = now.wall.since(entry.expires);
        let remembered = BlockPolicy::REPEATED_WITHIN.saturating_sub(over);
        let counts = entry.kind == BlockKind::Automatic && !remembered.is_zero();
        if counts {
            self.past.remember(entry.prefix, entry.length, now.mono + remembered);
        }
        counts
    }

    /// Writes down anew when an entry ends, after the wall clock was set. It ends no sooner and no later for it.
    pub fn date_anew(&mut self, prefix: &Prefix, now: Now) -> Option<&BlockEntry> {
        let (ends, entry) = self.blocked.entry_mut(prefix)?;
        entry.expires = now.wall + ends.since(now.mono);
        Some(entry)
    }

    /// The entry that the latest `offence`, `block` or `restore` pushed out of a full list, once.
    pub fn take_displaced(&mut self) -> Option<BlockEntry> {
        self.displaced.take()
    }

    /// Whose earlier blocks no longer count, by time, by a pardon or for want of room, since this was asked last, and
    /// who is not blocked now. Whoever stores blocks that are over asks after every change.
    pub fn take_forgotten(&mut self) -> Vec<Prefix> {
        let mut forgotten = self.past.take_forgotten();
        forgotten.retain(|prefix| self.blocked.entry(prefix).is_none());
        forgotten
    }

    /// The block list in the order of its prefixes.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockEntry> {
        self.blocked.entries()
    }

    /// How long the entry for exactly this prefix is still in force.
    pub fn remaining(&self, prefix: &Prefix, now: Instant) -> Option<Duration> {
        self.blocked.entry(prefix).map(|(ends, _)| ends.since(now))
    }

    /// Ends the blocks whose time has come, in the order of their ends.
    pub fn handle_timeout(&mut self, now: Now) -> Vec<BlockEntry> {
        let mut ended = Vec::new();
        while let Some((ends, entry)) = self.blocked.pop_ended(now.mono) {
            if entry.kind == BlockKind::Automatic {
                self.past.remember(entry.prefix, entry.length, ends + BlockPolicy::REPEATED_WITHIN);
            }
            ended.push(entry);
        }
        self.past.forget_older(now.mono);
        self.offences.forget_older(self.policy.within, now.mono);
        self.check_invariants();
        ended
    }

    /// When the next block ends.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.blocked.next_end()
    }

    /// What is tested at the sockets: the blocked addresses without the allowed ones, and the allowed ones.
    pub fn sets(&self) -> (PrefixSet, PrefixSet) {
        let allowed = self.allowed.set();
        (self.blocked.set().without(allowed), allowed.clone())
    }

    /// Checks, in debug builds, what must always hold.
    pub fn check_invariants(&self) {
        self.blocked.check_invariants();
        self.offences.check_invariants();
    }

    fn ban(&mut self, ip: IpAddr, offence: Offence, counted: &str, now: Now) -> BlockEntry {
        let prefix = self.policy.prefix_of(ip);
        // Only one that has ended can stand there: it passes from the list to the memory right here.
        if let Some((ends, old)) = self.blocked.remove(&prefix)
            && old.kind == BlockKind::Automatic
        {
            self.past.remember(prefix, old.length, ends + BlockPolicy::REPEATED_WITHIN);
        }
        self.past.forget_older(now.mono);
        let length = self.past.length_of_next(&prefix, &self.policy);
        let entry = BlockEntry {
            prefix,
            source: ip,
            kind: BlockKind::Automatic,
            code: offence.code.to_owned(),
            transport: Some(offence.transport),
            port: Some(offence.port),
            since: now.wall,
            expires: now.wall + length,
            length,
            evidence: cut(format!("{counted}; last: {}", offence.detail)),
        };
        // Only a manual entry can be refused, and this one is automatic.
        self.displaced = self.blocked.insert(entry.clone(), now.mono + length).unwrap_or(None);
        debug_assert!(self.blocked.entry(&prefix).is_some());
        entry
    }
}

/// At most [`EVIDENCE_MAX`] bytes, ending at a character.
fn cut(mut text: String) -> String {
    let end = (0..=EVIDENCE_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}

/// Why an operator's order was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardError {
    /// Every address of the network is allowed.
    Allowed {
        /// What was to be blocked.
        prefix: Prefix,
        /// The entry of the allow list that stands against it.
        name: String,
    },
    /// A block of no time.
    NoTime,
    /// There is no entry for exactly this network.
    NotBlocked(Prefix),
    /// An entry needs a name, and not a long one.
    BadName,
    /// There is an entry of this name.
    NameTaken(String),
    /// There is no entry of this name.
    NoSuchName(String),
    /// The entry stands in the configuration.
    FromConfig(String),
    /// No more entries are kept.
    ListFull,
}

impl fmt::Display for GuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { prefix, name } => {
                write!(f, "{prefix} is on the allow list as {name:?}; remove that entry first")
            }
            Self::NoTime => f.write_str("a block needs a time of more than 0s"),
            Self::NotBlocked(prefix) => write!(f, "{prefix} is not on the block list"),
            Self::BadName => {
                write!(f, "a name of the allow list has 1 to {} bytes", AllowEntry::NAME_MAX)
            }
            Self::NameTaken(name) => write!(f, "the allow list has an entry {name:?} already"),
            Self::NoSuchName(name) => write!(f, "the allow list has no entry {name:?}"),
            Self::FromConfig(name) => {
                write!(f, "{name:?} stands in the configuration file; remove it there and restart")
            }
            Self::ListFull => f.write_str("the list is full; remove entries first"),
        }
    }
}

impl std::error::Error for GuardError {}
