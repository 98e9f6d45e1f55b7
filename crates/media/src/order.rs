//! What the border asks of the media plane, and what it hears back. Plain data: it may cross a process.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire::net::Side;

use crate::DropReason;

/// One m-line's path through us; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayId(pub u64);

/// What the border wants. Each order is answered: `Open` by `Ready` or `Failed`, `Update` by `Updated`,
/// `Close` by `Closed`. An order for an unknown relay is answered by `Closed` with empty totals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take ports on both sides and begin to relay.
    Open {
        /// The relay to be.
        relay: RelayId,
        /// The whole wanted state.
        spec: RelaySpec,
    },
    /// Replace the wanted state, keeping the ports.
    Update {
        /// An open relay.
        relay: RelayId,
        /// The whole wanted state, never a delta.
        spec: RelaySpec,
    },
    /// Give the ports back.
    Close {
        /// An open relay.
        relay: RelayId,
    },
}

/// The whole wanted state of one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySpec {
    /// Outside, then inside: indexed by [`Side::index`].
    pub legs: [LegSpec; 2],
    /// What the m-line carries.
    pub payload: Payload,
    /// `Silent` is sent after this long without a packet that was forwarded, in either direction.
    pub idle: Duration,
    /// Rises with each order; events carry it, so that the border can ignore what is older than its wish.
    pub generation: u32,
}

/// What an m-line carries, as its `proto` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// RTP and RTCP, plain or protected (RFC 3550, RFC 3711), keyed by DTLS or not.
    #[default]
    Rtp,
    /// Anything else over UDP, such as T.38 over UDPTL: one port, no RTCP, latched by rank 1 and 2 alone,
    /// because no header tells one stream from another.
    Datagram,
}

/// One side of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegSpec {
    /// Where the peer's SDP says it receives RTP; none before its SDP is known.
    pub advertised_rtp: Option<SocketAddr>,
    /// Where the peer's SDP says it receives RTCP; none means RTP's port plus one.
    pub advertised_rtcp: Option<SocketAddr>,
    /// Whether RTCP shares the RTP port (RFC 5761), on this side.
    pub rtcp_mux: bool,
    /// The address the peer signals from, where it counts for latching.
    pub signalling_source: Option<IpAddr>,
    /// Whether the peer's flow is spared: the block list does not hold for its signalling source.
    pub spared: bool,
    /// How the remote address is learned.
    pub latch: LatchPolicy,
    /// Whether packets may be sent to this side (false before its address may be known, and on hold).
    pub send: bool,
    /// Rises whenever the peer itself asked for a change of its media (re-INVITE): the latch is open again.
    pub relatch: u32,
}

/// How a leg learns where its peer really is (contract section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatchPolicy {
    /// Only the advertised address, exactly: the inside.
    Advertised,
    /// By rank: advertised address, any port of the signalling source, others late: the outside.
    Ranked,
}

/// How good the reason was to take a source for the peer; the lower, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceRank {
    /// The exact advertised address.
    Advertised = 1,
    /// Any port of the signalling source.
    SignallingSource = 2,
    /// Somebody else, after 2 s of silence of the better ones and 3 consecutive packets of one SSRC.
    Other = 3,
}

/// Why a relay could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayFault {
    /// Every port of the range is taken, by us or by others.
    NoPorts,
    /// The operating system refused a socket.
    System,
    /// The shard went away with the relay.
    ShardLost,
}

/// Packets and bytes of one direction, named by the side they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that were forwarded.
    pub packets: u64,
    /// Payload bytes of those (UDP payload).
    pub bytes: u64,
    /// Packets dropped for whatever reason, all `DropReason`s together.
    pub dropped: u64,
}

/// What the media plane reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// Ports are bound: RTP ports, outside then inside; RTCP is the port above.
    Ready {
        /// The relay.
        relay: RelayId,
        /// Even ports, indexed by [`Side::index`].
        ports: [u16; 2],
    },
    /// The relay is not open.
    Failed {
        /// The relay.
        relay: RelayId,
        /// Why.
        fault: RelayFault,
    },
    /// An update took effect.
    Updated {
        /// The relay.
        relay: RelayId,
        /// Of the spec that took effect.
        generation: u32,
    },
    /// A leg has learned where its peer is.
    Learned {
        /// The relay.
        relay: RelayId,
        /// The leg.
        side: Side,
        /// The peer's address.
        source: SocketAddr,
        /// Why it was believed.
        rank: SourceRank,
    },
    /// Nothing was forwarded for the idle time. Sent once for each silence.
    Silent {
        /// The relay.
        relay: RelayId,
        /// For how long.
        idle: Duration,
    },
    /// Datagrams were not let through for the sake of an address; at most one of these a second for each leg and
    /// reason ([`DropReason::OF_ADDRESSES`]).
    Refused {
        /// The relay.
        relay: RelayId,
        /// The leg whose address it is.
        side: Side,
        /// Why.
        reason: DropReason,
        /// How many since the last report.
        count: u64,
        /// The address of one of them: where it came from, or where it should have gone to.
        sample: SocketAddr,
    },
    /// Where the counters stand, once a second while they change.
    Stats {
        /// The relay.
        relay: RelayId,
        /// By side of arrival.
        received: [Traffic; 2],
    },
    /// The ports are free again.
    Closed {
        /// The relay.
        relay: RelayId,
        /// By side of arrival, final.
        received: [Traffic; 2],
    },
}
