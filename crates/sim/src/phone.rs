//! A phone behind NAT: it connects, registers, keeps its registration, calls and is called.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, Transport};

use crate::act::{Act, Path, Stage};
use crate::digest;
use crate::scenery::{self, DOMAIN, Places, REALM};
use crate::text::{Stream, Text, param};
use crate::transactions::{Heard, Key};
use crate::user_agent::{Identity, Transfer, UserAgent};

/// What a phone is, for good.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its extension.
    pub extension: String,
    /// How it reaches the border.
    pub transport: Transport,
    /// Of its certificate, where it has one.
    pub hardware_id: Option<String>,
    /// Whether it sends `+sip.instance` and `reg-id` (RFC 5626).
    pub instance: bool,
    /// The number that its addresses end in.
    pub number: u8,
}

/// An answer that comes later than this after its REGISTER is late.
const LATE: Duration = Duration::from_secs(10);

/// A phone.
pub struct Phone {
    /// What it is.
    pub model: Model,
    /// Its calls.
    pub agent: UserAgent,
    /// When it sent its last REGISTER: from then on it counts, for an answer that comes again is as old.
    asked_at: Instant,
    /// It heard so late that it is registered that the answer may be an old one that came again: from before a block.
    pub answered_late: bool,
    /// When its last REGISTER was accepted.
    pub registered_at: Option<Instant>,
    /// By which way it was.
    registered_by: Option<Path>,
    /// Until when it believes to be registered.
    pub registered_until: Option<Instant>,
    /// Whether it wants to be registered.
    pub wants: bool,
    /// It gives its registration back when its REGISTER is answered.
    leaves: bool,
    connection: Option<FlowId>,
    stream: Stream,
    call_id: String,
    tag: String,
    cseq: u32,
    pending: Option<Key>,
    challenge: Option<(String, String)>,
    tries: u8,
    register_at: Option<Instant>,
    call_at: Option<Instant>,
    places: Places,
    /// Where it is now: addresses change when it moves.
    place: Place,
    /// When its flow is to be kept alive next.
    keepalive_at: Option<Instant>,
    /// When it comes back that gave its registration back for a while.
    back_at: Option<Instant>,
    /// After it moved it tells the other ends of its calls.
    moved: bool,
    /// What it learned from 423, in seconds.
    expires_min: u64,
    /// When it calls again, where its last call was one too many.
    retry_at: Option<Instant>,
}

/// What the user of a phone begins.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Call,
    Speak,
    KeepAlive,
    /// Far more calls than its rules admit.
    CallAll,
}

const DEEDS: [(Deed, &str); 12] = [
    (Deed::Call, "calls"),
    (Deed::Call, "calls"),
    (Deed::Call, "calls"),
    (Deed::Call, "calls"),
    (Deed::Call, "calls"),
    (Deed::Call, "calls"),
    (Deed::Call, "calls"),
    (Deed::Call, "calls"),
    (Deed::CallAll, "calls many at once"),
    (Deed::Speak, "speaks"),
    (Deed::Speak, "speaks"),
    (Deed::KeepAlive, "keeps its flow alive"),
];

/// Where a phone comes from, as the world sees it.
#[derive(Clone, Copy, Debug)]
struct Place {
    away: bool,
    port: u16,
}

impl Phone {
    /// A phone that will begin to register soon.
    pub fn new(model: Model, places: Places, stage: &mut Stage<'_>) -> Self {
        let private = places.private(model.number);
        let credentials = (model.hardware_id.is_none())
            .then(|| (model.extension.clone(), scenery::password(&model.extension)));
        let identity = Identity {
            host: SocketAddr::new(private, 5070).to_string(),
            media: private,
            never: places.never_outside().to_vec(),
            media_seen: places.phone(model.number),
            signature: vec![
                ("User-Agent".into(), format!("SimPhone/1.{}", model.number)),
                ("X-Phone".into(), format!("wired to {private}")),
            ],
            canary: scenery::PHONE_CANARY,
            node: private.to_string(),
            call_id_host: format!("{}.{private}", scenery::PHONE_CANARY),
            credentials,
        };
        let mut phone = Self {
            agent: UserAgent::new(identity),
            asked_at: Instant::ZERO,
            answered_late: false,
            registered_at: None,
            registered_by: None,
            registered_until: None,
            wants: true,
            leaves: false,
            connection: None,
            stream: Stream::default(),
            call_id: format!("{}@{}-{private}", stage.rng.word(), scenery::PHONE_CANARY),
            tag: stage.rng.word(),
            cseq: 0,
            pending: None,
            challenge: None,
            tries: 0,
            register_at: Some(stage.now + stage.rng.millis(0, 3_000)),
            call_at: Some(stage.now + stage.rng.millis(4_000, 15_000)),
            place: Place { away: false, port: 30_000 },
            keepalive_at: None,
            back_at: None,
            moved: false,
            expires_min: 0,
            retry_at: None,
            places,
            model,
        };
        if phone.model.transport == Transport::Udp {
            phone.agent.path = Some(Path::Udp(phone.source(), places.udp()));
        }
        phone
    }

