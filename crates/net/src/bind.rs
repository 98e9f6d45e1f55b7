//! The start: every listener is bound before anything runs, so that a failure leaves nothing behind.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use wire::net::{FlowId, Side, Transport};

use crate::accept::Door;
use crate::config::{Listener, ListenerKind, Listening, NetConfig, NetError};
use crate::dns::NameQuery;
use crate::event::NetEvent;
use crate::flow::FlowTable;
use crate::io_thread::Shared;
use crate::lanes::{Lane, Lanes};
use crate::registered_sources::RegisteredSources;
use crate::threads::NetTasks;
use crate::udp::{UdpDoor, UdpPort};
use crate::{Net, ORDERS_MAX};

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 1024;
/// What the kernel shall keep of datagrams that we have not read yet; it may give less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A listener's socket, bound.
#[derive(Debug)]
enum Bound {
    Stream(TcpListener, Door),
    Datagram(UdpSocket, UdpDoor),
}

/// See [`Net::bind`].
pub(crate) fn bind_all<T: Send + 'static>(
    config: NetConfig,
    lanes: Arc<Lanes<T>>,
) -> Result<(Net<T>, NetTasks<T>), NetError> {
    let NetConfig { listeners, identity, inside, names, lists } = config;
    let (mut streams, mut datagrams) = (Vec::new(), Vec::new());
    let mut ports = Vec::new();
    let mut listening = Vec::new();
    for (number, listener) in (1..).zip(&listeners) {
        if listener.kind == ListenerKind::Tls && identity.is_none() {
            return Err(NetError::NoIdentity { address: listener.address });
        }
        let up = bind(FlowId(number), *listener, &listeners).map_err(|source| NetError::Listen {
            address: listener.address,
            kind: listener.kind.as_str(),
            source,
        })?;
        listening.push(up.listening);
        match up.socket {
            Bound::Stream(listener, door) => streams.push((listener, door)),
            Bound::Datagram(socket, door) => datagrams.push((socket, door)),
        }
        ports.extend(up.port);
    }
    let shared = Arc::new(Shared {
        flows: FlowTable::new(),
        lists: ArcSwap::from_pointee(lists),
        counters: Arc::default(),
        identity,
        udp: ports,
        registered_sources: RegisteredSources::default(),
        next_flow: AtomicU64::new(listening.len() as u64 + 1),
    });
    announce(&lanes, &listening);
    let names = announce_addresses(&lanes, names);
    let (orders, taken) = mpsc::channel(ORDERS_MAX);
    let tasks = NetTasks {
        shared: Arc::clone(&shared),
        lanes: Arc::clone(&lanes),
        streams,
        datagrams,
        names,
        orders: taken,
        inside,
    };
    Ok((Net { shared, lanes, listening, orders }, tasks))
}

/// The core hears of the listeners before anything can come by them.
fn announce<T: Send + 'static>(lanes: &Lanes<T>, listening: &[Listening]) {
    for up in listening.iter().filter(|up| up.listener.kind != ListenerKind::Stun) {
        let Listening { flow, listener: Listener { side, kind, address } } = *up;
        let event = NetEvent::Listening { flow, side, transport: kind.transport(), local: address };
        lanes.push_over_limit(Lane::Registered, event);
    }
}

/// The core hears of names that are addresses before anything that it would have to send there; the names
/// that are left must be looked up, each under its number.
fn announce_addresses<T: Send + 'static>(lanes: &Lanes<T>, names: Vec<NameQuery>) -> Vec<(usize, NameQuery)> {
    let mut left = Vec::new();
    for (name, query) in names.into_iter().enumerate() {
        match query.literal() {
            Some(targets) => lanes.push_over_limit(Lane::Registered, NetEvent::Resolved { name, targets }),
            None => left.push((name, query)),
        }
    }
    left
}

struct Up {
    socket: Bound,
    port: Option<UdpPort>,
    listening: Listening,
}

fn bind(flow: FlowId, listener: Listener, all: &[Listener]) -> io::Result<Up> {
    let Listener { side, kind, address } = listener;
    let socket = bound_socket(listener, all)?;
    let bound_to = |local: SocketAddr| Listening { flow, listener: Listener { side, kind, address: local } };
    if kind.transport() != Transport::Udp {
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from(socket);
        let local = socket.local_addr()?;
        let door = Door { side, transport: kind.transport(), local };
        let socket = Bound::Stream(socket, door);
        return Ok(Up { socket, port: None, listening: bound_to(local) });
    }
    let socket = UdpSocket::from(socket);
    let local = socket.local_addr()?;
    let stun = matches!(kind, ListenerKind::Udp { stun: true } | ListenerKind::Stun);
    let sip = kind != ListenerKind::Stun;
    let port = sip
        .then(|| {
            Ok::<_, io::Error>(UdpPort {
                flow,
                side,
                socket: socket.try_clone()?,
                is_ipv6: address.is_ipv6(),
            })
        })
        .transpose()?;
    let door = UdpDoor { flow, side, local, stun: stun && side == Side::Outside, sip };
    let socket = Bound::Datagram(socket, door);
    Ok(Up { socket, port, listening: bound_to(local) })
}

fn bound_socket(listener: Listener, all: &[Listener]) -> io::Result<Socket> {
    let Listener { kind, address, .. } = listener;
    let stream = kind.transport() != Transport::Udp;
    let (form, protocol) = if stream { (Type::STREAM, Protocol::TCP) } else { (Type::DGRAM, Protocol::UDP) };
    let socket = Socket::new(Domain::for_address(address), form, Some(protocol))?;
    if address.is_ipv6() {
        // "::" is for both families, unless the other has a listener of its own here.
        let other = |other: &&Listener| {
            other.address.is_ipv4()
                && other.address.port() == address.port()
                && (other.kind.transport() == Transport::Udp) != stream
        };
        socket.set_only_v6(all.iter().any(|listener| other(&listener)))?;
    }
    if stream {
        // Connections of an earlier run may still be closing.
        socket.set_reuse_address(true)?;
    } else {
        // The kernel's own bound is as good as it gets.
        let _smaller_without = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
