//! All relays of one media shard: orders in, ports asked for, datagrams judged, events out.
//!
//! A datagram is found by index: socket `slot * 4 + side * 2 + (0 RTP | 1 RTCP)` belongs to the relay in
//! `slot`. Nothing on a packet's way allocates, locks or searches. Never touches a socket: the shard binds
//! what [`Action::Bind`] names and says what became of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use wire::clock::Instant;
use wire::net::{PrefixSet, Side};

use crate::demux::Channel;
use crate::destination::Destinations;
use crate::leg::{Arrival, Leg};
use crate::spare::{Spare, Spares};
use crate::{
    DropCounts, DropReason, Order, Payload, PortPool, RelayEvent, RelayFault, RelayId, RelaySpec, Traffic,
};

/// RTP and RTCP, outside and inside.
pub const SOCKETS_PER_RELAY: usize = 4;
/// How many pairs of ports are tried on one side before the relay fails.
const TRIES: u8 = 64;
/// How often counters and refused addresses are reported.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// What a table must know from the start.
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// The addresses that its sockets are bound to, outside then inside.
    pub faces: [IpAddr; 2],
    /// The ports of each face. Pairs that lie wholly within are used.
    pub ports: [RangeInclusive<u16>; 2],
    /// Where each face must never send to, besides what holds always (multicast, broadcast, loopback
    /// and link-local where the face is not on them, our own outside address, the inside address on the
    /// outside): our public address for both, the inside's networks for the outside.
    pub forbidden: [PrefixSet; 2],
    /// Of the order in which ports are tried.
    pub seed: u64,
    /// From how many relays that open in a second on the sockets of those that end are kept for the next ones.
    /// The next one draws among at least so many.
    pub spare_from: usize,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send the same bytes from this socket to this address.
    Forward {
        /// Index of the socket, as in [`RelayTable::on_datagram`].
        socket: usize,
        /// The other side's peer.
        to: SocketAddr,
    },
    /// Do nothing. It is counted.
    Drop(DropReason),
}

/// What the shard shall do with its sockets, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bind `port` and the port above on the address of `side`; answer with [`RelayTable::on_bind`].
    Bind {
        /// Of the relay: its sockets are `slot * SOCKETS_PER_RELAY` and the three after it.
        slot: usize,
        /// The face.
        side: Side,
        /// Even.
        port: u16,
    },
    /// Close whatever sockets the slot has.
    Release {
        /// Of the relay.
        slot: usize,
    },
}

/// Why a pair could not be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindFault {
    /// Somebody has one of the two: another pair may be free.
    Taken,
    /// The system refuses sockets altogether, or the address is not ours.
    System,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    /// The outside first. `outside` is what is bound there already.
    Asking { side: Side, port: u16, outside: Option<u16>, tries: u8 },
    /// Even ports, outside then inside.
    Bound([u16; 2]),
}

#[derive(Debug)]
struct Relay {
    id: RelayId,
    ports: Ports,
    legs: [Leg; 2],
    payload: Payload,
    idle: Duration,
    /// When a packet was last forwarded, or the relay last specified; and the value before that.
    heard: Instant,
    heard_before: Instant,
    /// The value of `heard` for which `Silent` was sent.
    silence_told: Option<Instant>,
}

/// The relays of one shard.
#[derive(Debug)]
pub struct RelayTable {
    /// None where sockets are kept for a relay to come.
    relays: Slab<Option<Relay>>,
    spares: Spares,
    slots: BTreeMap<RelayId, usize>,
    pools: [PortPool; 2],
    destinations: Destinations,
    actions: VecDeque<Action>,
    events: VecDeque<RelayEvent>,
    drops: DropCounts,
    /// When counters are reported next; none while no relay is open.
    tick_at: Option<Instant>,
    /// Not later than the first relay's end of patience.
    idle_at: Option<Instant>,
}

