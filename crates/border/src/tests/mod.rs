//! The whole border on a bench: every message in and out is written down by the test, and time stands still
//! until the test moves it.

mod blocks;
mod call_ids;
mod calls;
mod changes;
mod contacts;
mod digest_calls;
mod drops;
mod forked_calls;
mod hiding;
mod inbound;
mod limits;
mod methods;
mod passed_registrations;
mod pbx_watch;
mod places;
mod redirects;
mod refusals;
mod refused_passwords;
mod refused_registrations;
mod registering;
mod relays;
mod replaced_calls;
mod restarts;
mod server_certificate;
mod standby;
mod strangers;
mod streams;
mod surrogate_answers;
mod topology;
mod unanswered;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use guard::{BlockPolicy, HardwareId};
use wire::clock::{Instant, Now, WallTime};
use wire::net::{ChainVerified, FiveTuple, FlowId, Side, Transport, VerifiedDevice};
use wire::sip::{Essentials, HeaderName, Message};

use crate::command::{Answer, Command, StatusView};
use crate::config::{Authentication, Config, Extension, Inside, Outside, Pbx, Registration, Secret};
use crate::{Border, Code, Event, Input, Output, Record, ResolvedName, Severity, Table, Target};

const OUTSIDE_UDP: FlowId = FlowId(1);
const OUTSIDE_TLS: FlowId = FlowId(2);
const INSIDE_UDP: FlowId = FlowId(3);
/// A phone's certificate, for 1001.
const DEVICE: &str = "009033010203";
const OTHER_DEVICE: &str = "009033010204";
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.168.1.20\r\ns=-\r\nc=IN IP4 192.168.1.20\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 0\r\n";

const CHALLENGE: &str =
    "WWW-Authenticate: Digest realm=\"main.example\", nonce=\"abc\", algorithm=MD5, qop=\"auth\"";

/// What is answered to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Good,
    Full,
    Hangs,
}

struct Bench {
    border: Border,
    now: Instant,
    /// Milliseconds by which the machine's clock was set.
    clock_set: u64,
    disk: Disk,
    stored: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    writes: usize,
    /// How often it told of its lists.
    lists: usize,
    sent: Vec<Sent>,
    events: Vec<Event>,
    /// The connections that it asked for.
    opening: Vec<FlowId>,
    answers: Vec<Answer>,
    /// Orders to the media plane but the first of each relay.
    media: Vec<media::Order>,
    /// The connections that it closed.
    closed: Vec<FlowId>,
    ports: u16,
    /// As the media plane knows them.
    pbx_addresses: std::sync::Arc<wire::net::PrefixSet>,
}

/// A message that the border sent.
#[derive(Clone, Debug)]
struct Sent {
    at: Instant,
    flow: FlowId,
    to: SocketAddr,
    text: String,
}

impl Sent {
    fn header(&self, name: HeaderName<'_>) -> String {
        let message = Message::parse(self.text.as_bytes()).unwrap();
        message.value(name).unwrap_or_default().to_owned()
    }

    fn read<T>(&self, read: impl FnOnce(&Message<'_>, &Essentials<'_>) -> T) -> T {
        let message = Message::parse(self.text.as_bytes()).unwrap();
        read(&message, &message.essentials().unwrap())
    }

    fn status(&self) -> Option<u16> {
        self.read(|message, _| message.status())
    }

    fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").unwrap().1
    }

    /// The answer of whoever got this request.
    fn answer(&self, code: u16, tag: &str, more: &str) -> String {
        self.read(|message, _| {
            let (head, body) = more.split_once("\r\n\r\n").unwrap_or((more, ""));
            let mut writer = sip::response::response(message, self.to, code, "Words", Some(tag));
            for line in head.lines() {
                let (name, value) = line.split_once(": ").unwrap();
                writer.header(name, value);
            }
            String::from_utf8(writer.finish(body.as_bytes())).unwrap()
        })
    }

    /// The PBX takes our contact in, and lists these besides.
    fn registered(&self, others: &[&str]) -> String {
        let contact = self.header(HeaderName::Contact);
        let mut lines: Vec<String> = others.iter().map(|other| format!("Contact: {other}")).collect();
        if !contact.is_empty() {
            lines.push(format!("Contact: {contact}"));
        }
        self.answer(200, "reg", &lines.join("\r\n"))
    }
}

