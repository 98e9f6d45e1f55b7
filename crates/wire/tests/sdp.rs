//! Session descriptions: read, rewritten, broken.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod seeded;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wire::sdp::{DESCRIPTION_MAX, Direction, LINE_MAX, MEDIA_MAX, SdpErrorKind, SessionDescription};

use seeded::Seeded;

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A softphone behind NAT, with ICE and SDES.
const PHONE: &str = "v=0\r\n\
    o=alice 2890844526 2890844527 IN IP4 10.1.2.3\r\n\
    s=Talk\r\n\
    i=from my desk at 10.1.2.3\r\n\
    u=http://10.1.2.3/\r\n\
    e=alice@10.1.2.3\r\n\
    p=+1 617 555-6011\r\n\
    c=IN IP4 10.1.2.3\r\n\
    b=AS:380\r\n\
    t=0 0\r\n\
    a=ice-lite\r\n\
    a=ice-ufrag:8hhY\r\n\
    a=ice-options:trickle\r\n\
    a=X-own:kept\r\n\
    m=audio 40000 RTP/SAVP 96 0 101\r\n\
    i=title\r\n\
    a=rtpmap:96 opus/48000/2\r\n\
    a=fmtp:96 useinbandfec=1\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n\
    a=fingerprint:sha-256 6B:8B:F0:65\r\n\
    a=setup:actpass\r\n\
    a=rtcp:40007 IN IP4 10.1.2.4\r\n\
    a=rtcp-mux\r\n\
    a=candidate:1 1 UDP 2130706431 10.1.2.3 40000 typ host\r\n\
    a=candidate:2 1 UDP 1694498815 203.0.113.9 40000 typ srflx raddr 10.1.2.3 rport 40000\r\n\
    a=remote-candidates:1 10.9.9.9 5000\r\n\
    a=end-of-candidates\r\n\
    a=alt:1 2 : abc def 10.1.2.3 40000\r\n\
    a=source-filter: incl IN IP4 * 10.1.2.3\r\n\
    a=x-where:10.1.2.3\r\n\
    a=sendonly\r\n\
    m=video 0 RTP/AVP\r\n\
    m=application 40010/2 UDP/BFCP *\r\n\
    c=IN IP4 10.1.2.5/127\r\n\
    a=inactive\r\n";

/// The same, as the other side gets it.
const PHONE_REWRITTEN: &str = "v=0\r\n\
    o=- 2890844526 2890844527 IN IP4 192.0.2.1\r\n\
    s=Talk\r\n\
    c=IN IP4 192.0.2.1\r\n\
    b=AS:380\r\n\
    t=0 0\r\n\
    a=X-own:kept\r\n\
    m=audio 20000 RTP/SAVP 96 0 101\r\n\
    a=rtpmap:96 opus/48000/2\r\n\
    a=fmtp:96 useinbandfec=1\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n\
    a=fingerprint:sha-256 6B:8B:F0:65\r\n\
    a=setup:actpass\r\n\
    a=rtcp:20001 IN IP4 192.0.2.1\r\n\
    a=rtcp-mux\r\n\
    a=sendonly\r\n\
    m=video 0 RTP/AVP 0\r\n\
    m=application 20004 UDP/BFCP *\r\n\
    c=IN IP4 192.0.2.1\r\n\
    a=inactive\r\n";

/// A PBX without a c= line for the session, with IPv6 in one stream, a hold in another, and bare LF.
const PBX: &str = "v=0\n\
    o=John Doe 1 2 IN IP6 fd00::7\n\
    s=-\n\
    t=0 0\n\
    r=7d 1h 0 25h\n\
    a=recvonly\n\
    a=x-where:[FD00::7]\n\
    m=audio 30000 RTP/AVP 8\n\
    c=IN IP6 fd00::7\n\
    c=IN IP6 fd00::8\n\
    a=rtcp:30009\n\
    m=audio 30002 RTP/AVP 8\n\
    c=IN IP4 0.0.0.0\n\
    a=sendrecv\n\
    m=image 30004 udptl t38\n\
    c=IN IP4 fax.example.com\n\
    \n";

const PBX_REWRITTEN: &str = "v=0\r\n\
    o=- 1 2 IN IP4 192.0.2.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    r=7d 1h 0 25h\r\n\
    a=recvonly\r\n\
    m=audio 20000 RTP/AVP 8\r\n\
    c=IN IP4 192.0.2.1\r\n\
    a=rtcp:20001 IN IP4 192.0.2.1\r\n\
    m=audio 20002 RTP/AVP 8\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=sendrecv\r\n\
    m=image 0 udptl t38\r\n\
    c=IN IP4 192.0.2.1\r\n";

