//! Non-INVITE client transaction (RFC 3261 figure 6).
//!
//! ```text
//!   Trying ──1xx──► Proceeding        E: send, F: timed out
//!      └───200+───► Completed ──K──► Terminated
//! ```
//! Never delivers a second final answer.

use std::time::Duration;

use bytes::Bytes;
use wire::clock::Instant;
use wire::net::Transport;

use super::machine::Action;
use crate::timer::{PATIENCE, T1, T2, Timer, TimerTable};

/// One request of ours that is neither INVITE nor ACK.
#[derive(Debug)]
pub(super) struct NonInviteClient {
    transport: Transport,
    state: State,
    timers: TimerTable<Event>,
}

#[derive(Debug)]
enum State {
    Trying { request: Bytes, interval: Duration },
    Proceeding { request: Bytes },
    Completed,
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A 1xx.
    Provisional,
    /// A final answer.
    Final,
    /// The flow is gone.
    TransportError,
    TimerE,
    TimerF,
    TimerK,
}

impl NonInviteClient {
    /// Sends the request.
    pub(super) fn new(transport: Transport, request: Bytes, now: Instant, out: &mut Vec<Action>) -> Self {
        let mut timers = TimerTable::new();
        if let Some(interval) = Timer::E.first(transport) {
            timers.set(Event::TimerE, now + interval);
        }
        timers.set(Event::TimerF, now + PATIENCE);
        out.push(Action::Send(request.clone()));
        Self { transport, state: State::Trying { request, interval: T1 }, timers }
    }

    pub(super) fn handle(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        self.state = match std::mem::replace(&mut self.state, State::Terminated) {
            State::Trying { request, interval } => self.on_trying(request, interval, event, now, out),
            State::Proceeding { request } => self.on_proceeding(request, event, now, out),
            State::Completed => self.on_completed(event, out),
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

    fn on_trying(
        &mut self,
        request: Bytes,
        interval: Duration,
        event: Event,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> State {
        match event {
            Event::Provisional => {
                out.push(Action::Deliver);
                State::Proceeding { request }
            }
            Event::Final => self.complete(now, out),
            Event::TimerE => {
                let interval = Timer::E.next(interval);
                self.timers.set(Event::TimerE, now + interval);
                out.push(Action::Send(request.clone()));
                State::Trying { request, interval }
            }
            Event::TransportError => self.end(Action::TransportError, out),
            Event::TimerF => self.end(Action::TimedOut, out),
            Event::TimerK => State::Trying { request, interval },
        }
    }

    fn on_proceeding(&mut self, request: Bytes, event: Event, now: Instant, out: &mut Vec<Action>) -> State {
        match event {
            Event::Provisional => {
                out.push(Action::Deliver);
                State::Proceeding { request }
            }
            Event::Final => self.complete(now, out),
            Event::TimerE => {
                self.timers.set(Event::TimerE, now + T2);
                out.push(Action::Send(request.clone()));
                State::Proceeding { request }
            }
            Event::TransportError => self.end(Action::TransportError, out),
            Event::TimerF => self.end(Action::TimedOut, out),
            Event::TimerK => State::Proceeding { request },
        }
    }

    fn on_completed(&mut self, event: Event, out: &mut Vec<Action>) -> State {
        match event {
            Event::TimerK | Event::TransportError => self.end(Action::Ended, out),
            Event::Provisional | Event::Final | Event::TimerE | Event::TimerF => State::Completed,
        }
    }

    fn complete(&mut self, now: Instant, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        out.push(Action::Deliver);
        match Timer::K.first(self.transport).filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                self.timers.set(Event::TimerK, now + wait);
                State::Completed
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

    const EVENTS: [(&str, Event); 6] = [
        ("1xx", Event::Provisional),
        ("200+", Event::Final),
        ("flow", Event::TransportError),
        ("E", Event::TimerE),
        ("F", Event::TimerF),
        ("K", Event::TimerK),
    ];

    fn name(machine: &NonInviteClient) -> &'static str {
        match &machine.state {
            State::Trying { .. } => "trying",
            State::Proceeding { .. } => "proceeding",
            State::Completed => "completed",
            State::Terminated => "terminated",
        }
    }

    fn step(state: &str, event: &str, transport: Transport) -> (String, Vec<Action>, bool) {
        let request = Bytes::from_static(b"BYE x");
        let mut machine = NonInviteClient::new(transport, request, Instant::ZERO, &mut Vec::new());
        let way: &[Event] = match state {
            "trying" => &[],
            "proceeding" => &[Event::Provisional],
            "completed" => &[Event::Final],
            "terminated" => &[Event::TimerF],
            other => panic!("no state {other}"),
        };
        for event in way {
            machine.handle(*event, Instant::ZERO, &mut Vec::new());
        }
        assert_eq!(name(&machine), state);
        let event = EVENTS.iter().find(|(name, _)| *name == event).expect("a known event").1;
        let mut out = Vec::new();
        machine.handle(event, Instant::ZERO, &mut out);
        (name(&machine).to_owned(), out, machine.poll_timeout().is_some())
    }

    const ROWS: &[Row] = &[
        ("trying", "1xx", "proceeding", "deliver", true),
        ("trying", "200+", "completed", "deliver", true),
        ("trying", "flow", "terminated", "transport error", false),
        ("trying", "E", "trying", "send BYE", true),
        ("trying", "F", "terminated", "timed out", false),
        ("trying", "K", "trying", "", true),
        ("proceeding", "1xx", "proceeding", "deliver", true),
        ("proceeding", "200+", "completed", "deliver", true),
        ("proceeding", "flow", "terminated", "transport error", false),
        ("proceeding", "E", "proceeding", "send BYE", true),
        ("proceeding", "F", "terminated", "timed out", false),
        ("proceeding", "K", "proceeding", "", true),
        ("completed", "1xx", "completed", "", true),
        ("completed", "200+", "completed", "", true),
        ("completed", "flow", "terminated", "ended", false),
        ("completed", "E", "completed", "", true),
        ("completed", "F", "completed", "", true),
        ("completed", "K", "terminated", "ended", false),
        ("terminated", "1xx", "terminated", "", false),
        ("terminated", "200+", "terminated", "", false),
        ("terminated", "flow", "terminated", "", false),
        ("terminated", "E", "terminated", "", false),
        ("terminated", "F", "terminated", "", false),
        ("terminated", "K", "terminated", "", false),
    ];

    #[test]
    fn transition_table() {
        check(ROWS, &EVENTS.map(|(name, _)| name), |state, event| step(state, event, Transport::Udp));
    }

    #[test]
    fn timer_k_is_zero_on_a_reliable_transport() {
        for state in ["trying", "proceeding"] {
            let (after, out, armed) = step(state, "200+", Transport::Tls);
            assert_eq!((after.as_str(), armed), ("terminated", false));
            assert!(matches!(&out[..], [Action::Deliver, Action::Ended]));
        }
    }
}
