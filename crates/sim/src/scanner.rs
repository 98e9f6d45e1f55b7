//! Who has no business here: garbage, registrations under guessed names, calls from nowhere.

use std::net::{IpAddr, SocketAddr};

use wire::clock::Instant;
use wire::net::{FlowId, Transport};

use crate::act::{Act, Path, Stage};
use crate::corpus::TORTURE;
use crate::digest;
use crate::scenery::{DOMAIN, Places, SCANNER_CANARY};
use crate::text::{Stream, Text};

/// What it does at once.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Scan,
    Flood,
}

/// A flood is rare.
const DEEDS: [(Deed, &str); 40] = {
    let mut deeds = [(Deed::Scan, "scans"); 40];
    deeds[0] = (Deed::Flood, "floods");
    deeds
};

/// A scanner.
pub struct Scanner {
    /// The number that its address ends in.
    pub number: u8,
    transport: Transport,
    connection: Option<FlowId>,
    stream: Stream,
    at: Option<Instant>,
    /// The header that answers it, and the challenge.
    challenge: Option<(&'static str, String)>,
    port: u16,
    /// Each connection comes from another address of its network, where that is one of IPv6.
    rotates: bool,
    host: u16,
    /// The longest that it waits between two attempts, in milliseconds.
    pace: u64,
    places: Places,
}

impl Scanner {
    /// A scanner that begins soon.
    pub fn new(number: u8, transport: Transport, places: Places, stage: &mut Stage<'_>) -> Self {
        Self {
            number,
            transport,
            connection: None,
            stream: Stream::default(),
            at: Some(stage.now + stage.rng.millis(1_000, 20_000)),
            challenge: None,
            port: 6_000,
            rotates: transport == Transport::Tcp,
            host: 0,
            // some come again as soon as their block is over
            pace: *stage.rng.pick(&[1_500, 9_000, 9_000]).unwrap_or(&9_000),
            places,
        }
    }

    /// From where it comes.
    pub fn source(&self) -> SocketAddr {
        let ip = match self.places.scanner(self.number) {
            IpAddr::V6(ip) => {
                let mut segments = ip.segments();
                segments[6] = self.host;
                segments.into()
            }
            ip @ IpAddr::V4(_) => ip,
        };
        SocketAddr::new(ip, self.port)
    }

    /// To another address of its network.
    fn rotate(&mut self, stage: &mut Stage<'_>) {
        if self.rotates && self.source().is_ipv6() {
            self.host = self.host.wrapping_add(1);
            stage.saw("an attacker goes through his network");
        }
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        self.at
    }

    /// Its connection is gone.
    pub fn on_closed(&mut self, flow: FlowId) {
        if self.connection == Some(flow) {
            self.connection = None;
        }
    }

    /// A message for it: challenges are answered with a guess.
    pub fn on_message(&mut self, bytes: &[u8]) {
        let Some(text) = Text::parse(bytes) else { return };
        self.challenge = match text.code() {
            Some(401) => Some(("Authorization", text.header("WWW-Authenticate").to_owned())),
            Some(407) => Some(("Proxy-Authorization", text.header("Proxy-Authenticate").to_owned())),
            _ => return,
        };
    }

    /// Bytes of its connection.
    pub fn on_stream(&mut self, bytes: &[u8]) {
        for message in self.stream.push(bytes) {
            self.on_message(&message);
        }
    }

    /// The next attempt.
    pub fn on_timer(&mut self, stage: &mut Stage<'_>) {
        let deed = stage.busy.then(|| stage.choose(1_000, &DEEDS)).flatten();
        self.at = stage.busy.then(|| stage.now + stage.rng.millis(50, self.pace));
        let Some((deed, path)) = deed.and_then(|deed| Some((deed, self.path(stage)?))) else { return };
        match deed {
            Deed::Scan => self.scan(path, stage),
            Deed::Flood => self.flood(path, stage),
        }
    }

    fn scan(&mut self, path: Path, stage: &mut Stage<'_>) {
        let bytes = match stage.rng.below(10) {
            0 => garbage(stage),
            1 => {
                let bytes = self.request("REGISTER", "1003", stage).render().into_bytes();
                mutated(bytes, stage)
            }
            8 => torture(stage),
            9 => {
                let bytes = torture(stage);
                mutated(bytes, stage)
            }
            2 => self.request("INVITE", "1005", stage).render().into_bytes(),
            3 => self.request("OPTIONS", "100", stage).render().into_bytes(),
            4 => self.request("REGISTER", "1003", stage).render().into_bytes(),
            5 => self.request("REGISTER", "1001", stage).render().into_bytes(),
            _ => {
                let name = format!("{}", stage.rng.between(100, 99_999));
                self.request("REGISTER", &name, stage).render().into_bytes()
            }
        };
        stage.acts.push(Act::Send(path, bytes));
    }

