//! Searches bytes for many words at once, as they are written and as an encoder could have written them.

use std::collections::VecDeque;

/// Words that are searched for; ASCII letters of either case are alike.
#[derive(Debug)]
pub(crate) struct Needles {
    /// For each state and byte, the next state.
    next: Vec<[u16; 256]>,
    /// For each state, the word that ends there.
    ends: Vec<Option<u16>>,
    names: Vec<String>,
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl Needles {
    /// Each of these words, plain, in hexadecimal, in Base64 and in Base32.
    pub(crate) fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut needles = Self { next: vec![[0; 256]], ends: vec![None], names: Vec::new() };
        for word in words {
            let bytes = word.as_bytes();
            needles.insert(word.to_owned(), bytes);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            needles.insert(format!("{word} in hexadecimal"), hex.as_bytes());
            let base64 = (0..3).map(|skip| ("Base64", encoded(bytes, skip, BASE64, 6)));
            let base32 = (0..5).map(|skip| ("Base32", encoded(bytes, skip, BASE32, 5)));
            // too short a piece would be found by chance
            for (how, code) in base64.chain(base32).filter(|(_, code)| code.len() >= 8) {
                needles.insert(format!("{word} in {how}"), &code);
            }
        }
        needles.link();
        needles
    }

    fn insert(&mut self, name: String, word: &[u8]) {
        let mut state = 0;
        for byte in word.iter().map(u8::to_ascii_lowercase) {
            let known = self.next[state][usize::from(byte)];
            state = if known == 0 {
                let fresh = self.next.len();
                self.next.push([0; 256]);
                self.ends.push(None);
                self.next[state][usize::from(byte)] = u16::try_from(fresh).unwrap_or(0);
                fresh
            } else {
                usize::from(known)
            };
        }
        self.ends[state] = u16::try_from(self.names.len()).ok();
        self.names.push(name);
    }

    /// Fills in where a mismatch leads: the longest end of what was read that begins a word.
    fn link(&mut self) {
        let mut back = vec![0_usize; self.next.len()];
        let mut queue: VecDeque<usize> =
            self.next[0].iter().copied().filter(|to| *to != 0).map(usize::from).collect();
        while let Some(state) = queue.pop_front() {
            for byte in 0..256 {
                let (to, fallen) = (usize::from(self.next[state][byte]), self.next[back[state]][byte]);
                if to == 0 {
                    self.next[state][byte] = fallen;
                } else {
                    back[to] = usize::from(fallen);
                    self.ends[to] = self.ends[to].or(self.ends[usize::from(fallen)]);
                    queue.push_back(to);
                }
            }
        }
        for upper in b'A'..=b'Z' {
            for row in &mut self.next {
                row[usize::from(upper)] = row[usize::from(upper.to_ascii_lowercase())];
            }
        }
    }

    /// The first word that stands in these bytes.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<&str> {
        let mut state = 0;
        for byte in bytes {
            state = usize::from(self.next[state][usize::from(*byte)]);
            if let Some(name) = self.ends[state] {
                return self.names.get(usize::from(name)).map(String::as_str);
            }
        }
        None
    }
}

/// What an encoder of so many bits a digit writes for `word` after `skip` other bytes: the digits that
/// depend on the word alone.
fn encoded(word: &[u8], skip: usize, alphabet: &[u8], bits: usize) -> Vec<u8> {
    let padded: Vec<u8> = std::iter::repeat_n(0, skip).chain(word.iter().copied()).collect();
    let bit = |place: usize| padded.get(place / 8).map_or(0, |byte| usize::from(byte >> (7 - place % 8) & 1));
    let first = (skip * 8).div_ceil(bits);
    let last = padded.len() * 8 / bits;
    (first..last)
        .filter_map(|digit| {
            let value = (0..bits).fold(0, |value, place| value * 2 + bit(digit * bits + place));
            alphabet.get(value).copied()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_words_however_they_are_written() {
        let needles = Needles::new(["10.77.0.2", "pbx7.inside"]);
        for (text, found) in [
            ("Via: SIP/2.0/UDP 10.77.0.2:5060", Some("10.77.0.2")),
            ("at PBX7.Inside.example", Some("pbx7.inside")),
            ("x 31302e37372e302e32 y", Some("10.77.0.2 in hexadecimal")),
            // of "10.77.0.2", "x10.77.0.2" and "xx10.77.0.2"
            ("MTAuNzcuMC4y", Some("10.77.0.2 in Base64")),
            ("eDEwLjc3LjAuMg==", Some("10.77.0.2 in Base64")),
            ("eHgxMC43Ny4wLjI=", Some("10.77.0.2 in Base64")),
            // of "pbx7.inside"
            ("oBRHQNZOnFXHG2lEMU", Some("pbx7.inside in Base32")),
            ("10.77.10.77.0.20", Some("10.77.0.2")),
            ("10.77.1.2 and pbx8.inside", None),
            ("", None),
        ] {
            assert_eq!(needles.find(text.as_bytes()), found, "{text}");
        }
    }
}
