//! What arrives, and to whom it goes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use border::Input;
use bytes::Bytes;
use wire::clock::WallTime;
use wire::net::{ChainVerified, FiveTuple, FlowId, Side, Transport, VerifiedDevice};

use crate::act::Path;
use crate::decision::Decider;
use crate::network::Who;
use crate::scenery;
use crate::world::{Happening, World};

impl World {
    pub(crate) fn on_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &Bytes) {
        let border = self
            .places
            .listeners()
            .into_iter()
            .find(|(_, _, transport, local)| *transport == Transport::Udp && *local == to);
        if let Some((flow, side, _, _)) = border {
            self.note_arrival(flow, side, from, bytes);
            return self.input(Input::Bytes { flow, from, bytes });
        }
        if let Some(index) = self.pbxs.iter().position(|pbx| pbx.address == to) {
            return self.stage(Who::Pbx(index), |world, stage| {
                world.pbxs[index].on_message(bytes, Path::Udp(to, from), stage);
            });
        }
        if let Some(index) = self.phones.iter().position(|phone| phone.source() == to) {
            self.stage(Who::Phone(index), |world, stage| {
                world.phones[index].on_message(bytes, Path::Udp(to, from), stage);
            });
        } else if let Some(scanner) = self.scanners.iter_mut().find(|scanner| scanner.source() == to) {
            scanner.on_message(bytes);
        }
    }

    pub(crate) fn on_opened(&mut self, flow: FlowId) {
        let Some(connection) = self.connections.get(&flow) else { return };
        if !connection.at_border {
            return;
        }
        let transport = match (connection.side, connection.local == self.places.tls()) {
            (Side::Outside, true) => Transport::Tls,
            _ => Transport::Tcp,
        };
        let tuple = FiveTuple { transport, local: connection.local, remote: connection.remote };
        let (side, who) = (connection.side, connection.who);
        self.oracles.on_opened(side, flow, tuple.remote, self.now);
        let device = self.device(who, flow).filter(|_| transport == Transport::Tls);
        self.input(Input::FlowOpened { flow, side, tuple, device });
    }

    fn device(&self, who: Who, flow: FlowId) -> Option<VerifiedDevice> {
        let ids: Vec<&str> = match who {
            Who::Phone(index) => vec![self.phones[index].model.hardware_id.as_deref()?],
            Who::Thief => self.thief.identity(flow)?.to_vec(),
            Who::Scanner(_) | Who::Idler | Who::Pbx(_) => return None,
        };
        Some(VerifiedDevice {
            field_values: ids.iter().map(|id| id.as_bytes().to_vec()).collect(),
            subject: format!("CN={}", ids.join(" and ")),
            issuer: "CN=Device CA".into(),
            not_after: WallTime(u64::MAX),
            chain: ChainVerified::assertion(),
        })
    }

    /// The border wants a connection to the PBX.
    pub(crate) fn on_asked(&mut self, flow: FlowId) {
        let Some(connection) = self.connections.get(&flow) else { return };
        let tuple =
            FiveTuple { transport: Transport::Tcp, local: connection.local, remote: connection.remote };
        if !connection.at_border {
            return;
        }
        // it may have broken before it was open
        let index = if let Who::Pbx(index) = connection.who { index } else { 0 };
        if connection.at_actor && self.pbxs[index].on_opened(flow) {
            self.input(Input::FlowOpened { flow, side: Side::Inside, tuple, device: None });
        } else {
            self.decisions.saw("a connection cannot be opened");
            self.connections.remove(&flow);
            self.oracles.on_closed(flow, true, self.now);
            self.input(Input::FlowFailed { flow });
        }
    }

    pub(crate) fn on_chunk(&mut self, flow: FlowId, inward: bool, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&flow) else { return };
        let (who, side, from) = (connection.who, connection.side, connection.remote);
        if inward {
            if !connection.at_border {
                return;
            }
            self.oracles.on_heard(flow, from, bytes.len(), self.now);
            for message in connection.arrived(bytes.len()) {
                self.note_arrival(flow, side, from, &message);
            }
            return self.input(Input::Bytes { flow, from, bytes });
        }
        if !connection.at_actor {
            return;
        }
        match who {
            Who::Phone(index) => {
                self.stage(who, |world, stage| world.phones[index].on_stream(flow, bytes, stage));
            }
            Who::Scanner(index) => self.scanners[index].on_stream(bytes),
            Who::Idler | Who::Thief => {}
            Who::Pbx(index) => {
                self.stage(who, |world, stage| world.pbxs[index].on_stream(flow, bytes, stage));
            }
        }
    }

    pub(crate) fn on_closed(&mut self, flow: FlowId, inward: bool) {
        let Some(connection) = self.connections.get_mut(&flow) else { return };
        let who = connection.who;
        let known = if inward { &mut connection.at_border } else { &mut connection.at_actor };
        let tell = std::mem::replace(known, false);
        let cut_off = connection.is_in_the_midst();
        if !(connection.at_border || connection.at_actor) {
            self.connections.remove(&flow);
        }
        if !tell {
            return;
        }
        if inward {
            if cut_off {
                self.decisions.saw("a message is cut off");
            }
            if self.oracles.waits_on(flow) {
                self.decisions.saw("a flow closes before its answer");
            }
            self.oracles.on_closed(flow, true, self.now);
            return self.input(Input::FlowClosed { flow });
        }
        self.tell_closed(who, flow);
    }

    /// An actor learns that its connection is gone.
    pub(crate) fn tell_closed(&mut self, who: Who, flow: FlowId) {
        match who {
            Who::Phone(index) => {
                self.stage(who, |world, stage| world.phones[index].on_closed(flow, stage));
            }
            Who::Scanner(index) => self.scanners[index].on_closed(flow),
            Who::Idler => self.idler.on_closed(flow),
            Who::Thief => self.thief.on_closed(flow),
            Who::Pbx(index) => {
                self.stage(who, |world, stage| world.pbxs[index].on_closed(flow, stage));
            }
        }
    }

    pub(crate) fn on_audio(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.places.faces().contains(&to.ip()) {
            let passed = self.media.on_datagram(from, to, bytes, self.now);
            self.trace.number(self.now.as_nanos());
            self.trace.address(from);
            self.trace.address(to);
            self.trace.bytes(bytes);
            if let Some((from, to)) = passed {
                self.trace.address(from);
                self.trace.address(to);
                if !self.belongs_to_a_call(to.ip()) {
                    self.astray.get_or_insert(to);
                }
                let delay =
                    self.who(to.ip()).map_or(Duration::ZERO, |who| self.delay(Decider::Voice(who), 1));
                self.at(delay, Happening::Audio { from, to, bytes: bytes.to_vec() });
            }
        } else if let Some(pbx) = self.pbxs.iter_mut().find(|pbx| pbx.address.ip() == to.ip()) {
            pbx.agent.on_audio(to.port(), bytes);
        } else if let Some(phone) = self.phones.iter_mut().find(|phone| phone.ip() == to.ip()) {
            phone.agent.on_audio(to.port(), bytes);
        }
    }

    /// Whether somebody telephones there, or did before he moved; what a PBX passes on comes back to the border.
    fn belongs_to_a_call(&self, ip: IpAddr) -> bool {
        scenery::is_phone(ip)
            || self.places.faces().contains(&ip)
            || self.pbxs.iter().any(|pbx| pbx.address.ip() == ip)
    }
}
