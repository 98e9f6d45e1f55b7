//! Non-INVITE client transaction (RFC 3261 figure 6).
//!
//! ```text
//!   Trying ──1xx──► Proceeding        E: send, F: timed out
//!      └───200+───► Completed ──K──► Terminated
//! ```
//! Never delivers a second final answer.

use std::mem::take;

use bytes::Bytes;

use super::machine::{Action, Class, ClientEvent, Next, State, Step};
use crate::timer::Timer;

/// One request of ours that is neither INVITE nor ACK.
#[derive(Debug)]
pub(super) enum NonInviteClient {
    Trying { request: Bytes },
    Proceeding { request: Bytes },
    Completed,
}

impl State for NonInviteClient {
    type Event<'a> = ClientEvent<'a>;

    fn begin(&self, step: &mut Step<'_>) {
        if let Self::Trying { request } = self {
            step.send(request).start(Timer::E).start(Timer::F);
        }
    }

    fn on(&mut self, event: ClientEvent<'_>, step: &mut Step<'_>) -> Next<Self> {
        use Class::{Failure, Provisional, Success};
        use ClientEvent::{Abandon, Cancel, Fired, Response, TransportError};
        use NonInviteClient::{Completed, Proceeding, Trying};
        use Timer::{E, F, K};
        match (self, event) {
            (Trying { request }, Response(Provisional, _)) => {
                step.deliver().slow_down().to(Proceeding { request: take(request) })
            }
            (Proceeding { .. }, Response(Provisional, _)) => step.deliver().stay(),
            (Trying { .. } | Proceeding { .. }, Response(Success | Failure, _)) => {
                step.deliver().linger(Completed, K)
            }
            (Trying { request } | Proceeding { request }, Fired(E)) => step.send(request).back_off(E).stay(),
            (Trying { .. } | Proceeding { .. }, Fired(F)) => step.end(Action::TimedOut),
            (Trying { .. } | Proceeding { .. }, TransportError) => step.end(Action::TransportError),
            (Trying { .. } | Proceeding { .. }, Abandon) => step.end(Action::Ended),
            (Trying { .. } | Proceeding { .. }, Cancel | Fired(_)) => step.stay(),

            (Completed, TransportError | Fired(K)) => step.end(Action::Ended),
            (Completed, Response(..) | Cancel | Abandon | Fired(_)) => step.stay(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::machine::table::{Row, Table};

    const ROWS: &[Row] = &[
        ("trying", "1xx", "deliver", "proceeding", "E 500, F 32000"),
        ("trying", "2xx 300+", "deliver", "completed", "K 5000"),
        ("trying", "cancel", "", "trying", "E 500, F 32000"),
        ("trying", "abandon", "ended", "terminated", ""),
        ("trying", "flow", "transport error", "terminated", ""),
        ("trying", "E", "send BYE", "trying", "E 1000, F 32000"),
        ("trying", "F", "timed out", "terminated", ""),
        ("proceeding", "1xx", "deliver", "proceeding", "E 500, F 32000"),
        ("proceeding", "2xx 300+", "deliver", "completed", "K 5000"),
        ("proceeding", "cancel", "", "proceeding", "E 500, F 32000"),
        ("proceeding", "abandon", "ended", "terminated", ""),
        ("proceeding", "flow", "transport error", "terminated", ""),
        ("proceeding", "E", "send BYE", "proceeding", "E 4000, F 32000"),
        ("proceeding", "F", "timed out", "terminated", ""),
        ("completed", "1xx 2xx 300+ cancel abandon", "", "completed", "K 5000"),
        ("completed", "flow K", "ended", "terminated", ""),
        ("terminated", "1xx 2xx 300+ cancel abandon flow", "", "terminated", ""),
    ];

    fn name(state: &NonInviteClient) -> &'static str {
        match state {
            NonInviteClient::Trying { .. } => "trying",
            NonInviteClient::Proceeding { .. } => "proceeding",
            NonInviteClient::Completed => "completed",
        }
    }

    #[test]
    fn transition_table() {
        let table = Table {
            first: &|| NonInviteClient::Trying { request: Bytes::from_static(b"BYE x") },
            name,
            ways: &[
                ("trying", &[]),
                ("proceeding", &["1xx"]),
                ("completed", &["2xx"]),
                ("terminated", &["flow"]),
            ],
            events: &[
                ("1xx", ClientEvent::Response(Class::Provisional, "")),
                ("2xx", ClientEvent::Response(Class::Success, "")),
                ("300+", ClientEvent::Response(Class::Failure, "")),
                ("cancel", ClientEvent::Cancel),
                ("abandon", ClientEvent::Abandon),
                ("flow", ClientEvent::TransportError),
            ],
            rows: ROWS,
        };
        table.check("send BYE", "E 500, F 32000");
    }
}
