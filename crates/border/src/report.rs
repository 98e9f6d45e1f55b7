//! Events: what operators hear of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;

use crate::Border;
use crate::config::Allowed;
use crate::drop_reason::DropReason;
use crate::event::{Code, Event, Telling};
use crate::interface::{Output, ResolvedName};
use crate::timers::{Deadline, Timer, Timers};

/// Events of one code in one second; what is above is summed up in one line.
const EVENTS_PER_SECOND: u32 = 10;

/// After a stranger on the inside face was told of, he is not for so long.
const INSIDE_STRANGER_EVERY: Duration = Duration::from_secs(60);
/// So many of them are told of in that time.
const INSIDE_STRANGERS_MAX: usize = 64;

/// What was told of late, so that it is not told too often.
#[derive(Default)]
pub(crate) struct Reports {
    /// When the running second ends, in which events are counted by code.
    window_ends: Option<Instant>,
    said: BTreeMap<Code, u32>,
    suppressed: BTreeMap<Code, u64>,
    deadline: Deadline,
    /// Until when these strangers on the inside face are not told of again.
    inside_strangers: BTreeMap<IpAddr, Instant>,
    /// Names whose last look-up failed.
    unresolved: BTreeSet<ResolvedName>,
}

impl Reports {
    /// Whether the second in which events are counted is over.
    fn is_over(&self, now: Instant) -> bool {
        self.window_ends.is_none_or(|ends| now >= ends)
    }

    /// A new second begins; how many events of each code were not told in the last one.
    fn begin_window(&mut self, ends: Option<Instant>) -> BTreeMap<Code, u64> {
        self.window_ends = ends;
        self.said.clear();
        std::mem::take(&mut self.suppressed)
    }

    /// One more event of this code; whether it is told by itself.
    fn admit(&mut self, code: Code, timers: &mut Timers) -> bool {
        let said = self.said.entry(code).or_default();
        if *said < EVENTS_PER_SECOND {
            *said += 1;
            return true;
        }
        *self.suppressed.entry(code).or_default() += 1;
        if let Some(ends) = self.window_ends {
            self.deadline.set(ends, Timer::Report, timers);
        }
        false
    }

    /// Whether a stranger on the inside face is told of.
    pub(crate) fn tells_inside_stranger(&mut self, ip: IpAddr, now: Instant) -> bool {
        if self.inside_strangers.len() >= INSIDE_STRANGERS_MAX {
            self.inside_strangers.retain(|_, until| now < *until);
        }
        let told = self.inside_strangers.get(&ip).is_some_and(|until| now < *until);
        let tells = !told && self.inside_strangers.len() < INSIDE_STRANGERS_MAX;
        if tells {
            self.inside_strangers.insert(ip, now + INSIDE_STRANGER_EVERY);
        }
        tells
    }

    /// A name can be looked up again: should it fail, that is news.
    pub(crate) fn resolved(&mut self, name: &ResolvedName) {
        self.unresolved.remove(name);
    }
}

/// Whom an event is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) source: Option<SocketAddr>,
    pub(crate) extension: Option<String>,
    pub(crate) hardware_id: Option<String>,
    pub(crate) rule: Option<String>,
}

impl About {
    pub(crate) fn source(source: SocketAddr) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    pub(crate) fn extension(mut self, name: impl Into<String>) -> Self {
        self.extension = Some(name.into());
        self
    }

    pub(crate) fn hardware_id(mut self, id: Option<impl ToString>) -> Self {
        self.hardware_id = id.map(|id| id.to_string());
        self
    }

    pub(crate) fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }
}

impl Border {
    /// Tells the operator; the words are only made where they will be read.
    pub(crate) fn event(&mut self, code: Code, about: About, words: impl FnOnce() -> (String, String)) {
        if code.telling() == Telling::OneByOne {
            let (text, next_step) = words();
            return self.say(code, about, text, next_step);
        }
        let now = self.now.mono;
        if self.reports.is_over(now) {
            self.sum_up_events(Some(now + Duration::from_secs(1)));
        }
        if self.reports.admit(code, &mut self.timers) {
            let (text, next_step) = words();
            self.say(code, about, text, next_step);
        }
    }

    fn say(&mut self, code: Code, about: About, text: String, next_step: String) {
        self.outputs.push_back(Output::Event(Event {
            time: self.now.wall,
            code,
            severity: code.severity(),
            source: about.source,
            extension: about.extension.map(printable),
            hardware_id: about.hardware_id,
            rule: about.rule,
            text: printable(text),
            next_step,
        }));
    }

    /// Something goes no further and nobody is answered: it is counted.
    pub(crate) fn dropped(&mut self, reason: DropReason) {
        self.drops.add(reason);
    }

    /// What cannot be: an id of our own leads nowhere, or what was read once cannot be read again. A fault of ours. It
    /// stops a debug build; in a release it is told and counted, and what was under way goes no further.
    pub(crate) fn never(&mut self, what: &'static str) {
        debug_assert!(false, "{what}");
        self.dropped(DropReason::OurFault);
        self.outputs.push_back(Output::Fault(what));
    }

    pub(crate) fn on_report_timer(&mut self) {
        let now = self.now.mono;
        if self.reports.deadline.fired(now, Timer::Report, &mut self.timers) {
            self.sum_up_events(None);
        }
    }

    /// Says how many events were not told one by one; the next second ends then.
    fn sum_up_events(&mut self, next_ends: Option<Instant>) {
        for (code, count) in self.reports.begin_window(next_ends) {
            let text = format!("{count} more of this kind within a second, not listed one by one");
            self.say(
                code,
                About::default(),
                text,
                "look at `portcullis block list` for their sources".into(),
            );
        }
    }

    /// A name cannot be looked up: told once, until it can.
    pub(crate) fn report_unresolved(&mut self, name: ResolvedName) {
        if !self.reports.unresolved.insert(name) {
            return;
        }
        let text = match name {
            ResolvedName::Pbx(pbx) => {
                let (Some(config), Some(state)) = (self.config.pbx.get(pbx), self.pbxs.get(pbx)) else {
                    return;
                };
                let meanwhile = match state.targets.is_empty() {
                    true => "nobody can register or call there",
                    false => "its last addresses are used",
                };
                format!("the name {} of PBX {} cannot be looked up; {meanwhile}", config.host, config.name)
            }
            ResolvedName::Allowed(index) => {
                let Some(allowed) = self.config.allowed.get(index) else { return };
                let Allowed { name, address, .. } = allowed;
                format!(
                    "the name {address} of the allow-list entry {name} cannot be looked up; what is known of it holds"
                )
            }
        };
        let next_step = "look at the name servers of this machine (/etc/resolv.conf) and at the name; it is looked \
                         up again every half minute";
        self.event(Code::NameUnresolved, About::default(), || (text, next_step.into()));
    }

    /// Connections wait until a file descriptor is free again.
    pub(crate) fn on_files_exhausted(&mut self) {
        self.event(Code::FilesExhausted, About::default(), || {
            (
                "no file descriptor is left: new connections wait, and new calls may get no ports".into(),
                "raise the limit of open files (LimitNOFILE of systemd), or look for a flood in `portcullis events`"
                    .into(),
            )
        });
    }
}

/// What came from outside and is shown to people: no control characters, nothing that turns the line around, no end without end.
fn printable(text: String) -> String {
    const SHOWN: usize = 400;
    let unfit = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.len() <= SHOWN && !text.chars().any(unfit) {
        return text;
    }
    text.chars().take(SHOWN).map(|c| if unfit(c) { '\u{fffd}' } else { c }).collect()
}
