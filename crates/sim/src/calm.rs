//! The calm: all comes to rest, everybody is registered, a call works in each direction, and nothing is left after the
//! last has gone.

use std::time::Duration;

use border::command::StatusView;

use crate::network::{Weather, Who};
use crate::oracle::Violation;
use crate::pbx::Contact;
use crate::phone::Phone;
use crate::run::Ending;
use crate::user_agent::State;
use crate::world::World;

/// The name of the rule.
const REGISTERED: &str = "everybody is registered";
/// By then everything must be at rest.
const REST: Duration = Duration::from_secs(600);
/// And for so long it must be: whatever is repeated has been given up, and what a PBX refused is tried again.
const REST_MIN: Duration = Duration::from_secs(75);
/// How often is looked whether it is.
const LOOK: Duration = Duration::from_secs(5);
/// So many looks in a row may find a phone missing: one that connects anew is back soon.
const MISSED: u32 = 1;
/// The same where the border believes that a registration lasts longer: each health check asks the PBX for the contacts
/// of one extension more.
const MISSED_BY_WRONG_TIMES: u32 = 7;
/// The same where only digest phones are missing and there is a standby: one that registered there goes back by its own
/// next REGISTER, and what the main PBX took in meanwhile, long after it was sent, runs out before.
const MISSED_AT_STANDBY: u32 = 10;
/// When every phone is back after all that broke: whoever was refused is tried again after a minute.
const BACK_AT_LAST: Duration = Duration::from_secs(200);
/// How long after the PBX has taken it in a phone may hear of it.
const ANSWERED: Duration = Duration::from_secs(8);
/// When every phone is back after a kill, and at the main PBX.
pub(crate) const BACK_AFTER_KILL: Duration = Duration::from_secs(150);
/// A PBX that is away for so long is not missed, or is.
const UNNOTICED: Duration = Duration::from_millis(300);
const NOTICED: Duration = Duration::from_secs(25);
/// When all are registered again after that: at the next health check.
const REMEMBERED: Duration = Duration::from_secs(16);

