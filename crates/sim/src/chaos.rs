//! What breaks.

use std::net::SocketAddr;
use std::time::Duration;

use border::Input;
use guard::CallRule;
use wire::net::{FiveTuple, FlowId, HandshakeFault, Transport};

use crate::decision::Decider;
use crate::network::{Weather, Who};
use crate::scenery;
use crate::world::{Happening, World};

/// What breaks.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Pbx,
    Hang,
    Forbid,
    Unplug,
    Pause,
    Move,
    Connection,
    Kill,
    Reload,
    Handshakes,
    Weather,
    Clock,
    Spray,
}

const BLOWS: [(Blow, &str); 18] = [
    (Blow::Pbx, "a PBX crashes"),
    (Blow::Pbx, "a PBX crashes"),
    (Blow::Hang, "a PBX hangs"),
    (Blow::Forbid, "a PBX forbids an extension"),
    (Blow::Unplug, "a phone is unplugged"),
    (Blow::Unplug, "a phone is unplugged"),
    (Blow::Pause, "a phone pauses"),
    (Blow::Move, "a phone moves"),
    (Blow::Move, "a phone moves"),
    (Blow::Connection, "a connection breaks"),
    (Blow::Kill, "the border is killed"),
    (Blow::Reload, "the limits change"),
    (Blow::Handshakes, "handshakes fail"),
    (Blow::Handshakes, "handshakes fail"),
    (Blow::Weather, "the weather changes"),
    (Blow::Clock, "the clock is set"),
    (Blow::Spray, "a stranger speaks"),
    (Blow::Spray, "a stranger speaks"),
];

impl World {
    /// One thing breaks, and the next is on its way.
    pub(crate) fn on_chaos(&mut self) {
        if !self.busy {
            return;
        }
        self.turn(Decider::Chaos);
        let after = self.rng.millis(1_000, 25_000);
        self.at(after, Happening::Chaos);
        let Some((blow, what)) = self.rng.pick(&BLOWS).copied() else { return };
        if !self.decisions.may(Decider::Chaos, what) {
            return;
        }
        match blow {
            Blow::Pbx => {
                let index = self.pick_pbx();
                self.crash_pbx(index);
            }
            Blow::Hang => self.hang_pbx(),
            Blow::Forbid => self.forbid_an_extension(),
            Blow::Unplug => {
                let index = self.pick_phone();
                self.stage(Who::Phone(index), |world, stage| world.phones[index].unplug(stage));
            }
            Blow::Pause => {
                let index = self.pick_phone();
                self.stage(Who::Phone(index), |world, stage| world.phones[index].pause(stage));
            }
            Blow::Move => self.move_a_phone(),
            Blow::Connection => {
                let flows: Vec<FlowId> = self.connections.keys().copied().collect();
                if let Some(flow) = self.rng.pick(&flows).copied() {
                    self.break_connection(flow);
                }
            }
            Blow::Kill => self.restart_and_resolve(),
            Blow::Reload => self.reload(),
            Blow::Handshakes => self.fail_a_handshake(),
            Blow::Weather => self.weather = Weather::bad(&mut self.rng),
            Blow::Clock => self.set_the_clock(),
            Blow::Spray => self.spray(),
        }
    }

    fn move_a_phone(&mut self) {
        let (index, far) = (self.pick_phone(), self.rng.chance(500));
        let dead = self.stage(Who::Phone(index), |world, stage| world.phones[index].move_on(far, stage));
        // nobody tells the border: what it sends there is lost
        if let Some(connection) = dead.and_then(|flow| self.connections.get_mut(&flow)) {
            connection.at_actor = false;
        }
    }

    /// A PBX accepts and is silent, or answers too late.
    fn hang_pbx(&mut self) {
        let (index, slow) = (self.pick_pbx(), self.rng.chance(500));
        let until = self.now + self.rng.millis(500, 45_000);
        self.pbxs[index].hang(slow, until);
        self.arm_actor(Who::Pbx(index));
    }

    /// A PBX refuses the registrations of one extension for a while.
    fn forbid_an_extension(&mut self) {
        let index = self.pick_pbx();
        let (name, _) = self.rng.pick(&scenery::EXTENSIONS).copied().unwrap_or(scenery::EXTENSIONS[0]);
        self.pbxs[index].forbid(name, self.now + self.rng.millis(5_000, 60_000));
    }

