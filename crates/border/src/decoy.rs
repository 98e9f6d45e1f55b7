//! The answer to strangers: a challenge as the PBX would have sent it, after as long as it would have taken
//! (contract section 2). From outside, a name that exists cannot be told from one that does not.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::net::Side;
use wire::sip::{HeaderName, Message, Writer};

use crate::Border;
use crate::answer::{Ask, reason_phrase};
use crate::digest;
use crate::entropy::Entropy;
use crate::timers::Timer;
use crate::topology::Topology;

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

/// Strangers who wait for their answer; as many as there may be transactions.
#[derive(Default)]
pub(crate) struct Decoys {
    waiting: BTreeMap<u64, Ask>,
    next: u64,
}

impl Decoys {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Border {
    /// Answers later, as if the PBX had been asked.
    pub(crate) fn answer_with_decoy(&mut self, ask: Ask) {
        let pbx = self.preferred_pbx().and_then(|pbx| self.pbxs.get(pbx));
        let delay = pbx.map(|pbx| pbx.answer_time(&mut self.entropy)).unwrap_or_default();
        let number = self.decoys.next;
        self.decoys.next += 1;
        self.decoys.waiting.insert(number, ask);
        self.timers.arm(self.now.mono + delay, Timer::Decoy(number));
    }

    pub(crate) fn on_decoy_timer(&mut self, number: u64) {
        let Some(ask) = self.decoys.waiting.remove(&number) else { return };
        let Ok(request) = Message::parse(&ask.bytes) else { return };
        // A PBX that is down makes us answer 503 to those who are known: strangers get the same.
        let Some(pbx) = self.preferred_pbx() else {
            return self.answer(&ask, 503, |writer| {
                writer.header("Retry-After", 10);
            });
        };
        let tag = self.entropy.word();
        let mut writer =
            sip::response::response(&request, ask.hop.remote, 401, reason_phrase(401), Some(&tag));
        let source = ask.hop.remote.ip();
        match &self.pbxs[pbx].shape {
            Some(shape) => {
                for challenge in &shape.challenges {
                    let inner =
                        digest::given_opaque(challenge).map(|opaque| redrawn(&opaque, &mut self.entropy));
                    let opaque = self.keys.seal_opaque(source, self.now.wall, inner.as_deref());
                    let nonce = digest::nonce_of(challenge).unwrap_or_default();
                    let fresh = redrawn(&nonce, &mut self.entropy);
                    let Some(challenge) = sip::auth::challenge_with(challenge, &opaque) else { continue };
                    let (old, new) = (format!("nonce=\"{nonce}\""), format!("nonce=\"{fresh}\""));
                    writer.header("WWW-Authenticate", challenge.replacen(&old, &new, 1));
                }
                for (name, value) in &shape.passed {
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

/// Another value of the same shape: letters stay letters of their case, digits digits, the rest as it is.
fn redrawn(text: &str, entropy: &mut Entropy) -> String {
    let hex = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    text.chars()
        .map(|character| {
            let drawn = |first: u8, count: u64, entropy: &mut Entropy| {
                char::from(first + u8::try_from(entropy.below(count)).unwrap_or(0))
            };
            match character {
                'a'..='f' | '0'..='9' if hex => {
                    char::from_digit(u32::try_from(entropy.below(16)).unwrap_or(0), 16).unwrap_or('0')
                }
                'a'..='z' => drawn(b'a', 26, entropy),
                'A'..='Z' => drawn(b'A', 26, entropy),
                '0'..='9' => drawn(b'0', 10, entropy),
                other => other,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrawn_nonce_keeps_its_shape() {
        let mut entropy = Entropy::new([3; 32]);
        let fresh = redrawn("aZ3+/=", &mut entropy);
        assert_eq!(fresh.len(), 6);
        assert!(fresh.ends_with("+/=") && fresh.starts_with(|c: char| c.is_ascii_lowercase()));
        let hex = redrawn("00ff00ff", &mut entropy);
        assert!(hex.bytes().all(|byte| byte.is_ascii_hexdigit()) && hex != "00ff00ff");
    }
}
