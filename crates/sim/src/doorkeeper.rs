//! How a PBX asks who somebody is: 401, or 407 as a proxy in its place does (RFC 3261 §22), by MD5 or SHA-256
//! (RFC 8760), in one realm or two, with a nonce that serves for a while or once.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::clock::Instant;

use crate::act::Stage;
use crate::digest;
use crate::rng::Rng;
use crate::scenery::{self, DOMAIN, REALM};
use crate::text::Text;

const NONCE_LIFE: Duration = Duration::from_secs(90);
/// Nobody of ours has a password there.
const OTHER_REALM: &str = "elsewhere.example";

/// What is asked, and how, drawn once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// A REGISTER is asked for by 407, as by a proxy before the registrar.
    as_proxy: bool,
    qop: bool,
    opaque: bool,
    /// Each in a challenge of its own, the strongest first.
    algorithms: &'static [&'static str],
    /// Another realm is named beside, in a challenge before or after the others.
    other_beside: Option<bool>,
    /// A nonce serves for one request.
    once: bool,
    /// Of a thousand questions, so many name another realm alone.
    foreign_realms: u64,
    /// It says for which of its URIs an answer holds (RFC 7616 §3.3), its own host among them.
    domain: bool,
}

impl Manner {
    pub(crate) fn drawn(rng: &mut Rng) -> Self {
        let algorithms: [&[&str]; 4] = [&["MD5"], &["MD5"], &["SHA-256"], &["SHA-256", "MD5"]];
        Self {
            as_proxy: rng.chance(300),
            qop: rng.chance(700),
            opaque: rng.chance(500),
            algorithms: rng.pick(&algorithms).copied().unwrap_or(&["MD5"]),
            other_beside: *rng.pick(&[None, None, Some(true), Some(false)]).unwrap_or(&None),
            once: rng.chance(200),
            foreign_realms: *rng.pick(&[0, 0, 30]).unwrap_or(&0),
            domain: rng.chance(500),
        }
    }

    /// Whether the realm that it names first need not be the agreed one.
    pub(crate) fn names_others(self) -> bool {
        self.foreign_realms > 0 || self.other_beside.is_some()
    }
}

/// Asks, and knows what was asked.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    manner: Manner,
    /// The name of its PBX inside.
    host: &'static str,
    /// Until when each is taken, and the highest count that came with it.
    nonces: BTreeMap<String, (Instant, u32)>,
}

impl Doorkeeper {
    pub(crate) fn new(manner: Manner, host: &'static str) -> Self {
        Self { manner, host, nonces: BTreeMap::new() }
    }

    /// What it had asked is forgotten.
    pub(crate) fn forget(&mut self) {
        self.nonces.clear();
    }

    /// How a REGISTER without credentials is answered; a call is always asked for as by a proxy.
    pub(crate) fn question(
        &mut self,
        text: &Text,
        stage: &mut Stage<'_>,
    ) -> (u16, &'static str, Vec<String>) {
        let (code, header) = match self.as_proxy(text) {
            true => (407, "Proxy-Authenticate"),
            false => (401, "WWW-Authenticate"),
        };
        let had = digest::field(text.header(self.answered_in(text)), "nonce");
        let stale = had.is_some_and(|nonce| !self.nonces.contains_key(nonce));
        self.is_seen(text, stale, stage);
        (code, header, self.challenges(stale, stage))
    }

    fn is_seen(&self, text: &Text, stale: bool, stage: &mut Stage<'_>) {
        let Manner { as_proxy, qop, algorithms, other_beside, domain, .. } = self.manner;
        let register = text.method() == "REGISTER";
        let sights = [
            (register && !as_proxy, "asks a REGISTER by 401"),
            (register && as_proxy, "asks a REGISTER by 407"),
            (algorithms.contains(&"MD5"), "asks by MD5"),
            (algorithms.contains(&"SHA-256"), "asks by SHA-256"),
            (other_beside.is_some(), "asks in two realms"),
            (stale, "asks with a new nonce for an old one"),
            (!qop, "asks without qop"),
            (domain, "asks for its own domain"),
        ];
        sights.into_iter().filter(|(seen, _)| *seen).for_each(|(_, what)| stage.saw(what));
    }

    fn as_proxy(&self, text: &Text) -> bool {
        self.manner.as_proxy || text.method() != "REGISTER"
    }

    fn answered_in(&self, text: &Text) -> &'static str {
        if self.as_proxy(text) { "Proxy-Authorization" } else { "Authorization" }
    }

    fn challenges(&mut self, stale: bool, stage: &mut Stage<'_>) -> Vec<String> {
        let Manner { algorithms, other_beside, foreign_realms, .. } = self.manner;
        let foreign = stage.busy && stage.decide_for(foreign_realms, "asks for another realm");
        if foreign {
            return vec![self.challenge(OTHER_REALM, "MD5", false, stage)];
        }
        let mut all: Vec<String> =
            algorithms.iter().map(|algorithm| self.challenge(REALM, algorithm, stale, stage)).collect();
        if let Some(before) = other_beside {
            let place = if before { 0 } else { all.len() };
            all.insert(place, self.challenge(OTHER_REALM, "MD5", false, stage));
        }
        all
    }

    fn challenge(&mut self, realm: &str, algorithm: &str, stale: bool, stage: &mut Stage<'_>) -> String {
        let nonce = stage.rng.word();
        self.nonces.insert(nonce.clone(), (stage.now + NONCE_LIFE, 0));
        let mut value = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}");
        if self.manner.qop {
            value.push_str(", qop=\"auth\"");
        }
        if self.manner.opaque {
            value.push_str(&format!(", opaque=\"{}\"", stage.rng.word()));
        }
        if self.manner.domain {
            value.push_str(&format!(", domain=\"sip:{} sip:{DOMAIN}\"", self.host));
        }
        if stale {
            value.push_str(", stale=true");
        }
        value
    }

    /// Whether a request brings the right answer to a question that still holds.
    pub(crate) fn is_proved(&mut self, text: &Text, user: &str, now: Instant) -> bool {
        self.nonces.retain(|_, (until, _)| *until > now);
        let credentials = text.header(self.answered_in(text));
        let nonce = digest::field(credentials, "nonce").unwrap_or_default();
        let Some((_, count)) = self.nonces.get_mut(nonce) else { return false };
        // a count that does not rise is a replay (RFC 2617 §3.2.2); phones that answer for themselves begin anew
        let own = digest::field(credentials, "nc").and_then(|nc| u32::from_str_radix(nc, 16).ok());
        let digest = scenery::EXTENSIONS.iter().any(|(name, digest)| *name == user && *digest);
        if !digest && let Some(own) = own {
            if own <= *count {
                return false;
            }
            *count = own;
        }
        let right = digest::is_right(credentials, user, &scenery::password(user), REALM, text.method());
        if right && self.manner.once {
            self.nonces.remove(nonce);
        }
        right
    }
}
