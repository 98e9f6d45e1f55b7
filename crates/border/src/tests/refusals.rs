//! What is wrong with a request, and what its sender is told (RFC 3261 §8.2, §21.4, §21.5).

use super::*;

fn status_of(bench: &mut Bench, flow: FlowId, text: &str) -> Option<u16> {
    bench.phone_says(flow, text);
    bench.final_answer(flow).and_then(|answer| answer.status())
}

/// The same request with another first line.
fn first_line(text: &str, line: &str) -> String {
    format!("{line}\r\n{}", text.split_once("\r\n").unwrap().1)
}

#[test]
fn a_request_uri_that_cannot_be_read_is_refused_by_what_is_wrong_with_it() {
    for (method, body) in [("INVITE", OFFER), ("MESSAGE", "hi"), ("NOTIFY", ""), ("OPTIONS", "")] {
        let kind = if method == "INVITE" { "application/sdp" } else { "text/plain" };
        for (uri, status) in [("nobodyKnows:a@b", 416), ("sip:2001@2001:db8::1", 400), ("sip:a:b@:", 400)] {
            let mut bench = Bench::with_pbx_up(config());
            let flow = bench.registered(100);
            let text = request(method, 1, None, kind, body);
            let text = first_line(&text, &format!("{method} {uri} SIP/2.0"));
            assert_eq!(status_of(&mut bench, flow, &text), Some(status), "{method} {uri}");
            assert!(bench.sent.iter().all(|sent| sent.flow != INSIDE_UDP), "the PBX hears nothing of it");
            // The PBX is told the same.
            bench.pbx_says(&text);
            let answers: Vec<_> = bench.sent.iter().filter(|sent| sent.flow == INSIDE_UDP).collect();
            assert_eq!(answers.last().and_then(|sent| sent.status()), Some(status), "{method} {uri} inside");
        }
    }
}

#[test]
fn who_begins_something_without_a_tag_of_his_own_is_refused() {
    for (method, body) in [("INVITE", OFFER), ("MESSAGE", "hi"), ("NOTIFY", ""), ("OPTIONS", "")] {
        let kind = if method == "INVITE" { "application/sdp" } else { "text/plain" };
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.connect(100, Some(DEVICE));
        bench.phone_says(flow, &register("1001", 1));
        let asked = bench.take("REGISTER");
        bench.pbx_says(&asked.registered(&[]));
        bench.sent.clear();
        let text = request(method, 1, None, kind, body).replace(";tag=phone", "");
        if method != "OPTIONS" {
            assert_eq!(status_of(&mut bench, flow, &text), Some(400), "{method}");
        }
        // The PBX, to the phone.
        let contact = asked.header(HeaderName::Contact);
        let (uri, _) = contact.trim_start_matches('<').split_once('>').unwrap();
        bench.pbx_says(&first_line(&text, &format!("{method} {uri} SIP/2.0")));
        assert_eq!(bench.final_answer(INSIDE_UDP).and_then(|answer| answer.status()), Some(400), "{method}");
        assert!(bench.try_take(method).is_none(), "{method}");
    }
}

#[test]
fn a_register_that_is_for_no_registrar_is_refused_for_everybody_alike() {
    let cases = [
        ("REGISTER sip:[::1 SIP/2.0", Some(400)),
        ("REGISTER sip:2001:db8::9:1 SIP/2.0", Some(400)),
        ("REGISTER tel:1001 SIP/2.0", Some(416)),
        ("REGISTER mailto:main.example SIP/2.0", Some(416)),
    ];
    for (line, status) in cases {
        let mut bench = Bench::with_pbx_up(config());
        let known = bench.registered(100);
        let certified = bench.connect(101, Some("009033010299"));
        let stranger = bench.connect(102, None);
        for (flow, name) in [(known, "1001"), (certified, "1001"), (stranger, "1003"), (stranger, "4711")] {
            let text = first_line(&register(name, 7), line);
            assert_eq!(status_of(&mut bench, flow, &text), status, "{line} {name}");
        }
        assert!(bench.sent.iter().all(|sent| sent.flow != INSIDE_UDP));
    }
    // A foreign host is refused like an unknown name (contract section 2).
    let mut bench = Bench::with_pbx_up(config());
    let known = bench.registered(100);
    let text = first_line(&register("1001", 7), "REGISTER sip:other.example SIP/2.0");
    assert_eq!(status_of(&mut bench, known, &text), Some(403));
}

