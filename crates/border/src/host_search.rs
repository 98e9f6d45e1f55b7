//! Finds a host in text whose characters may be escaped as in URIs, in a time that grows with the text alone: whoever
//! writes the text may have named the host as well.

use std::ops::Range;

/// How often an escape may be escaped again and still be seen through.
pub(crate) const ESCAPED_MAX: usize = 3;
/// The same for what stands before a host, where each is looked at from its end.
const ESCAPED_BEFORE_MAX: usize = 16;
/// How many characters may be compared for each of a text before the search that needs room is worth it.
const COMPARED_MAX: usize = 4;

/// Where `host` stands as a word of its own, each behind the one before.
pub(crate) fn find_all(text: &[u8], host: &[u8]) -> Vec<Range<usize>> {
    if host.is_empty() {
        return Vec::new();
    }
    directly(text, host, COMPARED_MAX * text.len()).unwrap_or_else(|| linearly(text, host))
}

/// Looks at each place; none where that takes more than `compared_max` comparisons. Ordinary texts take few.
fn directly(text: &[u8], host: &[u8], compared_max: usize) -> Option<Vec<Range<usize>>> {
    let mut all = Vec::new();
    let first = host.first()?;
    let [lower, upper] = [first.to_ascii_lowercase(), first.to_ascii_uppercase()];
    // Nearly no byte begins it: the rest is looked at only where one does.
    let begins = |byte: u8| byte == lower || byte == upper || byte == b'%';
    let (mut from, mut compared) = (0, 0);
    for (start, byte) in text.iter().enumerate() {
        if start < from || !begins(*byte) {
            continue;
        }
        let (end, matched) = match_at(text, start, host);
        if matched == host.len() && is_whole(text, &(start..end)) {
            all.push(start..end);
            from = end;
            continue;
        }
        compared += matched;
        if compared > compared_max {
            return None;
        }
    }
    Some(all)
}

/// Where the part of `host` ends that begins at `start`, and how long it is.
fn match_at(text: &[u8], start: usize, host: &[u8]) -> (usize, usize) {
    let mut at = start;
    for (matched, wanted) in host.iter().enumerate() {
        match text.get(at..).and_then(read) {
            Some((byte, length)) if byte.eq_ignore_ascii_case(wanted) => at += length,
            Some(_) | None => return (at, matched),
        }
    }
    (at, host.len())
}

/// The first character of `text` and how many bytes write it: `.`, `%2e`, `%252e`, …
fn read(text: &[u8]) -> Option<(u8, usize)> {
    let first = *text.first()?;
    if first != b'%' {
        return Some((first, 1));
    }
    let mut digits = 1;
    while digits <= 2 * ESCAPED_MAX && text.get(digits..digits + 2) == Some(b"25") {
        digits += 2;
    }
    let escaped = text.get(digits..digits + 2).and_then(|pair| {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let [high, low] = pair else { return None };
        u8::try_from(digit(high)? * 16 + digit(low)?).ok()
    });
    Some(escaped.map_or((first, 1), |byte| (byte, digits + 2)))
}

/// Whether a host at this place is no part of a longer name or address.
fn is_whole(text: &[u8], place: &Range<usize>) -> bool {
    is_boundary_before(text, place.start) && !text.get(place.end).is_some_and(is_part)
}

/// Whether a host may begin at `start`: after nothing, after a sign, or after an escape, whatever it stands for.
fn is_boundary_before(text: &[u8], start: usize) -> bool {
    let before = text.get(..start).unwrap_or_default();
    let [rest @ .., high, low] = before else { return !before.last().is_some_and(is_part) };
    let mut rest = rest;
    for _ in 0..ESCAPED_BEFORE_MAX {
        let Some(shorter) = rest.strip_suffix(b"25") else { break };
        rest = shorter;
    }
    let escape = high.is_ascii_hexdigit() && low.is_ascii_hexdigit() && rest.ends_with(b"%");
    escape || !is_part(low)
}

/// Whether a byte may stand within a name or address.
fn is_part(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'-'
}

/// A character as it is meant, in lower case, and where it is written.
struct Character {
    byte: u8,
    place: Range<usize>,
}

/// Reads the text once and looks for the host in what it means. A host may also begin within what could be an escape, as
/// in `5%10.0.0.2`: then its first characters are digits of that, and the others are as they are meant.
fn linearly(text: &[u8], host: &[u8]) -> Vec<Range<usize>> {
    let host = host.to_ascii_lowercase();
    let mut characters = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some((byte, length)) = text.get(at..).and_then(read) {
        characters.push(Character { byte: byte.to_ascii_lowercase(), place: at..at + length });
        at += length;
    }
    let mut places = Vec::new();
    let digits = host.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    for within in 0..=digits.min(2 * ESCAPED_MAX + 2) {
        let (first, rest) = host.split_at(within);
        for (start, end) in occurrences(&characters, rest) {
            let begin = if within == 0 {
                characters.get(start).map(|character| character.place.start)
            } else {
                let escape = start.checked_sub(1).and_then(|before| characters.get(before));
                escape.and_then(|escape| begin_within(text, &escape.place, first))
            };
            let end = end.checked_sub(1).and_then(|last| characters.get(last));
            let place = begin.zip(end).map(|(begin, last)| begin..last.place.end);
            places.extend(place.filter(|place| is_whole(text, place)));
        }
    }
    places.sort_unstable_by_key(|place| place.start);
    let mut from = 0;
    places.retain(|place| {
        let behind = place.start >= from;
        if behind {
            from = place.end;
        }
        behind
    });
    places
}

