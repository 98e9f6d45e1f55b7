//! A PBX: registrar with digest, forking proxy, and desks of its own (RFC 3261 §10.3, §16).
//!
//! Numbers that begin with 1 are extensions, reached by the contacts that registered; 2001 and 2002 are its
//! own desks, and at 2003 two of them ring at once. When it crashes it forgets its calls, and some forget who was
//! registered.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;
use wire::net::FlowId;

use crate::act::{Path, Stage};
use crate::doorkeeper::{Doorkeeper, Manner};
use crate::proxy::Fork;
use crate::rng::Rng;
use crate::scenery::{self, DOMAIN, INSIDE_CANARY, PBX_HOST, Places, STANDBY_HOST};
use crate::text::{Stream, Text, address_of, param, uri_of, user_of};
use crate::transactions::{Heard, Key};
use crate::user_agent::{Identity, Transfer, UserAgent};

/// How a PBX behaves, drawn once.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// TCP towards the border.
    pub tcp: bool,
    /// It challenges calls, not only registrations.
    pub challenges_calls: bool,
    /// How it asks who somebody is.
    pub(crate) manner: Manner,
    /// The longest registration that it grants, in seconds.
    pub expires_max: u64,
    /// The shortest that it takes, in seconds: 423 below (RFC 3261 §10.3).
    pub expires_min: u64,
    /// Of a thousand requests, so many are refused for the moment, with Retry-After.
    pub overloaded: u64,
    /// A proxy of its own stands before it, and both record themselves.
    pub(crate) has_proxy: bool,
}

impl Habits {
    /// Drawn for a run.
    pub fn drawn(rng: &mut Rng) -> Self {
        Self {
            tcp: rng.chance(300),
            challenges_calls: rng.chance(700),
            manner: Manner::drawn(rng),
            expires_max: *rng.pick(&[60, 90, 300, 3_600]).unwrap_or(&300),
            expires_min: *rng.pick(&[10, 10, 30, 700]).unwrap_or(&10),
            overloaded: *rng.pick(&[0, 0, 20, 100]).unwrap_or(&0),
            has_proxy: rng.chance(400),
        }
    }
}

/// What a PBX does while it seems to be there and is not.
#[derive(Debug)]
enum Trance {
    /// What comes is lost.
    Deaf(Instant),
    /// What comes is answered afterwards.
    Slow(Instant, Vec<(Vec<u8>, Path)>),
}

/// A contact that registered.
#[derive(Clone, Debug)]
pub struct Contact {
    /// Its URI.
    pub uri: String,
    /// When it registered, or did so last.
    pub since: Instant,
    /// Until when it holds.
    pub until: Instant,
    series: (String, u32),
}

/// A PBX.
pub struct Pbx {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its name inside.
    host: &'static str,
    border: SocketAddr,
    /// How it behaves.
    pub habits: Habits,
    /// Whether it runs.
    pub up: bool,
    /// Its desks.
    pub agent: UserAgent,
    /// Who is reached where.
    pub location: BTreeMap<String, Vec<Contact>>,
    pub(crate) forks: BTreeMap<Key, Fork>,
    pub(crate) streams: BTreeMap<FlowId, Stream>,
    doorkeeper: Doorkeeper,
    call_at: Option<Instant>,
    trance: Option<Trance>,
    /// Whose registrations it refuses, until when.
    forbidden: Option<(&'static str, Instant)>,
}

impl Pbx {
    /// A PBX that runs and knows nobody.
    pub fn new(habits: Habits, (index, places): (usize, Places), stage: &mut Stage<'_>) -> Self {
        let address = places.pbx(index);
        let host = if index == 0 { PBX_HOST } else { STANDBY_HOST };
        let identity = Identity {
            host: address.to_string(),
            media: address.ip(),
            never: Vec::new(),
            media_seen: address.ip(),
            signature: signature(host, address.ip(), places),
            canary: INSIDE_CANARY,
            node: host.to_owned(),
            call_id_host: format!("{INSIDE_CANARY}.{host}"),
            credentials: None,
        };
        let mut pbx = Self {
            address,
            host,
            border: places.inside_sip(),
            habits,
            up: true,
            agent: UserAgent::new(identity),
            location: BTreeMap::new(),
            forks: BTreeMap::new(),
            streams: BTreeMap::new(),
            doorkeeper: Doorkeeper::new(habits.manner, host),
            call_at: Some(stage.now + stage.rng.millis(5_000, 15_000)),
            trance: None,
            forbidden: None,
        };
        pbx.agent.recorded = if habits.has_proxy { pbx.recorded() } else { Vec::new() };
        pbx.aim(stage);
        pbx
    }

