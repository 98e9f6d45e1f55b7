//! What must hold after every step, each rule by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use border::command::StatusView;
use guard::CallRule;
use media::RelayId;
use memchr::memmem;
use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::requests::Requests;
use crate::scenery::{self, INSIDE_CANARY, PBX_HOST, PHONE_CANARY, SCANNER_CANARY};
use crate::text::{Text, uri_of, user_of};

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub oracle: &'static str,
    /// What was seen.
    pub seen: String,
    /// The tag or Call-ID of the call concerned, empty where there is none.
    pub call: String,
}

impl Violation {
    pub(crate) fn new(oracle: &'static str, seen: impl Into<String>) -> Self {
        Self { oracle, seen: seen.into(), call: String::new() }
    }

    fn of(oracle: &'static str, seen: impl Into<String>, text: &Text) -> Self {
        Self { oracle, seen: seen.into(), call: text.from_tag().to_owned() }
    }
}

/// One INVITE transaction, as its sender names it.
type InviteKey = (Side, String, String);

#[derive(Debug, Default)]
struct Invite {
    /// Answers by To tag; a refusal under the empty tag.
    finals: BTreeMap<String, Vec<u8>>,
    tag: String,
    call_id: String,
    flow: FlowIdOrNone,
    source: Option<IpAddr>,
    provisional: bool,
    /// It was refused without a transaction, for its phone was not registered (RFC 3261 §8.2.7).
    stateless: bool,
}

type FlowIdOrNone = Option<FlowId>;

/// All oracles and what they remember.
#[derive(Debug, Default)]
pub struct Oracles {
    invites: BTreeMap<InviteKey, Invite>,
    /// Relays that were ordered, and of which neither an end nor a failure was reported.
    relays: BTreeSet<RelayId>,
    /// Initial INVITEs that the border heard and has not refused: when a From tag came first.
    arrived: BTreeMap<String, Instant>,
    /// When calls began that the PBX saw, by extension, each From tag once.
    started: BTreeMap<String, Vec<Instant>>,
    counted: BTreeSet<String>,
    requests: Requests,
    blocked: PrefixSet,
    spared: BTreeSet<FlowId>,
    closed: BTreeSet<FlowId>,
    rules: Vec<CallRule>,
    /// From tags of INVITEs that were accepted and whose dialog nobody has ended yet, to find a call by.
    talking: BTreeSet<String>,
    recent: VecDeque<String>,
    /// Room for the message that is looked at.
    lowercase: Vec<u8>,
}

/// One message that the border sent.
pub struct Sent<'a> {
    /// On which face.
    pub side: Side,
    /// On which flow.
    pub flow: FlowId,
    /// To whom.
    pub to: SocketAddr,
    /// What.
    pub bytes: &'a [u8],
    /// When.
    pub now: Instant,
}

impl Oracles {
    /// Oracles that have seen nothing.
    pub fn new() -> Self {
        Self { rules: scenery::rules(), ..Self::default() }
    }

    /// A message reached the border.
    pub fn on_arrival(&mut self, side: Side, flow: FlowId, from: SocketAddr, bytes: &[u8], now: Instant) {
        let Some(text) = Text::parse(bytes).filter(|text| text.code().is_none()) else { return };
        let of_phone = scenery::is_phone(from.ip()) && !self.blocked.contains(from.ip());
        if side == Side::Outside && of_phone && !self.closed.contains(&flow) {
            self.requests.on_arrival(flow, from, &text, now);
        }
        if text.method() != "INVITE" {
            return;
        }
        let heard = !self.blocked.contains(from.ip()) || self.spared.contains(&flow);
        if side == Side::Outside && text.to_tag().is_empty() && heard {
            self.arrived.entry(text.from_tag().to_owned()).or_insert(now);
        }
        let key = invite_key(side, &text);
        let invite = self.invites.entry(key).or_default();
        invite.tag = text.from_tag().to_owned();
        invite.call_id = text.header("Call-ID").to_owned();
        invite.flow = Some(flow);
        invite.source = Some(from.ip());
    }

    /// A connection is gone: nobody waits there any more.
    pub fn on_closed(&mut self, flow: FlowId) {
        self.closed.insert(flow);
        self.requests.on_closed(flow);
    }

    /// The block list changed.
    pub fn on_lists(&mut self, blocked: &PrefixSet, spared: &[FlowId]) {
        self.blocked = blocked.clone();
        self.requests.on_lists(blocked);
        self.spared = spared.iter().copied().collect();
    }

    /// A relay was ordered.
    pub fn on_relay_ordered(&mut self, relay: RelayId) {
        self.relays.insert(relay);
    }

    /// A relay is reported closed, or failed; of one that failed a later order is answered as well.
    pub fn on_relay_ended(&mut self, relay: RelayId) {
        self.relays.remove(&relay);
    }

