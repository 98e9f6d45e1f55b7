//! Messages of ours on their way out: to whom, by which connection, and how we name ourselves in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use sip::{ClientId, Hop};
use wire::net::{FlowId, Side, Transport};
use wire::sip::{Method, Writer};

use crate::Border;
use crate::drop_reason::DropReason;
use crate::interface::{Output, Target};
use crate::response::ClientUse;

/// A request of ours, ready to be sent.
pub(crate) struct Prepared {
    pub(crate) hop: Hop,
    pub(crate) method: &'static str,
    pub(crate) branch: String,
    pub(crate) bytes: Bytes,
}

/// The connections on the inside face: those that are open, and those that we asked for.
pub(crate) struct Connections {
    all: BTreeMap<FlowId, Connection>,
    by_address: BTreeSet<(SocketAddr, FlowId)>,
    /// Those to machines that are neither PBX nor trusted, the oldest first.
    foreign: Vec<FlowId>,
    next: u64,
}

struct Connection {
    to: SocketAddr,
    is_open: bool,
}

/// Connections at once to machines that are neither PBX nor trusted; the oldest goes for a new one.
const FOREIGN_MAX: usize = 64;

impl Default for Connections {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            by_address: BTreeSet::new(),
            foreign: Vec::new(),
            next: FlowId::OPENED_BY_BORDER,
        }
    }
}

impl Connections {
    /// How many were asked for and are not open yet.
    pub(crate) fn opening(&self) -> usize {
        self.all.values().filter(|connection| !connection.is_open).count()
    }

    /// Whether this one is open, or will be.
    fn contains(&self, flow: FlowId) -> bool {
        self.all.contains_key(&flow)
    }

    /// Whether this one is open, or will be, and leads there.
    pub(crate) fn leads_to(&self, flow: FlowId, to: SocketAddr) -> bool {
        self.by_address.contains(&(to, flow))
    }

    /// One that leads there.
    pub(crate) fn to(&self, to: SocketAddr) -> Option<FlowId> {
        let all = self.by_address.range((to, FlowId(0))..=(to, FlowId(u64::MAX)));
        all.map(|(_, flow)| *flow).next()
    }

    /// A new one is asked for.
    fn ask(&mut self, to: SocketAddr) -> FlowId {
        let flow = FlowId(self.next);
        self.next += 1;
        self.insert(flow, Connection { to, is_open: false });
        flow
    }

    /// One is open, whoever asked for it.
    pub(crate) fn opened(&mut self, flow: FlowId, remote: SocketAddr) {
        self.insert(flow, Connection { to: remote, is_open: true });
    }

    fn insert(&mut self, flow: FlowId, connection: Connection) {
        let to = connection.to;
        if let Some(before) = self.all.insert(flow, connection) {
            self.by_address.remove(&(before.to, flow));
        }
        self.by_address.insert((to, flow));
        debug_assert_eq!(self.all.len(), self.by_address.len(), "each leads to one address");
    }

    /// One is closed, or could not be opened.
    pub(crate) fn ended(&mut self, flow: FlowId) {
        if let Some(connection) = self.all.remove(&flow) {
            self.by_address.remove(&(connection.to, flow));
            self.foreign.retain(|foreign| *foreign != flow);
        }
    }

    /// Whether as many lead to foreign machines as may.
    pub(crate) fn are_full_of_foreign(&self) -> bool {
        self.foreign.len() >= FOREIGN_MAX
    }

    /// The oldest to a foreign machine that is open.
    pub(crate) fn oldest_foreign(&self) -> Option<FlowId> {
        let is_open = |flow: &FlowId| self.all.get(flow).is_some_and(|connection| connection.is_open);
        self.foreign.iter().copied().find(is_open)
    }

    /// This one leads to a foreign machine.
    pub(crate) fn note_foreign(&mut self, flow: FlowId) {
        self.foreign.push(flow);
    }
}

