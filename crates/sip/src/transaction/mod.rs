//! Transactions (RFC 3261 §17, amended by RFC 6026): each request is handled once, each answer is
//! delivered once, whatever the network loses, repeats or reorders.
//!
//! Never creates state for a response that no request of ours asked for, never sends two final answers to
//! one request, never grows past its bound, never reads a clock or a socket: what is to be sent comes out
//! of [`TransactionLayer::poll`].
//!
//! Of requests that were answered, and acknowledged where that is due, only the newest are kept for their
//! repetition where there are many: what comes must find room before what is done with.
//!
//! Each ringing INVITE waits without a timer of this layer, in either direction; how long it may is the
//! transaction user's decision. Every other state ends by itself.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use wire::clock::Instant;
use wire::net::{FlowId, Transport};
use wire::sip::{Essentials, HeaderName, Message, Method, StartLine};

mod derived;
mod invite_client;
mod invite_server;
mod key;
mod lingering;
mod machine;
mod non_invite_client;
mod non_invite_server;
mod slots;

use invite_client::InviteClient;
use invite_server::InviteServer;
use key::TransactionKey;
use lingering::Lingering;
use machine::{Action, Class, Client, ClientEvent, Machine, Server, ServerEvent, State};
use non_invite_client::NonInviteClient;
use non_invite_server::NonInviteServer;
use slots::{Change, Slots};

/// Where a message came from or goes to. Answers go back to where the request came from, as though every
/// client had asked for it (RFC 3581).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The connection, or the UDP listener.
    pub flow: FlowId,
    /// The other end.
    pub remote: SocketAddr,
    /// How it travels.
    pub transport: Transport,
}

/// A transaction that the peer began. Never used again after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(u64);

/// A transaction that we began. Never used again after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(u64);

/// What a request is to the transaction user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It is to be handled, and answered by [`TransactionLayer::respond`].
    New(ServerId),
    /// It was here before; what was answered, if anything, is on its way again.
    Retransmission,
    /// The ACK of an INVITE whose final answer was no 2xx, or that has none: nothing is left to do.
    Ack(ServerId),
    /// An ACK that belongs to a dialog, not to a transaction.
    Ack2xx,
    /// A CANCEL, to be answered itself, and the INVITE that it means, in whatever state that is. It only
    /// counts on the flow, and over UDP from the source, that the INVITE came by.
    Cancel {
        /// The CANCEL.
        cancel: ServerId,
        /// The INVITE; none: `481` (§9.2).
        invite: Option<ServerId>,
    },
    /// There is no room. Nothing was kept.
    Full,
}

/// What a response is to the transaction user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseOutcome {
    /// A provisional answer, the final one, or a further 2xx of an INVITE.
    Deliver(ClientId),
    /// It was here before.
    Absorbed,
    /// Nobody asked for it, on this flow at least.
    Stray,
}

/// What the layer wants, in order. Each transaction that is not abandoned ends with exactly one of the last
/// four.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionEvent {
    /// These bytes are to be sent.
    Send {
        /// Where to.
        hop: Hop,
        /// A whole message.
        bytes: Bytes,
    },
    /// A 2xx was not acknowledged within 64·T1 (§13.3.1.4). `ServerEnded` follows.
    AckMissing(ServerId),
    /// No final answer came in time. The transaction is gone.
    TimedOut(ClientId),
    /// The flow failed before a final answer came. The transaction is gone.
    TransportError(ClientId),
    /// The request has its final answer, and that its ACK where one is due: the transaction is there only for what is
    /// repeated, at most half a minute. `ServerEnded` follows. Not told of one that ends with its answer.
    ServerLingers(ServerId),
    /// The transaction is gone. Where it had no final answer yet, nobody waits for one any more.
    ServerEnded(ServerId),
    /// The transaction is gone, after its final answer was delivered or nobody waited for one any more.
    ClientEnded(ClientId),
}

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Server(ServerId),
    Client(ClientId),
}

/// All transactions of one owner.
///
/// After each call, [`poll`](Self::poll) is to be drained and [`poll_timeout`](Self::poll_timeout) looked
/// at.
#[derive(Debug)]
pub struct TransactionLayer {
    servers: Slots<Machine<Server>>,
    clients: Slots<Machine<Client>>,
    /// One entry for each transaction that waits: its next deadline.
    deadlines: BTreeSet<(Instant, Owner)>,
    lingering: Lingering,
    events: VecDeque<TransactionEvent>,
    /// Kept for its memory only; empty between calls.
    actions: Vec<Action>,
    transactions_max: usize,
}

