//! Rules about registrations at the PBX: each binding is one series there (RFC 3261 §10.2), which a lost connection
//! does not end at once, and no phone believes that it lasts longer than it does. A PBX that wants registrations to
//! last longer is asked for that at once (§10.2.8).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use border::{Code, Event};
use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::digest;
use crate::oracle::{Seen, Violation};
use crate::scenery;
use crate::text::{Text, param, uri_of, user_of};
use crate::words;

/// How long a phone may be away (the configuration's `grace`).
const GRACE: Duration = Duration::from_secs(30);

/// An answer that comes later may find that the phone was told already that it is not registered.
const PATIENCE: Duration = Duration::from_secs(8);

/// The newest REGISTER of the border's own for a contact, as long as its phone is there.
#[derive(Debug)]
struct Asked {
    branch: String,
    call_id: String,
    extension: String,
    /// When the first of them was sent, where challenges led from one to the next.
    since: Instant,
    /// How long it is to last, in seconds.
    wished: u64,
    /// The PBX asked in this step who it is.
    challenged: bool,
    /// The PBX wants it to last so many seconds, as it said in this step.
    longer: Option<u64>,
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// By contact: while the disk takes nothing the border begins its series anew.
    asked: BTreeMap<String, Asked>,
    /// What the border has asked already: what it repeats says nothing new.
    branches: BTreeSet<String>,
    /// From tag of each Call-ID, and the contact that it is about.
    tags: BTreeMap<String, String>,
    contacts: BTreeMap<String, String>,
    /// The longest lifetime in the PBX's answer to the newest request that it has answered, and that one's number, by
    /// extension.
    granted: BTreeMap<String, (u32, u64)>,
    /// The phones of each extension, by their numbers.
    phones: BTreeMap<&'static str, BTreeSet<u8>>,
    /// Each nonce and count that was shown, and with which request.
    counts: BTreeMap<(String, u32), String>,
    /// Who is at the other end of a flow.
    peers: BTreeMap<FlowId, SocketAddr>,
    /// Where REGISTERs came from.
    hosts: BTreeSet<IpAddr>,
    /// When the last flow from there was lost.
    lost: BTreeMap<SocketAddr, Instant>,
}

/// The lifetimes that the contacts of an answer have.
fn lifetimes(text: &Text) -> impl Iterator<Item = u64> {
    text.all("Contact").into_iter().filter_map(|contact| param(&contact, "expires")?.parse().ok())
}

