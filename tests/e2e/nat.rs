//! A phone behind NAT: private addresses in its SIP and SDP, a router that masquerades (issue item 5).

use std::fs;
use std::net::{IpAddr, SocketAddr};

use portcullis_tests::baresip::{Baresip, Plan};
use portcullis_tests::kamailio::{DOMAIN, Kamailio, Manner};
use portcullis_tests::lab::{DEVICE_1001, Places, Variation, register_at_pbx};
use portcullis_tests::netns::Home;
use portcullis_tests::pki::Pki;
use portcullis_tests::portcullis::Portcullis;
use portcullis_tests::raw_message::Draft;
use portcullis_tests::raw_phone::RawPhone;
use portcullis_tests::rtp::RtpEnd;
use portcullis_tests::scratch::Scratch;

use crate::support::{SOON, accept, media_address, text};

#[test]
fn a_phone_behind_nat_is_heard_and_hears() {
    let scratch = Scratch::new();
    let network = Home::new(scratch.path());
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (outside, desk_address) = (address(Home::EDGE), address("127.0.0.5"));
    let pbx_directory = scratch.subdirectory("pbx");
    let pbx = Kamailio::start(address("127.0.0.4"), &pbx_directory, &Manner::default(), Some(&network.edge));
    let pki = Pki::new(&scratch.subdirectory("pki"), outside, "sbc.lab");
    let places = Places { outside, inside: address("127.0.0.3"), pbx: address("127.0.0.4") };
    let file = scratch.path().join("portcullis.toml");
    fs::write(&file, places.configuration(&Variation::default())).expect("a configuration can be written");
    let portcullis = Portcullis::start(&file, Some(&network.edge));
    let mut desk = network.edge.enter(|| RawPhone::udp(desk_address, pbx.address()));
    register_at_pbx(&mut desk, "2001", None);
    let mut ear = RtpEnd::open(desk_address, Some(&network.edge));

    let identity = pki.device(DEVICE_1001);
    let plan = Plan {
        extension: "1001",
        domain: DOMAIN,
        password: "",
        address: address(Home::PHONE),
        server: SocketAddr::new(outside, 5061),
        transport: "tls",
        identity: Some(&identity),
        ca_file: Some(&pki.ca_file()),
        hertz: 440,
        namespace: Some(&network.home),
    };
    let mut phone = Baresip::start(&plan, scratch.path());
    phone.wait_registered();
    let rows = portcullis.wait_rows(&["registrations"], 1);
    assert!(text(&rows[0], "source").starts_with(Home::ROUTER), "{rows:?}");

    // Out: the description names an address that the border cannot reach; it learns where the audio is.
    phone.dial("sip:2001@pbx.lab");
    let arrived = desk.receive_request("INVITE");
    assert!(!arrived.0.contains(Home::PHONE) && !arrived.0.contains(Home::ROUTER), "{arrived:?}");
    accept(&mut desk, &arrived, "2001", &ear);
    desk.receive_request("ACK");
    ear.send_tone(media_address(&arrived), 880);
    ear.wait_heard(440, 10, SOON);
    phone.wait_heard(880, 10, SOON);
    phone.hang_up();
    let bye = desk.receive_request("BYE");
    desk.reply(&Draft::answer(&bye, 200, "OK", "bye"));

    // In: the router lets the call in by the connection that the phone holds.
    let mark = phone.mark();
    let draft = crate::support::challenged_invite(&mut desk, "2001", "1001", &ear);
    desk.send(&draft);
    let answered = desk.receive_status(200);
    let mut caller = portcullis_tests::dialog::Dialog::of_caller(&draft, &answered);
    desk.send(&caller.ack());
    phone.wait_event(mark, "CALL_ESTABLISHED", SOON);
    ear.forget();
    ear.send_tone(media_address(&answered), 880);
    ear.wait_heard(440, 10, SOON);
    phone.wait_heard(880, 10, SOON);
    desk.send(&caller.request("BYE"));
    desk.receive_status(200);
    phone.wait_event(mark, "CALL_CLOSED", SOON);
}