    /// How it records itself, and before that its proxy where it has one: nearest to the border first.
    pub(crate) fn recorded(&self) -> Vec<String> {
        let names = if self.habits.has_proxy { [";lr;hop=edge", ";lr"].as_slice() } else { &[";lr"] };
        names.iter().map(|name| format!("<sip:{}{name}>", self.address)).collect()
    }

    /// Goes away with its calls and transactions; some keep their registrations on disk.
    pub fn crash(&mut self, keeps: bool) -> Vec<FlowId> {
        self.up = false;
        self.trance = None;
        self.agent.transactions = Default::default();
        self.agent.legs.clear();
        if !keeps {
            self.location.clear();
        }
        self.forks.clear();
        self.doorkeeper.forget();
        self.agent.path = None;
        std::mem::take(&mut self.streams).into_keys().collect()
    }

    /// Hears nothing for a while, or answers late.
    pub fn hang(&mut self, slow: bool, until: Instant) {
        if self.up && self.trance.is_none() {
            self.trance = Some(if slow { Trance::Slow(until, Vec::new()) } else { Trance::Deaf(until) });
        }
    }

    /// Refuses the registrations of an extension for a while.
    pub fn forbid(&mut self, name: &'static str, until: Instant) {
        self.forbidden = Some((name, until));
    }

    fn wake(&mut self, stage: &mut Stage<'_>) {
        if let Some(Trance::Slow(_, inbox)) = self.trance.take() {
            for (bytes, path) in inbox {
                self.on_message(&bytes, path, stage);
            }
        }
    }

    /// Is back.
    pub fn start(&mut self, stage: &mut Stage<'_>) {
        self.up = true;
        self.aim(stage);
        self.call_at = Some(stage.now + stage.rng.millis(5_000, 15_000));
    }

    /// The way to the border.
    fn aim(&mut self, stage: &mut Stage<'_>) {
        self.agent.path = Some(self.path_to(self.border, stage));
    }

    /// By TCP a connection that is there, or a new one.
    pub(crate) fn path_to(&mut self, to: SocketAddr, stage: &mut Stage<'_>) -> Path {
        if !self.habits.tcp {
            return Path::Udp(self.address, to);
        }
        let flow = match self.streams.keys().next_back() {
            Some(flow) => *flow,
            None => {
                let port = u16::try_from(stage.rng.between(40_000, 60_000)).unwrap_or(40_000);
                let flow = stage.connect(SocketAddr::new(self.address.ip(), port), to);
                self.streams.insert(flow, Stream::default());
                flow
            }
        };
        Path::Stream(flow)
    }

    /// The border opened a connection; false where nobody is there.
    pub fn on_opened(&mut self, flow: FlowId) -> bool {
        if self.up {
            self.streams.insert(flow, Stream::default());
        }
        self.up
    }

    /// A connection is gone.
    pub fn on_closed(&mut self, flow: FlowId, stage: &mut Stage<'_>) {
        self.streams.remove(&flow);
        if !self.up {
            return;
        }
        let lost = self.agent.transactions.path_lost(Path::Stream(flow));
        self.on_lost(&lost, stage);
        self.aim(stage);
    }

    /// A message for it.
    pub fn on_message(&mut self, bytes: &[u8], path: Path, stage: &mut Stage<'_>) {
        match &mut self.trance {
            Some(Trance::Deaf(_)) => return,
            Some(Trance::Slow(_, inbox)) => return inbox.push((bytes.to_vec(), path)),
            None => {}
        }
        let Some(text) = Text::parse(bytes).filter(|_| self.up) else { return };
        match self.agent.transactions.receive(text, path, stage) {
            Heard::Request(text, key) => self.on_request(text, &key, stage),
            Heard::Ack(text) => self.on_ack(text, stage),
            Heard::Response(key, text) => {
                if !self.on_branch_response(&key, &text, stage) {
                    self.agent.on_response(&key, &text, stage);
                }
            }
            Heard::Nothing => {}
        }
    }

    /// Bytes of a connection.
    pub fn on_stream(&mut self, flow: FlowId, bytes: &[u8], stage: &mut Stage<'_>) {
        let Some(stream) = self.streams.get_mut(&flow) else { return };
        for message in stream.push(bytes) {
            self.on_message(&message, Path::Stream(flow), stage);
        }
    }

