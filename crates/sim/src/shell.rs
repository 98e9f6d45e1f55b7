//! The process around the border: what reaches it, and how all that it wants is carried out, judged first.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use border::{Border, Config, Input, Output, Record, ResolvedName, Target};
use bytes::Bytes;
use media::{Order, RelayEvent};
use wire::clock::Now;
use wire::net::{FlowId, Side, Transport};

use crate::decision::Decider;
use crate::media_plane::MediaPlane;
use crate::network::{Connection, Who};
use crate::oracle::{Sent, Violation, next_timeout_is_later};
use crate::pbx::Pbx;
use crate::phone::Phone;
use crate::rng::Rng;
use crate::scenery::Places;
use crate::schedule::Timer;
use crate::user_agent::UserAgent;
use crate::words::seconds;
use crate::world::{Happening, World};

/// What the border may want after one thing that happened: far more than it has bindings and calls.
const OUTPUTS_MAX: u32 = 10_000;
/// The question that the oracles ask after every step.
pub(crate) const STATUS: u64 = u64::MAX;
/// The one that they ask when a call was refused because so many are up.
pub(crate) const RECOUNT: u64 = u64::MAX - 1;
/// The one that they ask when places or the number of registrations changed.
pub(crate) const WHO_IS_THERE: u64 = u64::MAX - 2;

