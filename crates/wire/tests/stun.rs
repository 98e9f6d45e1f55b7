//! STUN: the Binding server against stun-rs and the vectors of RFC 5769, and the client against both.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod seeded;

use std::net::SocketAddr;

use stun_rs::attributes::stun::{ErrorCode, Fingerprint, UnknownAttributes, UserName, XorMappedAddress};
use stun_rs::methods::BINDING;
use stun_rs::{
    DecoderContextBuilder, MessageClass, MessageDecoderBuilder, MessageEncoderBuilder, StunMessage,
    StunMessageBuilder, TransactionId,
};
use wire::stun::{MESSAGE_MAX, binding_reply, binding_request, is_stun, mapped_address};

use seeded::Seeded;

const ID: [u8; 12] = *b"transaction!";

/// RFC 5769 §2.1: a Binding request of an ICE agent.
const RFC5769_REQUEST: [u8; 108] = [
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
    0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20,
    0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00,
    0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a,
    0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf,
    0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28,
    0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
];

/// RFC 5769 §2.2: a response with an IPv4 address.
const RFC5769_IPV4: [u8; 80] = [
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
    0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f,
    0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43, 0x00, 0x08, 0x00,
    0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53,
    0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96,
];

/// RFC 5769 §2.3: a response with an IPv6 address.
const RFC5769_IPV6: [u8; 92] = [
    0x01, 0x01, 0x00, 0x48, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
    0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f,
    0x72, 0x20, 0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1,
    0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9, 0x00, 0x08, 0x00, 0x14, 0xa3, 0x82, 0x95, 0x4e,
    0x4b, 0xe6, 0x7b, 0xf1, 0x17, 0x84, 0xc9, 0x7c, 0x82, 0x92, 0xc2, 0x75, 0xbf, 0xe3, 0xed, 0x41, 0x80,
    0x28, 0x00, 0x04, 0xc8, 0xfb, 0x0b, 0x4c,
];

const RFC5769_ID: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

fn reply(request: &[u8], from: &str) -> Option<Vec<u8>> {
    let mut out = [0xEE; 64];
    let len = binding_reply(request, from.parse().unwrap(), &mut out)?;
    assert!(out[len..].iter().all(|byte| *byte == 0xEE), "nothing is written behind the reply");
    Some(out[..len].to_vec())
}

fn decode(message: &[u8]) -> StunMessage {
    let context = DecoderContextBuilder::default().with_validation().build();
    let (decoded, size) =
        MessageDecoderBuilder::default().with_context(context).build().decode(message).unwrap();
    assert_eq!(size, message.len());
    decoded
}

fn encode(builder: StunMessageBuilder) -> Vec<u8> {
    let mut buffer = [0; 256];
    let message = builder.with_transaction_id(TransactionId::from(ID)).build();
    let len = MessageEncoderBuilder::default().build().encode(&mut buffer, &message).unwrap();
    buffer[..len].to_vec()
}

/// A Binding request with these attributes.
fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    message(0x0001, attributes)
}

fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, value) in attributes {
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let len = u16::try_from(bytes.len()).unwrap();
    [&kind.to_be_bytes()[..], &len.to_be_bytes(), &[0x21, 0x12, 0xA4, 0x42], &ID, &bytes].concat()
}

#[test]
fn a_plain_request_learns_where_it_came_from() {
    for from in
        ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853", "0.0.0.0:1", "[::1]:65535"]
    {
        let answer = reply(&binding_request(ID), from).unwrap();
        let decoded = decode(&answer);
        assert_eq!((decoded.method(), decoded.class()), (BINDING, MessageClass::SuccessResponse));
        assert_eq!(decoded.transaction_id().as_bytes(), &ID);
        assert_eq!(decoded.attributes().len(), 1, "an address and nothing else");
        let address = decoded.get::<XorMappedAddress>().unwrap().as_xor_mapped_address().unwrap();
        assert_eq!(*address.socket_address(), from.parse().unwrap());
        assert_eq!(mapped_address(&answer, &ID), Some(from.parse().unwrap()));
    }
    let answer = reply(&binding_request(ID), "[::ffff:192.0.2.1]:99").unwrap();
    assert_eq!(mapped_address(&answer, &ID), Some("192.0.2.1:99".parse().unwrap()));
}

#[test]
fn a_request_with_fingerprint_gets_one_back() {
    let plain = StunMessageBuilder::new(BINDING, MessageClass::Request);
    let mut request = encode(plain.with_attribute(Fingerprint::default()));
    for from in ["192.0.2.1:32853", "[2001:db8::1]:32853"] {
        let answer = reply(&request, from).unwrap();
        assert!(decode(&answer).get::<Fingerprint>().is_some());
        assert_eq!(mapped_address(&answer, &ID), Some(from.parse().unwrap()));
    }
    *request.last_mut().unwrap() ^= 1;
    assert_eq!(reply(&request, "192.0.2.1:32853"), None);
}

