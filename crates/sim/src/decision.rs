//! Free decisions: who takes them, their numbers, and which of them are carried out.
//!
//! Everybody who does something that nothing demanded (a phone that calls, a scanner, the operator, a network
//! that loses a datagram) takes numbered decisions, and each has chance of its own, drawn from the seed, the
//! decider and the number alone. So a decision that is left out changes nothing about the next one, and a
//! failing run can be made smaller by leaving out all that it does not need. Duties (to register, to answer,
//! to hang up) are no decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use wire::clock::Instant;

use crate::network::Who;
use crate::rng::Rng;

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decider {
    /// Somebody who speaks SIP.
    Actor(Who),
    /// The network between somebody and the border.
    Network(Who),
    /// The same for audio.
    Voice(Who),
    /// What breaks.
    Chaos,
    /// The operator.
    Operator,
    /// Where the border's records go.
    Disk,
    /// The sockets of the media plane, and the way to it.
    Media,
    /// The border's process: its start, its clock.
    Shell,
    /// Who speaks in another's name.
    Impostor,
    /// The core's thread.
    Core,
}

/// One decision: whose, and which of his.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Action {
    /// Who.
    pub by: Decider,
    /// From 1 on.
    pub number: u64,
}

/// An action that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Which.
    pub action: Action,
    /// What it was.
    pub what: &'static str,
    /// In which step.
    pub step: u64,
    /// When.
    pub at: Instant,
}

/// The decisions of a run: how many there were, which may be carried out, and which were.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    seed: u64,
    only: Option<Actions>,
    numbers: BTreeMap<Decider, u64>,
    pub(crate) deeds: Vec<Deed>,
    /// What came of them, and of what was drawn with the world: how often.
    pub(crate) sights: BTreeMap<&'static str, u64>,
    step: u64,
    now: Instant,
}

impl Decisions {
    pub(crate) fn new(seed: u64, only: Option<Actions>) -> Self {
        Self { seed, only, ..Self::default() }
    }

    /// The time of what is done from now on.
    pub(crate) fn on_step(&mut self, step: u64, now: Instant) {
        (self.step, self.now) = (step, now);
    }

    /// Something was seen that a run should lead to.
    pub(crate) fn saw(&mut self, what: &'static str) {
        *self.sights.entry(what).or_default() += 1;
    }

    /// A decision is due: the chance for it.
    pub(crate) fn turn(&mut self, by: Decider) -> Rng {
        let number = self.numbers.entry(by).or_default();
        *number += 1;
        Rng::of([self.seed, by.code(), *number])
    }

    /// Whether the decision whose turn it is may be to do this.
    pub(crate) fn may(&mut self, by: Decider, what: &'static str) -> bool {
        let action = Action { by, number: self.numbers.get(&by).copied().unwrap_or(0) };
        let may = self.only.as_ref().is_none_or(|only| only.0.contains(&action));
        if may {
            self.deeds.push(Deed { action, what, step: self.step, at: self.now });
        }
        may
    }
}

/// A set of actions, written as `phone0:1-4,chaos:2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions(pub BTreeSet<Action>);

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first.number;
            while rest.next_if(|next| next.by == first.by && next.number == last + 1).is_some() {
                last += 1;
            }
            write!(f, "{comma}{}:{}", first.by, first.number)?;
            if last > first.number {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        if self.0.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

impl FromStr for Actions {
    type Err = NoActions;

    fn from_str(text: &str) -> Result<Self, NoActions> {
        let mut actions = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty() && *part != "none") {
            let (by, numbers) = range(part).ok_or_else(|| NoActions(part.to_owned()))?;
            actions.extend(numbers.map(|number| Action { by, number }));
        }
        Ok(Self(actions))
    }
}

fn range(part: &str) -> Option<(Decider, std::ops::RangeInclusive<u64>)> {
    let (by, numbers) = part.split_once(':')?;
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    Some((Decider::parse(by)?, first.parse().ok()?..=last.parse().ok()?))
}

/// Not a set of actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoActions(String);

impl fmt::Display for NoActions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} names no actions; as in phone0:1-4,net-pbx0:7,chaos:2", self.0)
    }
}

impl std::error::Error for NoActions {}

const ALONE: [(&str, Decider); 7] = [
    ("chaos", Decider::Chaos),
    ("operator", Decider::Operator),
    ("disk", Decider::Disk),
    ("media", Decider::Media),
    ("shell", Decider::Shell),
    ("impostor", Decider::Impostor),
    ("core", Decider::Core),
];

