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

use std::mem::take;

use bytes::Bytes;

use super::machine::{Action, Class, Next, ServerEvent, State, Step};
use crate::timer::Timer;

/// One INVITE of the peer.
#[derive(Debug)]
pub(super) enum InviteServer {
    /// With the `100` that is sent unless the transaction user is quicker.
    Thinking {
        trying: Bytes,
    },
    Proceeding {
        answer: Bytes,
    },
    Completed {
        answer: Bytes,
    },
    Confirmed,
    /// The last 2xx goes on being sent.
    Accepted {
        answer: Bytes,
    },
    /// RFC 6026's Accepted still, but the transaction user has the ACK.
    Quiet,
}

impl State for InviteServer {
    type Event<'a> = ServerEvent<'a>;

    fn begin(&self, step: &mut Step<'_>) {
        step.start(Timer::Trying);
    }

    fn on(&mut self, event: ServerEvent<'_>, step: &mut Step<'_>) -> Next<Self> {
        use Class::{Failure, Provisional, Success};
        use InviteServer::{Accepted, Completed, Confirmed, Proceeding, Quiet, Thinking};
        use ServerEvent::{Ack, Acknowledged, Answer, Fired, Request, TransportError};
        use Timer::{G, H, I, L};
        match (self, event) {
            (Thinking { trying }, Request | Fired(Timer::Trying)) => {
                step.send(trying).enter(Proceeding { answer: take(trying) }, &[])
            }
            (Proceeding { answer }, Request) => step.send(answer).stay(),
            (Thinking { .. } | Proceeding { .. }, Answer(Provisional, answer)) => {
                step.send(answer).enter(Proceeding { answer: answer.clone() }, &[])
            }
            (Thinking { .. } | Proceeding { .. }, Answer(Success, answer)) => {
                step.send(answer).enter(Accepted { answer: answer.clone() }, &[L, Timer::Success])
            }
            (Thinking { .. } | Proceeding { .. }, Answer(Failure, answer)) => {
                step.send(answer).enter(Completed { answer: answer.clone() }, &[H, G])
            }
            (Thinking { .. } | Proceeding { .. }, TransportError) => step.end(Action::Ended),
            (Thinking { .. } | Proceeding { .. }, Ack | Acknowledged | Fired(_)) => step.stay(),

            (Completed { answer }, Request) => step.send(answer).stay(),
            (Completed { answer }, Fired(G)) => step.send(answer).back_off(G).stay(),
            (Completed { .. }, Ack) => step.linger(Confirmed, I),
            (Completed { .. }, TransportError | Fired(H)) => step.end(Action::Ended),
            (Completed { .. }, Answer(..) | Acknowledged | Fired(_)) => step.stay(),

            (Confirmed, TransportError | Fired(I)) => step.end(Action::Ended),
            (Confirmed, Request | Answer(..) | Ack | Acknowledged | Fired(_)) => step.stay(),

            (Accepted { answer }, Request) => step.send(answer).stay(),
            (Accepted { answer }, Fired(Timer::Success)) => step.send(answer).back_off(Timer::Success).stay(),
            (Accepted { .. }, Acknowledged) => step.stop(Timer::Success).to(Quiet),
            (Accepted { .. }, Fired(L)) => step.ask(Action::AckMissing).end(Action::Ended),
            (Quiet, Fired(L)) => step.end(Action::Ended),
            (Quiet, Request | Acknowledged) => step.stay(),
            // That of another fork.
            (Accepted { .. } | Quiet, Answer(Success, answer)) => {
                step.send(answer).start(Timer::Success).to(Accepted { answer: answer.clone() })
            }
            (Accepted { .. } | Quiet, Ack) => step.deliver().stay(),
            (Accepted { .. } | Quiet, TransportError) => step.end(Action::Ended),
            (Accepted { .. } | Quiet, Answer(Provisional | Failure, _) | Fired(_)) => step.stay(),
        }
    }

    fn rings(&self) -> bool {
        matches!(self, Self::Proceeding { .. })
    }

