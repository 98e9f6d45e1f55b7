//! Rules about REGISTER and BYE: how long one waits, how its numbers rise, how often one is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::oracle::{Sent, Violation};
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
pub(crate) struct Requests {
    waiting: BTreeMap<(String, String), Waiting>,
    /// The highest number of each series at the PBX, by Call-ID.
    series: BTreeMap<String, u32>,
    /// The transactions of all these, which may be repeated.
    registers: BTreeSet<String>,
    /// The transactions by which the border ended each dialog.
    byes: BTreeMap<(Side, String, String, String), BTreeSet<String>>,
}

impl Requests {
    /// A request reached the border.
    pub(crate) fn on_arrival(&mut self, flow: FlowId, from: SocketAddr, text: &Text, now: Instant) {
        if text.method() == "REGISTER" {
            let key = (text.branch().to_owned(), text.header("Call-ID").to_owned());
            self.waiting.entry(key).or_insert(Waiting { since: now, flow, source: from.ip() });
        }
    }

    /// A connection is gone: nobody waits there any more.
    pub(crate) fn on_closed(&mut self, flow: FlowId) {
        self.waiting.retain(|_, waiting| waiting.flow != flow);
    }

    /// Who is blocked gets no answer.
    pub(crate) fn on_lists(&mut self, blocked: &PrefixSet) {
        self.waiting.retain(|_, waiting| !blocked.contains(waiting.source));
    }

    /// What had come before is forgotten; the numbers at the PBX are not.
    pub(crate) fn on_restart(&mut self) {
        self.waiting.clear();
    }

    pub(crate) fn on_sent(&mut self, sent: &Sent<'_>, text: &Text) -> Result<(), Violation> {
        match (sent.side, text.method(), text.code()) {
            (Side::Outside, "REGISTER", Some(200..)) => {
                self.waiting.remove(&(text.branch().to_owned(), text.header("Call-ID").to_owned()));
                Ok(())
            }
            (Side::Inside, "REGISTER", None) => self.numbers_rise(text),
            (side, "BYE", None) => self.hung_up_once(side, text),
            _ => Ok(()),
        }
    }

    /// (7) No phone waits for its answer longer than it may.
    pub(crate) fn nobody_waits(&self, now: Instant) -> Result<(), Violation> {
        match self.waiting.iter().find(|(_, waiting)| now.since(waiting.since) > REGISTER_WAITS) {
            Some(((_, call_id), waiting)) => Err(Violation {
                oracle: "a REGISTER is answered in time",
                seen: format!("{call_id} of {} waits since {:?}", waiting.source, waiting.since),
                call: call_id.clone(),
            }),
            None => Ok(()),
        }
    }

    /// (8) The PBX sees the CSeqs of a series rise, whatever became of us and of our disk.
    fn numbers_rise(&mut self, text: &Text) -> Result<(), Violation> {
        if !self.registers.insert(text.branch().to_owned()) {
            return Ok(());
        }
        let cseq = text.cseq();
        match self.series.insert(text.header("Call-ID").to_owned(), cseq) {
            Some(before) if before >= cseq => Err(Violation {
                oracle: "CSeqs rise",
                seen: format!("{cseq} after {before}:\n{}", text.render()),
                call: text.from_tag().to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// (9) However often a late answer is repeated, its dialog is ended once.
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