impl Border {
    /// A hop to an inside target. By TCP a connection is opened where there is none: bytes sent before it is open
    /// wait in its writer.
    pub(crate) fn hop_inside(&mut self, target: Target) -> Option<Hop> {
        let remote = target.address;
        let (flow, transport) = match target.transport {
            Transport::Udp => (self.flows.listener(Side::Inside, Transport::Udp)?.flow, Transport::Udp),
            Transport::Tcp | Transport::Tls => {
                let flow = self.connections.to(remote).unwrap_or_else(|| {
                    let flow = self.connections.ask(remote);
                    let transport = Transport::Tcp;
                    self.outputs.push_back(Output::OpenFlow { flow, transport, to: remote });
                    flow
                });
                (flow, Transport::Tcp)
            }
        };
        Some(Hop { flow, remote, transport })
    }

    /// Sends a request and remembers what for; none where no transaction is free.
    pub(crate) fn send_request(&mut self, prepared: Prepared, using: ClientUse) -> Option<ClientId> {
        let Prepared { hop, method, branch, bytes } = prepared;
        let client = self.transactions.request(hop, Method::parse(method), &branch, bytes, self.now.mono)?;
        self.clients.insert(client, using);
        Some(client)
    }

    /// Hands bytes to the shell; a blocked source gets none (contract section 6), nor does a flow that was
    /// closed a moment ago.
    pub(crate) fn send(&mut self, hop: &Hop, bytes: Bytes) {
        let may = match self.flows.side(hop.flow) {
            Some(Side::Outside) => !self.is_blocked(hop.flow, hop.remote),
            Some(Side::Inside) => true,
            None => self.connections.contains(hop.flow),
        };
        if !may {
            return self.dropped(DropReason::Unsendable);
        }
        self.outputs.push_back(Output::Send { flow: hop.flow, to: hop.remote, bytes });
    }

    /// `host:port` of ours on a side, as others are told.
    pub(crate) fn authority(&self, side: Side, transport: Transport) -> &str {
        self.authorities.of(side, transport)
    }

    /// The Via of a request of ours (RFC 3261 §8.1.1.7, RFC 3581).
    pub(crate) fn via(&self, writer: &mut Writer, side: Side, hop: &Hop, branch: &str) {
        writer.header("Via", self.via_value(side, hop, branch));
    }

    pub(crate) fn via_value(&self, side: Side, hop: &Hop, branch: &str) -> String {
        let authority = self.authority(side, hop.transport);
        let rport = if hop.transport == Transport::Udp { ";rport" } else { "" };
        format!("SIP/2.0/{} {authority};branch={branch}{rport}", hop.transport.via_name())
    }

    /// Our hop's Contact on a side, with `user` in it.
    pub(crate) fn contact(&self, side: Side, hop: &Hop, user: &str) -> String {
        let authority = self.authority(side, hop.transport);
        match hop.transport {
            Transport::Udp => format!("<sip:{user}@{authority}>"),
            stream @ (Transport::Tcp | Transport::Tls) => {
                format!("<sip:{user}@{authority};transport={stream}>")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([10, 0, 0, 9], port).into()
    }

    #[test]
    fn a_connection_is_found_by_where_it_leads_from_when_it_is_asked_for_until_it_ends() {
        let mut connections = Connections::default();
        let (first, second) = (connections.ask(at(1)), connections.ask(at(2)));
        assert_ne!(first, second);
        assert_eq!(
            (connections.to(at(1)), connections.to(at(3)), connections.opening()),
            (Some(first), None, 2)
        );
        connections.opened(first, at(1));
        connections.opened(FlowId(7), at(3));
        assert_eq!((connections.to(at(3)), connections.opening()), (Some(FlowId(7)), 1));
        assert!(connections.leads_to(first, at(1)) && !connections.leads_to(first, at(2)));
        connections.ended(first);
        assert_eq!(connections.to(at(1)), None);
        assert!(!connections.contains(first) && connections.contains(second));
    }

    #[test]
    fn the_oldest_foreign_one_that_is_open_goes_first() {
        let mut connections = Connections::default();
        for port in 0..u16::try_from(FOREIGN_MAX).unwrap() {
            assert!(!connections.are_full_of_foreign());
            let flow = connections.ask(at(port));
            connections.note_foreign(flow);
        }
        assert!(connections.are_full_of_foreign());
        assert_eq!(connections.oldest_foreign(), None, "none is open");
        let third = connections.to(at(2)).unwrap();
        connections.opened(third, at(2));
        assert_eq!(connections.oldest_foreign(), Some(third));
        connections.ended(third);
        assert!(!connections.are_full_of_foreign());
    }
}
