//! How long a source is banned: the policy of automatic blocks, and the memory of past ones.
//!
//! A first ban is exactly [`BlockPolicy::time`]. One that begins within a day of the end of an earlier one
//! of the same source is twice as long as that was, up to [`BlockPolicy::max_time`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::Prefix;

use crate::Guard;

/// When an automatic block is made, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPolicy {
    /// This many offences lead to a block; 1 to [`BlockPolicy::AFTER_MAX`].
    pub after: u32,
    /// In a window of this length.
    pub within: Duration,
    /// The length of a first block.
    pub time: Duration,
    /// Repeated blocks grow up to this; less than `time` counts as `time`.
    pub max_time: Duration,
    /// An IPv6 source is counted and blocked together with its network of this length;
    /// [`BlockPolicy::IPV6_PREFIX_MIN`] to 128.
    pub ipv6_prefix: u8,
}

impl BlockPolicy {
    /// The largest `after`: it bounds the memory of the offence counts. More counts as this.
    pub const AFTER_MAX: u32 = 1_000;
    /// The shortest `ipv6_prefix`: what a provider has. Less counts as this.
    pub const IPV6_PREFIX_MIN: u8 = 32;
    /// A block that begins this soon after the end of an earlier one of the same source is doubled.
    pub const REPEATED_WITHIN: Duration = Duration::from_secs(86_400);

    /// What is counted and blocked for `ip`: an IPv4 address alone, an IPv6 address with its network.
    pub fn prefix_of(&self, ip: IpAddr) -> Prefix {
        match ip.to_canonical() {
            v4 @ IpAddr::V4(_) => Prefix::single(v4),
            v6 @ IpAddr::V6(_) => {
                let len = self.ipv6_prefix.max(Self::IPV6_PREFIX_MIN);
                Prefix::new(v6, len).unwrap_or(Prefix::single(v6))
            }
        }
    }

    /// The offences that are enough, as a count.
    pub(crate) fn enough(&self) -> usize {
        usize::try_from(self.after.clamp(1, Self::AFTER_MAX)).unwrap_or(usize::MAX)
    }
}

/// The automatic blocks that ended within the last day.
#[derive(Clone, Debug, Default)]
pub(crate) struct PastBans {
    bans: BTreeMap<Prefix, PastBan>,
    by_forget_at: BTreeSet<(Instant, Prefix)>,
    /// Of whom nothing is remembered any more, until somebody has asked.
    forgotten: Vec<Prefix>,
}

#[derive(Clone, Copy, Debug)]
struct PastBan {
    length: Duration,
    forget_at: Instant,
}

impl PastBans {
    /// Remembers a ban until `forget_at`.
    pub(crate) fn remember(&mut self, prefix: Prefix, length: Duration, forget_at: Instant) {
        self.take(&prefix);
        if self.bans.len() >= Guard::PAST_BLOCKS_MAX
            && let Some((_, oldest)) = self.by_forget_at.first().copied()
        {
            self.forget(&oldest);
        }
        self.bans.insert(prefix, PastBan { length, forget_at });
        self.by_forget_at.insert((forget_at, prefix));
        debug_assert_eq!(self.bans.len(), self.by_forget_at.len());
    }

    /// Forgets a ban, as if it had not been.
    fn forget(&mut self, prefix: &Prefix) {
        if self.take(prefix) {
            self.forgotten.push(*prefix);
        }
    }

    fn take(&mut self, prefix: &Prefix) -> bool {
        let ban = self.bans.remove(prefix);
        ban.is_some_and(|ban| self.by_forget_at.remove(&(ban.forget_at, *prefix)))
    }

    /// Whose bans were forgotten since this was asked last.
    pub(crate) fn take_forgotten(&mut self) -> Vec<Prefix> {
        let mut forgotten = std::mem::take(&mut self.forgotten);
        forgotten.retain(|prefix| !self.bans.contains_key(prefix));
        forgotten
    }

    /// Forgets all bans of sources in `network`.
    pub(crate) fn forget_within(&mut self, network: &Prefix) {
        let within = self.bans.range(*network..).map(|(source, _)| *source);
        let within: Vec<Prefix> = within.take_while(|source| network.covers(source)).collect();
        for source in within {
            self.forget(&source);
        }
    }

    /// Forgets the bans whose day is over.
    pub(crate) fn forget_older(&mut self, now: Instant) {
        while let Some((forget_at, prefix)) = self.by_forget_at.first().copied()
            && forget_at <= now
        {
            self.forget(&prefix);
        }
    }

    /// How long a ban of `prefix` is that begins now, when the bans whose day is over are forgotten.
    pub(crate) fn length_of_next(&self, prefix: &Prefix, policy: &BlockPolicy) -> Duration {
        self.bans.get(prefix).map_or(policy.time, |past| {
            past.length.saturating_mul(2).clamp(policy.time, policy.max_time.max(policy.time))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_for_longer_than_a_day() {
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let mut past = PastBans::default();
        for (host, forget_at) in [(1, 10), (2, 20), (1, 30)] {
            let prefix = Prefix::single(IpAddr::from([198, 51, 100, host]));
            past.remember(prefix, Duration::from_secs(600), at(forget_at));
        }
        for (secs, left) in [(10, 2), (19, 2), (20, 1), (29, 1), (30, 0)] {
            past.forget_older(at(secs));
            assert_eq!((past.bans.len(), past.by_forget_at.len()), (left, left), "after {secs} s");
        }
    }
}
