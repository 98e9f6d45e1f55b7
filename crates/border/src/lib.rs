//! Decides: registrar to the phones, user agent to the PBX, calls as pairs of legs, the inside hidden.
//!
//! Owns every extension's state: bindings, calls, limits. Never does I/O, never reads a clock, never lets an
//! inside address or header leave on the outside, never holds a call without a timer. A peer cannot make it
//! return an error: what is wrong with a message becomes an answer, an event, or nothing.
//!
//! ```text
//! let mut border = Border::new(config, seed, restored_records, now);
//! border.handle_input(input, now);          // something happened
//! border.handle_timeout(now);               // poll_timeout() has come
//! while let Some(output) = border.poll_output() { … }
//! ```
//!
//! Start reading at `ingress.rs`, then `registrar.rs` for a REGISTER and `call.rs` for an INVITE.
//! RFC 3261, 3264, 3581, 5626, 7616.
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

mod answer;
mod binding;
mod blocking;
mod body;
mod call;
mod challenged;
mod clients;
mod clock_step;
pub mod command;
pub mod config;
mod control;
mod cut_off;
mod decoy;
mod dialog_map;
mod digest;
pub mod drop_reason;
mod entropy;
mod entry;
pub mod event;
mod expired_device;
mod failover;
mod flow;
mod forward;
mod forward_response;
mod host_search;
mod host_text;
mod ingress;
mod inside_registration;
mod inside_route;
mod inspection;
pub mod interface;
mod keys;
mod made_up;
mod media_plan;
mod node;
mod out_of_dialog;
mod outgoing;
mod pass_through;
mod paused;
mod pbx;
mod record;
mod refusal;
mod refused_media;
mod registrar;
mod relays;
mod replaces;
mod report;
mod response;
mod room;
mod samples;
mod server_certificate;
mod single_contact;
#[cfg(test)]
mod tests;
mod timers;
mod topology;
mod unanswered;

use std::collections::VecDeque;

use sip::TransactionLayer;
use wire::clock::{Instant, Now};

pub use command::{Answer, Command};
pub use config::Config;
pub use drop_reason::{DropCounts, DropReason};
pub use event::{Code, Event, Severity};
pub use interface::{Input, Output, Record, ResolvedName, Table, Target};
pub use record::{UnreadableRecord, check_records};

use crate::timers::{Timer, Timers};

/// Transactions at once, both faces together.
const TRANSACTIONS_MAX: usize = 200_000;

/// The whole border: one value, one owner thread.
pub struct Border {
    config: Config,
    now: Now,
    clock: clock_step::ClockWatch,
    outputs: VecDeque<Output>,
    timers: Timers,
    entropy: entropy::Entropy,
    keys: keys::Keys,
    transactions: TransactionLayer,
    clients: clients::Clients,
    flows: flow::Flows,
    authorities: flow::Authorities,
    connections: outgoing::Connections,
    blocking: blocking::Blocking,
    entries: entry::Entries,
    bindings: binding::BindingTable,
    pbxs: Vec<pbx::PbxState>,
    held: failover::Held,
    forwards: forward::Forwards,
    unanswered: unanswered::Unanswered,
    calls: call::CallTable,
    relays: relays::Relays,
    dialogs: dialog_map::DialogMap,
    decoys: decoy::Decoys,
    room: room::Room,
    passing: pass_through::Passing,
    writes: record::Writes,
    node: node::NodeRecords,
    reports: report::Reports,
    drops: DropCounts,
    server_certificate: Option<server_certificate::ServerCertificate>,
    topology: topology::Topology,
}

impl Border {
    /// A border with the facts that its store had kept. `seed` comes from the operating system's generator;
    /// the same seed and inputs give the same outputs.
    pub fn new(config: Config, seed: [u8; 32], restored: Vec<Record>, now: Now) -> Self {
        let mut entropy = entropy::Entropy::new(seed);
        let kept = record::Kept::read(restored);
        let secret = kept.secret.unwrap_or_else(|| entropy.bytes());
        let unsaved = kept.secret.is_none().then_some(secret);
        let start = entropy.bytes();
        let mut border = Self {
            topology: topology::Topology::new(&config),
            entries: entry::Entries::new(&config.extensions),
            pbxs: config.pbx.iter().map(pbx::PbxState::new).collect(),
            held: failover::Held::new(now.mono),
            blocking: blocking::Blocking::new(config.block),
            now,
            clock: clock_step::ClockWatch::new(now),
            outputs: VecDeque::new(),
            timers: Timers::default(),
            entropy,
            keys: keys::Keys::new(&secret, &start),
            transactions: TransactionLayer::new(TRANSACTIONS_MAX),
            clients: clients::Clients::default(),
            authorities: flow::Authorities::new(config.faces(), &flow::Flows::default()),
            flows: flow::Flows::default(),
            connections: outgoing::Connections::default(),
            bindings: binding::BindingTable::default(),
            forwards: forward::Forwards::default(),
            unanswered: unanswered::Unanswered::default(),
            calls: call::CallTable::default(),
            relays: relays::Relays::default(),
            dialogs: dialog_map::DialogMap::default(),
            decoys: decoy::Decoys::default(),
            room: room::Room::default(),
            passing: pass_through::Passing::default(),
            writes: record::Writes::default(),
            node: node::NodeRecords::new(kept.cseq, unsaved, now.wall),
            reports: report::Reports::default(),
            drops: DropCounts::default(),
            server_certificate: config
                .outside
                .certificate_ends
                .map(server_certificate::ServerCertificate::new),
            config,
        };
        border.restore(kept);
        if border.server_certificate.is_some() {
            border.timers.arm(now.mono, Timer::ServerCertificate);
        }
        border
    }

