//! Rules about blocks: none without its offences or its order, and none missing after these, none shorter or longer than it was said, none for
//! who is allowed, nobody spared by an order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use border::{Code, Command, Event};
use wire::clock::Instant;
use wire::net::{FlowId, Prefix, PrefixSet, Side};

use crate::digest;
use crate::oracle::{Seen, Violation};
use crate::scenery::{self, BLOCK};
use crate::words::of_event;

/// A real shell is never on time; what was kept is dated by the millisecond.
const LATE: Duration = Duration::from_millis(40);
/// So many events of a kind are told one by one in a second, the others in one line.
const TOLD_A_SECOND: usize = 10;
const SECOND: Duration = Duration::from_secs(1);
/// As long as the PBX may take to say that credentials are wrong.
const ANSWERED_WITHIN: Duration = Duration::from_secs(43);
/// Where a challenge stands, and where its answer.
const ASKED: [&str; 2] = ["WWW-Authenticate", "Proxy-Authenticate"];
const ANSWERED: [&str; 2] = ["Authorization", "Proxy-Authorization"];
/// What counts towards a block (contract section 6); each is an event.
const OFFENCES: [Code; 13] = [
    Code::CertUntrusted,
    Code::CertExpired,
    Code::CertNotYetValid,
    Code::CertPurpose,
    Code::CertMissing,
    Code::CertAmbiguous,
    Code::HwidUnknown,
    Code::CnMismatch,
    Code::NameUnknown,
    Code::DigestFailed,
    Code::FlowNotRegistered,
    Code::Malformed,
    Code::Flood,
];

#[derive(Clone, Debug)]
struct Block {
    prefix: Prefix,
    by_operator: bool,
    length: Duration,
    until: Instant,
    /// The process was killed since: it may not have been kept, or until another moment.
    unsure: bool,
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
    /// What was lifted, or was over: killed before that is on disk, the border brings it back.
    ended: Vec<Block>,
    /// The length of the last automatic block of each, unless it was lifted.
    past: BTreeMap<Prefix, Duration>,
    /// Those of them that were over when the process was killed: their records end with them, mostly.
    past_unsure: BTreeSet<Prefix>,
    /// The length of those that were lifted, over or replaced when the process was killed before that was on disk: the
    /// new one may count them.
    revived: BTreeMap<Prefix, Duration>,
    /// The length of the automatic one in whose place the operator put his own.
    replaced: BTreeMap<Prefix, Duration>,
    /// Offences by connections alone, since somebody was blocked, unblocked or allowed there.
    unpunished: BTreeMap<Prefix, VecDeque<Instant>>,
    /// Who has done enough in this step.
    deserved: BTreeSet<Prefix>,
    /// When, and whether by UDP, where only what is proved counts.
    offences: BTreeMap<Prefix, VecDeque<(Instant, bool)>>,
    /// Who spoke by UDP, whoever it was.
    by_udp: BTreeSet<SocketAddr>,
    by_stream: BTreeSet<SocketAddr>,
    /// Values of ours that were given to somebody by UDP, and when he returned one: so he is there.
    given: BTreeSet<(IpAddr, String)>,
    returned: BTreeMap<Prefix, VecDeque<Instant>>,
    /// The last events of each offence, and when so many came that further ones are not told one by one.
    told: BTreeMap<Code, VecDeque<Instant>>,
    untold: Option<Instant>,
    /// The order that is carried out in this step.
    order: Option<Command>,
    blocked: PrefixSet,
    allowed: PrefixSet,
    /// Whom the operator has exempted, by name.
    exempt: BTreeMap<String, Prefix>,
    /// Whom he exempts no more, by this step's order.
    ended_exemption: Option<Prefix>,
    /// Where each flow outside comes from.
    sources: BTreeMap<FlowId, IpAddr>,
    /// Blocks that must be in the first list after a start.
    kept: BTreeSet<Prefix>,
    clock_was_set: bool,
}

fn fail(seen: impl Into<String>, oracle: &'static str) -> Result<(), Violation> {
    Err(Violation::new(oracle, seen))
}

/// The seconds of "blocked for 10m".
fn said_length(text: &str) -> Option<u64> {
    let (_, said) = text.split_once("blocked for ")?;
    let (number, unit) = said.split_at_checked(said.find(|sign: char| !sign.is_ascii_digit())?)?;
    let seconds = match unit.chars().next()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * seconds)
}