#[test]
fn credentials_and_optional_attributes_are_looked_over() {
    let user = StunMessageBuilder::new(BINDING, MessageClass::Request);
    let with_user = encode(user.with_attribute(UserName::new("user").unwrap()));
    let integrity = [0; 20];
    for request in [
        with_user,
        request(&[(0x8022, b"a client")]),
        request(&[(0x0008, &integrity)]),
        // What follows an integrity attribute does not count.
        request(&[(0x0008, &integrity), (0x0024, &[0; 4])]),
        request(&[(0xFFFF, &[])]),
    ] {
        let answer = reply(&request, "192.0.2.1:32853").unwrap();
        assert_eq!(mapped_address(&answer, &ID), Some("192.0.2.1:32853".parse().unwrap()));
    }
}

#[test]
fn what_must_be_understood_and_is_not_gets_420() {
    let unknown = |answer: &[u8]| -> Vec<u16> {
        let decoded = decode(answer);
        assert_eq!((decoded.method(), decoded.class()), (BINDING, MessageClass::ErrorResponse));
        assert_eq!(decoded.transaction_id().as_bytes(), &ID);
        let error = decoded.get::<ErrorCode>().unwrap().as_error_code().unwrap().error_code();
        assert_eq!((error.error_code(), error.reason()), (420, "Unknown Attribute"));
        let unknown = decoded.get::<UnknownAttributes>().unwrap().as_unknown_attributes().unwrap();
        unknown.iter().copied().collect()
    };
    let change_request: (u16, &[u8]) = (0x0003, &[0; 4]);
    let other: (u16, &[u8]) = (0x7777, &[1, 2, 3]);
    let from = "192.0.2.1:32853";
    assert_eq!(unknown(&reply(&request(&[change_request]), from).unwrap()), [0x0003]);
    assert_eq!(unknown(&reply(&request(&[change_request, change_request]), from).unwrap()), [0x0003]);
    let three = request(&[other, change_request, (0x7778, &[])]);
    assert_eq!(unknown(&reply(&three, from).unwrap()), [0x7777, 0x0003], "as many as there is room for");
    assert_eq!(mapped_address(&reply(&three, from).unwrap(), &ID), None);
}

#[test]
fn the_request_of_rfc_5769_is_understood_up_to_its_ice_attribute() {
    let answer = reply(&RFC5769_REQUEST, "192.0.2.1:32853").unwrap();
    let decoded = decode(&answer);
    assert!(decoded.get::<Fingerprint>().is_some());
    let unknown = decoded.get::<UnknownAttributes>().unwrap().as_unknown_attributes().unwrap();
    assert_eq!(unknown.iter().copied().collect::<Vec<_>>(), [0x0024]);
    // Behind the header, but for the type of FINGERPRINT: with another type there is none to notice.
    for position in (20..RFC5769_REQUEST.len()).filter(|position| !(100..102).contains(position)) {
        let mut damaged = RFC5769_REQUEST;
        damaged[position] ^= 0x10;
        assert_eq!(reply(&damaged, "192.0.2.1:32853"), None, "FINGERPRINT must notice byte {position}");
    }
}

#[test]
fn the_responses_of_rfc_5769_are_understood() {
    assert_eq!(mapped_address(&RFC5769_IPV4, &RFC5769_ID), Some("192.0.2.1:32853".parse().unwrap()));
    let ipv6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
    assert_eq!(mapped_address(&RFC5769_IPV6, &RFC5769_ID), Some(ipv6.parse().unwrap()));
    for response in [&RFC5769_IPV4[..], &RFC5769_IPV6[..]] {
        assert_eq!(mapped_address(response, &ID), None, "another transaction");
        for position in 0..response.len() {
            // With another type than its own, a FINGERPRINT is none.
            if (response.len() - 8..response.len() - 6).contains(&position) {
                continue;
            }
            let mut damaged = response.to_vec();
            damaged[position] ^= 0x04;
            assert_eq!(mapped_address(&damaged, &RFC5769_ID), None, "byte {position}");
            assert_eq!(mapped_address(&response[..position], &RFC5769_ID), None, "{position} bytes");
        }
        let longer = [response, &[0; 4]].concat();
        assert_eq!(mapped_address(&longer, &RFC5769_ID), None, "something follows");
    }
}

