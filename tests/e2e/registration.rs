//! Registration by device certificate, and re-registration at the PBX (issue items 2 and 3).

use std::time::Duration;

use portcullis_tests::deadline::{never_within, wait_until};
use portcullis_tests::kamailio::{DOMAIN, Manner};
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab, Variation};
use portcullis_tests::raw_message::Draft;
use portcullis_tests::raw_phone::RawPhone;
use portcullis_tests::sipp::Scenario;
use portcullis_tests::tls_pipe::TlsPipe;

use crate::support::{SOON, number, text};

#[test]
fn a_phone_registers_with_its_certificate_and_the_pbx_sees_our_contact() {
    let lab = Lab::start();
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let answer = phone.register("1001", DOMAIN);
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.uri_of("Contact"), phone.contact("1001"));

    let contacts = lab.pbx.wait_contacts("1001", 1, SOON);
    let (inside, phone_ip) = (lab.addresses.inside().to_string(), lab.addresses.phone(1).to_string());
    assert!(contacts[0].contains(&inside), "{contacts:?}");
    let user = contacts[0].trim_start_matches("sip:").split('@').next().unwrap_or_default();
    assert!(user.len() <= 20 && user != "1001", "a short token of ours: {contacts:?}");
    let registers = lab.pbx.requests_after(0, "REGISTER");
    let last = registers.last().expect("the PBX got a REGISTER");
    assert_eq!(last.request_uri(), "sip:pbx.lab");
    assert_eq!(
        (last.uri_of("From"), last.uri_of("To")),
        ("sip:1001@pbx.lab".to_owned(), "sip:1001@pbx.lab".to_owned())
    );
    assert!(registers.iter().all(|register| !register.0.contains(&phone_ip)), "{registers:#?}");

    let rows = lab.portcullis.wait_rows(&["registrations"], 1);
    assert_eq!(text(&rows[0], "extension"), "1001");
    assert_eq!(text(&rows[0], "hardware_id"), DEVICE_1001);
    assert_eq!(text(&rows[0], "source"), phone.local().to_string());
    assert_eq!(text(&rows[0], "transport"), "tls");
    assert_eq!(text(&rows[0], "pbx_state"), "registered");
    assert!(number(&rows[0], "expires_s") <= 60.0 && number(&rows[0], "pbx_expires_s") > 3_000.0, "{rows:?}");
    lab.portcullis.wait_event("registered", |event| text(event, "extension") == "1001");
}

#[test]
fn sipp_registers_over_mutual_tls() {
    let lab = Lab::start();
    let identity = lab.pki.device(DEVICE_1001);
    let pipe = TlsPipe::open(lab.addresses.phone(1), lab.tls(), &lab.pki, &identity);
    let register = Scenario {
        remote: Some(pipe.address),
        transport: "tcp",
        keys: &[("extension", "1001"), ("via", "TLS")],
        ..Scenario::new("register", std::net::SocketAddr::new(lab.addresses.phone(1), 5062))
    };
    register.start(lab.directory(), None).succeed(SOON);
    lab.portcullis.wait_event("registered", |event| text(event, "extension") == "1001");
}

#[test]
fn a_softphone_registers_with_its_certificate() {
    let lab = Lab::start();
    let _phone = lab.softphone("1001", DEVICE_1001, 1, 440);
    lab.pbx.wait_contacts("1001", 1, SOON);
}

#[test]
fn every_form_of_a_hardware_id_is_the_same_device() {
    let lab = Lab::start();
    for (number, form) in
        ["00:90:33:01:02:03", "00-90-33-01-02-03", "0090.3301.0203", "SEP009033010203", "IP110-01-02-03"]
            .into_iter()
            .enumerate()
    {
        let mut phone = lab.tls_phone(number as u8, &lab.pki.device(form));
        assert_eq!(phone.register("1001", DOMAIN).status(), 200, "{form}");
    }
    let mut phone = lab.tls_phone(9, &lab.pki.device(DEVICE_1002));
    assert_eq!(phone.register("1002", DOMAIN).status(), 200, "listed in its old form");
    assert_eq!(lab.portcullis.rows(&["registrations"]).len(), 2, "one binding for each device");
}

