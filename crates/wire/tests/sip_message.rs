//! The scanner at its edges: limits, line ends, doubled headers, and what the writer makes of hostile values.
#![expect(clippy::expect_used, reason = "a test ends where its own ground gives way")]

use wire::sip::{
    HeaderName, Limits, Message, Method, NameAddr, Params, ParseError, ParseErrorKind, StartLine, Uri, Via,
    Writer, unfold,
};

const SOUND: &str = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: i\r\nCSeq: 1 OPTIONS\r\n";

fn request(headers: &str) -> String {
    format!("OPTIONS sip:a@b SIP/2.0\r\n{headers}\r\n")
}

fn kind(text: &str) -> ParseErrorKind {
    Message::parse(text.as_bytes()).expect_err(text).kind
}

/// The fault that `essentials` finds in a sound request with `line` put before it all.
fn fault_of(headers: &str) -> (ParseErrorKind, Option<HeaderName<'static>>) {
    let text = request(headers);
    let fault = Message::parse(text.as_bytes()).expect("parses").essentials().expect_err(headers);
    (fault.kind, fault.header)
}

#[test]
fn start_lines_are_taken_literally() {
    for (bad, expected) in [
        ("OPTIONS\r\n\r\n", ParseErrorKind::StartLine),
        ("OPTIONS \r\n\r\n", ParseErrorKind::Uri),
        ("OPTIONS SIP/2.0\r\n\r\n", ParseErrorKind::Uri),
        ("OPTIONS  SIP/2.0\r\n\r\n", ParseErrorKind::Uri),
        ("OPTIONS sip:a@b\r\n\r\n", ParseErrorKind::StartLine),
        ("OPTIONS sip:a@b SIP/2.0 \r\n\r\n", ParseErrorKind::StartLine),
        ("OPTIONS sip:a b SIP/2.0\r\n\r\n", ParseErrorKind::StartLine),
        ("OPTIONS sip:a@b HTTP/1.1\r\n\r\n", ParseErrorKind::Version),
        ("OPTIONS sip:a@b SIP/3.0\r\n\r\n", ParseErrorKind::Version),
        ("OPTIONS nothing SIP/2.0\r\n\r\n", ParseErrorKind::Uri),
        ("OPTIONS sip: SIP/2.0\r\n\r\n", ParseErrorKind::Uri),
        (" OPTIONS sip:a@b SIP/2.0\r\n\r\n", ParseErrorKind::Method),
        ("OPT@IONS sip:a@b SIP/2.0\r\n\r\n", ParseErrorKind::StartLine),
        ("OPTIONS sip:a@b?x=y SIP/2.0\r\n\r\n", ParseErrorKind::Uri),
        ("SIP/2.0 200\r\n\r\n", ParseErrorKind::StartLine),
        ("SIP/2.0 99 x\r\n\r\n", ParseErrorKind::StatusCode),
        ("SIP/2.0 700 x\r\n\r\n", ParseErrorKind::StatusCode),
        ("SIP/2.0 +20 x\r\n\r\n", ParseErrorKind::StatusCode),
        ("SIP/2.0  200 x\r\n\r\n", ParseErrorKind::StatusCode),
        ("SIP/2.1 200 x\r\n\r\n", ParseErrorKind::Version),
        ("SIP/\u{e9} 200 x\r\n\r\n", ParseErrorKind::Version),
        ("OPTIONS sip:a@b\r\n SIP/2.0\r\n\r\n", ParseErrorKind::Continuation),
    ] {
        assert_eq!(kind(bad), expected, "{bad:?}");
    }
    let message = Message::parse(b"sip/2.0 603 \r\n\r\n").expect("valid");
    assert_eq!(message.start(), StartLine::Status { code: 603, reason: "" });
    assert_eq!((message.status(), message.method()), (Some(603), None));
    let message = Message::parse(b"options sip:a?b@c sip/2.0\r\n\r\n").expect("valid");
    assert_eq!((message.status(), message.method()), (None, Some(Method::Other("options"))), "case matters");
}

