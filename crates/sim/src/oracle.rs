//! What must hold after every step. Each part has its own rules; this one hands them what was seen.
//!
//! Oracles see what anybody on the wire could see, and the border's own counts; never its inner state. Each
//! message is read once.

mod answers;
mod balance;
mod blocks;
mod callers;
mod changes;
mod contacts;
mod forged;
mod forwarding;
mod giving_up;
mod halves;
mod hanging;
mod hiding;
mod limits;
mod needles;
mod pacing;
mod places;
mod quiet;
mod repeats;
mod requests;
mod retry;
mod route_sets;
mod routing;
mod series;
mod slots;
mod strangers;
mod thieves;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use border::command::{RegistrationView, StatusView};
use border::config::Config;
use border::{Code, Command, Event, Output};
use media::RelayId;
use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::scenery;
use crate::text::Text;
use crate::words;

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub oracle: &'static str,
    /// What was seen.
    pub seen: String,
    /// The tag or Call-ID of the call concerned, empty where there is none.
    pub call: String,
}

impl Violation {
    pub(crate) fn new(oracle: &'static str, seen: impl Into<String>) -> Self {
        Self { oracle, seen: seen.into(), call: String::new() }
    }

    pub(crate) fn of(oracle: &'static str, seen: impl Into<String>, text: &Text) -> Self {
        Self { oracle, seen: seen.into(), call: text.from_tag().to_owned() }
    }
}

/// One message that the border sent.
pub struct Sent<'a> {
    /// On which face.
    pub side: Side,
    /// On which flow.
    pub flow: FlowId,
    /// To whom.
    pub to: SocketAddr,
    /// What.
    pub bytes: &'a [u8],
    /// When.
    pub now: Instant,
}

/// One message that came or went, and was read.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// On which face.
    pub(crate) side: Side,
    /// On which flow.
    pub(crate) flow: FlowId,
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// As it travelled.
    pub(crate) bytes: &'a [u8],
    /// As it reads.
    pub(crate) text: &'a Text,
    /// When.
    pub(crate) now: Instant,
}

impl Seen<'_> {
    fn is_udp(&self) -> bool {
        matches!(self.flow, scenery::LISTEN_OUTSIDE_UDP | scenery::LISTEN_INSIDE_UDP)
    }
}

/// All oracles and what they remember.
#[derive(Debug, Default)]
pub struct Oracles {
    answers: answers::Answers,
    balance: balance::Balance,
    blocks: blocks::Blocks,
    callers: callers::Callers,
    changes: changes::Changes,
    contacts: contacts::Contacts,
    forged: forged::Forged,
    forwarding: forwarding::Forwarding,
    giving_up: giving_up::GivingUp,
    halves: halves::Halves,
    hanging: hanging::Hanging,
    hiding: hiding::Hiding,
    limits: limits::Limits,
    pacing: pacing::Pacing,
    places: places::Places,
    quiet: quiet::Quiet,
    repeats: repeats::Repeats,
    requests: requests::Requests,
    retry: retry::Retry,
    route_sets: route_sets::RouteSets,
    routing: routing::Routing,
    series: series::Series,
    slots: slots::Slots,
    strangers: strangers::Strangers,
    thieves: thieves::Thieves,
    /// Relays that were ordered, and of which neither an end nor a failure was reported.
    relays: BTreeSet<RelayId>,
    closing: BTreeSet<RelayId>,
    /// From tags of INVITEs that were accepted and whose dialog nobody has ended yet, to find a call by.
    talking: BTreeSet<String>,
    /// Requests that went by more than one proxy.
    by_proxies: u64,
    recent: VecDeque<String>,
}

impl Oracles {
    /// Oracles that have seen nothing.
    pub fn new(config: &Config) -> Self {
        let mut oracles = Self::default();
        oracles.limits.on_config(config);
        oracles.contacts.on_start(config.registration.max_contacts);
        oracles.pacing.on_start(config.pbx.first().map(|pbx| pbx.registrations));
        oracles
    }

