//! The text of a configuration file without its secrets, of the same length, so that places stay right:
//! faults are drawn from it.
//!
//! Works on the text as well as on the parsed values, because a file that is no TOML holds secrets too.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::schema::names_a_secret;

/// `source` with a star for every byte of a secret.
pub(super) fn masked(source: &str, table: &DeTable<'_>) -> String {
    let mut bytes = source.as_bytes().to_vec();
    mask_lines(source, &mut bytes);
    mask_table(table, &mut bytes);
    // Whole characters are masked, so this never has anything to replace.
    String::from_utf8_lossy(&bytes).into_owned()
}

fn star(bytes: &mut [u8], span: Range<usize>) {
    for byte in bytes.get_mut(span).unwrap_or_default() {
        if !byte.is_ascii_whitespace() {
            *byte = b'*';
        }
    }
}

/// Masks what stands behind `password =` and the like, line by line.
fn mask_lines(source: &str, bytes: &mut [u8]) {
    let mut offset = 0;
    let mut open_quotes: Option<&str> = None;
    for line in source.split_inclusive('\n') {
        let end = offset + line.len();
        if let Some(quotes) = open_quotes {
            star(bytes, offset..end);
            if line.contains(quotes) {
                open_quotes = None;
            }
        } else if let Some(at) = secret_value(line) {
            star(bytes, offset + at..end);
            let value = line.get(at..).unwrap_or_default();
            open_quotes = [r#"""""#, "'''"].into_iter().find(|quotes| value.matches(quotes).count() == 1);
        }
        offset = end;
    }
}

/// Where in a line the value of a secret key begins. A table is left to the parsed values.
fn secret_value(line: &str) -> Option<usize> {
    line.match_indices('=').find_map(|(at, _)| {
        let before = line.get(..at)?.trim_end_matches([' ', '\t', '"', '\'']);
        let name = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).next()?;
        let value = line.get(at + 1..)?;
        let is_table = value.trim_start().starts_with('{');
        (names_a_secret(name) && !is_table).then_some(at + 1)
    })
}

fn mask_table(table: &DeTable<'_>, bytes: &mut [u8]) {
    for (key, value) in table {
        if names_a_secret(key.get_ref()) {
            mask_secret(value.get_ref(), value.span(), bytes);
        } else {
            mask_value(value.get_ref(), value.span(), bytes);
        }
    }
}

/// Masks a secret; of a table that names where the secret is, only what is neither file nor variable.
fn mask_secret(value: &DeValue<'_>, span: Range<usize>, bytes: &mut [u8]) {
    let DeValue::Table(table) = value else {
        star(bytes, span);
        return;
    };
    for (key, value) in table {
        if !matches!(key.get_ref().as_ref(), "file" | "env") {
            star(bytes, value.span());
        }
    }
}

fn mask_value(value: &DeValue<'_>, span: Range<usize>, bytes: &mut [u8]) {
    match value {
        DeValue::Table(table) => mask_table(table, bytes),
        DeValue::Array(array) => {
            for element in array {
                mask_value(element.get_ref(), element.span(), bytes);
            }
        }
        // The user information of a URL may hold a password.
        DeValue::String(text) if text.contains("://") && text.contains('@') => star(bytes, span),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(source: &str) -> String {
        let (table, _) = DeTable::parse_recoverable(source);
        masked(source, table.get_ref())
    }

    #[test]
    fn no_spelling_of_a_secret_is_drawn() {
        for source in [
            "[[extension]]\npassword = \"canary\"\n",
            "[[extension]]\npasswrd = \"canary\"\n",
            "[[extension]]\npassword = canary\n",
            "[[extension]]\npassword = \"canary\n",
            "[[extension]]\npassword = 'canary' # canary\n",
            "[[extension]]\npassword = [\"canary\"]\n",
            "[[extension]]\npassword = { value = \"canary\" }\n",
            "[[extension]]\npassword = \"\"\"\ncanary\ncanary\"\"\"\n",
            "[[extension]]\npassword = '''\ncanary\n",
            "[[extension]]\n\"password\" = \"canary\"\n",
            "extension = [{ name = \"1\", password = \"canary\" }]\n",
            "extension = [{ password = [\n\"canary\"] }]\n",
            "console.admin_password = \"canary\"\n",
            "[store]\nurl = \"redis://user:canary@10.0.0.20\"\n",
        ] {
            let masked = mask(source);
            assert!(!masked.contains("canary"), "{source:?} became {masked:?}");
            assert_eq!(masked.len(), source.len());
        }
    }

    #[test]
    fn the_rest_stays_readable() {
        let source = "[[extension]]\nname = \"1001\"\npassword = { file = \"secrets/1001\" }\n";
        assert_eq!(mask(source), source);
        let umlaut = "[[extension]]\npassword = \"schlüssel\"\nname = \"ü\"\n";
        assert!(mask(umlaut).ends_with("name = \"ü\"\n"));
    }
}
