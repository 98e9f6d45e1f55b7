//! Rules about transactions: what was opened on the wire and has not ended there is what the border has, no more and
//! not less.
//!
//! Opened is a transaction with the first bytes of its request, in either direction; it ends by the timers of
//! RFC 3261 §17 and RFC 6026, or with its flow. How many the border has it says itself.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use memchr::memmem;
use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet};

use crate::oracle::{Seen, Violation};
use crate::scenery;

/// 64·T1: timers B, D, F, H, J, L and M.
const PATIENCE: Duration = Duration::from_secs(32);
/// T4: timers I and K.
const T4: Duration = Duration::from_secs(5);
/// Timers that end a wait may fire so late, for several to end at once.
const TOGETHER: Duration = Duration::from_millis(20);
/// By then the border has answered an INVITE that it took on (RFC 3261 §17.2.1), or never will.
const TAKEN_ON: Duration = Duration::from_millis(300);
/// What a scanner says has ended by then, however it was taken: timers F and J, or an answer after a while and H.
const OF_SCANNERS: Duration = Duration::from_secs(80);

/// So many may begin without a word, on flows that end in the same moment, and last as long as any timer.
const UNSEEN: usize = 4;
const UNSEEN_FOR: Duration = Duration::from_secs(40);

/// No request that is one is shorter.
const SHORTEST: usize = 100;

/// A transaction by its flow and a number of all that names it.
type Key = (FlowId, u64);

/// Who began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// The other end.
    Server,
    /// The border.
    Client,
}

/// How far one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Refused,
    /// Its INVITE was accepted, or it is none and was answered.
    Done,
}

#[derive(Debug)]
struct Opened {
    /// Requests that bear the same branch and differ otherwise: each may be a transaction.
    requests: Vec<u64>,
    peer: IpAddr,
    /// When it has ended; none while nobody can tell.
    until: Option<Instant>,
    stage: Stage,
    /// It is there without doubt.
    certain: bool,
}

/// What the rule remembers.
#[derive(Debug, Default)]
pub(super) struct Balance {
    opened: BTreeMap<Key, Opened>,
    /// When each ends, or is no more certain to be there.
    ends: BTreeSet<(Instant, Key)>,
    /// So many there are at most.
    most: usize,
    /// So many there are at least.
    least: usize,
    blocked: PrefixSet,
    /// Phones that were heard or spoken to.
    phones: BTreeSet<IpAddr>,
    /// Until when the border may have transactions with a blocked phone, to which it says nothing.
    silent: Option<Instant>,
    /// Since when there are more, or less.
    wrong: Option<Instant>,
}

fn key(role: Role, seen: &Seen<'_>, method: &str) -> Key {
    let mut hasher = DefaultHasher::new();
    // the border's own branches are unique
    let peer = (role == Role::Server).then_some(seen.peer);
    (role, peer, seen.text.branch(), method).hash(&mut hasher);
    (seen.flow, hasher.finish())
}

/// All that may tell two requests of one branch apart (RFC 3261 §17.2.3).
fn request(seen: &Seen<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let text = seen.text;
    (text.header("Via"), text.uri(), text.from_tag(), text.header("Call-ID"), text.cseq()).hash(&mut hasher);
    hasher.finish()
}

fn is_invite(seen: &Seen<'_>) -> bool {
    seen.text.method() == "INVITE"
}

/// How long one is there for what is repeated, after its final answer.
fn lingers(role: Role, invite: bool, code: u16, udp: bool) -> Duration {
    match (role, invite) {
        (_, true) if code < 300 => PATIENCE,
        (Role::Server, true) => PATIENCE,
        _ if !udp => Duration::ZERO,
        (Role::Client, false) => T4,
        (Role::Client, true) | (Role::Server, false) => PATIENCE,
    }
}

