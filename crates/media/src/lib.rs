//! Moves each datagram to the other side or counts why not.
//!
//! Owns the relays of one media shard: which ports to try, where each peer really is, what may pass and
//! where it goes, and the counters. Never changes payload bytes, never sends to an address that was neither
//! learned nor advertised, never follows a new source once a leg is locked, except where the peer asked for
//! a change through signalling. No sockets, no clock: the shard (`portcullis::media_shard`) has those.
//!
//! ```text
//! RelayTable::new(TableConfig)
//!   handle_order(Order, now)                      from the border
//!   set_blocked(blocked, now)                     the block list, whenever it changes
//!   poll_action() -> Bind | Release               for the shard; Bind is answered by on_bind
//!   on_datagram(socket, from, bytes, now) -> Forward { socket, to } | Drop(DropReason)
//!   handle_timeout(now), poll_timeout()
//!   poll_event() -> RelayEvent                    for the border
//! ```
//!
//! Start reading at [`RelayTable::on_datagram`], then `latch.rs`. RFC 3550, RFC 4961 (symmetric RTP),
//! RFC 5761 (one port for RTP and RTCP), RFC 7983 (what a datagram is by its first byte).
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod demux;
mod destination;
mod drop_reason;
mod latch;
mod leg;
mod order;
mod port_pool;
mod random;
mod relay;
mod spare;
mod stats;

pub use drop_reason::{DropCounts, DropReason};
pub use order::{
    LatchPolicy, LegSpec, Order, Payload, RelayEvent, RelayFault, RelayId, RelaySpec, SourceRank, Traffic,
};
pub use port_pool::{PortPool, REST};
pub use relay::{Action, BindFault, RelayTable, SOCKETS_PER_RELAY, TableConfig, Verdict};
