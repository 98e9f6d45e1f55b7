//! From the file as it is written to the settings as they hold: whatever needs two values, a second file or
//! the clock is checked here, to the last fault.
//!
//! Never asks for ports or names: that is `machine`'s, and only ever warns.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use guard::BlockPolicy;
use wire::clock::WallTime;
use wire::net::{Side, Transport};

use super::document::{At, header, quoted_key};
use super::extensions;
use super::fault::{FaultCode, Faults, Place, Problem};
use super::file::{self, FileConfig};
use super::settings::{AllowedDomain, Listener, Media, Node, Settings};
use super::value::{AllowedAddress, HostName, PortRange, StunServer};
use super::{certificates, defaults, log_levels, reach};
use crate::admin::socket;

/// The shortest expiry that a registrar may insist on here (RFC 3261 §10.3: 423 below it).
const PHONE_EXPIRES_MIN: Duration = Duration::from_secs(60);

/// Reports each name that stands twice; `what` is the section.
pub(super) fn check_unique<'a>(
    names: impl IntoIterator<Item = &'a At<String>>,
    what: &str,
    faults: &mut Faults,
) {
    let mut seen = BTreeMap::new();
    for name in names {
        if seen.insert(name.value.as_str(), ()).is_some() {
            let message = format!("two {} are named `{}`", header(what), name.value);
            let problem = Problem::new(FaultCode::Duplicate, message, "the second", "give it another name");
            faults.error(&name.place, problem);
        }
    }
}

pub(super) fn out_of_range(at: &Place, message: &str, found: String, help: &str) -> Problem {
    Problem::new(FaultCode::OutOfRange, format!("{} {message}", quoted_key(&at.key)), found, help)
}

/// Checks everything. Settings only where nothing has to be mended.
pub(super) fn settings(
    config: FileConfig,
    base: &Path,
    now: WallTime,
    faults: &mut Faults,
) -> Option<Settings> {
    let node = node(&config.node, base, faults);
    let outside_address = config
        .outside
        .as_ref()
        .and_then(|outside| one_address(&outside.address, outside.public_address.is_some(), faults));
    let inside_address =
        config.inside.as_ref().and_then(|inside| one_address(&inside.address, false, faults));
    let client_auth = extensions::client_auth(&config.extensions);
    let tls = config.outside.as_ref();
    let tls = tls.and_then(|outside| certificates::read(outside, client_auth, base, now, faults));
    check_device_ca(&config, faults);
    let ip = |at: &Option<At<IpAddr>>| at.as_ref().map(|at| at.value);
    let (outside_ip, inside_ip) = (ip(&outside_address), ip(&inside_address));
    let listeners = listeners(&config, outside_ip, inside_ip, faults);
    reach::check(&config, outside_ip, inside_ip, &listeners, faults);
    let pbx = pbxs(&config.pbx, faults);
    let extensions = extensions::validate(&config.extensions, &config.frequencies, base, faults);
    if config.lacks_extensions {
        let place = Place { key: "extension".to_owned(), span: 0..0 };
        let message = "there is no [[extension]]: no phone can register";
        let help = "add one for each phone or person: `[[extension]]` with `name` and `hardware_ids`";
        faults.warning(&place, Problem::new(FaultCode::MissingKey, message, "it is left out", help));
    }
    let registration = registration(&config.registration, faults);
    let block = block(&config.block, faults);
    let (allowed, allowed_domains) = allowed(config.allowed, faults);
    check_media(&config.media, outside_ip.zip(inside_ip), &listeners, faults);
    check_positive(&config.media.silence_timeout, faults);
    if faults.has_errors() {
        return None;
    }
    let (outside, inside, tls) = (config.outside?, config.inside?, tls?);
    let (outside_address, inside_address) = (outside_address?, inside_address?);
    let (outside_ports, inside_ports) = (config.media.outside_ports, config.media.inside_ports);
    let border = border::config::Config {
        outside: border::config::Outside {
            address: outside_address.value,
            public_address: outside.public_address.map_or(outside_address.value, |at| at.value),
            server_names: tls.host_names().to_vec(),
            certificate_ends: tls.ends(),
        },
        inside: border::config::Inside {
            address: inside_address.value,
            trusted: inside.trusted.into_iter().map(|at| at.value).collect(),
        },
        pbx,
        extensions,
        registration,
        block,
        allowed,
        silence_timeout: config.media.silence_timeout.value,
        relays_max: outside_ports.value.pairs().min(inside_ports.value.pairs()),
    };
    Some(Settings {
        node,
        listeners,
        tls,
        stun_server: config.media.stun_server,
        media: Media { outside: outside_ports, inside: inside_ports, outside_address, inside_address },
        pbx: config.pbx.into_iter().filter_map(|pbx| pbx.uri).collect(),
        allowed_domains,
        border,
    })
}

