//! What is no TOML in a file: each slip once, without what only follows from it.
//!
//! The parser goes on behind a mistake as well as it can, and what it finds there is mostly no mistake: the
//! rest of a list that was not closed, keys of a section whose header it could not read. So of each section
//! the first error counts, and no key is a double once a header may have been missed.

use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

use super::fault::{FaultCode, Faults, Place, Problem};
use super::schema::section;

/// Reports what is no TOML. False where it spoils the rest of the file.
pub(super) fn examine(source: &str, table: &DeTable<'_>, errors: &[Error], faults: &mut Faults) -> bool {
    let mut errors: Vec<&Error> = errors.iter().collect();
    errors.sort_by_key(|error| span(error, 0).start);
    for error in errors {
        if !is_duplicate(error) {
            report(error, 0, faults);
            examine_sections(source, span(error, 0).start, faults);
            return false;
        }
        if !has_wrong_brackets(source, table, span(error, 0)) {
            report(error, 0, faults);
        }
    }
    true
}

/// Every section that begins behind `after` is read by itself.
fn examine_sections(source: &str, after: usize, faults: &mut Faults) {
    let headers: Vec<usize> = headers(source).filter(|at| *at > after).collect();
    for (index, start) in headers.iter().enumerate() {
        let end = headers.get(index + 1).copied().unwrap_or(source.len());
        let (_, errors) = DeTable::parse_recoverable(source.get(*start..end).unwrap_or_default());
        if let Some(first) = errors.iter().min_by_key(|error| span(error, 0).start) {
            report(first, *start, faults);
        }
    }
}

/// Where a line begins that is the header of a section we know.
fn headers(source: &str) -> impl Iterator<Item = usize> {
    let lines = source.split_inclusive('\n').scan(0, |offset, line| {
        let start = *offset;
        *offset += line.len();
        Some((start, line))
    });
    let header = |line: &str| {
        let name = line.strip_prefix("[[").or_else(|| line.strip_prefix('['))?.split(']').next()?;
        section(name.trim())
    };
    lines.filter(move |(_, line)| header(line).is_some()).map(|(start, _)| start)
}

fn is_duplicate(error: &Error) -> bool {
    error.message() == "duplicate key"
}

/// Of a section that may stand several times, one is written with single brackets: what has to be mended is
/// that, and the reading of the section says so.
fn has_wrong_brackets(source: &str, table: &DeTable<'_>, span: Range<usize>) -> bool {
    let (Some(name), Some(before)) = (source.get(span.clone()), source.get(..span.start)) else {
        return false;
    };
    let is_header = before.trim_end().ends_with('[');
    let stands = table.iter().find(|(key, _)| key.get_ref().as_ref() == name);
    let is_single = stands.is_some_and(|(_, value)| matches!(value.get_ref(), DeValue::Table(_)));
    is_header && is_single && section(name).is_some_and(|schema| schema.repeated)
}

/// Where an error stands in a file of which the text that was read begins at `start`.
fn span(error: &Error, start: usize) -> Range<usize> {
    let span = error.span().unwrap_or_default();
    span.start + start..span.end + start
}

fn report(error: &Error, start: usize, faults: &mut Faults) {
    let (code, message, help) = if is_duplicate(error) {
        (FaultCode::Duplicate, "this key or section stands twice", "take one of the two out")
    } else if error.message().contains("array") {
        let help = "put a comma between the values, and close the list with `]`: perhaps in a line above";
        (FaultCode::Syntax, "this is no TOML", help)
    } else if error.message().contains("multi-line") {
        let help = "close the text with the three quotes that open it: perhaps far above";
        (FaultCode::Syntax, "this is no TOML", help)
    } else {
        let help = "mend this first; the values of the file are checked after that";
        (FaultCode::Syntax, "this is no TOML", help)
    };
    let place = Place { key: String::new(), span: span(error, start) };
    faults.error(&place, Problem::new(code, message, error.message(), help));
}
