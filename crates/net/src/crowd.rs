//! How many connections there may be: for each source, and in all, as long as nobody registered on them.
//!
//! A [`Slot`] is held by the connection's task, at the doors and later on the core's thread, and gives its
//! place back when dropped, however the task ends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::net::{FlowId, Side};

use crate::counters::Count;
use crate::flow::{End, Flow};
use crate::source_rate::source_key;

/// TLS handshakes of one source that may be under way at once.
const UNFINISHED_MAX: u32 = 32;
/// Connections of one source on which nobody registered.
const UNREGISTERED_MAX: u32 = 32;
/// The same for an allowed source.
const UNREGISTERED_ALLOWED_MAX: u32 = 512;
/// Connections of all sources on which nobody registered.
const UNREGISTERED_IN_ALL_MAX: usize = 4_096;
/// Connections that the inside face accepts.
const INSIDE_MAX: usize = 1_024;

/// Who is connected and has not registered.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    sources: BTreeMap<IpAddr, Source>,
    unregistered: BTreeMap<FlowId, Arc<Flow>>,
    inside: usize,
}

#[derive(Debug, Default)]
struct Source {
    unfinished: u32,
    unregistered: u32,
}

/// A connection that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) side: Side,
    pub(crate) allowed: bool,
    pub(crate) handshake: bool,
}

/// The place of one connection.
#[derive(Debug)]
pub(crate) struct Slot {
    crowd: Arc<Mutex<Crowd>>,
    flow: FlowId,
    source: IpAddr,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Inside,
    Handshake,
    Unregistered,
    Registered,
}

impl Slot {
    /// Lets a connection in, or says which limit is reached. Where there are too many in all, the oldest
    /// is ended for it, and said so by the second value.
    pub(crate) fn admit(
        crowd: &Arc<Mutex<Crowd>>,
        flow: &Arc<Flow>,
        arrival: Arrival,
    ) -> Result<(Self, bool), Count> {
        let source = source_key(flow.source());
        let (stage, evicted) = match arrival.side {
            Side::Inside => (lock(crowd).enter_inside()?, false),
            Side::Outside => lock(crowd).enter_outside(source, flow, arrival)?,
        };
        Ok((Self { crowd: Arc::clone(crowd), flow: flow.id, source, stage }, evicted))
    }

    /// The TLS handshake is complete.
    pub(crate) fn handshake_done(&mut self) {
        if self.stage == Stage::Handshake {
            lock(&self.crowd).source(self.source, |source| source.unfinished -= 1);
            self.stage = Stage::Unregistered;
        }
    }

