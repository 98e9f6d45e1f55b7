//! Names, addresses and passwords of the false world.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use border::config::{Authentication, Config, Extension, Inside, Outside, Pbx, Registration, Secret};
use guard::{BlockPolicy, CallRule, HardwareId};
use wire::net::{FlowId, Prefix, PrefixSet, Side, Transport};

use crate::rng::Rng;

/// The public domain of the extensions.
pub const DOMAIN: &str = "voice.example";
/// The host name of the PBX, hidden outward.
pub const PBX_HOST: &str = "pbx7.inside.example";
/// The host name of the PBX that stands by.
pub const STANDBY_HOST: &str = "pbx8.inside.example";
/// The digest realm.
pub const REALM: &str = "voice.example";
/// Stands in what the inside sends and must never be seen outside.
pub const INSIDE_CANARY: &str = "insidecanary";
/// Stands in what phones send and must never be seen inside.
pub const PHONE_CANARY: &str = "phonecanary";
/// Stands in all that scanners send.
pub const SCANNER_CANARY: &str = "scannercanary";

/// Stands in what is said by another's certificate, and must never be seen inside either.
pub const THIEF_CANARY: &str = "phonecanary-thief";

/// Stands in what is said in another's name.
pub const IMPOSTOR_CANARY: &str = "impostorcanary";

/// Where everybody is in a run: each face speaks IPv4, or IPv6.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    /// By [`Side::index`].
    v6: [bool; 2],
}

impl Places {
    /// Drawn for a run.
    pub fn drawn(rng: &mut Rng) -> Self {
        Self { v6: [rng.chance(250), rng.chance(250)] }
    }

    /// The border's addresses, outside and inside.
    pub fn faces(self) -> [IpAddr; 2] {
        [self.outside([203, 0, 113, 10], 0x77), self.inside(1)]
    }

    fn outside(self, v4: [u8; 4], net: u16) -> IpAddr {
        let number = u16::from(v4[3]);
        match self.v6[Side::Outside.index()] {
            false => v4.into(),
            // each in a network of its own, for that is what is blocked
            true => [0x2001, 0xdb8, net, number, 0, 0, 0, number].into(),
        }
    }

    fn inside(self, number: u8) -> IpAddr {
        match self.v6[Side::Inside.index()] {
            false => [10, 77, 0, number].into(),
            true => [0xfd77, 0, 0, 0, 0, 0, 0, u16::from(number)].into(),
        }
    }

    /// Where phones come by UDP.
    pub fn udp(self) -> SocketAddr {
        SocketAddr::new(self.faces()[0], 5060)
    }

    /// Where phones come by TCP.
    pub fn tcp(self) -> SocketAddr {
        SocketAddr::new(self.faces()[0], 5060)
    }

    /// Where phones come by TLS.
    pub fn tls(self) -> SocketAddr {
        SocketAddr::new(self.faces()[0], 5061)
    }

    /// Where a PBX comes.
    pub fn inside_sip(self) -> SocketAddr {
        SocketAddr::new(self.faces()[1], 5060)
    }

    /// Where a PBX listens.
    pub fn pbx(self, index: usize) -> SocketAddr {
        SocketAddr::new(self.inside(u8::try_from(index + 2).unwrap_or(u8::MAX)), 5060)
    }

    /// The public address of a phone.
    pub fn phone(self, number: u8) -> IpAddr {
        self.outside([198, 51, 100, number], 0x51)
    }

    /// The address of a phone in its own network, behind its NAT.
    pub fn private(self, number: u8) -> IpAddr {
        match self.v6[Side::Outside.index()] {
            false => [192, 168, 77, number].into(),
            true => [0xfd19, 0x2168, 0, 0, 0, 0, 0, u16::from(number)].into(),
        }
    }

    /// Where audio must never go from the outside, whoever asks for it: to us, and into a network of the inside whose
    /// addresses are no private ones.
    pub(crate) fn never_outside(self) -> [IpAddr; 3] {
        let [outside, inside] = self.faces();
        let campus = match outside {
            IpAddr::V4(_) => [44, 77, 0, 9].into(),
            IpAddr::V6(_) => [0x2a00, 0x77, 0, 0, 0, 0, 0, 9].into(),
        };
        [outside, inside, campus]
    }

