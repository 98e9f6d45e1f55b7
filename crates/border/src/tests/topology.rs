//! Names and addresses on their way across: which are looked for, where they are found, and what is written
//! in their place.

use std::net::IpAddr;

use wire::sip::{Host, Writer};

use super::*;
use crate::host_text;
use crate::topology::Topology;

fn topology() -> Topology {
    named(&["SBC.example.com"])
}

/// With these names in the server's certificate.
fn named(names: &[&str]) -> Topology {
    Topology::new(&Config {
        outside: Outside {
            address: "192.0.2.1".parse().unwrap(),
            public_address: "203.0.113.10".parse().unwrap(),
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            certificate_ends: None,
        },
        ..config()
    })
}

/// What is left of a header on its way.
fn crossed(header: &str, to: Side) -> Option<String> {
    let text = request("INFO", 1, None, "", "")
        .replace("Max-Forwards: 70", &format!("Max-Forwards: 70\r\n{header}"));
    let message = Message::parse(text.as_bytes()).unwrap();
    let mut writer = Writer::request("INFO", "sip:x");
    let private = vec!["192.168.1.20".to_owned(), "[2001:db8::20]".to_owned()];
    topology().pass_headers(&message, to, "main.example", &private, &mut writer);
    let text = String::from_utf8(writer.finish(b"")).unwrap();
    let name = header.split(':').next().unwrap();
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
}

#[test]
fn a_phone_means_us_by_both_addresses_the_certificates_names_and_the_domains() {
    for (host, ours) in [
        (Host::Ip("192.0.2.1".parse().unwrap()), true),
        (Host::Ip("203.0.113.10".parse().unwrap()), true),
        (Host::Ip("203.0.113.11".parse().unwrap()), false),
        (Host::Ip("10.0.0.1".parse().unwrap()), false),
        (Host::Name("sbc.EXAMPLE.com"), true),
        (Host::Name("MAIN.example"), true),
        (Host::Name("main.inside.example"), false),
        (Host::Name("example.com"), false),
    ] {
        assert_eq!(topology().is_ours(&host), ours, "{host:?}");
    }
}

#[test]
fn six_of_the_names_that_mean_us_are_shown_the_domains_first() {
    assert_eq!(
        named(&["a.example", "b.example", "c.example"]).ours_in_words(),
        "main.example, c.example, b.example, a.example, 203.0.113.10, 192.0.2.1"
    );
    assert_eq!(
        named(&["a.example", "b.example", "c.example", "a.example", "d.example"]).ours_in_words(),
        "main.example, d.example, a.example, c.example, b.example, 203.0.113.10, …"
    );
}

#[test]
fn what_is_hidden_is_the_inside_and_what_is_learned_of_it_but_nothing_public() {
    let mut topology = topology();
    for (text, hidden) in [
        ("10.0.0.1", true),
        ("main.inside.example", true),
        ("Main.Inside.Example", true),
        ("main.example", false),
        ("203.0.113.10", false),
        ("10.0.1.9", false),
    ] {
        assert_eq!(topology.names_hidden(text), hidden, "{text}");
    }
    topology.hide("10.0.1.9");
    topology.hide("MAIN.example");
    topology.hide("203.0.113.10");
    assert!(topology.names_hidden("to 10.0.1.9"));
    assert!(!topology.names_hidden("main.example at 203.0.113.10"));
}

#[test]
fn a_host_is_found_whole_in_any_case_and_anywhere() {
    let topology = topology();
    for (text, found) in [
        ("main.inside.example", true),
        ("at main.inside.example", true),
        ("main.inside.example:5060", true),
        ("<sip:a@MAIN.inside.example>", true),
        ("xmain.inside.example", false),
        ("x-main.inside.example", false),
        ("-main.inside.example", false),
        ("main.inside.examples", false),
        ("main.inside.example-", false),
        ("main.inside.exampl", false),
        ("xmain.inside.example main.inside.example", true),
        ("m main.inside.example", true),
        ("", false),
    ] {
        assert_eq!(topology.names_hidden(text), found, "{text}");
    }
}

