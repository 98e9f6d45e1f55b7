//! The PBXs: reached how, up or down, asked how often, forgetful or not (contract section 3, PBX watch).

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use guard::CallLimit;
use sip::Hop;
use wire::clock::Instant;
use wire::net::{FlowId, Side, Transport};
use wire::sip::{Essentials, Message, Uri, Writer};

use crate::Border;
use crate::binding::{Binding, BindingId, Inside};
use crate::command::PbxHealth;
use crate::config::{self, Authentication};
use crate::decoy::ChallengeShape;
use crate::digest::{AuthState, Challenged};
use crate::entry::EntryId;
use crate::event::Code;
use crate::inside_registration::{Registration, listed_contacts};
use crate::interface::{Output, ResolvedName, Target};
use crate::outgoing::Prepared;
use crate::refusal::Refusal;
use crate::report::About;
use crate::response::ClientUse;
use crate::samples::Samples;
use crate::timers::Timer;

/// Answer times that are remembered, for the delay of decoys.
const ANSWER_TIMES: usize = 16;
/// Health checks in a row without any answer after which a PBX that was heard is down. For one that was not
/// heard yet, one is enough, and so is whatever else it was asked: phones wait for it.
const MISSES_DOWN: u32 = 2;

/// How long after the loss of a connection its PBX is asked: 0.1 s, then 0.5, 1, 2, 4 s, and so on.
fn ask_again_after(lost_before: u32) -> Duration {
    match lost_before.checked_sub(1) {
        None => Duration::from_millis(100),
        Some(doublings) => Duration::from_millis(500u64.saturating_mul(1 << doublings.min(30))),
    }
}

/// A PBX as it is now.
pub(crate) struct PbxState {
    pub(crate) targets: Vec<Target>,
    /// Our connection to it, where it is reached by TCP.
    connection: Option<FlowId>,
    health: PbxHealth,
    /// When it was last found up again after it was down.
    back_since: Option<Instant>,
    /// When the next regular health check is due; others come between.
    next_check: Option<Instant>,
    /// When the last health check was sent, while it is neither answered nor counted as missed.
    check: Option<Instant>,
    misses: u32,
    watched: bool,
    /// How often its connection was lost since it was last found up.
    lost_flows: u32,
    /// The shortest registration that it takes, as far as it said so.
    pub(crate) expires_min: Duration,
    /// Registrations that wait for their turn.
    pub(crate) queue: VecDeque<BindingId>,
    pub(crate) pacing: CallLimit,
    /// Registrations at PBXs that come after this one, which go back to it after those that wait.
    pub(crate) returning: VecDeque<BindingId>,
    /// Health checks in a row that found it up, with no answer owed.
    pub(crate) steady_checks: u32,
    /// It refused to take one back: until when nobody else tries.
    pub(crate) no_returns_until: Option<Instant>,
    /// The realm that may be answered: configured, or the first one seen.
    pub(crate) realm: Option<String>,
    /// What its last challenges looked like, for decoys; the newest last.
    pub(crate) shapes: VecDeque<ChallengeShape>,
    answer_times: VecDeque<Duration>,
    /// The questions that were asked in the place of strangers.
    pub(crate) samples: Samples,
    /// Whose turn it is to be asked for its contacts.
    turn: usize,
    query_auth: AuthState,
    /// Extensions of which it did not say which contacts it has: each was told, and is registered anew.
    pub(crate) doubted: BTreeSet<EntryId>,
}

impl PbxState {
    pub(crate) fn new(config: &config::Pbx) -> Self {
        Self {
            targets: Vec::new(),
            connection: None,
            health: PbxHealth::Unknown,
            back_since: None,
            next_check: None,
            check: None,
            misses: 0,
            watched: false,
            lost_flows: 0,
            expires_min: Duration::ZERO,
            queue: VecDeque::new(),
            pacing: CallLimit::new(vec![config.registrations]),
            returning: VecDeque::new(),
            steady_checks: 0,
            no_returns_until: None,
            realm: config.realm.clone(),
            shapes: VecDeque::new(),
            answer_times: VecDeque::new(),
            samples: Samples::default(),
            turn: 0,
            query_auth: AuthState::default(),
            doubted: BTreeSet::new(),
        }
    }

    pub(crate) fn health(&self) -> PbxHealth {
        self.health
    }

    pub(crate) fn is_up(&self) -> bool {
        self.health == PbxHealth::Up
    }

    /// It is up and owes no answer to a health check.
    fn is_steady(&self) -> bool {
        self.is_up() && self.misses == 0 && self.check.is_none()
    }

