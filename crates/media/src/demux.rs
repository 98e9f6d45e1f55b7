//! What a datagram is, by its first bytes and the port it came to (RFC 7983 §7, RFC 5761 §4).
//! Never keeps state and never looks at who sent it.

use wire::rtp::{Datagram, RtpHeader};

use crate::{DropReason, Payload};

/// The shortest RTCP packet: a header and one SSRC (an empty receiver report).
const RTCP_MIN: usize = 8;
/// The fixed part of an RTP header.
const RTP_MIN: usize = RtpHeader::LEN_MIN;
/// The header of a DTLS record (RFC 6347 §4.1).
const DTLS_MIN: usize = 13;

/// The lower or the upper port of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Rtp,
    Rtcp,
}

/// What may pass, and what of it tells one sender from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rtp {
        ssrc: u32,
    },
    Rtcp {
        ssrc: u32,
    },
    /// Relayed between peers that are known already, on the port it came to.
    Dtls,
    /// No RTP at all.
    Datagram,
}

/// Names the datagram, or says why nothing of its kind passes here.
pub(crate) fn demux(payload: Payload, channel: Channel, mux: bool, bytes: &[u8]) -> Result<Kind, DropReason> {
    if bytes.is_empty() {
        return Err(DropReason::TooShort);
    }
    let class = Datagram::classify(bytes);
    if class == Datagram::Stun {
        return Err(DropReason::Stun);
    }
    match payload {
        Payload::Datagram if channel == Channel::Rtp => Ok(Kind::Datagram),
        Payload::Datagram => Err(DropReason::WrongPort),
        Payload::Rtp => demux_rtp(class, channel, mux, bytes),
    }
}

fn demux_rtp(class: Datagram, channel: Channel, mux: bool, bytes: &[u8]) -> Result<Kind, DropReason> {
    match class {
        Datagram::Rtp => rtp(channel, bytes),
        Datagram::Rtcp if channel == Channel::Rtcp || mux => rtcp(bytes),
        // not multiplexed: only the real RTCP packet types are RTCP, the rest of the range are RTP
        // payload types 64 to 95 with the marker bit
        Datagram::Rtcp if is_rtcp_type(bytes) => Err(DropReason::WrongPort),
        Datagram::Rtcp => rtp(channel, bytes),
        Datagram::Dtls if bytes.len() < DTLS_MIN => Err(DropReason::TooShort),
        Datagram::Dtls => Ok(Kind::Dtls),
        Datagram::Stun => Err(DropReason::Stun),
        Datagram::Other if bytes.len() < RTP_MIN => Err(DropReason::TooShort),
        Datagram::Other => Err(DropReason::NotRtp),
    }
}

fn rtp(channel: Channel, bytes: &[u8]) -> Result<Kind, DropReason> {
    if bytes.len() < RTP_MIN {
        return Err(DropReason::TooShort);
    }
    if channel == Channel::Rtcp {
        return Err(DropReason::WrongPort);
    }
    match ssrc(bytes) {
        Some(ssrc) => Ok(Kind::Rtp { ssrc }),
        None => Err(DropReason::NotRtp),
    }
}

/// The stream of an RTP packet whose contributors and extension lie within it. `RtpHeader::parse` asks for
/// more: its padding too must fit, but SRTP encrypts that (RFC 3711 §3.1), so here its length is unreadable.
fn ssrc(bytes: &[u8]) -> Option<u32> {
    let (&[flags, _, _, _, _, _, _, _, a, b, c, d], rest) = bytes.split_first_chunk::<RTP_MIN>()?;
    let extension = rest.get(usize::from(flags & 0x0F) * 4..)?;
    if flags & 0x10 != 0 {
        let (&[_, _, high, low], words) = extension.split_first_chunk::<4>()?;
        words.get(usize::from(u16::from_be_bytes([high, low])) * 4..)?;
    }
    Some(u32::from_be_bytes([a, b, c, d]))
}

