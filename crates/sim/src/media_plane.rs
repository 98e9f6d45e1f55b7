//! The media plane: the real relay table, with false sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use media::{
    Action, BindFault, Order, RelayEvent, RelayId, RelayTable, SOCKETS_PER_RELAY, TableConfig, Traffic,
    Verdict,
};
use wire::clock::Instant;
use wire::net::{PrefixSet, Side};

use crate::decision::{Decider, Decisions};
use crate::oracle::Violation;
use crate::scenery::{self, Places};

/// What is under way to a port that was given back arrives by then, and in no other call.
const REST: Duration = Duration::from_secs(1);

/// The relays of the false world.
pub struct MediaPlane {
    faces: [IpAddr; 2],
    table: RelayTable,
    /// Which socket listens where.
    sockets: BTreeMap<SocketAddr, usize>,
    /// Faults in a thousand binds: one port taken, and no sockets at all.
    pub taken: u64,
    /// See `taken`.
    pub refused: u64,
    /// Packets that were passed on.
    pub forwarded: u64,
    /// What came to each relay, by place and side, as the sockets saw it.
    received: BTreeMap<usize, [Traffic; 2]>,
    places: BTreeMap<RelayId, usize>,
    /// Relays that were ordered, and of which neither an end nor a failure was reported.
    open: BTreeSet<RelayId>,
    /// When each address was given back.
    given_back: BTreeMap<SocketAddr, Instant>,
    /// When the relay ended whose place is still bound.
    ended: BTreeMap<usize, Instant>,
    now: Instant,
    violation: Option<Violation>,
    blocked: Arc<PrefixSet>,
    /// Where nothing may go outside.
    never: [IpAddr; 3],
}

impl MediaPlane {
    /// A plane without relays.
    pub fn new(places: Places, seed: u64) -> Self {
        let faces = places.faces();
        let config = TableConfig {
            faces,
            ports: scenery::MEDIA_PORTS,
            forbidden: places.forbidden(),
            seed,
            spare_from: 2,
        };
        Self {
            faces,
            table: RelayTable::new(config),
            sockets: BTreeMap::new(),
            taken: 0,
            refused: 0,
            forwarded: 0,
            received: BTreeMap::new(),
            places: BTreeMap::new(),
            open: BTreeSet::new(),
            given_back: BTreeMap::new(),
            ended: BTreeMap::new(),
            now: Instant::ZERO,
            violation: None,
            blocked: Arc::default(),
            never: places.never_outside(),
        }
    }

    /// An order of the border.
    pub(crate) fn order(&mut self, order: Order, now: Instant, decisions: &mut Decisions) {
        self.now = now;
        if let Order::Close { relay } = &order
            && let Some(place) = self.places.get(relay)
        {
            self.ended.insert(*place, now);
        }
        if let Order::Open { relay, .. } = &order {
            self.open.insert(*relay);
        }
        self.table.handle_order(order, now);
        self.carry_out(now, decisions);
    }

    /// Where the outside must not send to.
    pub(crate) fn set_hosts_inside(&mut self, hosts: &PrefixSet, now: Instant) {
        self.table.set_hosts_inside(hosts.clone(), now);
    }

    fn carry_out(&mut self, now: Instant, decisions: &mut Decisions) {
        while let Some(action) = self.table.poll_action() {
            match action {
                Action::Bind { slot, side, port } => {
                    let (mut rng, by) = (decisions.turn(Decider::Media), Decider::Media);
                    let outcome = if rng.chance(self.refused) && decisions.may(by, "has no sockets") {
                        Err(BindFault::System)
                    } else if rng.chance(self.taken) && decisions.may(by, "finds a port taken") {
                        Err(BindFault::Taken)
                    } else {
                        Ok(())
                    };
                    if outcome.is_ok() {
                        self.listen(slot, side, port, now);
                    }
                    self.table.on_bind(slot, side, port, outcome, now);
                }
                Action::Release { slot } => self.close(slot, now),
            }
        }
    }

    fn close(&mut self, slot: usize, now: Instant) {
        self.ended.remove(&slot);
        self.sockets.retain(|address, socket| {
            let stays = *socket / SOCKETS_PER_RELAY != slot;
            if !stays {
                self.given_back.insert(*address, now);
            }
            stays
        });
    }

    fn listen(&mut self, slot: usize, side: Side, port: u16, now: Instant) {
        let ip = self.faces[side.index()];
        let first = slot * SOCKETS_PER_RELAY + side.index() * 2;
        for (port, socket) in [(port, first), (port + 1, first + 1)] {
            let address = SocketAddr::new(ip, port);
            if self.given_back.get(&address).is_some_and(|at| now.since(*at) < REST) {
                self.violated("a port rests", format!("{address} is used again at once"));
            }
            if let Some(other) = self.sockets.insert(address, socket) {
                self.violated("a port has one owner", format!("{port} of {other} was given to {socket}"));
            }
        }
    }

    fn violated(&mut self, oracle: &'static str, seen: String) {
        self.violation.get_or_insert_with(|| Violation::new(oracle, seen));
    }

