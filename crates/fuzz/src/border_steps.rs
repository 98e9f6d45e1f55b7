//! The border, step by step: each byte of the input chooses what happens next to a border with two registered
//! phones, and the bytes after it choose how the messages of that step are changed.
//!
//! After each step: whatever the border sends can be read, names nobody of the other side and tells no password;
//! its next timeout lies ahead; it reports no fault of its own.

use std::net::SocketAddr;
use std::time::Duration;

use border::{Border, Command, Input, Output, ResolvedName, Target};
use media::{Order, RelayEvent, RelayFault, RelayId, Traffic};
use wire::clock::{Instant, Now, WallTime};
use wire::net::{ChainVerified, FiveTuple, FlowId, Prefix, Side, Transport, VerifiedDevice};
use wire::sip::{HeaderName, Message, StartLine};

use crate::scene::{self, INSIDE_UDP, INSIDE_WORDS, PASSWORD, PBX, PHONE_WORDS, PHONES, Text, UDP};

/// Enough for a call with all that belongs to it; more makes runs slow, not deep.
const STEPS_MAX: usize = 64;

/// How long a run may last on the border's own clock, for the same reason: it outlasts a phone's binding.
const TIME_MAX: Duration = Duration::from_secs(150);

/// What an edit puts into a message. None of it has a word that must be hidden.
const VALUES: [&str; 32] = [
    "",
    "\"",
    "<",
    ">",
    "<sip:1001@voice.example>;tag=x",
    "<sip:1003@voice.example>",
    "sip:2001@voice.example;tag=\"a, <sip:b@c>;tag=d\"",
    "\"a\\\"b\" <sip:1001@voice.example;x=y?Subject=z>;tag=q;tag=r",
    "<tel:+49301234>",
    "<http://example.com/>",
    "<sip:%00@voice.example>",
    "<sips:1001@[2001:db8::1]:5061>",
    "0",
    "1",
    "70",
    "255",
    "4294967296",
    "-1",
    "1 INVITE",
    "2 ACK",
    "application/sdp",
    "multipart/mixed;boundary=b",
    "application/sdp;x=\"\\\"\"",
    "x\r\n y",
    "x\r\nX-Smuggled: y",
    "\u{0}",
    "\u{e9}\u{65e5}",
    "abc;early-only",
    "call-1;to-tag=a;from-tag=b",
    "Digest realm=\"voice.example\", nonce=\"n\", qop=\"auth\", algorithm=MD5",
    "Digest username=\"1001\", realm=\"voice.example\", nonce=\"n\", uri=\"sip:voice.example\", response=\"0\"",
    "active;expires=60",
];

/// The fields that an edit adds.
const NAMES: [&str; 32] = [
    "Via",
    "v",
    "From",
    "To",
    "Contact",
    "m",
    "Call-ID",
    "CSeq",
    "Max-Forwards",
    "Content-Length",
    "l",
    "Content-Type",
    "Route",
    "Record-Route",
    "Path",
    "Require",
    "Replaces",
    "Refer-To",
    "Target-Dialog",
    "In-Reply-To",
    "Event",
    "Subscription-State",
    "Expires",
    "Authorization",
    "WWW-Authenticate",
    "Proxy-Authenticate",
    "P-Asserted-Identity",
    "Diversion",
    "Warning",
    "RSeq",
    "RAck",
    "X-Unknown",
];

const METHODS: [&str; 12] = [
    "INVITE", "REGISTER", "OPTIONS", "MESSAGE", "NOTIFY", "REFER", "BYE", "CANCEL", "ACK", "PRACK", "UPDATE",
    "INFO",
];

const CODES: [u16; 16] = [100, 180, 183, 200, 200, 202, 302, 400, 401, 404, 407, 423, 480, 486, 491, 503];

/// Runs one script.
pub fn run(bytes: &[u8]) {
    let mut play = Play::new();
    let mut script = Script(bytes);
    for _ in 0..STEPS_MAX {
        let Some(step) = script.next() else { return };
        play.step(step, &mut script);
    }
}

/// The bytes that are left.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> usize {
        usize::from(self.next().unwrap_or(0))
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let index = self.byte() % of.len();
        *of.get(index).expect("in range")
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.byte().min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }
}