    fn on_request(&mut self, mut text: Text, key: &Key, stage: &mut Stage<'_>) {
        if text.method() == "CANCEL" {
            let invite: Key = (key.0.clone(), "INVITE".into());
            if self.forks.contains_key(&invite) {
                self.respond(key, 200, |text| text, stage);
                return self.cancel_branches(&invite, stage);
            }
            return self.agent.on_request(&text, key, stage);
        }
        if text.method() == "REGISTER" {
            return self.on_register(&text, key, stage);
        }
        let ours = strip_own_route(&mut text, self.address);
        let target = text.uri().to_owned();
        if !text.to_tag().is_empty() {
            return match self.next_hop(&text, &target) {
                Some(to) => self.fork(text, key, &[(target, to)], ours, stage),
                None => self.agent.on_request(&text, key, stage),
            };
        }
        match text.method() {
            "INVITE" if self.is_overloaded(key, stage) => {}
            "INVITE" => self.on_invite(text, key, stage),
            "OPTIONS" | "MESSAGE" => self.respond(key, 200, |text| text, stage),
            _ => self.respond(key, 404, |text| text, stage),
        }
    }

    /// Too much to do: come again later.
    fn is_overloaded(&mut self, key: &Key, stage: &mut Stage<'_>) -> bool {
        let overloaded = stage.busy && stage.decide_for(self.habits.overloaded, "has too much to do");
        if overloaded {
            let code = *stage.rng.pick(&[500, 503, 480]).unwrap_or(&503);
            self.respond(key, code, |text| text.with("Retry-After", 2), stage);
        }
        overloaded
    }

    fn on_ack(&mut self, mut text: Text, stage: &mut Stage<'_>) {
        strip_own_route(&mut text, self.address);
        let target = text.uri().to_owned();
        match self.next_hop(&text, &target) {
            Some(to) => {
                let path = self.path_to(to, stage);
                let via = format!("SIP/2.0/UDP {};branch=z9hG4bK{};rport", self.address, stage.rng.word());
                text.push_front("Via", via);
                stage.send(path, &text);
            }
            None => self.agent.on_ack(&text, stage),
        }
    }

    /// Where a request in a dialog goes next; none where it is for a desk of ours.
    fn next_hop(&self, text: &Text, target: &str) -> Option<SocketAddr> {
        let route = text.header("Route");
        let next = if route.is_empty() { target } else { uri_of(route) };
        address_of(next).filter(|to| *to != self.address)
    }

    fn on_invite(&mut self, text: Text, key: &Key, stage: &mut Stage<'_>) {
        let caller = user_of(uri_of(text.header("From"))).to_owned();
        if self.habits.challenges_calls && !self.is_proved(&text, &caller, key, stage) {
            return;
        }
        let number = user_of(text.uri()).to_owned();
        if matches!(number.as_str(), "2001" | "2002") {
            return self.agent.on_request(&text, key, stage);
        }
        // two desks ring at once, and both may accept
        if number == "2003" {
            self.agent.on_request(&text, key, stage);
            return self.agent.on_request(&text, key, stage);
        }
        let now = stage.now;
        let contacts = self.location.get(&number).map(Vec::as_slice).unwrap_or_default();
        let targets: Vec<_> = contacts
            .iter()
            .filter(|contact| contact.until > now)
            .filter_map(|contact| Some((contact.uri.clone(), address_of(&contact.uri)?)))
            .collect();
        if targets.is_empty() {
            let known = scenery::EXTENSIONS.iter().any(|(name, _)| *name == number);
            return self.respond(key, if known { 480 } else { 404 }, |text| text, stage);
        }
        self.fork(text, key, &targets, true, stage);
    }

    /// Asks who it is, where the request does not prove it; true where it does.
    fn is_proved(&mut self, text: &Text, user: &str, key: &Key, stage: &mut Stage<'_>) -> bool {
        let proved = self.doorkeeper.is_proved(text, user, stage.now);
        if !proved {
            let (code, header, challenges) = self.doorkeeper.question(text, stage);
            let ask = |text| challenges.iter().fold(text, |text: Text, value| text.with(header, value));
            self.respond(key, code, ask, stage);
        }
        proved
    }

