//! Rules about how many calls an extension may make: in any window, at once, and none refused without cause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use border::config::Config;
use guard::CallRule;
use wire::clock::Instant;
use wire::net::{FlowId, Side};

use crate::oracle::{Seen, Violation};
use crate::scenery;
use crate::text::{Text, uri_of, user_of};

/// How long beginnings are remembered: longer than any rule of the false world.
const REMEMBERED: Duration = Duration::from_secs(300);

/// So often a challenged call may be tried again as the same call: with an answer, and where its nonce was too old.
const ANSWERS: usize = 2;
/// For so long it surely is the same.
const SAME_CALL: Duration = Duration::from_secs(32);

/// A try of a call.
#[derive(Clone, Debug)]
struct Try {
    branch: String,
    /// When it came first.
    at: Instant,
    /// Whether it answers a challenge.
    answers: bool,
}

/// What holds for one extension.
#[derive(Clone, Debug)]
struct Limit {
    rules: Vec<CallRule>,
    max_calls: usize,
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Limits {
    limits: BTreeMap<String, Limit>,
    /// Initial INVITEs of phones, by From tag.
    tries: BTreeMap<String, Vec<Try>>,
    /// Those of them that may be calls of their own, by extension and branch, but for those that a rule refused.
    asked: BTreeMap<&'static str, BTreeMap<String, Instant>>,
    /// When calls began that the PBX saw, by extension.
    started: BTreeMap<String, Vec<Instant>>,
    /// The branches of all tries that reached the PBX.
    counted: BTreeSet<String>,
    /// Calls that are up for certain, by From tag: each has a place of its extension.
    up: BTreeMap<String, BTreeSet<(Side, String)>>,
    /// The INVITEs of all these, which may be repeated.
    branches: BTreeSet<String>,
    /// Where INVITEs came from: who is gone has no call.
    askers: BTreeMap<FlowId, Vec<String>>,
}

impl Limits {
    /// The border has another configuration now.
    pub(super) fn on_config(&mut self, config: &Config) {
        let limit = |extension: &border::config::Extension| Limit {
            rules: extension.rules.clone(),
            max_calls: extension.max_calls,
        };
        self.limits = config.extensions.iter().map(|own| (own.name.clone(), limit(own))).collect();
    }

    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if text.code().is_none() && matches!(text.method(), "BYE" | "CANCEL") {
            self.over(seen);
        }
        let begins = text.method() == "INVITE" && text.code().is_none() && text.to_tag().is_empty();
        if !begins {
            return;
        }
        let tag = text.from_tag().to_owned();
        if !seen.is_udp() {
            self.askers.entry(seen.flow).or_default().push(tag.clone());
        }
        if seen.side == Side::Inside {
            return;
        }
        let tries = self.tries.entry(tag).or_default();
        if tries.iter().any(|own| own.branch == text.branch()) {
            return;
        }
        let answers = ["Authorization", "Proxy-Authorization"].iter().any(|name| text.has(name));
        tries.push(Try { branch: text.branch().to_owned(), at: seen.now, answers });
        let again = is_the_same_call(tries);
        if let Some(extension) = scenery::extension_at(seen.peer.ip())
            && again != Some(true)
        {
            let asked = self.asked.entry(extension).or_default();
            asked.retain(|_, at| seen.now.since(*at) < REMEMBERED);
            asked.insert(text.branch().to_owned(), seen.now);
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        match (text.method(), text.code()) {
            ("INVITE", None) if text.to_tag().is_empty() => {
                if seen.side == Side::Inside {
                    self.within_the_rules(seen)?;
                }
                self.within_max_calls(seen)
            }
            ("INVITE", Some(300..)) | ("BYE", None) => {
                self.over(seen);
                // by a rule, or for its phone is not registered
                let by_border = text.has("Warning") || text.code() == Some(403);
                if seen.side == Side::Outside && by_border {
                    self.not_asked(text);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What was refused counts for nothing, and what is repeated later, when its phone is registered, is a call of that
    /// moment. One that the PBX challenged began all the same: it is a later INVITE of it that was refused.
    fn not_asked(&mut self, text: &Text) {
        let branch = text.branch();
        if self.counted.contains(branch) {
            return;
        }
        self.asked.values_mut().for_each(|asked| asked.retain(|own, _| own != branch));
        if let Some(tries) = self.tries.get_mut(text.from_tag()).filter(|_| text.code() == Some(403)) {
            tries.retain(|own| own.branch != branch);
        }
    }

    /// A flow is gone, and the calls that were asked for there.
    pub(super) fn on_closed(&mut self, flow: FlowId) {
        for tag in self.askers.remove(&flow).unwrap_or_default() {
            self.up.remove(&tag);
        }
    }

    fn over(&mut self, seen: &Seen<'_>) {
        for tag in [seen.text.from_tag(), seen.text.to_tag()] {
            self.up.remove(tag);
        }
    }

    /// In no window of a rule's period did more calls begin than it says.
    fn within_the_rules(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let extension = user_of(uri_of(text.header("From"))).to_owned();
        let tries = self.tries.get(text.from_tag()).map(Vec::as_slice).unwrap_or_default();
        let Some(Try { branch, at, .. }) = tries.last().cloned() else { return Ok(()) };
        if !self.counted.insert(branch) || is_the_same_call(tries) != Some(false) {
            return Ok(());
        }
        let started = self.started.entry(extension.clone()).or_default();
        started.push(at);
        started.sort();
        let rules = self.limits.get(&extension).map(|limit| limit.rules.as_slice()).unwrap_or_default();
        for rule in rules {
            let within = |first: &Instant| {
                started.iter().filter(|at| *at >= first && at.since(*first) < rule.period).count()
            };
            let most = started.iter().map(within).max().unwrap_or(0);
            if most > rule.calls as usize {
                return Err(Violation::of(
                    "call frequency",
                    format!("{most} calls of {extension} within {:?}, {} may be", rule.period, rule.calls),
                    text,
                ));
            }
        }
        started.retain(|at| seen.now.since(*at) < REMEMBERED);
        Ok(())
    }

    /// Never are more calls of an extension up than may be, in either direction.
    fn within_max_calls(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let (extension, which) = match seen.side {
            Side::Inside => (user_of(uri_of(text.header("From"))), String::new()),
            // a PBX that forks calls several phones of one extension with one tag
            Side::Outside => (user_of(uri_of(text.header("To"))), seen.peer.to_string()),
        };
        let Some(limit) = self.limits.get(extension) else { return Ok(()) };
        if !self.branches.insert(text.branch().to_owned()) {
            return Ok(());
        }
        self.up
            .entry(text.from_tag().to_owned())
            .or_default()
            .insert((seen.side, format!("{extension} {which}")));
        let of_it = |(_, name): &&(Side, String)| name.split(' ').next() == Some(extension);
        let up = self.up.values().flatten().filter(of_it).count();
        match up > limit.max_calls {
            true => Err(Violation::of(
                "calls at once",
                format!("{up} calls of {extension} are up, {} may be", limit.max_calls),
                text,
            )),
            false => Ok(()),
        }
    }

    /// A call was refused by a rule: as many had come in its time as it admits.
    pub(super) fn refused_by_rule(
        &self,
        extension: &str,
        rule: CallRule,
        now: Instant,
    ) -> Result<(), Violation> {
        let asked = self.asked.get(extension);
        let came =
            asked.map_or(0, |asked| asked.values().filter(|at| now.since(**at) <= rule.period).count());
        // the one that was refused is among them
        match came > rule.calls as usize {
            true => Ok(()),
            false => Err(Violation::new(
                "no call is refused without cause",
                format!("{extension} asked for {came} calls within {:?}, {rule} refused one", rule.period),
            )),
        }
    }

    /// A call was refused because so many are up.
    pub(super) fn refused_by_number(&self, extension: &str, up: usize) -> Result<(), Violation> {
        let most = self.limits.get(extension).map_or(0, |limit| limit.max_calls);
        match up >= most {
            true => Ok(()),
            false => Err(Violation::new(
                "no call is refused without cause",
                format!("{up} calls of {extension} are up, {most} may be, one was refused"),
            )),
        }
    }

    /// The counts of calls are not kept: a restart takes the window with it.
    pub(super) fn on_restart(&mut self) {
        self.started.clear();
        self.asked.clear();
        self.tries.clear();
        self.up.clear();
    }
}

/// Whether the last of these tries is the call of the first; none where nobody can tell.
fn is_the_same_call(tries: &[Try]) -> Option<bool> {
    let [first, again @ ..] = tries else { return Some(false) };
    match again.last() {
        Some(last) if last.answers && last.at.since(first.at) >= SAME_CALL => None,
        Some(last) if last.answers => Some(again.iter().filter(|own| own.answers).count() <= ANSWERS),
        Some(_) | None => Some(false),
    }
}
