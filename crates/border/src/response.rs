//! Responses to our own requests, and what becomes of requests that get none.

use bytes::Bytes;
use sip::{ClientId, TransactionEvent};
use wire::clock::Instant;
use wire::sip::{Essentials, Message};

use crate::Border;
use crate::binding::BindingId;
use crate::entry::EntryId;
use crate::failover::Returning;
use crate::forward::ForwardId;
use crate::inside_registration::{Asked, Leaving};
use crate::pass_through::PassedRegister;

/// A response to a request of ours.
#[derive(Clone, Copy)]
pub(crate) struct Reply<'a> {
    pub(crate) message: &'a Message<'a>,
    pub(crate) essentials: &'a Essentials<'a>,
    pub(crate) bytes: &'a Bytes,
    pub(crate) status: u16,
}

/// Why a request got no final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    TimedOut,
    Connection,
}

impl Lost {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "it did not answer",
            Self::Connection => "the connection failed",
        }
    }
}

/// What a client transaction is for.
#[derive(Debug)]
pub(crate) enum ClientUse {
    /// The inside registration of a binding.
    Registration { binding: BindingId, pbx: usize, asked: Asked },
    /// One that comes back from a standby.
    Return(Box<Returning>),
    /// One whose binding has gone before the answer.
    Abandoned(Box<Leaving>),
    /// The end of one.
    Deregistration(Box<Leaving>),
    /// The question which contacts a PBX has for an extension.
    Query { pbx: usize, entry: EntryId, sent: Instant },
    /// The health check, or a question beside it.
    Options { pbx: usize, sent: Instant },
    /// The question that is asked in the place of strangers.
    Sample { pbx: usize, sent: Instant, number: u64 },
    /// A phone's REGISTER whose challenge is the PBX's matter.
    PassedRegister(Box<PassedRegister>),
    /// A request of one side, on the other.
    Forward(ForwardId),
    /// A BYE of our own: whatever comes back, the call is over.
    Ending,
}

impl Border {
    pub(crate) fn on_response(&mut self, client: ClientId, reply: Reply<'_>) {
        let (message, code) = (reply.message, reply.status);
        let is_final = code >= 200;
        let Some(using) = self.clients.find(client) else { return };
        match using {
            ClientUse::Registration { binding, pbx, asked } => {
                let (binding, pbx, asked) = (*binding, *pbx, *asked);
                if is_final {
                    self.clients.remove(client);
                    self.registrar_heard(pbx, asked.at, message);
                    if self.is_at(binding, pbx) {
                        self.on_registration_response(binding, asked, message, code);
                    }
                }
            }
            ClientUse::Query { pbx, entry, sent } => {
                let (pbx, entry, sent) = (*pbx, *entry, *sent);
                if is_final {
                    self.clients.remove(client);
                    self.registrar_heard(pbx, sent, message);
                    self.on_query_response(pbx, (entry, sent), message, code);
                }
            }
            ClientUse::Sample { pbx, sent, number } => {
                let (pbx, sent, number) = (*pbx, *sent, *number);
                if is_final {
                    self.clients.remove(client);
                    self.learn_challenge(pbx, sent, message);
                    self.pbx_heard(pbx);
                    self.on_sample_answered(pbx, number, message);
                    self.release_decoys(pbx);
                }
            }
            ClientUse::Options { pbx, .. } => {
                let pbx = *pbx;
                self.pbx_heard(pbx);
            }
            ClientUse::Forward(forward) => {
                let forward = *forward;
                self.on_forward_response(forward, reply);
            }
            ClientUse::Return(_)
            | ClientUse::Abandoned(_)
            | ClientUse::Deregistration(_)
            | ClientUse::PassedRegister(_)
                if is_final =>
            {
                self.on_last_response(client, message, code);
            }
            ClientUse::Return(_)
            | ClientUse::Abandoned(_)
            | ClientUse::Deregistration(_)
            | ClientUse::PassedRegister(_)
            | ClientUse::Ending => {}
        }
    }

    /// Whether a binding is still at the PBX that a REGISTER for it was sent to: what the one that it has left
    /// says of it does not matter any more.
    fn is_at(&self, binding: BindingId, pbx: usize) -> bool {
        self.bindings.binding(binding).is_some_and(|binding| binding.pbx == pbx)
    }

    fn registrar_heard(&mut self, pbx: usize, sent: Instant, message: &Message<'_>) {
        self.learn_challenge(pbx, sent, message);
        self.pbx_heard(pbx);
        self.release_decoys(pbx);
    }

    /// The final response of a use that is consumed by it.
    fn on_last_response(&mut self, client: ClientId, message: &Message<'_>, code: u16) {
        match self.clients.remove(client) {
            Some(ClientUse::Return(returning)) => {
                self.registrar_heard(returning.place.pbx, returning.asked.at, message);
                self.on_return_response(*returning, message, code);
            }
            Some(ClientUse::Abandoned(leaving)) => self.on_abandoned_response(*leaving, code),
            Some(ClientUse::Deregistration(leaving)) => {
                self.on_deregistration_response(*leaving, message, code)
            }
            Some(ClientUse::PassedRegister(passed)) => {
                self.registrar_heard(passed.pbx, passed.sent, message);
                self.on_passed_register_response(client, *passed, message, code);
            }
            Some(
                ClientUse::Registration { .. }
                | ClientUse::Query { .. }
                | ClientUse::Options { .. }
                | ClientUse::Sample { .. }
                | ClientUse::Forward(_)
                | ClientUse::Ending,
            )
            | None => {}
        }
    }

    pub(crate) fn on_transaction_event(&mut self, event: TransactionEvent) {
        match event {
            TransactionEvent::Send { hop, bytes } => self.send(&hop, bytes),
            TransactionEvent::TimedOut(client) => self.on_no_response(client, Lost::TimedOut),
            TransactionEvent::TransportError(client) => self.on_no_response(client, Lost::Connection),
            TransactionEvent::ClientEnded(client) => self.on_client_ended(client),
            TransactionEvent::ServerLingers(server) => self.room.lingers(server),
            TransactionEvent::ServerEnded(server) => {
                self.room.answered(server);
                self.drop_decoy(server);
                self.on_server_ended(server);
            }
            TransactionEvent::AckMissing(server) => self.on_ack_missing(server),
        }
    }

    fn on_no_response(&mut self, client: ClientId, lost: Lost) {
        let why = lost.as_str();
        match self.clients.remove(client) {
            Some(ClientUse::Registration { binding, pbx, .. }) if self.is_at(binding, pbx) => {
                self.on_registration_failed(binding, why);
            }
            Some(ClientUse::Registration { pbx, .. }) => self.pbx_missed(pbx, why),
            Some(ClientUse::Return(returning)) => self.on_return_failed(returning.place.pbx, why),
            Some(ClientUse::Query { pbx, .. }) => self.pbx_missed(pbx, why),
            Some(ClientUse::Options { pbx, sent }) => self.on_check_missed(pbx, sent, why),
            Some(ClientUse::PassedRegister(passed)) => self.on_passed_register_lost(client, &passed),
            Some(ClientUse::Sample { pbx, number, .. }) => self.on_sample_lost(pbx, number, why),
            Some(ClientUse::Forward(forward)) => self.on_forward_lost(forward, lost),
            Some(ClientUse::Abandoned(_) | ClientUse::Deregistration(_) | ClientUse::Ending) | None => {}
        }
    }

    fn on_client_ended(&mut self, client: ClientId) {
        if let Some(ClientUse::Forward(forward)) = self.clients.remove(client) {
            self.on_forward_client_ended(forward, client);
        }
    }
}
