//! Rules about answers: one final answer for each request, the same bytes each time, to whoever asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::oracle::{Seen, Violation};
use crate::scenery;

/// As long as a request over UDP may be repeated, its transaction is there (RFC 3261 timer J).
const KEPT: Duration = Duration::from_secs(31);

/// One transaction, as its client names it: face, branch with its sent-by (RFC 3261 §17.2.3), Call-ID, method.
type Key = (Side, String, String, String);

#[derive(Debug, Default)]
struct Asked {
    /// Where it came from, each time.
    places: Vec<(FlowId, SocketAddr)>,
    /// Final answers by To tag; a refusal under the empty tag.
    finals: BTreeMap<String, Vec<u8>>,
    first_final: Option<Instant>,
    tag: String,
    provisional: bool,
    /// It was refused without a transaction, for its phone was not registered (RFC 3261 §8.2.7).
    stateless: bool,
    /// Its refusal had its ACK: what comes again is absorbed.
    acknowledged: bool,
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Answers {
    asked: BTreeMap<Key, Asked>,
    /// To tags of 2xx that arrived, by the face that they came to: no answer is invented.
    accepted: BTreeSet<(Side, String, String)>,
    /// Requests that came again in this step, and whose answer is due once more.
    owed: BTreeMap<Key, IpAddr>,
}

fn key(seen: &Seen<'_>) -> Key {
    let text = seen.text;
    let named = format!("{} {}", text.sent_by(), text.branch());
    // scanners send what others wrote, each the same
    let branch = match scenery::is_scanner(seen.peer.ip()) {
        true => format!("{} {named}", seen.peer.ip()),
        false => named,
    };
    (seen.side, branch, text.header("Call-ID").to_owned(), text.method().to_owned())
}

impl Answers {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        match text.code() {
            None => {
                self.on_request(seen);
                let asked = self.asked.entry(key(seen)).or_default();
                if !asked.places.contains(&(seen.flow, seen.peer)) {
                    asked.places.push((seen.flow, seen.peer));
                }
                asked.tag = text.from_tag().to_owned();
            }
            Some(200..=299) if text.method() == "INVITE" => {
                self.accepted.insert((seen.side, text.from_tag().to_owned(), text.to_tag().to_owned()));
            }
            Some(_) => {}
        }
    }

    /// What comes again over UDP is answered again, as long as its transaction is there (RFC 3261 §17.2). That of
    /// an INVITE that was accepted is not (RFC 6026 §7.1), nor is what a scanner has broken.
    fn on_request(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if text.method() == "ACK" {
            let mut invite = key(seen);
            invite.3 = "INVITE".to_owned();
            if let Some(asked) = self.asked.get_mut(&invite) {
                asked.acknowledged = true;
            }
            return;
        }
        let key = key(seen);
        let Some(asked) = self.asked.get(&key).filter(|_| seen.is_udp()) else { return };
        let kept = asked.first_final.is_none_or(|at| seen.now.since(at) < KEPT) && !asked.acknowledged;
        let answered = match text.method() {
            "INVITE" if asked.finals.is_empty() => asked.provisional,
            "INVITE" => asked.finals.contains_key("") && !asked.stateless,
            _ => !asked.finals.is_empty(),
        };
        let known = asked.places.contains(&(seen.flow, seen.peer));
        if kept && answered && known && !scenery::is_scanner(seen.peer.ip()) {
            self.owed.insert(key, seen.peer.ip());
        }
    }

    /// Who is blocked gets no answer.
    pub(super) fn on_lists(&mut self, blocked: &PrefixSet) {
        self.owed.retain(|_, source| !blocked.contains(*source));
    }