#[test]
fn anything_but_a_binding_request_is_not_answered() {
    let plain = binding_request(ID).to_vec();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = plain.clone();
        change(&mut bytes);
        bytes
    };
    let huge = vec![0; MESSAGE_MAX - 20];
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("a keepalive", b"\r\n\r\n".to_vec()),
        ("SIP", b"OPTIONS sip:a@b SIP/2.0\r\n".to_vec()),
        ("a response", with(&|bytes| bytes[0] = 1)),
        ("an indication", with(&|bytes| bytes[1] = 0x11)),
        ("another method", with(&|bytes| bytes[1] = 3)),
        ("RFC 3489, without the cookie", with(&|bytes| bytes[4] = 0)),
        ("two bits set", with(&|bytes| bytes[0] = 0x80)),
        ("truncated", with(&|bytes| bytes.truncate(19))),
        ("trailing bytes", with(&|bytes| bytes.push(0))),
        ("a length beyond", with(&|bytes| bytes[3] = 4)),
        (
            "an attribute beyond",
            request(&[(0x8022, b"abcd")])
                .iter()
                .enumerate()
                .map(|(i, b)| if i == 23 { 5 } else { *b })
                .collect(),
        ),
        ("something behind FINGERPRINT", request(&[(0x8028, &[0; 4]), (0x8022, b"abcd")])),
        ("a FINGERPRINT of two bytes", request(&[(0x8028, &[0; 2])])),
        ("a response of a server", RFC5769_IPV4.to_vec()),
        ("too long", request(&[(0x8022, &huge)])),
    ] {
        assert_eq!(reply(&bytes, "192.0.2.1:1"), None, "{what}");
    }
    assert!(reply(&request(&[(0x8022, &huge[4..])]), "192.0.2.1:1").is_some(), "the longest");
}

#[test]
fn only_a_sound_success_answer_tells_an_address() {
    let address: (u16, &[u8]) = (0x0020, &[0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
    let expected: Option<SocketAddr> = Some("192.0.2.1:32853".parse().unwrap());
    for (what, bytes, expected) in [
        ("sound", message(0x0101, &[address]), expected),
        ("with something optional", message(0x0101, &[(0x8022, b"abc"), address]), expected),
        ("an error", message(0x0111, &[address]), None),
        ("a request", message(0x0001, &[address]), None),
        ("another method", message(0x0103, &[address]), None),
        ("something that must be understood", message(0x0101, &[(0x7777, &[]), address]), None),
        ("no address", message(0x0101, &[]), None),
        ("an address without mask", message(0x0101, &[(0x0001, &[0, 1, 0x80, 0x55, 192, 0, 2, 1])]), None),
        ("another family", message(0x0101, &[(0x0020, &[0, 3, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43])]), None),
        ("a short address", message(0x0101, &[(0x0020, &[0, 1, 0xa1, 0x47])]), None),
        ("a wrong FINGERPRINT", message(0x0101, &[address, (0x8028, &[0; 4])]), None),
    ] {
        assert_eq!(mapped_address(&bytes, &ID), expected, "{what}");
    }
    assert_eq!(mapped_address(&message(0x0101, &[address]), b"transaction?"), None, "another transaction");
}

#[test]
fn stun_is_told_apart() {
    assert!(is_stun(&binding_request(ID)) && is_stun(&RFC5769_REQUEST));
    for other in [&b""[..], b"\r\n\r\n", b"\x80\x00\x00\x01", &RFC5769_REQUEST[..107], &RFC5769_REQUEST[1..]]
    {
        assert!(!is_stun(other));
    }
}

#[test]
fn mutants_never_panic_and_replies_stay_small() {
    let seeds = [
        RFC5769_REQUEST.to_vec(),
        RFC5769_IPV4.to_vec(),
        binding_request(ID).to_vec(),
        request(&[(0x7777, b"abc")]),
    ];
    let (mut replies, from) = (0, "[2001:db8::1]:5060".parse().unwrap());
    for seed in 0..200_000 {
        let mut seeded = Seeded(seed);
        let mut bytes = seeds[seeded.below(seeds.len())].clone();
        for _ in 0..=seeded.below(3) {
            let position = seeded.below(bytes.len() + 1);
            match seeded.below(3) {
                0 => bytes.truncate(position),
                1 => bytes.insert(position, seeded.below(256) as u8),
                _ => bytes.iter_mut().skip(position).take(1).for_each(|byte| *byte = seeded.below(256) as u8),
            }
        }
        let mut out = [0; 64];
        if let Some(len) = binding_reply(&bytes, from, &mut out) {
            replies += 1;
            assert_eq!(decode(&out[..len]).method(), BINDING, "seed {seed}");
            assert!(len <= 64 && bytes.len() >= 20, "seed {seed}");
        }
        if mapped_address(&bytes, &RFC5769_ID).is_some() {
            assert_eq!((&bytes[..2], &bytes[8..20]), (&[1, 1][..], &RFC5769_ID[..]), "seed {seed}");
        }
    }
    assert!(replies > 1_000, "the mutants must not be all broken: {replies}");
}
