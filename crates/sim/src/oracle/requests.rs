//! Rules about REGISTER and BYE: how long one waits, how often one is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::oracle::{Seen, Violation};
use crate::scenery;
use crate::text::Text;

/// A phone waits for the PBX ten seconds, then for the disk a quarter of one; a real shell is never on time.
const REGISTER_WAITS: Duration = Duration::from_millis(10_300);

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
    /// Dialogs that the border ended.
    ended: BTreeMap<Dialog, Ended>,
    /// The BYEs of peers, by face and by the tags of the two parties, which cross unchanged.
    hung_up: BTreeMap<(Side, [String; 2]), BTreeSet<String>>,
}

/// A dialog as the border's requests in it name it: face, Call-ID, From tag, To tag.
type Dialog = (Side, String, String, String);

fn dialog(side: Side, text: &Text) -> Dialog {
    (side, text.header("Call-ID").to_owned(), text.from_tag().to_owned(), text.to_tag().to_owned())
}

fn parties(text: &Text) -> [String; 2] {
    let mut tags = [text.from_tag().to_owned(), text.to_tag().to_owned()];
    tags.sort();
    tags
}

/// How a dialog was ended.
#[derive(Debug, Default)]
struct Ended {
    /// The transactions by which the border did.
    byes: BTreeSet<String>,
    /// Its INVITEs that were accepted afterwards: whoever did knows nothing of the end, and is hung up on once.
    late: BTreeSet<u32>,
}

impl Requests {
    /// A message reached the border.
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if text.method() == "INVITE"
            && matches!(text.code(), Some(200..=299))
            && let Some(ended) = self.ended.get_mut(&dialog(seen.side, text))
        {
            ended.late.insert(text.cseq());
        }
        if text.method() == "BYE" && text.code().is_none() {
            self.hung_up.entry((seen.side, parties(text))).or_default().insert(text.branch().to_owned());
        }
        let by_phone = seen.side == Side::Outside && scenery::is_phone(seen.peer.ip());
        if text.method() == "REGISTER" && text.code().is_none() && by_phone {
            let key = (text.branch().to_owned(), text.header("Call-ID").to_owned());
            let waiting = Waiting { since: seen.now, flow: seen.flow, source: seen.peer.ip() };
            self.waiting.entry(key).or_insert(waiting);
        }
    }

    /// Whether somebody waits for his answer on a connection.
    pub(super) fn waits_on(&self, flow: FlowId) -> bool {
        self.waiting.values().any(|waiting| waiting.flow == flow)
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

    /// No phone waits for its answer longer than it may.
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

    /// However often a late answer is repeated, its dialog is ended once; and where a peer hangs up once more, for
    /// nobody had answered, as often as he does.
    fn hung_up_once(&mut self, side: Side, text: &Text) -> Result<(), Violation> {
        let ended = self.ended.entry(dialog(side, text)).or_default();
        ended.byes.insert(text.branch().to_owned());
        let asked = self.hung_up.get(&(side.other(), parties(text))).map_or(0, BTreeSet::len);
        match ended.byes.len() > asked.max(1) + ended.late.len() {
            true => Err(Violation {
                oracle: "a dialog is ended once",
                seen: format!(
                    "{} BYEs, {} late answers: {}",
                    ended.byes.len(),
                    ended.late.len(),
                    text.render()
                ),
                call: text.from_tag().to_owned(),
            }),
            false => Ok(()),
        }
    }
}
