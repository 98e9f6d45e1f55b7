//! The end of a run in which the standby must serve: the main PBX is away for minutes while all is well.

use std::time::Duration;

use crate::calm::BACK_AFTER_KILL;
use crate::oracle::Violation;
use crate::pbx::Contact;
use crate::scenery::EXTENSIONS;
use crate::world::World;

/// The main PBX is missed by then: two health checks in a row without an answer, and the third that says so.
const MISSED: Duration = Duration::from_secs(40);
/// And every phone is registered at the other, where each registers once more.
const TAKEN_OVER: Duration = Duration::from_secs(25);
/// So long the main PBX is away at least, with the calls of the probe.
const AWAY: Duration = Duration::from_secs(110);

impl World {
    /// Where there are two PBXs, the main one goes away: registrations and calls go to the standby. Then it is back,
    /// with what it knew or without, and all is as it was.
    pub(crate) fn be_served_by_the_standby(&mut self) -> Result<(), Violation> {
        if self.pbxs.len() < 2 {
            return Ok(());
        }
        let (back, keeps) = (self.now + AWAY, self.rng.chance(500));
        self.stop_pbx(0, keeps, AWAY);
        self.run_until(Some(self.now + MISSED), None)?;
        self.phones_begin_anew();
        self.run_until(Some(self.now + TAKEN_OVER), None)?;
        self.everybody_is_at_the_standby()?;
        self.probe_outward(&["2001"], false)?;
        self.probe_inward(1, false)?;
        self.decisions.saw("a standby serves");
        self.run_until(Some(back + Duration::from_secs(1)), None)?;
        self.phones_begin_anew();
        self.run_until(Some(self.now + BACK_AFTER_KILL), None)?;
        self.everybody_is_registered()
    }

    fn everybody_is_at_the_standby(&self) -> Result<(), Violation> {
        for (name, _) in EXTENSIONS {
            let contacts = self.pbxs[1].location.get(name).map(Vec::as_slice).unwrap_or_default();
            let holds = |contact: &&Contact| contact.until > self.now;
            let (there, places) = (contacts.iter().filter(holds).count(), self.places_of(name));
            if there < places || self.registered_of(name) < places {
                let seen = format!(
                    "{name}: {places} phones, {} registered, the standby has {contacts:?}",
                    self.registered_of(name)
                );
                return Err(Violation::new("a standby serves", seen));
            }
        }
        Ok(())
    }
}
