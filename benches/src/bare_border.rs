//! The real border without its shell: inputs by hand, outputs carried out at once by templates.
//!
//! The disk answers at once, ports are always free, the PBX is [`crate::templates`], the phones are what the
//! caller says. Time is what the caller says too, so timers cost what they cost and nobody waits.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use border::config::{Authentication, Config, Extension, Inside, Outside, Pbx, Registration, Secret};
use border::{Border, Input, Output, ResolvedName, Target};
use bytes::Bytes;
use guard::{BlockPolicy, CallRule, HardwareId};
use media::{Order, RelayEvent};
use wire::clock::{Instant, Now, WallTime};
use wire::net::{ChainVerified, FiveTuple, FlowId, Side, Transport, VerifiedDevice};

use crate::templates::{DOMAIN, PbxWords, Speaker};

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
const PBX: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 5060);
/// What the PBX says; its parties hear where it is.
pub const PBX_WORDS: PbxWords = PbxWords {
    address: PBX,
    media: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 16_384),
    challenges: true,
};

/// The flow of datagrams that come from outside.
pub const OUTSIDE_UDP: FlowId = FlowId(1);
const OUTSIDE_TLS: FlowId = FlowId(2);
const INSIDE_UDP: FlowId = FlowId(3);
/// The flow of the phone with number 0.
const PHONES: u64 = 100;

/// So long that nothing is refreshed by itself while a bench runs.
pub const LONG: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longer than any transaction that has its final answer.
const TRANSACTION: Duration = Duration::from_secs(40);
/// The PBX takes 50 registrations a second.
const PACE: Duration = Duration::from_millis(25);

/// A phone: on a TLS connection of its own with a device certificate, or one of many on the UDP port.
#[derive(Clone, Debug)]
pub struct Phone {
    /// What it says.
    pub speaker: Speaker,
    number: u32,
    flow: FlowId,
    cseq: u32,
}

impl Phone {
    fn new(number: u32, authentication: Authentication) -> Self {
        let [_, _, high, low] = number.to_be_bytes();
        let address = SocketAddr::from(([198, 18, high, low], 39_242));
        let (transport, flow) = match authentication {
            Authentication::Digest => ("UDP", OUTSIDE_UDP),
            _ => ("TLS", FlowId(PHONES + u64::from(number))),
        };
        let speaker = Speaker { extension: extension(number), authority: address.to_string(), transport };
        Self { speaker, number, flow, cseq: 0 }
    }

    fn address(&self) -> SocketAddr {
        let [_, _, high, low] = self.number.to_be_bytes();
        SocketAddr::from(([198, 18, high, low], 39_242))
    }

    /// The next REGISTER of its series.
    pub fn register(&mut self, expires: Duration) -> Vec<u8> {
        self.cseq += 1;
        self.speaker.register(self.cseq, u32::try_from(expires.as_secs()).unwrap_or(u32::MAX))
    }
}

/// A border, its PBX, and extensions of which none is registered yet.
pub struct BareBorder {
    border: Border,
    now: Now,
    /// What phones were sent and nobody has looked at yet.
    to_phones: VecDeque<Bytes>,
    /// Requests that the PBX got.
    pbx_requests: u64,
}

impl BareBorder {
    /// A border that serves so many extensions, and as many phones, not connected yet.
    pub fn new(extensions: u32, authentication: Authentication) -> (Self, Vec<Phone>) {
        let now = Now { mono: Instant::ZERO, wall: WallTime(1_790_000_000_000) };
        let border = Border::new(config(extensions, authentication), [7; 32], Vec::new(), now);
        let mut bare = Self { border, now, to_phones: VecDeque::new(), pbx_requests: 0 };
        let listeners = [
            (OUTSIDE_UDP, Side::Outside, Transport::Udp, SocketAddr::new(OUTSIDE, 5060)),
            (OUTSIDE_TLS, Side::Outside, Transport::Tls, SocketAddr::new(OUTSIDE, 5061)),
            (INSIDE_UDP, Side::Inside, Transport::Udp, SocketAddr::new(INSIDE, 5060)),
        ];
        for (flow, side, transport, local) in listeners {
            bare.input(Input::Listening { flow, side, transport, local });
        }
        let targets = vec![Target { transport: Transport::Udp, address: PBX }];
        bare.input(Input::Resolved { name: ResolvedName::Pbx(0), targets });
        bare.advance(TRANSACTION);
        (bare, (0..extensions).map(|number| Phone::new(number, authentication)).collect())
    }

