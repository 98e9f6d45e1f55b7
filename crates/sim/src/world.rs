//! The world: a clock, a schedule of happenings, the real border, the real relay table, and everybody around
//! them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use border::{Border, Code, Command, Input, Output, Record, ResolvedName, Target};
use bytes::Bytes;
use media::{Order, RelayEvent};
use wire::clock::{Instant, Now, WallTime};
use wire::net::{FlowId, PrefixSet, Side, Transport};

use crate::act::{Act, Path, Stage};
use crate::decision::{Actions, Decider, Decisions};
use crate::disk::Disk;
use crate::ladder::Ladder;
use crate::media_plane::MediaPlane;
use crate::network::{Connection, Connections, Weather, Who};
use crate::oracle::{Oracles, Sent, Violation, next_timeout_is_later};
use crate::pbx::{Habits, Pbx};
use crate::phone::{Model, Phone};
use crate::rng::Rng;
use crate::scanner::Scanner;
use crate::scenery::{self, PBX_SIP};
use crate::schedule::{Schedule, Timer};
use crate::trace::Trace;

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A timer.
    Timer(Timer),
    /// A datagram of SIP arrives.
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Bytes },
    /// A connection that an actor asked for is open at the border.
    Opened(FlowId),
    /// A connection that the border asked for reaches the PBX.
    Asked(FlowId),
    /// Bytes of a stream arrive.
    Chunk { flow: FlowId, inward: bool, bytes: Bytes },
    /// An end of a connection learns that it is gone.
    Closed { flow: FlowId, inward: bool },
    /// An order reaches the media plane.
    Order(u64, Box<Order>),
    /// An event reaches the border.
    Event(u64, Box<RelayEvent>),
    /// Audio arrives.
    Audio { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    /// A write comes to its end.
    Stored { epoch: u64, ticket: u64, ok: bool, record: Box<Record> },
    /// What the disk did not take is tried again.
    DiskRetry { epoch: u64 },
    /// The operator does something.
    Operator,
    /// Something breaks.
    Chaos,
    /// The PBX is back.
    PbxStarts,
}

/// What was seen in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events of the border, by code.
    pub events: BTreeMap<&'static str, u64>,
    /// Restarts of the border and of the PBX.
    pub restarts: [u64; 2],
    /// Packets that the relays passed on.
    pub audio: u64,
    /// Calls that phones made and that were answered.
    pub answered: u64,
    /// Re-INVITEs that were accepted.
    pub changed: u64,
    /// Commands of the operator.
    pub commands: u64,
    /// Free decisions, by what was done.
    pub deeds: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Adds what another run saw.
    pub fn add(&mut self, other: &Self) {
        for (sum, counts) in [(&mut self.events, &other.events), (&mut self.deeds, &other.deeds)] {
            for (name, count) in counts {
                *sum.entry(name).or_default() += count;
            }
        }
        for (sum, count) in self.restarts.iter_mut().zip(other.restarts) {
            *sum += count;
        }
        self.audio += other.audio;
        self.answered += other.answered;
        self.changed += other.changed;
        self.commands += other.commands;
    }
}

/// The whole false world around one real border.
pub struct World {
    /// The chance of what chaos and operator do, and of nothing else.
    pub(crate) rng: Rng,
    seed: u64,
    pub(crate) decisions: Decisions,
    streams: BTreeMap<Who, Rng>,
    pub(crate) now: Instant,
    pub(crate) step: u64,
    schedule: Schedule,
    /// When the last order and the last event under way between border and media plane arrive.
    lanes_until: [Instant; 2],
    /// The border was called since the oracles last looked at it.
    touched: bool,
    pub(crate) border: Border,
    /// How often the border was started.
    pub(crate) epoch: u64,
    pub(crate) weather: Weather,
    pub(crate) connections: Connections,
    next_flow: u64,
    pub(crate) phones: Vec<Phone>,
    pub(crate) scanners: Vec<Scanner>,
    pub(crate) pbx: Pbx,
    pub(crate) media: MediaPlane,
    pub(crate) disk: Disk,
    pub(crate) blocked: PrefixSet,
    pub(crate) busy: bool,
    pub(crate) oracles: Oracles,
    pub(crate) ladder: Ladder,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
    pub(crate) status: border::command::StatusView,
}