fn parse(text: &str) -> SessionDescription<'_> {
    SessionDescription::parse(text.as_bytes()).unwrap()
}

fn rewrite(text: &str, ports: &[Option<u16>]) -> String {
    String::from_utf8(parse(text).rewritten(OURS, ports, &[])).unwrap()
}

fn at(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn limits_are_those_that_are_documented() {
    assert_eq!((DESCRIPTION_MAX, LINE_MAX, MEDIA_MAX), (65_536, 4_096, 16));
    let words = [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
        .map(Direction::as_str);
    assert_eq!(words, ["sendrecv", "sendonly", "recvonly", "inactive"]);
}

#[test]
fn a_phones_description_is_read() {
    let session = parse(PHONE);
    assert_eq!(session.connection, Some("10.1.2.3".parse().unwrap()));
    assert_eq!(session.media.len(), 3);

    let audio = &session.media[0];
    assert_eq!(
        (audio.kind, audio.port, audio.proto, audio.formats),
        ("audio", 40000, "RTP/SAVP", "96 0 101")
    );
    assert_eq!((audio.direction, audio.rtcp_mux, audio.port_count), (Direction::SendOnly, true, 1));
    assert_eq!(session.rtp_address(0), at("10.1.2.3:40000"));
    assert_eq!(session.rtcp_address(0), at("10.1.2.4:40007"));

    let video = &session.media[1];
    assert_eq!((video.port, video.formats, video.rtcp_mux), (0, "", false));
    assert_eq!((session.rtp_address(1), session.rtcp_address(1)), (None, None));

    let slides = &session.media[2];
    assert_eq!((slides.port, slides.port_count, slides.direction), (40010, 2, Direction::Inactive));
    assert_eq!(session.rtp_address(2), at("10.1.2.5:40010"));
    assert_eq!(session.rtcp_address(2), at("10.1.2.5:40011"));
    assert_eq!((session.rtp_address(3), session.rtcp_address(3)), (None, None));
}

#[test]
fn a_pbxs_description_is_read() {
    let session = parse(PBX);
    assert_eq!(session.connection, None);
    assert_eq!(session.rtp_address(0), at("[fd00::7]:30000"));
    assert_eq!(session.rtcp_address(0), at("[fd00::7]:30009"));
    assert_eq!(session.rtp_address(1), None, "held");
    assert_eq!(session.rtp_address(2), None, "a name");
    let directions: Vec<_> = session.media.iter().map(|media| media.direction).collect();
    assert_eq!(directions, [Direction::RecvOnly, Direction::SendRecv, Direction::RecvOnly]);
}

#[test]
fn the_other_side_gets_our_addresses_alone() {
    assert_eq!(rewrite(PHONE, &[Some(20000), Some(20002), Some(20004)]), PHONE_REWRITTEN);
    assert_eq!(rewrite(PBX, &[Some(20000), Some(20002)]), PBX_REWRITTEN);
}

#[test]
fn rewriting_twice_changes_nothing_more() {
    let once = rewrite(PHONE, &[Some(20000), None, Some(20004)]);
    assert_eq!(rewrite(&once, &[Some(20000), None, Some(20004)]), once);
}

#[test]
fn an_ipv6_address_of_ours() {
    let session = parse(PBX);
    let text =
        String::from_utf8(session.rewritten("2001:db8::1".parse().unwrap(), &[Some(20000)], &[])).unwrap();
    assert!(text.contains("o=- 1 2 IN IP6 2001:db8::1\r\n"), "{text}");
    assert!(text.contains("c=IN IP6 2001:db8::1\r\na=rtcp:20001 IN IP6 2001:db8::1\r\n"), "{text}");
    assert!(!text.contains("fd00"), "{text}");
}

#[test]
fn lines_that_are_missing_are_added_where_they_belong() {
    let rewritten = rewrite(
        "v=0\no=- 1 1 IN IP4 10.0.0.1\nb=AS:1\nk=prompt\nm=audio 4000 RTP/AVP 0\nb=AS:2\n",
        &[Some(2)],
    );
    let expected = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nb=AS:1\r\nt=0 0\r\nk=prompt\r\n\
        m=audio 2 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\nb=AS:2\r\n";
    assert_eq!(rewritten, expected);
    let rewritten = rewrite("v=0\no=- 1 1 IN IP4 10.0.0.1\n", &[]);
    assert_eq!(rewritten, "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n");
}

#[test]
fn no_line_keeps_an_address_of_the_writer() {
    let head = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\n";
    let media = "t=0 0\r\nc=IN IP4 10.0.0.2\r\nm=audio 4000 RTP/AVP 0\r\n";
    for (line, expected) in [
        ("s=call from 10.0.0.1", "s=-"),
        ("s=call", "s=call"),
        ("a=candidate:1 1 UDP 1 10.0.0.3 4000 typ host", ""),
        ("a=candidate 1 1 UDP 1 10.0.0.3 4000 typ host", ""),
        ("a= candidate:1 1 UDP 1 10.0.0.3 4000 typ host", ""),
        ("a=\tCandidate :1 1 UDP 1 10.0.0.3 4000 typ host", ""),
        ("a=REMOTE-CANDIDATES:1 10.0.0.3 4000", ""),
        ("a=rtcp 4001 IN IP4 10.0.0.3", "a=rtcp:5001 IN IP4 192.0.2.1"),
        ("a=RTCP:4001 IN IP4 10.0.0.3", "a=rtcp:5001 IN IP4 192.0.2.1"),
        ("a=rtcp:70000", "a=rtcp:5001 IN IP4 192.0.2.1"),
        ("a=ICE-pwd:x", ""),
        ("a=note:sip:x@10.0.0.1:5060", ""),
        ("a=note:(10.0.0.2)", ""),
        ("a=note:110.0.0.2", "a=note:110.0.0.2"),
        ("a=note:10.0.0.23", "a=note:10.0.0.23"),
        ("a=rtcp-fb:0 nack", "a=rtcp-fb:0 nack"),
        ("a=icebreaker", "a=icebreaker"),
        ("k=uri:http://10.0.0.1/", ""),
        ("b=X-10.0.0.1:1", ""),
        ("y=0123456789", "y=0123456789"),
        ("c=IN IP4 10.0.0.3", "c=IN IP4 192.0.2.1"),
        ("c=ATM NSAP 47.0091.8100.0000", "c=IN IP4 192.0.2.1"),
        ("c=", "c=IN IP4 192.0.2.1"),
    ] {
        let subject = if line.starts_with("s=") { "" } else { "s=x\r\n" };
        let (early, late) = if line.starts_with("s=") { (line, "") } else { ("", line) };
        let text = format!("{head}{early}\r\n{subject}{media}{late}\r\n");
        let rewritten = rewrite(&text, &[Some(5000)]);
        assert!(rewritten.lines().any(|line| line == expected) || expected.is_empty(), "{line}: {rewritten}");
        for hidden in ["10.0.0.1", "10.0.0.2\r", "10.0.0.2)", "10.0.0.3", "47.0091"] {
            assert!(!rewritten.replace("110.0.0.2\r", "").contains(hidden), "{line}: {rewritten}");
        }
        assert_eq!(rewritten.contains("note"), expected.contains("note"), "{line}");
    }
}

#[test]
fn a_line_with_an_address_that_is_known_of_the_writer_is_left_out() {
    let known = ["192.168.1.20", "desk.home.example", "fd00::7", "audio"].map(str::to_owned);
    for (line, passes) in [
        ("a=x-local:192.168.1.20", false),
        ("a=x-local:Desk.Home.Example:5070", false),
        ("a=x-local:[FD00::7]", false),
        ("b=X:192.168.1.20", false),
        ("a=x-local:192.168.1.201", true),
        // A host name without a dot may be any word.
        ("a=mid:audio", true),
    ] {
        let text = format!(
            "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=-\nc=IN IP4 10.0.0.1\nt=0 0\nm=audio 1 RTP/AVP 0\n{line}\n"
        );
        let rewritten = parse(&text).rewritten(OURS, &[Some(2)], &known);
        let rewritten = String::from_utf8(rewritten).unwrap();
        assert_eq!(rewritten.contains(line), passes, "{line}");
        assert!(rewritten.contains("c=IN IP4 192.0.2.1\r\n"), "{line}");
    }
}

#[test]
fn bytes_that_are_no_text_pass_in_lines_that_we_do_not_read() {
    let text = b"v=0\no=- 1 1 IN IP4 10.0.0.1\ns=Gr\xFC\xDFe\nt=0 0\na=x:\x80\xFF\nm=audio 1 RTP/AVP 0\n";
    let rewritten = SessionDescription::parse(text).unwrap().rewritten(OURS, &[Some(2)], &[]);
    let has = |line: &[u8]| rewritten.windows(line.len()).any(|window| window == line);
    assert!(has(b"\r\ns=Gr\xFC\xDFe\r\n") && has(b"\r\na=x:\x80\xFF\r\n"));
}

#[test]
fn a_stream_once_refused_stays_refused() {
    let text = "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=-\nc=IN IP4 10.0.0.1\nt=0 0\nm=audio 0 RTP/AVP 0\na=rtcp:5\n";
    let rewritten = rewrite(text, &[Some(20000)]);
    assert!(rewritten.ends_with("m=audio 0 RTP/AVP 0\r\n"), "{rewritten}");
}

#[test]
fn a_port_that_has_none_above_it_is_no_rtcp_port() {
    let text =
        "v=0\no=- 1 1 IN IP4 10.0.0.1\ns=-\nc=IN IP4 10.0.0.1\nt=0 0\nm=audio 65535 RTP/AVP 0\na=rtcp:9\n";
    assert!(!rewrite(text, &[Some(65535)]).contains("rtcp"));
    let session = text.replace("a=rtcp:9\n", "");
    assert_eq!(parse(&session).rtcp_address(0), None);
}

#[test]
fn addresses_that_are_no_hosts_are_not_sent_to() {
    for address in
        ["IP4 0.0.0.0", "IP4 224.2.36.42/127", "IP4 255.255.255.255", "IP6 ::", "IP6 ff15::101", "IP4 ::1"]
    {
        let text =
            format!("v=0\no=- 1 1 IN IP4 h.example\ns=-\nc=IN {address}\nt=0 0\nm=audio 9 RTP/AVP 0\n");
        let session = parse(&text);
        assert_eq!((session.rtp_address(0), session.rtcp_address(0)), (None, None), "{address}");
    }
    let mapped = "v=0\no=- 1 1 IN IP4 h\ns=-\nt=0 0\nm=audio 9 RTP/AVP 0\nc=IN IP4 10.0.0.1\na=rtcp:9 IN IP4 0.0.0.0\n";
    assert_eq!(parse(mapped).rtp_address(0), at("10.0.0.1:9"));
    assert_eq!(parse(mapped).rtcp_address(0), None);
}

#[test]
fn what_is_no_description_is_refused() {
    let origin = "o=- 1 1 IN IP4 10.0.0.1";
    let long = format!("v=0\n{origin}\ns={}\n", "x".repeat(LINE_MAX));
    let longest = format!("v=0\n{origin}\ns={}\n", "x".repeat(LINE_MAX - 2));
    let many = format!("v=0\n{origin}\n{}", "m=audio 1 RTP/AVP 0\n".repeat(MEDIA_MAX + 1));
    let most = format!("v=0\n{origin}\n{}", "m=audio 1 RTP/AVP 0\n".repeat(MEDIA_MAX));
    let vast = format!("v=0\n{origin}\n{}", "a=x\n".repeat(20_000));
    let with = |line: &str| format!("v=0\n{origin}\n{line}\n");
    for (text, expected) in [
        (String::new(), Err((SdpErrorKind::Version, 0))),
        (format!("{origin}\nv=0\n"), Err((SdpErrorKind::Version, 1))),
        (format!("v=1\n{origin}\n"), Err((SdpErrorKind::Version, 1))),
        (with("v=0"), Err((SdpErrorKind::Version, 3))),
        ("v=0\ns=-\n".to_owned(), Err((SdpErrorKind::Origin, 0))),
        (with(origin), Err((SdpErrorKind::Origin, 3))),
        ("v=0\no=1 1 IN IP4 10.0.0.1\n".to_owned(), Err((SdpErrorKind::Origin, 2))),
        (format!("v=0\nm=audio 1 RTP/AVP 0\n{origin}\n"), Err((SdpErrorKind::Origin, 3))),
        (with("m=audio 4000 RTP/AVP"), Err((SdpErrorKind::Media, 3))),
        (with("m=audio 4000"), Err((SdpErrorKind::Media, 3))),
        (with("m=audio +4000 RTP/AVP 0"), Err((SdpErrorKind::Media, 3))),
        (with("m=audio 65536 RTP/AVP 0"), Err((SdpErrorKind::Media, 3))),
        (with("m=audio 4000/0 RTP/AVP 0"), Err((SdpErrorKind::Media, 3))),
        (with("m=au:dio 4000 RTP/AVP 0"), Err((SdpErrorKind::Media, 3))),
        (with("m=audio 4000 RTP//AVP 0"), Err((SdpErrorKind::Media, 3))),
        (with("m=audio 4000 RTP/AVP 0 a=candidate:1"), Err((SdpErrorKind::Media, 3))),
        (with("m=audio  4000  RTP/AVP  0 "), Ok(())),
        (with("A=x"), Err((SdpErrorKind::Line, 3))),
        (with("a"), Err((SdpErrorKind::Line, 3))),
        (with(" a=x"), Err((SdpErrorKind::Line, 3))),
        (with("a=x\0"), Err((SdpErrorKind::Line, 3))),
        (with("a=x\rc=IN IP4 10.0.0.1"), Err((SdpErrorKind::Line, 3))),
        (with("a="), Ok(())),
        (long, Err((SdpErrorKind::LineTooLong, 3))),
        (longest, Ok(())),
        (many, Err((SdpErrorKind::TooManyMedia, 3 + MEDIA_MAX))),
        (most, Ok(())),
        (vast, Err((SdpErrorKind::TooLong, 0))),
    ] {
        let outcome = SessionDescription::parse(text.as_bytes()).map(|_| ()).map_err(|e| (e.kind, e.line));
        assert_eq!(outcome, expected, "{:.80}", text);
    }
}

/// Bytes that make mutants interesting.
const SPLICES: [&[u8]; 14] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"c=IN IP4 10.66.66.66",
    b"a=candidate:1 1 UDP 1 10.66.66.66 9 typ host",
    b"m=",
    b"a=rtcp:",
    b" ",
    b"=",
    b":",
    b"0.0.0.0",
    b"o=- 1 1 IN IP4 10.66.66.66",
    b"\xFF",
];

fn mutant(seeded: &mut Seeded, seed_text: &[u8]) -> Vec<u8> {
    let mut bytes = seed_text.to_vec();
    for _ in 0..=seeded.below(4) {
        let position = seeded.below(bytes.len() + 1);
        match seeded.below(5) {
            0 => bytes.truncate(position),
            1 => {
                let splice = SPLICES[seeded.below(SPLICES.len())];
                bytes.splice(position..position, splice.iter().copied());
            }
            2 => {
                let end = (position + seeded.below(40)).min(bytes.len());
                bytes.drain(position..end);
            }
            3 => {
                let end = (position + seeded.below(60)).min(bytes.len());
                let copy = bytes[position..end].to_vec();
                let to = seeded.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(position) {
                    *byte = seeded.below(256) as u8;
                }
            }
        }
    }
    bytes
}

/// What each line that carries an address says, by a reading of its own.
fn carried_addresses(text: &[u8]) -> Vec<(u8, String)> {
    let mut carried = Vec::new();
    for line in text.split(|b| *b == b'\n') {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap()).into_owned();
        let word = |n: usize| line.split(' ').nth(n).unwrap_or_default().to_owned();
        match line.get(..2) {
            Some("o=") => carried.push((b'o', word(5))),
            Some("c=") => carried.push((b'c', word(2))),
            Some("a=") if line.starts_with("a=rtcp:") => carried.push((b'a', word(3))),
            _ => assert!(!line.starts_with("a=candidate:"), "{line}"),
        }
    }
    carried
}

