//! What of this machine the settings will meet: ports already taken, addresses it lacks, names that do not
//! resolve, ports that the kernel gives to others, paths that cannot be written. Warnings, all of them: the
//! machine may differ tomorrow, and the user who checks may be another one than the service's.
//!
//! Never holds a port longer than the question takes, and never sends a packet but to the resolver.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use border::ResolvedName;
use net::resolve_now;
use wire::net::Transport;
use wire::words::of_system;

use super::document::{At, quoted_key};
use super::fault::{FaultCode, Faults, Place, Problem};
use super::host;
use super::settings::{Node, Settings};
use super::value::{PortRange, StunServer};

/// Ports that the kernel hands out by itself, and those that it is told to leave alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelPorts {
    /// `net.ipv4.ip_local_port_range`
    pub local: Option<(u16, u16)>,
    /// `net.ipv4.ip_local_reserved_ports`
    pub reserved: Vec<(u16, u16)>,
}

impl KernelPorts {
    /// As the running kernel says; empty where it says nothing.
    pub fn of_this_machine() -> Self {
        let read =
            |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        Self::parse(&read("ip_local_port_range"), &read("ip_local_reserved_ports"))
    }

    /// Reads both texts as the kernel writes them: `32768 60999`, `8080,10000-19999`.
    pub fn parse(local: &str, reserved: &str) -> Self {
        let mut ends = local.split_whitespace().filter_map(|port| port.parse().ok());
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Self {
            local: ends.next().zip(ends.next()),
            reserved: reserved.trim().split(',').filter_map(range).collect(),
        }
    }

    /// How many ports of a range the kernel may give to somebody else.
    pub fn shared_with(&self, range: PortRange) -> usize {
        let Some((first, last)) = self.local else { return 0 };
        let shared = range.first.max(first)..=range.last.min(last);
        let kept = |port: &u16| !self.reserved.iter().any(|(first, last)| (first..=last).contains(&port));
        shared.filter(kept).count()
    }
}

/// Asks the machine everything. `running` are the listeners of an instance of ours that is up, as its
/// status names them: their ports are taken by right. None where it could not be asked.
pub fn examine(settings: &Settings, kernel: &KernelPorts, running: Option<&[String]>, faults: &mut Faults) {
    check_data_dir(&settings.node, faults);
    let taker = match running {
        Some(_) => "another program",
        None => "another program, or by the running instance, which this user may not ask",
    };
    let running = running.unwrap_or_default();
    if running.is_empty() {
        check_socket(&settings.node, faults);
    }
    let media = &settings.media;
    for range in [&media.outside, &media.inside] {
        check_kernel(range, kernel, faults);
    }
    let faces = [&media.outside_address, &media.inside_address];
    let lacking: Vec<IpAddr> = faces.into_iter().filter_map(|face| check_address(face, faults)).collect();
    for (name, transport, address, place) in ports(settings) {
        if !lacking.contains(&address.ip()) && !running.contains(&format!("{name} {address}")) {
            check_port(transport, address, taker, place, faults);
        }
    }
    for (name, query) in settings.names() {
        let place = match name {
            ResolvedName::Pbx(index) => settings.pbx.get(index).map(|pbx| &pbx.place),
            ResolvedName::Allowed(index) => {
                let mut domains = settings.allowed_domains.iter();
                domains.find(|domain| domain.index == index).map(|domain| &domain.place)
            }
        };
        if let (Some(place), Err(error)) = (place, resolve_now(&query)) {
            let help = "look at the name and at this machine's resolver; it is asked again while running";
            let problem = Problem::new(FaultCode::Machine, error.to_string(), "no address", help);
            faults.warning(place, problem);
        }
    }
}

/// Every port that is to be opened at the start, with its name in `status`.
fn ports(settings: &Settings) -> Vec<(&'static str, Transport, SocketAddr, &Place)> {
    let sip = settings
        .listeners
        .iter()
        .map(|listener| (listener.transport.as_str(), listener.transport, listener.address, &listener.place));
    let mut ports: Vec<_> = sip.collect();
    let stun = &settings.stun_server;
    if let StunServer::On { port } = stun.value {
        let address = SocketAddr::new(settings.media.outside_address.value, port);
        ports.push(("stun", Transport::Udp, address, &stun.place));
    }
    ports
}