fn extension(name: &str, ids: &[&str], authentication: Authentication) -> Extension {
    Extension {
        name: name.into(),
        display_name: None,
        hardware_ids: ids.iter().map(|id| HardwareId::parse(id.as_bytes()).unwrap()).collect(),
        authentication,
        pbx_user: name.into(),
        password: Some(Secret::new("secret".into())),
        frequency: "default".into(),
        rules: vec!["50/1s".parse().unwrap()],
        max_calls: 4,
    }
}

fn pbx(name: &str, priority: u32) -> Pbx {
    Pbx {
        name: name.into(),
        host: format!("{name}.inside.example"),
        domain: format!("{name}.example"),
        realm: None,
        health_check: Duration::from_secs(10),
        registrations: "50/1s".parse().unwrap(),
        priority,
    }
}

fn config() -> Config {
    Config {
        outside: Outside {
            address: "203.0.113.10".parse().unwrap(),
            public_address: "203.0.113.10".parse().unwrap(),
            server_names: Vec::new(),
            certificate_ends: None,
        },
        inside: Inside { address: "10.0.0.1".parse().unwrap(), trusted: Vec::new() },
        pbx: vec![pbx("main", 1)],
        extensions: vec![
            extension("1001", &[DEVICE, OTHER_DEVICE], Authentication::Certificate),
            extension("1002", &["009033010205"], Authentication::Certificate),
            extension("1003", &[], Authentication::Digest),
        ],
        registration: Registration {
            phone_expires: Duration::from_secs(120),
            pbx_expires: Duration::from_secs(3600),
            grace: Duration::from_secs(30),
            max_contacts: 4,
        },
        block: BlockPolicy {
            after: 50,
            within: Duration::from_secs(60),
            time: Duration::from_secs(120),
            max_time: Duration::from_secs(240),
            ipv6_prefix: 64,
        },
        allowed: Vec::new(),
        silence_timeout: Duration::from_secs(60),
        relays_max: 20,
    }
}

fn pbx_address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, u8::try_from(index).unwrap() + 1], 5060))
}

impl Bench {
    /// A border whose PBXs were looked up and not heard yet.
    fn new(config: Config) -> Self {
        Self::started(config, Vec::new(), Instant::ZERO, Disk::Good)
    }

    fn started(config: Config, records: Vec<Record>, now: Instant, disk: Disk) -> Self {
        Self::begin(config, records, wall(now), disk)
    }

    /// One that starts at this time.
    fn started_at(config: Config, records: Vec<Record>, now: Now) -> Self {
        Self::begin(config, records, now, Disk::Good)
    }

    fn begin(config: Config, records: Vec<Record>, now: Now, disk: Disk) -> Self {
        Self::seeded(config, 7, records, now, disk)
    }

    fn seeded(config: Config, seed: u8, records: Vec<Record>, now: Now, disk: Disk) -> Self {
        let pbxs = config.pbx.len();
        let row = |record: &Record| Some(((record.table, record.key.clone()), record.value.clone()?));
        let stored = records.iter().filter_map(row).collect();
        let border = Border::new(config, [seed; 32], records, now);
        let mut bench = Self {
            border,
            now: now.mono,
            clock_set: now.wall.0.wrapping_sub(wall(now.mono).wall.0),
            disk,
            stored,
            writes: 0,
            lists: 0,
            sent: Vec::new(),
            events: Vec::new(),
            opening: Vec::new(),
            answers: Vec::new(),
            media: Vec::new(),
            closed: Vec::new(),
            ports: 40_000,
            pbx_addresses: Default::default(),
        };
        for (flow, side, transport, local) in [
            (OUTSIDE_UDP, Side::Outside, Transport::Udp, "203.0.113.10:5060"),
            (OUTSIDE_TLS, Side::Outside, Transport::Tls, "203.0.113.10:5061"),
            (INSIDE_UDP, Side::Inside, Transport::Udp, "10.0.0.1:5060"),
        ] {
            bench.put(Input::Listening { flow, side, transport, local: local.parse().unwrap() });
        }
        for index in 0..pbxs {
            let targets = vec![Target { transport: Transport::Udp, address: pbx_address(index) }];
            bench.put(Input::Resolved { name: ResolvedName::Pbx(index), targets });
        }
        bench
    }

