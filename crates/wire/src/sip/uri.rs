//! SIP, SIPS and tel URIs. RFC 3261 §19.1, RFC 3966, RFC 5118.
//!
//! Never accepts what two readers could take differently: a second `@`, a host of digits that is no address,
//! an escape that is none. Other schemes are told apart from malformed URIs, since they get another answer.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Params;
use super::error::{ParseError, ParseErrorKind};
use super::grammar;
use super::start_line::has_scheme;

/// A URI taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The scheme.
    pub scheme: Scheme,
    /// The user part with its escapes; of a tel URI the number as it stands.
    pub user: Option<&'a str>,
    /// The password part, which RFC 3261 advises against.
    pub password: Option<&'a str>,
    /// The host; of a tel URI an empty name.
    pub host: Host<'a>,
    /// The port, where one is given.
    pub port: Option<u16>,
    /// Parameters of the URI.
    pub params: Params<'a>,
    /// What stands after `?`, not taken apart.
    pub headers: Option<&'a str>,
}

/// The schemes that the border routes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
}

impl Scheme {
    /// The scheme as a URI writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sip => "sip",
            Self::Sips => "sips",
            Self::Tel => "tel",
        }
    }
}

/// A host as a URI or Via writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name, as it stands.
    Name(&'a str),
    /// An address; the brackets of IPv6 are taken off.
    Ip(IpAddr),
}

impl<'a> Uri<'a> {
    /// Parses a whole URI. A scheme other than ours is [`ParseErrorKind::UnknownScheme`].
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        let colon = memchr::memchr(b':', text.as_bytes()).unwrap_or(text.len());
        let (name, rest) = grammar::cut(text, colon);
        let rest = rest.get(1..).unwrap_or_default();
        let scheme = match name {
            _ if colon == text.len() => return Err(ParseError::new(ParseErrorKind::Uri, 0)),
            _ if name.eq_ignore_ascii_case("sip") => Scheme::Sip,
            _ if name.eq_ignore_ascii_case("sips") => Scheme::Sips,
            _ if name.eq_ignore_ascii_case("tel") => Scheme::Tel,
            _ if has_scheme(text) => return Err(ParseError::new(ParseErrorKind::UnknownScheme, 0)),
            _ => return Err(ParseError::new(ParseErrorKind::Uri, 0)),
        };
        let parsed =
            if scheme == Scheme::Tel { Self::parse_tel(rest) } else { Self::parse_sip(scheme, rest) };
        parsed.map_err(|fault| ParseError { offset: fault.offset + colon + 1, ..fault })
    }

    /// The text that this was read from without the headers, which no Request-URI may have (RFC 3261 §19.1.1).
    pub fn as_target(&self, text: &'a str) -> &'a str {
        let target = self.headers.and_then(|headers| text.strip_suffix(headers)?.strip_suffix('?'));
        target.unwrap_or(text)
    }

    /// The user part with its escapes undone.
    pub fn user_unescaped(&self) -> Option<Cow<'a, str>> {
        self.user.map(grammar::unescape)
    }

    fn parse_sip(scheme: Scheme, text: &'a str) -> Result<Self, ParseError> {
        let (user, password, host_start) = userinfo(text)?;
        let after_user = text.get(host_start..).unwrap_or_default();
        let (host, host_length) =
            Host::parse_start(after_user).ok_or(ParseError::new(ParseErrorKind::Host, host_start))?;
        let port_start = host_start + host_length;
        let (port, port_length) = port(text.get(port_start..).unwrap_or_default())
            .ok_or(ParseError::new(ParseErrorKind::Port, port_start))?;
        let tail_start = port_start + port_length;
        let tail = text.get(tail_start..).unwrap_or_default();
        let question = memchr::memchr(b'?', tail.as_bytes());
        let (params, headers) = grammar::cut(tail, question.unwrap_or(tail.len()));
        let malformed = ParseError::new(ParseErrorKind::Uri, tail_start);
        let params = Params::parse_uri(params).ok_or(malformed)?;
        let headers = question.and_then(|_| headers.get(1..));
        if headers
            .is_some_and(|headers| headers.is_empty() || !grammar::is_escaped(headers, grammar::URI_HEADERS))
        {
            return Err(malformed);
        }
        Ok(Self { scheme, user, password, host, port, params, headers })
    }

    fn parse_tel(text: &'a str) -> Result<Self, ParseError> {
        let semicolon = memchr::memchr(b';', text.as_bytes()).unwrap_or(text.len());
        let (number, params) = grammar::cut(text, semicolon);
        let digits = number.strip_prefix('+').unwrap_or(number);
        let is_separator = |byte: u8| matches!(byte, b'-' | b'.' | b'(' | b')');
        let is_digit = |byte: u8| match number.len() == digits.len() {
            true => byte.is_ascii_hexdigit() || matches!(byte, b'*' | b'#'),
            false => byte.is_ascii_digit(),
        };
        let is_number =
            digits.bytes().all(|byte| is_digit(byte) || is_separator(byte)) && digits.bytes().any(is_digit);
        if !is_number {
            return Err(ParseError::new(ParseErrorKind::Uri, 0));
        }
        let params = Params::parse_uri(params).ok_or(ParseError::new(ParseErrorKind::Uri, semicolon))?;
        let host = Host::Name("");
        Ok(Self {
            scheme: Scheme::Tel,
            user: Some(number),
            password: None,
            host,
            port: None,
            params,
            headers: None,
        })
    }
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme.as_str())?;
        f.write_str(self.user.unwrap_or_default())?;
        if let Some(password) = self.password {
            write!(f, ":{password}")?;
        }
        if self.user.is_some() && self.scheme != Scheme::Tel {
            f.write_str("@")?;
        }
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.params.as_str())?;
        self.headers.map_or(Ok(()), |headers| write!(f, "?{headers}"))
    }
}

