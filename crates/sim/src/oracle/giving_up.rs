//! Rules about who gives up: his CANCEL is answered at once (RFC 3261 §9.2), and goes on to where his INVITE went as
//! soon as that has an answer at all (§9.1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, Side};

use crate::oracle::{Seen, Violation};
use crate::scenery;

/// An INVITE of the border's that has no final answer.
#[derive(Debug)]
struct Asked {
    branch: String,
    flow: FlowId,
    peer: std::net::IpAddr,
    /// When it went first.
    since: Instant,
    rings: bool,
    cancelled: bool,
}

/// Nothing was heard of it for so long: its transaction is over (RFC 3261 §17.1.1.2, timer B).
const TIMER_B: Duration = Duration::from_secs(32);

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct GivingUp {
    /// CANCELs of this step: face and branch, and the From tag.
    owed: BTreeMap<(Side, String), String>,
    /// INVITEs that the border took on: it said so by a provisional answer.
    taken_on: BTreeSet<(Side, String)>,
    /// By the face where they went, and the From tag, which crosses.
    asked: BTreeMap<(Side, String), Asked>,
    /// From tags of several INVITEs at once, as of a PBX that forks: nobody knows which is meant.
    several: BTreeSet<(Side, String)>,
    /// Who gave up, by the face where his INVITE went and its From tag.
    given_up: BTreeSet<(Side, String)>,
    /// The same, where the CANCEL is due in this step.
    due: BTreeSet<(Side, String)>,
    /// INVITEs that came and begin a call, by face and branch.
    initial: BTreeSet<(Side, String)>,
    /// From tags of those that came from the inside.
    forks: BTreeSet<String>,
    /// From and To tags of whoever gave up, hung up, or said 487 himself.
    over: BTreeSet<String>,
}

impl GivingUp {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        let tag = text.from_tag().to_owned();
        if matches!((text.method(), text.code()), ("CANCEL" | "BYE", None) | ("INVITE", Some(487))) {
            self.over.extend([tag.clone(), text.to_tag().to_owned()]);
        }
        match (text.method(), text.code()) {
            ("CANCEL", None) if !scenery::is_scanner(seen.peer.ip()) => {
                let key = (seen.side, text.branch().to_owned());
                if self.taken_on.contains(&key) {
                    self.owed.insert(key, tag);
                }
            }
            ("INVITE", None) if text.to_tag().is_empty() => {
                let new = self.initial.insert((seen.side, text.branch().to_owned()));
                // of a PBX that forks only some may go on
                if new && seen.side == Side::Inside && !self.forks.insert(tag.clone()) {
                    self.several.insert((Side::Outside, tag));
                }
            }
            ("INVITE", Some(code)) if text.branch() == self.branch_of(&(seen.side, tag.clone())) => {
                let key = (seen.side, tag);
                if code >= 200 {
                    self.asked.remove(&key);
                    return;
                }
                let is_over = |asked: &Asked| !asked.rings && seen.now.since(asked.since) >= TIMER_B;
                if let Some(asked) = self.asked.get_mut(&key).filter(|asked| !is_over(asked)) {
                    asked.rings = true;
                    if self.given_up.contains(&key) && !asked.cancelled {
                        self.due.insert(key);
                    }
                }
            }
            _ => {}
        }
    }

    fn branch_of(&self, key: &(Side, String)) -> &str {
        self.asked.get(key).map(|asked| asked.branch.as_str()).unwrap_or_default()
    }

    /// Who has not given up hears why his call came to nothing, and not that he gave it up (RFC 3261 §21.4.25).
    pub(super) fn on_final_answer(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let refused = (text.method(), text.code()) == ("INVITE", Some(487));
        let began = refused && self.initial.contains(&(seen.side, text.branch().to_owned()));
        match began && !self.over.contains(text.from_tag()) {
            true => Err(Violation::of("487 is for who gave up", text.render(), text)),
            false => Ok(()),
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        let key = (seen.side, text.from_tag().to_owned());
        match (text.method(), text.code()) {
            ("INVITE", None) if text.to_tag().is_empty() => {
                if self.branch_of(&key) == text.branch() {
                    return;
                }
                if self.asked.contains_key(&key) {
                    self.several.insert(key.clone());
                }
                // a PBX that forks may give up one party before it asks another
                if seen.side == Side::Outside {
                    self.given_up.remove(&key);
                }
                let (branch, flow, peer) = (text.branch().to_owned(), seen.flow, seen.peer.ip());
                let asked = Asked { branch, flow, peer, since: seen.now, rings: false, cancelled: false };
                self.asked.insert(key, asked);
            }
            ("INVITE", Some(..=199)) => {
                self.taken_on.insert((seen.side, text.branch().to_owned()));
            }
            ("CANCEL", None) => {
                self.due.remove(&key);
                if let Some(asked) = self.asked.get_mut(&key) {
                    asked.cancelled = true;
                }
            }
            ("CANCEL", Some(code)) => {
                let place = (seen.side, text.branch().to_owned());
                // one that comes again is the matter of `answers.rs`
                self.taken_on.remove(&place);
                let Some(tag) = self.owed.remove(&place) else { return };
                let key = (seen.side.other(), tag);
                if code == 200 && self.asked.get(&key).is_some_and(|asked| asked.rings && !asked.cancelled) {
                    self.due.insert(key.clone());
                }
                if code == 200 {
                    self.given_up.insert(key);
                }
            }
            _ => {}
        }
    }

    /// After each step. `gone`: nothing can be sent there.
    pub(super) fn nothing_is_overdue(
        &mut self,
        gone: impl Fn(FlowId, std::net::IpAddr) -> bool,
    ) -> Result<(), Violation> {
        if let Some(((side, branch), call)) = self.owed.pop_first() {
            let seen = format!("{branch}, {side:?}");
            return Err(Violation { oracle: "a CANCEL is answered", seen, call });
        }
        for key in std::mem::take(&mut self.due) {
            let Some(asked) = self.asked.get(&key).filter(|_| !self.several.contains(&key)) else { continue };
            if !gone(asked.flow, asked.peer) {
                let (seen, call) = (format!("{asked:?}, {:?}", key.0), key.1);
                return Err(Violation { oracle: "who gives up is given up for", seen, call });
            }
        }
        Ok(())
    }

    /// Its transactions are over.
    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }
}