fn node(node: &file::Node, base: &Path, faults: &mut Faults) -> Node {
    log_levels::check(&node.log, faults);
    let absolute = |key: &str, path: &At<PathBuf>| {
        // Where the whole section is left out, the key alone would not say whose it is.
        let place = Place { key: format!("node.{key}"), span: path.place.span.clone() };
        At { value: base.join(&path.value), place }
    };
    let admin_socket = absolute("admin_socket", &node.admin_socket);
    let bytes = admin_socket.value.as_os_str().len();
    if bytes > socket::PATH_BYTES_MAX {
        let message = format!("is longer than the {} bytes of a socket's path", socket::PATH_BYTES_MAX);
        let help = "name a shorter path, such as \"/run/portcullis/admin.sock\"";
        let found = format!("{bytes} bytes, with the directory of this file");
        faults.error(&admin_socket.place, out_of_range(&admin_socket.place, &message, found, help));
    }
    Node {
        name: node.name.value.clone(),
        data_dir: absolute("data_dir", &node.data_dir),
        admin_socket,
        log: node.log.value.clone(),
        log_format: node.log_format.value,
    }
}

/// The address of a face. `public` says whether phones are told another one.
fn one_address(addresses: &[At<IpAddr>], public: bool, faults: &mut Faults) -> Option<At<IpAddr>> {
    let first = addresses.first()?;
    if let Some(second) = addresses.get(1) {
        let message =
            format!("{} with several addresses is not available yet", quoted_key(&second.place.key));
        let found = "the second address";
        let help = "name one address of this machine";
        faults.error(&second.place, Problem::new(FaultCode::NotAvailable, message, found, help));
    }
    if first.value.is_unspecified() && !public {
        let message = format!("{} names no address that others can be told", quoted_key(&first.place.key));
        let found = format!("`{}` means every address", first.value);
        let help = "name one address of this machine, or add `public_address` to [outside]";
        faults.error(&first.place, Problem::new(FaultCode::Conflict, message, found, help));
    }
    Some(first.clone())
}

/// Whoever shows a certificate needs a CA that vouches for it.
fn check_device_ca(config: &FileConfig, faults: &mut Faults) {
    let Some(outside) = &config.outside else { return };
    let needed = config.extensions.iter().any(extensions::shows_certificate);
    if needed && outside.lacks_device_ca {
        let message = "[outside] needs `device_ca`: extensions prove themselves by certificate";
        let help = "add `device_ca = [\"certs/device-ca.pem\"]`";
        let problem = Problem::new(FaultCode::MissingKey, message, "it is left out", help);
        faults.error(&outside.device_ca_place, problem);
    }
}

fn listeners(
    config: &FileConfig,
    outside_address: Option<IpAddr>,
    inside_address: Option<IpAddr>,
    faults: &mut Faults,
) -> Vec<Listener> {
    let mut wanted = Vec::new();
    if let Some(outside) = &config.outside {
        wanted.push((Side::Outside, Transport::Tls, outside_address, Some(&outside.tls)));
        wanted.push((Side::Outside, Transport::Udp, outside_address, outside.udp.as_ref()));
        wanted.push((Side::Outside, Transport::Tcp, outside_address, outside.tcp.as_ref()));
    }
    if let Some(inside) = &config.inside {
        wanted.push((Side::Inside, Transport::Udp, inside_address, Some(&inside.udp)));
        wanted.push((Side::Inside, Transport::Tcp, inside_address, Some(&inside.tcp)));
    }
    let listeners: Vec<Listener> = wanted
        .into_iter()
        .filter_map(|(side, transport, ip, port)| {
            let (ip, port) = (ip?, port?);
            let address = SocketAddr::new(ip, port.value);
            Some(Listener { side, transport, address, place: port.place.clone() })
        })
        .collect();
    check_listeners(&listeners, faults);
    listeners
}

