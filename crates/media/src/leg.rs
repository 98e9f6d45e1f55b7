//! One side of a relay: its two ports, whom each has learned, and where each sends to.
//! Never sees the other side; the relay joins them.

use std::net::{IpAddr, SocketAddr};

use wire::clock::Instant;
use wire::net::{Side, is_private};

use crate::demux::{Channel, Kind, demux};
use crate::destination::Destinations;
use crate::latch::{Claim, Latch, Rules, Scope};
use crate::stats::Tally;
use crate::{DropReason, LegSpec, Payload, SourceRank};

/// A datagram, and what is known around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    /// The port that it came to.
    pub(crate) channel: Channel,
    pub(crate) from: SocketAddr,
    pub(crate) bytes: &'a [u8],
    pub(crate) now: Instant,
}

/// A packet that may leave this leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// The port it belongs to, whichever it came to: multiplexed RTCP belongs to the RTCP port.
    pub(crate) channel: Channel,
    /// Its source was learned by it, for RTP.
    pub(crate) learned: Option<SourceRank>,
}

#[derive(Clone, Debug)]
struct Port {
    latch: Latch,
    rules: Rules,
    /// Where packets to this port's peer go, checked already.
    to: Result<SocketAddr, DropReason>,
}

impl Port {
    fn new(rules: Rules, now: Instant) -> Self {
        Self { latch: Latch::new(rules, now), rules, to: Err(DropReason::PeerUnknown) }
    }

    /// Works out the destination again, after a learning, a new specification, or another set of addresses.
    /// `shown`: the host that RTP is held by. `own`: where this leg receives RTP, and above it RTCP.
    fn aim(
        &mut self,
        side: Side,
        destinations: &Destinations,
        shown: Option<IpAddr>,
        own: Option<SocketAddr>,
    ) {
        let learned = self.latch.learned();
        let feeds_itself =
            |to: SocketAddr| own.is_some_and(|own| to.ip() == own.ip() && to.port() | 1 == own.port() | 1);
        let barred = |to: SocketAddr| {
            !destinations.may_send(side, to)
                || feeds_itself(to)
                || self.rules.bar(to.ip(), destinations.blocked(side))
        };
        self.to = match learned.or(self.rules.advertised) {
            Some(to) if barred(to) => Err(DropReason::ForbiddenDestination),
            Some(to) if learned.is_some() || side == Side::Inside || self.is_its_own(to.ip(), shown) => {
                Ok(to)
            }
            Some(_) => Err(DropReason::UnprovenDestination),
            None => Err(DropReason::PeerUnknown),
        };
    }

    /// Whether the peer's word is enough for a host: where its address is private, the peer must signal from
    /// it or have sent from it, or it could be a host near us that never heard of the peer.
    fn is_its_own(&self, host: IpAddr, shown: Option<IpAddr>) -> bool {
        !is_private(host) || shown == Some(host) || self.latch.is_signalling_source(host)
    }

    /// The rules have changed: holds nobody any more to whom nothing may be sent.
    fn confirm(&mut self, side: Side, destinations: &Destinations, now: Instant) {
        if self.latch.learned().is_some_and(|source| !destinations.may_send(side, source)) {
            self.latch.forget(now);
        }
    }
}

/// One side of a relay.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) tally: Tally,
    side: Side,
    /// Where it receives RTP; none before its ports are bound.
    own: Option<SocketAddr>,
    send: bool,
    mux: bool,
    relatch: u32,
    rtp: Port,
    rtcp: Port,
}

impl Leg {
    pub(crate) fn new(side: Side, spec: &LegSpec, destinations: &Destinations, now: Instant) -> Self {
        let mut leg = Self {
            tally: Tally::default(),
            side,
            own: None,
            send: spec.send,
            mux: spec.rtcp_mux,
            relatch: spec.relatch,
            rtp: Port::new(rules(spec, spec.advertised_rtp), now),
            rtcp: Port::new(rules(spec, advertised_rtcp(spec)), now),
        };
        leg.aim(destinations);
        leg
    }

    fn aim(&mut self, destinations: &Destinations) {
        self.rtp.aim(self.side, destinations, None, self.own);
        let shown = self.rtp.latch.learned().map(|source| source.ip());
        self.rtcp.aim(self.side, destinations, shown, self.own);
    }

