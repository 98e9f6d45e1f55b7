//! A phone that remembers what it was told about its registration.

use std::time::Duration;

use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::Lab;
use portcullis_tests::pki::Identity;
use portcullis_tests::raw_message::Draft;
use portcullis_tests::raw_phone::RawPhone;

use super::super::party;
use crate::support::SOON;

/// A device.
pub(super) struct Device {
    pub(super) extension: &'static str,
    /// None for one that registers with its password, over UDP.
    pub(super) hardware_id: Option<&'static str>,
    identity: Option<Identity>,
    number: u8,
    phone: Option<RawPhone>,
    /// The last it was told: registered, or signed off. None where it cannot know.
    pub(super) told: Option<bool>,
    /// The REGISTER that nobody answered yet, and whether it wants to be registered.
    asked: Option<(Draft, bool)>,
}

impl Device {
    pub(super) fn new(
        lab: &Lab,
        number: u8,
        extension: &'static str,
        hardware_id: Option<&'static str>,
    ) -> Self {
        let identity = hardware_id.map(|id| lab.pki.device(id));
        Self { extension, hardware_id, identity, number, phone: None, told: Some(false), asked: None }
    }

    /// Connects and registers, and is told so.
    #[track_caller]
    pub(super) fn come_back(&mut self, lab: &Lab) {
        match &self.identity {
            Some(identity) => self.phone = Some(lab.tls_phone(self.number, identity)),
            None => {
                let own = lab.addresses.phone(self.number);
                self.phone.get_or_insert_with(|| RawPhone::udp(own, lab.plain()));
            }
        }
        self.ask(true);
        self.hear_answer(200);
    }

    /// Signs off, and is told so.
    #[track_caller]
    pub(super) fn sign_off(&mut self) {
        self.ask(false);
        self.hear_answer(200);
    }

    /// Its phone, if it is connected and registered.
    pub(super) fn registered_phone(&mut self) -> Option<&mut RawPhone> {
        self.phone.as_mut().filter(|_| self.told == Some(true))
    }

    /// Sends a REGISTER, if it is connected; does not wait for the answer.
    #[track_caller]
    pub(super) fn ask(&mut self, wish: bool) {
        let Some(phone) = &mut self.phone else { return };
        let expires = if wish { 60 } else { 0 };
        let mut draft = Draft::register(self.extension, DOMAIN, &phone.contact(self.extension), expires);
        if self.identity.is_none() {
            let challenge = party::ask(phone, &draft);
            assert_eq!(challenge.status(), 401, "{challenge:?}");
            draft.follow_up().authorize(&challenge, self.extension, &format!("secret{}", self.extension));
        }
        phone.send(&draft);
        self.asked = Some((draft, wish));
    }

    #[track_caller]
    fn hear_answer(&mut self, status: u16) {
        let (Some(phone), Some((draft, wish))) = (&mut self.phone, self.asked.take()) else { return };
        let answer = party::receive(phone, "answer", |message| {
            message.status() >= 200 && party::is_answer(message, &draft)
        });
        assert_eq!(answer.status(), status, "{answer:?}");
        self.told = Some(wish);
    }

    /// Takes in everything that was sent to it before the kill.
    pub(super) fn hear_to_the_end(&mut self) {
        let Some(phone) = &mut self.phone else { return };
        // A datagram that was sent is there; the end of a connection comes after its last byte.
        let patience = if self.identity.is_none() { Duration::from_millis(20) } else { SOON };
        while let Ok(message) = phone.receive(patience) {
            if let Some((_, wish)) =
                self.asked.take_if(|(draft, _)| message.status() == 200 && party::is_answer(&message, draft))
            {
                self.told = Some(wish);
            }
        }
        if self.identity.is_some() {
            self.phone = None;
        }
    }

    /// What it was told, unless it wanted something else meanwhile: then either may be true.
    pub(super) fn what_holds_after_a_kill(&mut self) -> Option<bool> {
        if self.asked.take().is_some_and(|(_, wish)| self.told != Some(wish)) {
            self.told = None;
        }
        self.told
    }
}