impl TransactionLayer {
    /// A layer for at most `transactions_max` transactions, not counting the CANCELs of our own INVITEs:
    /// what was begun can always be given up.
    pub fn new(transactions_max: usize) -> Self {
        Self {
            servers: Slots::new(),
            clients: Slots::new(),
            deadlines: BTreeSet::new(),
            lingering: Lingering::default(),
            events: VecDeque::new(),
            actions: Vec::new(),
            transactions_max,
        }
    }

    /// Takes a request. `essentials` are those of `message`.
    pub fn receive_request(
        &mut self,
        hop: Hop,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
        now: Instant,
    ) -> RequestOutcome {
        let uri = match message.start() {
            StartLine::Request { uri, .. } => uri,
            StartLine::Status { .. } => "",
        };
        let method = essentials.cseq.method;
        if method == Method::Ack {
            return self.receive_ack(&TransactionKey::server(&hop, Method::Invite, uri, essentials), now);
        }
        let key = TransactionKey::server(&hop, method, uri, essentials);
        if let Some(id) = self.servers.find(&key).map(ServerId) {
            self.step_server(id, |machine, out| machine.handle(ServerEvent::Request, now, out));
            return RequestOutcome::Retransmission;
        }
        if self.len() >= self.transactions_max {
            return RequestOutcome::Full;
        }
        let meant = (method == Method::Cancel).then(|| key.with_method(Method::Invite));
        let state = if method == Method::Invite {
            let trying = crate::response::response(message, hop.remote, 100, "Trying", None).finish(b"");
            Server::Invite(InviteServer::Thinking { trying: Bytes::from(trying) })
        } else {
            Server::NonInvite(NonInviteServer::Trying)
        };
        let id = ServerId(self.servers.insert(key, hop, Machine::new(state, hop.transport)));
        self.step_server(id, |machine, out| machine.begin(now, out));
        match meant {
            Some(invite) => {
                RequestOutcome::Cancel { cancel: id, invite: self.servers.find(&invite).map(ServerId) }
            }
            None => RequestOutcome::New(id),
        }
    }

    /// Whether a request belongs to a transaction that is there: a repetition, or the ACK or CANCEL of an INVITE.
    pub fn knows_request(&self, hop: &Hop, uri: &str, essentials: &Essentials<'_>) -> bool {
        let own = essentials.cseq.method;
        let of_invite = matches!(own, Method::Ack | Method::Cancel).then_some(Method::Invite);
        let is_there =
            |method| self.servers.find(&TransactionKey::server(hop, method, uri, essentials)).is_some();
        of_invite.is_some_and(is_there) || is_there(own)
    }

    /// Takes a response. `essentials` are those of `message`.
    pub fn receive_response(
        &mut self,
        hop: Hop,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
        now: Instant,
    ) -> ResponseOutcome {
        let class = match message.start() {
            StartLine::Status { code, .. } => Class::of(code),
            StartLine::Request { .. } => None,
        };
        let key = |branch| TransactionKey::client(hop.flow, branch, essentials.cseq.method);
        let id = essentials.via.branch().and_then(|branch| self.clients.find(&key(branch)));
        let (Some(class), Some(id)) = (class, id.map(ClientId)) else { return ResponseOutcome::Stray };
        let to = message.value(HeaderName::To).unwrap_or_default();
        let event = ClientEvent::Response(class, to);
        if self.step_client(id, now, |machine, out| machine.handle(event, now, out)).delivered {
            ResponseOutcome::Deliver(id)
        } else {
            ResponseOutcome::Absorbed
        }
    }

    /// Answers a request. `false`: it was answered finally before, or is gone. Only a 2xx may follow a
    /// 2xx of an INVITE: that of another fork. `bytes` are sent as they are, again where need be.
    ///
    /// A 2xx of an INVITE is repeated on every transport until [`acknowledged`](Self::acknowledged), since
    /// it travels end to end (RFC 3261 §13.3.1.4); of several, the last one is.
    pub fn respond(&mut self, id: ServerId, status: u16, bytes: Bytes, now: Instant) -> bool {
        let class = Class::of(status);
        debug_assert!(class.is_some(), "{status} is no status code");
        let Some(class) = class else { return false };
        let event = ServerEvent::Answer(class, &bytes);
        self.step_server(id, |machine, out| machine.handle(event, now, out)).sent
    }

    /// The ACK of the 2xx has come: it need not be sent any more. A transaction user that lets the 2xx of
    /// several forks through calls this when the last one has its ACK.
    pub fn acknowledged(&mut self, id: ServerId, now: Instant) {
        self.step_server(id, |machine, out| machine.handle(ServerEvent::Acknowledged, now, out));
    }