fn check_listeners(listeners: &[Listener], faults: &mut Faults) {
    for (index, later) in listeners.iter().enumerate() {
        let earlier = listeners.iter().take(index).find(|earlier| collide(earlier, later));
        let Some(earlier) = earlier else { continue };
        let message = format!(
            "{} and {} are the same port",
            quoted_key(&earlier.place.key),
            quoted_key(&later.place.key)
        );
        let found = format!("`{}` a second time", later.address);
        let help = "give one of them another port";
        faults.error(&later.place, Problem::new(FaultCode::Duplicate, message, found, help));
    }
}

/// Whether two listeners cannot both be bound.
fn collide(one: &Listener, other: &Listener) -> bool {
    let datagrams = |listener: &Listener| listener.transport == Transport::Udp;
    let (a, b) = (one.address, other.address);
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    datagrams(one) == datagrams(other) && same_ip && a.port() == b.port() && a.port() != 0
}

fn pbxs(pbxs: &[file::Pbx], faults: &mut Faults) -> Vec<border::config::Pbx> {
    check_unique(pbxs.iter().filter_map(|pbx| pbx.name.as_ref()), "pbx", faults);
    pbxs.iter().filter_map(|pbx| one_pbx(pbx, faults)).collect()
}

fn one_pbx(pbx: &file::Pbx, faults: &mut Faults) -> Option<border::config::Pbx> {
    if pbx.health_check.value < Duration::from_secs(1) {
        let found = format!("found {:?}", pbx.health_check.value);
        let problem = out_of_range(&pbx.health_check.place, "must be at least 1s", found, "write \"10s\"");
        faults.error(&pbx.health_check.place, problem);
    }
    let uri = pbx.uri.as_ref()?;
    let host = match &uri.value.host {
        HostName::Ip(ip) => ip.to_string(),
        HostName::Name(name) => name.clone(),
    };
    Some(border::config::Pbx {
        name: pbx.name.as_ref()?.value.clone(),
        domain: pbx.domain.as_ref().map_or_else(|| uri.value.host.to_string(), |at| at.value.clone()),
        host,
        realm: pbx.realm.as_ref().map(|at| at.value.clone()),
        health_check: pbx.health_check.value,
        registrations: pbx.registrations.value,
        priority: pbx.priority.value,
    })
}

fn registration(registration: &file::Registration, faults: &mut Faults) -> border::config::Registration {
    let phone = &registration.phone_expires;
    if phone.value < PHONE_EXPIRES_MIN {
        let found = format!("found {:?}", phone.value);
        let problem = out_of_range(&phone.place, "must be at least 60s", found, "write \"120s\"");
        faults.error(&phone.place, problem);
    }
    let pbx = &registration.pbx_expires;
    if pbx.value < phone.value {
        let message = "`pbx_expires` is shorter than `phone_expires`";
        let found = format!("{:?} against {:?}", pbx.value, phone.value);
        let help = "ask the PBX for a longer time than phones are told, such as \"1h\"";
        faults.error(&pbx.place, Problem::new(FaultCode::Conflict, message, found, help));
    }
    border::config::Registration {
        phone_expires: phone.value,
        pbx_expires: pbx.value,
        grace: registration.grace.value,
        max_contacts: count(registration.max_contacts.value),
    }
}