    /// From where it comes, as the world sees it.
    pub fn source(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.place.port)
    }

    /// Its public address.
    pub fn ip(&self) -> IpAddr {
        self.places.phone(self.model.number + if self.place.away { scenery::AWAY } else { 0 })
    }

    /// The Call-ID of its REGISTERs.
    pub fn series(&self) -> &str {
        &self.call_id
    }

    /// The connection that it has, if it needs one.
    pub fn connection(&self) -> Option<FlowId> {
        self.connection
    }

    fn connect(&mut self, stage: &mut Stage<'_>) {
        if self.model.transport == Transport::Udp || self.connection.is_some() {
            return;
        }
        self.place.port = self.place.port.wrapping_add(1).max(30_000);
        let to = match self.model.transport {
            Transport::Tls => self.places.tls(),
            Transport::Tcp | Transport::Udp => self.places.tcp(),
        };
        let flow = stage.connect(self.source(), to);
        self.connection = Some(flow);
        self.stream = Stream::default();
        self.agent.path = Some(Path::Stream(flow));
    }

    /// Its connection is gone.
    pub fn on_closed(&mut self, flow: FlowId, stage: &mut Stage<'_>) {
        if self.connection != Some(flow) {
            return;
        }
        self.connection = None;
        self.agent.path = None;
        self.agent.ready = false;
        let lost = self.agent.transactions.path_lost(Path::Stream(flow));
        self.agent.on_lost(&lost, stage);
        self.registered_until = None;
        self.pending = None;
        if self.wants {
            self.register_at = Some(stage.now + stage.rng.millis(200, 5_000));
        }
    }

    /// Pulls its own plug: the connection ends without a word.
    pub fn unplug(&mut self, stage: &mut Stage<'_>) {
        if let Some(flow) = self.connection {
            stage.acts.push(Act::Disconnect(flow));
            self.on_closed(flow, stage);
        }
    }

    /// Its NAT gives it another port, or it goes to another network: what was its address is nobody's any
    /// more. Some notice at once, others when they register next.
    pub fn move_on(&mut self, far: bool, stage: &mut Stage<'_>) -> Option<FlowId> {
        self.place.away ^= far;
        self.place.port = self.place.port.wrapping_add(7).max(30_000);
        self.agent.identity.media_seen = self.ip();
        self.moved = far;
        let notices = far || stage.rng.chance(500);
        if self.model.transport == Transport::Udp {
            self.agent.path = Some(Path::Udp(self.source(), self.places.udp()));
            if notices && self.pending.is_none() {
                self.register_at = Some(stage.now + stage.rng.millis(10, 2_000));
            }
            return None;
        }
        let dead = self.connection;
        if let Some(flow) = dead {
            self.on_closed(flow, stage);
        }
        dead
    }

    /// It may not know that it has moved, or that the border has cut it off: it registers soon.
    pub fn begin_anew(&mut self, stage: &mut Stage<'_>) {
        if self.wants && self.pending.is_none() {
            self.register_at = Some(stage.now + stage.rng.millis(0, 10_000));
        }
    }

    /// Gives its registration back for a while, whatever calls it has.
    pub fn pause(&mut self, stage: &mut Stage<'_>) {
        if self.wants && self.pending.is_none() && self.is_registered(stage.now) {
            self.wants = false;
            self.back_at = Some(stage.now + stage.rng.millis(2_000, 20_000));
            self.register(stage);
        }
    }

    /// Gives its registration back, once a REGISTER that is under way has its answer (RFC 3261 §10.2).
    pub fn leave(&mut self, stage: &mut Stage<'_>) {
        self.wants = false;
        self.call_at = None;
        self.tries = 0;
        self.leaves = self.pending.is_some();
        if !self.leaves {
            self.register(stage);
        }
    }

    fn register(&mut self, stage: &mut Stage<'_>) {
        self.connect(stage);
        let Some(path) = self.agent.path else { return };
        let wished = stage.rng.between(if stage.busy { 40 } else { 60 }, 200);
        let expires = if self.wants { wished.max(self.expires_min) } else { 0 };
        self.cseq += 1;
        let aor = format!("sip:{}@{DOMAIN}", self.model.extension);
        let transport = if path.is_reliable() { ";transport=tcp" } else { "" };
        let mut contact = format!("<sip:line@{}{transport}>", self.agent.identity.host);
        if self.model.instance {
            contact.push_str(&format!(";+sip.instance=\"<urn:uuid:0000-{}>\";reg-id=1", self.model.number));
        }
        let mut text = Text::request("REGISTER", &format!("sip:{DOMAIN}"))
            .with("Max-Forwards", "70")
            .with("From", format!("<{aor}>;tag={}", self.tag))
            .with("To", format!("<{aor}>"))
            .with("Call-ID", &self.call_id)
            .with("CSeq", format!("{} REGISTER", self.cseq))
            .with("Supported", "path, outbound");
        // some take all back that their extension has of them: who has no certificate is known by where it is
        let knows_all = self.model.hardware_id.is_some() || self.registered_by == Some(path);
        text = if !self.wants && knows_all && stage.rng.chance(300) {
            text.with("Contact", "*").with("Expires", 0)
        } else {
            text.with("Contact", format!("{contact};expires={expires}"))
        };
        for (name, value) in &self.agent.identity.signature {
            text = text.with(name, value);
        }
        if let (Some((header, challenge)), Some((user, password))) =
            (&self.challenge, &self.agent.identity.credentials)
        {
            let (cnonce, uri) = (stage.rng.word(), format!("sip:{DOMAIN}"));
            text = text.with(header, digest::answer(challenge, user, password, "REGISTER", &uri, &cnonce));
        }
        let host = self.agent.identity.host.clone();
        self.pending = Some(self.agent.transactions.request(text, &host, path, stage));
        self.asked_at = stage.now;
        self.register_at = None;
    }

    /// A message for it.
    pub fn on_message(&mut self, bytes: &[u8], path: Path, stage: &mut Stage<'_>) {
        let Some(text) = Text::parse(bytes) else { return };
        match self.agent.transactions.receive(text, path, stage) {
            Heard::Request(text, key) => self.agent.on_request(&text, &key, stage),
            Heard::Ack(text) => self.agent.on_ack(&text, stage),
            Heard::Response(key, text) if self.pending.as_ref() == Some(&key) => {
                self.on_registered(&text, stage)
            }
            Heard::Response(key, text) => self.agent.on_response(&key, &text, stage),
            Heard::Nothing => {}
        }
        if let Some(wait) = self.agent.told_to_wait.take().filter(|_| stage.busy) {
            self.wait_for_a_call(wait, stage);
        }
    }

    /// A call was one too many: it waits as long as it was told, and calls nobody meanwhile, or not as long.
    fn wait_for_a_call(&mut self, wait: Duration, stage: &mut Stage<'_>) {
        let less = Duration::from_millis(2_100);
        let ways = [(Duration::ZERO, "waits as long as it was told"), (less, "waits a second less")];
        if let Some(less) = stage.choose(700, &ways) {
            let until = stage.now + wait.saturating_sub(less);
            self.retry_at = Some(until);
            self.call_at = self.call_at.map(|at| at.max(until + less + Duration::from_secs(1)));
        }
    }

    /// Bytes of its connection.
    pub fn on_stream(&mut self, flow: FlowId, bytes: &[u8], stage: &mut Stage<'_>) {
        if self.connection != Some(flow) {
            return;
        }
        for message in self.stream.push(bytes) {
            self.on_message(&message, Path::Stream(flow), stage);
        }
    }

    fn on_registered(&mut self, text: &Text, stage: &mut Stage<'_>) {
        let code = text.code().unwrap_or(0);
        if code < 200 {
            return;
        }
        self.pending = None;
        let leaves = std::mem::take(&mut self.leaves);
        match code {
            200..=299 => {
                self.tries = 0;
                let own = text.all("Contact").into_iter().find(|c| c.contains(&self.agent.identity.host));
                let granted = own.and_then(|contact| param(&contact, "expires")?.parse::<u64>().ok());
                let granted = granted.filter(|_| self.wants).map(Duration::from_secs);
                self.registered_at = Some(stage.now);
                self.answered_late = stage.now.since(self.asked_at) > LATE;
                self.registered_by = self.agent.path;
                self.registered_until = granted.map(|granted| self.asked_at + granted);
                self.agent.ready |= granted.is_some();
                if granted.is_some() && std::mem::take(&mut self.moved) {
                    self.agent.tell_where(stage);
                }
                let refresh = granted.unwrap_or(Duration::from_secs(30)).mul_f64(0.6);
                let soon = stage.now + Duration::from_secs(1);
                self.register_at = self.wants.then(|| (self.asked_at + refresh).max(soon));
            }
            401 | 407 if self.agent.identity.credentials.is_some() && self.tries < 2 => {
                self.tries += 1;
                let (theirs, ours) = if code == 401 {
                    ("WWW-Authenticate", "Authorization")
                } else {
                    ("Proxy-Authenticate", "Proxy-Authorization")
                };
                self.challenge = Some((ours.into(), digest::choose(&text.all(theirs), REALM)));
                self.register(stage);
            }
            423 => {
                self.expires_min = text.header("Min-Expires").parse().unwrap_or(60);
                self.register(stage);
            }
            _ => {
                self.tries = 0;
                self.challenge = None;
                self.register_at = Some(stage.now + stage.rng.millis(5_000, 12_000));
            }
        }
        if leaves && self.pending.is_none() {
            self.register(stage);
        }
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        let own = [self.register_at, self.call_at, self.back_at, self.keepalive_at, self.retry_at];
        own.into_iter().chain([self.agent.next()]).flatten().min()
    }

    /// What is due.
    pub fn on_timer(&mut self, stage: &mut Stage<'_>) {
        let lost = self.agent.on_timer(stage);
        if self.pending.as_ref().is_some_and(|key| lost.contains(key)) {
            self.pending = None;
            self.registered_until = None;
            self.register_at = Some(stage.now + stage.rng.millis(500, 4_000));
        }
        if self.keepalive_at.is_some_and(|at| at <= stage.now) {
            self.keep_alive(stage);
        }
        if self.back_at.is_some_and(|at| at <= stage.now) {
            (self.back_at, self.wants) = (None, true);
            self.register_at = Some(stage.now);
        }
        if self.register_at.is_some_and(|at| at <= stage.now) {
            self.register(stage);
        }
        for Transfer { from, to, replaces } in std::mem::take(&mut self.agent.transfers) {
            self.agent.call_instead(&to, &from, &to, replaces, stage);
        }
        if self.retry_at.take_if(|at| *at <= stage.now).is_some() && self.is_registered(stage.now) {
            self.call("2001", stage);
        }
        if self.call_at.is_some_and(|at| at <= stage.now) {
            let deed = if stage.busy { stage.choose(1_000, &DEEDS) } else { None };
            self.call_at = Some(stage.now + stage.rng.millis(300, 12_000));
            if let Some(deed) = deed.filter(|_| self.is_registered(stage.now)) {
                self.on_user(deed, stage);
            }
        }
    }

    fn on_user(&mut self, deed: Deed, stage: &mut Stage<'_>) {
        match deed {
            Deed::Speak => {
                let other = ["MESSAGE", "OPTIONS", "SUBSCRIBE", "PUBLISH", "NOTIFY", "INFO"];
                let method = *stage.rng.pick(&other).unwrap_or(&"OPTIONS");
                self.say(method, stage);
            }
            Deed::KeepAlive => self.keep_alive(stage),
            Deed::Call if self.agent.legs.len() < 4 => {
                let numbers = ["2001", "2002", "2003", "1001", "1002", "1003", "1004", "2999"];
                let number = *stage.rng.pick(&numbers).unwrap_or(&"2001");
                self.call(number, stage);
            }
            Deed::Call => {}
            Deed::CallAll => (0..5).for_each(|_| self.call("2001", stage)),
        }
    }

    /// Who begins with it goes on (RFC 5626 §4.4.1).
    fn keep_alive(&mut self, stage: &mut Stage<'_>) {
        self.keepalive_at = Some(stage.now + stage.rng.millis(60_000, 110_000));
        stage.acts.extend(self.agent.path.map(|path| Act::Send(path, b"\r\n\r\n".to_vec())));
    }

    /// A request outside of any dialog.
    fn say(&mut self, method: &str, stage: &mut Stage<'_>) {
        let Some(path) = self.agent.path else { return };
        let to = format!("sip:{}@{DOMAIN}", stage.rng.pick(&["2001", "1002", "1003"]).unwrap_or(&"2001"));
        let text = Text::request(method, &to)
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:{}@{DOMAIN}>;tag={}", self.model.extension, stage.rng.word()))
            .with("To", format!("<{to}>"))
            .with("Call-ID", format!("{}@{}", stage.rng.word(), self.agent.identity.call_id_host))
            .with("CSeq", format!("1 {method}"))
            .with("Contact", format!("<sip:line@{}>", self.agent.identity.host))
            .with("Event", "presence")
            .with_body("text/plain", format!("written at {}", self.agent.identity.media));
        let host = self.agent.identity.host.clone();
        self.agent.transactions.request(text, &host, path, stage);
    }

    /// Calls a number.
    pub fn call(&mut self, number: &str, stage: &mut Stage<'_>) {
        let from = match stage.busy && stage.decide_for(50, "hides its name") {
            true => "\"Anonymous\" <sip:anonymous@anonymous.invalid>".to_owned(),
            false => format!("\"Phone {}\" <sip:{}@{DOMAIN}>", self.model.number, self.model.extension),
        };
        let to = format!("sip:{number}@{DOMAIN}");
        self.agent.call(&to, &from, &to, stage);
    }

    /// Whether it may telephone.
    pub fn is_registered(&self, now: Instant) -> bool {
        self.wants && self.agent.path.is_some() && self.registered_until.is_some_and(|until| until > now)
    }
}
