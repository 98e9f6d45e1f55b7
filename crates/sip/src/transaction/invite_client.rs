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

use std::mem::take;

use bytes::Bytes;

use super::derived;
use super::machine::{Action, Class, ClientEvent, Next, State, Step};
use crate::timer::Timer;

/// One INVITE of ours.
#[derive(Debug)]
pub(super) enum InviteClient {
    /// `cancelled`: a CANCEL is sent as soon as the peer has answered at all.
    Calling {
        request: Bytes,
        cancelled: bool,
    },
    /// `cancelled`: the CANCEL was sent.
    Proceeding {
        request: Bytes,
        cancelled: bool,
    },
    Completed {
        ack: Bytes,
    },
    Accepted,
}

impl InviteClient {
    pub(super) fn new(request: Bytes) -> Self {
        Self::Calling { request, cancelled: false }
    }
}

impl State for InviteClient {
    type Event<'a> = ClientEvent<'a>;

    fn begin(&self, step: &mut Step<'_>) {
        if let Self::Calling { request, .. } = self {
            step.send(request).start(Timer::A).start(Timer::B);
        }
    }

    fn on(&mut self, event: ClientEvent<'_>, step: &mut Step<'_>) -> Next<Self> {
        use Class::{Failure, Provisional, Success};
        use ClientEvent::{Abandon, Cancel, Fired, Response, TransportError};
        use InviteClient::{Accepted, Calling, Completed, Proceeding};
        use Timer::{A, B, D, M};
        match (self, event) {
            (Calling { request, cancelled: false }, Response(Provisional, _)) => {
                step.deliver().enter(Proceeding { request: take(request), cancelled: false }, &[])
            }
            (Calling { request, cancelled: true }, Response(Provisional, _)) => step
                .deliver()
                .cancel(request)
                .enter(Proceeding { request: take(request), cancelled: true }, &[Timer::Cancel]),
            (Calling { cancelled, .. }, Cancel) => {
                *cancelled = true;
                step.stay()
            }
            (Calling { request, .. }, Fired(A)) => step.send(request).back_off(A).stay(),
            (Calling { .. }, Fired(B)) => step.end(Action::TimedOut),
            (Calling { .. }, Abandon | Fired(_)) => step.stay(),

            (Proceeding { .. }, Response(Provisional, _)) => step.deliver().stay(),
            (Proceeding { request, cancelled: cancelled @ false }, Cancel) => {
                *cancelled = true;
                step.cancel(request).start(Timer::Cancel).stay()
            }
            (Proceeding { cancelled: true, .. }, Fired(Timer::Cancel)) => step.end(Action::TimedOut),
            (Proceeding { .. }, Cancel | Abandon | Fired(_)) => step.stay(),

            (Calling { .. } | Proceeding { .. }, Response(Success, _)) => {
                step.deliver().enter(Accepted, &[M])
            }
            (Calling { request, .. } | Proceeding { request, .. }, Response(Failure, to)) => {
                let Some(ack) = derived::ack(request, to) else {
                    debug_assert!(false, "the INVITE was checked when it was sent");
                    return step.deliver().end(Action::Ended);
                };
                step.deliver().send(&ack).linger(Completed { ack }, D)
            }
            (Calling { .. } | Proceeding { .. }, TransportError) => step.end(Action::TransportError),

            (Completed { ack }, Response(Failure, _)) => step.send(ack).stay(),
            (Completed { .. }, TransportError | Fired(D)) => step.end(Action::Ended),
            (Completed { .. }, Response(Provisional | Success, _) | Cancel | Abandon | Fired(_)) => {
                step.stay()
            }

            (Accepted, Response(Success, _)) => step.deliver().stay(),
            (Accepted, TransportError | Fired(M)) => step.end(Action::Ended),
            (Accepted, Response(Provisional | Failure, _) | Cancel | Abandon | Fired(_)) => step.stay(),
        }
    }

