//! The lab: Portcullis between a PBX and phones, as in `configs/lab.toml`, on addresses of its own.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::address::Addresses;
use crate::baresip::{Baresip, Plan};
use crate::kamailio::{DOMAIN, Kamailio, Manner};
use crate::netns::Namespace;
use crate::pki::{Identity, Pki};
use crate::portcullis::{Portcullis, Surroundings};
use crate::raw_message::Draft;
use crate::raw_phone::RawPhone;
use crate::scratch::Scratch;

/// The hardware ID of 1001's phone.
pub const DEVICE_1001: &str = "009033010203";
/// The hardware ID of 1002's phone; the configuration names it in its old form.
pub const DEVICE_1002: &str = "009033010204";

/// What is special about a lab.
#[derive(Clone, Debug, Default)]
pub struct Variation<'a> {
    /// How its PBX behaves.
    pub pbx: Manner,
    /// The domain of a second PBX, which stands by; there is none without.
    pub standby: Option<&'a str>,
    /// Replacements in the configuration; each must be found.
    pub replace: &'a [(&'a str, &'a str)],
    /// Sections at its end.
    pub add: &'a str,
    /// It has a network of its own, whose packets can get lost. Needs root.
    pub isolated: bool,
}

/// The lab.
#[derive(Debug)]
pub struct Lab {
    /// The border.
    pub portcullis: Portcullis,
    /// The PBX.
    pub pbx: Kamailio,
    /// The second PBX, where there is one.
    standby: Option<Kamailio>,
    /// Its certificates.
    pub pki: Pki,
    /// Its addresses.
    pub addresses: Addresses,
    network: Option<Namespace>,
    configuration: PathBuf,
    scratch: Scratch,
}

impl Lab {
    /// Builds and starts one.
    pub fn start() -> Self {
        Self::with(&Variation::default())
    }

    /// Builds and starts a special one.
    pub fn with(variation: &Variation<'_>) -> Self {
        let (scratch, addresses) = (Scratch::new(), Addresses::claim());
        let network = variation.isolated.then(|| Namespace::new("network", scratch.path()));
        let namespace = network.as_ref();
        let pbx = Kamailio::start(addresses.pbx(), &scratch.subdirectory("pbx"), &variation.pbx, namespace);
        let standby = variation.standby.map(|_| {
            let directory = scratch.subdirectory("standby");
            Kamailio::start(addresses.standby(), &directory, &Manner::default(), namespace)
        });
        let pki = Pki::new(&scratch.subdirectory("pki"), addresses.outside(), "sbc.lab");
        let places =
            Places { outside: addresses.outside(), inside: addresses.inside(), pbx: addresses.pbx() };
        let configuration = scratch.path().join("portcullis.toml");
        let second = variation.standby.map_or_else(String::new, |domain| {
            let section = STANDBY.replace("@STANDBY@", &addresses.standby().to_string());
            section.replace("@DOMAIN@", domain)
        });
        fs::write(&configuration, places.configuration(variation) + &second)
            .expect("a configuration can be written");
        let portcullis = Portcullis::start(&configuration, namespace);
        Self { portcullis, pbx, standby, pki, addresses, network, configuration, scratch }
    }

    /// The second PBX.
    #[track_caller]
    pub fn standby(&mut self) -> &mut Kamailio {
        self.standby.as_mut().expect("a lab with a second PBX")
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Its configuration file.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// The border's TLS listener.
    pub fn tls(&self) -> SocketAddr {
        SocketAddr::new(self.addresses.outside(), 5061)
    }

    /// The border's UDP and TCP listeners outside.
    pub fn plain(&self) -> SocketAddr {
        SocketAddr::new(self.addresses.outside(), 5060)
    }

    /// Starts the border again, after it was killed or has ended.
    pub fn restart(&mut self) {
        self.portcullis = Portcullis::start(&self.configuration, self.network());
    }

    /// Its network, where it has one of its own.
    pub fn network(&self) -> Option<&Namespace> {
        self.network.as_ref()
    }

    /// Does something in its network, such as making a socket.
    pub fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        match &self.network {
            Some(network) => network.enter(action),
            None => action(),
        }
    }

    /// Starts the border again where something is special.
    pub fn restart_in(&mut self, surroundings: &Surroundings<'_>) {
        self.portcullis.kill();
        let namespace = surroundings.namespace.or(self.network.as_ref());
        let surroundings = Surroundings { namespace, ..*surroundings };
        self.portcullis = Portcullis::start_in(&self.configuration, &surroundings);
    }