#[test]
fn a_refresh_stays_outside() {
    let lab = Lab::start();
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let mut register = Draft::register("1001", DOMAIN, &phone.contact("1001"), 60);
    assert_eq!(phone.ask(&register).status(), 200);
    lab.pbx.wait_contacts("1001", 1, SOON);
    let mark = lab.pbx.mark();
    for _ in 0..5 {
        assert_eq!(phone.ask(register.follow_up()).status(), 200);
    }
    let contacts =
        |message: &portcullis_tests::raw_message::RawMessage| !message.values("Contact").is_empty();
    let registers = lab.pbx.requests_after(mark, "REGISTER");
    assert!(!registers.iter().any(contacts), "queries alone reach the PBX: {registers:#?}");
}

#[test]
fn a_phone_that_signs_off_is_signed_off_at_the_pbx() {
    let lab = Lab::start();
    let mut phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    let contact = phone.contact("1001");
    assert_eq!(phone.ask(&Draft::register("1001", DOMAIN, &contact, 0)).status(), 200);
    lab.pbx.wait_contacts("1001", 0, SOON);
    lab.portcullis.wait_rows(&["registrations"], 0);
    lab.portcullis.wait_event("deregistered", |event| text(event, "extension") == "1001");
}

#[test]
fn a_lost_connection_signs_off_after_the_grace_time_and_not_before() {
    let lab = Lab::start();
    let phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    drop(phone);
    never_within("the PBX loses the contact within the grace time", Duration::from_millis(1_500), || {
        lab.pbx.contacts("1001").is_empty()
    });
    lab.pbx.wait_contacts("1001", 0, SOON);
    lab.portcullis.wait_event("deregistered", |event| text(event, "extension") == "1001");
}

#[test]
fn a_phone_back_within_the_grace_time_keeps_its_registration() {
    let lab = Lab::start();
    drop(lab.registered_phone(1));
    let before = lab.pbx.wait_contacts("1001", 1, SOON);
    let _phone = lab.registered_phone(2);
    never_within("the contact changes", Duration::from_secs(4), || lab.pbx.contacts("1001") != before);
    assert_eq!(lab.portcullis.events("deregistered").len(), 0);
}

#[test]
fn too_short_a_time_is_refused_and_too_long_a_one_cut() {
    let lab = Lab::start();
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let contact = phone.contact("1001");
    let short = phone.ask(&Draft::register("1001", DOMAIN, &contact, 59));
    assert_eq!((short.status(), short.value("Min-Expires").as_str()), (423, "60"));
    let long = phone.ask(&Draft::register("1001", DOMAIN, &contact, 7_200));
    assert_eq!(long.status(), 200);
    assert!(long.0.contains("expires=120") || long.values("Expires") == ["120"], "{long:?}");
}

#[test]
fn the_pbx_may_challenge_with_sha_256() {
    let lab = Lab::with(&Variation {
        pbx: Manner { algorithm: "SHA-256", ..Manner::default() },
        ..Variation::default()
    });
    let _phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
}

#[test]
fn the_pbx_may_challenge_without_qop() {
    let lab =
        Lab::with(&Variation { pbx: Manner { qop: false, ..Manner::default() }, ..Variation::default() });
    let _phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
}

#[test]
fn a_stale_nonce_is_no_fault() {
    let lab =
        Lab::with(&Variation { pbx: Manner { nonce_secs: 1, ..Manner::default() }, ..Variation::default() });
    let mut phone = lab.registered_phone(1);
    never_within("the border gives up", Duration::from_secs(3), || lab.pbx.contacts("1001").is_empty());
    lab.pbx.forget("1001");
    lab.pbx.wait_contacts("1001", 1, SOON);
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
}