#[test]
fn mutants_never_panic_and_never_carry_another_address() {
    let mut parsed = 0;
    for seed in 0..40_000 {
        let mut seeded = Seeded(seed);
        let text = if seed % 2 == 0 { PHONE } else { PBX };
        let bytes = mutant(&mut seeded, text.as_bytes());
        let Ok(session) = SessionDescription::parse(&bytes) else { continue };
        parsed += 1;
        let ports: Vec<_> =
            session.media.iter().map(|media| Some(20_000).filter(|_| media.port != 7)).collect();
        let rewritten = session.rewritten(OURS, &ports, &[]);
        let again = SessionDescription::parse(&rewritten).unwrap();
        assert_eq!(again.media.len(), session.media.len(), "seed {seed}");
        for (media, before) in again.media.iter().zip(&session.media) {
            assert_eq!(media.port == 0, before.port == 0 || before.port == 7, "seed {seed}");
            assert_eq!((media.kind, media.proto), (before.kind, before.proto), "seed {seed}");
            assert_eq!((media.direction, media.rtcp_mux), (before.direction, before.rtcp_mux), "seed {seed}");
        }
        for index in 0..again.media.len() {
            let rtp = again.rtp_address(index);
            assert!(rtp.is_none_or(|rtp| rtp == SocketAddr::new(OURS, 20_000)), "seed {seed}");
        }
        let text = rewritten.strip_suffix(b"\n").unwrap();
        for (line, address) in carried_addresses(text) {
            let held = line == b'c' && (address == "0.0.0.0" || address == "::");
            assert!(address == "192.0.2.1" || held, "seed {seed}: {address} in {}", char::from(line));
        }
    }
    assert!(parsed > 5_000, "the mutants must not be all broken: {parsed}");
}
