//! The answer to strangers: a challenge as the PBX would have sent it, after as long as it would have taken
//! (contract section 2). From outside, a name that exists cannot be told from one that does not.
//!
//! The PBX is not asked about the name. It is asked something like it, a sample, at most twenty times a second
//! however many strangers come: when that is answered, or would have been, so are they. While the PBX hangs they
//! hang as well, as long as a phone whose REGISTER it owes an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use sip::ServerId;
use wire::clock::Instant;
use wire::net::Side;
use wire::sip::{HeaderName, Message, Writer};

use crate::Border;
use crate::answer::{Ask, reason_phrase};
use crate::digest::{self, AuthState};
use crate::entropy::Entropy;
use crate::entry::EntryId;
use crate::inside_registration::Registration;
use crate::response::ClientUse;
use crate::timers::{Deadline, Timer};
use crate::topology::Topology;

/// Challenges of a PBX that are remembered.
pub(crate) const SHAPES: usize = 6;
/// How many of them tell what is constant.
const SHAPES_TELL: usize = 3;

/// What the last challenge of a PBX looked like, as it leaves us.
pub(crate) struct ChallengeShape {
    challenges: Vec<String>,
    /// The other headers that pass, in order.
    passed: Vec<(String, String)>,
}

impl ChallengeShape {
    pub(crate) fn of(message: &Message<'_>, topology: &Topology, domain: &str) -> Self {
        let mut writer = Writer::response(401, "");
        topology.pass_headers(message, Side::Outside, domain, &[], &mut writer);
        let passed = Message::parse(&writer.finish(b""))
            .map(|passed| {
                passed
                    .headers()
                    .filter(|header| header.name != HeaderName::ContentLength)
                    .map(|header| (header.name.as_str().to_owned(), header.value.to_owned()))
                    .collect()
            })
            .unwrap_or_default();
        let challenges = message
            .values(HeaderName::WwwAuthenticate)
            .map(|value| wire::sip::unfold(value).into_owned())
            .collect();
        Self { challenges, passed }
    }
}

/// How soon after an answered sample the next may be sent; decoys in between take a recent answer time.
const SAMPLE_GAP: Duration = Duration::from_millis(50);
/// How soon after one that has no answer yet.
const SAMPLE_RETRY: Duration = Duration::from_millis(500);

/// A question to the PBX's registrar in the place of strangers: how long does it take just now?
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    sent: Instant,
    answered: bool,
    /// The stranger who came first: its answer is his.
    first: ServerId,
}

/// A stranger who waits for his answer.
struct Decoy {
    ask: Ask,
    pbx: usize,
    /// The sample whose answer he waits for.
    sample: Option<Instant>,
    /// When the PBX would have answered him, as it answered others of late.
    earliest: Instant,
    deadline: Deadline,
}

/// Strangers who wait for their answer; each is counted among the requests of strangers.
#[derive(Default)]
pub(crate) struct Decoys {
    waiting: BTreeMap<ServerId, Decoy>,
    /// Those of them who wait for a sign of life of their PBX.
    held: BTreeSet<ServerId>,
}

impl Decoys {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Border {
    /// Answers later, as if the PBX had been asked about this very name. While the PBX hangs, the stranger
    /// waits as long as a phone would.
    pub(crate) fn answer_with_decoy(&mut self, ask: Ask) {
        let Some(pbx) = self.pbx_for_stranger(&ask) else { return };
        let now = self.now.mono;
        let mut decoy = Decoy {
            earliest: now + self.pbxs[pbx].answer_time(&mut self.entropy),
            ask,
            pbx,
            sample: None,
            deadline: Deadline::default(),
        };
        match self.pbxs[pbx].sample {
            Some(Sample { sent, answered: true, .. }) if now - sent < SAMPLE_GAP => {}
            Some(Sample { sent, answered: false, .. }) if now - sent < SAMPLE_RETRY => {
                decoy.sample = Some(sent);
            }
            // Without digest extensions no name is asked about at the PBX: there is nothing to be like.
            Some(_) | None => {
                if let Some(entry) = self.entries.any_digest() {
                    if !self.send_sample(pbx, entry, decoy.ask.server) {
                        return self.refuse_for_now(&decoy.ask);
                    }
                    decoy.sample = Some(now);
                }
            }
        }
        let server = decoy.ask.server;
        let at = match decoy.sample {
            Some(_) => {
                self.decoys.held.insert(server);
                decoy.ask.patience_ends()
            }
            None => decoy.earliest,
        };
        decoy.deadline.set(at, Timer::Decoy(server), &mut self.timers);
        self.decoys.waiting.insert(server, decoy);
    }