/// Who talks with the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Of 1001 by TLS, of 1003 by UDP, and nobody.
    Phone(usize),
    Pbx,
}

/// What one of them knows.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// Requests that wait for an answer.
    asked: Vec<Text>,
    /// The last request that it sent itself, with its Via.
    sent: Option<Text>,
    /// The dialog that it is in: a request's From, To, Call-ID and URI.
    dialog: Option<[String; 4]>,
    cseq: u32,
}

struct Play {
    border: Border,
    now: Instant,
    number: u32,
    tls: FlowId,
    memory: [Memory; 4],
    /// The contact of 1001 at the PBX.
    contact: String,
    relays: Vec<RelayId>,
    tickets: Vec<u64>,
    hidden: [Vec<&'static str>; 2],
    last: Option<(Who, Vec<u8>)>,
}

impl Play {
    /// A border with a PBX that is up, and two phones that are registered.
    fn new() -> Self {
        let mut play = Self {
            border: Border::new(scene::config(), [7; 32], Vec::new(), clock(Instant::ZERO)),
            now: Instant::ZERO,
            number: 0,
            tls: FlowId(100),
            memory: Default::default(),
            contact: "sip:1001@voice.example".into(),
            relays: Vec::new(),
            tickets: Vec::new(),
            hidden: [INSIDE_WORDS.to_vec(), PHONE_WORDS.to_vec()],
            last: None,
        };
        for (flow, side, transport, local) in scene::listeners() {
            play.input(Input::Listening { flow, side, transport, local });
        }
        let targets = vec![Target { transport: Transport::Udp, address: PBX }];
        play.input(Input::Resolved { name: ResolvedName::Pbx(0), targets });
        play.accept_at_pbx();
        play.connect();
        for (who, name) in [(0, "1001"), (1, "1003")] {
            let register = play.request(Who::Phone(who), "REGISTER", "sip:voice.example", name);
            play.send(Who::Phone(who), &register.bytes());
            play.accept_at_pbx();
            play.stored(true);
        }
        play.relays.clear();
        play
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step % 16 {
            0 => self.ask(Who::Phone(0), "INVITE", script),
            1 => self.ask(Who::Phone(1), "INVITE", script),
            2 => {
                let (who, method) = (Who::Phone(script.byte() % 3), script.pick(&METHODS));
                self.ask(who, method, script);
            }
            3 => self.ask(Who::Pbx, "INVITE", script),
            4 => {
                let method = script.pick(&METHODS);
                self.ask(Who::Pbx, method, script);
            }
            5 | 6 => self.answer(Who::Pbx, script),
            7 => self.answer(Who::Phone(script.byte() % 2), script),
            8 => {
                let who = script.pick(&[Who::Phone(0), Who::Phone(1), Who::Pbx]);
                let method = script.pick(&METHODS);
                self.in_dialog(who, method, script);
            }
            9 => {
                let millis = 1 << (script.byte() % 20);
                self.wait(Duration::from_millis(millis));
            }
            10 => self.report_media(script),
            11 => {
                let ok = script.byte().is_multiple_of(2);
                self.stored(ok);
            }
            12 => {
                self.input(Input::FlowClosed { flow: self.tls });
                self.connect();
            }
            13 => {
                let (who, bytes) = (Who::Phone(script.byte() % 3), script.bytes());
                self.spoil(&bytes);
                self.send(who, &bytes);
            }
            14 => {
                if let Some((who, bytes)) = self.last.clone() {
                    self.send(who, &bytes);
                }
            }
            _ => self.command(script),
        }
        self.wait(Duration::ZERO);
    }

    // ---- what happens -------------------------------------------------------------------------------------

    fn connect(&mut self) {
        self.tls = FlowId(self.tls.0 + 1);
        let tuple = FiveTuple { transport: Transport::Tls, local: scene::OUTSIDE_TLS, remote: PHONES[0] };
        let device = VerifiedDevice {
            field_values: vec![scene::DEVICE.as_bytes().to_vec()],
            subject: "CN=device".into(),
            issuer: "CN=ca".into(),
            not_after: WallTime(u64::MAX),
            chain: ChainVerified::assertion(),
        };
        self.input(Input::FlowOpened { flow: self.tls, side: Side::Outside, tuple, device: Some(device) });
    }