    /// A rule that did not hold since the last call.
    pub(crate) fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// A packet that came to a port of ours; what is passed on, from where and to where.
    pub fn on_datagram(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Option<(SocketAddr, SocketAddr)> {
        let socket = *self.sockets.get(&to)?;
        let verdict = self.table.on_datagram(socket, from, bytes, now);
        let sides = self.received.entry(socket / SOCKETS_PER_RELAY).or_default();
        if let Some(traffic) = sides.get_mut(socket % SOCKETS_PER_RELAY / 2) {
            let passed = matches!(verdict, Verdict::Forward { .. });
            traffic.packets += u64::from(passed);
            traffic.bytes += if passed { bytes.len() as u64 } else { 0 };
            traffic.dropped += u64::from(!passed);
        }
        match verdict {
            Verdict::Forward { socket: out, to } => {
                // the other half of the same relay, RTP by RTP and RTCP by RTCP; to another relay inside alone
                let source = self.sockets.iter().find(|(_, own)| **own == out).map(|(address, _)| *address);
                let Some(source) = source.filter(|_| out == socket ^ 2 && to.ip() != self.faces[0]) else {
                    self.violated("RTP goes to the other half", format!("from {socket} by {out} to {to}"));
                    return None;
                };
                self.forwarded += 1;
                self.goes_where_it_may(from, (source, to));
                Some((source, to))
            }
            Verdict::Drop(_) => None,
        }
    }

    /// Outside nothing goes to a host of the inside, and nothing to or from who is blocked.
    fn goes_where_it_may(&mut self, from: SocketAddr, (by, to): (SocketAddr, SocketAddr)) {
        let outward = by.ip() == self.faces[0];
        let stranger = if outward { to } else { from };
        if outward && (scenery::is_inside(to.ip()) || self.never.contains(&to.ip())) {
            self.violated(
                "RTP goes to nobody inside from the outside",
                format!("from {from} by {by} to {to}"),
            );
        }
        if self.blocked.contains(stranger.ip()) {
            self.violated("who is blocked neither speaks nor hears", format!("{stranger}, by {by}"));
        }
    }

    /// Another block list is in force.
    pub fn set_blocked(&mut self, blocked: Arc<PrefixSet>, now: Instant) {
        self.table.set_blocked(Arc::clone(&blocked), now);
        self.blocked = blocked;
    }

    /// What is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.table.handle_timeout(now);
        // nothing is bound for a timeout: what was kept is closed
        while let Some(action) = self.table.poll_action() {
            match action {
                Action::Release { slot } => self.close(slot, now),
                Action::Bind { port, .. } => self.violated("ports are bound for an order", port.to_string()),
            }
        }
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        self.table.poll_timeout()
    }

    /// What the border shall hear.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        let event = self.table.poll_event()?;
        match &event {
            RelayEvent::Ready { relay, ports } => self.on_ready(*relay, *ports),
            RelayEvent::Closed { relay, received } => self.on_relay_closed(*relay, *received),
            RelayEvent::Failed { relay, .. } => drop(self.open.remove(relay)),
            RelayEvent::Updated { .. }
            | RelayEvent::Learned { .. }
            | RelayEvent::Silent { .. }
            | RelayEvent::Refused { .. }
            | RelayEvent::Stats { .. } => {}
        }
        Some(event)
    }

    /// The ports that it speaks of are bound, on both sides, for one relay.
    fn on_ready(&mut self, relay: RelayId, ports: [u16; 2]) {
        let socket = |side: usize| self.sockets.get(&SocketAddr::new(self.faces[side], ports[side])).copied();
        match (socket(0), socket(1)) {
            (Some(one), Some(other)) if one / SOCKETS_PER_RELAY == other / SOCKETS_PER_RELAY => {
                let place = one / SOCKETS_PER_RELAY;
                if self.ended.remove(&place).is_some_and(|at| self.now.since(at) < REST) {
                    self.violated("a port rests", format!("{ports:?} are used again at once"));
                }
                self.received.remove(&place);
                self.places.insert(relay, place);
            }
            other => {
                self.violated("a relay has its ports", format!("{relay:?} has {ports:?}, bound: {other:?}"))
            }
        }
    }

    /// What came is what was passed on and what was dropped; and its ports are free.
    fn on_relay_closed(&mut self, relay: RelayId, received: [Traffic; 2]) {
        self.open.remove(&relay);
        let Some(place) = self.places.remove(&relay) else { return };
        let seen = self.received.remove(&place).unwrap_or_default();
        if seen != received {
            self.violated("RTP is counted", format!("{relay:?} says {received:?}, its sockets {seen:?}"));
        }
    }

    /// After each order and timer: the relays of the table are those that were opened and not closed, and the ports that
    /// are bound are theirs and those of places that rest or wait for the next relay.
    pub(crate) fn ports_balance(&self) -> Result<(), Violation> {
        let (open, bound, waiting) = (self.open.len(), self.sockets.len(), self.ended.len());
        if self.table.len() == open && bound == SOCKETS_PER_RELAY * (open + waiting) {
            return Ok(());
        }
        let seen = format!(
            "{open} relays are open, {waiting} places wait; {} relays, {bound} ports",
            self.table.len()
        );
        Err(Violation::new("ports balance", seen))
    }

    /// Where something is bound on a face.
    pub(crate) fn bound_on(&self, face: IpAddr) -> Vec<SocketAddr> {
        self.sockets.keys().filter(|address| address.ip() == face).copied().collect()
    }

    /// Ports that are bound.
    pub(crate) fn ports(&self) -> usize {
        self.sockets.len()
    }

    /// Relays that are open.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}