#[test]
fn an_extension_that_we_lack_is_named_where_we_are_asked_for_it() {
    let require = |text: &str, tags: &str| text.replace("Call-ID:", &format!("Require: {tags}\r\nCall-ID:"));
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let options = request("OPTIONS", 1, None, "", "");
    for (text, tags, status, named) in [
        (&options, "foo, bar\r\nRequire: foo.2", 420, "foo, bar, foo.2"),
        (&options, "a b", 400, ""),
        (&options, "foo,,bar", 400, ""),
        (&register("1001", 2), "outbound, gruu", 420, "gruu"),
        (&register("1001", 3), "Outbound", 200, ""),
    ] {
        // Each in a transaction of its own.
        let branch = format!("{}{status}{}", text.len(), tags.len());
        bench.phone_says(
            flow,
            &require(text, tags).replace("branch=z9hG4bK", &format!("branch=z9hG4bK{branch}")),
        );
        let answer = bench.final_answer(flow).unwrap();
        assert_eq!((answer.status(), answer.header(HeaderName::Unsupported).as_str()), (Some(status), named));
    }
    // A stranger hears of it before any name is looked at.
    for name in ["1003", "4711"] {
        let stranger = bench.connect(102, None);
        let text = require(&register(name, 1), "gruu");
        assert_eq!(status_of(&mut bench, stranger, &text), Some(420));
    }
    // The PBX, where it asks us and not a phone.
    bench.sent.clear();
    bench.pbx_says(&require(&options, "foo"));
    assert_eq!(bench.sent.last().and_then(Sent::status), Some(420));
    // What crosses is for the other side to judge.
    bench.sent.clear();
    bench.phone_says(flow, &require(&request("INVITE", 3, None, "application/sdp", OFFER), "foo"));
    let invite = bench.take("INVITE");
    assert_eq!(invite.header(HeaderName::Require), "foo");
    bench.pbx_says(&invite.answer(420, "x", "Unsupported: foo"));
    let answer = bench.final_answer(flow).unwrap();
    assert_eq!((answer.status(), answer.header(HeaderName::Unsupported).as_str()), (Some(420), "foo"));
}

#[test]
fn a_first_line_that_cannot_be_read_is_answered_where_somebody_of_ours_sent_it() {
    let options = request("OPTIONS", 1, None, "", "");
    let cases = [
        ("OPTIONS sip:2001@main.example SIP/7.0", Some(505)),
        ("OPTIONS <sip:2001@main.example> SIP/2.0", Some(400)),
        ("OPTIONS sip:2001@main.example", Some(400)),
        ("ACK sip:2001@main.example SIP/7.0", None),
        ("SIP/7.0 200 OK", None),
        ("nonsense", None),
    ];
    for (line, status) in cases {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.registered(100);
        let text = first_line(&options, line);
        assert_eq!(status_of(&mut bench, flow, &text), status, "{line}");
        assert!(bench.has_event(Code::Malformed));
        assert_eq!(
            status_of(&mut bench, flow, &options.replace("OPTIONS1", "again")),
            Some(200),
            "its connection goes on"
        );
        let mut inside = Bench::with_pbx_up(config());
        inside.pbx_says(&text);
        assert_eq!(inside.sent.last().and_then(Sent::status), status, "{line} of the PBX");
        // Nobody of ours: silence.
        let stranger = bench.connect(101, None);
        assert_eq!(status_of(&mut bench, stranger, &text), None, "{line} of a stranger");
        let elsewhere = "10.0.9.9:5060".parse().unwrap();
        bench.sent.clear();
        bench.put(Input::Bytes { flow: INSIDE_UDP, from: elsewhere, bytes: text.as_bytes() });
        assert!(bench.sent.is_empty(), "{line} of a stranger inside: {:?}", bench.sent);
    }
}
