//! Messages of ours on their way out: to whom, by which connection, and how we name ourselves in them.

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

impl Border {
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
            None => self.opening.contains_key(&hop.flow),
        };
        if !may {
            return self.dropped(DropReason::Unsendable);
        }
        self.outputs.push_back(Output::Send { flow: hop.flow, to: hop.remote, bytes });
    }

    /// How a PBX is reached now. By TCP one connection is kept, opened when it is first needed: bytes sent
    /// before it is open wait in its writer.
    pub(crate) fn hop_to_pbx(&mut self, pbx: usize) -> Option<Hop> {
        let target = *self.pbxs.get(pbx)?.targets.first()?;
        self.hop_inside(target, Some(pbx))
    }

    /// A hop to any inside target.
    pub(crate) fn hop_inside(&mut self, target: Target, pbx: Option<usize>) -> Option<Hop> {
        if target.transport == Transport::Udp {
            let flow = self.flows.listener(Side::Inside, Transport::Udp)?.flow;
            return Some(Hop { flow, remote: target.address, transport: Transport::Udp });
        }
        let kept = pbx.and_then(|pbx| self.pbxs.get(pbx)?.connection);
        let kept = kept.filter(|(flow, to)| {
            *to == target.address && (self.opening.contains_key(flow) || self.flows.flow(*flow).is_some())
        });
        let known = kept.map(|(flow, _)| flow).or_else(|| self.inside_connection(target.address));
        let flow = match known {
            Some(flow) => flow,
            None => {
                let flow = FlowId(self.next_flow);
                self.next_flow += 1;
                self.outputs.push_back(Output::OpenFlow {
                    flow,
                    transport: Transport::Tcp,
                    to: target.address,
                });
                self.opening.insert(flow, target.address);
                flow
            }
        };
        if let Some(pbx) = pbx {
            self.pbxs[pbx].connection = Some((flow, target.address));
        }
        Some(Hop { flow, remote: target.address, transport: Transport::Tcp })
    }

    pub(crate) fn inside_connection(&self, to: SocketAddr) -> Option<FlowId> {
        let opening = self.opening.iter().find(|(_, address)| **address == to).map(|(flow, _)| *flow);
        let open = || {
            self.flows
                .iter()
                .find(|(_, flow)| flow.side == Side::Inside && flow.tuple.remote == to)
                .map(|(flow, _)| flow)
        };
        opening.or_else(open)
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
