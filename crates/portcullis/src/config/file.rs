//! The configuration file as it is written: every value read, every default filled in, nothing compared yet.
//!
//! Never opens a file that the configuration names and never asks the machine.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use border::config::Authentication;
use guard::{CallRule, HardwareId};

use super::defaults;
use super::document::{At, Document, Section, header};
use super::fault::{FaultCode, Faults, Place, Problem};
use super::value::{self, AllowedAddress, DeviceCaEntry, PbxUri, PortRange, SecretSource, StunServer};

/// In which form logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
    /// For people, with the priority prefix that journald reads and without the time that it adds itself.
    Journald,
}

/// Every section of the file, opened once: its unknown keys are reported by then.
#[derive(Debug)]
pub struct Sections<'a> {
    pub(super) node: Option<Section<'a>>,
    pub(super) outside: Option<Section<'a>>,
    pub(super) inside: Option<Section<'a>>,
    pub(super) pbx: Vec<Section<'a>>,
    pub(super) registration: Option<Section<'a>>,
    pub(super) media: Option<Section<'a>>,
    pub(super) extension: Vec<Section<'a>>,
    pub(super) frequency: Vec<Section<'a>>,
    pub(super) dialing: Vec<Section<'a>>,
    pub(super) block: Option<Section<'a>>,
    pub(super) allowed: Vec<Section<'a>>,
    pub(super) console: Option<Section<'a>>,
    pub(super) metrics: Option<Section<'a>>,
    pub(super) store: Option<Section<'a>>,
    lacks_extensions: bool,
}

impl<'a> Sections<'a> {
    /// Opens them; those that must be there and are not are reported.
    pub fn open(document: &Document<'a>, faults: &mut Faults) -> Self {
        for (name, example) in [
            ("outside", "`[outside]` with `address`, `certificate`, `private_key` and `device_ca`"),
            ("inside", "`[inside]` with `address`"),
            ("pbx", "`[[pbx]]` with `name` and `uri`"),
        ] {
            if document.lacks(name) {
                let message = format!("there is no section {}", header(name));
                let help = format!("add {example}");
                let place = Place { key: name.to_owned(), span: 0..0 };
                faults.error(&place, Problem::new(FaultCode::MissingKey, message, "it is left out", help));
            }
        }
        Self {
            node: document.sections("node", faults).pop(),
            outside: document.sections("outside", faults).pop(),
            inside: document.sections("inside", faults).pop(),
            pbx: document.sections("pbx", faults),
            registration: document.sections("registration", faults).pop(),
            media: document.sections("media", faults).pop(),
            extension: document.sections("extension", faults),
            frequency: document.sections("frequency", faults),
            dialing: document.sections("dialing", faults),
            block: document.sections("block", faults).pop(),
            allowed: document.sections("allowed", faults),
            console: document.sections("console", faults).pop(),
            metrics: document.sections("metrics", faults).pop(),
            store: document.sections("store", faults).pop(),
            lacks_extensions: document.lacks("extension"),
        }
    }
}

/// The whole file.
#[derive(Debug)]
pub struct FileConfig {
    /// `[node]`
    pub node: Node,
    /// `[outside]`
    pub outside: Option<Outside>,
    /// `[inside]`
    pub inside: Option<Inside>,
    /// `[[pbx]]`
    pub pbx: Vec<Pbx>,
    /// `[registration]`
    pub registration: Registration,
    /// `[media]`
    pub media: Media,
    /// `[[extension]]`
    pub extensions: Vec<Extension>,
    /// Whether there is none, nor one under a wrong name.
    pub lacks_extensions: bool,
    /// `[[frequency]]`
    pub frequencies: Vec<Frequency>,
    /// `[block]`
    pub block: Block,
    /// `[[allowed]]`
    pub allowed: Vec<Allowed>,
}

impl FileConfig {
    /// Reads every section.
    pub fn read(sections: &Sections<'_>, faults: &mut Faults) -> Self {
        Self {
            node: Node::read(sections.node.as_ref(), faults),
            outside: sections.outside.as_ref().map(|section| Outside::read(section, faults)),
            inside: sections.inside.as_ref().map(|section| Inside::read(section, faults)),
            pbx: sections.pbx.iter().map(|section| Pbx::read(section, faults)).collect(),
            registration: Registration::read(sections.registration.as_ref(), faults),
            media: Media::read(sections.media.as_ref(), faults),
            lacks_extensions: sections.lacks_extensions,
            extensions: sections.extension.iter().map(|section| Extension::read(section, faults)).collect(),
            frequencies: sections.frequency.iter().map(|section| Frequency::read(section, faults)).collect(),
            block: Block::read(sections.block.as_ref(), faults),
            allowed: sections.allowed.iter().map(|section| Allowed::read(section, faults)).collect(),
        }
    }
}

