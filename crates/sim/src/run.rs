//! One run: faults, then calm, then a probe that everything still works, then goodbye.

use std::fmt;
use std::time::Duration;

use crate::decision::Actions;
use crate::failure::{Failure, PANIC};
use crate::network::Who;
use crate::oracle::Violation;
use crate::panic::caught;
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

/// What comes after the half of a run in which things break; the seed decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As soon as everything is at rest, one call in each direction.
    Short,
    /// The whole time is watched, and everybody calls and is called.
    Watched,
    /// The border is killed once more.
    Killed,
    /// The PBXs start again, and have forgotten who was registered.
    Forgotten,
    /// The main PBX is away, and the standby serves.
    Relieved,
}

impl Ending {
    pub(crate) fn of(seed: u64) -> Self {
        match seed % 8 {
            0 => Self::Watched,
            4 => Self::Killed,
            2 => Self::Forgotten,
            6 => Self::Relieved,
            _ => Self::Short,
        }
    }
}

/// Runs one plan.
pub fn run(plan: &Plan) -> Result<Report, Box<Failure>> {
    let mut world = World::new(plan.seed, plan.only.clone());
    let violation = match caught(|| world.live(plan.steps)) {
        Ok(Ok(())) => {
            world.tally.audio += world.media.forwarded;
            for deed in &world.decisions.deeds {
                *world.tally.deeds.entry(deed.what).or_default() += 1;
            }
            world.tally.sights = world.decisions.sights;
            let by_proxies = Some(world.oracles.by_proxies()).filter(|count| *count > 0);
            world.tally.sights.extend(by_proxies.map(|count| ("a request goes by two proxies", count)));
            return Ok(Report { trace: world.trace.value(), steps: world.step, tally: world.tally });
        }
        Ok(Err(violation)) => violation,
        Err(panic) => Violation::new(PANIC, panic),
    };
    let events: Vec<&str> = world.oracles.recent_events().collect();
    Err(Box::new(Failure {
        plan: plan.clone(),
        step: world.step,
        trace: world.trace.value(),
        at: world.now,
        events: events.join("\n"),
        ladder: world.ladder,
        deeds: world.decisions.deeds,
        violation,
    }))
}

/// A call that was on hold when both its ends were lost: it may be silent for four hours.
const REST_OF_A_HELD_CALL: Duration = Duration::from_secs(4 * 3_600);

impl World {
    fn live(&mut self, steps: u64) -> Result<(), Violation> {
        self.resolve();
        self.drain()?;
        for index in 0..self.phones.len() {
            self.arm_actor(Who::Phone(index));
        }
        self.arm_actor(Who::Idler);
        self.arm_actor(Who::Thief);
        for index in 0..self.scanners.len() {
            self.arm_actor(Who::Scanner(index));
        }
        for index in 0..self.pbxs.len() {
            self.arm_actor(Who::Pbx(index));
        }
        self.run_until(None, Some(steps))?;
        self.heal();
        self.rest()?;
        if self.status.calls != 0 && self.decisions.deeds.iter().any(|deed| deed.what == "holds") {
            self.run_until(Some(self.now + REST_OF_A_HELD_CALL), None)?;
        }
        self.is_at_rest()?;
        self.everybody_is_registered()?;
        // what had no room in the queue to the disk may be missed
        if self.ending == Ending::Killed && !self.disk.lost {
            self.survive()?;
        }
        if self.ending == Ending::Forgotten {
            self.outlive_the_memory_of_pbxs()?;
        }
        if self.ending == Ending::Relieved {
            self.be_served_by_the_standby()?;
        }
        self.probe()?;
        self.part()
    }
}