impl World {
    /// Everything comes to rest. Where that is watched to its end, nothing of it is lost again.
    pub(crate) fn rest(&mut self) -> Result<(), Violation> {
        let (healed, least, most) = (self.now, self.now + REST_MIN, self.now + REST);
        let (mut settled, mut missed) = (false, 0);
        while self.now < most {
            self.run_until(Some(self.now + LOOK), None)?;
            let registered = self.everybody_is_registered();
            missed = if registered.is_ok() { 0 } else { missed + 1 };
            let late = self.now > healed + BACK_AT_LAST;
            let most_missed = match () {
                () if self.times_are_wrong => MISSED_BY_WRONG_TIMES,
                () if self.pbxs.len() > 1 && self.all_but_digest_phones_are_there() => MISSED_AT_STANDBY,
                () => MISSED,
            };
            if missed > most_missed && (settled || late) {
                registered?;
            } else if !settled && self.now >= least {
                let is_back = |phone: &Phone| {
                    phone.registered_at >= Some(healed) || self.is_crowded(&phone.model.extension)
                };
                let back = self.phones.iter().all(is_back);
                settled = registered.is_ok() && back && self.is_quiet();
            }
            if settled && self.ending != Ending::Watched {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Nobody telephones, and nobody is blocked.
    fn is_quiet(&self) -> bool {
        let StatusView { calls, relays, blocks, .. } = self.status;
        let agents =
            self.phones.iter().map(|phone| &phone.agent).chain(self.pbxs.iter().map(|pbx| &pbx.agent));
        calls + relays + blocks == 0
            && agents.flat_map(|agent| &agent.legs).all(|leg| leg.state == State::Over)
    }

    /// The process is killed while all is well: every registration is there again at once, and stays there.
    pub(crate) fn survive(&mut self) -> Result<(), Violation> {
        let before = self.status.registrations;
        self.restart_and_resolve();
        self.settle()?;
        if self.status.registrations != before {
            let seen = format!("{before} before, {} after", self.status.registrations);
            return Err(Violation::new("registrations outlive a kill", seen));
        }
        // a standby may serve them until the main PBX is steady
        self.phones_begin_anew();
        self.run_until(Some(self.now + BACK_AFTER_KILL), None)?;
        self.everybody_is_registered()
    }

    /// The PBXs start again without their contacts while all is well: whoever the border has the password of can be
    /// called again soon, and without a word of his.
    pub(crate) fn outlive_the_memory_of_pbxs(&mut self) -> Result<(), Violation> {
        // one that is made anew by itself meanwhile hides that the others are missing, for a health check or two
        let ours =
            || crate::scenery::EXTENSIONS.into_iter().filter(|(_, digest)| !digest).map(|(name, _)| name);
        let mut contacts =
            self.pbxs.iter().flat_map(|pbx| ours().filter_map(|name| pbx.location.get(name))).flatten();
        let soon = self.now + NOTICED + REMEMBERED * 2;
        let made_anew = |contact: &Contact| contact.since + contact.until.since(contact.since) * 3 / 4 < soon;
        if contacts.any(made_anew) {
            return Ok(());
        }
        let away = if self.rng.chance(500) { UNNOTICED } else { NOTICED };
        for index in 0..self.pbxs.len() {
            self.stop_pbx(index, false, away);
        }
        self.run_until(Some(self.now + away + REMEMBERED), None)?;
        for name in ours() {
            let phones = self.places_of(name);
            let contacts = self.pbxs.iter().filter_map(|pbx| pbx.location.get(name)).flatten();
            let there = contacts.filter(|contact| contact.until > self.now).count();
            if there < phones {
                let seen = format!("{name}: {phones} phones, {there} of them registered anew");
                return Err(Violation::new("a PBX that has forgotten is told again", seen));
            }
        }
        self.phones_begin_anew();
        self.run_until(Some(self.now + BACK_AFTER_KILL), None)?;
        self.everybody_is_registered()
    }

    /// The network heals, the PBX is up, and nobody begins anything new.
    pub(crate) fn heal(&mut self) {
        self.weather = Weather::calm();
        self.busy = false;
        self.disk.heal();
        (self.media.taken, self.media.refused) = (0, 0);
        self.phones_begin_anew();
        for index in 0..self.pbxs.len() {
            if !self.pbxs[index].up {
                self.stage(Who::Pbx(index), |world, stage| world.pbxs[index].start(stage));
            }
        }
    }

    pub(crate) fn phones_begin_anew(&mut self) {
        for index in 0..self.phones.len() {
            self.stage(Who::Phone(index), |world, stage| world.phones[index].begin_anew(stage));
        }
    }

    pub(crate) fn is_at_rest(&mut self) -> Result<(), Violation> {
        self.oracles.every_invite_is_answered()?;
        if self.status.calls != 0 {
            self.input(border::Input::Command { id: 0, command: border::Command::Calls });
            self.drain()?;
        }
        self.oracles.counts_balance(&self.status, self.media.len(), true)?;
        if self.media.ports() != 0 {
            return Err(Violation::new("at rest", format!("{} ports are bound", self.media.ports())));
        }
        if self.status.blocks != 0 {
            return Err(Violation::new("at rest", format!("{} blocks have not ended", self.status.blocks)));
        }
        Ok(())
    }

    /// Between two health checks there is a moment without any transaction.
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

    /// Every phone that wants to be is registered, as far as its extension may have so many, and the PBX has one
    /// contact for each, no more.
    pub(crate) fn everybody_is_registered(&self) -> Result<(), Violation> {
        self.no_phone_misses_its_registration()?;
        for (name, digest) in crate::scenery::EXTENSIONS {
            self.main_pbx_has(name, digest)?;
        }
        let places: usize = crate::scenery::EXTENSIONS.iter().map(|(name, _)| self.places_of(name)).sum();
        if self.status.registrations != places {
            let phones = self.phones.len();
            let seen = format!("{} bindings for {places} of {phones} phones", self.status.registrations);
            return Err(Violation::new(REGISTERED, seen));
        }
        Ok(())
    }

    fn all_but_digest_phones_are_there(&self) -> bool {
        let mut others = crate::scenery::EXTENSIONS.iter().filter(|(_, digest)| !digest);
        self.no_phone_misses_its_registration().is_ok()
            && others.all(|(name, digest)| self.main_pbx_has(name, *digest).is_ok())
    }

    fn no_phone_misses_its_registration(&self) -> Result<(), Violation> {
        for phone in &self.phones {
            let name = &phone.model.extension;
            let misses = self.registered_of(name) < self.places_of(name);
            if misses && !phone.is_registered(self.now) {
                let (model, place) = (&phone.model, phone.connection());
                let seen = format!("phone {} of {} is not, by {place:?}", model.number, model.extension);
                return Err(Violation { oracle: REGISTERED, seen, call: phone.series().to_owned() });
            }
        }
        Ok(())
    }

    /// Where the border cannot answer the PBX for a phone, its contact there is that of its last REGISTER: what it had
    /// before a standby took it in runs out soon.
    fn main_pbx_has(&self, name: &str, digest: bool) -> Result<(), Violation> {
        let mut own = self.phones.iter().filter(|phone| phone.model.extension == name);
        let (phones, places) = (self.phones_of(name), self.places_of(name));
        let contacts = self.pbxs[0].location.get(name).map(Vec::as_slice).unwrap_or_default();
        let live = contacts.iter().filter(|contact| contact.until > self.now);
        let newer = live.clone().filter(|contact| contact.since >= self.forgot_at).count();
        let is_of_last =
            |phone: &Phone| live.clone().any(|contact| Some(contact.since + ANSWERED) >= phone.registered_at);
        let left_over = digest && places == phones && !own.clone().all(is_of_last);
        // those of a border that has forgotten its secret run out by themselves
        if newer > phones || live.clone().count() < places || left_over {
            let seen = format!("{name}: {phones} phones, the PBX has {contacts:?}");
            let call = own.next().map_or("", Phone::series).to_owned();
            return Err(Violation { oracle: REGISTERED, seen, call });
        }
        Ok(())
    }

    /// One call of each phone, one to each contact, and one between extensions: all are answered and heard.
    pub(crate) fn probe(&mut self) -> Result<(), Violation> {
        let whole = self.ending == Ending::Watched;
        self.probe_outward(&["2001", "1002"], whole)?;
        self.probe_inward(0, whole)?;
        // timer H, J and L of the last of them
        self.run_until(Some(self.now + Duration::from_secs(60)), None)?;
        self.is_at_rest()
    }

    /// One phone that is registered calls these numbers, or each does.
    pub(crate) fn probe_outward(&mut self, numbers: &[&'static str], whole: bool) -> Result<(), Violation> {
        let there = |index: &usize| {
            self.phones.get(*index).is_some_and(|own| own.is_registered(self.now) && !own.answered_late)
        };
        let there: Vec<usize> = (0..self.phones.len()).filter(there).collect();
        let one = self.rng.pick(&there).copied();
        for index in there.into_iter().filter(|index| whole || Some(*index) == one) {
            for number in numbers {
                let itself = self.phones[index].model.extension == *number;
                // where two phones of an extension accept at once, the caller has both
                let another = if self.phones_of("1003") > 1 { "1004" } else { "1003" };
                self.probe_call(index, if itself { another } else { number })?;
            }
        }
        Ok(())
    }

    fn probe_call(&mut self, index: usize, number: &'static str) -> Result<(), Violation> {
        self.phones[index].agent.put_away();
        let before = self.phones[index].agent.history.len();
        self.stage(Who::Phone(index), |world, stage| world.phones[index].call(number, stage));
        self.run_while(|world| {
            let agent = &world.phones[index].agent;
            agent.history.get(before..).unwrap_or_default().iter().all(|leg| leg.status == 0)
        })?;
        let history = self.phones[index].agent.history.get(before..).unwrap_or_default();
        let outgoing = history.iter().find(|leg| leg.status != 0);
        match outgoing {
            Some(leg) if leg.status == 200 && leg.heard > 0 => self.is_heard_at_both_ends(&leg.caller_tag),
            other => {
                let call = other
                    .or_else(|| self.phones[index].agent.legs.first())
                    .map_or(String::new(), |leg| leg.local_tag.clone());
                let seen = format!(
                    "phone {} called {number}: {:?}",
                    self.phones[index].model.number,
                    other.map(|leg| (leg.status, leg.state, leg.heard))
                );
                Err(Violation { oracle: "a call works again", seen, call })
            }
        }
    }

    /// Whoever spoke in a call hears the other end after the last change of it.
    fn is_heard_at_both_ends(&self, tag: &str) -> Result<(), Violation> {
        let agents =
            self.phones.iter().map(|phone| &phone.agent).chain(self.pbxs.iter().map(|pbx| &pbx.agent));
        let ends = agents.flat_map(|agent| agent.history.iter().chain(&agent.legs));
        match ends.filter(|leg| leg.caller_tag == tag && leg.heard > 0).find(|leg| !leg.is_heard()) {
            Some(leg) => {
                let seen = format!("{} does not hear or see any more: {}", leg.call_id, leg.what_it_hears());
                Err(Violation { oracle: "a change does not silence a call", seen, call: tag.to_owned() })
            }
            None => Ok(()),
        }
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

    /// The desk of a PBX calls one contact that it has, or each.
    pub(crate) fn probe_inward(&mut self, pbx: usize, whole: bool) -> Result<(), Violation> {
        let late =
            |name: &str| self.phones.iter().any(|phone| phone.model.extension == name && phone.answered_late);
        let contacts: Vec<(String, String)> = self.pbxs[pbx]
            .location
            .iter()
            .flat_map(|(name, contacts)| contacts.iter().map(move |own| (name.clone(), own)))
            // who was turned away, or left while the PBX was not there, may be known there for a while
            .filter(|(name, own)| own.since >= self.forgot_at && !self.is_crowded(name) && !late(name))
            .filter(|(_, own)| own.until > self.now)
            .map(|(name, own)| (name, own.uri.clone()))
            .collect();
        let one = usize::try_from(self.rng.below(contacts.len() as u64)).unwrap_or(0);
        let meant = |(index, contact)| (whole || index == one).then_some(contact);
        for (name, uri) in contacts.into_iter().enumerate().filter_map(meant) {
            self.pbxs[pbx].agent.put_away();
            let before = self.pbxs[pbx].agent.history.len();
            self.stage(Who::Pbx(pbx), |world, stage| world.pbxs[pbx].call_contact(&name, &uri, None, stage));
            self.run_while(|world| world.pbxs[pbx].agent.history.len() == before)?;
            let history = self.pbxs[pbx].agent.history.get(before..).unwrap_or_default();
            match history.first() {
                Some(leg) if leg.status == 200 && leg.heard > 0 && leg.state == State::Over => {
                    self.is_heard_at_both_ends(&leg.caller_tag)?;
                }
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
    pub(crate) fn part(&mut self) -> Result<(), Violation> {
        for index in 0..self.phones.len() {
            self.stage(Who::Phone(index), |world, stage| world.phones[index].leave(stage));
        }
        self.run_until(Some(self.now + Duration::from_secs(120)), None)?;
        self.is_at_rest()?;
        self.nothing_is_unfinished()?;
        let left = |own: &&Contact| own.until > self.now && own.since >= self.forgot_at;
        let known = self.pbxs[0].location.iter().filter(|(name, _)| !self.is_crowded(name));
        let contacts: usize = known.flat_map(|(_, own)| own).filter(left).count();
        if self.status.registrations != 0 || contacts != 0 {
            return Err(Violation::new(
                "nothing is left",
                format!("{} bindings, {contacts} contacts at the PBX", self.status.registrations),
            ));
        }
        let answered = self.phones.iter().flat_map(|phone| &phone.agent.history);
        self.tally.answered = answered.filter(|leg| leg.status == 200).count() as u64;
        let agents =
            self.phones.iter().map(|phone| &phone.agent).chain(self.pbxs.iter().map(|pbx| &pbx.agent));
        self.tally.changed = agents.flat_map(|agent| &agent.history).map(|leg| u64::from(leg.changes)).sum();
        Ok(())
    }
}
