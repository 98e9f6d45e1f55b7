//! Whose turn it is to be asked about at the PBX's registrar, of those who have no registration.
//!
//! Behind a name that the PBX answers for itself the phone's own REGISTER goes there; behind any other a sample of
//! ours goes in its place. Both go at the same moments: some at once, then all that came within a gap together. So a
//! decoy is as late as an answer of the PBX, and its nonce as old.

use std::collections::VecDeque;
use std::time::Duration;

use sip::ServerId;
use wire::clock::Instant;
use wire::sip::Message;

use crate::Border;
use crate::answer::Ask;
use crate::drop_reason::DropReason;
use crate::entry::EntryId;
use crate::timers::{Deadline, Timer, Timers};

/// From one turn to the next, where there are more than may go at once.
const GAP: Duration = Duration::from_millis(50);
/// So many may go at once after a while without any: their challenges tell what the next ones look like.
const AT_ONCE: u32 = 4;
/// A sample without an answer for so long says that the PBX hangs: then it is asked no more for each.
pub(crate) const SLOW: Duration = Duration::from_millis(200);
/// How soon a PBX that hangs is asked again.
const RETRY: Duration = Duration::from_millis(500);
/// How long an older sample without an answer counts.
const COUNTS: Duration = Duration::from_secs(1);

/// A question that has no answer yet.
#[derive(Clone, Copy, Debug)]
struct Sample {
    number: u64,
    sent: Instant,
}

/// Who waits for his turn.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A stranger, for whom a sample goes.
    Decoy(ServerId),
    /// A phone, whose own REGISTER goes.
    Phone(Ask, EntryId),
}

/// What can be done now for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is his.
    Now,
    /// The PBX hangs: he hears what the answer to this sample will be.
    Join(u64),
    /// Later.
    Wait,
}

/// The questions to one PBX in the place of strangers.
#[derive(Default)]
pub(crate) struct Samples {
    unanswered: VecDeque<Sample>,
    /// The number of the newest.
    number: u64,
    /// When all turns that were taken are over, each a gap long.
    taken_until: Option<Instant>,
    waiting: Vec<Waiting>,
    deadline: Deadline,
}

impl Samples {
    /// Whose turn it is; takes it, where it is now.
    pub(crate) fn turn(&mut self, now: Instant) -> Turn {
        if let Some(hanging) = self.hanging(now) {
            return hanging;
        }
        if !self.waiting.is_empty() || self.next_turn(now) > now {
            return Turn::Wait;
        }
        self.take_turn(now);
        Turn::Now
    }

    fn next_turn(&self, now: Instant) -> Instant {
        let taken = self.taken_until.map_or(Duration::ZERO, |until| until - now);
        now + taken.saturating_sub(GAP * (AT_ONCE - 1))
    }

    fn take_turn(&mut self, now: Instant) {
        self.taken_until = Some(self.taken_until.map_or(now, |until| until.max(now)) + GAP);
    }

    /// What is done while the PBX hangs; none while it does not.
    pub(crate) fn hanging(&mut self, now: Instant) -> Option<Turn> {
        while self.unanswered.len() > 1
            && self.unanswered.front().is_some_and(|sample| now - sample.sent >= COUNTS)
        {
            self.unanswered.pop_front();
        }
        let newest = self.unanswered.back().copied().filter(|sample| sample.number == self.number)?;
        let owes = self.unanswered.front().is_some_and(|sample| now - sample.sent >= SLOW);
        owes.then(|| if now - newest.sent >= RETRY { Turn::Now } else { Turn::Join(newest.number) })
    }

    /// A sample goes out; its number.
    pub(crate) fn sent(&mut self, now: Instant) -> u64 {
        self.number += 1;
        self.unanswered.push_back(Sample { number: self.number, sent: now });
        self.number
    }

    /// A sample has its answer, or will have none.
    pub(crate) fn ended(&mut self, number: u64) {
        self.unanswered.retain(|sample| sample.number != number);
    }

    /// Somebody waits for the next turn.
    pub(crate) fn wait(&mut self, who: Waiting, now: Instant, pbx: usize, timers: &mut Timers) {
        if self.waiting.is_empty() {
            self.deadline.set(self.next_turn(now), Timer::Samples(pbx), timers);
            self.take_turn(now);
        }
        self.waiting.push(who);
    }

    fn timed_out(&mut self, pbx: usize, now: Instant, timers: &mut Timers) -> Vec<Waiting> {
        if self.deadline.fired(now, Timer::Samples(pbx), timers) {
            std::mem::take(&mut self.waiting)
        } else {
            Vec::new()
        }
    }
}

