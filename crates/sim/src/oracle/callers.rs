//! Rules about who asks: whoever hides his name stays hidden, and an answer says where its request came from.

use std::collections::BTreeSet;

use wire::net::Side;

use crate::oracle::{Seen, Violation};
use crate::scenery;

/// Of a caller who hides his name (RFC 3323 §4.1).
const ANONYMOUS: &str = "anonymous.invalid";

/// What a caller at the PBX is called by.
const DESK: &str = "2001@";

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// Where they ask, and From tags.
    hidden: BTreeSet<(Side, String)>,
    /// Branches of requests whose sender wants to know from where he is heard (RFC 3581).
    wonder: BTreeSet<String>,
}

impl Callers {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if text.code().is_some() {
            return;
        }
        if text.method() == "INVITE" && text.header("From").contains(ANONYMOUS) {
            self.hidden.insert((seen.side, text.from_tag().to_owned()));
        }
        // of torture messages many share a branch
        if text.header("Via").contains(";rport") && !scenery::is_scanner(seen.peer.ip()) {
            self.wonder.insert(text.branch().to_owned());
        }
    }

    pub(super) fn on_sent(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        let fail = |oracle| Err(Violation::of(oracle, text.render(), text));
        let from = (seen.side.other(), text.from_tag().to_owned());
        if text.code().is_none() && self.hidden.contains(&from) && !text.header("From").contains(ANONYMOUS) {
            return fail("who hides his name is hidden");
        }
        // a desk of the PBX: its number stands in what the PBX adds as well
        let names = |(_, value): &(String, String)| value.contains(DESK);
        let begins = text.method() == "INVITE" && text.code().is_none() && text.to_tag().is_empty();
        if begins && from.0 == Side::Inside && self.hidden.contains(&from) && text.headers.iter().any(names) {
            return fail("who hides his name is hidden");
        }
        let port = format!(";rport={}", seen.peer.port());
        if text.code().is_some() && self.wonder.contains(text.branch()) && !text.header("Via").contains(&port)
        {
            return fail("an answer says where its request came from");
        }
        Ok(())
    }
}
