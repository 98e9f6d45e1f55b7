//! Rules about REGISTER and BYE: how long one waits, how often one is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::oracle::{Seen, Violation};
use crate::text::Text;

/// A phone waits for the PBX ten seconds, then for the disk a quarter of one; a real shell is never on time.
const REGISTER_WAITS: Duration = Duration::from_millis(10_300);
/// One that a peer sent, the border's own, and as many again where they cross.
const BYES_MAX: usize = 4;

/// A REGISTER of a phone without its answer.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    flow: FlowId,
    source: IpAddr,
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Requests {
    waiting: BTreeMap<(String, String), Waiting>,
    /// The transactions by which the border ended each dialog.
    byes: BTreeMap<(Side, String, String, String), BTreeSet<String>>,
}

impl Requests {
    /// A request reached the border.
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if text.method() == "REGISTER" && text.code().is_none() {
            let key = (text.branch().to_owned(), text.header("Call-ID").to_owned());
            let waiting = Waiting { since: seen.now, flow: seen.flow, source: seen.peer.ip() };
            self.waiting.entry(key).or_insert(waiting);
        }
    }

    /// A connection is gone: nobody waits there any more.
    pub(super) fn on_closed(&mut self, flow: FlowId) {
        self.waiting.retain(|_, waiting| waiting.flow != flow);
    }

    /// Who is blocked gets no answer.
    pub(super) fn on_lists(&mut self, blocked: &PrefixSet) {
        self.waiting.retain(|_, waiting| !blocked.contains(waiting.source));
    }

    /// What had come before is forgotten.
    pub(super) fn on_restart(&mut self) {
        self.waiting.clear();
    }

    /// A PBX that comes back knows no dialog any more.
    pub(super) fn on_pbx_restart(&mut self) {
        self.byes.clear();
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        match (seen.side, text.method(), text.code()) {
            (Side::Outside, "REGISTER", Some(200..)) => {
                self.waiting.remove(&(text.branch().to_owned(), text.header("Call-ID").to_owned()));
                Ok(())
            }
            (side, "BYE", None) => self.hung_up_once(side, text),
            _ => Ok(()),
        }
    }

    /// (7) No phone waits for its answer longer than it may.
    pub(super) fn nobody_waits(&self, now: Instant) -> Result<(), Violation> {
        match self.waiting.iter().find(|(_, waiting)| now.since(waiting.since) > REGISTER_WAITS) {
            Some(((_, call_id), waiting)) => Err(Violation {
                oracle: "a REGISTER is answered in time",
                seen: format!("{call_id} of {} waits since {:?}", waiting.source, waiting.since),
                call: call_id.clone(),
            }),
            None => Ok(()),
        }
    }

    /// (8) However often a late answer is repeated, its dialog is ended once.
    fn hung_up_once(&mut self, side: Side, text: &Text) -> Result<(), Violation> {
        let (call_id, from, to) = (text.header("Call-ID"), text.from_tag(), text.to_tag());
        let byes = self.byes.entry((side, call_id.to_owned(), from.to_owned(), to.to_owned())).or_default();
        byes.insert(text.branch().to_owned());
        match byes.len() > BYES_MAX {
            true => Err(Violation {
                oracle: "a dialog is ended once",
                seen: format!("{} BYEs: {}", byes.len(), text.render()),
                call: from.to_owned(),
            }),
            false => Ok(()),
        }
    }
}
