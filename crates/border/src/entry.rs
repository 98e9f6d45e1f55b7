//! Extension entries: who may be which extension. The one place where identity is decided.

use std::collections::BTreeMap;
use std::time::Duration;

use guard::{CallLimit, CallRule, HardwareId};
use wire::clock::Instant;
use wire::net::VerifiedDevice;

use crate::config::{Authentication, Extension};
use crate::event::Code;
use crate::single_contact::Displacement;

/// Index of an extension entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryId(pub(crate) usize);

/// An extension and what it has done.
pub(crate) struct Entry {
    pub(crate) config: Extension,
    limit: CallLimit,
    /// Calls that are up, by either side's wish.
    pub(crate) calls: usize,
    pub(crate) displacement: Displacement,
}

/// Why a call may not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallRefusal {
    /// A frequency rule is used up.
    Frequency { rule: CallRule, retry_after: Duration },
    /// As many calls are up as may be.
    MaxCalls,
}

impl Entry {
    /// Counts a call and lets it start, or says why not. A refused call is not counted.
    pub(crate) fn admit_call(&mut self, now: Instant) -> Result<(), CallRefusal> {
        if self.calls >= self.config.max_calls {
            return Err(CallRefusal::MaxCalls);
        }
        self.limit.admit(now).map_err(|refusal| CallRefusal::Frequency {
            rule: refusal.rule,
            retry_after: refusal.retry_after,
        })
    }
}

/// What a registration by this client for this name is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The device is the extension; we register it with the stored password.
    Surrogate { entry: EntryId, hardware_id: HardwareId },
    /// The PBX's own challenge decides.
    PassThrough { entry: EntryId, hardware_id: Option<HardwareId> },
    /// Nobody; the event says why, the client does not learn it.
    Refused(Identity),
}

/// The whole truth about a refused identity, for the event alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) code: Code,
    pub(crate) hardware_id: Option<String>,
    pub(crate) text: String,
    pub(crate) next_step: String,
}

/// All extension entries.
pub(crate) struct Entries {
    entries: Vec<Entry>,
    by_name: BTreeMap<String, EntryId>,
    by_hardware_id: BTreeMap<HardwareId, EntryId>,
}

impl Entries {
    pub(crate) fn new(extensions: &[Extension]) -> Self {
        let mut by_name = BTreeMap::new();
        let mut by_hardware_id = BTreeMap::new();
        let mut entries = Vec::with_capacity(extensions.len());
        for (index, extension) in extensions.iter().enumerate() {
            by_name.insert(extension.name.clone(), EntryId(index));
            for id in &extension.hardware_ids {
                by_hardware_id.insert(*id, EntryId(index));
            }
            entries.push(Entry {
                limit: CallLimit::new(extension.rules.clone()),
                config: extension.clone(),
                calls: 0,
                displacement: Displacement::default(),
            });
        }
        Self { entries, by_name, by_hardware_id }
    }

    /// The entry itself. An `EntryId` is only made by this table, which never shrinks.
    pub(crate) fn entry(&self, id: EntryId) -> &Entry {
        &self.entries[id.0]
    }

    pub(crate) fn entry_mut(&mut self, id: EntryId) -> &mut Entry {
        &mut self.entries[id.0]
    }

    pub(crate) fn name(&self, id: EntryId) -> &str {
        &self.entry(id).config.name
    }

    /// Each extension's name, and how many calls of it are up.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries.iter().map(|entry| (entry.config.name.as_str(), entry.calls))
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<EntryId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> + use<> {
        (0..self.entries.len()).map(EntryId)
    }

    /// Decides who the client is. `name` is the user part it registers, none where the AOR's host is not
    /// ours. The answer outside must not differ by which check failed (contract section 2).
    pub(crate) fn authorize(&self, device: Option<&VerifiedDevice>, name: Option<&str>) -> Admission {
        let asked = name.and_then(|name| self.by_name(name));
        match device {
            Some(device) => self.authorize_device(device, asked),
            None => self.authorize_without(asked),
        }
    }

    fn authorize_device(&self, device: &VerifiedDevice, asked: Option<EntryId>) -> Admission {
        let hardware_id = match HardwareId::from_values(&device.field_values) {
            Ok(id) => id,
            Err(error) => {
                return Admission::Refused(Identity {
                    code: Code::CertAmbiguous,
                    hardware_id: None,
                    text: format!("certificate {} of issuer {}: {error}", device.subject, device.issuer),
                    next_step: "give the device a certificate whose identity field holds one hardware ID"
                        .into(),
                });
            }
        };
        let refused = |code, text: String, next_step: String| {
            Admission::Refused(Identity { code, hardware_id: Some(hardware_id.to_string()), text, next_step })
        };
        let owner = self.by_hardware_id.get(&hardware_id).copied();
        match (asked, owner) {
            (None, _) => refused(
                Code::NameUnknown,
                format!(
                    "device {hardware_id} ({}, issuer {}) asks for a name that no extension has",
                    device.subject, device.issuer
                ),
                "add an [[extension]] of that name, or correct the name in the phone".into(),
            ),
            (Some(_), None) => refused(
                Code::HwidUnknown,
                format!(
                    "no extension lists hardware ID {hardware_id} ({}, issuer {})",
                    device.subject, device.issuer
                ),
                format!("add \"{hardware_id}\" to hardware_ids of the extension it shall be"),
            ),
            (Some(asked), Some(owner)) if asked != owner => refused(
                Code::CnMismatch,
                format!(
                    "hardware ID {hardware_id} ({}, issuer {}) belongs to extension {}",
                    device.subject,
                    device.issuer,
                    self.name(owner)
                ),
                format!("register it as {}, or move the ID to the extension it shall be", self.name(owner)),
            ),
            (Some(entry), Some(_)) => match self.entry(entry).config.authentication {
                Authentication::Certificate => Admission::Surrogate { entry, hardware_id },
                Authentication::CertificateAndDigest | Authentication::Digest => {
                    Admission::PassThrough { entry, hardware_id: Some(hardware_id) }
                }
            },
        }
    }

