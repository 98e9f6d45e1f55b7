//! Rules about requests that the border sends: repeated when they must be and no other time, one of each,
//! numbered upward, acknowledged, given up as RFC 3261 §9 and §17 say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;
use wire::net::{FlowId, PrefixSet, Side};

use crate::oracle::{Seen, Violation};
use crate::text::{Text, uri_of, user_of};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// 64·T1: nothing is repeated for longer.
const PATIENCE: Duration = Duration::from_secs(32);
/// A real shell is never on time.
const LATE: Duration = Duration::from_millis(40);
/// Longer than anything is under way (`network`).
const UNDER_WAY: Duration = Duration::from_millis(700);

/// A transaction of the border's: face, branch, method.
type Key = (Side, String, String);
/// What a request is: face, Call-ID, tags, method.
type Series = (Side, String, String, String, String);

/// A message that is repeated until somebody answers.
#[derive(Debug)]
struct Repeated {
    bytes: Vec<u8>,
    first: Instant,
    interval: Duration,
    /// The longest interval.
    most: Duration,
    /// When it is to be sent next; none where it is not repeated any more.
    due: Option<Instant>,
    /// None over UDP.
    stream: Option<FlowId>,
    peer: SocketAddr,
    /// It may have been sent before, to nobody.
    unsure: bool,
    /// Another party's answer is repeated in its place.
    superseded: bool,
}

impl Repeated {
    fn new(seen: &Seen<'_>, most: Duration, again: bool) -> Self {
        Self {
            bytes: seen.bytes.to_vec(),
            first: seen.now,
            interval: T1,
            most,
            due: again.then_some(seen.now + T1),
            stream: (!seen.is_udp()).then_some(seen.flow),
            peer: seen.peer,
            unsure: false,
            superseded: false,
        }
    }

    /// It was sent again: by its timer, neither early nor late, and without a change.
    fn again(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        if self.bytes != seen.bytes {
            return Err(format!("a repetition differs from\n{}", String::from_utf8_lossy(&self.bytes)));
        }
        if self.unsure {
            return Ok(());
        }
        let Some(due) = self.due else {
            return Err("it is repeated and should not be".to_owned());
        };
        if seen.now + LATE < due || seen.now.since(self.first) >= PATIENCE {
            return Err(format!("it is repeated {:?} after it was sent first", seen.now.since(self.first)));
        }
        self.interval = (self.interval * 2).min(self.most);
        self.due = Some(seen.now + self.interval);
        Ok(())
    }

    /// Where it may have been sent before, nobody knows when it is due.
    fn unless(mut self, hushed: bool) -> Self {
        self.unsure = hushed;
        self.due = self.due.filter(|_| !hushed);
        self
    }

    /// It is not given up by the time that it is due.
    fn goes_on(&self) -> bool {
        self.due.is_some_and(|due| due.since(self.first) + LATE < PATIENCE)
    }
}

#[derive(Debug)]
struct Request {
    repeated: Repeated,
    provisional: bool,
    /// A provisional answer came in the moment in which it was given up.
    late: bool,
    final_at: Option<Instant>,
    accepted: bool,
    cancelled: bool,
}

/// Whether what the border says to somebody may not have been sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hushed {
    #[default]
    Never,
    /// He is blocked.
    Now,
    /// He was.
    Until(Instant),
}

impl Hushed {
    fn at(self, now: Instant) -> bool {
        match self {
            Self::Never => false,
            Self::Now => true,
            Self::Until(until) => now <= until,
        }
    }
}