#[test]
fn two_devices_of_an_extension_are_two_contacts_and_a_fifth_is_refused() {
    let ids =
        r#"hardware_ids = ["009033010203", "009033010211", "009033010212", "009033010213", "009033010214"]"#;
    let replace = [(r#"hardware_ids = ["009033010203"]"#, ids)];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let devices = ["009033010203", "009033010211", "009033010212", "009033010213"];
    let phones: Vec<RawPhone> = devices
        .iter()
        .enumerate()
        .map(|(number, device)| {
            let mut phone = lab.tls_phone(number as u8, &lab.pki.device(device));
            assert_eq!(phone.register("1001", DOMAIN).status(), 200, "{device}");
            phone
        })
        .collect();
    let contacts = lab.pbx.wait_contacts("1001", 4, SOON);
    assert!(contacts.iter().all(|contact| contacts.iter().filter(|other| *other == contact).count() == 1));
    let mut fifth = lab.tls_phone(9, &lab.pki.device("009033010214"));
    assert_eq!(fifth.register("1001", DOMAIN).status(), 403);
    drop(phones);
}

#[test]
fn two_devices_that_say_the_same_of_themselves_are_two_bindings() {
    let ids = r#"hardware_ids = ["009033010203", "009033010211"]"#;
    let replace = [(r#"hardware_ids = ["009033010203"]"#, ids)];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let mut phones = [(1, DEVICE_1001), (2, "009033010211")]
        .map(|(number, device)| lab.tls_phone(number, &lab.pki.device(device)));
    let mut drafts = phones.each_ref().map(|phone| {
        let mut register = Draft::register("1001", DOMAIN, &phone.contact("1001"), 60);
        let instance = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\";reg-id=1";
        register.set("Contact", &format!("<{}>;{instance}", phone.contact("1001")));
        register
    });
    for (phone, draft) in phones.iter_mut().zip(&drafts) {
        let answer = phone.ask(draft);
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.values("Contact").len(), 1, "nobody learns of the other: {answer:?}");
    }
    lab.pbx.wait_contacts("1001", 2, SOON);
    for (phone, draft) in phones.iter_mut().zip(&mut drafts) {
        assert_eq!(phone.ask(draft.follow_up()).status(), 200, "neither was displaced");
    }
    let rows = lab.portcullis.wait_rows(&["registrations"], 2);
    let devices = [&rows[0], &rows[1]].map(|row| text(row, "hardware_id"));
    assert_ne!(devices[0], devices[1], "{rows:?}");
}

#[test]
fn a_phone_gone_before_the_pbx_accepts_it_leaves_no_contact_behind() {
    let pbx = Manner { slow_register: true, ..Manner::default() };
    let lab = Lab::with(&Variation { pbx, ..Variation::default() });
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let mark = lab.pbx.mark();
    let mut register = Draft::register("1001", DOMAIN, &phone.contact("1001"), 60);
    phone.send(&register);
    let under_way = wait_until("the PBX is at it", SOON, || {
        let mut asked = lab.pbx.requests_after(mark, "REGISTER").into_iter();
        asked.find(|it| !it.values("Contact").is_empty() && !it.values("Authorization").is_empty())
    });
    phone.send(register.follow_up().set("Expires", "0"));
    lab.portcullis.wait_rows(&["registrations"], 0);
    assert_eq!(lab.pbx.contacts("1001").len(), 0, "it has not accepted yet");
    lab.pbx.wait_saved(&under_way, SOON);
    lab.pbx.wait_contacts("1001", 0, SOON);
    never_within("the contact comes back", Duration::from_secs(3), || !lab.pbx.contacts("1001").is_empty());
}

#[test]
fn the_newest_connection_of_a_device_replaces_the_old() {
    let lab = Lab::start();
    let mut old = lab.registered_phone(1);
    let _new = lab.registered_phone(1);
    assert_eq!(old.receive(SOON), Err(portcullis_tests::raw_phone::Silence::Closed));
    assert_eq!(lab.portcullis.rows(&["registrations"]).len(), 1);
    assert_eq!(lab.pbx.contacts("1001").len(), 1);
}

#[test]
fn a_resumed_tls_session_is_checked_like_a_new_one() {
    let lab = Lab::start();
    let identity = lab.pki.device(DEVICE_1001);
    let config = RawPhone::tls_config(&lab.pki, Some(&identity));
    let phone =
        |number| RawPhone::tls_with(lab.addresses.phone(number), lab.tls(), &config).expect("a connection");
    for (number, resumed) in [(1, false), (2, true)] {
        let mut phone = phone(number);
        assert_eq!(phone.is_resumed(), resumed);
        assert_eq!(phone.register("1001", DOMAIN).status(), 200);
        assert_eq!(phone.register("1002", DOMAIN).status(), 403, "another extension's name");
    }
}