    fn authorize_without(&self, asked: Option<EntryId>) -> Admission {
        let Some(entry) = asked else {
            return Admission::Refused(Identity {
                code: Code::NameUnknown,
                hardware_id: None,
                text: "a client without certificate asks for a name that no extension has".into(),
                next_step: "if it is yours, add an [[extension]] with authentication = \"digest\"".into(),
            });
        };
        match self.entry(entry).config.authentication {
            Authentication::Digest => Admission::PassThrough { entry, hardware_id: None },
            Authentication::Certificate | Authentication::CertificateAndDigest => {
                Admission::Refused(Identity {
                    code: Code::CertMissing,
                    hardware_id: None,
                    text: "a client without certificate asks for an extension that needs one".into(),
                    next_step: "give the phone a device certificate and let it connect by TLS, \
                            or set authentication = \"digest\" for the extension"
                        .into(),
                })
            }
        }
    }

    /// The device that a certificate names, where an extension lists it.
    pub(crate) fn known_device(&self, device: &VerifiedDevice) -> Option<HardwareId> {
        HardwareId::from_values(&device.field_values).ok().filter(|id| self.by_hardware_id.contains_key(id))
    }

    /// Whether any extension may come without a certificate.
    pub(crate) fn any_digest(&self) -> Option<EntryId> {
        self.ids().find(|id| self.entry(*id).config.authentication == Authentication::Digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::clock::WallTime;
    use wire::net::ChainVerified;

    fn entries() -> Entries {
        let extension = |name: &str, ids: &[&str], authentication| Extension {
            name: name.into(),
            display_name: None,
            hardware_ids: ids.iter().map(|id| HardwareId::parse(id.as_bytes()).unwrap()).collect(),
            authentication,
            pbx_user: name.into(),
            password: None,
            frequency: "default".into(),
            rules: vec!["2/1s".parse().unwrap()],
            max_calls: 2,
        };
        Entries::new(&[
            extension("1001", &["009033010203"], Authentication::Certificate),
            extension("1002", &["IP110-01-02-04"], Authentication::CertificateAndDigest),
            extension("1003", &[], Authentication::Digest),
        ])
    }

    fn device(values: &[&str]) -> VerifiedDevice {
        VerifiedDevice {
            field_values: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
            subject: "CN=x".into(),
            issuer: "CN=ca".into(),
            not_after: WallTime(0),
            chain: ChainVerified::assertion(),
        }
    }

    #[test]
    fn identity_table() {
        let entries = entries();
        let check = |device: Option<&[&str]>, name: Option<&str>| match entries
            .authorize(device.map(self::device).as_ref(), name)
        {
            Admission::Surrogate { entry, .. } => format!("surrogate {}", entries.name(entry)),
            Admission::PassThrough { entry, .. } => format!("pass {}", entries.name(entry)),
            Admission::Refused(identity) => identity.code.as_str().to_owned(),
        };
        let first: &[&str] = &["00:90:33:01:02:03"];
        let second: &[&str] = &["009033010204"];
        for (device, name, expected) in [
            (Some(first), Some("1001"), "surrogate 1001"),
            (Some(&["SEP009033010203", "IP240-01-02-03"][..]), Some("1001"), "surrogate 1001"),
            (Some(first), Some("1002"), "cn_mismatch"),
            (Some(first), Some("1003"), "cn_mismatch"),
            (Some(first), Some("9999"), "name_unknown"),
            (Some(first), None, "name_unknown"),
            (Some(second), Some("1002"), "pass 1002"),
            (Some(&["009033999999"][..]), Some("1001"), "hwid_unknown"),
            (Some(&["009033999999"][..]), Some("1003"), "hwid_unknown"),
            (Some(&[][..]), Some("1001"), "cert_ambiguous"),
            (Some(&["009033010203", "009033010204"][..]), Some("1001"), "cert_ambiguous"),
            (Some(&["009033010203\0"][..]), Some("1001"), "cert_ambiguous"),
            (None, Some("1001"), "cert_missing"),
            (None, Some("1002"), "cert_missing"),
            (None, Some("1003"), "pass 1003"),
            (None, Some("9999"), "name_unknown"),
            (None, None, "name_unknown"),
        ] {
            assert_eq!(check(device, name), expected, "{device:?} {name:?}");
        }
    }

    #[test]
    fn calls_are_limited_by_number_and_by_frequency() {
        let mut entries = entries();
        let entry = entries.entry_mut(EntryId(0));
        let now = Instant::ZERO;
        assert_eq!(entry.admit_call(now), Ok(()));
        assert_eq!(entry.admit_call(now), Ok(()));
        let rule = "2/1s".parse().unwrap();
        assert_eq!(
            entry.admit_call(now),
            Err(CallRefusal::Frequency { rule, retry_after: Duration::from_secs(1) })
        );
        entry.calls = 2;
        assert_eq!(entry.admit_call(now + Duration::from_secs(9)), Err(CallRefusal::MaxCalls));
    }
}
