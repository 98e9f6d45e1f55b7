//! The answer to strangers: a challenge as the PBX would have sent it, after as long as it would have taken
//! (contract section 2). From outside, a name that exists cannot be told from one that does not.
//!
//! The PBX is not asked about the name. It is asked something like it, a sample, for each stranger as long as those
//! are twenty a second at most: he gets the very challenge that this brings, a nonce that the PBX would have given
//! to anybody, and as late as it came. Who comes beyond that gets one made up after those (`made_up.rs`), when one
//! of them is answered or would have been. While the PBX hangs they hang as well, as long as a phone whose REGISTER
//! it owes an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use sip::ServerId;
use wire::clock::Instant;
use wire::net::Side;
use wire::sip::{HeaderName, Message, Writer};

use crate::Border;
use crate::answer::{Ask, reason_phrase};
use crate::digest::{self, AuthState};
use crate::entry::EntryId;
use crate::inside_registration::Registration;
use crate::made_up;
use crate::response::ClientUse;
use crate::timers::{Deadline, Timer};
use crate::topology::Topology;

/// Challenges of a PBX that are remembered.
pub(crate) const SHAPES: usize = 24;
/// Those that came within this time of the newest may hold the same time.
const SHAPES_AGE: Duration = Duration::from_secs(1);

/// What the last challenge of a PBX looked like, as it leaves us.
pub(crate) struct ChallengeShape {
    came: Instant,
    challenges: Vec<String>,
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
        let challenges = message
            .values(HeaderName::WwwAuthenticate)
            .map(|value| wire::sip::unfold(value).into_owned())
            .collect();
        Self { came, challenges, passed }
    }
}

/// Samples in any second; decoys beyond them take a recent answer time.
const SAMPLES_MAX: usize = 20;
const SAMPLES_TIME: Duration = Duration::from_secs(1);
/// A PBX that owes an answer for so long is slow: it is asked no more for each.
const SAMPLE_SLOW: Duration = Duration::from_millis(200);
/// How soon a slow one is asked again.
const SAMPLE_RETRY: Duration = Duration::from_millis(500);

/// The samples of the last second, and the newest, oldest first.
#[derive(Default)]
pub(crate) struct Samples(VecDeque<Sample>);

/// A question to the PBX's registrar in the place of strangers: how long does it take just now?
#[derive(Clone, Copy, Debug)]
struct Sample {
    sent: Instant,
    answered: bool,
    /// The stranger whose answer its own becomes.
    stranger: ServerId,
}

/// What can be done for one more stranger.
enum Sampling {
    /// Ask for him.
    Ask,
    /// Let him wait for the answer to the sample that was sent then.
    Join(Instant),
    /// Answer him from what is known.
    Enough,
}

impl Samples {
    fn next(&mut self, now: Instant) -> Sampling {
        let Some(newest) = self.0.back().copied() else { return Sampling::Ask };
        while self.0.len() > 1 && self.0.front().is_some_and(|sample| now - sample.sent >= SAMPLES_TIME) {
            self.0.pop_front();
        }
        if self.0.iter().any(|sample| !sample.answered && now - sample.sent >= SAMPLE_SLOW) {
            let retry = newest.answered || now - newest.sent >= SAMPLE_RETRY;
            return if retry { Sampling::Ask } else { Sampling::Join(newest.sent) };
        }
        match (self.0.len() < SAMPLES_MAX, newest.answered) {
            (true, _) => Sampling::Ask,
            (false, false) => Sampling::Join(newest.sent),
            (false, true) => Sampling::Enough,
        }
    }
}

/// A stranger who waits for his answer.
struct Decoy {
    ask: Ask,
    pbx: usize,
    /// When the sample whose answer he waits for was sent.
    sample: Option<Instant>,
    /// The challenge that was asked for in his place.
    own: Option<ChallengeShape>,
    /// When the PBX would have answered him, as it answered others of late.
    earliest: Instant,
    deadline: Deadline,
}

