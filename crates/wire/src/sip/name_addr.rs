//! Addresses in headers: `"Display" <uri>;params` or `uri;params`. RFC 3261 §20.10, §25.1 (name-addr,
//! addr-spec). Never guesses where a URI ends: one with `,` or `?` stands in brackets or is refused.

use super::Params;
use super::error::{ParseError, ParseErrorKind};
use super::grammar::{self, trim_end, trim_start};
use super::start_line::has_scheme;

/// One address with its display name and parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name as it stands, with its quotes.
    pub display: Option<&'a str>,
    /// The URI, of any scheme, its inner grammar not yet checked; [`super::Uri::parse`] does that.
    pub uri: &'a str,
    /// The header's parameters, not the URI's.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Parses a name-addr or addr-spec with its parameters; a list is cut first, by [`super::split_list`].
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        let start = text.len() - trim_start(text).len();
        let rest = trim_start(text);
        let (display_end, angle) = if rest.starts_with('"') {
            quoted_display(rest).map_err(|kind| ParseError::new(kind, start))?
        } else {
            match memchr::memchr(b'<', rest.as_bytes()) {
                // A bracket after a colon is no display name's end, but rubbish after an addr-spec.
                Some(angle) if is_display(rest.get(..angle).unwrap_or_default()) => (angle, angle),
                _ => return Self::parse_addr_spec(rest, start),
            }
        };
        let display = Some(trim_end(grammar::cut(rest, display_end).0)).filter(|display| !display.is_empty());
        let inner = rest.get(angle + 1..).unwrap_or_default();
        let uri_end = grammar::run(inner.as_bytes(), grammar::URI);
        let (uri, tail) = grammar::cut(inner, uri_end);
        let fault = ParseError::new(ParseErrorKind::NameAddr, start + angle + 1);
        if !has_scheme(uri) {
            return Err(fault);
        }
        let tail = tail.strip_prefix('>').ok_or(fault)?;
        let params = params(tail, start + angle + uri_end + 2)?;
        Ok(Self { display, uri, params })
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&'a str> {
        self.params.value("tag")
    }

    fn parse_addr_spec(text: &'a str, start: usize) -> Result<Self, ParseError> {
        let is_uri = |byte: u8| grammar::is(byte, grammar::URI) && !matches!(byte, b';' | b',' | b'?');
        let end = text.bytes().position(|byte| !is_uri(byte)).unwrap_or(text.len());
        let (uri, tail) = grammar::cut(text, end);
        let is_cut_short =
            !tail.is_empty() && !tail.starts_with(|next: char| next == ';' || next.is_ascii_whitespace());
        if !has_scheme(uri) || is_cut_short {
            return Err(ParseError::new(ParseErrorKind::NameAddr, start));
        }
        Ok(Self { display: None, uri, params: params(tail, start + end)? })
    }
}

/// Where a quoted display name ends, and where the bracket after it is.
fn quoted_display(text: &str) -> Result<(usize, usize), ParseErrorKind> {
    let end = grammar::quoted_end(text.as_bytes()).ok_or(ParseErrorKind::Quotes)?;
    let rest = text.get(end..).unwrap_or_default();
    let after = trim_start(rest);
    if !after.starts_with('<') {
        return Err(ParseErrorKind::NameAddr);
    }
    Ok((end, text.len() - after.len()))
}

/// Whether `text` may stand before `<` without quotes. The grammar has tokens only; phones write names in
/// UTF-8 and with brackets, so all is let through but what separates values or opens another rule.
fn is_display(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'"' | b',' | b';' | b':' | b'>' | b'@' | b'\\'))
}

fn params(tail: &str, start: usize) -> Result<Params<'_>, ParseError> {
    Params::parse(tail).map_err(|fault| ParseError { offset: start + fault.offset, ..fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> NameAddr<'_> {
        NameAddr::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    #[test]
    fn display_names_may_hold_brackets_and_escapes() {
        let found = address(r#""J > \"x\" <y>, \\" <sip:j@example.com;lr>;tag="a;b";q=1"#);
        assert_eq!(found.display, Some(r#""J > \"x\" <y>, \\""#));
        assert_eq!(found.uri, "sip:j@example.com;lr");
        assert_eq!(found.tag(), Some("a;b"));
        assert_eq!(found.params.value("q"), Some("1"));
        let found = address("Bell (A) Müller\r\n <sip:a@b> ; tag = x");
        assert_eq!((found.display, found.tag()), (Some("Bell (A) Müller"), Some("x")));
        assert_eq!(address("\"\"<sip:a@b>").display, Some("\"\""));
    }

    #[test]
    fn without_brackets_the_parameters_are_the_headers() {
        let found = address("sip:a@b;tag=x;y");
        assert_eq!((found.display, found.uri, found.tag()), (None, "sip:a@b", Some("x")));
        assert_eq!(address("<sip:a@b;tag=x>").tag(), None);
        assert_eq!(address("tel:+1-201;tag=1").uri, "tel:+1-201");
        assert_eq!(address("<name:John_Smith>").uri, "name:John_Smith");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "*",
            "<>",
            "<sip:>",
            "sip:",
            "a@b",
            "<a@b>",
            "<sip:a@b",
            "sip:a@b>",
            "\"J <sip:a@b>",
            "\"J\" sip:a@b",
            "\"J\"",
            "Bell, A <sip:a@b>",
            "< sip:a@b>",
            "<sip:a@b >",
            "<sip:a@b> x",
            "<sip:a@b>x=y",
            "<sip:a b@c>",
            "sip:a@b?x=y",
            "sip:a,b@c",
            "sip:user;par=u@h",
            "<sip:a@b>;tag=\"x",
            "a\"b\" <sip:a@b>",
            "<<sip:a@b>>",
            "sip:a@b <sip:c@d>",
            "<sip:a\r\n b@c>",
            "<sip:a@b>;tag=",
            "\\\"a <sip:a@b>",
        ] {
            assert!(NameAddr::parse(bad).is_err(), "{bad:?}");
        }
    }
}
