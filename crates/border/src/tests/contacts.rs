//! What a REGISTER asks for, what it is told (RFC 3261 §10.3).

use super::*;
use crate::registrar::Wish;

fn wish(contacts: &str, device: Option<&str>) -> Option<Wish> {
    let (head, _) =
        register("1001", 1).split_once("Contact:").map(|(head, _)| (head.to_owned(), ())).unwrap();
    let text = format!("{head}{contacts}Content-Length: 0\r\n\r\n");
    let device = device.map(|id| HardwareId::parse(id.as_bytes()).unwrap());
    Wish::read(&Message::parse(text.as_bytes()).unwrap(), device)
}

/// A REGISTER with these lines in the place of its Contact.
pub(super) fn register_with(name: &str, cseq: u32, lines: &str) -> String {
    let contact = "Contact: <sip:line@192.168.1.20>;expires=120\r\n";
    register(name, cseq).replace(contact, lines)
}

pub(super) fn status_of(bench: &mut Bench, flow: FlowId) -> Option<u16> {
    bench.final_answer(flow).and_then(|answer| answer.status())
}

/// The PBX takes in what it was asked last, beside what it has.
pub(super) fn pbx_registers(bench: &mut Bench, has: &mut Vec<String>) {
    let asked = bench.take("REGISTER");
    let others: Vec<&str> = has.iter().map(String::as_str).collect();
    bench.pbx_says(&asked.registered(&others));
    has.push(asked.header(HeaderName::Contact));
}

/// What the answer to a question of the device lists.
fn listed(bench: &mut Bench, flow: FlowId, cseq: u32) -> Vec<String> {
    bench.phone_says(flow, &register_with("1001", cseq, ""));
    let answer = bench.final_answer(flow).unwrap();
    assert_eq!(answer.status(), Some(200));
    let contacts: Vec<String> =
        answer.read(|message, _| message.values(HeaderName::Contact).map(str::to_owned).collect());
    assert_eq!(contacts.is_empty(), answer.header(HeaderName::Expires).is_empty());
    contacts
}

#[test]
fn a_contact_is_told_from_others_by_instance_device_or_uri() {
    let instance = "+sip.instance=\"<urn:uuid:7>\"";
    for (parameters, device, key, outbound) in [
        (format!(";{instance};reg-id=2"), Some(DEVICE), "i:009033010203;2;<urn:uuid:7>", true),
        (format!(";{instance};reg-id=2"), None, "i:2;<urn:uuid:7>", true),
        (format!(";{instance}"), Some(DEVICE), "h:009033010203", false),
        (format!(";{instance}"), None, "c:sip:a@b", false),
        (";reg-id=2".to_owned(), Some(DEVICE), "h:009033010203", false),
        (String::new(), None, "c:sip:a@b", false),
    ] {
        let add = wish(&format!("Contact: <sip:a@b>{parameters}\r\n"), device).unwrap().add.unwrap();
        assert_eq!((add.key.as_str(), add.key.is_of_flow()), (key, outbound), "{parameters} {device:?}");
    }
}

#[test]
fn a_contact_is_given_back_as_it_came() {
    for parameters in [
        "",
        ";q=0.5",
        ";flag",
        ";x=\"a b\"",
        ";x=\"\"",
        ";x=\"a\\\"b\\\\\"",
        ";x=[2001:db8::1]",
        ";x=a-.!%*_+`'~9",
    ] {
        let line = format!("Contact: \"Desk\" <sip:a@b>{parameters};Expires=70\r\n");
        let add = wish(&line, None).unwrap().add.unwrap();
        assert_eq!(add.value, format!("<sip:a@b>{parameters}"));
        assert_eq!(add.expires, Some(Duration::from_secs(70)), "{parameters}");
    }
}

