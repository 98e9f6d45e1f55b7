//! What a UAS looks at before it does anything (RFC 3261 §8.2.2): the Request-URI, and the extensions that the
//! other side requires.
//!
//! Requests that cross are judged by the other side, which is who must understand their extensions: for them only
//! the Request-URI is read here.

use wire::sip::{HeaderName, Message, ParseErrorKind, Scheme, Uri, split_list};

use crate::Border;
use crate::answer::Ask;

/// The extensions that a REGISTER may require of us: flows (RFC 5626).
const OF_REGISTER: &[&str] = &["outbound"];

/// The refusal of a Request-URI that cannot be read: 416 for a scheme that we do not know, else 400.
pub(crate) fn uri_fault(uri: &str) -> Option<u16> {
    match Uri::parse(uri) {
        Ok(_) => None,
        Err(fault) if fault.kind == ParseErrorKind::UnknownScheme => Some(416),
        Err(_) => Some(400),
    }
}

/// The same for a REGISTER, whose URI is a domain (RFC 3261 §10.2).
fn register_uri_fault(uri: &str) -> Option<u16> {
    match Uri::parse(uri) {
        Ok(Uri { scheme: Scheme::Tel, .. }) => Some(416),
        _ => uri_fault(uri),
    }
}

/// The required extensions that are not among `supported`, as `Unsupported` lists them; none where Require
/// breaks the grammar.
fn unsupported(message: &Message<'_>, supported: &[&str]) -> Option<String> {
    let mut missing: Vec<&str> = Vec::new();
    for tag in message.values(HeaderName::Require).flat_map(split_list).map(str::trim) {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
        if tag.is_empty() || !tag.bytes().all(token) {
            return None;
        }
        if !supported.iter().any(|known| known.eq_ignore_ascii_case(tag)) {
            missing.push(tag);
        }
    }
    Some(missing.join(", "))
}

impl Border {
    /// Whether a REGISTER may be looked at further; else it has its answer, which is the same for everybody.
    pub(crate) fn register_passes(&mut self, ask: &Ask, message: &Message<'_>, uri: &str) -> bool {
        self.passes(ask, message, register_uri_fault(uri), OF_REGISTER)
    }

    /// The same for a request that is for ourselves and no registration.
    pub(crate) fn own_request_passes(&mut self, ask: &Ask, message: &Message<'_>, uri: &str) -> bool {
        self.passes(ask, message, uri_fault(uri), &[])
    }

    fn passes(
        &mut self,
        ask: &Ask,
        message: &Message<'_>,
        uri_fault: Option<u16>,
        supported: &[&str],
    ) -> bool {
        let missing = match (uri_fault, unsupported(message, supported)) {
            (None, Some(missing)) => missing,
            (fault, _) => {
                self.refuse(ask, fault.unwrap_or(400));
                return false;
            }
        };
        if !missing.is_empty() {
            self.answer(ask, 420, |writer| {
                writer.header("Unsupported", &missing);
            });
        }
        missing.is_empty()
    }
}
