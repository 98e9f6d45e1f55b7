//! What the operator does.

use border::{Command, Input};
use wire::net::Prefix;

use crate::decision::Decider;
use crate::world::{Happening, World};

impl World {
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
        let command = match self.rng.below(9) {
            0 => Command::Registrations,
            1 => Command::Calls,
            2 => Command::BlockList,
            3 | 4 => {
                let prefix = self.pick_prefix();
                let time = Some(self.rng.millis(5_000, 30_000));
                Command::BlockAdd { prefix, time, why: "seen in the log".into(), force: self.rng.chance(500) }
            }
            // mostly of somebody who is blocked
            5 => {
                let any = self.pick_prefix();
                let blocked = self.oracles.a_blocked_source().map(Prefix::single);
                Command::BlockRemove {
                    prefixes: vec![blocked.filter(|_| self.rng.chance(800)).unwrap_or(any)],
                }
            }
            6 => {
                let (prefix, name) = (self.pick_prefix(), format!("entry-{}", self.rng.below(3)));
                Command::AllowAdd { prefix, name, description: String::new() }
            }
            7 => Command::AllowRemove { name: format!("entry-{}", self.rng.below(3)) },
            _ => Command::AllowList,
        };
        self.tally.commands += 1;
        self.oracles.on_command(&command);
        self.input(Input::Command { id: self.tally.commands, command });
    }

    /// One address of a phone or of a scanner, or its network.
    fn pick_prefix(&mut self) -> Prefix {
        let ip = if self.rng.chance(300) {
            let phone = self.pick_phone();
            self.phones[phone].ip()
        } else {
            self.places.scanner(u8::try_from(self.rng.between(66, 69)).unwrap_or(66))
        };
        let short = if ip.is_ipv4() { 24 } else { 48 };
        let network = if self.rng.chance(100) { Prefix::new(ip, short) } else { None };
        network.unwrap_or_else(|| Prefix::single(ip))
    }
}
