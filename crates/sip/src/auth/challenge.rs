//! Challenges, and which of several is answered (RFC 7616 §3.3, RFC 3261 §22.2, RFC 8760 §2.4).
//!
//! Never picks one of a foreign realm: the choice names the realm.

use std::borrow::Cow;

use thiserror::Error;
use wire::sip::unfold;

use super::scan::{Group, scan};
use crate::quoted;

/// Challenges of one response beyond this number are not looked at.
const CHALLENGES_MAX: usize = 16;

/// The hash of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `MD5`, also where none is named.
    Md5,
    /// `MD5-sess`.
    Md5Sess,
    /// `SHA-256`.
    Sha256,
    /// `SHA-256-sess`.
    Sha256Sess,
}

impl Algorithm {
    /// The algorithm of this name, of any case.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Md5, Self::Md5Sess, Self::Sha256, Self::Sha256Sess];
        all.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
        }
    }

    /// Whether the client's nonce goes into the first hash.
    pub fn is_session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess)
    }

    /// Whether it is the better of the two hashes.
    fn is_sha256(self) -> bool {
        matches!(self, Self::Sha256 | Self::Sha256Sess)
    }
}

/// The quality of protection that a challenge offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qop {
    /// It names none (RFC 2069).
    Absent,
    /// `auth`, perhaps beside others.
    Auth,
    /// Others only.
    Unsupported,
}

/// One Digest challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    // As they stand between quotes: what is hashed and sent back must be the very same bytes.
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// None: one that we do not know.
    pub algorithm: Option<Algorithm>,
    /// Whether the challenge named its algorithm: only then the answer does.
    pub(super) names_algorithm: bool,
    /// What is to be protected.
    pub qop: Qop,
    /// The last answer was right but for the age of its nonce.
    pub stale: bool,
}

impl Challenge {
    /// All Digest challenges of one header value; of an unreadable one, and of a challenge without realm or
    /// nonce, nothing.
    pub fn parse(value: &str) -> Vec<Self> {
        let value = unfold(value);
        let groups = scan(&value).unwrap_or_default();
        groups.iter().filter(|group| group.is_digest()).filter_map(Self::from_group).collect()
    }

    /// All Digest challenges of several header lines, in order.
    pub fn parse_all<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Self> {
        values.flat_map(Self::parse).take(CHALLENGES_MAX).collect()
    }

