//! What may cross the border: every header that shows the topology of one side ends here.
//!
//! Headers are made anew (Via, Contact, Route, Call-ID, …), dropped, mapped (URIs of Referred-By), or passed as
//! they came. A header we don't know passes, unless its value names something that the other side must not
//! see: outward also any private address, which is some host of the inside. RFC 3323 §5, RFC 7092.

use std::borrow::Cow;
use std::net::IpAddr;

use wire::net::Side;
use wire::sip::{HeaderName, Host, Message, NameAddr, Uri, Via, Writer};

use crate::config::Config;
use crate::host_text;

/// What becomes of a header on its way to a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// We write our own, or none.
    Made,
    /// It never crosses.
    Dropped,
    /// Its URIs get the host that the other side knows.
    Mapped,
    /// It crosses unless it names something hidden.
    Passed,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a header passes unless this table says otherwise, those that have no name here as well"
)]
fn fate(name: HeaderName<'_>, to: Side) -> Fate {
    use HeaderName as H;
    match name {
        H::Via
        | H::From
        | H::To
        | H::CallId
        | H::CSeq
        | H::Contact
        | H::MaxForwards
        | H::ContentLength
        | H::ContentType => Fate::Made,
        H::Route | H::RecordRoute | H::Path | H::ServiceRoute => Fate::Made,
        H::Authorization | H::ProxyAuthorization | H::WwwAuthenticate | H::ProxyAuthenticate => Fate::Made,
        H::RAck | H::Replaces | H::Join | H::TargetDialog | H::InReplyTo | H::ReferTo => Fate::Made,
        H::ReferredBy => Fate::Mapped,
        H::UserAgent if to == Side::Inside => Fate::Passed,
        H::UserAgent | H::Server | H::Warning | H::HistoryInfo | H::Diversion | H::ErrorInfo => Fate::Dropped,
        H::PAssertedIdentity | H::PPreferredIdentity | H::RemotePartyId | H::AuthenticationInfo => {
            Fate::Dropped
        }
        _ => Fate::Passed,
    }
}

/// So many of our names and addresses are shown.
const OURS_SHOWN: usize = 6;

/// The names and addresses of both faces.
pub(crate) struct Topology {
    /// What a phone may address us by: our addresses, the names of our certificate, the domains.
    ours: Vec<String>,
    /// What must never be seen outside, in lower case.
    hidden: Vec<String>,
}

impl Topology {
    pub(crate) fn new(config: &Config) -> Self {
        let mut ours = vec![config.outside.address.to_string(), config.outside.public_address.to_string()];
        ours.extend(config.outside.server_names.iter().map(|name| name.to_ascii_lowercase()));
        ours.extend(config.pbx.iter().map(|pbx| pbx.domain.to_ascii_lowercase()));
        let mut topology = Self { ours, hidden: Vec::new() };
        topology.hide(&config.inside.address.to_string());
        for pbx in &config.pbx {
            topology.hide(&pbx.host);
        }
        topology
    }

    /// Never lets this name or address out; what is public by configuration stays public.
    pub(crate) fn hide(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        if !self.ours.contains(&name) && !self.hidden.contains(&name) {
            self.hidden.push(name);
        }
    }

    /// Whether a phone that says this host means us.
    pub(crate) fn is_ours(&self, host: &Host<'_>) -> bool {
        match host {
            Host::Name(name) => self.ours.iter().any(|ours| ours.eq_ignore_ascii_case(name)),
            Host::Ip(ip) => {
                let ip = ip.to_canonical();
                self.ours.iter().any(|ours| ours.parse::<IpAddr>().is_ok_and(|ours| ours == ip))
            }
        }
    }

    /// What a phone may address us by, for people: the domains first.
    pub(crate) fn ours_in_words(&self) -> String {
        let mut named: Vec<&str> = Vec::new();
        for name in self.ours.iter().rev() {
            if !named.contains(&name.as_str()) {
                named.push(name);
            }
        }
        let more = if named.len() > OURS_SHOWN { ", …" } else { "" };
        named.truncate(OURS_SHOWN);
        named.join(", ") + more
    }

    /// Whether text names something of the inside.
    pub(crate) fn names_hidden(&self, text: &str) -> bool {
        self.hidden.iter().any(|hidden| host_text::names(text.as_bytes(), hidden))
    }

    /// `text` with the domain in the place of every hidden host.
    pub(crate) fn masked(&self, text: &[u8], domain: &str) -> Vec<u8> {
        host_text::replaced(text, self.hidden.iter().map(String::as_str), domain)
    }

    /// Whether text holds an address that belongs to no face of ours and to no network but the inside.
    fn names_private_address(&self, text: &str) -> bool {
        let is_ours = |ip: IpAddr| self.is_ours(&Host::Ip(ip));
        host_text::addresses(text).into_iter().any(|ip| host_text::is_of_a_network(ip) && !is_ours(ip))
    }

