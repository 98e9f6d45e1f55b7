//! What breaks, and what the operator does.

use std::net::IpAddr;
use std::time::Duration;

use border::{Command, Input};
use wire::net::{FiveTuple, FlowId, HandshakeFault, Prefix, Transport};

use crate::decision::Decider;
use crate::network::Who;
use crate::scenery;
use crate::world::{Happening, World};

impl World {
    /// One thing breaks, and the next is on its way.
    pub(crate) fn on_chaos(&mut self) {
        if !self.busy {
            return;
        }
        self.turn(Decider::Chaos);
        let after = self.rng.millis(1_000, 25_000);
        self.at(after, Happening::Chaos);
        let blow = self.rng.below(10);
        let what = match blow {
            0 | 1 => "the PBX crashes",
            2..=4 => "a phone is unplugged",
            5 => "a connection breaks",
            6 => "the border is killed",
            7 => "handshakes fail",
            _ => return,
        };
        if !self.decisions.may(Decider::Chaos, what) {
            return;
        }
        match blow {
            0 | 1 => self.crash_pbx(),
            2..=4 => {
                let index = usize::try_from(self.rng.below(self.phones.len() as u64)).unwrap_or(0);
                self.stage(Who::Phone(index), |world, stage| world.phones[index].unplug(stage));
            }
            5 => {
                let flows: Vec<FlowId> = self.connections.keys().copied().collect();
                if let Some(flow) = self.rng.pick(&flows).copied() {
                    self.break_connection(flow);
                }
            }
            6 => self.restart_and_resolve(),
            _ => self.fail_a_handshake(),
        }
    }

    /// The PBX dies and is back some time later, knowing nothing.
    pub(crate) fn crash_pbx(&mut self) {
        if !self.pbx.up {
            return;
        }
        self.tally.restarts[1] += 1;
        for flow in self.pbx.crash() {
            if let Some(connection) = self.connections.get_mut(&flow) {
                connection.at_actor = false;
            }
            self.at(Duration::from_millis(1), Happening::Closed { flow, inward: true });
        }
        let back = self.rng.millis(200, 40_000);
        self.at(back, Happening::PbxStarts);
    }

    /// The border is killed, and back at once.
    pub(crate) fn restart_and_resolve(&mut self) {
        self.restart_border();
        self.resolve();
    }

    fn fail_a_handshake(&mut self) {
        let remote = (scenery::scanner_ip(70), 7_000).into();
        let tuple = FiveTuple { transport: Transport::Tls, local: scenery::OUTSIDE_TLS, remote };
        let faults = [HandshakeFault::CertUntrusted, HandshakeFault::CertExpired, HandshakeFault::Broken];
        for _ in 0..self.rng.below(7) {
            let fault = self.rng.pick(&faults).copied().unwrap_or(HandshakeFault::Broken);
            self.input(Input::HandshakeFailed { tuple, fault, detail: "issuer CN=Nobody".into() });
        }
    }

    /// The operator looks, blocks and unblocks.
    pub(crate) fn on_operator(&mut self) {
        if !self.busy {
            return;
        }
        self.turn(Decider::Operator);
        let after = self.rng.millis(2_000, 20_000);
        self.at(after, Happening::Operator);
        if !self.decisions.may(Decider::Operator, "the operator commands") {
            return;
        }
        let command = match self.rng.below(6) {
            0 => Command::Registrations,
            1 => Command::Calls,
            2 => Command::BlockList,
            3 => {
                let phone = self.rng.chance(300);
                let ip = if phone { scenery::phone_ip(self.pick_phone()) } else { scenery::scanner_ip(66) };
                let time = Some(self.rng.millis(5_000, 30_000));
                let (prefix, why) = (Prefix::single(ip), "seen in the log".into());
                Command::BlockAdd { prefix, time, why, force: false }
            }
            4 => Command::BlockRemove { prefixes: vec![Prefix::single(self.any_ip())] },
            _ => Command::AllowList,
        };
        self.tally.commands += 1;
        self.input(Input::Command { id: self.tally.commands, command });
    }

    fn pick_phone(&mut self) -> u8 {
        let numbers: Vec<u8> = self.phones.iter().map(|phone| phone.model.number).collect();
        self.rng.pick(&numbers).copied().unwrap_or(11)
    }

    fn any_ip(&mut self) -> IpAddr {
        let number = u8::try_from(self.rng.between(66, 69)).unwrap_or(66);
        scenery::scanner_ip(number)
    }
}