    /// The realm.
    pub fn realm(&self) -> Cow<'_, str> {
        quoted::unescape(&self.realm)
    }

    /// The nonce.
    pub fn nonce(&self) -> Cow<'_, str> {
        quoted::unescape(&self.nonce)
    }

    /// What is to be returned unchanged.
    pub fn opaque(&self) -> Option<Cow<'_, str>> {
        self.opaque.as_deref().map(quoted::unescape)
    }

    /// Whether it can be answered.
    pub fn is_supported(&self) -> bool {
        self.algorithm.is_some() && self.qop != Qop::Unsupported
    }

    /// Realm, nonce and opaque as they stand between quotes.
    pub(super) fn inner(&self) -> (&str, &str, Option<&str>) {
        (&self.realm, &self.nonce, self.opaque.as_deref())
    }

    fn from_group(group: &Group<'_>) -> Option<Self> {
        let named = group.value("algorithm");
        let qop = match group.qop() {
            None => Qop::Absent,
            Some(values) if values.is_empty() => Qop::Absent,
            Some(values) if values.iter().any(|value| value.eq_ignore_ascii_case("auth")) => Qop::Auth,
            Some(_) => Qop::Unsupported,
        };
        Some(Self {
            realm: group.inner("realm")?.into_owned(),
            nonce: group.inner("nonce")?.into_owned(),
            opaque: group.inner("opaque").map(Cow::into_owned),
            algorithm: named.as_deref().map_or(Some(Algorithm::Md5), Algorithm::parse),
            names_algorithm: named.is_some(),
            qop,
            stale: group.value("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }
}

/// Why no challenge can be answered.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChooseError {
    /// There is no Digest challenge.
    #[error("no Digest challenge")]
    NoChallenge,
    /// All are of other realms.
    #[error("no challenge of this realm")]
    ForeignRealm,
    /// Those of this realm ask for what we cannot do.
    #[error("no challenge with MD5 or SHA-256 and without auth-int")]
    Unsupported,
}

/// The challenge to answer: of this realm alone, SHA-256 before MD5, else the first.
pub fn choose<'a>(challenges: &'a [Challenge], realm: &str) -> Result<&'a Challenge, ChooseError> {
    if challenges.is_empty() {
        return Err(ChooseError::NoChallenge);
    }
    let ours = || challenges.iter().filter(|challenge| challenge.realm() == realm);
    if ours().next().is_none() {
        return Err(ChooseError::ForeignRealm);
    }
    let supported = || ours().filter(|challenge| challenge.is_supported());
    let best = supported().find(|challenge| challenge.algorithm.is_some_and(Algorithm::is_sha256));
    best.or_else(|| supported().next()).ok_or(ChooseError::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Challenge {
        let mut all = Challenge::parse(value);
        assert_eq!(all.len(), 1, "{value}");
        all.remove(0)
    }

    #[test]
    fn a_usual_challenge() {
        let challenge = one(
            r#"Digest realm="pbx.example", nonce="n1", opaque="o", algorithm=SHA-256, qop="auth,auth-int", stale=TRUE"#,
        );
        assert_eq!(challenge.realm(), "pbx.example");
        assert_eq!(challenge.nonce(), "n1");
        assert_eq!(challenge.opaque().as_deref(), Some("o"));
        assert_eq!(challenge.algorithm, Some(Algorithm::Sha256));
        assert_eq!(challenge.qop, Qop::Auth);
        assert!(challenge.stale);
    }

    #[test]
    fn tolerates_how_others_write() {
        let expected = one(r#"Digest realm="a", nonce="n", qop="auth", algorithm=MD5"#);
        for value in [
            r#"digest realm="a",nonce="n",qop=auth,algorithm="md5""#,
            r#"DIGEST   realm = "a" ,, nonce=n , qop = "auth-int, auth" , algorithm=MD5,"#,
            "Digest realm=\"a\",\r\n\tnonce=\"n\",\r\n qop=\"auth\", algorithm=MD5",
            r#"Digest realm=a, nonce=n, qop=auth,auth-int, algorithm=MD5, domain="sip:x", userhash=false, charset=UTF-8"#,
            r#"Basic realm="b", Digest realm="a", nonce="n", algorithm=MD5, qop="auth", Negotiate"#,
            r#"Bearer abc==, Digest realm="a", nonce="n", algorithm=MD5, qop="auth", stale=false"#,
        ] {
            assert_eq!(one(value), expected, "{value}");
        }
        let plain = one(r#"Digest realm="a", nonce="n", qop="""#);
        assert_eq!((plain.qop, plain.algorithm, plain.stale), (Qop::Absent, Some(Algorithm::Md5), false));
    }

    #[test]
    fn quoted_values_may_hold_anything() {
        let challenge = one(r#"Digest realm="a, Digest \"b\" \\", nonce="n=,=""#);
        assert_eq!(challenge.realm(), r#"a, Digest "b" \"#);
        assert_eq!(challenge.nonce(), "n=,=");
    }

    #[test]
    fn what_cannot_be_read_is_no_challenge() {
        for value in [
            "",
            "Digest",
            "Basic realm=\"a\"",
            "realm=\"a\", nonce=\"n\"",
            "Digest realm=\"a\"",
            "Digest nonce=\"n\"",
            "Digest realm=\"a\", nonce=\"n",
            "Digest realm=\"a\", nonce=\"n\\\"",
            "Digest realm=\"a\", nonce=\"n\" x",
            "Digest realm=\"a\", nonce=\"n\", realm=\"b\"",
            "Digest realm=\"a\", nonce=\"n\", Nonce=\"m\"",
            "Digest realm",
            "\"Digest\" realm=\"a\", nonce=\"n\"",
            "Digest =\"a\", nonce=\"n\"",
        ] {
            assert_eq!(Challenge::parse(value), [], "{value}");
        }
        let many = "Digest realm=\"a\", nonce=\"n\", ".repeat(17);
        assert_eq!(Challenge::parse(&many), [], "more than a sane server sends");
        let wide = format!(
            "Digest realm=\"a\", nonce=\"n\"{}",
            (0..31).map(|n| format!(", x{n}=1")).collect::<String>()
        );
        assert_eq!(Challenge::parse(&wide), []);
        let lines = vec!["Digest realm=\"a\", nonce=\"n\""; 40];
        assert_eq!(Challenge::parse_all(lines.into_iter()).len(), CHALLENGES_MAX);
    }

    #[test]
    fn the_better_hash_of_the_right_realm_is_chosen() {
        let lines = [
            r#"Digest realm="other", nonce="1", algorithm=SHA-256, Digest realm="a", nonce="2", algorithm=SHA-512-256"#,
            r#"Digest realm="a", nonce="3", algorithm=SHA-256, qop="auth-int""#,
            r#"Digest realm="a", nonce="4", algorithm=MD5"#,
            r#"Digest realm="a", nonce="5", algorithm=SHA-256-sess"#,
            r#"Digest realm="a", nonce="6", algorithm=SHA-256"#,
        ];
        let challenges = Challenge::parse_all(lines.into_iter());
        assert_eq!(challenges.len(), 6);
        let nonce = |count: usize| choose(&challenges[..count], "a").map(|challenge| challenge.nonce());
        assert_eq!(nonce(0), Err(ChooseError::NoChallenge));
        assert_eq!(nonce(1), Err(ChooseError::ForeignRealm));
        assert_eq!(nonce(2), Err(ChooseError::Unsupported));
        assert_eq!(nonce(3), Err(ChooseError::Unsupported));
        assert_eq!(nonce(4).as_deref(), Ok("4"));
        assert_eq!(nonce(5).as_deref(), Ok("5"));
        assert_eq!(nonce(6).as_deref(), Ok("5"), "of two alike the first");
        assert_eq!(choose(&challenges, "A"), Err(ChooseError::ForeignRealm), "a realm's case counts");
    }
}
