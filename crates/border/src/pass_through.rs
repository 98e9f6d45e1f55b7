//! REGISTER whose challenge is the PBX's matter (contract section 3, pass-through).
//!
//! Every REGISTER goes to the PBX under one stable series for each binding. `realm`, `nonce` and the
//! credentials pass unchanged; `opaque` is replaced by ours around the PBX's, and its return proves the
//! address of a UDP source without a table.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use guard::{HardwareId, VerifiedSource};
use sip::ClientId;
use wire::clock::Instant;
use wire::net::Side;
use wire::sip::{Essentials, HeaderName, Message, Writer};

use crate::Border;
use crate::answer::{Ask, reason_phrase};
use crate::binding::{Binding, BindingKey, Inside};
use crate::digest::{self, Given};
use crate::drop_reason::DropReason;
use crate::entry::EntryId;
use crate::event::Code;
use crate::inside_registration::listed_contacts;
use crate::keys::OpenedOpaque;
use crate::outgoing::Prepared;
use crate::record::Then;
use crate::registrar::{OWNER, Phone, Wish, WishedContact};
use crate::report::About;
use crate::response::ClientUse;
use crate::timers::Timer;

/// A phone's REGISTER on its way to the PBX.
#[derive(Debug)]
pub(crate) struct PassedRegister {
    pub(crate) ask: Ask,
    entry: EntryId,
    pub(crate) pbx: usize,
    pub(crate) sent: Instant,
    hardware_id: Option<HardwareId>,
    wish: Wish,
    series: (String, u32),
    user_agent: Option<String>,
    /// It carried credentials: a challenge in answer to them is a failure.
    had_credentials: bool,
    /// That its source owns its address.
    proof: Option<VerifiedSource>,
}

/// The newest REGISTER of each series of a phone's that is on its way to the PBX, by where it comes from too: somebody
/// else who has seen its Call-ID keeps nobody out.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    /// Its CSeq, and how many of the series are under way.
    newest: BTreeMap<(EntryId, SocketAddr, String), (u32, usize)>,
}

impl Passing {
    pub(crate) fn len(&self) -> usize {
        self.newest.len()
    }

    fn has_newer(&self, entry: EntryId, from: SocketAddr, (call_id, cseq): &(String, u32)) -> bool {
        self.newest.get(&(entry, from, call_id.clone())).is_some_and(|(newest, _)| newest > cseq)
    }

    fn begins(&mut self, entry: EntryId, from: SocketAddr, (call_id, cseq): &(String, u32)) {
        let (newest, under_way) = self.newest.entry((entry, from, call_id.clone())).or_default();
        *newest = (*newest).max(*cseq);
        *under_way += 1;
    }

    fn ends(&mut self, entry: EntryId, from: SocketAddr, (call_id, _): &(String, u32)) {
        let key = (entry, from, call_id.clone());
        if let Some((_, under_way)) = self.newest.get_mut(&key) {
            *under_way = under_way.saturating_sub(1);
            if *under_way == 0 {
                self.newest.remove(&key);
            }
        }
    }
}

/// Asked of the PBX where the phone names no lifetime.
const DEFAULT_EXPIRES: Duration = Duration::from_secs(3600);

