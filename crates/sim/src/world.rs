//! The world: a clock, a schedule of happenings, the real border, the real relay table, and everybody around
//! them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use border::{Border, Config, Record};
use bytes::Bytes;
use media::{Order, RelayEvent};
use wire::clock::{Instant, Now, WallTime};
use wire::net::{FlowId, Side, Transport};

use crate::act::{Act, Path, Stage};
use crate::company::Company;
use crate::decision::{Actions, Decider, Decisions};
use crate::disk::Disk;
use crate::door::Door;
use crate::idler::Idler;
use crate::impostor::Overheard;
use crate::ladder::Ladder;
use crate::lanes::Lanes;
use crate::media_plane::MediaPlane;
use crate::network::{Connection, Connections, Weather, Who};
use crate::oracle::{Oracles, Violation};
use crate::pbx::{Habits, Pbx};
use crate::phone::{Model, Phone};
use crate::rng::Rng;
use crate::run::Ending;
use crate::scanner::Scanner;
use crate::scenery::{self, Places};
use crate::schedule::{Schedule, Timer};
use crate::shell::start_border;
use crate::thief::Thief;
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
    /// The core hears of a write.
    Told { ticket: u64, ok: bool },
    /// What the disk did not take is tried again.
    DiskRetry { epoch: u64 },
    /// The operator does something.
    Operator,
    /// Somebody speaks in another's name.
    Impostor,
    /// What he says arrives outside, by UDP.
    Forged { from: SocketAddr, bytes: Bytes },
    /// Something breaks.
    Chaos,
    /// The core has time again.
    CoreIsFree,
    /// A PBX is back.
    PbxStarts(usize),
}

/// Everybody around the border, and what they do at once.
struct Cast {
    pbxs: Vec<Pbx>,
    phones: Vec<Phone>,
    scanners: Vec<Scanner>,
    idler: Idler,
    thief: Thief,
    first: Vec<(Who, Vec<Act>)>,
}

