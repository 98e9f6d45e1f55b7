//! Unguessable values from a seed that the shell drew: SHA-256 in counter mode.
//!
//! The same seed gives the same values, so a run replays; in production the seed comes from the operating
//! system's generator.

use sha2::{Digest, Sha256};

/// A stream of unguessable bytes.
pub(crate) struct Entropy {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Entropy {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0, block: [0; 32], used: 32 }
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(self.counter.to_be_bytes());
            self.block = hash.finalize().into();
            self.counter += 1;
            self.used = 0;
        }
        let byte = self.block[self.used];
        self.used += 1;
        byte
    }

    /// Fills an array.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// A number below `bound` (zero for a bound of zero). The bias is below 2^-32 for the small bounds we use.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        u64::from_be_bytes(self.bytes()).checked_rem(bound).unwrap_or(0)
    }

    /// A branch for a Via of ours (RFC 3261 §8.1.1.7), 96 unguessable bits.
    pub(crate) fn branch(&mut self) -> String {
        format!("z9hG4bK{}", crate::keys::base32(&self.bytes::<12>()))
    }

    /// A tag, or another word that must not be guessed: 80 bits.
    pub(crate) fn word(&mut self) -> String {
        crate::keys::base32(&self.bytes::<10>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_values_other_seed_others() {
        let mut a = Entropy::new([1; 32]);
        let mut b = Entropy::new([1; 32]);
        let mut c = Entropy::new([2; 32]);
        let (x, y, z) = (a.branch(), b.branch(), c.branch());
        assert_eq!(x, y);
        assert_ne!(x, z);
        assert_ne!(x, a.branch());
        assert!(a.below(10) < 10);
        assert_eq!(a.below(0), 0);
    }
}
