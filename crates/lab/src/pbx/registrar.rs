//! The PBX's registrar (RFC 3261 §10.3): who is reached where, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use rsip::headers::UntypedHeader;
use rsip::message::HasHeaders;
use rsip::{Header, Request, Response};
use tokio::time::Instant;

use super::exchange::Exchange;
use super::journal::Contact;
use crate::message::{self, answer, parameter, uri_of, values};

/// Where a request names no time.
const EXPIRES_DEFAULT: Duration = Duration::from_secs(3600);

/// Contacts of one extension at once.
const CONTACTS_MAX: usize = 10;

/// The bindings of all extensions.
#[derive(Debug, Default)]
pub(crate) struct Registrar(BTreeMap<String, Vec<Binding>>);

#[derive(Clone, Debug)]
struct Binding {
    uri: String,
    until: Instant,
}

impl Registrar {
    /// Where an extension is reached, newest first.
    pub(crate) fn contacts(&self, number: &str, now: Instant) -> impl Iterator<Item = &str> {
        self.bindings(number, now).map(|binding| binding.uri.as_str())
    }

    fn bindings(&self, number: &str, now: Instant) -> impl Iterator<Item = &Binding> {
        let bindings = self.0.get(number).into_iter().flatten().rev();
        bindings.filter(move |binding| binding.until > now)
    }

    /// Puts a contact in, or takes it out with no time.
    fn bind(&mut self, number: &str, uri: &str, time: Duration, now: Instant) {
        let bindings = self.0.entry(number.to_owned()).or_default();
        bindings.retain(|binding| binding.uri != uri && binding.until > now);
        if !time.is_zero() {
            if bindings.len() == CONTACTS_MAX {
                bindings.remove(0);
            }
            bindings.push(Binding { uri: uri.to_owned(), until: now + time });
        }
    }

    fn clear(&mut self, number: &str) {
        self.0.remove(number);
    }
}

impl Exchange {
    /// Answers a REGISTER: a binding, several, none (a question), or an end.
    pub(super) fn on_register(&mut self, request: &Request, now: Instant) -> Response {
        let user = match self.prove(request, false) {
            Ok(user) => user,
            Err(challenge) => return challenge,
        };
        let named = message::parse_uri(uri_of(message::to(request)));
        let Some(number) = named.ok().and_then(|uri| uri.user().map(str::to_owned)) else {
            return answer(request, (400, "Bad Request"), &self.tag);
        };
        if user != number {
            return answer(request, (403, "Forbidden"), &self.tag);
        }
        let common = seconds(request.headers().iter().find_map(|header| match header {
            Header::Expires(value) => Some(value.value()),
            _ => None,
        }));
        for contact in values(request.headers(), message::contact) {
            if contact == "*" {
                self.registrar.clear(&number);
                continue;
            }
            let time = seconds(parameter(contact, "expires")).or(common).unwrap_or(EXPIRES_DEFAULT);
            self.registrar.bind(&number, uri_of(contact), time, now);
        }
        self.note_contacts(&number, now);
        let mut response = answer(request, (200, "OK"), &self.tag);
        for binding in self.registrar.bindings(&number, now) {
            let left = binding.until.saturating_duration_since(now).as_secs();
            response.headers.push(Header::Contact(format!("<{}>;expires={left}", binding.uri).into()));
        }
        response
    }

    fn note_contacts(&mut self, number: &str, now: Instant) {
        let contacts: Vec<Contact> = self.registrar.contacts(number, now).map(contact).collect();
        if contacts.is_empty() {
            self.journal.contacts.remove(number);
        } else {
            self.journal.contacts.insert(number.to_owned(), contacts);
        }
    }
}

fn contact(uri: &str) -> Contact {
    let host = message::parse_uri(uri).map(|uri| uri.host().to_string());
    Contact { uri: uri.to_owned(), host: host.unwrap_or_default() }
}

fn seconds(text: Option<&str>) -> Option<Duration> {
    text?.trim().parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}
