//! Calls: two legs, one on each face, and what keeps them together (design, section 4).
//!
//! States, events and timers stand in `call.md`. Every way out leads to [`Border::end_call`], the only place
//! that gives back the ports and the call slot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use guard::HardwareId;
use media::LegSpec;
use sip::{Dialog, Hop, ServerId};
use wire::clock::{Instant, WallTime};
use wire::net::Side;
use wire::sip::{Essentials, HeaderName, Host, Message, NameAddr, Scheme, Uri};

use crate::Border;
use crate::answer::Ask;
use crate::binding::BindingId;
use crate::challenged::{CallKey, ChallengedCalls};
use crate::dialog_map::{DialogKey, DialogMap, DialogRef};
use crate::digest;
use crate::entry::{CallRefusal, EntryId};
use crate::event::Code;
use crate::forward::{ForwardId, Kind};
use crate::ingress::proof_by_hop;
use crate::inspection::uri_fault;
use crate::media_plan::MediaPlan;
use crate::paused::Paused;
use crate::report::About;
use crate::timers::{Deadline, Timer};

/// A call; numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallId(pub(crate) u64);

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    Trying,
    Ringing,
    Confirmed,
    /// A BYE is on its way, or the caller gave up.
    Ending,
}

impl CallState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Trying => "trying",
            Self::Ringing => "ringing",
            Self::Confirmed => "confirmed",
            Self::Ending => "ending",
        }
    }

    /// Whether a call that is here may go there, or stay (`call.md`).
    pub(crate) fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Trying | Self::Ringing, Self::Ringing | Self::Confirmed | Self::Ending)
            | (Self::Confirmed, Self::Confirmed | Self::Ending)
            // Another party accepts while the first one is hung up.
            | (Self::Ending, Self::Confirmed | Self::Ending) => true,
            (Self::Trying | Self::Ringing | Self::Confirmed | Self::Ending, Self::Trying)
            | (Self::Confirmed | Self::Ending, Self::Ringing) => false,
        }
    }
}

/// One side of a call.
pub(crate) struct Leg {
    /// Where requests to this side go when the dialog says nothing better.
    pub(crate) hop: Hop,
    pub(crate) call_id: String,
    /// The caller and the called party as this side knows them: name-addrs without tags.
    pub(crate) caller: String,
    pub(crate) callee: String,
    /// Added to the CSeq of what we send to this side: requests that we repeated with credentials.
    pub(crate) cseq_offset: u32,
}

/// A dialog on each side, with the same tags: one for each party that answered.
pub(crate) struct DialogPair {
    /// Of the party that answered.
    pub(crate) callee_tag: String,
    /// By [`Side::index`]: ours as UAS with the caller, ours as UAC with the called party.
    pub(crate) sides: [Dialog; 2],
    /// The last INVITEs that were accepted, the newest last. Those of the two sides may cross, and one may be
    /// followed by another before its ACK has come.
    pub(crate) invites: VecDeque<AcceptedInvite>,
    /// The media that this party accepted, by m-line.
    pub(crate) accepted: Vec<Option<LegSpec>>,
    /// A BYE for it is on its way, or was.
    pub(crate) hung_up: bool,
    /// It has its BYE, and the call went on with another party.
    pub(crate) ended: bool,
}

/// An INVITE that had its 2xx.
pub(crate) struct AcceptedInvite {
    /// Who asked.
    pub(crate) side: Side,
    pub(crate) server: ServerId,
    pub(crate) cseq: u32,
    /// Its ACK as we sent it, repeated when the 2xx is.
    pub(crate) ack: Option<(Hop, Bytes)>,
}

impl DialogPair {
    /// Whether the 2xx of this INVITE waits for its ACK.
    pub(crate) fn awaits_ack(&self, server: ServerId) -> bool {
        !self.ended && self.invites.iter().any(|invite| invite.server == server && invite.ack.is_none())
    }

