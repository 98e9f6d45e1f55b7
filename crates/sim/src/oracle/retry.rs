//! Rules about a call that was one too many: its caller hears 480 and when he may try again; whoever waits as long as he
//! was told is served, and one second less does not do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use border::{Code, Event};
use wire::clock::Instant;
use wire::net::Side;

use crate::oracle::{Seen, Violation};
use crate::scenery;
use crate::text::Text;

/// What is rounded up.
const SECOND: Duration = Duration::from_secs(1);
/// Longer than any rule of the false world.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Somebody was told how long to wait.
#[derive(Debug)]
struct Told {
    at: Instant,
    wait: Duration,
}

/// The calls that phones of one extension asked for.
#[derive(Debug, Default)]
struct Asked {
    told: Vec<Told>,
    /// When they came, but for those that a rule refused, by From tag.
    came: BTreeMap<String, Instant>,
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Retry {
    asked: BTreeMap<&'static str, Asked>,
    /// Whose a call is, by From tag.
    callers: BTreeMap<String, &'static str>,
    /// The tries of each, by branch.
    tries: BTreeMap<String, BTreeSet<String>>,
    /// In this step: calls that the operator heard were refused by a limit, and those that were told.
    limited: usize,
    said: usize,
}

fn begins(text: &Text) -> bool {
    text.method() == "INVITE" && text.code().is_none() && text.to_tag().is_empty()
}

/// How long a caller was told to wait, where a rule refused him; the number of calls at once is none.
fn told(text: &Text) -> Option<Duration> {
    let by_rule =
        text.code() == Some(480) && text.has("Warning") && !text.header("Warning").contains("max_calls");
    by_rule.then(|| Duration::from_secs(text.header("Retry-After").parse().unwrap_or(0)))
}

impl Retry {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let extension = scenery::extension_at(seen.peer.ip());
        let Some(extension) = extension.filter(|_| seen.side == Side::Outside && begins(seen.text)) else {
            return;
        };
        let asked = self.asked.entry(extension).or_default();
        asked.came.retain(|_, at| seen.now.since(*at) < REMEMBERED);
        asked.told.retain(|told| seen.now.since(told.at) < REMEMBERED);
        let tag = seen.text.from_tag();
        if self.callers.insert(tag.to_owned(), extension).is_none() {
            asked.came.insert(tag.to_owned(), seen.now);
        }
        let tries = self.tries.entry(tag.to_owned()).or_default();
        // after the first and its answer each may be a call of its own: this one is not judged, but others with it
        if tries.insert(seen.text.branch().to_owned()) && tries.len() > 2 {
            let first = asked.came.remove(tag).map(|at| (format!("{tag} first"), at));
            asked.came.extend(first);
            asked.came.insert(format!("{tag} {}", seen.text.branch()), seen.now);
        }
    }

    /// The operator hears of a call that was refused; how many more there were in a second names nobody.
    pub(super) fn on_event(&mut self, event: &Event) {
        self.limited += usize::from(event.code == Code::CallLimited && event.extension.is_some());
    }

    /// After each step.
    pub(super) fn every_limit_is_said(&mut self) -> Result<(), Violation> {
        let (limited, said) = (std::mem::take(&mut self.limited), std::mem::take(&mut self.said));
        match limited > said {
            true => Err(Violation::new(
                "who is refused by a limit hears 480 and when to try again",
                format!("{limited} were refused, {said} heard it"),
            )),
            false => Ok(()),
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let whole = text.has("Warning") && text.header("Retry-After").parse().is_ok_and(|secs: u32| secs > 0);
        self.said += usize::from(text.code() == Some(480) && whole);
        let (admitted, refused) = match seen.side {
            Side::Inside => (begins(text), None),
            Side::Outside => (false, told(text)),
        };
        if !admitted && refused.is_none() {
            return Ok(());
        }
        let asked = self.callers.get(text.from_tag()).and_then(|own| self.asked.get_mut(own));
        match (asked, refused) {
            (None, _) => Ok(()),
            (Some(asked), None) => asked.was_admitted(text),
            (Some(asked), Some(wait)) => asked.was_refused(wait, seen),
        }
    }

    /// The border counts anew.
    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }
}

impl Asked {
    fn was_admitted(&self, text: &Text) -> Result<(), Violation> {
        let Some(came) = self.came.get(text.from_tag()) else { return Ok(()) };
        match self.told.iter().find(|told| told.at < *came && *came + SECOND < told.at + told.wait) {
            Some(told) => {
                let words = format!("{told:?}, and a call that came at {came:?} went on:\n{}", text.render());
                Err(Violation::of("one second less does not do", words, text))
            }
            None => Ok(()),
        }
    }

    fn was_refused(&mut self, wait: Duration, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        // a repetition of the answer
        let Some(came) = self.came.remove(text.from_tag()) else { return Ok(()) };
        let nobody_since = |told: &Told| !self.came.values().any(|at| *at >= told.at && *at <= came);
        if let Some(told) = self.told.iter().find(|told| told.at + told.wait <= came && nobody_since(told)) {
            let words = format!("{told:?}, and a call that came at {came:?} is refused:\n{}", text.render());
            return Err(Violation::of("whoever waits as he was told is served", words, text));
        }
        self.told.push(Told { at: seen.now, wait });
        Ok(())
    }
}
