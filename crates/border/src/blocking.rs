//! Who is blocked, and what leads to it: offences, and the lists of the operator. What a block ends stands in
//! `cut_off.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use guard::{AllowEntry, BlockEntry, BlockKind, BlockPolicy, Guard, Offence, OffenceOutcome, VerifiedSource};
use sip::Hop;
use wire::clock::Instant;
use wire::net::{FlowId, Transport};

use crate::Border;
use crate::control::in_words;
use crate::event::Code;
use crate::interface::Output;
use crate::report::About;
use crate::timers::{Deadline, Timer, Timers};

/// The lists, and when their changes are carried out.
pub(crate) struct Blocking {
    lists: Guard,
    /// Changes that nobody ordered wait until then.
    not_before: Option<Instant>,
    deadline: Deadline,
}

/// How soon after one change that nobody ordered the next is carried out: each costs a look at all that is open, and
/// strangers bring them about as often as they have addresses.
const PAUSE: Duration = Duration::from_millis(100);

impl Blocking {
    pub(crate) fn new(policy: BlockPolicy) -> Self {
        Self { lists: Guard::new(policy), not_before: None, deadline: Deadline::default() }
    }

    /// Who is blocked, allowed, and suspected.
    pub(crate) fn lists(&self) -> &Guard {
        &self.lists
    }

    /// The same, to be changed; whoever blocks or allows somebody then calls [`Border::lists_changed`].
    pub(crate) fn lists_mut(&mut self) -> &mut Guard {
        &mut self.lists
    }

    /// Whether a change that nobody ordered waits for a while; else the next one will.
    fn put_off(&mut self, now: Instant, timers: &mut Timers) -> bool {
        if let Some(until) = self.not_before.filter(|until| now < *until) {
            self.deadline.set(until, Timer::Lists, timers);
            return true;
        }
        self.not_before = Some(now + PAUSE);
        false
    }

    /// All changes so far are carried out: none waits any more.
    pub(crate) fn carried_out(&mut self, timers: &mut Timers) {
        self.deadline.clear(Timer::Lists, timers);
    }

    /// What `net` and the media plane are told; `spared` are the flows that a block does not hold for.
    pub(crate) fn told(&self, spared: Arc<[FlowId]>) -> Output {
        let (blocked, allowed) = self.lists.sets();
        Output::Lists { blocked: Arc::new(blocked), allowed: Arc::new(allowed), spared }
    }
}

impl Border {
    /// An offence: an event, and a mark against the source where it has proved its address.
    pub(crate) fn offence(
        &mut self,
        hop: &Hop,
        proof: Option<VerifiedSource>,
        code: Code,
        about: About,
        words: impl FnOnce() -> (String, String),
    ) {
        let port = self.local_port(hop);
        self.offence_at(hop.remote, hop.transport, port, proof, code, about, words);
    }

    #[expect(clippy::too_many_arguments, reason = "one row of the block list has as many columns")]
    pub(crate) fn offence_at(
        &mut self,
        source: SocketAddr,
        transport: Transport,
        port: u16,
        proof: Option<VerifiedSource>,
        code: Code,
        about: About,
        words: impl FnOnce() -> (String, String),
    ) {
        let about = About { source: Some(source), ..about };
        let Some(proof) = proof else { return self.event(code, about, words) };
        // What counts is said in full: it is the evidence of the block that it may lead to.
        let (text, next_step) = words();
        let detail = text.clone();
        self.event(code, about, || (text, next_step));
        let offence = Offence { code: code.as_str(), transport, port, detail };
        let outcome = self.blocking.lists_mut().offence(proof, offence, self.now);
        match outcome {
            OffenceOutcome::Exempt | OffenceOutcome::Counted | OffenceOutcome::AlreadyBlocked => {}
            OffenceOutcome::First => {
                self.event(Code::Detected, About::source(source).rule(code.as_str()), || {
                    (
                        "first offence of this source".into(),
                        "nothing to do: it is blocked if it goes on".into(),
                    )
                })
            }
            OffenceOutcome::Blocked(entry) => self.on_blocked(entry, source),
        }
    }

    fn on_blocked(&mut self, entry: BlockEntry, source: SocketAddr) {
        let time = in_words(entry.length);
        self.event(Code::Blocked, About::source(source).rule(entry.code.clone()), || {
            (
                format!("{} is blocked for {time}: {}", entry.prefix, entry.evidence),
                format!(
                    "if it is one of yours: mend what it did, then `portcullis block remove {0}`; `block allow {0}` only \
                     where it may never be blocked",
                    entry.prefix
                ),
            )
        });
        self.persist_block(&entry);
        self.drop_forgotten_blocks();
        self.lists_changed_by_themselves();
    }