/// The address, where this machine lacks it.
fn check_address(face: &At<IpAddr>, faults: &mut Faults) -> Option<IpAddr> {
    let error = UdpSocket::bind(SocketAddr::new(face.value, 0)).err()?;
    if error.kind() != ErrorKind::AddrNotAvailable {
        return None;
    }
    let message = format!("this machine has no address {}: it could not start now", face.value);
    let help = address_help(face, &host::addresses());
    faults.warning(&face.place, Problem::new(FaultCode::Machine, message, "not here", help));
    Some(face.value)
}

/// What to write in place of an address that this machine lacks.
pub fn address_help(face: &At<IpAddr>, addresses: &[IpAddr]) -> String {
    let has = match addresses {
        [] => String::new(),
        _ => format!("this machine has {}; ", some_of(addresses)),
    };
    if face.place.key.starts_with("outside") {
        let wanted = face.value;
        return format!(
            "{has}name one of them as `address`; if a router (1:1 NAT) has {wanted} and hands its packets on to \
             this machine, write `public_address = \"{wanted}\"` beside it"
        );
    }
    format!("{has}name the one that the PBX reaches as `address`, or add this one to an interface")
}

fn some_of(addresses: &[IpAddr]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = addresses.iter().take(SHOWN).map(IpAddr::to_string).collect();
    let more = if addresses.len() > SHOWN {
        format!(" and {} more", addresses.len() - SHOWN)
    } else {
        String::new()
    };
    shown.join(", ") + &more
}

fn check_data_dir(node: &Node, faults: &mut Faults) {
    let At { value: directory, place } = &node.data_dir;
    let why = if directory.exists() {
        host::unwritable(directory).or_else(|| host::unusable(&directory.join(store::FILE_NAME)))
    } else {
        host::unwritable(directory)
    };
    let Some(why) = why else { return warn_if_open(directory, place, faults) };
    let what = if directory.exists() { "write" } else { "make" };
    let user = host::user();
    let message = format!(
        "the user {user} cannot {what} the data directory {}: {why}; `run` by this user would fail",
        directory.display()
    );
    faults
        .warning(place, Problem::new(FaultCode::Machine, message, "not writable", data_dir_help(directory)));
}

/// Where anybody may make files, anybody may take the name of ours first.
fn warn_if_open(directory: &Path, place: &Place, faults: &mut Faults) {
    if host::is_writable_by_all(directory) {
        let message =
            format!("every user of this machine may write in the data directory {}", directory.display());
        let help =
            "set `data_dir` in [node] to a directory of the service's own, such as \"/var/lib/portcullis\"";
        faults.warning(place, Problem::new(FaultCode::Machine, message, "open to all", help));
    }
}

fn check_socket(node: &Node, faults: &mut Faults) {
    let At { value: path, place } = &node.admin_socket;
    let is_other = |metadata: &std::fs::Metadata| !metadata.file_type().is_socket();
    let (why, help) = if std::fs::symlink_metadata(path).is_ok_and(|metadata| is_other(&metadata)) {
        ("something else has this name".to_owned(), NAME_TAKEN_HELP)
    } else {
        let Some(why) = host::unwritable(path.parent().unwrap_or(path)) else { return };
        (why, SOCKET_HELP)
    };
    let message = format!(
        "the user {} cannot make the admin socket {}: {why}; `run` by this user would fail",
        host::user(),
        path.display()
    );
    faults.warning(place, Problem::new(FaultCode::Machine, message, "not to be made", help));
}

/// What to do where something that is no socket has the admin socket's name.
pub const NAME_TAKEN_HELP: &str = "move it away, or set another `admin_socket` in [node]";

/// What to do where the admin socket cannot be made.
pub const SOCKET_HELP: &str = "run it as the service's user, give that user the directory, or set \
                               `admin_socket` in [node] to a path in a directory that it may write";

/// What to do where the data directory cannot be made or written.
pub fn data_dir_help(directory: &Path) -> String {
    let command = if directory.exists() { "chown -R USER" } else { "install -d -o USER -m 750" };
    format!(
        "run it as the service's user, give that user the directory (`{command} {}`), or set `data_dir` in [node] to \
         one that it may write",
        directory.display()
    )
}

