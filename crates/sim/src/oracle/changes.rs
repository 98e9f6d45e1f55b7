//! A change of a call to which one end says that it knows no such call (481), or that nobody is there (408), ends it at
//! the other end (RFC 3261 §12.2.1.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, Side};

use crate::oracle::{Seen, Violation};
use crate::text::Text;

/// So soon.
const SOON: Duration = Duration::from_secs(2);

/// The tags of the two parties, which cross unchanged.
type Parties = [String; 2];

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Where each end of a call spoke last.
    ends: BTreeMap<(Side, Parties), (FlowId, IpAddr)>,
    /// Changes that were passed on, by face and branch.
    changes: BTreeSet<(Side, String)>,
    /// Calls whose other end must hear of the end of it until then.
    due: BTreeMap<(Side, Parties), Instant>,
    /// Calls in which somebody has hung up.
    over: BTreeSet<Parties>,
}

fn parties(text: &Text) -> Parties {
    let mut tags = [text.from_tag().to_owned(), text.to_tag().to_owned()];
    tags.sort();
    tags
}

impl Changes {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if text.to_tag().is_empty() {
            return;
        }
        let parties = parties(text);
        match (text.method(), text.code()) {
            ("BYE", _) => drop(self.over.insert(parties)),
            (_, None) | ("INVITE", Some(200..=299)) => {
                self.ends.insert((seen.side, parties), (seen.flow, seen.peer.ip()));
            }
            ("INVITE" | "UPDATE", Some(408 | 481)) => {
                let other = (seen.side.other(), parties);
                let crossed = self.changes.remove(&(seen.side, text.branch().to_owned()));
                if crossed && self.ends.contains_key(&other) {
                    self.due.entry(other).or_insert(seen.now + SOON);
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        let place = (seen.side, text.branch().to_owned());
        match (text.method(), text.code()) {
            ("BYE", None) => drop(self.over.insert(parties(text))),
            ("INVITE" | "UPDATE", None) if !text.to_tag().is_empty() => drop(self.changes.insert(place)),
            // nobody answered it
            ("INVITE" | "UPDATE", Some(408)) => {
                let asker = (seen.side, parties(text));
                if self.ends.contains_key(&asker) {
                    self.due.entry(asker).or_insert(seen.now + SOON);
                }
            }
            _ => {}
        }
    }

    /// After each step. `gone`: nothing can be sent there.
    pub(super) fn nothing_is_overdue(
        &mut self,
        now: Instant,
        gone: impl Fn(FlowId, IpAddr) -> bool,
    ) -> Result<(), Violation> {
        let late = |due: &Instant| *due < now;
        while let Some((key, _)) = self.due.iter().find(|(_, due)| late(due)) {
            let key = key.clone();
            self.due.remove(&key);
            let is_gone = self.ends.get(&key).is_none_or(|(flow, ip)| gone(*flow, *ip));
            if !is_gone && !self.over.contains(&key.1) {
                let [one, other] = &key.1;
                let seen = format!("{one} and {other}, {:?}", key.0);
                let oracle = "a change that finds no call ends it at the other end";
                return Err(Violation { oracle, seen, call: one.clone() });
            }
        }
        Ok(())
    }

    /// Its transactions are over.
    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }
}