const WALL_START: u64 = 1_790_000_000_000;
/// What the border may want after one thing that happened: far more than it has bindings and calls.
const OUTPUTS_MAX: u32 = 10_000;
/// The question that the oracles ask after every step.
const STATUS: u64 = u64::MAX;

impl World {
    /// A world drawn from a seed, in which only these free decisions are carried out, or all.
    pub fn new(seed: u64, only: Option<Actions>) -> Self {
        let mut rng = Rng::new(seed);
        let mut decisions = Decisions::new(seed, only);
        let habits = Habits {
            tcp: rng.chance(300),
            challenges_calls: rng.chance(700),
            qop: rng.chance(700),
            opaque: rng.chance(500),
            expires_max: *rng.pick(&[60, 90, 300, 3_600]).unwrap_or(&300),
        };
        let mut next_flow = 100;
        let now = Instant::ZERO;
        let mut stage = Stage {
            now,
            who: Who::Pbx,
            rng: &mut rng,
            decisions: &mut decisions,
            acts: Vec::new(),
            next_flow: &mut next_flow,
            busy: true,
        };
        let pbx = Pbx::new(habits, &mut stage);
        let phones = models().into_iter().map(|model| Phone::new(model, &mut stage)).collect();
        let scanners = [Transport::Udp, Transport::Tcp, Transport::Tls]
            .into_iter()
            .zip(66..)
            .map(|(transport, number)| Scanner::new(number, transport, &mut stage))
            .collect();
        let first = stage.acts;
        let weather = Weather::bad(&mut rng);
        let mut media = MediaPlane::new(rng.bits());
        (media.taken, media.refused) = (rng.below(200), rng.below(30));
        let mut world = Self {
            now,
            step: 0,
            schedule: Schedule::default(),
            lanes_until: [now; 2],
            touched: true,
            border: start_border(decisions.turn(Decider::Shell), now, Vec::new()),
            epoch: 0,
            weather,
            connections: BTreeMap::new(),
            next_flow,
            phones,
            scanners,
            pbx,
            media,
            disk: Disk::new(rng.below(100), *rng.pick(&[2, 20, 400]).unwrap_or(&2)),
            blocked: PrefixSet::default(),
            busy: true,
            oracles: Oracles::new(),
            ladder: Ladder::default(),
            tally: Tally::default(),
            trace: Trace::default(),
            status: Default::default(),
            rng,
            seed,
            decisions,
            streams: BTreeMap::new(),
        };
        world.perform(Who::Pbx, first);
        world.at(Duration::from_secs(3), Happening::Operator);
        world.at(Duration::from_secs(8), Happening::Chaos);
        // some borders start before their PBX
        if world.strikes(Decider::Chaos, 150, "the PBX is not there at first") {
            world.crash_pbx();
        }
        world
    }

    pub(crate) fn now(&self) -> Now {
        let wall = WallTime(WALL_START + self.now.as_nanos() / 1_000_000);
        Now { mono: self.now, wall }
    }

    /// Lets something happen after a while.
    pub(crate) fn at(&mut self, after: Duration, happening: Happening) {
        self.at_instant(self.now + after, happening);
    }

    fn at_instant(&mut self, at: Instant, happening: Happening) {
        self.schedule.put(at.max(self.now), happening);
    }

    /// It is the turn of one that is no actor: its chance is `self.rng` from here on.
    pub(crate) fn turn(&mut self, by: Decider) {
        self.rng = self.decisions.turn(by);
    }

    /// Whether a fault strikes that strikes in `permille` of a thousand cases; its chance is `self.rng`.
    pub(crate) fn strikes(&mut self, by: Decider, permille: u64, what: &'static str) -> bool {
        self.turn(by);
        self.rng.chance(permille) && self.decisions.may(by, what)
    }

