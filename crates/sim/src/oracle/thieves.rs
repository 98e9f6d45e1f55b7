//! Rules about who shows a certificate that is not that of whom he says he is: one refusal for every cause, at once
//! and without the PBX. That not a byte of his goes inside is a matter of `hiding.rs`.

use std::collections::BTreeMap;

use wire::clock::Instant;
use wire::net::Side;

use crate::oracle::{Seen, Violation};
use crate::scenery::THIEF_CANARY;
use crate::text::Text;

/// What differs from answer to answer, or is his own.
const OWN: [&str; 5] = ["Via", "From", "To", "Call-ID", "CSeq"];

/// What the rules remember.
#[derive(Debug, Default)]
pub(super) struct Thieves {
    /// When he asked what, by branch.
    asked: BTreeMap<String, Instant>,
    /// What he was told first, by method.
    told: BTreeMap<String, String>,
}

/// What anybody could tell one refusal from another by.
fn template(text: &Text) -> String {
    let mut text = text.clone();
    OWN.iter().for_each(|name| text.remove(name));
    text.render()
}

impl Thieves {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        if seen.side == Side::Outside && text.code().is_none() && text.from_tag().starts_with(THIEF_CANARY) {
            self.asked.insert(text.branch().to_owned(), seen.now);
        }
    }

    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let text = seen.text;
        if seen.side == Side::Inside || !text.from_tag().starts_with(THIEF_CANARY) {
            return Ok(());
        }
        let Some(asked) = self.asked.get(text.branch()) else { return Ok(()) };
        let rule = match () {
            () if text.code() != Some(403) => "a thief is refused by 403",
            () if !matches!(text.method(), "REGISTER" | "INVITE") => "a thief hears nothing but a refusal",
            () if *asked != seen.now => "a thief is refused without the PBX",
            () => return self.is_like_the_others(text),
        };
        Err(Violation::of(rule, text.render(), text))
    }

    /// Whatever name he says, and whatever his certificate does.
    fn is_like_the_others(&mut self, text: &Text) -> Result<(), Violation> {
        let template = template(text);
        let first = self.told.entry(text.method().to_owned()).or_insert_with(|| template.clone());
        match *first == template {
            true => Ok(()),
            false => {
                let words = format!("once he was told\n{first}\nnow\n{}", text.render());
                Err(Violation::of("a thief learns nothing", words, text))
            }
        }
    }
}
