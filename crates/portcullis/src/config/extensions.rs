//! `[[extension]]` and what it refers to: hardware IDs, secrets, frequency rules.

use std::collections::BTreeMap;
use std::path::Path;

use border::config::{Authentication, Extension, Secret};
use guard::CallRule;
use net::ClientAuth;

use super::certificates::{named_file, warn_if_readable_by_others};
use super::defaults;
use super::document::{At, quoted_key};
use super::fault::{FaultCode, Faults, Place, Problem};
use super::schema::nearest;
use super::validate::{check_unique, count};
use super::value::SecretSource;
use super::{file, host};

/// The most rules that one restriction may have: each costs memory for every extension.
const RULES_MAX: usize = 8;

/// Whether the extension proves itself by a device certificate, alone or among others.
pub(super) fn shows_certificate(extension: &file::Extension) -> bool {
    extension.authentication.value != Authentication::Digest
}

/// Who may complete a TLS handshake.
pub(super) fn client_auth(extensions: &[file::Extension]) -> ClientAuth {
    let digest = |extension: &file::Extension| extension.authentication.value == Authentication::Digest;
    if extensions.iter().any(digest) { ClientAuth::CertificateOrDigest } else { ClientAuth::CertificateOnly }
}

/// Checks every extension and gives each its rules.
pub(super) fn validate(
    extensions: &[file::Extension],
    frequencies: &[file::Frequency],
    base: &Path,
    faults: &mut Faults,
) -> Vec<Extension> {
    let rules = rules_by_name(frequencies, faults);
    check_unique(extensions.iter().filter_map(|extension| extension.name.as_ref()), "extension", faults);
    check_hardware_ids(extensions, faults);
    // One whose name cannot be read may be the one that is meant.
    let names_known = frequencies.iter().all(|frequency| frequency.name.is_some());
    let mut valid = Vec::new();
    for extension in extensions {
        check_proof(extension, faults);
        check_password(extension, faults);
        let rules = match rules.get(&extension.frequency.value) {
            Some(rules) => rules.clone(),
            None => {
                if names_known {
                    unknown_frequency(&extension.frequency, &rules, faults);
                }
                Vec::new()
            }
        };
        let password =
            extension.password.as_ref().and_then(|source| reveal(&source.value, &source.place, base, faults));
        let Some(name) = &extension.name else { continue };
        let pbx_user = extension.pbx_user.as_ref().unwrap_or(name);
        valid.push(Extension {
            name: name.value.clone(),
            display_name: extension.display_name.as_ref().map(|at| at.value.clone()),
            hardware_ids: extension.hardware_ids.iter().map(|at| at.value).collect(),
            authentication: extension.authentication.value,
            pbx_user: pbx_user.value.clone(),
            password,
            frequency: extension.frequency.value.clone(),
            rules,
            max_calls: count(extension.max_calls.value),
        });
    }
    valid
}

fn rules_by_name(frequencies: &[file::Frequency], faults: &mut Faults) -> BTreeMap<String, Vec<CallRule>> {
    check_unique(frequencies.iter().filter_map(|frequency| frequency.name.as_ref()), "frequency", faults);
    let mut by_name = BTreeMap::new();
    by_name.insert(defaults::FREQUENCY.to_owned(), defaults::FREQUENCY_RULES.to_vec());
    for frequency in frequencies {
        if frequency.lacks_rules {
            let message = "[[frequency]] needs `rules`";
            let help = "add `rules = [\"5/1s\", \"60/1h\"]`";
            let problem = Problem::new(FaultCode::MissingKey, message, "it is left out", help);
            faults.error(&frequency.rules_place, problem);
        }
        if frequency.empty_rules {
            let place = &frequency.rules_place;
            let message = format!("{} has no rule: calls would be without any limit", quoted_key(&place.key));
            let help = "write what you would still call usual, such as [\"50/1s\"]";
            faults.error(place, Problem::new(FaultCode::OutOfRange, message, "an empty list", help));
        }
        if let Some(beyond) = frequency.rules.get(RULES_MAX) {
            let message = format!("{} takes at most {RULES_MAX} rules", quoted_key(&beyond.place.key));
            let problem = Problem::new(FaultCode::OutOfRange, message, "one too many", "take some out");
            faults.error(&beyond.place, problem);
        }
        if let Some(name) = &frequency.name {
            let rules = frequency.rules.iter().map(|at| at.value).collect();
            by_name.insert(name.value.clone(), rules);
        }
    }
    by_name
}

