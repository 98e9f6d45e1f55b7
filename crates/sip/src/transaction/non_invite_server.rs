//! Non-INVITE server transaction (RFC 3261 figure 8).
//!
//! ```text
//!   Trying ──1xx──► Proceeding        F: nobody answered, gone (RFC 4320 §4.2)
//!      └───200+───► Completed ──J──► Terminated
//! ```
//! Never answers a repeated request with anything but what was answered before.

use bytes::Bytes;

use super::machine::{Action, Class, Next, ServerEvent, State, Step};
use crate::timer::Timer;

/// One request of the peer that is neither INVITE nor ACK.
#[derive(Debug)]
pub(super) enum NonInviteServer {
    Trying,
    Proceeding { answer: Bytes },
    Completed { answer: Bytes },
}

impl State for NonInviteServer {
    type Event<'a> = ServerEvent<'a>;

    fn begin(&self, step: &mut Step<'_>) {
        step.start(Timer::F);
    }

    fn on(&mut self, event: ServerEvent<'_>, step: &mut Step<'_>) -> Next<Self> {
        use Class::{Failure, Provisional, Success};
        use NonInviteServer::{Completed, Proceeding, Trying};
        use ServerEvent::{Ack, Acknowledged, Answer, Fired, Request, TransportError};
        use Timer::{F, J};
        match (self, event) {
            (Trying, Request) => step.stay(),
            (Proceeding { answer }, Request) => step.send(answer).stay(),
            (Trying | Proceeding { .. }, Answer(Provisional, answer)) => {
                step.send(answer).to(Proceeding { answer: answer.clone() })
            }
            (Trying | Proceeding { .. }, Answer(Success | Failure, answer)) => {
                step.send(answer).linger(Completed { answer: answer.clone() }, J)
            }
            (Trying | Proceeding { .. }, TransportError | Fired(F)) => step.end(Action::Ended),
            (Trying | Proceeding { .. }, Ack | Acknowledged | Fired(_)) => step.stay(),

            (Completed { answer }, Request) => step.send(answer).stay(),
            (Completed { .. }, TransportError | Fired(J)) => step.end(Action::Ended),
            (Completed { .. }, Answer(..) | Ack | Acknowledged | Fired(_)) => step.stay(),
        }
    }

    fn lingers(&self) -> Option<usize> {
        match self {
            Self::Completed { answer } => Some(answer.len()),
            Self::Trying | Self::Proceeding { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::machine::table::{Row, Table};

    const ROWS: &[Row] = &[
        ("trying", "request ACK acknowledged", "", "trying", "F 32000"),
        ("trying", "1xx", "send 100", "proceeding", "F 32000"),
        ("trying", "2xx", "send 200", "completed", "J 32000"),
        ("trying", "300+", "send 486", "completed", "J 32000"),
        ("trying", "flow F", "ended", "terminated", ""),
        ("proceeding", "request 1xx", "send 100", "proceeding", "F 32000"),
        ("proceeding", "2xx", "send 200", "completed", "J 32000"),
        ("proceeding", "300+", "send 486", "completed", "J 32000"),
        ("proceeding", "ACK acknowledged", "", "proceeding", "F 32000"),
        ("proceeding", "flow F", "ended", "terminated", ""),
        ("completed", "request", "send 200", "completed", "J 32000"),
        ("completed", "1xx 2xx 300+ ACK acknowledged", "", "completed", "J 32000"),
        ("completed", "flow J", "ended", "terminated", ""),
        ("terminated", "request 1xx 2xx 300+ ACK acknowledged flow", "", "terminated", ""),
    ];

    fn name(state: &NonInviteServer) -> &'static str {
        match state {
            NonInviteServer::Trying => "trying",
            NonInviteServer::Proceeding { .. } => "proceeding",
            NonInviteServer::Completed { .. } => "completed",
        }
    }

    #[test]
    fn transition_table() {
        let [trying, ok, busy] = [b"100 x", b"200 x", b"486 x"].map(|text| Bytes::from_static(text));
        let table = Table {
            first: &|| NonInviteServer::Trying,
            name,
            ways: &[
                ("trying", &[]),
                ("proceeding", &["1xx"]),
                ("completed", &["2xx"]),
                ("terminated", &["flow"]),
            ],
            events: &[
                ("request", ServerEvent::Request),
                ("1xx", ServerEvent::Answer(Class::Provisional, &trying)),
                ("2xx", ServerEvent::Answer(Class::Success, &ok)),
                ("300+", ServerEvent::Answer(Class::Failure, &busy)),
                ("ACK", ServerEvent::Ack),
                ("acknowledged", ServerEvent::Acknowledged),
                ("flow", ServerEvent::TransportError),
            ],
            rows: ROWS,
        };
        table.check("", "F 32000");
    }
}
