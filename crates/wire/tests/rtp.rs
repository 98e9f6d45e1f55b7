//! RTP headers, and what is told apart on a media port.

mod seeded;

use wire::rtp::{Datagram, RtpHeader};
use wire::stun::binding_request;

use seeded::Seeded;

/// Version 2, marker, payload type 8, and 4 bytes of payload.
const PACKET: [u8; 16] = [0x80, 0x88, 0x12, 0x34, 0, 0, 0, 160, 0xDE, 0xAD, 0xBE, 0xEF, 1, 2, 3, 4];

fn header_len(change: impl Fn(&mut Vec<u8>)) -> Option<usize> {
    let mut packet = PACKET.to_vec();
    change(&mut packet);
    RtpHeader::parse(&packet).map(|header| header.header_len)
}

#[test]
fn a_header_is_read() {
    let expected = RtpHeader {
        marker: true,
        payload_type: 8,
        sequence: 0x1234,
        timestamp: 160,
        ssrc: 0xDEAD_BEEF,
        header_len: 12,
    };
    assert_eq!(RtpHeader::parse(&PACKET), Some(expected));
    let without = [0x80, 0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1];
    let header = RtpHeader::parse(&without).expect("whole");
    assert_eq!((header.marker, header.sequence, header.timestamp, header.ssrc), (false, 0xFFFF, u32::MAX, 1));
}

#[test]
fn a_header_must_hold_together() {
    assert_eq!(header_len(|packet| packet.truncate(12)), Some(12), "no payload");
    assert_eq!(header_len(|packet| packet.truncate(11)), None, "short");
    assert_eq!(header_len(|packet| packet[0] = 0x40), None, "version 1");
    assert_eq!(header_len(|packet| packet[0] = 0xC0), None, "version 3");
    assert_eq!(header_len(|packet| packet[0] = 0x81), Some(16), "one contributor");
    assert_eq!(header_len(|packet| packet[0] = 0x82), None, "more contributors than bytes");
    let extended = |words: u8| {
        move |packet: &mut Vec<u8>| {
            packet[0] = 0x91;
            packet.extend_from_slice(&[0xBE, 0xDE, 0, words, 9, 9, 9, 9]);
        }
    };
    assert_eq!(header_len(extended(0)), Some(20), "an empty extension behind a contributor");
    assert_eq!(header_len(extended(1)), Some(24));
    assert_eq!(header_len(extended(2)), None, "an extension beyond");
    assert_eq!(
        header_len(|packet| {
            packet[0] = 0x90;
            packet.truncate(15)
        }),
        None,
        "half an extension"
    );
    assert_eq!(header_len(|packet| packet[0] = 0xA0), Some(12), "padding is the whole payload");
    assert_eq!(
        header_len(|packet| {
            packet[0] = 0xA0;
            packet[15] = 5
        }),
        None,
        "padding beyond"
    );
    assert_eq!(
        header_len(|packet| {
            packet[0] = 0xA0;
            packet[15] = 0
        }),
        None,
        "padding of nothing"
    );
    assert_eq!(
        header_len(|packet| {
            packet[0] = 0xA0;
            packet.truncate(12)
        }),
        None,
        "padding of no payload"
    );
}

#[test]
fn datagrams_are_told_apart() {
    let first = |byte: u8, len: usize| {
        let mut datagram = vec![0; len];
        datagram[0] = byte;
        datagram
    };
    let rtp = |kind: u8| {
        let mut packet = PACKET.to_vec();
        packet[1] = kind;
        packet
    };
    for (what, datagram, expected) in [
        ("nothing", Vec::new(), Datagram::Other),
        ("a STUN request", binding_request(*b"transaction!").to_vec(), Datagram::Stun),
        ("no STUN without its cookie", first(0, 20), Datagram::Other),
        ("ZRTP", first(16, 20), Datagram::Other),
        ("the lowest DTLS", first(20, 13), Datagram::Dtls),
        ("the highest DTLS", first(63, 13), Datagram::Dtls),
        ("TURN", first(64, 20), Datagram::Other),
        ("below RTP", first(127, 20), Datagram::Other),
        ("PCMU", rtp(0), Datagram::Rtp),
        ("a dynamic type with marker", rtp(0x80 | 96), Datagram::Rtp),
        ("type 63 with marker", rtp(191), Datagram::Rtp),
        ("the lowest RTCP", rtp(192), Datagram::Rtcp),
        ("a sender report", rtp(200), Datagram::Rtcp),
        ("the highest RTCP", rtp(223), Datagram::Rtcp),
        ("above RTCP", rtp(224), Datagram::Rtp),
        ("RTCP without a report", vec![0x80, 203, 0, 0], Datagram::Rtcp),
        ("half an RTCP header", vec![0x80, 203, 0], Datagram::Other),
        ("half an RTP header", first(128, 11), Datagram::Other),
        ("above RTP", first(192, 20), Datagram::Other),
    ] {
        assert_eq!(Datagram::classify(&datagram), expected, "{what}");
    }
}

#[test]
fn no_bytes_make_a_header_longer_than_its_packet() {
    for seed in 0..100_000 {
        let mut seeded = Seeded(seed);
        let len = seeded.below(64);
        let mut packet: Vec<u8> = (0..len).map(|_| seeded.below(256) as u8).collect();
        if let Some(first) = packet.first_mut() {
            *first = 0x80 | (*first & 0x3F);
        }
        let header = RtpHeader::parse(&packet);
        assert!(header.is_none_or(|header| (12..=len).contains(&header.header_len)), "seed {seed}");
        if header.is_some() {
            assert!(matches!(Datagram::classify(&packet), Datagram::Rtp | Datagram::Rtcp), "seed {seed}");
        }
    }
}