    /// Somebody who belongs to no call sends one packet to each port of a face: none may be heard, and nobody may be
    /// heard by him.
    fn spray(&mut self) {
        let side = usize::from(self.rng.chance(500));
        let stranger = if side == 0 { self.places.scanner(71) } else { self.places.pbx(7).ip() };
        for to in self.media.bound_on(self.places.faces()[side]) {
            let port = u16::try_from(self.rng.between(40_000, 60_000)).unwrap_or(40_000);
            let mut bytes = vec![0x80, 8, 0, 1, 0, 0, 0, 1];
            bytes.extend_from_slice(&self.rng.bits().to_be_bytes()[..4]);
            bytes.extend_from_slice(b"stranger stranger");
            self.at(Duration::ZERO, Happening::Audio { from: SocketAddr::new(stranger, port), to, bytes });
        }
    }

    /// Somebody sets the clock of the machine, forward or back; what the border measures goes on.
    fn set_the_clock(&mut self) {
        let seconds = i64::try_from(self.rng.between(1, 20_000)).unwrap_or(1);
        let back = !self.rng.chance(500);
        self.clock_ahead_ms += if back { -seconds * 1_000 } else { seconds * 1_000 };
        self.clock_was_set_back |= back;
    }

    /// The border is started again with tighter limits, or with those that it had first.
    fn reload(&mut self) {
        let first = scenery::config(self.places, self.pbxs.len());
        (self.config.extensions, self.config.relays_max) = (first.extensions, first.relays_max);
        if self.rng.chance(700) {
            let rules: Vec<CallRule> =
                scenery::TIGHT_RULES.iter().filter_map(|rule| rule.parse().ok()).collect();
            let max_calls = usize::try_from(self.rng.between(1, 3)).unwrap_or(1);
            for extension in &mut self.config.extensions {
                (extension.rules, extension.max_calls) = (rules.clone(), max_calls);
            }
            self.config.relays_max = usize::try_from(self.rng.between(3, 6)).unwrap_or(3);
        }
        self.restart_and_resolve();
    }

    /// A PBX dies and is back some time later; what it knew is lost, or was on disk.
    pub(crate) fn crash_pbx(&mut self, index: usize) {
        let (keeps, back) = (self.rng.chance(400), self.rng.millis(200, 40_000));
        self.stop_pbx(index, keeps, back);
    }

    /// The same, where it keeps its bindings or not, and when it is back.
    pub(crate) fn stop_pbx(&mut self, index: usize, keeps: bool, back: Duration) {
        if !self.pbxs[index].up {
            return;
        }
        self.tally.restarts[1] += 1;
        self.oracles.on_pbx_restart(self.now);
        for flow in self.pbxs[index].crash(keeps) {
            if let Some(connection) = self.connections.get_mut(&flow) {
                connection.at_actor = false;
            }
            self.at(Duration::from_millis(1), Happening::Closed { flow, inward: true });
        }
        self.at(back, Happening::PbxStarts(index));
    }

    /// The border is killed, and back at once.
    pub(crate) fn restart_and_resolve(&mut self) {
        self.restart_border();
        self.resolve();
    }

    fn fail_a_handshake(&mut self) {
        let remote = (self.places.scanner(70), 7_000).into();
        let tuple = FiveTuple { transport: Transport::Tls, local: self.places.tls(), remote };
        let faults = [HandshakeFault::CertUntrusted, HandshakeFault::CertExpired, HandshakeFault::Broken];
        for _ in 0..self.rng.below(7) {
            let fault = self.rng.pick(&faults).copied().unwrap_or(HandshakeFault::Broken);
            self.input(Input::HandshakeFailed { tuple, fault, detail: "issuer CN=Nobody".into() });
        }
    }

    pub(crate) fn pick_phone(&mut self) -> usize {
        usize::try_from(self.rng.below(self.phones.len() as u64)).unwrap_or(0)
    }

    fn pick_pbx(&mut self) -> usize {
        usize::try_from(self.rng.below(self.pbxs.len() as u64)).unwrap_or(0)
    }
}
