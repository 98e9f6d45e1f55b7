//! Rules about the two halves of a call: neither outlives the other, and none is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::oracle::{Seen, Violation};
use crate::scenery;

/// How long a half may outlive the other: a BYE that nobody answers is repeated for 32 s.
const OUTLIVES_MAX: Duration = Duration::from_secs(40);

/// How long the other end of a call may go on whose phone is blocked, or gave it up.
const CUT_OFF: Duration = Duration::from_secs(2);

/// A little less than an INVITE waits for its first answer.
const TIMER_B: Duration = Duration::from_millis(31_900);

/// How long an ACK may wait for a relay's ports.
const ACK_WAITS: Duration = Duration::from_secs(2);

/// One side of a dialog pair.
#[derive(Clone, Debug, Default)]
struct Half {
    confirmed: bool,
    ended: bool,
    /// It was blocked when the other one ended: no BYE comes there, then or later.
    cut_off: bool,
    /// Where it was heard or spoken to: a call between two phones has two halves on one face.
    flows: BTreeSet<FlowId>,
    /// The hosts there.
    hosts: BTreeSet<IpAddr>,
}

/// An INVITE that was refused to a phone.
#[derive(Debug)]
struct Refused {
    number: u32,
    /// The phone has repeated it since. Where it was refused for its phone was not registered, that may begin a call.
    comes_again: bool,
}

/// What the rules remember: tags cross the border unchanged, so that they name both halves.
#[derive(Debug, Default)]
pub(super) struct Halves {
    /// By the tags of the two parties, in their order.
    pairs: BTreeMap<[String; 2], [Half; 2]>,
    /// Pairs of which one half has ended, by when the other must have.
    ending: BTreeMap<(Instant, [String; 2]), Side>,
    /// ACKs that came to one face and are due on the other, and until when.
    acks: BTreeMap<(Side, [String; 2]), Instant>,
    /// Those that the border sent, with their numbers.
    acknowledged: BTreeSet<(Side, [String; 2], u32)>,
    /// Of INVITEs of the border, with the time when each went first.
    asked: BTreeMap<String, Instant>,
    /// The newest number with which a phone began a call, and the one that was refused, by the From tag.
    begun: BTreeMap<String, u32>,
    refused: BTreeMap<String, Refused>,
    /// Of INVITEs: the ACK of a refusal bears the same, and goes no further.
    branches: BTreeSet<String>,
    /// Pairs of which both halves are confirmed and none has ended.
    live: usize,
    /// To whom nothing is said, but on these flows.
    blocked: PrefixSet,
    spared: BTreeSet<FlowId>,
}

fn tags(seen: &Seen<'_>) -> Option<[String; 2]> {
    let mut tags = [seen.text.from_tag().to_owned(), seen.text.to_tag().to_owned()];
    tags.sort();
    (!tags[0].is_empty()).then_some(tags)
}

fn is_live(halves: &[Half; 2]) -> bool {
    halves.iter().all(|half| half.confirmed && !half.ended)
}

impl Halves {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        match (seen.text.method(), seen.text.code()) {
            // one that was asked for before a restart says nothing to the border any more
            ("INVITE", Some(200..=299)) if self.asked.contains_key(seen.text.branch()) => {
                self.confirmed(seen);
                self.comes_again(seen);
                self.comes_late(seen);
            }
            ("INVITE", None) => {
                self.branches.insert(seen.text.branch().to_owned());
                if scenery::is_phone(seen.peer.ip()) && seen.text.to_tag().is_empty() {
                    let newest = self.begun.entry(seen.text.from_tag().to_owned()).or_default();
                    *newest = (*newest).max(seen.text.cseq());
                    if let Some(refused) = self.refused.get_mut(seen.text.from_tag()) {
                        refused.comes_again |= refused.number == seen.text.cseq();
                    }
                }
            }
            ("ACK", None) if !self.branches.contains(seen.text.branch()) => self.acknowledged(seen),
            // whoever hangs up is done with it, whatever he is answered
            ("BYE", None) => drop(self.ended(seen)),
            _ => {}
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) {
        match (seen.text.method(), seen.text.code()) {
            ("INVITE", None) => {
                let (branch, tag) = (seen.text.branch(), seen.text.from_tag());
                let is_new = !self.asked.contains_key(branch);
                if is_new && self.refused.get(tag).is_some_and(|refused| refused.comes_again) {
                    self.refused.remove(tag);
                }
                self.asked.entry(branch.to_owned()).or_insert(seen.now);
            }
            ("INVITE", Some(200..=299)) => self.confirmed(seen),
            ("INVITE", Some(300..)) if seen.side == Side::Outside => {
                let refused = Refused { number: seen.text.cseq(), comes_again: false };
                self.refused.insert(seen.text.from_tag().to_owned(), refused);
            }
            ("ACK", None) => {
                let Some(tags) = tags(seen) else { return };
                self.acknowledged.insert((seen.side, tags.clone(), seen.text.cseq()));
                self.acks.remove(&(seen.side, tags));
            }
            // that a peer hung up concerns the other once the border has taken it
            ("BYE", None | Some(200..=299)) => {
                let Some(tags) = self.ended(seen) else { return };
                let other = seen.side.other();
                let is_blocked = self.is_blocked(&tags, other);
                let Some(halves) = self.pairs.get_mut(&tags) else { return };
                // what is repeated after the block says nothing new
                let half = &mut halves[other.index()];
                half.cut_off |= is_blocked;
                if !half.cut_off {
                    self.ending.insert((seen.now + OUTLIVES_MAX, tags), other);
                }
            }
            _ => {}
        }
    }