    /// A message reached the border.
    pub fn on_arrival(&mut self, side: Side, flow: FlowId, from: SocketAddr, bytes: &[u8], now: Instant) {
        // what comes from a blocked source, or on a flow that the border has closed, it does not see
        let outside = side == Side::Outside;
        if self.routing.is_closed(flow) || (outside && self.routing.is_silenced(flow, from.ip())) {
            return;
        }
        let Some(text) = Text::parse(bytes) else {
            return self.balance.on_unreadable(flow, from.ip(), bytes, now);
        };
        let seen = Seen { side, flow, peer: from, bytes, text: &text, now };
        self.balance.on_arrival(&seen);
        self.requests.on_arrival(&seen);
        self.answers.on_arrival(&seen);
        self.blocks.on_arrival(&seen);
        self.callers.on_arrival(&seen);
        self.changes.on_arrival(&seen);
        self.contacts.on_arrival(&seen);
        self.forwarding.on_arrival(&seen);
        self.giving_up.on_arrival(&seen);
        self.halves.on_arrival(&seen);
        self.hiding.on_arrival(&seen);
        self.limits.on_arrival(&seen);
        self.pacing.on_arrival(&seen);
        self.quiet.on_arrival(&seen);
        self.repeats.on_arrival(&seen);
        self.retry.on_arrival(&seen);
        self.route_sets.on_arrival(&seen);
        self.routing.on_arrival(&seen);
        self.series.on_arrival(&seen);
        self.thieves.on_arrival(&seen);
        self.slots.on_arrival(&seen);
    }

    /// A datagram in another's name reached the border. Where it can be no more than answered, it says nothing to the
    /// other rules.
    pub(crate) fn on_forged(&mut self, flow: FlowId, from: SocketAddr, bytes: &[u8], now: Instant) {
        if self.routing.is_silenced(flow, from.ip()) {
            return;
        }
        let Some(text) = Text::parse(bytes) else { return };
        self.forged.on_arrival(from, &text, self.places.is_registered(flow, from));
        self.blocks.on_forged(from);
        let seen = Seen { side: Side::Outside, flow, peer: from, bytes, text: &text, now };
        self.contacts.on_arrival(&seen);
        self.balance.on_forged(&seen);
        if text.code().is_none() && text.method() != "ACK" {
            self.answers.on_arrival(&seen);
        }
        if self.forged.begins() {
            self.halves.on_arrival(&seen);
            self.limits.on_arrival(&seen);
            self.slots.on_arrival(&seen);
            self.retry.on_arrival(&seen);
            self.route_sets.on_arrival(&seen);
            self.routing.on_arrival(&seen);
        }
    }

    /// Something that the border wants, before it is carried out.
    pub(crate) fn on_output(&mut self, output: &Output, outside: bool) -> Result<(), Violation> {
        self.forged.on_output(output, outside)
    }

    /// Whether somebody waits for his answer on a connection.
    pub(crate) fn waits_on(&self, flow: FlowId) -> bool {
        self.requests.waits_on(flow)
    }

    /// The border hears of a connection.
    pub(crate) fn on_opened(&mut self, side: Side, flow: FlowId, from: SocketAddr, now: Instant) {
        self.strangers.on_opened(flow, from.ip(), now);
        if side == Side::Outside {
            self.blocks.on_opened(flow, from);
        }
    }

    /// Bytes of a connection, whatever they are.
    pub(crate) fn on_heard(&mut self, flow: FlowId, from: SocketAddr, length: usize, now: Instant) {
        self.strangers.on_heard(flow);
        if scenery::is_scanner(from.ip()) {
            self.balance.on_heard(flow, from.ip(), length, now);
        }
    }

