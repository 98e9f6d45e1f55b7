//! Bindings: which contact an extension is reached at, by which flow, and how it stands at the PBX.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use guard::HardwareId;
use sip::Hop;
use slab::Slab;
use wire::clock::{Instant, WallTime};
use wire::net::FlowId;

use crate::answer::Ask;
use crate::digest::AuthState;
use crate::entry::EntryId;
use crate::timers::Deadline;

/// A binding; never reused for another one within 2^32 bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BindingId {
    index: u32,
    generation: u32,
}

/// What makes a binding this one and no other of its extension (contract section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BindingKey(String);

impl BindingKey {
    /// Of a Contact: its instance and `reg-id`, else the device, else its URI. With a certificate only among the
    /// bindings of that device: nobody takes another's.
    pub(crate) fn of(flow: Option<(&str, &str)>, device: Option<HardwareId>, uri: &str) -> Self {
        Self(match (flow, device) {
            (Some((instance, reg_id)), Some(id)) => format!("i:{id};{reg_id};{instance}"),
            (Some((instance, reg_id)), None) => format!("i:{reg_id};{instance}"),
            (None, Some(id)) => format!("h:{id}"),
            (None, None) => format!("c:{uri}"),
        })
    }

    /// One that was kept, as [`Self::as_str`] gave it.
    pub(crate) fn kept(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the device keeps flows (RFC 5626): it named an instance and a `reg-id`.
    pub(crate) fn is_of_flow(&self) -> bool {
        self.0.starts_with("i:")
    }
}

/// How a binding stands at the PBX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// Is not registered: waits for its turn, for the PBX to come back, or until it may try again.
    Waiting {
        /// When it shall be tried again.
        until: Option<Instant>,
    },
    /// Our REGISTER is on its way.
    Registering,
    /// The PBX keeps our contact.
    Registered {
        /// Until when.
        expires: Instant,
        /// When we refresh it; none for pass-through, where the phone's own REGISTER does.
        refresh: Option<Instant>,
    },
}

/// One binding of one extension.
pub(crate) struct Binding {
    pub(crate) entry: EntryId,
    pub(crate) key: BindingKey,
    /// The user part of our Contact at the PBX.
    pub(crate) token: String,
    /// The phone's Contact URI: the Request-URI of what we send to it.
    pub(crate) contact: String,
    /// The whole Contact value, to be given back in the 200.
    pub(crate) contact_value: String,
    pub(crate) user_agent: Option<String>,
    pub(crate) hardware_id: Option<HardwareId>,
    /// Where the phone is now; none while its connection is lost or after a restart.
    pub(crate) hop: Option<Hop>,
    /// Where it was last, for people.
    pub(crate) last_seen_at: Option<Hop>,
    /// Of the phone's newest REGISTER: an older one of the same series changes nothing (RFC 3261 §10.3).
    pub(crate) phone_series: (String, u32),
    /// Until when the phone's registration holds.
    pub(crate) expires: Instant,
    /// The same by the wall clock, for the store.
    pub(crate) expires_wall: WallTime,
    /// Until when a start would still believe its record.
    pub(crate) kept_until: WallTime,
    /// Why it was cut off, where it is blocked and has not come back since.
    pub(crate) cut_off: Option<&'static str>,
    /// While the flow is lost: until when the phone may come back.
    pub(crate) grace: Option<Instant>,
    /// The PBX's own challenge decides about it.
    pub(crate) pass_through: bool,
    /// At which PBX.
    pub(crate) pbx: usize,
    pub(crate) inside: Inside,
    /// It stands in the PBX's queue of registrations to be sent.
    pub(crate) queued: bool,
    /// It was registered there before: what is repeated now repairs a loss.
    pub(crate) was_registered: bool,
    /// When the PBX last listed our contact in a 200.
    pub(crate) confirmed: Option<Instant>,
    pub(crate) auth: AuthState,
    /// The phone's REGISTERs that wait for the PBX's answer, each with the end of its patience; oldest first.
    pub(crate) waiting: VecDeque<(Instant, Ask)>,
    pub(crate) deadline: Deadline,
}

impl Binding {
    /// When it ends unless the phone refreshes it, or comes back.
    pub(crate) fn end(&self) -> Instant {
        self.grace.map_or(self.expires, |grace| grace.min(self.expires))
    }

    /// When something has to be done about it next.
    pub(crate) fn next_deadline(&self) -> Instant {
        let end = self.end();
        let end = self.waiting.front().map_or(end, |(until, _)| end.min(*until));
        match self.inside {
            Inside::Registered { refresh: Some(at), .. } | Inside::Waiting { until: Some(at) } => end.min(at),
            Inside::Waiting { until: None }
            | Inside::Registering
            | Inside::Registered { refresh: None, .. } => end,
        }
    }

