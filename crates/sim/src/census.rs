//! What is counted after each step: all that the border says that there is, beside what was seen to begin and to end.

use border::command::StatusView;
use border::{Command, Input};

use crate::oracle::Violation;
use crate::shell::{RECOUNT, STATUS, WHO_IS_THERE};
use crate::world::World;

impl World {
    pub(crate) fn ask_status(&mut self) -> Result<(), Violation> {
        let registrations = self.status.registrations;
        self.input(Input::Command { id: STATUS, command: Command::Status });
        self.drain()?;
        if self.oracles.places_changed() || self.status.registrations != registrations {
            self.input(Input::Command { id: WHO_IS_THERE, command: Command::Registrations });
            self.drain()?;
        }
        self.oracles.counts_balance(&self.status, self.media.len(), false)?;
        self.transactions_balance()?;
        if self.oracles.slots_are_due(self.now) {
            self.oracles.slots_balance(self.border.call_slots(), self.now)?;
        }
        self.media.take_violation().map_or(Ok(()), Err)?;
        self.tables_are_small()?;
        let Some(extension) = self.refused.take() else { return Ok(()) };
        self.input(Input::Command { id: RECOUNT, command: Command::Calls });
        self.drain()?;
        let up = self.calls.iter().filter(|call| call.extension == extension).count();
        self.oracles.refused_by_number(&extension, up)
    }

    /// What was opened on the wire and has not ended there is what the border has, once its timers were served.
    fn transactions_balance(&mut self) -> Result<(), Violation> {
        let [(_, live), ..] = self.border.unfinished();
        if self.border.poll_timeout().is_none_or(|at| at > self.now)
            && self.oracles.transactions_balance(live, self.now)?
        {
            self.decisions.saw("each transaction is one of the wire");
        }
        Ok(())
    }

    /// No table holds more than it may, and none holds what belongs to another that is empty.
    fn tables_are_small(&self) -> Result<(), Violation> {
        let StatusView { registrations, calls, .. } = self.status;
        let relays = self.oracles.relays_wanted();
        let bindings_max = self.config.extensions.len() * self.config.registration.max_contacts;
        let orphans = calls == 0
            && self.border.unfinished().iter().any(|(name, count)| *name == "dialogs" && *count > 0);
        let calls_max: usize = self.config.extensions.iter().map(|extension| extension.max_calls).sum();
        let full = registrations > bindings_max || relays > self.config.relays_max || calls > calls_max;
        if full || orphans {
            let seen = format!(
                "{registrations} bindings, {relays} relays, {calls} calls, {:?}",
                self.border.unfinished()
            );
            return Err(Violation::new("tables are within their bounds", seen));
        }
        Ok(())
    }

    /// Every party hears the one that it speaks with.
    pub(crate) fn audio_is_not_foreign(&self) -> Result<(), Violation> {
        if let Some(to) = self.astray {
            return Err(Violation::new("audio reaches the other party", format!("it went to {to}")));
        }
        let agents =
            self.phones.iter().map(|phone| &phone.agent).chain(self.pbxs.iter().map(|pbx| &pbx.agent));
        match agents.filter_map(|agent| agent.foreign_audio.as_ref()).next() {
            Some(foreign) => Err(Violation::new("audio reaches the other party", foreign.clone())),
            None => Ok(()),
        }
    }
}