    /// A connection is gone: nobody waits there any more. `lost`: it was not the border that closed it.
    pub fn on_closed(&mut self, flow: FlowId, lost: bool, now: Instant) {
        let lost_at = lost.then_some(now);
        self.slots.on_closed(flow, now);
        self.balance.on_closed(flow);
        self.routing.on_closed(flow);
        self.series.on_closed(flow, lost_at);
        self.requests.on_closed(flow);
        self.limits.on_closed(flow);
        self.places.on_closed(flow);
        self.strangers.on_closed(flow);
        self.repeats.on_closed(flow);
    }

    /// The block list changed.
    pub fn on_lists(
        &mut self,
        blocked: &PrefixSet,
        allowed: &PrefixSet,
        spared: &[FlowId],
        now: Instant,
    ) -> Result<(), Violation> {
        self.balance.on_lists(blocked, now);
        self.routing.on_lists(blocked, spared);
        self.halves.on_lists(blocked, spared, now, &self.blocks.hosts_of(spared));
        self.requests.on_lists(blocked);
        self.repeats.on_lists(blocked, now);
        self.answers.on_lists(blocked);
        self.series.on_lists(blocked);
        self.blocks.on_lists((blocked, allowed), spared, now)
    }

    /// An address that somebody has, after the block list changed.
    pub(crate) fn judge_block(&self, ip: IpAddr) -> Result<(), Violation> {
        self.blocks.judge(ip)
    }

    /// The operator gives an order.
    pub(crate) fn on_command(&mut self, command: &Command) {
        self.blocks.on_order(command);
    }

    /// A phone registered at a place, or the last one there is gone.
    pub(crate) fn on_place(&mut self, flow: FlowId, source: SocketAddr, registered: bool) {
        self.contacts.on_place(registered);
        self.places.on_place(flow, source, flow == scenery::LISTEN_OUTSIDE_UDP, registered);
    }

    /// What comes from there goes by the lane that strangers cannot fill.
    pub(crate) fn is_registered(&self, flow: FlowId, source: SocketAddr) -> bool {
        self.places.is_registered(flow, source)
    }

    /// Whether places changed since this was asked last.
    pub(crate) fn places_changed(&mut self) -> bool {
        self.places.take_changed() | self.contacts.is_unsure()
    }

    /// Nobody keeps the place of a registered phone, and each registered phone has one.
    pub(crate) fn places_are_those_of(
        &mut self,
        registrations: &[RegistrationView],
    ) -> Result<(), Violation> {
        self.contacts.on_registrations(registrations)?;
        self.places.are_those_of(registrations)
    }

    /// A relay was ordered.
    pub fn on_relay_ordered(&mut self, relay: RelayId) {
        self.relays.insert(relay);
    }

    /// A relay was given up: its ports come back soon.
    pub(crate) fn on_relay_given_up(&mut self, relay: RelayId) {
        self.closing.insert(relay);
    }

    /// Relays that are wanted.
    pub(crate) fn relays_wanted(&self) -> usize {
        self.relays.difference(&self.closing).count()
    }

    /// A relay is reported closed, or failed; of one that failed a later order is answered as well.
    pub fn on_relay_ended(&mut self, relay: RelayId) {
        self.relays.remove(&relay);
        self.closing.remove(&relay);
    }

    /// Every rule about one message that the border sends; the message, where it can be read.
    pub fn on_sent(&mut self, sent: &Sent<'_>) -> Result<Option<Text>, Violation> {
        self.routing.on_bytes(sent, !self.blocks.blocks(sent.to.ip()))?;
        self.hiding.on_bytes(sent)?;
        let Some(text) = Text::parse(sent.bytes) else { return Ok(None) };
        let Sent { side, flow, to, bytes, now } = *sent;
        let seen = Seen { side, flow, peer: to, bytes, text: &text, now };
        self.note_dialog(&text);
        self.answers.on_sent(&seen)?;
        self.balance.on_sent(&seen);
        self.blocks.on_sent(&seen);
        self.callers.on_sent(&seen)?;
        self.changes.on_sent(&seen);
        self.contacts.on_sent(&seen)?;
        self.giving_up.on_final_answer(&seen)?;
        self.giving_up.on_sent(&seen);
        self.halves.on_sent(&seen);
        self.hanging.on_sent(&seen);
        self.hiding.on_sent(&seen)?;
        self.limits.on_sent(&seen)?;
        self.pacing.on_sent(&seen)?;
        self.repeats.on_sent(&seen)?;
        self.requests.on_sent(&seen)?;
        self.retry.on_sent(&seen)?;
        self.routing.on_sent(&seen)?;
        self.quiet.on_sent(&seen)?;
        self.series.on_sent(&seen)?;
        self.thieves.on_sent(&seen)?;
        self.slots.on_sent(&seen);
        self.forwarding.on_sent(&seen)?;
        self.by_proxies += u64::from(self.route_sets.on_sent(&seen)?);
        Ok(Some(text))
    }

