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
