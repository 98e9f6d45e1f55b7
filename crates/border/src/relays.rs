//! The relays of all calls, by number: whose they are, and how many count against what may be open.

use std::collections::BTreeMap;

use media::RelayId;

use crate::call::CallId;

/// From the order that opens a relay until the media plane says that it is no more.
pub(crate) struct Relays {
    all: BTreeMap<RelayId, Relay>,
    /// How many of them were ordered to close: what is ordered next finds them closed.
    closing: usize,
    next: u64,
}

struct Relay {
    call: CallId,
    /// Which m-line of the call it carries.
    line: usize,
    is_closing: bool,
}

impl Default for Relays {
    fn default() -> Self {
        Self { all: BTreeMap::new(), closing: 0, next: 1 }
    }
}

impl Relays {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many are open, or will be.
    pub(crate) fn open(&self) -> usize {
        self.all.len().saturating_sub(self.closing)
    }

    /// A new one for an m-line of a call.
    pub(crate) fn begin(&mut self, call: CallId, line: usize) -> RelayId {
        let id = RelayId(self.next);
        self.next += 1;
        self.all.insert(id, Relay { call, line, is_closing: false });
        id
    }

    /// The call and the m-line that a relay carries.
    pub(crate) fn find(&self, id: RelayId) -> Option<(CallId, usize)> {
        self.all.get(&id).map(|relay| (relay.call, relay.line))
    }

    /// A relay was ordered to close.
    pub(crate) fn close(&mut self, id: RelayId) {
        if let Some(relay) = self.all.get_mut(&id).filter(|relay| !relay.is_closing) {
            relay.is_closing = true;
            self.closing += 1;
        }
    }

    /// A relay is no more; the call that it was of.
    pub(crate) fn ended(&mut self, id: RelayId) -> Option<CallId> {
        let relay = self.all.remove(&id)?;
        self.closing -= usize::from(relay.is_closing);
        Some(relay.call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_counts_until_it_is_ordered_to_close_and_is_known_until_it_has_closed() {
        let mut relays = Relays::default();
        let (one, two) = (relays.begin(CallId(1), 0), relays.begin(CallId(1), 1));
        assert_eq!((relays.find(two), relays.open(), relays.len()), (Some((CallId(1), 1)), 2, 2));
        relays.close(one);
        relays.close(one);
        assert_eq!((relays.find(one), relays.open(), relays.len()), (Some((CallId(1), 0)), 1, 2));
        assert_eq!(
            (relays.ended(one), relays.ended(two), relays.ended(one)),
            (Some(CallId(1)), Some(CallId(1)), None)
        );
        assert_eq!((relays.find(one), relays.open(), relays.len()), (None, 0, 0));
    }
}
