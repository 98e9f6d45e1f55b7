//! URIs, addresses and parameters: written and read again the same, and read the same by rsip.
//!
//! What rsip reads otherwise, and why ours is right:
//! - it takes what stands before a `;` of the user part for the host (RFC 4475 §3.1.1.9);
//! - it sees no user part with a dot before the `@`, which RFC 3261 §25.1 allows (`mark`);
//! - it takes the host's port from the last colon, also within an IPv6 reference, so those are left out;
//! - it reads any scheme with `//`, so only sip and sips are compared.

use rsip::Uri as Theirs;
use wire::sip::{Host, Scheme, Uri};

use crate::sip_oracle;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    sip_oracle::read_value(text);
    if let Some(host) = Host::parse(text) {
        assert_eq!(Host::parse(&host.to_string()), Some(host));
    }
    let Ok(uri) = Uri::parse(text) else { return };
    let written = uri.to_string();
    assert_eq!(Uri::parse(&written), Ok(uri), "{text:?} is written {written:?}");
    assert!(written.eq_ignore_ascii_case(text) || matches!(uri.host, Host::Ip(_)) || uri.port.is_some());
    assert!(text.split('%').skip(1).all(is_escape), "a % that begins no escape: {text:?}");
    compare(text, &uri);
}

/// Whether what stands after a `%` begins with two hexadecimal digits.
fn is_escape(after: &str) -> bool {
    matches!(after.as_bytes(), [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

fn compare(text: &str, ours: &Uri<'_>) {
    let is_sip = matches!(ours.scheme, Scheme::Sip | Scheme::Sips);
    let is_odd = ours.user.into_iter().chain(ours.password).any(|part| part.contains(['.', ';', '?']));
    let is_misread = matches!(ours.host, Host::Ip(_)) || is_odd;
    if !is_sip || is_misread || ours.headers.is_some() {
        return;
    }
    let Ok(theirs) = Theirs::try_from(text) else { return };
    assert_eq!(theirs.user(), ours.user, "{text:?}");
    assert!(theirs.host().to_string().eq_ignore_ascii_case(&ours.host.to_string()), "{text:?}: {theirs:?}");
    assert_eq!(theirs.port().map(|port| *port.value()), ours.port, "{text:?}");
}
