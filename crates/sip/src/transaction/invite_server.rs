//! INVITE server transaction (RFC 3261 figure 7, amended by RFC 6026 §7.1).
//!
//! ```text
//!   Proceeding ──2xx──► Accepted ───L──► Terminated      2xx repeated until `acknowledged`
//!       │               Completed ──H──► Terminated      300+ repeated on G until the ACK
//!       └────300+─────►     └─ACK─► Confirmed ──I──► Terminated
//! ```
//! RFC 3261 §13.3.1.4 leaves the repetition of a 2xx to the transaction user; it is done here, where the
//! other timers are, and ends with `acknowledged` or after 64·T1. Says `100 Trying` by itself when the
//! transaction user has said nothing for 200 ms, or when the INVITE is repeated before that. Never answers
//! twice, except with the further 2xx of a fork. Proceeding has no timer of its own.

use std::time::Duration;

use bytes::Bytes;
use wire::clock::Instant;
use wire::net::Transport;

use super::machine::Action;
use crate::timer::{PATIENCE, T1, Timer, TimerTable};

/// One INVITE of the peer.
#[derive(Debug)]
pub(super) struct InviteServer {
    transport: Transport,
    state: State,
    timers: TimerTable<Event<'static>>,
}

#[derive(Debug)]
enum State {
    /// With the `100` that is sent unless the transaction user is quicker.
    Thinking {
        trying: Bytes,
    },
    Proceeding {
        provisional: Bytes,
    },
    Completed {
        answer: Bytes,
        interval: Duration,
    },
    Confirmed,
    /// The last 2xx, until it is acknowledged.
    Accepted {
        answer: Bytes,
        interval: Duration,
    },
    Acknowledged,
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// The INVITE came again.
    Request,
    /// An ACK with the INVITE's branch.
    Ack,
    /// The transaction user answers.
    Provisional(&'a Bytes),
    Success(&'a Bytes),
    Failure(&'a Bytes),
    /// The transaction user has seen the ACK of its 2xx.
    Acknowledged,
    /// The flow is gone.
    TransportError,
    TimerTrying,
    TimerG,
    TimerH,
    TimerI,
    TimerL,
    /// The 2xx is to be sent again.
    TimerSuccess,
}

impl InviteServer {
    /// Takes an INVITE; `trying` is the `100` to it.
    pub(super) fn new(transport: Transport, trying: Bytes, now: Instant) -> Self {
        let mut timers = TimerTable::new();
        if let Some(wait) = Timer::Trying.first(transport) {
            timers.set(Event::TimerTrying, now + wait);
        }
        Self { transport, state: State::Thinking { trying }, timers }
    }

    pub(super) fn handle(&mut self, event: Event<'_>, now: Instant, out: &mut Vec<Action>) {
        self.state = match std::mem::replace(&mut self.state, State::Terminated) {
            State::Thinking { trying } => self.on_thinking(trying, event, now, out),
            State::Proceeding { provisional } => self.on_proceeding(provisional, event, now, out),
            State::Completed { answer, interval } => self.on_completed(answer, interval, event, now, out),
            State::Confirmed => self.on_confirmed(event, out),
            State::Accepted { answer, interval } => self.on_accepted(answer, interval, event, now, out),
            State::Acknowledged => self.on_acknowledged(event, now, out),
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
        matches!(self.state, State::Proceeding { .. })
    }

    /// Whether an answer that is no 2xx would still be sent.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.state, State::Thinking { .. } | State::Proceeding { .. })
    }

    /// Whether a 2xx was sent: a further one would be, and an ACK is the transaction user's.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.state, State::Accepted { .. } | State::Acknowledged)
    }

    fn on_thinking(&mut self, trying: Bytes, event: Event<'_>, now: Instant, out: &mut Vec<Action>) -> State {
        match event {
            Event::Request | Event::TimerTrying => self.proceed(&trying, out),
            Event::Provisional(answer) => self.proceed(answer, out),
            Event::Success(answer) => self.accept(answer, now, out),
            Event::Failure(answer) => self.complete(answer, now, out),
            Event::TransportError => self.end(out),
            Event::Ack
            | Event::Acknowledged
            | Event::TimerG
            | Event::TimerH
            | Event::TimerI
            | Event::TimerL
            | Event::TimerSuccess => State::Thinking { trying },
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
            Event::Request => self.proceed(&provisional, out),
            Event::Provisional(answer) => self.proceed(answer, out),
            Event::Success(answer) => self.accept(answer, now, out),
            Event::Failure(answer) => self.complete(answer, now, out),
            Event::TransportError => self.end(out),
            Event::Ack
            | Event::Acknowledged
            | Event::TimerTrying
            | Event::TimerG
            | Event::TimerH
            | Event::TimerI
            | Event::TimerL
            | Event::TimerSuccess => State::Proceeding { provisional },
        }
    }

    fn on_completed(
        &mut self,
        answer: Bytes,
        interval: Duration,
        event: Event<'_>,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> State {
        match event {
            Event::Request => {
                out.push(Action::Send(answer.clone()));
                State::Completed { answer, interval }
            }
            Event::Ack => self.confirm(now, out),
            Event::TimerG => {
                let interval = Timer::G.next(interval);
                self.timers.set(Event::TimerG, now + interval);
                out.push(Action::Send(answer.clone()));
                State::Completed { answer, interval }
            }
            Event::TimerH | Event::TransportError => self.end(out),
            Event::Provisional(_)
            | Event::Success(_)
            | Event::Failure(_)
            | Event::Acknowledged
            | Event::TimerTrying
            | Event::TimerI
            | Event::TimerL
            | Event::TimerSuccess => State::Completed { answer, interval },
        }
    }

    fn on_confirmed(&mut self, event: Event<'_>, out: &mut Vec<Action>) -> State {
        match event {
            Event::TimerI | Event::TransportError => self.end(out),
            Event::Request
            | Event::Ack
            | Event::Provisional(_)
            | Event::Success(_)
            | Event::Failure(_)
            | Event::Acknowledged
            | Event::TimerTrying
            | Event::TimerG
            | Event::TimerH
            | Event::TimerL
            | Event::TimerSuccess => State::Confirmed,
        }
    }

    fn on_accepted(
        &mut self,
        answer: Bytes,
        interval: Duration,
        event: Event<'_>,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> State {
        match event {
            Event::Request => {
                out.push(Action::Send(answer.clone()));
                State::Accepted { answer, interval }
            }
            Event::Success(further) => self.repeat(further, now, out),
            Event::Acknowledged => {
                self.timers.stop(Event::TimerSuccess);
                State::Acknowledged
            }
            Event::TimerSuccess => {
                let interval = Timer::Success.next(interval);
                self.timers.set(Event::TimerSuccess, now + interval);
                out.push(Action::Send(answer.clone()));
                State::Accepted { answer, interval }
            }
            Event::TimerL => {
                out.push(Action::AckMissing);
                self.end(out)
            }
            Event::TransportError => self.end(out),
            Event::Ack
            | Event::Provisional(_)
            | Event::Failure(_)
            | Event::TimerTrying
            | Event::TimerG
            | Event::TimerH
            | Event::TimerI => State::Accepted { answer, interval },
        }
    }

    fn on_acknowledged(&mut self, event: Event<'_>, now: Instant, out: &mut Vec<Action>) -> State {
        match event {
            Event::Success(further) => self.repeat(further, now, out),
            Event::TimerL | Event::TransportError => self.end(out),
            Event::Request
            | Event::Ack
            | Event::Provisional(_)
            | Event::Failure(_)
            | Event::Acknowledged
            | Event::TimerTrying
            | Event::TimerG
            | Event::TimerH
            | Event::TimerI
            | Event::TimerSuccess => State::Acknowledged,
        }
    }

    fn proceed(&mut self, answer: &Bytes, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        out.push(Action::Send(answer.clone()));
        State::Proceeding { provisional: answer.clone() }
    }

    fn accept(&mut self, answer: &Bytes, now: Instant, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        self.timers.set(Event::TimerL, now + PATIENCE);
        self.repeat(answer, now, out)
    }

    /// Sends a 2xx and goes on sending it; timer L runs on.
    fn repeat(&mut self, answer: &Bytes, now: Instant, out: &mut Vec<Action>) -> State {
        self.timers.set(Event::TimerSuccess, now + T1);
        out.push(Action::Send(answer.clone()));
        State::Accepted { answer: answer.clone(), interval: T1 }
    }

    fn complete(&mut self, answer: &Bytes, now: Instant, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        self.timers.set(Event::TimerH, now + PATIENCE);
        if let Some(interval) = Timer::G.first(self.transport) {
            self.timers.set(Event::TimerG, now + interval);
        }
        out.push(Action::Send(answer.clone()));
        State::Completed { answer: answer.clone(), interval: T1 }
    }

    fn confirm(&mut self, now: Instant, out: &mut Vec<Action>) -> State {
        self.timers.clear();
        match Timer::I.first(self.transport).filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                self.timers.set(Event::TimerI, now + wait);
                State::Confirmed
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::machine::table::{Row, check};

    static RINGING: Bytes = Bytes::from_static(b"180 x");
    static OK: Bytes = Bytes::from_static(b"200 x");
    static BUSY: Bytes = Bytes::from_static(b"486 x");

    fn events() -> [(&'static str, Event<'static>); 13] {
        [
            ("INVITE", Event::Request),
            ("ACK", Event::Ack),
            ("1xx", Event::Provisional(&RINGING)),
            ("2xx", Event::Success(&OK)),
            ("300+", Event::Failure(&BUSY)),
            ("acknowledged", Event::Acknowledged),
            ("flow", Event::TransportError),
            ("trying", Event::TimerTrying),
            ("G", Event::TimerG),
            ("H", Event::TimerH),
            ("I", Event::TimerI),
            ("L", Event::TimerL),
            ("2xx again", Event::TimerSuccess),
        ]
    }

    fn name(machine: &InviteServer) -> &'static str {
        match &machine.state {
            State::Thinking { .. } => "thinking",
            State::Proceeding { .. } => "proceeding",
            State::Completed { .. } => "completed",
            State::Confirmed => "confirmed",
            State::Accepted { .. } => "accepted",
            State::Acknowledged => "acknowledged",
            State::Terminated => "terminated",
        }
    }

    fn step(state: &str, event: &str, transport: Transport) -> (String, Vec<Action>, bool) {
        let mut machine = InviteServer::new(transport, Bytes::from_static(b"100 x"), Instant::ZERO);
        let way: &[Event<'_>] = match state {
            "thinking" => &[],
            "proceeding" => &[Event::Provisional(&RINGING)],
            "completed" => &[Event::Failure(&BUSY)],
            "confirmed" => &[Event::Failure(&BUSY), Event::Ack],
            "accepted" => &[Event::Success(&OK)],
            "acknowledged" => &[Event::Success(&OK), Event::Acknowledged],
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
        ("thinking", "INVITE", "proceeding", "send 100", false),
        ("thinking", "ACK", "thinking", "", true),
        ("thinking", "1xx", "proceeding", "send 180", false),
        ("thinking", "2xx", "accepted", "send 200", true),
        ("thinking", "300+", "completed", "send 486", true),
        ("thinking", "acknowledged", "thinking", "", true),
        ("thinking", "flow", "terminated", "ended", false),
        ("thinking", "trying", "proceeding", "send 100", false),
        ("thinking", "G", "thinking", "", true),
        ("thinking", "H", "thinking", "", true),
        ("thinking", "I", "thinking", "", true),
        ("thinking", "L", "thinking", "", true),
        ("thinking", "2xx again", "thinking", "", true),
        ("proceeding", "INVITE", "proceeding", "send 180", false),
        ("proceeding", "ACK", "proceeding", "", false),
        ("proceeding", "1xx", "proceeding", "send 180", false),
        ("proceeding", "2xx", "accepted", "send 200", true),
        ("proceeding", "300+", "completed", "send 486", true),
        ("proceeding", "acknowledged", "proceeding", "", false),
        ("proceeding", "flow", "terminated", "ended", false),
        ("proceeding", "trying", "proceeding", "", false),
        ("proceeding", "G", "proceeding", "", false),
        ("proceeding", "H", "proceeding", "", false),
        ("proceeding", "I", "proceeding", "", false),
        ("proceeding", "L", "proceeding", "", false),
        ("proceeding", "2xx again", "proceeding", "", false),
        ("completed", "INVITE", "completed", "send 486", true),
        ("completed", "ACK", "confirmed", "", true),
        ("completed", "1xx", "completed", "", true),
        ("completed", "2xx", "completed", "", true),
        ("completed", "300+", "completed", "", true),
        ("completed", "acknowledged", "completed", "", true),
        ("completed", "flow", "terminated", "ended", false),
        ("completed", "trying", "completed", "", true),
        ("completed", "G", "completed", "send 486", true),
        ("completed", "H", "terminated", "ended", false),
        ("completed", "I", "completed", "", true),
        ("completed", "L", "completed", "", true),
        ("completed", "2xx again", "completed", "", true),
        ("confirmed", "INVITE", "confirmed", "", true),
        ("confirmed", "ACK", "confirmed", "", true),
        ("confirmed", "1xx", "confirmed", "", true),
        ("confirmed", "2xx", "confirmed", "", true),
        ("confirmed", "300+", "confirmed", "", true),
        ("confirmed", "acknowledged", "confirmed", "", true),
        ("confirmed", "flow", "terminated", "ended", false),
        ("confirmed", "trying", "confirmed", "", true),
        ("confirmed", "G", "confirmed", "", true),
        ("confirmed", "H", "confirmed", "", true),
        ("confirmed", "I", "terminated", "ended", false),
        ("confirmed", "L", "confirmed", "", true),
        ("confirmed", "2xx again", "confirmed", "", true),
        ("accepted", "INVITE", "accepted", "send 200", true),
        ("accepted", "ACK", "accepted", "", true),
        ("accepted", "1xx", "accepted", "", true),
        ("accepted", "2xx", "accepted", "send 200", true),
        ("accepted", "300+", "accepted", "", true),
        ("accepted", "acknowledged", "acknowledged", "", true),
        ("accepted", "flow", "terminated", "ended", false),
        ("accepted", "trying", "accepted", "", true),
        ("accepted", "G", "accepted", "", true),
        ("accepted", "H", "accepted", "", true),
        ("accepted", "I", "accepted", "", true),
        ("accepted", "L", "terminated", "ACK missing, ended", false),
        ("accepted", "2xx again", "accepted", "send 200", true),
        ("acknowledged", "INVITE", "acknowledged", "", true),
        ("acknowledged", "ACK", "acknowledged", "", true),
        ("acknowledged", "1xx", "acknowledged", "", true),
        ("acknowledged", "2xx", "accepted", "send 200", true),
        ("acknowledged", "300+", "acknowledged", "", true),
        ("acknowledged", "acknowledged", "acknowledged", "", true),
        ("acknowledged", "flow", "terminated", "ended", false),
        ("acknowledged", "trying", "acknowledged", "", true),
        ("acknowledged", "G", "acknowledged", "", true),
        ("acknowledged", "H", "acknowledged", "", true),
        ("acknowledged", "I", "acknowledged", "", true),
        ("acknowledged", "L", "terminated", "ended", false),
        ("acknowledged", "2xx again", "acknowledged", "", true),
        ("terminated", "INVITE", "terminated", "", false),
        ("terminated", "ACK", "terminated", "", false),
        ("terminated", "1xx", "terminated", "", false),
        ("terminated", "2xx", "terminated", "", false),
        ("terminated", "300+", "terminated", "", false),
        ("terminated", "acknowledged", "terminated", "", false),
        ("terminated", "flow", "terminated", "", false),
        ("terminated", "trying", "terminated", "", false),
        ("terminated", "G", "terminated", "", false),
        ("terminated", "H", "terminated", "", false),
        ("terminated", "I", "terminated", "", false),
        ("terminated", "L", "terminated", "", false),
        ("terminated", "2xx again", "terminated", "", false),
    ];

    #[test]
    fn transition_table() {
        check(ROWS, &events().map(|(name, _)| name), |state, event| step(state, event, Transport::Udp));
    }

    #[test]
    fn timer_i_is_zero_on_a_reliable_transport() {
        let (after, out, armed) = step("completed", "ACK", Transport::Tcp);
        assert_eq!((after.as_str(), armed), ("terminated", false));
        assert!(matches!(&out[..], [Action::Ended]));
    }
}