    /// Hands the border one input and carries out all that comes of it, as the shell does.
    pub fn input(&mut self, input: Input<'_>) {
        self.border.handle_input(input, self.now);
        self.serve();
    }

    /// Lets time pass, with all that is due.
    pub fn advance(&mut self, by: Duration) {
        self.now = Now { mono: self.now.mono + by, wall: self.now.wall + by };
        self.serve();
    }

    /// Lets time pass until every transaction with an answer is forgotten.
    pub fn forget_transactions(&mut self) {
        self.advance(TRANSACTION);
    }

    /// How many requests the PBX has got so far.
    pub fn pbx_requests(&self) -> u64 {
        self.pbx_requests
    }

    /// Opens the connection of a phone that has one; its certificate was verified.
    pub fn connect(&mut self, phone: &Phone) {
        if phone.flow == OUTSIDE_UDP {
            return;
        }
        let tuple = FiveTuple {
            transport: Transport::Tls,
            local: SocketAddr::new(OUTSIDE, 5061),
            remote: phone.address(),
        };
        let id = hardware_id(phone.number);
        let device = VerifiedDevice {
            subject: format!("CN={id}"),
            field_values: vec![id.into_bytes()],
            issuer: "CN=Device CA".into(),
            not_after: WallTime(u64::MAX),
            chain: ChainVerified::assertion(),
        };
        self.input(Input::FlowOpened { flow: phone.flow, side: Side::Outside, tuple, device: Some(device) });
    }

    /// The phone's connection is gone.
    pub fn disconnect(&mut self, phone: &Phone) {
        self.input(Input::FlowClosed { flow: phone.flow });
    }

    /// Sends what a phone says; gives the last that it is told of it, which must be a 200.
    pub fn say(&mut self, phone: &Phone, bytes: &[u8]) -> Bytes {
        self.tell(phone, bytes);
        let last = std::mem::take(&mut self.to_phones).pop_back().unwrap_or_default();
        assert!(last.starts_with(b"SIP/2.0 200 "), "not a 200: {}", String::from_utf8_lossy(&last));
        last
    }

    /// Sends what a phone says and expects no answer.
    pub fn tell(&mut self, phone: &Phone, bytes: &[u8]) {
        self.input(Input::Bytes { flow: phone.flow, from: phone.address(), bytes });
    }

    /// Whether no phone was sent anything that nobody has looked at.
    pub fn is_silent(&self) -> bool {
        self.to_phones.is_empty()
    }

    /// Connects and registers all of these, at the pace that the PBX is spared at.
    pub fn register_all(&mut self, phones: &mut [Phone]) {
        for phone in phones {
            self.connect(phone);
            let register = phone.register(LONG);
            self.say(phone, &register);
            self.advance(PACE);
        }
        self.forget_transactions();
    }

    /// One call from the INVITE to the 200 of its BYE.
    pub fn call(&mut self, phone: &Phone, call: u64, invite: &[u8]) {
        let ok = self.say(phone, invite);
        let ok = String::from_utf8_lossy(&ok);
        self.tell(phone, &phone.speaker.in_dialog("ACK", 1, call, &ok));
        self.say(phone, &phone.speaker.in_dialog("BYE", 2, call, &ok));
    }

    fn serve(&mut self) {
        if self.border.poll_timeout().is_some_and(|due| due <= self.now.mono) {
            self.border.handle_timeout(self.now);
        }
        while let Some(output) = self.border.poll_output() {
            assert!(!matches!(output, Output::Fault(_)), "what is measured fails: {output:?}");
            match output {
                Output::Send { flow, bytes, .. } if flow == INSIDE_UDP => self.ask_pbx(&bytes),
                Output::Send { bytes, .. } => self.to_phones.push_back(bytes),
                Output::Media(order) => {
                    self.border.handle_input(Input::Media(media_answer(&order)), self.now);
                }
                Output::Persist { ticket, .. } => {
                    self.border.handle_input(Input::Stored { ticket, ok: true }, self.now);
                }
                _ => {}
            }
        }
    }

