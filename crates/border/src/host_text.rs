//! Hosts in text that nobody parses: headers that we don't know, and bodies. A host counts wherever it stands as
//! a word of its own, in any case, with its characters and what is around them escaped as in URIs or not
//! (RFC 3986 §2.1), once or over and over. Works on bytes: a body need not be UTF-8.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::net::{is_link_local, is_private};

use crate::host_search::{self, ESCAPED_MAX};

/// Whether `text` names `host`: not as a part of a longer name or address.
pub(crate) fn names(text: &[u8], host: &str) -> bool {
    !host_search::find_all(text, host.as_bytes()).is_empty()
}

/// `text` with `domain` in the place of each of these hosts; an IPv6 address goes with its brackets.
pub(crate) fn replaced<'a>(text: &[u8], hosts: impl Iterator<Item = &'a str>, domain: &str) -> Vec<u8> {
    let mut text = text.to_vec();
    for host in hosts {
        let found = host_search::find_all(&text, host.as_bytes());
        if found.is_empty() {
            continue;
        }
        let mut written = Vec::with_capacity(text.len());
        let mut from = 0;
        for mut found in found {
            let bracketed = text.get(from..found.start).is_some_and(|before| before.ends_with(b"["))
                && text.get(found.end) == Some(&b']');
            if bracketed {
                found = found.start - 1..found.end + 1;
            }
            written.extend_from_slice(text.get(from..found.start).unwrap_or_default());
            written.extend_from_slice(domain.as_bytes());
            from = found.end;
        }
        written.extend_from_slice(text.get(from..).unwrap_or_default());
        text = written;
    }
    text
}

/// The addresses that stand in `text`, with escapes undone.
pub(crate) fn addresses(text: &str) -> Vec<IpAddr> {
    let mut readable = Cow::Borrowed(text);
    let mut found: Vec<IpAddr> = literal_addresses(text).collect();
    for _ in 0..ESCAPED_MAX {
        if !readable.contains('%') {
            break;
        }
        readable = wire::sip::unescape(&readable).into_owned().into();
        found.extend(literal_addresses(&readable));
    }
    found
}

fn literal_addresses(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | ':')))
        .flat_map(|word| {
            let v4 = word.split(|character: char| !matches!(character, '0'..='9' | '.')).filter_map(dotted);
            let v6 = word.trim_end_matches('.').parse::<Ipv6Addr>().ok();
            v4.map(IpAddr::from).chain(v6.map(|v6| IpAddr::from(v6).to_canonical()))
        })
}

/// The address that four decimal numbers are, however many zeros they begin with.
fn dotted(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.trim_matches('.').split('.').map(|part| {
        let digits = part.trim_start_matches('0');
        if digits.is_empty() { (!part.is_empty()).then_some(0) } else { digits.parse::<u8>().ok() }
    });
    let mut next = || parts.next().flatten();
    let octets = [next()?, next()?, next()?, next()?];
    parts.next().is_none().then(|| octets.into())
}

/// Whether an address belongs to some network of its own and to nobody on the Internet. The loopback address
/// itself names nothing: it stands in `Alert-Info` as the host of a ring tone's name.
pub(crate) fn is_of_a_network(ip: IpAddr) -> bool {
    is_private(ip)
        || is_link_local(ip)
        || (ip.is_loopback() && ip != Ipv4Addr::LOCALHOST && ip != Ipv6Addr::LOCALHOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_behind_any_escape_and_not_in_a_longer_word() {
        for (text, named) in [
            ("abc%4010.0.0.2", true),
            ("sip%3aa%4010.0.0.2%3b", true),
            ("sip%3A10.0.0.2%2Fx", true),
            ("a%254010.0.0.2", true),
            ("a%25254010.0.0.2", true),
            ("%5B10.0.0.2%5D", true),
            ("10%2e0%2E0.2", true),
            ("%31%30.0.0.%32", true),
            ("10%252e0.0.2", true),
            ("5%10.0.0.2", true),
            ("_10.0.0.2_", true),
            ("10.0.0.2.", true),
            ("x10.0.0.2", false),
            ("110.0.0.2", false),
            ("ab10.0.0.2", false),
            ("%zz10.0.0.2", false),
            ("%az10.0.0.2", false),
            ("%za10.0.0.2", false),
            ("10.0.0.21", false),
            ("node-10.0.0.2", false),
            ("10-0-0-2", false),
            ("", false),
            ("%", false),
            ("%2", false),
        ] {
            assert_eq!(names(text.as_bytes(), "10.0.0.2"), named, "{text}");
        }
        assert!(names(b"\xff\x00PBX.lan\xfe", "pbx.lan"));
    }

    #[test]
    fn hosts_are_replaced_in_bytes() {
        let hosts = ["10.0.0.2", "fd00::2", "pbx.lan"];
        let masked = |text: &[u8]| replaced(text, hosts.into_iter(), "d.example");
        assert_eq!(masked(b"Gr\xfc\xdfe von sip:a@10.0.0.2"), b"Gr\xfc\xdfe von sip:a@d.example");
        assert_eq!(masked(b"[fd00::2]:5060 10.0.0.2 PBX.LAN"), b"d.example:5060 d.example d.example");
        assert_eq!(masked(b"sip%3Aa%4010.0.0.2%3B10%2e0%2e0%2e2"), b"sip%3Aa%40d.example%3Bd.example");
        assert_eq!(masked(b"10.0.0.2 10.0.0.210.0.0.2"), b"d.example 10.0.0.210.0.0.2");
    }

    #[test]
    fn a_long_text_full_of_hosts_is_replaced_in_one_pass() {
        let text = b"a.aa ".repeat(12_000);
        let masked = replaced(&text, ["a.aa"].into_iter(), "longer.example");
        assert_eq!(masked.len(), 12_000 * "longer.example ".len());
    }

    #[test]
    fn private_addresses_are_told_from_others() {
        for (text, private) in [
            ("<http://10.9.8.7/x.jpg>", true),
            ("192.168.1.5:5060", true),
            ("at 172.16.0.1.", true),
            ("%40100.64.0.1%3B", true),
            ("host%3D%5Bfd00%3A%3A1%5D", true),
            ("[::ffff:10.1.1.1]", true),
            ("fe80::1", true),
            ("127.51.0.30", true),
            ("198.18.0.7", true),
            ("198.20.0.7", false),
            ("fec0::7", true),
            ("<http://127.0.0.1/Bellcore-dr2>;info=x", false),
            ("203.0.113.7 and 2001:db8::1", false),
            ("v10.0.0.1", true),
            ("10.0.0.1a", true),
            ("10.000.00.001", true),
            ("010.0.0.1", true),
            ("10.0.0.0256", false),
            ("10..0.1", false),
            ("10.0.0", false),
            ("1.10.0.0.1", false),
            ("10:20:30 on 2026-11-21", false),
        ] {
            assert_eq!(addresses(text).into_iter().any(is_of_a_network), private, "{text}");
        }
    }
}
