//! What actors do to the world, and where they send. Plain data.

use std::net::SocketAddr;

use wire::clock::Instant;
use wire::net::FlowId;

use crate::rng::Rng;
use crate::text::Text;

/// How a message travels between an actor and the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Datagrams between two addresses, the actor's first.
    Udp(SocketAddr, SocketAddr),
    /// A connection.
    Stream(FlowId),
}

impl Path {
    /// Whether the path itself delivers.
    pub fn is_reliable(self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

/// One thing that an actor wants of the world.
#[derive(Debug)]
pub enum Act {
    /// Bytes on a path.
    Send(Path, Vec<u8>),
    /// A new connection to the border; what is sent on it at once waits until it is open.
    Connect {
        /// Its number.
        flow: FlowId,
        /// From where.
        from: SocketAddr,
        /// To which port of the border.
        to: SocketAddr,
    },
    /// The end of a connection.
    Disconnect(FlowId),
    /// A packet of audio.
    Audio {
        /// From where, as the world sees it.
        from: SocketAddr,
        /// To a port of the border's.
        to: SocketAddr,
        /// RTP.
        bytes: Vec<u8>,
    },
}

/// What an actor is given when it acts.
pub struct Stage<'a> {
    /// The time.
    pub now: Instant,
    /// The chance.
    pub rng: &'a mut Rng,
    /// What it does.
    pub acts: Vec<Act>,
    /// The number of the next connection.
    pub next_flow: &'a mut u64,
    /// Whether new work may begin: false once the run comes to its end.
    pub busy: bool,
}

impl Stage<'_> {
    /// Sends a message.
    pub fn send(&mut self, path: Path, text: &Text) {
        self.acts.push(Act::Send(path, text.render().into_bytes()));
    }

    /// Opens a connection.
    pub fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> FlowId {
        let flow = FlowId(*self.next_flow);
        *self.next_flow += 1;
        self.acts.push(Act::Connect { flow, from, to });
        flow
    }
}
