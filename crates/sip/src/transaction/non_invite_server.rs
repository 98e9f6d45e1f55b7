//! Non-INVITE server transaction (RFC 3261 figure 8).
//!
//! ```text
//!   Trying ──1xx──► Proceeding        F: nobody answered, gone (RFC 4320 §4.2)
//!      └───200+───► Completed ──J──► Terminated
//! ```
//! Never answers a repeated request with anything but what was answered before.

use bytes::Bytes;
use wire::clock::Instant;
use wire::net::Transport;

use super::machine::Action;
use crate::timer::{PATIENCE, Timer, TimerTable};

/// One request of the peer that is neither INVITE nor ACK.
#[derive(Debug)]
pub(super) struct NonInviteServer {
    transport: Transport,
    state: State,
    timers: TimerTable<Event<'static>>,
}

#[derive(Debug)]
enum State {
    Trying,
    Proceeding { provisional: Bytes },
    Completed { answer: Bytes },
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// The request came again.
    Request,
    /// The transaction user answers.
    Provisional(&'a Bytes),
    Final(&'a Bytes),
    /// The flow is gone.
    TransportError,
    /// The client has given up.
    TimerF,
    TimerJ,
}

impl NonInviteServer {
    /// Takes a request.
    pub(super) fn new(transport: Transport, now: Instant) -> Self {
        let mut timers = TimerTable::new();
        timers.set(Event::TimerF, now + PATIENCE);
        Self { transport, state: State::Trying, timers }
    }

    pub(super) fn handle(&mut self, event: Event<'_>, now: Instant, out: &mut Vec<Action>) {
        self.state = match std::mem::replace(&mut self.state, State::Terminated) {
            State::Trying => self.on_trying(event, now, out),
            State::Proceeding { provisional } => self.on_proceeding(provisional, event, now, out),
            State::Completed { answer } => self.on_completed(answer, event, out),
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

    /// Whether an answer would still be sent.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.state, State::Trying | State::Proceeding { .. })
    }

    fn on_trying(&mut self, event: Event<'_>, now: Instant, out: &mut Vec<Action>) -> State {
        match event {
            Event::Provisional(answer) => proceed(answer, out),
            Event::Final(answer) => self.complete(answer, now, out),
            Event::TransportError | Event::TimerF => self.end(out),
            Event::Request | Event::TimerJ => State::Trying,
        }
    }

    fn on_proceeding(
        &mut self,
        provisional: Bytes,
        event: Event<'_>,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> State {
        match event {
            Event::Request => proceed(&provisional, out),
            Event::Provisional(answer) => proceed(answer, out),
            Event::Final(answer) => self.complete(answer, now, out),
            Event::TransportError | Event::TimerF => self.end(out),
            Event::TimerJ => State::Proceeding { provisional },
        }
    }

    fn on_completed(&mut self, answer: Bytes, event: Event<'_>, out: &mut Vec<Action>) -> State {
        match event {
            Event::Request => {
                out.push(Action::Send(answer.clone()));
                State::Completed { answer }
            }
            Event::TransportError | Event::TimerJ => self.end(out),
            Event::Provisional(_) | Event::Final(_) | Event::TimerF => State::Completed { answer },
        }
    }

    fn complete(&mut self, answer: &Bytes, now: Instant, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        out.push(Action::Send(answer.clone()));
        match Timer::J.first(self.transport).filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                self.timers.set(Event::TimerJ, now + wait);
                State::Completed { answer: answer.clone() }
            }
            None => self.end(out),
        }
    }

    fn end(&mut self, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        out.push(Action::Ended);
        State::Terminated
    }
}

fn proceed(answer: &Bytes, out: &mut Vec<Action>) -> State {
    out.push(Action::Send(answer.clone()));
    State::Proceeding { provisional: answer.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::machine::table::{Row, check};

    static TRYING: Bytes = Bytes::from_static(b"100 x");
    static OK: Bytes = Bytes::from_static(b"200 x");

    fn events() -> [(&'static str, Event<'static>); 6] {
        [
            ("request", Event::Request),
            ("1xx", Event::Provisional(&TRYING)),
            ("200+", Event::Final(&OK)),
            ("flow", Event::TransportError),
            ("F", Event::TimerF),
            ("J", Event::TimerJ),
        ]
    }

    fn name(machine: &NonInviteServer) -> &'static str {
        match &machine.state {
            State::Trying => "trying",
            State::Proceeding { .. } => "proceeding",
            State::Completed { .. } => "completed",
            State::Terminated => "terminated",
        }
    }

    fn step(state: &str, event: &str, transport: Transport) -> (String, Vec<Action>, bool) {
        let mut machine = NonInviteServer::new(transport, Instant::ZERO);
        let way: &[Event<'_>] = match state {
            "trying" => &[],
            "proceeding" => &[Event::Provisional(&TRYING)],
            "completed" => &[Event::Final(&OK)],
            "terminated" => &[Event::TransportError],
            other => panic!("no state {other}"),
        };
        for event in way {
            machine.handle(*event, Instant::ZERO, &mut Vec::new());
        }
        assert_eq!(name(&machine), state);
        let event = events().into_iter().find(|(name, _)| *name == event).expect("a known event").1;
        let mut out = Vec::new();
        machine.handle(event, Instant::ZERO, &mut out);
        (name(&machine).to_owned(), out, machine.poll_timeout().is_some())
    }

    const ROWS: &[Row] = &[
        ("trying", "request", "trying", "", true),
        ("trying", "1xx", "proceeding", "send 100", true),
        ("trying", "200+", "completed", "send 200", true),
        ("trying", "flow", "terminated", "ended", false),
        ("trying", "F", "terminated", "ended", false),
        ("trying", "J", "trying", "", true),
        ("proceeding", "request", "proceeding", "send 100", true),
        ("proceeding", "1xx", "proceeding", "send 100", true),
        ("proceeding", "200+", "completed", "send 200", true),
        ("proceeding", "flow", "terminated", "ended", false),
        ("proceeding", "F", "terminated", "ended", false),
        ("proceeding", "J", "proceeding", "", true),
        ("completed", "request", "completed", "send 200", true),
        ("completed", "1xx", "completed", "", true),
        ("completed", "200+", "completed", "", true),
        ("completed", "flow", "terminated", "ended", false),
        ("completed", "F", "completed", "", true),
        ("completed", "J", "terminated", "ended", false),
        ("terminated", "request", "terminated", "", false),
        ("terminated", "1xx", "terminated", "", false),
        ("terminated", "200+", "terminated", "", false),
        ("terminated", "flow", "terminated", "", false),
        ("terminated", "F", "terminated", "", false),
        ("terminated", "J", "terminated", "", false),
    ];

    #[test]
    fn transition_table() {
        check(ROWS, &events().map(|(name, _)| name), |state, event| step(state, event, Transport::Udp));
    }

    #[test]
    fn timer_j_is_zero_on_a_reliable_transport() {
        for state in ["trying", "proceeding"] {
            let (after, out, armed) = step(state, "200+", Transport::Tls);
            assert_eq!((after.as_str(), armed), ("terminated", false));
            assert!(matches!(&out[..], [Action::Send(_), Action::Ended]));
        }
    }
}
