//! Offences: what a source did wrong, and how often within the window.
//!
//! Counts only what is said of a [`VerifiedSource`], so that nobody can be blocked by packets that another
//! sends in his name. Never counts beyond its bounds: see [`Guard::SOURCES_MAX`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{Prefix, Transport};

use crate::Guard;

/// Proof that a source owns its address: it completed a TCP handshake, or returned a value that we had
/// sent to it.
///
/// Only [`VerifiedSource::assertion`] makes one; its caller states the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedSource(IpAddr);

impl VerifiedSource {
    /// States that `ip` is proved.
    pub fn assertion(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }

    /// The proved address.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

/// One thing that a source did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The code of its event, such as `hwid_unknown`.
    pub code: &'static str,
    /// How it came.
    pub transport: Transport,
    /// Our port that it came to.
    pub port: u16,
    /// What was seen, in words; the guard keeps at most [`crate::EVIDENCE_MAX`] bytes of it.
    pub detail: String,
}

/// When each source offended of late.
#[derive(Clone, Debug, Default)]
pub(crate) struct OffenceTable {
    sources: BTreeMap<Prefix, VecDeque<(Instant, &'static str)>>,
    /// The sources by their latest offence, for forgetting.
    by_latest: BTreeSet<(Instant, Prefix)>,
}

/// What an offence came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// The only one within the window.
    First,
    /// One more, but not enough.
    More,
    /// Enough; the source is no longer counted. In words: how many of which kind.
    Enough(String),
}

impl OffenceTable {
    /// Counts an offence of `source`: enough are `after` of them in the half-open window `within`.
    pub(crate) fn count(
        &mut self,
        source: Prefix,
        code: &'static str,
        (after, within): (usize, Duration),
        now: Instant,
    ) -> Count {
        self.forget_older(within, now);
        let mut times = self.forget(source).unwrap_or_default();
        // An order of times that does not rise would break both windows.
        let now = times.back().map_or(now, |(latest, _)| now.max(*latest));
        times.retain(|(at, _)| now.since(*at) < within);
        times.push_back((now, code));
        if times.len() >= after {
            return Count::Enough(in_words(&times, within));
        }
        let count = if times.len() == 1 { Count::First } else { Count::More };
        if self.sources.len() >= Guard::SOURCES_MAX
            && let Some((_, oldest)) = self.by_latest.pop_first()
        {
            self.sources.remove(&oldest);
        }
        self.by_latest.insert((now, source));
        self.sources.insert(source, times);
        self.check_invariants();
        count
    }

    /// Clears the count of `source`.
    pub(crate) fn forget(&mut self, source: Prefix) -> Option<VecDeque<(Instant, &'static str)>> {
        let times = self.sources.remove(&source)?;
        if let Some((latest, _)) = times.back() {
            self.by_latest.remove(&(*latest, source));
        }
        Some(times)
    }

    /// Clears the counts of all sources in `network`.
    pub(crate) fn forget_within(&mut self, network: &Prefix) {
        let within = self.sources.range(*network..).map(|(source, _)| *source);
        let within: Vec<Prefix> = within.take_while(|source| network.covers(source)).collect();
        for source in within {
            self.forget(source);
        }
    }

    /// Drops the sources whose latest offence has left the window.
    pub(crate) fn forget_older(&mut self, within: Duration, now: Instant) {
        while let Some((latest, source)) = self.by_latest.first().copied()
            && now.since(latest) >= within
        {
            self.by_latest.remove(&(latest, source));
            self.sources.remove(&source);
        }
    }

    pub(crate) fn check_invariants(&self) {
        debug_assert_eq!(self.sources.len(), self.by_latest.len());
        debug_assert!(self.sources.len() <= Guard::SOURCES_MAX);
    }
}

/// `5 offences in 60 s: hwid_unknown 3, malformed 2`
fn in_words(times: &VecDeque<(Instant, &'static str)>, within: Duration) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, code) in times {
        *kinds.entry(code).or_default() += 1;
    }
    let plural = if times.len() == 1 { "" } else { "s" };
    let mut text = format!("{} offence{plural} in {} s", times.len(), within.as_secs());
    for (index, (code, count)) in kinds.iter().enumerate() {
        let separator = if index == 0 { ": " } else { ", " };
        text.push_str(&format!("{separator}{code} {count}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_beyond_the_window() {
        let within = Duration::from_secs(60);
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let mut table = OffenceTable::default();
        for (host, secs) in [(1, 0), (2, 10), (1, 20)] {
            table.count(Prefix::single(IpAddr::from([198, 51, 100, host])), "flood", (9, within), at(secs));
        }
        for (secs, left) in [(69, 2), (70, 1), (79, 1), (80, 0)] {
            table.forget_older(within, at(secs));
            assert_eq!((table.sources.len(), table.by_latest.len()), (left, left), "after {secs} s");
        }
    }
}
