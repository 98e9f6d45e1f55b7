//! REGISTER from a phone (RFC 3261 §10.3, contract section 3): identity, wish, binding, answer.

use std::time::Duration;

use bytes::Bytes;
use guard::HardwareId;
use sip::Hop;
use wire::clock::Instant;
use wire::net::FlowId;
use wire::sip::{Essentials, HeaderName, Message, NameAddr, Scheme, StartLine, Uri, Writer, split_list};

use crate::Border;
use crate::answer::Ask;
use crate::binding::{Binding, BindingId, BindingKey, Inside};
use crate::digest::AuthState;
use crate::drop_reason::DropReason;
use crate::entry::{Admission, EntryId, Identity};
use crate::event::Code;
use crate::flow::FLOW_TIMER;
use crate::interface::Output;
use crate::record::Then;
use crate::report::About;
use crate::timers::{Deadline, Timer};

/// Below this a refresh costs more than it tells (contract section 1): 423.
const PHONE_EXPIRES_MIN: Duration = Duration::from_secs(60);
/// REGISTERs of one binding that wait for the PBX at once.
const WAITING_MAX: usize = 4;
/// The longest a REGISTER waits for the PBX. Less than a phone waits for us (32 s, RFC 3261 timer F), and than
/// many wait before they try another server.
pub(crate) const REGISTER_PATIENCE: Duration = Duration::from_secs(10);

/// What a REGISTER asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Bindings to be ended, by key.
    pub(crate) remove: Vec<BindingKey>,
    /// `Contact: *`: all that this device has.
    pub(crate) remove_all: bool,
    /// The binding to be made or refreshed.
    pub(crate) add: Option<WishedContact>,
}

/// A Contact with a lifetime.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WishedContact {
    pub(crate) key: BindingKey,
    pub(crate) uri: String,
    /// The whole value without its `expires`, to be echoed.
    pub(crate) value: String,
    pub(crate) expires: Option<Duration>,
}

impl Wish {
    /// Reads the Contacts; none where they break the grammar or ask for two bindings at once.
    pub(crate) fn read(message: &Message<'_>, hardware_id: Option<HardwareId>) -> Option<Self> {
        let header_expires =
            message.value(HeaderName::Expires).and_then(|value| value.trim().parse::<u32>().ok());
        let mut wish = Self::default();
        for value in message.values(HeaderName::Contact).flat_map(split_list) {
            if value.trim() == "*" {
                if header_expires != Some(0) {
                    return None;
                }
                wish.remove_all = true;
                continue;
            }
            let contact = read_contact(value, hardware_id, header_expires)?;
            if contact.expires == Some(Duration::ZERO) {
                wish.remove.push(contact.key);
            } else if wish.add.replace(contact).is_some() {
                return None;
            }
        }
        (!wish.remove_all || wish.add.is_none()).then_some(wish)
    }

    pub(crate) fn is_query(&self) -> bool {
        self.add.is_none() && self.remove.is_empty() && !self.remove_all
    }
}

fn read_contact(
    value: &str,
    hardware_id: Option<HardwareId>,
    header_expires: Option<u32>,
) -> Option<WishedContact> {
    let contact = NameAddr::parse(value).ok()?;
    let uri = Uri::parse(contact.uri).ok()?;
    if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
        return None;
    }
    let instance = contact.params.value("+sip.instance").map(|value| value.trim_matches('"').to_owned());
    let reg_id = contact.params.value("reg-id");
    let expires = match contact.params.value("expires") {
        // RFC 3261 §10.2.1.1: what cannot be read counts as an hour.
        Some(text) => Some(text.trim_matches('"').parse().unwrap_or(3600)),
        None => header_expires,
    };
    let mut echoed = format!("<{}>", contact.uri);
    for (name, value) in contact.params.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("expires")) {
        echoed.push(';');
        echoed.push_str(name);
        if let Some(value) = value {
            echoed.push('=');
            push_param_value(&mut echoed, value);
        }
    }
    let flow = instance.as_deref().zip(reg_id);
    Some(WishedContact {
        key: BindingKey::of(flow, hardware_id, contact.uri),
        uri: uri.as_target(contact.uri).to_owned(),
        value: echoed,
        expires: expires.map(|secs| Duration::from_secs(u64::from(secs))),
    })
}

