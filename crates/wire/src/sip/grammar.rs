//! Character classes and the few rules that all headers share. RFC 3261 §25.1. Never allocates, except where
//! a value truly has to change: folds joined, escapes undone.

use std::borrow::Cow;

/// `token`.
pub(super) const TOKEN: u16 = 1;
/// `user` of a URI without its escapes; `#` is let through, since phones dial feature codes with it.
pub(super) const USER: u16 = 1 << 1;
/// `password` of a URI without its escapes.
pub(super) const PASSWORD: u16 = 1 << 2;
/// A parameter of a URI with its name, `=` and value, without its escapes.
pub(super) const URI_PARAM: u16 = 1 << 3;
/// `headers` of a URI with `&` and `=`, without their escapes.
pub(super) const URI_HEADERS: u16 = 1 << 4;
/// Visible ASCII that may stand in an absolute URI: all but `<`, `>` and `"`.
pub(super) const URI: u16 = 1 << 5;
/// The value of a header parameter that is not quoted: token, host, and what phones write into branches, but
/// no `@`, for `sip:user;x=y@host` without brackets is two things to two readers.
pub(super) const PARAM_VALUE: u16 = 1 << 6;
/// A label of a host name; `_` is let through, since networks use it.
pub(super) const LABEL: u16 = 1 << 7;
/// A host name or IPv4 address: labels and dots.
pub(super) const HOST: u16 = 1 << 8;

static CLASSES: [u16; 256] = classes();

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, and the table has a place for every byte")]
const fn classes() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = classes_of(byte as u8);
        byte += 1;
    }
    table
}

const fn classes_of(byte: u8) -> u16 {
    let alphanumeric = byte.is_ascii_alphanumeric();
    let unreserved = alphanumeric || is_in(byte, b"-_.!~*'()");
    let mut classes = 0;
    if alphanumeric || is_in(byte, b"-.!%*_+`'~") {
        classes |= TOKEN;
    }
    if unreserved || is_in(byte, b"&=+$,;?/#") {
        classes |= USER;
    }
    if unreserved || is_in(byte, b"&=+$,") {
        classes |= PASSWORD;
    }
    if unreserved || is_in(byte, b"[]/:&+$=") {
        classes |= URI_PARAM;
    }
    if unreserved || is_in(byte, b"[]/?:+$=&") {
        classes |= URI_HEADERS;
    }
    if byte.is_ascii_graphic() && !is_in(byte, b"<>\"") {
        classes |= URI;
    }
    if byte.is_ascii_graphic() && !is_in(byte, b"<>\",;\\@") {
        classes |= PARAM_VALUE;
    }
    if alphanumeric || is_in(byte, b"-_") {
        classes |= LABEL | HOST;
    }
    if byte == b'.' {
        classes |= HOST;
    }
    classes
}

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, bounded by the length")]
const fn is_in(byte: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == byte {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether `byte` is of one of `classes`.
#[inline]
pub(super) fn is(byte: u8, classes: u16) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|&of| of & classes != 0)
}

/// Length of the run of `class` that `bytes` begins with.
#[inline]
pub(super) fn run(bytes: &[u8], class: u16) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

/// Whether `text` is a token of at least one character.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && run(text.as_bytes(), TOKEN) == text.len()
}

