//! Why a datagram was not forwarded. Each way out of the relay other than "forwarded" has a name here and
//! is counted; none is ever answered or logged by itself.

use std::fmt;

/// Why a datagram was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// It came to a socket that belongs to no open relay.
    NotOpen,
    /// Shorter than any packet of its kind: empty, or a keep-alive of a few bytes.
    TooShort,
    /// STUN: connectivity checks are not answered here, and relaying them would show inside addresses.
    Stun,
    /// Neither RTP, RTCP nor DTLS, or an RTP header that does not fit its own lengths.
    NotRtp,
    /// RTP on the RTCP port, RTCP on an RTP port that is not multiplexed, or a second port where there is
    /// only one stream.
    WrongPort,
    /// The source is blocked.
    Blocked,
    /// The leg has not learned its peer, and this source has not shown enough to be taken for it.
    Unproven,
    /// The leg is locked to another source.
    Stranger,
    /// The source is an address to which nothing may be sent, so it cannot be a peer.
    ForbiddenSource,
    /// Nothing is known yet about where the other side receives.
    PeerUnknown,
    /// The other side advertised an address to which nothing may be sent.
    ForbiddenDestination,
    /// The other side advertised a private address that it does not signal from, and nothing has come from
    /// there or from elsewhere yet: it may be anybody's.
    UnprovenDestination,
    /// Nothing may be sent to the other side at present (before its answer, or on hold).
    NotSending,
    /// The operating system's send buffer was full.
    SendBufferFull,
    /// The operating system refused to send, or reported an ICMP error for this peer.
    SendFailed,
}

impl DropReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 15] = [
        Self::NotOpen,
        Self::TooShort,
        Self::Stun,
        Self::NotRtp,
        Self::WrongPort,
        Self::Blocked,
        Self::Unproven,
        Self::Stranger,
        Self::ForbiddenSource,
        Self::PeerUnknown,
        Self::ForbiddenDestination,
        Self::UnprovenDestination,
        Self::NotSending,
        Self::SendBufferFull,
        Self::SendFailed,
    ];

    /// Those for which an address is to blame, not a packet or the state of the relay: whoever is refused so sends
    /// what he should, and is not heard. [`RelayEvent::Refused`](crate::RelayEvent::Refused) tells them.
    pub const OF_ADDRESSES: [Self; 6] = [
        Self::Blocked,
        Self::Unproven,
        Self::Stranger,
        Self::ForbiddenSource,
        Self::ForbiddenDestination,
        Self::UnprovenDestination,
    ];

    /// The name that operators see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotOpen => "not_open",
            Self::TooShort => "too_short",
            Self::Stun => "stun",
            Self::NotRtp => "not_rtp",
            Self::WrongPort => "wrong_port",
            Self::Blocked => "blocked",
            Self::Unproven => "unproven",
            Self::Stranger => "stranger",
            Self::ForbiddenSource => "forbidden_source",
            Self::PeerUnknown => "peer_unknown",
            Self::ForbiddenDestination => "forbidden_destination",
            Self::UnprovenDestination => "unproven_destination",
            Self::NotSending => "not_sending",
            Self::SendBufferFull => "send_buffer_full",
            Self::SendFailed => "send_failed",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often each reason came up, over all relays of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl DropCounts {
    /// The count of one reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().map(|reason| (reason, self.of(reason)))
    }

    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn add(&mut self, reason: DropReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_counters_and_names_differ() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.to_string()).collect();
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            let mut counts = DropCounts::default();
            counts.add(reason);
            assert_eq!((counts.of(reason), counts.total()), (1, 1));
            assert_eq!(counts.iter().find(|(_, count)| *count > 0), Some((reason, 1)));
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
