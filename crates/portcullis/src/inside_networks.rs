//! The networks that stand behind the inside address, as this machine's interfaces tell them: where media of
//! a phone must never go, whatever it asks for.

use std::net::IpAddr;

use if_addrs::{IfAddr, get_if_addrs};
use wire::net::Prefix;

/// An address of this machine.
#[derive(Debug)]
struct OwnAddress {
    interface: String,
    address: IpAddr,
    /// Leading bits that name its network.
    length: u8,
}

/// The networks of the interface that has the inside address. `faces`: outside, inside.
pub fn inside_networks(faces: [IpAddr; 2]) -> Vec<Prefix> {
    let interfaces = get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the networks of the inside address are not known");
        Vec::new()
    });
    let own = interfaces.into_iter().map(|interface| OwnAddress {
        address: interface.ip(),
        length: match &interface.addr {
            IfAddr::V4(v4) => v4.prefixlen,
            IfAddr::V6(v6) => v6.prefixlen,
        },
        // Linux lets an address have a label: `eth0:1`.
        interface: interface.name.split(':').next().unwrap_or_default().to_owned(),
    });
    behind(faces, &own.collect::<Vec<_>>())
}

/// A network that holds the outside address too is left out: nobody can tell its hosts from the outside's.
fn behind([outside, inside]: [IpAddr; 2], own: &[OwnAddress]) -> Vec<Prefix> {
    let has = |interface: &str| own.iter().any(|it| it.interface == interface && it.address == inside);
    let behind = own.iter().filter(|it| has(&it.interface));
    let networks = behind.filter_map(|it| Prefix::new(it.address, it.length));
    networks.filter(|network| !network.contains(outside)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_networks_of_the_inside_interface_but_the_outsides() {
        let own = |interface: &str, address: &str, length| OwnAddress {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
            length,
        };
        let machine = [
            own("lo", "127.0.0.1", 8),
            own("lo", "::1", 128),
            own("eth0", "203.0.113.10", 24),
            own("eth0", "192.168.7.1", 24),
            own("eth1", "10.0.3.2", 16),
            own("eth1", "10.9.0.2", 24),
            own("eth1", "fd00:1::2", 64),
        ];
        let networks = |outside: &str, inside: &str| -> Vec<String> {
            let faces = [outside.parse().unwrap(), inside.parse().unwrap()];
            behind(faces, &machine).iter().map(Prefix::to_string).collect()
        };
        assert_eq!(networks("203.0.113.10", "10.0.3.2"), ["10.0.0.0/16", "10.9.0.0/24", "fd00:1::/64"]);
        // one interface for both, and one network for both
        assert_eq!(networks("203.0.113.10", "192.168.7.1"), ["192.168.7.0/24"]);
        assert_eq!(networks("10.9.0.7", "10.9.0.2"), ["10.0.0.0/16", "fd00:1::/64"]);
        // the lab: addresses of the loopback network that no interface names
        assert_eq!(networks("127.0.0.2", "127.0.0.3"), [""; 0]);
        assert_eq!(networks("127.0.0.2", "127.0.0.1"), ["::1"]);
    }

    #[test]
    fn this_machine_is_asked() {
        let faces = ["203.0.113.10", "127.0.0.1"].map(|ip| ip.parse().unwrap());
        assert!(inside_networks(faces).contains(&"127.0.0.0/8".parse().unwrap()));
    }
}
