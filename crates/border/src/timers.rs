//! Everything the border waits for, ordered by time. No sleeping task anywhere.

use std::collections::BTreeSet;

use sip::{ClientId, ServerId};
use wire::clock::Instant;
use wire::net::FlowId;

use crate::binding::BindingId;
use crate::call::CallId;

/// What is due. Each names its object; the object knows whether it still means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A connection should have said something, finished a message, or registered.
    Flow(FlowId),
    /// A binding expires, its grace ends, or its inside registration needs a refresh.
    Binding(BindingId),
    /// The next OPTIONS and query to a PBX.
    HealthCheck(usize),
    /// A PBX should have said something since a request went there.
    Silence(usize),
    /// More registrations may be sent to a PBX.
    Pacing(usize),
    /// PBXs that were not heard since the start are waited for no longer.
    FirstWord,
    /// Who waits to be asked about at a PBX has his turn.
    Samples(usize),
    /// A delayed answer to a stranger.
    Decoy(ServerId),
    /// A phone has waited long enough for the PBX's word on its REGISTER.
    PassedRegister(ClientId),
    /// A write was promised within this time.
    Store(u64),
    /// A call rings too long, or ends too slowly.
    Call(CallId),
    /// A write of the node's own records was not confirmed.
    NodeRecords,
    /// More records are to be written for a clock that was set.
    ClockStep,
    /// Changes of the lists are to be carried out.
    Lists,
    /// Suppressed events are summed up.
    Report,
    /// Our own certificate may be near its end.
    ServerCertificate,
}

/// The queue. A timer that stands twice fires twice: owners arm once and re-arm when it fires early.
#[derive(Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Instant, timer: Timer) {
        self.queue.insert((at, timer));
    }

    pub(crate) fn disarm(&mut self, at: Instant, timer: Timer) {
        self.queue.remove(&(at, timer));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The next timer that is due by `now`, in order.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop_first().map(|(_, timer)| timer)
    }
}

/// One deadline of one object: armed at most once, moved cheaply.
///
/// Moving it later leaves the queue alone; when the old entry fires, [`Deadline::fired`] arms the new one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deadline {
    wanted: Option<Instant>,
    armed: Option<Instant>,
}

impl Deadline {
    /// Wants the timer at `at`.
    pub(crate) fn set(&mut self, at: Instant, timer: Timer, timers: &mut Timers) {
        self.wanted = Some(at);
        if self.armed.is_none_or(|armed| armed > at) {
            if let Some(armed) = self.armed {
                timers.disarm(armed, timer);
            }
            timers.arm(at, timer);
            self.armed = Some(at);
        }
    }

    /// Wants it no more.
    pub(crate) fn clear(&mut self, timer: Timer, timers: &mut Timers) {
        if let Some(armed) = self.armed.take() {
            timers.disarm(armed, timer);
        }
        self.wanted = None;
    }

    /// Its timer fired: true where it is really due, else it is armed for when it will be.
    pub(crate) fn fired(&mut self, now: Instant, timer: Timer, timers: &mut Timers) -> bool {
        self.armed = None;
        match self.wanted {
            Some(at) if at > now => {
                timers.arm(at, timer);
                self.armed = Some(at);
                false
            }
            Some(_) => {
                self.wanted = None;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_moved_later_fires_once_and_late() {
        let mut timers = Timers::default();
        let mut deadline = Deadline::default();
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let timer = Timer::HealthCheck(0);
        deadline.set(at(10), timer, &mut timers);
        deadline.set(at(30), timer, &mut timers);
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.pop_due(at(10)), Some(timer));
        assert!(!deadline.fired(at(10), timer, &mut timers));
        assert_eq!(timers.next(), Some(at(30)));
        assert_eq!(timers.pop_due(at(30)), Some(timer));
        assert!(deadline.fired(at(30), timer, &mut timers));
        assert_eq!(timers.queue.len(), 0);
    }

    #[test]
    fn a_deadline_moved_earlier_or_cleared_leaves_nothing_behind() {
        let mut timers = Timers::default();
        let mut deadline = Deadline::default();
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let timer = Timer::Pacing(1);
        deadline.set(at(10), timer, &mut timers);
        deadline.set(at(5), timer, &mut timers);
        assert_eq!((timers.queue.len(), timers.next()), (1, Some(at(5))));
        deadline.clear(timer, &mut timers);
        assert_eq!(timers.queue.len(), 0);
    }
}
