//! The two kinds of server and of client transaction behind one face, and what they ask of the layer.
//!
//! Never decides: it hands each event to the machine that knows it.

use bytes::Bytes;
use wire::clock::Instant;

use super::invite_client::{self, InviteClient};
use super::invite_server::{self, InviteServer};
use super::non_invite_client::{self, NonInviteClient};
use super::non_invite_server::{self, NonInviteServer};

/// What a machine wants done.
#[derive(Debug)]
pub(super) enum Action {
    /// These bytes go to the transaction's hop.
    Send(Bytes),
    /// The response just handled is for the transaction user.
    Deliver,
    /// This CANCEL is to be sent as a transaction of its own.
    Cancel(Bytes),
    /// No ACK came for a 2xx.
    AckMissing,
    /// Over, without a final answer in time.
    TimedOut,
    /// Over, for the flow is gone.
    TransportError,
    /// Over.
    Ended,
}

/// What a status code means to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Provisional,
    Success,
    Failure,
}

impl Class {
    /// `None` for what is no status code of SIP (RFC 3261 §7.2).
    pub(super) fn of(code: u16) -> Option<Self> {
        match code {
            100..=199 => Some(Self::Provisional),
            200..=299 => Some(Self::Success),
            300..=699 => Some(Self::Failure),
            _ => None,
        }
    }
}

/// A request of the peer.
#[derive(Debug)]
pub(super) enum Server {
    Invite(InviteServer),
    NonInvite(NonInviteServer),
}

impl Server {
    /// The request came again.
    pub(super) fn on_request(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self {
            Self::Invite(machine) => machine.handle(invite_server::Event::Request, now, out),
            Self::NonInvite(machine) => machine.handle(non_invite_server::Event::Request, now, out),
        }
    }

    /// Whether the ACK just looked up is the transaction user's: that of a 2xx.
    pub(super) fn on_ack(&mut self, now: Instant, out: &mut Vec<Action>) -> bool {
        match self {
            Self::Invite(machine) => {
                machine.handle(invite_server::Event::Ack, now, out);
                machine.is_accepted()
            }
            Self::NonInvite(_) => false,
        }
    }

    /// The transaction user answers; whether that is still wanted.
    pub(super) fn on_answer(
        &mut self,
        class: Class,
        bytes: &Bytes,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        match self {
            Self::Invite(machine) => {
                let wanted = machine.is_unanswered() || (machine.is_accepted() && class == Class::Success);
                let event = match class {
                    Class::Provisional => invite_server::Event::Provisional(bytes),
                    Class::Success => invite_server::Event::Success(bytes),
                    Class::Failure => invite_server::Event::Failure(bytes),
                };
                machine.handle(event, now, out);
                wanted
            }
            Self::NonInvite(machine) => {
                let wanted = machine.is_unanswered();
                let event = match class {
                    Class::Provisional => non_invite_server::Event::Provisional(bytes),
                    Class::Success | Class::Failure => non_invite_server::Event::Final(bytes),
                };
                machine.handle(event, now, out);
                wanted
            }
        }
    }

    /// The transaction user has the ACK of its 2xx.
    pub(super) fn on_acknowledged(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Self::Invite(machine) = self {
            machine.handle(invite_server::Event::Acknowledged, now, out);
        }
    }

    pub(super) fn on_transport_error(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self {
            Self::Invite(machine) => machine.handle(invite_server::Event::TransportError, now, out),
            Self::NonInvite(machine) => machine.handle(non_invite_server::Event::TransportError, now, out),
        }
    }

    pub(super) fn fire(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self {
            Self::Invite(machine) => machine.fire(now, out),
            Self::NonInvite(machine) => machine.fire(now, out),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.poll_timeout(),
            Self::NonInvite(machine) => machine.poll_timeout(),
        }
    }

    pub(super) fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_terminated(),
            Self::NonInvite(machine) => machine.is_terminated(),
        }
    }

    /// Whether it may be without a timer.
    pub(super) fn may_wait(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.may_wait(),
            Self::NonInvite(_) => false,
        }
    }
}

