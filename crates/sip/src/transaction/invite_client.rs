//! INVITE client transaction (RFC 3261 figure 5, amended by RFC 6026 §7.2).
//!
//! ```text
//!              Calling ──1xx──► Proceeding
//!   A: send, B: gone │             │ cancel expired: gone
//!                    ├─2xx─► Accepted ──M──► Terminated      each 2xx is delivered
//!                    └─300+► Completed ─D──► Terminated      each 300+ is acknowledged
//! ```
//! Never makes the ACK of a 2xx, which is the transaction user's, and never sends a CANCEL before a
//! provisional answer or after a final one (§9.1). Proceeding has no timer of its own: how long a phone may
//! ring is the transaction user's decision.

use bytes::Bytes;
use wire::clock::Instant;
use wire::net::Transport;

use super::derived;
use super::machine::Action;
use crate::timer::{PATIENCE, T1, Timer, TimerTable};

/// One INVITE of ours.
#[derive(Debug)]
pub(super) struct InviteClient {
    transport: Transport,
    state: State,
    timers: TimerTable<Event<'static>>,
}

#[derive(Debug)]
enum State {
    Calling(Calling),
    Proceeding(Proceeding),
    Completed { ack: Option<Bytes> },
    Accepted,
    Terminated,
}

#[derive(Debug)]
struct Calling {
    request: Bytes,
    interval: std::time::Duration,
    /// The transaction user wants it cancelled as soon as the peer has answered at all.
    cancelled: bool,
}

#[derive(Debug)]
struct Proceeding {
    request: Bytes,
    /// The CANCEL was sent.
    cancelled: bool,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A 1xx.
    Provisional,
    /// A 2xx.
    Success,
    /// Any other final answer, with the value of its To.
    Failure {
        to: &'a str,
    },
    /// The transaction user gives up.
    Cancel,
    /// The flow is gone.
    TransportError,
    TimerA,
    TimerB,
    TimerD,
    TimerM,
    /// No final answer after the CANCEL.
    TimerCancel,
}

impl InviteClient {
    /// Sends the INVITE.
    pub(super) fn new(transport: Transport, request: Bytes, now: Instant, out: &mut Vec<Action>) -> Self {
        let mut timers = TimerTable::new();
        if let Some(interval) = Timer::A.first(transport) {
            timers.set(Event::TimerA, now + interval);
        }
        timers.set(Event::TimerB, now + PATIENCE);
        out.push(Action::Send(request.clone()));
        let state = State::Calling(Calling { request, interval: T1, cancelled: false });
        Self { transport, state, timers }
    }

    pub(super) fn handle(&mut self, event: Event<'_>, now: Instant, out: &mut Vec<Action>) {
        self.state = match std::mem::replace(&mut self.state, State::Terminated) {
            State::Calling(calling) => self.on_calling(calling, event, now, out),
            State::Proceeding(proceeding) => self.on_proceeding(proceeding, event, now, out),
            State::Completed { ack } => self.on_completed(ack, event, out),
            State::Accepted => self.on_accepted(event, out),
            State::Terminated => State::Terminated,
        };
    }