    fn lingers(&self) -> Option<usize> {
        matches!(self, Self::Confirmed | Self::Quiet).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::machine::table::{Row, Table};

    const ROWS: &[Row] = &[
        ("thinking", "INVITE Trying", "send 100", "proceeding", ""),
        ("thinking", "1xx", "send 180", "proceeding", ""),
        ("thinking", "2xx", "send 200", "accepted", "L 32000, Success 500"),
        ("thinking", "300+", "send 486", "completed", "G 500, H 32000"),
        ("thinking", "ACK acknowledged", "", "thinking", "Trying 200"),
        ("thinking", "flow", "ended", "terminated", ""),
        ("proceeding", "INVITE 1xx", "send 180", "proceeding", ""),
        ("proceeding", "2xx", "send 200", "accepted", "L 32000, Success 500"),
        ("proceeding", "300+", "send 486", "completed", "G 500, H 32000"),
        ("proceeding", "ACK acknowledged", "", "proceeding", ""),
        ("proceeding", "flow", "ended", "terminated", ""),
        ("completed", "INVITE", "send 486", "completed", "G 500, H 32000"),
        ("completed", "ACK", "", "confirmed", "I 5000"),
        ("completed", "1xx 2xx 300+ acknowledged", "", "completed", "G 500, H 32000"),
        ("completed", "G", "send 486", "completed", "G 1000, H 32000"),
        ("completed", "flow H", "ended", "terminated", ""),
        ("confirmed", "INVITE ACK 1xx 2xx 300+ acknowledged", "", "confirmed", "I 5000"),
        ("confirmed", "flow I", "ended", "terminated", ""),
        ("accepted", "INVITE 2xx", "send 200", "accepted", "L 32000, Success 500"),
        ("accepted", "ACK", "deliver", "accepted", "L 32000, Success 500"),
        ("accepted", "1xx 300+", "", "accepted", "L 32000, Success 500"),
        ("accepted", "acknowledged", "", "quiet", "L 32000"),
        ("accepted", "Success", "send 200", "accepted", "L 32000, Success 1000"),
        ("accepted", "L", "ACK missing, ended", "terminated", ""),
        ("accepted", "flow", "ended", "terminated", ""),
        ("quiet", "2xx", "send 200", "accepted", "L 32000, Success 500"),
        ("quiet", "ACK", "deliver", "quiet", "L 32000"),
        ("quiet", "INVITE 1xx 300+ acknowledged", "", "quiet", "L 32000"),
        ("quiet", "flow L", "ended", "terminated", ""),
        ("terminated", "INVITE ACK 1xx 2xx 300+ acknowledged flow", "", "terminated", ""),
    ];

    fn name(state: &InviteServer) -> &'static str {
        match state {
            InviteServer::Thinking { .. } => "thinking",
            InviteServer::Proceeding { .. } => "proceeding",
            InviteServer::Completed { .. } => "completed",
            InviteServer::Confirmed => "confirmed",
            InviteServer::Accepted { .. } => "accepted",
            InviteServer::Quiet => "quiet",
        }
    }

    #[test]
    fn transition_table() {
        let [ringing, ok, busy] = [b"180 x", b"200 x", b"486 x"].map(|text| Bytes::from_static(text));
        let table = Table {
            first: &|| InviteServer::Thinking { trying: Bytes::from_static(b"100 x") },
            name,
            ways: &[
                ("thinking", &[]),
                ("proceeding", &["1xx"]),
                ("completed", &["300+"]),
                ("confirmed", &["300+", "ACK"]),
                ("accepted", &["2xx"]),
                ("quiet", &["2xx", "acknowledged"]),
                ("terminated", &["flow"]),
            ],
            events: &[
                ("INVITE", ServerEvent::Request),
                ("ACK", ServerEvent::Ack),
                ("1xx", ServerEvent::Answer(Class::Provisional, &ringing)),
                ("2xx", ServerEvent::Answer(Class::Success, &ok)),
                ("300+", ServerEvent::Answer(Class::Failure, &busy)),
                ("acknowledged", ServerEvent::Acknowledged),
                ("flow", ServerEvent::TransportError),
            ],
            rows: ROWS,
        };
        table.check("", "Trying 200");
    }
}
