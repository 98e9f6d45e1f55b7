//! The PBX has a name, and the name server is gone: at the start, and while it runs. Needs root.

use std::net::UdpSocket;
use std::time::Duration;

use portcullis_tests::deadline::{never_within, wait_until};
use portcullis_tests::kamailio::{DOMAIN, Kamailio, Manner};
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab, Variation};
use portcullis_tests::name_server::{Asking, NameServer, port};
use portcullis_tests::portcullis::Surroundings;
use portcullis_tests::raw_message::Draft;

use crate::support::{SOON, text};

const NAME: &str = "pbx.company.test";
/// A look-up may wait this long for the next try, and the try takes its time.
const LOOKED_UP_AGAIN: Duration = Duration::from_secs(120);

/// A lab whose PBX is configured by a name.
struct Scene {
    lab: Lab,
    server: NameServer,
    asking: Asking,
}

impl Scene {
    fn new() -> Self {
        let uri = format!("uri = \"sip:{NAME}:5060;transport=udp\"");
        let lab = Lab::with(&Variation {
            isolated: true,
            replace: &[("uri = \"sip:@PBX@:5060;transport=udp\"", &uri)],
            ..Variation::default()
        });
        let address = lab.addresses.phone(150);
        let socket = lab.within(|| UdpSocket::bind(port(address)).expect("the port of names"));
        let server = NameServer::start(socket, NAME, lab.addresses.pbx());
        let asking = Asking::server(address, lab.directory());
        Self { lab, server, asking }
    }

    fn start_again(&mut self) {
        self.lab.restart_in(&Surroundings { mounts_of: Some(self.asking.pid()), ..Surroundings::default() });
    }

    /// Nobody hears what is asked any more.
    fn lose_names(&self) {
        self.lab.network().expect("its own").lose("meta l4proto { tcp, udp } th dport 53");
    }

    fn find_names(&self) {
        assert!(self.lab.network().expect("its own").heal() > 0, "it was asked in vain");
    }

    fn told(&self) -> usize {
        self.lab.portcullis.events("name_unresolved").len()
    }
}

#[test]
fn without_a_name_server_it_starts_and_finds_the_pbx_later() {
    let mut scene = Scene::new();
    scene.lose_names();
    scene.start_again();
    let lab = &scene.lab;
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    phone.send(&Draft::register("1001", DOMAIN, &phone.contact("1001"), 60));
    let refused = phone.receive_final(SOON);
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert!(refused.value("Retry-After").parse::<u32>().is_ok());
    let event = wait_until("it is told", LOOKED_UP_AGAIN, || {
        lab.portcullis.events("name_unresolved").into_iter().next()
    });
    assert!(text(&event, "text").contains(NAME), "{event}");
    assert!(text(&event, "next_step").contains("name servers"), "{event}");
    never_within("it is told again", Duration::from_secs(5), || scene.told() != 1);

    scene.find_names();
    wait_until("the PBX is found", LOOKED_UP_AGAIN, || {
        (!lab.portcullis.events("pbx_up").is_empty()).then_some(())
    });
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    lab.pbx.wait_contacts("1001", 1, SOON);
}

#[test]
fn a_name_server_that_goes_away_changes_nothing_until_the_pbx_moves() {
    let mut scene = Scene::new();
    scene.start_again();
    let mut phone = scene.lab.registered_phone(1);
    scene.lab.pbx.wait_contacts("1001", 1, SOON);
    let asked = scene.server.asked();
    scene.lose_names();
    wait_until("it is told", LOOKED_UP_AGAIN, || (scene.told() == 1).then_some(()));
    assert_eq!(scene.server.asked(), asked, "nobody heard it");
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    let mut newcomer = scene.lab.tls_phone(2, &scene.lab.pki.device(DEVICE_1002));
    assert_eq!(newcomer.register("1002", DOMAIN).status(), 200, "by the last address");
    scene.lab.pbx.wait_contacts("1002", 1, SOON);

    // The PBX moves to another machine; nobody can tell.
    let (place, directory) = (scene.lab.addresses.standby(), scene.lab.directory().join("moved"));
    let moved = Kamailio::start(place, &directory, &Manner::default(), scene.lab.network());
    scene.server.set(place);
    scene.lab.pbx.crash();
    scene.find_names();
    for extension in ["1001", "1002"] {
        moved.wait_contacts(extension, 1, LOOKED_UP_AGAIN);
    }
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    assert_eq!(scene.told(), 1);
}