    /// An INVITE in this dialog has its 2xx.
    pub(crate) fn accept(&mut self, side: Side, server: ServerId, cseq: u32) {
        self.invites.retain(|invite| invite.server != server);
        if self.invites.len() >= ACCEPTED_MAX {
            self.invites.pop_front();
        }
        self.invites.push_back(AcceptedInvite { side, server, cseq, ack: None });
    }

    /// How the requests of either peer name their dialog.
    fn keys(&self) -> [DialogKey; 2] {
        [Side::Outside, Side::Inside].map(|side| DialogKey::between(side, &self.sides[side.index()].id))
    }
}

/// A call.
pub(crate) struct Call {
    pub(crate) entry: EntryId,
    /// The device that the binding was made by, where it showed a certificate.
    pub(crate) device: Option<HardwareId>,
    pub(crate) pbx: usize,
    /// The face on which the caller is.
    pub(crate) caller: Side,
    pub(crate) caller_tag: String,
    /// The number or name at the other end, for people.
    pub(crate) peer: String,
    /// The Request-URI of the INVITE that we send.
    pub(crate) target: String,
    /// The user part of our Contact, by the side that sees it.
    pub(crate) contact_users: [String; 2],
    pub(crate) legs: [Leg; 2],
    pub(crate) dialogs: Vec<DialogPair>,
    pub(crate) media: MediaPlan,
    /// The INVITE, until it has its final answer.
    pub(crate) invite: Option<ForwardId>,
    /// It had a 2xx, and its connection was lost before the ACK.
    pub(crate) ack_owed: Option<ServerId>,
    /// Re-INVITEs, until they have theirs.
    pub(crate) changes: Vec<ForwardId>,
    pub(crate) paused: Vec<Paused>,
    /// Somebody was told that its dialog led where nothing is sent.
    pub(crate) target_refused: bool,
    pub(crate) state: CallState,
    pub(crate) started: WallTime,
    pub(crate) began: Instant,
    pub(crate) deadline: Deadline,
}

impl Call {
    /// The token of the phone's binding: a phone that comes back after its registration had ended has the same again.
    pub(crate) fn token(&self) -> &str {
        &self.contact_users[Side::Inside.index()]
    }

    pub(crate) fn leg(&self, side: Side) -> &Leg {
        &self.legs[side.index()]
    }

    pub(crate) fn leg_mut(&mut self, side: Side) -> &mut Leg {
        &mut self.legs[side.index()]
    }

    /// The dialog pair as it stands on a side.
    pub(crate) fn dialog(&self, index: usize, side: Side) -> Option<&Dialog> {
        self.dialogs.get(index).map(|pair| &pair.sides[side.index()])
    }

    /// Whether a party besides this one has accepted and is still there.
    pub(crate) fn goes_on_without(&self, index: usize) -> bool {
        self.accepted().any(|other| other != index)
    }

    /// The parties that accepted and that nobody has hung up.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = usize> + '_ {
        let up = |pair: &DialogPair| !pair.hung_up && pair.sides[self.caller.index()].confirmed;
        self.dialogs.iter().enumerate().filter(move |(_, pair)| up(pair)).map(|(index, _)| index)
    }

    /// Those of them to be hung up. One whose answer waits for ports is, with that answer.
    fn to_hang_up(&self) -> Vec<usize> {
        let known = |index: &usize| self.dialogs.get(*index).is_some_and(|pair| !pair.invites.is_empty());
        self.accepted().filter(known).collect()
    }

    /// This party gets its BYE; whether nobody is left.
    pub(crate) fn hang_up(&mut self, index: usize) -> bool {
        if let Some(pair) = self.dialogs.get_mut(index) {
            pair.hung_up = true;
        }
        self.accepted().next().is_none()
    }

    pub(crate) fn direction(&self) -> &'static str {
        match self.caller {
            Side::Outside => "out",
            Side::Inside => "in",
        }
    }
}

