//! Rules about the places that calls take up: those that the border counts for an extension are those of calls that
//! were begun on the wire and have not ended there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, Side};

use crate::oracle::{Seen, Violation};
use crate::scenery;
use crate::text::{uri_of, user_of};

/// How long a call may have its place after its last word: a BYE that nobody answers is repeated for 32 s.
const GRACE: Duration = Duration::from_secs(40);
/// How long a call may be without its place whose end cannot be told to anybody: as long, after a phone that is gone had
/// its grace.
const UNTOLD: Duration = Duration::from_secs(80);

/// A call: where its INVITE came from, its From tag, and whom a PBX that forks calls with one tag.
type Key = (Side, String, String);

#[derive(Debug, Default)]
struct Call {
    extension: String,
    /// Where it was begun.
    flows: BTreeSet<FlowId>,
    /// INVITEs without a final answer.
    asked: BTreeSet<String>,
    /// Parties that accepted, and those that had a BYE or sent one.
    accepted: BTreeSet<String>,
    ended: BTreeSet<String>,
    /// When all of it had ended.
    over: Option<Instant>,
}

impl Call {
    /// Nobody waits for an answer, and nobody who accepted is left.
    fn is_over(&self) -> bool {
        self.asked.is_empty() && self.accepted.is_subset(&self.ended)
    }

    fn is_up(&self) -> bool {
        self.over.is_none() && !self.accepted.is_empty() && self.ended.is_empty()
    }
}

/// What the rule remembers.
#[derive(Debug, Default)]
pub(super) struct Slots {
    calls: BTreeMap<Key, Call>,
    /// Which calls have a tag.
    of_tag: BTreeMap<String, BTreeSet<Key>>,
    /// Since when an extension has fewer places than calls.
    short: BTreeMap<String, Instant>,
    /// Something was seen that changes what may be.
    changed: bool,
    /// When the next call that is over must have given its place back.
    next: Option<Instant>,
}

impl Slots {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        match (seen.text.method(), seen.text.code()) {
            ("INVITE", None) if seen.text.to_tag().is_empty() => self.on_begun(seen),
            ("BYE", None) => self.on_bye(seen, seen.side),
            _ => {}
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) {
        match (seen.text.method(), seen.text.code()) {
            ("INVITE", Some(code @ 200..)) => self.on_answered(code, seen),
            ("BYE", None) => self.on_bye(seen, seen.side.other()),
            _ => {}
        }
    }

    fn on_begun(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        let (extension, whom) = match seen.side {
            Side::Outside => (scenery::extension_at(seen.peer.ip()), ""),
            Side::Inside => (Some(user_of(uri_of(text.header("To")))), text.uri()),
        };
        let Some(extension) = extension else { return };
        let key = (seen.side, text.from_tag().to_owned(), whom.to_owned());
        self.of_tag.entry(key.1.clone()).or_default().insert(key.clone());
        let call = self.calls.entry(key).or_default();
        call.extension = extension.to_owned();
        call.flows.insert(seen.flow);
        call.asked.insert(text.branch().to_owned());
        call.over = None;
        self.changed = true;
    }

    fn of_tag(&self, tag: &str) -> Vec<Key> {
        self.of_tag.get(tag).into_iter().flatten().cloned().collect()
    }

    fn on_answered(&mut self, code: u16, seen: &Seen<'_>) {
        for key in self.of_tag(seen.text.from_tag()) {
            let Some(call) = self.calls.get_mut(&key) else { continue };
            let is_of_it =
                call.asked.remove(seen.text.branch()) || call.accepted.contains(seen.text.to_tag());
            if is_of_it && code < 300 {
                call.accepted.insert(seen.text.to_tag().to_owned());
            }
            self.on_change(&key, seen.now);
        }
    }

    /// Two calls of ours, one into the PBX and one out of it, may have the same tags: which one a BYE is for is known
    /// by the side that it comes from, and by whose tag is in From.
    fn on_bye(&mut self, seen: &Seen<'_>, from: Side) {
        let [said_by, said_to] = [seen.text.from_tag(), seen.text.to_tag()];
        for (caller, party, begun_at) in [(said_by, said_to, from), (said_to, said_by, from.other())] {
            for key in self.of_tag(caller) {
                let call = self.calls.get_mut(&key).filter(|_| key.0 == begun_at);
                if let Some(call) = call {
                    call.ended.insert(party.to_owned());
                    self.on_change(&key, seen.now);
                }
            }
        }
    }

    fn on_change(&mut self, key: &Key, now: Instant) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.over = if call.is_over() { call.over.or(Some(now)) } else { None };
        if call.over.is_some() {
            self.next = self.next.or(Some(now + GRACE));
        }
        self.changed = true;
    }

    /// Who is gone waits for no answer.
    pub(super) fn on_closed(&mut self, flow: FlowId, now: Instant) {
        let gone = self.calls.iter_mut().filter(|(_, call)| call.flows.contains(&flow));
        let keys: Vec<Key> = gone
            .map(|(key, call)| {
                call.asked.clear();
                key.clone()
            })
            .collect();
        keys.iter().for_each(|key| self.on_change(key, now));
    }

    /// Whether a look at the border's counts may say anything new.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.changed || self.next.is_some_and(|at| at <= now) || !self.short.is_empty();
        self.changed = false;
        due
    }

    /// How many places the border counts for each extension.
    pub(super) fn places_are<'a>(
        &mut self,
        places: impl Iterator<Item = (&'a str, usize)>,
        now: Instant,
    ) -> Result<(), Violation> {
        self.forget(now);
        for (extension, counted) in places {
            let own = || self.calls.values().filter(|call| call.extension == extension);
            let (most, least) = (own().count(), own().filter(|call| call.is_up()).count());
            if counted > most {
                let seen = format!("{extension} has {counted} calls up, {most} may be: {:?}", self.calls);
                return Err(Violation::new("call slots balance", seen));
            }
            if counted >= least {
                self.short.remove(extension);
                continue;
            }
            let since = *self.short.entry(extension.to_owned()).or_insert(now);
            if now.since(since) > UNTOLD {
                let seen = format!("{extension} has {counted} calls up, {least} must be: {:?}", self.calls);
                return Err(Violation::new("call slots balance", seen));
            }
        }
        Ok(())
    }

    /// Calls that are over and have had their grace.
    fn forget(&mut self, now: Instant) {
        if self.next.is_none_or(|at| at > now) {
            return;
        }
        let over = |call: &Call| call.over.is_some_and(|over| over + GRACE <= now);
        self.calls.retain(|_, call| !over(call));
        self.of_tag.values_mut().for_each(|keys| keys.retain(|key| self.calls.contains_key(key)));
        self.of_tag.retain(|_, keys| !keys.is_empty());
        self.next = self.calls.values().filter_map(|call| call.over).min().map(|over| over + GRACE);
    }

    /// Calls are gone with the process.
    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }
}
