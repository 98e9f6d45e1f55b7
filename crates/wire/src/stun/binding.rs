//! The reply to a plain Binding request (RFC 8489 §6.3.1): where the request came from.
//!
//! Never authenticates, never keeps state, never allocates. Credentials in a request are looked over, as a
//! server without accounts does (RFC 8489 §6.3.1); so is every attribute whose type says that it may be.

use std::net::{IpAddr, SocketAddr};

use super::attributes::{FINGERPRINT, Survey, UNKNOWN_MAX, fingerprint};
use super::{HEADER_LEN, MAGIC_COOKIE, MESSAGE_MAX, is_stun};

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Class 4, number 20, and the words of RFC 8489 §14.8.
const ERROR_420: [u8; 21] = *b"\0\0\x04\x14Unknown Attribute";

/// Writes the reply to `request`, which came from `from`, and returns its length.
///
/// A Binding request is answered with where it came from, or, if it has an attribute that must be understood
/// and isn't, with 420. Anything else is answered by nothing. The reply has a FINGERPRINT if the request had.
pub fn binding_reply(request: &[u8], from: SocketAddr, out: &mut [u8; 64]) -> Option<usize> {
    if request.len() > MESSAGE_MAX || !is_stun(request) {
        return None;
    }
    let (header, _) = request.split_at_checked(HEADER_LEN)?;
    let transaction_id = header.last_chunk::<12>()?;
    let (message_type, _) = header.split_first_chunk::<2>()?;
    if u16::from_be_bytes(*message_type) != BINDING_REQUEST {
        return None;
    }
    let asked = Survey::of(request)?;
    let mut reply = Reply { out, len: HEADER_LEN };
    let reply_type = if asked.unknown().is_empty() {
        reply.xor_mapped_address(from, transaction_id)?;
        BINDING_SUCCESS
    } else {
        reply.unknown_attributes(asked.unknown())?;
        BINDING_ERROR
    };
    reply.finish(reply_type, transaction_id, asked.fingerprint)
}

/// A reply in the making.
struct Reply<'a> {
    out: &'a mut [u8; 64],
    len: usize,
}

impl Reply<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.out.get_mut(self.len..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    /// An attribute whose value is `value` and then zeros up to a multiple of four.
    fn attribute(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        self.put(&kind.to_be_bytes())?;
        self.put(&u16::try_from(value.len()).ok()?.to_be_bytes())?;
        self.put(value)?;
        let padding = value.len().next_multiple_of(4) - value.len();
        self.put([0; 3].get(..padding)?)
    }

    /// The address, masked so that no NAT on the way rewrites it (RFC 8489 §14.2).
    fn xor_mapped_address(&mut self, from: SocketAddr, transaction_id: &[u8; 12]) -> Option<()> {
        let mut mask = [0; 16];
        mask.first_chunk_mut::<4>()?.copy_from_slice(&MAGIC_COOKIE);
        mask.last_chunk_mut::<12>()?.copy_from_slice(transaction_id);
        let [port_high, port_low] = from.port().to_be_bytes();
        let [cookie_high, cookie_low, ..] = MAGIC_COOKIE;
        let port = [port_high ^ cookie_high, port_low ^ cookie_low];
        let mut value = [0; 20];
        let (family, len) = match from.ip().to_canonical() {
            IpAddr::V4(v4) => (1, masked(value.get_mut(4..8)?, &v4.octets(), &mask)),
            IpAddr::V6(v6) => (2, masked(value.get_mut(4..20)?, &v6.octets(), &mask)),
        };
        value.first_chunk_mut::<4>()?.copy_from_slice(&[0, family, port[0], port[1]]);
        self.attribute(XOR_MAPPED_ADDRESS, value.get(..4 + len)?)
    }

    fn unknown_attributes(&mut self, kinds: &[u16]) -> Option<()> {
        self.attribute(ERROR_CODE, &ERROR_420)?;
        let mut value = [0; UNKNOWN_MAX * 2];
        for (slot, kind) in value.chunks_exact_mut(2).zip(kinds) {
            slot.copy_from_slice(&kind.to_be_bytes());
        }
        self.attribute(UNKNOWN_ATTRIBUTES, value.get(..kinds.len() * 2)?)
    }

    fn finish(mut self, kind: u16, transaction_id: &[u8; 12], with_fingerprint: bool) -> Option<usize> {
        let total = self.len + if with_fingerprint { 8 } else { 0 };
        let end = std::mem::replace(&mut self.len, 0);
        self.put(&kind.to_be_bytes())?;
        self.put(&u16::try_from(total - HEADER_LEN).ok()?.to_be_bytes())?;
        self.put(&MAGIC_COOKIE)?;
        self.put(transaction_id)?;
        self.len = end;
        if with_fingerprint {
            let value = fingerprint(self.out.get(..end)?);
            self.attribute(FINGERPRINT, &value)?;
        }
        debug_assert_eq!(self.len, total);
        Some(self.len)
    }
}

/// Writes `address` under `mask` and returns its length.
fn masked(out: &mut [u8], address: &[u8], mask: &[u8; 16]) -> usize {
    for ((out, byte), mask) in out.iter_mut().zip(address).zip(mask) {
        *out = byte ^ mask;
    }
    address.len()
}
