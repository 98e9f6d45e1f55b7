//! RTP: the fixed header, and what else may come on an RTP port.
//!
//! Never looks into a payload. RFC 3550 §5.1, RFC 7983 §7 (first byte), RFC 5761 §4 (RTCP on the same port).

use crate::stun;

/// The fields of a packet that a relay looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// The first packet of a talkspurt, or what the profile says.
    pub marker: bool,
    /// What is in it; 0 to 127.
    pub payload_type: u8,
    /// One more for each packet of the stream.
    pub sequence: u16,
    /// When it was sampled.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: u32,
    /// Where the payload begins: after contributors and extension.
    pub header_len: usize,
}

impl RtpHeader {
    /// The length of a header without contributors and extension.
    pub const LEN_MIN: usize = 12;

    /// Reads the header of a packet; none where the version is not 2, or where contributors, extension or
    /// padding would reach beyond it.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (&[flags, kind, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3], rest) =
            packet.split_first_chunk::<{ Self::LEN_MIN }>()?;
        if flags >> 6 != 2 {
            return None;
        }
        let contributors = usize::from(flags & 0x0F) * 4;
        let extension = if flags & 0x10 == 0 { 0 } else { extension_len(rest.get(contributors..)?)? };
        let payload = rest.get(contributors + extension..)?;
        let has_padding = flags & 0x20 != 0;
        if has_padding && !payload.last().is_some_and(|len| (1..=payload.len()).contains(&usize::from(*len)))
        {
            return None;
        }
        Some(Self {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            header_len: Self::LEN_MIN + contributors + extension,
        })
    }
}

/// The length of a header extension with its own header (RFC 3550 §5.3.1).
fn extension_len(bytes: &[u8]) -> Option<usize> {
    let (&[_, _, high, low], _) = bytes.split_first_chunk::<4>()?;
    Some(4 + usize::from(u16::from_be_bytes([high, low])) * 4)
}

/// What a datagram on a media port is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datagram {
    /// STUN: keepalives and ICE checks.
    Stun,
    /// DTLS: the handshake of DTLS-SRTP.
    Dtls,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
    /// None of these, or too short for what it claims to be.
    Other,
}

impl Datagram {
    /// Tells what `datagram` is. Whether an RTP header holds together is for [`RtpHeader::parse`].
    pub fn classify(datagram: &[u8]) -> Self {
        match datagram {
            [0..=3, ..] if stun::is_stun(datagram) => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [128..=191, 192..=223, _, _, ..] => Self::Rtcp,
            [128..=191, 0..=191 | 224..=255, ..] if datagram.len() >= RtpHeader::LEN_MIN => Self::Rtp,
            _ => Self::Other,
        }
    }
}