impl World {
    pub(crate) fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        self.enter(happening).map_or(Ok(()), |entered| self.happen_inside(entered))
    }

    /// What the door has let in.
    pub(crate) fn happen_inside(&mut self, happening: Happening) -> Result<(), Violation> {
        let Some(happening) = self.hand_to_core(happening) else { return Ok(()) };
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
            Happening::Told { ticket, ok } => self.input(Input::Stored { ticket, ok }),
            Happening::DiskRetry { epoch } if epoch == self.epoch => self.on_disk_retry(),
            Happening::Order(..)
            | Happening::Event(..)
            | Happening::Stored { .. }
            | Happening::DiskRetry { .. } => {}
            Happening::Operator => self.on_operator(),
            Happening::Impostor => self.on_impostor(),
            Happening::Forged { from, bytes } => self.on_forged(from, &bytes),
            Happening::Chaos => self.on_chaos(),
            Happening::CoreIsFree => self.on_core_is_free()?,
            Happening::PbxStarts(index) => {
                // what it said before it died may have come since
                self.oracles.on_pbx_restart(self.now);
                self.stage(Who::Pbx(index), |world, stage| world.pbxs[index].start(stage));
            }
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
            Timer::Media => {
                self.media.handle_timeout(self.now);
                next_timeout_is_later(self.media.next(), self.now)?;
            }
            Timer::Actor(who) => self.stage(who, |world, stage| match who {
                Who::Phone(index) => world.phones[index].on_timer(stage),
                Who::Scanner(index) => world.scanners[index].on_timer(stage),
                Who::Pbx(index) => world.pbxs[index].on_timer(stage),
                Who::Idler => world.idler.on_timer(stage),
                Who::Thief => world.thief.on_timer(stage),
            }),
        }
        Ok(())
    }

    /// Who is at an address.
    pub(crate) fn who(&self, ip: IpAddr) -> Option<Who> {
        let phone = || self.phones.iter().position(|phone| phone.source().ip() == ip).map(Who::Phone);
        // it hears wherever it was in its network
        let number = crate::scenery::scanner_at(ip);
        let scanner = || self.scanners.iter().position(|scanner| Some(scanner.number) == number);
        let pbx = self.pbxs.iter().position(|pbx| pbx.address.ip() == ip).map(Who::Pbx);
        let idler = || (self.idler.ip() == ip).then_some(Who::Idler);
        let thief = || (self.thief.ip() == ip).then_some(Who::Thief);
        pbx.or_else(phone).or_else(|| scanner().map(Who::Scanner)).or_else(idler).or_else(thief)
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
            // the disk writes on, whatever keeps the core busy
            if self.hand_to_core(Happening::Told { ticket, ok }).is_some() {
                self.input(Input::Stored { ticket, ok });
            }
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
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        self.drain()?;
        // what does not change needs no second look
        if std::mem::take(&mut self.touched) {
            self.ask_status()?;
            self.touched = false;
        }
        self.oracles.nothing_is_overdue(self.now)
    }

    /// Carries out all that the border wants, each thing judged first, with what comes of it at once.
    pub(crate) fn drain(&mut self) -> Result<(), Violation> {
        let mut outputs = 0;
        while let Some(output) = self.next_output() {
            outputs += 1;
            if outputs > OUTPUTS_MAX {
                return Err(Violation::new("a step comes to its end", format!("{output:?} and no end")));
            }
            self.trace_output(&output);
            let outside = self.goes_outside(&output);
            self.oracles.on_output(&output, outside)?;
            self.carry_out(output)?;
        }
        while let Some(event) = self.media.poll_event() {
            let at = self.in_order(1);
            self.at_instant(at, Happening::Event(self.epoch, Box::new(event)));
        }
        self.media.ports_balance()?;
        self.arm(Timer::Media);
        self.arm(Timer::Border);
        Ok(())
    }

    fn next_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.border.poll_output() {
                return Some(output);
            }
            let ticket = self.refused_writes.pop()?;
            self.input(Input::Stored { ticket, ok: false });
        }
    }

    fn goes_outside(&self, output: &Output) -> bool {
        let Output::Send { flow, .. } = output else { return false };
        let listener = self.places.listeners().into_iter().find(|(id, ..)| id == flow);
        let connection = || self.connections.get(flow).map(|connection| connection.side);
        listener.map(|(_, side, ..)| side).or_else(connection) == Some(Side::Outside)
    }

    fn carry_out(&mut self, output: Output) -> Result<(), Violation> {
        match output {
            Output::Send { flow, to, bytes } => self.on_border_sends(flow, to, bytes)?,
            Output::OpenFlow { flow, to, .. } => {
                let who = Who::Pbx(self.pbxs.iter().position(|pbx| pbx.address == to).unwrap_or(0));
                let open = self.now + self.delay(Decider::Network(who), 1);
                let local = SocketAddr::new(self.places.faces()[1], 30_000);
                self.connections.insert(flow, Connection::new(who, Side::Inside, local, to, open));
                self.at_instant(open, Happening::Asked(flow));
            }
            Output::CloseFlow { flow } => {
                self.oracles.on_closed(flow, false, self.now);
                self.disconnect(flow, false);
            }
            Output::Registered { flow, source } => self.oracles.on_place(flow, source, true),
            Output::Unregistered { flow, source } => self.oracles.on_place(flow, source, false),
            Output::Media(order) => {
                match &order {
                    Order::Open { relay, .. } => self.oracles.on_relay_ordered(*relay),
                    Order::Close { relay } => self.oracles.on_relay_given_up(*relay),
                    Order::Update { .. } => {}
                }
                let at = self.in_order(0);
                self.at_instant(at, Happening::Order(self.epoch, Box::new(order)));
            }
            Output::Persist { ticket, .. } if self.disk.refuses(&mut self.decisions) => {
                self.refused_writes.push(ticket);
            }
            Output::Persist { ticket, record } => {
                let (at, ok) = self.disk.take(self.now, &mut self.decisions);
                let record = Box::new(record);
                self.at_instant(at, Happening::Stored { epoch: self.epoch, ticket, ok, record });
            }
            Output::Event(event) => {
                *self.tally.events.entry(event.code.as_str()).or_default() += 1;
                self.refused = self.oracles.on_event(&event, self.now)?.or(self.refused.take());
            }
            Output::Lists { blocked, allowed, spared } => {
                self.media.set_blocked(Arc::clone(&blocked), self.now);
                self.door.set_blocked(Arc::clone(&blocked), self.now);
                self.oracles.on_lists(&blocked, &allowed, &spared, self.now)?;
                let phones = self.phones.iter().map(Phone::ip);
                let scanners = self.scanners.iter().map(|scanner| scanner.source().ip());
                for ip in phones.chain(scanners).chain([self.thief.ip()]) {
                    self.oracles.judge_block(ip)?;
                }
                // who is cut off is not told: what he says goes to ports that may be another's by now
                let cut_off =
                    |phone: &&mut Phone| blocked.contains(phone.ip()) && !allowed.contains(phone.ip());
                let kept = |phone: &&mut Phone| phone.connection().is_some_and(|flow| spared.contains(&flow));
                let phones = self.phones.iter_mut().filter(|phone| cut_off(phone) && !kept(phone));
                phones.for_each(|phone| phone.agent.outlive_border());
            }
            Output::PbxAddresses(addresses) => self.media.set_hosts_inside(&addresses, self.now),
            Output::Answer { id: STATUS, answer: border::Answer::Status(status) } => self.status = status,
            Output::Answer { id: RECOUNT, answer: border::Answer::Calls(calls) } => self.calls = calls,
            Output::Answer { id: WHO_IS_THERE, answer: border::Answer::Registrations(registrations) } => {
                self.oracles.places_are_those_of(&registrations)?;
            }
            Output::Answer { answer, .. } => {
                let words = format!("{:.3} the operator is told {answer:?}", seconds(self.now));
                self.oracles.on_words(&words)?;
            }
            Output::Fault(fault) => return Err(Violation::new("no fault of ours", fault)),
        }
        Ok(())
    }

    fn on_border_sends(&mut self, flow: FlowId, to: SocketAddr, bytes: Bytes) -> Result<(), Violation> {
        let listener = self.places.listeners().into_iter().find(|(id, ..)| *id == flow);
        let side = match (&listener, self.connections.get(&flow)) {
            (Some((_, side, ..)), _) => *side,
            (None, Some(connection)) => connection.side,
            (None, None) => return Ok(()),
        };
        self.ladder.note(self.step, self.now, (side, true), to, &bytes);
        let sent = self.oracles.on_sent(&Sent { side, flow, to, bytes: &bytes, now: self.now })?;
        if let Some(text) = sent {
            if side == Side::Inside && text.method() == "BYE" {
                let away = self.phones.iter_mut().filter(|phone| !phone.agent.ready);
                away.for_each(|phone| phone.agent.outlive_call([text.from_tag(), text.to_tag()]));
            }
            // what answers a lie would be the truth from the mouth of who it was told of
            let is_lie = side == Side::Outside && self.phones.iter().all(|phone| phone.source() != to);
            if !is_lie {
                self.overheard.note(side, to, text);
            }
        }
        match listener {
            Some((_, _, transport, local)) => {
                if let Some(who) = self.who(to.ip()).filter(|_| self.gets_out(side, transport, to.ip())) {
                    self.send_datagram(who, (local, to), bytes);
                }
            }
            None => self.send_stream(flow, false, bytes),
        }
        Ok(())
    }

    /// The border is killed and started again with what is on disk.
    pub(crate) fn restart_border(&mut self) {
        self.epoch += 1;
        self.tally.restarts[0] += 1;
        let agents = self.phones.iter_mut().map(|phone| &mut phone.agent);
        agents.chain(self.pbxs.iter_mut().map(|pbx| &mut pbx.agent)).for_each(UserAgent::outlive_border);
        let durable = self.disk.is_done(self.now);
        if !durable {
            self.forgot_at = self.now;
        }
        self.times_are_wrong |= self.clock_was_set_back;
        let kept = self.disk.records_after_kill();
        let rng = self.decisions.turn(Decider::Shell);
        self.border = start_border(self.config.clone(), self.places, rng, self.now(), kept);
        let (taken, refused) = (self.media.taken, self.media.refused);
        self.tally.audio += self.media.forwarded;
        self.media = MediaPlane::new(self.places, self.decisions.turn(Decider::Media).bits());
        (self.media.taken, self.media.refused) = (taken, refused);
        self.oracles.on_restart(&self.config, durable);
        (self.lanes, self.door) = Default::default();
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
            Input::Command { id: WHO_IS_THERE.., .. } => {}
            Input::Bytes { flow, from, bytes } => {
                self.trace.message(*flow, *from, bytes);
            }
            other => self.trace.debug(other),
        }
    }

    fn trace_output(&mut self, output: &Output) {
        match output {
            Output::Answer { id: WHO_IS_THERE.., .. } => {}
            Output::Send { flow, to, bytes } => {
                self.trace.message(*flow, *to, bytes);
            }
            other => self.trace.debug(other),
        }
    }

    pub(crate) fn note_arrival(&mut self, flow: FlowId, side: Side, from: SocketAddr, bytes: &Bytes) {
        self.ladder.note(self.step, self.now, (side, false), from, bytes);
        self.oracles.on_arrival(side, flow, from, bytes, self.now);
    }

    /// The look-up of the PBXs' names is done.
    pub(crate) fn resolve(&mut self) {
        for index in 0..self.pbxs.len() {
            let Pbx { address, habits, .. } = &self.pbxs[index];
            let transport = if habits.tcp { Transport::Tcp } else { Transport::Udp };
            let targets = vec![Target { transport, address: *address }];
            self.input(Input::Resolved { name: ResolvedName::Pbx(index), targets });
        }
    }
}

pub(crate) fn start_border(
    config: Config,
    places: Places,
    mut rng: Rng,
    now: Now,
    kept: Vec<Record>,
) -> Border {
    let mut seed = [0; 32];
    for byte in &mut seed {
        *byte = u8::try_from(rng.below(256)).unwrap_or(0);
    }
    let mut border = Border::new(config, seed, kept, now);
    for (flow, side, transport, local) in places.listeners() {
        border.handle_input(Input::Listening { flow, side, transport, local }, now);
    }
    border
}