impl Border {
    /// The `opaque` of ours that credentials return.
    pub(crate) fn returned_opaque<'a>(
        &self,
        source: IpAddr,
        mut credentials: impl Iterator<Item = Given<'a>>,
    ) -> Option<OpenedOpaque> {
        credentials.find_map(|given| self.open_returned(source, &given))
    }

    fn open_returned(&self, source: IpAddr, given: &Given<'_>) -> Option<OpenedOpaque> {
        self.keys.open_opaque(source, self.now.wall, given.opaque.as_deref()?)
    }

    pub(crate) fn register_pass_through(
        &mut self,
        ask: &Ask,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
        entry: EntryId,
        hardware_id: Option<HardwareId>,
    ) {
        let Some(pbx) = self.pbx_for_phone(ask, entry) else { return };
        let is_stranger = hardware_id.is_none() && self.bindings.by_hop(&ask.hop).is_empty();
        if !is_stranger || self.takes_turn(pbx, ask, entry) {
            self.pass_register(ask, (message, essentials), entry, hardware_id, pbx);
        }
    }

    pub(crate) fn pass_register(
        &mut self,
        ask: &Ask,
        (message, essentials): (&Message<'_>, &Essentials<'_>),
        entry: EntryId,
        hardware_id: Option<HardwareId>,
        pbx: usize,
    ) {
        let Some(wish) = Wish::read(message, hardware_id) else { return self.refuse(ask, 400) };
        let series = (essentials.call_id.to_owned(), essentials.cseq.number);
        // Of two that have overtaken each other the PBX would take the older one for the newer (RFC 3261 §10.3).
        if self.passing.has_newer(entry, ask.hop.remote, &series) {
            return self.refuse(ask, 500);
        }
        let credentials: Vec<_> = digest::credentials_of(message).collect();
        let passed = PassedRegister {
            ask: ask.clone(),
            entry,
            pbx,
            sent: self.now.mono,
            hardware_id,
            wish,
            series: series.clone(),
            user_agent: message
                .value(HeaderName::UserAgent)
                .map(|value| wire::sip::unfold(value).into_owned()),
            had_credentials: !credentials.is_empty(),
            proof: self.proof_by_credentials(&ask.hop, credentials.into_iter()),
        };
        let Some(prepared) = self.build_passed_register(&passed, message) else {
            return self.put_off_unreachable(ask, entry, pbx);
        };
        let until = passed.ask.patience_ends();
        match self.send_request(prepared, ClientUse::PassedRegister(Box::new(passed))) {
            Some(client) => {
                self.passing.begins(entry, ask.hop.remote, &series);
                self.room.hold(ask.server);
                self.timers.arm(until, Timer::PassedRegister(client));
            }
            None => self.put_off_unreachable(ask, entry, pbx),
        }
    }

    /// Nothing more comes of it: what was held and armed when it went out.
    fn passed_register_ends(&mut self, client: ClientId, passed: &PassedRegister) {
        self.passing.ends(passed.entry, passed.ask.hop.remote, &passed.series);
        self.room.release(passed.ask.server);
        self.timers.disarm(passed.ask.patience_ends(), Timer::PassedRegister(client));
    }

    fn put_off_unreachable(&mut self, ask: &Ask, entry: EntryId, pbx: usize) {
        let why = format!("PBX {} cannot be reached", self.pbx_name(pbx));
        self.put_off(ask, entry, &why);
    }

    fn put_off_late(&mut self, ask: &Ask, entry: EntryId, pbx: usize) {
        let why = format!("PBX {} did not answer in time", self.pbx_name(pbx));
        self.put_off(ask, entry, &why);
    }

    /// The PBX takes too long. What it says later still counts, but no answer of ours waits for it.
    pub(crate) fn on_passed_register_timer(&mut self, client: ClientId) {
        if let Some(ClientUse::PassedRegister(passed)) = self.clients.find(client) {
            let (ask, entry, pbx) = (passed.ask.clone(), passed.entry, passed.pbx);
            self.put_off_late(&ask, entry, pbx);
        }
    }

    fn build_passed_register(&mut self, passed: &PassedRegister, message: &Message<'_>) -> Option<Prepared> {
        let hop = self.hop_to_pbx(passed.pbx)?;
        let domain = self.config.pbx[passed.pbx].domain.clone();
        let name = self.entries.name(passed.entry).to_owned();
        // One series for each binding; a phone that only asks, or ends all, speaks for its address.
        let keys = passed.wish.keys();
        let at = || format!("a:{}", passed.ask.hop.remote.ip());
        let series = keys.first().map_or_else(at, |key| key.as_str().to_owned());
        let (call_id, tag, cseq) = self.next_in_series(&name, &series);
        let branch = self.entropy.branch();
        let mut writer = Writer::request("REGISTER", &format!("sip:{domain}"));
        self.via(&mut writer, Side::Inside, &hop, &branch);
        writer.header("Max-Forwards", 70);
        writer.header("From", format_args!("<sip:{name}@{domain}>;tag={tag}"));
        writer.header("To", format_args!("<sip:{name}@{domain}>"));
        writer.header("Call-ID", call_id);
        writer.header("CSeq", format_args!("{cseq} REGISTER"));
        self.write_passed_contacts(&mut writer, passed, &hop, &name);
        self.pass_credentials(&mut writer, message, passed.ask.hop.remote.ip());
        if let Some(user_agent) = &passed.user_agent {
            writer.header("User-Agent", user_agent);
        }
        Some(Prepared { hop, method: "REGISTER", branch, bytes: Bytes::from(writer.finish(b"")) })
    }

    fn write_passed_contacts(
        &self,
        writer: &mut Writer,
        passed: &PassedRegister,
        hop: &sip::Hop,
        name: &str,
    ) {
        let mut removed = passed.wish.remove.clone();
        if passed.wish.remove_all {
            removed.extend(self.keys_at(passed));
        }
        for key in removed {
            let contact = self.contact(Side::Inside, hop, &self.keys.token(OWNER, name, &key));
            writer.header("Contact", format_args!("{contact};expires=0"));
        }
        if let Some(add) = &passed.wish.add {
            let contact = self.contact(Side::Inside, hop, &self.keys.token(OWNER, name, &add.key));
            let least = self.pbxs[passed.pbx].expires_min;
            let expires = add.expires.unwrap_or(DEFAULT_EXPIRES).max(least).as_secs();
            writer.header("Contact", format_args!("{contact};expires={expires}"));
        }
    }

    /// The bindings of this extension that the phone at this address has.
    fn keys_at(&self, passed: &PassedRegister) -> Vec<BindingKey> {
        self.bindings
            .of_entry(passed.entry)
            .filter(|(_, binding)| binding.hop == Some(passed.ask.hop))
            .map(|(_, binding)| binding.key.clone())
            .collect()
    }

    /// Copies the phone's credentials, with the PBX's own `opaque` back in its place.
    pub(crate) fn pass_credentials(&self, writer: &mut Writer, message: &Message<'_>, source: IpAddr) {
        for given in digest::credentials_of(message) {
            let value = match self.open_returned(source, &given) {
                Some(opened) => Cow::Owned(digest::with_opaque(&given.value, opened.inner.as_deref())),
                None => given.value,
            };
            writer.header(given.name, value);
        }
    }

    /// Copies the PBX's challenges, with our `opaque` around its own and without `auth-int`, whose body we
    /// may have to change.
    pub(crate) fn pass_challenges(&self, writer: &mut Writer, message: &Message<'_>, source: IpAddr) {
        for (name, value) in digest::challenges_of(message) {
            let opaque = self.keys.seal_opaque(source, self.now.wall, digest::given_opaque(value).as_deref());
            if let Some(value) = sip::auth::challenge_with(value, &opaque) {
                writer.header(name, value);
            }
        }
    }

    pub(crate) fn on_passed_register_response(
        &mut self,
        client: ClientId,
        passed: PassedRegister,
        message: &Message<'_>,
        status: u16,
    ) {
        self.passed_register_ends(client, &passed);
        let challenged = matches!(status, 401 | 407);
        let stale = challenged && digest::challenges_of(message).any(|(_, value)| digest::is_stale(value));
        if status == 403 || (challenged && passed.had_credentials && !stale) {
            self.on_credentials_refused(&passed, status);
            if self.is_blocked(passed.ask.hop.flow, passed.ask.hop.remote) {
                return self.abandon(&passed.ask, DropReason::Blocked);
            }
        }
        match status {
            200..=299 => self.on_passed_register_accepted(passed, message),
            401 | 407 => self.answer_with_challenge(&passed.ask, message, status, passed.pbx),
            // Any other refusal would tell this name from one that does not exist.
            _ => {
                if status == 423 {
                    self.learn_expires(passed.pbx, message);
                }
                // That of the password has its event.
                if status != 403 {
                    let why = format!(
                        "PBX {} answered {status} {}",
                        self.pbx_name(passed.pbx),
                        reason_phrase(status)
                    );
                    self.report_registration_failed(&passed.ask, passed.entry, &why);
                }
                self.challenge(passed.pbx, &passed.ask, None);
            }
        }
    }

    fn on_credentials_refused(&mut self, passed: &PassedRegister, status: u16) {
        let about = About::default()
            .extension(self.entries.name(passed.entry))
            .hardware_id(passed.hardware_id)
            .rule(format!("PBX {}", self.pbx_name(passed.pbx)));
        self.offence(&passed.ask.hop, passed.proof, Code::DigestFailed, about, || {
            (
                format!("the PBX refused the phone's user name or password ({status})"),
                "enter the extension's password in the phone again".into(),
            )
        });
    }

    /// The PBX's challenge as the phone sees it. A decoy is written from what is learned of these: status, headers, and
    /// what passes beside them.
    fn answer_with_challenge(&mut self, ask: &Ask, message: &Message<'_>, status: u16, pbx: usize) {
        let Ok(request) = Message::parse(&ask.bytes) else {
            return self.never("a request that was read cannot be read again");
        };
        let tag = self.entropy.word();
        let mut writer =
            sip::response::response(&request, ask.hop.remote, status, reason_phrase(status), Some(&tag));
        self.pass_challenges(&mut writer, message, ask.hop.remote.ip());
        let domain = self.config.pbx[pbx].domain.clone();
        self.topology.pass_headers(message, Side::Outside, &domain, &[], &mut writer);
        let bytes = Bytes::from(writer.finish(b""));
        self.transactions.respond(ask.server, status, bytes, self.now.mono);
    }

    fn on_passed_register_accepted(&mut self, passed: PassedRegister, message: &Message<'_>) {
        // An answer that comes late changes nothing about what the phone said after it (RFC 3261 §10.3).
        let (call_id, cseq) = &passed.series;
        let newer = |binding: &Binding| binding.phone_series.0 == *call_id && binding.phone_series.1 > *cseq;
        if self.bindings.of_entry(passed.entry).any(|(_, binding)| newer(binding)) {
            return self.refuse(&passed.ask, 500);
        }
        self.blocking.lists_mut().success(passed.ask.hop.remote.ip());
        if passed.hardware_id.is_some()
            && let Some(flow) = self.flows.flow_mut(passed.ask.hop.flow)
        {
            flow.authenticated = true;
        }
        let mut ended = passed.wish.remove.clone();
        if passed.wish.remove_all {
            ended.extend(self.keys_at(&passed));
        }
        let mut last = None;
        for key in ended {
            if let Some(id) = self.bindings.by_key(passed.entry, &key) {
                last = self.end_binding(id, "the phone de-registered");
            }
        }
        let PassedRegister { ask, entry, pbx, hardware_id, wish, series, user_agent, .. } = passed;
        let Some(contact) = wish.add else {
            return self.after_write(last, Then::AnswerSignOff { ask });
        };
        let asked = contact.expires.unwrap_or(DEFAULT_EXPIRES);
        let token = self.keys.token(OWNER, self.entries.name(entry), &contact.key);
        let granted = listed_contacts(message, asked).into_iter().find(|(t, _)| *t == token).map(|(_, e)| e);
        let Some(granted) = granted.filter(|granted| !granted.is_zero()) else {
            let why = format!("the 200 of PBX {} does not list our contact", self.pbx_name(pbx));
            self.report_registration_failed(&ask, entry, &why);
            return self.refuse(&ask, 503);
        };
        // A PBX may grant more than was wished, where it takes nothing shorter.
        let granted = self.within_certificate(&ask.hop, granted.min(asked));
        let phone = Phone { contact, series, user_agent, hardware_id, granted };
        self.keep_passed_binding(ask, entry, pbx, phone);
    }

    /// The PBX has it: so have we, for as long as the PBX says.
    fn keep_passed_binding(&mut self, ask: Ask, entry: EntryId, pbx: usize, phone: Phone) {
        let granted = phone.granted;
        let (now, wall) = (self.now.mono, self.now.wall);
        let known = self.bindings.by_key(entry, &phone.contact.key);
        if known.is_none() {
            self.displace_oldest(entry);
        }
        let moved = known
            .and_then(|id| self.bindings.binding(id))
            .is_none_or(|b| b.hop != Some(ask.hop) || b.contact != phone.contact.uri);
        let id = match known {
            Some(id) => {
                if let Some(binding) = self.bindings.binding_mut(id) {
                    binding.take(phone);
                }
                id
            }
            None => {
                let binding = self.make_binding(entry, pbx, &ask.hop, phone, true);
                self.insert_binding(binding)
            }
        };
        if let Some(binding) = self.bindings.binding_mut(id) {
            binding.pbx = pbx;
            binding.was_registered = true;
            binding.expires = now + granted;
            binding.expires_wall = wall + granted;
            binding.inside = Inside::Registered { expires: now + granted, refresh: None };
        }
        if self.is_there(&ask.hop) {
            self.move_binding(id, ask.hop);
        } else if known.is_none() {
            // It is at the PBX, and nowhere to be reached until it comes again.
            self.bindings.detach(id);
        }
        self.arm_binding(id);
        if moved {
            self.report_registered(id, Code::Registered, "by its password");
            self.persist_binding(id, Then::AnswerRegister { binding: id, asks: vec![ask] });
        } else {
            self.persist_refresh(id);
            self.answer_registered(&ask, &[id]);
        }
    }

    /// With as many bindings as may be, the one that ends first goes: the PBX has accepted the new one.
    fn displace_oldest(&mut self, entry: EntryId) {
        if self.bindings.of_entry(entry).count() < self.config.registration.max_contacts {
            return;
        }
        let oldest = self.bindings.of_entry(entry).min_by_key(|(_, b)| b.expires).map(|(id, _)| id);
        if let Some(id) = oldest {
            self.end_binding(id, "a newer device took its place (max_contacts)");
        }
    }

    pub(crate) fn on_passed_register_lost(&mut self, client: ClientId, passed: &PassedRegister) {
        self.passed_register_ends(client, passed);
        // After its patience it has had its answer.
        if self.now.mono < passed.ask.patience_ends() {
            self.put_off_late(&passed.ask, passed.entry, passed.pbx);
        }
    }
}

impl Wish {
    /// The keys that it speaks of, the wished one first.
    fn keys(&self) -> Vec<BindingKey> {
        let added = self.add.as_ref().map(|WishedContact { key, .. }| key.clone());
        added.into_iter().chain(self.remove.iter().cloned()).collect()
    }
}
