//! Every message of RFC 4475 and RFC 5118 with its verdict: the step that refuses it, or none.
//!
//! The messages stand in `sip_torture/`, byte for byte, and their verdicts in its table, which the test of the
//! running border reads too.
#![expect(clippy::expect_used, reason = "a test ends where its own ground gives way")]

mod sip_corpus;

use std::collections::BTreeSet;
use std::net::IpAddr;

use wire::sip::{
    HeaderName, Message, Method, NameAddr, ParseErrorKind, StartLine, Uri, Via, split_list, unfold,
};

/// Where a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// `Message::parse`.
    Parse,
    /// `Message::essentials`.
    Essentials,
    /// `Uri::parse` of the Request-URI.
    RequestUri,
    /// `Uri::parse` of To.
    To,
    /// `NameAddr::parse` of a Contact.
    Contact,
}

type Refused = Option<(At, ParseErrorKind)>;

/// What RFC 5118 prints, and what it must mean.
const MENDED: &[(&str, &str, &str)] = &[
    ("ipv6-in-sdp", "Content-Length: 268", "Content-Length: 251"),
    ("mult-ip-in-sdp", "Content-Length: 181", "Content-Length: 189"),
    ("ipv4-mapped-ipv6", "Content-Length: 236", "Content-Length: 245"),
];

const TABLE: &str = include_str!("sip_torture/README.md");

/// The rows of the table: section, name, verdict of the parser.
fn rows() -> Vec<(&'static str, &'static str, &'static str)> {
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.skip(2)
        .map(|row| {
            let mut cells = row.split(" | ");
            let mut cell = || cells.next().expect("a cell").trim();
            (cell(), cell(), cell())
        })
        .collect()
}

/// Goes through the steps in the order in which the border takes them.
fn judge(bytes: &[u8]) -> Refused {
    let message = match Message::parse(bytes) {
        Ok(message) => message,
        Err(fault) => return Some((At::Parse, fault.kind)),
    };
    let essentials = match message.essentials() {
        Ok(essentials) => essentials,
        Err(fault) => return Some((At::Essentials, fault.kind)),
    };
    let refused = |at, result: Result<_, wire::sip::ParseError>| result.err().map(|fault| (at, fault.kind));
    let request_uri = match message.start() {
        StartLine::Request { uri, .. } => refused(At::RequestUri, Uri::parse(uri).map(drop)),
        StartLine::Status { .. } => None,
    };
    let contact = || {
        let values = message.values(HeaderName::Contact).flat_map(split_list);
        values.map(NameAddr::parse).find_map(|parsed| refused(At::Contact, parsed.map(drop)))
    };
    let to = || refused(At::To, Uri::parse(essentials.to.uri).map(drop));
    request_uri.or_else(to).or_else(contact)
}

fn message(name: &str) -> Vec<u8> {
    let files = sip_corpus::files_of("sip_torture");
    files.into_iter().find(|(found, _)| found == name).expect(name).1
}

#[test]
fn every_message_gets_its_verdict() {
    let files = sip_corpus::files_of("sip_torture");
    let rows = rows();
    let listed: BTreeSet<&str> = rows.iter().map(|(_, name, _)| *name).collect();
    assert_eq!(listed, files.iter().map(|(name, _)| name.as_str()).collect(), "table and folder differ");
    let of_rfc_4475 = rows.iter().filter(|(section, ..)| section.starts_with("3.")).count();
    assert_eq!((of_rfc_4475, rows.len() - of_rfc_4475), (49, 12), "none is left out");
    for (section, name, verdict) in rows {
        let (_, bytes) = files.iter().find(|(found, _)| found == name).expect(name);
        let found = judge(bytes).map_or("valid".to_owned(), |(at, kind)| format!("{at:?} {kind:?}"));
        assert_eq!(found, verdict, "{section} {name}");
    }
}

#[test]
fn what_rfc_5118_means_is_valid() {
    for (name, printed, right) in MENDED {
        let text = String::from_utf8(message(name)).expect("text");
        let mended = text.replace(printed, right);
        assert_ne!(mended, text, "{name}");
        assert_eq!(judge(mended.as_bytes()), None, "{name}");
        let body = Message::parse(mended.as_bytes()).expect(name).body().len();
        assert!(mended.ends_with("a=rtpmap:107 H263-1998/90000\r\n") && right.ends_with(&body.to_string()));
    }
}