    /// Lets an actor act, and carries out what it does.
    pub(crate) fn stage<T>(&mut self, who: Who, act: impl FnOnce(&mut Self, &mut Stage<'_>) -> T) -> T {
        let first = || Rng::of([self.seed, Decider::Actor(who).code(), 0]);
        let mut rng = self.streams.remove(&who).unwrap_or_else(first);
        let mut decisions = std::mem::take(&mut self.decisions);
        let mut next_flow = self.next_flow;
        let mut stage = Stage {
            now: self.now,
            who,
            rng: &mut rng,
            decisions: &mut decisions,
            acts: Vec::new(),
            next_flow: &mut next_flow,
            busy: self.busy,
        };
        let result = act(self, &mut stage);
        let acts = stage.acts;
        self.streams.insert(who, rng);
        self.decisions = decisions;
        self.next_flow = next_flow;
        self.perform(who, acts);
        self.arm_actor(who);
        result
    }

    pub(crate) fn arm_actor(&mut self, who: Who) {
        self.arm(Timer::Actor(who));
    }

    /// When a timer is wanted.
    fn wanted(&self, timer: Timer) -> Option<Instant> {
        match timer {
            Timer::Border => self.border.poll_timeout(),
            Timer::Media => self.media.next(),
            Timer::Actor(Who::Phone(index)) => self.phones.get(index).and_then(Phone::next),
            Timer::Actor(Who::Scanner(index)) => self.scanners.get(index).and_then(Scanner::next),
            Timer::Actor(Who::Pbx) => self.pbx.next(),
        }
    }

    fn arm(&mut self, timer: Timer) {
        let Some(at) = self.wanted(timer).filter(|at| self.schedule.is_late(timer, *at)) else { return };
        // a real shell is never quite on time
        let late = match timer {
            Timer::Border => self.decisions.turn(Decider::Shell).millis(0, 2),
            Timer::Media | Timer::Actor(_) => Duration::ZERO,
        };
        self.schedule.arm(timer, at, (at + late).max(self.now));
    }

    fn perform(&mut self, who: Who, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Send(Path::Udp(from, to), bytes) => self.send_datagram(who, (from, to), bytes.into()),
                Act::Send(Path::Stream(flow), bytes) => self.send_stream(flow, true, bytes.into()),
                Act::Connect { flow, from, to } => self.connect(who, flow, from, to),
                Act::Disconnect(flow) => self.disconnect(flow, true),
                Act::Audio { from, to, bytes } => {
                    let by = Decider::Voice(who);
                    if !self.strikes(by, self.weather.loss, "loses audio") {
                        let delay = self.rng.millis(1, self.weather.delay);
                        self.at(delay, Happening::Audio { from, to, bytes });
                    }
                }
            }
        }
    }

    /// A datagram on its way, from or to an actor.
    fn send_datagram(&mut self, who: Who, (from, to): (SocketAddr, SocketAddr), bytes: Bytes) {
        let (by, weather) = (Decider::Network(who), self.weather);
        if self.strikes(by, weather.loss, "loses a datagram") {
            return;
        }
        if self.rng.chance(weather.doubled) && self.decisions.may(by, "doubles a datagram") {
            let delay = self.rng.millis(1, weather.delay);
            self.at(delay, Happening::Datagram { from, to, bytes: bytes.clone() });
        }
        let delay = self.rng.millis(1, weather.delay);
        self.at(delay, Happening::Datagram { from, to, bytes });
    }

    fn connect(&mut self, who: Who, flow: FlowId, from: SocketAddr, to: SocketAddr) {
        let side = if who == Who::Pbx { Side::Inside } else { Side::Outside };
        let open = self.now + self.delay(Decider::Network(who), 1);
        self.connections.insert(flow, Connection::new(who, side, to, from, open));
        self.at_instant(open, Happening::Opened(flow));
    }

    /// When something arrives by the lane to the media plane, or by the one from it: neither overtakes.
    fn in_order(&mut self, lane: usize) -> Instant {
        let delay = self.decisions.turn(Decider::Shell).millis(0, self.weather.delay.min(50));
        self.lanes_until[lane] = self.lanes_until[lane].max(self.now + delay);
        self.lanes_until[lane]
    }

    /// How long something is under way that cannot be lost.
    pub(crate) fn delay(&mut self, by: Decider, least: u64) -> Duration {
        self.decisions.turn(by).millis(least, self.weather.delay)
    }

    fn send_stream(&mut self, flow: FlowId, inward: bool, bytes: Bytes) {
        let (weather, now) = (self.weather, self.now);
        let Some(connection) = self.connections.get_mut(&flow) else { return };
        if !(connection.at_actor && connection.at_border) {
            return;
        }
        let by = Decider::Network(connection.who);
        let mut rng = self.decisions.turn(by);
        let breaks = rng.chance(weather.broken) && self.decisions.may(by, "breaks a connection");
        for (at, bytes) in connection.cut(bytes, inward, now, weather.delay, &mut rng) {
            self.at_instant(at, Happening::Chunk { flow, inward, bytes });
        }
        if breaks {
            self.break_connection(flow);
        }
    }

    /// One end closes; the other learns of it after all that was sent.
    pub(crate) fn disconnect(&mut self, flow: FlowId, by_actor: bool) {
        let Some(connection) = self.connections.get_mut(&flow) else { return };
        if by_actor {
            connection.at_actor = false;
        } else {
            connection.at_border = false;
        }
        let at = connection.drained(by_actor).max(self.now);
        self.at_instant(at + Duration::from_millis(1), Happening::Closed { flow, inward: by_actor });
    }

    /// Both ends learn that it broke; what is under way is lost with it.
    pub(crate) fn break_connection(&mut self, flow: FlowId) {
        let Some(by) = self.connections.get(&flow).map(|connection| Decider::Network(connection.who)) else {
            return;
        };
        for inward in [true, false] {
            let delay = self.delay(by, 1);
            self.at(delay, Happening::Closed { flow, inward });
        }
    }

    /// Runs until a moment, or until a number of steps is done.
    pub(crate) fn run_until(&mut self, until: Option<Instant>, steps: Option<u64>) -> Result<(), Violation> {
        while steps.is_none_or(|steps| self.step < steps) {
            let Some((at, happening)) = self.schedule.pop(until) else {
                self.now = until.unwrap_or(self.now).max(self.now);
                return Ok(());
            };
            self.now = at.max(self.now);
            if self.is_due(&happening) {
                self.step += 1;
                self.decisions.on_step(self.step, self.now);
                self.happen(happening)?;
                self.settle()?;
            }
        }
        Ok(())
    }

    /// A timer may have been moved later since it was armed; then it is armed again, and nothing happens.
    fn is_due(&mut self, happening: &Happening) -> bool {
        let Happening::Timer(timer) = happening else { return true };
        let due = self.wanted(*timer).is_some_and(|at| at <= self.now);
        if !due {
            self.arm(*timer);
        }
        due
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Timer(timer) => self.on_timer(timer)?,
            Happening::Datagram { from, to, bytes } => self.on_datagram(from, to, &bytes),
            Happening::Opened(flow) => self.on_opened(flow),
            Happening::Asked(flow) => self.on_asked(flow),
            Happening::Chunk { flow, inward, bytes } => self.on_chunk(flow, inward, &bytes),
            Happening::Closed { flow, inward } => self.on_closed(flow, inward),
            Happening::Order(epoch, order) if epoch == self.epoch => {
                self.trace.number(self.now.as_nanos());
                self.media.order(*order, self.now, &mut self.decisions);
            }
            Happening::Event(epoch, event) if epoch == self.epoch => {
                if let RelayEvent::Closed { relay, .. } | RelayEvent::Failed { relay, .. } = &*event {
                    self.oracles.on_relay_ended(*relay);
                }
                self.input(Input::Media(*event));
            }
            Happening::Audio { from, to, bytes } => {
                self.on_audio(from, to, &bytes);
                self.audio_is_not_foreign()?;
            }
            Happening::Stored { epoch, ticket, ok, record } if epoch == self.epoch => {
                self.on_written(ticket, *record, ok);
            }
            Happening::DiskRetry { epoch } if epoch == self.epoch => self.on_disk_retry(),
            Happening::Order(..)
            | Happening::Event(..)
            | Happening::Stored { .. }
            | Happening::DiskRetry { .. } => {}
            Happening::Operator => self.on_operator(),
            Happening::Chaos => self.on_chaos(),
            Happening::PbxStarts => self.stage(Who::Pbx, |world, stage| world.pbx.start(stage)),
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer) -> Result<(), Violation> {
        match timer {
            Timer::Border => {
                self.touched = true;
                self.trace.number(self.now.as_nanos());
                self.border.handle_timeout(self.now());
                next_timeout_is_later(self.border.poll_timeout(), self.now)?;
            }
            Timer::Media => self.media.handle_timeout(self.now),
            Timer::Actor(who) => self.stage(who, |world, stage| match who {
                Who::Phone(index) => world.phones[index].on_timer(stage),
                Who::Scanner(index) => world.scanners[index].on_timer(stage),
                Who::Pbx => world.pbx.on_timer(stage),
            }),
        }
        Ok(())
    }

    /// Who is at an address.
    pub(crate) fn who(&self, ip: IpAddr) -> Option<Who> {
        let phone = || self.phones.iter().position(|phone| phone.source().ip() == ip).map(Who::Phone);
        let scanner = || self.scanners.iter().position(|scanner| scanner.source().ip() == ip);
        if ip == scenery::PBX_IP { Some(Who::Pbx) } else { phone().or_else(|| scanner().map(Who::Scanner)) }
    }

    /// Hands the border something that happened.
    pub(crate) fn input(&mut self, input: Input<'_>) {
        let now = self.now();
        self.touched = true;
        self.trace_input(&input);
        self.border.handle_input(input, now);
    }

    fn on_written(&mut self, ticket: u64, record: Record, ok: bool) {
        let owed = self.disk.is_owing();
        for (ticket, ok) in self.disk.written(ticket, record, ok, self.now) {
            self.input(Input::Stored { ticket, ok });
        }
        if self.disk.is_owing() && !owed {
            self.retry_disk_later();
        }
    }

    fn on_disk_retry(&mut self) {
        if !self.disk.is_owing() {
            return;
        }
        match self.disk.try_again(self.now, &mut self.decisions) {
            Some(ticket) => self.input(Input::Stored { ticket, ok: true }),
            None => self.retry_disk_later(),
        }
    }

    fn retry_disk_later(&mut self) {
        let after = self.decisions.turn(Decider::Shell).millis(1_000, 30_000);
        self.at(after, Happening::DiskRetry { epoch: self.epoch });
    }

    /// Carries out all that border and media plane want, and looks whether every rule holds.
    fn settle(&mut self) -> Result<(), Violation> {
        self.drain()?;
        // what does not change needs no second look
        if std::mem::take(&mut self.touched) {
            self.ask_status()?;
            self.touched = false;
        }
        self.oracles.nobody_waits(self.now)
    }

    /// Carries out all that the border wants, each thing judged first.
    pub(crate) fn drain(&mut self) -> Result<(), Violation> {
        let mut outputs = 0;
        while let Some(output) = self.border.poll_output() {
            outputs += 1;
            if outputs > OUTPUTS_MAX {
                return Err(Violation::new("a step comes to its end", format!("{output:?} and no end")));
            }
            self.trace_output(&output);
            self.carry_out(output)?;
        }
        while let Some(event) = self.media.poll_event() {
            let at = self.in_order(1);
            self.at_instant(at, Happening::Event(self.epoch, Box::new(event)));
        }
        self.arm(Timer::Media);
        self.arm(Timer::Border);
        Ok(())
    }

    fn carry_out(&mut self, output: Output) -> Result<(), Violation> {
        match output {
            Output::Send { flow, to, bytes } => self.on_border_sends(flow, to, bytes)?,
            Output::OpenFlow { flow, to, .. } => {
                let open = self.now + self.delay(Decider::Network(Who::Pbx), 1);
                let local = SocketAddr::new(scenery::INSIDE_IP, 30_000);
                self.connections.insert(flow, Connection::new(Who::Pbx, Side::Inside, local, to, open));
                self.at_instant(open, Happening::Asked(flow));
            }
            Output::CloseFlow { flow } => {
                self.oracles.on_closed(flow);
                self.disconnect(flow, false);
            }
            Output::Registered { .. } | Output::Unregistered { .. } => {}
            Output::Media(order) => {
                if let Order::Open { relay, .. } = &order {
                    self.oracles.on_relay_ordered(*relay);
                }
                let at = self.in_order(0);
                self.at_instant(at, Happening::Order(self.epoch, Box::new(order)));
            }
            Output::Persist { ticket, record } => {
                let (at, ok) = self.disk.take(self.now, &mut self.decisions);
                let record = Box::new(record);
                self.at_instant(at, Happening::Stored { epoch: self.epoch, ticket, ok, record });
            }
            Output::Event(event) => {
                *self.tally.events.entry(event.code.as_str()).or_default() += 1;
                let words = format!("{:.3} {event:?}", self.now.since(Instant::ZERO).as_secs_f64());
                self.oracles.on_words(&words)?;
                // this PBX restarts, but it keeps its realm, and as many contacts as come
                if matches!(event.code, Code::PbxSingleContact | Code::RealmChanged) {
                    return Err(Violation::new("no PBX is blamed wrongly", words));
                }
            }
            Output::Lists { blocked, spared, .. } => {
                self.blocked = (*blocked).clone();
                self.media.set_blocked(Arc::clone(&blocked), self.now);
                self.oracles.on_lists(&blocked, &spared);
            }
            Output::PbxAddresses(addresses) => self.media.set_hosts_inside(&addresses, self.now),
            Output::Answer { id: STATUS, answer: border::Answer::Status(status) } => self.status = status,
            Output::Answer { answer, .. } => self.oracles.on_words(&format!("{answer:?}"))?,
            Output::Fault(fault) => return Err(Violation::new("no fault of ours", fault)),
        }
        Ok(())
    }

    fn on_border_sends(&mut self, flow: FlowId, to: SocketAddr, bytes: Bytes) -> Result<(), Violation> {
        let listener = listeners().into_iter().find(|(id, ..)| *id == flow);
        let side = match (&listener, self.connections.get(&flow)) {
            (Some((_, side, ..)), _) => *side,
            (None, Some(connection)) => connection.side,
            (None, None) => return Ok(()),
        };
        self.ladder.note(self.step, self.now, (side, true), to, &bytes);
        self.oracles.on_sent(&Sent { side, flow, to, bytes: &bytes, now: self.now })?;
        match listener {
            Some((_, _, _, local)) => {
                if let Some(who) = self.who(to.ip()) {
                    self.send_datagram(who, (local, to), bytes);
                }
            }
            None => self.send_stream(flow, false, bytes),
        }
        Ok(())
    }

    fn ask_status(&mut self) -> Result<(), Violation> {
        self.input(Input::Command { id: STATUS, command: Command::Status });
        self.drain()?;
        self.oracles.relays_balance(&self.status, self.media.len(), false)
    }

    /// Every party hears the one that it speaks with.
    fn audio_is_not_foreign(&self) -> Result<(), Violation> {
        let agents = self.phones.iter().map(|phone| &phone.agent).chain([&self.pbx.agent]);
        match agents.filter_map(|agent| agent.foreign_audio.as_ref()).next() {
            Some(foreign) => Err(Violation::new("audio reaches the other party", foreign.clone())),
            None => Ok(()),
        }
    }

    /// The border is killed and started again with what is on disk.
    pub(crate) fn restart_border(&mut self) {
        self.epoch += 1;
        self.tally.restarts[0] += 1;
        let kept = self.disk.records_after_kill();
        let rng = self.decisions.turn(Decider::Shell);
        self.border = start_border(rng, self.now, kept);
        let (taken, refused) = (self.media.taken, self.media.refused);
        self.tally.audio += self.media.forwarded;
        self.media = MediaPlane::new(self.decisions.turn(Decider::Media).bits());
        (self.media.taken, self.media.refused) = (taken, refused);
        self.oracles.on_restart();
        // the new process numbers its connections anew: nothing of the old ones may arrive
        self.schedule.retain(|happening| {
            !matches!(
                happening,
                Happening::Opened(_)
                    | Happening::Asked(_)
                    | Happening::Chunk { .. }
                    | Happening::Closed { .. }
            )
        });
        for (flow, connection) in std::mem::take(&mut self.connections) {
            if connection.at_actor {
                self.tell_closed(connection.who, flow);
            }
        }
    }

    fn trace_input(&mut self, input: &Input<'_>) {
        self.trace.number(self.now.as_nanos());
        match input {
            Input::Command { id: STATUS, .. } => {}
            Input::Bytes { flow, from, bytes } => {
                self.trace.message(*flow, *from, bytes);
            }
            other => self.trace.debug(other),
        }
    }

    fn trace_output(&mut self, output: &Output) {
        match output {
            Output::Answer { id: STATUS, .. } => {}
            Output::Send { flow, to, bytes } => {
                self.trace.message(*flow, *to, bytes);
            }
            other => self.trace.debug(other),
        }
    }

    /// How often an event was seen.
    pub(crate) fn seen(&self, code: Code) -> u64 {
        self.tally.events.get(code.as_str()).copied().unwrap_or(0)
    }

    pub(crate) fn note_arrival(&mut self, flow: FlowId, side: Side, from: SocketAddr, bytes: &Bytes) {
        self.ladder.note(self.step, self.now, (side, false), from, bytes);
        self.oracles.on_arrival(side, flow, from, bytes, self.now);
    }
}