/// All calls.
#[derive(Default)]
pub(crate) struct CallTable {
    calls: BTreeMap<CallId, Call>,
    next: u64,
    by_token: BTreeMap<String, BTreeSet<CallId>>,
    challenged: ChallengedCalls,
}

/// Ringing without any word of the called side (RFC 3261 §16.6 timer C).
const RINGING_MAX: Duration = Duration::from_secs(300);
/// A call whose media never falls silent still ends some day.
const CONFIRMED_MAX: Duration = Duration::from_secs(86_400);
/// Parties that may answer one INVITE.
pub(crate) const FORKS_MAX: usize = 32;
/// When a call may be tried again that was refused because as many are up as may be: nobody knows.
const MAX_CALLS_RETRY: Duration = Duration::from_secs(5);
/// INVITEs of one dialog whose 2xx may be repeated still.
const ACCEPTED_MAX: usize = 8;
/// A BYE that nobody answers.
const ENDING_MAX: Duration = Duration::from_secs(40);

impl CallTable {
    pub(crate) fn call(&self, id: CallId) -> Option<&Call> {
        self.calls.get(&id)
    }

    pub(crate) fn call_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.calls.get_mut(&id)
    }

    fn insert(&mut self, call: Call) -> CallId {
        self.next += 1;
        let id = CallId(self.next);
        self.by_token.entry(call.token().to_owned()).or_default().insert(id);
        self.calls.insert(id, call);
        id
    }

    fn remove(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        if let Some(calls) = self.by_token.get_mut(call.token()) {
            calls.remove(&id);
            if calls.is_empty() {
                self.by_token.remove(call.token());
            }
        }
        Some(call)
    }

    /// The calls that the binding with this token made or got.
    pub(crate) fn of_token(&self, token: &str) -> Vec<CallId> {
        self.by_token.get(token).into_iter().flatten().copied().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CallId, &Call)> {
        self.calls.iter().map(|(id, call)| (*id, call))
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Every dialog of every call can be found, and nothing else can.
    pub(crate) fn check_invariants(&self, dialogs: &DialogMap) {
        let mut found = 0;
        for (call, index, pair) in self.pairs() {
            // The dialog of a party that has its BYE is gone; another call may have its name.
            for key in pair.keys().iter().filter(|_| !pair.ended) {
                debug_assert_eq!(dialogs.find(key), Some(DialogRef { call, index }), "{key:?}");
                found += 1;
            }
        }
        debug_assert_eq!(dialogs.len(), found, "a dialog without a call");
        let of_tokens: usize = self.by_token.values().map(BTreeSet::len).sum();
        debug_assert_eq!(of_tokens, self.calls.len(), "each call has one token");
    }

    fn pairs(&self) -> impl Iterator<Item = (CallId, usize, &DialogPair)> {
        self.iter().flat_map(move |(id, call)| {
            call.dialogs.iter().enumerate().map(move |(index, pair)| (id, index, pair))
        })
    }
}

impl Border {
    /// An INVITE from a phone (style guide, route b).
    pub(crate) fn on_call_out(
        &mut self,
        ask: &Ask,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
        uri: &str,
    ) {
        let caller = Uri::parse(essentials.from.uri).ok();
        let binding = caller.and_then(|from| self.calling_binding(&ask.hop, &from));
        let Some(binding) = binding else { return self.refuse_foreign_name(ask, &essentials.from) };
        if let Some(fault) = uri_fault(uri) {
            return self.refuse(ask, fault);
        }
        let Some(number) = self.called_number(uri) else { return self.refuse(ask, 404) };
        let Some(entry) = self.bindings.binding(binding).map(|binding| binding.entry) else {
            return self.refuse(ask, 403);
        };
        let Some((pbx, hop)) = self.hop_for_request(binding) else {
            self.report_call_failed(entry, ask, "no PBX answers", "look at `portcullis status`");
            return self.refuse_for_now(ask);
        };
        let token = self.bindings.binding(binding).map(|binding| binding.token.clone()).unwrap_or_default();
        let call_id = self.keys.call_id_of_phone(&token, essentials.call_id);
        let key = (call_id.clone(), essentials.from.tag().unwrap_or_default().to_owned());
        if !self.admit(ask, message, &key, entry) {
            return;
        }
        let domain = self.config.pbx[pbx].domain.clone();
        let caller = caller_inside(&essentials.from, self.entries.name(entry), &domain);
        let inside = Leg { hop, call_id, caller, callee: format!("<sip:{number}@{domain}>"), cseq_offset: 0 };
        let outside = self.caller_leg(ask, essentials);
        let target = format!("sip:{number}@{domain}");
        let contact_users = [number.clone(), token];
        let device = self.bindings.binding(binding).and_then(|binding| binding.hardware_id);
        let ends = Ends { entry, device, pbx, peer: number, target, contact_users };
        self.start_call(ask, essentials, ends, [outside, inside]);
    }

