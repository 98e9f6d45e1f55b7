//! Offer and answer (RFC 3264): one relay for each m-line, our addresses in every description.
//!
//! The border says what it wants (`media::Order`); the media plane owns the ports. A message whose ports are
//! not there yet is paused and goes on when they are.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use media::{LatchPolicy, LegSpec, Order, Payload, RelayEvent, RelayId, RelaySpec};
use wire::net::Side;
use wire::sdp::{Direction, SessionDescription};
use wire::sip::{Message, Method};

use crate::Border;
use crate::body::{self, Body, BodyKind};
use crate::call::{CallId, CallState};
use crate::dialog_map::DialogRef;
use crate::interface::Output;
use crate::paused::Paused;
use crate::refused_media::Refusals;

/// The media of a call, by m-line.
#[derive(Default)]
pub(crate) struct MediaPlan {
    pub(crate) lines: Vec<Option<Line>>,
    /// Packets forwarded, by the side they came from, of relays that are closed or still open.
    pub(crate) packets: [u64; 2],
}

/// One m-line's relay.
pub(crate) struct Line {
    pub(crate) relay: RelayId,
    ports: Option<[u16; 2]>,
    /// What was ordered last.
    spec: RelaySpec,
    /// What holds when a change fails (RFC 3261 §14.1).
    settled: RelaySpec,
    /// Packets of this relay, by side of arrival.
    packets: [u64; 2],
    /// Nothing came for its idle time.
    silent: bool,
    /// What was not let through.
    pub(crate) refusals: Refusals,
}

/// What the body of a message asks for.
pub(crate) enum Plan {
    /// It can be sent with this body.
    Send(Body),
    /// Ports were asked for.
    Wait,
    /// It cannot be carried.
    Refuse(u16),
}

/// Whose names a body must not show to the other side.
pub(crate) struct Hiding {
    /// Where the message came from.
    pub(crate) from: Side,
    /// The PBX at the other end, or at this one: its domain stands in the place of what is hidden.
    pub(crate) pbx: usize,
    /// What the phone that sent it could be known by; none for messages from the inside.
    pub(crate) private: Vec<String>,
}

/// A held call has no media to be judged by; its dialog still ends it.
const HELD_IDLE: Duration = Duration::from_secs(4 * 3600);

impl Border {
    /// Plans the body of a message that came from `hiding.from`: takes in what it advertises, orders what it
    /// needs, and gives the body for the other side.
    pub(crate) fn plan_body(
        &mut self,
        call: Option<CallId>,
        hiding: &Hiding,
        message: &Message<'_>,
        method: Method<'_>,
    ) -> Plan {
        let body = match body::kind_of(message, method) {
            Ok(BodyKind::Empty) => Body::default(),
            Ok(BodyKind::Other(content_type)) => {
                let body = Body::other(content_type, message.body());
                let domain = self.domain_of(hiding.pbx);
                match hiding.from {
                    Side::Inside => body.masked_outward(&self.topology, domain),
                    Side::Outside => body.masked_inward(&hiding.private, domain),
                }
            }
            Ok(BodyKind::Sdp) => match call {
                Some(call) => return self.plan_description(call, hiding, message),
                None => return Plan::Refuse(481),
            },
            Err(status) => return Plan::Refuse(status),
        };
        Plan::Send(body)
    }

    fn domain_of(&self, pbx: usize) -> &str {
        self.config.pbx.get(pbx).map(|pbx| pbx.domain.as_str()).unwrap_or_default()
    }

    fn plan_description(&mut self, call: CallId, hiding: &Hiding, message: &Message<'_>) -> Plan {
        let from = hiding.from;
        let Ok(description) = SessionDescription::parse(message.body()) else { return Plan::Refuse(488) };
        let mut waiting = false;
        let offer = matches!(message.method(), Some(Method::Invite | Method::Update));
        for index in 0..description.media.len() {
            match self.plan_line(call, (from, offer), &description, index) {
                Ok(ready) => waiting |= !ready,
                Err(status) => return Plan::Refuse(status),
            }
        }
        if waiting {
            return Plan::Wait;
        }
        let to = from.other();
        let Some(ports) = self.calls.call(call).map(|call| call.media.ports_on(to, description.media.len()))
        else {
            return Plan::Refuse(481);
        };
        // The writer's addresses are left out of every description, those of a phone that only its signalling names as
        // well; the names of the inside must not stand in one either.
        let written = description.rewritten(self.media_address(to), &ports, &hiding.private);
        let body = Body::sdp(written);
        Plan::Send(match to {
            Side::Outside => body.masked_outward(&self.topology, self.domain_of(hiding.pbx)),
            Side::Inside => body,
        })
    }

