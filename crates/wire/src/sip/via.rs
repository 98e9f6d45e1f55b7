//! Via: where a request came along, and where its answers go. RFC 3261 §20.42, RFC 3581 (rport), RFC 5118.
//! Never resolves anything; the address in a Via is a claim of the sender.

use super::error::{ParseError, ParseErrorKind};
use super::grammar::{self, trim_start};
use super::{Host, Params, uri};

/// One hop of a Via header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// The transport's name as it stands.
    pub transport: &'a str,
    /// The host of sent-by.
    pub host: Host<'a>,
    /// The port of sent-by.
    pub port: Option<u16>,
    /// Parameters: `branch`, `received`, `rport`, `maddr`, and what else there is.
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// Parses the first value of a Via line.
    pub fn parse(line: &'a str) -> Result<Self, ParseError> {
        let (value, _) = grammar::cut(line, value_length(line));
        let malformed = ParseError::new(ParseErrorKind::Via, 0);
        let (transport, sent_by) = protocol(value).ok_or(malformed)?;
        let offset_of = |rest: &str| value.len() - rest.len();
        let (host, length) =
            Host::parse_start(sent_by).ok_or(ParseError::new(ParseErrorKind::Host, offset_of(sent_by)))?;
        let after_host = trim_start(grammar::cut(sent_by, length).1);
        let (port, tail) =
            sent_port(after_host).ok_or(ParseError::new(ParseErrorKind::Port, offset_of(after_host)))?;
        let shifted = |fault: ParseError| ParseError { offset: offset_of(tail) + fault.offset, ..fault };
        Ok(Self { transport, host, port, params: Params::parse(tail).map_err(shifted)? })
    }

    /// The `branch` parameter.
    pub fn branch(&self) -> Option<&'a str> {
        self.params.value("branch")
    }
}

/// Length of the first value of the line. Via has no angle brackets, so only quotes hide a comma.
fn value_length(line: &str) -> usize {
    match memchr::memchr2(b',', b'"', line.as_bytes()) {
        Some(at) if line.as_bytes().get(at) == Some(&b',') => at,
        Some(_) => grammar::first_comma(line),
        None => line.len(),
    }
}

/// The transport's name, and what follows the blank after it.
fn protocol(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix("SIP/2.0/") {
        let (transport, rest) = grammar::cut(rest, grammar::run(rest.as_bytes(), grammar::TOKEN));
        if let Some(sent_by) = rest.strip_prefix(' ').filter(|_| !transport.is_empty()) {
            return Some((transport, trim_start(sent_by)));
        }
    }
    // The long way: white space around the slashes (RFC 4475 §3.1.1.1).
    let (name, rest) = slashed(trim_start(text))?;
    let (version, rest) = slashed(rest)?;
    let (transport, rest) = grammar::cut(rest, grammar::run(rest.as_bytes(), grammar::TOKEN));
    let sent_by = trim_start(rest);
    let clean = name.eq_ignore_ascii_case("SIP") && version == "2.0" && !transport.is_empty();
    (clean && sent_by.len() < rest.len()).then_some((transport, sent_by))
}

/// The token before a slash, and what follows the slash.
fn slashed(text: &str) -> Option<(&str, &str)> {
    let (token, rest) = grammar::cut(text, grammar::run(text.as_bytes(), grammar::TOKEN));
    let rest = trim_start(rest).strip_prefix('/')?;
    Some((token, trim_start(rest)))
}

/// The port, with white space around the colon, and what follows it.
fn sent_port(text: &str) -> Option<(Option<u16>, &str)> {
    let Some(rest) = text.strip_prefix(':') else {
        return Some((None, text));
    };
    let rest = trim_start(rest);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, tail) = grammar::cut(rest, digits);
    Some((Some(uri::port_number(number)?), tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Via<'_> {
        Via::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    #[test]
    fn the_first_value_of_a_line_is_read() {
        let found = via("SIP/2.0/TLS [2001:db8::9]:5061;branch=z9hG4bK77;rport , SIP/2.0/UDP b;branch=x");
        assert_eq!(found.transport, "TLS");
        assert_eq!(found.host, Host::Ip("2001:db8::9".parse().expect("address")));
        assert_eq!(found.port, Some(5061));
        assert_eq!((found.branch(), found.params.get("rport")), (Some("z9hG4bK77"), Some(None)));
        assert_eq!(via("SIP/2.0/UDP h;x=\"a,b\";rport=5,x").params.value("rport"), Some("5"));
    }

    #[test]
    fn white_space_stands_wherever_the_grammar_has_it() {
        let found =
            via("SIP  /   2.0\r\n /UDP\r\n    first.example.com : 4000 ;ttl=16\r\n ; branch = z9hG4bK1");
        assert_eq!((found.host, found.port), (Host::Name("first.example.com"), Some(4000)));
        assert_eq!((found.params.value("ttl"), found.branch()), (Some("16"), Some("z9hG4bK1")));
        assert_eq!(via("SIP/2.0/UDP  h").host, Host::Name("h"));
        assert_eq!(via("SIP/2.0/UDP\th").host, Host::Name("h"));
    }

    #[test]
    fn received_addresses_of_ipv6_come_bare_and_bracketed() {
        assert_eq!(via("SIP/2.0/UDP h;received=2001:db8::1").params.value("received"), Some("2001:db8::1"));
        assert_eq!(
            via("SIP/2.0/UDP h;received=[2001:db8::1]").params.value("received"),
            Some("[2001:db8::1]")
        );
    }

    #[test]
    fn what_is_no_via_is_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0/ h",
            "SIP/7.0/UDP h",
            "SIP/2.0UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP h:",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP h:65536",
            "SIP/2.0/UDP h x",
            "SIP/2.0/UDP h;",
            "SIP/2.0/UDP h;branch=",
            "SIP/2.0/UDP h;;branch=x",
            "SIP/2.0/UDP 1.2.3",
            "SIP/2.0/UDP h (comment)",
            "SIP/2.0/UDP <h>",
            "SIP/2.0/UDP 192.168.0.1:5060;x=\"y",
        ] {
            assert!(Via::parse(bad).is_err(), "{bad:?}");
        }
    }
}