/// A value of a section that may be left out as a whole.
fn or_default<'a, T>(
    section: Option<&Section<'a>>,
    key: &str,
    parse: super::document::Parse<'a, T>,
    default: T,
    faults: &mut Faults,
) -> At<T> {
    match section {
        Some(section) => section.with_default(key, parse, default, faults),
        None => At { value: default, place: Place { key: key.to_owned(), span: 0..0 } },
    }
}

/// `[node]`
#[derive(Debug)]
pub struct Node {
    /// `name`
    pub name: At<String>,
    /// `data_dir`
    pub data_dir: At<PathBuf>,
    /// `admin_socket`
    pub admin_socket: At<PathBuf>,
    /// `log`
    pub log: At<String>,
    /// `log_format`
    pub log_format: At<LogFormat>,
}

impl Node {
    pub(super) fn read(section: Option<&Section<'_>>, faults: &mut Faults) -> Self {
        Self {
            name: or_default(section, "name", value::name, defaults::NODE_NAME.to_owned(), faults),
            data_dir: or_default(section, "data_dir", value::path, defaults::DATA_DIR.into(), faults),
            admin_socket: or_default(
                section,
                "admin_socket",
                value::path,
                defaults::ADMIN_SOCKET.into(),
                faults,
            ),
            log: or_default(section, "log", value::text, defaults::LOG.to_owned(), faults),
            log_format: or_default(section, "log_format", log_format, LogFormat::Text, faults),
        }
    }
}

fn log_format(item: &super::document::Item<'_>) -> Result<LogFormat, Problem> {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json), ("journald", LogFormat::Journald)];
    value::one_of(item, &formats)
}

/// `[outside]`
#[derive(Debug)]
pub struct Outside {
    /// The header.
    pub place: Place,
    /// `address`: one or several.
    pub address: Vec<At<IpAddr>>,
    /// `public_address`
    pub public_address: Option<At<IpAddr>>,
    /// `tls`
    pub tls: At<u16>,
    /// `udp`; none: closed.
    pub udp: Option<At<u16>>,
    /// `tcp`; none: closed.
    pub tcp: Option<At<u16>>,
    /// `certificate`
    pub certificate: Option<At<PathBuf>>,
    /// `private_key`
    pub private_key: Option<At<PathBuf>>,
    /// `device_ca`
    pub device_ca: Vec<At<DeviceCaEntry>>,
    /// Where `device_ca` stands, or should.
    pub device_ca_place: Place,
    /// Whether it is left out.
    pub lacks_device_ca: bool,
}

impl Outside {
    fn read(section: &Section<'_>, faults: &mut Faults) -> Self {
        Self {
            place: section.place.clone(),
            address: addresses(section, "\"203.0.113.10\"", faults),
            public_address: section.optional("public_address", value::ip, faults),
            tls: section.with_default("tls", value::port, defaults::OUTSIDE_TLS, faults),
            udp: section.optional("udp", value::port, faults),
            tcp: section.optional("tcp", value::port, faults),
            certificate: section.required("certificate", value::path, "\"certs/server.pem\"", faults),
            private_key: section.required("private_key", value::path, "\"certs/server.key\"", faults),
            device_ca: section.one_or_more("device_ca", value::device_ca, faults),
            device_ca_place: section.place_of("device_ca"),
            lacks_device_ca: section.lacks("device_ca"),
        }
    }
}

fn addresses(section: &Section<'_>, example: &str, faults: &mut Faults) -> Vec<At<IpAddr>> {
    if section.has("address") {
        section.one_or_more("address", value::ip, faults)
    } else {
        section.required("address", value::ip, example, faults).into_iter().collect()
    }
}

/// `[inside]`
#[derive(Debug)]
pub struct Inside {
    /// The header.
    pub place: Place,
    /// `address`: one or several.
    pub address: Vec<At<IpAddr>>,
    /// `udp`
    pub udp: At<u16>,
    /// `tcp`
    pub tcp: At<u16>,
    /// `trusted`
    pub trusted: Vec<At<IpAddr>>,
}