fn check_kernel(range: &At<PortRange>, kernel: &KernelPorts, faults: &mut Faults) {
    let (Some((first, last)), shared) = (kernel.local, kernel.shared_with(range.value)) else { return };
    if shared > 0 {
        let message = format!(
            "{} overlaps the ports {first}-{last} that the kernel gives to other programs: {shared} ports",
            quoted_key(&range.place.key)
        );
        let help = format!("move it, or run `sysctl net.ipv4.ip_local_reserved_ports={}`", range.value);
        faults
            .warning(&range.place, Problem::new(FaultCode::Machine, message, "shared with the kernel", help));
    }
}

impl Settings {
    /// Where the file asks for a port that could not be opened, and what to write there.
    pub fn listener_help(&self, address: SocketAddr, kind: &str, why: ErrorKind) -> Option<(&Place, String)> {
        let asked = |port: &(&str, Transport, SocketAddr, &Place)| (port.0, port.2) == (kind, address);
        let (_, _, _, place) = ports(self).into_iter().find(asked)?;
        let media = &self.media;
        let face = [&media.outside_address, &media.inside_address]
            .into_iter()
            .find(|face| face.value == address.ip());
        Some(match (why, face) {
            (ErrorKind::AddrNotAvailable, Some(face)) => {
                (&face.place, address_help(face, &host::addresses()))
            }
            (ErrorKind::AddrInUse, _) => (place, taken_help(address.port())),
            (ErrorKind::PermissionDenied, _) => (place, PRIVILEGED_HELP.to_owned()),
            _ => (place, "look at the address and the port".to_owned()),
        })
    }
}

/// Tries the port and lets go of it.
fn check_port(transport: Transport, address: SocketAddr, taker: &str, place: &Place, faults: &mut Faults) {
    let tried = match transport {
        Transport::Udp => UdpSocket::bind(address).map(drop),
        Transport::Tcp | Transport::Tls => TcpListener::bind(address).map(drop),
    };
    let Err(error) = tried else { return };
    let (message, help) = match error.kind() {
        ErrorKind::AddrInUse => {
            (format!("{transport} {address} is taken by {taker}"), taken_help(address.port()))
        }
        ErrorKind::PermissionDenied => {
            let message = format!("{transport} {address} may not be opened by the user {}", host::user());
            (message, PRIVILEGED_HELP.to_owned())
        }
        _ => {
            let message = format!("{transport} {address} cannot be opened: {}", of_system(&error));
            (message, "look at the address and the port".to_owned())
        }
    };
    faults.warning(place, Problem::new(FaultCode::Machine, message, "not to be had now", help));
}

/// What to do where a port is taken.
pub fn taken_help(port: u16) -> String {
    format!("see who has it (`ss -lnp | grep :{port}`) and stop that program, or choose another port")
}

/// What to do where a port is not for everybody.
pub const PRIVILEGED_HELP: &str =
    "ports below 1024 need the capability CAP_NET_BIND_SERVICE: grant it, or choose a port above 1023";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_ports_are_read_as_the_kernel_writes_them() {
        let ports = KernelPorts::parse("32768\t60999\n", "8080,40000-40009\n");
        assert_eq!(ports.local, Some((32768, 60999)));
        assert_eq!(ports.reserved, [(8080, 8080), (40000, 40009)]);
        assert_eq!(KernelPorts::parse("", "\n"), KernelPorts::default());
    }

    #[test]
    fn only_ports_that_the_kernel_gives_away_are_shared() {
        let ports = KernelPorts::parse("32768 60999", "40000-40009");
        for (first, last, shared) in [
            (10_000, 19_999, 0),
            (32_000, 32_769, 2),
            (40_000, 40_009, 0),
            (40_000, 40_011, 2),
            (60_998, 65_535, 2),
        ] {
            assert_eq!(ports.shared_with(PortRange { first, last }), shared, "{first}-{last}");
        }
        assert_eq!(KernelPorts::default().shared_with(PortRange { first: 1024, last: 65_535 }), 0);
    }
}