    /// Sends a request without a dialog, changed as the script says.
    fn ask(&mut self, who: Who, method: &str, script: &mut Script<'_>) {
        let name = script.pick(&["1001", "1003", "1001", "nobody"]);
        let uri = match (who, method) {
            (Who::Pbx, _) => self.contact.clone(),
            (_, "REGISTER") => "sip:voice.example".into(),
            _ => script.pick(&["sip:2001@voice.example", "sip:1003@voice.example"]).into(),
        };
        let mut text = self.request(who, method, &uri, name);
        edit(&mut text, script);
        self.send(who, &text.bytes());
    }

    fn in_dialog(&mut self, who: Who, method: &str, script: &mut Script<'_>) {
        let memory = self.memory_of(who);
        let text = match (&memory.sent, &memory.dialog, method) {
            // Of the transaction of the last request.
            (Some(sent), _, "CANCEL") => {
                let mut text = sent.clone();
                text.start = sent.start.replacen("INVITE", "CANCEL", 1);
                text.body.clear();
                text.fields.retain(|(name, _)| !matches!(name.as_str(), "CSeq" | "Content-Type" | "Contact"));
                let number = sent.field("CSeq").split(' ').next().unwrap_or("1").to_owned();
                Some(text.with("CSeq", format!("{number} CANCEL")))
            }
            (_, Some([from, to, call_id, uri]), _) => {
                let (from, to, call_id, uri) = (from.clone(), to.clone(), call_id.clone(), uri.clone());
                let mut text = self.request(who, method, &uri, "1001");
                for (name, value) in &mut text.fields {
                    match name.as_str() {
                        "From" => value.clone_from(&from),
                        "To" => value.clone_from(&to),
                        "Call-ID" => value.clone_from(&call_id),
                        _ => {}
                    }
                }
                Some(text)
            }
            _ => None,
        };
        if let Some(mut text) = text {
            edit(&mut text, script);
            self.send(who, &text.bytes());
        }
    }

    /// Answers one of the requests that wait.
    fn answer(&mut self, who: Who, script: &mut Script<'_>) {
        let (which, code) = (script.byte(), script.pick(&CODES));
        let waiting = self.memory_of(who).asked.len();
        let Some(index) = waiting.checked_sub(1 + which % waiting.max(1)) else { return };
        let request = self.memory_of(who).asked.get(index).cloned().expect("in range");
        if code >= 200 {
            self.memory_of(who).asked.remove(index);
        }
        let mut text = self.response(who, &request, code);
        edit(&mut text, script);
        self.send(who, &text.bytes());
    }

    fn accept_at_pbx(&mut self) {
        while let Some(request) = self.memory_of(Who::Pbx).asked.pop() {
            let text = self.response(Who::Pbx, &request, 200);
            self.send(Who::Pbx, &text.bytes());
        }
    }

    fn stored(&mut self, ok: bool) {
        for ticket in std::mem::take(&mut self.tickets) {
            self.input(Input::Stored { ticket, ok });
        }
    }

    fn report_media(&mut self, script: &mut Script<'_>) {
        let (kind, which) = (script.byte(), script.byte());
        let Some(relay) = self.relays.get(which % self.relays.len().max(1)).copied() else { return };
        let generation = u32::try_from(script.byte()).unwrap_or(0);
        let received = [Traffic::default(); 2];
        let event = match kind % 6 {
            0 | 1 => RelayEvent::Ready { relay, ports: [10_000, 20_000] },
            2 => RelayEvent::Failed { relay, fault: RelayFault::NoPorts },
            3 => RelayEvent::Updated { relay, generation },
            4 => RelayEvent::Silent { relay, idle: Duration::from_secs(60) },
            _ => RelayEvent::Closed { relay, received },
        };
        self.input(Input::Media(event));
    }

    fn command(&mut self, script: &mut Script<'_>) {
        let address = script.pick(&PHONES).ip();
        let prefix = Prefix::single(address);
        let command = match script.byte() % 7 {
            0 => Command::Status,
            1 => Command::Registrations,
            2 => Command::Calls,
            3 => Command::BlockAdd {
                prefix,
                time: Some(Duration::from_secs(5)),
                why: "test".into(),
                force: true,
            },
            4 => Command::BlockRemove { prefixes: vec![prefix] },
            5 => Command::AllowAdd { prefix, name: "a".into(), description: String::new() },
            _ => Command::AllowRemove { name: "a".into() },
        };
        self.input(Input::Command { id: 1, command });
    }