    /// Whether its registration at the PBX is to be made or refreshed now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self.inside {
            Inside::Registered { refresh: Some(at), .. } | Inside::Waiting { until: Some(at) } => at <= now,
            Inside::Waiting { until: None }
            | Inside::Registering
            | Inside::Registered { refresh: None, .. } => false,
        }
    }

    pub(crate) fn take_waiting(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, ask)| ask).collect()
    }

    pub(crate) fn is_registered(&self) -> bool {
        matches!(self.inside, Inside::Registered { .. })
    }

    /// In words, for `portcullis registrations`.
    pub(crate) fn state(&self) -> &'static str {
        match (&self.inside, self.hop) {
            (Inside::Registered { .. }, Some(_)) => "registered",
            (Inside::Registered { .. }, None) => "grace",
            (Inside::Registering, _) => "registering",
            (Inside::Waiting { .. }, _) => "lost",
        }
    }
}

/// All bindings, found by what messages carry.
#[derive(Default)]
pub(crate) struct BindingTable {
    slots: Slab<(u32, Binding)>,
    generation: u32,
    by_token: BTreeMap<String, BindingId>,
    by_key: BTreeMap<(EntryId, BindingKey), BindingId>,
    by_hop: BTreeMap<(FlowId, SocketAddr), Vec<BindingId>>,
}

impl BindingTable {
    pub(crate) fn insert(&mut self, binding: Binding) -> BindingId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let (token, key) = (binding.token.clone(), (binding.entry, binding.key.clone()));
        let hop = binding.hop;
        let index = u32::try_from(self.slots.insert((generation, binding))).unwrap_or(u32::MAX);
        let id = BindingId { index, generation };
        self.by_token.insert(token, id);
        self.by_key.insert(key, id);
        if let Some(hop) = hop {
            self.by_hop.entry((hop.flow, hop.remote)).or_default().push(id);
        }
        id
    }

    pub(crate) fn remove(&mut self, id: BindingId) -> Option<Binding> {
        self.binding(id)?;
        self.detach(id);
        let (_, binding) = self.slots.try_remove(id.index as usize)?;
        self.by_token.remove(&binding.token);
        self.by_key.remove(&(binding.entry, binding.key.clone()));
        Some(binding)
    }

    pub(crate) fn binding(&self, id: BindingId) -> Option<&Binding> {
        self.slots.get(id.index as usize).filter(|slot| slot.0 == id.generation).map(|slot| &slot.1)
    }

    pub(crate) fn binding_mut(&mut self, id: BindingId) -> Option<&mut Binding> {
        self.slots.get_mut(id.index as usize).filter(|slot| slot.0 == id.generation).map(|slot| &mut slot.1)
    }

    pub(crate) fn by_token(&self, token: &str) -> Option<BindingId> {
        self.by_token.get(token).copied()
    }

    pub(crate) fn by_key(&self, entry: EntryId, key: &BindingKey) -> Option<BindingId> {
        self.by_key.get(&(entry, key.clone())).copied()
    }

    /// The bindings of the phones at the other end of a hop; empty for strangers.
    pub(crate) fn by_hop(&self, hop: &Hop) -> &[BindingId] {
        self.by_hop.get(&(hop.flow, hop.remote)).map_or(&[], Vec::as_slice)
    }

    /// The bindings on a connection, whatever its remote address.
    pub(crate) fn on_flow(&self, flow: FlowId) -> Vec<BindingId> {
        let lowest = SocketAddr::from(([0, 0, 0, 0], 0));
        self.by_hop
            .range((flow, lowest)..)
            .take_while(|((on, _), _)| *on == flow)
            .flat_map(|(_, ids)| ids.iter().copied())
            .collect()
    }

    pub(crate) fn of_entry(&self, entry: EntryId) -> impl Iterator<Item = (BindingId, &Binding)> {
        self.by_key
            .range((entry, BindingKey::default())..)
            .take_while(move |((of, _), _)| *of == entry)
            .filter_map(|(_, id)| Some((*id, self.binding(*id)?)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (BindingId, &Binding)> {
        self.by_key.values().filter_map(|id| Some((*id, self.binding(*id)?)))
    }

    /// The phone is at `hop` now. Returns where it was.
    pub(crate) fn attach(&mut self, id: BindingId, hop: Hop) -> Option<Hop> {
        let old = self.detach(id);
        if let Some(binding) = self.binding_mut(id) {
            binding.hop = Some(hop);
            binding.last_seen_at = Some(hop);
            binding.grace = None;
            binding.cut_off = None;
            self.by_hop.entry((hop.flow, hop.remote)).or_default().push(id);
        }
        old
    }

    /// The phone's flow is gone. Returns what it was.
    pub(crate) fn detach(&mut self, id: BindingId) -> Option<Hop> {
        let hop = self.binding_mut(id)?.hop.take()?;
        let place = (hop.flow, hop.remote);
        if let Some(ids) = self.by_hop.get_mut(&place) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_hop.remove(&place);
            }
        }
        Some(hop)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn check_invariants(&self) {
        debug_assert_eq!(self.slots.len(), self.by_token.len(), "one token a binding");
        debug_assert_eq!(self.slots.len(), self.by_key.len(), "one key a binding");
        debug_assert!(
            self.by_hop.iter().all(|((flow, remote), ids)| !ids.is_empty()
                && ids.iter().all(|id| self
                    .binding(*id)
                    .and_then(|binding| binding.hop)
                    .is_some_and(|hop| hop.flow == *flow && hop.remote == *remote))),
            "every hop leads to bindings that know it"
        );
    }
}