    fn rings(&self) -> bool {
        matches!(self, Self::Proceeding { cancelled: false, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::machine::table::{Row, Table};

    const INVITE: &[u8] = b"INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\n\
        From: <sip:a@example.com>;tag=f\r\nTo: <sip:b@example.com>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";
    const TO: &str = "<sip:b@example.com>;tag=t";

    const ROWS: &[Row] = &[
        ("calling", "1xx", "deliver", "proceeding", ""),
        ("calling", "2xx", "deliver", "accepted", "M 32000"),
        ("calling", "300+", "deliver, send ACK", "completed", "D 32000"),
        ("calling", "cancel", "", "calling-cancelled", "A 500, B 32000"),
        ("calling", "abandon", "", "calling", "A 500, B 32000"),
        ("calling", "flow", "transport error", "terminated", ""),
        ("calling", "A", "send INVITE", "calling", "A 1000, B 32000"),
        ("calling", "B", "timed out", "terminated", ""),
        ("calling-cancelled", "1xx", "deliver, cancel", "proceeding-cancelled", "Cancel 32000"),
        ("calling-cancelled", "2xx", "deliver", "accepted", "M 32000"),
        ("calling-cancelled", "300+", "deliver, send ACK", "completed", "D 32000"),
        ("calling-cancelled", "cancel", "", "calling-cancelled", "A 500, B 32000"),
        ("calling-cancelled", "abandon", "", "calling-cancelled", "A 500, B 32000"),
        ("calling-cancelled", "flow", "transport error", "terminated", ""),
        ("calling-cancelled", "A", "send INVITE", "calling-cancelled", "A 1000, B 32000"),
        ("calling-cancelled", "B", "timed out", "terminated", ""),
        ("proceeding", "1xx", "deliver", "proceeding", ""),
        ("proceeding", "2xx", "deliver", "accepted", "M 32000"),
        ("proceeding", "300+", "deliver, send ACK", "completed", "D 32000"),
        ("proceeding", "cancel", "cancel", "proceeding-cancelled", "Cancel 32000"),
        ("proceeding", "abandon", "", "proceeding", ""),
        ("proceeding", "flow", "transport error", "terminated", ""),
        ("proceeding-cancelled", "1xx", "deliver", "proceeding-cancelled", "Cancel 32000"),
        ("proceeding-cancelled", "2xx", "deliver", "accepted", "M 32000"),
        ("proceeding-cancelled", "300+", "deliver, send ACK", "completed", "D 32000"),
        ("proceeding-cancelled", "cancel", "", "proceeding-cancelled", "Cancel 32000"),
        ("proceeding-cancelled", "abandon", "", "proceeding-cancelled", "Cancel 32000"),
        ("proceeding-cancelled", "flow", "transport error", "terminated", ""),
        ("proceeding-cancelled", "Cancel", "timed out", "terminated", ""),
        ("completed", "1xx 2xx cancel abandon", "", "completed", "D 32000"),
        ("completed", "300+", "send ACK", "completed", "D 32000"),
        ("completed", "flow D", "ended", "terminated", ""),
        ("accepted", "1xx 300+ cancel abandon", "", "accepted", "M 32000"),
        ("accepted", "2xx", "deliver", "accepted", "M 32000"),
        ("accepted", "flow M", "ended", "terminated", ""),
        ("terminated", "1xx 2xx 300+ cancel abandon flow", "", "terminated", ""),
    ];

    fn name(state: &InviteClient) -> &'static str {
        match state {
            InviteClient::Calling { cancelled: false, .. } => "calling",
            InviteClient::Calling { cancelled: true, .. } => "calling-cancelled",
            InviteClient::Proceeding { cancelled: false, .. } => "proceeding",
            InviteClient::Proceeding { cancelled: true, .. } => "proceeding-cancelled",
            InviteClient::Completed { .. } => "completed",
            InviteClient::Accepted => "accepted",
        }
    }

    #[test]
    fn transition_table() {
        let table = Table {
            first: &|| InviteClient::new(Bytes::from_static(INVITE)),
            name,
            ways: &[
                ("calling", &[]),
                ("calling-cancelled", &["cancel"]),
                ("proceeding", &["1xx"]),
                ("proceeding-cancelled", &["1xx", "cancel"]),
                ("completed", &["300+"]),
                ("accepted", &["2xx"]),
                ("terminated", &["flow"]),
            ],
            events: &[
                ("1xx", ClientEvent::Response(Class::Provisional, TO)),
                ("2xx", ClientEvent::Response(Class::Success, TO)),
                ("300+", ClientEvent::Response(Class::Failure, TO)),
                ("cancel", ClientEvent::Cancel),
                ("abandon", ClientEvent::Abandon),
                ("flow", ClientEvent::TransportError),
            ],
            rows: ROWS,
        };
        table.check("send INVITE", "A 500, B 32000");
    }
}