fn rtcp(bytes: &[u8]) -> Result<Kind, DropReason> {
    match bytes {
        [_, _, _, _, a, b, c, d, ..] => Ok(Kind::Rtcp { ssrc: u32::from_be_bytes([*a, *b, *c, *d]) }),
        _ => {
            debug_assert!(bytes.len() < RTCP_MIN);
            Err(DropReason::TooShort)
        }
    }
}

/// SR 200 to XR 207 (RFC 3550 §12.1, RFC 4585 §6.1, RFC 3611 §2).
fn is_rtcp_type(bytes: &[u8]) -> bool {
    matches!(bytes, [_, 200..=207, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, second: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, value) in [(0, first), (1, second), (7, 9), (11, 5)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes
    }

    #[test]
    fn by_first_byte_port_and_mux() {
        use Channel::{Rtcp as C, Rtp as R};
        use DropReason::*;
        let rtp = Ok(Kind::Rtp { ssrc: 5 });
        let rtcp = Ok(Kind::Rtcp { ssrc: 9 });
        let (r, d) = (Payload::Rtp, Payload::Datagram);
        for (payload, channel, mux, bytes, expect) in [
            (r, R, false, packet(0x80, 0, 172), rtp),
            (r, R, true, packet(0x80, 0, 172), rtp),
            (r, R, false, packet(0x80, 0x80, 12), rtp),
            (r, R, false, packet(0x80, 0, 11), Err(TooShort)),
            // four CSRCs that are not there; an extension that is not there
            (r, R, false, packet(0x84, 0, 12), Err(NotRtp)),
            (r, R, false, packet(0x90, 0, 12), Err(NotRtp)),
            (r, R, false, packet(0x81, 0, 16), rtp),
            (r, R, false, packet(0x90, 0, 16), rtp),
            // padding of SRTP is encrypted: its length says nothing
            (r, R, false, packet(0xa0, 0, 40), rtp),
            (r, C, false, packet(0x80, 0, 172), Err(WrongPort)),
            (r, R, false, packet(0x80, 200, 28), Err(WrongPort)),
            (r, R, false, packet(0x80, 207, 28), Err(WrongPort)),
            // payload type 70 with the marker bit, on a port that is not multiplexed
            (r, R, false, packet(0x80, 198, 28), rtp),
            (r, R, true, packet(0x80, 200, 28), rtcp),
            (r, C, false, packet(0x80, 200, 28), rtcp),
            (r, C, true, packet(0x80, 201, 8), rtcp),
            (r, C, false, packet(0x80, 201, 7), Err(TooShort)),
            (r, R, false, packet(22, 254, 60), Ok(Kind::Dtls)),
            (r, C, false, packet(22, 254, 60), Ok(Kind::Dtls)),
            (r, R, false, packet(22, 254, 12), Err(TooShort)),
            (r, R, false, packet(0, 0, 4), Err(TooShort)),
            (r, R, false, packet(0, 0, 0), Err(TooShort)),
            (r, R, false, packet(0x10, 0, 60), Err(NotRtp)),
            (r, R, false, packet(0xc0, 0, 60), Err(NotRtp)),
            (d, R, false, packet(0xc0, 0, 60), Ok(Kind::Datagram)),
            (d, R, false, packet(0x80, 0, 3), Ok(Kind::Datagram)),
            (d, R, false, packet(0, 0, 0), Err(TooShort)),
            (d, C, false, packet(0x80, 200, 28), Err(WrongPort)),
        ] {
            let shown = (payload, channel, mux, bytes.get(..2).map(<[u8]>::to_vec), bytes.len());
            assert_eq!(demux(payload, channel, mux, &bytes), expect, "{shown:?}");
        }
    }

    #[test]
    fn stun_never_passes() {
        let mut binding = vec![0; 20];
        binding[1] = 1;
        binding[4..8].copy_from_slice(&0x2112_A442_u32.to_be_bytes());
        for payload in [Payload::Rtp, Payload::Datagram] {
            for channel in [Channel::Rtp, Channel::Rtcp] {
                assert_eq!(demux(payload, channel, true, &binding), Err(DropReason::Stun));
            }
        }
    }
}
