//! Tests on real sockets on loopback, with certificates minted for each test.

mod chain;
mod handshake;
mod limits;
mod names;
mod pki;
mod streams;
mod udp;

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio::sync::oneshot;
use wire::net::{FlowId, Prefix, PrefixSet, Side};

use crate::*;

/// Longest wait for anything that must come.
const LONG: Duration = Duration::from_secs(20);

/// A running network, on a thread of its own, with the core's end of its lanes here.
struct Rig {
    net: Net<u32>,
    receiver: Receiver<u32>,
    waiting: tokio::runtime::Runtime,
    /// Ends the thread when it is dropped.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.running.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking());
    }
}

impl Rig {
    fn start(config: NetConfig) -> Self {
        Self::with_limits(config, LaneLimits::default())
    }

    fn with_limits(config: NetConfig, limits: LaneLimits) -> Self {
        let (lanes, receiver) = lanes(limits);
        let (net, tasks) = Net::bind(config, lanes).unwrap();
        let (running, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let _dropped = tasks.start().unwrap().run(ended);
        });
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { net, receiver, waiting, running: Some(running), thread: Some(thread) }
    }

    /// The address of the listener with this index.
    fn address(&self, index: usize) -> SocketAddr {
        self.net.listening()[index].listener.address
    }

    fn next(&mut self) -> NetEvent<u32> {
        self.recv(LONG).expect("an event in time")
    }

    fn recv(&mut self, limit: Duration) -> Option<NetEvent<u32>> {
        let receiver = &mut self.receiver;
        let event = poll_fn(|cx| receiver.poll_recv(cx));
        self.waiting.block_on(async { tokio::time::timeout(limit, event).await.ok() })
    }

    /// The first event that `pick` wants; others are passed over.
    fn wait<R>(&mut self, mut pick: impl FnMut(NetEvent<u32>) -> Option<R>) -> R {
        for _ in 0..100_000 {
            if let Some(found) = pick(self.next()) {
                return found;
            }
        }
        panic!("the event never came");
    }

    fn opened(&mut self) -> FlowId {
        self.wait(|event| match event {
            NetEvent::FlowOpened { flow, .. } => Some(flow),
            _ => None,
        })
    }

    fn closed(&mut self, wanted: FlowId) {
        self.wait(|event| matches!(event, NetEvent::FlowClosed { flow } if flow == wanted).then_some(()));
    }

    fn bytes(&mut self) -> Bytes {
        self.wait(|event| match event {
            NetEvent::Bytes { bytes, .. } => Some(bytes),
            _ => None,
        })
    }

    /// Waits until a counter has reached a value.
    fn counted(&mut self, count: Count, many: u64) {
        for _ in 0..20_000 {
            if self.net.counters().read(count) >= many {
                return;
            }
            // Nothing may come: the wait itself is the pause.
            let _event = self.recv(Duration::from_millis(1));
        }
        panic!("{count:?} stayed at {}", self.net.counters().read(count));
    }
}

fn listener(kind: ListenerKind, side: Side) -> Listener {
    Listener { side, kind, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
}

fn outside(kinds: &[ListenerKind]) -> NetConfig {
    NetConfig {
        listeners: kinds.iter().map(|kind| listener(*kind, Side::Outside)).collect(),
        ..NetConfig::default()
    }
}

/// Lists with these sources blocked and those allowed.
fn lists(blocked: &[IpAddr], allowed: &[IpAddr], spared: &[FlowId]) -> Lists {
    let set = |sources: &[IpAddr]| {
        Arc::new(PrefixSet::from_prefixes(sources.iter().map(|source| Prefix::single(*source))))
    };
    Lists::new(set(blocked), set(allowed), spared)
}

/// A source of its own on loopback.
fn source(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 3, last])
}

/// Connects from a certain source.
fn connect_from(source: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

fn tls_client(config: &Arc<ClientConfig>, stream: TcpStream) -> TlsClient {
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

/// What the other end does with a connection on which we only read: its bytes until it closes.
fn read_to_close(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof),
            "{error}"
        ),
    }
    all
}

/// Writes, whether or not the other end still listens.
fn write_or_not(stream: &mut impl Write, bytes: &[u8]) {
    let _refused_or_not = stream.write_all(bytes);
}