/// Where `digits` begin that an escape ends with.
fn begin_within(text: &[u8], escape: &Range<usize>, digits: &[u8]) -> Option<usize> {
    let begin = escape.end.checked_sub(digits.len()).filter(|begin| *begin > escape.start)?;
    text.get(begin..escape.end)?.eq_ignore_ascii_case(digits).then_some(begin)
}

/// Everywhere that `wanted` stands, also where that overlaps: from which character to which. By its own beginnings
/// (Knuth, Morris and Pratt), so that no character is read twice. Nothing stands between any two characters.
fn occurrences(characters: &[Character], wanted: &[u8]) -> Vec<(usize, usize)> {
    if wanted.is_empty() {
        return (0..=characters.len()).map(|place| (place, place)).collect();
    }
    let mut borders = vec![0_usize; wanted.len()];
    let mut matched = 0;
    for place in 1..wanted.len() {
        matched = step(wanted, &borders, matched, wanted[place]);
        borders[place] = matched;
    }
    let mut found = Vec::new();
    matched = 0;
    for (place, character) in characters.iter().enumerate() {
        matched = step(wanted, &borders, matched, character.byte);
        if matched == wanted.len() {
            found.push((place + 1 - matched, place + 1));
        }
    }
    found
}

/// How much of `wanted` is matched behind one more character.
fn step(wanted: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
    loop {
        if wanted.get(matched) == Some(&byte) {
            return matched + 1;
        }
        match matched.checked_sub(1).and_then(|last| borders.get(last)) {
            Some(shorter) => matched = *shorter,
            None => return 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_find_the_same() {
        const PARTS: [&str; 14] =
            ["a", ".", "a.a", "aa", "%", "%61", "%2e", "%2561", "25", "36", "%33%36", "-", "B", "1.a"];
        const HOSTS: [&str; 10] = ["a.a", "a.a.aa", "aa", "36", "3636", "25", "2525", "a", "1.a.1", "36.a-b"];
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut found = 0;
        for _ in 0..30_000 {
            let text: String = (0..next(12)).map(|_| PARTS[next(PARTS.len())]).collect();
            for host in HOSTS {
                let direct = directly(text.as_bytes(), host.as_bytes(), usize::MAX).unwrap();
                assert_eq!(linearly(text.as_bytes(), host.as_bytes()), direct, "{host} in {text}");
                found += direct.len();
            }
        }
        assert!(found > 10_000, "{found}");
    }

    #[test]
    fn both_ways_find_a_host_that_begins_within_an_escape() {
        let escape = "%25252536";
        for within in 1..escape.len() {
            let (text, start) = (format!("{escape}.a"), escape.len() - within);
            let host = &text[start..];
            // It begins behind a whole escape, or behind the sign of one, or is what the escape means.
            let begin = match within {
                1 => Some(0),
                even if even % 2 == 0 => Some(start),
                _ => None,
            };
            let found = Vec::from_iter(begin.map(|begin| begin..text.len()));
            assert_eq!(linearly(text.as_bytes(), host.as_bytes()), found, "{host} in {text}");
            assert_eq!(
                directly(text.as_bytes(), host.as_bytes(), usize::MAX),
                Some(found),
                "{host} in {text}"
            );
        }
    }

    #[test]
    fn what_repeats_itself_is_given_up_directly_and_found_nevertheless() {
        let host = "a.".repeat(122) + "ab";
        let text = format!("{}{host} {}", "a.".repeat(15_000), "a.".repeat(15_000));
        assert_eq!(directly(text.as_bytes(), host.as_bytes(), COMPARED_MAX * text.len()), None);
        let all = find_all(text.as_bytes(), host.as_bytes());
        assert!(matches!(all.as_slice(), [one] if *one == (30_000..30_000 + host.len())), "{all:?}");
    }

    #[test]
    fn an_ordinary_text_is_never_given_up() {
        for text in ["", "a", &"sip:1001@10.0.0.1 ".repeat(3_000), &"Max-Forwards: 70\r\n".repeat(3_000)] {
            let most = COMPARED_MAX * text.len();
            assert!(directly(text.as_bytes(), b"10.0.0.2", most).is_some(), "{text}");
        }
    }
}
