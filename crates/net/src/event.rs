//! What the network tells the core: plain data, one value for each thing that happened on a socket.

use std::net::SocketAddr;

use bytes::Bytes;
use wire::net::{FiveTuple, FlowId, HandshakeFault, Side, Transport, VerifiedDevice};

/// One thing that happened. `T` is what the shell's other threads send through the same lanes.
#[derive(Debug)]
pub enum NetEvent<T> {
    /// A listener is up.
    Listening {
        /// For UDP the flow that its datagrams come and go by; for TCP and TLS only a number.
        flow: FlowId,
        /// Its face.
        side: Side,
        /// Its transport.
        transport: Transport,
        /// The address really bound, after the OS chose a port.
        local: SocketAddr,
    },
    /// A connection is open: accepted (and its TLS handshake complete), or one that was asked for.
    FlowOpened {
        /// The connection.
        flow: FlowId,
        /// Its face.
        side: Side,
        /// Both ends.
        tuple: FiveTuple,
        /// What the client certificate said, where there was one. Boxed: most events have none.
        device: Option<Box<VerifiedDevice>>,
    },
    /// A TLS handshake failed; there never was a flow.
    HandshakeFailed {
        /// Both ends.
        tuple: FiveTuple,
        /// Which check failed.
        fault: HandshakeFault,
        /// Issuer, dates, subject: bounded, printable ASCII.
        detail: String,
    },
    /// One source came too fast; at most one of these a second and source.
    Flood {
        /// The source, with the port it used last.
        source: SocketAddr,
        /// How it came.
        transport: Transport,
        /// The port of ours that was hit.
        port: u16,
        /// Connections or datagrams refused since the last report.
        refused: u64,
    },
    /// One source has as many unregistered connections as may be; at most one of these a second and source.
    SourceLimited {
        /// The source, with the port it used last.
        source: SocketAddr,
        /// How it came.
        transport: Transport,
        /// The port of ours that was hit.
        port: u16,
        /// Connections refused since the last report.
        refused: u64,
    },
    /// The process or the machine has no file descriptor left: connections wait in the kernel. Told once, until a
    /// minute has passed without.
    FilesExhausted,
    /// Bytes of a stream, or one datagram.
    Bytes {
        /// The connection, or the UDP listener.
        flow: FlowId,
        /// Who sent them.
        from: SocketAddr,
        /// The bytes, as they came.
        bytes: Bytes,
    },
    /// A connection is gone; not sent for one that the core closed itself.
    FlowClosed {
        /// The connection.
        flow: FlowId,
    },
    /// A flow that was asked for could not be opened.
    FlowFailed {
        /// The number that the core chose.
        flow: FlowId,
    },
    /// A watched name was looked up (again).
    Resolved {
        /// Its index in [`crate::NetConfig::names`].
        name: usize,
        /// All its addresses, best first; empty where the look-up failed.
        targets: Vec<(Transport, SocketAddr)>,
    },
    /// From another thread of the shell: the media plane, the store, the operator.
    Internal(T),
}

impl<T> NetEvent<T> {
    /// What the event weighs in a lane, besides being one event.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Bytes { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}