    /// Copies what may cross from `message` towards `to`. `domain` is what both sides call the home of the
    /// extensions; `private` names the sender's own addresses, hidden inward.
    pub(crate) fn pass_headers(
        &self,
        message: &Message<'_>,
        to: Side,
        domain: &str,
        private: &[String],
        writer: &mut Writer,
    ) {
        for header in message.headers() {
            let value = wire::sip::unfold(header.value);
            let value: Cow<'_, str> = match fate(header.name, to) {
                Fate::Made | Fate::Dropped => continue,
                Fate::Mapped => match self.map_name_addr(&value, to, domain, "") {
                    Some(mapped) => mapped.into(),
                    None => continue,
                },
                Fate::Passed => value,
            };
            if !self.leaks(&value, to, private) {
                writer.header(header.name.as_str(), value);
            }
        }
    }

    /// Whether a header's value names what the `to` side must not see, be it with quoted pairs in it
    /// (RFC 3261 §25.1): `\1` is `1`.
    pub(crate) fn leaks(&self, value: &str, to: Side, private: &[String]) -> bool {
        let leaks = |value: &str| match to {
            Side::Outside => self.names_hidden(value) || self.names_private_address(value),
            Side::Inside => private.iter().any(|name| host_text::names(value.as_bytes(), name)),
        };
        leaks(value) || (value.contains('\\') && leaks(&value.replace('\\', "")))
    }

    /// A name-addr with the host that the other side knows. The headers in its URI (`Replaces`, …) name dialogs
    /// as only the sender's side knows them: `headers`, with its question mark, stands in their place.
    pub(crate) fn map_name_addr(&self, value: &str, to: Side, domain: &str, headers: &str) -> Option<String> {
        let parsed = NameAddr::parse(value).ok()?;
        let uri = Uri::parse(parsed.uri).ok()?;
        let foreign = match to {
            Side::Outside => match uri.host {
                Host::Ip(_) => true,
                Host::Name(name) => self.names_hidden(name),
            },
            Side::Inside => self.is_ours(&uri.host),
        };
        if foreign {
            let user = uri.user?;
            return Some(format!("<sip:{user}@{domain}{headers}>"));
        }
        match uri.headers {
            None => Some(value.to_owned()),
            Some(old) => {
                let bare = parsed.uri.strip_suffix(old)?.strip_suffix('?')?;
                Some(format!("<{bare}{headers}>"))
            }
        }
    }

    /// The addresses by which the sender of an outside message could be known inside.
    ///
    /// `registered` is its registered contact.
    pub(crate) fn private_names<'a>(
        message: &Message<'a>,
        remote: IpAddr,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Vec<String> {
        let remote = remote.to_canonical();
        let contact = message.value(HeaderName::Contact).and_then(|value| NameAddr::parse(value).ok());
        let via = message.value(HeaderName::Via).and_then(|value| Via::parse(value).ok());
        let hosts = contact
            .map(|contact| contact.uri)
            .into_iter()
            .chain(known)
            .filter_map(|uri| Uri::parse(uri).ok())
            .map(|uri| uri.host)
            .chain(via.map(|via| via.host));
        let mut seen = vec![Host::Ip(remote)];
        let mut names = vec![remote.to_string()];
        for host in hosts {
            // Mostly they are one and the same.
            if seen.contains(&host) {
                continue;
            }
            seen.push(host);
            // An IPv6 address may stand with its brackets, or without.
            let name = match host {
                Host::Ip(ip) => ip.to_canonical().to_string(),
                Host::Name(name) => name.to_owned(),
            };
            if !names.contains(&name) && name.len() > 3 {
                names.push(name);
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        let mut topology = Topology {
            ours: vec!["203.0.113.10".into(), "sbc.example.com".into(), "example.com".into()],
            hidden: Vec::new(),
        };
        topology.hide("10.0.0.2");
        topology.hide("PBX1.example.internal");
        topology.hide("example.com");
        topology
    }

    fn passed(message: &str, to: Side) -> String {
        let text = message.replace('\n', "\r\n");
        let message = Message::parse(text.as_bytes()).unwrap();
        let mut writer = Writer::request("INFO", "sip:x");
        let private = vec!["192.168.1.20".to_owned()];
        topology().pass_headers(&message, to, "example.com", &private, &mut writer);
        let bytes = writer.finish(b"");
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .skip(1)
            .filter(|l| !l.is_empty() && !l.starts_with("Content-Length"))
            .collect::<Vec<_>>()
            .join("|")
    }

    const HEAD: &str = "INFO sip:a@b SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.10;branch=z9hG4bK1\nFrom: <sip:a@b>;tag=1\n\
                        To: <sip:c@d>\nCall-ID: x@10.0.0.10\nCSeq: 1 INFO\n";

    #[test]
    fn header_table() {
        for (header, to, expected) in [
            ("X-Unknown: some thing", Side::Outside, "X-Unknown: some thing"),
            ("X-Trace: host=10.0.0.2", Side::Outside, ""),
            ("X-Trace: via pbx1.EXAMPLE.internal", Side::Outside, ""),
            ("X-Trace: 110.0.0.2 110.0.0.21", Side::Outside, "X-Trace: 110.0.0.2 110.0.0.21"),
            ("X-Trace: abc%4010.0.0.2", Side::Outside, ""),
            ("X-Trace: sip%3a1%40pbx1%2Eexample.internal", Side::Outside, ""),
            ("Call-Info: <http://10.0.0.77/x.jpg>", Side::Outside, ""),
            ("Call-Info: <http://192.0.2.77/x.jpg>", Side::Outside, "Call-Info: <http://192.0.2.77/x.jpg>"),
            ("Call-Info: <http://10.0.0.77/x.jpg>", Side::Inside, "Call-Info: <http://10.0.0.77/x.jpg>"),
            ("Alert-Info: <http://127.0.0.1>;info=x", Side::Outside, "Alert-Info: <http://127.0.0.1>;info=x"),
            ("X-Trace: <sip:10.0.0.2:5060>", Side::Outside, ""),
            (r#"X-Trace: "10\.9.0.4""#, Side::Outside, ""),
            (r#"X-Trace: "pbx1\.example.\internal""#, Side::Outside, ""),
            (r#"X-Trace: "192\.168.1.20""#, Side::Inside, ""),
            (r#"X-Trace: "a\"b""#, Side::Outside, r#"X-Trace: "a\"b""#),
            ("X-Trace: 10.9.000.004", Side::Outside, ""),
            ("X-Trace: v10.9.0.4", Side::Outside, ""),
            ("X-Trace: at example.com", Side::Outside, "X-Trace: at example.com"),
            ("X-Trace: at 192.168.1.20", Side::Inside, ""),
            ("Server: kamailio (5.6.3)", Side::Outside, ""),
            ("User-Agent: Phone 1.0", Side::Inside, "User-Agent: Phone 1.0"),
            ("User-Agent: PBX 2.0", Side::Outside, ""),
            ("P-Asserted-Identity: <sip:1@example.com>", Side::Outside, ""),
            ("P-Asserted-Identity: <sip:1@example.com>", Side::Inside, ""),
            ("Record-Route: <sip:10.0.0.10;lr>", Side::Outside, ""),
            ("Referred-By: <sip:1002@10.0.0.10>", Side::Outside, "Referred-By: <sip:1002@example.com>"),
            ("Referred-By: <sip:1002@203.0.113.10>", Side::Inside, "Referred-By: <sip:1002@example.com>"),
            ("Referred-By: <sip:x@other.example>", Side::Inside, "Referred-By: <sip:x@other.example>"),
            ("Referred-By: <sip:x@example.com?X=y>", Side::Outside, "Referred-By: <sip:x@example.com>"),
            ("Subject: a\n b", Side::Inside, "Subject: a b"),
        ] {
            let message = format!("{HEAD}{header}\nContent-Length: 0\n\n");
            assert_eq!(passed(&message, to), expected, "{header} to {to:?}");
        }
    }

    #[test]
    fn hidden_hosts_in_a_text_become_the_domain() {
        let text = b"Message-Account: sip:a@10.0.0.2;x\r\nat PBX1.example.internal, not 110.0.0.2";
        let expected = b"Message-Account: sip:a@example.com;x\r\nat example.com, not 110.0.0.2";
        assert_eq!(topology().masked(text, "example.com"), expected);
    }

    #[test]
    fn a_phone_is_known_by_its_addresses_with_brackets_and_without() {
        let text = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP [fd00:1::b]:5070;branch=z9hG4bK1\r\n\
                    From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\
                    Contact: <sip:line@host.home.example>\r\nX-Phone: wired to fd00:1::b, as [FD00:1::B]\r\n\
                    Content-Length: 0\r\n\r\n";
        let message = Message::parse(text.as_bytes()).unwrap();
        let remote = "2001:db8::7".parse().unwrap();
        let private = Topology::private_names(&message, remote, Some("sip:line@[fd00:1::c]:5070"));
        assert_eq!(private, ["2001:db8::7", "host.home.example", "fd00:1::c", "fd00:1::b"]);
        let mut writer = Writer::request("OPTIONS", "sip:x");
        topology().pass_headers(&message, Side::Inside, "example.com", &private, &mut writer);
        let passed = String::from_utf8(writer.finish(b"")).unwrap().to_lowercase();
        assert!(!passed.contains("fd00:1"), "{passed}");
    }

    #[test]
    fn we_are_known_by_our_addresses_and_names_alone() {
        let topology = topology();
        for (host, ours) in [
            (Host::Name("SBC.example.com"), true),
            (Host::Name("example.com"), true),
            (Host::Name("pbx1.example.internal"), false),
            (Host::Ip("203.0.113.10".parse().unwrap()), true),
            (Host::Ip("::ffff:203.0.113.10".parse().unwrap()), true),
            (Host::Ip("10.0.0.2".parse().unwrap()), false),
        ] {
            assert_eq!(topology.is_ours(&host), ours, "{host:?}");
        }
    }
}