#[test]
fn a_lifetime_is_the_contacts_own_or_that_of_the_header() {
    for (lines, secs) in [
        ("Contact: <sip:a@b>\r\n", None),
        ("Contact: <sip:a@b>\r\nExpires: 80\r\n", Some(80)),
        ("Contact: <sip:a@b>;expires=70\r\nExpires: 80\r\n", Some(70)),
        ("Contact: <sip:a@b>;expires=\"70\"\r\n", Some(70)),
        ("Contact: <sip:a@b>;expires=soon\r\nExpires: 80\r\n", Some(3600)),
        ("Contact: <sip:a@b>\r\nExpires: soon\r\n", None),
    ] {
        let add = wish(lines, None).unwrap().add.unwrap();
        assert_eq!(add.expires, secs.map(Duration::from_secs), "{lines}");
    }
}

#[test]
fn what_a_register_asks_for() {
    for (lines, expected) in [
        ("", Some("query")),
        ("Contact: <sips:a@b>\r\n", Some("add")),
        ("Contact: <tel:1001>\r\n", None),
        ("Contact: <sip:a@b>;expires=0\r\n", Some("remove 1")),
        ("Contact: <sip:a@b>;expires=0, <sip:c@d>\r\nExpires: 0\r\n", Some("remove 2")),
        ("Contact: *\r\nExpires: 0\r\n", Some("all")),
        ("Contact: *\r\nExpires: 1\r\n", None),
        ("Contact: *, <sip:a@b>;expires=60\r\nExpires: 0\r\n", None),
        ("Contact: <sip:a@b>;expires=60, *\r\nExpires: 0\r\n", None),
        ("Contact: <sip:a@b>;expires=60, <sip:c@d>;expires=0\r\n", Some("add remove 1")),
        ("Contact: <sip:a@b>\r\nContact: <sip:c@d>\r\n", None),
    ] {
        let words = |wish: Wish| {
            assert_eq!(wish.is_query(), lines.is_empty(), "{lines}");
            let mut words = Vec::new();
            words.extend(wish.is_query().then(|| "query".to_owned()));
            words.extend(wish.remove_all.then(|| "all".to_owned()));
            words.extend(wish.add.map(|_| "add".to_owned()));
            words.extend((!wish.remove.is_empty()).then(|| format!("remove {}", wish.remove.len())));
            words.join(" ")
        };
        assert_eq!(wish(lines, None).map(words).as_deref(), expected, "{lines}");
    }
}

#[test]
fn nobody_registers_somebody_else() {
    let cases: [(&str, &str, u16); 5] = [
        ("From: <sip:1001@main.example>", "From: <sip:1002@main.example>", 403),
        ("From: <sip:1001@main.example>", "From: <sip:1001@other.example>", 403),
        ("To: <sip:1001@main.example>", "To: <sip:1001@other.example>", 403),
        ("To: <sip:1001@main.example>", "To: <sip:main.example>", 403),
        ("From: <sip:1001@main.example>", "From: <sip:%31001@203.0.113.10>", 200),
    ];
    for (from, to, status) in cases {
        let mut bench = Bench::with_pbx_up(config());
        let mut has = Vec::new();
        let flow = bench.connect(100, Some(DEVICE));
        bench.phone_says(flow, &register("1001", 1).replace(from, to));
        if status == 200 {
            pbx_registers(&mut bench, &mut has);
        }
        assert_eq!(status_of(&mut bench, flow), Some(status), "{to}");
        assert_eq!(bench.has_event(Code::NameUnknown), status == 403, "{to}");
    }
}

#[test]
fn a_certificate_that_names_no_device_is_told_of_before_a_wrong_domain() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some("nobody"));
    bench.phone_says(flow, &register("1001", 1).replace("To: <sip:1001@main", "To: <sip:1001@other"));
    assert_eq!(status_of(&mut bench, flow), Some(403));
    let event = bench.events.iter().find(|event| event.code == Code::CertAmbiguous).unwrap();
    assert!(event.text.starts_with("certificate CN=nobody of issuer CN=ca: "), "{event:?}");
    assert!(event.next_step.contains("one hardware ID"), "{event:?}");
}

