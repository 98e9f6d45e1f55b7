//! What crosses the border's edge: inputs from the shell, outputs to it. Plain data, both ways.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use wire::net::{FiveTuple, FlowId, HandshakeFault, PrefixSet, Side, Transport, VerifiedDevice};

use crate::command::{Answer, Command};
use crate::event::Event;

/// One thing that happened, as the shell saw it.
#[derive(Debug)]
pub enum Input<'a> {
    /// A listener is up. For UDP, `flow` is the one its datagrams come and go by; for TCP and TLS it
    /// only tells the port.
    Listening {
        /// The listener.
        flow: FlowId,
        /// Its face.
        side: Side,
        /// Its transport.
        transport: Transport,
        /// The address really bound, after the OS chose a port.
        local: SocketAddr,
    },
    /// A connection is open: accepted (and its TLS handshake complete), or one that we asked for.
    FlowOpened {
        /// The connection.
        flow: FlowId,
        /// Its face.
        side: Side,
        /// Both ends.
        tuple: FiveTuple,
        /// What the client certificate said, where there was one.
        device: Option<VerifiedDevice>,
    },
    /// A TLS handshake failed; there never was a flow.
    HandshakeFailed {
        /// Both ends.
        tuple: FiveTuple,
        /// Which check failed.
        fault: HandshakeFault,
        /// Issuer, dates, subject: the whole truth for the event. Bounded, printable.
        detail: String,
    },
    /// `net` closed connections or dropped datagrams of one source that came too fast; at most one of
    /// these a second and source.
    Flood {
        /// The source; its port is one of many.
        source: SocketAddr,
        /// How it came. For TCP and TLS the source is proved.
        transport: Transport,
        /// The port of ours that was hit.
        port: u16,
        /// How many were refused since the last report.
        refused: u64,
    },
    /// `net` closed connections of a source that has as many as may be; at most one of these a second and
    /// source. No offence.
    SourceLimited {
        /// The source; its port is one of many.
        source: SocketAddr,
        /// How many were refused since the last report.
        refused: u64,
    },
    /// `net` has no file descriptor left for a connection that waits; told once, until it was well for a minute.
    FilesExhausted,
    /// Bytes of a stream, or one datagram.
    Bytes {
        /// The connection, or the UDP listener.
        flow: FlowId,
        /// Who sent them.
        from: SocketAddr,
        /// The bytes, as they came.
        bytes: &'a [u8],
    },
    /// A flow that the border asked for could not be opened.
    FlowFailed {
        /// The number that the border chose.
        flow: FlowId,
    },
    /// A connection is gone.
    FlowClosed {
        /// The connection.
        flow: FlowId,
    },
    /// The media plane reports.
    Media(media::RelayEvent),
    /// A `Persist` is on disk, or could not be written yet: it is tried again, and when everything of this kind is on
    /// disk, one of the tickets is answered once more.
    Stored {
        /// Of the `Persist`.
        ticket: u64,
        /// Whether it is safe.
        ok: bool,
    },
    /// The addresses of a PBX, or of a `trusted` or `[[allowed]]` name, were looked up (again).
    Resolved {
        /// Whose.
        name: ResolvedName,
        /// All of them, best first; empty where the look-up failed: the last good answer stays.
        targets: Vec<Target>,
    },
    /// The operator asks.
    Command {
        /// Returned with the answer.
        id: u64,
        /// What.
        command: Command,
    },
}

/// Something in the configuration that is a name and has addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResolvedName {
    /// `[[pbx]]`, by index.
    Pbx(usize),
    /// `[[allowed]]`, by index.
    Allowed(usize),
}

/// One way to reach a name (RFC 3263).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// How.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

/// One thing for the shell to do, in the order in which they come.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send bytes on a flow.
    Send {
        /// The connection, or the UDP listener to send from.
        flow: FlowId,
        /// The destination (a connection's other end, where it is one).
        to: SocketAddr,
        /// One message, or a keepalive.
        bytes: Bytes,
    },
    /// Open a connection from the inside address. Answered by `FlowOpened` or `FlowFailed`.
    OpenFlow {
        /// The number it shall have.
        flow: FlowId,
        /// How.
        transport: Transport,
        /// Where to.
        to: SocketAddr,
    },
    /// Close a connection, after what was sent on it. Not answered by `FlowClosed`.
    CloseFlow {
        /// The connection.
        flow: FlowId,
    },
    /// A phone registered on this flow: its bytes go by the lane that strangers cannot fill.
    Registered {
        /// The connection, or the UDP listener.
        flow: FlowId,
        /// The phone's address.
        source: SocketAddr,
    },
    /// Over UDP: nobody is registered at this address any more.
    Unregistered {
        /// The UDP listener.
        flow: FlowId,
        /// The phone's address.
        source: SocketAddr,
    },
    /// An order for the media plane.
    Media(media::Order),
    /// Write a record, or delete it. Answered by `Stored`.
    Persist {
        /// Returned with `Stored`.
        ticket: u64,
        /// What.
        record: Record,
    },
    /// Something that an operator should hear of.
    Event(Event),
    /// The block list and the allow list, to be tested before everything from now on.
    Lists {
        /// No byte from these, and none to them.
        blocked: Arc<PrefixSet>,
        /// Never blocked, larger limits for connections.
        allowed: Arc<PrefixSet>,
        /// Flows opened before the block that go on all the same.
        spared: Arc<[FlowId]>,
    },
    /// All addresses of the PBXs, as they are known now: nothing from outside may be relayed to them but as
    /// media of the inside.
    PbxAddresses(Arc<PrefixSet>),
    /// The answer to a command.
    Answer {
        /// Of the command.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// A fault of ours: an invariant did not hold. One call or message was given up for it.
    Fault(&'static str),
}

/// A fact that outlives a restart, in a table of its own kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The kind.
    pub table: Table,
    /// Unique in its table.
    pub key: Vec<u8>,
    /// The fact, in the border's own versioned form; none deletes it.
    pub value: Option<Vec<u8>>,
}

/// The kinds of facts that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// One record: the node's secret, from which Call-ID and token keys are derived.
    Node,
    /// Confirmed bindings, with their inside registration.
    Bindings,
    /// Blocked addresses, until when and why.
    Blocks,
    /// Addresses allowed at run time.
    Allowed,
    /// Realms pinned for each PBX.
    Realms,
}
