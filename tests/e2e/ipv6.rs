//! IPv6 outside, IPv4 inside: phones over TLS and UDP, their audio, blocks by network, STUN (contract section 6).
//!
//! In namespaces, one for the phones and one for the border: a machine's loopback has but one IPv6 address.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use portcullis_tests::baresip::{Baresip, Plan};
use portcullis_tests::kamailio::{DOMAIN, Kamailio, Manner};
use portcullis_tests::lab::{DEVICE_1001, Places, Variation, register_at_pbx};
use portcullis_tests::netns::Namespace;
use portcullis_tests::pki::{Identity, Pki};
use portcullis_tests::portcullis::Portcullis;
use portcullis_tests::raw_message::{Draft, RawMessage};
use portcullis_tests::raw_phone::{RawPhone, Silence};
use portcullis_tests::rtp::RtpEnd;
use portcullis_tests::scratch::Scratch;

use crate::support::{
    Established, SOON, accept, call_desk, call_phone, challenged_invite, connect, hang_up, media_address,
    talk, text,
};

/// The face to the phones.
const OUTSIDE: &str = "fd00:0:0:1::1";
/// Two machines of one subscriber, and one of another: a /64 each.
const PHONE: &str = "fd00:0:0:2::a";
const NEIGHBOUR: &str = "fd00:0:0:2:ffff::b";
const ELSEWHERE: &str = "fd00:0:0:3::c";

/// A lab whose outside speaks IPv6.
struct Site {
    portcullis: Portcullis,
    pbx: Kamailio,
    pki: Pki,
    edge: Namespace,
    phones: Namespace,
    scratch: Scratch,
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// One cable joins all networks.
fn on_link(address: &str) -> String {
    format!("{address}/48")
}

impl Site {
    fn start() -> Self {
        let scratch = Scratch::new();
        let [edge, phones] = ["edge", "phones"].map(|name| {
            let namespace = Namespace::new(name, scratch.path());
            // Addresses are good at once: nobody else can have them.
            namespace.run(&["sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"]);
            namespace
        });
        phones.connect(("eth0", &on_link(PHONE)), &edge, ("eth0", &on_link(OUTSIDE)));
        for address in [NEIGHBOUR, ELSEWHERE] {
            phones.run(&["ip", "address", "add", &on_link(address), "dev", "eth0"]);
        }
        let directory = scratch.subdirectory("pbx");
        let pbx = Kamailio::start(ip("127.0.0.4"), &directory, &Manner::default(), Some(&edge));
        let pki = Pki::new(&scratch.subdirectory("pki"), ip(OUTSIDE), "sbc.lab");
        let places = Places { outside: ip(OUTSIDE), inside: ip("127.0.0.3"), pbx: ip("127.0.0.4") };
        let file = scratch.path().join("portcullis.toml");
        fs::write(&file, places.configuration(&Variation::default())).expect("a configuration");
        let portcullis = Portcullis::start(&file, Some(&edge));
        Self { portcullis, pbx, pki, edge, phones, scratch }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::new(ip(OUTSIDE), port)
    }

    fn tls(&self, from: &str, identity: &Identity) -> Result<RawPhone, Silence> {
        self.phones.enter(|| RawPhone::tls(ip(from), Self::at(5061), &self.pki, Some(identity)))
    }

    fn udp(&self, from: &str, port: u16) -> RawPhone {
        self.phones.enter(|| RawPhone::udp(ip(from), Self::at(port)))
    }

    fn desk(&self) -> RawPhone {
        let mut desk = self.edge.enter(|| RawPhone::udp(ip("127.0.0.5"), self.pbx.address()));
        register_at_pbx(&mut desk, "2001", None);
        desk
    }

    fn audio(&self) -> [RtpEnd; 2] {
        let outside = RtpEnd::open(ip(PHONE), Some(&self.phones));
        [outside, RtpEnd::open(ip("127.0.0.5"), Some(&self.edge))]
    }