#[test]
fn a_lifetime_is_granted_within_bounds_and_told_in_whole_seconds() {
    for (wished, granted) in [("", 120), (";expires=60", 60), (";expires=119", 119), (";expires=121", 120)] {
        let mut bench = Bench::with_pbx_up(config());
        let mut has = Vec::new();
        let flow = bench.connect(100, Some(DEVICE));
        let line = format!("Contact: <sip:line@192.168.1.20>{wished}\r\n");
        bench.phone_says(flow, &register_with("1001", 1, &line));
        let options = bench.try_take("OPTIONS").map(|options| options.answer(200, "o", ""));
        assert_eq!(options, None);
        // What is begun of a second counts.
        bench.pass(Duration::from_millis(300));
        pbx_registers(&mut bench, &mut has);
        let answer = bench.final_answer(flow).unwrap();
        assert_eq!(answer.status(), Some(200));
        assert_eq!(answer.header(HeaderName::Expires), granted.to_string());
        let contact = answer.header(HeaderName::Contact);
        assert_eq!(contact, format!("<sip:line@192.168.1.20>;expires={granted}"));
        bench.pass(Duration::from_millis(700));
        assert_eq!(listed(&mut bench, flow, 2), [format!("<sip:line@192.168.1.20>;expires={}", granted - 1)]);
    }
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register_with("1001", 1, "Contact: <sip:a@b>;expires=59\r\n"));
    let answer = bench.final_answer(flow).unwrap();
    assert_eq!((answer.status(), answer.header(HeaderName::MinExpires).as_str()), (Some(423), "60"));
    assert!(listed(&mut bench, flow, 2).is_empty());
}

#[test]
fn outbound_is_granted_to_whom_asks_for_it_with_an_instance() {
    let instance = "Contact: <sip:a@b>;+sip.instance=\"<urn:uuid:7>\";reg-id=1\r\n";
    for (lines, granted) in [
        (format!("{instance}Supported: path, Outbound\r\n"), true),
        (format!("{instance}Supported: path\r\n"), false),
        (instance.to_owned(), false),
        ("Contact: <sip:a@b>\r\nSupported: outbound\r\n".to_owned(), false),
    ] {
        let mut bench = Bench::with_pbx_up(config());
        let mut has = Vec::new();
        let flow = bench.connect(100, Some(DEVICE));
        bench.phone_says(flow, &register_with("1001", 1, &lines));
        pbx_registers(&mut bench, &mut has);
        let answer = bench.final_answer(flow).unwrap();
        let told = (answer.header(HeaderName::Require), answer.text.contains("Flow-Timer: 120\r\n"));
        assert_eq!(told, (if granted { "outbound" } else { "" }.to_owned(), granted), "{lines}");
        // The next keepalive is as late as was told (RFC 5626 §4.4.1).
        bench.phone_says(flow, "\r\n\r\n");
        bench.pass(Duration::from_secs(2));
        bench.phone_says(flow, &register_with("1001", 2, &lines));
        bench.pass(Duration::from_secs(116));
        assert_eq!(bench.closed.contains(&flow), !granted, "{lines}");
    }
}

#[test]
fn a_device_sees_and_ends_its_own_bindings_alone() {
    let mut bench = Bench::with_pbx_up(config());
    let mut has = Vec::new();
    let first = bench.registered(100);
    let second = bench.connect(101, Some(OTHER_DEVICE));
    let other = register("1001", 1).replace("reg-1001", "reg-other").replace("z9hG4bKr", "z9hG4bKo");
    bench.phone_says(second, &other.replace("line@192.168.1.20", "other@192.168.1.21"));
    pbx_registers(&mut bench, &mut has);
    assert_eq!(status_of(&mut bench, second), Some(200));
    assert_eq!(listed(&mut bench, first, 2), ["<sip:line@192.168.1.20>;expires=120"]);
    // Another's contact is not ended by its name, nor by a star.
    bench.phone_says(first, &register_with("1001", 3, "Contact: <sip:other@192.168.1.21>;expires=0\r\n"));
    assert_eq!(status_of(&mut bench, first), Some(200));
    assert!(listed(&mut bench, first, 4).is_empty(), "a device has one binding, whatever it calls it");
    bench.phone_says(first, &register_with("1001", 5, "Contact: *\r\nExpires: 0\r\n"));
    assert_eq!(status_of(&mut bench, first), Some(200));
    let other = other.replace("CSeq: 1", "CSeq: 2").replace("z9hG4bKo", "z9hG4bKq");
    let (head, _) = other.split_once("Contact:").unwrap();
    bench.phone_says(second, &format!("{head}Content-Length: 0\r\n\r\n"));
    let answer = bench.final_answer(second).unwrap();
    assert_eq!(answer.header(HeaderName::Contact), "<sip:other@192.168.1.21>;expires=120");
}

