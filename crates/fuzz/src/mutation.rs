//! Seeds, dictionaries and mutations for stable: no coverage leads them, but the same seed gives the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Target;

/// SplitMix64: enough to choose bytes with.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Below `bound`; zero for a bound of zero.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        usize::try_from(z.checked_rem(bound as u64).unwrap_or(0)).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// The root of the tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The seeds of a target with their names, in order.
pub fn seeds(target: &Target) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in target.seeds {
        let mut files: Vec<PathBuf> = fs::read_dir(root().join(folder))
            .unwrap_or_else(|error| panic!("{folder}: {error}"))
            .map(|entry| entry.expect("the folder can be read").path())
            .filter(|path| path.extension().is_none_or(|extension| extension != "md"))
            .collect();
        files.sort();
        found.extend(files.into_iter().map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (format!("{folder}/{name}"), fs::read(path).expect("a seed can be read"))
        }));
    }
    found
}

/// The words of a target's dictionary.
pub fn dictionary(target: &Target) -> Vec<Vec<u8>> {
    let path = root().join("tests/fuzz/dictionaries").join(target.dictionary);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| word(line).unwrap_or_else(|| panic!("{}: {line}", target.dictionary))).collect()
}

/// A word as libFuzzer writes it: `"…"` with `\\`, `\"` and `\xAB`, a name and `=` before it or not.
fn word(line: &str) -> Option<Vec<u8>> {
    let quoted = line.get(line.find('"')? + 1..)?.strip_suffix('"')?;
    let mut bytes = Vec::new();
    let mut rest = quoted.as_bytes();
    loop {
        rest = match rest {
            [] => return Some(bytes),
            [b'\\', b'x', high, low, after @ ..] => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                after
            }
            [b'\\', escaped @ (b'\\' | b'"'), after @ ..] => {
                bytes.push(*escaped);
                after
            }
            [b'\\' | b'"', ..] => return None,
            [byte, after @ ..] => {
                bytes.push(*byte);
                after
            }
        };
    }
}

/// Changes a seed in one to four places.
pub fn mutate(
    seed: &[u8],
    other: &[u8],
    words: &[Vec<u8>],
    input_max: usize,
    random: &mut Random,
) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copied: Vec<u8> = bytes.get(at..end).unwrap_or_default().to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copied);
            }
            3 => {
                let from = random.below(other.len());
                let piece = other.get(from..(from + random.below(64)).min(other.len())).unwrap_or_default();
                bytes.splice(at..end, piece.iter().copied());
            }
            4 | 5 => {
                let drawn = u8::try_from(random.below(256)).unwrap_or(0);
                bytes.splice(at..(at + random.below(2)).min(bytes.len()), [drawn]);
            }
            _ => {
                let piece = random.pick(words).cloned().unwrap_or_default();
                bytes.splice(at..(at + random.below(2)).min(bytes.len()), piece);
            }
        }
    }
    bytes.truncate(input_max);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_libfuzzer_reads_them() {
        assert_eq!(word(r#""a\x0d\"\\b""#).as_deref(), Some(&b"a\r\"\\b"[..]));
        assert_eq!(word(r#"name="x""#).as_deref(), Some(&b"x"[..]));
        for bad in ["", "x", r#"""#, r#""\q""#, r#""\xg0""#] {
            assert_eq!(word(bad), None, "{bad}");
        }
    }
}
