//! The answer to strangers: a challenge as the PBX would have sent it, after as long as it would have taken
//! (contract section 2). From outside, a name that exists cannot be told from one that does not.
//!
//! The PBX is not asked about the name. It is asked something like it, a sample, at the moment when it would have been
//! asked about the name (`samples.rs`): the stranger gets the very challenge that this brings, a nonce that the PBX
//! would have given to anybody, and as late as it came. Of several for whom one sample went the others get one made up
//! after it (`made_up.rs`), at the same moment. While the PBX hangs they hang as well, as long as a phone whose
//! REGISTER it owes an answer.

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
use crate::inside_registration::Registration;
use crate::made_up;
use crate::response::ClientUse;
use crate::samples::{SLOW, Turn, Waiting};
use crate::timers::{Deadline, Timer};
use crate::topology::Topology;

/// Challenges of a PBX that are remembered.
pub(crate) const SHAPES: usize = 24;
/// Those that came within this time of the newest may hold the same time.
const SHAPES_AGE: Duration = Duration::from_secs(1);

/// What the last challenge of a PBX looked like, as it leaves us.
pub(crate) struct ChallengeShape {
    came: Instant,
    /// 401, or 407 where a proxy asks.
    status: u16,
    /// Each by the name of its header.
    challenges: Vec<(&'static str, String)>,
    /// The other headers that pass, in order.
    passed: Vec<(String, String)>,
}

impl ChallengeShape {
    pub(crate) fn of(message: &Message<'_>, topology: &Topology, domain: &str, came: Instant) -> Self {
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
        let status = message.status().filter(|status| *status == 407).unwrap_or(401);
        let challenges = digest::challenges_of(message)
            .map(|(name, value)| (name, wire::sip::unfold(value).into_owned()))
            .collect();
        Self { came, status, challenges, passed }
    }
}

/// What a stranger waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// That it is as late as the PBX would have been.
    Time,
    /// His turn.
    Turn,
    /// The answer to this sample.
    Sample(u64),
}

/// A stranger who waits for his answer.
struct Decoy {
    ask: Ask,
    pbx: usize,
    wait: Wait,
    deadline: Deadline,
}

/// The strangers who wait for the answer to one sample.
struct Batch {
    sent: Instant,
    servers: BTreeSet<ServerId>,
}