#[test]
fn one_of_two_bindings_of_a_device_is_ended_by_its_name() {
    let contact = |number: u32, more: &str| {
        format!("Contact: <sip:l{number}@b>;+sip.instance=\"<urn:uuid:{number}>\";reg-id=1{more}\r\n")
    };
    for (sign_off, left) in [(contact(1, ";expires=0"), 1), ("Contact: *\r\nExpires: 0\r\n".to_owned(), 0)] {
        let mut bench = Bench::with_pbx_up(config());
        let mut has = Vec::new();
        let flow = bench.connect(100, Some(DEVICE));
        for number in [1, 2] {
            bench.phone_says(flow, &register_with("1001", number, &contact(number, "")));
            pbx_registers(&mut bench, &mut has);
            assert_eq!(status_of(&mut bench, flow), Some(200));
        }
        assert_eq!(listed(&mut bench, flow, 3).len(), 2);
        bench.sent.clear();
        bench.phone_says(flow, &register_with("1001", 4, &sign_off));
        assert_eq!(status_of(&mut bench, flow), Some(200));
        let contacts = listed(&mut bench, flow, 5);
        assert_eq!((contacts.len(), contacts.iter().all(|contact| contact.contains("l2@b"))), (left, true));
        let gone: Vec<Sent> = std::iter::from_fn(|| bench.try_take("REGISTER")).collect();
        assert_eq!(gone.len(), 2 - left, "{gone:?}");
        assert!(gone.iter().all(|sent| sent.header(HeaderName::Contact).ends_with(";expires=0")));
    }
}

#[test]
fn a_device_too_many_is_refused() {
    let contact =
        |number: u32| format!("Contact: <sip:l@b>;+sip.instance=\"<urn:uuid:{number}>\";reg-id=1\r\n");
    let mut bench = Bench::with_pbx_up(config());
    let mut has = Vec::new();
    let flow = bench.connect(100, Some(DEVICE));
    for number in 1..=4 {
        bench.phone_says(flow, &register_with("1001", number, &contact(number)));
        pbx_registers(&mut bench, &mut has);
        assert_eq!(status_of(&mut bench, flow), Some(200));
    }
    bench.phone_says(flow, &register_with("1001", 5, &contact(5)));
    assert_eq!(status_of(&mut bench, flow), Some(403));
    let event = bench.events.iter().find(|event| event.code == Code::ContactsLimited).unwrap();
    assert_eq!(event.rule.as_deref(), Some("max_contacts"));
    // Who is in stays in, and may refresh.
    bench.phone_says(flow, &register_with("1001", 6, &contact(4)));
    assert_eq!(status_of(&mut bench, flow), Some(200));
}

#[test]
fn an_older_register_of_a_series_changes_nothing() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let again = |cseq: u32, branch: &str| register("1001", cseq).replace("z9hG4bKr", branch);
    for (text, status) in [
        (again(1, "z9hG4bKa"), 500),
        (again(0, "z9hG4bKb"), 500),
        (again(2, "z9hG4bKc"), 200),
        (again(1, "z9hG4bKd").replace("reg-1001", "reg-new"), 200),
        (again(1, "z9hG4bKe").replace("reg-1001", "reg-new"), 500),
    ] {
        bench.phone_says(flow, &text);
        assert_eq!(status_of(&mut bench, flow), Some(status), "{text}");
    }
}