/// Strangers who wait for their answer; each is counted among the requests of strangers.
#[derive(Default)]
pub(crate) struct Decoys {
    waiting: BTreeMap<ServerId, Decoy>,
    /// Those of them who wait for a sign of life of their PBX, by PBX.
    held: BTreeMap<usize, BTreeSet<ServerId>>,
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
            own: None,
            deadline: Deadline::default(),
        };
        // Without digest extensions no name is asked about at the PBX: there is nothing to be like.
        if let Some(entry) = self.entries.any_digest() {
            match self.pbxs[pbx].samples.next(now) {
                Sampling::Enough => {}
                Sampling::Join(sent) => decoy.sample = Some(sent),
                Sampling::Ask => {
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
                self.decoys.held.entry(pbx).or_default().insert(server);
                decoy.ask.patience_ends()
            }
            None => decoy.earliest,
        };
        decoy.deadline.set(at, Timer::Decoy(server), &mut self.timers);
        self.decoys.waiting.insert(server, decoy);
    }

    fn send_sample(&mut self, pbx: usize, entry: EntryId, stranger: ServerId) -> bool {
        let sent = self.now.mono;
        // One that has no answer yet stands in nobody's way: each is a series of its own.
        let series = self.entropy.word();
        let registration = Registration { entry, pbx, series: &series, contact: None, user_agent: None };
        let prepared = self.build_register(&registration, &mut AuthState::default());
        self.pbxs[pbx].samples.0.push_back(Sample { sent, answered: false, stranger });
        let using = ClientUse::Sample { pbx, sent, stranger };
        prepared.and_then(|prepared| self.send_request(prepared, using)).is_some()
    }

    /// A sample has its answer, and so has the stranger for whom it was sent.
    pub(crate) fn on_sample_answered(&mut self, pbx: usize, stranger: ServerId, message: &Message<'_>) {
        let samples = &mut self.pbxs[pbx].samples.0;
        if let Some(sample) = samples.iter_mut().find(|sample| sample.stranger == stranger) {
            sample.answered = true;
        }
        let Some(decoy) = self.decoys.waiting.get_mut(&stranger) else { return };
        decoy.earliest = self.now.mono;
        if message.value(HeaderName::WwwAuthenticate).is_some() {
            let domain = &self.config.pbx[pbx].domain;
            decoy.own = Some(ChallengeShape::of(message, &self.topology, domain, self.now.mono));
        }
    }

    /// The registrar of a PBX answered somebody: strangers who wait for its sign of life have it.
    pub(crate) fn release_decoys(&mut self, pbx: usize) {
        let now = self.now.mono;
        for server in self.decoys.held.remove(&pbx).unwrap_or_default() {
            let Some(decoy) = self.decoys.waiting.get_mut(&server) else { continue };
            decoy.sample = None;
            decoy.deadline.clear(Timer::Decoy(server), &mut self.timers);
            decoy.deadline.set(decoy.earliest.max(now), Timer::Decoy(server), &mut self.timers);
        }
    }

    /// A sample will never be answered.
    pub(crate) fn on_sample_lost(&mut self, pbx: usize, sent: Instant, why: &str) {
        self.pbx_missed(pbx, why);
        let of_sample =
            |server: &&ServerId| self.decoys.waiting.get(server).is_some_and(|it| it.sample == Some(sent));
        let held = self.decoys.held.get(&pbx).into_iter().flatten();
        let lost: Vec<ServerId> = held.filter(of_sample).copied().collect();
        for server in lost {
            if let Some(ask) = self.drop_decoy(server) {
                self.refuse_for_now(&ask);
            }
        }
    }

    /// Forgets a stranger who waits: his transaction is over.
    pub(crate) fn drop_decoy(&mut self, server: ServerId) -> Option<Ask> {
        let mut decoy = self.decoys.waiting.remove(&server)?;
        if let Some(held) = self.decoys.held.get_mut(&decoy.pbx) {
            held.remove(&server);
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
        let (pbx, held, own) = (decoy.pbx, decoy.sample.is_some(), decoy.own.take());
        let Some(ask) = self.drop_decoy(server) else {
            return self.never("a decoy is gone while it is worked on");
        };
        if held {
            self.refuse_for_now(&ask);
        } else {
            self.challenge(pbx, &ask, own);
        }
    }

    /// A challenge as this PBX writes them: its own, or one made up after those that it wrote of late.
    pub(crate) fn challenge(&mut self, pbx: usize, ask: &Ask, own: Option<ChallengeShape>) {
        let Ok(request) = Message::parse(&ask.bytes) else {
            return self.never("a request that was read cannot be read again");
        };
        let tag = self.entropy.word();
        let mut writer =
            sip::response::response(&request, ask.hop.remote, 401, reason_phrase(401), Some(&tag));
        let source = ask.hop.remote.ip();
        let shape = own.or_else(|| self.made_up_shape(pbx));
        for challenge in shape.iter().flat_map(|shape| &shape.challenges) {
            let inner = digest::given_opaque(challenge);
            let opaque = self.keys.seal_opaque(source, self.now.wall, inner.as_deref());
            if let Some(challenge) = sip::auth::challenge_with(challenge, &opaque) {
                writer.header("WWW-Authenticate", challenge);
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
        self.transactions.respond(ask.server, 401, bytes, self.now.mono);
    }

    /// The newest challenge with another nonce and opaque; none where the PBX never challenged.
    fn made_up_shape(&mut self, pbx: usize) -> Option<ChallengeShape> {
        let shapes = &self.pbxs[pbx].shapes;
        let newest = shapes.back()?;
        let recent = shapes.iter().filter(|shape| newest.came - shape.came < SHAPES_AGE).count();
        let told_by = if recent >= made_up::TELL { recent } else { shapes.len() };
        let mut challenges = Vec::with_capacity(newest.challenges.len());
        for (line, challenge) in newest.challenges.iter().enumerate() {
            let seen = || shapes.iter().skip(shapes.len() - told_by).filter_map(|it| it.challenges.get(line));
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
            challenges.push(text);
        }
        Some(ChallengeShape { came: newest.came, challenges, passed: newest.passed.clone() })
    }

    fn realm_or_domain(&self, pbx: usize) -> String {
        self.pbxs[pbx].realm.clone().unwrap_or_else(|| self.config.pbx[pbx].domain.clone())
    }
}
