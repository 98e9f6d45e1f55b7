//! A new connection, judged cheapest first: block list, rate, numbers, TLS.
//!
//! A refused connection costs its source a connection and us a table look-up: it is reset before any task
//! exists for it. What passes has one task here until its handshake is done, and then one on the core's
//! thread to its end.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use wire::net::{FiveTuple, HandshakeFault, Side, Transport, VerifiedDevice};

use crate::counters::Count;
use crate::crowd::{Arrival, Crowd, Slot};
use crate::event::NetEvent;
use crate::flow::Flow;
use crate::io_thread::{IoThread, canonical, reset};
use crate::lanes::Lane;
use crate::one_alert::Socket;
use crate::stream::{self, Connection, Stream};
use crate::tls::{self, Failed};
use crate::verifier::Refusal;

/// Time from the accepted connection to the end of its TLS handshake (contract section 6).
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Pause after a failure of `accept` that will not go away at once, such as no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// `ENFILE` and `EMFILE` of Linux: the machine, or the process, has no file descriptor left.
const NO_DESCRIPTOR: [i32; 2] = [23, 24];

/// Which listener a connection came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    pub(crate) side: Side,
    pub(crate) transport: Transport,
    pub(crate) local: SocketAddr,
}

/// A connection that was let in, on its way to the core's thread.
#[derive(Debug)]
pub(crate) struct Entered<T> {
    connection: Connection,
    flow: Arc<Flow>,
    slot: Slot,
    side: Side,
    opened: NetEvent<T>,
}

/// Gives each connection that was let in its task on this thread.
pub(crate) async fn seat<T: Send + 'static>(io: Rc<IoThread<T>>, mut entered: mpsc::Receiver<Entered<T>>) {
    while let Some(Entered { mut connection, flow, slot, side, opened }) = entered.recv().await {
        connection.rehome();
        let stream = Stream::new(Rc::clone(&io), connection, flow, side, Some(slot));
        tokio::task::spawn_local(stream.run(opened));
    }
}

/// What all doors have in common.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    pub(crate) io: Rc<IoThread<T>>,
    pub(crate) crowd: Arc<Mutex<Crowd>>,
    pub(crate) entrance: mpsc::Sender<Entered<T>>,
}

