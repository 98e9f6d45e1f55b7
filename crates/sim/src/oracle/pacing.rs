//! A rule about the pace of registrations: however many are due at once, a PBX gets no more of them in any window than
//! its rule says (the configuration's `registrations`), recounted from the wire.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use guard::CallRule;
use wire::clock::Instant;
use wire::net::Side;

use crate::oracle::{Seen, Violation};
use crate::scenery;
use crate::text::{param, uri_of, user_of};

/// What the rule remembers.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    rule: Option<CallRule>,
    /// What was sent: the same again is nothing new.
    branches: BTreeSet<String>,
    /// When each PBX was asked for something new, the last of it.
    sent: BTreeMap<SocketAddr, VecDeque<Instant>>,
    /// When each PBX asked back: what goes on takes no new turn, be it in another series, for that of one start alone is
    /// left as soon as the disk has confirmed it.
    asked_back: BTreeMap<SocketAddr, VecDeque<Instant>>,
}

impl Pacing {
    /// The border begins, and nothing is on its way.
    pub(super) fn on_start(&mut self, rule: Option<CallRule>) {
        *self = Self { rule, ..Self::default() };
    }

    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if seen.side == Side::Inside
            && text.method() == "REGISTER"
            && matches!(text.code(), Some(401 | 407 | 423))
        {
            self.asked_back.entry(seen.peer).or_default().push_back(seen.now);
        }
    }

    /// What goes by a connection may have waited for it: that says nothing of when its turn was.
    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let Some(rule) = self.rule.filter(|_| is_registration_of_ours(seen) && seen.is_udp()) else {
            return Ok(());
        };
        let text = seen.text;
        let asked_back = self.asked_back.entry(seen.peer).or_default();
        asked_back.retain(|at| seen.now.since(*at) < rule.period);
        if !self.branches.insert(text.branch().to_owned()) || asked_back.pop_front().is_some() {
            return Ok(());
        }
        let sent = self.sent.entry(seen.peer).or_default();
        sent.retain(|at| seen.now.since(*at) < rule.period);
        sent.push_back(seen.now);
        match sent.len() > usize::try_from(rule.calls).unwrap_or(usize::MAX) {
            true => Err(Violation::of(
                "registrations keep the pace of their PBX",
                format!("{rule} is the rule; {sent:?} at {}:\n{}", seen.peer, text.render()),
                text,
            )),
            false => Ok(()),
        }
    }
}

/// One that is made or refreshed, of an extension whose password the border has.
fn is_registration_of_ours(seen: &Seen<'_>) -> bool {
    let text = seen.text;
    if seen.side == Side::Outside || text.method() != "REGISTER" || text.code().is_some() {
        return false;
    }
    let name = user_of(uri_of(text.header("To")));
    let lasts = |contact: &String| param(contact, "expires").is_some_and(|secs| secs != "0");
    scenery::EXTENSIONS.iter().any(|(own, digest)| *own == name && !digest)
        && text.all("Contact").iter().any(lasts)
}
