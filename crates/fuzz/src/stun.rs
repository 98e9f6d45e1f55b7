//! STUN: the reply is sound, never much longer than its request, and our own client reads from it where the
//! request came from.

use std::net::{IpAddr, SocketAddr};

use wire::stun::{binding_reply, is_stun, mapped_address};

/// The first byte says from where the request comes; the rest is the datagram.
pub(crate) fn run(bytes: &[u8]) {
    let Some((first, datagram)) = bytes.split_first() else { return };
    let ip = if first & 1 == 0 {
        IpAddr::from([203, 0, 113, *first])
    } else {
        IpAddr::from([u16::from(*first); 8])
    };
    let from = SocketAddr::new(ip, u16::from(*first) * 257);
    let id: [u8; 12] = datagram.get(8..20).and_then(|id| id.try_into().ok()).unwrap_or_default();
    mapped_address(datagram, &id);
    let mut out = [0; 64];
    let Some(length) = binding_reply(datagram, from, &mut out) else { return };
    let reply = out.get(..length).expect("within its buffer");
    assert!(is_stun(datagram) && is_stun(reply));
    assert_eq!(reply.get(8..20), datagram.get(8..20), "the transaction is the request's");
    assert!(length <= datagram.len() + 44, "no amplification worth a flood");
    let is_success = reply.first() == Some(&1) && reply.get(1) == Some(&1);
    let expected = SocketAddr::new(from.ip().to_canonical(), from.port());
    assert_eq!(mapped_address(reply, &id), is_success.then_some(expected));
}