impl RelayTable {
    /// An empty table.
    pub fn new(config: TableConfig) -> Self {
        let [outside, inside] = config.ports;
        Self {
            relays: Slab::new(),
            spares: Spares::new(config.spare_from, config.seed.rotate_left(32)),
            slots: BTreeMap::new(),
            pools: [PortPool::new(outside, config.seed), PortPool::new(inside, !config.seed)],
            destinations: Destinations::new(config.faces, config.forbidden),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            drops: DropCounts::default(),
            tick_at: None,
            idle_at: None,
        }
    }

    /// Takes an order; each is answered by an event, `Open` after the ports are bound.
    pub fn handle_order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Open { relay, spec } => match self.slots.get(&relay).copied() {
                Some(slot) => self.open_again(slot, &spec, now),
                None => self.open(relay, &spec, now),
            },
            Order::Update { relay, spec } => match self.slots.get(&relay).copied() {
                Some(slot) => {
                    self.apply(slot, &spec, now);
                    self.events.push_back(RelayEvent::Updated { relay, generation: spec.generation });
                }
                None => self.closed_already(relay),
            },
            Order::Close { relay } => match self.slots.get(&relay).copied() {
                Some(slot) => {
                    let received = self.remove(slot, now);
                    self.events.push_back(RelayEvent::Closed { relay, received });
                }
                None => self.closed_already(relay),
            },
        }
        self.check_invariants();
    }

    /// Another block list is in force, the empty one before the first call. Whoever is on it and was believed
    /// is believed no more: this costs a walk over all relays, so that no packet costs a look-up.
    pub fn set_blocked(&mut self, blocked: Arc<PrefixSet>, now: Instant) {
        self.destinations.block(blocked);
        for relay in self.relays.iter_mut().filter_map(|(_, place)| place.as_mut()) {
            relay.leg(Side::Outside).on_blocked(&self.destinations, now);
        }
    }

    /// What the shard shall do next with its sockets. To be drained after each order, `on_bind` and timeout.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What became of [`Action::Bind`].
    pub fn on_bind(
        &mut self,
        slot: usize,
        side: Side,
        port: u16,
        outcome: Result<(), BindFault>,
        now: Instant,
    ) {
        let Some(Some(relay)) = self.relays.get_mut(slot) else { return };
        let Ports::Asking { side: asked, port: asked_port, outside, tries } = relay.ports else { return };
        if (asked, asked_port) != (side, port) {
            return;
        }
        match (outcome, side) {
            (Ok(()), Side::Outside) => self.ask(slot, Side::Inside, Some(port), 0, now),
            (Ok(()), Side::Inside) => self.bound(slot, [outside.unwrap_or_default(), port]),
            (Err(BindFault::Taken), _) if tries < TRIES => {
                self.pool(side).give_back(port, now);
                self.ask(slot, side, outside, tries, now);
            }
            (Err(BindFault::Taken), _) => self.fail(slot, RelayFault::NoPorts, now),
            (Err(BindFault::System), _) => self.fail(slot, RelayFault::System, now),
        }
        self.check_invariants();
    }

    /// Hosts of the inside that are known by now, such as the addresses of a PBX that has a name: nothing is
    /// sent to them on the outside from now on, in the relays that are open too.
    pub fn set_hosts_inside(&mut self, hosts: PrefixSet, now: Instant) {
        self.destinations.set_hosts_inside(hosts);
        for relay in self.relays.iter_mut().filter_map(|(_, place)| place.as_mut()) {
            relay.leg(Side::Outside).confirm(&self.destinations, now);
        }
        self.check_invariants();
    }

    /// Judges a datagram that came to the socket of this index, and counts it.
    #[inline]
    pub fn on_datagram(&mut self, socket: usize, from: SocketAddr, bytes: &[u8], now: Instant) -> Verdict {
        let (slot, side, channel) = place_of(socket);
        let Some(Some(relay)) = self.relays.get_mut(slot) else {
            self.drops.add(DropReason::NotOpen);
            return Verdict::Drop(DropReason::NotOpen);
        };
        let arrival = Arrival { channel, from, bytes, now };
        let outcome = relay.pass(side, &arrival, &self.destinations, &mut self.events);
        match outcome {
            Ok((channel, to)) => {
                relay.leg(side).tally.forwarded(bytes.len());
                if relay.silence_told() {
                    let due = now + relay.idle;
                    self.idle_at = Some(self.idle_at.map_or(due, |at| at.min(due)));
                }
                relay.heard_before = relay.heard;
                relay.heard = now;
                Verdict::Forward { socket: socket_index(slot, side.other(), channel), to }
            }
            Err(reason) => {
                relay.leg(side).tally.dropped();
                relay.note_refused(side, reason, &arrival);
                self.drops.add(reason);
                Verdict::Drop(reason)
            }
        }
    }

    /// The datagram of the last verdict, which came to `socket` with `len` bytes, could not be sent.
    pub fn on_send_failed(&mut self, socket: usize, len: usize, reason: DropReason) {
        debug_assert!(matches!(reason, DropReason::SendFailed | DropReason::SendBufferFull));
        let (slot, side, _) = place_of(socket);
        self.drops.add(reason);
        if let Some(Some(relay)) = self.relays.get_mut(slot) {
            relay.leg(side).tally.unsent(len);
            relay.heard = relay.heard_before;
        }
    }

    /// Reports what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.tick_at.is_some_and(|at| at <= now) {
            for spare in self.spares.tick() {
                self.release(spare, now);
            }
            self.tick_at = (!self.relays.is_empty()).then_some(now + TICK);
            self.report();
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            self.report_silence(now);
        }
        self.check_invariants();
    }

    /// When [`Self::handle_timeout`] is due next; later than the `now` of its last call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.tick_at, self.idle_at].into_iter().flatten().min()
    }

    /// What the border shall hear next.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// Every relay that is open or opening.
    pub fn relays(&self) -> impl Iterator<Item = RelayId> + '_ {
        self.slots.keys().copied()
    }

    /// How many there are of them.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Why datagrams were dropped, since the start.
    pub fn drops(&self) -> &DropCounts {
        &self.drops
    }

    fn open(&mut self, id: RelayId, spec: &RelaySpec, now: Instant) {
        let scarce = !self.pools.iter_mut().all(|pool| pool.has_one(now));
        let spare = self.spares.take(scarce, now);
        let relay = self.relay(id, spec, now);
        let slot = match spare {
            Some(Spare { slot, .. }) => slot,
            None => self.relays.insert(None),
        };
        if let Some(place) = self.relays.get_mut(slot) {
            *place = Some(relay);
        }
        self.slots.insert(id, slot);
        self.tick_at.get_or_insert(now + TICK);
        self.expect_silence(now + spec.idle);
        match spare {
            Some(Spare { ports, .. }) => self.bound(slot, ports),
            None => self.ask(slot, Side::Outside, None, 0, now),
        }
    }

    /// The relay in `slot` has its ports, by `bind` or from one that ended.
    fn bound(&mut self, slot: usize, ports: [u16; 2]) {
        let Some(Some(relay)) = self.relays.get_mut(slot) else { return };
        relay.ports = Ports::Bound(ports);
        for (leg, port) in relay.legs.iter_mut().zip(ports) {
            leg.bound(port, &self.destinations);
        }
        self.events.push_back(RelayEvent::Ready { relay: relay.id, ports });
    }

    fn relay(&self, id: RelayId, spec: &RelaySpec, now: Instant) -> Relay {
        let [outside, inside] = &spec.legs;
        let leg = |side, spec| Leg::new(side, spec, &self.destinations, now);
        Relay {
            id,
            ports: Ports::Asking { side: Side::Outside, port: 0, outside: None, tries: 0 },
            legs: [leg(Side::Outside, outside), leg(Side::Inside, inside)],
            payload: spec.payload,
            idle: spec.idle,
            heard: now,
            heard_before: now,
            silence_told: None,
        }
    }

    /// An `Open` that came twice is an update, answered as an `Open`.
    fn open_again(&mut self, slot: usize, spec: &RelaySpec, now: Instant) {
        self.apply(slot, spec, now);
        if let Some(Some(Relay { id, ports: Ports::Bound(ports), .. })) = self.relays.get(slot) {
            self.events.push_back(RelayEvent::Ready { relay: *id, ports: *ports });
        }
    }

    fn apply(&mut self, slot: usize, spec: &RelaySpec, now: Instant) {
        let Some(Some(relay)) = self.relays.get_mut(slot) else { return };
        for (leg, spec) in relay.legs.iter_mut().zip(&spec.legs) {
            leg.apply(spec, &self.destinations, now);
        }
        relay.payload = spec.payload;
        relay.idle = spec.idle;
        relay.heard = now;
        relay.heard_before = now;
        relay.silence_told = None;
        self.expect_silence(now + spec.idle);
    }

    /// Proposes the next pair for `side`, or gives the relay up.
    fn ask(&mut self, slot: usize, side: Side, outside: Option<u16>, tries: u8, now: Instant) {
        let proposed = self.pool(side).propose(now);
        let Some(Some(relay)) = self.relays.get_mut(slot) else { return };
        let port = proposed.unwrap_or_default();
        relay.ports = Ports::Asking { side, port, outside, tries: tries + 1 };
        match proposed {
            Some(port) => self.actions.push_back(Action::Bind { slot, side, port }),
            None => self.fail(slot, RelayFault::NoPorts, now),
        }
    }

    fn fail(&mut self, slot: usize, fault: RelayFault, now: Instant) {
        let Some(Some(relay)) = self.relays.get(slot) else { return };
        let relay = relay.id;
        self.remove(slot, now);
        self.events.push_back(RelayEvent::Failed { relay, fault });
    }

    fn closed_already(&mut self, relay: RelayId) {
        self.events.push_back(RelayEvent::Closed { relay, received: Default::default() });
    }

    /// The only place where a relay ends: its ports are kept for another, or go back and its slot is free.
    fn remove(&mut self, slot: usize, now: Instant) -> [Traffic; 2] {
        let Some(relay) = self.relays.get_mut(slot).and_then(Option::take) else { return Default::default() };
        self.slots.remove(&relay.id);
        let [outside, inside] = relay.ports.taken();
        let bound = matches!(relay.ports, Ports::Bound(_));
        if !(bound && self.spares.keep(Spare { slot, ports: [outside, inside] }, now)) {
            self.release(Spare { slot, ports: [outside, inside] }, now);
        }
        if self.slots.is_empty() {
            self.idle_at = None;
        }
        relay.legs.map(|leg| leg.tally.received())
    }

    /// Closes the sockets of a place without a relay; its ports go back.
    fn release(&mut self, Spare { slot, ports }: Spare, now: Instant) {
        self.relays.try_remove(slot);
        for (pool, port) in self.pools.iter_mut().zip(ports) {
            // port 0 was never proposed
            if port != 0 {
                pool.give_back(port, now);
            }
        }
        self.actions.push_back(Action::Release { slot });
        if self.relays.is_empty() {
            self.tick_at = None;
        }
    }

    fn report(&mut self) {
        for relay in self.relays.iter_mut().filter_map(|(_, place)| place.as_mut()) {
            let id = relay.id;
            let [outside, inside] = &mut relay.legs;
            let changed = outside.tally.take_changed() | inside.tally.take_changed();
            if changed {
                let received = [outside.tally.received(), inside.tally.received()];
                self.events.push_back(RelayEvent::Stats { relay: id, received });
            }
            for (side, leg) in [(Side::Outside, outside), (Side::Inside, inside)] {
                let refused = leg.tally.take_refused();
                self.events.extend(refused.map(|(reason, count, sample)| RelayEvent::Refused {
                    relay: id,
                    side,
                    reason,
                    count,
                    sample,
                }));
            }
        }
    }

    fn report_silence(&mut self, now: Instant) {
        self.idle_at = None;
        for relay in self.relays.iter_mut().filter_map(|(_, place)| place.as_mut()) {
            if relay.silence_told() {
                continue;
            }
            let due = relay.heard + relay.idle;
            if due <= now {
                relay.silence_told = Some(relay.heard);
                self.events.push_back(RelayEvent::Silent { relay: relay.id, idle: relay.idle });
            } else {
                self.idle_at = Some(self.idle_at.map_or(due, |at| at.min(due)));
            }
        }
    }

    fn expect_silence(&mut self, due: Instant) {
        self.idle_at = Some(self.idle_at.map_or(due, |at| at.min(due)));
    }

    fn pool(&mut self, side: Side) -> &mut PortPool {
        let [outside, inside] = &mut self.pools;
        match side {
            Side::Outside => outside,
            Side::Inside => inside,
        }
    }

    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert_eq!(self.slots.len() + self.spares.len(), self.relays.len(), "each relay has one slot");
        for (id, slot) in &self.slots {
            let relay = self.relays.get(*slot).and_then(Option::as_ref);
            assert_eq!(relay.map(|relay| relay.id), Some(*id), "slot {slot}");
        }
        for spare in self.spares.iter() {
            assert!(matches!(self.relays.get(spare.slot), Some(None)), "slot {} is kept", spare.slot);
        }
        for (index, pool) in self.pools.iter().enumerate() {
            let used = self.relays.iter().filter_map(|(_, place)| place.as_ref());
            let used =
                used.filter(|relay| relay.ports.taken().get(index).is_some_and(|port| *port != 0)).count();
            assert_eq!(
                pool.idle() + used + self.spares.len(),
                pool.capacity(),
                "ports of side {index} balance"
            );
        }
        assert_eq!(self.relays.is_empty(), self.tick_at.is_none(), "a tick while there is a place");
    }
}