/// A parameter value as it may stand in a header: what is no token or host stood in quotes, its quoted pairs
/// with it.
fn push_param_value(text: &mut String, value: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~[]:".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) {
        text.push_str(value);
        return;
    }
    text.push('"');
    text.push_str(value);
    text.push('"');
}

/// Why a REGISTER names nobody, whatever extensions there are.
enum Misnamed {
    /// It is for a host that is not ours.
    Domain { user: String, host: String },
    /// From and To are different users.
    Another,
    /// There is no user in it, or it cannot be read.
    Unreadable,
}

/// As much of a foreign host is shown.
const HOST_SHOWN: usize = 100;

impl Border {
    pub(crate) fn on_register(&mut self, ask: &Ask, message: &Message<'_>, essentials: &Essentials<'_>) {
        // Alike for everybody, before any name is looked at.
        let StartLine::Request { uri, .. } = message.start() else {
            return self.never("a request became an answer");
        };
        if !self.register_passes(ask, message, uri) {
            return;
        }
        if Wish::read(message, None).is_none() {
            return self.refuse(ask, 400);
        }
        if let Some(identity) = self.expired_device(&ask.hop) {
            let asked = crate::ingress::user_of(essentials.to.uri).unwrap_or_default();
            self.on_identity_refused(ask, message, identity, asked, true);
            // Another certificate can only be shown by another handshake, once the calls on this one are over.
            if !self.carries_call(ask.hop.flow) {
                self.close_flow(ask.hop.flow);
            }
            return;
        }
        let name = self.registered_name(message, essentials);
        let device = self.flows.flow(ask.hop.flow).and_then(|flow| flow.device.as_ref());
        let certified = device.is_some();
        match self.entries.authorize(device, name.as_deref().ok()) {
            Admission::Refused(identity) => {
                let identity = match name {
                    Err(misnamed) if identity.code == Code::NameUnknown => self.misnamed(identity, misnamed),
                    Ok(_) | Err(_) => identity,
                };
                let asked = crate::ingress::user_of(essentials.to.uri).unwrap_or_default();
                self.on_identity_refused(ask, message, identity, asked, certified);
            }
            Admission::Surrogate { entry, hardware_id } => {
                self.register_surrogate(ask, message, essentials, entry, hardware_id);
            }
            Admission::PassThrough { entry, hardware_id } => {
                self.register_pass_through(ask, message, essentials, entry, hardware_id);
            }
        }
    }

    /// The user part of the AOR, where all that names a host names us, and From and To are the same user:
    /// nobody registers somebody else.
    fn registered_name(
        &self,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
    ) -> Result<String, Misnamed> {
        let StartLine::Request { uri, .. } = message.start() else { return Err(Misnamed::Unreadable) };
        let read = |uri| Uri::parse(uri).map_err(|_| Misnamed::Unreadable);
        let (to, from, request) = (read(essentials.to.uri)?, read(essentials.from.uri)?, read(uri)?);
        let user = to.user_unescaped().ok_or(Misnamed::Unreadable)?;
        if let Some(foreign) = [&to, &from, &request].iter().find(|uri| !self.topology.is_ours(&uri.host)) {
            let host = foreign.host.to_string().chars().take(HOST_SHOWN).collect();
            return Err(Misnamed::Domain { user: user.into_owned(), host });
        }
        match from.user_unescaped() == Some(user.clone()) {
            true => Ok(user.into_owned()),
            false => Err(Misnamed::Another),
        }
    }

