//! Where transactions live: a slab with generations, and the keys that find them.
//!
//! Never holds a key without its transaction or a transaction without its key.

use std::collections::BTreeMap;

use slab::Slab;
use wire::clock::Instant;
use wire::net::FlowId;

use super::Hop;
use super::key::TransactionKey;
use super::machine::{Machine, State};

/// One transaction and what the layer knows of it.
#[derive(Debug)]
pub(super) struct Slot<M> {
    pub(super) id: u64,
    pub(super) key: TransactionKey,
    pub(super) hop: Hop,
    pub(super) machine: M,
    /// The deadline under which the layer has queued it.
    pub(super) armed: Option<Instant>,
}

/// What a step has changed.
pub(super) struct Change {
    pub(super) hop: Hop,
    /// The deadline under which the layer has queued it.
    pub(super) before: Option<Instant>,
    /// The one under which it is to be queued.
    pub(super) after: Option<Instant>,
    /// From now on it is there for what is repeated alone, as so many bytes.
    pub(super) lingers: Option<usize>,
}

/// All server or all client transactions.
#[derive(Debug)]
pub(super) struct Slots<M> {
    slab: Slab<Slot<M>>,
    keys: BTreeMap<TransactionKey, u64>,
    generation: u32,
}

impl<M> Slots<M> {
    pub(super) fn new() -> Self {
        Self { slab: Slab::new(), keys: BTreeMap::new(), generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn find(&self, key: &TransactionKey) -> Option<u64> {
        self.keys.get(key).copied()
    }

    /// Takes a transaction whose key is not known yet.
    pub(super) fn insert(&mut self, key: TransactionKey, hop: Hop, machine: M) -> u64 {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slab.vacant_entry();
        debug_assert!(u32::try_from(entry.key()).is_ok(), "bounded by transactions_max");
        let id = (u64::from(self.generation) << 32) | (entry.key() as u64 & u64::from(u32::MAX));
        entry.insert(Slot { id, key: key.clone(), hop, machine, armed: None });
        let before = self.keys.insert(key, id);
        debug_assert!(before.is_none(), "one transaction a key");
        id
    }

    pub(super) fn slot_mut(&mut self, id: u64) -> Option<&mut Slot<M>> {
        self.slab.get_mut(index(id)).filter(|slot| slot.id == id)
    }

    pub(super) fn slot(&self, id: u64) -> Option<&Slot<M>> {
        self.slab.get(index(id)).filter(|slot| slot.id == id)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Slot<M>> {
        self.slot(id)?;
        let slot = self.slab.try_remove(index(id))?;
        let known = self.keys.remove(&slot.key);
        debug_assert_eq!(known, Some(id), "the key led to it");
        Some(slot)
    }

    /// All of one flow.
    pub(super) fn of_flow(&self, flow: FlowId) -> Vec<u64> {
        let from = TransactionKey::first_of(flow);
        self.keys.range(from..).take_while(|(key, _)| key.flow == flow).map(|(_, id)| *id).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot<M>> {
        self.slab.iter().map(|(_, slot)| slot)
    }

    /// Panics where keys and transactions do not match one to one.
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.keys.len(), self.slab.len(), "one key a transaction");
        for (key, id) in &self.keys {
            assert!(self.slot(*id).is_some_and(|slot| slot.key == *key), "each key finds its own");
        }
    }
}

impl<S: State> Slots<Machine<S>> {
    /// Lets a machine act, and removes it where that was its end. `None`: it is gone.
    pub(super) fn step(&mut self, id: u64, act: impl FnOnce(&mut Machine<S>)) -> Option<Change> {
        let slot = self.slot_mut(id)?;
        let lingered = slot.machine.lingers().is_some();
        act(&mut slot.machine);
        let after = slot.machine.poll_timeout();
        let lingers = slot.machine.lingers().filter(|_| !lingered);
        let change = Change { hop: slot.hop, before: slot.armed, after, lingers };
        slot.armed = after;
        if slot.machine.is_terminated() {
            self.remove(id);
        }
        Some(change)
    }
}

fn index(id: u64) -> usize {
    (id & u64::from(u32::MAX)) as usize
}

#[cfg(test)]
mod tests {
    use wire::net::Transport;
    use wire::sip::Method;

    use super::*;

    #[test]
    fn an_id_never_finds_its_successor() {
        let remote = "192.0.2.1:5060".parse().expect("an address");
        let hop = Hop { flow: FlowId(1), remote, transport: Transport::Udp };
        let key = |branch| TransactionKey::client(FlowId(1), branch, Method::Bye);
        let mut slots = Slots::new();
        let first = slots.insert(key("z9hG4bK1"), hop, 'a');
        assert!(slots.remove(first).is_some());
        let second = slots.insert(key("z9hG4bK2"), hop, 'b');
        assert_eq!(index(first), index(second), "the place is used again");
        assert!(slots.slot(first).is_none() && slots.slot_mut(first).is_none());
        assert!(slots.remove(first).is_none());
        assert_eq!(slots.find(&key("z9hG4bK1")), None);
        assert_eq!(slots.find(&key("z9hG4bK2")), Some(second));
        assert_eq!(slots.of_flow(FlowId(1)), [second]);
        assert!(slots.of_flow(FlowId(2)).is_empty());
        slots.check_invariants();
    }
    #[test]
    #[should_panic(expected = "one key a transaction")]
    fn a_transaction_without_its_key_is_seen() {
        let remote = "192.0.2.1:5060".parse().expect("an address");
        let hop = Hop { flow: FlowId(1), remote, transport: Transport::Udp };
        let mut slots = Slots::new();
        slots.insert(TransactionKey::client(FlowId(1), "z9hG4bK1", Method::Bye), hop, 'a');
        slots.keys.clear();
        slots.check_invariants();
    }
}