    fn note_dialog(&mut self, text: &Text) {
        match (text.method(), text.code()) {
            ("INVITE", Some(200..=299)) => {
                self.talking.insert(text.from_tag().to_owned());
            }
            ("BYE", Some(200..)) => {
                self.talking.remove(text.from_tag());
                self.talking.remove(text.to_tag());
            }
            _ => {}
        }
    }

    /// In the end, for each INVITE that the border took on and whose sender is still there.
    pub fn every_invite_is_answered(&self) -> Result<(), Violation> {
        self.answers.every_invite_is_answered(|flow, source| self.routing.is_gone(flow, source))
    }

    /// How many requests went by more than one proxy.
    pub(crate) fn by_proxies(&self) -> u64 {
        self.by_proxies
    }

    /// Every rule about what does not happen for too long, after each step.
    pub fn nothing_is_overdue(&mut self, now: Instant) -> Result<(), Violation> {
        self.forged.on_step();
        self.requests.nobody_waits(now)?;
        self.strangers.nobody_stays(now)?;
        self.series.the_pbx_is_heeded()?;
        self.retry.every_limit_is_said()?;
        self.repeats.nothing_is_overdue(now)?;
        self.answers.every_repetition_is_answered()?;
        self.blocks.on_step(now)?;
        self.hanging.nothing_hangs(now, |flow, source| self.routing.is_gone(flow, source))?;
        self.changes.nothing_is_overdue(now, |flow, source| self.routing.is_gone(flow, source))?;
        self.giving_up.nothing_is_overdue(|flow, source| self.routing.is_gone(flow, source))?;
        self.halves.none_outlives_the_other(now, |flow| self.routing.is_closed(flow))
    }

    /// Transactions that were opened on the wire and have not ended there are those that the border has; true where it
    /// is certain how many these are.
    pub(crate) fn transactions_balance(&mut self, live: usize, now: Instant) -> Result<bool, Violation> {
        self.balance.transactions_are(live, now)
    }

    /// Whether a look at the places of calls may say anything new.
    pub(crate) fn slots_are_due(&mut self, now: Instant) -> bool {
        self.slots.is_due(now)
    }

    /// Each place that the border counts for an extension is that of a call on the wire, and each call there has one.
    pub(crate) fn slots_balance<'a>(
        &mut self,
        places: impl Iterator<Item = (&'a str, usize)>,
        now: Instant,
    ) -> Result<(), Violation> {
        self.slots.places_are(places, now)
    }

    /// What was opened and not closed is what is there; and what is there is counted.
    pub fn counts_balance(
        &self,
        status: &StatusView,
        in_plane: usize,
        at_rest: bool,
    ) -> Result<(), Violation> {
        let live = self.relays.len();
        if status.relays != live {
            return Err(Violation::new(
                "relays balance",
                format!("open are {:?}, the border counts {}", self.relays, status.relays),
            ));
        }
        if self.halves.live() > 0 && status.calls == 0 {
            return Err(Violation {
                oracle: "no call is forgotten",
                seen: format!("{} calls were answered and not ended, none is there", self.halves.live()),
                call: self.halves.a_live_one().cloned().unwrap_or_default(),
            });
        }
        if at_rest && (live != 0 || in_plane != 0 || status.calls != 0) {
            return Err(Violation {
                oracle: "at rest",
                seen: format!("{} calls, {live} relays, {in_plane} in the media plane", status.calls),
                call: self.talking.first().cloned().unwrap_or_default(),
            });
        }
        Ok(())
    }

