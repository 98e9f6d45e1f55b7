//! The first line against blocked sources, as `net` has it: what comes from one is dropped before any lane, and what
//! would go to one by UDP is not sent, both by the lists that the border gave out last. What had passed when a block
//! began, and waits in a lane, meets the border's own test. Streams end by the border's word.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{PrefixSet, Side, Transport};

use crate::decision::Decider;
use crate::world::{Happening, World};

/// What came earlier than this before a block has left its lane.
const IN_A_LANE: Duration = Duration::from_millis(200);

/// What the door knows.
#[derive(Debug, Default)]
pub(crate) struct Door {
    blocked: Arc<PrefixSet>,
    /// As it was before, and until when.
    before: Arc<PrefixSet>,
    since: Option<Instant>,
}

impl Door {
    /// The lists changed.
    pub(crate) fn set_blocked(&mut self, blocked: Arc<PrefixSet>, now: Instant) {
        self.before = std::mem::replace(&mut self.blocked, blocked);
        self.since = Some(now);
    }

    fn is_shut_to(&self, source: IpAddr) -> bool {
        self.blocked.contains(source)
    }

    /// Whether what comes from a source may have passed before it was shut.
    fn was_open_to(&self, source: IpAddr, now: Instant) -> bool {
        !self.before.contains(source) && self.since.is_some_and(|at| now.since(at) < IN_A_LANE)
    }
}

impl World {
    /// What gets in; none where it ends here.
    pub(crate) fn enter(&mut self, happening: Happening) -> Option<Happening> {
        let source = self.source_outside(&happening).filter(|source| self.door.is_shut_to(*source));
        let Some(source) = source else { return Some(happening) };
        if self.busy
            && self.door.was_open_to(source, self.now)
            && self.strikes(Decider::Core, 500, "a block overtakes a message")
        {
            return Some(happening);
        }
        match happening {
            Happening::Opened(flow) => {
                self.decisions.saw("a connection of a blocked source is refused");
                self.disconnect(flow, false);
            }
            _ => self.decisions.saw("a datagram of a blocked source is dropped"),
        }
        None
    }

    /// Who brings a datagram or a connection to the outside.
    fn source_outside(&self, happening: &Happening) -> Option<IpAddr> {
        match happening {
            Happening::Datagram { from, to, .. } => (*to == self.places.udp()).then_some(from.ip()),
            Happening::Forged { from, .. } => Some(from.ip()),
            Happening::Opened(flow) => {
                let connection = self.connections.get(flow)?;
                (connection.side == Side::Outside).then_some(connection.remote.ip())
            }
            _ => None,
        }
    }

    /// Whether what the border sends gets out.
    pub(crate) fn gets_out(&self, side: Side, transport: Transport, to: IpAddr) -> bool {
        side == Side::Inside || transport != Transport::Udp || !self.door.is_shut_to(to)
    }
}