    /// Every rule about one message that the border sends.
    pub fn on_sent(&mut self, sent: &Sent<'_>) -> Result<(), Violation> {
        self.blocked_source_is_silent(sent)?;
        nothing_of_the_other_side(sent, &mut self.lowercase)?;
        no_password(sent.bytes)?;
        let Some(text) = Text::parse(sent.bytes) else { return Ok(()) };
        self.note_dialog(&text);
        self.one_final_answer(sent, &text)?;
        self.requests.on_sent(sent, &text)?;
        if sent.side == Side::Inside {
            pbx_sees_no_stranger(&text)?;
            self.calls_within_the_rules(&text, sent.now)?;
        }
        Ok(())
    }

    fn note_dialog(&mut self, text: &Text) {
        match (text.method(), text.code()) {
            ("INVITE", Some(200..=299)) => {
                self.talking.insert(text.from_tag().to_owned());
            }
            ("BYE", Some(200..)) => {
                self.talking.remove(text.from_tag());
                self.talking.remove(text.to_tag());
            }
            _ => {}
        }
    }

    /// (1) At most one final answer, each repetition byte for byte.
    fn one_final_answer(&mut self, sent: &Sent<'_>, text: &Text) -> Result<(), Violation> {
        let Some(code) = text.code().filter(|_| text.method() == "INVITE") else { return Ok(()) };
        let invite = self.invites.entry(invite_key(sent.side, text)).or_default();
        if code < 200 {
            invite.provisional = true;
            return Ok(());
        }
        if code >= 300 {
            self.arrived.remove(text.from_tag());
        }
        let tag = if code < 300 { text.to_tag().to_owned() } else { String::new() };
        let fail = |seen: String| Err(Violation::of("one final answer", seen, text));
        // once its phone has registered, a repetition of what was refused so is a new INVITE
        let was_stateless = std::mem::replace(&mut invite.stateless, code == 403 && !invite.provisional);
        if was_stateless && !invite.stateless {
            invite.finals.clear();
        }
        if let Some(before) = invite.finals.get(&tag) {
            return match before == sent.bytes {
                true => Ok(()),
                false => fail(format!(
                    "a repetition differs:\n{}\nand\n{}",
                    String::from_utf8_lossy(before),
                    String::from_utf8_lossy(sent.bytes)
                )),
            };
        }
        let refused = invite.finals.contains_key("");
        if refused || (code >= 300 && !invite.finals.is_empty()) {
            return fail(format!("{code} after another final answer to the same INVITE"));
        }
        invite.finals.insert(tag, sent.bytes.to_vec());
        Ok(())
    }

    /// (1) In the end exactly one, for each INVITE that the border took on and whose sender is still there.
    pub fn every_invite_is_answered(&self) -> Result<(), Violation> {
        for invite in self.invites.values() {
            let gone = invite.flow.is_some_and(|flow| self.closed.contains(&flow))
                || invite.source.is_some_and(|source| self.blocked.contains(source));
            if invite.provisional && invite.finals.is_empty() && !gone {
                return Err(Violation {
                    oracle: "every INVITE is answered",
                    seen: format!("no final answer to the INVITE of {}", invite.call_id),
                    call: invite.tag.clone(),
                });
            }
        }
        Ok(())
    }

    /// Every rule about what does not happen for too long.
    pub fn nobody_waits(&self, now: Instant) -> Result<(), Violation> {
        self.requests.nobody_waits(now)
    }

    /// (2) What was opened and not closed is what is there.
    pub fn relays_balance(
        &self,
        status: &StatusView,
        in_plane: usize,
        at_rest: bool,
    ) -> Result<(), Violation> {
        let live = self.relays.len();
        if status.relays != live {
            return Err(Violation::new(
                "relays balance",
                format!("open are {:?}, the border counts {}", self.relays, status.relays),
            ));
        }
        if at_rest && (live != 0 || in_plane != 0 || status.calls != 0) {
            return Err(Violation {
                oracle: "at rest",
                seen: format!("{} calls, {live} relays, {in_plane} in the media plane", status.calls),
                call: self.talking.first().cloned().unwrap_or_default(),
            });
        }
        Ok(())
    }

    /// (3) In no window of a rule's period did more calls begin than it says.
    fn calls_within_the_rules(&mut self, text: &Text, now: Instant) -> Result<(), Violation> {
        if text.method() != "INVITE" || text.code().is_some() || !text.to_tag().is_empty() {
            return Ok(());
        }
        let (tag, extension) = (text.from_tag().to_owned(), user_of(uri_of(text.header("From"))).to_owned());
        if !self.counted.insert(tag.clone()) {
            return Ok(());
        }
        let at = self.arrived.get(&tag).copied().unwrap_or(now);
        let started = self.started.entry(extension.clone()).or_default();
        started.push(at);
        started.sort();
        for rule in &self.rules {
            let most = started
                .iter()
                .map(|first| {
                    started.iter().filter(|at| *at >= first && at.since(*first) < rule.period).count()
                })
                .max()
                .unwrap_or(0);
            if most > rule.calls as usize {
                return Err(Violation::of(
                    "call frequency",
                    format!("{most} calls of {extension} within {:?}, {} may be", rule.period, rule.calls),
                    text,
                ));
            }
        }
        started.retain(|at| now.since(*at) < Duration::from_secs(300));
        Ok(())
    }