    /// A name that is unknown for what stands around it: the operator hears what, the client does not.
    fn misnamed(&self, identity: Identity, misnamed: Misnamed) -> Identity {
        let (text, next_step) = match misnamed {
            Misnamed::Domain { user, host } => (
                format!("{user} asks in the domain {host}; ours are {}", self.topology.ours_in_words()),
                "correct the domain in the phone, or `domain` at its [[pbx]]",
            ),
            Misnamed::Another => (
                "its From and To name two users: nobody registers another".to_owned(),
                "give the phone one name to register by",
            ),
            Misnamed::Unreadable => (
                "its To names no user that can be read".to_owned(),
                "enter the extension as the user name in the phone",
            ),
        };
        Identity { text, next_step: next_step.to_owned(), ..identity }
    }

    fn on_identity_refused(
        &mut self,
        ask: &Ask,
        message: &Message<'_>,
        identity: Identity,
        asked: String,
        certified: bool,
    ) {
        let proof = self.proof_by_request(&ask.hop, message);
        let about = About::default().extension(asked).hardware_id(identity.hardware_id);
        if certified {
            // Before the offence is counted: the one that leads to the block is still answered.
            self.refuse(ask, 403);
            self.settle();
        }
        self.offence(&ask.hop, proof, identity.code, about, || (identity.text, identity.next_step));
        if certified {
            return;
        }
        if self.is_blocked(ask.hop.flow, ask.hop.remote) {
            self.abandon(ask, DropReason::Blocked);
        } else {
            self.answer_with_decoy(ask.clone());
        }
    }

    fn register_surrogate(
        &mut self,
        ask: &Ask,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
        entry: EntryId,
        hardware_id: HardwareId,
    ) {
        self.blocking.lists_mut().success(ask.hop.remote.ip());
        if let Some(flow) = self.flows.flow_mut(ask.hop.flow) {
            flow.authenticated = true;
        }
        let Some(wish) = Wish::read(message, Some(hardware_id)) else { return self.refuse(ask, 400) };
        let mine = |binding: &Binding| binding.hardware_id == Some(hardware_id);
        if wish.is_query() {
            return self.answer_registered(ask, &self.bindings_of(entry, mine));
        }
        let mut ended = None;
        for id in self.bindings_of(entry, mine) {
            let named =
                self.bindings.binding(id).is_some_and(|b| wish.remove_all || wish.remove.contains(&b.key));
            if named {
                ended = self.end_binding(id, "the phone de-registered");
            }
        }
        let Some(contact) = wish.add else {
            return self.after_write(ended, Then::AnswerSignOff { ask: ask.clone() });
        };
        let granted = contact.expires.unwrap_or(self.config.registration.phone_expires);
        if granted < PHONE_EXPIRES_MIN {
            return self.answer(ask, 423, |writer| {
                writer.header("Min-Expires", PHONE_EXPIRES_MIN.as_secs());
            });
        }
        let series = (essentials.call_id.to_owned(), essentials.cseq.number);
        let user_agent =
            message.value(HeaderName::UserAgent).map(|value| wire::sip::unfold(value).into_owned());
        let phone = Phone { contact, series, user_agent, hardware_id: Some(hardware_id), granted };
        match self.bindings.by_key(entry, &phone.contact.key) {
            Some(id) => self.refresh_binding(ask, id, phone),
            None => self.new_binding(ask, entry, phone),
        }
    }

    fn bindings_of(&self, entry: EntryId, which: impl Fn(&Binding) -> bool) -> Vec<BindingId> {
        self.bindings.of_entry(entry).filter(|(_, binding)| which(binding)).map(|(id, _)| id).collect()
    }