    fn send_sample(&mut self, pbx: usize, entry: EntryId, first: ServerId) -> bool {
        let sent = self.now.mono;
        // One that has no answer yet stands in nobody's way: each is a series of its own.
        let series = self.entropy.word();
        let registration = Registration { entry, pbx, series: &series, contact: None, user_agent: None };
        let prepared = self.build_register(&registration, &mut AuthState::default());
        self.pbxs[pbx].sample = Some(Sample { sent, answered: false, first });
        prepared.and_then(|prepared| self.send_request(prepared, ClientUse::Sample { pbx, sent })).is_some()
    }

    /// A sample has its answer, and so has the stranger for whom it was sent.
    pub(crate) fn on_sample_answered(&mut self, pbx: usize, sent: Instant) {
        let Some(sample) = self.pbxs[pbx].sample.as_mut().filter(|sample| sample.sent == sent) else {
            return;
        };
        sample.answered = true;
        if let Some(decoy) = self.decoys.waiting.get_mut(&sample.first) {
            decoy.earliest = self.now.mono;
        }
    }

    /// The registrar of a PBX answered somebody: strangers who wait for its sign of life have it.
    pub(crate) fn release_decoys(&mut self, pbx: usize) {
        let now = self.now.mono;
        for server in std::mem::take(&mut self.decoys.held) {
            let Some(decoy) = self.decoys.waiting.get_mut(&server) else { continue };
            if decoy.pbx != pbx {
                self.decoys.held.insert(server);
                continue;
            }
            decoy.sample = None;
            decoy.deadline.clear(Timer::Decoy(server), &mut self.timers);
            decoy.deadline.set(decoy.earliest.max(now), Timer::Decoy(server), &mut self.timers);
        }
    }

    /// A sample will never be answered.
    pub(crate) fn on_sample_lost(&mut self, pbx: usize, sent: Instant, why: &str) {
        self.pbx_missed(pbx, why);
        let of_sample = |server: &&ServerId| {
            self.decoys.waiting.get(server).is_some_and(|it| it.pbx == pbx && it.sample == Some(sent))
        };
        let lost: Vec<ServerId> = self.decoys.held.iter().filter(of_sample).copied().collect();
        for server in lost {
            if let Some(ask) = self.drop_decoy(server) {
                self.refuse_for_now(&ask);
            }
        }
    }

    /// Forgets a stranger who waits: his transaction is over.
    pub(crate) fn drop_decoy(&mut self, server: ServerId) -> Option<Ask> {
        let mut decoy = self.decoys.waiting.remove(&server)?;
        self.decoys.held.remove(&server);
        decoy.deadline.clear(Timer::Decoy(server), &mut self.timers);
        Some(decoy.ask)
    }

    pub(crate) fn on_decoy_timer(&mut self, server: ServerId) {
        let now = self.now.mono;
        let Some(decoy) = self.decoys.waiting.get_mut(&server) else { return };
        if !decoy.deadline.fired(now, Timer::Decoy(server), &mut self.timers) {
            return;
        }
        let (pbx, held) = (decoy.pbx, decoy.sample.is_some());
        let Some(ask) = self.drop_decoy(server) else { return };
        if held {
            self.refuse_for_now(&ask);
        } else {
            self.challenge_like(pbx, &ask);
        }
    }

