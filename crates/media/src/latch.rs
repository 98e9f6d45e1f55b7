//! Learns where a peer really sends from, and then believes nobody else (symmetric RTP, RFC 4961).
//!
//! Outside, by rank: 1 the exact advertised address, 2 any port of the signalling source, 3 others, only
//! after 2 s without 1 or 2 and with 3 consecutive packets of one SSRC. Within the first second a better
//! rank may displace a worse one; then the latch is strict until the peer itself asks for a change. Where the peer
//! names another address by that, he speaks from the old one until he is answered: it is believed, and gives way.
//! Inside: the advertised address alone. RTCP on a port of its own follows RTP: to the host that RTP is held
//! by and no other, and before that by rank 1 and 2 alone; else three forged packets would take the RTCP of
//! a phone that sends none. Never learns a blocked source, nor one to which nothing may be sent; opens by
//! itself only where RTP went to another host, or where the source that it holds was blocked.
//!
//! ```text
//!           rank 1, 2; rank 3 late; previous source        better rank within 1 s
//!   Open ─────────────────────────────────────────► Held ◄─┐ (displaced)
//!     ▲                                              │ └───┘
//!     └───────── relatch, policy changed, blocked ───┘
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;
use wire::net::PrefixSet;

use crate::demux::Kind;
use crate::{DropReason, LatchPolicy, SourceRank};

/// How long the better ranks must have been silent before rank 3 counts.
const SILENCE: Duration = Duration::from_secs(2);
/// How many consecutive packets of one SSRC make rank 3.
const RUN: u8 = 3;
/// How long a better rank may displace a worse one.
const DISPLACEABLE: Duration = Duration::from_secs(1);

/// What a leg's specification says about its sources, for one port of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) policy: LatchPolicy,
    pub(crate) advertised: Option<SocketAddr>,
    pub(crate) signalling_source: Option<IpAddr>,
    pub(crate) spared: bool,
}

impl Rules {
    /// Whether nothing may come from `ip`, nor go to it.
    pub(crate) fn bar(&self, ip: IpAddr, blocked: Option<&PrefixSet>) -> bool {
        let spared = || self.spared && self.signalling_source.is_some_and(|it| it.to_canonical() == ip);
        blocked.is_some_and(|blocked| blocked.contains(ip)) && !spared()
    }

    fn rank(&self, from: SocketAddr) -> SourceRank {
        if self.advertised.is_some_and(|advertised| same_place(advertised, from)) {
            SourceRank::Advertised
        } else if self.is_signalling_source(from.ip()) {
            SourceRank::SignallingSource
        } else {
            SourceRank::Other
        }
    }

    fn is_signalling_source(&self, ip: IpAddr) -> bool {
        self.signalling_source.is_some_and(|source| source.to_canonical() == ip.to_canonical())
    }
}

/// Address and port alike; flow label and zone of IPv6 do not make another peer.
fn same_place(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip() == b.ip()
}

/// Which sources a latch may learn at all, whatever their rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that their rank allows.
    Any,
    /// RTCP while nobody holds RTP: those that signalling names.
    Named,
    /// RTCP afterwards: any port of the host that holds RTP.
    Host(IpAddr),
}

/// A packet by which a source may be taken for the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) kind: Kind,
    pub(crate) from: SocketAddr,
    pub(crate) scope: Scope,
    pub(crate) now: Instant,
}

/// A source that a latch believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    source: SocketAddr,
    rank: SourceRank,
}

/// Consecutive packets of one rank-3 source with one SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    source: SocketAddr,
    ssrc: u32,
    packets: u8,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open {
        /// Since when rank 1 or 2 could have come and has not; none while nothing is advertised.
        silent_since: Option<Instant>,
        /// Whom the latch held before the peer asked for a change; he may go on as what he was.
        previous: Option<Peer>,
        /// Whom it held before the peer named another address: he speaks from there until his change is answered.
        left: Option<SocketAddr>,
        run: Option<Run>,
    },
    Held {
        peer: Peer,
        strict_from: Instant,
        /// The peer has named another address since: whoever signalling names may take its place.
        left: bool,
    },
}

/// The latch of one port.
#[derive(Clone, Debug)]
pub(crate) struct Latch {
    rules: Rules,
    state: State,
}

impl Latch {
    pub(crate) fn new(rules: Rules, now: Instant) -> Self {
        let silent_since = rules.advertised.map(|_| now);
        Self { rules, state: State::Open { silent_since, previous: None, left: None, run: None } }
    }

    /// The specification changed. `reopen`: the peer itself asked for it.
    pub(crate) fn apply(&mut self, rules: Rules, reopen: bool, now: Instant) {
        let old = std::mem::replace(&mut self.rules, rules);
        let same_advertised = old.advertised == rules.advertised;
        let exact = rules.policy == LatchPolicy::Advertised;
        if old.policy != rules.policy || (exact && !same_advertised) {
            *self = Self::new(rules, now);
            return;
        }
        match &mut self.state {
            State::Held { peer, .. } if reopen => {
                // a new address in the SDP means that the old one is over
                let previous = same_advertised.then_some(*peer);
                let left = (!same_advertised).then_some(peer.source);
                let silent_since = rules.advertised.map(|_| now);
                self.state = State::Open { silent_since, previous, left, run: None };
            }
            State::Held { .. } => {}
            State::Open { silent_since, previous, left, run } => {
                if !same_advertised {
                    *left = previous.take().map(|peer| peer.source).or(*left);
                }
                if reopen || silent_since.is_none() {
                    *silent_since = rules.advertised.map(|_| now);
                    *run = None;
                }
            }
        }
    }