impl Balance {
    /// A message that the border hears.
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        match (seen.text.code(), seen.text.method()) {
            (None, _) if scenery::is_scanner(seen.peer.ip()) => {
                if seen.is_udp() {
                    self.on_unreadable(seen.flow, seen.peer.ip(), seen.bytes, seen.now);
                }
            }
            (None, "ACK") => self.on_ack(seen),
            (None, _) => self.on_request(seen),
            (Some(code), _) => self.on_answer(Role::Client, code, seen),
        }
    }

    /// One in another's name: whether it is believed is the border's affair.
    pub(super) fn on_forged(&mut self, seen: &Seen<'_>) {
        match (seen.text.code(), seen.text.method()) {
            (None, "ACK") => {}
            (None, _) => self.on_request(seen),
            (Some(_), method) => {
                let key = key(Role::Client, seen, method);
                self.is_certain(key, false);
                self.ends_at(key, None);
            }
        }
    }

    /// Something that nobody can read but, perhaps, the border.
    pub(super) fn on_unreadable(&mut self, flow: FlowId, peer: IpAddr, bytes: &[u8], now: Instant) {
        if memmem::find(bytes, b"SIP/").is_none() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let key = (flow, hasher.finish());
        self.open(key, key.1, peer);
        self.ends_at(key, Some(now + OF_SCANNERS));
    }

    /// Bytes of a scanner's connection: he may have meant another number of messages than the border reads.
    pub(super) fn on_heard(&mut self, flow: FlowId, peer: IpAddr, length: usize, now: Instant) {
        let key = (flow, 0);
        for _ in 0..length.div_ceil(SHORTEST) {
            let number = self.opened.get(&key).map_or(0, |own| own.requests.len() as u64);
            self.open(key, number, peer);
        }
        self.ends_at(key, Some(now + OF_SCANNERS));
    }

    fn on_request(&mut self, seen: &Seen<'_>) {
        let key = key(Role::Server, seen, seen.text.method());
        let wait = if is_invite(seen) { TAKEN_ON } else { PATIENCE };
        let least = seen.now + wait;
        if self.open(key, request(seen), seen.peer.ip()) {
            return self.ends_at(key, Some(least));
        }
        let Some(own) = self.opened.get_mut(&key) else { return };
        // one that was refused without a transaction, or another of the same branch, begins one now
        if !own.certain && (own.stage != Stage::Asked || own.requests.len() > 1) {
            own.stage = Stage::Asked;
            let until = own.until.map(|until| until.max(least));
            self.ends_at(key, until);
        }
    }

    /// A message that the border sends.
    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) {
        match (seen.text.code(), seen.text.method()) {
            (Some(code), _) => self.on_answer(Role::Server, code, seen),
            (None, "ACK") => {}
            (None, method) => {
                let own = key(Role::Client, seen, method);
                if self.open(own, 0, seen.peer.ip()) {
                    self.is_certain(own, is_invite(seen));
                    self.ends_at(own, Some(seen.now + PATIENCE));
                }
                if method == "CANCEL" {
                    self.on_given_up(key(Role::Client, seen, "INVITE"), seen.now);
                }
            }
        }
    }

    /// An INVITE of the border's ends by itself once its CANCEL is sent.
    fn on_given_up(&mut self, key: Key, now: Instant) {
        if self.opened.get(&key).is_some_and(|own| own.stage == Stage::Asked && own.until.is_none()) {
            self.ends_at(key, Some(now + PATIENCE));
        }
    }

    fn on_answer(&mut self, role: Role, code: u16, seen: &Seen<'_>) {
        let key = key(role, seen, seen.text.method());
        let Some(own) = self.opened.get_mut(&key).filter(|own| own.stage == Stage::Asked) else { return };
        let invite = is_invite(seen);
        if code < 200 {
            if invite {
                self.is_certain(key, true);
                self.ends_at(key, None);
            }
            return;
        }
        own.stage = if invite && code >= 300 { Stage::Refused } else { Stage::Done };
        let least = (own.requests.len() > 1).then_some(own.until).flatten();
        let until = seen.now + lingers(role, invite, code, seen.is_udp());
        self.is_certain(key, invite && code < 300);
        self.ends_at(key, Some(least.map_or(until, |least| least.max(until))));
    }

    /// The ACK of a refusal ends the wait for it.
    fn on_ack(&mut self, seen: &Seen<'_>) {
        let key = key(Role::Server, seen, "INVITE");
        let refused = |own: &&Opened| own.stage == Stage::Refused && own.requests.len() == 1;
        let Some(own) = self.opened.get(&key).filter(refused) else { return };
        let wait = if seen.is_udp() { T4 } else { Duration::ZERO };
        let at = own.until.map(|until| until.min(seen.now + wait));
        self.ends_at(key, at);
    }

    /// A flow is gone, with all that was under way there.
    pub(super) fn on_closed(&mut self, flow: FlowId) {
        let keys: Vec<Key> = self.opened.range((flow, 0)..=(flow, u64::MAX)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.close(key));
    }

    /// What the border has with who is blocked may end without a word.
    pub(super) fn on_lists(&mut self, blocked: &PrefixSet, now: Instant) {
        let is_cut_off = |set: &PrefixSet| self.phones.iter().any(|phone| set.contains(*phone));
        if is_cut_off(blocked) || is_cut_off(&self.blocked) {
            self.silent = Some(now + OF_SCANNERS);
        }
        self.blocked = blocked.clone();
        let silenced = self.opened.iter().filter(|(_, own)| own.certain && blocked.contains(own.peer));
        let keys: Vec<Key> = silenced.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.is_certain(key, false));
    }

    /// True where the transaction is new.
    fn open(&mut self, key: Key, request: u64, peer: IpAddr) -> bool {
        if scenery::is_phone(peer) {
            self.phones.insert(peer);
        }
        let fresh =
            || Opened { requests: Vec::new(), peer, until: None, stage: Stage::Asked, certain: false };
        let own = self.opened.entry(key).or_insert_with(fresh);
        let known = own.requests.contains(&request);
        if !known {
            own.requests.push(request);
            self.most += 1;
        }
        own.requests.len() == 1 && !known
    }

    fn is_certain(&mut self, key: Key, certain: bool) {
        let Some(own) = self.opened.get_mut(&key) else { return };
        let certain = certain && !self.blocked.contains(own.peer);
        if certain != std::mem::replace(&mut own.certain, certain) {
            self.least = if certain { self.least + 1 } else { self.least - 1 };
        }
    }

    fn ends_at(&mut self, key: Key, until: Option<Instant>) {
        let Some(own) = self.opened.get_mut(&key) else { return };
        if let Some(before) = std::mem::replace(&mut own.until, until) {
            self.ends.remove(&(before, key));
        }
        self.ends.extend(until.map(|until| (until, key)));
    }

    fn close(&mut self, key: Key) {
        self.is_certain(key, false);
        if let Some(own) = self.opened.remove(&key) {
            self.most -= own.requests.len();
            if let Some(until) = own.until {
                self.ends.remove(&(until, key));
            }
        }
    }

    /// After each step in which no timer of the border's is overdue: whether it has exactly as many as are open.
    pub(super) fn transactions_are(&mut self, live: usize, now: Instant) -> Result<bool, Violation> {
        while let Some((at, key)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            let late = at.next_multiple_of(TOGETHER);
            if late > now {
                self.is_certain(key, false);
                self.ends_at(key, Some(late));
            } else {
                self.close(key);
            }
        }
        if self.silent.is_some_and(|until| now < until) {
            return Ok(false);
        }
        self.silent = None;
        if (self.least..=self.most).contains(&live) {
            self.wrong = None;
            return Ok(live > 0 && live == self.most);
        }
        let since = *self.wrong.get_or_insert(now);
        let beyond = live.saturating_sub(self.most);
        if beyond <= UNSEEN && now.since(since) < UNSEEN_FOR {
            return Ok(false);
        }
        let seen = format!("{live} are there, {} to {} may be: {:?}", self.least, self.most, self.opened);
        Err(Violation::new("transactions balance", seen))
    }

    /// They are gone with the process.
    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }
}
