//! Hardware IDs: the six bytes by which a device is known, and the forms in which certificates and
//! configurations write them.
//!
//! Never trims, never folds look-alikes, never searches: the whole value has one of the known forms, byte
//! for byte, or it is no hardware ID. So a NUL, a wildcard or a letter of another alphabet cannot make two
//! different certificates name one device.

use std::fmt;
use std::str::FromStr;

/// The first three bytes of the devices that write their ID as `IP110-01-02-03`.
const INNOVAPHONE: [u8; 3] = [0x00, 0x90, 0x33];

/// The name of one device: its MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HardwareId([u8; 6]);

impl HardwareId {
    /// Reads one of the forms `009033010203`, `00:90:33:01:02:03`, `00-90-33-01-02-03`, `0090.3301.0203`,
    /// `SEP009033010203`, and `IP110-01-02-03` (`IP`, two to five letters or digits, and the last three
    /// bytes under 00-90-33). Upper and lower case mean the same.
    pub fn parse(value: &[u8]) -> Result<Self, HardwareIdError> {
        let id = match value.len() {
            12 => separated::<6>(value, 1, None).or_else(|| vendor_form(value)),
            14 => dotted(value).or_else(|| vendor_form(value)),
            15 => sep_form(value).or_else(|| vendor_form(value)),
            17 => separated(value, 1, Some(b':')).or_else(|| separated(value, 1, Some(b'-'))),
            _ => vendor_form(value),
        };
        id.map(Self).ok_or(HardwareIdError::Unusable)
    }

    /// The one ID that all values of a certificate's field agree on.
    pub fn from_values(values: &[Vec<u8>]) -> Result<Self, HardwareIdError> {
        let mut agreed = None;
        // An unusable value outweighs a disagreement: it is looked for in all of them.
        let mut ambiguous = false;
        for value in values {
            let id = Self::parse(value)?;
            ambiguous |= agreed.is_some_and(|earlier| earlier != id);
            agreed = Some(id);
        }
        match agreed {
            None => Err(HardwareIdError::Missing),
            Some(_) if ambiguous => Err(HardwareIdError::Ambiguous),
            Some(id) => Ok(id),
        }
    }

    /// The six bytes.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

/// `N` bytes in hexadecimal, with `separator` after every `group` bytes but the last.
fn separated<const N: usize>(value: &[u8], group: usize, separator: Option<u8>) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut rest = value;
    for (index, byte) in bytes.iter_mut().enumerate() {
        if let Some(separator) = separator
            && index > 0
            && index % group == 0
        {
            rest = rest.strip_prefix(&[separator])?;
        }
        let ([high, low], after) = rest.split_first_chunk()?;
        *byte = (digit(*high)? << 4) | digit(*low)?;
        rest = after;
    }
    rest.is_empty().then_some(bytes)
}

/// `0090.3301.0203`
fn dotted(value: &[u8]) -> Option<[u8; 6]> {
    separated(value, 2, Some(b'.'))
}

/// `SEP009033010203`
fn sep_form(value: &[u8]) -> Option<[u8; 6]> {
    let (prefix, rest) = value.split_at_checked(3)?;
    if prefix.eq_ignore_ascii_case(b"SEP") { separated(rest, 1, None) } else { None }
}

/// `IP110-01-02-03`
fn vendor_form(value: &[u8]) -> Option<[u8; 6]> {
    let (prefix, rest) = value.split_at_checked(2)?;
    let model_len = rest.iter().position(|b| !b.is_ascii_alphanumeric())?;
    if !prefix.eq_ignore_ascii_case(b"IP") || !(2..=5).contains(&model_len) {
        return None;
    }
    let tail = rest.split_at_checked(model_len)?.1.strip_prefix(b"-")?;
    let [a, b, c] = INNOVAPHONE;
    let [d, e, f] = separated(tail, 1, Some(b'-'))?;
    Some([a, b, c, d, e, f])
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl fmt::Display for HardwareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for HardwareId {
    type Err = HardwareIdError;

    fn from_str(text: &str) -> Result<Self, HardwareIdError> {
        Self::parse(text.as_bytes())
    }
}

/// Why a value, or the values of a field, are no hardware ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HardwareIdError {
    /// The field has no value.
    Missing,
    /// A value has none of the known forms.
    Unusable,
    /// Two values name different devices.
    Ambiguous,
}

impl fmt::Display for HardwareIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the field has no value",
            Self::Unusable => "not a hardware ID: write six bytes in hexadecimal, as in 009033010203",
            Self::Ambiguous => "the field names several devices",
        })
    }
}

impl std::error::Error for HardwareIdError {}
