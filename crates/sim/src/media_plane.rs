//! The media plane: the real relay table, with false sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use media::{Action, BindFault, Order, RelayEvent, RelayTable, SOCKETS_PER_RELAY, TableConfig, Verdict};
use wire::clock::Instant;
use wire::net::{PrefixSet, Side};

use crate::decision::{Decider, Decisions};
use crate::scenery;

/// The relays of the false world.
pub struct MediaPlane {
    table: RelayTable,
    /// Which socket listens where.
    sockets: BTreeMap<SocketAddr, usize>,
    /// Faults in a thousand binds: one port taken, and no sockets at all.
    pub taken: u64,
    /// See `taken`.
    pub refused: u64,
    /// Packets that were passed on.
    pub forwarded: u64,
}

impl MediaPlane {
    /// A plane without relays.
    pub fn new(seed: u64) -> Self {
        let config = TableConfig {
            faces: faces(),
            ports: scenery::MEDIA_PORTS,
            forbidden: [PrefixSet::default(), PrefixSet::default()],
            seed,
        };
        Self { table: RelayTable::new(config), sockets: BTreeMap::new(), taken: 0, refused: 0, forwarded: 0 }
    }

    /// An order of the border.
    pub(crate) fn order(&mut self, order: Order, now: Instant, decisions: &mut Decisions) {
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
                        self.listen(slot, side, port);
                    }
                    self.table.on_bind(slot, side, port, outcome, now);
                }
                Action::Release { slot } => {
                    self.sockets.retain(|_, socket| *socket / SOCKETS_PER_RELAY != slot)
                }
            }
        }
    }

    fn listen(&mut self, slot: usize, side: Side, port: u16) {
        let ip = faces()[side.index()];
        let first = slot * SOCKETS_PER_RELAY + side.index() * 2;
        self.sockets.insert(SocketAddr::new(ip, port), first);
        self.sockets.insert(SocketAddr::new(ip, port + 1), first + 1);
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
        match self.table.on_datagram(socket, from, bytes, now) {
            Verdict::Forward { socket, to } => {
                let source =
                    self.sockets.iter().find(|(_, own)| **own == socket).map(|(address, _)| *address)?;
                self.forwarded += 1;
                Some((source, to))
            }
            Verdict::Drop(_) => None,
        }
    }

    /// Another block list is in force.
    pub fn set_blocked(&mut self, blocked: Arc<PrefixSet>, now: Instant) {
        self.table.set_blocked(blocked, now);
    }

    /// What is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.table.handle_timeout(now);
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        self.table.poll_timeout()
    }

    /// What the border shall hear.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.table.poll_event()
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

fn faces() -> [IpAddr; 2] {
    [scenery::OUTSIDE_IP, scenery::INSIDE_IP]
}