    /// The data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.scratch.subdirectory("lab-data")
    }

    /// How many ports for media the border holds.
    pub fn media_ports(&self) -> usize {
        let table = fs::read_to_string(format!("/proc/{}/net/udp", self.portcullis.pid()));
        let own = [self.addresses.outside(), self.addresses.inside()];
        let held = |socket: &SocketAddr| own.contains(&socket.ip()) && MEDIA_PORTS.contains(&socket.port());
        let sockets = table.expect("it runs");
        sockets.lines().filter_map(local_address).filter(held).count()
    }

    /// A raw phone over TLS at the address of this number.
    #[track_caller]
    pub fn tls_phone(&self, number: u8, identity: &Identity) -> RawPhone {
        let (own, border) = (self.addresses.phone(number), self.tls());
        self.within(|| RawPhone::tls(own, border, &self.pki, Some(identity)).expect("a TLS connection"))
    }

    /// A raw phone over UDP at the address of this number.
    pub fn udp_phone(&self, number: u8) -> RawPhone {
        let (own, border) = (self.addresses.phone(number), self.plain());
        self.within(|| RawPhone::udp(own, border))
    }

    /// A raw phone over TLS that is registered as 1001.
    #[track_caller]
    pub fn registered_phone(&self, number: u8) -> RawPhone {
        let mut phone = self.tls_phone(number, &self.pki.device(DEVICE_1001));
        let answer = phone.register("1001", DOMAIN);
        assert_eq!(answer.status(), 200, "{answer:?}");
        phone
    }

    /// A softphone over TLS, registered.
    #[track_caller]
    pub fn softphone(&self, extension: &str, device: &str, number: u8, hertz: u32) -> Baresip {
        let identity = self.pki.device(device);
        let plan = Plan {
            extension,
            domain: DOMAIN,
            password: "",
            address: self.addresses.phone(number),
            server: self.tls(),
            transport: "tls",
            identity: Some(&identity),
            ca_file: Some(&self.pki.ca_file()),
            hertz,
            namespace: self.network(),
        };
        let phone = Baresip::start(&plan, self.directory());
        phone.wait_registered();
        phone
    }

    /// A phone within the company, registered at the PBX itself.
    #[track_caller]
    pub fn desk_phone(&self, extension: &str) -> RawPhone {
        let (own, pbx) = (self.addresses.inside_phone(), self.pbx.address());
        let mut phone = self.within(|| RawPhone::udp(own, pbx));
        register_at_pbx(&mut phone, extension, None);
        phone
    }
}

/// The media ports of both faces in the configuration.
const MEDIA_PORTS: std::ops::RangeInclusive<u16> = 20_000..=23_999;

/// The local address in a line of the kernel's table of sockets (IPv4): `  12: 0200107F:4E20 00000000:0000 …`.
fn local_address(line: &str) -> Option<SocketAddr> {
    let (ip, port) = line.split_whitespace().nth(1)?.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    Some(SocketAddr::from((ip, u16::from_str_radix(port, 16).ok()?)))
}

/// Registers an extension at the PBX directly, with this contact or the phone's own.
#[track_caller]
pub fn register_at_pbx(phone: &mut RawPhone, extension: &str, contact: Option<&str>) {
    let contact = contact.map_or_else(|| phone.contact(extension), str::to_owned);
    let mut register = Draft::register(extension, DOMAIN, &contact, 600);
    let challenge = phone.ask(&register);
    let answer =
        phone.ask(register.follow_up().authorize(&challenge, extension, &format!("secret{extension}")));
    assert_eq!(answer.status(), 200, "{answer:?}");
}

/// The three addresses of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// The face to the phones.
    pub outside: IpAddr,
    /// The face to the PBX.
    pub inside: IpAddr,
    /// The PBX.
    pub pbx: IpAddr,
}

impl Places {
    /// The configuration of a lab there.
    #[track_caller]
    pub fn configuration(&self, variation: &Variation<'_>) -> String {
        let Self { outside, inside, pbx } = self;
        let mut text = TEMPLATE.to_owned();
        for (old, new) in variation.replace {
            assert!(text.contains(old), "the configuration of the lab has no {old:?}");
            text = text.replace(old, new);
        }
        let filled = text.replace("@OUTSIDE@", &outside.to_string()).replace("@INSIDE@", &inside.to_string());
        filled.replace("@PBX@", &pbx.to_string()) + variation.add
    }
}

const STANDBY: &str = r#"
[[pbx]]
name = "standby"
uri = "sip:@STANDBY@:5060;transport=udp"
domain = "@DOMAIN@"
realm = "pbx.lab"
health_check = "1s"
priority = 2
"#;

const TEMPLATE: &str = r#"[node]
name = "lab"
data_dir = "lab-data"
admin_socket = "lab-data/admin.sock"

[outside]
address = "@OUTSIDE@"
tls = 5061
udp = 5060
tcp = 5060
certificate = "pki/server.pem"
private_key = "pki/server.key"
device_ca = ["pki/device-ca.pem"]

[inside]
address = "@INSIDE@"
udp = 5060
tcp = 5060

[[pbx]]
name = "main"
uri = "sip:@PBX@:5060;transport=udp"
domain = "pbx.lab"
health_check = "2s"

[registration]
grace = "2s"

[media]
outside_ports = "20000-21999"
inside_ports = "22000-23999"
stun_server = true

[[extension]]
name = "1001"
hardware_ids = ["009033010203"]
password = "secret1001"
frequency = "default"

[[extension]]
name = "1002"
hardware_ids = ["IP110-01-02-04"]
password = "secret1002"
frequency = "default"

[[extension]]
name = "1003"
authentication = "digest"

[[frequency]]
name = "default"
rules = ["5/1s", "60/1h"]

[block]
time = "10m"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_of_sockets_is_read() {
        let line =
            "  339: 0200107F:4E20 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1234 2 0 0";
        assert_eq!(local_address(line), Some(SocketAddr::from(([127, 16, 0, 2], 20_000))));
        assert_eq!(local_address("  sl  local_address rem_address   st"), None);
    }
}