    /// An INVITE from the PBX to one of our contacts.
    pub(crate) fn on_call_in(&mut self, ask: &Ask, message: &Message<'_>, uri: &str) {
        let Ok(essentials) = message.essentials() else { return self.refuse(ask, 400) };
        if let Some(fault) = uri_fault(uri) {
            return self.refuse(ask, fault);
        }
        let Some(id) = self.called_binding(&ask.hop, uri) else { return self.refuse(ask, 404) };
        let Some(binding) = self.bindings.binding(id) else { return self.refuse(ask, 404) };
        let (entry, contact, pbx) = (binding.entry, binding.contact.clone(), binding.pbx);
        let (token, device) = (binding.token.clone(), binding.hardware_id);
        let Some(hop) = binding.hop else {
            self.report_call_failed(
                entry,
                ask,
                "the phone's connection is lost and it has not come back yet",
                "if it happens often: look at the phone's network",
            );
            return self.refuse(ask, 480);
        };
        let name = self.entries.name(entry).to_owned();
        let most = self.entries.entry(entry).config.max_calls;
        if self.entries.entry(entry).calls >= most {
            let about = About::source(hop.remote).extension(name).rule("max_calls");
            self.event(Code::CallLimited, about, || {
                (
                    format!("a call to the phone was refused by max_calls {most}"),
                    "raise max_calls of the extension if need be".into(),
                )
            });
            return self.refuse_limited(ask, "max_calls", MAX_CALLS_RETRY);
        }
        let domain = self.config.pbx[pbx].domain.clone();
        let (peer, caller) = self.caller_outside(&essentials.from, &domain);
        let outside = Leg {
            hop,
            call_id: self.keys.call_id_towards(Side::Outside, essentials.call_id),
            caller,
            callee: format!("<sip:{name}@{domain}>"),
            cseq_offset: 0,
        };
        let inside = self.caller_leg(ask, &essentials);
        let ends = Ends { entry, device, pbx, target: contact, contact_users: [peer.clone(), token], peer };
        self.start_call(ask, &essentials, ends, [outside, inside]);
    }

    /// The leg of whoever calls, as the INVITE shows it.
    fn caller_leg(&self, ask: &Ask, essentials: &Essentials<'_>) -> Leg {
        Leg {
            hop: ask.hop,
            call_id: essentials.call_id.to_owned(),
            caller: bare_name_addr(&essentials.from),
            callee: bare_name_addr(&essentials.to),
            cseq_offset: 0,
        }
    }