    fn new_binding(&mut self, ask: &Ask, entry: EntryId, phone: Phone) {
        let name = self.entries.name(entry).to_owned();
        let about = About::source(ask.hop.remote).extension(name).hardware_id(phone.hardware_id);
        if self.bindings.of_entry(entry).count() >= self.config.registration.max_contacts {
            let most = self.config.registration.max_contacts;
            self.event(Code::ContactsLimited, about.rule("max_contacts"), || {
                (
                    format!("a further device was refused: the extension has {most} registrations"),
                    "let one of them de-register, or raise registration.max_contacts".into(),
                )
            });
            return self.refuse(ask, 403);
        }
        let Some(pbx) = self.pbx_for_phone(ask, entry) else { return };
        let mut binding = self.make_binding(entry, pbx, &ask.hop, phone, false);
        binding.waiting.push_back((ask.patience_ends(), ask.clone()));
        let id = self.insert_binding(binding);
        self.queue_registration(id);
    }

    /// No PBX answers now: 503, the same for everybody, whether the name exists or not.
    pub(crate) fn refuse_for_now(&mut self, ask: &Ask) {
        let retry = self.config.pbx.iter().map(|pbx| pbx.health_check.as_secs()).min().unwrap_or(10).max(1);
        self.refuse_for(ask, retry);
    }

    /// 503, and after how many seconds to try again.
    pub(crate) fn refuse_for(&mut self, ask: &Ask, seconds: u64) {
        self.answer(ask, 503, |writer| {
            writer.header("Retry-After", seconds);
        });
    }

