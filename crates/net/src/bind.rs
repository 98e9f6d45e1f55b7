//! The start: every listener is bound before anything runs, so that a failure leaves nothing behind.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use wire::net::{FlowId, Side, Transport};

use crate::accept::{self, Door};
use crate::config::{Listener, ListenerKind, Listening, NetConfig, NetError};
use crate::counters::Counters;
use crate::dns::{self, NameQuery};
use crate::event::NetEvent;
use crate::flow::FlowTable;
use crate::io_thread::{IoThread, Shared};
use crate::lanes::{Lane, Lanes};
use crate::registered_sources::RegisteredSources;
use crate::udp::{self, UdpDoor, UdpPort};
use crate::{Net, ORDERS_MAX};

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 1024;
/// What the kernel shall keep of datagrams that we have not read yet; it may give less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A listener's socket, ready for the thread.
enum Bound {
    Stream(tokio::net::TcpListener, Door),
    Datagram(tokio::net::UdpSocket, UdpDoor),
}

/// See [`Net::start`].
pub(crate) fn start<T: Send + 'static>(config: NetConfig, lanes: Arc<Lanes<T>>) -> Result<Net<T>, NetError> {
    let NetConfig { listeners, identity, inside, names, lists } = config;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(NetError::Thread)?;
    let mut bound = Vec::new();
    let mut ports = Vec::new();
    let mut listening = Vec::new();
    for (number, listener) in (1..).zip(&listeners) {
        if listener.kind == ListenerKind::Tls && identity.is_none() {
            return Err(NetError::NoIdentity { address: listener.address });
        }
        let up = bind(&runtime, FlowId(number), *listener, &listeners).map_err(|source| {
            NetError::Listen { address: listener.address, kind: listener.kind.as_str(), source }
        })?;
        listening.push(up.listening);
        bound.push(up.socket);
        ports.extend(up.port);
    }
    let shared = Arc::new(Shared {
        flows: FlowTable::new(),
        lists: ArcSwap::from_pointee(lists),
        counters: Counters::default(),
        identity,
        udp: ports,
        registered_sources: RegisteredSources::default(),
        next_flow: AtomicU64::new(listening.len() as u64 + 1),
    });
    announce(&lanes, &listening);
    let (orders, taken) = mpsc::channel(ORDERS_MAX);
    let thread = {
        let (shared, lanes) = (Arc::clone(&shared), Arc::clone(&lanes));
        let run = move || {
            let io = Rc::new(IoThread::new(shared, lanes));
            run(&runtime, &io, bound, names, Rc::clone(&io).serve(taken, inside));
        };
        std::thread::Builder::new().name("net-io".into()).spawn(run).map_err(NetError::Thread)?
    };
    Ok(Net { shared, lanes, listening, orders: Some(orders), thread: Some(thread) })
}

/// Runs the thread until the core lets go.
fn run<T: Send + 'static>(
    runtime: &Runtime,
    io: &Rc<IoThread<T>>,
    bound: Vec<Bound>,
    names: Vec<NameQuery>,
    until: impl Future<Output = ()>,
) {
    LocalSet::new().block_on(runtime, async {
        for bound in bound {
            match bound {
                Bound::Stream(listener, door) => {
                    spawn_local(accept::listen(Rc::clone(io), listener, door));
                }
                Bound::Datagram(socket, door) => {
                    spawn_local(udp::listen(Rc::clone(io), socket, door));
                }
            }
        }
        for (name, query) in names.into_iter().enumerate() {
            spawn_local(dns::watch(Rc::clone(io), name, query));
        }
        until.await;
    });
}

/// The core hears of the listeners before anything can come by them.
fn announce<T: Send + 'static>(lanes: &Lanes<T>, listening: &[Listening]) {
    for up in listening.iter().filter(|up| up.listener.kind != ListenerKind::Stun) {
        let Listening { flow, listener: Listener { side, kind, address } } = *up;
        let event = NetEvent::Listening { flow, side, transport: kind.transport(), local: address };
        lanes.push_unbounded(Lane::Registered, event);
    }
}

struct Up {
    socket: Bound,
    port: Option<UdpPort>,
    listening: Listening,
}

fn bind(runtime: &Runtime, flow: FlowId, listener: Listener, all: &[Listener]) -> io::Result<Up> {
    let _context = runtime.enter();
    let Listener { side, kind, address } = listener;
    let socket = bound_socket(listener, all)?;
    let bound_to = |local: SocketAddr| Listening { flow, listener: Listener { side, kind, address: local } };
    if kind.transport() != Transport::Udp {
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from(socket);
        let local = socket.local_addr()?;
        let door = Door { side, transport: kind.transport(), local };
        let socket = Bound::Stream(tokio::net::TcpListener::from_std(socket)?, door);
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
    let socket = Bound::Datagram(tokio::net::UdpSocket::from_std(socket)?, door);
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