    /// One offence over TLS from there: whether it was answered.
    fn offend(&self, from: &str) -> bool {
        let Ok(mut phone) = self.tls(from, &self.pki.device("009033fffffe")) else { return false };
        phone.send(&Draft::register("1001", DOMAIN, &phone.contact("1001"), 60));
        phone.receive(SOON).is_ok_and(|answer| answer.status() == 403)
    }
}

/// Nothing of IPv6 stands in what came inside, and nothing of IPv4 in what came outside.
#[track_caller]
fn assert_families(inside: &[&RawMessage], outside: &[&RawMessage]) {
    for message in inside {
        assert!(!message.0.contains("fd00:") && !message.0.contains("IP6"), "{message:?}");
    }
    for message in outside {
        assert!(!message.0.contains("127.0.0.") && !message.0.contains("IP4"), "{message:?}");
    }
}

#[test]
fn over_tls_a_phone_calls_and_is_called_and_heard() {
    let site = Site::start();
    let mut phone = site.tls(PHONE, &site.pki.device(DEVICE_1001)).expect("a connection");
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    let contact = site.pbx.wait_contacts("1001", 1, SOON).remove(0);
    assert!(contact.contains("@127.0.0.3"), "{contact}");
    let rows = site.portcullis.wait_rows(&["registrations"], 1);
    assert_eq!(text(&rows[0], "source"), phone.local().to_string());
    let mut desk = site.desk();

    let [mut outside, mut inside] = site.audio();
    let Established { mut caller, arrived, answered, .. } =
        call_desk(&mut phone, &mut desk, [&outside, &inside]);
    assert_eq!(media_address(&answered).ip(), ip(OUTSIDE));
    assert_eq!(media_address(&arrived).ip(), ip("127.0.0.3"));
    assert_families(&[&arrived], &[&answered]);
    talk((&mut outside, &answered, 440), (&mut inside, &arrived, 880));
    hang_up(&mut phone, &mut caller, &mut desk);

    let [mut outside, mut inside] = site.audio();
    let Established { mut callee, arrived, answered, .. } =
        call_phone(&mut desk, &mut phone, [&inside, &outside]);
    assert_families(&[&answered], &[&arrived]);
    talk((&mut inside, &answered, 880), (&mut outside, &arrived, 440));
    hang_up(&mut phone, &mut callee, &mut desk);
    site.portcullis.wait_rows(&["calls"], 0);
    for message in site.pbx.received_after(0) {
        assert!(!message.0.contains("fd00:"), "{message:?}");
    }
}

#[test]
fn over_udp_a_phone_registers_by_digest_and_calls() {
    let site = Site::start();
    let mut phone = site.udp(PHONE, 5060);
    let mut register = Draft::register("1003", DOMAIN, &phone.contact("1003"), 60);
    let challenge = phone.ask(&register);
    assert_eq!(challenge.status(), 401, "{challenge:?}");
    assert_eq!(phone.ask(register.follow_up().authorize(&challenge, "1003", "secret1003")).status(), 200);
    let mut desk = site.desk();
    let [mut outside, mut inside] = site.audio();
    let draft = challenged_invite(&mut phone, "1003", "2001", &outside);
    let Established { mut caller, arrived, answered, .. } =
        connect(&mut phone, &draft, (&mut desk, "2001"), &inside);
    assert_families(&[&arrived], &[&answered]);
    talk((&mut outside, &answered, 440), (&mut inside, &arrived, 880));
    hang_up(&mut phone, &mut caller, &mut desk);
    site.portcullis.wait_rows(&["calls"], 0);
}

#[test]
fn a_softphone_with_ipv6_hears_and_is_heard() {
    let site = Site::start();
    let identity = site.pki.device(DEVICE_1001);
    let plan = Plan {
        extension: "1001",
        domain: DOMAIN,
        password: "",
        address: ip(PHONE),
        server: Site::at(5061),
        transport: "tls",
        identity: Some(&identity),
        ca_file: Some(&site.pki.ca_file()),
        hertz: 440,
        namespace: Some(&site.phones),
    };
    let mut phone = Baresip::start(&plan, site.scratch.path());
    phone.wait_registered();
    let mut desk = site.desk();
    let [_, mut ear] = site.audio();
    phone.dial("sip:2001@pbx.lab");
    let arrived = desk.receive_request("INVITE");
    accept(&mut desk, &arrived, "2001", &ear);
    desk.receive_request("ACK");
    ear.send_tone(media_address(&arrived), 880);
    ear.wait_heard(440, 10, SOON);
    phone.wait_heard(880, 10, SOON);
    phone.hang_up();
    let bye = desk.receive_request("BYE");
    desk.reply(&Draft::answer(&bye, 200, "OK", "bye"));
    assert!(!phone.log().contains("127.0.0."), "the inside is shown to the phone");
}

#[test]
fn offences_of_one_subscriber_block_his_whole_network_and_no_other() {
    let site = Site::start();
    for number in 0..5 {
        assert!(site.offend(if number % 2 == 0 { PHONE } else { NEIGHBOUR }), "offence {number}");
    }
    let rows = site.portcullis.wait_rows(&["block", "list"], 1);
    assert_eq!(text(&rows[0], "range"), "fd00:0:0:2::/64");
    assert!(!site.offend(PHONE) && !site.offend(NEIGHBOUR), "both are blocked");
    let mut udp = site.udp(NEIGHBOUR, 3478);
    udp.send_bytes(STUN_BINDING);
    assert_eq!(udp.receive_bytes(Duration::from_secs(1)), Err(Silence::Nothing));
    let mut other = site.tls(ELSEWHERE, &site.pki.device(DEVICE_1001)).expect("a connection");
    assert_eq!(other.register("1001", DOMAIN).status(), 200);
    site.portcullis.ask(&["block", "remove", "fd00:0:0:2::/64"]);
    assert!(site.offend(PHONE), "served again");
}

/// A binding request: no attributes, the cookie, a transaction ID of `portcullis!!`.
const STUN_BINDING: &[u8] = b"\x00\x01\x00\x00\x21\x12\xa4\x42portcullis!!";

#[test]
fn stun_tells_a_client_its_ipv6_address() {
    let site = Site::start();
    for port in [5060, 3478] {
        let mut client = site.udp(ELSEWHERE, port);
        client.send_bytes(STUN_BINDING);
        let answer = client.receive_bytes(SOON).expect("an answer");
        assert_eq!((&answer[..2], &answer[4..20]), (&b"\x01\x01"[..], &STUN_BINDING[4..20]), "{port}");
        // XOR-MAPPED-ADDRESS of family 2, by the cookie and the transaction ID (RFC 5389 §15.2).
        let at = answer.windows(6).position(|six| six == b"\x00\x20\x00\x14\x00\x02").expect("its address");
        let value: Vec<u8> = answer[at + 6..at + 24].to_vec();
        let IpAddr::V6(own) = client.local().ip() else { panic!("an IPv6 client") };
        let plain = [&client.local().port().to_be_bytes()[..], &own.octets()[..]].concat();
        let mask = [&STUN_BINDING[4..6], &STUN_BINDING[4..20]].concat();
        let expected: Vec<u8> = plain.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(value, expected, "{port}");
    }
}