    /// One whose first PBX answered its first health check.
    fn with_pbx_up(config: Config) -> Self {
        let mut bench = Self::new(config);
        let options = bench.take("OPTIONS");
        bench.pbx_says(&options.answer(200, "o", ""));
        // What do its challenges look like?
        let query = bench.take("REGISTER");
        bench.pbx_says(&query.answer(401, "q", CHALLENGE));
        bench.sent.clear();
        bench
    }

    /// What the clocks of the machine show.
    fn time(&self) -> Now {
        let Now { mono, wall } = wall(self.now);
        Now { mono, wall: WallTime(wall.0.wrapping_add(self.clock_set)) }
    }

    fn put(&mut self, input: Input<'_>) {
        self.border.handle_input(input, self.time());
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.border.poll_output() {
            match output {
                Output::Send { flow, to, bytes } => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.sent.push(Sent { at: self.now, flow, to, text });
                }
                Output::Event(event) => self.events.push(event),
                Output::Persist { ticket, record } => {
                    self.writes += 1;
                    match record.value {
                        _ if self.disk != Disk::Good => None,
                        Some(value) => self.stored.insert((record.table, record.key), value),
                        None => self.stored.remove(&(record.table, record.key)),
                    };
                    if self.disk != Disk::Hangs {
                        let ok = self.disk == Disk::Good;
                        self.border.handle_input(Input::Stored { ticket, ok }, self.time());
                    }
                }
                Output::Media(media::Order::Open { relay, .. }) => {
                    self.ports += 2;
                    let event = media::RelayEvent::Ready { relay, ports: [self.ports, self.ports] };
                    self.border.handle_input(Input::Media(event), self.time());
                }
                Output::PbxAddresses(addresses) => self.pbx_addresses = addresses,
                Output::Media(order) => self.media.push(order),
                Output::Answer { answer, .. } => self.answers.push(answer),
                Output::Fault(fault) => panic!("{fault}"),
                Output::OpenFlow { flow, .. } => self.opening.push(flow),
                Output::CloseFlow { flow } => self.closed.push(flow),
                Output::Lists { .. } => self.lists += 1,
                Output::Registered { .. } | Output::Unregistered { .. } => {}
            }
        }
    }

    /// Lets time pass, with all timers at their moment.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.border.poll_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.border.handle_timeout(self.time());
            self.drain();
        }
        self.now = until;
    }

    /// A phone connects, with a certificate or without.
    fn connect(&mut self, flow: u64, device: Option<&str>) -> FlowId {
        self.connect_until(flow, device, WallTime(u64::MAX))
    }

    /// One with a certificate that ends then.
    fn connect_until(&mut self, flow: u64, device: Option<&str>, not_after: WallTime) -> FlowId {
        let flow = FlowId(flow);
        let device = device.map(|id| VerifiedDevice {
            field_values: vec![id.as_bytes().to_vec()],
            subject: format!("CN={id}"),
            issuer: "CN=ca".into(),
            not_after,
            chain: ChainVerified::assertion(),
        });
        let tuple = FiveTuple {
            transport: Transport::Tls,
            local: "203.0.113.10:5061".parse().unwrap(),
            remote: phone_address(flow),
        };
        self.put(Input::FlowOpened { flow, side: Side::Outside, tuple, device });
        flow
    }

    fn phone_says(&mut self, flow: FlowId, text: &str) {
        self.put(Input::Bytes { flow, from: phone_address(flow), bytes: text.as_bytes() });
    }

    fn pbx_says(&mut self, text: &str) {
        self.pbx_says_from(0, text);
    }

    fn pbx_says_from(&mut self, pbx: usize, text: &str) {
        self.put(Input::Bytes { flow: INSIDE_UDP, from: pbx_address(pbx), bytes: text.as_bytes() });
    }

    /// Takes the first message that is a request of this method, or an answer to one.
    fn take(&mut self, method: &str) -> Sent {
        self.try_take(method).unwrap_or_else(|| panic!("no {method} in {:#?}", self.sent))
    }

    fn try_take(&mut self, method: &str) -> Option<Sent> {
        let place = self.sent.iter().position(|sent| {
            sent.read(|message, essentials| {
                message.status().is_none() && essentials.cseq.method.as_str() == method
            })
        })?;
        Some(self.sent.remove(place))
    }

    /// Takes the first answer on a phone's flow.
    fn take_answer(&mut self, flow: FlowId) -> Option<Sent> {
        let place = self.sent.iter().position(|sent| sent.flow == flow && sent.status().is_some())?;
        Some(self.sent.remove(place))
    }

    fn final_answer(&mut self, flow: FlowId) -> Option<Sent> {
        while let Some(answer) = self.take_answer(flow) {
            if answer.status() >= Some(200) {
                return Some(answer);
            }
        }
        None
    }

    /// A phone of 1001 registers over its own connection, and the PBX takes it in.
    fn registered(&mut self, flow: u64) -> FlowId {
        let flow = self.connect(flow, Some(DEVICE));
        self.phone_says(flow, &register("1001", 1));
        let asked = self.take("REGISTER");
        self.pbx_says(&asked.registered(&[]));
        assert_eq!(self.final_answer(flow).and_then(|answer| answer.status()), Some(200));
        self.sent.clear();
        flow
    }

    /// Asks as the operator does.
    fn ask(&mut self, command: Command) -> Answer {
        self.border.handle_input(Input::Command { id: 1, command }, self.time());
        let mut given = None;
        while let Some(output) = self.border.poll_output() {
            if let Output::Answer { answer, .. } = output {
                given = Some(answer);
            }
        }
        given.unwrap()
    }

    fn status(&mut self) -> StatusView {
        let Answer::Status(status) = self.ask(Command::Status) else { panic!("no status") };
        status
    }

    fn has_event(&self, code: Code) -> bool {
        self.events.iter().any(|event| event.code == code)
    }

    fn records(&self) -> Vec<Record> {
        let record = |((table, key), value): (&(Table, Vec<u8>), &Vec<u8>)| Record {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        };
        self.stored.iter().map(record).collect()
    }
}

