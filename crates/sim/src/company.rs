//! Who is there beside the phones that every world has, and how many devices an extension may have: in a few worlds
//! one more than that, in a few as many. And how fast a PBX may be asked for registrations: in some worlds, more of them
//! are due at once when it is back.

use wire::net::Transport;

use crate::phone::Model;
use crate::rng::Rng;
use crate::scenery::MAX_CONTACTS;
use crate::world::World;

/// What is drawn for it.
const COMPANY: u64 = 0xC0_FFEE;

/// Phones that some worlds have, and the bound of all.
#[derive(Debug)]
pub(crate) struct Company {
    /// These come beside the others.
    pub(crate) phones: Vec<Model>,
    /// So many devices may an extension have.
    pub(crate) max_contacts: usize,
    /// So many registrations a second does a PBX get.
    pub(crate) registrations: u32,
}

impl Company {
    /// Drawn for a run, and by itself: nothing else that is drawn is another for it.
    pub(crate) fn of(seed: u64) -> Self {
        let third = Model {
            extension: "1001".to_owned(),
            transport: Transport::Tls,
            hardware_id: Some("009033010013".to_owned()),
            instance: false,
            number: 13,
        };
        let second = Model {
            extension: "1003".to_owned(),
            transport: Transport::Udp,
            hardware_id: None,
            instance: false,
            number: 32,
        };
        let mut rng = Rng::of([seed, COMPANY, 0]);
        let (phones, max_contacts) = match rng.below(100) {
            0..4 => (vec![third], 2),
            4..8 => (vec![third], 3),
            8..12 => (vec![second], 2),
            _ => (Vec::new(), MAX_CONTACTS),
        };
        let registrations = if rng.chance(250) { 2 } else { 20 };
        Self { phones, max_contacts, registrations }
    }
}

impl World {
    /// How many phones an extension has.
    pub(crate) fn phones_of(&self, extension: &str) -> usize {
        self.phones.iter().filter(|phone| phone.model.extension == extension).count()
    }

    /// How many of them can be registered at once.
    pub(crate) fn places_of(&self, extension: &str) -> usize {
        self.phones_of(extension).min(self.config.registration.max_contacts)
    }

    /// Whether somebody of an extension must be turned away: who, is a matter of who came first.
    pub(crate) fn is_crowded(&self, extension: &str) -> bool {
        self.places_of(extension) < self.phones_of(extension)
    }

    /// How many phones of an extension are registered, as they believe.
    pub(crate) fn registered_of(&self, extension: &str) -> usize {
        let own = self.phones.iter().filter(|phone| phone.model.extension == extension);
        own.filter(|phone| phone.is_registered(self.now)).count()
    }
}