    fn ask_pbx(&mut self, bytes: &Bytes) {
        let text = String::from_utf8_lossy(bytes);
        if text.starts_with("SIP/2.0 ") {
            return;
        }
        self.pbx_requests += 1;
        for answer in PBX_WORDS.answers(&text) {
            let input = Input::Bytes { flow: INSIDE_UDP, from: PBX, bytes: &answer };
            self.border.handle_input(input, self.now);
        }
    }
}

/// A media plane that always has ports.
fn media_answer(order: &Order) -> RelayEvent {
    match order {
        Order::Open { relay, .. } => RelayEvent::Ready { relay: *relay, ports: [10_000, 20_000] },
        Order::Update { relay, spec } => RelayEvent::Updated { relay: *relay, generation: spec.generation },
        Order::Close { relay } => RelayEvent::Closed { relay: *relay, received: Default::default() },
    }
}

fn extension(number: u32) -> String {
    format!("{}", 10_000 + number)
}

fn hardware_id(number: u32) -> String {
    format!("0090330{}", extension(number))
}

fn config(extensions: u32, authentication: Authentication) -> Config {
    let rules: Vec<CallRule> = ["5/1s", "60/1h"].iter().filter_map(|rule| rule.parse().ok()).collect();
    let extensions = (0..extensions).map(|number| Extension {
        name: extension(number),
        display_name: None,
        hardware_ids: HardwareId::parse(hardware_id(number).as_bytes()).into_iter().collect(),
        authentication,
        pbx_user: extension(number),
        password: (authentication != Authentication::Digest).then(|| Secret::new("secret".into())),
        frequency: "default".into(),
        rules: rules.clone(),
        max_calls: 4,
    });
    Config {
        outside: Outside {
            address: OUTSIDE,
            public_address: OUTSIDE,
            server_names: Vec::new(),
            certificate_ends: None,
        },
        inside: Inside { address: INSIDE, trusted: Vec::new() },
        pbx: vec![Pbx {
            name: "main".into(),
            host: PBX.ip().to_string(),
            domain: DOMAIN.into(),
            realm: None,
            health_check: LONG,
            registrations: CallRule { calls: 50, period: Duration::from_secs(1) },
            priority: 1,
        }],
        extensions: extensions.collect(),
        registration: Registration {
            phone_expires: LONG,
            pbx_expires: LONG,
            grace: Duration::from_secs(30),
            max_contacts: 4,
        },
        block: BlockPolicy {
            after: 5,
            within: Duration::from_secs(60),
            time: Duration::from_secs(600),
            max_time: Duration::from_secs(86_400),
            ipv6_prefix: 64,
        },
        allowed: Vec::new(),
        silence_timeout: Duration::from_secs(60),
        relays_max: 5_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_register_refresh_call_and_leave() {
        let (mut bare, mut phones) = BareBorder::new(3, Authentication::Certificate);
        bare.register_all(&mut phones);
        let phone = &mut phones[1];
        let asked = bare.pbx_requests();
        let refresh = phone.register(LONG);
        bare.say(phone, &refresh);
        assert_eq!(bare.pbx_requests(), asked, "a refresh stays at the border");
        let invite = phone.speaker.invite(9);
        assert!((800..900).contains(&invite.len()), "{} bytes", invite.len());
        bare.call(phone, 9, &invite);
        assert_eq!(bare.pbx_requests(), asked + 3, "INVITE, ACK and BYE");
        let leave = phone.register(Duration::ZERO);
        bare.say(phone, &leave);
        assert_eq!(bare.pbx_requests(), asked + 4, "the PBX hears of the end");
    }

    #[test]
    fn phones_without_a_certificate_are_the_pbxs_matter() {
        let (mut bare, mut phones) = BareBorder::new(2, Authentication::Digest);
        bare.register_all(&mut phones);
        let asked = bare.pbx_requests();
        let refresh = phones[1].register(LONG);
        bare.say(&phones[1], &refresh);
        assert_eq!(bare.pbx_requests(), asked + 1, "each of their REGISTERs goes to the PBX");
    }
}