    /// A phone registered on the connection.
    pub(crate) fn registered(&mut self) {
        if self.stage == Stage::Unregistered {
            lock(&self.crowd).leave_unregistered(self.source, self.flow);
            self.stage = Stage::Registered;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.handshake_done();
        self.registered();
        if self.stage == Stage::Inside {
            lock(&self.crowd).inside -= 1;
        }
    }
}

fn lock(crowd: &Mutex<Crowd>) -> MutexGuard<'_, Crowd> {
    crowd.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crowd {
    fn enter_inside(&mut self) -> Result<Stage, Count> {
        if self.inside >= INSIDE_MAX {
            return Err(Count::InsideConnections);
        }
        self.inside += 1;
        Ok(Stage::Inside)
    }

    fn enter_outside(
        &mut self,
        source: IpAddr,
        flow: &Arc<Flow>,
        arrival: Arrival,
    ) -> Result<(Stage, bool), Count> {
        let of_source = if arrival.allowed { UNREGISTERED_ALLOWED_MAX } else { UNREGISTERED_MAX };
        let (unfinished, unregistered) =
            self.sources.get(&source).map_or((0, 0), |source| (source.unfinished, source.unregistered));
        if arrival.handshake && unfinished >= UNFINISHED_MAX {
            return Err(Count::UnfinishedHandshakes);
        }
        if unregistered >= of_source {
            return Err(Count::UnregisteredOfSource);
        }
        let evicted = self.unregistered.len() >= UNREGISTERED_IN_ALL_MAX;
        if evicted && let Some((_, oldest)) = self.unregistered.pop_first() {
            oldest.end(End::Evicted);
        }
        self.unregistered.insert(flow.id, Arc::clone(flow));
        let source = self.sources.entry(source).or_default();
        source.unregistered += 1;
        source.unfinished += u32::from(arrival.handshake);
        Ok((if arrival.handshake { Stage::Handshake } else { Stage::Unregistered }, evicted))
    }

    fn leave_unregistered(&mut self, source: IpAddr, flow: FlowId) {
        self.unregistered.remove(&flow);
        self.source(source, |source| source.unregistered -= 1);
    }

    fn source(&mut self, key: IpAddr, change: impl FnOnce(&mut Source)) {
        if let Some(source) = self.sources.get_mut(&key) {
            change(source);
            debug_assert!(source.unfinished <= source.unregistered);
            if source.unregistered == 0 {
                self.sources.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    const TLS: Arrival = Arrival { side: Side::Outside, allowed: false, handshake: true };
    const TCP: Arrival = Arrival { side: Side::Outside, allowed: false, handshake: false };

    struct Door {
        crowd: Arc<Mutex<Crowd>>,
        next: u64,
        evicted: Vec<Arc<Flow>>,
    }

    impl Door {
        fn new() -> Self {
            Self { crowd: Arc::default(), next: 0, evicted: Vec::new() }
        }

        fn knock(&mut self, host: u32, arrival: Arrival) -> Result<Slot, Count> {
            self.next += 1;
            let remote = SocketAddr::from((host.to_be_bytes(), 4000));
            let flow = Arc::new(Flow::new(FlowId(self.next), remote));
            self.evicted.push(Arc::clone(&flow));
            Slot::admit(&self.crowd, &flow, arrival).map(|(slot, _)| slot)
        }
    }

    #[test]
    fn unfinished_handshakes_of_one_source_are_bounded() {
        let mut door = Door::new();
        let mut slots: Vec<_> = (0..32).map(|_| door.knock(1, TLS).unwrap()).collect();
        assert_eq!(door.knock(1, TLS).unwrap_err(), Count::UnfinishedHandshakes);
        assert!(door.knock(2, TLS).is_ok());
        slots[0].handshake_done();
        assert_eq!(door.knock(1, TLS).unwrap_err(), Count::UnregisteredOfSource);
        slots[0].registered();
        slots.push(door.knock(1, TLS).unwrap());
        drop(slots);
        assert!(lock(&door.crowd).sources.is_empty());
        assert!(lock(&door.crowd).unregistered.is_empty());
    }

    #[test]
    fn an_allowed_source_may_have_more() {
        let mut door = Door::new();
        let allowed = Arrival { allowed: true, ..TCP };
        let slots: Vec<_> = (0..512).map(|_| door.knock(1, allowed).unwrap()).collect();
        assert_eq!(door.knock(1, allowed).unwrap_err(), Count::UnregisteredOfSource);
        assert_eq!(door.knock(1, TCP).unwrap_err(), Count::UnregisteredOfSource);
        drop(slots);
        assert!(door.knock(1, TCP).is_ok());
    }

    #[test]
    fn over_all_the_oldest_unregistered_goes() {
        let mut door = Door::new();
        let mut slots: Vec<_> = (0..4096).map(|host| door.knock(host, TCP).unwrap()).collect();
        slots[0].registered();
        slots.push(door.knock(5000, TCP).unwrap());
        assert!(door.evicted.iter().all(|flow| flow.ended().is_none()));
        slots.push(door.knock(5001, TCP).unwrap());
        let ended: Vec<_> = door.evicted.iter().filter(|flow| flow.ended().is_some()).collect();
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].id, ended[0].ended()), (FlowId(2), Some(End::Evicted)));
        drop(slots);
        assert!(lock(&door.crowd).sources.is_empty());
    }

    #[test]
    fn the_inside_has_a_number_of_its_own() {
        let mut door = Door::new();
        let inside = Arrival { side: Side::Inside, ..TCP };
        let slots: Vec<_> = (0..1024).map(|_| door.knock(1, inside).unwrap()).collect();
        assert_eq!(door.knock(1, inside).unwrap_err(), Count::InsideConnections);
        assert!(door.knock(1, TCP).is_ok());
        drop(slots);
        assert!(door.knock(1, inside).is_ok());
    }
}