#[test]
fn each_header_has_its_fate() {
    use Side::{Inside, Outside};
    for (header, to, crosses) in [
        ("Route: <sip:other.example;lr>", Inside, None),
        ("Path: <sip:other.example>", Inside, None),
        ("Service-Route: <sip:other.example>", Outside, None),
        ("Authorization: Digest username=\"a\"", Inside, None),
        ("Proxy-Authorization: Digest username=\"a\"", Inside, None),
        ("WWW-Authenticate: Digest realm=\"a\"", Outside, None),
        ("Proxy-Authenticate: Digest realm=\"a\"", Outside, None),
        ("Authentication-Info: nextnonce=\"a\"", Outside, None),
        ("RAck: 1 1 INVITE", Inside, None),
        ("Replaces: a;to-tag=b;from-tag=c", Inside, None),
        ("Join: a;to-tag=b;from-tag=c", Inside, None),
        ("Target-Dialog: a", Inside, None),
        ("In-Reply-To: a", Inside, None),
        ("User-Agent: P", Inside, Some("P")),
        ("User-Agent: P", Outside, None),
        ("Server: P", Inside, None),
        ("Warning: 399 a \"b\"", Outside, None),
        ("History-Info: <sip:a@b>", Inside, None),
        ("Diversion: <sip:a@b>", Outside, None),
        ("Error-Info: <sip:a@b>", Outside, None),
        ("P-Preferred-Identity: <sip:a@b>", Inside, None),
        ("Remote-Party-ID: <sip:a@b>", Inside, None),
        ("Subject: 192.168.1.20", Outside, None),
        ("Subject: 192.168.1.20", Inside, None),
        ("Subject: to [2001:db8::20]", Inside, None),
        ("Subject: 10.0.0.1", Inside, Some("10.0.0.1")),
        ("Subject: 10.0.0.1", Outside, None),
        ("Referred-By: <sip:2002@10.0.0.1>", Outside, Some("<sip:2002@main.example>")),
        ("Referred-By: <sip:2002@198.51.100.9>", Outside, Some("<sip:2002@main.example>")),
        ("Referred-By: <sip:2002@main.inside.example>", Outside, Some("<sip:2002@main.example>")),
        ("Referred-By: <sip:2002@other.example>", Outside, Some("<sip:2002@other.example>")),
        ("Referred-By: <sip:2002@sbc.example.com?Replaces=a>", Inside, Some("<sip:2002@main.example>")),
        ("Referred-By: <sip:10.0.0.1>", Outside, None),
        ("Referred-By: <tel", Inside, None),
        ("Referred-By: <sip:1001@203.0.113.10>", Inside, Some("<sip:1001@main.example>")),
        // It stays as it came, and so names the phone.
        ("Referred-By: <sip:1001@192.168.1.20>", Inside, None),
    ] {
        assert_eq!(crossed(header, to).as_deref(), crosses, "{header} to {to:?}");
    }
}

#[test]
fn a_phone_that_calls_from_elsewhere_is_still_known_by_where_it_registered() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    let elsewhere = |text: String| text.replace("192.168.1.20", "192.168.9.90");
    bench.phone_says(flow, &elsewhere(request("INVITE", 1, None, "application/sdp", OFFER)));
    let invite = bench.take("INVITE");
    bench.pbx_says(&accepted(&invite, "desk"));
    bench.phone_says(flow, &elsewhere(request("ACK", 1, Some("desk"), "", "")));
    let info = elsewhere(request("INFO", 2, Some("desk"), "", ""));
    bench.phone_says(flow, &info.replace("CSeq:", "Subject: 192.168.1.20 and 192.168.9.90\r\nCSeq:"));
    let crossed = bench.take("INFO").text;
    assert!(!crossed.contains("192.168."), "{crossed}");
}

#[test]
fn a_phone_is_known_by_its_address_its_contact_and_its_via() {
    let names = |contact: &str, via: &str, remote: &str, registered: Option<&str>| {
        let text = request("INFO", 1, None, "", "")
            .replace("<sip:line@192.168.1.20>", contact)
            .replace("SIP/2.0/TLS 192.168.1.20", &format!("SIP/2.0/TLS {via}"));
        let message = Message::parse(text.as_bytes()).unwrap();
        let remote: IpAddr = remote.parse().unwrap();
        Topology::private_names(&message, remote, registered)
    };
    let same = "192.168.1.20";
    let here = format!("<sip:line@{same}>");
    assert_eq!(names(&here, same, same, None), [same]);
    assert_eq!(names(&here, same, "198.51.100.7", None), ["198.51.100.7", same]);
    assert_eq!(names(&here, same, "::ffff:198.51.100.7", None), ["198.51.100.7", same]);
    assert_eq!(
        names("<sip:line@phone.home>", "nat.home", same, Some("sip:line@192.168.1.21")),
        [same, "phone.home", "192.168.1.21", "nat.home"]
    );
    // An IPv6 address is found with its brackets and without.
    let v6 = "2001:db8::20";
    assert_eq!(names("<sip:line@[2001:db8::20]>", "[2001:db8::20]", v6, None), [v6]);
    // What is so short would be found everywhere.
    assert_eq!(names("<sip:line@pc1>", "home", same, None), [same, "home"]);
    assert_eq!(names("<sip:line@x>", same, same, Some("nonsense")), [same]);
}

#[test]
fn hosts_in_a_text_are_replaced_each_time_they_stand_there_and_with_their_brackets() {
    let hosts = ["10.0.0.1", "2001:db8::1", "pbx"];
    for (text, expected) in [
        ("", ""),
        ("10.0.0.1", "d.example"),
        ("10.0.0.1 10.0.0.1,10.0.0.1", "d.example d.example,d.example"),
        ("sip:a@[2001:db8::1]:5060", "sip:a@d.example:5060"),
        ("[2001:db8::1", "[d.example"),
        ("2001:db8::1]", "d.example]"),
        ("x [2001:db8::1] y 2001:db8::1 z", "x d.example y d.example z"),
        ("PBX pbx1 pbx", "d.example pbx1 d.example"),
        ("110.0.0.1 10.0.0.11", "110.0.0.1 10.0.0.11"),
    ] {
        let masked = host_text::replaced(text.as_bytes(), hosts.into_iter(), "d.example");
        assert_eq!(String::from_utf8(masked).as_deref(), Ok(expected), "{text}");
    }
    // What is written in is not looked through again.
    assert_eq!(host_text::replaced(b"pbx pbx", ["pbx"].into_iter(), "pbx pbx"), b"pbx pbx pbx pbx");
    assert_eq!(host_text::replaced(b"a", [""].into_iter(), "d"), b"a");
}
