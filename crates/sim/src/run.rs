//! One run: faults, then calm, then a probe that everything still works, then goodbye.

use std::fmt;
use std::time::Duration;

use wire::clock::Instant;

use crate::decision::{Actions, Deed};
use crate::ladder::Ladder;
use crate::network::{Weather, Who};
use crate::oracle::Violation;
use crate::panic::caught;
use crate::user_agent::State;
use crate::world::{Tally, World};

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many happenings the first half has.
    pub steps: u64,
    /// The free decisions that are carried out; all of them where none are named.
    pub only: Option<Actions>,
}

impl Plan {
    /// A whole run of a seed.
    pub fn new(seed: u64, steps: u64) -> Self {
        Self { seed, steps, only: None }
    }
}

impl fmt::Display for Plan {
    /// The command that runs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo xtask sim --seed {} --steps {}", self.seed, self.steps)?;
        match &self.only {
            Some(only) => write!(f, " --only {only}"),
            None => Ok(()),
        }
    }
}

/// A run that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Over everything that border and media plane took in and gave out.
    pub trace: u64,
    /// How many happenings there were.
    pub steps: u64,
    /// What was seen.
    pub tally: Tally,
}

/// A rule that did not hold, and what led to it.
pub struct Failure {
    /// What was run.
    pub plan: Plan,
    /// The happening after which it did not hold.
    pub step: u64,
    /// Which rule, and what was seen.
    pub violation: Violation,
    /// The free decisions that had been carried out.
    pub deeds: Vec<Deed>,
    events: String,
    ladder: Ladder,
}

/// So many deeds are printed; a run that was made smaller has fewer.
const DEEDS_SHOWN: usize = 40;

/// The oracle of panics.
const PANIC: &str = "nothing panics";

impl Failure {
    #[cfg(test)]
    pub(crate) fn new(plan: &Plan, step: u64, violation: Violation, deeds: Vec<Deed>) -> Self {
        Self { plan: plan.clone(), step, violation, deeds, events: String::new(), ladder: Ladder::default() }
    }

