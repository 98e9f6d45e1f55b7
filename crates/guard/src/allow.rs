//! The allow list: addresses, networks and domains that are never blocked.
//!
//! Never resolves a name: the addresses of a domain are handed in. Being allowed exempts from blocks alone,
//! never from authentication.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wire::net::{Prefix, PrefixSet};

use crate::{Guard, GuardError};

/// An entry of the allow list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowEntry {
    /// Unique; how an operator takes it out again. At most [`AllowEntry::NAME_MAX`] bytes.
    pub name: String,
    /// For people.
    pub description: String,
    /// An address, a network or a domain, as it was given.
    pub address: String,
    /// What that stands for; none while a domain is not resolved. At most [`AllowEntry::PREFIXES_MAX`].
    pub prefixes: Vec<Prefix>,
    /// Whether it stands in the configuration, and so cannot be taken out at run time.
    pub from_config: bool,
}

impl AllowEntry {
    /// The longest name.
    pub const NAME_MAX: usize = 128;
    /// The most networks that one entry may stand for.
    pub const PREFIXES_MAX: usize = 1_024;
}

/// The entries by name, and all of them together as one set.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowList {
    entries: BTreeMap<String, AllowEntry>,
    set: PrefixSet,
}

impl AllowList {
    pub(crate) fn insert(&mut self, entry: AllowEntry) -> Result<(), GuardError> {
        if entry.name.is_empty() || entry.name.len() > AllowEntry::NAME_MAX {
            return Err(GuardError::BadName);
        }
        if self.entries.contains_key(&entry.name) {
            return Err(GuardError::NameTaken(entry.name));
        }
        if self.entries.len() >= Guard::ALLOWED_MAX || entry.prefixes.len() > AllowEntry::PREFIXES_MAX {
            return Err(GuardError::ListFull);
        }
        self.set = self.set.union(&PrefixSet::from_prefixes(entry.prefixes.iter().copied()));
        self.entries.insert(entry.name.clone(), entry);
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<AllowEntry, GuardError> {
        match self.entries.get(name) {
            None => Err(GuardError::NoSuchName(name.to_owned())),
            Some(entry) if entry.from_config => Err(GuardError::FromConfig(name.to_owned())),
            Some(_) => {
                let entry = self.entries.remove(name).ok_or(GuardError::NoSuchName(name.to_owned()));
                self.rebuild();
                entry
            }
        }
    }

    /// Other networks for an entry; false where there is no such entry, or nothing changed.
    pub(crate) fn set_prefixes(&mut self, name: &str, mut prefixes: Vec<Prefix>) -> bool {
        prefixes.truncate(AllowEntry::PREFIXES_MAX);
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.prefixes != prefixes) else {
            return false;
        };
        entry.prefixes = prefixes;
        self.rebuild();
        true
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &AllowEntry> {
        self.entries.values()
    }

    pub(crate) fn set(&self) -> &PrefixSet {
        &self.set
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.set.contains(ip)
    }

    /// Where every address of `prefix` is allowed: an entry that it meets.
    pub(crate) fn covering(&self, prefix: &Prefix) -> Option<&AllowEntry> {
        let covered = self.set.covers(prefix);
        self.entries
            .values()
            .find(|entry| entry.prefixes.iter().any(|allowed| allowed.overlaps(prefix)))
            .filter(|_| covered)
    }

    fn rebuild(&mut self) {
        self.set = self.entries.values().flat_map(|entry| entry.prefixes.iter().copied()).collect();
    }
}