    /// Lets time pass, and the border do what is due meanwhile.
    fn wait(&mut self, time: Duration) {
        let until = (self.now + time).min(Instant::ZERO + TIME_MAX);
        while let Some(at) = self.border.poll_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.border.handle_timeout(clock(self.now));
            let next = self.border.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "the next timeout lies ahead");
            self.drain();
        }
        self.now = until.max(self.now);
    }

    // ---- messages -----------------------------------------------------------------------------------------

    fn memory_of(&mut self, who: Who) -> &mut Memory {
        let index = match who {
            Who::Phone(index) => index,
            Who::Pbx => 3,
        };
        self.memory.get_mut(index).expect("four of them")
    }

    fn fresh(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    fn request(&mut self, who: Who, method: &str, uri: &str, name: &str) -> Text {
        let number = self.fresh();
        let memory = self.memory_of(who);
        memory.cseq += 1;
        let cseq = memory.cseq;
        let inside = who == Who::Pbx;
        let (via, host) =
            if inside { ("10.77.0.2:5060", "10.77.0.2") } else { ("192.168.77.5:5070", "192.168.77.5") };
        let word = if inside { "insidecanary" } else { "phonecanary" };
        let transport = if who == Who::Phone(0) { "TLS" } else { "UDP" };
        let to = match (method, inside) {
            ("REGISTER", _) => format!("<sip:{name}@voice.example>"),
            (_, true) => "<sip:1001@voice.example>".into(),
            (_, false) => "<sip:2001@voice.example>".into(),
        };
        let from = if inside { "2001" } else { name };
        let mut text = Text::new(format!("{method} {uri} SIP/2.0"))
            .with("Via", format!("SIP/2.0/{transport} {via};rport;branch=z9hG4bK{number}x"))
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:{from}@voice.example>;tag=t{number}"))
            .with("To", to)
            .with("Call-ID", format!("c{number}@{word}.{host}"))
            .with("CSeq", format!("{cseq} {method}"))
            .with("Contact", format!("<sip:line@{via}>"));
        if inside {
            text = text
                .with("Record-Route", "<sip:10.77.0.2;lr>")
                .with("Server", "insidecanary pbx7.inside.example");
        }
        if method == "INVITE" {
            text = text.with("Content-Type", "application/sdp");
            text.body = sdp(host);
        }
        text
    }

    fn response(&mut self, who: Who, request: &Text, code: u16) -> Text {
        let inside = who == Who::Pbx;
        let (via, host) =
            if inside { ("10.77.0.2:5060", "10.77.0.2") } else { ("192.168.77.5:5070", "192.168.77.5") };
        let mut text = Text::new(format!("SIP/2.0 {code} Whatever"));
        for (name, value) in &request.fields {
            let value = match name.as_str() {
                "To" if code > 100 && !value.contains(";tag=") => format!("{value};tag=r{}", self.number),
                _ => value.clone(),
            };
            let is_echoed = ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route"].contains(&name.as_str());
            let is_granted = request.method() == "REGISTER" && name == "Contact" && code == 200;
            if is_echoed || is_granted {
                text = text.with(name, value);
            }
        }
        match (request.method(), code) {
            ("INVITE", 180..300) => {
                text =
                    text.with("Contact", format!("<sip:line@{via}>")).with("Content-Type", "application/sdp");
                text.body = sdp(host);
            }
            ("REGISTER", 200) => text = text.with("Expires", "600"),
            (_, 401) => text = text.with("WWW-Authenticate", VALUES[29]),
            (_, 407) => text = text.with("Proxy-Authenticate", VALUES[29]),
            _ => {}
        }
        if inside {
            text = text
                .with("Server", "insidecanary pbx7.inside.example")
                .with("Warning", "399 10.77.0.2 \"x\"");
        }
        text
    }

    /// Words that the script itself has written are no secret of the other side any more.
    fn spoil(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        for hidden in &mut self.hidden {
            hidden.retain(|word| !text.contains(word));
        }
    }

    fn send(&mut self, who: Who, bytes: &[u8]) {
        let text = Text::parse(bytes);
        if text.code().is_none() {
            self.memory_of(who).sent = Some(text.clone());
        } else if text.method() == "INVITE" {
            let dialog = [text.field("To"), text.field("From"), text.field("Call-ID")].map(str::to_owned);
            let memory = self.memory_of(who);
            let uri =
                memory.dialog.as_ref().map_or_else(|| "sip:x@voice.example".to_owned(), |it| it[3].clone());
            let [from, to, call_id] = dialog;
            memory.dialog = Some([from, to, call_id, uri]);
        }
        self.last = Some((who, bytes.to_vec()));
        let (flow, from) = match who {
            Who::Phone(0) => (self.tls, PHONES[0]),
            Who::Phone(index) => (UDP, *PHONES.get(index).expect("three phones")),
            Who::Pbx => (INSIDE_UDP, PBX),
        };
        self.input(Input::Bytes { flow, from, bytes });
    }

    fn input(&mut self, input: Input<'_>) {
        self.border.handle_input(input, clock(self.now));
        self.drain();
    }

    // ---- what comes of it ---------------------------------------------------------------------------------

    fn drain(&mut self) {
        while let Some(output) = self.border.poll_output() {
            match output {
                Output::Send { flow, to, bytes } => self.on_sent(flow, to, &bytes),
                Output::Media(Order::Open { relay, .. }) => self.relays.push(relay),
                Output::Persist { ticket, .. } => self.tickets.push(ticket),
                Output::CloseFlow { flow } if flow == self.tls => self.connect_later(),
                Output::Fault(fault) => panic!("a fault of ours: {fault}"),
                Output::Event(event) => assert!(!format!("{event:?}").contains(PASSWORD)),
                Output::Answer { answer, .. } => assert!(!format!("{answer:?}").contains(PASSWORD)),
                _ => {}
            }
        }
    }

    /// The border has closed the connection: what comes on it now is nobody's, until there is a new one.
    fn connect_later(&mut self) {
        self.tls = FlowId(self.tls.0 + 1);
    }

    fn on_sent(&mut self, flow: FlowId, to: SocketAddr, bytes: &[u8]) {
        let inside = flow == INSIDE_UDP;
        let shown = || format!("to {to}: {}", bytes.escape_ascii());
        if bytes == b"\r\n" || bytes == b"\r\n\r\n" {
            return;
        }
        is_sound(bytes);
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        for word in self.hidden.get(usize::from(inside)).into_iter().flatten() {
            assert!(!names(&text, word), "{word} is told {}", shown());
        }
        assert!(!text.contains(PASSWORD), "the password is told {}", shown());
        let who = match (inside, PHONES.iter().position(|phone| *phone == to)) {
            (true, _) => Who::Pbx,
            (false, Some(index)) => Who::Phone(index),
            (false, None) => return,
        };
        self.remember(who, Text::parse(bytes));
    }

    /// Notes what an answer or a later request will need.
    fn remember(&mut self, who: Who, text: Text) {
        if who == Who::Pbx && text.method() == "REGISTER" && text.field("To").contains("1001") {
            self.contact = text.uri("Contact");
        }
        let uri = text.uri("Contact");
        let fields = ["From", "To", "Call-ID"].map(|name| text.field(name).to_owned());
        let memory = self.memory_of(who);
        match (text.code(), text.method()) {
            (None, "ACK") => {}
            (None, method) => {
                if method == "INVITE" {
                    let [from, to, call_id] = fields;
                    memory.dialog = Some([to, from, call_id, uri]);
                }
                memory.asked.push(text);
                if memory.asked.len() > 16 {
                    memory.asked.remove(0);
                }
            }
            (Some(101..300), "INVITE") => {
                let [from, to, call_id] = fields;
                memory.dialog = Some([from, to, call_id, uri]);
            }
            _ => {}
        }
    }
}