    /// What a phone or a PBX is told as the address of our ports.
    fn media_address(&self, side: Side) -> IpAddr {
        match side {
            Side::Outside => self.config.outside.public_address,
            Side::Inside => self.config.inside.address,
        }
    }

    /// Takes in one m-line; `Ok(false)`: its ports are on their way.
    fn plan_line(
        &mut self,
        id: CallId,
        (from, offer): (Side, bool),
        description: &SessionDescription<'_>,
        index: usize,
    ) -> Result<bool, u16> {
        let phone = self.calls.call(id).map(|call| call.leg(Side::Outside).hop).ok_or(481_u16)?;
        let (source, spared) = (phone.remote.ip(), self.is_spared(phone.flow));
        let Some(call) = self.calls.call_mut(id) else { return Err(481) };
        if call.media.lines.len() <= index {
            call.media.lines.resize_with(index + 1, || None);
        }
        let Some(media) = description.media.get(index) else { return Ok(true) };
        let (rtp, rtcp) = (description.rtp_address(index), description.rtcp_address(index));
        let wish = Advertised { rtp, rtcp, mux: media.rtcp_mux, refused: media.port == 0, source, spared };
        let idle = match (media.direction, rtp) {
            (Direction::SendRecv, Some(_)) => self.config.silence_timeout,
            _ => HELD_IDLE,
        };
        let Some(slot) = call.media.lines.get_mut(index) else { return Ok(true) };
        match slot {
            None if wish.refused => Ok(true),
            Some(line) => {
                line.advertise(from, &wish, idle, offer);
                let order = Order::Update { relay: line.relay, spec: line.spec.clone() };
                let ready = line.ports.is_some();
                if ready {
                    self.outputs.push_back(Output::Media(order));
                }
                Ok(ready)
            }
            None => {
                if self.relays.open() >= self.config.relays_max {
                    return Err(503);
                }
                let relay = self.relays.begin(id, index);
                let line = Line::new(relay, from, &wish, idle, payload(media.proto));
                self.outputs.push_back(Output::Media(Order::Open { relay, spec: line.spec.clone() }));
                *slot = Some(line);
                Ok(false)
            }
        }
    }

    /// What was agreed holds from now on.
    pub(crate) fn settle_media(&mut self, id: CallId) {
        let Some(call) = self.calls.call_mut(id) else {
            return self.never("a call is gone while it is worked on");
        };
        for line in call.media.lines.iter_mut().flatten() {
            line.settled = line.spec.clone();
        }
    }

    /// What the called party has agreed to, by m-line.
    pub(crate) fn accepted_media(&self, id: CallId) -> Vec<Option<LegSpec>> {
        let Some(call) = self.calls.call(id) else { return Vec::new() };
        let called = call.caller.other().index();
        let lines = call.media.lines.iter();
        lines.map(|line| line.as_ref().map(|line| line.spec.legs[called].clone())).collect()
    }

    /// One of several parties that accepted is gone: media goes to this one again.
    pub(crate) fn return_media(&mut self, dialog: DialogRef) {
        let Some(call) = self.calls.call_mut(dialog.call) else { return };
        let called = call.caller.other().index();
        let Some(pair) = call.dialogs.get(dialog.index) else { return };
        for (line, accepted) in call.media.lines.iter_mut().zip(&pair.accepted) {
            let (Some(line), Some(accepted)) = (line, accepted) else { continue };
            line.spec.legs[called] = LegSpec { relatch: line.spec.legs[called].relatch, ..accepted.clone() };
            line.spec.generation += 1;
            line.settled = line.spec.clone();
            let order = Order::Update { relay: line.relay, spec: line.spec.clone() };
            self.outputs.push_back(Output::Media(order));
        }
    }

    /// A phone's call was answered: while it rang, somebody else may have been taken for the phone.
    pub(crate) fn relatch_caller(&mut self, id: CallId) {
        let Some(call) = self.calls.call_mut(id).filter(|call| call.caller == Side::Outside) else { return };
        for line in call.media.lines.iter_mut().flatten().filter(|line| line.ports.is_some()) {
            line.spec.legs[Side::Outside.index()].relatch += 1;
            line.spec.generation += 1;
            line.settled = line.spec.clone();
            let order = Order::Update { relay: line.relay, spec: line.spec.clone() };
            self.outputs.push_back(Output::Media(order));
        }
    }

