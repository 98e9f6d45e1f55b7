//! The words in which the layers speak of networks: sides, transports, flows, proven devices.

pub mod prefix;

pub use prefix::{Prefix, PrefixSet};

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Whether an address means another host in every network: nobody can tell whose it is by its number alone.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        // RFC 1918; RFC 6598 (shared by a carrier's customers); RFC 2544 (benchmarks)
        IpAddr::V4(v4) => {
            v4.is_private()
                || matches!(v4.octets(), [100, second, ..] if second & 0xc0 == 64)
                || matches!(v4.octets(), [198, second, ..] if second & 0xfe == 18)
        }
        // RFC 4193, and the site-local addresses that it replaced
        IpAddr::V6(v6) => {
            v6.is_unique_local() || v6.segments().first().is_some_and(|it| it & 0xffc0 == 0xfec0)
        }
    }
}

/// Whether it is valid on one link alone (RFC 3927, RFC 4291 §2.5.6): on another it is another host, or ours.
pub fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The face of the border a thing belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Towards the phones and the Internet.
    Outside,
    /// Towards the PBX.
    Inside,
}

impl Side {
    /// The opposite face.
    pub fn other(self) -> Self {
        match self {
            Self::Outside => Self::Inside,
            Self::Inside => Self::Outside,
        }
    }

    /// 0 for the outside, 1 for the inside: the index of its leg in a pair.
    pub fn index(self) -> usize {
        match self {
            Self::Outside => 0,
            Self::Inside => 1,
        }
    }
}

/// How SIP travels on a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams; requests are retransmitted (RFC 3261 §17).
    Udp,
    /// A TCP connection.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl Transport {
    /// The transport as a Via header writes it (RFC 3261 §20.42).
    pub fn via_name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The transport as a `transport=` URI parameter and as operators see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// Whether the transport itself delivers: no retransmission by SIP.
    pub fn is_reliable(self) -> bool {
        self != Self::Udp
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One connection, or one UDP listener, on which we can send (RFC 5626 flow).
///
/// Flows that the shell accepts have the top bit clear; those that the border asks for have it set, so
/// both can be numbered without a shared counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

impl FlowId {
    /// The first number of a flow that the border opens.
    pub const OPENED_BY_BORDER: u64 = 1 << 63;
}

/// Transport and both ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FiveTuple {
    /// How bytes travel.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

/// Proof that a certificate chain was checked in the handshake: signature, dates and purpose.
///
/// Only [`ChainVerified::assertion`] makes one, and only the TLS verifier calls that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainVerified(());

impl ChainVerified {
    /// States that the chain was verified by the caller.
    pub fn assertion() -> Self {
        Self(())
    }
}

/// What a client certificate said, after its chain was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedDevice {
    /// Every value of the one field that the device CA names (`subject.CN` by default), as its bytes stand
    /// in the certificate. Deciding whether they make one hardware ID is `guard`'s work.
    pub field_values: Vec<Vec<u8>>,
    /// The subject, for people.
    pub subject: String,
    /// The issuer, for people.
    pub issuer: String,
    /// End of validity.
    pub not_after: crate::clock::WallTime,
    /// The proof.
    pub chain: ChainVerified,
}

/// Why a TLS handshake ended without a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFault {
    /// The chain ends at no device CA of ours, or a signature is wrong.
    CertUntrusted,
    /// A certificate of the chain is past its date.
    CertExpired,
    /// A certificate of the chain is before its date.
    CertNotYetValid,
    /// The certificate is not good for client authentication.
    CertPurpose,
    /// No certificate was shown and nobody may come without.
    CertMissing,
    /// The handshake broke off, or was no TLS at all.
    Broken,
    /// The handshake was not complete within its time.
    TimedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_private() {
        for (ip, private) in [
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.0.1", true),
            ("::ffff:192.168.0.1", true),
            ("100.64.0.1", true),
            ("100.127.255.255", true),
            ("100.128.0.1", false),
            ("198.18.0.1", true),
            ("198.19.0.1", true),
            ("198.20.0.1", false),
            ("127.0.0.1", false),
            ("203.0.113.1", false),
            ("fd00::1", true),
            ("fec0::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(ip.parse().expect("address")), private, "{ip}");
        }
    }
}
