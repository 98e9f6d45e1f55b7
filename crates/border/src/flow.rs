//! The flows that are open: who is at the other end, and how long it may stay without a word
//! (contract section 6, limits).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sip::Hop;
use wire::clock::Instant;
use wire::net::{FiveTuple, FlowId, Side, Transport, VerifiedDevice};
use wire::sip::Framer;

use crate::timers::{Deadline, Timer, Timers};

/// A listener of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) flow: FlowId,
    pub(crate) side: Side,
    pub(crate) transport: Transport,
    pub(crate) local: SocketAddr,
}

/// What an outside connection is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Its first whole message.
    FirstMessage,
    /// The rest of a message that has begun; further bytes do not prolong it.
    WholeMessage,
    /// Anything that counts.
    Idle,
}

/// An open connection.
pub(crate) struct Flow {
    pub(crate) side: Side,
    pub(crate) tuple: FiveTuple,
    pub(crate) device: Option<VerifiedDevice>,
    /// How many bindings are reached by it.
    pub(crate) bindings: usize,
    /// A device registered on it by its certificate: automatic blocks spare it.
    pub(crate) authenticated: bool,
    pub(crate) framer: Framer,
    patience: Patience,
    /// A message came that led to something, since it was last asked how long the flow may stay.
    accepted: bool,
    /// Since when nobody is registered on it.
    unregistered_since: Instant,
    /// The second under way, and what came in it from somebody who is not registered.
    second: (Instant, u32),
    last_ping: Option<Instant>,
    /// Between two keepalives: as long as it ever was, or as we have told the phone that it may be.
    longest_gap: Duration,
    deadline: Deadline,
}

const FIRST_MESSAGE: Duration = Duration::from_secs(10);
const WHOLE_MESSAGE: Duration = Duration::from_secs(10);
const UNREGISTERED_IDLE: Duration = Duration::from_secs(30);
/// Nobody stays longer without a registration, whatever he says.
const UNREGISTERED_MAX: Duration = Duration::from_secs(60);
/// How long a connection that was kept for a call stays behind it: for the answer to its end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Messages and keepalives a second on a connection on which nobody is registered: a phone sends a handful, a
/// proxy for a house of phones some dozens.
const UNREGISTERED_MESSAGES_MAX: u32 = 100;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How far apart the keepalives of a phone may be that asked for it (RFC 5626 §5.4).
pub(crate) const FLOW_TIMER: Duration = Duration::from_secs(120);
const KEEPALIVES_MISSED: u32 = 3;

impl Flow {
    pub(crate) fn hop(&self, id: FlowId) -> Hop {
        Hop { flow: id, remote: self.tuple.remote, transport: self.tuple.transport }
    }

    /// A CRLF keepalive came (RFC 5626 §3.5.1).
    pub(crate) fn pinged(&mut self, now: Instant) {
        if let Some(last) = self.last_ping.replace(now) {
            self.longest_gap = self.longest_gap.max(now - last).min(FLOW_TIMER);
        }
    }

    /// The phone was told `Flow-Timer`: it need not send keepalives more often (RFC 5626 §4.4.1).
    pub(crate) fn flow_timer_told(&mut self, id: FlowId, now: Instant, timers: &mut Timers) {
        self.longest_gap = FLOW_TIMER;
        self.rebound(id, now, timers);
    }

    /// A message or a keepalive came; whether it is one too many within a second.
    pub(crate) fn is_too_fast(&mut self, now: Instant) -> bool {
        if self.side == Side::Inside || self.bindings > 0 {
            return false;
        }
        let (since, count) = &mut self.second;
        if now - *since >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count > UNREGISTERED_MESSAGES_MAX
    }

    /// Bytes came and every whole message among them was taken out: how long may it be silent now? Of somebody who
    /// is not registered only a message that led to something counts, and it does not count for ever.
    pub(crate) fn heard(&mut self, id: FlowId, whole_message: bool, now: Instant, timers: &mut Timers) {
        if self.side == Side::Inside {
            return;
        }
        let accepted = std::mem::take(&mut self.accepted);
        let whole_message = whole_message && (accepted || self.bindings > 0);
        let (patience, at) = if self.framer.is_partial() {
            if self.patience == Patience::WholeMessage && !whole_message {
                return;
            }
            (Patience::WholeMessage, now + WHOLE_MESSAGE)
        } else if !whole_message && (self.patience == Patience::FirstMessage || self.bindings == 0) {
            // A keepalive alone is no reason to keep a stranger.
            return;
        } else {
            (Patience::Idle, now + self.idle_allowed())
        };
        self.patience = patience;
        self.deadline.set(self.no_later_than_allowed(at), Timer::Flow(id), timers);
    }

    fn no_later_than_allowed(&self, at: Instant) -> Instant {
        if self.bindings > 0 { at } else { at.min(self.unregistered_since + UNREGISTERED_MAX) }
    }

    /// Silence that a flow at rest may keep. A registered phone that sends keepalives may miss three; one
    /// that sends none is judged by the expiry of its bindings alone.
    fn idle_allowed(&self) -> Duration {
        match (self.bindings, self.last_ping) {
            (0, _) => UNREGISTERED_IDLE,
            (_, Some(_)) => self.longest_gap.max(KEEPALIVE) * KEEPALIVES_MISSED,
            (_, None) => Duration::from_secs(u64::from(u32::MAX)),
        }
    }

