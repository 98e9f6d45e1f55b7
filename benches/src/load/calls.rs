//! The calls that phones have under way: INVITE, 200, ACK, a while, BYE, 200 (RFC 3261 §13).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::phones::Outcome;
use crate::measure::time::Nanos;
use crate::templates::Speaker;

/// What an INVITE carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Nothing: signalling alone.
    Nothing,
    /// An SDP offer of audio.
    Audio,
}

/// One of them.
#[derive(Debug)]
struct Call {
    phone: usize,
    due: Nanos,
    hold: Duration,
    /// The 200 that was answered.
    taken: Option<String>,
}

/// All that have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: BTreeMap<u64, Call>,
    byes: VecDeque<(Nanos, u64)>,
    last: u64,
    longest_hold: Duration,
}

impl Calls {
    /// Forgets what is under way.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.byes.clear();
        self.longest_hold = Duration::ZERO;
    }

    /// How long a call may last beyond its answers.
    pub(super) fn longest_hold(&self) -> Nanos {
        self.longest_hold.into()
    }

    /// A new one: its number and its INVITE.
    pub(super) fn invite(
        &mut self,
        phone: usize,
        speaker: &Speaker,
        offer: Offer,
        hold: Duration,
        due: Nanos,
    ) -> (u64, Vec<u8>) {
        self.last += 1;
        self.longest_hold = self.longest_hold.max(hold);
        self.open.insert(self.last, Call { phone, due, hold, taken: None });
        let invite = match offer {
            Offer::Nothing => speaker.bare_invite(self.last),
            Offer::Audio => speaker.invite(self.last),
        };
        (self.last, invite)
    }

    /// It could not be sent.
    pub(super) fn forget(&mut self, call: u64) {
        self.open.remove(&call);
    }

    /// When the next BYE is due.
    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.byes.front().map(|(due, _)| *due)
    }

    /// Who is to say BYE now: phone, call, method, and the 200 that opened the dialog.
    pub(super) fn byes_due(&mut self, now: Nanos) -> Vec<(usize, u64, &'static str, String)> {
        let mut due = Vec::new();
        while self.byes.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, number)) = self.byes.pop_front() else { break };
            if let Some(Call { phone, taken: Some(ok), .. }) = self.open.get(&number) {
                due.push((*phone, number, "BYE", ok.clone()));
            }
        }
        due
    }

    /// A final answer; whether it is to be acknowledged.
    pub(super) fn answered(
        &mut self,
        number: u64,
        method: &str,
        status: u16,
        text: &str,
        outcome: &mut Outcome,
    ) -> bool {
        let Some(call) = self.open.get_mut(&number) else { return false };
        match (method, status) {
            ("INVITE", 200) => {
                if call.taken.is_none() {
                    let now = Nanos::now();
                    outcome.latency.add(now.since(call.due));
                    call.taken = Some(text.to_owned());
                    self.byes.push_back((now + Nanos::from(call.hold), number));
                }
                true
            }
            ("BYE", 200) => {
                self.open.remove(&number);
                outcome.done += 1;
                false
            }
            _ => {
                self.open.remove(&number);
                outcome.fail(format!("{method} {status}"));
                // its ACK belongs to the transaction; a run with refused calls counts for nothing anyway
                false
            }
        }
    }
}