    /// Whom to send to, by what was learned.
    pub(crate) fn learned(&self) -> Option<SocketAddr> {
        match self.state {
            State::Held { peer, .. } => Some(peer.source),
            State::Open { previous, .. } => previous.map(|peer| peer.source),
        }
    }

    /// Whether the peer signals from this host.
    pub(crate) fn is_signalling_source(&self, ip: IpAddr) -> bool {
        self.rules.is_signalling_source(ip)
    }

    /// Holds nobody any more.
    pub(crate) fn forget(&mut self, now: Instant) {
        *self = Self::new(self.rules, now);
    }

    /// Whom the latch of RTCP may learn beside this one of RTP.
    pub(crate) fn scope_of_rtcp(&self) -> Scope {
        match self.state {
            _ if self.rules.policy == LatchPolicy::Advertised => Scope::Any,
            State::Held { peer, .. } => Scope::Host(peer.source.ip()),
            State::Open { .. } => Scope::Named,
        }
    }

    /// Lets go of a source on another host than `scope` has.
    pub(crate) fn confine(&mut self, scope: Scope, now: Instant) {
        let Scope::Host(host) = scope else { return };
        if self.learned().is_some_and(|source| source.ip() != host) {
            self.forget(now);
        }
    }

    /// Lets go of a source that is blocked now.
    pub(crate) fn forget_blocked(&mut self, blocked: Option<&PrefixSet>, now: Instant) {
        if self.learned().is_some_and(|source| self.rules.bar(source.ip(), blocked)) {
            *self = Self::new(self.rules, now);
        }
    }

    /// Whether a packet may pass, and the rank if its source was learned by it.
    /// `may_learn` says whether the source is an address that we may send to; `blocked` is none on the inside.
    #[inline]
    pub(crate) fn admit(
        &mut self,
        claim: Claim,
        may_learn: impl FnOnce(SocketAddr) -> bool,
        blocked: Option<&PrefixSet>,
    ) -> Result<Option<SourceRank>, DropReason> {
        if let State::Held { peer, .. } = self.state
            && peer.source == claim.from
        {
            return Ok(None);
        }
        self.judge(claim, may_learn, blocked)
    }

    /// A source that the latch does not hold.
    fn judge(
        &mut self,
        claim: Claim,
        may_learn: impl FnOnce(SocketAddr) -> bool,
        blocked: Option<&PrefixSet>,
    ) -> Result<Option<SourceRank>, DropReason> {
        let Claim { kind, from, scope, now } = claim;
        if matches!(scope, Scope::Host(host) if host != from.ip()) {
            return Err(DropReason::Stranger);
        }
        let rank = self.rules.rank(from);
        match self.state {
            State::Held { peer, strict_from, left } => {
                let better = rank < peer.rank && now < strict_from;
                let moved = left && rank != SourceRank::Other;
                if kind == Kind::Dtls || !(better || moved) {
                    return Err(DropReason::Stranger);
                }
            }
            State::Open { .. } if self.rules.policy == LatchPolicy::Advertised => {
                if rank != SourceRank::Advertised {
                    let known = self.rules.advertised.is_some();
                    return Err(if known { DropReason::Stranger } else { DropReason::Unproven });
                }
            }
            State::Open { .. } => {}
        }
        if self.rules.bar(from.ip(), blocked) {
            return Err(DropReason::Blocked);
        }
        if !may_learn(from) {
            return Err(DropReason::ForbiddenSource);
        }
        self.consider(claim, rank)
    }

    /// A source that could be learned.
    fn consider(&mut self, claim: Claim, rank: SourceRank) -> Result<Option<SourceRank>, DropReason> {
        let Claim { kind, from, scope, now } = claim;
        let (silent_since, previous, left, run) = match &mut self.state {
            State::Held { peer, left, .. } => {
                (*peer, *left) = (Peer { source: from, rank }, false);
                return Ok(Some(rank));
            }
            State::Open { silent_since, previous, left, run } => (silent_since, *previous, *left, run),
        };
        // a source that held the latch keeps the rank it had, or takes the better one it has now
        let rank = match previous {
            Some(peer) if peer.source == from => rank.min(peer.rank),
            _ => rank,
        };
        let was_held = previous.is_some_and(|peer| peer.source == from);
        if kind == Kind::Dtls {
            // a handshake proves nothing here; but whoever makes it is not silent
            if rank != SourceRank::Other && silent_since.is_some() {
                *silent_since = Some(now);
            }
            let known = rank == SourceRank::Advertised || was_held;
            return if known { Ok(None) } else { Err(DropReason::Unproven) };
        }
        if rank == SourceRank::Other && !was_held {
            let enough = scope != Scope::Named && late(*silent_since, now) & follows(run, kind, from);
            if !enough {
                return Err(DropReason::Unproven);
            }
        }
        let left = left == Some(from) && rank != SourceRank::Advertised;
        self.state = State::Held { peer: Peer { source: from, rank }, strict_from: now + DISPLACEABLE, left };
        Ok(Some(rank))
    }
}

/// Whether the better ranks have been silent long enough.
fn late(silent_since: Option<Instant>, now: Instant) -> bool {
    silent_since.is_some_and(|since| now.since(since) >= SILENCE)
}

/// Counts a rank-3 packet into the run of its source and SSRC; any other packet breaks the run.
fn follows(run: &mut Option<Run>, kind: Kind, source: SocketAddr) -> bool {
    let (Kind::Rtp { ssrc } | Kind::Rtcp { ssrc }) = kind else { return false };
    let before = match *run {
        Some(run) if run.source == source && run.ssrc == ssrc => run.packets,
        _ => 0,
    };
    let packets = before.saturating_add(1);
    *run = Some(Run { source, ssrc, packets });
    packets >= RUN
}

#[cfg(test)]
mod tests;
