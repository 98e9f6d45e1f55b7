//! How a phone describes its audio, and reads what the other says (RFC 8866, RFC 8839).
//!
//! Reads no more than a phone needs, line by line.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::ice::Candidates;

/// A description of media, as far as somebody looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Where its sender wants his audio.
    pub audio: SocketAddr,
    /// Every address that stands anywhere in it.
    pub addresses: BTreeSet<IpAddr>,
    /// How many candidates it offers.
    pub candidates: usize,
}

/// A description of one stream of G.711 audio, with candidates.
pub(crate) fn describe(audio: SocketAddr, candidates: &Candidates) -> String {
    let (ip, port) = (audio.ip(), audio.port());
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    let mut text = format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=sendrecv\r\n\
         a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
        candidates.user, candidates.password
    );
    for line in &candidates.lines {
        text.push_str(&format!("a=candidate:{line}\r\n"));
    }
    text
}

/// Reads the other's description; none where it names no place for audio.
pub(crate) fn read(body: &[u8]) -> Option<Description> {
    let text = std::str::from_utf8(body).ok()?;
    let line = |start: &'static str| text.lines().find_map(move |line| line.strip_prefix(start));
    let ip = line("c=")?.split_whitespace().nth(2)?.parse().ok()?;
    let port = line("m=audio ")?.split_whitespace().next()?.parse().ok()?;
    Some(Description {
        audio: SocketAddr::new(ip, port),
        addresses: addresses(text),
        candidates: text.lines().filter(|line| line.starts_with("a=candidate:")).count(),
    })
}

/// Every IPv4 address that stands anywhere in a text.
pub(crate) fn addresses(text: &str) -> BTreeSet<IpAddr> {
    let words = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    words.filter_map(|word| word.trim_matches('.').parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_is_read_again() {
        let candidates = Candidates {
            user: "u".to_owned(),
            password: "p".to_owned(),
            lines: vec!["1 1 udp 2130706431 127.0.0.9 4002 typ host".to_owned()],
        };
        let audio = "127.0.0.1:4000".parse().unwrap();
        let remote = read(describe(audio, &candidates).as_bytes()).unwrap();
        assert_eq!((remote.audio, remote.candidates), (audio, 1));
        let addresses: Vec<String> = remote.addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1", "127.0.0.9"]);
    }

    #[test]
    fn addresses_are_found_wherever_they_stand() {
        let text =
            "Via: SIP/2.0/UDP 127.0.0.3:5060;received=10.0.0.1\r\nContact: <sip:a@[::1]>, 1.2.3. 127.0.0.66.";
        let found: Vec<String> = addresses(text).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["10.0.0.1", "127.0.0.3", "127.0.0.66"]);
    }

    #[test]
    fn a_description_without_audio_is_none() {
        assert_eq!(read(b"v=0\r\nc=IN IP4 127.0.0.1\r\n"), None);
        assert_eq!(read(b"\xff"), None);
    }
}