    /// Whether it was down since then: it may have forgotten what it had confirmed.
    pub(crate) fn was_down_since(&self, confirmed: Option<Instant>) -> bool {
        self.back_since.is_some_and(|back| confirmed.is_none_or(|confirmed| confirmed < back))
    }

    /// Whether it is worth asking: it answers, or has not been asked yet.
    pub(crate) fn is_usable(&self) -> bool {
        self.health != PbxHealth::Down
    }

    fn answered_in(&mut self, time: Duration) {
        if self.answer_times.len() == ANSWER_TIMES {
            self.answer_times.pop_front();
        }
        self.answer_times.push_back(time);
    }

    /// One of the recent answer times.
    pub(crate) fn answer_time(&self, entropy: &mut crate::entropy::Entropy) -> Duration {
        let index = entropy.below(self.answer_times.len() as u64) as usize;
        self.answer_times.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        self.targets.iter().any(|target| target.address.ip().to_canonical() == ip)
    }
}

impl Border {
    pub(crate) fn pbx_name(&self, pbx: usize) -> String {
        self.config.pbx.get(pbx).map_or_else(String::new, |pbx| pbx.name.clone())
    }

    pub(crate) fn on_resolved(&mut self, name: ResolvedName, targets: &[Target]) {
        if targets.is_empty() {
            return self.report_unresolved(name);
        }
        self.reports.resolved(&name);
        match name {
            ResolvedName::Allowed(index) => {
                let Some(allowed) = self.config.allowed.get(index) else { return };
                let prefixes = targets.iter().map(|target| wire::net::Prefix::single(target.address.ip()));
                if self.blocking.lists_mut().set_allowed_addresses(&allowed.name, prefixes.collect()) {
                    self.lists_changed();
                }
            }
            ResolvedName::Pbx(pbx) if pbx < self.pbxs.len() => {
                self.pbxs[pbx].targets = targets.to_vec();
                self.tell_pbx_addresses();
                for target in targets {
                    self.topology.hide(&target.address.ip().to_canonical().to_string());
                }
                if !std::mem::replace(&mut self.pbxs[pbx].watched, true) {
                    self.on_health_check(pbx);
                }
                self.release_held();
            }
            ResolvedName::Pbx(_) => {}
        }
    }

    fn tell_pbx_addresses(&mut self) {
        let targets = self.pbxs.iter().flat_map(|pbx| &pbx.targets);
        let addresses = targets.map(|target| wire::net::Prefix::single(target.address.ip())).collect();
        self.outputs.push_back(Output::PbxAddresses(Arc::new(addresses)));
    }

    /// Whether a request on the inside face comes from whom it may: a PBX, a trusted server, or in a dialog
    /// the route set or remote target of that dialog (contract section 4).
    pub(crate) fn inside_source_known(&self, hop: &Hop, essentials: &Essentials<'_>) -> bool {
        let ip = hop.remote.ip().to_canonical();
        self.inside_address_known(ip) || self.dialog_knows_address(essentials, ip)
    }

    /// Whether an address on the inside face is a PBX's, or trusted.
    pub(crate) fn inside_address_known(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.is_trusted(ip) || self.pbxs.iter().any(|pbx| pbx.has_address(ip))
    }

    /// The binding that a request from the inside is for, by the token in its URI. A PBX speaks for the phones of
    /// its own domain alone, as its standby does; a trusted server speaks for all.
    pub(crate) fn called_binding(&self, hop: &Hop, uri: &str) -> Option<BindingId> {
        let id = self.bindings.by_token(Uri::parse(uri).ok()?.user?)?;
        let domain = |pbx: usize| self.config.pbx.get(pbx).map(|pbx| pbx.domain.as_str());
        let called = domain(self.bindings.binding(id)?.pbx)?;
        let ip = hop.remote.ip().to_canonical();
        let of_domain = |(pbx, state): (usize, &PbxState)| {
            state.has_address(ip) && domain(pbx).is_some_and(|own| own.eq_ignore_ascii_case(called))
        };
        let may = self.is_trusted(ip) || self.pbxs.iter().enumerate().any(of_domain);
        may.then_some(id)
    }

    pub(crate) fn is_trusted(&self, ip: IpAddr) -> bool {
        self.config.inside.trusted.iter().any(|trusted| trusted.to_canonical() == ip)
    }

