//! What came in on one leg, and what of it has been reported already.
//! Never decides anything; its numbers balance: forwarded plus dropped is all that came.

use std::net::SocketAddr;

use crate::{DropReason, Traffic};

/// The counters of one leg, by arrival.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    received: Traffic,
    reported: Traffic,
    refused: [Refused; DropReason::OF_ADDRESSES.len()],
}

/// What was refused for one reason since the last report.
#[derive(Clone, Copy, Debug, Default)]
struct Refused {
    count: u64,
    sample: Option<SocketAddr>,
}

impl Tally {
    pub(crate) fn forwarded(&mut self, bytes: usize) {
        self.received.packets += 1;
        self.received.bytes += bytes as u64;
    }

    pub(crate) fn dropped(&mut self) {
        self.received.dropped += 1;
    }

    /// A packet counted as forwarded was not sent after all.
    pub(crate) fn unsent(&mut self, bytes: usize) {
        self.received.packets = self.received.packets.saturating_sub(1);
        self.received.bytes = self.received.bytes.saturating_sub(bytes as u64);
        self.received.dropped += 1;
    }

    /// Notes an address that a datagram was not let through for, where that is the reason.
    pub(crate) fn refused(&mut self, reason: DropReason, address: SocketAddr) {
        let place = DropReason::OF_ADDRESSES.iter().position(|it| *it == reason);
        if let Some(refused) = place.and_then(|place| self.refused.get_mut(place)) {
            refused.count += 1;
            refused.sample = Some(address);
        }
    }

    pub(crate) fn received(&self) -> Traffic {
        self.received
    }

    /// Whether anything came since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        let changed = self.received != self.reported;
        self.reported = self.received;
        changed
    }

    /// How many were refused since the last call, and the last address, by reason.
    pub(crate) fn take_refused(&mut self) -> impl Iterator<Item = (DropReason, u64, SocketAddr)> + '_ {
        DropReason::OF_ADDRESSES.into_iter().zip(&mut self.refused).filter_map(|(reason, refused)| {
            let Refused { count, sample } = std::mem::take(refused);
            Some((reason, count, sample?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_and_dropped_balance_and_changes_are_told_once() {
        let mut tally = Tally::default();
        assert!(!tally.take_changed());
        tally.forwarded(172);
        tally.forwarded(100);
        tally.dropped();
        tally.unsent(100);
        assert_eq!(tally.received(), Traffic { packets: 1, bytes: 172, dropped: 2 });
        assert!(tally.take_changed());
        assert!(!tally.take_changed());
        let (a, b) = ("192.0.2.1:1".parse().expect("a"), "192.0.2.1:2".parse().expect("b"));
        assert_eq!(tally.take_refused().count(), 0);
        tally.refused(DropReason::Stranger, a);
        tally.refused(DropReason::Stranger, b);
        tally.refused(DropReason::Blocked, a);
        tally.refused(DropReason::TooShort, a);
        let told: Vec<_> = tally.take_refused().collect();
        assert_eq!(told, [(DropReason::Blocked, 1, a), (DropReason::Stranger, 2, b)]);
        assert_eq!(tally.take_refused().count(), 0);
    }
}
