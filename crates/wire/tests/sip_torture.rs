//! Every message of RFC 4475 and RFC 5118 with the step that refuses it, or none.
//!
//! The messages stand in `sip_torture/`, byte for byte. Only where an RFC prints a Content-Length that is
//! not its body's (errata of both) the length is mended, for else all of those would test the same.
#![expect(clippy::expect_used, reason = "a test ends where its own ground gives way")]

mod sip_corpus;

use std::collections::BTreeSet;
use std::net::IpAddr;

use wire::sip::ParseErrorKind::{
    BodyTooShort, CSeqMethod, Host, MissingHeader, NameAddr as BadAddress, Number, Params as BadParams,
    Quotes, RepeatedHeader, StartLine as BadStartLine, StatusCode, UnknownScheme, Uri as BadUri, Version,
};
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

const VALID: Refused = None;

const TABLE: &[(&str, &str, Refused, &str)] = &[
    // RFC 4475 §3.1.1: valid messages.
    ("3.1.1.1", "wsinv", VALID, "folds, white space and case everywhere, but where the grammar has them"),
    ("3.1.1.2", "intmeth", VALID, "the widest choice of characters, quoted NUL included"),
    ("3.1.1.3", "esc01", VALID, "escapes in user parts and parameters"),
    ("3.1.1.4", "escnull", VALID, "an escaped NUL is a character of the user part"),
    ("3.1.1.5", "esc02", VALID, "% is no escape in a method, a header name or a display name"),
    ("3.1.1.6", "lwsdisp", VALID, "no blank between display name and <"),
    ("3.1.1.7", "longreq", VALID, "long values and many Vias"),
    ("3.1.1.8", "dblreq", VALID, "what follows the body of a datagram is left out"),
    ("3.1.1.9", "semiuri", VALID, "a semicolon in the user part"),
    ("3.1.1.10", "transports", VALID, "transports that nobody knows"),
    ("3.1.1.11", "mpart01", VALID, "a body of binary parts"),
    ("3.1.1.12", "unreason", VALID, "a reason phrase in UTF-8"),
    ("3.1.1.13", "noreason", VALID, "an empty reason phrase"),
    // §3.1.2: invalid messages.
    ("3.1.2.1", "badinv01", Some((At::Essentials, BadParams)), "separators with nothing between them in Via"),
    ("3.1.2.2", "clerr", Some((At::Parse, BodyTooShort)), "Content-Length larger than the datagram"),
    ("3.1.2.3", "ncl", Some((At::Parse, Number)), "a negative Content-Length"),
    ("3.1.2.4", "scalar02", Some((At::Essentials, Number)), "CSeq beyond its range"),
    ("3.1.2.5", "scalarlg", Some((At::Essentials, Number)), "CSeq of a response beyond its range"),
    ("3.1.2.6", "quotbal", Some((At::Essentials, Quotes)), "a quote that is not closed in To"),
    ("3.1.2.7", "ltgtruri", Some((At::Parse, BadUri)), "<> around the Request-URI"),
    ("3.1.2.8", "lwsruri", Some((At::Parse, BadStartLine)), "a blank in the Request-URI"),
    ("3.1.2.9", "lwsstart", Some((At::Parse, BadUri)), "two blanks in the request line"),
    ("3.1.2.10", "trws", Some((At::Parse, BadStartLine)), "blanks at the end of the request line"),
    ("3.1.2.11", "escruri", Some((At::Parse, BadUri)), "headers in the Request-URI"),
    ("3.1.2.12", "baddate", VALID, "Date is passed on unread, as the RFC allows"),
    ("3.1.2.13", "regbadct", Some((At::Contact, BadAddress)), "a URI with ? outside <>"),
    ("3.1.2.14", "badaspec", Some((At::Essentials, BadAddress)), "blanks inside <>"),
    ("3.1.2.15", "baddn", Some((At::Essentials, BadAddress)), "a comma in a display name without quotes"),
    ("3.1.2.16", "badvers", Some((At::Parse, Version)), "SIP/7.0"),
    ("3.1.2.17", "mismatch01", Some((At::Essentials, CSeqMethod)), "CSeq names another method"),
    ("3.1.2.18", "mismatch02", Some((At::Essentials, CSeqMethod)), "the same with an unknown method"),
    ("3.1.2.19", "bigcode", Some((At::Parse, StatusCode)), "a status code of ten digits"),
    // §3.2 to §3.4: sound bytes with trouble for the layers above.
    (
        "3.2.1",
        "badbranch",
        VALID,
        "the branch is a token; that it is only the cookie is for the transactions",
    ),
    ("3.3.1", "insuf", Some((At::Essentials, MissingHeader)), "no To, From and Call-ID"),
    ("3.3.2", "unkscm", Some((At::RequestUri, UnknownScheme)), "a scheme that nobody knows: 416"),
    ("3.3.3", "novelsc", Some((At::RequestUri, UnknownScheme)), "a scheme that is not for SIP: 416"),
    ("3.3.4", "unksm2", Some((At::To, UnknownScheme)), "foreign schemes in To, From and Contact"),
    ("3.3.5", "bext01", VALID, "extensions are for the user agent: 420"),
    ("3.3.6", "invut", VALID, "media types are for the user agent: 415"),
    ("3.3.7", "regaut01", VALID, "the scheme of Authorization is for the registrar"),
    ("3.3.8", "multi01", Some((At::Essentials, RepeatedHeader)), "headers that may stand once stand twice"),
    ("3.3.9", "mcl01", Some((At::Parse, RepeatedHeader)), "two values of Content-Length"),
    ("3.3.10", "bcast", VALID, "a broadcast address in the lower Via is for nobody here"),
    ("3.3.11", "zeromf", VALID, "Max-Forwards of zero: 483"),
    ("3.3.12", "cparam01", VALID, "parameters of Contact outside <> are the header's"),
    ("3.3.13", "cparam02", VALID, "parameters of Contact inside <> are the URI's"),
    ("3.3.14", "regescrt", VALID, "headers in the URI of a Contact"),
    ("3.3.15", "sdp01", VALID, "Accept is for the user agent"),
    ("3.4.1", "inv2543", VALID, "no branch, no From tag, no Content-Length, as in RFC 2543"),
    // RFC 5118.
    ("4.1", "ipv6-good", VALID, "an IPv6 reference"),
    ("4.2", "ipv6-bad", Some((At::RequestUri, Host)), "an IPv6 address without brackets"),
    ("4.3", "port-ambiguous", VALID, "all between the brackets is the address"),
    ("4.4", "port-unambiguous", VALID, "a port after the brackets"),
    ("4.5", "via-received-param-with-delim", VALID, "received in brackets"),
    ("4.5", "via-received-param-no-delim", VALID, "received without brackets"),
    ("4.6", "ipv6-in-sdp", VALID, "the body is SDP's"),
    ("4.7", "mult-ip-in-header", VALID, "both families in one message"),
    ("4.8", "mult-ip-in-sdp", VALID, "the body is SDP's"),
    ("4.9", "ipv4-mapped-ipv6", VALID, "mapped addresses"),
    ("4.10", "ipv6-bug-abnf-3-colons", VALID, "the colon too many of RFC 3261's grammar is read"),
    ("4.10", "ipv6-correct-abnf-2-colons", VALID, "the same as it should be"),
];

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
fn every_message_is_taken_or_refused_as_listed() {
    let files = sip_corpus::files_of("sip_torture");
    let listed: BTreeSet<&str> = TABLE.iter().map(|(_, name, ..)| *name).collect();
    assert_eq!(listed, files.iter().map(|(name, _)| name.as_str()).collect(), "table and folder differ");
    assert_eq!(TABLE.len(), 61, "49 messages of RFC 4475 and 12 of RFC 5118");
    for (section, name, refused, reason) in TABLE {
        let (_, bytes) = files.iter().find(|(found, _)| found == name).expect(name);
        assert_eq!(judge(bytes), *refused, "{section} {name}: {reason}");
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
