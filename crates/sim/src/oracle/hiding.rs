//! Rules about what must never be seen: one side on the other, passwords anywhere, credentials by strangers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wire::net::Side;

use crate::digest;
use crate::oracle::needles::Needles;
use crate::oracle::{Seen, Sent, Violation};
use crate::scenery::{self, HIDDEN_INSIDE, HIDDEN_OUTSIDE, REALM, SCANNER_CANARY};
use crate::text::{Text, uri_of, user_of};

/// What the rules remember.
#[derive(Debug)]
pub(super) struct Hiding {
    /// Hidden on a face, by [`Side::index`].
    hidden: [Needles; 2],
    passwords: Needles,
    strangers: Needles,
    /// Which server gave a nonce.
    nonces: BTreeMap<String, IpAddr>,
    foreign_realm: bool,
}

impl Default for Hiding {
    fn default() -> Self {
        Self {
            hidden: [Needles::new(HIDDEN_OUTSIDE), Needles::new(HIDDEN_INSIDE)],
            passwords: Needles::new(["secret-of-"]),
            strangers: Needles::new([SCANNER_CANARY]),
            nonces: BTreeMap::new(),
            foreign_realm: false,
        }
    }
}

impl Hiding {
    /// Remembers who gave which nonce.
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if seen.side != Side::Inside || !matches!(text.code(), Some(401 | 407)) {
            return;
        }
        let asked: Vec<String> =
            ["WWW-Authenticate", "Proxy-Authenticate"].iter().flat_map(|name| text.all(name)).collect();
        self.foreign_realm |= asked.iter().all(|value| digest::field(value, "realm") != Some(REALM));
        for nonce in asked.iter().filter_map(|value| digest::field(value, "nonce")) {
            self.nonces.insert(nonce.to_owned(), seen.peer.ip());
        }
    }

    /// Whether a server ever asked without a word of the realm that was agreed.
    pub(super) fn saw_foreign_realm(&self) -> bool {
        self.foreign_realm
    }

    /// No byte of one side on the other, readable or not.
    pub(super) fn on_bytes(&self, sent: &Sent<'_>) -> Result<(), Violation> {
        let hidden = &self.hidden[sent.side.index()];
        let mut found = hidden.find(sent.bytes);
        for readable in readings(sent.bytes) {
            found = found.or(hidden.find(&readable));
        }
        // who seems to come from an address is told it (RFC 3581 §4), and nothing else
        if found.is_some() && sent.side == Side::Outside && scenery::is_inside(sent.to.ip()) {
            let told = format!("received={}", sent.to.ip());
            let text = String::from_utf8_lossy(sent.bytes).replace(&told, "");
            found = hidden.find(text.as_bytes());
        }
        let Some(name) = found else { return self.no_password(sent.bytes) };
        Err(Violation {
            oracle: "topology is hidden",
            seen: format!(
                "{name} went {:?} to {}:\n{}",
                sent.side,
                sent.to,
                String::from_utf8_lossy(sent.bytes)
            ),
            call: Text::parse(sent.bytes).map(|text| text.from_tag().to_owned()).unwrap_or_default(),
        })
    }

    /// No password in what is sent, nor in what an operator reads.
    pub(super) fn no_password(&self, words: &[u8]) -> Result<(), Violation> {
        match self.passwords.find(words) {
            Some(_) => Err(Violation::new("no password", String::from_utf8_lossy(words).into_owned())),
            None => Ok(()),
        }
    }

    pub(super) fn on_sent(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        if seen.side == Side::Inside {
            self.pbx_sees_no_stranger(seen)?;
        }
        self.credentials_go_home(seen)
    }

    /// Credentials go to the server that asked for them, in the one realm that was agreed, and never outward.
    fn credentials_go_home(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let fail = |words: String| {
            Err(Violation::of("credentials go home", format!("{words}:\n{}", text.render()), text))
        };
        for name in ["Authorization", "Proxy-Authorization"] {
            for value in text.all(name).into_iter().filter(|_| text.code().is_none()) {
                if seen.side == Side::Outside {
                    return fail(format!("credentials went outward, to {}", seen.peer));
                }
                let field = |name| digest::field(&value, name).unwrap_or_default();
                let of_ours =
                    scenery::EXTENSIONS.iter().any(|(name, digest)| *name == field("username") && !digest);
                if of_ours && field("realm") != REALM {
                    return fail(format!("a stored password answered the realm {:?}", field("realm")));
                }
                let asker = self.nonces.get(field("nonce"));
                // what a phone answers by itself goes to whichever PBX serves it now
                if of_ours && asker.is_none_or(|asker| *asker != seen.peer.ip()) {
                    return fail(format!("{asker:?} had asked, {} got the answer", seen.peer));
                }
            }
        }
        Ok(())
    }

    /// From strangers the PBX sees nothing but REGISTERs of extensions whose challenge is its own matter;
    /// and nobody speaks to it under a name that is not configured.
    fn pbx_sees_no_stranger(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        if text.code().is_some() {
            return Ok(());
        }
        let name = user_of(uri_of(text.header("To")));
        let digest = scenery::EXTENSIONS.iter().any(|(extension, digest)| *extension == name && *digest);
        let may = text.method() == "REGISTER" && digest;
        if !may && self.strangers.find(seen.bytes).is_some() {
            return Err(Violation::of("no stranger at the PBX", text.render(), text));
        }
        let caller = user_of(uri_of(text.header("From")));
        let known = scenery::EXTENSIONS.iter().any(|(extension, _)| *extension == caller);
        let alone = matches!(text.method(), "INVITE" | "REGISTER") && text.to_tag().is_empty();
        if alone && !known && caller != "anonymous" {
            return Err(Violation::of("no unknown name at the PBX", text.render(), text));
        }
        Ok(())
    }
}

/// What somebody reads who undoes the escapes: those of quotes, and those of URIs.
fn readings(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let quoted =
        bytes.contains(&b'\\').then(|| bytes.iter().copied().filter(|byte| *byte != b'\\').collect());
    let escaped = bytes.contains(&b'%').then(|| unescaped(bytes));
    quoted.into_iter().chain(escaped)
}

/// With the character in the place of each `%` and its two digits (RFC 3986 §2.1).
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|value| u8::try_from(value).ok())
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while let Some(byte) = bytes.get(place) {
        let digits = digit(bytes.get(place + 1)).zip(digit(bytes.get(place + 2)));
        match digits.filter(|_| *byte == b'%') {
            Some((high, low)) => {
                out.push(high * 16 + low);
                place += 3;
            }
            None => {
                out.push(*byte);
                place += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let read = |bytes: &[u8]| readings(bytes).collect::<Vec<_>>();
        assert_eq!(read(b"plain"), [b""; 0]);
        assert_eq!(read(br"\1\0.7"), [b"10.7"]);
        assert_eq!(read(b"a%2Eb%2%2e%"), [b"a.b%2.%"]);
    }
}