/// Accepts for as long as the thread runs.
pub(crate) async fn listen<T: Send + 'static>(gate: Rc<Gate<T>>, listener: TcpListener, door: Door) {
    let io = &gate.io;
    loop {
        match listener.accept().await {
            Ok((connection, remote)) => arrive(&gate, connection, canonical(remote), door),
            Err(error) => {
                io.shared.counters.add(Count::AcceptFailed);
                if NO_DESCRIPTOR.map(Some).contains(&error.raw_os_error()) {
                    io.files_exhausted();
                }
                if error.kind() != std::io::ErrorKind::ConnectionAborted {
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn arrive<T: Send + 'static>(gate: &Rc<Gate<T>>, connection: TcpStream, remote: SocketAddr, door: Door) {
    let io = &gate.io;
    io.shared.counters.add(Count::Accepted);
    let flow = Arc::new(Flow::new(io.shared.next_flow(), remote));
    match admit(gate, &flow, door) {
        Ok(slot) => {
            tokio::task::spawn_local(enter(Rc::clone(gate), connection, flow, slot, door));
        }
        Err(count) => {
            io.shared.counters.add(count);
            reset(connection);
            if matches!(count, Count::ConnectionRate | Count::UnfinishedHandshakes) {
                io.refuse(remote, door.transport, door.local.port());
            }
            if count == Count::UnregisteredOfSource {
                io.refuse_crowded(remote, door.transport, door.local.port());
            }
        }
    }
}

fn admit<T: Send + 'static>(gate: &Gate<T>, flow: &Arc<Flow>, door: Door) -> Result<Slot, Count> {
    let io = &gate.io;
    let mut arrival =
        Arrival { side: door.side, allowed: false, handshake: door.transport == Transport::Tls };
    if door.side == Side::Outside {
        let lists = io.shared.lists.load();
        if lists.is_blocked(flow.source()) {
            return Err(Count::BlockedConnection);
        }
        if !io.rates.admit_connection(flow.source()) {
            return Err(Count::ConnectionRate);
        }
        arrival.allowed = lists.is_allowed(flow.source());
    }
    let (slot, evicted) = Slot::admit(&gate.crowd, flow, arrival)?;
    if evicted {
        io.shared.counters.add(Count::UnregisteredOldest);
    }
    Ok(slot)
}

async fn enter<T: Send + 'static>(
    gate: Rc<Gate<T>>,
    connection: TcpStream,
    flow: Arc<Flow>,
    mut slot: Slot,
    door: Door,
) {
    let io = &gate.io;
    let local = connection.local_addr().map_or(door.local, canonical);
    let tuple = FiveTuple { transport: door.transport, local, remote: flow.remote };
    // Messages are small and each one matters at once. Where it cannot be set they are only slower.
    let _slower_without = connection.set_nodelay(true);
    let (connection, device) = match door.transport {
        Transport::Tls => {
            // Boxed: its memory is given back when the handshake is done.
            match Box::pin(handshake(io, connection, &flow, tuple)).await {
                Some((stream, device)) => (Connection::Tls(stream), device),
                None => return,
            }
        }
        _ => (Connection::Plain(connection), None),
    };
    slot.handshake_done();
    io.shared.flows.insert(flow.id, Arc::clone(&flow));
    let device = device.map(Box::new);
    let opened = NetEvent::FlowOpened { flow: flow.id, side: door.side, tuple, device };
    let entered = Entered { connection, flow, slot, side: door.side, opened };
    if let Err(refused) = gate.entrance.send(entered).await {
        // The core has ended.
        io.shared.flows.remove(&refused.0.flow.id);
    }
}

/// The TLS handshake within its time; none where it failed, was cut off, or its source is blocked by now.
async fn handshake<T: Send + 'static>(
    io: &Rc<IoThread<T>>,
    connection: TcpStream,
    flow: &Flow,
    tuple: FiveTuple,
) -> Option<(Box<tokio_rustls::server::TlsStream<Socket>>, Option<VerifiedDevice>)> {
    let identity = io.shared.identity.clone()?;
    let accept = tls::accept(&identity, Socket(connection), &io.shared.counters);
    let outcome = tokio::select! {
        biased;
        _evicted = poll_fn(|cx| flow.poll_end(cx)) => return None,
        outcome = timeout(HANDSHAKE_MAX, accept) => outcome,
    };
    let blocked = io.shared.lists.load().is_blocked(flow.source());
    match outcome {
        Ok(Ok((stream, _))) if blocked => {
            io.shared.counters.add(Count::BlockedConnection);
            reset(stream.into_inner().0.0);
            None
        }
        Ok(Ok((stream, device))) => Some((Box::new(stream), device)),
        Ok(Err(Failed { socket, refusal })) => {
            fail(io, tuple, refusal).await;
            if let Some(Socket(connection)) = socket {
                stream::linger(&connection, &io.scratch).await;
            }
            None
        }
        Err(_elapsed) => {
            let seconds = HANDSHAKE_MAX.as_secs();
            let detail = format!("the handshake was not complete after {seconds} s");
            fail(io, tuple, Refusal { fault: HandshakeFault::TimedOut, detail }).await;
            None
        }
    }
}

async fn fail<T: Send + 'static>(io: &IoThread<T>, tuple: FiveTuple, refusal: Refusal) {
    io.shared.counters.add(Count::HandshakeFailed);
    let Refusal { fault, detail } = refusal;
    io.lanes.push(Lane::Strangers, NetEvent::HandshakeFailed { tuple, fault, detail }).await;
}
