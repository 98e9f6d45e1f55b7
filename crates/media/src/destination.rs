//! Where a face may send to at all, whatever SDP or a datagram's source says, and who is blocked. Never looks
//! at a relay's state; checked when an address is advertised and when it is learned, and again where the rules
//! or the block list change, so that no packet needs it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use wire::net::{PrefixSet, Side, is_link_local};

/// The rules of both faces.
#[derive(Clone, Debug)]
pub(crate) struct Destinations {
    faces: [IpAddr; 2],
    forbidden: [PrefixSet; 2],
    /// Hosts of the inside that were found out later: nothing from outside may reach them either.
    hosts_inside: PrefixSet,
    blocked: Arc<PrefixSet>,
}

impl Destinations {
    /// Our own outside address is forbidden on both faces, our inside address on the outside: a relay must
    /// not feed itself, and nothing from outside may reach the inside but through a relay. Our inside ports
    /// are a legal inside destination: that is a call between two of our phones.
    pub(crate) fn new(faces: [IpAddr; 2], forbidden: [PrefixSet; 2]) -> Self {
        Self { faces, forbidden, hosts_inside: PrefixSet::default(), blocked: Arc::default() }
    }

    /// Takes another set of hosts that the outside must not send to.
    pub(crate) fn set_hosts_inside(&mut self, hosts: PrefixSet) {
        self.hosts_inside = hosts;
    }

    /// Another block list is in force.
    pub(crate) fn block(&mut self, blocked: Arc<PrefixSet>) {
        self.blocked = blocked;
    }

    /// Our address on `side`.
    pub(crate) fn face(&self, side: Side) -> IpAddr {
        let [outside, inside] = self.faces;
        match side {
            Side::Outside => outside,
            Side::Inside => inside,
        }
    }

    /// Who is blocked on `side`. The list is about sources from outside; the inside is whom the configuration
    /// names.
    #[inline]
    pub(crate) fn blocked(&self, side: Side) -> Option<&PrefixSet> {
        (side == Side::Outside).then_some(&*self.blocked)
    }

    /// Whether `side` may send to `to`.
    pub(crate) fn may_send(&self, side: Side, to: SocketAddr) -> bool {
        let [outside_face, inside_face] = self.faces;
        let [outside_forbidden, inside_forbidden] = &self.forbidden;
        let ip = to.ip().to_canonical();
        let (face, forbidden) = match side {
            Side::Outside => (outside_face, outside_forbidden),
            Side::Inside => (inside_face, inside_forbidden),
        };
        let own = ip == outside_face || (side == Side::Outside && ip == inside_face);
        to.port() != 0
            && to.is_ipv4() == face.is_ipv4()
            && is_a_host(ip)
            && (!ip.is_loopback() || face.is_loopback())
            && (!is_link_local(ip) || is_link_local(face))
            && !own
            && !forbidden.contains(ip)
            && (side == Side::Inside || !self.hosts_inside.contains(ip))
    }
}

/// One host's unicast address.
fn is_a_host(ip: IpAddr) -> bool {
    match ip {
        // 0.0.0.0/8 is "this host on this network" (RFC 1122 §3.2.1.3), not only its first address
        IpAddr::V4(v4) => v4.octets().first() != Some(&0) && !v4.is_multicast() && v4 != Ipv4Addr::BROADCAST,
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use wire::net::Prefix;

    use super::*;

    fn rules(outside: &str, inside: &str) -> Destinations {
        let hidden: Prefix = "10.9.0.0/16".parse().expect("prefix");
        let public: Prefix = "198.51.100.7".parse().expect("prefix");
        let mut rules = Destinations::new(
            [outside.parse().expect("address"), inside.parse().expect("address")],
            [PrefixSet::from_prefixes([hidden, public]), PrefixSet::from_prefixes([public])],
        );
        let found: Prefix = "10.8.0.6".parse().expect("prefix");
        rules.set_hosts_inside(PrefixSet::from_prefixes([found]));
        rules
    }

    #[test]
    fn what_each_face_may_send_to() {
        let plain = || rules("203.0.113.10", "10.0.0.2");
        let lab = || rules("127.0.0.2", "127.0.0.3");
        let six = || rules("2001:db8::10", "fd00::2");
        for (rules, to, outside, inside) in [
            (plain(), "192.0.2.1:4000", true, true),
            (plain(), "192.0.2.1:0", false, false),
            (plain(), "0.0.0.0:4000", false, false),
            (plain(), "0.1.2.3:4000", false, false),
            (plain(), "224.0.0.1:4000", false, false),
            (plain(), "255.255.255.255:4000", false, false),
            (plain(), "127.0.0.1:4000", false, false),
            (plain(), "203.0.113.10:4000", false, false),
            (plain(), "10.0.0.2:4000", false, true),
            (plain(), "10.9.1.1:4000", false, true),
            (plain(), "198.51.100.7:4000", false, false),
            (plain(), "192.168.1.5:4000", true, true),
            (plain(), "169.254.1.5:4000", false, false),
            (plain(), "10.8.0.5:4000", true, true),
            (plain(), "10.8.0.6:4000", false, true),
            (plain(), "[2001:db8::1]:4000", false, false),
            (plain(), "[::ffff:192.0.2.1]:4000", false, false),
            (lab(), "127.0.0.5:4000", true, true),
            (lab(), "127.0.0.2:4000", false, false),
            (lab(), "127.0.0.3:4000", false, true),
            (six(), "[2001:db8::1]:4000", true, true),
            (six(), "[::]:4000", false, false),
            (six(), "[::1]:4000", false, false),
            (six(), "[ff02::1]:4000", false, false),
            (six(), "[fe80::1]:4000", false, false),
            (six(), "[fd00::2]:4000", false, true),
            (six(), "[::ffff:127.0.0.1]:4000", false, false),
        ] {
            let to: SocketAddr = to.parse().expect("socket address");
            assert_eq!(rules.may_send(Side::Outside, to), outside, "outside to {to}");
            assert_eq!(rules.may_send(Side::Inside, to), inside, "inside to {to}");
        }
    }
}