    fn start_call(&mut self, ask: &Ask, essentials: &Essentials<'_>, ends: Ends, legs: [Leg; 2]) {
        let Some(tag) = essentials.from.tag() else { return self.refuse(ask, 400) };
        let Ends { entry, device, pbx, peer, target, contact_users } = ends;
        let call = Call {
            entry,
            device,
            pbx,
            caller: ask.side,
            caller_tag: tag.to_owned(),
            peer,
            target,
            contact_users,
            legs,
            dialogs: Vec::new(),
            media: MediaPlan::default(),
            invite: None,
            ack_owed: None,
            changes: Vec::new(),
            paused: Vec::new(),
            target_refused: false,
            state: CallState::Trying,
            started: self.now.wall,
            began: self.now.mono,
            deadline: Deadline::default(),
        };
        self.entries.entry_mut(entry).calls += 1;
        let id = self.calls.insert(call);
        self.prolong_call(id, RINGING_MAX);
        let forward = self.new_forward(ask.clone(), Kind::Invite { call: id });
        if let Some(call) = self.calls.call_mut(id) {
            call.invite = Some(forward);
        }
        self.dispatch(forward);
    }

    /// Which binding calls: the one that From names, or the only one of a phone that hides its name.
    fn calling_binding(&self, hop: &Hop, from: &Uri<'_>) -> Option<BindingId> {
        let ids = self.bindings.by_hop(hop);
        let user = from.user_unescaped();
        let named = ids.iter().copied().find(|id| {
            let name = self.bindings.binding(*id).map(|binding| self.entries.name(binding.entry));
            name.is_some() && name == user.as_deref()
        });
        let anonymous = from.host.to_string().eq_ignore_ascii_case("anonymous.invalid");
        named.or_else(|| ids.first().copied().filter(|_| anonymous && ids.len() == 1))
    }

    /// A call in another's name: answered, then counted.
    fn refuse_foreign_name(&mut self, ask: &Ask, from: &NameAddr<'_>) {
        self.refuse(ask, 403);
        self.settle();
        let asked = crate::ingress::user_of(from.uri).unwrap_or_else(|| "nobody".to_owned());
        let about = About::default().extension(asked);
        self.offence(&ask.hop, proof_by_hop(&ask.hop), Code::FlowNotRegistered, about, || {
            (
                "a call in the name of another than those registered on this flow".into(),
                "let the phone call under the name that it registers".into(),
            )
        });
    }

    /// The user part that is called, where the host means us.
    fn called_number(&self, uri: &str) -> Option<String> {
        let uri = Uri::parse(uri).ok()?;
        let ours = uri.scheme == Scheme::Tel || self.topology.is_ours(&uri.host);
        uri.user.filter(|user| ours && !user.is_empty()).map(str::to_owned)
    }

    /// Frequency and number of calls; a call that the PBX challenged was counted before.
    fn admit(&mut self, ask: &Ask, message: &Message<'_>, key: &CallKey, entry: EntryId) -> bool {
        let now = self.now.mono;
        let again = digest::credentials_of(message).next().is_some()
            && self.calls.challenged.is_tried_again(key, now);
        let config = &self.entries.entry(entry).config;
        let (name, restriction, max) = (config.name.clone(), config.frequency.clone(), config.max_calls);
        let refusal = if again {
            (self.entries.entry(entry).calls >= max).then_some(CallRefusal::MaxCalls)
        } else {
            self.entries.entry_mut(entry).admit_call(now).err()
        };
        let Some(refusal) = refusal else { return true };
        let (rule, limit, retry) = match refusal {
            CallRefusal::Frequency { rule, retry_after } => {
                let rule = format!("{restriction} {rule}");
                (rule.clone(), rule, retry_after)
            }
            CallRefusal::MaxCalls => ("max_calls".to_owned(), format!("max_calls {max}"), MAX_CALLS_RETRY),
        };
        let about = About::source(ask.hop.remote).extension(name).rule(rule.clone());
        self.event(Code::CallLimited, about, || {
            (
                format!("a call was refused by {limit}; the PBX has not seen it"),
                "raise the rule, or ask the extension's owner: many calls at once can be toll fraud".into(),
            )
        });
        self.refuse_limited(ask, &rule, retry);
        false
    }

