//! Moves bytes: sockets, TLS, limits for each source, name look-ups.
//!
//! Owns every listener and connection, the tokio runtimes of the core's thread and of the doors', and the
//! current block list as it is tested before everything else. Never parses SIP, never decides about a message, never buffers
//! without a bound; the core reads no socket but for this crate.
//!
//! [`lanes()`] makes the two lanes to the core, [`Net::bind`] the ports, and [`NetTasks::start`] the tasks that
//! fill the lanes; the core, a task among them, takes [`NetEvent`]s from its [`Receiver`] and answers through [`Net::send`], [`Net::close_flow`],
//! [`Net::register_flow`], [`Net::register_source`], [`Net::open_flow`] and [`Net::set_lists`]. Start reading at `accept.rs` for a
//! connection, at `udp.rs` for a datagram. RFC 3261 §18, RFC 8446, RFC 5246, RFC 3263, RFC 8489 §12.
#![forbid(unsafe_code)]

mod accept;
mod bind;
mod certificate;
mod config;
mod counters;
mod crowd;
mod dns;
mod event;
mod flow;
mod io_thread;
mod lanes;
mod lists;
mod one_alert;
mod outgoing;
mod registered_sources;
mod source_rate;
mod stream;
mod threads;
mod tls;
mod udp;
mod verifier;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use wire::net::{FlowId, Transport};

pub use certificate::IdentityField;
pub use config::{Listener, ListenerKind, Listening, NetConfig, NetError};
pub use counters::{Count, Counters};
pub use dns::{NameQuery, ResolveError, resolve_now};
pub use event::NetEvent;
pub use lanes::{LaneLimits, Lanes, Receiver, lanes};
pub use lists::Lists;
pub use threads::{NetRuntime, NetTasks};
pub use tls::{ClientAuth, DeviceCa, ServerIdentity, TlsError, TlsFiles};

use flow::{End, Flow, Queued};
use io_thread::{OpenFlow, Shared, canonical};
use lanes::Lane;

/// Orders to open a flow that wait for their task; more than a PBX ever needs at once.
const ORDERS_MAX: usize = 1024;

/// The running network, as the core drives it.
#[derive(Debug)]
pub struct Net<T> {
    shared: Arc<Shared>,
    lanes: Arc<Lanes<T>>,
    listening: Vec<Listening>,
    orders: mpsc::Sender<OpenFlow>,
}

impl<T: Send + 'static> Net<T> {
    /// Binds every listener. When this fails nothing is left bound. What arrives is served from the moment
    /// that the tasks run.
    pub fn bind(config: NetConfig, lanes: Arc<Lanes<T>>) -> Result<(Self, NetTasks<T>), NetError> {
        bind::bind_all(config, lanes)
    }

    /// The listeners in the order of the configuration, with the ports that the OS chose.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Sends one message, or keepalive: as a datagram at once, on a stream by its bounded queue. What
    /// cannot be sent is counted; a stream whose other end reads too slowly is closed for it.
    pub fn send(&self, flow: FlowId, to: SocketAddr, bytes: Bytes) {
        let counters = &self.shared.counters;
        if let Some(port) = self.shared.udp.iter().find(|port| port.flow == flow) {
            return port.send(to, &bytes, &self.shared.lists.load(), counters);
        }
        match self.flow(flow).map(|flow| flow.send(bytes)) {
            Some(Queued::Accepted) => {}
            Some(Queued::Overflow) => counters.add(Count::WriterOverflow),
            Some(Queued::Ended) | None => counters.add(Count::SendNoFlow),
        }
    }

    /// Opens a connection from the inside address. Answered by `FlowOpened` or `FlowFailed`; what is sent
    /// on it before waits.
    pub fn open_flow(&self, flow: FlowId, transport: Transport, to: SocketAddr) {
        let shared = Arc::new(Flow::new(flow, to));
        self.shared.flows.insert(flow, Arc::clone(&shared));
        let order = OpenFlow { flow: shared, transport };
        if self.orders.try_send(order).is_err() {
            self.shared.flows.remove(&flow);
            self.lanes.push_over_limit(Lane::Registered, NetEvent::FlowFailed { flow });
        }
    }

    /// Closes a connection after what was sent on it. Not answered by `FlowClosed`, but one may be under
    /// way already.
    pub fn close_flow(&self, flow: FlowId) {
        if let Some(flow) = self.flow(flow) {
            flow.end(End::ByCore);
        }
    }

    /// A phone registered on the connection: its bytes take the first lane, and it counts no longer among
    /// the unregistered.
    pub fn register_flow(&self, flow: FlowId) {
        if let Some(flow) = self.flow(flow) {
            flow.register();
        }
    }

    /// A phone registered by datagrams: what comes from this source to this UDP listener takes the first
    /// lane, and counts no longer against the rate of strangers, but against one of its own. Repeating it
    /// changes nothing; a flow that is no UDP listener is passed over.
    pub fn register_source(&self, flow: FlowId, source: SocketAddr) {
        if self.shared.udp.iter().any(|port| port.flow == flow) {
            self.shared.registered_sources.insert(flow, canonical(source));
        }
    }

    /// No phone is registered from this source any more: it is a stranger again.
    pub fn unregister_source(&self, flow: FlowId, source: SocketAddr) {
        self.shared.registered_sources.remove(flow, canonical(source));
    }

    /// Replaces the block list and the allow list, from the next byte on. Streams of blocked sources that
    /// are not spared are closed as soon as a byte comes on them; the core may close them sooner.
    pub fn set_lists(&self, lists: Lists) {
        self.shared.lists.store(Arc::new(lists));
    }

    /// What was dropped and refused, by reason: for whoever tells the operator.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Streams that are open.
    pub fn flows(&self) -> usize {
        self.shared.flows.len()
    }

    fn flow(&self, flow: FlowId) -> Option<Arc<Flow>> {
        self.shared.flows.get(&flow).map(|flow| Arc::clone(&flow))
    }
}