/// What may be due: a request of the border's, or its answer to an INVITE.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Request(Key),
    Answer((Side, String, String)),
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    requests: BTreeMap<Key, Request>,
    /// Final answers of the border to INVITEs, until their ACK, by face, branch and To tag.
    answers: BTreeMap<(Side, String, String), (Repeated, [String; 3])>,
    /// INVITEs that had a provisional answer of the border.
    taken_on: BTreeSet<(Side, String)>,
    /// The branch of each request, by what it is and its number.
    branches: BTreeMap<(Series, u32), String>,
    /// Dialogs that had a BYE of either end, by their tags.
    ended: BTreeSet<(Side, [String; 2])>,
    /// The highest number of each series.
    numbers: BTreeMap<Series, u32>,
    /// Until when something may arrive that a PBX had sent before it died.
    from_the_dead: Instant,
    /// Refusals of INVITEs whose ACK the border owes in this step.
    /// Each with the From tag of its call, and the To tag that it must bear.
    owed: BTreeMap<(Side, String), [String; 2]>,
    /// The newest REGISTER of each contact, by face.
    registers: BTreeMap<(Side, String), Key>,
    /// Whom the border spoke with outside, and until when what it says may have begun while he was blocked.
    hushed: BTreeMap<IpAddr, Hushed>,
    /// When something may be due.
    dues: BTreeSet<(Instant, Of)>,
}

fn dialog(seen: &Seen<'_>) -> (Side, [String; 2]) {
    let mut tags = [seen.text.from_tag().to_owned(), seen.text.to_tag().to_owned()];
    tags.sort();
    (seen.side, tags)
}

/// A PBX that forks calls several phones with one Call-ID and tag: each is a series.
fn series(seen: &Seen<'_>) -> Series {
    let text = seen.text;
    let to = match (seen.side, text.to_tag()) {
        (Side::Outside, "") => seen.peer.to_string(),
        (_, tag) => tag.to_owned(),
    };
    let method = if text.method() == "REGISTER" { "REGISTER" } else { "" };
    (seen.side, text.header("Call-ID").to_owned(), text.from_tag().to_owned(), to, method.to_owned())
}

