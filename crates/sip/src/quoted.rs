//! Quoted strings (RFC 3261 §25.1): cutting around them, escaping, undoing.
//!
//! Never lets a value end its quotes or its line.

use std::borrow::Cow;

/// Splits at `separator` outside quoted strings.
pub(crate) fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c: char| {
        let separates = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        separates
    })
}

/// What stands between the quotes of `text`, escapes and all, where it is one whole quoted string.
pub(crate) fn inner(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut escaped = false;
    for c in inside.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return None,
            _ => {}
        }
    }
    (!escaped).then_some(inside)
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
        let split = |text: &'static str| split_unquoted(text, ',').collect::<Vec<_>>();
        assert_eq!(split(r#"a,"b,c",d"#), ["a", r#""b,c""#, "d"]);
        assert_eq!(split(r#""a\",b",c"#), [r#""a\",b""#, "c"]);
        assert_eq!(split(r#""a\\",b"#), [r#""a\\""#, "b"]);
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