/// The border's listeners: number, face, transport, address.
pub(crate) fn listeners() -> [(FlowId, Side, Transport, SocketAddr); 5] {
    [
        (scenery::LISTEN_OUTSIDE_UDP, Side::Outside, Transport::Udp, scenery::OUTSIDE_UDP),
        (scenery::LISTEN_OUTSIDE_TLS, Side::Outside, Transport::Tls, scenery::OUTSIDE_TLS),
        (scenery::LISTEN_OUTSIDE_TCP, Side::Outside, Transport::Tcp, scenery::OUTSIDE_TCP),
        (scenery::LISTEN_INSIDE_UDP, Side::Inside, Transport::Udp, scenery::INSIDE_SIP),
        (scenery::LISTEN_INSIDE_TCP, Side::Inside, Transport::Tcp, scenery::INSIDE_SIP),
    ]
}

fn models() -> Vec<Model> {
    let model = |extension: &str, transport, id: Option<&str>, instance, number| Model {
        extension: extension.to_owned(),
        transport,
        hardware_id: id.map(str::to_owned),
        instance,
        number,
    };
    vec![
        model("1001", Transport::Tls, Some("009033010011"), false, 11),
        model("1001", Transport::Tls, Some("009033010012"), true, 12),
        model("1002", Transport::Tls, Some("IP110-01-00-21"), false, 21),
        model("1003", Transport::Udp, None, false, 31),
        model("1004", Transport::Tcp, None, true, 41),
    ]
}

fn start_border(mut rng: Rng, now: Instant, kept: Vec<Record>) -> Border {
    let mut seed = [0; 32];
    for byte in &mut seed {
        *byte = u8::try_from(rng.below(256)).unwrap_or(0);
    }
    let now = Now { mono: now, wall: WallTime(WALL_START + now.as_nanos() / 1_000_000) };
    let rate = guard::CallRule { calls: 20, period: Duration::from_secs(1) };
    let mut border = Border::new(scenery::config(rate), seed, kept, now);
    for (flow, side, transport, local) in listeners() {
        border.handle_input(Input::Listening { flow, side, transport, local }, now);
    }
    border
}

impl World {
    /// The look-up of the PBX's name is done.
    pub(crate) fn resolve(&mut self) {
        let transport = if self.pbx.habits.tcp { Transport::Tcp } else { Transport::Udp };
        let targets = vec![Target { transport, address: PBX_SIP }];
        self.input(Input::Resolved { name: ResolvedName::Pbx(0), targets });
    }
}
