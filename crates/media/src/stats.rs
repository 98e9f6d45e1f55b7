//! What came in on one leg, and what of it has been reported already.
//! Never decides anything; its numbers balance: forwarded plus dropped is all that came.

use std::net::SocketAddr;

use crate::Traffic;

/// The counters of one leg, by arrival.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    received: Traffic,
    reported: Traffic,
    strangers: u64,
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

    pub(crate) fn stranger(&mut self, from: SocketAddr) {
        self.strangers += 1;
        self.sample = Some(from);
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

    /// How many strangers since the last call, and the last of them.
    pub(crate) fn take_strangers(&mut self) -> Option<(u64, SocketAddr)> {
        let sample = self.sample.take()?;
        Some((std::mem::take(&mut self.strangers), sample))
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
        assert_eq!(tally.take_strangers(), None);
        tally.stranger(a);
        tally.stranger(b);
        assert_eq!(tally.take_strangers(), Some((2, b)));
        assert_eq!(tally.take_strangers(), None);
    }
}