    /// As much at once as it can: over a stream in one go.
    fn flood(&mut self, path: Path, stage: &mut Stage<'_>) {
        let method = *stage.rng.pick(&["REGISTER", "OPTIONS", "INVITE"]).unwrap_or(&"OPTIONS");
        let name = *stage.rng.pick(&["1003", "1001", "777"]).unwrap_or(&"1003");
        let many = if path.is_reliable() { 120 } else { 20 };
        let messages: Vec<Vec<u8>> =
            (0..many).map(|_| self.request(method, name, stage).render().into_bytes()).collect();
        match path.is_reliable() {
            true => stage.acts.push(Act::Send(path, messages.concat())),
            false => stage.acts.extend(messages.into_iter().map(|bytes| Act::Send(path, bytes))),
        }
    }

    fn path(&mut self, stage: &mut Stage<'_>) -> Option<Path> {
        if self.transport == Transport::Udp {
            let mut from = self.source();
            if stage.rng.chance(150) {
                // one of many, each of whom says little
                from.set_ip(self.places.scanner(u8::try_from(stage.rng.between(80, 130)).unwrap_or(80)));
                stage.saw("a message of one of many sources");
            }
            return Some(Path::Udp(from, self.places.udp()));
        }
        if self.connection.is_none() {
            self.port += 1;
            self.rotate(stage);
            let to = if self.transport == Transport::Tls { self.places.tls() } else { self.places.tcp() };
            self.connection = Some(stage.connect(self.source(), to));
            self.stream = Stream::default();
        }
        self.connection.map(Path::Stream)
    }

    fn request(&mut self, method: &str, name: &str, stage: &mut Stage<'_>) -> Text {
        let aor = format!("sip:{name}@{DOMAIN}");
        let uri = if method == "REGISTER" { format!("sip:{DOMAIN}") } else { format!("sip:2001@{DOMAIN}") };
        let text = Text::request(method, &uri)
            .with("Via", format!("SIP/2.0/UDP {};branch=z9hG4bK{};rport", self.source(), stage.rng.word()))
            .with("Max-Forwards", "70")
            .with("From", format!("\"{SCANNER_CANARY}\" <{aor}>;tag={}", stage.rng.word()))
            .with("To", format!("<{}>", if method == "REGISTER" { &aor } else { &uri }))
            .with("Call-ID", format!("{SCANNER_CANARY}{}", stage.rng.word()))
            .with("CSeq", format!("1 {method}"))
            .with("Contact", format!("<sip:{name}@{}>;expires=600", self.source()))
            .with("User-Agent", SCANNER_CANARY);
        match self.challenge.take().filter(|_| method == "REGISTER") {
            Some((header, challenge)) => {
                let value = digest::answer(&challenge, name, "1234", "REGISTER", &uri, "c");
                text.with(header, value)
            }
            None => text,
        }
    }
}

/// A message with a few bytes changed, cut or doubled.
fn mutated(mut bytes: Vec<u8>, stage: &mut Stage<'_>) -> Vec<u8> {
    for _ in 0..stage.rng.between(1, 12) {
        let place = usize::try_from(stage.rng.below(bytes.len() as u64)).unwrap_or(0);
        match (stage.rng.below(3), bytes.get_mut(place)) {
            (0, Some(byte)) => *byte = u8::try_from(stage.rng.below(256)).unwrap_or(0),
            (1, Some(_)) => bytes.truncate(place.max(1)),
            (_, Some(byte)) => {
                let copy = *byte;
                bytes.insert(place, copy);
            }
            (_, None) => {}
        }
    }
    bytes
}

/// One that others wrote for this.
fn torture(stage: &mut Stage<'_>) -> Vec<u8> {
    stage.saw("a message of the torture tests");
    stage.rng.pick(&TORTURE).map(|bytes| bytes.to_vec()).unwrap_or_default()
}

fn garbage(stage: &mut Stage<'_>) -> Vec<u8> {
    let length = stage.rng.between(1, 300);
    (0..length).map(|_| u8::try_from(stage.rng.below(256)).unwrap_or(0)).collect()
}