    /// Takes in one thing that happened. Never fails: a peer cannot cause an error here.
    pub fn handle_input(&mut self, input: Input<'_>, now: Now) {
        self.tell_time(now);
        match input {
            Input::Listening { flow, side, transport, local } => {
                self.flows.listen(flow::Listener { flow, side, transport, local });
                self.authorities = flow::Authorities::new(self.config.faces(), &self.flows);
            }
            Input::FlowOpened { flow, side, tuple, device } => self.on_flow_opened(flow, side, tuple, device),
            Input::HandshakeFailed { tuple, fault, detail } => {
                self.on_handshake_failed(tuple, fault, &detail)
            }
            Input::Flood { source, transport, port, refused } => {
                self.on_flood(source, transport, port, refused);
            }
            Input::SourceLimited { source, refused } => self.on_source_limited(source, refused),
            Input::FilesExhausted => self.on_files_exhausted(),
            Input::Bytes { flow, from, bytes } => self.on_bytes(flow, from, bytes),
            Input::FlowFailed { flow } | Input::FlowClosed { flow } => self.on_flow_closed(flow),
            Input::Media(event) => self.on_relay_event(event),
            Input::Stored { ticket, ok } => self.on_stored(ticket, ok),
            Input::Resolved { name, targets } => self.on_resolved(name, &targets),
            Input::Command { id, command } => self.on_command(id, command),
        }
        self.settle();
    }

    /// Does what is due by `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        self.tell_time(now);
        self.transactions.handle_timeout(now.mono);
        self.settle();
        while let Some(timer) = self.timers.pop_due(now.mono) {
            self.on_timer(timer);
            self.settle();
        }
        if self.blocking.lists().poll_timeout().is_some_and(|at| at <= now.mono) {
            self.on_blocks_ended();
        }
    }

    /// The next thing for the shell to do, until none is left.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Border::handle_timeout`] is wanted next; strictly later than `now` after it was called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.transactions.poll_timeout(), self.timers.next(), self.blocking.lists().poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// How many entries are in the tables that are empty while no message is under way, by name. For the
    /// simulation, which waits for all of them to drain.
    pub fn unfinished(&self) -> [(&'static str, usize); 12] {
        [
            ("transactions", self.transactions.len()),
            ("client uses", self.clients.len()),
            ("forwards", self.forwards.len()),
            ("calls", self.calls.len()),
            ("dialogs", self.dialogs.len()),
            ("decoys", self.decoys.len()),
            ("held registrations", self.held.len()),
            ("writes", self.writes.len()),
            ("connections being opened", self.connections.opening()),
            ("unanswered requests", self.unanswered.len()),
            ("requests with room", self.room.len()),
            ("REGISTERs passed on", self.passing.len()),
        ]
    }

    /// How many of an extension's `max_calls` are taken, for each extension. For the simulation, which counts the calls
    /// on the wire.
    pub fn call_slots(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries.calls()
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Flow(flow) => self.on_flow_timer(flow),
            Timer::Binding(binding) => self.on_binding_timer(binding),
            Timer::HealthCheck(pbx) => self.on_health_check(pbx),
            Timer::Silence(pbx) => self.on_silence_timer(pbx),
            Timer::Pacing(pbx) => self.pump_registrations(pbx),
            Timer::FirstWord => self.release_held(),
            Timer::Samples(pbx) => self.on_samples_timer(pbx),
            Timer::Decoy(server) => self.on_decoy_timer(server),
            Timer::PassedRegister(client) => self.on_passed_register_timer(client),
            Timer::Store(ticket) => self.on_store_timer(ticket),
            Timer::Call(call) => self.on_call_timer(call),
            Timer::NodeRecords => self.on_node_timer(),
            Timer::ClockStep => self.write_for_the_new_clock(),
            Timer::Lists => self.on_lists_timer(),
            Timer::Report => self.on_report_timer(),
            Timer::ServerCertificate => self.on_server_certificate_timer(),
        }
    }

    /// Carries out what the transaction layer wants, until it wants nothing more.
    pub(crate) fn settle(&mut self) {
        while let Some(event) = self.transactions.poll() {
            self.on_transaction_event(event);
        }
        self.check_invariants();
    }

    /// What must hold between inputs; costs nothing in release.
    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            self.bindings.check_invariants();
            self.transactions.check_invariants();
            self.calls.check_invariants(&self.dialogs);
        }
    }
}