fn unknown_frequency(frequency: &At<String>, rules: &BTreeMap<String, Vec<CallRule>>, faults: &mut Faults) {
    let help = match nearest(&frequency.value, rules.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add a [[frequency]] with `name = \"{}\"`", frequency.value),
    };
    let message = format!("there is no [[frequency]] named `{}`", frequency.value);
    faults.error(&frequency.place, Problem::new(FaultCode::UnknownName, message, "unknown name", help));
}

/// One hardware ID belongs to one extension, in whatever form it is written.
fn check_hardware_ids(extensions: &[file::Extension], faults: &mut Faults) {
    let mut owners = BTreeMap::new();
    for extension in extensions {
        let owner = extension.name.as_ref().map_or("without a name", |name| name.value.as_str());
        for id in &extension.hardware_ids {
            if let Some(first) = owners.insert(id.value, owner) {
                let message =
                    format!("hardware ID {} stands twice: extension {first} has it already", id.value);
                let help = "leave it at the one extension that the device registers";
                faults.error(&id.place, Problem::new(FaultCode::Duplicate, message, "the second", help));
            }
        }
    }
}

/// Whether anybody could prove to be this extension.
fn check_proof(extension: &file::Extension, faults: &mut Faults) {
    let has_ids = !extension.hardware_ids.is_empty();
    if shows_certificate(extension) && extension.lacks_hardware_ids {
        let message = "the extension needs `hardware_ids`: its device proves itself by certificate";
        let help = "add `hardware_ids = [\"009033010203\"]`, or `authentication = \"digest\"`";
        let problem = Problem::new(FaultCode::MissingKey, message, "they are left out", help);
        faults.error(&extension.place, problem);
    }
    if let Some(place) = &extension.hardware_ids_place
        && !shows_certificate(extension)
        && has_ids
    {
        let message = format!("{} is unused: the extension shows no certificate", quoted_key(&place.key));
        let help = "take it out, or write `authentication = \"certificate\"`";
        faults.warning(place, Problem::new(FaultCode::Unused, message, "unused", help));
    }
}

fn check_password(extension: &file::Extension, faults: &mut Faults) {
    let name = extension.name.as_ref().map_or("without a name", |name| name.value.as_str());
    match (extension.authentication.value, &extension.password) {
        (Authentication::Certificate, None) if extension.lacks_password => {
            let message =
                format!("extension {name} has no `password`: a challenge of the PBX cannot be answered");
            let help = "add the password that the PBX has for it, unless the PBX asks for none";
            faults
                .warning(&extension.place, Problem::new(FaultCode::MissingKey, message, "no password", help));
        }
        (Authentication::Digest | Authentication::CertificateAndDigest, Some(password)) => {
            let message =
                format!("the password of extension {name} is unused: its phone answers the PBX itself");
            let help = "take it out, or write `authentication = \"certificate\"`";
            faults.warning(&password.place, Problem::new(FaultCode::Unused, message, "unused", help));
        }
        _ => {}
    }
}

/// Passwords that stand in the configuration file itself, where every user of the machine can read it.
pub(super) fn warn_if_file_is_open(extensions: &[file::Extension], path: &Path, faults: &mut Faults) {
    let in_place = |password: &&At<SecretSource>| matches!(password.value, SecretSource::InPlace(_));
    let first = extensions.iter().filter_map(|extension| extension.password.as_ref()).find(in_place);
    if let Some(password) = first
        && host::is_readable_by_all(path)
    {
        let message = "this file holds passwords, and every user of this machine can read it";
        let help = format!("run `chmod 600 {}`, or 640 with the service's group", path.display());
        faults.warning(&password.place, Problem::new(FaultCode::Secret, message, "readable by all", help));
    }
}

/// The secret itself.
fn reveal(source: &SecretSource, place: &Place, base: &Path, faults: &mut Faults) -> Option<Secret> {
    let (text, found) = match source {
        SecretSource::InPlace(text) => return Some(Secret::new(text.clone())),
        SecretSource::File(path) => {
            let bytes = named_file(path, place, base, faults)?;
            warn_if_readable_by_others(&base.join(path), place, faults);
            let text = String::from_utf8(bytes).ok();
            (text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()), path.display().to_string())
        }
        SecretSource::Environment(name) => {
            let Ok(text) = std::env::var(name) else {
                let message = format!("{} names a variable that is not set", quoted_key(&place.key));
                let help = "set it where the product is started, or name a file";
                faults.error(place, Problem::new(FaultCode::Secret, message, format!("`{name}`"), help));
                return None;
            };
            (Some(text), name.clone())
        }
    };
    match text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control)) {
        Some(text) => Some(Secret::new(text)),
        None => {
            let message = format!("{} names a secret that is empty or unusable", quoted_key(&place.key));
            let help = "it must hold the password in one line of UTF-8";
            faults.error(place, Problem::new(FaultCode::Secret, message, found, help));
            None
        }
    }
}