#[test]
fn the_header_section_ends_with_an_empty_line() {
    for cut in ["", "\r\n", "\r\n\r\n"] {
        assert!(matches!(kind(cut), ParseErrorKind::HeadersNotEnded | ParseErrorKind::Empty), "{cut:?}");
    }
    for cut in [
        "OPTIONS sip:a@b SIP/2.0",
        "OPTIONS sip:a@b SIP/2.0\r\n",
        "OPTIONS sip:a@b SIP/2.0\r\nX: y\r\n",
        "OPTIONS sip:a@b SIP/2.0\r\nX: y\r\n\r",
        "OPTIONS sip:a@b SIP/2.0\r\nX",
        "OPTIONS sip:a@b SIP/2.0\r\nX: y\r",
    ] {
        assert_eq!(kind(cut), ParseErrorKind::HeadersNotEnded, "{cut:?}");
    }
    assert!(
        Message::parse(b"\r\n\r\n\r\nOPTIONS sip:a@b SIP/2.0\r\n\r\n").is_ok(),
        "line ends before it do not matter"
    );
    assert_eq!(kind("\nOPTIONS sip:a@b SIP/2.0\r\n\r\n"), ParseErrorKind::BareLineFeed);
}

#[test]
fn header_lines_have_a_name_a_colon_and_crlf() {
    for (bad, expected) in [
        ("NoColon\r\n", ParseErrorKind::HeaderName),
        (": value\r\n", ParseErrorKind::HeaderName),
        ("Two Words: value\r\n", ParseErrorKind::HeaderName),
        ("Na(me: value\r\n", ParseErrorKind::HeaderName),
        ("X: a\nY: b\r\n", ParseErrorKind::BareLineFeed),
        ("X\nY: b\r\n", ParseErrorKind::BareLineFeed),
        ("X: a\rY: b\r\n", ParseErrorKind::BareCarriageReturn),
        ("X: a\r\r\n", ParseErrorKind::BareCarriageReturn),
        ("X: a\0b\r\n", ParseErrorKind::ControlCharacter),
        ("X: a\u{1b}[2J\r\n", ParseErrorKind::ControlCharacter),
        ("X: a\u{7f}\r\n", ParseErrorKind::ControlCharacter),
        ("X: \"a\0b\"\r\n", ParseErrorKind::ControlCharacter),
        ("X: \\\0\r\n", ParseErrorKind::ControlCharacter),
        ("X: \"a\\\\\0\"\r\n", ParseErrorKind::ControlCharacter),
        ("X: \"\r\nY: \\\0\r\n", ParseErrorKind::ControlCharacter),
    ] {
        assert_eq!(kind(&request(bad)), expected, "{bad:?}");
    }
    assert!(
        Message::parse(request("X: \"a\\\0b\"\r\n").as_bytes()).is_ok(),
        "the quoted pair of the grammar"
    );
    assert_eq!(
        Message::parse(b"OPTIONS sip:a@b SIP/2.0\r\nX: \xff\r\n\r\n").expect_err("no UTF-8").kind,
        ParseErrorKind::NotUtf8
    );
    assert_eq!(
        Message::parse(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n\xff\0\r").expect("a body is bytes").body(),
        b"\xff\0\r"
    );
}

#[test]
fn folds_belong_to_the_value() {
    let text = request("Subject: a\r\n b\r\n\t c \r\nX:\r\n \r\n\r\n".trim_end_matches("\r\n"));
    let text = text + "\r\n";
    let message = Message::parse(text.as_bytes()).expect("valid");
    assert_eq!(message.value(HeaderName::Subject), Some("a\r\n b\r\n\t c"));
    let unfolded: Vec<_> = message.headers().map(|header| unfold(header.value).into_owned()).collect();
    assert_eq!(unfolded, ["a b c", ""]);
}

#[test]
fn limits_are_exact() {
    let value = "v".repeat(Limits::FIELD - "X: ".len());
    assert!(Message::parse(request(&format!("X: {value}\r\n")).as_bytes()).is_ok());
    assert_eq!(kind(&request(&format!("X: {value}v\r\n"))), ParseErrorKind::FieldTooLong);
    let name = "n".repeat(Limits::NAME);
    assert!(Message::parse(request(&format!("{name}: v\r\n")).as_bytes()).is_ok());
    assert_eq!(kind(&request(&format!("{name}n: v\r\n"))), ParseErrorKind::FieldTooLong);
    let uri = "u".repeat(Limits::FIELD);
    assert_eq!(kind(&format!("OPTIONS sip:{uri} SIP/2.0\r\n\r\n")), ParseErrorKind::FieldTooLong);
    let full = request(&"X: y\r\n".repeat(Limits::HEADERS));
    assert_eq!(Message::parse(full.as_bytes()).expect("128 fit").headers().count(), Limits::HEADERS);
    assert_eq!(kind(&request(&"X: y\r\n".repeat(Limits::HEADERS + 1))), ParseErrorKind::TooManyHeaders);
    let head = request("");
    let largest = head.clone() + &"b".repeat(Limits::MESSAGE - head.len());
    assert!(Message::parse(largest.as_bytes()).is_ok());
    assert_eq!(kind(&(largest + "b")), ParseErrorKind::MessageTooLong);
}

#[test]
fn content_length_cuts_the_body_or_refuses_it() {
    let body = |headers: &str| {
        let text = request(headers) + "12345";
        Message::parse(text.as_bytes()).map(|message| message.body().to_vec()).map_err(|fault| fault.kind)
    };
    assert_eq!(body(""), Ok(b"12345".to_vec()));
    assert_eq!(body("l: 3\r\n"), Ok(b"123".to_vec()));
    assert_eq!(body("Content-Length: 0\r\n"), Ok(Vec::new()));
    assert_eq!(body("l: 6\r\n"), Err(ParseErrorKind::BodyTooShort));
    assert_eq!(body("l: 5\r\nl: 4\r\n"), Err(ParseErrorKind::RepeatedHeader));
    assert_eq!(body("l: 5\r\nContent-Length: 5\r\n"), Err(ParseErrorKind::RepeatedHeader), "equal ones too");
    for bad in ["-1", "+5", "5, 5", "", "5 5", "99999999999999999999", "65537"] {
        assert_eq!(body(&format!("l: {bad}\r\n")), Err(ParseErrorKind::Number), "{bad}");
    }
}

#[test]
fn essentials_stand_once_and_agree() {
    assert!(Message::parse(request(SOUND).as_bytes()).expect("parses").essentials().is_ok());
    for (name, header) in [
        ("Via", HeaderName::Via),
        ("From", HeaderName::From),
        ("To", HeaderName::To),
        ("Call-ID", HeaderName::CallId),
        ("CSeq", HeaderName::CSeq),
    ] {
        let without: String = SOUND.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect();
        assert_eq!(fault_of(&without), (ParseErrorKind::MissingHeader, Some(header)), "{name}");
        let line: String = SOUND.split_inclusive("\r\n").filter(|line| line.starts_with(name)).collect();
        let doubled = format!("{SOUND}{line}");
        if header == HeaderName::Via {
            assert!(
                Message::parse(request(&doubled).as_bytes()).expect("parses").essentials().is_ok(),
                "many hops"
            );
        } else {
            assert_eq!(fault_of(&doubled), (ParseErrorKind::RepeatedHeader, Some(header)), "{name}");
        }
    }
    let repeated = fault_of(&format!("{SOUND}Max-Forwards: 1\r\nMax-Forwards: 1\r\n"));
    assert_eq!(repeated, (ParseErrorKind::RepeatedHeader, Some(HeaderName::MaxForwards)));
    for bad in ["256", "-1", "", "x", "1 1"] {
        let found = fault_of(&format!("{SOUND}Max-Forwards: {bad}\r\n"));
        assert_eq!(found, (ParseErrorKind::Number, Some(HeaderName::MaxForwards)), "{bad}");
    }
}

#[test]
fn essentials_refuse_what_cannot_be_kept_apart() {
    let with = |from: &str, to: &str| SOUND.replace(from, to);
    let long = "x".repeat(Limits::TOKEN + 1);
    for (headers, expected, header) in [
        (with("tag=1", "tag=1;tag=2"), ParseErrorKind::Params, HeaderName::From),
        (with("branch=z9hG4bK1", "branch=a;BRANCH=b"), ParseErrorKind::Params, HeaderName::Via),
        // without its quotes it would be two addresses
        (with("tag=1", r#"tag="x, <sip:e@f>;tag=y""#), ParseErrorKind::Params, HeaderName::From),
        (with("<sip:c@d>", r#"<sip:c@d>;tag="x;y""#), ParseErrorKind::Params, HeaderName::To),
        (with("tag=1", r#"tag="""#), ParseErrorKind::Params, HeaderName::From),
        (with("tag=1", "tag=a:b"), ParseErrorKind::Params, HeaderName::From),
        (with("z9hG4bK1", r#""z9hG4bK1, SIP/2.0/UDP i""#), ParseErrorKind::Params, HeaderName::Via),
        (with("z9hG4bK1", "z9hG4bK{1}"), ParseErrorKind::Params, HeaderName::Via),
        (with("tag=1", &format!("tag={long}")), ParseErrorKind::FieldTooLong, HeaderName::From),
        (with("z9hG4bK1", &long), ParseErrorKind::FieldTooLong, HeaderName::Via),
        (with("Call-ID: i", &format!("Call-ID: {long}")), ParseErrorKind::FieldTooLong, HeaderName::CallId),
        (with("Call-ID: i", "Call-ID: i j"), ParseErrorKind::CallId, HeaderName::CallId),
        (with("Call-ID: i", "Call-ID:"), ParseErrorKind::CallId, HeaderName::CallId),
        (with("CSeq: 1 ", "CSeq: 2147483648 "), ParseErrorKind::Number, HeaderName::CSeq),
        (with("CSeq: 1 ", "CSeq: 1"), ParseErrorKind::Method, HeaderName::CSeq),
        (with("OPTIONS", "options"), ParseErrorKind::CSeqMethod, HeaderName::CSeq),
        (with("OPTIONS", "OPTIONS x"), ParseErrorKind::Method, HeaderName::CSeq),
        (with("<sip:c@d>", "<sip:c@d>, <sip:e@f>"), ParseErrorKind::Params, HeaderName::To),
    ] {
        assert_eq!(fault_of(&headers), (expected, Some(header)), "{headers}");
    }
}

#[test]
fn faults_name_the_place_and_the_header() {
    let text = request(&SOUND.replace("<sip:c@d>", "<sip:c@d> x"));
    let fault = Message::parse(text.as_bytes()).expect("parses").essentials().expect_err("rubbish in To");
    assert_eq!(text.get(fault.offset..), text.find(" x\r\n").and_then(|at| text.get(at..)));
    assert_eq!(fault.to_string(), format!("To: malformed parameters at byte {}", fault.offset));
    let fault = Message::parse(b"OPTIONS sip:a@b SIP/2.0\r\nX: y\nZ\r\n\r\n").expect_err("a bare line feed");
    assert_eq!(fault.to_string(), "line feed without carriage return at byte 29");
}

#[test]
fn a_fault_is_told_with_the_place_where_it_begins() {
    use ParseErrorKind as K;
    let via: fn(&str) -> Option<ParseError> = |text| Via::parse(text).err();
    let address: fn(&str) -> Option<ParseError> = |text| NameAddr::parse(text).err();
    let uri: fn(&str) -> Option<ParseError> = |text| Uri::parse(text).err();
    let params: fn(&str) -> Option<ParseError> = |text| Params::parse(text).err();
    for (parse, text, kind, at) in [
        (via, "nonsense", K::Via, "nonsense"),
        (via, "SIP/2.0/UDP ;x", K::Host, ";x"),
        (via, "SIP/2.0/UDP host:99999;x", K::Port, ":99999;x"),
        (via, "SIP/2.0/UDP host;x=@", K::Params, ";x=@"),
        (via, "SIP/2.0/UDP host:1;a;b=c;x=@", K::Params, ";x=@"),
        (params, ";a;b=c x", K::Params, " x"),
        (params, ";a; b = \"c", K::Quotes, "; b = \"c"),
        (address, " \"x <sip:a@b>", K::Quotes, "\"x <sip:a@b>"),
        (address, " Desk <a@b>", K::NameAddr, "a@b>"),
        (address, " Desk <sip:a@b", K::NameAddr, "sip:a@b"),
        (address, " Desk <sip:a@b> x", K::Params, " x"),
        (address, "\"Desk\" <sip:a@b>;t=1;x=@", K::Params, ";x=@"),
        (uri, "sip:a@", K::Host, ""),
        (uri, "sip:a:b@[::1", K::Host, "[::1"),
        (uri, "sip:a@host:x", K::Port, ":x"),
    ] {
        let fault = parse(text).expect(text);
        assert_eq!((fault.kind, text.get(fault.offset..)), (kind, Some(at)), "{text}");
    }
}

#[test]
fn written_messages_parse_and_keep_to_their_lines() {
    let mut writer = Writer::request("INVITE", "sip:a b\r\nX: y@<c>");
    writer
        .header("Subject", "a\r\nVia: x\0\u{1b}")
        .header("Content-Length", 99)
        .header("X Y\r\n", 7)
        .header("\r\n", "z");
    writer.header(HeaderName::MaxForwards.as_str(), 70);
    let bytes = writer.finish(b"body");
    let message = Message::parse(&bytes).expect("valid");
    assert_eq!(
        message.start(),
        StartLine::Request { method: Method::Invite, uri: "sip:a%20b%0D%0AX:%20y@%3Cc%3E" }
    );
    let headers: Vec<_> = message.headers().map(|header| (header.name.as_str(), header.value)).collect();
    let expected =
        [("Subject", "a  Via: x"), ("XY", "7"), ("-", "z"), ("Max-Forwards", "70"), ("Content-Length", "4")];
    assert_eq!(headers, expected);
    assert_eq!(message.body(), b"body");
    let bytes = Writer::response(200, "OK\r\n\r\nX").finish(b"");
    let message = Message::parse(&bytes).expect("valid");
    assert_eq!(message.start(), StartLine::Status { code: 200, reason: "OK    X" });
    assert_eq!(message.value(HeaderName::ContentLength), Some("0"));
}

#[test]
fn a_reason_phrase_has_no_control_character_in_quotes_either() {
    let refused = |reason: &str| {
        let text = format!("SIP/2.0 401 {reason}\r\nl: 0\r\n\r\n");
        Message::parse(text.as_bytes()).map(drop).map_err(|fault| fault.kind)
    };
    assert_eq!(refused("Un\"a\\\u{7}\""), Err(ParseErrorKind::ControlCharacter));
    assert_eq!(refused("Un\"a\\\0\""), Err(ParseErrorKind::ControlCharacter));
    assert_eq!(refused("Un\"a\"\tb"), Ok(()));
}

#[test]
fn the_headers_of_a_request_that_is_refused_can_be_read_to_answer_it() {
    let rest =
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nCSeq: 7 INVITE\r\nContent-Length: -1\r\n\r\nbody";
    for (first, answerable) in [
        ("INVITE sip:a@b SIP/7.0", true),
        ("INVITE <sip:a@b> SIP/2.0", true),
        ("INVITE  sip:a@b SIP/2.0", true),
        ("INVITE sip:a@b", true),
        ("INVITE sip:a@b SIP/2.0", true),
        ("ACK sip:a@b SIP/7.0", false),
        ("SIP/2.0 4294967301 better not", false),
        ("SIP/2.0", false),
        ("sip/3.0 200 OK", false),
        ("INVITE", false),
        ("INVITE ", false),
        (" INVITE sip:a@b SIP/2.0", false),
        ("\u{1}\u{2} a", false),
        ("IN\"VITE sip:a@b SIP/2.0", false),
    ] {
        let text = format!("{first}\r\n{rest}");
        assert!(Message::parse(text.as_bytes()).is_err(), "{first}");
        let found = Message::salvage(text.as_bytes());
        assert_eq!(found.is_some(), answerable, "{first}");
        if let Some(found) = found {
            assert_eq!(found.value(HeaderName::CSeq), Some("7 INVITE"));
            assert_eq!((found.method(), found.body()), (Some(Method::Invite), &b""[..]));
        }
    }
    for broken in ["INVITE sip:a@b SIP/7.0\r\nVia SIP\r\n\r\n", "INVITE sip:a@b SIP/7.0\r\nVia: x\r\n", ""] {
        assert!(Message::salvage(broken.as_bytes()).is_none(), "{broken:?}");
    }
}
