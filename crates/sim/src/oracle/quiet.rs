//! A rule about who has acknowledged: the 2xx of his INVITE is not sent to him again unless he asks again.

use std::collections::{BTreeMap, BTreeSet};

use wire::clock::Instant;
use wire::net::Side;

use crate::oracle::{Seen, Violation};

/// An INVITE as its sender numbers it: face, Call-ID, From tag, CSeq.
type Invite = (Side, String, String, u32);

/// What the rule remembers.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// The ACK that came last.
    came: Option<(Instant, Invite)>,
    /// INVITEs whose ACK has crossed.
    acknowledged: BTreeSet<Invite>,
    /// The parties that accepted: of several the answers are repeated until each has its ACK.
    parties: BTreeMap<Invite, BTreeSet<String>>,
    /// The INVITE that came last.
    asked: Option<(Instant, Invite)>,
}

fn invite(seen: &Seen<'_>) -> Invite {
    let text = seen.text;
    (seen.side, text.header("Call-ID").to_owned(), text.from_tag().to_owned(), text.cseq())
}

impl Quiet {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        match (seen.text.method(), seen.text.code()) {
            // that of a refusal goes no further, and says nothing of an answer
            ("ACK", None) => {
                let own = invite(seen);
                if self.parties.get(&own).is_some_and(|parties| parties.contains(seen.text.to_tag())) {
                    self.came = Some((seen.now, own));
                }
            }
            ("INVITE", None) => self.asked = Some((seen.now, invite(seen))),
            _ => {}
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        match (text.method(), text.code()) {
            ("ACK", None) => {
                // one that waits, or is of no dialog, says nothing; nor does one that the border makes itself
                let crossed = |(at, (side, _, from, _)): &(Instant, Invite)| {
                    *at == seen.now && *side == seen.side.other() && from == text.from_tag()
                };
                self.acknowledged.extend(self.came.take_if(|came| crossed(came)).map(|(_, invite)| invite));
                Ok(())
            }
            ("INVITE", Some(200..=299)) => {
                let own = invite(seen);
                let asked = self.asked.as_ref().is_some_and(|(at, asked)| *at == seen.now && *asked == own);
                let parties = self.parties.entry(own.clone()).or_default();
                parties.insert(text.to_tag().to_owned());
                match parties.len() == 1 && self.acknowledged.contains(&own) && !asked {
                    true => Err(Violation::of("who has acknowledged is left alone", text.render(), text)),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// A restart takes all calls with it.
    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }
}
