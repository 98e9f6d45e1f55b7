//! Answers to challenges (RFC 7616 §3.4), made and read.
//!
//! Never keeps a password, and never shows one in `Debug`.

use std::borrow::Cow;
use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::challenge::{Algorithm, Challenge, Qop};
use super::push_hex;
use super::scan::scan;
use crate::quoted::escape;

/// A user's name and password.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// As the PBX knows it.
    pub user: &'a str,
    /// In clear.
    pub password: &'a str,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).field("password", &"***").finish()
    }
}

impl Credentials<'_> {
    /// The Authorization or Proxy-Authorization value that answers `challenge`; `None` where that is not
    /// [supported](Challenge::is_supported).
    ///
    /// `uri` is the Request-URI. `nc` counts the requests sent with this nonce, from 1; the caller keeps it
    /// and, for a `-sess` algorithm, one `cnonce` as long as the nonce.
    pub fn answer(
        &self,
        challenge: &Challenge,
        method: &str,
        uri: &str,
        cnonce: &str,
        nc: u32,
    ) -> Option<String> {
        let algorithm = challenge.algorithm.filter(|_| challenge.is_supported())?;
        let (realm, nonce, opaque) = challenge.inner();
        let mut first = hash(algorithm, &format!("{}:{realm}:{}", self.user, self.password));
        if algorithm.is_session() {
            first = hash(algorithm, &format!("{first}:{nonce}:{cnonce}"));
        }
        let second = hash(algorithm, &format!("{method}:{uri}"));
        let with_qop = challenge.qop == Qop::Auth;
        let response = if with_qop {
            hash(algorithm, &format!("{first}:{nonce}:{nc:08x}:{cnonce}:auth:{second}"))
        } else {
            hash(algorithm, &format!("{first}:{nonce}:{second}"))
        };
        let mut value = format!(
            "Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{}\", response=\"{response}\"",
            escape(self.user),
            escape(uri)
        );
        if challenge.names_algorithm {
            value += &format!(", algorithm={}", algorithm.as_str());
        }
        if with_qop || algorithm.is_session() {
            value += &format!(", cnonce=\"{}\"", escape(cnonce));
        }
        if with_qop {
            value += &format!(", qop=auth, nc={nc:08x}");
        }
        if let Some(opaque) = opaque {
            value += &format!(", opaque=\"{opaque}\"");
        }
        Some(value)
    }
}

fn hash(algorithm: Algorithm, text: &str) -> String {
    let mut hex = String::with_capacity(64);
    match algorithm {
        Algorithm::Md5 | Algorithm::Md5Sess => push_hex(&mut hex, &Md5::digest(text.as_bytes())),
        Algorithm::Sha256 | Algorithm::Sha256Sess => push_hex(&mut hex, &Sha256::digest(text.as_bytes())),
    }
    hex
}

/// The credentials of a request, as its sender claims them: nothing here was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// Who is said to ask.
    pub username: Cow<'a, str>,
    /// Where.
    pub realm: Cow<'a, str>,
    /// The challenge that this answers.
    pub nonce: Cow<'a, str>,
    /// The Request-URI as the sender had it.
    pub uri: Cow<'a, str>,
    /// The answer.
    pub response: Cow<'a, str>,
    /// What the challenge had to be returned.
    pub opaque: Option<Cow<'a, str>>,
    /// The hash, by name.
    pub algorithm: Option<Cow<'a, str>>,
    /// The quality of protection.
    pub qop: Option<Cow<'a, str>>,
    /// The count of requests with this nonce.
    pub nc: Option<Cow<'a, str>>,
    /// The client's nonce.
    pub cnonce: Option<Cow<'a, str>>,
}

