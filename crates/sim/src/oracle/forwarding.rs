//! A rule about what is passed on: it has one hop less to go (RFC 3261 §16.6), so that no request goes round for ever.

use crate::oracle::{Seen, Violation};

/// What peers write into a request of their own.
const FIRST: u8 = 70;

/// What is never passed on as it came: the border makes its own of these, or they go one hop.
const OWN: [&str; 5] = ["REGISTER", "OPTIONS", "ACK", "BYE", "CANCEL"];

/// A request that is passed on has fewer hops left than any had that came.
pub(super) fn hops_are_counted(seen: &Seen<'_>) -> Result<(), Violation> {
    let text = seen.text;
    if text.code().is_some() || OWN.contains(&text.method()) {
        return Ok(());
    }
    match text.header("Max-Forwards").parse::<u8>() {
        Ok(left) if left < FIRST => Ok(()),
        _ => Err(Violation::of("hops are counted", text.render(), text)),
    }
}
