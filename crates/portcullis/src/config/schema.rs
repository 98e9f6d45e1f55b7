//! Every section and key that a configuration file may hold. What is not here is a fault, with the nearest
//! name of this table beside it.

/// A section of the file.
#[derive(Clone, Copy, Debug)]
pub struct SectionSchema {
    /// Its name.
    pub name: &'static str,
    /// Whether it is written `[[name]]` and may stand several times.
    pub repeated: bool,
    /// Its keys.
    pub keys: &'static [&'static str],
}

const fn once(name: &'static str, keys: &'static [&'static str]) -> SectionSchema {
    SectionSchema { name, repeated: false, keys }
}

const fn repeated(name: &'static str, keys: &'static [&'static str]) -> SectionSchema {
    SectionSchema { name, repeated: true, keys }
}

/// Every section, in the order of the example.
pub const SECTIONS: &[SectionSchema] = &[
    once("node", &["name", "data_dir", "admin_socket", "log", "log_format"]),
    once(
        "outside",
        &[
            "address",
            "public_address",
            "tls",
            "udp",
            "tcp",
            "wss",
            "certificate",
            "private_key",
            "device_ca",
            "revocation_lists",
            "keepalive",
        ],
    ),
    once("inside", &["address", "udp", "tcp", "trusted"]),
    repeated("pbx", &["name", "uri", "domain", "realm", "registrations", "health_check", "priority"]),
    once("registration", &["phone_expires", "pbx_expires", "grace", "max_contacts"]),
    once(
        "media",
        &[
            "outside_ports",
            "inside_ports",
            "relay",
            "ice",
            "srtp",
            "stun_server",
            "stun_servers",
            "silence_timeout",
        ],
    ),
    repeated(
        "extension",
        &[
            "name",
            "display_name",
            "hardware_ids",
            "authentication",
            "pbx_user",
            "password",
            "frequency",
            "dialing",
            "max_calls",
            "allow_from",
        ],
    ),
    repeated("frequency", &["name", "rules"]),
    repeated("dialing", &["name", "deny", "allow", "emergency"]),
    once("block", &["after", "within", "time", "max_time", "firewall", "ipv6_prefix"]),
    repeated("allowed", &["name", "description", "address"]),
    once("console", &["listen", "certificate", "private_key", "admin_password"]),
    once("metrics", &["listen"]),
    once("store", &["url"]),
];

/// The section of that name.
pub fn section(name: &str) -> Option<&'static SectionSchema> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The one of `known` that somebody most likely meant by `word`.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let known: Vec<&str> = known.into_iter().collect();
    let scored = known.iter().map(|name| (strsim::damerau_levenshtein(&word, name), *name));
    let (distance, name) = scored.min_by_key(|(distance, _)| *distance)?;
    let near = distance <= 1 + word.len().max(name.len()) / 4;
    if near { Some(name) } else { spelled_out(&word, &known) }
}

/// The one word that is meant by its beginning or its last part: `cert`, `key`.
fn spelled_out<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let last_part = |name: &str| name.strip_suffix(word).is_some_and(|rest| rest.ends_with('_'));
    let mut meant = known.iter().filter(|name| name.starts_with(word) || last_part(name));
    let only = meant.next().filter(|_| word.len() >= 3)?;
    meant.next().is_none().then_some(only)
}

/// Whether a key of this name, spelled rightly or not, holds a secret.
pub fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let marks = ["pass", "secret", "pwd", "passwort"];
    marks.iter().any(|mark| key.contains(mark))
        || ["password", "admin_password"].iter().any(|name| strsim::damerau_levenshtein(&key, name) <= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_their_key() {
        let keys = section("registration").map_or(&[][..], |section| section.keys).iter().copied();
        for (typo, meant) in [
            ("phone_expire", Some("phone_expires")),
            ("phone-expires", Some("phone_expires")),
            ("gracee", Some("grace")),
            ("max_contact", Some("max_contacts")),
            ("PBX_EXPIRES", Some("pbx_expires")),
            ("colour", None),
        ] {
            assert_eq!(nearest(typo, keys.clone()), meant, "{typo}");
        }
    }

    #[test]
    fn a_part_of_a_key_finds_it_where_no_other_has_that_part() {
        let keys = section("outside").map_or(&[][..], |section| section.keys).iter().copied();
        for (part, meant) in [
            ("cert", Some("certificate")),
            ("key", Some("private_key")),
            ("revocation", Some("revocation_lists")),
            ("ke", None),
            ("list", None),
        ] {
            assert_eq!(nearest(part, keys.clone()), meant, "{part}");
        }
    }

    #[test]
    fn misspelt_passwords_are_secrets_all_the_same() {
        for key in ["password", "passwrd", "pasword", "psasword", "PassWord", "admin_password", "secret"] {
            assert!(names_a_secret(key), "{key}");
        }
        for key in ["name", "address", "frequency", "hardware_ids", "pbx_user", "private_key"] {
            assert!(!names_a_secret(key), "{key}");
        }
    }

    #[test]
    fn no_section_or_key_stands_twice() {
        let mut names: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SECTIONS.len());
        for section in SECTIONS {
            let mut keys = section.keys.to_vec();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), section.keys.len(), "{}", section.name);
        }
    }
}
