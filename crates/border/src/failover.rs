//! Which PBX serves whom, where there are several: the first by `priority` that answers, and back to it when
//! it answers again.
//!
//! Right after a start nobody has answered yet. A REGISTER that needs a PBX then waits a moment for the word of
//! the one that comes first: a standby may well be faster.
//!
//! A registration goes to a standby at once, for the PBX that had it is down. It goes back with care: when the
//! PBX before it has been up for a while, at the pace that this PBX stands and after whoever waits there, and it
//! stays where it is until the new place has confirmed it. The old one is left to run out: two PBXs may share
//! their registrar, and taking the contact out of one would take it out of both. Calls end where they began.

use std::time::Duration;

use wire::clock::Instant;
use wire::sip::Message;

use crate::Border;
use crate::answer::Ask;
use crate::binding::{Binding, BindingId, Inside};
use crate::command::PbxHealth;
use crate::digest::{AuthState, Challenged};
use crate::drop_reason::DropReason;
use crate::entry::EntryId;
use crate::event::Code;
use crate::inside_registration::{Asked, Leaving, REFUSED_RETRY, Registration, listed_contacts};
use crate::refusal::Refusal;
use crate::registrar::REGISTER_PATIENCE;
use crate::response::ClientUse;
use crate::timers::Timer;

/// How long after a start a PBX is waited for: half of what a REGISTER may wait, so that a standby has the rest.
const FIRST_WORD: Duration = Duration::from_millis(REGISTER_PATIENCE.as_millis() as u64 / 2);
/// Health checks in a row that must find a PBX up, with no answer owed, before registrations go back to it.
const STEADY_CHECKS: u32 = 3;

/// REGISTERs that wait for the first word of a PBX, oldest first. Each has its transaction, which is counted.
pub(crate) struct Held {
    asks: Vec<HeldAsk>,
    until: Instant,
}

enum HeldAsk {
    /// Of a phone that we know.
    Phone(Ask),
    /// Of a stranger, who will get a decoy.
    Stranger(Ask),
}

impl Held {
    pub(crate) fn new(now: Instant) -> Self {
        Self { asks: Vec::new(), until: now + FIRST_WORD }
    }

    pub(crate) fn len(&self) -> usize {
        self.asks.len()
    }
}

/// A registration on its way back from a standby to the PBX that comes before it.
#[derive(Debug)]
pub(crate) struct Returning {
    binding: BindingId,
    pub(crate) asked: Asked,
    /// What is taken back there, where the binding is gone before the answer.
    pub(crate) place: Leaving,
}

impl Border {
    /// The PBX that new registrations go to: the first by priority that answers, or may answer.
    pub(crate) fn preferred_pbx(&self) -> Option<usize> {
        (0..self.pbxs.len())
            .filter(|pbx| self.pbxs[*pbx].is_usable() && !self.pbxs[*pbx].targets.is_empty())
            .min_by_key(|pbx| (!self.pbxs[*pbx].is_up(), self.rank(*pbx)))
    }

    /// The order in which PBXs are preferred, the best first.
    fn rank(&self, pbx: usize) -> (u32, usize) {
        (self.config.pbx.get(pbx).map_or(u32::MAX, |config| config.priority), pbx)
    }

    /// Whether the best PBX that is not down may yet say its first word, and something is to be gained by it.
    fn awaits_first_word(&self) -> bool {
        let best =
            (0..self.pbxs.len()).filter(|pbx| self.pbxs[*pbx].is_usable()).min_by_key(|pbx| self.rank(*pbx));
        self.now.mono < self.held.until
            && best.map(|best| &self.pbxs[best]).is_some_and(|best| {
                best.health() == PbxHealth::Unknown && (self.pbxs.len() > 1 || best.targets.is_empty())
            })
    }

    /// The PBX for a phone's REGISTER; none where it waits for a first word, or was told to come again.
    pub(crate) fn pbx_for_phone(&mut self, ask: &Ask, entry: EntryId) -> Option<usize> {
        if self.holds(ask, HeldAsk::Phone) {
            return None;
        }
        let pbx = self.preferred_pbx();
        if pbx.is_none() {
            self.put_off(ask, entry, "no PBX answers");
        }
        pbx
    }