fn wall(now: Instant) -> Now {
    Now { mono: now, wall: WallTime(1_790_000_000_000 + now.as_nanos() / 1_000_000) }
}

fn phone_address(flow: FlowId) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, u8::try_from(flow.0 % 200).unwrap()], 40_000))
}

fn register(name: &str, cseq: u32) -> String {
    format!(
        "REGISTER sip:main.example SIP/2.0\r\nVia: SIP/2.0/TLS 192.168.1.20;branch=z9hG4bKr{name}{cseq}\r\n\
         From: <sip:{name}@main.example>;tag=r\r\nTo: <sip:{name}@main.example>\r\nCall-ID: reg-{name}\r\n\
         CSeq: {cseq} REGISTER\r\nContact: <sip:line@192.168.1.20>;expires=120\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A request of the phone of 1001 to 2001; `to_tag` makes it one inside their dialog.
fn request(method: &str, cseq: u32, to_tag: Option<&str>, content_type: &str, body: &str) -> String {
    let tag = to_tag.map(|tag| format!(";tag={tag}")).unwrap_or_default();
    let content = if body.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
    format!(
        "{method} sip:2001@main.example SIP/2.0\r\nVia: SIP/2.0/TLS 192.168.1.20;branch=z9hG4bK{method}{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:1001@main.example>;tag=phone\r\nTo: <sip:2001@main.example>{tag}\r\n\
         Call-ID: call-1\r\nCSeq: {cseq} {method}\r\nContact: <sip:line@192.168.1.20>\r\n{content}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The desk at the PBX accepts a call.
fn accepted(invite: &Sent, tag: &str) -> String {
    let answer = OFFER.replace("192.168.1.20", "10.0.1.1");
    let more = format!("Contact: <sip:desk@10.0.1.1>\r\nContent-Type: application/sdp\r\n\r\n{answer}");
    invite.answer(200, tag, &more)
}
