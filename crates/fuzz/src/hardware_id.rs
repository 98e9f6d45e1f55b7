//! Hardware IDs: read as a second, plainer reader reads them, and written in a form that is read the same.

use guard::{HardwareId, HardwareIdError};

/// Values are cut at 0xFF, which no form has.
pub(crate) fn run(bytes: &[u8]) {
    let values: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0xFF).map(<[u8]>::to_vec).collect();
    let mut found = Vec::new();
    for value in &values {
        let read = HardwareId::parse(value);
        assert_eq!(read.ok().map(HardwareId::bytes), plainly(value), "{}", value.escape_ascii());
        if let Ok(id) = read {
            assert_eq!(HardwareId::parse(id.to_string().as_bytes()), Ok(id));
            assert_eq!(HardwareId::parse(&value.to_ascii_uppercase()), Ok(id));
        }
        found.push(read);
    }
    let all: Result<Vec<_>, _> = found.into_iter().collect();
    let expected = all.and_then(|ids| match ids.split_first() {
        Some((first, rest)) if rest.iter().all(|id| id == first) => Ok(*first),
        _ => Err(HardwareIdError::Ambiguous),
    });
    assert_eq!(HardwareId::from_values(&values), expected);
}

/// The forms as patterns: `h` stands for a hexadecimal digit.
const FORMS: [&str; 5] =
    ["hhhhhhhhhhhh", "hh:hh:hh:hh:hh:hh", "hh-hh-hh-hh-hh-hh", "hhhh.hhhh.hhhh", "SEPhhhhhhhhhhhh"];

fn plainly(value: &[u8]) -> Option<[u8; 6]> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = FORMS.iter().find_map(|form| digits_of(text, form)).or_else(|| vendor_digits(text))?;
    let number = u64::from_str_radix(&digits, 16).ok()?;
    let [_, _, id @ ..] = number.to_be_bytes();
    Some(id)
}

fn digits_of(text: &str, form: &str) -> Option<String> {
    let fits = |(found, wanted): (char, char)| match wanted {
        'h' => found.is_ascii_hexdigit(),
        other => found.eq_ignore_ascii_case(&other),
    };
    let same = text.chars().count() == form.chars().count() && text.chars().zip(form.chars()).all(fits);
    same.then(|| {
        text.chars().zip(form.chars()).filter(|(_, wanted)| *wanted == 'h').map(|(found, _)| found).collect()
    })
}

/// `IP110-01-02-03`: two to five letters or digits name the model.
fn vendor_digits(text: &str) -> Option<String> {
    let (model, tail) = text.split_once('-')?;
    let named = model.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("IP"));
    let length = model.len().checked_sub(2)?;
    if !named
        || !(2..=5).contains(&length)
        || !model.chars().all(|character| character.is_ascii_alphanumeric())
    {
        return None;
    }
    digits_of(tail, "hh-hh-hh").map(|digits| format!("009033{digits}"))
}
