//! The PBX's side of digest authentication (RFC 7616 with MD5, RFC 3261 §22): a challenge, and its answer
//! checked.
//!
//! Written from the RFC for the lab alone.

use md5::{Digest as _, Md5};

/// A challenge that stands for the whole life of the lab.
#[derive(Debug)]
pub(crate) struct Challenge {
    realm: String,
    nonce: String,
}

impl Challenge {
    /// `nonce` is a word that nobody can guess.
    pub(crate) fn new(realm: &str, nonce: String) -> Self {
        Self { realm: realm.to_owned(), nonce }
    }

    /// For WWW-Authenticate and Proxy-Authenticate.
    pub(crate) fn header(&self) -> String {
        let Self { realm, nonce } = self;
        format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"")
    }

    /// Whose credentials these are, where they answer this challenge with the password that `password_of`
    /// knows.
    pub(crate) fn verify<'c, 'p>(
        &self,
        credentials: &'c str,
        method: &str,
        password_of: impl Fn(&str) -> Option<&'p str>,
    ) -> Option<&'c str> {
        let value = |name: &str| directive(credentials, name);
        let user = value("username")?;
        if value("realm")? != self.realm || value("nonce")? != self.nonce || value("qop")? != "auth" {
            return None;
        }
        let ha1 = md5(&[user, &self.realm, password_of(user)?]);
        let ha2 = md5(&[method, value("uri")?]);
        let expected = md5(&[&ha1, &self.nonce, value("nc")?, value("cnonce")?, "auth", &ha2]);
        (value("response")? == expected).then_some(user)
    }
}

/// One `name=value` of credentials, without quotes.
fn directive<'a>(credentials: &'a str, name: &str) -> Option<&'a str> {
    let rest = credentials.trim().strip_prefix("Digest")?;
    crate::message::split_list(rest).find_map(|item| {
        let (key, value) = item.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

fn md5(parts: &[&str]) -> String {
    let hash = Md5::digest(parts.join(":"));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a user agent would send for a challenge.
    pub(crate) fn answer_to(challenge: &str, user: &str, password: &str, method: &str, uri: &str) -> String {
        let [realm, nonce] = ["realm", "nonce"].map(|name| directive(challenge, name).unwrap());
        let (ha1, ha2) = (md5(&[user, realm, password]), md5(&[method, uri]));
        let response = md5(&[&ha1, nonce, "00000001", "c", "auth", &ha2]);
        format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", qop=auth, \
             nc=00000001, cnonce=\"c\", response=\"{response}\""
        )
    }

    /// The example of RFC 7616 §3.9.1, with MD5.
    const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const CREDENTIALS: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
        uri=\"/dir/index.html\", algorithm=MD5, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
        nc=00000001, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
        response=\"8ca523f5e9506fed4657c9700eebdbec\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    fn challenge() -> Challenge {
        Challenge::new("http-auth@example.org", NONCE.to_owned())
    }

    fn password(user: &str) -> Option<&'static str> {
        (user == "Mufasa").then_some("Circle of Life")
    }

    #[test]
    fn the_example_of_the_rfc_is_taken() {
        assert_eq!(challenge().verify(CREDENTIALS, "GET", password), Some("Mufasa"));
    }

    #[test]
    fn anything_else_is_not() {
        let other = Challenge::new("http-auth@example.org", "another".to_owned());
        assert_eq!(other.verify(CREDENTIALS, "GET", password), None, "not our nonce");
        assert_eq!(challenge().verify(CREDENTIALS, "POST", password), None, "another method");
        assert_eq!(challenge().verify(CREDENTIALS, "GET", |_| Some("guess")), None, "another password");
        assert_eq!(challenge().verify(CREDENTIALS, "GET", |_| None), None, "an unknown user");
        assert_eq!(challenge().verify("Basic abc", "GET", password), None);
        assert_eq!(challenge().verify("Digest", "GET", password), None);
        let realm = CREDENTIALS.replace("http-auth@", "other@");
        assert_eq!(challenge().verify(&realm, "GET", password), None, "another realm");
    }
}