/// User, password, and where the host begins.
fn userinfo(text: &str) -> Result<(Option<&str>, Option<&str>, usize), ParseError> {
    // Neither `;` nor `?` ends the user part: it may hold both (RFC 4475 §3.1.1.12), the rest no bare `@`.
    let Some(at) = memchr::memchr(b'@', text.as_bytes()) else {
        return Ok((None, None, 0));
    };
    let (info, _) = grammar::cut(text, at);
    let (user, password) = match info.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (info, None),
    };
    let clean = !user.is_empty() && grammar::is_escaped(user, grammar::USER);
    if !clean || !password.is_none_or(|password| grammar::is_escaped(password, grammar::PASSWORD)) {
        return Err(ParseError::new(ParseErrorKind::Uri, 0));
    }
    Ok((Some(user), password, at + 1))
}

/// The port that `text` begins with, after its colon, and the length of both; nothing without a colon.
fn port(text: &str) -> Option<(Option<u16>, usize)> {
    let Some(rest) = text.strip_prefix(':') else {
        return Some((None, 0));
    };
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some((Some(port_number(rest.get(..length)?)?), length + 1))
}

/// A port of digits only.
pub(super) fn port_number(digits: &str) -> Option<u16> {
    grammar::number(digits, u32::from(u16::MAX)).and_then(|number| u16::try_from(number).ok())
}

impl<'a> Host<'a> {
    /// Parses a whole host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn parse(text: &'a str) -> Option<Self> {
        Self::parse_start(text).filter(|(_, length)| *length == text.len()).map(|(host, _)| host)
    }

    /// The address, where the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Name(_) => None,
        }
    }

    /// The host that `text` begins with, and its length.
    pub(super) fn parse_start(text: &'a str) -> Option<(Self, usize)> {
        if let Some(inner) = text.strip_prefix('[') {
            let length = memchr::memchr(b']', inner.as_bytes())?;
            return Some((Self::Ip(ipv6(inner.get(..length)?)?.into()), length + 2));
        }
        let length = grammar::run(text.as_bytes(), grammar::HOST);
        let name = text.get(..length)?;
        // Names are kept to what DNS takes.
        if length == 0 || length > 255 {
            return None;
        }
        if looks_like_address(name) {
            let address: Ipv4Addr = name.parse().ok()?;
            return Some((Self::Ip(address.into()), length));
        }
        without_dot(name).split('.').all(is_label).then_some((Self::Name(name), length))
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// An IPv6 address. The grammar of RFC 3261 writes one colon too many before an IPv4 tail; RFC 5118 §4.10
/// wants that read too, there and nowhere else.
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (before, tail) = text.split_once(":::")?;
    let _: Ipv4Addr = tail.parse().ok()?;
    format!("{before}::{tail}").parse().ok()
}

