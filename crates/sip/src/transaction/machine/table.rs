//! Transition tables of the four machines as tests read them: each row is carried out on both kinds of
//! transport, and each timer is looked at.

use std::collections::BTreeMap;

use super::*;
use crate::timer::tests::ALL;

/// State, events, what is done, the state after it, and the timers that run then, with the milliseconds that
/// they have left; over UDP. A timer's event has the timer's name.
pub(in crate::transaction) type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// Not started on a reliable transport (RFC 3261 table 4).
const UNRELIABLE_ONLY: [&str; 3] = ["A", "E", "G"];
/// Zero there: what would wait for them is over instead.
const ZERO_IF_RELIABLE: [&str; 4] = ["D", "I", "J", "K"];

/// A machine, what can happen to it, and what comes of it.
pub(in crate::transaction) struct Table<'a, S: State> {
    pub(in crate::transaction) first: &'a dyn Fn() -> S,
    pub(in crate::transaction) name: fn(&S) -> &'static str,
    /// The events that lead to each state.
    pub(in crate::transaction) ways: &'a [(&'a str, &'a [&'a str])],
    /// All but the timers.
    pub(in crate::transaction) events: &'a [(&'a str, S::Event<'a>)],
    pub(in crate::transaction) rows: &'a [Row],
}

/// What is done, the state after it, and its timers.
type Outcome = (String, String, Vec<String>);

impl<'a, S: State> Table<'a, S>
where
    S::Event<'a>: Copy,
{
    /// Checks how it begins, that there is one row for each state and event, that it is what happens, and
    /// that no timer without a row means anything.
    pub(in crate::transaction) fn check(&self, first_done: &str, first_timers: &str) {
        let rows = self.rows_by_event();
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            let (_, first) = self.reach(&[], transport);
            assert_eq!(first, expected(first_done, self.ways[0].0, first_timers, transport));
            for (state, way) in self.ways {
                let (_, before) = self.reach(way, transport);
                if transport.is_reliable() && before.1 != *state {
                    assert_eq!(before.1, "terminated", "{state} over {transport:?}");
                    continue;
                }
                assert_eq!(before.1, *state, "{way:?}");
                for event in self.events.iter().map(|(name, _)| (*name).to_owned()).chain(timers(transport)) {
                    let (mut machine, _) = self.reach(way, transport);
                    let outcome =
                        self.outcome(&mut machine, |machine, out| self.happen(machine, &event, out));
                    let expected = match rows.get(&(*state, event.as_str())) {
                        Some((_, _, done, after, timers)) => expected(done, after, timers, transport),
                        None => (String::new(), before.1.clone(), before.2.clone()),
                    };
                    assert_eq!(outcome, expected, "{state}, {event} over {transport:?}");
                }
            }
        }
    }

    fn rows_by_event(&self) -> BTreeMap<(&str, &str), &Row> {
        let mut rows = BTreeMap::new();
        for row in self.rows {
            assert!(self.ways.iter().any(|(state, _)| *state == row.0), "no way to {}", row.0);
            for event in row.1.split(' ') {
                let known = self.events.iter().any(|(name, _)| *name == event);
                assert!(known || timers(Transport::Udp).any(|name| name == event), "no event {event}");
                assert!(rows.insert((row.0, event), row).is_none(), "two rows for {}, {event}", row.0);
            }
        }
        for (state, _) in self.ways {
            for (event, _) in self.events {
                assert!(rows.contains_key(&(*state, *event)), "no row for {state}, {event}");
            }
        }
        rows
    }

    fn reach(&self, way: &[&str], transport: Transport) -> (Machine<S>, Outcome) {
        let mut machine = Machine::new((self.first)(), transport);
        let mut outcome = self.outcome(&mut machine, |machine, out| machine.begin(Instant::ZERO, out));
        for event in way {
            outcome = self.outcome(&mut machine, |machine, out| self.happen(machine, event, out));
        }
        (machine, outcome)
    }

    fn happen(&self, machine: &mut Machine<S>, event: &str, out: &mut Vec<Action>) {
        match self.events.iter().find(|(name, _)| *name == event) {
            Some((_, event)) => machine.handle(*event, Instant::ZERO, out),
            None => {
                let timer = ALL.into_iter().find(|timer| format!("{timer:?}") == event);
                machine.handle(timer.expect("a timer").into(), Instant::ZERO, out);
            }
        }
    }

    fn outcome(
        &self,
        machine: &mut Machine<S>,
        act: impl FnOnce(&mut Machine<S>, &mut Vec<Action>),
    ) -> Outcome {
        let mut out = Vec::new();
        act(machine, &mut out);
        let done: Vec<_> = out.iter().map(word).collect();
        let mut timers: Vec<_> = machine
            .timers
            .armed()
            .map(|(at, timer)| format!("{timer:?} {}", at.since(Instant::ZERO).as_millis()))
            .collect();
        timers.sort();
        let state = machine.state.as_ref().map_or("terminated", self.name);
        assert_eq!(machine.is_terminated(), state == "terminated");
        let rings = timers.is_empty() && !machine.is_terminated();
        assert_eq!(machine.rings(), rings, "{state}: {timers:?}");
        (done.join(", "), state.to_owned(), timers)
    }
}

/// The timers that can fire at all.
fn timers(transport: Transport) -> impl Iterator<Item = String> {
    let names = ALL.into_iter().map(|timer| format!("{timer:?}"));
    names.filter(move |name| !transport.is_reliable() || !UNRELIABLE_ONLY.contains(&name.as_str()))
}

/// What a row says, on this transport.
fn expected(done: &str, after: &str, timers: &str, transport: Transport) -> Outcome {
    let mut timers: Vec<_> = timers.split(", ").filter(|timer| !timer.is_empty()).collect();
    if transport.is_reliable() {
        let one_of =
            |names: &[&str], timer: &str| names.iter().any(|name| timer.split(' ').next() == Some(name));
        if timers.iter().any(|timer| one_of(&ZERO_IF_RELIABLE, timer)) {
            let done = if done.is_empty() { "ended".to_owned() } else { format!("{done}, ended") };
            return (done, "terminated".to_owned(), Vec::new());
        }
        timers.retain(|timer| !one_of(&UNRELIABLE_ONLY, timer));
    }
    (done.to_owned(), after.to_owned(), timers.into_iter().map(str::to_owned).collect())
}

fn word(action: &Action) -> String {
    match action {
        Action::Send(bytes) => {
            let text = std::str::from_utf8(bytes).expect("text");
            format!("send {}", text.split(' ').next().expect("a first word"))
        }
        Action::Deliver => "deliver".to_owned(),
        Action::Cancel(bytes) => {
            assert!(bytes.starts_with(b"CANCEL "));
            "cancel".to_owned()
        }
        Action::AckMissing => "ACK missing".to_owned(),
        Action::TimedOut => "timed out".to_owned(),
        Action::TransportError => "transport error".to_owned(),
        Action::Ended => "ended".to_owned(),
    }
}
