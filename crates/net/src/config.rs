//! What `net` is told at its start, and why it may fail to start.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wire::net::{FlowId, Side, Transport};
use wire::words::of_system;

use crate::dns::NameQuery;
use crate::lists::Lists;
use crate::tls::ServerIdentity;

/// All that `net` must know.
#[derive(Debug, Default)]
pub struct NetConfig {
    /// What to listen on; port 0 lets the OS choose.
    pub listeners: Vec<Listener>,
    /// Needed where a listener speaks TLS.
    pub identity: Option<Arc<ServerIdentity>>,
    /// The address that connections to the PBX come from.
    pub inside: Option<IpAddr>,
    /// Names to look up, now and whenever their records expire.
    pub names: Vec<NameQuery>,
    /// The lists to begin with.
    pub lists: Lists,
}

/// One listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its face.
    pub side: Side,
    /// What it speaks.
    pub kind: ListenerKind,
    /// Where.
    pub address: SocketAddr,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// SIP over TLS.
    Tls,
    /// SIP over TCP.
    Tcp,
    /// SIP over UDP, and STUN beside it where wanted.
    Udp {
        /// Whether STUN Binding requests are answered.
        stun: bool,
    },
    /// STUN alone, over UDP.
    Stun,
}

impl ListenerKind {
    /// The transport under it.
    pub fn transport(self) -> Transport {
        match self {
            Self::Tls => Transport::Tls,
            Self::Tcp => Transport::Tcp,
            Self::Udp { .. } | Self::Stun => Transport::Udp,
        }
    }

    /// The kind as operators see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stun => "stun",
            _ => self.transport().as_str(),
        }
    }
}

/// A listener that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// For UDP the flow that its datagrams come and go by.
    pub flow: FlowId,
    /// As it was asked for, but with the port that the OS chose.
    pub listener: Listener,
}

/// Why `net` cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A listener cannot be bound.
    #[error("cannot listen on {address} ({kind}): {}", of_system(source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What it speaks.
        kind: &'static str,
        /// What the OS says.
        source: io::Error,
    },
    /// A TLS listener without a server identity.
    #[error("cannot listen on {address} (tls): there is no server certificate")]
    NoIdentity {
        /// Where.
        address: SocketAddr,
    },
    /// The thread or its event loop cannot be made.
    #[error("cannot start the network's threads: {}", of_system(.0))]
    Thread(io::Error),
}
