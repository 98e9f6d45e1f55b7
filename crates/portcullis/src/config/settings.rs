//! What the product runs with: every value checked, every name found, every secret and certificate read.
//!
//! Plain data; only `validate` makes it, and only from a file without a fault.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use border::ResolvedName;
use net::{NameQuery, ServerIdentity};
use wire::net::{Side, Transport};

use super::document::At;
use super::fault::Place;
use super::file::LogFormat;
use super::value::{PbxUri, PortRange, StunServer};

/// All settings of one start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The process itself.
    pub node: Node,
    /// Every SIP listener, outside first.
    pub listeners: Vec<Listener>,
    /// Certificate, key and device CAs of the outside face, ready for handshakes.
    pub tls: Arc<ServerIdentity>,
    /// Which ports answer STUN, on the outside address.
    pub stun_server: At<StunServer>,
    /// Ports of the relays.
    pub media: Media,
    /// Where each PBX is reached, in the order of `border.pbx`.
    pub pbx: Vec<At<PbxUri>>,
    /// Allowed domains, whose addresses are looked up.
    pub allowed_domains: Vec<AllowedDomain>,
    /// What the border must know.
    pub border: border::config::Config,
}

impl Settings {
    /// Every name that has to be looked up, with what it stands for. A PBX that is given by its address is
    /// among them: it is found at once.
    pub fn names(&self) -> Vec<(ResolvedName, NameQuery)> {
        let pbx = self.pbx.iter().enumerate().map(|(index, uri)| {
            let PbxUri { host, port, transport } = &uri.value;
            let host = host.to_string();
            (ResolvedName::Pbx(index), NameQuery::Sip { host, port: *port, transport: *transport })
        });
        let allowed = self.allowed_domains.iter().map(|domain| {
            (ResolvedName::Allowed(domain.index), NameQuery::Address { host: domain.name.clone() })
        });
        pbx.chain(allowed).collect()
    }
}

/// The process itself.
#[derive(Clone, Debug)]
pub struct Node {
    /// For `status` and logs.
    pub name: String,
    /// Where the store is.
    pub data_dir: At<PathBuf>,
    /// Where the command line asks.
    pub admin_socket: At<PathBuf>,
    /// What is logged: a level, or levels by module.
    pub log: String,
    /// In which form.
    pub log_format: LogFormat,
}

/// A port that is to be opened for SIP.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its face.
    pub side: Side,
    /// Its transport.
    pub transport: Transport,
    /// Port 0: the operating system chooses.
    pub address: SocketAddr,
    /// Where the file says so.
    pub place: Place,
}

/// Ports of the relays.
#[derive(Clone, Debug)]
pub struct Media {
    /// To the phones.
    pub outside: At<PortRange>,
    /// To the PBX.
    pub inside: At<PortRange>,
    /// The address that relays bind towards the phones.
    pub outside_address: At<IpAddr>,
    /// The address that relays bind towards the PBX.
    pub inside_address: At<IpAddr>,
}

/// An `[[allowed]]` entry that names a domain.
#[derive(Clone, Debug)]
pub struct AllowedDomain {
    /// Its index in `border.allowed`.
    pub index: usize,
    /// The domain.
    pub name: String,
    /// Where the file says so.
    pub place: Place,
}