    /// Who is blocked hears no BYE, then or later.
    fn is_blocked(&self, tags: &[String; 2], side: Side) -> bool {
        let half = self.pairs.get(tags).map(|halves| &halves[side.index()]);
        side == Side::Outside
            && half.is_some_and(|half| {
                // it may have moved, and not said so in this call
                let places = half.hosts.iter().flat_map(|host| [Some(*host), scenery::elsewhere(*host)]);
                places.flatten().any(|host| self.blocked.contains(host))
                    && half.flows.is_disjoint(&self.spared)
            })
    }

    /// Who is blocked has no calls any more: the other end of each has its BYE soon. `spared` are the hosts, too, of
    /// flows that go on.
    pub(super) fn on_lists(&mut self, blocked: &PrefixSet, spared: &[FlowId], at: Instant, hosts: &[IpAddr]) {
        self.blocked = blocked.clone();
        self.spared = spared.iter().copied().collect();
        let is_cut_off = |host: &IpAddr| blocked.contains(*host) && !hosts.contains(host);
        for (tags, halves) in self.pairs.iter().filter(|(_, halves)| is_live(halves)) {
            let outside = &halves[Side::Outside.index()];
            if !outside.hosts.is_empty() && outside.hosts.iter().all(is_cut_off) {
                self.ending.insert((at + CUT_OFF, tags.clone()), Side::Inside);
            }
        }
    }

    /// The ACK of a 2xx is for whoever accepted (RFC 3261 §13.2.2.4). It may wait for ports, no longer.
    fn acknowledged(&mut self, seen: &Seen<'_>) {
        let Some(tags) = tags(seen) else { return };
        if self.pairs.get(&tags).is_some_and(is_live) {
            self.acks.entry((seen.side.other(), tags)).or_insert(seen.now + ACK_WAITS);
        }
    }

    /// Whoever accepts what was refused to its caller is hung up (RFC 3261 §13.2.2.4).
    fn comes_late(&mut self, seen: &Seen<'_>) {
        // one that was challenged, or refused for now, may have been tried again
        let begun = self.begun.get(seen.text.from_tag());
        let number = self.refused.get(seen.text.from_tag()).map(|refused| &refused.number);
        let refused = begun.is_some() && begun == number;
        // after timer B nobody is left who could say so (RFC 3261 §17.1.1.2)
        let asked = self.asked.get(seen.text.branch());
        let refused = refused && asked.is_some_and(|since| seen.now.since(*since) < TIMER_B);
        if let Some(tags) = tags(seen).filter(|_| refused && seen.side == Side::Inside) {
            self.ending.insert((seen.now + CUT_OFF, tags), seen.side);
        }
    }

    /// A 2xx that comes again has not had its ACK, which was sent: it is sent again (RFC 3261 §13.2.2.4).
    fn comes_again(&mut self, seen: &Seen<'_>) {
        let Some(tags) = tags(seen).filter(|tags| self.pairs.get(tags).is_some_and(is_live)) else { return };
        let had = (seen.side, tags, seen.text.cseq());
        if self.acknowledged.contains(&had) {
            self.acks.entry((had.0, had.1)).or_insert(seen.now + ACK_WAITS);
        }
    }

    fn confirmed(&mut self, seen: &Seen<'_>) {
        let Some(tags) = tags(seen) else { return };
        let halves = self.pairs.entry(tags).or_default();
        let was = is_live(halves);
        let half = &mut halves[seen.side.index()];
        half.confirmed = true;
        half.flows.insert(seen.flow);
        half.hosts.insert(seen.peer.ip());
        self.live += usize::from(!was && is_live(halves));
    }

    /// The half where it was seen has ended; its tags, if it was known.
    fn ended(&mut self, seen: &Seen<'_>) -> Option<[String; 2]> {
        let tags = tags(seen)?;
        let halves = self.pairs.get_mut(&tags)?;
        self.live -= usize::from(is_live(halves));
        let half = &mut halves[seen.side.index()];
        half.ended = true;
        half.flows.insert(seen.flow);
        half.hosts.insert(seen.peer.ip());
        Some(tags)
    }

    /// How many calls must be there at least: forks of one INVITE are one.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// The tag of one of them.
    pub(super) fn a_live_one(&self) -> Option<&String> {
        self.pairs.iter().find(|(_, halves)| is_live(halves)).map(|([tag, _], _)| tag)
    }

    /// Neither half outlives the other by more than a BYE takes, unless its flow is gone.
    pub(super) fn none_outlives_the_other(
        &mut self,
        now: Instant,
        is_closed: impl Fn(FlowId) -> bool,
    ) -> Result<(), Violation> {
        while let Some(((side, tags), until)) = self.acks.iter().find(|(_, until)| **until < now) {
            let (place, until) = ((*side, tags.clone()), *until);
            self.acks.remove(&place);
            let Some(halves) = self.pairs.get(&place.1) else { continue };
            let gone = halves.iter().flat_map(|half| &half.flows).any(|flow| is_closed(*flow));
            if is_live(halves) && !gone {
                return Err(Violation {
                    oracle: "an ACK crosses",
                    seen: format!("of {:?} it was due {:?} at {until:?}", place.1, place.0),
                    call: place.1[0].clone(),
                });
            }
        }
        while let Some(entry) = self.ending.first_entry().filter(|entry| entry.key().0 < now) {
            let ((_, tags), side) = entry.remove_entry();
            // It is kept: an answer of it that is repeated still makes no new call.
            let Some(halves) = self.pairs.get(&tags) else { continue };
            let half = &halves[side.index()];
            if half.confirmed && !half.ended && !half.flows.iter().any(|flow| is_closed(*flow)) {
                return Err(Violation {
                    oracle: "both halves of a call end",
                    seen: format!("the half {side:?} of {tags:?} lives on"),
                    call: tags[0].clone(),
                });
            }
        }
        Ok(())
    }

    /// A restart takes all calls with it.
    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }
}