/// What is sent can be read, whole, by the strictest reader there is here.
fn is_sound(bytes: &[u8]) {
    let shown = || bytes.escape_ascii();
    let message = Message::parse(bytes).unwrap_or_else(|fault| panic!("{fault}: {}", shown()));
    assert!(bytes.ends_with(message.body()), "{}", shown());
    assert!(message.value(HeaderName::ContentLength).is_some(), "{}", shown());
    assert!(message.headers().all(|header| !header.value.contains(['\r', '\n', '\0'])), "{}", shown());
    // The refusal of what cannot be read says again what it was.
    if message.status() == Some(400) {
        return;
    }
    let essentials = message.essentials().unwrap_or_else(|fault| panic!("{fault}: {}", shown()));
    if let StartLine::Request { .. } = message.start() {
        assert_eq!(message.values(HeaderName::Via).count(), 1, "{}", shown());
        assert!(essentials.via.branch().is_some() && essentials.from.tag().is_some(), "{}", shown());
    }
}

/// Changes a message in up to three places.
fn edit(text: &mut Text, script: &mut Script<'_>) {
    for _ in 0..script.byte() % 4 {
        let (kind, at) = (script.byte() % 8, script.byte());
        let (value, name) = (VALUES[script.byte() % VALUES.len()], NAMES[script.byte() % NAMES.len()]);
        let at = at % text.fields.len().max(1);
        let Some(field) = text.fields.get_mut(at) else { return };
        match kind {
            0 => value.clone_into(&mut field.1),
            1 => field.1.push_str(value),
            2 => {
                let copy = field.clone();
                text.fields.push(copy);
            }
            3 => drop(text.fields.remove(at)),
            4 | 5 => text.fields.insert(at, (name.to_owned(), value.to_owned())),
            // What no configuration names is no secret in a field that may say anything.
            6 if field.1.contains("canary") => *field = (name.to_owned(), value.to_owned()),
            6 => name.clone_into(&mut field.0),
            _ => text.body.push_str(value),
        }
    }
}