    /// 480 with the rule's name, and when to try again (contract section 6).
    fn refuse_limited(&mut self, ask: &Ask, rule: &str, retry: Duration) {
        let host = match ask.side {
            Side::Outside => self.config.outside.public_address,
            Side::Inside => self.config.inside.address,
        };
        self.answer(ask, 480, |writer| {
            writer.header("Retry-After", retry.as_millis().div_ceil(1000).max(1));
            writer.header("Warning", format_args!("399 {host} \"{rule}\""));
        });
    }

    /// The PBX at which a binding begins something, and the way there.
    pub(crate) fn hop_for_request(&mut self, binding: BindingId) -> Option<(usize, Hop)> {
        let own = self.bindings.binding(binding).map(|binding| binding.pbx);
        let pbx = own.filter(|pbx| self.pbxs[*pbx].is_usable()).or_else(|| self.preferred_pbx())?;
        Some((pbx, self.hop_to_pbx(pbx)?))
    }

    /// The caller as a phone may see him: his number at our domain.
    fn caller_outside(&self, from: &NameAddr<'_>, domain: &str) -> (String, String) {
        let uri = Uri::parse(from.uri).ok();
        let anonymous = uri.as_ref().is_some_and(is_anonymous);
        let user = uri.and_then(|uri| uri.user).filter(|user| !self.topology.names_hidden(user));
        let user = user.unwrap_or("anonymous").to_owned();
        let host = if anonymous { "anonymous.invalid" } else { domain };
        let display = from.display.filter(|display| !self.topology.names_hidden(display));
        (user.clone(), named(display, &format!("sip:{user}@{host}")))
    }

    /// A dialog pair for the party that answered with this tag: made with its first answer. None where it
    /// would bear the name of another: tags that are not unique come from who means harm.
    pub(crate) fn dialog_for(
        &mut self,
        id: CallId,
        tag: &str,
        response: &Message<'_>,
        invite: &Message<'_>,
    ) -> Option<usize> {
        let call = self.calls.call_mut(id)?;
        if let Some(index) = call.dialogs.iter().position(|pair| pair.callee_tag == tag) {
            return Some(index);
        }
        if call.dialogs.len() >= FORKS_MAX {
            return None;
        }
        let caller = Dialog::uas(invite, tag).ok()?;
        let mut callee = Dialog::uac(invite, response).ok()?;
        // An answer under another name than that of our INVITE would name its dialog as it likes (RFC 3261 §12.1.2).
        if (&callee.id.call_id, &callee.id.local_tag)
            != (&call.leg(call.caller.other()).call_id, &call.caller_tag)
        {
            return None;
        }
        if response.value(HeaderName::Contact).is_none() {
            callee.remote_target.clone_from(&call.target);
        }
        let sides = match call.caller {
            Side::Outside => [caller, callee],
            Side::Inside => [callee, caller],
        };
        let index = call.dialogs.len();
        let pair = DialogPair {
            callee_tag: tag.to_owned(),
            sides,
            invites: VecDeque::new(),
            accepted: Vec::new(),
            hung_up: false,
            ended: false,
        };
        let keys = pair.keys();
        if keys.iter().any(|key| self.dialogs.find(key).is_some()) {
            return None;
        }
        for key in keys {
            self.dialogs.insert(key, DialogRef { call: id, index });
        }
        call.dialogs.push(pair);
        Some(index)
    }

    pub(crate) fn prolong_call(&mut self, id: CallId, time: Duration) {
        if let Some(call) = self.calls.call_mut(id) {
            call.deadline.clear(Timer::Call(id), &mut self.timers);
            call.deadline.set(self.now.mono + time, Timer::Call(id), &mut self.timers);
        }
    }

    /// A step of a call's life. One that is none is a fault of ours, and not taken: what a peer can bring about
    /// at the wrong time was asked about before.
    pub(crate) fn set_call_state(&mut self, id: CallId, state: CallState) {
        let Some(call) = self.calls.call_mut(id) else { return self.never("a call that goes on is gone") };
        debug_assert!(call.state.may_become(state), "{:?} → {state:?}", call.state);
        if !call.state.may_become(state) {
            return;
        }
        call.state = state;
        self.prolong_call(
            id,
            match state {
                CallState::Trying | CallState::Ringing => RINGING_MAX,
                CallState::Confirmed => CONFIRMED_MAX,
                CallState::Ending => ENDING_MAX,
            },
        );
    }