    /// Carries a change out that nobody ordered, at once or soon, with all others until then. Whoever is blocked is
    /// neither heard nor answered from now on, whenever that is.
    fn lists_changed_by_themselves(&mut self) {
        if !self.blocking.put_off(self.now.mono, &mut self.timers) {
            self.lists_changed();
        }
    }

    pub(crate) fn on_lists_timer(&mut self) {
        let now = self.now.mono;
        if self.blocking.deadline.fired(now, Timer::Lists, &mut self.timers) {
            self.lists_changed_by_themselves();
        }
    }

    /// What the lists no longer know, be it that another entry had to go from a full one: its record goes too.
    pub(crate) fn drop_forgotten_blocks(&mut self) {
        let displaced = self.blocking.lists_mut().take_displaced().map(|displaced| displaced.prefix);
        let forgotten = self.blocking.lists_mut().take_forgotten();
        for prefix in forgotten.into_iter().chain(displaced) {
            self.persist_block_end(prefix);
        }
    }

    /// Whether nothing from this source may be answered now.
    pub(crate) fn is_blocked(&self, flow: FlowId, source: SocketAddr) -> bool {
        self.blocking.lists.is_blocked(source.ip()) && !self.is_spared(flow)
    }

    /// Whether a flow of a blocked source goes on: its device proved itself, and the operator did not block it
    /// himself.
    pub(crate) fn is_spared(&self, flow: FlowId) -> bool {
        self.flows.flow(flow).is_some_and(|flow| {
            let by = flow.authenticated.then(|| self.blocking.lists.blocked_by(flow.tuple.remote.ip()));
            by.flatten() == Some(BlockKind::Automatic)
        })
    }

    fn local_port(&self, hop: &Hop) -> u16 {
        match self.flows.flow(hop.flow) {
            Some(flow) => flow.tuple.local.port(),
            None => self.flows.udp(hop.flow).map_or(0, |listener| listener.local.port()),
        }
    }

    pub(crate) fn allow_configured(&mut self) {
        for allowed in self.config.allowed.clone() {
            let entry = AllowEntry {
                name: allowed.name,
                description: allowed.description,
                address: allowed.address,
                prefixes: allowed.prefixes,
                from_config: true,
            };
            if self.blocking.lists_mut().allow(entry).is_err() {
                self.outputs.push_back(Output::Fault("the configured allow list does not fit the guard"));
            }
        }
    }

    /// Blocks whose time is over.
    pub(crate) fn on_blocks_ended(&mut self) {
        let ended = self.blocking.lists_mut().handle_timeout(self.now);
        let changed = !ended.is_empty();
        for entry in ended {
            match entry.kind {
                BlockKind::Automatic => self.persist_past_block(&entry),
                BlockKind::Manual => drop(self.persist_block_end(entry.prefix)),
            }
            self.report_unblocked(&entry, "its time is over");
        }
        self.drop_forgotten_blocks();
        if changed {
            self.lists_changed_by_themselves();
        }
    }

    /// The operator lifts a block; the ticket of the write that makes that last.
    pub(crate) fn lift_block(&mut self, entry: &BlockEntry, how: &'static str) -> u64 {
        self.drop_forgotten_blocks();
        self.report_unblocked(entry, how);
        self.persist_block_end(entry.prefix)
    }

    fn report_unblocked(&mut self, entry: &BlockEntry, how: &'static str) {
        let prefix = entry.prefix;
        self.event(Code::Unblocked, About::default().rule(entry.code.clone()), || {
            (format!("{prefix} is no longer blocked: {how}"), "nothing to do".into())
        });
    }

    pub(crate) fn restore_block(&mut self, entry: BlockEntry) {
        if self.blocking.lists_mut().restore(entry.clone(), self.now) {
            return self.drop_forgotten_blocks();
        }
        if self.restore_past_block(&entry) {
            self.persist_past_block(&entry);
        }
    }

    /// Whether a block that is over still counts; its record goes where it does not.
    pub(crate) fn restore_past_block(&mut self, entry: &BlockEntry) -> bool {
        let counts = self.blocking.lists_mut().remember(entry, self.now);
        if !counts {
            self.persist_block_end(entry.prefix);
        }
        self.drop_forgotten_blocks();
        counts
    }
}
