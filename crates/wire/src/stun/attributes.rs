//! The attributes of a STUN message, looked over without being kept (RFC 8489 §14).
//!
//! Never allocates, never checks integrity: there is no account here whose key it could take.

use super::HEADER_LEN;

pub(super) const FINGERPRINT: u16 = 0x8028;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;

/// Attributes of RFC 8489 whose understanding a peer may demand. Those that make no sense in a message are
/// looked over there (§14).
const KNOWN: [u16; 11] = [
    0x0001, // MAPPED-ADDRESS
    0x0006, // USERNAME
    MESSAGE_INTEGRITY,
    0x0009, // ERROR-CODE
    0x000A, // UNKNOWN-ATTRIBUTES
    0x0014, // REALM
    0x0015, // NONCE
    MESSAGE_INTEGRITY_SHA256,
    0x001D, // PASSWORD-ALGORITHM
    0x001E, // USERHASH
    0x0020, // XOR-MAPPED-ADDRESS
];

/// From here on, types may be looked over by who does not know them.
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// How many unknown types are noted: what fits into the buffer of a reply.
pub(super) const UNKNOWN_MAX: usize = 2;

/// What a look over all attributes of a message shows.
#[derive(Default)]
pub(super) struct Survey {
    /// Whether it ends with a FINGERPRINT, and the right one.
    pub(super) fingerprint: bool,
    unknown: [u16; UNKNOWN_MAX],
    unknown_count: usize,
}

impl Survey {
    /// None where the attributes do not fill the message, or its FINGERPRINT is wrong.
    pub(super) fn of(message: &[u8]) -> Option<Self> {
        let mut survey = Self::default();
        let mut sealed = false;
        let mut rest = message.get(HEADER_LEN..)?;
        while !rest.is_empty() {
            let (attribute, after) = Attribute::split(rest)?;
            if attribute.kind == FINGERPRINT {
                let covered = message.len().checked_sub(rest.len()).and_then(|at| message.get(..at))?;
                // It is the last attribute, or the message is none of STUN.
                let right = attribute.value == fingerprint(covered).as_slice() && after.is_empty();
                return right.then_some(Self { fingerprint: true, ..survey });
            }
            // What follows an integrity attribute does not count (RFC 8489 §14.5, §14.6).
            sealed |= matches!(attribute.kind, MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256);
            if !sealed && attribute.kind < COMPREHENSION_OPTIONAL && !KNOWN.contains(&attribute.kind) {
                survey.note_unknown(attribute.kind);
            }
            rest = after;
        }
        Some(survey)
    }

    fn note_unknown(&mut self, kind: u16) {
        let noted = self.unknown().contains(&kind);
        if let Some(slot) = self.unknown.get_mut(self.unknown_count).filter(|_| !noted) {
            *slot = kind;
            self.unknown_count += 1;
        }
    }

    /// Types that must be understood and are not; the first of them.
    pub(super) fn unknown(&self) -> &[u16] {
        self.unknown.get(..self.unknown_count).unwrap_or(&[])
    }
}

struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The first attribute, and what follows it and its padding.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (kind, rest) = bytes.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes(*len));
        let value = rest.get(..len)?;
        let after = rest.get(len.next_multiple_of(4)..)?;
        Some((Self { kind: u16::from_be_bytes(*kind), value }, after))
    }
}

/// The value of FINGERPRINT after `message` (RFC 8489 §14.7).
pub(super) fn fingerprint(message: &[u8]) -> [u8; 4] {
    (crc32(message) ^ 0x5354_554E).to_be_bytes()
}

/// CRC-32 of ITU-T V.42, four bits at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 4) ^ CRC_TABLE.get((crc & 0xF) as usize).copied().unwrap_or(0);
    !bytes.iter().fold(u32::MAX, |crc, byte| step(step(crc ^ u32::from(*byte))))
}

const CRC_TABLE: [u32; 16] = [
    0x0000_0000,
    0x1DB7_1064,
    0x3B6E_20C8,
    0x26D9_30AC,
    0x76DC_4190,
    0x6B6B_51F4,
    0x4DB2_6158,
    0x5005_713C,
    0xEDB8_8320,
    0xF00F_9344,
    0xD6D6_A3E8,
    0xCB61_B38C,
    0x9B64_C2B0,
    0x86D3_D2D4,
    0xA00A_E278,
    0xBDBD_F21C,
];
