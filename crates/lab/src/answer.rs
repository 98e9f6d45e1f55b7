//! What a phone reads of a final answer (RFC 3261 §20).

use std::fmt;

use rsip::headers::UntypedHeader;
use rsip::message::HasHeaders;
use rsip::{Header, Response};

use crate::message;

/// A final answer to a request of a phone's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// The text of its Warning.
    pub warning: Option<String>,
    /// The expiry that a registrar granted, in seconds: as it stands at our contact, or in Expires.
    pub expires: Option<String>,
    /// After how many seconds to come again.
    pub retry_after: Option<String>,
}

impl From<&Response> for Answer {
    fn from(response: &Response) -> Self {
        let first = |pick| message::values(response.headers(), pick).first().copied();
        let at_contact = first(message::contact).and_then(|contact| message::parameter(contact, "expires"));
        Self {
            status: response.status_code.code(),
            warning: first(message::warning).map(str::to_owned),
            expires: at_contact.or_else(|| expires(response)).map(str::to_owned),
            retry_after: first(message::retry_after).map(str::to_owned),
        }
    }
}

fn expires(response: &Response) -> Option<&str> {
    response.headers().iter().find_map(|header| match header {
        Header::Expires(value) => Some(value.value()),
        _ => None,
    })
}

/// Status and warning, as a person says it.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, warning, .. } = self;
        match warning {
            Some(warning) => write!(f, "{status} ({warning})"),
            None => write!(f, "{status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rsip::SipMessage;

    use super::*;

    fn read(headers: &str) -> Answer {
        let text = format!("SIP/2.0 200 OK\r\nCall-ID: c\r\n{headers}\r\n");
        let Ok(SipMessage::Response(response)) = message::decode(text.as_bytes()) else { panic!("{text}") };
        Answer::from(&response)
    }

    #[test]
    fn a_contact_tells_the_expiry_before_the_header_does() {
        let both = read("Contact: <sip:a@b;expires=5>;expires=90\r\nExpires: 60\r\n");
        assert_eq!(both.expires.as_deref(), Some("90"));
        assert_eq!(read("Contact: <sip:a@b>\r\nExpires: 60\r\n").expires.as_deref(), Some("60"));
        assert_eq!(read("").expires, None);
    }

    #[test]
    fn a_person_hears_the_warning_too() {
        let refused = read("Warning: 399 host \"why\"\r\nRetry-After: 7\r\n");
        assert_eq!(refused.to_string(), "200 (399 host \"why\")");
        assert_eq!(refused.retry_after.as_deref(), Some("7"));
        assert_eq!(read("").to_string(), "200");
    }
}
