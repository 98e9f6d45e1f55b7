//! Values as a PBX would make them, from those that it made of late: what they have in common stays, a time or a
//! constant; the rest is drawn anew.

use std::collections::BTreeMap;

use crate::entropy::Entropy;
use crate::keys;

/// How many values tell what they have in common.
pub(crate) const TELL: usize = 3;

/// A value in the pieces that its maker made it of.
struct Pieces {
    form: Form,
    pieces: Vec<char>,
}

/// How the pieces are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Each as itself.
    Text,
    /// Bytes in Base64 with so many padding characters: a character of it may belong to two of them.
    Base64(usize),
}

impl Pieces {
    fn read(text: &str) -> Self {
        let as_text = || Self { form: Form::Text, pieces: text.chars().collect() };
        let bare = text.trim_end_matches('=');
        let mixed =
            bare.bytes().any(|it| it.is_ascii_lowercase()) && bare.bytes().any(|it| it.is_ascii_uppercase());
        if !mixed || bare.contains(['-', '_']) {
            return as_text();
        }
        let bytes = keys::from_base64url(&bare.replace('+', "-").replace('/', "_"));
        bytes.map_or_else(as_text, |bytes| Self {
            form: Form::Base64(text.len() - bare.len()),
            pieces: bytes.into_iter().map(char::from).collect(),
        })
    }

    fn written(form: Form, pieces: &[char]) -> String {
        match form {
            Form::Text => pieces.iter().collect(),
            Form::Base64(padding) => {
                let bytes: Vec<u8> = pieces.iter().filter_map(|piece| u8::try_from(*piece).ok()).collect();
                keys::base64url(&bytes).replace('-', "+").replace('_', "/") + &"=".repeat(padding)
            }
        }
    }
}

/// Another value as those that were seen, the newest last. Where most of them agree there is a constant or a time, which
/// may just have gone on: there the newest is repeated.
pub(crate) fn another(seen: &[String], entropy: &mut Entropy) -> Option<String> {
    let seen: Vec<Pieces> = seen.iter().map(|text| Pieces::read(text)).collect();
    let model = seen.last()?;
    let enough = TELL.max(seen.len().div_ceil(2));
    let agreed = |place: usize| {
        let mut counts = BTreeMap::new();
        for other in seen.iter().filter(|other| other.form == model.form) {
            if let Some(piece) = other.pieces.get(place) {
                *counts.entry(*piece).or_insert(0_usize) += 1;
            }
        }
        counts.into_values().any(|count| count >= enough)
    };
    let pieces: Vec<char> = (model.pieces.iter().zip(kinds(model)).enumerate())
        .map(|(place, (piece, kind))| if agreed(place) { *piece } else { drawn(*piece, kind, entropy) })
        .collect();
    Some(Pieces::written(model.form, &pieces))
}

/// What a piece is drawn from.
#[derive(Clone, Copy)]
enum Kind {
    Byte,
    /// A digit in a run of hexadecimal ones.
    Hexadecimal,
    /// A letter of its case, a digit as a digit; anything else stays.
    Character,
}

fn kinds(model: &Pieces) -> Vec<Kind> {
    if model.form != Form::Text {
        return vec![Kind::Byte; model.pieces.len()];
    }
    let mut kinds = Vec::with_capacity(model.pieces.len());
    for run in model.pieces.split_inclusive(|character| !character.is_ascii_alphanumeric()) {
        let sign = |character: &char| !character.is_ascii_alphanumeric();
        let hexadecimal = |it: &char| it.is_ascii_digit() || matches!(it, 'a'..='f') || sign(it);
        let kind = if run.iter().all(hexadecimal) { Kind::Hexadecimal } else { Kind::Character };
        kinds.extend(run.iter().map(|_| kind));
    }
    kinds
}

/// A piece of the same kind.
fn drawn(piece: char, kind: Kind, entropy: &mut Entropy) -> char {
    let from = |alphabet: &[u8], entropy: &mut Entropy| {
        let index = usize::try_from(entropy.below(alphabet.len() as u64)).unwrap_or(0);
        alphabet.get(index).map_or(piece, |byte| char::from(*byte))
    };
    match (kind, piece) {
        (Kind::Byte, _) => char::from(entropy.bytes::<1>()[0]),
        (Kind::Hexadecimal, 'a'..='f' | '0'..='9') => from(b"0123456789abcdef", entropy),
        (_, 'a'..='z') => from(b"abcdefghijklmnopqrstuvwxyz", entropy),
        (_, 'A'..='Z') => from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", entropy),
        (_, '0'..='9') => from(b"0123456789", entropy),
        (_, other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seen: &[&str]) -> String {
        let seen: Vec<String> = seen.iter().map(|text| (*text).to_owned()).collect();
        another(&seen, &mut Entropy::new([3; 32])).unwrap()
    }

    /// A nonce as Kamailio writes one: when it ends, when it was made, a hash.
    fn kamailio(made: u32, hash: u8) -> String {
        let mut bytes = [(made + 300).to_be_bytes(), made.to_be_bytes()].concat();
        bytes.extend((0..16).map(|place| hash.wrapping_mul(37).wrapping_add(place * 11)));
        Pieces::written(Form::Base64(0), &bytes.into_iter().map(char::from).collect::<Vec<_>>())
    }

    fn times(nonce: &str) -> (u32, u32) {
        let read = Pieces::read(nonce);
        assert!(read.form == Form::Base64(0) && read.pieces.len() == 24, "{nonce}");
        let word =
            |from: usize| read.pieces[from..from + 4].iter().fold(0, |word, it| word << 8 | *it as u32);
        (word(0), word(4))
    }

    #[test]
    fn another_value_keeps_the_shape() {
        let fresh = of(&["aZ3+/-"]);
        assert!(
            fresh.len() == 6 && fresh.ends_with("+/-") && fresh.starts_with(|c: char| c.is_ascii_lowercase())
        );
        let hex = of(&["00ff00ff"]);
        assert!(hex.bytes().all(|byte| byte.is_ascii_hexdigit()) && hex != "00ff00ff");
        assert_eq!(of(&["aZ3+/w=="]).len(), 8);
    }

    #[test]
    fn what_the_pbx_repeats_is_repeated() {
        let fresh = of(&["1795255813/f374aa", "1795255813/a285bb", "1795255813/0099cc"]);
        let (time, rest) = fresh.split_once('/').unwrap();
        assert_eq!(time, "1795255813");
        assert!(rest.bytes().all(|byte| byte.is_ascii_hexdigit()) && rest != "0099cc", "{rest}");
        assert_eq!(of(&["5ccc", "5ccc", "5ccc"]), "5ccc");
        assert_eq!(another(&[], &mut Entropy::new([3; 32])), None);
    }

    #[test]
    fn the_times_in_a_binary_nonce_make_sense() {
        let now = 1_795_255_813;
        for (seconds, expected) in
            [(vec![0, 0, 0], 0), (vec![0, 0, 0, 0, 0, 1], 1), (vec![0, 0, 1, 1, 1, 1], 1)]
        {
            let seen: Vec<String> =
                (1..).zip(&seconds).map(|(hash, late)| kamailio(now + late, hash)).collect();
            let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
            let fresh = of(&seen);
            assert_eq!(times(&fresh), (now + expected + 300, now + expected), "{seconds:?}");
            assert!(!seen.contains(&fresh.as_str()), "its hash is another");
        }
    }
}