    /// Sends a request and waits for its answer. `branch` is that of its top Via and must be one that
    /// nobody can guess. `None`: there is no room, the branch is in use, or the bytes are no request that
    /// an ACK or CANCEL could be made from. An ACK is no transaction: that of a 2xx the caller sends itself.
    pub fn request(
        &mut self,
        hop: Hop,
        method: Method<'_>,
        branch: &str,
        bytes: Bytes,
        now: Instant,
    ) -> Option<ClientId> {
        if self.len() >= self.transactions_max || method == Method::Ack {
            return None;
        }
        if method == Method::Invite && derived::cancel(&bytes).is_none() {
            return None;
        }
        self.begin(hop, TransactionKey::client(hop.flow, branch, method), method, bytes, now)
    }

    /// Gives an INVITE of ours up (RFC 3261 §9.1). A CANCEL is sent once a provisional answer has come, at
    /// once where one has: then its own transaction is returned, whose answer says nothing of interest.
    /// After a final answer nothing is sent. Without a final answer 64·T1 after the CANCEL, the INVITE is
    /// [`TimedOut`](TransactionEvent::TimedOut). A 2xx may still cross the CANCEL and is delivered.
    pub fn cancel(&mut self, invite: ClientId, now: Instant) -> Option<ClientId> {
        self.step_client(invite, now, |machine, out| machine.handle(ClientEvent::Cancel, now, out)).cancelling
    }

    /// Nobody waits for the answer to a request of ours any more: it ends, where it has none. An INVITE does not, for
    /// it has to be given up by [`cancel`](Self::cancel).
    pub fn abandon_request(&mut self, id: ClientId, now: Instant) {
        self.step_client(id, now, |machine, out| machine.handle(ClientEvent::Abandon, now, out));
    }

    /// A flow is gone: its client transactions end, as `TransportError` where they had no final answer, and
    /// its server transactions.
    pub fn flow_failed(&mut self, flow: FlowId, now: Instant) {
        for id in self.servers.of_flow(flow) {
            let event = ServerEvent::TransportError;
            self.step_server(ServerId(id), |machine, out| machine.handle(event, now, out));
        }
        for id in self.clients.of_flow(flow) {
            let event = ClientEvent::TransportError;
            self.step_client(ClientId(id), now, |machine, out| machine.handle(event, now, out));
        }
        debug_assert!(self.servers.of_flow(flow).is_empty() && self.clients.of_flow(flow).is_empty());
    }

    /// Drops a request without an answer, and without an event. Should it be repeated, it is new.
    pub fn abandon(&mut self, id: ServerId) {
        if let Some(slot) = self.servers.remove(id.0) {
            self.disarm(slot.armed, Owner::Server(id));
        }
    }

