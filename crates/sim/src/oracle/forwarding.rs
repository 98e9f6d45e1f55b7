//! Rules about what is passed on: it has one hop less to go (RFC 3261 §16.6), so that no request goes round for ever,
//! and what has none left ends here.

use std::collections::BTreeSet;

use wire::net::Side;

use crate::oracle::{Seen, Violation};

/// What peers write into a request of their own.
const FIRST: u8 = 70;

/// What is never passed on as it came: the border makes its own of these, or they go one hop.
const OWN: [&str; 5] = ["REGISTER", "OPTIONS", "ACK", "BYE", "CANCEL"];

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// INVITEs that had no hop left, by the face where they came and their From tag, which would cross.
    ended: BTreeSet<(Side, String)>,
    branches: BTreeSet<String>,
}

impl Forwarding {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if text.method() == "INVITE" && text.code().is_none() && text.header("Max-Forwards") == "0" {
            self.ended.insert((seen.side, text.from_tag().to_owned()));
            self.branches.insert(text.branch().to_owned());
        }
    }

    pub(super) fn on_sent(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        hops_are_counted(seen)?;
        let text = seen.text;
        let fail = |oracle| Err(Violation::of(oracle, text.render(), text));
        let from = (seen.side.other(), text.from_tag().to_owned());
        match (text.method(), text.code()) {
            ("INVITE", None) if text.to_tag().is_empty() && self.ended.contains(&from) => {
                fail("what has no hop left goes no further")
            }
            ("INVITE", Some(101..=399)) if self.branches.contains(text.branch()) => {
                fail("what has no hop left is refused")
            }
            _ => Ok(()),
        }
    }
}

/// A request that is passed on has fewer hops left than any had that came.
fn hops_are_counted(seen: &Seen<'_>) -> Result<(), Violation> {
    let text = seen.text;
    if text.code().is_some() || OWN.contains(&text.method()) {
        return Ok(());
    }
    match text.header("Max-Forwards").parse::<u8>() {
        Ok(left) if left < FIRST => Ok(()),
        _ => Err(Violation::of("hops are counted", text.render(), text)),
    }
}