    /// (5) Not a byte to a blocked source.
    fn blocked_source_is_silent(&self, sent: &Sent<'_>) -> Result<(), Violation> {
        let blocked = sent.side == Side::Outside && self.blocked.contains(sent.to.ip());
        if blocked && !self.spared.contains(&sent.flow) {
            return Err(Violation::new(
                "blocked source is silent",
                format!("to {}: {}", sent.to, String::from_utf8_lossy(sent.bytes)),
            ));
        }
        Ok(())
    }

    /// No password in what an operator reads, nor anywhere else.
    pub fn on_words(&mut self, words: &str) -> Result<(), Violation> {
        self.recent.push_back(words.to_owned());
        if self.recent.len() > 40 {
            self.recent.pop_front();
        }
        no_password(words.as_bytes())
    }

    /// The last events, for a failure's report.
    pub fn recent_events(&self) -> impl Iterator<Item = &str> {
        self.recent.iter().map(String::as_str)
    }

    /// The border begins anew: its transactions are over.
    pub fn on_restart(&mut self) {
        self.requests.on_restart();
        self.invites.clear();
        // the counts of calls are not kept: a restart takes the window with it
        self.started.clear();
        self.arrived.clear();
        self.relays.clear();
        self.spared.clear();
    }
}

/// (6) A timer that was served does not ask again at once.
pub fn next_timeout_is_later(next: Option<Instant>, now: Instant) -> Result<(), Violation> {
    match next {
        Some(at) if at <= now => Err(Violation::new(
            "next timeout",
            format!("wants {} ns, it is {} ns", at.as_nanos(), now.as_nanos()),
        )),
        _ => Ok(()),
    }
}

/// (4) No byte of one side on the other, however it is written.
fn nothing_of_the_other_side(sent: &Sent<'_>, lowercase: &mut Vec<u8>) -> Result<(), Violation> {
    let hidden: &[&str] = match sent.side {
        Side::Outside => &["10.77.0.", PBX_HOST, INSIDE_CANARY],
        Side::Inside => &["192.168.77.", "198.51.100.", "192.0.2.", "203.0.113.", PHONE_CANARY],
    };
    lowercase.clear();
    lowercase.extend(sent.bytes.iter().map(u8::to_ascii_lowercase));
    // strangers may write what they like, and a decoy echoes it to them
    match hidden.iter().find(|name| memmem::find(lowercase, name.as_bytes()).is_some()) {
        None => Ok(()),
        Some(name) => Err(Violation {
            oracle: "topology is hidden",
            seen: format!(
                "{name} went {:?} to {}:\n{}",
                sent.side,
                sent.to,
                String::from_utf8_lossy(sent.bytes)
            ),
            call: Text::parse(sent.bytes).map(|text| text.from_tag().to_owned()).unwrap_or_default(),
        }),
    }
}

fn no_password(words: &[u8]) -> Result<(), Violation> {
    match memmem::find(words, b"secret-of-") {
        Some(_) => Err(Violation::new("no password", String::from_utf8_lossy(words))),
        None => Ok(()),
    }
}

/// From strangers the PBX sees nothing but REGISTERs of extensions whose challenge is its own matter; and
/// nobody speaks to it under a name that is not configured.
fn pbx_sees_no_stranger(text: &Text) -> Result<(), Violation> {
    if text.code().is_some() {
        return Ok(());
    }
    let name = user_of(uri_of(text.header("To")));
    let digest = scenery::EXTENSIONS.iter().any(|(extension, digest)| *extension == name && *digest);
    if text.render().contains(SCANNER_CANARY) && !(text.method() == "REGISTER" && digest) {
        return Err(Violation::of("no stranger at the PBX", text.render(), text));
    }
    let caller = user_of(uri_of(text.header("From")));
    let known = scenery::EXTENSIONS.iter().any(|(extension, _)| *extension == caller);
    let alone = matches!(text.method(), "INVITE" | "REGISTER") && text.to_tag().is_empty();
    if alone && !known {
        return Err(Violation::of("no unknown name at the PBX", text.render(), text));
    }
    Ok(())
}

fn invite_key(side: Side, text: &Text) -> InviteKey {
    (side, text.branch().to_owned(), text.header("Call-ID").to_owned())
}
