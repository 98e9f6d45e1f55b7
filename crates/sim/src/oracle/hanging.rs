//! An INVITE that the border took on goes on, or is refused, and does not hang.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, Side};

use crate::oracle::{Seen, Violation};

/// As long as anything is waited for before a call goes on: its realm, media ports, a connection to a PBX that is known
/// to be there (RFC 3261 §17.1.1.2, timer B).
const SOON: Duration = Duration::from_secs(35);

/// An INVITE that was taken on, and nothing came of it yet.
#[derive(Debug)]
struct Taken {
    since: Instant,
    tag: String,
    flow: FlowId,
    source: IpAddr,
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Hanging {
    /// By face and branch.
    taken: BTreeMap<(Side, String), Taken>,
    /// Calls that went on, by the face where they came from and their From tag, which crosses.
    went_on: BTreeSet<(Side, String)>,
}

impl Hanging {
    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if text.method() != "INVITE" {
            return;
        }
        let (tag, place) = (text.from_tag().to_owned(), (seen.side, text.branch().to_owned()));
        match text.code() {
            None => {
                let from = seen.side.other();
                self.taken.retain(|(side, _), taken| *side != from || taken.tag != tag);
                self.went_on.insert((from, tag));
            }
            Some(..=199) if !self.went_on.contains(&(seen.side, tag.clone())) => {
                let taken = Taken { since: seen.now, tag, flow: seen.flow, source: seen.peer.ip() };
                self.taken.entry(place).or_insert(taken);
            }
            Some(_) => drop(self.taken.remove(&place)),
        }
    }

    /// After each step. `gone`: nothing can be sent there.
    pub(super) fn nothing_hangs(
        &self,
        now: Instant,
        gone: impl Fn(FlowId, IpAddr) -> bool,
    ) -> Result<(), Violation> {
        let hangs = |taken: &&Taken| taken.since + SOON < now && !gone(taken.flow, taken.source);
        match self.taken.values().find(hangs) {
            Some(taken) => {
                let (seen, call) = (format!("{taken:?}"), taken.tag.clone());
                Err(Violation { oracle: "a call goes on or is refused", seen, call })
            }
            None => Ok(()),
        }
    }

    /// Its transactions are over.
    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }
}
