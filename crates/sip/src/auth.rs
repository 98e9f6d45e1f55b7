//! Digest authentication (RFC 3261 §22, RFC 7616; RFC 2617 for challenges without `qop`).
//!
//! Answers challenges, reads credentials, and changes the `opaque` of either on its way through. Never
//! judges credentials: the PBX does. Never draws a nonce: what must be random is an argument. Understands
//! MD5 and SHA-256, each with `-sess`, with `qop=auth` or without `qop`.

mod challenge;
mod credentials;
mod rewrite;
mod scan;

pub use challenge::{Algorithm, Challenge, ChooseError, Qop, choose};
pub use credentials::{Authorization, Credentials};
pub use rewrite::{authorization_with, challenge_with};

/// Appends lower-case hexadecimal digits.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
}