    fn on_register(&mut self, text: &Text, key: &Key, stage: &mut Stage<'_>) {
        let user = user_of(uri_of(text.header("To"))).to_owned();
        if !self.is_proved(text, &user, key, stage) {
            return;
        }
        if self.is_overloaded(key, stage) {
            return;
        }
        if self.forbidden.is_some_and(|(name, until)| name == user && stage.now < until && stage.busy) {
            return self.respond(key, 403, |text| text, stage);
        }
        let wished = |value: &String| param(value, "expires").and_then(|secs| secs.parse().ok());
        let brief = |secs: u64| secs > 0 && secs < self.habits.expires_min;
        if text.all("Contact").iter().filter_map(wished).any(brief) {
            let least = self.habits.expires_min;
            return self.respond(key, 423, |text| text.with("Min-Expires", least), stage);
        }
        let most = stage.rng.between(self.habits.expires_max / 2, self.habits.expires_max + 1).max(30);
        let series = (text.header("Call-ID").to_owned(), text.cseq());
        let now = stage.now;
        let contacts = self.location.entry(user).or_default();
        contacts.retain(|contact| contact.until > now);
        let mut refused = false;
        for value in text.all("Contact") {
            let uri = uri_of(&value).to_owned();
            let asked = param(&value, "expires").and_then(|secs| secs.parse().ok()).unwrap_or(3_600);
            let known = contacts.iter().position(|contact| contact.uri == uri);
            if let Some(place) = known {
                let (call_id, cseq) = &contacts[place].series;
                if *call_id == series.0 && *cseq >= series.1 {
                    refused = true;
                    continue;
                }
                contacts.remove(place);
            }
            if asked > 0 {
                let until = now + Duration::from_secs(asked.min(most));
                contacts.push(Contact { uri, since: now, until, series: series.clone() });
            }
        }
        let listed = contacts.clone();
        if refused {
            return self.respond(key, 500, |text| text, stage);
        }
        let list = |mut text: Text| {
            for contact in &listed {
                let secs = contact.until.since(now).as_secs();
                text = text.with("Contact", format!("<{}>;expires={secs}", contact.uri));
            }
            text
        };
        self.respond(key, 200, list, stage);
    }

    pub(crate) fn respond(
        &mut self,
        key: &Key,
        code: u16,
        more: impl FnOnce(Text) -> Text,
        stage: &mut Stage<'_>,
    ) {
        let Some((request, _)) = self.agent.transactions.asked(key) else { return };
        let tag = format!("{INSIDE_CANARY}{}", stage.rng.below(1_000)).replace(INSIDE_CANARY, "pbx");
        let mut text = Text::response(request, code, Some(&tag));
        for (name, value) in &self.agent.identity.signature {
            text = text.with(name, value);
        }
        self.agent.transactions.respond(key, more(text), false, stage);
    }

    fn on_lost(&mut self, lost: &[Key], stage: &mut Stage<'_>) {
        for key in lost {
            self.on_branch_lost(key, stage);
        }
        self.agent.on_lost(lost, stage);
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        let wakes = self.trance.as_ref().map(|(Trance::Deaf(at) | Trance::Slow(at, _))| *at);
        [self.call_at, wakes, self.agent.next()].into_iter().flatten().min().filter(|_| self.up)
    }

    /// What is due.
    pub fn on_timer(&mut self, stage: &mut Stage<'_>) {
        if self.trance.as_ref().is_some_and(|(Trance::Deaf(at) | Trance::Slow(at, _))| *at <= stage.now) {
            self.wake(stage);
        }
        let lost = self.agent.on_timer(stage);
        for key in &lost {
            self.on_branch_lost(key, stage);
        }
        self.forget_forks();
        for Transfer { to, replaces, .. } in std::mem::take(&mut self.agent.transfers) {
            let name = user_of(&to).to_owned();
            let contact = self.location.get(&name).and_then(|contacts| contacts.first()).cloned();
            if let Some(contact) = contact {
                self.call_contact(&name, &contact.uri, replaces, stage);
            }
        }
        if self.call_at.is_some_and(|at| at <= stage.now) {
            let calls = stage.busy && stage.decide("calls a phone");
            self.call_at = Some(stage.now + stage.rng.millis(2_000, 15_000));
            if calls && self.agent.legs.len() < 6 {
                self.call_somebody(stage);
            }
        }
    }

