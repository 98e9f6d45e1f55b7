//! What the four machines have in common: their shell, the steps that they take in it, and what they ask of
//! the layer.
//!
//! Never decides: each machine's own table does.

use bytes::Bytes;
use wire::clock::Instant;
use wire::net::Transport;

use super::derived;
use super::invite_client::InviteClient;
use super::invite_server::InviteServer;
use super::non_invite_client::NonInviteClient;
use super::non_invite_server::NonInviteServer;
use crate::timer::{Timer, TimerTable};

/// What a machine wants done.
#[derive(Debug)]
pub(super) enum Action {
    /// These bytes go to the transaction's hop.
    Send(Bytes),
    /// The message just handled is for the transaction user.
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

/// What can happen to a request of the peer.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServerEvent<'a> {
    /// The request came again.
    Request,
    /// An ACK with the INVITE's branch.
    Ack,
    /// The transaction user answers.
    Answer(Class, &'a Bytes),
    /// The transaction user has seen the ACK of its 2xx.
    Acknowledged,
    /// The flow is gone.
    TransportError,
    /// A timer fired.
    Fired(Timer),
}

/// What can happen to a request of ours.
#[derive(Clone, Copy, Debug)]
pub(super) enum ClientEvent<'a> {
    /// A response came, with this value of its To.
    Response(Class, &'a str),
    /// The transaction user gives an INVITE up.
    Cancel,
    /// The transaction user waits for no answer any more.
    Abandon,
    /// The flow is gone.
    TransportError,
    /// A timer fired.
    Fired(Timer),
}

impl From<Timer> for ServerEvent<'_> {
    fn from(timer: Timer) -> Self {
        Self::Fired(timer)
    }
}

impl From<Timer> for ClientEvent<'_> {
    fn from(timer: Timer) -> Self {
        Self::Fired(timer)
    }
}

/// The states of a machine but Terminated, which is the shell's, and its transition table.
pub(super) trait State: Sized {
    /// What can happen.
    type Event<'a>: From<Timer>;

    /// What is done, and which timers are started, as the transaction begins.
    fn begin(&self, step: &mut Step<'_>);

    /// The transition table. Handed only timers that run.
    fn on(&mut self, event: Self::Event<'_>, step: &mut Step<'_>) -> Next<Self>;

    /// Whether it rings: for as long as the transaction user lets it, without a timer.
    fn rings(&self) -> bool {
        false
    }

    /// Whether nobody waits for anything from it any more: it is there for what is repeated, as so many bytes.
    fn lingers(&self) -> Option<usize> {
        None
    }
}

/// Where a transition leads.
pub(super) enum Next<S> {
    /// Nowhere; the timers run on.
    Stay,
    To(S),
    Terminated,
}

impl<S> Next<S> {
    fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Next<T> {
        match self {
            Self::Stay => Next::Stay,
            Self::To(state) => Next::To(wrap(state)),
            Self::Terminated => Next::Terminated,
        }
    }
}

/// One row of a table as it is carried out: what is done, and last where it leads.
pub(super) struct Step<'a> {
    timers: &'a mut TimerTable,
    transport: Transport,
    now: Instant,
    out: &'a mut Vec<Action>,
}