#[test]
fn a_phone_that_asks_again_and_again_has_four_questions_open() {
    let mut bench = Bench::with_pbx_up(config());
    let mut has = Vec::new();
    let flow = bench.connect(100, Some(DEVICE));
    for cseq in 1..=4 {
        bench.phone_says(flow, &register("1001", cseq));
        assert_eq!(status_of(&mut bench, flow), None);
    }
    bench.phone_says(flow, &register("1001", 5));
    let refused = bench.final_answer(flow).unwrap();
    assert_eq!((refused.status(), refused.read(|_, essentials| essentials.cseq.number)), (Some(500), 1));
    assert_eq!(status_of(&mut bench, flow), None);
    pbx_registers(&mut bench, &mut has);
    let answered: Vec<_> = std::iter::from_fn(|| bench.final_answer(flow))
        .map(|answer| (answer.status(), answer.read(|_, essentials| essentials.cseq.number)))
        .collect();
    assert_eq!(answered, [2, 3, 4, 5].map(|cseq| (Some(200), cseq)));
}

#[test]
fn a_sign_off_answers_who_still_waits() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    bench.phone_says(flow, &register_with("1001", 2, "Contact: *\r\nExpires: 0\r\n"));
    let answers: Vec<_> = std::iter::from_fn(|| bench.final_answer(flow))
        .map(|answer| (answer.read(|_, essentials| essentials.cseq.number), answer.status()))
        .collect();
    assert_eq!(answers, [(1, Some(480)), (2, Some(200))]);
    assert!(!bench.has_event(Code::Deregistered), "it never was registered");
}

#[test]
fn an_unchanged_refresh_costs_nothing_and_a_changed_one_is_written_down() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.events.clear();
    let writes = bench.writes;
    bench.phone_says(flow, &register("1001", 2));
    assert_eq!(status_of(&mut bench, flow), Some(200));
    assert_eq!((bench.writes, bench.events.len(), bench.try_take("REGISTER").is_some()), (writes, 0, false));
    bench.phone_says(flow, &register("1001", 3).replace("line@", "other@"));
    assert_eq!(status_of(&mut bench, flow), Some(200));
    assert_eq!((bench.writes, bench.has_event(Code::Registered)), (writes + 1, true));
}

#[test]
fn a_device_that_may_not_hears_403_and_a_client_without_one_no_word_of_it() {
    let mut bench = Bench::with_pbx_up(config());
    let certified = bench.connect(100, Some("009033010299"));
    bench.phone_says(certified, &register("1001", 1));
    assert_eq!(status_of(&mut bench, certified), Some(403));
    assert!(bench.has_event(Code::HwidUnknown));
    let stranger = bench.connect(101, None);
    bench.phone_says(stranger, &register("1001", 2));
    assert_ne!(status_of(&mut bench, stranger), Some(403));
    assert!(bench.has_event(Code::CertMissing));
}

#[test]
fn who_registers_has_offended_nobody() {
    for (registers, blocked) in [(true, false), (false, true)] {
        let mut config = config();
        config.block.after = 4;
        let mut bench = Bench::with_pbx_up(config);
        let flow = bench.registered(100);
        for half in [0, 1] {
            for _ in 0..2 {
                let tuple = FiveTuple {
                    transport: Transport::Tls,
                    local: "203.0.113.10:5061".parse().unwrap(),
                    remote: phone_address(flow),
                };
                let fault = wire::net::HandshakeFault::CertUntrusted;
                bench.put(Input::HandshakeFailed { tuple, fault, detail: "of its neighbour".into() });
            }
            if registers && half == 0 {
                bench.phone_says(flow, &register("1001", 2));
            }
        }
        assert_eq!(bench.has_event(Code::Blocked), blocked);
    }
}