impl Repeats {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        let Some(code) = text.code() else { return self.on_request(seen) };
        let key = (seen.side, text.branch().to_owned(), text.method().to_owned());
        let Some(request) = self.requests.get_mut(&key) else { return };
        // an answer of somebody else's flow is none
        if request.repeated.stream.is_some_and(|flow| flow != seen.flow) {
            return;
        }
        let invite = text.method() == "INVITE";
        if code < 200 {
            if request.final_at.is_some() {
                return;
            }
            // what comes when all was given up changes nothing
            let given_up = seen.now.since(request.repeated.first);
            if !request.provisional && given_up >= PATIENCE {
                request.late |= given_up < PATIENCE + LATE;
                return;
            }
            request.provisional = true;
            if invite {
                request.repeated.due = None;
            } else {
                request.repeated.interval = T2;
            }
            return;
        }
        let over = match (request.final_at, request.provisional) {
            (Some(at), _) => request.repeated.stream.is_some() || seen.now.since(at) >= PATIENCE,
            (None, true) if invite => false,
            (None, _) => seen.now.since(request.repeated.first) >= PATIENCE,
        };
        request.repeated.due = None;
        if over {
            return;
        }
        request.accepted |= code < 300;
        // who was accepted by one party is not refused by another (RFC 6026 §7.2)
        if invite && code >= 300 && !request.cancelled && !request.accepted {
            let place = (seen.side, text.branch().to_owned());
            self.owed.insert(place, [text.from_tag(), text.to_tag()].map(str::to_owned));
        }
        request.final_at.get_or_insert(seen.now);
    }

    /// An ACK, or a BYE, ends the repetition of an answer.
    fn on_request(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if !matches!(text.method(), "ACK" | "BYE") {
            return;
        }
        if text.method() == "BYE" {
            self.ended.insert(dialog(seen));
        }
        self.nobody_waits(seen);
    }

    /// The answers in this dialog need no repetition any more.
    fn nobody_waits(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        let (from, to) = (text.from_tag(), text.to_tag());
        for ((side, branch, _), (answer, names)) in &mut self.answers {
            let [call_id, caller, callee] = names;
            let same = *side == seen.side && call_id == text.header("Call-ID");
            let tags = (caller == from && callee == to) || (caller == to && callee == from);
            if same && (branch == text.branch() || tags) {
                (answer.due, answer.superseded) = (None, false);
            }
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        if seen.side == Side::Outside {
            self.hushed.entry(seen.peer.ip()).or_default();
        }
        match (seen.text.method(), seen.text.code()) {
            ("ACK", None) => {
                let owed = self.owed.remove(&(seen.side, seen.text.branch().to_owned()));
                match owed.is_some_and(|[_, to]| to != seen.text.to_tag()) {
                    true => Err(Violation::of("a refusal is acknowledged", seen.text.render(), seen.text)),
                    false => Ok(()),
                }
            }
            (_, None) => self.request_sent(seen),
            ("INVITE", Some(200..)) => self.answer_sent(seen),
            // of these none is left to the other side
            ("REGISTER" | "CANCEL", Some(200..)) => Ok(()),
            (method, Some(200..)) => {
                let asked = |text: &Text| user_of(uri_of(text.header("From"))).to_owned();
                let from = asked(seen.text);
                let of = |key: &Key, own: &Text| {
                    key.0 != seen.side && own.method() == method && asked(own) == from
                };
                self.may_be_left(of);
                Ok(())
            }
            ("INVITE", Some(_)) => {
                self.taken_on.insert((seen.side, seen.text.branch().to_owned()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn request_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let method = text.method();
        let key = (seen.side, text.branch().to_owned(), method.to_owned());
        let fail = |words: String| {
            Err(Violation::of(
                "requests are repeated by their timers",
                format!("{words}:\n{}", text.render()),
                text,
            ))
        };
        if method == "BYE" {
            self.nobody_waits(seen);
        }
        let hushed = self.is_hushed(seen);
        if let Some(request) = self.requests.get_mut(&key) {
            let again = request.repeated.again(seen);
            self.dues.extend(request.repeated.due.map(|due| (due, Of::Request(key))));
            return again.or_else(fail);
        }
        if method == "CANCEL" {
            self.cancel_is_due(seen, hushed)?;
        } else if !hushed {
            self.one_of_each(seen)?;
        }
        if method == "REGISTER" {
            self.older_register_is_left(seen, &key);
        }
        let most = if method == "INVITE" { PATIENCE } else { T2 };
        let repeated = Repeated::new(seen, most, seen.is_udp()).unless(hushed);
        let request = Request {
            repeated,
            provisional: false,
            late: false,
            final_at: None,
            accepted: false,
            cancelled: false,
        };
        self.dues.extend(request.repeated.due.map(|due| (due, Of::Request(key.clone()))));
        self.requests.insert(key, request);
        Ok(())
    }

    /// Of two REGISTERs of a contact the older one need not be asked for any more (RFC 3261 §10.2).
    fn older_register_is_left(&mut self, seen: &Seen<'_>, newer: &Key) {
        let contact = uri_of(seen.text.header("Contact")).to_owned();
        if contact.is_empty() {
            return;
        }
        let older = self.registers.insert((seen.side, contact), newer.clone());
        if let Some(request) = older.and_then(|older| self.requests.get_mut(&older)) {
            (request.repeated.due, request.repeated.unsure) = (None, true);
        }
    }

    fn is_hushed(&mut self, seen: &Seen<'_>) -> bool {
        seen.side == Side::Outside && self.hushed.entry(seen.peer.ip()).or_default().at(seen.now)
    }

    /// What is sent once more is the same transaction; what is new bears a higher number.
    fn one_of_each(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let (series, cseq) = (series(seen), text.cseq());
        // a late answer in a dialog that is over is hung up on once more, whatever its number
        if text.method() == "BYE" && !self.ended.insert(dialog(seen)) {
            return Ok(());
        }
        // a PBX that is back at once passes on again what it had passed on just before
        if seen.side == Side::Outside && seen.now < self.from_the_dead {
            return Ok(());
        }
        let mut kind = series.clone();
        kind.4 = text.method().to_owned();
        let branch = text.branch().to_owned();
        if let Some(before) = self.branches.insert((kind, cseq), branch) {
            let words = format!("{before} was the same request:\n{}", text.render());
            return Err(Violation::of("a request is forwarded once", words, text));
        }
        match self.numbers.insert(series, cseq) {
            Some(before) if before >= cseq => {
                let words = format!("{cseq} after {before}:\n{}", text.render());
                Err(Violation::of("CSeqs rise", words, text))
            }
            _ => Ok(()),
        }
    }

    /// A CANCEL follows a provisional answer, and precedes a final one. Of one to who was blocked (`hushed`) the first may
    /// not have been sent, and what repeats it comes when the final answer has come: it has its own answer to wait for.
    fn cancel_is_due(&mut self, seen: &Seen<'_>, hushed: bool) -> Result<(), Violation> {
        let text = seen.text;
        let invite = (seen.side, text.branch().to_owned(), "INVITE".to_owned());
        match self.requests.get_mut(&invite) {
            Some(request)
                if hushed || ((request.provisional || request.late) && request.final_at.is_none()) =>
            {
                request.cancelled = true;
                Ok(())
            }
            other => {
                let words = format!("of {other:?}:\n{}", text.render());
                Err(Violation::of("a CANCEL has its INVITE", words, text))
            }
        }
    }

    fn answer_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let success = text.code().is_some_and(|code| code < 300);
        let tag = if success { text.to_tag() } else { "" };
        let key = (seen.side, text.branch().to_owned(), tag.to_owned());
        if let Some((answer, _)) = self.answers.get_mut(&key) {
            // a repetition of the request brings it as well
            let timely = answer.due.is_some_and(|due| due <= seen.now);
            let superseded = std::mem::take(&mut answer.superseded);
            // of one that has a rival nobody knows what repeats it
            answer.unsure |= superseded;
            let again = if timely { answer.again(seen) } else { Ok(()) };
            answer.due = answer.due.filter(|_| !answer.unsure);
            self.dues.extend(answer.due.map(|due| (due, Of::Answer(key.clone()))));
            if superseded {
                self.supersede(&key);
            }
            return again.map_err(|words| {
                let words = format!("{words}:\n{}", text.render());
                Violation::of("answers are repeated by their timers", words, text)
            });
        }
        self.supersede(&key);
        // a refusal without a transaction is not repeated
        let taken_on = self.taken_on.contains(&(seen.side, text.branch().to_owned()));
        // what was accepted in a dialog that has its BYE may be left
        let ended = success && self.ended.contains(&dialog(seen));
        let again = (success && !ended) || (!success && seen.is_udp() && taken_on);
        let names = [text.header("Call-ID"), text.from_tag(), text.to_tag()].map(str::to_owned);
        let hushed = self.is_hushed(seen);
        let mut answer = Repeated::new(seen, T2, again).unless(hushed);
        // its transaction ends 64·T1 after the first of several, and repeats whichever came last
        if let Some(first) = self.first_answer(&key) {
            answer = Repeated { first, ..answer.unless(true) };
        }
        self.dues.extend(answer.due.map(|due| (due, Of::Answer(key.clone()))));
        self.answers.insert(key, (answer, names));
        Ok(())
    }

    /// When the first of several parties accepted.
    fn first_answer(&self, (side, branch, _): &(Side, String, String)) -> Option<Instant> {
        let all = self.answers.range((*side, branch.clone(), String::new())..);
        all.take_while(|((_, own, _), _)| own == branch).map(|(_, (answer, _))| answer.first).min()
    }

    /// Of several parties' answers to an INVITE the last one is repeated.
    fn supersede(&mut self, last: &(Side, String, String)) {
        let all = self.answers.range_mut((last.0, last.1.clone(), String::new())..);
        for (key, (other, _)) in all.take_while(|((_, branch, _), _)| *branch == last.1) {
            if key != last {
                other.superseded |= other.due.take().is_some();
                other.unsure = true;
            }
        }
    }

    /// Who asked may have his answer or be gone: what stands alone need not be asked for any more on the other side.
    fn may_be_left(&mut self, of: impl Fn(&Key, &Text) -> bool) {
        for (key, request) in &mut self.requests {
            let alone = |text: &Text| {
                text.to_tag().is_empty() && !["INVITE", "REGISTER", "CANCEL", "ACK"].contains(&text.method())
            };
            let text = Text::parse(&request.repeated.bytes);
            if text.is_some_and(|text| alone(&text) && of(key, &text)) {
                request.repeated.due = None;
                request.repeated.unsure = true;
            }
        }
    }

    /// A flow is gone, and every transaction on it.
    pub(super) fn on_closed(&mut self, flow: FlowId) {
        self.may_be_left(|_, _| true);
        for request in self.requests.values_mut() {
            if request.repeated.stream == Some(flow) {
                request.repeated.due = None;
            }
        }
        self.answers.retain(|_, (answer, _)| answer.stream != Some(flow));
    }

    /// Who is blocked is spoken to no more; what was begun meanwhile may come in the midst of it.
    pub(super) fn on_lists(&mut self, blocked: &PrefixSet, now: Instant) {
        for (ip, hushed) in &mut self.hushed {
            if blocked.contains(*ip) {
                *hushed = Hushed::Now;
            } else if *hushed == Hushed::Now {
                *hushed = Hushed::Until(now + PATIENCE);
            }
        }
        let requests = self.requests.values_mut().map(|request| &mut request.repeated);
        let answers = self.answers.values_mut().map(|(answer, _)| answer);
        for repeated in requests.chain(answers).filter(|own| blocked.contains(own.peer.ip())) {
            // and what he answers is not heard: it goes on when the block has ended
            (repeated.due, repeated.unsure) = (None, true);
        }
    }

    /// After each step: nothing is overdue.
    pub(super) fn nothing_is_overdue(&mut self, now: Instant) -> Result<(), Violation> {
        if let Some(((side, branch), [call, _])) = self.owed.pop_first() {
            let seen = format!("no ACK went {side:?} for {branch}");
            return Err(Violation { oracle: "a refusal is acknowledged", seen, call });
        }
        while let Some((due, of)) = self.dues.pop_first() {
            if due + LATE >= now {
                self.dues.insert((due, of));
                break;
            }
            let repeated = match &of {
                Of::Request(key) => self.requests.get(key).map(|request| &request.repeated),
                Of::Answer(key) => self.answers.get(key).map(|(answer, _)| answer),
            };
            if let Some(late) = repeated.filter(|repeated| repeated.due == Some(due) && repeated.goes_on()) {
                let words = format!("due at {due:?}:\n{}", String::from_utf8_lossy(&late.bytes));
                let call =
                    Text::parse(&late.bytes).map(|text| text.from_tag().to_owned()).unwrap_or_default();
                return Err(Violation { oracle: "what nobody answers is repeated", seen: words, call });
            }
        }
        Ok(())
    }

    /// A PBX that comes back takes what is repeated for new, and passes it on once more.
    pub(super) fn on_pbx_restart(&mut self, now: Instant) {
        self.from_the_dead = now + UNDER_WAY;
        self.branches.retain(|((.., method), _), _| method == "REGISTER");
        self.numbers.retain(|(.., method), _| method == "REGISTER");
    }

    /// What had come before is forgotten; the numbers at the PBX are not.
    pub(super) fn on_restart(&mut self) {
        self.requests.clear();
        self.answers.clear();
        self.owed.clear();
        self.dues.clear();
        self.registers.clear();
        self.taken_on.clear();
        self.ended.clear();
        self.branches.retain(|((.., method), _), _| method == "REGISTER");
        self.numbers.retain(|(.., method), _| method == "REGISTER");
    }
}