    /// Its ports are bound, this even one and the one above. A port comes again some time after a call: who names it
    /// still means the call before.
    pub(crate) fn bound(&mut self, port: u16, destinations: &Destinations) {
        self.own = Some(SocketAddr::new(destinations.face(self.side), port));
        self.aim(destinations);
    }

    /// Takes a new specification.
    pub(crate) fn apply(&mut self, spec: &LegSpec, destinations: &Destinations, now: Instant) {
        let reopen = spec.relatch > self.relatch;
        self.send = spec.send;
        self.mux = spec.rtcp_mux;
        self.relatch = spec.relatch;
        for (port, advertised) in
            [(&mut self.rtp, spec.advertised_rtp), (&mut self.rtcp, advertised_rtcp(spec))]
        {
            port.rules = rules(spec, advertised);
            port.latch.apply(port.rules, reopen, now);
            // who was spared need not be any more
            port.latch.forget_blocked(destinations.blocked(self.side), now);
        }
        self.aim(destinations);
    }

    /// Another block list is in force: forgets whom it holds, and sends them nothing more.
    pub(crate) fn on_blocked(&mut self, destinations: &Destinations, now: Instant) {
        for port in [&mut self.rtp, &mut self.rtcp] {
            port.latch.forget_blocked(destinations.blocked(self.side), now);
        }
        self.aim(destinations);
    }

    /// The rules about destinations have changed.
    pub(crate) fn confirm(&mut self, destinations: &Destinations, now: Instant) {
        self.rtp.confirm(self.side, destinations, now);
        self.rtcp.confirm(self.side, destinations, now);
        self.aim(destinations);
    }

    /// Whether a datagram may leave this leg.
    #[inline]
    pub(crate) fn admit(
        &mut self,
        payload: Payload,
        arrival: &Arrival<'_>,
        destinations: &Destinations,
    ) -> Result<Admitted, DropReason> {
        let Arrival { channel, from, bytes, now } = *arrival;
        let kind = demux(payload, channel, self.mux, bytes)?;
        let side = self.side;
        let (port, scope) = match channel {
            Channel::Rtp => (&mut self.rtp, Scope::Any),
            Channel::Rtcp => (&mut self.rtcp, self.rtp.latch.scope_of_rtcp()),
        };
        let may_learn = |source| destinations.may_send(side, source);
        let claim = Claim { kind, from, scope, now };
        let learned = port.latch.admit(claim, may_learn, destinations.blocked(side))?;
        if learned.is_some() {
            self.rtcp.latch.confine(self.rtp.latch.scope_of_rtcp(), now);
            self.aim(destinations);
        }
        Ok(Admitted {
            channel: if matches!(kind, Kind::Rtcp { .. }) { Channel::Rtcp } else { channel },
            learned: learned.filter(|_| channel == Channel::Rtp),
        })
    }

    /// Where the peer says that it receives RTP.
    pub(crate) fn advertised(&self) -> Option<SocketAddr> {
        self.rtp.rules.advertised
    }

    /// The port and the address by which a packet of `channel` reaches this leg's peer.
    #[inline]
    pub(crate) fn way_out(&self, channel: Channel) -> Result<(Channel, SocketAddr), DropReason> {
        if !self.send {
            return Err(DropReason::NotSending);
        }
        let (channel, port) = match channel {
            Channel::Rtcp if !self.mux => (Channel::Rtcp, &self.rtcp),
            Channel::Rtp | Channel::Rtcp => (Channel::Rtp, &self.rtp),
        };
        port.to.map(|to| (channel, to))
    }
}

fn rules(spec: &LegSpec, advertised: Option<SocketAddr>) -> Rules {
    Rules { policy: spec.latch, advertised, signalling_source: spec.signalling_source, spared: spec.spared }
}

/// RTCP's own address, or the port above RTP's (RFC 3550 §11).
fn advertised_rtcp(spec: &LegSpec) -> Option<SocketAddr> {
    spec.advertised_rtcp.or_else(|| {
        let mut above = spec.advertised_rtp?;
        above.set_port(above.port().checked_add(1)?);
        Some(above)
    })
}
