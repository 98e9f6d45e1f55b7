//! The allow list, the block list, and the automatic block (issue item 7, contract section 6).

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_tests::deadline::{Stopwatch, wait_until};
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab, Variation};
use portcullis_tests::raw_message::Draft;
use portcullis_tests::raw_phone::{RawPhone, Silence};

use crate::support::{SOON, number, text};

/// A hardware ID that nobody lists.
const STRANGER: &str = "009033fffffe";

/// One refused registration over TLS from the phone of this number; whether it was answered at all.
fn offend(lab: &Lab, phone: u8) -> Result<u16, Silence> {
    let identity = lab.pki.device(STRANGER);
    let mut phone = RawPhone::tls(lab.addresses.phone(phone), lab.tls(), &lab.pki, Some(&identity))?;
    let contact = phone.contact("1001");
    phone.send(&Draft::register("1001", DOMAIN, &contact, 60));
    phone.receive(SOON).map(|answer| answer.status())
}

/// Whether a new TCP connection from there gets so far as a keepalive's answer.
fn is_served(lab: &Lab, phone: u8) -> bool {
    let Ok(mut phone) = RawPhone::tcp(lab.addresses.phone(phone), lab.plain()) else { return false };
    phone.send_bytes(b"\r\n\r\n");
    phone.receive_bytes(Duration::from_secs(3)).is_ok()
}

#[test]
fn five_offences_block_a_source_for_ten_minutes() {
    let lab = Lab::start();
    for offence in 1..=5 {
        assert_eq!(offend(&lab, 66), Ok(403), "offence {offence}");
    }
    let rows = lab.portcullis.wait_rows(&["block", "list"], 1);
    let intruder = lab.addresses.phone(66).to_string();
    assert_eq!((text(&rows[0], "address"), text(&rows[0], "range")), (intruder.as_str(), intruder.as_str()));
    assert_eq!((text(&rows[0], "block_type"), text(&rows[0], "defense_type")), ("automatic", "hwid_unknown"));
    assert_eq!((text(&rows[0], "protocol"), number(&rows[0], "port")), ("tls", 5061.0));
    let left = number(&rows[0], "remaining_s");
    assert!(left > 590.0 && left <= 600.0, "{rows:?}");
    assert_eq!(lab.portcullis.events("detected").len(), 1, "the first offence alone is a detection");
    assert!(text(&lab.portcullis.wait_event("blocked", |_| true), "source").starts_with(&intruder));

    // Not a byte to it on any port, while others are served.
    assert!(!is_served(&lab, 66));
    assert!(offend(&lab, 66).is_err());
    let stun = b"\x00\x01\x00\x00\x21\x12\xa4\x42portcullis!!";
    for port in [5060, 3478] {
        let to = SocketAddr::new(lab.addresses.outside(), port);
        let mut udp = RawPhone::udp(lab.addresses.phone(66), to);
        udp.send_bytes(stun);
        assert_eq!(udp.receive_bytes(Duration::from_secs(1)), Err(Silence::Nothing), "UDP {port}");
    }
    let mut udp = RawPhone::udp(lab.addresses.phone(66), lab.plain());
    udp.send(&Draft::register("1003", DOMAIN, "sip:1003@a", 60));
    assert_eq!(udp.receive(Duration::from_secs(1)), Err(Silence::Nothing));
    assert!(is_served(&lab, 67));
    let _phone = lab.registered_phone(1);
}

#[test]
fn a_block_ends_when_its_time_is_over() {
    let lab =
        Lab::with(&Variation { replace: &[("time = \"10m\"", "time = \"3s\"")], ..Variation::default() });
    let watch = Stopwatch::start();
    while offend(&lab, 66).is_ok() {}
    assert!(!is_served(&lab, 66));
    wait_until("the block ends", SOON, || is_served(&lab, 66).then_some(()));
    assert!(watch.elapsed() >= Duration::from_secs(3), "{:?}", watch.elapsed());
    lab.portcullis.wait_event("unblocked", |_| true);
    assert_eq!(lab.portcullis.rows(&["block", "list"]).len(), 0);
}

