//! A rule about the way of requests inside a dialog: through each proxy that recorded itself when the dialog began, in
//! the order in which it is met (RFC 3261 §12.1, §12.2.1.1).

use std::collections::{BTreeMap, BTreeSet};

use wire::net::Side;

use crate::oracle::{Seen, Violation};
use crate::text::{Text, uri_of};

/// A dialog of the border's: the face, its own tag, the other's.
type Dialog = (Side, String, String);

/// What the rule remembers.
#[derive(Debug, Default)]
pub(super) struct RouteSets {
    /// Of INVITEs that begin a call, by face and From tag: who recorded himself, as it came.
    asked: BTreeMap<(Side, String), Vec<String>>,
    /// The same of the border's own.
    asks: BTreeSet<(Side, String)>,
    /// None once it had a BYE: an answer that comes later makes another.
    dialogs: BTreeMap<Dialog, Option<Vec<String>>>,
}

fn uris(text: &Text, name: &str) -> Vec<String> {
    let values = text.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
    values.flat_map(|(_, value)| value.split(',')).map(|value| uri_of(value.trim()).to_owned()).collect()
}

impl RouteSets {
    pub(super) fn on_arrival(&mut self, seen: &Seen<'_>) {
        let text = seen.text;
        let place = (seen.side, text.from_tag().to_owned());
        match (text.method(), text.code()) {
            ("INVITE", None) if text.to_tag().is_empty() => {
                self.asked.insert(place, uris(text, "Record-Route"));
            }
            ("INVITE", Some(200..=299)) if self.asks.contains(&place) => {
                let dialog = (seen.side, place.1, text.to_tag().to_owned());
                let nearest_first = || Some(uris(text, "Record-Route").into_iter().rev().collect());
                self.dialogs.entry(dialog).or_insert_with(nearest_first);
            }
            ("BYE", None) => self.on_bye(seen),
            _ => {}
        }
    }

    fn on_bye(&mut self, seen: &Seen<'_>) {
        let [own, other] = [seen.text.from_tag(), seen.text.to_tag()].map(str::to_owned);
        self.dialogs.insert((seen.side, own.clone(), other.clone()), None);
        self.dialogs.insert((seen.side, other, own), None);
    }

    /// Whether a request that the border sends takes the way that it must. True where there is more than one proxy on it.
    pub(super) fn on_sent(&mut self, seen: &Seen<'_>) -> Result<bool, Violation> {
        let text = seen.text;
        let (own, other) = (text.from_tag(), text.to_tag());
        match (text.method(), text.code()) {
            ("INVITE", Some(200..=299)) => {
                if let Some(recorded) = self.asked.get(&(seen.side, own.to_owned())) {
                    let dialog = (seen.side, other.to_owned(), own.to_owned());
                    self.dialogs.entry(dialog).or_insert_with(|| Some(recorded.clone()));
                }
            }
            ("INVITE", None) if other.is_empty() => {
                self.asks.insert((seen.side, own.to_owned()));
            }
            (method, None) => {
                let dialog = (seen.side, own.to_owned(), other.to_owned());
                let Some(Some(way)) = self.dialogs.get(&dialog) else { return Ok(false) };
                let taken = uris(text, "Route");
                if *way != taken {
                    let seen = format!("it goes by {taken:?} and must by {way:?}:\n{}", text.render());
                    return Err(Violation::of("a request takes the way that was recorded", seen, text));
                }
                let by_proxies = way.len() > 1;
                if method == "BYE" {
                    self.on_bye(seen);
                }
                return Ok(by_proxies);
            }
            _ => {}
        }
        Ok(false)
    }

    /// The dialogs are gone with the process.
    pub(super) fn on_restart(&mut self) {
        *self = Self::default();
    }
}
