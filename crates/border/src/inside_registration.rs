//! Our REGISTER at the PBX for each binding (contract section 3): sent, challenged, refreshed, ended.
//!
//! One series for each binding: its own Call-ID, From-tag and Contact token, and a CSeq that rises over
//! everything we send (RFC 3261 §10.2). While the disk takes no numbers the series is that of this start (`node`).

use std::time::Duration;

use bytes::Bytes;
use wire::clock::Instant;
use wire::net::Side;
use wire::sip::{HeaderName, Message, NameAddr, Uri, Writer, split_list};

use crate::Border;
use crate::binding::{Binding, BindingId, BindingKey, Inside};
use crate::digest::{AuthState, Challenged};
use crate::entry::EntryId;
use crate::event::Code;
use crate::outgoing::Prepared;
use crate::pbx::PbxState;
use crate::record::Then;
use crate::refusal::{Refusal, Words};
use crate::report::About;
use crate::response::ClientUse;

/// How long we wait before we ask a PBX again that refused a registration it had accepted before.
pub(crate) const REFUSED_RETRY: Duration = Duration::from_secs(60);

/// The longest registration that a PBX may insist on.
const EXPIRES_MAX: Duration = Duration::from_secs(86_400);

/// What a REGISTER of ours asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// When it was sent.
    pub(crate) at: Instant,
    /// How long the registration was to last.
    pub(crate) expires: Duration,
}

/// A registration that ends: the binding is gone already.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) entry: EntryId,
    pub(crate) key: BindingKey,
    pub(crate) pbx: usize,
    pub(crate) token: String,
    pub(crate) auth: AuthState,
}

/// One REGISTER of ours.
pub(crate) struct Registration<'a> {
    pub(crate) entry: EntryId,
    pub(crate) pbx: usize,
    /// Distinguishes series: a binding's key, or `query`.
    pub(crate) series: &'a str,
    /// Token and lifetime; none asks what the PBX has.
    pub(crate) contact: Option<(&'a str, Duration)>,
    pub(crate) user_agent: Option<&'a str>,
}

impl Border {
    /// Takes its turn at the PBX.
    pub(crate) fn queue_registration(&mut self, id: BindingId) {
        let Some(binding) = self.bindings.binding_mut(id) else { return };
        if binding.queued || binding.pass_through || binding.inside == Inside::Registering {
            return;
        }
        binding.queued = true;
        match &mut binding.inside {
            // It stays registered while it waits for its refresh.
            Inside::Registered { refresh, .. } => *refresh = None,
            other @ (Inside::Waiting { .. } | Inside::Registering) => {
                *other = Inside::Waiting { until: None }
            }
        }
        let pbx = binding.pbx;
        self.pbxs[pbx].queue.push_back(id);
        self.pump_registrations(pbx);
    }

    /// Sends as many as the pace of the PBX allows now.
    pub(crate) fn pump_registrations(&mut self, pbx: usize) {
        while self.pbxs[pbx].is_usable() {
            let Some((id, returns)) = self.next_in_turn(pbx) else { return };
            if let Err(wait) = self.pbxs[pbx].pacing.admit(self.now.mono) {
                let PbxState { queue, returning, .. } = &mut self.pbxs[pbx];
                if returns { returning } else { queue }.push_front(id);
                self.timers.arm(self.now.mono + wait.retry_after, crate::timers::Timer::Pacing(pbx));
                return;
            }
            if returns {
                self.return_binding(id, pbx);
            } else if let Some(binding) = self.bindings.binding_mut(id) {
                binding.queued = false;
                self.send_registration(id);
            }
        }
    }

    /// Whose turn it is at a PBX, and whether that is a return from another.
    fn next_in_turn(&mut self, pbx: usize) -> Option<(BindingId, bool)> {
        while let Some(id) = self.pbxs[pbx].queue.pop_front() {
            if self.bindings.binding(id).is_some_and(|binding| binding.queued && binding.pbx == pbx) {
                return Some((id, false));
            }
        }
        self.next_return(pbx).map(|id| (id, true))
    }