/// A count as the cores take it.
pub(super) fn count(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn block(block: &file::Block, faults: &mut Faults) -> BlockPolicy {
    check_positive(&block.within, faults);
    check_positive(&block.time, faults);
    let max_time = block.max_time.as_ref();
    if let Some(max_time) = max_time
        && max_time.value < block.time.value
    {
        let message = "`max_time` is shorter than `time`";
        let found = format!("{:?} against {:?}", max_time.value, block.time.value);
        let help = "a block begins with `time` and doubles up to `max_time`";
        faults.error(&max_time.place, Problem::new(FaultCode::Conflict, message, found, help));
    }
    BlockPolicy {
        after: block.after.value,
        within: block.within.value,
        time: block.time.value,
        max_time: max_time.map_or(defaults::BLOCK_MAX_TIME.max(block.time.value), |at| at.value),
        ipv6_prefix: u8::try_from(block.ipv6_prefix.value).unwrap_or(u8::MAX),
    }
}

fn check_positive(duration: &At<Duration>, faults: &mut Faults) {
    if duration.value.is_zero() {
        let message = "must be longer than nothing";
        let problem = out_of_range(&duration.place, message, "found zero".to_owned(), "write \"1m\"");
        faults.error(&duration.place, problem);
    }
}

fn allowed(
    entries: Vec<file::Allowed>,
    faults: &mut Faults,
) -> (Vec<border::config::Allowed>, Vec<AllowedDomain>) {
    check_unique(entries.iter().filter_map(|entry| entry.name.as_ref()), "allowed", faults);
    let (mut allowed, mut domains) = (Vec::new(), Vec::new());
    for entry in entries {
        let (Some(name), Some(address)) = (entry.name, entry.address) else { continue };
        let (written, prefixes) = match address.value {
            AllowedAddress::Prefix(prefix) => {
                if prefix.len() == 0 {
                    let message = format!("{} allows everybody: nobody is ever blocked", header("allowed"));
                    let help = "name the networks that you trust";
                    let problem = Problem::new(FaultCode::Unused, message, "every address", help);
                    faults.warning(&address.place, problem);
                }
                (prefix.to_string(), vec![prefix])
            }
            AllowedAddress::Domain(name) => {
                let place = address.place.clone();
                domains.push(AllowedDomain { index: allowed.len(), name: name.clone(), place });
                (name, Vec::new())
            }
        };
        allowed.push(border::config::Allowed {
            name: name.value,
            description: entry.description.map(|at| at.value).unwrap_or_default(),
            prefixes,
            address: written,
        });
    }
    (allowed, domains)
}

fn check_media(
    media: &file::Media,
    addresses: Option<(IpAddr, IpAddr)>,
    listeners: &[Listener],
    faults: &mut Faults,
) {
    let (outside, inside) = (&media.outside_ports, &media.inside_ports);
    let one_address = addresses.is_some_and(|(outside, inside)| {
        outside == inside || outside.is_unspecified() || inside.is_unspecified()
    });
    if one_address && outside.value.overlaps(inside.value) {
        let message = "`outside_ports` and `inside_ports` overlap on the same address";
        let found = format!("{} against {}", inside.value, outside.value);
        let help = "give each face ports of its own";
        faults.error(&inside.place, Problem::new(FaultCode::Conflict, message, found, help));
    }
    for listener in listeners.iter().filter(|listener| listener.transport == Transport::Udp) {
        let range = if listener.side == Side::Outside { outside } else { inside };
        if range.value.contains(listener.address.port()) {
            let sip = quoted_key(&listener.place.key);
            warn_taken(range, &format!("{sip}, port {}", listener.address.port()), faults);
        }
    }
    if let StunServer::On { port } = media.stun_server.value
        && outside.value.contains(port)
    {
        warn_taken(outside, &format!("the STUN server, port {port}"), faults);
    }
}

fn warn_taken(range: &At<PortRange>, whose: &str, faults: &mut Faults) {
    let message = format!("{} includes {whose}: one call less has room", quoted_key(&range.place.key));
    let help = "move the range, or the port out of it";
    let found = format!("found {}", range.value);
    faults.warning(&range.place, Problem::new(FaultCode::Conflict, message, found, help));
}
