//! Addresses of its own for each lab, so that tests run beside each other on the well-known ports.
//!
//! A lab holds one `127.a.b.0/24`. It is claimed by a socket on its first address for as long as the lab lives,
//! so that neither threads nor processes ever share one.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many networks there are to choose from: `127.16.0.0/24` and up.
const NETWORKS: u32 = 224 * 256;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The addresses of one lab.
#[derive(Debug)]
pub struct Addresses {
    network: [u8; 3],
    _claim: Option<UdpSocket>,
}

impl Addresses {
    /// Claims a network on loopback.
    pub fn claim() -> Self {
        for _ in 0..NETWORKS {
            let number = (std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed)) % NETWORKS;
            let [high, low] = [(number / 256) as u8 + 16, (number % 256) as u8];
            if let Ok(claim) = UdpSocket::bind((Ipv4Addr::new(127, high, low, 1), 5060)) {
                return Self { network: [127, high, low], _claim: Some(claim) };
            }
        }
        panic!("no network on loopback is free");
    }

    /// The face to the phones.
    pub fn outside(&self) -> IpAddr {
        self.host(2)
    }

    /// The face to the PBX.
    pub fn inside(&self) -> IpAddr {
        self.host(3)
    }

    /// The PBX.
    pub fn pbx(&self) -> IpAddr {
        self.host(4)
    }

    /// A second PBX.
    pub fn standby(&self) -> IpAddr {
        self.host(6)
    }

    /// A machine beside the PBX.
    pub fn inside_phone(&self) -> IpAddr {
        self.host(5)
    }

    /// A phone, or an attacker: as many as one likes up to 200.
    pub fn phone(&self, number: u8) -> IpAddr {
        assert!(number < 200, "there are 200 phones");
        self.host(10 + number)
    }

    fn host(&self, last: u8) -> IpAddr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, last).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_labs_share_no_address() {
        let (one, two) = (Addresses::claim(), Addresses::claim());
        assert_ne!(one.network, two.network);
        assert_ne!(one.outside(), one.inside());
    }
}