/// A request of ours.
#[derive(Debug)]
pub(super) enum Client {
    Invite(InviteClient),
    NonInvite(NonInviteClient),
}

impl Client {
    /// A response came, with this To.
    pub(super) fn on_response(&mut self, class: Class, to: &str, now: Instant, out: &mut Vec<Action>) {
        match self {
            Self::Invite(machine) => {
                let event = match class {
                    Class::Provisional => invite_client::Event::Provisional,
                    Class::Success => invite_client::Event::Success,
                    Class::Failure => invite_client::Event::Failure { to },
                };
                machine.handle(event, now, out);
            }
            Self::NonInvite(machine) => {
                let event = match class {
                    Class::Provisional => non_invite_client::Event::Provisional,
                    Class::Success | Class::Failure => non_invite_client::Event::Final,
                };
                machine.handle(event, now, out);
            }
        }
    }

    /// The transaction user gives an INVITE up.
    pub(super) fn on_cancel(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Self::Invite(machine) = self {
            machine.handle(invite_client::Event::Cancel, now, out);
        }
    }

    pub(super) fn on_transport_error(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self {
            Self::Invite(machine) => machine.handle(invite_client::Event::TransportError, now, out),
            Self::NonInvite(machine) => machine.handle(non_invite_client::Event::TransportError, now, out),
        }
    }

    pub(super) fn fire(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self {
            Self::Invite(machine) => machine.fire(now, out),
            Self::NonInvite(machine) => machine.fire(now, out),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.poll_timeout(),
            Self::NonInvite(machine) => machine.poll_timeout(),
        }
    }

    pub(super) fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_terminated(),
            Self::NonInvite(machine) => machine.is_terminated(),
        }
    }

    /// Whether it may be without a timer.
    pub(super) fn may_wait(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.may_wait(),
            Self::NonInvite(_) => false,
        }
    }
}

/// Transition tables of the four machines as tests read them.
#[cfg(test)]
pub(super) mod table {
    use std::collections::BTreeSet;

    use super::Action;

    /// State, event, state after it, what is done, whether a timer runs then.
    pub(in crate::transaction) type Row = (&'static str, &'static str, &'static str, &'static str, bool);

    /// Checks that there is one row for each state and event, and that each is what happens.
    pub(in crate::transaction) fn check(
        rows: &[Row],
        events: &[&str],
        step: impl Fn(&str, &str) -> (String, Vec<Action>, bool),
    ) {
        let states: BTreeSet<_> = rows.iter().flat_map(|row| [row.0, row.2]).collect();
        let pairs: BTreeSet<_> = rows.iter().map(|row| (row.0, row.1)).collect();
        assert_eq!(pairs.len(), rows.len(), "no row twice");
        for state in &states {
            for event in events {
                assert!(pairs.contains(&(*state, *event)), "no row for {state}, {event}");
            }
        }
        assert_eq!(rows.len(), states.len() * events.len());
        for (state, event, after, done, armed) in rows {
            let (got_after, got_done, got_armed) = step(state, event);
            let got = (got_after.as_str(), words(&got_done), got_armed);
            assert_eq!(got, (*after, (*done).to_owned(), *armed), "{state}, {event}");
        }
    }

    fn words(actions: &[Action]) -> String {
        let words: Vec<_> = actions.iter().map(word).collect();
        words.join(", ")
    }

    fn word(action: &Action) -> String {
        match action {
            Action::Send(bytes) => {
                let text = std::str::from_utf8(bytes).expect("text");
                format!("send {}", text.split(' ').next().expect("a first word"))
            }
            Action::Deliver => "deliver".to_owned(),
            Action::Cancel(bytes) => {
                assert!(bytes.starts_with(b"CANCEL "));
                "cancel".to_owned()
            }
            Action::AckMissing => "ACK missing".to_owned(),
            Action::TimedOut => "timed out".to_owned(),
            Action::TransportError => "transport error".to_owned(),
            Action::Ended => "ended".to_owned(),
        }
    }
}
