//! The network's two threads: the core's, with all that is open, and the doors', where strangers come in.
//!
//! A connection is accepted and its TLS handshake done at the doors, so that the cryptography of a crowd
//! keeps nobody waiting who is in; then it moves to the core's thread, where a message costs no thread a
//! wake-up.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalRuntime, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use crate::accept::{self, Door, Entered, Gate};
use crate::config::NetError;
use crate::dns::{self, NameQuery};
use crate::io_thread::{IoThread, OpenFlow, Shared};
use crate::lanes::Lanes;
use crate::udp::{self, UdpDoor};

/// Connections on their way from the doors to the core's thread; while there are more, handshakes wait.
const ENTERED_MAX: usize = 64;

/// Every listener, bound, with what its tasks need: goes to the thread of the core.
#[derive(Debug)]
pub struct NetTasks<T> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lanes: Arc<Lanes<T>>,
    pub(crate) streams: Vec<(TcpListener, Door)>,
    pub(crate) datagrams: Vec<(UdpSocket, UdpDoor)>,
    pub(crate) names: Vec<(usize, NameQuery)>,
    pub(crate) orders: mpsc::Receiver<OpenFlow>,
    pub(crate) inside: Option<IpAddr>,
}

/// The network's tasks on the core's thread, and the doors on theirs.
#[derive(Debug)]
pub struct NetRuntime {
    runtime: LocalRuntime,
    doors: Doors,
}

impl<T: Send + 'static> NetTasks<T> {
    /// Starts the doors, and puts all other tasks on this thread, where they run as soon as the core does.
    pub fn start(self) -> Result<NetRuntime, NetError> {
        let Self { shared, lanes, streams, datagrams, names, orders, inside } = self;
        let runtime = Builder::new_current_thread().enable_all().build_local(Default::default());
        let runtime = runtime.map_err(NetError::Thread)?;
        let io = Rc::new(IoThread::new(Arc::clone(&shared), Arc::clone(&lanes)));
        for (socket, door) in datagrams {
            let socket = {
                let _context = runtime.enter();
                udp::watch(socket).map_err(NetError::Thread)?
            };
            runtime.spawn_local(udp::listen(Rc::clone(&io), socket, door));
        }
        let (entrance, entered) = mpsc::channel(ENTERED_MAX);
        runtime.spawn_local(Rc::clone(&io).keep_house());
        runtime.spawn_local(Rc::clone(&io).serve(orders, inside));
        runtime.spawn_local(accept::seat(io, entered));
        let doors = Doors::open(streams, names, (shared, lanes), entrance).map_err(NetError::Thread)?;
        Ok(NetRuntime { runtime, doors })
    }
}

impl NetRuntime {
    /// Runs the core as one task among the network's, until it ends; every connection ends with it. None
    /// where it panicked.
    pub fn run<R: 'static>(self, core: impl Future<Output = R> + 'static) -> Option<R> {
        let Self { runtime, doors } = self;
        // As a task it is woken by others of the thread without asking the operating system.
        let core = runtime.spawn_local(core);
        let ended = runtime.block_on(core).ok();
        drop(doors);
        ended
    }
}

/// The thread of the doors; it ends with this value.
#[derive(Debug)]
struct Doors {
    open: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Doors {
    fn open<T: Send + 'static>(
        streams: Vec<(TcpListener, Door)>,
        names: Vec<(usize, NameQuery)>,
        (shared, lanes): (Arc<Shared>, Arc<Lanes<T>>),
        entrance: mpsc::Sender<Entered<T>>,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listeners = {
            let _context = runtime.enter();
            let listeners = streams.into_iter().map(|(listener, door)| {
                tokio::net::TcpListener::from_std(listener).map(|listener| (listener, door))
            });
            listeners.collect::<io::Result<Vec<_>>>()?
        };
        let (open, closed) = oneshot::channel();
        let run = move || {
            let io = Rc::new(IoThread::new(shared, lanes));
            let gate = Rc::new(Gate { io, crowd: Arc::default(), entrance });
            run_doors(&runtime, &gate, listeners, names, closed);
        };
        let thread = std::thread::Builder::new().name("doors".to_owned()).spawn(run)?;
        Ok(Self { open: Some(open), thread: Some(thread) })
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the doors panicked");
        }
    }
}

fn run_doors<T: Send + 'static>(
    runtime: &Runtime,
    gate: &Rc<Gate<T>>,
    listeners: Vec<(tokio::net::TcpListener, Door)>,
    names: Vec<(usize, NameQuery)>,
    closed: oneshot::Receiver<()>,
) {
    LocalSet::new().block_on(runtime, async {
        for (listener, door) in listeners {
            spawn_local(accept::listen(Rc::clone(gate), listener, door));
        }
        for (name, query) in names {
            spawn_local(dns::watch(Rc::clone(&gate.io), name, query));
        }
        spawn_local(Rc::clone(&gate.io).keep_house());
        let _ended_by_the_drop = closed.await;
    });
}