    /// Handles the earliest timer that is due.
    pub(super) fn fire(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some(event) = self.timers.pop_due(now) {
            self.handle(event, now, out);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.poll_timeout()
    }

    pub(super) fn is_terminated(&self) -> bool {
        matches!(self.state, State::Terminated)
    }

    /// Whether it may be without a timer: it rings.
    pub(super) fn may_wait(&self) -> bool {
        matches!(self.state, State::Proceeding(_))
    }

    fn on_calling(
        &mut self,
        mut calling: Calling,
        event: Event<'_>,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> State {
        match event {
            Event::Provisional => {
                self.timers.clear();
                out.push(Action::Deliver);
                let mut proceeding = Proceeding { request: calling.request, cancelled: false };
                if calling.cancelled {
                    self.send_cancel(&mut proceeding, now, out);
                }
                State::Proceeding(proceeding)
            }
            Event::Success => self.accept(now, out),
            Event::Failure { to } => self.complete(&calling.request, to, now, out),
            Event::Cancel => {
                calling.cancelled = true;
                State::Calling(calling)
            }
            Event::TransportError => self.end(Action::TransportError, out),
            Event::TimerA => {
                calling.interval = Timer::A.next(calling.interval);
                self.timers.set(Event::TimerA, now + calling.interval);
                out.push(Action::Send(calling.request.clone()));
                State::Calling(calling)
            }
            Event::TimerB => self.end(Action::TimedOut, out),
            Event::TimerD | Event::TimerM | Event::TimerCancel => State::Calling(calling),
        }
    }

    fn on_proceeding(
        &mut self,
        mut proceeding: Proceeding,
        event: Event<'_>,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> State {
        match event {
            Event::Provisional => {
                out.push(Action::Deliver);
                State::Proceeding(proceeding)
            }
            Event::Success => self.accept(now, out),
            Event::Failure { to } => self.complete(&proceeding.request, to, now, out),
            Event::Cancel => {
                if !proceeding.cancelled {
                    self.send_cancel(&mut proceeding, now, out);
                }
                State::Proceeding(proceeding)
            }
            Event::TransportError => self.end(Action::TransportError, out),
            Event::TimerCancel => self.end(Action::TimedOut, out),
            Event::TimerA | Event::TimerB | Event::TimerD | Event::TimerM => State::Proceeding(proceeding),
        }
    }

    fn on_completed(&mut self, ack: Option<Bytes>, event: Event<'_>, out: &mut Vec<Action>) -> State {
        match event {
            Event::Failure { .. } => {
                out.extend(ack.clone().map(Action::Send));
                State::Completed { ack }
            }
            Event::TransportError | Event::TimerD => self.end(Action::Ended, out),
            Event::Provisional
            | Event::Success
            | Event::Cancel
            | Event::TimerA
            | Event::TimerB
            | Event::TimerM
            | Event::TimerCancel => State::Completed { ack },
        }
    }

    fn on_accepted(&mut self, event: Event<'_>, out: &mut Vec<Action>) -> State {
        match event {
            Event::Success => {
                out.push(Action::Deliver);
                State::Accepted
            }
            Event::TransportError | Event::TimerM => self.end(Action::Ended, out),
            Event::Provisional
            | Event::Failure { .. }
            | Event::Cancel
            | Event::TimerA
            | Event::TimerB
            | Event::TimerD
            | Event::TimerCancel => State::Accepted,
        }
    }

    fn send_cancel(&mut self, proceeding: &mut Proceeding, now: Instant, out: &mut Vec<Action>) {
        proceeding.cancelled = true;
        self.timers.set(Event::TimerCancel, now + PATIENCE);
        let cancel = derived::cancel(&proceeding.request);
        debug_assert!(cancel.is_some(), "the INVITE was checked when it was sent");
        out.extend(cancel.map(Action::Cancel));
    }

    fn accept(&mut self, now: Instant, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        self.timers.set(Event::TimerM, now + PATIENCE);
        out.push(Action::Deliver);
        State::Accepted
    }

    fn complete(&mut self, request: &[u8], to: &str, now: Instant, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        let ack = derived::ack(request, to);
        debug_assert!(ack.is_some(), "the INVITE was checked when it was sent");
        out.push(Action::Deliver);
        out.extend(ack.clone().map(Action::Send));
        match Timer::D.first(self.transport).filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                self.timers.set(Event::TimerD, now + wait);
                State::Completed { ack }
            }
            None => self.end(Action::Ended, out),
        }
    }

    fn end(&mut self, last: Action, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        out.push(last);
        State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::machine::table::{Row, check};

    const INVITE: &[u8] = b"INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\n\
        From: <sip:a@example.com>;tag=f\r\nTo: <sip:b@example.com>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";

    const EVENTS: [(&str, Event<'static>); 10] = [
        ("1xx", Event::Provisional),
        ("2xx", Event::Success),
        ("300+", Event::Failure { to: "<sip:b@example.com>;tag=t" }),
        ("cancel", Event::Cancel),
        ("flow", Event::TransportError),
        ("A", Event::TimerA),
        ("B", Event::TimerB),
        ("D", Event::TimerD),
        ("M", Event::TimerM),
        ("X", Event::TimerCancel),
    ];

    fn in_state(state: &str, transport: Transport) -> InviteClient {
        let mut machine =
            InviteClient::new(transport, Bytes::from_static(INVITE), Instant::ZERO, &mut Vec::new());
        let way: &[Event<'_>] = match state {
            "calling" => &[],
            "calling-cancelled" => &[Event::Cancel],
            "proceeding" => &[Event::Provisional],
            "proceeding-cancelled" => &[Event::Provisional, Event::Cancel],
            "completed" => &[Event::Failure { to: "<sip:b@example.com>;tag=t" }],
            "accepted" => &[Event::Success],
            "terminated" => &[Event::TimerB],
            other => panic!("no state {other}"),
        };
        for event in way {
            machine.handle(*event, Instant::ZERO, &mut Vec::new());
        }
        assert_eq!(name(&machine), state);
        machine
    }

    fn name(machine: &InviteClient) -> &'static str {
        match &machine.state {
            State::Calling(Calling { cancelled: false, .. }) => "calling",
            State::Calling(Calling { cancelled: true, .. }) => "calling-cancelled",
            State::Proceeding(Proceeding { cancelled: false, .. }) => "proceeding",
            State::Proceeding(Proceeding { cancelled: true, .. }) => "proceeding-cancelled",
            State::Completed { .. } => "completed",
            State::Accepted => "accepted",
            State::Terminated => "terminated",
        }
    }

    fn step(state: &str, event: &str, transport: Transport) -> (String, Vec<Action>, bool) {
        let mut machine = in_state(state, transport);
        let event = EVENTS.iter().find(|(name, _)| *name == event).expect("a known event").1;
        let mut out = Vec::new();
        machine.handle(event, Instant::ZERO, &mut out);
        (name(&machine).to_owned(), out, machine.poll_timeout().is_some())
    }

    const ROWS: &[Row] = &[
        ("calling", "1xx", "proceeding", "deliver", false),
        ("calling", "2xx", "accepted", "deliver", true),
        ("calling", "300+", "completed", "deliver, send ACK", true),
        ("calling", "cancel", "calling-cancelled", "", true),
        ("calling", "flow", "terminated", "transport error", false),
        ("calling", "A", "calling", "send INVITE", true),
        ("calling", "B", "terminated", "timed out", false),
        ("calling", "D", "calling", "", true),
        ("calling", "M", "calling", "", true),
        ("calling", "X", "calling", "", true),
        ("calling-cancelled", "1xx", "proceeding-cancelled", "deliver, cancel", true),
        ("calling-cancelled", "2xx", "accepted", "deliver", true),
        ("calling-cancelled", "300+", "completed", "deliver, send ACK", true),
        ("calling-cancelled", "cancel", "calling-cancelled", "", true),
        ("calling-cancelled", "flow", "terminated", "transport error", false),
        ("calling-cancelled", "A", "calling-cancelled", "send INVITE", true),
        ("calling-cancelled", "B", "terminated", "timed out", false),
        ("calling-cancelled", "D", "calling-cancelled", "", true),
        ("calling-cancelled", "M", "calling-cancelled", "", true),
        ("calling-cancelled", "X", "calling-cancelled", "", true),
        ("proceeding", "1xx", "proceeding", "deliver", false),
        ("proceeding", "2xx", "accepted", "deliver", true),
        ("proceeding", "300+", "completed", "deliver, send ACK", true),
        ("proceeding", "cancel", "proceeding-cancelled", "cancel", true),
        ("proceeding", "flow", "terminated", "transport error", false),
        ("proceeding", "A", "proceeding", "", false),
        ("proceeding", "B", "proceeding", "", false),
        ("proceeding", "D", "proceeding", "", false),
        ("proceeding", "M", "proceeding", "", false),
        ("proceeding", "X", "terminated", "timed out", false),
        ("proceeding-cancelled", "1xx", "proceeding-cancelled", "deliver", true),
        ("proceeding-cancelled", "2xx", "accepted", "deliver", true),
        ("proceeding-cancelled", "300+", "completed", "deliver, send ACK", true),
        ("proceeding-cancelled", "cancel", "proceeding-cancelled", "", true),
        ("proceeding-cancelled", "flow", "terminated", "transport error", false),
        ("proceeding-cancelled", "A", "proceeding-cancelled", "", true),
        ("proceeding-cancelled", "B", "proceeding-cancelled", "", true),
        ("proceeding-cancelled", "D", "proceeding-cancelled", "", true),
        ("proceeding-cancelled", "M", "proceeding-cancelled", "", true),
        ("proceeding-cancelled", "X", "terminated", "timed out", false),
        ("completed", "1xx", "completed", "", true),
        ("completed", "2xx", "completed", "", true),
        ("completed", "300+", "completed", "send ACK", true),
        ("completed", "cancel", "completed", "", true),
        ("completed", "flow", "terminated", "ended", false),
        ("completed", "A", "completed", "", true),
        ("completed", "B", "completed", "", true),
        ("completed", "D", "terminated", "ended", false),
        ("completed", "M", "completed", "", true),
        ("completed", "X", "completed", "", true),
        ("accepted", "1xx", "accepted", "", true),
        ("accepted", "2xx", "accepted", "deliver", true),
        ("accepted", "300+", "accepted", "", true),
        ("accepted", "cancel", "accepted", "", true),
        ("accepted", "flow", "terminated", "ended", false),
        ("accepted", "A", "accepted", "", true),
        ("accepted", "B", "accepted", "", true),
        ("accepted", "D", "accepted", "", true),
        ("accepted", "M", "terminated", "ended", false),
        ("accepted", "X", "accepted", "", true),
        ("terminated", "1xx", "terminated", "", false),
        ("terminated", "2xx", "terminated", "", false),
        ("terminated", "300+", "terminated", "", false),
        ("terminated", "cancel", "terminated", "", false),
        ("terminated", "flow", "terminated", "", false),
        ("terminated", "A", "terminated", "", false),
        ("terminated", "B", "terminated", "", false),
        ("terminated", "D", "terminated", "", false),
        ("terminated", "M", "terminated", "", false),
        ("terminated", "X", "terminated", "", false),
    ];

    #[test]
    fn transition_table() {
        check(ROWS, &EVENTS.map(|(name, _)| name), |state, event| step(state, event, Transport::Udp));
    }

    #[test]
    fn timer_d_is_zero_on_a_reliable_transport() {
        for state in ["calling", "proceeding"] {
            let (after, out, armed) = step(state, "300+", Transport::Tls);
            assert_eq!(after, "terminated");
            assert!(
                matches!(&out[..], [Action::Deliver, Action::Send(ack), Action::Ended] if ack.starts_with(b"ACK "))
            );
            assert!(!armed);
        }
    }
}
