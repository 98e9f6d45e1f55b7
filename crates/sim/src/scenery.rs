//! Names, addresses and passwords of the false world.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use border::config::{Authentication, Config, Extension, Inside, Outside, Pbx, Registration, Secret};
use guard::{BlockPolicy, CallRule, HardwareId};
use wire::net::FlowId;

/// The public domain of the extensions.
pub const DOMAIN: &str = "voice.example";
/// The host name of the PBX, hidden outward.
pub const PBX_HOST: &str = "pbx7.inside.example";
/// The digest realm.
pub const REALM: &str = "voice.example";
/// Stands in what the inside sends and must never be seen outside.
pub const INSIDE_CANARY: &str = "insidecanary";
/// Stands in what phones send and must never be seen inside.
pub const PHONE_CANARY: &str = "phonecanary";
/// Stands in all that scanners send.
pub const SCANNER_CANARY: &str = "scannercanary";

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PBX: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// The border's outside address.
pub const OUTSIDE_IP: IpAddr = IpAddr::V4(OUTSIDE);
/// The border's inside address.
pub const INSIDE_IP: IpAddr = IpAddr::V4(INSIDE);
/// The PBX's address.
pub const PBX_IP: IpAddr = IpAddr::V4(PBX);
/// Where phones come by UDP.
pub const OUTSIDE_UDP: SocketAddr = SocketAddr::V4(SocketAddrV4::new(OUTSIDE, 5060));
/// Where phones come by TCP.
pub const OUTSIDE_TCP: SocketAddr = SocketAddr::V4(SocketAddrV4::new(OUTSIDE, 5060));
/// Where phones come by TLS.
pub const OUTSIDE_TLS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(OUTSIDE, 5061));
/// Where the PBX comes.
pub const INSIDE_SIP: SocketAddr = SocketAddr::V4(SocketAddrV4::new(INSIDE, 5060));
/// Where the PBX listens.
pub const PBX_SIP: SocketAddr = SocketAddr::V4(SocketAddrV4::new(PBX, 5060));

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
pub const RULES: [&str; 2] = ["3/10s", "8/60s"];

/// The public address of a phone.
pub fn phone_ip(number: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, number])
}

/// Whether a phone is there.
pub fn is_phone(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.octets()[..3] == [198, 51, 100])
}

/// Whether a scanner is there.
pub fn is_scanner(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.octets()[..3] == [192, 0, 2])
}

/// The address of a scanner.
pub fn scanner_ip(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
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
        "1001" => &["009033010011", "009033010012"],
        "1002" => &["009033010021"],
        "1005" => &["009033010051"],
        _ => &[],
    };
    ids.iter().filter_map(|id| HardwareId::parse(id.as_bytes()).ok()).collect()
}

/// The border's configuration.
pub fn config(registrations: CallRule) -> Config {
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
    Config {
        outside: Outside { address: OUTSIDE_IP, public_address: OUTSIDE_IP, server_names: Vec::new() },
        inside: Inside { address: INSIDE_IP, trusted: Vec::new() },
        pbx: vec![Pbx {
            name: "main".into(),
            host: PBX_HOST.into(),
            domain: DOMAIN.into(),
            realm: None,
            health_check: Duration::from_secs(10),
            registrations,
            priority: 1,
        }],
        extensions: extensions.collect(),
        registration: Registration {
            phone_expires: Duration::from_secs(120),
            pbx_expires: Duration::from_secs(600),
            grace: Duration::from_secs(30),
            max_contacts: 4,
        },
        block: BlockPolicy {
            after: 5,
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

/// The frequency rules, read.
pub fn rules() -> Vec<CallRule> {
    RULES.iter().filter_map(|rule| rule.parse().ok()).collect()
}