/// Whether a resolver could take `name` for an address: its last label is a number. Such a host is an
/// address in four decimal parts or nothing; `1.2.3`, `010.0.0.1` and `127.0x1` are nothing.
fn looks_like_address(name: &str) -> bool {
    let last = without_dot(name).rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    fn kind(text: &str) -> ParseErrorKind {
        Uri::parse(text).expect_err(text).kind
    }

    #[test]
    fn every_part_is_found() {
        let found = uri("sips:al%20ice:pass@[2001:db8::9]:5061;transport=tls;lr?Subject=a%40b&x=y");
        assert_eq!(found.scheme, Scheme::Sips);
        assert_eq!(found.user, Some("al%20ice"));
        assert_eq!(found.user_unescaped().as_deref(), Some("al ice"));
        assert_eq!(found.password, Some("pass"));
        assert_eq!(found.host, Host::Ip("2001:db8::9".parse().expect("address")));
        assert_eq!(found.port, Some(5061));
        assert_eq!(found.params.value("Transport"), Some("tls"));
        assert_eq!(found.params.get("lr"), Some(None));
        assert_eq!(found.headers, Some("Subject=a%40b&x=y"));
    }

    #[test]
    fn the_user_part_may_hold_semicolons_and_question_marks() {
        let found = uri("sip:user;par=u%40example.net@example.com");
        assert_eq!((found.user, found.host), (Some("user;par=u%40example.net"), Host::Name("example.com")));
        let found = uri(
            "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
        );
        assert_eq!(found.password, Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
        assert_eq!(uri("sip:*72#@example.com").user, Some("*72#"));
    }

    #[test]
    fn a_uri_is_written_as_it_was_read() {
        for text in [
            "sip:example.com",
            "sip:a:b@example.com:5060;lr?x=y",
            "sips:a:@[2001:db8::1]",
            "tel:+49-30-1234;ext=5",
            "sip:192.0.2.1:65535;maddr=[::1];x",
        ] {
            assert_eq!(uri(text).to_string(), text);
        }
    }

    #[test]
    fn tel_numbers_stand_in_the_user_part() {
        let found = uri("tel:+1-(201)-555.0123;ext=9");
        assert_eq!((found.scheme, found.user), (Scheme::Tel, Some("+1-(201)-555.0123")));
        assert_eq!(found.params.value("ext"), Some("9"));
        assert_eq!(uri("TEL:*21#;phone-context=+49").user, Some("*21#"));
        for bad in ["tel:", "tel:+", "tel:+a", "tel:()", "tel:12@host", "tel:1 2", "tel:+1;"] {
            assert_eq!(kind(bad), ParseErrorKind::Uri, "{bad}");
        }
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        for bad in [
            "",
            "sip",
            "sip:a b@host",
            "sip:@host",
            "sip::pw@host",
            "sip:a%4@host",
            "sip:a%zz@host",
            "sip:a<b@host",
            "sip:ü@host",
            "sip:a@host?",
            "sip:a@host;",
            "sip:a@host;;lr",
            "sip:a@host;lr lr",
            "sip:a@host;x=\"y\"",
            "sip:a@host/x",
            "//host",
            "1x:y",
            "sip:a@host:5060@c",
        ] {
            assert_eq!(kind(bad), ParseErrorKind::Uri, "{bad}");
        }
        for bad in ["sip:a@b@c", "sip:a@b;x@c"] {
            assert_eq!(kind(bad), ParseErrorKind::Uri, "{bad}");
        }
        for bad in [
            "sip:",
            "sip:a@",
            "sip:a@[::1",
            "sip:a@[1.2.3.4]",
            "sip:a@[fe80::1%25eth0]",
            "sip:a@1.2.3",
            "sip:a@256.1.1.1",
            "sip:a@010.0.0.1",
            "sip:a@127.0x1",
            "sip:a@0x7f000001",
            "sip:a@-b.com",
            "sip:a@b..c",
            "sip:a@.c",
            "sip:a@.",
            "sip:a@[2001:db8:::1]",
            "sip:a@2130706433",
            "sip:a@[2001:db8::::192.0.2.1]",
            "sip:a@[1::2:::192.0.2.1]",
        ] {
            assert_eq!(kind(bad), ParseErrorKind::Host, "{bad}");
        }
        for bad in ["sip:a@host:", "sip:a@host:65536", "sip:a@host:-1", "sip:a@host:x", "sip:a@[::1]:"] {
            assert_eq!(kind(bad), ParseErrorKind::Port, "{bad}");
        }
    }

    #[test]
    fn a_foreign_scheme_is_not_a_malformed_uri() {
        for foreign in
            ["http://example.com/", "nobodyKnowsThisScheme:totallyopaquecontent", "isbn:2983792873"]
        {
            assert_eq!(kind(foreign), ParseErrorKind::UnknownScheme, "{foreign}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_a_name() {
        let host = |text| Host::parse(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(host("[2001:DB8::1]"), host("[2001:db8:0::1]"));
        assert_eq!(host("Example.COM."), Host::Name("Example.COM."));
        assert_eq!(host("under_score.local").to_string(), "under_score.local");
        assert_eq!(Host::parse("example.com:5060"), None);
    }
}