    /// How a PBX is reached now. By TCP one connection is kept, opened when it is first needed.
    pub(crate) fn hop_to_pbx(&mut self, pbx: usize) -> Option<Hop> {
        let state = self.pbxs.get(pbx)?;
        let target = *state.targets.first()?;
        let kept = state.connection.filter(|flow| self.connections.leads_to(*flow, target.address));
        let hop = match kept.filter(|_| target.transport.is_reliable()) {
            Some(flow) => Hop { flow, remote: target.address, transport: Transport::Tcp },
            None => self.hop_inside(target)?,
        };
        if hop.transport.is_reliable() {
            self.pbxs[pbx].connection = Some(hop.flow);
        }
        Some(hop)
    }

    /// A connection to a PBX that ends, or cannot be made, may mean that it restarts: it is asked soon, and if
    /// that fails the same way, again after longer and longer times, until the next health check is as near.
    pub(crate) fn on_pbx_flow_lost(&mut self, flow: FlowId) {
        for pbx in 0..self.pbxs.len() {
            let state = &mut self.pbxs[pbx];
            if state.connection != Some(flow) {
                continue;
            }
            state.connection = None;
            let wait = ask_again_after(state.lost_flows);
            state.lost_flows = state.lost_flows.saturating_add(1);
            if wait < self.config.pbx[pbx].health_check {
                self.timers.arm(self.now.mono + wait, Timer::HealthCheck(pbx));
            }
            self.on_unsteady(pbx);
        }
    }

    pub(crate) fn on_health_check(&mut self, pbx: usize) {
        let next = self.now.mono + self.config.pbx[pbx].health_check;
        if self.pbxs[pbx].next_check.is_none_or(|at| at <= self.now.mono) {
            self.pbxs[pbx].next_check = Some(next);
            self.timers.arm(next, Timer::HealthCheck(pbx));
            if self.pbxs[pbx].is_up() {
                self.pbxs[pbx].lost_flows = 0;
            }
            if self.pbxs[pbx].is_steady() {
                self.on_steady(pbx);
            } else {
                self.on_unsteady(pbx);
            }
        }
        self.send_options(pbx);
        if self.pbxs[pbx].is_up() {
            self.send_query(pbx);
        }
    }

    fn send_options(&mut self, pbx: usize) {
        // It had until now to answer the one before.
        if let Some(before) = self.pbxs[pbx].check {
            self.on_check_missed(pbx, before, "it does not answer");
        }
        // What could not be sent says nothing about the PBX.
        self.pbxs[pbx].check = self.ask_whether_there(pbx);
    }

    /// Sends OPTIONS to a PBX; when that was, where it could be sent.
    pub(crate) fn ask_whether_there(&mut self, pbx: usize) -> Option<Instant> {
        let hop = self.hop_to_pbx(pbx)?;
        let domain = self.config.pbx[pbx].domain.clone();
        let cseq = self.next_cseq();
        let (branch, call_id, tag) = (self.entropy.branch(), self.entropy.word(), self.entropy.word());
        let uri = format!("sip:{domain}");
        let mut writer = Writer::request("OPTIONS", &uri);
        self.via(&mut writer, Side::Inside, &hop, &branch);
        writer.header("Max-Forwards", 70);
        writer
            .header("From", format_args!("<sip:{}>;tag={tag}", self.authority(Side::Inside, hop.transport)));
        writer.header("To", format_args!("<{uri}>"));
        writer.header("Call-ID", call_id);
        writer.header("CSeq", format_args!("{cseq} OPTIONS"));
        writer.header("Contact", format_args!("<sip:{}>", self.authority(Side::Inside, hop.transport)));
        writer.header("Accept", "application/sdp");
        let bytes = Bytes::from(writer.finish(b""));
        let sent = self.now.mono;
        let using = ClientUse::Options { pbx, sent };
        self.send_request(Prepared { hop, method: "OPTIONS", branch, bytes }, using).map(|_| sent)
    }

    /// Asks the PBX which contacts it has for one extension, in turn. Without any that we registered, it is
    /// asked for a digest extension, to learn what its challenges look like.
    fn send_query(&mut self, pbx: usize) {
        let entries: Vec<EntryId> = {
            let mut ids: Vec<EntryId> = self
                .bindings
                .iter()
                .filter(|(_, binding)| binding.pbx == pbx && binding.is_registered() && !binding.pass_through)
                .map(|(_, binding)| binding.entry)
                .collect();
            ids.dedup();
            ids
        };
        let entry = match entries.len() {
            0 if self.pbxs[pbx].shapes.is_empty() => self.entries.any_digest(),
            0 => None,
            count => {
                let turn = self.pbxs[pbx].turn % count;
                self.pbxs[pbx].turn = turn + 1;
                Some(entries[turn])
            }
        };
        if let Some(entry) = entry {
            self.send_query_for(pbx, entry);
        }
    }