#[test]
fn a_success_clears_the_count() {
    let lab = Lab::start();
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(offend(&lab, 1), Ok(403));
        }
        drop(lab.registered_phone(1));
    }
    assert_eq!(lab.portcullis.rows(&["block", "list"]).len(), 0);
}

#[test]
fn an_automatic_block_spares_the_phone_that_is_registered_from_there() {
    let lab = Lab::start();
    let mut phone = lab.registered_phone(1);
    while offend(&lab, 1).is_ok() {}
    assert_eq!(phone.register("1001", DOMAIN).status(), 200, "the phone behind the same address goes on");
    let address = lab.addresses.phone(1).to_string();
    lab.portcullis.ask(&["block", "remove", &address]);
    lab.portcullis.ask(&["block", "add", &address]);
    assert_eq!(phone.receive(SOON), Err(Silence::Closed), "an operator's block spares nobody");
}

#[test]
fn what_a_udp_source_has_not_proved_never_blocks_it() {
    let lab = Lab::start();
    let mut phone = RawPhone::udp(lab.addresses.phone(1), lab.plain());
    for _ in 0..15 {
        let mut forged = Draft::register("4711", DOMAIN, "sip:4711@a", 60);
        forged.set(
            "Authorization",
            "Digest username=\"4711\", realm=\"pbx.lab\", nonce=\"x\", uri=\"sip:pbx.lab\", response=\"0\"",
        );
        phone.send(&forged);
        phone.send_bytes(b"REGISTER \x00garbage");
    }
    lab.portcullis.wait_event("name_unknown", |_| true);
    assert_eq!(lab.portcullis.rows(&["block", "list"]).len(), 0);
}

#[test]
fn the_operator_blocks_unblocks_and_allows() {
    let lab = Lab::start();
    let address = lab.addresses.phone(66).to_string();
    let network = format!("{}/29", lab.addresses.phone(70)); // .80/29
    lab.portcullis.ask(&["block", "add", &address, "--for", "10m", "--why", "scanner of the week"]);
    lab.portcullis.ask(&["block", "add", &network]);
    let rows = lab.portcullis.wait_rows(&["block", "list"], 2);
    let row = rows.iter().find(|row| text(row, "range") == address).expect("the first entry");
    assert_eq!(text(row, "block_type"), "manual");
    assert!(text(row, "evidence").contains("scanner of the week"), "{row}");
    assert!(!is_served(&lab, 66) && !is_served(&lab, 71) && is_served(&lab, 67));

    lab.portcullis.ask(&["block", "remove", &network]);
    assert!(is_served(&lab, 71));
    lab.portcullis.ask(&["block", "allow", &address]);
    assert!(is_served(&lab, 66));
    assert_eq!(lab.portcullis.rows(&["block", "list"]).len(), 0);
    let allowed = lab.portcullis.wait_rows(&["allow", "list"], 1);
    assert!(text(&allowed[0], "address").starts_with(&address), "{allowed:?}");
    for _ in 0..8 {
        assert_eq!(offend(&lab, 66), Ok(403), "allowed: refused, never blocked");
    }
    lab.portcullis.wait_event("hwid_unknown", |event| text(event, "source").starts_with(&address));
    let refused = lab.portcullis.command(&["block", "add", &address]);
    let said =
        String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && said.contains(text(&allowed[0], "name")), "{said}");
    lab.portcullis.ask(&["allow", "remove", text(&allowed[0], "name")]);
    lab.portcullis.ask(&["block", "add", &address]);
    assert!(!is_served(&lab, 66));
}

