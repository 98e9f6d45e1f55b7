//! The two bounded lanes to the core, as `net` has them: flows already registered and the process's own threads, then
//! strangers. While the core is busy they fill. Where one is full, datagrams are lost and streams wait; no other event
//! is lost, and none overtakes another of its lane.

use std::collections::VecDeque;

use wire::clock::Instant;
use wire::net::{FlowId, Side, Transport};

use crate::decision::Decider;
use crate::oracle::Violation;
use crate::world::{Happening, World};

/// Which lane an event takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Registered,
    Strangers,
}

/// What waits for the core.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// Until when it is busy; no time at all, mostly.
    busy_until: Option<Instant>,
    /// So many datagrams wait in a lane at most.
    most: usize,
    waiting: [VecDeque<Happening>; 2],
}

impl Lanes {
    /// No timer of the core's fires while it is busy.
    pub(crate) fn not_before(&self, at: Instant) -> Instant {
        self.busy_until.map_or(at, |until| until.max(at))
    }
}

impl World {
    /// What is for the core waits while it is busy; all else is given back, to happen now.
    pub(crate) fn hand_to_core(&mut self, happening: Happening) -> Option<Happening> {
        let Some(lane) = self.lane_of(&happening) else { return Some(happening) };
        if self.lanes.busy_until.is_none() && !self.core_gets_busy() {
            return Some(happening);
        }
        let waiting = &mut self.lanes.waiting[lane as usize];
        let full = waiting.len() >= self.lanes.most;
        match happening {
            Happening::Datagram { .. } | Happening::Forged { .. } if full => {
                self.decisions.saw("a full lane loses a datagram");
                return None;
            }
            Happening::Chunk { .. } if full => self.decisions.saw("a stream waits for a full lane"),
            _ => {}
        }
        waiting.push_back(happening);
        None
    }

    /// Which lane something takes that happens to the border; none where it happens to somebody else.
    fn lane_of(&self, happening: &Happening) -> Option<Lane> {
        match happening {
            Happening::Event(..) | Happening::Told { .. } => Some(Lane::Registered),
            Happening::Datagram { from, to, .. } => {
                let listener = self.places.listeners().into_iter();
                let mut own = listener.filter(|(_, _, by, local)| *by == Transport::Udp && local == to);
                let (flow, side, ..) = own.next()?;
                let registered = side == Side::Inside || self.oracles.is_registered(flow, *from);
                Some(if registered { Lane::Registered } else { Lane::Strangers })
            }
            Happening::Forged { from, .. } => {
                let (flow, ..) = self.places.listeners()[0];
                Some(match self.oracles.is_registered(flow, *from) {
                    true => Lane::Registered,
                    false => Lane::Strangers,
                })
            }
            Happening::Opened(flow)
            | Happening::Asked(flow)
            | Happening::Chunk { flow, inward: true, .. }
            | Happening::Closed { flow, inward: true } => self.lane_of_stream(*flow),
            _ => None,
        }
    }

    fn lane_of_stream(&self, flow: FlowId) -> Option<Lane> {
        let connection = self.connections.get(&flow)?;
        let registered =
            connection.side == Side::Inside || self.oracles.is_registered(flow, connection.remote);
        // what waits already is not overtaken
        let waits = self.lanes.waiting[Lane::Strangers as usize].iter().any(|own| own.is_of(flow));
        Some(if registered && !waits { Lane::Registered } else { Lane::Strangers })
    }

    fn core_gets_busy(&mut self) -> bool {
        if !self.busy || !self.strikes(Decider::Core, 3, "the core is busy") {
            return false;
        }
        self.lanes.most = usize::try_from(self.rng.below(4)).unwrap_or(0);
        let until = self.now + self.rng.millis(1, 25);
        self.lanes.busy_until = Some(until);
        self.at_instant(until, Happening::CoreIsFree);
        true
    }

    /// All that waited happens, the lane of registered flows first.
    pub(crate) fn on_core_is_free(&mut self) -> Result<(), Violation> {
        if self.lanes.busy_until.is_none_or(|until| until > self.now) {
            return Ok(());
        }
        for happening in std::mem::take(&mut self.lanes).waiting.into_iter().flatten() {
            self.happen_inside(happening)?;
            self.settle()?;
        }
        Ok(())
    }
}

impl Happening {
    /// Whether it happens to this connection.
    fn is_of(&self, flow: FlowId) -> bool {
        match self {
            Self::Opened(own)
            | Self::Asked(own)
            | Self::Chunk { flow: own, .. }
            | Self::Closed { flow: own, .. } => *own == flow,
            _ => false,
        }
    }
}