    /// Handles everything that is due. Afterwards [`poll_timeout`](Self::poll_timeout) is later than `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, owner)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            match owner {
                Owner::Server(id) => {
                    self.step_server(id, |machine, out| machine.fire(now, out));
                }
                Owner::Client(id) => {
                    self.step_client(id, now, |machine, out| machine.fire(now, out));
                }
            }
        }
        debug_assert!(self.poll_timeout().is_none_or(|at| at > now));
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next thing that the layer wants.
    pub fn poll(&mut self) -> Option<TransactionEvent> {
        self.events.pop_front()
    }

    /// How many transactions there are.
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Panics where the layer contradicts itself. For tests and the simulation: its time grows with the
    /// number of transactions.
    pub fn check_invariants(&self) {
        assert!(self.actions.is_empty(), "nothing asked for is left undone");
        let armed = self.check_slots(&self.servers, |id| Owner::Server(ServerId(id)))
            + self.check_slots(&self.clients, |id| Owner::Client(ClientId(id)));
        assert_eq!(armed, self.deadlines.len(), "one deadline for each that waits, no other");
        assert!(self.len() <= self.transactions_max.saturating_mul(2), "CANCELs apart, bounded");
    }

    /// How many of these wait.
    fn check_slots<S: State>(&self, slots: &Slots<Machine<S>>, owner: impl Fn(u64) -> Owner) -> usize {
        slots.check_invariants();
        for slot in slots.iter() {
            assert!(!slot.machine.is_terminated(), "the ended are removed");
            assert_eq!(slot.armed, slot.machine.poll_timeout());
            assert_eq!(slot.armed.is_none(), slot.machine.rings(), "each has its end, unless it rings");
            assert!(slot.armed.is_none_or(|at| self.deadlines.contains(&(at, owner(slot.id)))));
        }
        slots.iter().filter(|slot| slot.armed.is_some()).count()
    }

    fn receive_ack(&mut self, invite: &TransactionKey, now: Instant) -> RequestOutcome {
        let Some(id) = self.servers.find(invite).map(ServerId) else { return RequestOutcome::Ack2xx };
        if self.step_server(id, |machine, out| machine.handle(ServerEvent::Ack, now, out)).delivered {
            RequestOutcome::Ack2xx
        } else {
            RequestOutcome::Ack(id)
        }
    }

    fn begin(
        &mut self,
        hop: Hop,
        key: TransactionKey,
        method: Method<'_>,
        bytes: Bytes,
        now: Instant,
    ) -> Option<ClientId> {
        if self.clients.find(&key).is_some() {
            return None;
        }
        let state = if method == Method::Invite {
            Client::Invite(InviteClient::new(bytes))
        } else {
            Client::NonInvite(NonInviteClient::Trying { request: bytes })
        };
        let id = ClientId(self.clients.insert(key, hop, Machine::new(state, hop.transport)));
        self.step_client(id, now, |machine, out| machine.begin(now, out));
        Some(id)
    }

    /// Lets a server transaction act, then does what it asked for.
    fn step_server(
        &mut self,
        id: ServerId,
        act: impl FnOnce(&mut Machine<Server>, &mut Vec<Action>),
    ) -> Stepped {
        let Some(change) = self.servers.step(id.0, |machine| act(machine, &mut self.actions)) else {
            return Stepped::default();
        };
        let lingers = change.lingers;
        let stepped = self.conclude(Owner::Server(id), change);
        if let Some(bytes) = lingers {
            self.events.push_back(TransactionEvent::ServerLingers(id));
            self.lingering.push(id, bytes);
            while let Some(oldest) = self.lingering.pop_excess() {
                self.forget(oldest);
            }
        }
        stepped
    }

    /// Ends a transaction before its time, where it lingers still.
    fn forget(&mut self, id: ServerId) {
        if self.servers.slot(id.0).is_some_and(|slot| slot.machine.lingers().is_some())
            && let Some(slot) = self.servers.remove(id.0)
        {
            self.disarm(slot.armed, Owner::Server(id));
            self.events.push_back(TransactionEvent::ServerEnded(id));
        }
    }

    /// Lets a client transaction act, then does what it asked for.
    fn step_client(
        &mut self,
        id: ClientId,
        now: Instant,
        act: impl FnOnce(&mut Machine<Client>, &mut Vec<Action>),
    ) -> Stepped {
        let Some(change) = self.clients.step(id.0, |machine| act(machine, &mut self.actions)) else {
            return Stepped::default();
        };
        let mut stepped = self.conclude(Owner::Client(id), change);
        if let (Some(bytes), Some(invite)) = (stepped.cancel.take(), self.clients.slot(id.0)) {
            let key = invite.key.with_method(Method::Cancel);
            stepped.cancelling = self.begin(invite.hop, key, Method::Cancel, bytes, now);
        }
        stepped
    }

    /// Does what a machine asked for, and notes its next deadline.
    fn conclude(&mut self, owner: Owner, change: Change) -> Stepped {
        let mut stepped = Stepped::default();
        for action in self.actions.drain(..) {
            self.events.push_back(match (action, owner) {
                (Action::Send(bytes), _) => {
                    stepped.sent = true;
                    TransactionEvent::Send { hop: change.hop, bytes }
                }
                (Action::Deliver, _) => {
                    stepped.delivered = true;
                    continue;
                }
                (Action::Cancel(bytes), _) => {
                    stepped.cancel = Some(bytes);
                    continue;
                }
                (Action::AckMissing, Owner::Server(id)) => TransactionEvent::AckMissing(id),
                (Action::TimedOut, Owner::Client(id)) => TransactionEvent::TimedOut(id),
                (Action::TransportError, Owner::Client(id)) => TransactionEvent::TransportError(id),
                (Action::Ended, Owner::Server(id)) => TransactionEvent::ServerEnded(id),
                (Action::Ended, Owner::Client(id)) => TransactionEvent::ClientEnded(id),
                (Action::AckMissing, Owner::Client(_))
                | (Action::TimedOut | Action::TransportError, Owner::Server(_)) => {
                    debug_assert!(false, "only the other kind asks for that");
                    continue;
                }
            });
        }
        self.rearm(change.before, change.after, owner);
        stepped
    }

    fn rearm(&mut self, before: Option<Instant>, after: Option<Instant>, owner: Owner) {
        if before == after {
            return;
        }
        self.disarm(before, owner);
        if let Some(at) = after {
            self.deadlines.insert((at, owner));
        }
    }

    fn disarm(&mut self, armed: Option<Instant>, owner: Owner) {
        if let Some(at) = armed {
            let was = self.deadlines.remove(&(at, owner));
            debug_assert!(was, "what is armed is queued");
        }
    }
}

/// What came of a transaction's step.
#[derive(Default)]
struct Stepped {
    sent: bool,
    /// The message is for the transaction user.
    delivered: bool,
    /// This CANCEL is to be sent.
    cancel: Option<Bytes>,
    /// It is on its way.
    cancelling: Option<ClientId>,
}

#[cfg(test)]
mod tests;