/// What the command line says, and whether it was carried out.
fn order(lab: &Lab, words: &[&str]) -> (bool, String) {
    let output = lab.portcullis.command(words);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_network_with_registered_phones_is_blocked_only_by_force() {
    let lab = Lab::start();
    let mut phones = [lab.registered_phone(1), lab.tls_phone(2, &lab.pki.device(DEVICE_1002))];
    assert_eq!(phones[1].register("1002", DOMAIN).status(), 200);
    let network = format!("{}/24", lab.addresses.phone(1));
    for (blocked, words) in [
        (network.as_str(), ["holds 2 registered phones", "1001 from ", "1002 from "]),
        ("0.0.0.0/0", ["is every address: 2 registered phones", "1001 from ", "--force`"]),
        ("::/0", ["is every address", "no phone could register", "block add ::/0 --force`"]),
    ] {
        let (done, said) = order(&lab, &["block", "add", blocked]);
        assert!(!done && words.iter().all(|word| said.contains(word)), "{said}");
    }
    assert_eq!(lab.portcullis.rows(&["block", "list"]).len(), 0);
    assert_eq!(phones[0].register("1001", DOMAIN).status(), 200, "nothing happened to it");

    // A single address is meant as it is said; what it costs is told.
    let address = lab.addresses.phone(2).to_string();
    let (done, said) = order(&lab, &["block", "add", &address]);
    assert!(done && said.contains("it cuts off 1 registered phone: 1002 from "), "{said}");
    assert_eq!(phones[1].receive(SOON), Err(Silence::Closed));
    // The PBX is no matter of the block list.
    let pbx = lab.addresses.pbx().to_string();
    let (done, said) = order(&lab, &["block", "add", &pbx]);
    assert!(done && said.contains("the PBX in it goes on"), "{said}");
    assert_eq!(phones[0].register("1001", DOMAIN).status(), 200);

    let (done, said) = order(&lab, &["block", "add", &network, "--force"]);
    assert!(done && said.contains("it cuts off 1 registered phone: 1001 from "), "{said}");
    assert_eq!(phones[0].receive(SOON), Err(Silence::Closed));
}

#[test]
fn who_unblocks_a_part_is_told_the_entry() {
    let lab = Lab::start();
    lab.portcullis.ask(&["block", "add", "198.51.100.0/24"]);
    for verb in ["remove", "allow"] {
        let (done, said) = order(&lab, &["block", verb, "198.51.100.7"]);
        assert!(!done && said.contains("lies in the blocked network 198.51.100.0/24"), "{said}");
        assert!(said.contains("`portcullis block remove 198.51.100.0/24`"), "{said}");
        assert!(said.contains("`portcullis allow add 198.51.100.7 --name NAME`"), "{said}");
    }
    let (done, said) = order(&lab, &["block", "remove", "198.51.0.0/16"]);
    assert!(!done && said.contains("1 of its parts: `portcullis block remove 198.51.100.0/24`"), "{said}");
    let (done, said) = order(&lab, &["block", "remove", "203.0.113.7"]);
    assert!(!done && said.contains("203.0.113.7 is not on the block list"), "{said}");
}

#[test]
fn the_configured_allow_list_is_never_blocked() {
    let lab = Lab::with(&Variation {
        add: "\n[[allowed]]\nname = \"office\"\ndescription = \"the lab itself\"\naddress = \"127.0.0.0/8\"\n",
        ..Variation::default()
    });
    for _ in 0..8 {
        assert_eq!(offend(&lab, 66), Ok(403));
    }
    assert_eq!(lab.portcullis.rows(&["block", "list"]).len(), 0);
    let rows = lab.portcullis.rows(&["allow", "list"]);
    assert_eq!((text(&rows[0], "name"), rows[0]["from_config"].as_bool()), ("office", Some(true)));
    assert!(!lab.portcullis.command(&["allow", "remove", "office"]).status.success(), "the file wins");
}

#[test]
fn a_flood_of_connections_is_an_offence_and_calls_nobody_else_down() {
    let lab = Lab::start();
    let mut phone = lab.registered_phone(1);
    let flooder = lab.addresses.phone(66);
    wait_until("the flood blocks its source", Duration::from_secs(30), || {
        let connections: Vec<_> =
            (0..60).map(|_| portcullis_tests::raw_phone::connect(flooder, lab.tls())).collect();
        drop(connections);
        (!lab.portcullis.rows(&["block", "list"]).is_empty()).then_some(())
    });
    lab.portcullis.wait_event("flood", |event| text(event, "source").starts_with(&flooder.to_string()));
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    assert_eq!(lab.tls_phone(2, &lab.pki.device(DEVICE_1001)).register("1001", DOMAIN).status(), 200);
}
