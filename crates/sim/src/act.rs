//! What actors do to the world, and where they send. Plain data.

use std::net::SocketAddr;

use wire::clock::Instant;
use wire::net::FlowId;

use crate::decision::{Decider, Decisions};
use crate::network::Who;
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
    /// Who acts.
    pub(crate) who: Who,
    /// The actor's own chance.
    pub rng: &'a mut Rng,
    pub(crate) decisions: &'a mut Decisions,
    /// What it does.
    pub acts: Vec<Act>,
    /// The number of the next connection.
    pub next_flow: &'a mut u64,
    /// Whether new work may begin: false once the run comes to its end.
    pub busy: bool,
}

impl Stage<'_> {
    /// A free decision, to be taken before its chance is drawn: whether it is carried out. Either way what
    /// follows has the same chance.
    #[must_use = "what was decided against is not done"]
    pub fn decide(&mut self, what: &'static str) -> bool {
        let by = Decider::Actor(self.who);
        *self.rng = self.decisions.turn(by);
        self.decisions.may(by, what)
    }

    /// A free decision that is taken in `permille` of a thousand cases.
    #[must_use = "what was decided against is not done"]
    pub fn decide_for(&mut self, permille: u64, what: &'static str) -> bool {
        let by = Decider::Actor(self.who);
        *self.rng = self.decisions.turn(by);
        self.rng.chance(permille) && self.decisions.may(by, what)
    }

    /// A free decision between several things to do, taken in `permille` of a thousand cases.
    #[must_use = "what was decided against is not done"]
    pub fn choose<T: Copy>(&mut self, permille: u64, of: &[(T, &'static str)]) -> Option<T> {
        let by = Decider::Actor(self.who);
        *self.rng = self.decisions.turn(by);
        let chosen = if self.rng.chance(permille) { self.rng.pick(of).copied() } else { None };
        chosen.filter(|(_, what)| self.decisions.may(by, what)).map(|(deed, _)| deed)
    }

    /// Something was seen that a run should lead to.
    pub fn saw(&mut self, what: &'static str) {
        self.decisions.saw(what);
    }

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
