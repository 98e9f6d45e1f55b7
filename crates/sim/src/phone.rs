//! A phone behind NAT: it connects, registers, keeps its registration, calls and is called.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, Transport};

use crate::act::{Act, Path, Stage};
use crate::digest;
use crate::scenery::{self, DOMAIN};
use crate::text::{Stream, Text, param};
use crate::transactions::{Heard, Key};
use crate::user_agent::{Identity, UserAgent};

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

/// A phone.
pub struct Phone {
    /// What it is.
    pub model: Model,
    /// Its calls.
    pub agent: UserAgent,
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
    source_port: u16,
}

impl Phone {
    /// A phone that will begin to register soon.
    pub fn new(model: Model, stage: &mut Stage<'_>) -> Self {
        let private = IpAddr::from([192, 168, 77, model.number]);
        let credentials = (model.hardware_id.is_none())
            .then(|| (model.extension.clone(), scenery::password(&model.extension)));
        let identity = Identity {
            host: format!("{private}:5070"),
            media: private,
            media_seen: scenery::phone_ip(model.number),
            signature: vec![
                ("User-Agent".into(), format!("SimPhone/1.{}", model.number)),
                ("X-Phone".into(), format!("wired to {private}")),
            ],
            call_id_host: format!("{}.{private}", scenery::PHONE_CANARY),
            credentials,
        };
        let mut phone = Self {
            agent: UserAgent::new(identity),
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
            source_port: 30_000,
            model,
        };
        if phone.model.transport == Transport::Udp {
            phone.agent.path = Some(Path::Udp(phone.source(), scenery::OUTSIDE_UDP));
        }
        phone
    }

    /// From where it comes, as the world sees it.
    pub fn source(&self) -> SocketAddr {
        SocketAddr::new(scenery::phone_ip(self.model.number), self.source_port)
    }

    /// The connection that it has, if it needs one.
    pub fn connection(&self) -> Option<FlowId> {
        self.connection
    }

    fn connect(&mut self, stage: &mut Stage<'_>) {
        if self.model.transport == Transport::Udp || self.connection.is_some() {
            return;
        }
        self.source_port = self.source_port.wrapping_add(1).max(30_000);
        let to = match self.model.transport {
            Transport::Tls => scenery::OUTSIDE_TLS,
            Transport::Tcp | Transport::Udp => scenery::OUTSIDE_TCP,
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
        let expires = if self.wants { stage.rng.between(60, 200) } else { 0 };
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
            .with("Contact", format!("{contact};expires={expires}"))
            .with("Supported", "path, outbound");
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
                self.registered_until = granted.map(|granted| stage.now + granted);
                self.agent.ready |= granted.is_some();
                let refresh = granted.unwrap_or(Duration::from_secs(30)).mul_f64(0.6);
                self.register_at = self.wants.then(|| stage.now + refresh);
            }
            401 | 407 if self.agent.identity.credentials.is_some() && self.tries < 2 => {
                self.tries += 1;
                let (theirs, ours) = if code == 401 {
                    ("WWW-Authenticate", "Authorization")
                } else {
                    ("Proxy-Authenticate", "Proxy-Authorization")
                };
                self.challenge = Some((ours.into(), text.header(theirs).to_owned()));
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
        [self.register_at, self.call_at, self.agent.next()].into_iter().flatten().min()
    }

    /// What is due.
    pub fn on_timer(&mut self, stage: &mut Stage<'_>) {
        let lost = self.agent.on_timer(stage);
        if self.pending.as_ref().is_some_and(|key| lost.contains(key)) {
            self.pending = None;
            self.registered_until = None;
            self.register_at = Some(stage.now + stage.rng.millis(500, 4_000));
        }
        if self.register_at.is_some_and(|at| at <= stage.now) {
            self.register(stage);
        }
        if self.call_at.is_some_and(|at| at <= stage.now) {
            let calls = stage.busy && stage.decide("calls");
            self.call_at = Some(stage.now + stage.rng.millis(300, 12_000));
            if calls && self.is_registered(stage.now) && self.agent.legs.len() < 3 {
                let number = (*stage
                    .rng
                    .pick(&["2001", "2002", "1001", "1002", "1003", "1004", "2999"])
                    .unwrap_or(&"2001"))
                .to_owned();
                self.call(&number, stage);
            }
        }
    }

    /// Calls a number.
    pub fn call(&mut self, number: &str, stage: &mut Stage<'_>) {
        let from = format!("\"Phone {}\" <sip:{}@{DOMAIN}>", self.model.number, self.model.extension);
        let to = format!("sip:{number}@{DOMAIN}");
        self.agent.call(&to, &from, &to, stage);
    }

    /// Whether it may telephone.
    pub fn is_registered(&self, now: Instant) -> bool {
        self.wants && self.agent.path.is_some() && self.registered_until.is_some_and(|until| until > now)
    }
}