    fn send_query_for(&mut self, pbx: usize, entry: EntryId) {
        let mut auth = std::mem::take(&mut self.pbxs[pbx].query_auth);
        let registration = Registration { entry, pbx, series: "query", contact: None, user_agent: None };
        let prepared = self.build_register(&registration, &mut auth);
        self.pbxs[pbx].query_auth = auth;
        if let Some(prepared) = prepared {
            self.send_request(prepared, ClientUse::Query { pbx, entry, sent: self.now.mono });
        }
    }

    pub(crate) fn on_query_response(
        &mut self,
        pbx: usize,
        (entry, sent): (EntryId, Instant),
        message: &Message<'_>,
        status: u16,
    ) {
        // A digest extension is asked for nothing but the challenge.
        if self.entries.entry(entry).config.authentication == Authentication::Digest {
            return;
        }
        match status {
            200..=299 => {
                self.pbxs[pbx].query_auth.succeeded();
                self.pbxs[pbx].doubted.remove(&entry);
                self.compare_contacts((pbx, entry), sent, message);
            }
            401 | 407 => {
                let mut auth = std::mem::take(&mut self.pbxs[pbx].query_auth);
                let challenged = self.take_challenge(pbx, entry, &mut auth, message);
                self.pbxs[pbx].query_auth = auth;
                match challenged {
                    Challenged::Retry => self.send_query_for(pbx, entry),
                    Challenged::Refused(why) => self.on_query_refused(pbx, entry, why),
                }
            }
            404 | 481 => self.compare_contacts((pbx, entry), sent, message),
            // This decides nothing, as at a registration.
            500..=599 | 408 | 480 => {}
            _ => self.on_query_refused(pbx, entry, Refusal::Status(status)),
        }
    }

    /// A PBX does not say which contacts it has. It may have none any more: they are registered anew, which it refuses
    /// too where it is no longer of one mind with us. Once, for there are PBXs that never answer this.
    fn on_query_refused(&mut self, pbx: usize, entry: EntryId, why: Refusal) {
        if !self.pbxs[pbx].doubted.insert(entry) {
            return;
        }
        self.report_query_refused(pbx, entry, why);
        let at = |binding: &Binding| binding.pbx == pbx && !binding.pass_through && binding.is_registered();
        let those: Vec<BindingId> =
            self.bindings.of_entry(entry).filter(|(_, binding)| at(binding)).map(|(id, _)| id).collect();
        for id in those {
            self.queue_registration(id);
        }
    }

    /// A list that has nothing of ours comes from a PBX that has forgotten all; one that lacks some may come
    /// from a PBX that keeps fewer.
    fn compare_contacts(&mut self, (pbx, entry): (usize, EntryId), sent: Instant, message: &Message<'_>) {
        let listed = listed_contacts(message, Duration::ZERO);
        let ours = |binding: &Binding| binding.pbx == pbx && !binding.pass_through && binding.is_registered();
        let is_listed = |binding: &Binding| listed.iter().any(|(token, _)| *token == binding.token);
        let (mut known, mut lost) = (false, false);
        for (_, binding) in self.bindings.of_entry(entry).filter(|(_, binding)| ours(binding)) {
            known |= is_listed(binding);
            lost |= !is_listed(binding);
        }
        if known {
            self.judge_contacts((entry, pbx), None, sent, &listed);
        } else if lost {
            self.pbx_lost_bindings(pbx);
        }
    }

    /// All that we had registered there is made again, at the pace that the PBX stands.
    pub(crate) fn pbx_lost_bindings(&mut self, pbx: usize) {
        let lost: Vec<BindingId> = self
            .bindings
            .iter()
            .filter(|(_, binding)| binding.pbx == pbx && !binding.pass_through && binding.is_registered())
            .map(|(id, _)| id)
            .collect();
        if lost.is_empty() {
            return;
        }
        let name = self.pbx_name(pbx);
        let count = lost.len();
        self.event(Code::PbxLostBindings, About::default(), || {
            (
                format!("PBX {name} has forgotten its registrations; {count} are made again"),
                "nothing to do, unless it happens again: then look whether the PBX keeps its bindings".into(),
            )
        });
        for id in lost {
            if let Some(binding) = self.bindings.binding_mut(id) {
                binding.inside = Inside::Waiting { until: None };
            }
            self.queue_registration(id);
        }
    }