    /// A change was refused: what held before holds again.
    pub(crate) fn roll_back_media(&mut self, id: CallId) {
        let Some(call) = self.calls.call_mut(id) else { return };
        for line in call.media.lines.iter_mut().flatten() {
            if line.spec != line.settled {
                let generation = line.spec.generation + 1;
                line.spec = RelaySpec { generation, ..line.settled.clone() };
                line.settled = line.spec.clone();
                let order = Order::Update { relay: line.relay, spec: line.spec.clone() };
                self.outputs.push_back(Output::Media(order));
            }
        }
    }

    /// The phone's flow is spared from a block from now on, or not any more.
    pub(crate) fn set_media_spared(&mut self, id: CallId, spared: bool) {
        let Some(call) = self.calls.call_mut(id) else {
            return self.never("a call is gone while it is worked on");
        };
        for line in call.media.lines.iter_mut().flatten() {
            line.spec.legs[Side::Outside.index()].spared = spared;
            line.spec.generation += 1;
            line.settled.legs[Side::Outside.index()].spared = spared;
            if line.ports.is_some() {
                let order = Order::Update { relay: line.relay, spec: line.spec.clone() };
                self.outputs.push_back(Output::Media(order));
            }
        }
    }

    /// The phone has no registration any more, whoever holds its calls: they go on while media flows, and
    /// only so long.
    pub(crate) fn expect_media(&mut self, token: &str) {
        let idle = self.config.silence_timeout;
        for id in self.calls.of_token(token) {
            let Some(call) = self.calls.call_mut(id) else { continue };
            for line in call.media.lines.iter_mut().flatten().filter(|line| line.spec.idle > idle) {
                line.spec.idle = idle;
                line.spec.generation += 1;
                line.settled.idle = idle;
                let order = Order::Update { relay: line.relay, spec: line.spec.clone() };
                self.outputs.push_back(Output::Media(order));
            }
        }
    }

    /// Gives all ports of a call back.
    pub(crate) fn release_media(&mut self, id: CallId) {
        let Some(call) = self.calls.call_mut(id) else { return };
        let lines = std::mem::take(&mut call.media.lines);
        for line in lines.iter().flatten() {
            call.media.packets[0] += line.packets[0];
            call.media.packets[1] += line.packets[1];
        }
        for line in lines.into_iter().flatten() {
            self.relays.close(line.relay);
            self.outputs.push_back(Output::Media(Order::Close { relay: line.relay }));
        }
    }

    pub(crate) fn on_relay_event(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Ready { relay, ports } => self.on_relay_ready(relay, ports),
            RelayEvent::Failed { relay, .. } => {
                if let Some(call) = self.forget_relay(relay) {
                    self.on_relay_failed(call, relay);
                }
            }
            RelayEvent::Silent { relay, idle } => self.on_relay_silent(relay, idle),
            RelayEvent::Stats { relay, received } => {
                self.count_packets(relay, [received[0].packets, received[1].packets]);
            }
            RelayEvent::Closed { relay, received } => {
                self.count_packets(relay, [received[0].packets, received[1].packets]);
                self.forget_relay(relay);
            }
            RelayEvent::Refused { relay, side, reason, sample, .. } => {
                self.on_media_refused(relay, side, reason, sample);
            }
            RelayEvent::Updated { .. } | RelayEvent::Learned { .. } => {}
        }
    }

    /// A relay is no more; its call, where that still lives.
    fn forget_relay(&mut self, relay: RelayId) -> Option<CallId> {
        self.relays.ended(relay).filter(|call| self.calls.call(*call).is_some())
    }

    fn count_packets(&mut self, relay: RelayId, packets: [u64; 2]) {
        let Some((id, index)) = self.relays.find(relay) else { return };
        let Some(call) = self.calls.call_mut(id) else { return };
        if let Some(line) = call.media.lines.get_mut(index).and_then(Option::as_mut) {
            line.silent &= line.packets == packets;
            line.packets = packets;
        }
    }

    fn on_relay_ready(&mut self, relay: RelayId, ports: [u16; 2]) {
        let Some((id, index)) = self.relays.find(relay) else { return };
        let Some(call) = self.calls.call_mut(id) else { return };
        if let Some(line) = call.media.lines.get_mut(index).and_then(Option::as_mut) {
            line.ports = Some(ports);
        }
        if call.media.lines.iter().flatten().all(|line| line.ports.is_some()) {
            let paused = std::mem::take(&mut call.paused);
            let forwards: Vec<_> = paused.iter().map(Paused::forward).collect();
            paused.into_iter().for_each(|paused| self.resume(paused));
            forwards.into_iter().for_each(|forward| self.drop_where_over(forward));
        }
    }

    fn on_relay_failed(&mut self, id: CallId, relay: RelayId) {
        let Some(call) = self.calls.call_mut(id) else { return };
        for slot in &mut call.media.lines {
            if slot.as_ref().is_some_and(|line| line.relay == relay) {
                *slot = None;
            }
        }
        let why = "no media ports could be had";
        if call.state != CallState::Confirmed {
            return self.terminate_call(id, 503, why);
        }
        // A change of an established call: the change fails, the call goes on.
        for paused in std::mem::take(&mut call.paused) {
            match paused {
                Paused::Request(forward) => self.fail_forward(forward, 503, why),
                Paused::Behind(forward) => self.dispatch(forward),
                Paused::Response { .. } => return self.terminate_call(id, 503, why),
            }
        }
    }

    fn on_relay_silent(&mut self, relay: RelayId, idle: Duration) {
        let Some((id, index)) = self.relays.find(relay) else { return };
        let Some(call) = self.calls.call_mut(id) else { return };
        if let Some(line) = call.media.lines.get_mut(index).and_then(Option::as_mut) {
            line.silent = true;
        }
        let all_silent = call.media.lines.iter().flatten().all(|line| line.silent);
        if call.state == CallState::Confirmed && all_silent {
            self.terminate_call(id, 408, &format!("no media for {} s", idle.as_secs()));
        }
    }
}