    /// The number of bindings changed.
    pub(crate) fn rebound(&mut self, id: FlowId, now: Instant, timers: &mut Timers) {
        if self.bindings == 0 {
            self.unregistered_since = now;
        }
        if self.side == Side::Outside && self.patience == Patience::Idle {
            // Shrinks and grows: a deadline that moves later needs no word, one that moves earlier does.
            self.deadline.set(now + self.idle_allowed(), Timer::Flow(id), timers);
        }
    }
}

/// Every listener and connection.
#[derive(Default)]
pub(crate) struct Flows {
    listeners: Vec<Listener>,
    open: BTreeMap<FlowId, Flow>,
}

/// `host:port` of ours, as others are told: written once, for every message names one.
pub(crate) struct Authorities([[String; 3]; 2]);

impl Authorities {
    /// `faces`: our addresses, by side.
    pub(crate) fn new(faces: [IpAddr; 2], flows: &Flows) -> Self {
        let written = |side: Side, transport| {
            let listener = flows.listener(side, transport).or_else(|| flows.listener(side, Transport::Udp));
            let port = listener.map_or(5060, |listener| listener.local.port());
            SocketAddr::new(faces[side.index()], port).to_string()
        };
        let of = |side| [Transport::Udp, Transport::Tcp, Transport::Tls].map(|by| written(side, by));
        Self([of(Side::Outside), of(Side::Inside)])
    }

    pub(crate) fn of(&self, side: Side, transport: Transport) -> &str {
        let [udp, tcp, tls] = &self.0[side.index()];
        match transport {
            Transport::Udp => udp,
            Transport::Tcp => tcp,
            Transport::Tls => tls,
        }
    }
}

impl Flows {
    pub(crate) fn listen(&mut self, listener: Listener) {
        self.listeners.push(listener);
    }

    /// The port we answer on, for Via and Contact.
    pub(crate) fn listener(&self, side: Side, transport: Transport) -> Option<Listener> {
        self.listeners.iter().copied().find(|l| l.side == side && l.transport == transport)
    }

    /// The UDP listener that a flow number means.
    pub(crate) fn udp(&self, flow: FlowId) -> Option<Listener> {
        self.listeners.iter().copied().find(|l| l.flow == flow && l.transport == Transport::Udp)
    }

    pub(crate) fn opened(
        &mut self,
        id: FlowId,
        side: Side,
        tuple: FiveTuple,
        device: Option<VerifiedDevice>,
        (now, timers): (Instant, &mut Timers),
    ) {
        let mut flow = Flow {
            side,
            tuple,
            device,
            bindings: 0,
            authenticated: false,
            framer: Framer::default(),
            patience: Patience::FirstMessage,
            accepted: false,
            unregistered_since: now,
            second: (now, 0),
            last_ping: None,
            longest_gap: Duration::ZERO,
            deadline: Deadline::default(),
        };
        if side == Side::Outside {
            flow.deadline.set(now + FIRST_MESSAGE, Timer::Flow(id), timers);
        }
        self.open.insert(id, flow);
    }

    pub(crate) fn closed(&mut self, id: FlowId, timers: &mut Timers) -> Option<Flow> {
        let mut flow = self.open.remove(&id)?;
        flow.deadline.clear(Timer::Flow(id), timers);
        Some(flow)
    }

    pub(crate) fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.open.get(&id)
    }

    pub(crate) fn flow_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.open.get_mut(&id)
    }

    /// A message from this flow led to something: it is no idle one.
    pub(crate) fn accepted(&mut self, id: FlowId) {
        if let Some(flow) = self.open.get_mut(&id) {
            flow.accepted = true;
        }
    }

    /// Whether a device with a certificate is at the other end that is not registered, and owes no rest of a message.
    pub(crate) fn is_idle_device(&self, id: FlowId) -> bool {
        let idle =
            |flow: &Flow| flow.device.is_some() && flow.bindings == 0 && flow.patience == Patience::Idle;
        self.open.get(&id).is_some_and(idle)
    }

    /// It has been silent for too long, but for a call on it.
    pub(crate) fn stays_for_call(&mut self, id: FlowId, now: Instant, timers: &mut Timers) {
        if let Some(flow) = self.open.get_mut(&id) {
            flow.deadline.set(now + UNREGISTERED_IDLE, Timer::Flow(id), timers);
        }
    }

    /// What it was kept for is over.
    pub(crate) fn leaves_soon(&mut self, id: FlowId, now: Instant, timers: &mut Timers) {
        if let Some(flow) = self.open.get_mut(&id) {
            flow.deadline.set(now + LAST_WORDS, Timer::Flow(id), timers);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (FlowId, &Flow)> {
        self.open.iter().map(|(id, flow)| (*id, flow))
    }

    /// The face that a flow is on; none where it is not open.
    pub(crate) fn side(&self, flow: FlowId) -> Option<Side> {
        self.open.get(&flow).map(|flow| flow.side).or_else(|| self.udp(flow).map(|l| l.side))
    }

    /// A flow's timer fired; true where it has really been silent for too long.
    pub(crate) fn timed_out(&mut self, id: FlowId, now: Instant, timers: &mut Timers) -> bool {
        self.open.get_mut(&id).is_some_and(|flow| flow.deadline.fired(now, Timer::Flow(id), timers))
    }
}