impl Inside {
    fn read(section: &Section<'_>, faults: &mut Faults) -> Self {
        let help = "write addresses in a list, such as [\"10.0.0.30\"]";
        Self {
            place: section.place.clone(),
            address: addresses(section, "\"10.0.0.2\"", faults),
            udp: section.with_default("udp", value::port, defaults::INSIDE_PORT, faults),
            tcp: section.with_default("tcp", value::port, defaults::INSIDE_PORT, faults),
            trusted: section.list("trusted", value::ip, help, faults),
        }
    }
}

/// `[[pbx]]`
#[derive(Debug)]
pub struct Pbx {
    /// `name`
    pub name: Option<At<String>>,
    /// `uri`
    pub uri: Option<At<PbxUri>>,
    /// `domain`
    pub domain: Option<At<String>>,
    /// `realm`
    pub realm: Option<At<String>>,
    /// `registrations`
    pub registrations: At<CallRule>,
    /// `health_check`
    pub health_check: At<Duration>,
    /// `priority`
    pub priority: At<u32>,
}

impl Pbx {
    fn read(section: &Section<'_>, faults: &mut Faults) -> Self {
        let registrations = defaults::PBX_REGISTRATIONS;
        Self {
            name: section.required("name", value::name, "\"main\"", faults),
            uri: section.required("uri", value::pbx_uri, "\"sip:10.0.0.10\"", faults),
            domain: section.optional("domain", value::host, faults),
            realm: section.optional("realm", value::name, faults),
            registrations: section.with_default("registrations", value::rate, registrations, faults),
            health_check: section.with_default(
                "health_check",
                value::duration,
                defaults::HEALTH_CHECK,
                faults,
            ),
            priority: section.with_default("priority", value::count, defaults::PRIORITY, faults),
        }
    }
}

/// `[registration]`
#[derive(Debug)]
pub struct Registration {
    /// `phone_expires`
    pub phone_expires: At<Duration>,
    /// `pbx_expires`
    pub pbx_expires: At<Duration>,
    /// `grace`
    pub grace: At<Duration>,
    /// `max_contacts`
    pub max_contacts: At<u32>,
}

impl Registration {
    fn read(section: Option<&Section<'_>>, faults: &mut Faults) -> Self {
        Self {
            phone_expires: or_default(
                section,
                "phone_expires",
                value::duration,
                defaults::PHONE_EXPIRES,
                faults,
            ),
            pbx_expires: or_default(section, "pbx_expires", value::duration, defaults::PBX_EXPIRES, faults),
            grace: or_default(section, "grace", value::duration, defaults::GRACE, faults),
            max_contacts: or_default(section, "max_contacts", value::count, defaults::MAX_CONTACTS, faults),
        }
    }
}

/// `[media]`
#[derive(Debug)]
pub struct Media {
    /// `outside_ports`
    pub outside_ports: At<PortRange>,
    /// `inside_ports`
    pub inside_ports: At<PortRange>,
    /// `stun_server`
    pub stun_server: At<StunServer>,
    /// `silence_timeout`
    pub silence_timeout: At<Duration>,
}

impl Media {
    fn read(section: Option<&Section<'_>>, faults: &mut Faults) -> Self {
        let silence = defaults::SILENCE_TIMEOUT;
        Self {
            outside_ports: or_default(
                section,
                "outside_ports",
                value::port_range,
                defaults::OUTSIDE_PORTS,
                faults,
            ),
            inside_ports: or_default(
                section,
                "inside_ports",
                value::port_range,
                defaults::INSIDE_PORTS,
                faults,
            ),
            stun_server: or_default(
                section,
                "stun_server",
                value::stun_server,
                defaults::STUN_SERVER,
                faults,
            ),
            silence_timeout: or_default(section, "silence_timeout", value::duration, silence, faults),
        }
    }
}

/// `[[extension]]`
#[derive(Debug)]
pub struct Extension {
    /// The header.
    pub place: Place,
    /// `name`
    pub name: Option<At<String>>,
    /// `display_name`
    pub display_name: Option<At<String>>,
    /// `hardware_ids`
    pub hardware_ids: Vec<At<HardwareId>>,
    /// Whether `hardware_ids` is there, and where.
    pub hardware_ids_place: Option<Place>,
    /// Whether it is left out.
    pub lacks_hardware_ids: bool,
    /// `authentication`
    pub authentication: At<Authentication>,
    /// `pbx_user`
    pub pbx_user: Option<At<String>>,
    /// `password`
    pub password: Option<At<SecretSource>>,
    /// Whether `password` is left out.
    pub lacks_password: bool,
    /// `frequency`
    pub frequency: At<String>,
    /// `max_calls`
    pub max_calls: At<u32>,
}