impl MediaPlan {
    /// Our ports on a side, for as many m-lines as a description has.
    fn ports_on(&self, side: Side, count: usize) -> Vec<Option<u16>> {
        (0..count)
            .map(|index| {
                let line = self.lines.get(index)?.as_ref()?;
                line.ports.map(|ports| ports[side.index()])
            })
            .collect()
    }

    /// Whether the phone's flow is spared, as the media plane knows it; none without media.
    pub(crate) fn is_spared(&self) -> Option<bool> {
        self.lines.iter().flatten().next().map(|line| line.spec.legs[Side::Outside.index()].spared)
    }

    /// Packets forwarded so far, by the side they came from.
    pub(crate) fn packets(&self) -> [u64; 2] {
        let mut sum = self.packets;
        for line in self.lines.iter().flatten() {
            sum[0] += line.packets[0];
            sum[1] += line.packets[1];
        }
        sum
    }
}

/// What one m-line says about its sender.
struct Advertised {
    rtp: Option<SocketAddr>,
    rtcp: Option<SocketAddr>,
    mux: bool,
    refused: bool,
    /// Where the phone signals from.
    source: IpAddr,
    /// Whether its flow is spared.
    spared: bool,
}

impl Line {
    fn new(relay: RelayId, from: Side, wish: &Advertised, idle: Duration, payload: Payload) -> Self {
        let leg = |side: Side| LegSpec {
            advertised_rtp: None,
            advertised_rtcp: None,
            rtcp_mux: false,
            signalling_source: (side == Side::Outside).then_some(wish.source),
            spared: side == Side::Outside && wish.spared,
            latch: match side {
                Side::Outside => LatchPolicy::Ranked,
                Side::Inside => LatchPolicy::Advertised,
            },
            send: side == Side::Outside,
            relatch: 0,
        };
        let legs = [leg(Side::Outside), leg(Side::Inside)];
        let spec = RelaySpec { legs, payload, idle, generation: 0 };
        let mut line = Self {
            relay,
            ports: None,
            settled: spec.clone(),
            spec,
            packets: [0; 2],
            silent: false,
            refusals: Refusals::default(),
        };
        line.advertise(from, wish, idle, false);
        line
    }

    /// `offer`: the peer itself asks, so its latch is open again (contract section 4).
    fn advertise(&mut self, from: Side, wish: &Advertised, idle: Duration, offer: bool) {
        let leg = &mut self.spec.legs[from.index()];
        // A hold by 0.0.0.0 names no address: the one before stays for those who only stop sending.
        if wish.rtp.is_some() {
            leg.advertised_rtp = wish.rtp;
            leg.advertised_rtcp = wish.rtcp;
        }
        leg.rtcp_mux = wish.mux;
        leg.send = !wish.refused && (leg.advertised_rtp.is_some() || leg.latch == LatchPolicy::Ranked);
        if from == Side::Outside {
            leg.signalling_source = Some(wish.source);
            leg.spared = wish.spared;
            leg.relatch += u32::from(offer);
        }
        self.spec.idle = idle;
        self.spec.generation += 1;
    }
}

fn payload(proto: &str) -> Payload {
    if proto.to_ascii_uppercase().contains("RTP/") { Payload::Rtp } else { Payload::Datagram }
}