    /// An event for the operator; an extension, where a call was refused because so many are up.
    pub fn on_event(&mut self, event: &Event, now: Instant) -> Result<Option<String>, Violation> {
        let words = format!("{:.3} {}", words::seconds(now), words::of_event(event));
        self.recall(words.clone());
        self.hiding.no_password(format!("{event:?}").as_bytes())?;
        self.blocks.on_event(event, now)?;
        self.retry.on_event(event);
        self.series.on_event(event, now)?;
        self.contacts.on_event(event, now)?;
        // no PBX of this world keeps one contact alone, and only some ask for a realm that was not agreed
        let realms = event.code == Code::RealmChanged && !self.hiding.saw_foreign_realm();
        if event.code == Code::PbxSingleContact || realms {
            return Err(Violation::new("no PBX is blamed wrongly", words));
        }
        let (Code::CallLimited, Some(extension), Some(rule)) = (event.code, &event.extension, &event.rule)
        else {
            return Ok(None);
        };
        match rule.rsplit(' ').next().and_then(|rule| rule.parse().ok()) {
            Some(rule) => self.limits.refused_by_rule(extension, rule, now).map(|()| None),
            None => Ok(Some(extension.clone())),
        }
    }

    /// Somebody whom the border has blocked by itself.
    pub(crate) fn a_blocked_source(&self) -> Option<IpAddr> {
        self.blocks.an_automatic_one()
    }

    /// A call of an extension was refused while so many were up.
    pub fn refused_by_number(&self, extension: &str, up: usize) -> Result<(), Violation> {
        self.limits.refused_by_number(extension, up)
    }

    /// No password in what an operator reads, nor anywhere else.
    pub fn on_words(&mut self, words: &str) -> Result<(), Violation> {
        self.recall(words.to_owned());
        self.hiding.no_password(words.as_bytes())
    }

    fn recall(&mut self, words: String) {
        self.recent.push_back(words);
        if self.recent.len() > 40 {
            self.recent.pop_front();
        }
    }

    /// The last events, for a failure's report.
    pub fn recent_events(&self) -> impl Iterator<Item = &str> {
        self.recent.iter().map(String::as_str)
    }

    /// A PBX begins anew.
    pub(crate) fn on_pbx_restart(&mut self, now: Instant) {
        self.repeats.on_pbx_restart(now);
    }

    /// The border begins anew, perhaps with another configuration: its transactions are over.
    pub fn on_restart(&mut self, config: &Config, durable: bool) {
        self.blocks.on_restart(durable);
        self.requests.on_restart();
        self.changes.on_restart();
        self.hanging.on_restart();
        self.retry.on_restart();
        self.answers.on_restart();
        self.balance.on_restart();
        self.halves.on_restart();
        self.repeats.on_restart();
        self.limits.on_restart();
        self.places.on_restart();
        self.strangers.on_restart();
        self.limits.on_config(config);
        self.contacts.on_start(config.registration.max_contacts);
        self.pacing.on_start(config.pbx.first().map(|pbx| pbx.registrations));
        self.route_sets.on_restart();
        self.routing.on_restart();
        self.giving_up.on_restart();
        self.quiet.on_restart();
        self.series.on_restart();
        self.slots.on_restart();
        self.relays.clear();
        self.closing.clear();
    }
}

/// A timer that was served does not ask again at once.
pub fn next_timeout_is_later(next: Option<Instant>, now: Instant) -> Result<(), Violation> {
    match next {
        Some(at) if at <= now => Err(Violation::new(
            "next timeout",
            format!("it wants {:.6} s, and it is {:.6} s", words::seconds(at), words::seconds(now)),
        )),
        _ => Ok(()),
    }
}
