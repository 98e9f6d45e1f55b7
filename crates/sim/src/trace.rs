//! A number over all that happened: two runs that give the same one did the same.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use wire::net::FlowId;

/// Odd, and without a pattern in its bits.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Takes in bytes and words, in order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trace(u64);

impl Trace {
    /// A number.
    pub(crate) fn number(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(FACTOR);
        self.0 = mixed ^ (mixed >> 32);
    }

    /// Bytes, and where they end.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (place, byte) in last.iter_mut().zip(rest) {
            *place = *byte;
        }
        self.number(u64::from_le_bytes(last));
        self.number(bytes.len() as u64);
    }

    /// An address.
    pub(crate) fn address(&mut self, of: SocketAddr) {
        match of.ip() {
            IpAddr::V4(ip) => self.number(u64::from(ip.to_bits()) << 16 | u64::from(of.port())),
            IpAddr::V6(_) => self.debug(&of),
        }
    }

    /// A message, and on which flow and with whom.
    pub(crate) fn message(&mut self, flow: FlowId, peer: SocketAddr, bytes: &[u8]) {
        self.number(flow.0);
        self.address(peer);
        self.bytes(bytes);
    }

    /// What anything shows of itself.
    pub(crate) fn debug(&mut self, of: &impl fmt::Debug) {
        fmt::write(self, format_args!("{of:?}")).unwrap_or_default();
    }

    /// The number so far.
    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&str]) -> u64 {
        let mut trace = Trace::default();
        parts.iter().for_each(|part| trace.bytes(part.as_bytes()));
        trace.value()
    }

    #[test]
    fn every_byte_and_every_end_counts() {
        let words = ["", "a", "b", "aaaaaaaa", "aaaaaaab", "baaaaaaa", "aaaaaaaab", "a\0"];
        for (place, one) in words.iter().enumerate() {
            for other in &words[..place] {
                assert_ne!(of(&[one]), of(&[other]), "{one:?} {other:?}");
            }
        }
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
    }
}
