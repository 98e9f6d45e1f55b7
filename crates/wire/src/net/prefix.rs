//! Networks ([`Prefix`]) and sets of them ([`PrefixSet`]): the form in which the block list and the allow
//! list are tested before everything else.
//!
//! A v4-mapped IPv6 address (`::ffff:198.51.100.7`, RFC 4291 §2.5.5.2) is the IPv4 address everywhere here,
//! so that no source can choose under which of its two names it is looked up. Never allocates in a lookup.
//! Textual form: RFC 4632 §3.1, RFC 4291 §2.3.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: an address whose host bits are zero, and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// The network of `addr` with `len` leading bits; none where the address has fewer bits than that.
    ///
    /// Host bits are cleared. A v4-mapped address with at least 96 bits becomes the IPv4 network.
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        match addr {
            IpAddr::V4(v4) => Self::v4(v4, len),
            IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), len.checked_sub(96)) {
                (Some(v4), Some(v4_len)) => Self::v4(v4, v4_len),
                _ => Self::v6(v6, len),
            },
        }
    }

    /// The network that holds `addr` alone.
    pub fn single(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(v4) => Self { addr: IpAddr::V4(v4), len: 32 },
            IpAddr::V6(v6) => Self { addr: IpAddr::V6(v6), len: 128 },
        }
    }

    /// The first address of the network.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// How many leading bits count.
    #[expect(clippy::len_without_is_empty, reason = "a length in bits; no network is empty")]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether the network holds one address only.
    pub fn is_single(&self) -> bool {
        self.len == if self.addr.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `addr` lies in the network.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(v4)) => net.to_bits() == v4.to_bits() & v4_mask(self.len),
            (IpAddr::V6(net), IpAddr::V6(v6)) => net.to_bits() == v6.to_bits() & v6_mask(self.len),
            _ => false,
        }
    }

    /// Whether every address of `other` lies in this network.
    pub fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }

    /// Whether some address lies in both networks.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    fn v4(addr: Ipv4Addr, len: u8) -> Option<Self> {
        (len <= 32).then(|| Self { addr: Ipv4Addr::from_bits(addr.to_bits() & v4_mask(len)).into(), len })
    }

    fn v6(addr: Ipv6Addr, len: u8) -> Option<Self> {
        (len <= 128).then(|| Self { addr: Ipv6Addr::from_bits(addr.to_bits() & v6_mask(len)).into(), len })
    }
}

/// The leading `len` bits of an IPv4 address.
fn v4_mask(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0)
}

/// The leading `len` bits of an IPv6 address.
fn v6_mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0)
}

impl From<IpAddr> for Prefix {
    fn from(addr: IpAddr) -> Self {
        Self::single(addr)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() { write!(f, "{}", self.addr) } else { write!(f, "{}/{}", self.addr, self.len) }
    }
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// What stands before the slash, or the whole, is no IP address.
    #[error("not an IP address")]
    Address,
    /// What stands after the slash is no number, or more than the address has bits.
    #[error("not a network length: 0 to 32 for IPv4, 0 to 128 for IPv6")]
    Length,
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let Some((addr, len)) = text.split_once('/') else {
            return text.parse().map(Self::single).map_err(|_| PrefixError::Address);
        };
        let addr: IpAddr = addr.parse().map_err(|_| PrefixError::Address)?;
        // `u8::from_str` alone would take "+24".
        if !len.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PrefixError::Length);
        }
        len.parse().ok().and_then(|len| Self::new(addr, len)).ok_or(PrefixError::Length)
    }
}

/// A set of addresses, given as networks: sorted ranges that neither overlap nor touch, IPv4 and IPv6 apart.
///
/// It is built whole and then only read: 8 or 32 bytes for each range, one binary search for each question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixSet {
    v4: Vec<Range<u32>>,
    v6: Vec<Range<u128>>,
}

impl PrefixSet {
    /// The addresses of all these networks together.
    pub fn from_prefixes(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix.addr {
                IpAddr::V4(net) => {
                    let first = net.to_bits();
                    v4.push(Range { first, last: first | !v4_mask(prefix.len) });
                }
                IpAddr::V6(net) => {
                    let first = net.to_bits();
                    v6.push(Range { first, last: first | !v6_mask(prefix.len) });
                }
            }
        }
        Self { v4: merged(v4), v6: merged(v6) }
    }

    /// Whether `addr` is in the set; a v4-mapped address is looked up as IPv4.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr.to_canonical() {
            IpAddr::V4(v4) => holds(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => holds(&self.v6, v6.to_bits()),
        }
    }

    /// Whether every address of `prefix` is in the set.
    pub fn covers(&self, prefix: &Prefix) -> bool {
        Self::from_prefixes([*prefix]).without(self).is_empty()
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The addresses of both sets together.
    pub fn union(&self, other: &Self) -> Self {
        let v4 = [self.v4.as_slice(), &other.v4].concat();
        let v6 = [self.v6.as_slice(), &other.v6].concat();
        Self { v4: merged(v4), v6: merged(v6) }
    }

    /// The addresses of this set that are not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        Self { v4: difference(&self.v4, &other.v4), v6: difference(&self.v6, &other.v6) }
    }
}

impl FromIterator<Prefix> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        Self::from_prefixes(prefixes)
    }
}

/// An address as a number that has neighbours.
trait Bits: Copy + Ord {
    fn next(self) -> Option<Self>;
    fn previous(self) -> Option<Self>;
}

impl Bits for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Bits for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

/// From `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range<T> {
    first: T,
    last: T,
}

fn merged<T: Bits>(mut ranges: Vec<Range<T>>) -> Vec<Range<T>> {
    // The stable sort takes runs as they are, so that a union costs little more than a copy.
    ranges.sort();
    ranges.dedup_by(|later, kept| {
        let joins = kept.last.next().is_none_or(|next| later.first <= next);
        if joins {
            kept.last = kept.last.max(later.last);
        }
        joins
    });
    ranges.shrink_to_fit();
    ranges
}

fn holds<T: Bits>(ranges: &[Range<T>], addr: T) -> bool {
    let after = ranges.partition_point(|range| range.first <= addr);
    after.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|range| addr <= range.last)
}

/// What of `ranges` lies in none of `holes`; both are merged, and so is the result.
fn difference<T: Bits>(ranges: &[Range<T>], holes: &[Range<T>]) -> Vec<Range<T>> {
    let mut left = Vec::new();
    let mut holes = holes.iter().peekable();
    for range in ranges {
        let mut first = Some(range.first);
        while holes.next_if(|hole| hole.last < range.first).is_some() {}
        // A hole may reach into the next range, so it is only passed when it ends before that begins.
        let mut ahead = holes.clone();
        while let (Some(from), Some(hole)) = (first, ahead.next_if(|hole| hole.first <= range.last)) {
            if let Some(last) = hole.first.previous().filter(|last| from <= *last) {
                left.push(Range { first: from, last });
            }
            first = hole.last.next();
        }
        if let Some(first) = first.filter(|first| *first <= range.last) {
            left.push(Range { first, last: range.last });
        }
    }
    left
}