    /// Where audio must not go, for each face, as the process around the border finds it out: the networks of the
    /// inside, and our own public address.
    pub(crate) fn forbidden(self) -> [PrefixSet; 2] {
        let [ours, inside] = self.faces();
        let [.., campus] = self.never_outside();
        let networks = [inside, campus];
        let networks = networks.map(|ip| Prefix::new(ip, if ip.is_ipv4() { 24 } else { 64 }));
        let ours = Prefix::single(ours);
        [
            PrefixSet::from_prefixes(networks.into_iter().flatten().chain([ours])),
            PrefixSet::from_prefixes([ours]),
        ]
    }

    /// The address of a scanner.
    pub fn scanner(self, number: u8) -> IpAddr {
        self.outside([192, 0, 2, number], 0x66)
    }

    /// The border's listeners: number, face, transport, address.
    pub fn listeners(self) -> [(FlowId, Side, Transport, SocketAddr); 5] {
        [
            (LISTEN_OUTSIDE_UDP, Side::Outside, Transport::Udp, self.udp()),
            (LISTEN_OUTSIDE_TLS, Side::Outside, Transport::Tls, self.tls()),
            (LISTEN_OUTSIDE_TCP, Side::Outside, Transport::Tcp, self.tcp()),
            (LISTEN_INSIDE_UDP, Side::Inside, Transport::Udp, self.inside_sip()),
            (LISTEN_INSIDE_TCP, Side::Inside, Transport::Tcp, self.inside_sip()),
        ]
    }
}

/// Never to be seen outside: addresses and names of the inside.
pub const HIDDEN_OUTSIDE: [&str; 5] = ["10.77.0.", "fd77:", PBX_HOST, STANDBY_HOST, INSIDE_CANARY];
/// Never to be seen inside: addresses and names of the outside, the border's as well.
pub const HIDDEN_INSIDE: [&str; 7] =
    ["192.168.77.", "198.51.100.", "192.0.2.", "203.0.113.", "2001:db8:", "fd19:2168:", PHONE_CANARY];

/// The border's listeners.
pub const LISTEN_OUTSIDE_UDP: FlowId = FlowId(1);
/// By TLS.
pub const LISTEN_OUTSIDE_TLS: FlowId = FlowId(2);
/// By TCP.
pub const LISTEN_OUTSIDE_TCP: FlowId = FlowId(3);
/// Inside, by UDP.
pub const LISTEN_INSIDE_UDP: FlowId = FlowId(4);
/// Inside, by TCP.
pub const LISTEN_INSIDE_TCP: FlowId = FlowId(5);

/// The relay's ports, outside then inside.
pub const MEDIA_PORTS: [std::ops::RangeInclusive<u16>; 2] = [10_000..=10_079, 20_000..=20_079];

/// How often an extension may call.
pub const RULES: [&str; 2] = ["3/5s", "5/20s"];

/// The same where the operator has tightened them: enough for one call after the other.
pub const TIGHT_RULES: [&str; 2] = ["2/5s", "4/20s"];

/// How many devices an extension may have, where a world does not draw it.
pub(crate) const MAX_CONTACTS: usize = 4;

/// The most that a phone's registration lasts.
pub const PHONE_EXPIRES: Duration = Duration::from_secs(120);

/// When sources are blocked, and for how long.
pub const BLOCK: BlockPolicy = BlockPolicy {
    after: 5,
    within: Duration::from_secs(10),
    time: Duration::from_secs(4),
    max_time: Duration::from_secs(6),
    ipv6_prefix: 64,
};

/// Added to the number of a phone while it is in another network.
pub const AWAY: u8 = 100;

/// The number of whoever is in one of two networks.
fn number_in(ip: IpAddr, v4: [u8; 3], v6: u16) -> Option<u8> {
    match ip {
        IpAddr::V4(ip) => match ip.octets() {
            [a, b, c, number] => ([a, b, c] == v4).then_some(number),
        },
        IpAddr::V6(ip) => match ip.segments() {
            [0x2001, 0xdb8, net, .., number] => u8::try_from(number).ok().filter(|_| net == v6),
            _ => None,
        },
    }
}

/// The number of the phone that is there.
pub(crate) fn phone_at(ip: IpAddr) -> Option<u8> {
    number_in(ip, [198, 51, 100], 0x51)
}

