//! Binds a relay's ports: RTP on an even port, RTCP on the one above, on one exact address.
//! Sockets are not connected: a connected one would hide a peer that moves (RFC 4961) and return errors for
//! forged ICMP messages.

use std::io;
use std::net::{IpAddr, SocketAddr};

use media::BindFault;
use mio::net::UdpSocket;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Socket, Type};

/// A second of video fits; silence costs nothing, because the kernel takes memory only for what waits.
const BUFFER: usize = 256 * 1024;

/// Binds both ports, or none.
pub(super) fn bind_pair(face: IpAddr, port: u16) -> Result<[UdpSocket; 2], BindFault> {
    let above = port.checked_add(1).ok_or(BindFault::System)?;
    let rtp = bind(SocketAddr::new(face, port)).map_err(|fault| bind_fault(&fault))?;
    let rtcp = bind(SocketAddr::new(face, above)).map_err(|fault| bind_fault(&fault))?;
    Ok([rtp, rtcp])
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    // forged "fragmentation needed" messages must not shrink media
    if address.is_ipv4() {
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::OMIT)?;
    } else {
        socket.set_only_v6(true)?;
        sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::OMIT)?;
    }
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn bind_fault(fault: &io::Error) -> BindFault {
    match fault.kind() {
        io::ErrorKind::AddrInUse => BindFault::Taken,
        _ => BindFault::System,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    use super::*;

    const FACE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 100, 2));

    /// An even port that was free a moment ago, and so was the one above.
    fn free_pair() -> u16 {
        loop {
            let probe = UdpSocket::bind((FACE, 0)).expect("any port");
            let port = probe.local_addr().expect("address").port() & !1;
            drop(probe);
            if port < u16::MAX - 1 && bind_pair(FACE, port).is_ok() {
                return port;
            }
        }
    }

    #[test]
    fn a_pair_is_bound_exactly_with_its_options_or_not_at_all() {
        let port = free_pair();
        let pair = bind_pair(FACE, port).expect("free");
        for (socket, port) in pair.iter().zip([port, port + 1]) {
            assert_eq!(socket.local_addr().expect("address"), SocketAddr::new(FACE, port));
            assert_eq!(sockopt::ip_mtu_discover(socket).expect("option"), Ipv4PathMtuDiscovery::OMIT);
        }
        assert_eq!(bind_pair(FACE, port).err(), Some(BindFault::Taken));
        drop(pair);
        let above = UdpSocket::bind((FACE, port + 1)).expect("free again");
        assert_eq!(bind_pair(FACE, port).err(), Some(BindFault::Taken));
        UdpSocket::bind((FACE, port)).expect("half a pair is not kept");
        drop(above);
    }

    #[test]
    fn what_no_other_port_would_mend_is_the_systems_fault() {
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(bind_pair(elsewhere, 40_000).err(), Some(BindFault::System));
        assert_eq!(bind_pair(FACE, u16::MAX).err(), Some(BindFault::System));
    }

    #[test]
    fn ipv6_is_bound_wherever_the_machine_has_it() {
        let face = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let has_it = UdpSocket::bind((face, 0)).is_ok();
        let bound = (40_000..40_100).step_by(2).any(|port| bind_pair(face, port).is_ok());
        assert_eq!(bound, has_it);
    }
}