impl Extension {
    fn read(section: &Section<'_>, faults: &mut Faults) -> Self {
        let ids = "write them in a list, such as [\"009033010203\"]";
        Self {
            place: section.place.clone(),
            name: section.required("name", value::extension_name, "\"1001\"", faults),
            display_name: section.optional("display_name", value::text, faults),
            hardware_ids: section.list("hardware_ids", value::hardware_id, ids, faults),
            hardware_ids_place: section.has("hardware_ids").then(|| section.place_of("hardware_ids")),
            lacks_hardware_ids: section.lacks("hardware_ids"),
            authentication: section.with_default(
                "authentication",
                authentication,
                Authentication::Certificate,
                faults,
            ),
            pbx_user: section.optional("pbx_user", value::name, faults),
            password: section.optional("password", value::secret, faults),
            lacks_password: section.lacks("password"),
            frequency: section.with_default("frequency", value::name, defaults::FREQUENCY.to_owned(), faults),
            max_calls: section.with_default("max_calls", value::count, defaults::MAX_CALLS, faults),
        }
    }
}

fn authentication(item: &super::document::Item<'_>) -> Result<Authentication, Problem> {
    let ways = [
        ("certificate", Authentication::Certificate),
        ("certificate+digest", Authentication::CertificateAndDigest),
        ("digest", Authentication::Digest),
    ];
    value::one_of(item, &ways)
}

/// `[[frequency]]`
#[derive(Debug)]
pub struct Frequency {
    /// The header.
    pub place: Place,
    /// `name`
    pub name: Option<At<String>>,
    /// `rules`
    pub rules: Vec<At<CallRule>>,
    /// Where `rules` stands, or should.
    pub rules_place: Place,
    /// Whether it is left out.
    pub lacks_rules: bool,
    /// Whether it is there and has none.
    pub empty_rules: bool,
}

impl Frequency {
    fn read(section: &Section<'_>, faults: &mut Faults) -> Self {
        Self {
            place: section.place.clone(),
            name: section.required("name", value::name, "\"default\"", faults),
            rules: section.list("rules", value::rate, "write a list such as [\"5/1s\", \"60/1h\"]", faults),
            rules_place: section.place_of("rules"),
            lacks_rules: section.lacks("rules"),
            empty_rules: section.is_empty_list("rules"),
        }
    }
}

/// `[block]`
#[derive(Debug)]
pub struct Block {
    /// `after`
    pub after: At<u32>,
    /// `within`
    pub within: At<Duration>,
    /// `time`
    pub time: At<Duration>,
    /// `max_time`; none: the default, or `time` where that is longer.
    pub max_time: Option<At<Duration>>,
    /// `ipv6_prefix`
    pub ipv6_prefix: At<u32>,
}

impl Block {
    fn read(section: Option<&Section<'_>>, faults: &mut Faults) -> Self {
        Self {
            after: or_default(section, "after", value::offences, defaults::BLOCK_AFTER, faults),
            within: or_default(section, "within", value::duration, defaults::BLOCK_WITHIN, faults),
            time: or_default(section, "time", value::duration, defaults::BLOCK_TIME, faults),
            max_time: section.and_then(|section| section.optional("max_time", value::duration, faults)),
            ipv6_prefix: or_default(
                section,
                "ipv6_prefix",
                |item| value::number(item, 32, 128),
                defaults::IPV6_PREFIX,
                faults,
            ),
        }
    }
}

/// `[[allowed]]`
#[derive(Debug)]
pub struct Allowed {
    /// `name`
    pub name: Option<At<String>>,
    /// `description`
    pub description: Option<At<String>>,
    /// `address`
    pub address: Option<At<AllowedAddress>>,
}

impl Allowed {
    fn read(section: &Section<'_>, faults: &mut Faults) -> Self {
        Self {
            name: section.required("name", value::name, "\"office\"", faults),
            description: section.optional("description", value::text, faults),
            address: section.required("address", value::allowed_address, "\"198.51.100.0/24\"", faults),
        }
    }
}
