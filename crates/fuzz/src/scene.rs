//! The false world of the border's steps: names, addresses, the configuration, and messages taken apart and put
//! together as plain text, by none of our own code.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use border::Config;
use border::config::{Authentication, Extension, Inside, Outside, Pbx, Registration, Secret};
use guard::{BlockPolicy, CallRule, HardwareId};
use wire::net::{FlowId, Side, Transport};

/// Stands in all that the PBX writes, in these forms, and must never be seen outside.
pub(crate) const INSIDE_WORDS: [&str; 3] = ["10.77.0.", "pbx7.inside.example", "insidecanary"];
/// Stands in all that phones write, and must never be seen inside.
pub(crate) const PHONE_WORDS: [&str; 3] = ["192.168.77.", "198.51.100.", "phonecanary"];

pub(crate) const DEVICE: &str = "009033010011";
pub(crate) const PASSWORD: &str = "secret-of-1001";

pub(crate) const UDP: FlowId = FlowId(1);
const TLS: FlowId = FlowId(2);
pub(crate) const INSIDE_UDP: FlowId = FlowId(4);

pub(crate) const OUTSIDE_TLS: SocketAddr = at([203, 0, 113, 10], 5061);
pub(crate) const PBX: SocketAddr = at([10, 77, 0, 2], 5060);
/// The phone of 1001, over TLS; that of 1003, over UDP; and nobody's.
pub(crate) const PHONES: [SocketAddr; 3] =
    [at([198, 51, 100, 11], 40_011), at([198, 51, 100, 31], 40_031), at([192, 0, 2, 66], 6_666)];

const fn at(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]), port))
}

pub(crate) fn listeners() -> [(FlowId, Side, Transport, SocketAddr); 3] {
    [
        (UDP, Side::Outside, Transport::Udp, at([203, 0, 113, 10], 5060)),
        (TLS, Side::Outside, Transport::Tls, OUTSIDE_TLS),
        (INSIDE_UDP, Side::Inside, Transport::Udp, at([10, 77, 0, 1], 5060)),
    ]
}

pub(crate) fn config() -> Config {
    let rule = |calls, secs| CallRule { calls, period: Duration::from_secs(secs) };
    let extension = |name: &str, authentication, ids: &[&str], password: Option<&str>| Extension {
        name: name.into(),
        display_name: None,
        hardware_ids: ids.iter().filter_map(|id| HardwareId::parse(id.as_bytes()).ok()).collect(),
        authentication,
        pbx_user: name.into(),
        password: password.map(|password| Secret::new(password.into())),
        frequency: "default".into(),
        rules: vec![rule(20, 1)],
        max_calls: 4,
    };
    Config {
        outside: Outside {
            address: IpAddr::from([203, 0, 113, 10]),
            public_address: IpAddr::from([203, 0, 113, 10]),
            server_names: Vec::new(),
            certificate_ends: None,
        },
        inside: Inside { address: IpAddr::from([10, 77, 0, 1]), trusted: Vec::new() },
        pbx: vec![Pbx {
            name: "main".into(),
            host: "pbx7.inside.example".into(),
            domain: "voice.example".into(),
            realm: None,
            health_check: Duration::from_secs(10),
            registrations: rule(50, 1),
            priority: 1,
        }],
        extensions: vec![
            extension("1001", Authentication::Certificate, &[DEVICE], Some(PASSWORD)),
            extension("1003", Authentication::Digest, &[], None),
        ],
        registration: Registration {
            phone_expires: Duration::from_secs(120),
            pbx_expires: Duration::from_secs(600),
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

/// A message as lines: start line, fields, body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Text {
    pub(crate) fn new(start: String) -> Self {
        Self { start, ..Self::default() }
    }

    /// Reads what the border wrote: one line for each field.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { start, fields, body: body.to_owned() }
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// The code of an answer.
    pub(crate) fn code(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    pub(crate) fn method(&self) -> &str {
        self.field("CSeq").split(' ').nth(1).unwrap_or_default()
    }

    /// The URI between the brackets of a field.
    pub(crate) fn uri(&self, name: &str) -> String {
        let value = self.field(name);
        let inner = value.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        inner
            .map_or_else(|| value.split(';').next().unwrap_or_default().to_owned(), |(uri, _)| uri.to_owned())
    }

    /// The bytes; Content-Length is counted, unless an edit wrote one.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.field("Content-Length").is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        text.into_bytes()
    }
}
