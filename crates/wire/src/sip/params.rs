//! Parameters after a header's value or a URI's host: `;name=value;flag`. RFC 3261 §7.3.1, §25.1.
//! Never copies: a quoted value is given without its quotes, its quoted pairs as they stand.

use super::error::{ParseError, ParseErrorKind};
use super::grammar::{self, trim, trim_end, trim_start};

/// Checked parameters, in the order in which they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a str);

impl<'a> Params<'a> {
    /// Parses parameters of a header; empty, or beginning with `;`, white space allowed around `;` and `=`.
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        let mut rest = text.as_bytes();
        loop {
            let fault = |kind| ParseError::new(kind, text.len() - rest.len());
            match grammar::skip_space(rest) {
                [] => return Ok(Self(text)),
                [b';', after @ ..] => rest = after_param(after).map_err(fault)?,
                _ => return Err(fault(ParseErrorKind::Params)),
            }
        }
    }

    /// Parses parameters of a URI: no white space, no quotes, `%` escapes.
    pub(super) fn parse_uri(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        // What stands before the first `;` is the caller's.
        parts.next().filter(|before| before.is_empty())?;
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, "-"));
            let clean = !name.is_empty() && !value.is_empty() && !value.contains('=');
            if !clean || !grammar::is_escaped(part, grammar::URI_PARAM) {
                return None;
            }
        }
        Some(Self(text))
    }

    /// The parameter of this name, of any case: `None` if it is missing, `Some(None)` if it has no value.
    pub fn get(&self, name: &str) -> Option<Option<&'a str>> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the parameter of this name, without quotes.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.get(name).flatten()
    }

    /// Whether there is a parameter of this name.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All parameters in order, a quoted value without its quotes.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        // What stands between two parameters is white space.
        let mut rest = trim(self.0);
        std::iter::from_fn(move || {
            let (name, value, after) = first_param(rest.strip_prefix(';')?);
            rest = after;
            Some((name, value))
        })
    }

    /// The text as it stands, from the first `;` on; empty without parameters.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a parameter that may stand once.
    pub(super) fn single(&self, name: &str) -> Result<Option<&'a str>, ParseError> {
        let mut found = self.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (first, None) => Ok(first.and_then(|(_, value)| value)),
            (_, Some(_)) => Err(ParseError::new(ParseErrorKind::Params, 0)),
        }
    }
}

/// What follows the parameter that `bytes` begins with, if it is one by the grammar.
#[inline]
fn after_param(bytes: &[u8]) -> Result<&[u8], ParseErrorKind> {
    let name = grammar::skip_space(bytes);
    let length = grammar::run(name, grammar::TOKEN);
    if length == 0 {
        return Err(ParseErrorKind::Params);
    }
    let after_name = name.get(length..).unwrap_or_default();
    let [b'=', value @ ..] = grammar::skip_space(after_name) else {
        return Ok(after_name);
    };
    let value = grammar::skip_space(value);
    let length = match value {
        [b'"', ..] => grammar::quoted_end(value).ok_or(ParseErrorKind::Quotes)?,
        _ => grammar::run(value, grammar::PARAM_VALUE),
    };
    if length == 0 { Err(ParseErrorKind::Params) } else { Ok(value.get(length..).unwrap_or_default()) }
}

/// Name and value of the checked parameter that `text` begins with, and what follows from the next `;` on.
#[inline]
fn first_param(text: &str) -> (&str, Option<&str>, &str) {
    let name_end = text.bytes().position(|byte| matches!(byte, b';' | b'=')).unwrap_or(text.len());
    let (name, rest) = grammar::cut(text, name_end);
    let Some(rest) = rest.strip_prefix('=') else {
        return (trim(name), None, rest);
    };
    let rest = trim_start(rest);
    let quoted =
        if rest.starts_with('"') { grammar::quoted_end(rest.as_bytes()).unwrap_or(rest.len()) } else { 0 };
    let after_quotes = rest.as_bytes().get(quoted..).unwrap_or_default();
    let length = quoted + after_quotes.iter().position(|&byte| byte == b';').unwrap_or(after_quotes.len());
    let (value, rest) = grammar::cut(rest, length);
    let inner = if quoted > 1 { value.get(1..quoted - 1) } else { None };
    (trim(name), Some(inner.unwrap_or(trim_end(value))), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_keep_their_semicolons_and_commas() {
        let params =
            Params::parse(r#";a="x;y,\";z" ; B = c;flag ;+sip.instance="<urn:uuid:1>""#).expect("valid");
        let all: Vec<_> = params.iter().collect();
        let expected = [
            ("a", Some(r#"x;y,\";z"#)),
            ("B", Some("c")),
            ("flag", None),
            ("+sip.instance", Some("<urn:uuid:1>")),
        ];
        assert_eq!(all, expected);
        assert_eq!(params.value("b"), Some("c"));
        assert_eq!(params.get("FLAG"), Some(None));
        assert_eq!(params.value("flag"), None);
        assert!(!params.has("lag"));
    }

    #[test]
    fn addresses_stand_bare_as_values() {
        let params = Params::parse(";received=[2001:db8::1];maddr=2001:db8::2").expect("valid");
        assert_eq!(params.value("received"), Some("[2001:db8::1]"));
        assert_eq!(params.value("maddr"), Some("2001:db8::2"));
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for bad in
            [";", ";;a", ";a=", ";a=b c", ";a b", "a=b", r#";a="b"#, ";=b", ";a=<b>", r#";a="b"c"#, ";a;"]
        {
            assert!(Params::parse(bad).is_err(), "{bad:?}");
        }
        for bad in [";", ";;a", ";a=", ";a=b=c", ";a b", ";a=%4", ";a=\"b\"", "x;a"] {
            assert!(Params::parse_uri(bad).is_none(), "{bad:?}");
        }
        assert!(Params::parse("").expect("none").is_empty());
    }
}
