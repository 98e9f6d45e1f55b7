//! Rules about the devices of an extension: no more than may be, none turned away while there is room, and none
//! de-registered by another's word.

use std::collections::BTreeMap;
use std::time::Duration;

use border::command::RegistrationView;
use border::{Code, Event};
use wire::clock::Instant;
use wire::net::Side;

use crate::oracle::{Seen, Violation};
use crate::scenery;
use crate::text::{param, uri_of, user_of};

/// A REGISTER is passed on for ten seconds, what it asked for is heard of as long as it is repeated.
const HEARD_WITHIN: Duration = Duration::from_secs(45);

/// How a phone calls itself, before its number; scanners say other things.
const PHONES: &str = "SimPhone/";

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    /// So many devices may an extension have.
    most: usize,
    /// So many each has, as the border said last.
    bindings: BTreeMap<String, usize>,
    /// Somebody has registered since it did, or it has not said it yet.
    unsure: bool,
    /// When a phone last took something of its own back, by its number.
    took_back: BTreeMap<u8, Instant>,
    /// By which phone, as it calls itself, a contact was registered at the PBX.
    owners: BTreeMap<String, String>,
}

impl Contacts {
    /// The border begins, with so many contacts for each.
    pub(super) fn on_start(&mut self, most: usize) {
        (self.most, self.unsure) = (most, true);
        self.bindings.clear();
    }

    /// Somebody registered at a place, or is gone from it.
    pub(super) fn on_place(&mut self, registered: bool) {
        self.unsure |= registered;
    }

    /// Whether the registrations should be looked at.
    pub(super) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// All registrations, at the end of a step.
    pub(super) fn on_registrations(&mut self, all: &[RegistrationView]) -> Result<(), Violation> {
        self.unsure = false;
        self.bindings.clear();
        for view in all {
            *self.bindings.entry(view.extension.clone()).or_default() += 1;
        }
        match self.bindings.iter().find(|(_, count)| **count > self.most) {
            Some((name, count)) => Err(Violation::new(
                "an extension has no more devices than may be",
                format!("{name} has {count}, may have {}: {all:?}", self.most),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        if seen.side == Side::Inside || seen.text.method() != "REGISTER" || seen.text.code().is_some() {
            return;
        }
        let ended = |contact: &String| contact == "*" || param(contact, "expires") == Some("0");
        if let Some(number) = scenery::phone_at(seen.peer.ip())
            && seen.text.all("Contact").iter().any(ended)
        {
            self.took_back.insert(number % scenery::AWAY, seen.now);
        }
    }

    /// What a phone takes back at the PBX is its own.
    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        if seen.side == Side::Outside || seen.text.method() != "REGISTER" {
            return Ok(());
        }
        let phone = seen.text.header("User-Agent");
        if !phone.starts_with(PHONES) {
            return Ok(());
        }
        for contact in seen.text.all("Contact") {
            let user = user_of(uri_of(&contact)).to_owned();
            if param(&contact, "expires") != Some("0") {
                self.owners.insert(user, phone.to_owned());
                continue;
            }
            if let Some(owner) = self.owners.get(&user).filter(|owner| *owner != phone) {
                let words = format!("{phone} takes back what {owner} registered:\n{}", seen.text.render());
                return Err(Violation::of("nobody takes another's registration back", words, seen.text));
            }
        }
        Ok(())
    }

    pub(super) fn on_event(&mut self, event: &Event, now: Instant) -> Result<(), Violation> {
        match event.code {
            Code::ContactsLimited => self.had_no_room(event),
            Code::Deregistered if event.text.contains("max_contacts") => self.had_no_room(event),
            Code::Deregistered if event.text.contains("the phone de-registered") => self.did_so(event, now),
            _ => Ok(()),
        }
    }

    /// Who is turned away finds no room, as far as is known what changed in this step.
    fn had_no_room(&self, event: &Event) -> Result<(), Violation> {
        let name = event.extension.as_deref().unwrap_or_default();
        let count = self.bindings.get(name).copied().unwrap_or_default();
        match self.unsure || count >= self.most {
            true => Ok(()),
            false => Err(Violation::new(
                "no device is turned away while there is room",
                format!("{name} has {count}, may have {}: {event:?}", self.most),
            )),
        }
    }

    /// It was this phone that said so, and nobody else.
    fn did_so(&self, event: &Event, now: Instant) -> Result<(), Violation> {
        let Some(number) = event.source.and_then(|source| scenery::phone_at(source.ip())) else {
            return Ok(());
        };
        let said = self.took_back.get(&(number % scenery::AWAY));
        match said.is_some_and(|at| now.since(*at) < HEARD_WITHIN) {
            true => Ok(()),
            false => Err(Violation::new(
                "nobody takes another's registration back",
                format!("phone {number} has not said so: {event:?}"),
            )),
        }
    }
}