impl Ports {
    /// The ports that are out of their pools, outside then inside; 0 where there is none.
    fn taken(self) -> [u16; 2] {
        match self {
            Self::Bound(ports) => ports,
            Self::Asking { side: Side::Outside, port, .. } => [port, 0],
            Self::Asking { side: Side::Inside, port, outside, .. } => [outside.unwrap_or_default(), port],
        }
    }
}

impl Relay {
    fn silence_told(&self) -> bool {
        self.silence_told == Some(self.heard)
    }

    #[inline]
    fn leg(&mut self, side: Side) -> &mut Leg {
        let [outside, inside] = &mut self.legs;
        match side {
            Side::Outside => outside,
            Side::Inside => inside,
        }
    }

    /// A datagram that came on `side` was not let through: for the sake of the address it came from, or of the one
    /// that the other side wants it at.
    #[cold]
    fn note_refused(&mut self, side: Side, reason: DropReason, arrival: &Arrival<'_>) {
        match reason {
            // Many a phone sends no RTCP, so that its port for it stays unproven in a good call.
            DropReason::UnprovenDestination if arrival.channel == Channel::Rtcp => {}
            DropReason::ForbiddenDestination | DropReason::UnprovenDestination => {
                let leg = self.leg(side.other());
                if let Some(advertised) = leg.advertised() {
                    leg.tally.refused(reason, advertised);
                }
            }
            _ => self.leg(side).tally.refused(reason, arrival.from),
        }
    }

    /// From which port of the other side, and where to.
    #[inline]
    fn pass(
        &mut self,
        side: Side,
        arrival: &Arrival<'_>,
        destinations: &Destinations,
        events: &mut VecDeque<RelayEvent>,
    ) -> Result<(Channel, SocketAddr), DropReason> {
        let payload = self.payload;
        let admitted = self.leg(side).admit(payload, arrival, destinations)?;
        if let Some(rank) = admitted.learned {
            events.push_back(RelayEvent::Learned { relay: self.id, side, source: arrival.from, rank });
        }
        self.leg(side.other()).way_out(admitted.channel)
    }
}

fn place_of(socket: usize) -> (usize, Side, Channel) {
    let side = if socket & 2 == 0 { Side::Outside } else { Side::Inside };
    let channel = if socket & 1 == 0 { Channel::Rtp } else { Channel::Rtcp };
    (socket / SOCKETS_PER_RELAY, side, channel)
}

fn socket_index(slot: usize, side: Side, channel: Channel) -> usize {
    slot * SOCKETS_PER_RELAY + side.index() * 2 + usize::from(channel == Channel::Rtcp)
}

#[cfg(test)]
mod tests;