impl fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Authorization");
        shown.field("username", &self.username).field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl<'a> Authorization<'a> {
    /// Reads a Digest value of one line that has all that RFC 3261 asks for, each part once. Anything else is
    /// `None`: what one reader takes as the first of two names, another takes as the second.
    pub fn parse(value: &'a str) -> Option<Self> {
        let groups = scan(value)?;
        let [group] = groups.as_slice() else { return None };
        if !group.is_digest() || !group.is_plain() {
            return None;
        }
        Some(Self {
            username: group.value("username")?,
            realm: group.value("realm")?,
            nonce: group.value("nonce")?,
            uri: group.value("uri")?,
            response: group.value("response")?,
            opaque: group.value("opaque"),
            algorithm: group.value("algorithm"),
            qop: group.value("qop"),
            nc: group.value("nc"),
            cnonce: group.value("cnonce"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC7616_NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const RFC7616_CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    fn challenge(value: &str) -> Challenge {
        Challenge::parse(value).pop().expect("a challenge")
    }

    fn answered(credentials: &Credentials<'_>, challenge: &Challenge, cnonce: &str) -> String {
        credentials.answer(challenge, "GET", "/dir/index.html", cnonce, 1).expect("an answer")
    }

    fn read(value: &str) -> Authorization<'_> {
        Authorization::parse(value).expect("a value that can be read")
    }

    #[test]
    fn vectors_of_rfc_2617() {
        let realm = r#"realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
        let mufasa = Credentials { user: "Mufasa", password: "Circle Of Life" };
        let with_qop = challenge(&format!("Digest {realm}, qop=\"auth,auth-int\""));
        assert_eq!(
            mufasa.answer(&with_qop, "GET", "/dir/index.html", "0a4f113b", 1).expect("an answer"),
            "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", \
             response=\"6629fae49393a05397450978507c4ef1\", cnonce=\"0a4f113b\", qop=auth, nc=00000001, \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
        );
        // RFC 2069 with the answer of its erratum
        let mufasa = Credentials { user: "Mufasa", password: "CircleOfLife" };
        let without = answered(&mufasa, &challenge(&format!("Digest {realm}")), "unused");
        let without = read(&without);
        assert_eq!(without.response, "1949323746fe6a43ef61f9606e7febea");
        assert_eq!((without.qop, without.nc, without.cnonce, without.algorithm), (None, None, None, None));
    }

    #[test]
    fn vectors_of_rfc_7616_and_its_other_algorithms() {
        // With qop and without session: RFC 7616 §3.9.1. The others were computed by another program.
        let rows = [
            ("MD5", true, "8ca523f5e9506fed4657c9700eebdbec"),
            ("MD5", false, "7b2cc3b30e75b4777ea31027084363fd"),
            ("MD5-sess", true, "e783283f46242139c486a698fec7211d"),
            ("MD5-sess", false, "37a7f42db2090a3fcac4e26e747d4fc8"),
            ("SHA-256", true, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            ("SHA-256", false, "a1306b0595a6c7fe96c448631fb5cfbd5107bd1fe1da729d978dd7446b812363"),
            ("SHA-256-sess", true, "2fd51b3a77ad75bad6afad6003e818d767133c46d9e2749e7f5232ae1ea3efd7"),
            ("SHA-256-sess", false, "30bc0742357e535c85094121d22cf826b794be0667e19537beb7b28f2251c274"),
        ];
        let mufasa = Credentials { user: "Mufasa", password: "Circle of Life" };
        for (algorithm, qop, expected) in rows {
            let qop = if qop { ", qop=\"auth\"" } else { "" };
            let value = format!(
                "Digest realm=\"http-auth@example.org\", nonce=\"{RFC7616_NONCE}\", algorithm={algorithm}{qop}"
            );
            let answer = answered(&mufasa, &challenge(&value), RFC7616_CNONCE);
            let answer = read(&answer);
            assert_eq!(answer.response, expected, "{value}");
            assert_eq!(answer.algorithm.as_deref(), Some(algorithm));
            assert_eq!(answer.cnonce.is_some(), !qop.is_empty() || algorithm.ends_with("sess"));
        }
    }

    #[test]
    fn the_nonce_count_is_eight_hexadecimal_digits_and_is_hashed() {
        let user = Credentials { user: "u", password: "p" };
        let challenge = challenge("Digest realm=\"r\", nonce=\"n\", qop=\"auth\"");
        let answer = |nc| user.answer(&challenge, "REGISTER", "sip:r", "c", nc).expect("an answer");
        assert_eq!(read(&answer(0x1a2b)).nc.as_deref(), Some("00001a2b"));
        assert_ne!(read(&answer(1)).response, read(&answer(2)).response);
    }

    #[test]
    fn unsupported_challenges_have_no_answer() {
        let user = Credentials { user: "u", password: "p" };
        for value in [
            "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256",
            "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"",
        ] {
            assert_eq!(user.answer(&challenge(value), "REGISTER", "sip:r", "c", 1), None, "{value}");
        }
    }

    #[test]
    fn nothing_ends_its_quotes_or_its_line() {
        let user = Credentials { user: "a\"b\\c\r\nVia: x\0", password: "p" };
        let challenge = challenge("Digest realm=\"r \\\"q\\\"\", nonce=a\\b, opaque=\"o\\\\\", qop=auth");
        let value = user.answer(&challenge, "REGISTER", "sip:\"x\"\r\n", "c\"\n", 1).expect("an answer");
        assert!(!value.contains(|c: char| c.is_control()), "{value}");
        let read = read(&value);
        assert_eq!(read.username, "a\"b\\c  Via: x ");
        assert_eq!(read.realm, "r \"q\"");
        assert_eq!(read.nonce, "a\\b");
        assert_eq!(read.opaque.as_deref(), Some("o\\"));
        assert_eq!(read.cnonce.as_deref(), Some("c\" "));
        assert!(value.contains("realm=\"r \\\"q\\\"\"") && value.contains("opaque=\"o\\\\\""), "{value}");
    }

    #[test]
    fn authorization_is_read_once_or_not_at_all() {
        let good =
            "Digest username=\"1001\",realm=\"r\", nonce=n, uri=\"sip:r\", response=\"0f\", nc=00000001";
        let read = read(good);
        assert_eq!((&*read.username, &*read.nonce, &*read.response), ("1001", "n", "0f"));
        assert_eq!((read.opaque, read.nc.as_deref()), (None, Some("00000001")));
        for bad in [
            String::new(),
            "Digest username=\"1001\"".to_owned(),
            good.replace("Digest", "Basic"),
            format!("{good}, username=\"1002\""),
            format!("{good}, USERNAME=1002"),
            format!("{good}, Digest username=\"1002\""),
            format!("{good}, Basic x"),
            format!("{good}, auth"),
            format!("{good}, qop=auth, auth-int"),
            good.replace("response=\"0f\"", "response=\"0f"),
            good.replace("username", "username*"),
        ] {
            assert_eq!(Authorization::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let user = Credentials { user: "1001", password: "hunter2" };
        let shown = format!("{user:?}");
        assert!(shown.contains("1001") && !shown.contains("hunter2"));
        let challenge = challenge("Digest realm=\"r\", nonce=\"n\"");
        let answer = answered(&user, &challenge, "c");
        let answer = read(&answer);
        let shown = format!("{answer:?}");
        assert!(shown.contains("1001") && !shown.contains(&*answer.response), "{shown}");
    }
}