    pub(crate) fn on_call_timer(&mut self, id: CallId) {
        let Some(call) = self.calls.call_mut(id) else {
            return self.never("the timer of a call outlived it");
        };
        if !call.deadline.fired(self.now.mono, Timer::Call(id), &mut self.timers) {
            return;
        }
        match call.state {
            CallState::Ending => self.end_call(id),
            CallState::Trying | CallState::Ringing => self.terminate_call(id, 408, "nobody answered in time"),
            CallState::Confirmed => self.on_confirmed_timer(id),
        }
    }

    /// An answer was never acknowledged, or a day is over.
    fn on_confirmed_timer(&mut self, id: CallId) {
        if let Some(server) = self.calls.call_mut(id).and_then(|call| call.ack_owed.take()) {
            self.on_ack_missing(server);
        }
        // Where only one of several parties was hung up, it goes on with the others.
        let Some(call) = self.calls.call(id).filter(|call| call.state == CallState::Confirmed) else {
            return;
        };
        let lasted = self.now.mono - call.began;
        match CONFIRMED_MAX.checked_sub(lasted).filter(|left| !left.is_zero()) {
            Some(left) => self.prolong_call(id, left),
            None => self.terminate_call(id, 408, "it has lasted for a day"),
        }
    }

    /// Ends a call of our own accord, on both sides.
    pub(crate) fn terminate_call(&mut self, id: CallId, status: u16, why: &str) {
        let Some(call) = self.calls.call(id) else { return };
        let (entry, invite) = (call.entry, call.invite);
        let remote = call.leg(Side::Outside).hop.remote;
        let peer = call.peer.clone();
        let about = About::source(remote).extension(self.entries.name(entry));
        let why = why.to_owned();
        self.event(Code::CallFailed, about, || {
            (
                format!("the call with {peer} was ended by the border: {why}"),
                "see `portcullis calls` for others".into(),
            )
        });
        if let Some(invite) = invite {
            self.answer_forward(invite, status);
        }
        for index in self.calls.call(id).map(Call::to_hang_up).unwrap_or_default() {
            self.send_bye(id, index, Side::Outside);
            self.send_bye(id, index, Side::Inside);
        }
        self.end_call(id);
    }

    /// A party has its BYE: the call goes on with another one that accepted, or is over.
    pub(crate) fn end_dialog(&mut self, dialog: DialogRef) {
        let DialogRef { call: id, index } = dialog;
        let Some(call) = self.calls.call_mut(id) else { return };
        if !call.goes_on_without(index) {
            return self.end_call(id);
        }
        let Some(pair) = call.dialogs.get_mut(index) else { return };
        pair.ended = true;
        let unacknowledged = pair.invites.iter().filter(|invite| invite.ack.is_none());
        let unacknowledged: Vec<ServerId> = unacknowledged.map(|invite| invite.server).collect();
        for key in pair.keys() {
            self.dialogs.remove(&key);
        }
        let left = call.accepted().next();
        let waits = |server: &ServerId| call.dialogs.iter().any(|pair| pair.awaits_ack(*server));
        let nobody_waits: Vec<ServerId> =
            unacknowledged.into_iter().filter(|server| !waits(server)).collect();
        for server in nobody_waits {
            self.transactions.acknowledged(server, self.now.mono);
        }
        if let Some(index) = left {
            self.return_media(DialogRef { call: id, index });
        }
    }

