//! Phones that prove themselves by the PBX's challenge: several of one extension, and who answers for whose address.

use super::contacts::{register_with, status_of};
use super::*;
use crate::command::RegistrationView;

/// A phone of 1003 on this connection, which calls itself by its number.
fn line(flow: FlowId, cseq: u32, contact: &str) -> String {
    let unique = format!("reg-{}", flow.0);
    let lines = contact.replace("sip:line@", &format!("sip:line{}@", flow.0));
    register_with("1003", cseq, &lines).replace("reg-1003", &unique).replace("z9hG4bKr", &unique)
}

const CONTACT: &str = "Contact: <sip:line@192.168.1.20>;expires=120\r\n";

/// A phone of 1003 registers on a connection of its own: the contact that the PBX has of it.
fn registered(bench: &mut Bench, flow: u64) -> String {
    let flow = bench.connect(flow, None);
    bench.phone_says(flow, &line(flow, 1, CONTACT));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    assert_eq!(status_of(bench, flow), Some(200));
    bench.pass(Duration::from_secs(1));
    let contact = asked.header(HeaderName::Contact);
    contact.split_once(';').unwrap().0.to_owned()
}

/// Where the phones are that are registered.
fn sources(bench: &mut Bench) -> Vec<String> {
    let Answer::Registrations(rows) = bench.ask(Command::Registrations) else { panic!("no registrations") };
    rows.into_iter().map(|RegistrationView { source, .. }| source).collect()
}

fn addresses(flows: &[u64]) -> Vec<String> {
    flows.iter().map(|flow| phone_address(FlowId(*flow)).to_string()).collect()
}

const CREDENTIALS: &str = "Authorization: Digest username=\"1003\", realm=\"main.example\", nonce=\"abc\", \
                           uri=\"sip:main.example\", response=\"00000000000000000000000000000000\"";

#[test]
fn a_phone_that_ends_all_its_registrations_leaves_those_of_others() {
    let mut bench = Bench::with_pbx_up(config());
    let [one, two] = [100, 101].map(|flow| registered(&mut bench, flow));
    assert_ne!(one, two);
    bench.sent.clear();
    let all = format!("Contact: *\r\nExpires: 0\r\n{CREDENTIALS}\r\n");
    bench.phone_says(FlowId(100), &line(FlowId(100), 2, &all));
    let asked = bench.take("REGISTER");
    let told: Vec<String> =
        asked.read(|message, _| message.values(HeaderName::Contact).map(str::to_owned).collect());
    assert_eq!(told, [format!("{one};expires=0")]);
    bench.pbx_says(&asked.answer(200, "reg", &format!("Contact: {two};expires=120")));
    assert_eq!(status_of(&mut bench, FlowId(100)), Some(200));
    assert_eq!(sources(&mut bench), addresses(&[101]));
}

#[test]
fn of_too_many_phones_the_one_that_ends_first_makes_room_for_the_newest() {
    let mut config = config();
    config.registration.max_contacts = 2;
    let mut bench = Bench::with_pbx_up(config);
    for (flow, stay) in [(100, vec![100]), (101, vec![100, 101]), (102, vec![101, 102])] {
        registered(&mut bench, flow);
        assert_eq!(sources(&mut bench), addresses(&stay));
    }
    // Whoever refreshes ends last.
    bench.phone_says(FlowId(101), &line(FlowId(101), 2, CONTACT));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    registered(&mut bench, 103);
    assert_eq!(sources(&mut bench), addresses(&[101, 103]));
    let ended = bench.events.iter().filter(|event| event.code == Code::Deregistered);
    assert!(ended.clone().all(|event| event.text.contains("max_contacts")), "{:#?}", bench.events);
    assert_eq!(ended.count(), 2);
}

#[test]
fn by_udp_only_an_address_that_has_returned_a_value_of_ours_is_blocked_for_wrong_passwords() {
    let [asks, other] = ["192.0.2.7:5060", "192.0.2.8:5060"].map(|from| from.parse::<SocketAddr>().unwrap());
    for (from, blocked) in [(asks, true), (other, false)] {
        let mut config = config();
        config.block.after = 1;
        let mut bench = Bench::with_pbx_up(config);
        let say = |bench: &mut Bench, from: SocketAddr, cseq: u32, more: &str| {
            let text = register_with("1003", cseq, &format!("{CONTACT}{more}")).replace("/TLS", "/UDP");
            bench.put(Input::Bytes { flow: OUTSIDE_UDP, from, bytes: text.as_bytes() });
            let asked = bench.take("REGISTER");
            bench.pbx_says(&asked.answer(401, "pbx", CHALLENGE));
            bench.final_answer(OUTSIDE_UDP)
        };
        let challenge = say(&mut bench, asks, 1, "").unwrap().header(HeaderName::WwwAuthenticate);
        let opaque = crate::digest::given_opaque(&challenge).unwrap();
        say(&mut bench, from, 2, &format!("{CREDENTIALS}, opaque=\"{opaque}\"\r\n"));
        assert!(bench.has_event(Code::DigestFailed), "{:#?}", bench.events);
        assert_eq!(bench.has_event(Code::Blocked), blocked, "{from} with what {asks} was given");
    }
}
