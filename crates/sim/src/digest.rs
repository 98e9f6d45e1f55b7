//! Digest as both ends of a challenge compute it (RFC 2617 §3.2.2, RFC 8760).

use md5::{Digest, Md5};
use sha2::Sha256;

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn hash(algorithm: &str, text: &str) -> String {
    match algorithm {
        "SHA-256" => hex(&Sha256::digest(text.as_bytes())),
        _ => hex(&Md5::digest(text.as_bytes())),
    }
}

/// A parameter of a challenge or of credentials.
pub fn field<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let list = value.trim().strip_prefix("Digest")?;
    list.split(',').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

fn response(user: &str, realm: &str, password: &str, method: &str, credentials: &str) -> String {
    let get = |name| field(credentials, name).unwrap_or_default();
    let hash = |text: &str| hash(get("algorithm"), text);
    let secret = hash(&format!("{user}:{realm}:{password}"));
    let asked = hash(&format!("{method}:{}", get("uri")));
    match get("qop") {
        "" => hash(&format!("{secret}:{}:{asked}", get("nonce"))),
        qop => hash(&format!("{secret}:{}:{}:{}:{qop}:{asked}", get("nonce"), get("nc"), get("cnonce"))),
    }
}

/// The challenge to answer: the first one of the realm.
pub fn choose(challenges: &[String], realm: &str) -> String {
    let ours = |value: &&String| field(value, "realm") == Some(realm);
    challenges.iter().find(ours).or(challenges.first()).cloned().unwrap_or_default()
}

/// The credentials that answer a challenge.
pub fn answer(challenge: &str, user: &str, password: &str, method: &str, uri: &str, cnonce: &str) -> String {
    let get = |name| field(challenge, name).unwrap_or_default();
    let (realm, nonce) = (get("realm"), get("nonce"));
    let mut value =
        format!("Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\"");
    if get("qop").split(',').any(|qop| qop.trim() == "auth") {
        value.push_str(&format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\""));
    }
    value.push_str(&format!(", algorithm={}", field(challenge, "algorithm").unwrap_or("MD5")));
    let response = response(user, realm, password, method, &value);
    value.push_str(&format!(", response=\"{response}\""));
    if let Some(opaque) = field(challenge, "opaque") {
        value.push_str(&format!(", opaque=\"{opaque}\""));
    }
    value
}

/// Whether credentials are right, whoever wrote them.
pub fn is_right(credentials: &str, user: &str, password: &str, realm: &str, method: &str) -> bool {
    let get = |name| field(credentials, name).unwrap_or_default();
    get("username") == user
        && get("realm") == realm
        && get("response") == response(user, realm, password, method, credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_rfcs() {
        // RFC 7616 §3.9.1, whose method is GET.
        let credentials = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
            algorithm=SHA-256, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
            cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
            response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\"";
        assert!(is_right(credentials, "Mufasa", "Circle of Life", "http-auth@example.org", "GET"));
        // RFC 2617 §3.5.
        let credentials = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
            nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, nc=00000001, \
            cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\"";
        assert!(is_right(credentials, "Mufasa", "Circle Of Life", "testrealm@host.com", "GET"));
        assert!(!is_right(credentials, "Mufasa", "Circle of Life", "testrealm@host.com", "GET"));
        let challenge = "Digest realm=\"r\", nonce=\"n\", opaque=\"o\", qop=\"auth,auth-int\"";
        let value = answer(challenge, "u", "p", "REGISTER", "sip:x", "c");
        assert!(is_right(&value, "u", "p", "r", "REGISTER") && field(&value, "opaque") == Some("o"));
        let two = ["Digest realm=\"x\"".to_owned(), "Digest realm=\"r\"".to_owned()];
        assert_eq!((choose(&two, "r"), choose(&two, "q")), (two[1].clone(), two[0].clone()));
    }
}