/// Whether `text` has only characters of `class` and `%` with two hexadecimal digits.
pub(super) fn is_escaped(text: &str, class: u16) -> bool {
    let mut rest = text.as_bytes();
    loop {
        match rest.get(run(rest, class)..) {
            None | Some([]) => return true,
            Some([b'%', high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
            }
            Some(_) => return false,
        }
    }
}

/// `text` without the white space at both ends.
#[inline]
pub(super) fn trim(text: &str) -> &str {
    trim_end(trim_start(text))
}

/// `text` without the white space before it.
#[inline]
pub(super) fn trim_start(text: &str) -> &str {
    let skipped = text.len() - skip_space(text.as_bytes()).len();
    text.get(skipped..).unwrap_or_default()
}

/// `text` without the white space after it.
#[inline]
pub(super) fn trim_end(text: &str) -> &str {
    let mut bytes = text.as_bytes();
    while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = bytes {
        bytes = rest;
    }
    text.get(..bytes.len()).unwrap_or_default()
}

/// `bytes` without the white space before them: blanks, tabs, and the line ends of folds.
#[inline]
pub(super) fn skip_space(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Cuts `text` into what is before `at` and what is from `at` on.
#[inline]
pub(super) fn cut(text: &str, at: usize) -> (&str, &str) {
    text.split_at_checked(at).unwrap_or((text, ""))
}

/// A number of digits only, leading zeros allowed, not above `max`.
pub(super) fn number(text: &str, max: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0_u32, |sum, byte| {
        let digit = char::from(byte).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(digit).filter(|&sum| sum <= max)
    })
}

/// Where the quoted string ends that `bytes` begin with: the offset after its closing quote.
pub(super) fn quoted_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes.get(at) {
            Some(b'"') => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// The values of a header line that holds several: cut at commas outside quotes and `<>`, trimmed.
///
/// An empty value has none; an empty place between two commas is an empty value, for the type that parses
/// it to refuse.
pub fn split_list(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value).filter(|value| !trim(value).is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        let (item, after) = cut(text, first_comma(text));
        rest = after.get(1..);
        Some(trim(item))
    })
}

/// Offset of the first comma outside quotes and `<>`, or the length of `text`.
pub(super) fn first_comma(text: &str) -> usize {
    let mut quoted = false;
    let mut bracketed = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !bracketed => quoted = !quoted,
            _ if quoted => {}
            b'<' => bracketed = true,
            b'>' => bracketed = false,
            b',' if !bracketed => return at,
            _ => {}
        }
    }
    text.len()
}

/// `value` on one line: each fold with the white space around it becomes one blank (RFC 3261 §7.3.1).
pub fn unfold(value: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\r', b'\n', value.as_bytes()).is_none() {
        return Cow::Borrowed(value);
    }
    let mut joined = String::with_capacity(value.len());
    for line in value.split(['\r', '\n']).map(trim).filter(|line| !line.is_empty()) {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(line);
    }
    Cow::Owned(joined)
}

/// `text` of a URI with its `%` escapes undone, where the result is UTF-8; else as it is.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = if *first == b'%' { after.first_chunk().and_then(hex_pair) } else { None };
        bytes.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn hex_pair([high, low]: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(value: &str) -> Vec<&str> {
        split_list(value).collect()
    }

    #[test]
    fn lists_are_cut_only_where_the_grammar_has_a_comma() {
        assert_eq!(items("a, b,c"), ["a", "b", "c"]);
        assert_eq!(
            items(r#""a, \", b" <sip:x,y@h>;p="1,2" , <sip:z@h>"#),
            [r#""a, \", b" <sip:x,y@h>;p="1,2""#, "<sip:z@h>"]
        );
        assert_eq!(items(""), [""; 0]);
        assert_eq!(items(" \r\n "), [""; 0]);
        assert_eq!(items("a,,b,"), ["a", "", "b", ""]);
        assert_eq!(items(r#"<sip:a"b@h>, c"#), [r#"<sip:a"b@h>"#, "c"]);
    }

    #[test]
    fn folds_become_one_blank() {
        assert_eq!(unfold("a \r\n\t b\r\n c"), "a b c");
        assert!(matches!(unfold("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn escapes_are_undone_or_left_alone() {
        assert_eq!(unescape("I%20have%2fspaces"), "I have/spaces");
        assert_eq!(unescape("100%"), "100%");
        assert_eq!(unescape("%zz%4"), "%zz%4");
        assert_eq!(unescape("%FF"), "%FF");
        assert_eq!(unescape("nul-%00"), "nul-\0");
    }

    #[test]
    fn numbers_are_digits_only_and_bounded() {
        assert_eq!(number("0068", 255), Some(68));
        assert_eq!(number("256", 255), None);
        assert_eq!(number("4294967296", u32::MAX), None);
        for bad in ["", "-1", "+1", "1 ", "0x1", "１"] {
            assert_eq!(number(bad, u32::MAX), None, "{bad:?}");
        }
    }
}