impl Decider {
    fn parse(name: &str) -> Option<Self> {
        if let Some((_, alone)) = ALONE.iter().find(|(own, _)| *own == name) {
            return Some(*alone);
        }
        let (kind, name): (fn(Who) -> Self, &str) = match name.split_once('-') {
            None => (Self::Actor, name),
            Some(("net", name)) => (Self::Network, name),
            Some(("voice", name)) => (Self::Voice, name),
            Some(_) => return None,
        };
        let who = if name == "idler" {
            Who::Idler
        } else if name == "thief" {
            Who::Thief
        } else if let Some(index) = name.strip_prefix("pbx") {
            Who::Pbx(index.parse().ok()?)
        } else if let Some(index) = name.strip_prefix("phone") {
            Who::Phone(index.parse().ok()?)
        } else {
            Who::Scanner(name.strip_prefix("scanner")?.parse().ok()?)
        };
        Some(kind(who))
    }

    /// A number of its own.
    pub(crate) fn code(self) -> u64 {
        let of = |who| match who {
            Who::Idler => 0,
            Who::Thief => 1 << 32,
            Who::Pbx(index) => 1 + 3 * index as u64,
            Who::Phone(index) => 2 + 3 * index as u64,
            Who::Scanner(index) => 3 + 3 * index as u64,
        };
        match self {
            Self::Chaos => 1,
            Self::Operator => 2,
            Self::Disk => 3,
            Self::Media => 4,
            Self::Shell => 5,
            Self::Impostor => 6,
            Self::Core => 7,
            Self::Actor(who) => 8 + 3 * of(who),
            Self::Network(who) => 9 + 3 * of(who),
            Self::Voice(who) => 10 + 3 * of(who),
        }
    }
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, who) = match self {
            Self::Actor(who) => ("", who),
            Self::Network(who) => ("net-", who),
            Self::Voice(who) => ("voice-", who),
            alone => {
                let name = ALONE.iter().find(|(_, own)| own == alone).map_or("", |(name, _)| name);
                return f.write_str(name);
            }
        };
        match who {
            Who::Phone(index) => write!(f, "{kind}phone{index}"),
            Who::Scanner(index) => write!(f, "{kind}scanner{index}"),
            Who::Pbx(index) => write!(f, "{kind}pbx{index}"),
            Who::Idler => write!(f, "{kind}idler"),
            Who::Thief => write!(f, "{kind}thief"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deciders() -> Vec<Decider> {
        let who = [
            Who::Idler,
            Who::Thief,
            Who::Pbx(0),
            Who::Pbx(1),
            Who::Phone(0),
            Who::Phone(1),
            Who::Scanner(0),
            Who::Scanner(1),
        ];
        let alone = ALONE.iter().map(|(_, decider)| *decider);
        alone
            .chain(
                who.into_iter()
                    .flat_map(|who| [Decider::Actor(who), Decider::Network(who), Decider::Voice(who)]),
            )
            .collect()
    }

    #[test]
    fn every_decider_has_a_name_and_chance_of_its_own() {
        let all = deciders();
        let codes: BTreeSet<u64> = all.iter().map(|decider| decider.code()).collect();
        assert_eq!(codes.len(), all.len());
        for decider in all {
            assert_eq!(Decider::parse(&decider.to_string()), Some(decider), "{decider}");
        }
    }

    #[test]
    fn a_set_of_actions_is_read_as_it_is_written() {
        let text = "phone0:1-4,phone0:9,net-pbx0:7-8,chaos:2";
        let actions: Actions = text.parse().unwrap();
        assert_eq!(actions.0.len(), 8);
        assert_eq!(actions.to_string().parse(), Ok(actions));
        assert_eq!("none".parse(), Ok(Actions::default()));
        assert_eq!(Actions::default().to_string(), "none");
        assert_eq!("phone0".parse::<Actions>(), Err(NoActions("phone0".into())));
        assert!("owner:1".parse::<Actions>().is_err() && "phone0:x".parse::<Actions>().is_err());
    }

    #[test]
    fn a_decision_left_out_changes_nothing_about_the_next() {
        let only = "phone0:2".parse().unwrap();
        let by = Decider::Actor(Who::Phone(0));
        let (mut all, mut some) = (Decisions::new(7, None), Decisions::new(7, Some(only)));
        for may in [false, true, false] {
            let (mut one, mut other) = (all.turn(by), some.turn(by));
            assert_eq!(one.bits(), other.bits());
            assert!(all.may(by, "calls"));
            assert_eq!(some.may(by, "calls"), may);
        }
        assert_eq!((all.deeds.len(), some.deeds.len()), (3, 1));
        assert_eq!(some.deeds.first().map(|deed| deed.action.number), Some(2));
        let mut other = all.turn(Decider::Chaos);
        assert_ne!(all.turn(by).bits(), other.bits());
    }
}