impl Series {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if seen.side == Side::Inside && text.method() == "REGISTER" && text.code() >= Some(200) {
            self.has_its_answer(text, seen.now);
        }
        match (seen.side, text.method(), text.code()) {
            (Side::Inside, "REGISTER", Some(200..=299)) => {
                let name = user_of(uri_of(text.header("To"))).to_owned();
                let granted = self.granted.entry(name).or_default();
                *granted = (*granted).max((text.cseq(), lifetimes(text).max().unwrap_or(0)));
            }
            (Side::Outside, "REGISTER", None) => {
                self.peers.insert(seen.flow, seen.peer);
                self.lost.remove(&seen.peer);
                self.hosts.insert(seen.peer.ip());
                self.note_phone(seen.peer.ip());
                if lifetimes(text).all(|wished| wished == 0) {
                    self.leaves(scenery::extension_at(seen.peer.ip()));
                }
            }
            _ => {}
        }
    }

    fn note_phone(&mut self, ip: IpAddr) {
        if let (Some(name), Some(number)) = (scenery::extension_at(ip), scenery::phone_at(ip)) {
            self.phones.entry(name).or_default().insert(number % scenery::AWAY);
        }
    }

    fn has_its_answer(&mut self, text: &Text, now: Instant) {
        let own = self.asked.iter_mut().find(|(_, asked)| asked.branch == text.branch());
        let Some((contact, asked)) = own else { return };
        let least = text.header("Min-Expires").parse().ok().filter(|least| *least > asked.wished);
        let in_time = now.since(asked.since) < PATIENCE;
        match (text.code(), least) {
            (Some(423), Some(_)) if in_time => asked.longer = least,
            (Some(401 | 407), _) => asked.challenged = true,
            _ => {
                let contact = contact.clone();
                self.asked.remove(&contact);
            }
        }
    }

    /// After each step: who was told to ask for longer has done so.
    pub(super) fn the_pbx_is_heeded(&mut self) -> Result<(), Violation> {
        // what had its answer is over
        self.asked.retain(|_, asked| !std::mem::take(&mut asked.challenged));
        match self.asked.values().find_map(|asked| Some((asked, asked.longer?))) {
            Some((asked, least)) => Err(Violation {
                oracle: "a PBX that wants longer registrations is asked for them",
                seen: format!("{}: {least} s", asked.extension),
                call: asked.call_id.clone(),
            }),
            None => Ok(()),
        }
    }

    /// A phone of an extension leaves, or is lost: there may be nobody for whom the border asks. What it was told in
    /// this step came before.
    fn leaves(&mut self, extension: Option<&str>) {
        self.asked.retain(|_, asked| Some(asked.extension.as_str()) != extension || asked.longer.is_some());
    }

    /// Who is blocked is not registered any more.
    pub(super) fn on_lists(&mut self, blocked: &PrefixSet) {
        let gone: Vec<IpAddr> = self.hosts.iter().copied().filter(|host| blocked.contains(*host)).collect();
        gone.into_iter().for_each(|host| self.leaves(scenery::extension_at(host)));
    }

    pub(super) fn on_closed(&mut self, flow: FlowId, now: Option<Instant>) {
        let Some(peer) = self.peers.remove(&flow) else { return };
        self.leaves(scenery::extension_at(peer.ip()));
        if let Some(now) = now {
            self.lost.insert(peer, now);
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        if seen.side == Side::Inside && seen.text.code().is_none() {
            self.counts_rise(seen.text)?;
        }
        match (seen.side, seen.text.method(), seen.text.code()) {
            (Side::Inside, "REGISTER", None) => {
                self.asks(seen);
                self.is_one_series(seen.text)
            }
            (Side::Outside, "REGISTER", Some(200..=299)) => self.lasts_no_longer(seen.text),
            _ => Ok(()),
        }
    }

    /// Whose password the PBX asks the phone itself for is told of it by his own answer.
    fn asks(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        let name = user_of(uri_of(text.header("To")));
        let ours = scenery::EXTENSIONS.iter().any(|(own, digest)| *own == name && !digest);
        let contacts = text.all("Contact");
        let [contact] = contacts.as_slice() else { return };
        let wished = param(contact, "expires").and_then(|secs| secs.parse().ok());
        let Some(wished) = wished.filter(|_| ours) else { return };
        if wished == 0 {
            // it is taken back
            self.asked.remove(user_of(uri_of(contact)));
            return;
        }
        let before = self.asked.get(user_of(uri_of(contact)));
        let is_new = self.branches.insert(text.branch().to_owned());
        if !is_new || before.is_some_and(|asked| asked.longer > Some(wished)) {
            return;
        }
        let goes_on = before.filter(|asked| asked.challenged || asked.longer.is_some());
        let since = goes_on.map_or(seen.now, |asked| asked.since);
        let asked = Asked {
            branch: text.branch().to_owned(),
            call_id: text.header("Call-ID").to_owned(),
            extension: name.to_owned(),
            since,
            wished,
            challenged: false,
            longer: None,
        };
        self.asked.insert(user_of(uri_of(contact)).to_owned(), asked);
    }

    /// A nonce comes with each count once, or it is a replay (RFC 2617 §3.2.2). Phones that answer for themselves
    /// begin anew each time.
    fn counts_rise(&mut self, text: &Text) -> Result<(), Violation> {
        for credentials in ["Authorization", "Proxy-Authorization"].map(|name| text.header(name)) {
            let field = |name| digest::field(credentials, name).unwrap_or_default();
            let ours = scenery::EXTENSIONS.iter().any(|(name, digest)| *name == field("username") && !digest);
            let Ok(count) = u32::from_str_radix(field("nc"), 16) else { continue };
            let shown = (field("nonce").to_owned(), count);
            let branch = self.counts.entry(shown).or_insert_with(|| text.branch().to_owned());
            if ours && branch != text.branch() {
                return Err(Violation::of("a nonce is counted", text.render(), text));
            }
        }
        Ok(())
    }

    /// One Call-ID, one From tag, one contact. Who takes all of his back at once speaks of several.
    fn is_one_series(&mut self, text: &Text) -> Result<(), Violation> {
        let call_id = text.header("Call-ID").to_owned();
        let tag = self.tags.entry(call_id.clone()).or_insert_with(|| text.from_tag().to_owned());
        if *tag != text.from_tag() {
            return Err(Violation::of("a registration is one series", text.render(), text));
        }
        let contacts = text.all("Contact");
        let [contact] = contacts.as_slice() else { return Ok(()) };
        let user = user_of(uri_of(contact)).to_owned();
        let known = self.contacts.entry(call_id).or_insert_with(|| user.clone());
        match *known == user {
            true => Ok(()),
            false => Err(Violation::of("a registration is one series", text.render(), text)),
        }
    }

    /// Where the PBX's challenge decides, so does its answer about the time.
    fn lasts_no_longer(&self, text: &Text) -> Result<(), Violation> {
        let name = user_of(uri_of(text.header("To")));
        let digest = scenery::EXTENSIONS.iter().any(|(own, digest)| *own == name && *digest);
        // of several phones each has a time of its own, and nobody can tell which answer was whose
        let alone = self.phones.get(name).is_none_or(|phones| phones.len() == 1);
        let told = lifetimes(text).max().unwrap_or(0);
        match self.granted.get(name).filter(|(_, granted)| digest && alone && told > *granted) {
            Some((_, granted)) => {
                let words = format!("the PBX grants {granted} s:\n{}", text.render());
                Err(Violation::of("no phone is told more than the PBX grants", words, text))
            }
            None => Ok(()),
        }
    }

    /// A phone that lost its connection may come back in its grace.
    pub(super) fn on_event(&mut self, event: &Event, now: Instant) -> Result<(), Violation> {
        if event.code == Code::PbxDown {
            // whoever asked it is told so, or goes to another
            self.asked.clear();
        }
        if event.code == Code::Deregistered {
            self.leaves(event.extension.as_deref());
        }
        let given_up = event.code == Code::Deregistered && event.text.contains("connection was lost");
        let source = event.source.filter(|_| given_up);
        if source.is_some_and(|source| self.peers.values().any(|peer| *peer == source)) {
            return Err(Violation::new("who is there is not given up", words::of_event(event)));
        }
        let lost = source.and_then(|source| self.lost.get(&source));
        match lost.is_some_and(|at| now.since(*at) + Duration::from_millis(40) < GRACE) {
            true => Err(Violation::new("a lost connection has its grace", words::of_event(event))),
            false => Ok(()),
        }
    }

    /// The new process knows no flow of the old one; what it says at the PBX is the same.
    pub(super) fn on_restart(&mut self) {
        self.peers.clear();
        self.lost.clear();
        self.granted.clear();
        self.asked.clear();
        self.branches.clear();
    }
}