    /// After each step.
    pub(super) fn every_repetition_is_answered(&mut self) -> Result<(), Violation> {
        match self.owed.pop_first() {
            None => Ok(()),
            Some(((side, branch, call_id, method), source)) => Err(Violation {
                oracle: "what comes again is answered again",
                seen: format!("{method} {branch} of {source}, {side:?}"),
                call: call_id,
            }),
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let Some(code) = text.code() else { return Ok(()) };
        self.owed.remove(&key(seen));
        let Some(asked) = self.asked.get_mut(&key(seen)) else {
            // what a scanner sends, only the border may be able to read
            return match scenery::is_scanner(seen.peer.ip()) {
                true => Ok(()),
                false => Err(Violation::of("nobody hears what he did not ask", text.render(), text)),
            };
        };
        let asker = |(flow, from): &(FlowId, SocketAddr)| *flow == seen.flow && from.ip() == seen.peer.ip();
        if !asked.places.iter().any(asker) {
            let seen =
                format!("asked from {:?}, answered to {}:\n{}", asked.places, seen.peer, text.render());
            return Err(Violation::of("who asks is answered", seen, text));
        }
        if code < 200 {
            asked.provisional = true;
            return Ok(());
        }
        // what a scanner sends again over a stream is new, and without a branch of its own it may be another request
        // (RFC 3261 §17.2.3)
        let unique = seen.is_udp() && text.branch().starts_with("z9hG4bK");
        if scenery::is_scanner(seen.peer.ip()) && !unique {
            return Ok(());
        }
        let invite = text.method() == "INVITE";
        if invite && code < 300 && !self.accepted.contains(&accepted_key(seen)) {
            return Err(Violation::of("no answer is invented", text.render(), text));
        }
        asked.final_answer(seen, code, invite)
    }

    /// In the end exactly one, for each INVITE that the border took on and whose sender is still there.
    pub(super) fn every_invite_is_answered(
        &self,
        gone: impl Fn(FlowId, IpAddr) -> bool,
    ) -> Result<(), Violation> {
        let invites = self.asked.iter().filter(|((.., method), _)| method == "INVITE");
        for ((_, _, call_id, _), asked) in invites {
            let gone = asked.places.iter().any(|(flow, from)| gone(*flow, from.ip()));
            if asked.provisional && asked.finals.is_empty() && !gone {
                return Err(Violation {
                    oracle: "every INVITE is answered",
                    seen: format!("no final answer to the INVITE of {call_id}"),
                    call: asked.tag.clone(),
                });
            }
        }
        Ok(())
    }

    /// Its transactions are over.
    pub(super) fn on_restart(&mut self) {
        self.asked.clear();
        self.accepted.clear();
        self.owed.clear();
    }
}

/// The 2xx that must have come on the other face.
fn accepted_key(seen: &Seen<'_>) -> (Side, String, String) {
    (seen.side.other(), seen.text.from_tag().to_owned(), seen.text.to_tag().to_owned())
}

impl Asked {
    /// At most one final answer, each repetition byte for byte.
    fn final_answer(&mut self, seen: &Seen<'_>, code: u16, invite: bool) -> Result<(), Violation> {
        let text = seen.text;
        let fail = |words: String| Err(Violation::of("one final answer", words, text));
        // once its phone has registered, a repetition of what was refused so is a new INVITE
        let was_stateless =
            std::mem::replace(&mut self.stateless, invite && code == 403 && !self.provisional);
        let over = !invite && self.first_final.is_some_and(|at| seen.now.since(at) > KEPT);
        if (was_stateless && !self.stateless) || over {
            self.finals.clear();
        }
        let tag = if invite && code < 300 { text.to_tag().to_owned() } else { String::new() };
        if let Some(before) = self.finals.get(&tag) {
            return match before == seen.bytes {
                true => Ok(()),
                false => fail(format!(
                    "a repetition differs:\n{}\nand\n{}",
                    String::from_utf8_lossy(before),
                    String::from_utf8_lossy(seen.bytes)
                )),
            };
        }
        let refused = self.finals.contains_key("");
        if refused || (code >= 300 && !self.finals.is_empty()) {
            return fail(format!("{code} after another final answer to the same request"));
        }
        if self.finals.is_empty() {
            self.first_final = Some(seen.now);
        }
        self.finals.insert(tag, seen.bytes.to_vec());
        Ok(())
    }
}