/// Strangers who wait for their answer; each is counted among the requests of strangers.
#[derive(Default)]
pub(crate) struct Decoys {
    waiting: BTreeMap<ServerId, Decoy>,
    /// Those of them who wait for the answer to a sample, by PBX and the sample's number.
    held: BTreeMap<(usize, u64), Batch>,
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
        let (now, server) = (self.now.mono, ask.server);
        let mut decoy = Decoy { ask, pbx, wait: Wait::Turn, deadline: Deadline::default() };
        // Without digest extensions no name is asked about at the PBX: there is nothing to be like.
        let at = if self.entries.any_digest().is_none() {
            decoy.wait = Wait::Time;
            now + self.pbxs[pbx].answer_time(&mut self.entropy)
        } else {
            decoy.ask.patience_ends()
        };
        let wait = decoy.wait;
        decoy.deadline.set(at, Timer::Decoy(server), &mut self.timers);
        self.decoys.waiting.insert(server, decoy);
        if wait == Wait::Time {
            return;
        }
        let samples = &mut self.pbxs[pbx].samples;
        match samples.turn(now) {
            Turn::Now => self.send_sample(pbx, vec![server]),
            Turn::Join(sample) => self.join_sample(pbx, sample, vec![server]),
            Turn::Wait => samples.wait(Waiting::Decoy(server), now, pbx, &mut self.timers),
        }
    }

    /// These strangers have their turn.
    pub(crate) fn ask_for_decoys(&mut self, pbx: usize, mut servers: Vec<ServerId>) {
        servers.retain(|server| self.decoys.waiting.contains_key(server));
        if servers.is_empty() {
            return;
        }
        match self.pbxs[pbx].samples.hanging(self.now.mono) {
            Some(Turn::Join(sample)) => self.join_sample(pbx, sample, servers),
            Some(Turn::Now | Turn::Wait) | None => self.send_sample(pbx, servers),
        }
    }

    fn send_sample(&mut self, pbx: usize, servers: Vec<ServerId>) {
        let sent = self.now.mono;
        let number = self.pbxs[pbx].samples.sent(sent);
        self.decoys.held.insert((pbx, number), Batch { sent, servers: BTreeSet::new() });
        self.join_sample(pbx, number, servers);
        let prepared = self.entries.any_digest().and_then(|entry| {
            // One that has no answer yet stands in nobody's way: each is a series of its own.
            let series = self.entropy.word();
            let registration = Registration { entry, pbx, series: &series, contact: None, user_agent: None };
            self.build_register(&registration, &mut AuthState::default())
        });
        let using = ClientUse::Sample { pbx, sent, number };
        if prepared.and_then(|prepared| self.send_request(prepared, using)).is_none() {
            self.refuse_sampled(pbx, number);
        }
    }

    fn join_sample(&mut self, pbx: usize, number: u64, servers: Vec<ServerId>) {
        let Some(batch) = self.decoys.held.get_mut(&(pbx, number)) else {
            return self.never("a sample without an answer has no batch");
        };
        for server in servers {
            if let Some(decoy) = self.decoys.waiting.get_mut(&server) {
                decoy.wait = Wait::Sample(number);
                batch.servers.insert(server);
            }
        }
    }

    /// A sample has its answer, and so have the strangers for whom it was sent. One gets the very challenge. All get it
    /// at once, as a name that exists does.
    pub(crate) fn on_sample_answered(&mut self, pbx: usize, number: u64, message: &Message<'_>) {
        let mut own = digest::challenges_of(message).next().is_some().then(|| {
            ChallengeShape::of(message, &self.topology, &self.config.pbx[pbx].domain, self.now.mono)
        });
        for ask in self.take_batch(pbx, number) {
            self.challenge(pbx, &ask, own.take());
        }
    }

    /// The registrar of a PBX answered somebody: strangers who have waited long for its sign of life have it. The others
    /// have a sample under way, whose answer tells how late it is with them.
    pub(crate) fn release_decoys(&mut self, pbx: usize) {
        let now = self.now.mono;
        let of_pbx = self.decoys.held.range((pbx, 0)..=(pbx, u64::MAX));
        let long = of_pbx.filter(|(_, batch)| now - batch.sent >= SLOW);
        for number in long.map(|((_, number), _)| *number).collect::<Vec<_>>() {
            for ask in self.take_batch(pbx, number) {
                self.challenge(pbx, &ask, None);
            }
        }
    }

    /// Those who wait for the answer to a sample; they wait no more.
    fn take_batch(&mut self, pbx: usize, number: u64) -> Vec<Ask> {
        self.pbxs[pbx].samples.ended(number);
        let servers = self.decoys.held.remove(&(pbx, number)).map(|batch| batch.servers).unwrap_or_default();
        servers.into_iter().filter_map(|server| self.drop_decoy(server)).collect()
    }

    /// A sample will never be answered.
    pub(crate) fn on_sample_lost(&mut self, pbx: usize, number: u64, why: &str) {
        self.pbx_missed(pbx, why);
        self.refuse_sampled(pbx, number);
    }

    fn refuse_sampled(&mut self, pbx: usize, number: u64) {
        for ask in self.take_batch(pbx, number) {
            self.refuse_for_now(&ask);
        }
    }

    /// Forgets a stranger who waits: his transaction is over.
    pub(crate) fn drop_decoy(&mut self, server: ServerId) -> Option<Ask> {
        let mut decoy = self.decoys.waiting.remove(&server)?;
        if let Wait::Sample(number) = decoy.wait
            && let Some(batch) = self.decoys.held.get_mut(&(decoy.pbx, number))
        {
            batch.servers.remove(&server);
        }
        decoy.deadline.clear(Timer::Decoy(server), &mut self.timers);
        Some(decoy.ask)
    }

    pub(crate) fn on_decoy_timer(&mut self, server: ServerId) {
        let now = self.now.mono;
        let Some(decoy) = self.decoys.waiting.get_mut(&server) else {
            return self.never("the timer of a decoy outlived it");
        };
        if !decoy.deadline.fired(now, Timer::Decoy(server), &mut self.timers) {
            return;
        }
        let (pbx, wait) = (decoy.pbx, decoy.wait);
        let Some(ask) = self.drop_decoy(server) else {
            return self.never("a decoy is gone while it is worked on");
        };
        match wait {
            Wait::Time => self.challenge(pbx, &ask, None),
            Wait::Turn | Wait::Sample(_) => self.refuse_for_now(&ask),
        }
    }

    /// A challenge as this PBX writes them: its own, or one made up after those that it wrote of late.
    pub(crate) fn challenge(&mut self, pbx: usize, ask: &Ask, own: Option<ChallengeShape>) {
        let Ok(request) = Message::parse(&ask.bytes) else {
            return self.never("a request that was read cannot be read again");
        };
        let tag = self.entropy.word();
        let source = ask.hop.remote.ip();
        let shape = own.or_else(|| self.made_up_shape(pbx));
        let status = shape.as_ref().map_or(401, |shape| shape.status);
        let mut writer =
            sip::response::response(&request, ask.hop.remote, status, reason_phrase(status), Some(&tag));
        for (name, challenge) in shape.iter().flat_map(|shape| &shape.challenges) {
            let inner = digest::given_opaque(challenge);
            let opaque = self.keys.seal_opaque(source, self.now.wall, inner.as_deref());
            if let Some(challenge) = sip::auth::challenge_with(challenge, &opaque) {
                writer.header(name, challenge);
            }
        }
        for (name, value) in shape.iter().flat_map(|shape| &shape.passed) {
            writer.header(name, value);
        }
        if shape.is_none() {
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
        let bytes = Bytes::from(writer.finish(b""));
        self.transactions.respond(ask.server, status, bytes, self.now.mono);
    }

    /// The newest challenge with another nonce and opaque; none where the PBX never challenged.
    fn made_up_shape(&mut self, pbx: usize) -> Option<ChallengeShape> {
        let shapes = &self.pbxs[pbx].shapes;
        let newest = shapes.back()?;
        let recent = shapes.iter().filter(|shape| newest.came - shape.came < SHAPES_AGE).count();
        let told_by = if recent >= made_up::TELL { recent } else { shapes.len() };
        let mut challenges = Vec::with_capacity(newest.challenges.len());
        for (line, (header, challenge)) in newest.challenges.iter().enumerate() {
            let lines =
                || shapes.iter().skip(shapes.len() - told_by).filter_map(|it| it.challenges.get(line));
            let seen = || lines().map(|(_, text)| text);
            let mut text = challenge.clone();
            for (name, of) in [("nonce", digest::nonce_of as fn(&str) -> _), ("opaque", digest::given_opaque)]
            {
                let values: Vec<String> = seen().filter_map(|it| of(it)).collect();
                let (Some(old), Some(new)) = (of(challenge), made_up::another(&values, &mut self.entropy))
                else {
                    continue;
                };
                text = text.replacen(&format!("{name}=\"{old}\""), &format!("{name}=\"{new}\""), 1);
            }
            challenges.push((*header, text));
        }
        Some(ChallengeShape { challenges, passed: newest.passed.clone(), ..*newest })
    }

    fn realm_or_domain(&self, pbx: usize) -> String {
        self.pbxs[pbx].realm.clone().unwrap_or_else(|| self.config.pbx[pbx].domain.clone())
    }
}