    /// The PBX answered something: it is there.
    pub(crate) fn pbx_heard(&mut self, pbx: usize) {
        self.pbxs[pbx].check = None;
        self.pbxs[pbx].misses = 0;
        let before = std::mem::replace(&mut self.pbxs[pbx].health, PbxHealth::Up);
        if before == PbxHealth::Up {
            return;
        }
        if before == PbxHealth::Down {
            self.pbxs[pbx].back_since = Some(self.now.mono);
        }
        let name = self.pbx_name(pbx);
        self.event(Code::PbxUp, About::default(), || (format!("PBX {name} answers"), "nothing to do".into()));
        // What another could hand to nobody when it went down, this one takes now.
        for other in (0..self.pbxs.len()).filter(|other| !self.pbxs[*other].is_usable()).collect::<Vec<_>>() {
            self.move_bindings(other, pbx);
        }
        self.requeue_after_return(pbx, before == PbxHealth::Down);
        self.send_query(pbx);
        self.pump_registrations(pbx);
        self.release_held();
    }

    fn requeue_after_return(&mut self, pbx: usize, was_down: bool) {
        let waiting: Vec<BindingId> = self
            .bindings
            .iter()
            .filter(|(_, binding)| binding.pbx == pbx && !binding.pass_through && !binding.queued)
            .filter(|(_, binding)| was_down || matches!(binding.inside, Inside::Waiting { .. }))
            .map(|(id, _)| id)
            .collect();
        for id in waiting {
            self.queue_registration(id);
        }
    }

    /// A health check was not answered: by its time-out or the next one, whichever comes first, once.
    pub(crate) fn on_check_missed(&mut self, pbx: usize, sent: Instant, why: &str) {
        if self.pbxs[pbx].check != Some(sent) {
            return;
        }
        self.pbxs[pbx].check = None;
        self.pbxs[pbx].misses += 1;
        if self.pbxs[pbx].misses >= MISSES_DOWN || !self.pbxs[pbx].is_up() {
            self.pbx_down(pbx, why);
        }
    }

    /// Another request was not answered, or could not be sent. One that was heard before is judged by its
    /// health checks alone.
    pub(crate) fn pbx_missed(&mut self, pbx: usize, why: &str) {
        if !self.pbxs[pbx].is_up() {
            self.pbx_down(pbx, why);
        }
    }

    pub(crate) fn pbx_down(&mut self, pbx: usize, why: &str) {
        if std::mem::replace(&mut self.pbxs[pbx].health, PbxHealth::Down) == PbxHealth::Down {
            return;
        }
        self.pbxs[pbx].doubted.clear();
        let name = self.pbx_name(pbx);
        let why = why.to_owned();
        let asked = self.pbxs[pbx].targets.first().copied();
        self.event(Code::PbxDown, About::default(), || {
            let at =
                asked.map(|Target { address, transport }| format!(" ({address}, {})", transport.as_str()));
            let at = at.unwrap_or_default();
            (
                format!("PBX {name}{at} is down: {why}; phones that are registered stay so"),
                "look whether the PBX runs and can be reached from the inside address, or correct its `uri`"
                    .into(),
            )
        });
        self.on_unsteady(pbx);
        match self.preferred_pbx() {
            Some(other) => self.move_bindings(pbx, other),
            None => self.answer_waiting_at(pbx),
        }
        self.release_held();
        self.fail_unanswered(pbx);
    }

    /// Nobody is left who could answer them: known phones stay registered, new ones come again.
    fn answer_waiting_at(&mut self, pbx: usize) {
        let waiting: Vec<BindingId> = self
            .bindings
            .iter()
            .filter(|(_, binding)| binding.pbx == pbx && !binding.waiting.is_empty())
            .map(|(id, _)| id)
            .collect();
        for id in waiting {
            self.answer_waiting(id);
        }
    }

    /// Keeps what the challenges of a PBX look like and how long they take.
    pub(crate) fn learn_challenge(&mut self, pbx: usize, sent: Instant, message: &Message<'_>) {
        if crate::digest::challenges_of(message).next().is_some() {
            self.pbxs[pbx].answered_in(self.now.mono - sent);
            // One that only renews a nonce is no answer to somebody who comes for the first time.
            if crate::digest::challenges_of(message).any(|(_, value)| crate::digest::is_stale(value)) {
                return;
            }
            let domain = self.config.pbx[pbx].domain.clone();
            let shapes = &mut self.pbxs[pbx].shapes;
            if shapes.len() == crate::decoy::SHAPES {
                shapes.pop_front();
            }
            shapes.push_back(ChallengeShape::of(message, &self.topology, &domain, self.now.mono));
        }
    }
}