    fn send_registration(&mut self, id: BindingId) {
        let Some(binding) = self.bindings.binding_mut(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        if !binding.is_registered() {
            binding.inside = Inside::Registering;
        }
        let (entry, pbx, key) = (binding.entry, binding.pbx, binding.key.clone());
        // One at a time (RFC 3261 §10.2): the answer to the older one says nothing about how long this one lasts.
        if let Some(older) = self.clients.take_registration(id, pbx) {
            self.transactions.abandon_request(older, self.now.mono);
        }
        let Some(binding) = self.bindings.binding_mut(id) else { return };
        let (token, user_agent) = (binding.token.clone(), binding.user_agent.clone());
        let mut auth = std::mem::take(&mut binding.auth);
        let asked = self.ask_for(pbx);
        let registration = Registration {
            entry,
            pbx,
            series: key.as_str(),
            contact: Some((&token, asked.expires)),
            user_agent: user_agent.as_deref(),
        };
        let prepared = self.build_register(&registration, &mut auth);
        if let Some(binding) = self.bindings.binding_mut(id) {
            binding.auth = auth;
        }
        let using = ClientUse::Registration { binding: id, pbx, asked };
        if prepared.and_then(|prepared| self.send_request(prepared, using)).is_none() {
            self.on_registration_failed(id, "it cannot be reached");
        }
        self.arm_binding(id);
    }

    /// Builds one REGISTER; none where there is no way to the PBX now.
    pub(crate) fn build_register(
        &mut self,
        registration: &Registration<'_>,
        auth: &mut AuthState,
    ) -> Option<Prepared> {
        let hop = self.hop_to_pbx(registration.pbx)?;
        let domain = self.config.pbx[registration.pbx].domain.clone();
        let uri = format!("sip:{domain}");
        let name = self.entries.name(registration.entry).to_owned();
        let (call_id, tag, cseq) = self.next_in_series(&name, registration.series);
        let branch = self.entropy.branch();
        let credentials = self.credentials(registration.entry, auth, "REGISTER", &uri);
        let mut writer = Writer::request("REGISTER", &uri);
        self.via(&mut writer, Side::Inside, &hop, &branch);
        writer.header("Max-Forwards", 70);
        writer.header("From", format_args!("<sip:{name}@{domain}>;tag={tag}"));
        writer.header("To", format_args!("<sip:{name}@{domain}>"));
        writer.header("Call-ID", call_id);
        writer.header("CSeq", format_args!("{cseq} REGISTER"));
        if let Some((token, expires)) = registration.contact {
            let contact = self.contact(Side::Inside, &hop, token);
            writer.header("Contact", format_args!("{contact};expires={}", expires.as_secs()));
        }
        if let Some((header, value)) = credentials {
            writer.header(header, value);
        }
        if let Some(user_agent) = registration.user_agent {
            writer.header("User-Agent", user_agent);
        }
        Some(Prepared { hop, method: "REGISTER", branch, bytes: Bytes::from(writer.finish(b"")) })
    }

    pub(crate) fn on_registration_response(
        &mut self,
        id: BindingId,
        asked: Asked,
        message: &Message<'_>,
        status: u16,
    ) {
        let Some(binding) = self.bindings.binding(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        let (entry, pbx, registered) = (binding.entry, binding.pbx, binding.is_registered());
        match status {
            100..=199 => {}
            200..=299 => {
                self.on_registration_confirmed(id, asked, message);
            }
            401 | 407 => {
                let Some(binding) = self.bindings.binding_mut(id) else {
                    return self.never("a binding is gone while it is worked on");
                };
                let mut auth = std::mem::take(&mut binding.auth);
                let challenged = self.take_challenge(pbx, entry, &mut auth, message);
                if let Some(binding) = self.bindings.binding_mut(id) {
                    binding.auth = auth;
                }
                match challenged {
                    Challenged::Retry => self.send_registration(id),
                    Challenged::Refused(why) => self.on_registration_refused(id, why),
                }
            }
            423 if self.learn_longer(pbx, asked, message) => self.send_registration(id),
            // The PBX does not know a contact that it had confirmed: it has forgotten them all.
            404 | 481 if registered => self.pbx_lost_bindings(pbx),
            500..=599 | 408 | 480 => self.on_registration_failed(id, &format!("it answered {status}")),
            _ => self.on_registration_refused(id, Refusal::Status(status)),
        }
    }

    /// How long a registration there is asked for now.
    pub(crate) fn ask_for(&self, pbx: usize) -> Asked {
        let expires = self.pbxs[pbx].expires_min.max(self.config.registration.pbx_expires);
        Asked { at: self.now.mono, expires }
    }

    /// Whether the PBX wants a registration to last longer than was asked for. What was learned from others since then
    /// says nothing about that.
    pub(crate) fn learn_longer(&mut self, pbx: usize, asked: Asked, message: &Message<'_>) -> bool {
        self.learn_expires(pbx, message).is_some_and(|least| least > asked.expires)
    }

    /// How long the PBX wants registrations to last at least (RFC 3261 §10.2.8), which is kept where it is bearable.
    pub(crate) fn learn_expires(&mut self, pbx: usize, message: &Message<'_>) -> Option<Duration> {
        let least = message.value(HeaderName::MinExpires).and_then(|value| value.trim().parse::<u32>().ok());
        let least = Duration::from_secs(u64::from(least?));
        if least > EXPIRES_MAX {
            return None;
        }
        let known = &mut self.pbxs[pbx].expires_min;
        *known = least.max(*known);
        Some(least)
    }

    /// The PBX keeps our contact; whether the operator was told of that.
    pub(crate) fn on_registration_confirmed(
        &mut self,
        id: BindingId,
        asked: Asked,
        message: &Message<'_>,
    ) -> bool {
        let Some(binding) = self.bindings.binding(id) else {
            self.never("a binding is gone while it is worked on");
            return false;
        };
        let (entry, pbx) = (binding.entry, binding.pbx);
        let contacts = listed_contacts(message, asked.expires);
        let Some(granted) = contacts.iter().find(|(token, _)| *token == binding.token).map(|(_, e)| *e)
        else {
            self.on_registration_refused(id, Refusal::NotListed);
            return true;
        };
        self.judge_contacts((entry, pbx), Some(id), asked.at, &contacts);
        let now = self.now.mono;
        let Some(binding) = self.bindings.binding_mut(id) else { return false };
        let first = !std::mem::replace(&mut binding.was_registered, true);
        let confirmed_before = binding.confirmed.replace(now);
        let lost = !binding.is_registered() || self.pbxs[pbx].was_down_since(confirmed_before);
        let repaired = !first && lost;
        binding.auth.succeeded();
        binding.inside = Inside::Registered { expires: now + granted, refresh: Some(now + granted * 3 / 4) };
        let asks = binding.take_waiting();
        self.arm_binding(id);
        if repaired {
            self.pbxs[pbx].doubted.remove(&entry);
        }
        if first {
            self.report_registered(id, Code::Registered, "by its certificate");
        } else if repaired {
            self.report_registered(id, Code::Reregistered, "again");
        }
        self.persist_binding(id, Then::AnswerRegister { binding: id, asks });
        first || repaired
    }

    /// The PBX said no: a new phone is refused, a known one is tried again later.
    fn on_registration_refused(&mut self, id: BindingId, why: Refusal) {
        let Some(binding) = self.bindings.binding(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        let (entry, pbx) = (binding.entry, binding.pbx);
        self.report_refused(id, pbx, why, None);
        // Else the PBX keeps what it took in before.
        if self.pbxs[pbx].doubted.contains(&entry)
            && let Some(binding) = self.bindings.binding_mut(id)
        {
            binding.inside = Inside::Waiting { until: None };
        }
        self.give_up_registration(id, REFUSED_RETRY);
    }

    /// `stays`: the PBX at which it is registered all the same.
    pub(crate) fn report_refused(&mut self, id: BindingId, pbx: usize, why: Refusal, stays: Option<usize>) {
        let Some(binding) = self.bindings.binding(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        let name = self.entries.name(binding.entry).to_owned();
        let about = About { source: binding.last_seen_at.map(|hop| hop.remote), ..About::default() };
        let pbx = self.pbx_name(pbx);
        let stays =
            stays.map(|stays| format!("; it stays at PBX {}", self.pbx_name(stays))).unwrap_or_default();
        if let Some(Words { code, why, next_step }) = why.words() {
            self.event(code, about.extension(name), || {
                (format!("PBX {pbx} refused the registration: {why}{stays}"), next_step.into())
            });
        }
    }

    /// There was no answer, or none that decides anything.
    pub(crate) fn on_registration_failed(&mut self, id: BindingId, why: &str) {
        let Some(binding) = self.bindings.binding(id) else {
            return self.never("a binding is gone while it is worked on");
        };
        let (entry, pbx, retry) = (binding.entry, binding.pbx, self.config.pbx[binding.pbx].health_check);
        if let Some(ask) = binding.waiting.back().map(|(_, ask)| ask.clone()) {
            let why = format!("PBX {}: {why}", self.pbx_name(pbx));
            self.report_registration_failed(&ask, entry, &why);
        }
        self.pbx_missed(pbx, why);
        self.give_up_registration(id, retry);
    }

    /// For now: who waits for it hears 503, and when to try again.
    fn give_up_registration(&mut self, id: BindingId, retry: Duration) {
        let now = self.now.mono;
        let Some(binding) = self.bindings.binding_mut(id) else { return };
        let asks = binding.take_waiting();
        let known = binding.was_registered;
        match &mut binding.inside {
            Inside::Registered { expires, refresh } if *expires > now => *refresh = Some(now + retry),
            other @ (Inside::Waiting { .. } | Inside::Registering | Inside::Registered { .. }) => {
                *other = Inside::Waiting { until: Some(now + retry) };
            }
        }
        for ask in asks {
            self.answer(&ask, 503, |writer| {
                writer.header("Retry-After", retry.as_secs().max(1));
            });
        }
        if known {
            self.arm_binding(id);
        } else {
            self.end_binding(id, "the PBX did not accept it");
        }
    }

    /// Takes our contact back from the PBX, for a binding that is gone, when the write that ends it is on disk.
    /// Where our REGISTER is still on its way, its answer is waited for: the PBX could take the second before the
    /// first.
    pub(crate) fn deregister_inside(&mut self, id: BindingId, binding: Binding, ended: u64) {
        let (registered, under_way) = (binding.is_registered(), binding.inside == Inside::Registering);
        let Binding { entry, key, pbx, token, auth, .. } = binding;
        let leaving = Leaving { entry, key, pbx, token, auth };
        if under_way {
            self.clients.abandon_registration(id, leaving);
        } else if registered && self.pbxs[pbx].is_up() {
            self.after_write(Some(ended), Then::Leave(Box::new(leaving)));
        }
    }

    /// A binding that is gone leaves the PBX too, unless its phone is back.
    pub(crate) fn leave(&mut self, leaving: Leaving) {
        if self.bindings.by_token(&leaving.token).is_none() {
            self.send_leaving(leaving);
        }
    }

    /// The answer to a registration whose binding has gone meanwhile.
    pub(crate) fn on_abandoned_response(&mut self, leaving: Leaving, status: u16) {
        if (200..300).contains(&status) {
            self.leave(leaving);
        }
    }

    fn send_leaving(&mut self, mut leaving: Leaving) {
        let registration = Registration {
            entry: leaving.entry,
            pbx: leaving.pbx,
            series: leaving.key.as_str(),
            contact: Some((&leaving.token, Duration::ZERO)),
            user_agent: None,
        };
        // What cannot be sent runs out at the PBX by itself.
        if let Some(prepared) = self.build_register(&registration, &mut leaving.auth) {
            self.send_request(prepared, ClientUse::Deregistration(Box::new(leaving)));
        }
    }

    pub(crate) fn on_deregistration_response(
        &mut self,
        mut leaving: Leaving,
        message: &Message<'_>,
        status: u16,
    ) {
        // A phone that is back by now has a newer registration of the same series: leave that alone.
        if !matches!(status, 401 | 407) || self.bindings.by_token(&leaving.token).is_some() {
            return;
        }
        let challenged = self.take_challenge(leaving.pbx, leaving.entry, &mut leaving.auth, message);
        if matches!(challenged, Challenged::Retry) {
            self.send_leaving(leaving);
        }
    }
}

/// The contacts of a REGISTER's 200: user part and lifetime.
pub(crate) fn listed_contacts(message: &Message<'_>, asked: Duration) -> Vec<(String, Duration)> {
    let header = message.value(HeaderName::Expires).and_then(|value| value.trim().parse::<u32>().ok());
    message
        .values(HeaderName::Contact)
        .flat_map(split_list)
        .filter_map(|value| {
            let contact = NameAddr::parse(value).ok()?;
            let user = Uri::parse(contact.uri).ok()?.user?.to_owned();
            let own =
                contact.params.value("expires").and_then(|text| text.trim_matches('"').parse::<u32>().ok());
            let secs = own.or(header).map_or(asked, |secs| Duration::from_secs(u64::from(secs)));
            Some((user, secs))
        })
        .collect()
}