impl Border {
    /// Whether the REGISTER of a phone without a registration may go to the PBX now; else it goes in its turn.
    pub(crate) fn takes_turn(&mut self, pbx: usize, ask: &Ask, entry: EntryId) -> bool {
        let now = self.now.mono;
        let samples = &mut self.pbxs[pbx].samples;
        match samples.turn(now) {
            // To a PBX that hangs each goes at once, and hears of it as soon as strangers do.
            Turn::Now | Turn::Join(_) => true,
            Turn::Wait => {
                let who = Waiting::Phone(ask.clone(), entry);
                samples.wait(who, now, pbx, &mut self.timers);
                false
            }
        }
    }

    /// The next turn has come: all who waited for it go.
    pub(crate) fn on_samples_timer(&mut self, pbx: usize) {
        let waiting = self.pbxs[pbx].samples.timed_out(pbx, self.now.mono, &mut self.timers);
        let (mut strangers, mut phones) = (Vec::new(), Vec::new());
        for who in waiting {
            match who {
                Waiting::Decoy(server) => strangers.push(server),
                Waiting::Phone(ask, entry) => phones.push((ask, entry)),
            }
        }
        // Nobody is first because of what he is.
        let place = self.entropy.below(phones.len() as u64 + 1);
        for (number, (ask, entry)) in (0..).zip(phones) {
            if number == place {
                self.ask_for_decoys(pbx, std::mem::take(&mut strangers));
            }
            self.pass_waiting(&ask, entry);
        }
        self.ask_for_decoys(pbx, strangers);
    }

    fn pass_waiting(&mut self, ask: &Ask, entry: EntryId) {
        if !self.is_there(&ask.hop) {
            return self.abandon(ask, DropReason::FlowClosed);
        }
        if self.is_blocked(ask.hop.flow, ask.hop.remote) {
            return self.abandon(ask, DropReason::Blocked);
        }
        let Ok(message) = Message::parse(&ask.bytes) else {
            return self.never("a request that was read cannot be read again");
        };
        let Ok(essentials) = message.essentials() else {
            return self.never("a request that was read cannot be read again");
        };
        if let Some(pbx) = self.pbx_for_phone(ask, entry) {
            self.pass_register(ask, (&message, &essentials), entry, None, pbx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn some_go_at_once_and_the_rest_a_gap_apart() {
        let (mut samples, mut timers) = (Samples::default(), Timers::default());
        for _ in 0..AT_ONCE {
            assert_eq!(samples.turn(at(1_000)), Turn::Now);
        }
        let mut turns = Vec::new();
        for ms in 1_000..2_000 {
            assert_eq!(samples.turn(at(ms)), Turn::Wait);
            samples.wait(Waiting::Decoy(server()), at(ms), 0, &mut timers);
            while let Some(timer) = timers.pop_due(at(ms)) {
                assert_eq!(timer, Timer::Samples(0));
                turns.push((ms, samples.timed_out(0, at(ms), &mut timers).len()));
            }
        }
        assert!(turns.windows(2).all(|two| two[1].0 - two[0].0 == 50), "{turns:?}");
        assert!((19..=20).contains(&turns.len()) && turns.iter().all(|(_, all)| *all >= 50), "{turns:?}");
        // After a while without any, some may go at once again.
        let later = at(10_000);
        samples.timed_out(0, later, &mut timers);
        assert_eq!([0; 5].map(|_| samples.turn(later) == Turn::Now), [true, true, true, true, false]);
    }

    #[test]
    fn a_pbx_that_hangs_is_asked_twice_a_second() {
        let mut samples = Samples::default();
        assert_eq!(samples.turn(at(0)), Turn::Now);
        let first = samples.sent(at(0));
        assert_eq!((samples.turn(at(199)), samples.turn(at(200))), (Turn::Now, Turn::Join(first)));
        assert_eq!((samples.turn(at(499)), samples.turn(at(500))), (Turn::Join(first), Turn::Now));
        let second = samples.sent(at(500));
        assert_eq!(samples.turn(at(501)), Turn::Join(second));
        samples.ended(second);
        assert_eq!(samples.turn(at(502)), Turn::Now, "it answers again");
    }

    /// A number as the transaction layer gives them.
    fn server() -> ServerId {
        let text =
            b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                     To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        let message = Message::parse(text).unwrap();
        let hop = sip::Hop {
            flow: wire::net::FlowId(1),
            remote: ([192, 0, 2, 1], 5060).into(),
            transport: wire::net::Transport::Udp,
        };
        let mut layer = sip::TransactionLayer::new(1);
        let outcome = layer.receive_request(hop, &message, &message.essentials().unwrap(), at(0));
        let sip::RequestOutcome::New(server) = outcome else { panic!("{outcome:?}") };
        server
    }
}
