//! Counts of everything that `net` drops or refuses, by reason. Written by any thread, read by the shell.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why bytes or a connection went no further, or what else is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// Connections accepted by the kernel.
    Accepted,
    /// Connections of blocked sources, closed at accept.
    BlockedConnection,
    /// Datagrams of blocked sources.
    BlockedDatagram,
    /// Bytes that were to go to a blocked address.
    BlockedSend,
    /// Streams closed in the middle because their source was blocked meanwhile.
    BlockedStream,
    /// Connections over the rate of new connections for one source.
    ConnectionRate,
    /// Connections over the number of unfinished handshakes for one source.
    UnfinishedHandshakes,
    /// Connections over the number of unregistered ones for one source.
    UnregisteredOfSource,
    /// The oldest unregistered connection, closed to make room for a new one.
    UnregisteredOldest,
    /// Connections on the inside face over its number.
    InsideConnections,
    /// TLS handshakes that failed, for whatever cause.
    HandshakeFailed,
    /// TLS handshakes that were resumed from a ticket and checked again.
    HandshakeResumed,
    /// Datagrams over the rate of one source.
    DatagramRate,
    /// Datagrams without a byte in them.
    DatagramEmpty,
    /// Datagrams on the outside face that are longer than any phone needs.
    DatagramTooLong,
    /// Datagrams for which the core had no room.
    CoreBusy,
    /// STUN requests answered.
    StunAnswered,
    /// STUN datagrams that are no plain Binding request, or that nobody may ask here.
    StunIgnored,
    /// Datagrams that the kernel had no room for on the way out.
    SendWouldBlock,
    /// Datagrams that the kernel refused to send.
    SendFailed,
    /// Messages for a flow that is gone.
    SendNoFlow,
    /// Streams closed because the other end read too slowly.
    WriterOverflow,
    /// Failures of `accept` itself, as when file descriptors run out.
    AcceptFailed,
}

impl Count {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 23] = [
        Self::Accepted,
        Self::BlockedConnection,
        Self::BlockedDatagram,
        Self::BlockedSend,
        Self::BlockedStream,
        Self::ConnectionRate,
        Self::UnfinishedHandshakes,
        Self::UnregisteredOfSource,
        Self::UnregisteredOldest,
        Self::InsideConnections,
        Self::HandshakeFailed,
        Self::HandshakeResumed,
        Self::DatagramRate,
        Self::DatagramEmpty,
        Self::DatagramTooLong,
        Self::CoreBusy,
        Self::StunAnswered,
        Self::StunIgnored,
        Self::SendWouldBlock,
        Self::SendFailed,
        Self::SendNoFlow,
        Self::WriterOverflow,
        Self::AcceptFailed,
    ];

    /// Whether something went no further. The others count what went well.
    pub fn is_loss(self) -> bool {
        match self {
            Self::Accepted | Self::HandshakeResumed | Self::StunAnswered => false,
            Self::BlockedConnection
            | Self::BlockedDatagram
            | Self::BlockedSend
            | Self::BlockedStream
            | Self::ConnectionRate
            | Self::UnfinishedHandshakes
            | Self::UnregisteredOfSource
            | Self::UnregisteredOldest
            | Self::InsideConnections
            | Self::HandshakeFailed
            | Self::DatagramRate
            | Self::DatagramEmpty
            | Self::DatagramTooLong
            | Self::CoreBusy
            | Self::StunIgnored
            | Self::SendWouldBlock
            | Self::SendFailed
            | Self::SendNoFlow
            | Self::WriterOverflow
            | Self::AcceptFailed => true,
        }
    }

    /// The reason as operators see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::BlockedConnection => "blocked_connection",
            Self::BlockedDatagram => "blocked_datagram",
            Self::BlockedSend => "blocked_send",
            Self::BlockedStream => "blocked_stream",
            Self::ConnectionRate => "connection_rate",
            Self::UnfinishedHandshakes => "unfinished_handshakes",
            Self::UnregisteredOfSource => "unregistered_of_source",
            Self::UnregisteredOldest => "unregistered_oldest",
            Self::InsideConnections => "inside_connections",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeResumed => "handshake_resumed",
            Self::DatagramRate => "datagram_rate",
            Self::DatagramEmpty => "datagram_empty",
            Self::DatagramTooLong => "datagram_too_long",
            Self::CoreBusy => "core_busy",
            Self::StunAnswered => "stun_answered",
            Self::StunIgnored => "stun_ignored",
            Self::SendWouldBlock => "send_would_block",
            Self::SendFailed => "send_failed",
            Self::SendNoFlow => "send_no_flow",
            Self::WriterOverflow => "writer_overflow",
            Self::AcceptFailed => "accept_failed",
        }
    }
}

/// One counter for each [`Count`].
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Count::ALL.len()]);

impl Counters {
    /// How often `count` happened since the start.
    pub fn read(&self, count: Count) -> u64 {
        self.0.get(count as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Count, u64)> {
        Count::ALL.into_iter().map(|count| (count, self.read(count)))
    }

    pub(crate) fn add(&self, count: Count) {
        self.add_many(count, 1);
    }

    pub(crate) fn add_many(&self, count: Count, many: u64) {
        if let Some(counter) = self.0.get(count as usize) {
            counter.fetch_add(many, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let counters = Counters::default();
        for (index, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, index, "{count:?} stands out of order");
            counters.add_many(count, index as u64 + 1);
        }
        for (index, (count, value)) in counters.iter().enumerate() {
            assert_eq!(value, index as u64 + 1, "{count:?}");
        }
        let mut names: Vec<_> = Count::ALL.iter().map(|count| count.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Count::ALL.len());
    }
}