    /// The PBX that a stranger's REGISTER would go to; none as above.
    pub(crate) fn pbx_for_stranger(&mut self, ask: &Ask) -> Option<usize> {
        if self.holds(ask, HeldAsk::Stranger) {
            return None;
        }
        let pbx = self.preferred_pbx();
        if pbx.is_none() {
            self.refuse_for_now(ask);
        }
        pbx
    }

    /// Whether a REGISTER waits for a first word from now on.
    fn holds(&mut self, ask: &Ask, who: fn(Ask) -> HeldAsk) -> bool {
        let waits = self.awaits_first_word();
        if waits {
            if self.held.asks.is_empty() {
                self.timers.arm(self.held.until, Timer::FirstWord);
            }
            self.held.asks.push(who(ask.clone()));
        }
        waits
    }

    /// Something is known of a PBX now, or the time is over: those who waited for it go on.
    pub(crate) fn release_held(&mut self) {
        if self.held.asks.is_empty() || self.awaits_first_word() {
            return;
        }
        for held in std::mem::take(&mut self.held.asks) {
            let (HeldAsk::Phone(ask) | HeldAsk::Stranger(ask)) = &held;
            if !self.is_there(&ask.hop) {
                self.abandon(ask, DropReason::FlowClosed);
                continue;
            }
            if self.is_blocked(ask.hop.flow, ask.hop.remote) {
                self.abandon(ask, DropReason::Blocked);
                continue;
            }
            match held {
                HeldAsk::Stranger(ask) => self.answer_with_decoy(ask),
                HeldAsk::Phone(ask) => {
                    let bytes = ask.bytes.clone();
                    let Ok(message) = Message::parse(&bytes) else { continue };
                    let Ok(essentials) = message.essentials() else { continue };
                    self.on_register(&ask, &message, &essentials);
                }
            }
        }
    }

    /// The standby takes over what the other had.
    pub(crate) fn move_bindings(&mut self, from: usize, to: usize) {
        let moving = |binding: &Binding| binding.pbx == from && !binding.pass_through;
        let moving: Vec<BindingId> =
            self.bindings.iter().filter(|(_, binding)| moving(binding)).map(|(id, _)| id).collect();
        for id in moving {
            self.move_binding_to_pbx(id, to);
        }
    }

    fn move_binding_to_pbx(&mut self, id: BindingId, to: usize) {
        if let Some(binding) = self.bindings.binding_mut(id) {
            binding.pbx = to;
            binding.queued = false;
            binding.inside = Inside::Waiting { until: None };
            binding.auth = AuthState::default();
        }
        self.queue_registration(id);
    }

    /// The time of a health check, and no answer is owed. After a few in a row a PBX gets back what others have in
    /// its place.
    pub(crate) fn on_steady(&mut self, pbx: usize) {
        let state = &mut self.pbxs[pbx];
        state.steady_checks = state.steady_checks.saturating_add(1);
        if state.steady_checks < STEADY_CHECKS
            || !state.returning.is_empty()
            || state.no_returns_until.is_some_and(|until| self.now.mono < until)
        {
            return;
        }
        let elsewhere =
            self.bindings.iter().filter(|(_, binding)| self.may_return(binding, pbx)).map(|(id, _)| id);
        self.pbxs[pbx].returning = elsewhere.collect();
        self.pump_registrations(pbx);
    }

    /// A PBX owes an answer, or its connection is lost: it has to prove itself anew.
    pub(crate) fn on_unsteady(&mut self, pbx: usize) {
        self.pbxs[pbx].steady_checks = 0;
        self.pbxs[pbx].returning.clear();
    }

    /// Whether a binding is at a PBX that comes after this one. Those of a digest extension go back by
    /// themselves: each REGISTER of their phones goes to the PBX that is preferred then.
    fn may_return(&self, binding: &Binding, pbx: usize) -> bool {
        !binding.pass_through && self.rank(binding.pbx) > self.rank(pbx)
    }