fn sdp(host: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n\
         a=rtpmap:8 PCMA/8000\r\n"
    )
}

fn clock(mono: Instant) -> Now {
    Now { mono, wall: WallTime(1_790_000_000_000 + mono.as_nanos() / 1_000_000) }
}

/// Whether a word stands in a text, as itself or as the end of a longer name: glued to what follows it, it is another.
fn names(text: &str, word: &str) -> bool {
    let glues = |next: char| next.is_ascii_alphanumeric() || next == '-';
    text.match_indices(word)
        .any(|(at, _)| !text.get(at + word.len()..).is_some_and(|rest| rest.starts_with(glues)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(script: &[u8]) -> Play {
        let mut play = Play::new();
        let mut script = Script(script);
        while let Some(step) = script.next() {
            play.step(step, &mut script);
        }
        play
    }

    fn count(play: &Play, table: &str) -> usize {
        let found = play.border.unfinished().into_iter().find(|(name, _)| *name == table);
        found.map(|(_, count)| count).expect("a table of that name")
    }

    #[test]
    fn both_phones_are_registered_before_the_first_step() {
        let mut play = play(b"");
        play.border.handle_input(Input::Command { id: 9, command: Command::Registrations }, clock(play.now));
        let answer = play.border.poll_output();
        let Some(Output::Answer { answer: border::Answer::Registrations(rows), .. }) = answer else {
            panic!("{answer:?}")
        };
        let names: Vec<_> = rows.iter().map(|row| row.extension.as_str()).collect();
        assert_eq!(names, ["1001", "1003"]);
        assert_ne!(play.contact, "sip:1001@voice.example", "the PBX knows a contact");
    }

    #[test]
    fn a_script_makes_a_call_and_ends_it() {
        let call = [0, 0, 0, 0, 10, 0, 0, 0, 5, 0, 1, 0, 5, 0, 3, 0, 10, 3, 0, 2, 8, 0, 8, 0];
        let up = play(&call);
        assert_eq!((count(&up, "calls"), count(&up, "dialogs")), (1, 2), "found from either side");
        assert!(up.memory[0].dialog.is_some() && up.memory[3].dialog.is_some(), "both have a dialog");
        let ended = play(&[&call[..], &[8, 0, 6, 0, 5, 0, 3, 0, 10, 5, 0, 0]].concat());
        assert_eq!(count(&ended, "calls"), 0);
    }

    #[test]
    fn a_script_calls_a_phone_from_inside() {
        let up = play(&[3, 0, 0, 10, 0, 0, 0, 7, 0, 0, 1, 0, 7, 0, 0, 3, 0, 10, 3, 0, 2, 8, 2, 8, 0]);
        assert_eq!((count(&up, "calls"), count(&up, "dialogs")), (1, 2), "found from either side");
    }
}