/// The network that the sentence of an event begins with.
fn named(event: &Event) -> Option<Prefix> {
    event.text.split(' ').next()?.parse().ok()
}

impl Blocks {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        if seen.side == Side::Inside {
            return;
        }
        if !seen.is_udp() {
            return;
        }
        self.by_udp.insert(seen.peer);
        let answered = ANSWERED.iter().filter(|_| seen.text.code().is_none());
        for value in answered.flat_map(|name| seen.text.all(name)) {
            let opaque = digest::field(&value, "opaque").unwrap_or_default().to_owned();
            if self.given.contains(&(seen.peer.ip(), opaque)) {
                let returned = self.returned.entry(scenery::blocked_with(seen.peer.ip())).or_default();
                returned.retain(|at| seen.now.since(*at) < BLOCK.within + ANSWERED_WITHIN);
                returned.push_back(seen.now);
            }
        }
    }

    /// Whoever comes by a connection is there.
    pub(super) fn on_opened(&mut self, flow: FlowId, from: SocketAddr) {
        self.by_stream.insert(from);
        self.sources.insert(flow, from.ip());
    }

    /// Bytes in another's name: of him they prove nothing.
    pub(super) fn on_forged(&mut self, from: SocketAddr) {
        self.by_udp.insert(from);
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) {
        if seen.side == Side::Inside || !seen.is_udp() || !matches!(seen.text.code(), Some(401 | 407)) {
            return;
        }
        for value in ASKED.iter().flat_map(|name| seen.text.all(name)) {
            let opaque = digest::field(&value, "opaque").map(str::to_owned);
            self.given.extend(opaque.map(|opaque| (seen.peer.ip(), opaque)));
        }
    }

    /// Whom the border has blocked by itself, last of all.
    pub(super) fn an_automatic_one(&self) -> Option<IpAddr> {
        self.blocks.iter().rev().find(|block| !block.by_operator).map(|block| block.prefix.addr())
    }

    /// Where connections come from.
    pub(super) fn hosts_of(&self, flows: &[FlowId]) -> Vec<IpAddr> {
        flows.iter().filter_map(|flow| self.sources.get(flow).copied()).collect()
    }

    /// The operator's order, before the border has it.
    pub(super) fn on_order(&mut self, order: &Command) {
        self.order = Some(order.clone());
        match order {
            Command::AllowAdd { prefix, name, .. } => {
                self.exempt.entry(name.clone()).or_insert(*prefix);
            }
            Command::AllowRemove { name } => self.ended_exemption = self.exempt.remove(name),
            _ => {}
        }
    }

    /// Between two steps no order is carried out.
    pub(super) fn on_step(&mut self, now: Instant) -> Result<(), Violation> {
        self.order = None;
        if let Some(ended) = self.ended_exemption.take() {
            let still = |prefix: &Prefix| prefix.contains(ended.addr());
            if self.allowed.contains(ended.addr()) && !self.exempt.values().any(still) {
                return fail(format!("{ended}"), "an exemption that was taken back has ended");
            }
        }
        if let Some(free) = self.deserved.pop_first() {
            let words = format!("{free}: {:?}", self.unpunished.get(&free));
            return fail(words, "who offends often enough is blocked");
        }
        if let Some(late) = self.blocks.iter().find(|block| block.until + LATE < now && !block.unsure) {
            return fail(format!("{late:?} has not ended"), "a block ends in its time");
        }
        Ok(())
    }

    pub(super) fn on_event(&mut self, event: &Event, now: Instant) -> Result<(), Violation> {
        if event.code == Code::ClockStepped {
            self.clock_was_set = true;
        }
        if OFFENCES.contains(&event.code) {
            let told = self.told.entry(event.code).or_default();
            told.retain(|at| now.since(*at) < SECOND);
            told.push_back(now);
            if told.len() >= TOLD_A_SECOND {
                self.untold = Some(now);
            }
        }
        // whoever is allowed begins anew when he is not any more
        let is_counted = |source: &SocketAddr| !self.allowed.contains(source.ip());
        if let Some(source) = event.source.filter(|_| OFFENCES.contains(&event.code)).filter(is_counted) {
            let by_udp = self.by_udp.contains(&source) && !self.by_stream.contains(&source);
            let times = self.offences.entry(scenery::blocked_with(source.ip())).or_default();
            times.retain(|(at, _)| now.since(*at) < BLOCK.within);
            times.push_back((now, by_udp));
            if self.by_stream.contains(&source) && !self.by_udp.contains(&source) {
                self.offends(source.ip(), now);
            }
        }
        match event.code {
            Code::Blocked => self.on_blocked(event, now),
            Code::Unblocked => self.on_unblocked(event, now),
            _ => Ok(()),
        }
    }

    fn offends(&mut self, source: IpAddr, now: Instant) {
        // a phone's registration forgives
        let is_blocked = self.blocks.iter().any(|block| block.prefix.contains(source));
        if is_blocked || !scenery::is_scanner(source) {
            return;
        }
        let prefix = scenery::blocked_with(source);
        let times = self.unpunished.entry(prefix).or_default();
        times.retain(|at| now.since(*at) < BLOCK.within);
        times.push_back(now);
        if times.len() >= BLOCK.after as usize {
            self.deserved.insert(prefix);
        }
    }

    fn on_blocked(&mut self, event: &Event, now: Instant) -> Result<(), Violation> {
        let by_operator = event.rule.as_deref() == Some("operator");
        self.unpunished.clear();
        let Some(prefix) = named(event) else { return fail(event.text.clone(), "a block names whom") };
        self.deserved.remove(&prefix);
        let length = if by_operator { self.ordered(prefix) } else { self.earned(prefix, now) };
        let Some(length) = length else {
            return fail(
                format!("{} after {:?}", of_event(event), self.offences.get(&prefix)),
                "no block without cause",
            );
        };
        let said = said_length(&event.text);
        let forgotten =
            !by_operator && self.past_unsure.contains(&prefix) && said == Some(BLOCK.time.as_secs());
        let remembered = self.revived.get(&prefix).map(|past| (*past * 2).min(BLOCK.max_time));
        let remembered = remembered.filter(|again| !by_operator && said == Some(again.as_secs()));
        if said != Some(length.as_secs()) && !forgotten && remembered.is_none() {
            return fail(
                format!("{}, and not {length:?}", of_event(event)),
                "a block is as long as it must be",
            );
        }
        let length = remembered.unwrap_or(if forgotten { BLOCK.time } else { length });
        let in_force = |block: &Block| {
            block.prefix == prefix && !block.by_operator && !block.unsure && block.until > now + LATE
        };
        if let Some(block) = self.blocks.iter().find(|block| !by_operator && in_force(block)) {
            return fail(format!("{} in {block:?}", of_event(event)), "who is blocked does not offend");
        }
        if !by_operator {
            self.offences.remove(&prefix);
        }
        if let Some(block) = self.blocks.iter().find(|block| block.prefix == prefix && !block.by_operator) {
            self.replaced.insert(prefix, block.length);
        }
        self.blocks.retain(|block| block.prefix != prefix);
        self.ended.retain(|block| block.prefix != prefix);
        self.blocks.push(Block { prefix, by_operator, length, until: now + length, unsure: false });
        Ok(())
    }

    /// How long the operator wanted it.
    fn ordered(&self, prefix: Prefix) -> Option<Duration> {
        match &self.order {
            Some(Command::BlockAdd { prefix: ordered, time, .. }) if *ordered == prefix => {
                Some(time.unwrap_or(BLOCK.time))
            }
            _ => None,
        }
    }

    /// How long an automatic one is, where enough has happened.
    fn earned(&self, prefix: Prefix, now: Instant) -> Option<Duration> {
        let of = |udp: bool| {
            self.offences.get(&prefix).map_or(0, |times| times.iter().filter(|(_, own)| *own == udp).count())
        };
        let returned = self.returned.get(&prefix).map_or(0, VecDeque::len);
        let most = BLOCK.after as usize;
        let untold = self.untold.is_some_and(|at| now.since(at) < BLOCK.within + SECOND);
        let proved = returned >= most || self.by_stream.iter().any(|peer| prefix.contains(peer.ip()));
        let enough = of(false) + of(true).min(returned) >= most || (untold && proved);
        let length = self.past.get(&prefix).map_or(BLOCK.time, |past| (*past * 2).min(BLOCK.max_time));
        enough.then_some(length)
    }

    fn on_unblocked(&mut self, event: &Event, now: Instant) -> Result<(), Violation> {
        self.unpunished.clear();
        let Some(prefix) = named(event) else { return fail(event.text.clone(), "a block names whom") };
        let place = self.blocks.iter().position(|block| block.prefix == prefix);
        let Some(block) = place.map(|place| self.blocks.remove(place)) else {
            return fail(of_event(event), "only a block ends");
        };
        let lifted = match &self.order {
            Some(Command::BlockRemove { prefixes }) => prefixes.contains(&prefix),
            Some(Command::BlockAllow { prefix: allowed }) => *allowed == prefix,
            _ => false,
        };
        if lifted {
            self.past.retain(|source, _| !source.overlaps(&prefix));
            self.offences.retain(|source, _| !source.overlaps(&prefix));
            self.ended.push(block);
            return Ok(());
        }
        self.ended.push(block.clone());
        if !block.by_operator {
            self.past.insert(prefix, block.length);
            match block.unsure {
                true => self.past_unsure.insert(prefix),
                false => self.past_unsure.remove(&prefix),
            };
        }
        match block.unsure || (now + LATE >= block.until && now <= block.until + LATE) {
            true => Ok(()),
            false => fail(format!("{block:?}: {}", of_event(event)), "a block ends in its time"),
        }
    }

    /// The lists that are tested before everything: what the events said, and nothing else.
    pub(super) fn on_lists(
        &mut self,
        (blocked, allowed): (&PrefixSet, &PrefixSet),
        spared: &[FlowId],
        now: Instant,
    ) -> Result<(), Violation> {
        if *allowed != self.allowed {
            self.unpunished.clear();
        }
        (self.blocked, self.allowed) = (blocked.clone(), allowed.clone());
        let kept = std::mem::take(&mut self.kept);
        self.blocks.retain(|block| {
            !block.unsure || blocked.contains(block.prefix.addr()) || {
                allowed.contains(block.prefix.addr())
            }
        });
        for block in self.blocks.iter().filter(|block| block.until > now + LATE) {
            let ip = block.prefix.addr();
            if !blocked.contains(ip) && !allowed.contains(ip) {
                return fail(format!("{block:?} is not on the list"), "who is blocked is on the list");
            }
        }
        for prefix in kept {
            if !blocked.contains(prefix.addr()) && !allowed.contains(prefix.addr()) {
                return fail(format!("{prefix} is forgotten"), "a block outlives a kill");
            }
        }
        for flow in spared {
            let Some(source) = self.sources.get(flow).copied() else { continue };
            let ordered = self.blocks.iter().find(|block| block.by_operator && block.prefix.contains(source));
            if ordered.is_some() || scenery::is_scanner(source) {
                return fail(format!("{source} by {ordered:?}"), "an order spares nobody");
            }
        }
        Ok(())
    }

    /// Whether a block holds for an address, as was said.
    pub(super) fn blocks(&self, ip: IpAddr) -> bool {
        self.blocks.iter().any(|block| block.prefix.contains(ip))
    }

    /// Whether an address that somebody has is blocked though nothing blocks it, or though it is allowed.
    pub(super) fn judge(&self, ip: IpAddr) -> Result<(), Violation> {
        let listed = self.blocked.contains(ip);
        match listed && (!self.blocks(ip) || self.allowed.contains(ip)) {
            true => fail(format!("{ip}, allowed {}", self.allowed.contains(ip)), "only who is blocked is"),
            false => Ok(()),
        }
    }

    /// The process was killed; `durable` where all that it wrote is on disk.
    pub(super) fn on_restart(&mut self, durable: bool) {
        self.kept.clear();
        let replaced = std::mem::take(&mut self.replaced);
        self.revived.extend(replaced.into_iter().filter(|_| !durable));
        for block in std::mem::take(&mut self.ended).into_iter().filter(|_| !durable) {
            if !block.by_operator {
                self.revived.insert(block.prefix, block.length);
            }
            self.blocks.push(Block { unsure: true, ..block });
        }
        for block in &mut self.blocks {
            if durable && !block.unsure {
                self.kept.insert(block.prefix);
            }
            block.unsure |= !durable || self.clock_was_set;
        }
        self.past_unsure.extend(self.past.keys().copied());
        // what was counted is not kept, and past blocks only by their records
        self.offences.clear();
        self.unpunished.clear();
        self.deserved.clear();
        self.sources.clear();
        (self.blocked, self.allowed) = Default::default();
    }
}