    /// Whether another run failed as this one did; a panic has a place.
    pub(crate) fn breaks_the_same_rule(&self, other: &Self) -> bool {
        let place = |of: &Self| of.violation.seen.lines().next().map(str::to_owned);
        let oracle = self.violation.oracle;
        oracle == other.violation.oracle && (oracle != PANIC || place(self) == place(other))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { oracle, seen, call } = &self.violation;
        writeln!(f, "seed {} step {}: oracle \"{oracle}\"", self.plan.seed, self.step)?;
        writeln!(f, "{seen}\n\nevents:\n{}\n", self.events)?;
        let earlier = self.deeds.len().saturating_sub(DEEDS_SHOWN);
        writeln!(f, "free decisions ({} before these):", earlier)?;
        for Deed { action, what, step, at } in self.deeds.iter().skip(earlier) {
            let seconds = at.since(Instant::ZERO).as_secs_f64();
            writeln!(f, "{step:>7} {seconds:>10.3}  {}:{} {what}", action.by, action.number)?;
        }
        writeln!(f, "\nladder {call}:\n{}", self.ladder.print(call))?;
        write!(f, "again: {}", self.plan)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// Runs one plan.
pub fn run(plan: &Plan) -> Result<Report, Box<Failure>> {
    let mut world = World::new(plan.seed, plan.only.clone());
    let violation = match caught(|| world.live(plan.steps)) {
        Ok(Ok(())) => {
            world.tally.audio += world.media.forwarded;
            for deed in &world.decisions.deeds {
                *world.tally.deeds.entry(deed.what).or_default() += 1;
            }
            return Ok(Report { trace: world.trace.value(), steps: world.step, tally: world.tally });
        }
        Ok(Err(violation)) => violation,
        Err(panic) => Violation::new(PANIC, panic),
    };
    let events: Vec<&str> = world.oracles.recent_events().collect();
    Err(Box::new(Failure {
        plan: plan.clone(),
        step: world.step,
        events: events.join("\n"),
        ladder: world.ladder,
        deeds: world.decisions.deeds,
        violation,
    }))
}

/// By then everything must be at rest (issue 9, landing b).
const REST: Duration = Duration::from_secs(600);
/// A call that was on hold when both its ends were lost: it may be silent for four hours.
const REST_OF_A_HELD_CALL: Duration = Duration::from_secs(4 * 3_600);

impl World {
    fn live(&mut self, steps: u64) -> Result<(), Violation> {
        self.resolve();
        self.drain()?;
        for index in 0..self.phones.len() {
            self.arm_actor(Who::Phone(index));
        }
        for index in 0..self.scanners.len() {
            self.arm_actor(Who::Scanner(index));
        }
        self.arm_actor(Who::Pbx);
        self.run_until(None, Some(steps))?;
        self.heal();
        self.run_until(Some(self.now + REST), None)?;
        if self.status.calls != 0 && self.decisions.deeds.iter().any(|deed| deed.what == "holds") {
            self.run_until(Some(self.now + REST_OF_A_HELD_CALL), None)?;
        }
        self.is_at_rest()?;
        self.everybody_is_registered()?;
        self.probe()?;
        self.part()
    }

    /// The network heals, the PBX is up, and nobody begins anything new.
    fn heal(&mut self) {
        self.weather = Weather::calm();
        self.busy = false;
        self.disk.heal();
        (self.media.taken, self.media.refused) = (0, 0);
        if !self.pbx.up {
            self.stage(Who::Pbx, |world, stage| world.pbx.start(stage));
        }
    }

    fn is_at_rest(&mut self) -> Result<(), Violation> {
        self.oracles.every_invite_is_answered()?;
        if self.status.calls != 0 {
            self.input(border::Input::Command { id: 0, command: border::Command::Calls });
            self.drain()?;
        }
        self.oracles.relays_balance(&self.status, self.media.len(), true)?;
        if self.status.blocks != 0 {
            return Err(Violation::new("at rest", format!("{} blocks have not ended", self.status.blocks)));
        }
        Ok(())
    }

    /// (6) Between two health checks there is a moment without any transaction.
    fn nothing_is_unfinished(&mut self) -> Result<(), Violation> {
        let until = self.now + Duration::from_secs(30);
        while self.now < until {
            if self.border.unfinished().iter().all(|(_, count)| *count == 0) {
                return Ok(());
            }
            self.run_until(Some(self.now + Duration::from_millis(500)), None)?;
        }
        let left: Vec<_> = self.border.unfinished().into_iter().filter(|(_, count)| *count > 0).collect();
        Err(Violation::new("nothing is unfinished", format!("{left:?}")))
    }

    /// Every phone that wants to be is registered, and the PBX has one contact for each, no more.
    fn everybody_is_registered(&self) -> Result<(), Violation> {
        let fail = |seen: String| Err(Violation::new("everybody is registered", seen));
        for phone in &self.phones {
            if !phone.is_registered(self.now) {
                return fail(format!("phone {} of {} is not", phone.model.number, phone.model.extension));
            }
        }
        for (name, _) in crate::scenery::EXTENSIONS {
            let phones = self.phones.iter().filter(|phone| phone.model.extension == name).count();
            let contacts = self.pbx.location.get(name).map(Vec::as_slice).unwrap_or_default();
            let live = contacts.iter().filter(|contact| contact.until > self.now).count();
            if live != phones {
                return fail(format!("{name}: {phones} phones, the PBX has {contacts:?}"));
            }
        }
        if self.status.registrations != self.phones.len() {
            return fail(format!("{} bindings for {} phones", self.status.registrations, self.phones.len()));
        }
        Ok(())
    }

    /// One call of each phone, one to each contact, and one between extensions: all are answered and heard.
    fn probe(&mut self) -> Result<(), Violation> {
        for index in 0..self.phones.len() {
            for number in ["2001", if self.phones[index].model.extension == "1002" { "1003" } else { "1002" }]
            {
                let before = self.phones[index].agent.history.len();
                self.stage(Who::Phone(index), |world, stage| world.phones[index].call(number, stage));
                self.run_while(|world| {
                    let agent = &world.phones[index].agent;
                    agent.history.get(before..).unwrap_or_default().iter().all(|leg| leg.status == 0)
                })?;
                let history = self.phones[index].agent.history.get(before..).unwrap_or_default();
                let outgoing = history.iter().find(|leg| leg.status != 0);
                match outgoing {
                    Some(leg) if leg.status == 200 && leg.heard > 0 => {}
                    other => {
                        let call = other
                            .or_else(|| self.phones[index].agent.legs.first())
                            .map_or(String::new(), |leg| leg.local_tag.clone());
                        let seen = format!(
                            "phone {} called {number}: {:?}",
                            self.phones[index].model.number,
                            other.map(|leg| (leg.status, leg.state, leg.heard))
                        );
                        return Err(Violation { oracle: "a call works again", seen, call });
                    }
                }
            }
        }
        self.probe_inward()?;
        // timer H, J and L of the last of them
        self.run_until(Some(self.now + Duration::from_secs(60)), None)?;
        self.is_at_rest()
    }

    /// Runs on, at most as long as a call of the probe may last.
    fn run_while(&mut self, goes_on: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        let most = self.now + Duration::from_secs(90);
        while self.now < most && goes_on(self) {
            self.run_until(Some(self.now + Duration::from_secs(1)), None)?;
        }
        // one call after the other: neither the rules nor max_calls have a say
        self.run_until(Some(self.now + Duration::from_secs(8)), None)
    }

    fn probe_inward(&mut self) -> Result<(), Violation> {
        let contacts: Vec<(String, String)> = self
            .pbx
            .location
            .iter()
            .flat_map(|(name, contacts)| contacts.iter().map(move |c| (name.clone(), c.uri.clone())))
            .collect();
        for (name, uri) in contacts {
            let before = self.pbx.agent.history.len();
            self.stage(Who::Pbx, |world, stage| world.pbx.call_contact(&name, &uri, stage));
            self.run_while(|world| world.pbx.agent.history.len() == before)?;
            let history = self.pbx.agent.history.get(before..).unwrap_or_default();
            match history.first() {
                Some(leg) if leg.status == 200 && leg.heard > 0 && leg.state == State::Over => {}
                other => {
                    let seen =
                        format!("the PBX called {name}: {:?}", other.map(|leg| (leg.status, leg.heard)));
                    let call = other.map_or(String::new(), |leg| leg.local_tag.clone());
                    return Err(Violation { oracle: "a call works again", seen, call });
                }
            }
        }
        Ok(())
    }

    /// All phones de-register: nothing is left anywhere.
    fn part(&mut self) -> Result<(), Violation> {
        for index in 0..self.phones.len() {
            self.stage(Who::Phone(index), |world, stage| world.phones[index].leave(stage));
        }
        self.run_until(Some(self.now + Duration::from_secs(120)), None)?;
        self.is_at_rest()?;
        self.nothing_is_unfinished()?;
        let contacts: usize =
            self.pbx.location.values().flatten().filter(|contact| contact.until > self.now).count();
        if self.status.registrations != 0 || contacts != 0 {
            return Err(Violation::new(
                "nothing is left",
                format!("{} bindings, {contacts} contacts at the PBX", self.status.registrations),
            ));
        }
        let answered = self.phones.iter().flat_map(|phone| &phone.agent.history);
        self.tally.answered = answered.filter(|leg| leg.status == 200).count() as u64;
        let agents = self.phones.iter().map(|phone| &phone.agent).chain([&self.pbx.agent]);
        self.tally.changed = agents.flat_map(|agent| &agent.history).map(|leg| u64::from(leg.changes)).sum();
        Ok(())
    }
}
