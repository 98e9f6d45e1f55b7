//! Quoted strings (RFC 3261 §25.1): cutting around them, escaping, undoing.
//!
//! Never lets a value end its quotes or its line.

use std::borrow::Cow;

use memchr::{memchr2_iter, memchr3_iter};

/// Splits at `separator` outside quoted strings. An ASCII character separates.
pub(crate) fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    debug_assert!(separator.is_ascii() && !matches!(separator, b'"' | b'\\'), "a separator is no quote");
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = unquoted(text, separator);
        rest = end.and_then(|end| text.get(end + 1..));
        end.map_or(Some(text), |end| text.get(..end))
    })
}

/// Where `separator` stands first outside quoted strings.
fn unquoted(text: &str, separator: u8) -> Option<usize> {
    let (mut quoted, mut escaped_until) = (false, 0);
    for at in memchr3_iter(separator, b'"', b'\\', text.as_bytes()) {
        match text.as_bytes().get(at) {
            _ if at < escaped_until => {}
            Some(b'\\') if quoted => escaped_until = at + 2,
            Some(b'"') => quoted = !quoted,
            Some(found) if *found == separator && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// What stands between the quotes of `text`, escapes and all, where it is one whole quoted string.
pub(crate) fn inner(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut escaped_until = 0;
    for at in memchr2_iter(b'"', b'\\', inside.as_bytes()) {
        match inside.as_bytes().get(at) {
            _ if at < escaped_until => {}
            Some(b'\\') => escaped_until = at + 2,
            _ => return None,
        }
    }
    (escaped_until <= inside.len()).then_some(inside)
}

/// `text` as it may stand between quotes; a control character becomes a blank.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| matches!(c, '"' | '\\') || c.is_control()) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            escaped.push('\\');
        }
        escaped.push(if c.is_control() { ' ' } else { c });
    }
    Cow::Owned(escaped)
}

/// What the text between two quotes means.
pub(crate) fn unescape(inside: &str) -> Cow<'_, str> {
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let mut escaped = false;
    let meant = inside.chars().filter(|&c| {
        escaped = c == '\\' && !escaped;
        !escaped
    });
    Cow::Owned(meant.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_outside_quotes_only() {
        let split = |text: &'static str| split_unquoted(text, b',').collect::<Vec<_>>();
        assert_eq!(split(r#"a,"b,c",d"#), ["a", r#""b,c""#, "d"]);
        assert_eq!(split(r#""a\",b",c"#), [r#""a\",b""#, "c"]);
        assert_eq!(split(r#""a\\",b"#), [r#""a\\""#, "b"]);
        assert_eq!(split(r#"a\,"ü\\\",",ü,"#), [r"a\", r#""ü\\\",""#, "ü", ""]);
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn inner_takes_whole_quoted_strings_only() {
        assert_eq!(inner(r#""""#), Some(""));
        assert_eq!(inner(r#""a\"b""#), Some(r#"a\"b"#));
        for text in [r#"""#, "", "a", r#""a"#, r#""a"b""#, r#""a\""#, r#""a" "#] {
            assert_eq!(inner(text), None, "{text}");
        }
    }

    #[test]
    fn escaping_is_undone_and_ends_nothing() {
        for text in ["", "plain", r#"a"b\c"#, r"\", r#"""#, "ü"] {
            let escaped = escape(text);
            assert_eq!(inner(&format!("\"{escaped}\"")), Some(&*escaped));
            assert_eq!(unescape(&escaped), text);
        }
        assert_eq!(escape("a\r\nb\0c"), "a  b c");
        assert_eq!(unescape(r"\a"), "a");
    }
}