#[test]
fn wsinv_is_read_as_the_rfc_says() {
    let bytes = message("wsinv");
    let message = Message::parse(&bytes).expect("valid");
    let found = message.essentials().expect("valid");
    assert_eq!((found.from.display, found.from.tag()), (Some(r#""J Rosenberg \\\"""#), Some("98asjd8")));
    assert_eq!((found.to.uri, found.to.tag()), ("sip:vivekg@chair-dnrc.example.com", Some("1918181833n")));
    assert_eq!((found.max_forwards, found.cseq.number, found.cseq.method), (Some(68), 9, Method::Invite));
    assert_eq!((found.via.transport, found.via.branch()), ("UDP", Some("390skdjuw")));
    let vias: Vec<_> = message.values(HeaderName::Via).flat_map(split_list).collect();
    assert_eq!(vias.len(), 3);
    let second = Via::parse(vias.get(1).expect("three")).expect("valid");
    assert_eq!((second.transport, second.branch()), ("TCP", Some("z9hG4bK9ikj8")));
    assert_eq!(message.value(HeaderName::Subject), Some(""));
    let new_fangled = message.value(HeaderName::parse("newfangledheader")).expect("there");
    assert_eq!(unfold(new_fangled), "newfangled value continued newfangled value");
    assert_eq!(message.value(HeaderName::Other("UnknownHeaderWithUnusualValue")), Some(";;,,;;,;"));
    let contact = NameAddr::parse(message.value(HeaderName::Contact).expect("there")).expect("valid");
    assert_eq!(contact.display, Some(r#""Quoted string \"\"""#));
    let params: Vec<_> = contact.params.iter().collect();
    assert_eq!(params, [("newparam", Some("newvalue")), ("secondparam", None), ("q", Some("0.33"))]);
    assert_eq!(message.body().len(), 150);
}

#[test]
fn intmeth_keeps_every_character() {
    let bytes = message("intmeth");
    let message = Message::parse(&bytes).expect("valid");
    let found = message.essentials().expect("valid");
    assert_eq!(found.to.display, Some("\"BEL:\\\u{7} NUL:\\\0 DEL:\\\u{7f}\""));
    assert_eq!(found.call_id, r#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#);
    assert_eq!(found.from.display, Some("token1~` token2'+_ token3*%!.-"));
    assert_eq!(found.from.params.value("fromParam''~+*_!.-%"), Some("работающий"));
    let StartLine::Request { uri, method } = message.start() else { panic!("a request") };
    assert_eq!(method, Method::Other("!interesting-Method0123456789_*+`.%indeed'~"));
    let uri = Uri::parse(uri).expect("valid");
    assert_eq!(uri.user, Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
    assert_eq!(uri.password, Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
}

#[test]
fn escapes_and_parameters_end_up_where_they_belong() {
    let bytes = message("esc02");
    let contacts = Message::parse(&bytes).expect("valid").values(HeaderName::Contact).count();
    assert_eq!(contacts, 2, "C%6Fntact is another header");
    let bytes = message("semiuri");
    let StartLine::Request { uri, .. } = Message::parse(&bytes).expect("valid").start() else {
        panic!("a request")
    };
    let uri = Uri::parse(uri).expect("valid");
    assert_eq!(
        (uri.user, uri.host),
        (Some("user;par=u%40example.net"), wire::sip::Host::Name("example.com"))
    );
    for (name, of_header) in [("cparam01", true), ("cparam02", false)] {
        let bytes = message(name);
        let message = Message::parse(&bytes).expect("valid");
        let contact = NameAddr::parse(message.value(HeaderName::Contact).expect("there")).expect("valid");
        assert_eq!(contact.params.has("unknownparam"), of_header);
        assert_eq!(Uri::parse(contact.uri).expect("valid").params.has("unknownparam"), !of_header);
    }
}

#[test]
fn bodies_are_cut_where_content_length_says() {
    let bytes = message("dblreq");
    assert_eq!(Message::parse(&bytes).expect("valid").body(), b"");
    let bytes = message("mpart01");
    let message = Message::parse(&bytes).expect("valid");
    assert_eq!(message.body().len(), 553);
    assert!(message.body().contains(&0), "binary");
}

#[test]
fn ports_and_addresses_of_ipv6_are_told_apart() {
    let host_and_port = |name: &str| {
        let bytes = message(name);
        let StartLine::Request { uri, .. } = Message::parse(&bytes).expect("valid").start() else {
            panic!("a request")
        };
        let uri = Uri::parse(uri).expect("valid");
        (uri.host.ip(), uri.port)
    };
    let address = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
    assert_eq!(host_and_port("port-ambiguous"), (address("2001:db8::10:5070"), None));
    assert_eq!(host_and_port("port-unambiguous"), (address("2001:db8::10"), Some(5070)));
    assert_eq!(host_and_port("ipv6-bug-abnf-3-colons"), host_and_port("ipv6-correct-abnf-2-colons"));
}