impl Step<'_> {
    pub(super) fn send(&mut self, bytes: &Bytes) -> &mut Self {
        self.ask(Action::Send(bytes.clone()))
    }

    pub(super) fn deliver(&mut self) -> &mut Self {
        self.ask(Action::Deliver)
    }

    /// Sends the CANCEL of this INVITE.
    pub(super) fn cancel(&mut self, invite: &[u8]) -> &mut Self {
        let cancel = derived::cancel(invite);
        debug_assert!(cancel.is_some(), "the INVITE was checked when it was sent");
        self.out.extend(cancel.map(Action::Cancel));
        self
    }

    pub(super) fn ask(&mut self, action: Action) -> &mut Self {
        self.out.push(action);
        self
    }

    /// Starts a timer, where it runs on this transport.
    pub(super) fn start(&mut self, timer: Timer) -> &mut Self {
        self.timers.start(timer, self.transport, self.now);
        self
    }

    /// Starts a retransmission's timer once more, for its next interval.
    pub(super) fn back_off(&mut self, timer: Timer) -> &mut Self {
        self.timers.back_off(timer, self.now);
        self
    }

    /// Lets the retransmission run at T2 from its next turn on.
    pub(super) fn slow_down(&mut self) -> &mut Self {
        self.timers.slow_down();
        self
    }

    pub(super) fn stop(&mut self, timer: Timer) -> &mut Self {
        self.timers.stop(timer);
        self
    }

    pub(super) fn stay<S>(&self) -> Next<S> {
        Next::Stay
    }

    /// To `state`; what timers run, run on.
    pub(super) fn to<S>(&self, state: S) -> Next<S> {
        Next::To(state)
    }

    /// To `state`, in which these timers run and no others.
    pub(super) fn enter<S>(&mut self, state: S, timers: &[Timer]) -> Next<S> {
        self.timers.clear();
        for timer in timers {
            self.start(*timer);
        }
        Next::To(state)
    }

    /// To `state`, which only waits until `timer` for what comes late. Nothing does on a transport where
    /// that timer is zero: there it is over.
    pub(super) fn linger<S>(&mut self, state: S, timer: Timer) -> Next<S> {
        match timer.first(self.transport) {
            Some(wait) if !wait.is_zero() => self.enter(state, &[timer]),
            Some(_) | None => self.end(Action::Ended),
        }
    }

    /// Over, with these last words.
    pub(super) fn end<S>(&mut self, last: Action) -> Next<S> {
        self.ask(last);
        Next::Terminated
    }
}

/// One transaction: its state, none once it is terminated, and the timers that run in it.
#[derive(Debug)]
pub(super) struct Machine<S> {
    state: Option<S>,
    timers: TimerTable,
    transport: Transport,
}

impl<S: State> Machine<S> {
    pub(super) fn new(state: S, transport: Transport) -> Self {
        Self { state: Some(state), timers: TimerTable::new(), transport }
    }

    /// The first step.
    pub(super) fn begin(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(state) = &self.state else { return };
        state.begin(&mut Step { timers: &mut self.timers, transport: self.transport, now, out });
    }

    pub(super) fn handle(&mut self, event: S::Event<'_>, now: Instant, out: &mut Vec<Action>) {
        let Some(state) = &mut self.state else { return };
        let mut step = Step { timers: &mut self.timers, transport: self.transport, now, out };
        match state.on(event, &mut step) {
            Next::Stay => {}
            Next::To(next) => *state = next,
            Next::Terminated => {
                self.timers.clear();
                self.state = None;
            }
        }
    }

    /// Handles the earliest timer that is due.
    pub(super) fn fire(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some(timer) = self.timers.pop_due(now) {
            self.handle(timer.into(), now, out);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.poll_timeout()
    }

    pub(super) fn is_terminated(&self) -> bool {
        self.state.is_none()
    }

    /// Whether it rings, without a timer.
    pub(super) fn rings(&self) -> bool {
        self.state.as_ref().is_some_and(State::rings)
    }

    /// Whether it is there for what is repeated alone, as so many bytes.
    pub(super) fn lingers(&self) -> Option<usize> {
        self.state.as_ref()?.lingers()
    }
}

/// The machine of an INVITE, or that of any other request.
#[derive(Debug)]
pub(super) enum Either<I, N> {
    Invite(I),
    NonInvite(N),
}

/// A request of the peer.
pub(super) type Server = Either<InviteServer, NonInviteServer>;
/// A request of ours.
pub(super) type Client = Either<InviteClient, NonInviteClient>;

impl<I: State, N: for<'a> State<Event<'a> = I::Event<'a>>> State for Either<I, N> {
    type Event<'a> = I::Event<'a>;

    fn begin(&self, step: &mut Step<'_>) {
        match self {
            Self::Invite(state) => state.begin(step),
            Self::NonInvite(state) => state.begin(step),
        }
    }

    fn on(&mut self, event: I::Event<'_>, step: &mut Step<'_>) -> Next<Self> {
        match self {
            Self::Invite(state) => state.on(event, step).map(Self::Invite),
            Self::NonInvite(state) => state.on(event, step).map(Self::NonInvite),
        }
    }

    fn rings(&self) -> bool {
        match self {
            Self::Invite(state) => state.rings(),
            Self::NonInvite(state) => state.rings(),
        }
    }

    fn lingers(&self) -> Option<usize> {
        match self {
            Self::Invite(state) => state.lingers(),
            Self::NonInvite(state) => state.lingers(),
        }
    }
}

/// Transition tables of the four machines as tests read them.
#[cfg(test)]
pub(super) mod table;