    /// A challenge as this PBX writes them.
    pub(crate) fn challenge_like(&mut self, pbx: usize, ask: &Ask) {
        let Ok(request) = Message::parse(&ask.bytes) else { return };
        let tag = self.entropy.word();
        let mut writer =
            sip::response::response(&request, ask.hop.remote, 401, reason_phrase(401), Some(&tag));
        let source = ask.hop.remote.ip();
        let shapes = &self.pbxs[pbx].shapes;
        match shapes.back() {
            Some(newest) => {
                for (line, challenge) in newest.challenges.iter().enumerate() {
                    let seen = || shapes.iter().filter_map(|shape| shape.challenges.get(line));
                    let opaques: Vec<String> = seen().filter_map(|it| digest::given_opaque(it)).collect();
                    let nonces: Vec<String> = seen().filter_map(|it| digest::nonce_of(it)).collect();
                    let inner = redrawn(&opaques, &mut self.entropy);
                    let opaque = self.keys.seal_opaque(source, self.now.wall, inner.as_deref());
                    let (old, new) = (nonces.last().cloned(), redrawn(&nonces, &mut self.entropy));
                    let Some(challenge) = sip::auth::challenge_with(challenge, &opaque) else { continue };
                    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
                    let (old, new) = (format!("nonce=\"{old}\""), format!("nonce=\"{new}\""));
                    writer.header("WWW-Authenticate", challenge.replacen(&old, &new, 1));
                }
                for (name, value) in &newest.passed {
                    writer.header(name, value);
                }
            }
            None => {
                let realm = self.realm_or_domain(pbx);
                let nonce = self.entropy.word();
                let opaque = self.keys.seal_opaque(source, self.now.wall, None);
                writer.header(
                    "WWW-Authenticate",
                    format_args!(
                        "Digest realm=\"{realm}\", nonce=\"{nonce}\", opaque=\"{opaque}\", algorithm=MD5, qop=\"auth\""
                    ),
                );
            }
        }
        let bytes = Bytes::from(writer.finish(b""));
        self.transactions.respond(ask.server, 401, bytes, self.now.mono);
    }

    fn realm_or_domain(&self, pbx: usize) -> String {
        self.pbxs[pbx].realm.clone().unwrap_or_else(|| self.config.pbx[pbx].domain.clone())
    }
}

/// Another value as the PBX would give one, from those that it gave last: what is the same in all of them
/// stays (a time, a constant), the rest is drawn anew, letters as letters of their case and digits as digits,
/// within a run of hexadecimal digits as such.
fn redrawn(seen: &[String], entropy: &mut Entropy) -> Option<String> {
    let newest = seen.last()?;
    let same = |place: usize, character: char| {
        seen.len() >= SHAPES_TELL && seen.iter().all(|other| other.chars().nth(place) == Some(character))
    };
    let mut text = String::with_capacity(newest.len());
    let mut place = 0;
    for run in newest.split_inclusive(|character: char| !character.is_ascii_alphanumeric()) {
        let word = run.trim_end_matches(|character: char| !character.is_ascii_alphanumeric());
        let hex = word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        for character in run.chars() {
            text.push(if same(place, character) { character } else { drawn(character, hex, entropy) });
            place += 1;
        }
    }
    Some(text)
}

/// A character of the same kind.
fn drawn(character: char, hex: bool, entropy: &mut Entropy) -> char {
    let from = |alphabet: &[u8], entropy: &mut Entropy| {
        let index = usize::try_from(entropy.below(alphabet.len() as u64)).unwrap_or(0);
        alphabet.get(index).map_or(character, |byte| char::from(*byte))
    };
    match character {
        'a'..='f' | '0'..='9' if hex => from(b"0123456789abcdef", entropy),
        'a'..='z' => from(b"abcdefghijklmnopqrstuvwxyz", entropy),
        'A'..='Z' => from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", entropy),
        '0'..='9' => from(b"0123456789", entropy),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seen: &[&str]) -> String {
        let seen: Vec<String> = seen.iter().map(|text| (*text).to_owned()).collect();
        redrawn(&seen, &mut Entropy::new([3; 32])).unwrap()
    }

    #[test]
    fn a_redrawn_nonce_keeps_its_shape() {
        let fresh = of(&["aZ3+/="]);
        assert!(
            fresh.len() == 6 && fresh.ends_with("+/=") && fresh.starts_with(|c: char| c.is_ascii_lowercase())
        );
        let hex = of(&["00ff00ff"]);
        assert!(hex.bytes().all(|byte| byte.is_ascii_hexdigit()) && hex != "00ff00ff");
    }

    #[test]
    fn what_the_pbx_repeats_is_repeated() {
        let fresh = of(&["1795255813/f374aa", "1795255813/a285bb", "1795255813/0099cc"]);
        let (time, rest) = fresh.split_once('/').unwrap();
        assert_eq!(time, "1795255813");
        assert!(rest.bytes().all(|byte| byte.is_ascii_hexdigit()) && rest != "0099cc", "{rest}");
        assert_eq!(of(&["5ccc", "5ccc", "5ccc"]), "5ccc");
        assert_eq!(redrawn(&[], &mut Entropy::new([3; 32])), None);
    }
}