    /// A desk calls one contact of one extension.
    fn call_somebody(&mut self, stage: &mut Stage<'_>) {
        let now = stage.now;
        let contacts: Vec<(String, String)> = self
            .location
            .iter()
            .flat_map(|(name, contacts)| contacts.iter().map(move |contact| (name.clone(), contact)))
            .filter(|(_, contact)| contact.until > now)
            .map(|(name, contact)| (name, contact.uri.clone()))
            .collect();
        let Some((name, uri)) = stage.rng.pick(&contacts).cloned() else { return };
        match stage.rng.below(10) {
            0 => self.say("OPTIONS", &name, &uri, stage),
            1 => self.say("NOTIFY", &name, &uri, stage),
            2 => self.say("MESSAGE", &name, &uri, stage),
            _ => self.call_contact(&name, &uri, None, stage),
        }
    }

    /// A request outside of any dialog, to one contact: whether it is there, waiting messages, a text.
    fn say(&mut self, method: &str, name: &str, uri: &str, stage: &mut Stage<'_>) {
        self.aim(stage);
        let Some(path) = self.agent.path else { return };
        let mut text = Text::request(method, uri)
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:voicemail@{}>;tag={}", self.host, stage.rng.word()))
            .with("To", format!("<sip:{name}@{DOMAIN}>"))
            .with("Call-ID", format!("{}@{}", stage.rng.word(), self.agent.identity.call_id_host))
            .with("CSeq", format!("1 {method}"))
            .with("Contact", format!("<sip:voicemail@{}>", self.address));
        for (name, value) in &self.agent.identity.signature {
            text = text.with(name, value);
        }
        let account = format!("Messages-Waiting: yes\r\nMessage-Account: sip:vm@{}\r\n", self.address);
        text = match method {
            "NOTIFY" => text
                .with("Event", "message-summary")
                .with("Subscription-State", "active")
                .with_body("application/simple-message-summary", account),
            "MESSAGE" => text.with_body("text/plain", format!("from {} with love", self.host)),
            _ => text,
        };
        self.agent.transactions.request(text, &self.address.to_string(), path, stage);
    }

    /// A desk calls one contact.
    pub(crate) fn call_contact(
        &mut self,
        name: &str,
        uri: &str,
        replaces: Option<String>,
        stage: &mut Stage<'_>,
    ) {
        self.aim(stage);
        let display =
            if stage.rng.chance(500) { "Reception".to_owned() } else { format!("Desk at {}", self.host) };
        let from = match stage.busy && stage.decide_for(150, "calls without its name") {
            true => "\"Anonymous\" <sip:anonymous@anonymous.invalid>".to_owned(),
            false => format!("\"{display}\" <sip:2001@{}>", self.host),
        };
        self.agent.call_instead(uri, &from, &format!("sip:{name}@{DOMAIN}"), replaces, stage);
    }
}

/// Headers that say more of the inside than anybody outside may know: by a host, by an address, or by what they are.
fn signature(host: &str, address: IpAddr, places: Places) -> Vec<(String, String)> {
    let made = format!("{INSIDE_CANARY} pbx (7.1)");
    let (name, user) =
        (format!("\"{INSIDE_CANARY}\" <sip:2001@{DOMAIN}>"), format!("<sip:{INSIDE_CANARY}@{DOMAIN}>"));
    let recorder = places.pbx(6).ip();
    [
        ("User-Agent", made.clone()),
        ("Server", made),
        ("X-Trace", format!("node {address} of {host}")),
        ("X-Node", host.to_owned()),
        ("X-Rack", format!("below {}", host.to_uppercase())),
        ("X-Shelf", format!("\"beside {}\"", in_pairs(host))),
        ("X-Cable", format!("\"from {}\"", in_pairs(&address.to_string()))),
        ("X-Loop", format!("<sip:7@{}>", host.replace('.', "%2E"))),
        ("X-Recorder", format!("kept at {recorder}")),
        ("P-Asserted-Identity", name.clone()),
        ("Remote-Party-ID", format!("{name};party=calling")),
        ("Warning", format!("399 {INSIDE_CANARY} \"from the dial plan\"")),
        ("Diversion", format!("{user};reason=unconditional")),
        ("History-Info", format!("{user};index=1")),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// In quotes a character may stand behind a backslash and is the same (RFC 3261 §25.1).
fn in_pairs(text: &str) -> String {
    text.chars().flat_map(|character| ['\\', character]).collect()
}

/// Takes our own Record-Routes away (RFC 3261 §16.4); true where any was there.
fn strip_own_route(text: &mut Text, address: SocketAddr) -> bool {
    let mut own = false;
    while address_of(uri_of(text.header("Route"))) == Some(address) {
        text.take_first("Route");
        own = true;
    }
    own
}
