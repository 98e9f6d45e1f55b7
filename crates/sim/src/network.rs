//! The network between actors and border: datagrams that are lost, doubled and late; streams that arrive in
//! order, in pieces of any size, or break.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use wire::clock::Instant;
use wire::net::{FlowId, Side};

use crate::rng::Rng;

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of a thousand datagrams, so many are lost.
    pub loss: u64,
    /// So many come twice.
    pub doubled: u64,
    /// The longest delay, in milliseconds; differing delays reorder.
    pub delay: u64,
    /// Of a thousand chunks of a stream, so many break it.
    pub broken: u64,
    /// And so many are the last for a while that goes that way.
    pub stalled: u64,
}

impl Weather {
    /// Drawn for the first half of a run.
    pub fn bad(rng: &mut Rng) -> Self {
        let worst = rng.below(4);
        Self {
            loss: rng.below(1 + worst * 70),
            doubled: rng.below(1 + worst * 30),
            delay: rng.between(3, 5 + worst * 200),
            broken: rng.below(1 + worst),
            stalled: rng.below(1 + worst * 2),
        }
    }

    /// For the second half.
    pub fn calm() -> Self {
        Self { loss: 0, doubled: 0, delay: 5, broken: 0, stalled: 0 }
    }
}

/// At whose end a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A phone, by index.
    Phone(usize),
    /// A scanner, by index.
    Scanner(usize),
    /// A PBX, by index.
    Pbx(usize),
    /// Who wastes connections.
    Idler,
    /// Who shows another's certificate.
    Thief,
}

/// What may wait for a peer that does not read.
const QUEUE_BYTES_MAX: usize = 4_096;
/// What the shortest chunk counts for.
const CHUNK_BYTES_MIN: usize = 128;

/// One connection to or from the border.
#[derive(Debug)]
pub struct Connection {
    /// The other end.
    pub who: Who,
    /// Which face of the border.
    pub side: Side,
    /// The border's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The border knows it, and may send and hear.
    pub at_border: bool,
    /// The actor knows it.
    pub at_actor: bool,
    /// Neither end may know it yet: nothing arrives that was sent later.
    pub broken: bool,
    inward_until: Instant,
    outward_until: Instant,
    /// Until when nobody reads at the other end, and what waits for that.
    stalled_until: Instant,
    queued: usize,
    /// Ends of messages that were sent inward, to tell when the border has one whole.
    marks: VecDeque<(u64, Bytes)>,
    sent: u64,
    arrived: u64,
}

impl Connection {
    /// A connection that opens at `at`.
    pub fn new(who: Who, side: Side, local: SocketAddr, remote: SocketAddr, at: Instant) -> Self {
        Self {
            who,
            side,
            local,
            remote,
            at_border: true,
            at_actor: true,
            broken: false,
            inward_until: at,
            outward_until: at,
            stalled_until: at,
            queued: 0,
            marks: VecDeque::new(),
            sent: 0,
            arrived: 0,
        }
    }

    /// Cuts bytes into pieces with their times of arrival, in order.
    pub fn cut(
        &mut self,
        bytes: Bytes,
        inward: bool,
        now: Instant,
        delay: u64,
        rng: &mut Rng,
    ) -> Vec<(Instant, Bytes)> {
        if inward {
            self.sent += bytes.len() as u64;
            self.marks.push_back((self.sent, bytes.clone()));
        }
        let until = if inward { &mut self.inward_until } else { &mut self.outward_until };
        let whole = rng.chance(500);
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let most = if whole { rest.len() } else { rest.len().min(rng.between(1, 700) as usize) };
            let piece = rest.split_to(most);
            *until = (*until).max(now + rng.millis(1, delay));
            pieces.push((*until, piece));
        }
        pieces
    }

    /// From now on nothing goes that way for a while.
    pub fn stall(&mut self, inward: bool, until: Instant) {
        if inward {
            self.inward_until = self.inward_until.max(until);
        } else {
            self.outward_until = self.outward_until.max(until);
            self.stalled_until = until;
        }
    }

    /// The border sends so many bytes more: whether its queue for a peer that does not read is full (`net` counts as it
    /// does, but has room for more).
    pub fn overflows(&mut self, bytes: usize, now: Instant) -> bool {
        if self.stalled_until <= now {
            self.queued = 0;
            return false;
        }
        self.queued += bytes.max(CHUNK_BYTES_MIN);
        self.queued > QUEUE_BYTES_MAX
    }

    /// Whether a message has begun to arrive and is not whole.
    pub fn is_in_the_midst(&self) -> bool {
        self.marks.front().is_some_and(|(end, bytes)| self.arrived + bytes.len() as u64 > *end)
    }

    /// When the last of what was sent in a direction has arrived.
    pub fn drained(&self, inward: bool) -> Instant {
        if inward { self.inward_until } else { self.outward_until }
    }

    /// So many bytes more have reached the border; the messages that are whole now.
    pub fn arrived(&mut self, bytes: usize) -> Vec<Bytes> {
        self.arrived += bytes as u64;
        let mut whole = Vec::new();
        while self.marks.front().is_some_and(|(end, _)| *end <= self.arrived) {
            whole.extend(self.marks.pop_front().map(|(_, bytes)| bytes));
        }
        whole
    }
}

/// Every connection.
pub type Connections = BTreeMap<FlowId, Connection>;