    /// The REGISTERs of a binding have waited long enough: a known phone stays registered while we go on
    /// trying, a new one comes again.
    pub(crate) fn answer_waiting(&mut self, id: BindingId) {
        let Some(binding) = self.bindings.binding_mut(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        let asks = binding.take_waiting();
        if binding.was_registered {
            return self.persist_binding(id, Then::AnswerRegister { binding: id, asks });
        }
        let (entry, pbx) = (binding.entry, binding.pbx);
        let why = format!("PBX {} did not answer in time", self.pbx_name(pbx));
        for ask in asks {
            self.put_off(&ask, entry, &why);
        }
        self.end_binding(id, "the PBX did not answer");
    }

    /// A binding as the phone wants it; not in the table yet.
    pub(crate) fn make_binding(
        &mut self,
        entry: EntryId,
        pbx: usize,
        hop: &Hop,
        phone: Phone,
        pass_through: bool,
    ) -> Binding {
        let granted = self.granted(hop, phone.granted);
        let name = self.entries.name(entry);
        Binding {
            entry,
            token: self.keys.token(OWNER, name, &phone.contact.key),
            key: phone.contact.key,
            contact: phone.contact.uri,
            contact_value: phone.contact.value,
            user_agent: phone.user_agent,
            hardware_id: phone.hardware_id,
            hop: Some(*hop),
            last_seen_at: Some(*hop),
            phone_series: phone.series,
            expires: self.now.mono + granted,
            expires_wall: self.now.wall + granted,
            kept_until: Default::default(),
            cut_off: None,
            grace: None,
            pass_through,
            pbx,
            inside: Inside::Waiting { until: None },
            queued: false,
            was_registered: false,
            confirmed: None,
            auth: AuthState::default(),
            waiting: Default::default(),
            deadline: Deadline::default(),
        }
    }

    fn granted(&self, hop: &Hop, wished: Duration) -> Duration {
        self.within_certificate(hop, wished.min(self.config.registration.phone_expires))
    }

    pub(crate) fn insert_binding(&mut self, binding: Binding) -> BindingId {
        let hop = binding.hop;
        let id = self.bindings.insert(binding);
        if let Some(hop) = hop {
            self.hop_bindings_changed(&hop);
        }
        self.arm_binding(id);
        id
    }

    fn refresh_binding(&mut self, ask: &Ask, id: BindingId, phone: Phone) {
        let granted = self.granted(&ask.hop, phone.granted);
        let (now, wall) = (self.now.mono, self.now.wall);
        let Some(binding) = self.bindings.binding_mut(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        if binding.phone_series.0 == phone.series.0 && phone.series.1 <= binding.phone_series.1 {
            return self.refuse(ask, 500);
        }
        let moved = binding.hop != Some(ask.hop) || binding.contact != phone.contact.uri;
        binding.take(phone);
        binding.expires = now + granted;
        binding.expires_wall = wall + granted;
        let (registered, known) = (binding.is_registered(), binding.was_registered);
        let pbx_up = self.pbxs.get(binding.pbx).is_some_and(|pbx| pbx.is_up());
        self.move_binding(id, ask.hop);
        self.arm_binding(id);
        if registered || (known && !pbx_up) {
            // An unchanged refresh writes nothing: it costs the disk and the PBX no work.
            if moved {
                self.report_registered(id, Code::Registered, "from a new flow");
                self.persist_binding(id, Then::AnswerRegister { binding: id, asks: vec![ask.clone()] });
            } else {
                self.answer_registered(ask, &[id]);
            }
            return;
        }
        let Some(binding) = self.bindings.binding_mut(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        binding.waiting.push_back((ask.patience_ends(), ask.clone()));
        let oldest = if binding.waiting.len() > WAITING_MAX { binding.waiting.pop_front() } else { None };
        if let Some((_, oldest)) = oldest {
            self.refuse(&oldest, 500);
        }
        self.arm_binding(id);
        self.queue_registration(id);
    }

    /// The phone is at `hop` now; the flow where it was is closed, unless others are on it.
    pub(crate) fn move_binding(&mut self, id: BindingId, hop: Hop) {
        let old = self.bindings.attach(id, hop);
        if old == Some(hop) {
            return;
        }
        if let Some(old) = old {
            self.hop_bindings_changed(&old);
            let last = old.transport.is_reliable() && self.bindings.on_flow(old.flow).is_empty();
            if last && old.flow != hop.flow {
                self.close_flow(old.flow);
            }
        }
        self.hop_bindings_changed(&hop);
    }

    /// Whether something can be sent there: its connection is not lost.
    pub(crate) fn is_there(&self, hop: &Hop) -> bool {
        !hop.transport.is_reliable() || self.flows.flow(hop.flow).is_some()
    }

    /// Bindings came to, or went from, a phone's address: `net` serves registered ones first.
    pub(crate) fn hop_bindings_changed(&mut self, hop: &Hop) {
        let (id, source) = (hop.flow, hop.remote);
        let Some(flow) = self.flows.flow_mut(id) else {
            if hop.transport.is_reliable() {
                return;
            }
            let known = !self.bindings.by_hop(hop).is_empty();
            let output = if known {
                Output::Registered { flow: id, source }
            } else {
                Output::Unregistered { flow: id, source }
            };
            return self.outputs.push_back(output);
        };
        let count = self.bindings.on_flow(id).len();
        if flow.bindings == 0 && count > 0 {
            self.outputs.push_back(Output::Registered { flow: id, source });
        }
        flow.bindings = count;
        flow.rebound(id, self.now.mono, &mut self.timers);
    }

    /// 200 with the contacts of these bindings, as the phone gave them (RFC 3261 §10.3 step 8).
    pub(crate) fn answer_registered(&mut self, ask: &Ask, ids: &[BindingId]) {
        let now = self.now.mono;
        let mut contacts = Vec::with_capacity(ids.len());
        let mut longest = 0;
        for binding in ids.iter().filter_map(|id| self.bindings.binding(*id)) {
            let secs = (binding.expires - now).as_millis().div_ceil(1000);
            longest = longest.max(secs);
            contacts.push((binding.contact_value.clone(), secs, binding.key.is_of_flow()));
        }
        let outbound = contacts.iter().any(|(_, _, outbound)| *outbound) && asks_for_outbound(&ask.bytes);
        self.answer(ask, 200, |writer: &mut Writer| {
            for (value, secs, _) in &contacts {
                writer.header("Contact", format_args!("{value};expires={secs}"));
            }
            if longest > 0 {
                writer.header("Expires", longest);
            }
            if outbound {
                writer.header("Require", "outbound");
                writer.header("Flow-Timer", FLOW_TIMER.as_secs());
            }
        });
        if outbound && let Some(flow) = self.flows.flow_mut(ask.hop.flow) {
            flow.flow_timer_told(ask.hop.flow, now, &mut self.timers);
        }
    }

    pub(crate) fn report_registered(&mut self, id: BindingId, code: Code, how: &str) {
        let Some(binding) = self.bindings.binding(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        let (entry, pbx, transport) =
            (binding.entry, binding.pbx, binding.last_seen_at.map(|hop| hop.transport));
        let down = self.pbxs.get(pbx).is_some_and(|pbx| !pbx.is_usable());
        let about = About {
            source: binding.last_seen_at.map(|hop| hop.remote),
            extension: Some(self.entries.name(entry).to_owned()),
            hardware_id: binding.hardware_id.map(|id| id.to_string()),
            rule: None,
        };
        let pbx = self.pbx_name(pbx);
        self.event(code, about, || {
            let transport = transport.map_or("no flow yet", |transport| transport.as_str());
            let next_step = "nothing to do";
            match down {
                false => (format!("registered at PBX {pbx} {how} ({transport})"), next_step.into()),
                true => (
                    format!("registered here {how} ({transport}); PBX {pbx} is down and takes it in when it is back"),
                    next_step.into(),
                ),
            }
        });
    }

    /// Ends a binding on both sides; the ticket of the write that makes it last.
    pub(crate) fn end_binding(&mut self, id: BindingId, why: &str) -> Option<u64> {
        // The table knows no hop of what it has removed.
        let hop = self.bindings.detach(id);
        let mut binding = self.bindings.remove(id)?;
        binding.deadline.clear(Timer::Binding(id), &mut self.timers);
        if let Some(hop) = hop {
            self.hop_bindings_changed(&hop);
        }
        for ask in binding.take_waiting() {
            self.refuse(&ask, 480);
        }
        let ticket = self.persist_binding_end(&binding.token);
        self.expect_media(&binding.token);
        if binding.was_registered {
            let about = About {
                source: binding.last_seen_at.map(|hop| hop.remote),
                extension: Some(self.entries.name(binding.entry).to_owned()),
                hardware_id: binding.hardware_id.map(|id| id.to_string()),
                rule: None,
            };
            self.event(Code::Deregistered, about, || (why.to_owned(), "nothing to do".into()));
        }
        if !binding.pass_through {
            self.deregister_inside(id, binding, ticket);
        }
        Some(ticket)
    }

    /// A connection is gone: its phones have the grace time to come back (contract section 3).
    pub(crate) fn on_bindings_flow_lost(&mut self, flow: FlowId) {
        let grace = self.now.mono + self.config.registration.grace;
        for id in self.bindings.on_flow(flow) {
            self.bindings.detach(id);
            let Some(binding) = self.bindings.binding_mut(id) else { continue };
            // A pass-through binding has no password of ours to be ended with: it runs out at the PBX.
            binding.grace = (!binding.pass_through).then_some(grace);
            self.arm_binding(id);
        }
    }

    pub(crate) fn arm_binding(&mut self, id: BindingId) {
        if let Some(binding) = self.bindings.binding_mut(id) {
            let at = binding.next_deadline();
            binding.deadline.set(at, Timer::Binding(id), &mut self.timers);
        }
    }

    pub(crate) fn on_binding_timer(&mut self, id: BindingId) {
        let now = self.now.mono;
        let Some(binding) = self.bindings.binding_mut(id) else {
            return self.never("the timer of a binding outlived it");
        };
        if !binding.deadline.fired(now, Timer::Binding(id), &mut self.timers) {
            return;
        }
        if binding.expires <= now {
            let why = binding.cut_off.unwrap_or("the phone did not refresh its registration in time");
            self.end_binding(id, why);
            return;
        }
        if binding.grace.is_some_and(|grace| grace <= now) {
            self.end_binding(id, "the phone's connection was lost and it did not come back in time");
            return;
        }
        if binding.waiting.front().is_some_and(|(until, _)| *until <= now) {
            self.answer_waiting(id);
        }
        if self.bindings.binding(id).is_some_and(|binding| binding.is_due(now)) {
            self.queue_registration(id);
        }
        self.arm_binding(id);
    }

    /// The flow of a binding, for what the PBX sends to the phone.
    pub(crate) fn binding_hop(&self, id: BindingId) -> Option<Hop> {
        self.bindings.binding(id).and_then(|binding| binding.hop)
    }
}

/// This node's number in tokens; one node for now.
pub(crate) const OWNER: u8 = 0;

/// What a phone said in its REGISTER.
pub(crate) struct Phone {
    pub(crate) contact: WishedContact,
    pub(crate) series: (String, u32),
    pub(crate) user_agent: Option<String>,
    pub(crate) hardware_id: Option<HardwareId>,
    pub(crate) granted: Duration,
}

impl Ask {
    /// Until when a REGISTER waits for the PBX.
    pub(crate) fn patience_ends(&self) -> Instant {
        self.came + REGISTER_PATIENCE
    }
}

impl Binding {
    /// What the phone says of itself now.
    pub(crate) fn take(&mut self, phone: Phone) {
        self.phone_series = phone.series;
        self.contact = phone.contact.uri;
        self.contact_value = phone.contact.value;
        self.user_agent = phone.user_agent;
    }
}

fn asks_for_outbound(request: &Bytes) -> bool {
    Message::parse(request).is_ok_and(|message| {
        message
            .values(HeaderName::Supported)
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case("outbound"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(contacts: &str) -> Option<Wish> {
        let text = format!(
            "REGISTER sip:pbx.lab SIP/2.0\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK1\r\nFrom: <sip:1001@pbx.lab>;tag=1\r\n\
             To: <sip:1001@pbx.lab>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n{contacts}Content-Length: 0\r\n\r\n"
        );
        Wish::read(&Message::parse(text.as_bytes()).unwrap(), HardwareId::parse(b"009033010203").ok())
    }

    #[test]
    fn wishes() {
        let add = wish("Contact: <sip:a@1.2.3.4>;expires=90\r\n").unwrap().add.unwrap();
        assert_eq!((add.key.as_str(), add.expires), ("h:009033010203", Some(Duration::from_secs(90))));
        let add = wish("Contact: <sip:a@1.2.3.4>;+sip.instance=\"<urn:uuid:7>\";reg-id=1\r\nExpires: 80\r\n");
        let add = add.unwrap().add.unwrap();
        assert_eq!((add.key.as_str(), add.key.is_of_flow()), ("i:009033010203;1;<urn:uuid:7>", true));
        assert_eq!(add.value, "<sip:a@1.2.3.4>;+sip.instance=\"<urn:uuid:7>\";reg-id=1");
        assert!(wish("").unwrap().is_query());
        assert!(wish("Contact: *\r\nExpires: 0\r\n").unwrap().remove_all);
        assert_eq!(wish("Contact: *\r\n"), None);
        assert_eq!(wish("Contact: *, <sip:a@b>\r\nExpires: 0\r\n").map(|wish| wish.remove.len()), Some(1));
        assert_eq!(wish("Contact: <sip:a@b>, <sip:c@d>\r\n"), None);
        assert_eq!(wish("Contact: <mailto:a@b>\r\n"), None);
        let both = wish("Contact: <sip:old@b>;expires=0, <sip:new@b>;expires=120\r\n").unwrap();
        assert_eq!((both.remove.len(), both.add.unwrap().uri.as_str()), (1, "sip:new@b"));
    }
}
