//! STUN: the plain Binding server, which answers whoever asks, and the plain Binding client.
//!
//! The server's side is our own code, because floods face it: no allocation, and a reply that is never
//! much longer than its request. The client's side goes through stun-rs, behind checks of what that leaves
//! to its caller. Never draws a transaction id, never sends SOFTWARE.
//! RFC 8489 §5, §6.3, §14; RFC 7983 (how STUN is told apart).

mod attributes;
mod binding;
mod client;

pub use binding::binding_reply;
pub use client::{binding_request, mapped_address};

/// The longest message that is looked at: no datagram of ours is fragmented below this.
pub const MESSAGE_MAX: usize = 1_280;

/// The first four bytes after type and length (RFC 8489 §5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

const HEADER_LEN: usize = 20;

/// Whether a datagram is STUN and nothing else that shares its port: two zero bits, the magic cookie, and a
/// length that is the datagram's.
pub fn is_stun(datagram: &[u8]) -> bool {
    match datagram {
        [first, _, high, low, a, b, c, d, ..] => {
            let len = HEADER_LEN + usize::from(u16::from_be_bytes([*high, *low]));
            first >> 6 == 0
                && [*a, *b, *c, *d] == MAGIC_COOKIE
                && len == datagram.len()
                && len.is_multiple_of(4)
        }
        _ => false,
    }
}