    /// The one exit of a call: its ports, its slot, its dialogs.
    pub(crate) fn end_call(&mut self, id: CallId) {
        self.release_media(id);
        let hop = self.calls.call(id).map(|call| self.phone_hop(call));
        let (Some(mut call), Some(hop)) = (self.calls.remove(id), hop) else { return };
        self.on_call_of_flow_ended(&hop);
        call.deadline.clear(Timer::Call(id), &mut self.timers);
        for key in call.dialogs.iter().filter(|pair| !pair.ended).flat_map(DialogPair::keys) {
            self.dialogs.remove(&key);
        }
        for paused in call.paused {
            self.abandon_paused(paused);
        }
        let entry = self.entries.entry_mut(call.entry);
        debug_assert!(entry.calls > 0, "a call that was never counted ended");
        entry.calls = entry.calls.saturating_sub(1);
        // Whatever still waits for an answer gets it now (RFC 3261 §15.1.2).
        for change in call.changes {
            self.answer_forward(change, 487);
            self.give_up_forward(change, 487);
        }
        if let Some(invite) = call.invite {
            self.give_up_forward(invite, 487);
        }
    }

    /// The phone will come again with credentials: that is the same call.
    pub(crate) fn remember_challenged(&mut self, id: CallId) {
        let Some(call) = self.calls.call(id) else { return self.never("a call that was challenged is gone") };
        let key = (call.leg(call.caller.other()).call_id.clone(), call.caller_tag.clone());
        self.calls.challenged.remember(key, self.now.mono);
    }

    pub(crate) fn report_call_failed(&mut self, entry: EntryId, ask: &Ask, why: &str, next_step: &str) {
        let about = About::source(ask.hop.remote).extension(self.entries.name(entry));
        let (why, next_step) = (why.to_owned(), next_step.to_owned());
        self.event(Code::CallFailed, about, || (format!("the call failed: {why}"), next_step));
    }
}

/// Who talks to whom in a call that begins.
struct Ends {
    entry: EntryId,
    device: Option<HardwareId>,
    pbx: usize,
    peer: String,
    target: String,
    contact_users: [String; 2],
}

/// The caller as the PBX knows him: the extension at its domain; who hides his name stays hidden.
fn caller_inside(from: &NameAddr<'_>, extension: &str, domain: &str) -> String {
    if Uri::parse(from.uri).is_ok_and(|uri| is_anonymous(&uri)) {
        return named(from.display, "sip:anonymous@anonymous.invalid");
    }
    named(from.display, &format!("sip:{extension}@{domain}"))
}

/// Whether a URI names nobody: its host is one below `invalid` (RFC 3323 §4.1.1.3), in any case.
pub(crate) fn is_anonymous(uri: &Uri<'_>) -> bool {
    let Host::Name(name) = uri.host else { return false };
    name.rsplit_once('.').is_some_and(|(_, last)| last.eq_ignore_ascii_case("invalid"))
}

/// A name-addr without parameters.
fn bare_name_addr(value: &NameAddr<'_>) -> String {
    named(value.display, value.uri)
}

fn named(display: Option<&str>, uri: &str) -> String {
    match display.map(str::trim).filter(|display| !matches!(*display, "" | "\"\"")) {
        // A quoted display name stays as it was written, escapes and all.
        Some(display) if display.starts_with('"') => format!("{display} <{uri}>"),
        Some(display) => {
            format!("\"{}\" <{uri}>", display.replace('\\', "\\\\").replace('"', "\\\""))
        }
        None => format!("<{uri}>"),
    }
}

#[cfg(test)]
mod tests {
    use super::CallState::{self, Confirmed, Ending, Ringing, Trying};

    #[test]
    fn a_call_goes_forward_or_stays_and_never_begins_twice() {
        let all = [Trying, Ringing, Confirmed, Ending];
        let from =
            |state: CallState| all.into_iter().filter(|next| state.may_become(*next)).collect::<Vec<_>>();
        assert_eq!(from(Trying), [Ringing, Confirmed, Ending]);
        assert_eq!(from(Ringing), [Ringing, Confirmed, Ending]);
        assert_eq!(from(Confirmed), [Confirmed, Ending]);
        assert_eq!(from(Ending), [Confirmed, Ending]);
    }
}