fn cast(
    (places, company): (Places, &Company),
    rng: &mut Rng,
    decisions: &mut Decisions,
    next_flow: &mut u64,
) -> Cast {
    let pbxs = if rng.chance(300) { 2 } else { 1 };
    let mut habits: Vec<Habits> = (0..pbxs).map(|_| Habits::drawn(rng)).collect();
    // who is passed through to a standby stays there for as long as he asked for
    if pbxs > 1 {
        habits.iter_mut().for_each(|pbx| pbx.expires_min = 10);
    }
    let (now, who, acts) = (Instant::ZERO, Who::Pbx(0), Vec::new());
    let mut stage = Stage { now, who, rng, decisions, acts, next_flow, busy: true };
    let mut first = Vec::new();
    let mut begin = |(index, habits)| {
        let pbx = Pbx::new(habits, (index, places), &mut stage);
        first.push((Who::Pbx(index), std::mem::take(&mut stage.acts)));
        pbx
    };
    let pbxs = habits.into_iter().enumerate().map(&mut begin).collect();
    let models = models().into_iter().chain(company.phones.iter().cloned());
    let phones = models.map(|model| Phone::new(model, places, &mut stage)).collect();
    let scanners = [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter().zip(66..);
    let scanners = scanners.map(|(transport, number)| Scanner::new(number, transport, places, &mut stage));
    let scanners = scanners.collect();
    let idler = Idler::new(places, &mut stage);
    let thief = Thief::new(places, &mut stage);
    Cast { pbxs, phones, scanners, idler, thief, first }
}

/// What the border is started with first: the realm that is asked for first is agreed, where none is configured.
fn first_config(places: Places, pbxs: &[Pbx], company: &Company) -> Config {
    let mut config = scenery::config(places, pbxs.len());
    config.registration.max_contacts = company.max_contacts;
    for (config, pbx) in config.pbx.iter_mut().zip(pbxs) {
        config.registrations.calls = company.registrations;
        config.realm = pbx.habits.manner.names_others().then(|| scenery::REALM.to_owned());
    }
    config
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
    /// What came of them, and of what was drawn with the world.
    pub sights: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Adds what another run saw.
    pub fn add(&mut self, other: &Self) {
        let counts = [
            (&mut self.events, &other.events),
            (&mut self.deeds, &other.deeds),
            (&mut self.sights, &other.sights),
        ];
        for (sum, counts) in counts {
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
    pub(crate) places: Places,
    pub(crate) ending: Ending,
    pub(crate) now: Instant,
    /// How far the wall clock was set forward, or back.
    pub(crate) clock_ahead_ms: i64,
    /// It was set back.
    pub(crate) clock_was_set_back: bool,
    /// It was set back before a start of the border, which reads from its records that registrations last longer.
    pub(crate) times_are_wrong: bool,
    pub(crate) step: u64,
    pub(crate) schedule: Schedule,
    /// When the last order and the last event under way between border and media plane arrive.
    lanes_until: [Instant; 2],
    /// The border was called since the oracles last looked at it.
    pub(crate) touched: bool,
    pub(crate) border: Border,
    /// What it was started with.
    pub(crate) config: Config,
    /// When it was last started without all that it had written: what it registered before may be forgotten.
    pub(crate) forgot_at: Instant,
    /// How often the border was started.
    pub(crate) epoch: u64,
    pub(crate) weather: Weather,
    pub(crate) connections: Connections,
    next_flow: u64,
    pub(crate) phones: Vec<Phone>,
    pub(crate) scanners: Vec<Scanner>,
    pub(crate) idler: Idler,
    pub(crate) thief: Thief,
    pub(crate) pbxs: Vec<Pbx>,
    pub(crate) media: MediaPlane,
    /// Where audio went that belongs to nobody's call.
    pub(crate) astray: Option<SocketAddr>,
    pub(crate) disk: Disk,
    pub(crate) overheard: Overheard,
    pub(crate) door: Door,
    pub(crate) lanes: Lanes,
    /// Writes for which the disk's queue had no room.
    pub(crate) refused_writes: Vec<u64>,
    pub(crate) busy: bool,
    pub(crate) oracles: Oracles,
    pub(crate) ladder: Ladder,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
    pub(crate) status: border::command::StatusView,
    /// The extension of a call that was refused in this step because so many are up.
    pub(crate) refused: Option<String>,
    pub(crate) calls: Vec<border::command::CallView>,
}

const WALL_START: u64 = 1_790_000_000_000;

impl World {
    /// A world drawn from a seed, in which only these free decisions are carried out, or all.
    pub fn new(seed: u64, only: Option<Actions>) -> Self {
        let mut rng = Rng::new(seed);
        let mut decisions = Decisions::new(seed, only);
        let places = Places::drawn(&mut rng);
        let (company, mut next_flow) = (Company::of(seed), 100);
        let now = Instant::ZERO;
        let Cast { pbxs, phones, scanners, idler, thief, first } =
            cast((places, &company), &mut rng, &mut decisions, &mut next_flow);
        let config = first_config(places, &pbxs, &company);
        let weather = Weather::bad(&mut rng);
        let mut media = MediaPlane::new(places, rng.bits());
        (media.taken, media.refused) = (rng.below(200), rng.below(30));
        let mut world = Self {
            places,
            ending: Ending::of(seed),
            now,
            clock_ahead_ms: 0,
            clock_was_set_back: false,
            times_are_wrong: false,
            step: 0,
            schedule: Schedule::default(),
            lanes_until: [now; 2],
            touched: true,
            border: start_border(
                config.clone(),
                places,
                decisions.turn(Decider::Shell),
                Now { mono: now, wall: WallTime(WALL_START) },
                Vec::new(),
            ),
            forgot_at: now,
            epoch: 0,
            weather,
            connections: BTreeMap::new(),
            next_flow,
            phones,
            scanners,
            idler,
            thief,
            pbxs,
            media,
            astray: None,
            door: Door::default(),
            lanes: Lanes::default(),
            refused_writes: Vec::new(),
            disk: Disk::new(rng.below(100), *rng.pick(&[2, 20, 400]).unwrap_or(&2)),
            overheard: Overheard::default(),
            busy: true,
            oracles: Oracles::new(&config),
            ladder: Ladder::default(),
            tally: Tally::default(),
            trace: Trace::default(),
            status: Default::default(),
            refused: None,
            calls: Vec::new(),
            config,
            rng,
            seed,
            decisions,
            streams: BTreeMap::new(),
        };
        for (who, acts) in first {
            world.perform(who, acts);
        }
        world.at(Duration::from_secs(3), Happening::Operator);
        world.at(Duration::from_secs(8), Happening::Chaos);
        world.at(Duration::from_secs(5), Happening::Impostor);
        // some borders start before their PBX
        if world.strikes(Decider::Chaos, 150, "the PBX is not there at first") {
            world.crash_pbx(0);
        }
        world
    }

    pub(crate) fn now(&self) -> Now {
        let wall = (WALL_START + self.now.as_nanos() / 1_000_000).saturating_add_signed(self.clock_ahead_ms);
        Now { mono: self.now, wall: WallTime(wall) }
    }

    /// Lets something happen after a while.
    pub(crate) fn at(&mut self, after: Duration, happening: Happening) {
        self.at_instant(self.now + after, happening);
    }

    pub(crate) fn at_instant(&mut self, at: Instant, happening: Happening) {
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
            Timer::Border => self.border.poll_timeout().map(|at| self.lanes.not_before(at)),
            Timer::Media => self.media.next(),
            Timer::Actor(Who::Phone(index)) => self.phones.get(index).and_then(Phone::next),
            Timer::Actor(Who::Scanner(index)) => self.scanners.get(index).and_then(Scanner::next),
            Timer::Actor(Who::Pbx(index)) => self.pbxs.get(index).and_then(Pbx::next),
            Timer::Actor(Who::Idler) => self.idler.next(),
            Timer::Actor(Who::Thief) => self.thief.next(),
        }
    }

    pub(crate) fn arm(&mut self, timer: Timer) {
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
    pub(crate) fn send_datagram(&mut self, who: Who, (from, to): (SocketAddr, SocketAddr), bytes: Bytes) {
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
        let side = if matches!(who, Who::Pbx(_)) { Side::Inside } else { Side::Outside };
        let open = self.now + self.delay(Decider::Network(who), 1);
        self.connections.insert(flow, Connection::new(who, side, to, from, open));
        self.at_instant(open, Happening::Opened(flow));
    }

    /// When something arrives by the lane to the media plane, or by the one from it: neither overtakes.
    pub(crate) fn in_order(&mut self, lane: usize) -> Instant {
        let mut delay = self.decisions.turn(Decider::Shell).millis(0, self.weather.delay.min(50));
        if lane == 0 && self.busy && self.strikes(Decider::Media, 10, "the media plane is busy") {
            delay += self.rng.millis(100, 800);
        }
        self.lanes_until[lane] = self.lanes_until[lane].max(self.now + delay);
        self.lanes_until[lane]
    }

    /// How long something is under way that cannot be lost.
    pub(crate) fn delay(&mut self, by: Decider, least: u64) -> Duration {
        self.decisions.turn(by).millis(least, self.weather.delay)
    }

    pub(crate) fn send_stream(&mut self, flow: FlowId, inward: bool, bytes: Bytes) {
        let (weather, now) = (self.weather, self.now);
        let Some(connection) = self.connections.get_mut(&flow) else { return };
        if !(connection.at_actor && connection.at_border) || connection.broken {
            return;
        }
        let by = Decider::Network(connection.who);
        let mut rng = self.decisions.turn(by);
        let breaks = rng.chance(weather.broken) && self.decisions.may(by, "breaks a connection");
        if rng.chance(weather.stalled) && self.decisions.may(by, "stalls a connection") {
            connection.stall(inward, now + rng.millis(500, 20_000));
        }
        if !inward && connection.overflows(bytes.len(), now) {
            self.decisions.saw("an output queue is full");
            return self.break_connection(flow);
        }
        let mut pieces = connection.cut(bytes, inward, now, weather.delay, &mut rng);
        if breaks {
            pieces.truncate(pieces.len().div_ceil(2));
        }
        for (at, bytes) in pieces {
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
        let Some(connection) = self.connections.get_mut(&flow) else { return };
        connection.broken = true;
        let by = Decider::Network(connection.who);
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