/// Whether an address is one of the inside.
pub(crate) fn is_inside(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [10, 77, 0],
        IpAddr::V6(ip) => ip.segments()[0] == 0xfd77,
    }
}

/// The address that a phone has in the other one of its two networks.
pub(crate) fn elsewhere(ip: IpAddr) -> Option<IpAddr> {
    let number = phone_at(ip)?;
    let other = if number < AWAY { number + AWAY } else { number - AWAY };
    Some(Places { v6: [ip.is_ipv6(); 2] }.phone(other))
}

/// Whether a phone is there.
pub fn is_phone(ip: IpAddr) -> bool {
    phone_at(ip).is_some()
}

/// The number of the scanner that is there.
pub(crate) fn scanner_at(ip: IpAddr) -> Option<u8> {
    number_in(ip, [192, 0, 2], 0x66)
}

/// What is blocked with an address: itself alone, or its whole network of IPv6.
pub(crate) fn blocked_with(ip: IpAddr) -> Prefix {
    match ip {
        IpAddr::V4(_) => Prefix::single(ip),
        IpAddr::V6(_) => Prefix::new(ip, BLOCK.ipv6_prefix).unwrap_or(Prefix::single(ip)),
    }
}

/// Whether a scanner is there.
pub fn is_scanner(ip: IpAddr) -> bool {
    scanner_at(ip).is_some()
}

/// The extension of the phone that is there.
pub fn extension_at(ip: IpAddr) -> Option<&'static str> {
    let digit = char::from(b'0' + phone_at(ip)? % AWAY / 10);
    EXTENSIONS.iter().map(|(name, _)| *name).find(|name| name.ends_with(digit))
}

/// The password of an extension, at the PBX and in the configuration.
pub fn password(extension: &str) -> String {
    format!("secret-of-{extension}")
}

/// Extensions and whether the PBX's own challenge decides about them.
pub const EXTENSIONS: [(&str, bool); 5] =
    [("1001", false), ("1002", false), ("1003", true), ("1004", true), ("1005", false)];

/// The devices of an extension.
fn devices(extension: &str) -> Vec<HardwareId> {
    let ids: &[&str] = match extension {
        "1001" => &["009033010011", "009033010012", "009033010013"],
        "1002" => &["009033010021"],
        "1005" => &["009033010051"],
        _ => &[],
    };
    ids.iter().filter_map(|id| HardwareId::parse(id.as_bytes()).ok()).collect()
}

/// The border's configuration, with so many PBXs.
pub fn config(places: Places, pbxs: usize) -> Config {
    let extensions = EXTENSIONS.iter().map(|(name, digest)| Extension {
        name: (*name).to_owned(),
        display_name: None,
        hardware_ids: devices(name),
        authentication: if *digest { Authentication::Digest } else { Authentication::Certificate },
        pbx_user: (*name).to_owned(),
        password: (!digest).then(|| Secret::new(password(name))),
        frequency: "default".into(),
        rules: rules(),
        max_calls: 4,
    });
    let pbx = |(host, priority): (&str, u32)| Pbx {
        name: if priority == 1 { "main" } else { "standby" }.into(),
        host: host.into(),
        domain: DOMAIN.into(),
        realm: None,
        health_check: Duration::from_secs(10),
        registrations: CallRule { calls: 20, period: Duration::from_secs(1) },
        priority,
    };
    let [outside, inside] = places.faces();
    Config {
        outside: Outside {
            address: outside,
            public_address: outside,
            server_names: Vec::new(),
            certificate_ends: None,
        },
        inside: Inside { address: inside, trusted: Vec::new() },
        pbx: [(PBX_HOST, 1), (STANDBY_HOST, 2)].into_iter().take(pbxs).map(pbx).collect(),
        extensions: extensions.collect(),
        registration: Registration {
            phone_expires: PHONE_EXPIRES,
            pbx_expires: Duration::from_secs(600),
            grace: Duration::from_secs(30),
            max_contacts: MAX_CONTACTS,
        },
        block: BLOCK,
        allowed: Vec::new(),
        silence_timeout: Duration::from_secs(60),
        relays_max: 10,
    }
}

/// The frequency rules, read.
pub fn rules() -> Vec<CallRule> {
    RULES.iter().filter_map(|rule| rule.parse().ok()).collect()
}