    /// The next that may go back to this PBX, where nobody waits there for more.
    pub(crate) fn next_return(&mut self, pbx: usize) -> Option<BindingId> {
        if !self.pbxs[pbx].is_up() {
            return None;
        }
        while let Some(id) = self.pbxs[pbx].returning.pop_front() {
            if self.bindings.binding(id).is_some_and(|binding| self.may_return(binding, pbx)) {
                return Some(id);
            }
        }
        None
    }

    /// Goes back to this PBX, with its place at the other one kept until it has one here.
    pub(crate) fn return_binding(&mut self, id: BindingId, pbx: usize) {
        let Some(binding) = self.bindings.binding(id) else {
            return self.never("a binding that may go back is gone");
        };
        if matches!(binding.inside, Inside::Waiting { .. }) {
            return self.move_binding_to_pbx(id, pbx);
        }
        let (key, token) = (binding.key.clone(), binding.token.clone());
        let place = Leaving { entry: binding.entry, key, pbx, token, auth: AuthState::default() };
        self.send_return(id, place);
    }

    fn send_return(&mut self, id: BindingId, mut place: Leaving) {
        let user_agent = self.bindings.binding(id).and_then(|binding| binding.user_agent.clone());
        let asked = self.ask_for(place.pbx);
        let registration = Registration {
            entry: place.entry,
            pbx: place.pbx,
            series: place.key.as_str(),
            contact: Some((&place.token, asked.expires)),
            user_agent: user_agent.as_deref(),
        };
        let pbx = place.pbx;
        let prepared = self.build_register(&registration, &mut place.auth);
        let using = ClientUse::Return(Box::new(Returning { binding: id, asked, place }));
        if prepared.and_then(|prepared| self.send_request(prepared, using)).is_none() {
            self.on_return_failed(pbx, "it cannot be reached");
        }
    }

    pub(crate) fn on_return_response(&mut self, returning: Returning, message: &Message<'_>, status: u16) {
        let Returning { binding: id, asked, mut place } = returning;
        let Some(binding) = self.bindings.binding(id) else {
            return self.on_abandoned_response(place, status);
        };
        let (stays, pbx) = (binding.pbx, place.pbx);
        let listed = |(token, _): &(String, Duration)| *token == binding.token;
        let why = match status {
            200..=299 if listed_contacts(message, Duration::ZERO).iter().any(listed) => {
                return self.on_returned((id, pbx), place.auth, asked, message);
            }
            200..=299 => Refusal::NotListed,
            401 | 407 => match self.take_challenge(pbx, place.entry, &mut place.auth, message) {
                Challenged::Retry => return self.send_return(id, place),
                Challenged::Refused(why) => why,
            },
            423 if self.learn_longer(pbx, asked, message) => return self.send_return(id, place),
            500..=599 | 408 | 480 => return self.on_return_failed(pbx, &format!("it answered {status}")),
            _ => Refusal::Status(status),
        };
        self.report_refused(id, pbx, why, Some(stays));
        self.try_returns_again(pbx);
    }

    fn on_returned(
        &mut self,
        (id, pbx): (BindingId, usize),
        auth: AuthState,
        asked: Asked,
        message: &Message<'_>,
    ) {
        let Some(binding) = self.bindings.binding_mut(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        binding.pbx = pbx;
        binding.auth = auth;
        binding.queued = false;
        if !self.on_registration_confirmed(id, asked, message) {
            self.report_registered(id, Code::Reregistered, "again, as before it was down");
        }
    }

    pub(crate) fn on_return_failed(&mut self, pbx: usize, why: &str) {
        self.pbx_missed(pbx, why);
        self.try_returns_again(pbx);
    }

    /// Whoever did not get back stays where it is.
    fn try_returns_again(&mut self, pbx: usize) {
        self.pbxs[pbx].no_returns_until = Some(self.now.mono + REFUSED_RETRY);
    }
}
