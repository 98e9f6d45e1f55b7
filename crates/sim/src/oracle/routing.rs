//! Rules about who is spoken to: the phone that is meant, in the name of the phone that spoke, on flows that
//! are there, and never a blocked source.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::oracle::{Seen, Sent, Violation};
use crate::scenery::{self, PHONE_EXPIRES};
use crate::text::{Text, param, uri_of, user_of};

/// A REGISTER that is passed on waits ten seconds, its answer may be repeated for 32 s.
const PASSED_WAITS: Duration = Duration::from_secs(43);

/// In seconds, and what is lost by rounding.
const ANSWER_WAITS: u64 = 11;

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Routing {
    /// From tags of phones' requests that begin something, and the extension of the phone.
    origins: BTreeMap<String, &'static str>,
    /// How long phones wished to be registered, by branch.
    wishes: BTreeMap<String, u64>,
    /// When the PBX last accepted a registration of an extension.
    accepted: BTreeMap<String, Instant>,
    blocked: PrefixSet,
    spared: BTreeSet<FlowId>,
    closed: BTreeSet<FlowId>,
}

impl Routing {
    pub(super) fn on_lists(&mut self, blocked: &PrefixSet, spared: &[FlowId]) {
        self.blocked = blocked.clone();
        self.spared = spared.iter().copied().collect();
    }

    pub(super) fn on_closed(&mut self, flow: FlowId) {
        self.closed.insert(flow);
    }

    pub(super) fn is_closed(&self, flow: FlowId) -> bool {
        self.closed.contains(&flow)
    }

    /// Whether the border neither hears it nor speaks to it.
    pub(super) fn is_silenced(&self, flow: FlowId, source: IpAddr) -> bool {
        self.blocked.contains(source) && !self.spared.contains(&flow)
    }

    pub(super) fn is_gone(&self, flow: FlowId, source: IpAddr) -> bool {
        self.closed.contains(&flow) || self.blocked.contains(source)
    }

    /// The new process numbers its connections anew.
    pub(super) fn on_restart(&mut self) {
        self.spared.clear();
        self.closed.clear();
        // it says of a block at once
        self.blocked = PrefixSet::default();
    }

    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if seen.side == Side::Outside && text.method() == "REGISTER" && text.code().is_none() {
            self.wishes.insert(text.branch().to_owned(), lasts(text).unwrap_or(3_600));
        }
        if seen.side == Side::Outside && text.code().is_none() && text.to_tag().is_empty() {
            if let Some(extension) = scenery::extension_at(seen.peer.ip()) {
                self.origins.entry(text.from_tag().to_owned()).or_insert(extension);
            }
            return;
        }
        if seen.side == Side::Inside && text.method() == "REGISTER" && text.code() == Some(200) {
            self.accepted.insert(user_of(uri_of(text.header("To"))).to_owned(), seen.now);
        }
    }

    /// Bytes of any kind. `is_over` where the block of a source has ended since the lists were given out.
    pub(super) fn on_bytes(&self, sent: &Sent<'_>, is_over: bool) -> Result<(), Violation> {
        if self.closed.contains(&sent.flow) {
            return Err(Violation::new(
                "nothing on a closed flow",
                format!("{:?}: {}", sent.flow, String::from_utf8_lossy(sent.bytes)),
            ));
        }
        if sent.side == Side::Outside && !is_over && self.is_silenced(sent.flow, sent.to.ip()) {
            return Err(Violation::new(
                "blocked source is silent",
                format!("to {}: {}", sent.to, String::from_utf8_lossy(sent.bytes)),
            ));
        }
        Ok(())
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        match (seen.side, seen.text.code()) {
            (Side::Outside, None) => reaches_its_phone(seen),
            (Side::Outside, Some(200..=299)) if seen.text.method() == "REGISTER" => self.registered(seen),
            (Side::Inside, None) => self.speaks_for_itself(seen),
            _ => Ok(()),
        }
    }

    /// A registration is accepted for the phones of that extension, and after the PBX has accepted it.
    fn registered(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let name = user_of(uri_of(text.header("To")));
        if scenery::extension_at(seen.peer.ip()) != Some(name) {
            let words = format!("{} registered as {name}", seen.peer);
            return Err(Violation::of("nobody registers another's name", words, text));
        }
        let Some(granted) = lasts(text).filter(|granted| *granted > 0) else { return Ok(()) };
        // where the PBX's challenge decides, each is its own; a repetition of the answer comes within 32 s
        let digest = scenery::EXTENSIONS.iter().any(|(own, digest)| *own == name && *digest);
        let accepted = self.accepted.get(name);
        let fresh = accepted.is_some_and(|at| seen.now.since(*at) < PASSED_WAITS);
        if accepted.is_none() || (digest && !fresh) {
            return Err(Violation::of("no registration without the PBX", text.render(), text));
        }
        let Some(wish) = self.wishes.get(text.branch()).copied() else { return Ok(()) };
        // what was left when it was answered, after ten seconds at most
        let (least, most) = match digest {
            true => (0, wish),
            false => {
                let whole = wish.min(PHONE_EXPIRES.as_secs());
                (whole.saturating_sub(ANSWER_WAITS), whole)
            }
        };
        match (least..=most).contains(&granted) {
            true => Ok(()),
            false => {
                let words = format!(
                    "{wish} s were wished, {granted} granted; right are {least} to {most}:\n{}",
                    text.render()
                );
                Err(Violation::of("a registration lasts as it must", words, text))
            }
        }
    }

    /// What a phone begins goes inside under its own name.
    fn speaks_for_itself(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let caller = user_of(uri_of(text.header("From")));
        if !text.to_tag().is_empty() || text.method() == "REGISTER" || caller == "anonymous" {
            return Ok(());
        }
        match self.origins.get(text.from_tag()) {
            Some(own) if *own != caller => {
                let words = format!("a phone of {own} spoke as {caller}:\n{}", text.render());
                Err(Violation::of("nobody speaks in another's name", words, text))
            }
            _ => Ok(()),
        }
    }
}

/// A request for an extension goes to a phone of that extension: to nobody else's, and to no stranger.
fn reaches_its_phone(seen: &Seen<'_>) -> Result<(), Violation> {
    let text = seen.text;
    let name = user_of(uri_of(text.header("To")));
    let there = scenery::extension_at(seen.peer.ip());
    if there.is_none_or(|there| there != name && name != "anonymous") {
        let words = format!("for {name}, to {} of {there:?}:\n{}", seen.peer, text.render());
        return Err(Violation::of("calls reach their phone", words, text));
    }
    Ok(())
}

/// The longest time that a REGISTER, or its answer, gives to a contact; its Expires where none says.
fn lasts(text: &Text) -> Option<u64> {
    let secs = |contact: &String| param(contact, "expires").and_then(|secs| secs.parse().ok());
    text.all("Contact").iter().filter_map(secs).max().or_else(|| text.header("Expires").parse().ok())
}
