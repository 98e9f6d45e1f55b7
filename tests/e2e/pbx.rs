//! The PBX goes away, comes back, forgets, or changes (contract section 3, PBX watch).

use std::time::Duration;

use portcullis_tests::deadline::{never_within, wait_until};
use portcullis_tests::kamailio::{DOMAIN, Manner};
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab, Variation};
use portcullis_tests::rtp::RtpEnd;

use crate::support::{SOON, invite, text};

#[test]
fn a_quick_restart_of_the_pbx_is_noticed_and_all_are_registered_again() {
    let mut lab = Lab::start();
    let _one = lab.registered_phone(1);
    let mut two = lab.tls_phone(2, &lab.pki.device(DEVICE_1002));
    assert_eq!(two.register("1002", DOMAIN).status(), 200);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.pbx.start_again(None);
    for extension in ["1001", "1002"] {
        lab.pbx.wait_contacts(extension, 1, SOON);
    }
    lab.portcullis.wait_event("pbx_lost_bindings", |_| true);
    lab.portcullis.wait_event("reregistered", |event| text(event, "extension") == "1001");
}

#[test]
fn one_forgotten_binding_is_made_again() {
    let lab = Lab::start();
    let _phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.pbx.forget("1001");
    lab.pbx.wait_contacts("1001", 1, SOON);
}

#[test]
fn while_the_pbx_is_down_known_phones_stay_and_new_ones_wait() {
    let mut lab = Lab::start();
    let mut known = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.pbx.crash();
    lab.portcullis.wait_event("pbx_down", |_| true);
    assert_eq!(known.register("1001", DOMAIN).status(), 200, "a refresh is ours to answer");
    let mut newcomer = lab.tls_phone(2, &lab.pki.device(DEVICE_1002));
    let refused = newcomer.register("1002", DOMAIN);
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert!(refused.value("Retry-After").parse::<u32>().is_ok());
    lab.portcullis.wait_event("registration_failed", |event| text(event, "extension") == "1002");
    let audio = RtpEnd::open(lab.addresses.phone(1), None);
    let draft = invite(&known, "1001", "2001", &audio);
    assert_eq!(known.invite(&draft).status(), 503);
    lab.portcullis.wait_event("call_failed", |event| text(event, "extension") == "1001");
    let mut stranger = lab.tls_phone(3, &lab.pki.device("009033fffffe"));
    assert_eq!(stranger.register("1001", DOMAIN).status(), 403, "nobody gets in by it");
    lab.pbx.start_again(None);
    lab.portcullis.wait_event("pbx_up", |_| true);
    lab.pbx.wait_contacts("1001", 1, SOON);
    assert_eq!(newcomer.register("1002", DOMAIN).status(), 200);
}

#[test]
fn a_pbx_that_was_never_there_keeps_no_phone_waiting() {
    let mut lab = Lab::start();
    lab.pbx.crash();
    lab.portcullis.kill();
    lab.restart();
    let mut phone = lab.tls_phone(1, &lab.pki.device(DEVICE_1001));
    let refused = phone.register("1001", DOMAIN);
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert!(refused.value("Retry-After").parse::<u32>().is_ok());
    lab.portcullis.wait_event("pbx_down", |_| true);
    lab.pbx.start_again(None);
    lab.portcullis.wait_event("pbx_up", |_| true);
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
}

#[test]
fn another_realm_is_never_answered() {
    let mut lab = Lab::start();
    let mut phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.pbx.change(&Manner { realm: "phishing.example", ..Manner::default() });
    lab.pbx.start_again(None);
    lab.portcullis.wait_event("realm_changed", |event| text(event, "text").contains("phishing.example"));
    never_within("the password is used for it", Duration::from_secs(2), || {
        let registers = lab.pbx.requests_after(0, "REGISTER");
        registers.iter().any(|it| it.values("Authorization").iter().any(|value| value.contains("phishing")))
    });
    assert_eq!(lab.pbx.contacts("1001").len(), 0);
    // The PBX has lost it and takes it in no more: it is not said to be registered, and its call is refused without
    // a question for a password that the phone has not.
    wait_until("it is lost", SOON, || {
        let rows = lab.portcullis.rows(&["registrations"]);
        rows.first().filter(|row| text(row, "pbx_state") == "lost").map(drop)
    });
    let audio = RtpEnd::open(lab.addresses.phone(1), None);
    let draft = invite(&phone, "1001", "2001", &audio);
    let refused = phone.invite(&draft);
    assert_eq!(refused.status(), 403, "{refused:?}");
    assert!(refused.values("Proxy-Authenticate").is_empty(), "{refused:?}");
    assert!(lab.portcullis.rows(&["block", "list"]).is_empty());
}

#[test]
fn a_pbx_that_keeps_one_contact_is_named() {
    let ids = r#"hardware_ids = ["009033010203", "009033010211"]"#;
    let replace = [(r#"hardware_ids = ["009033010203"]"#, ids)];
    let lab = Lab::with(&Variation {
        replace: &replace,
        pbx: Manner { contacts_max: 1, ..Manner::default() },
        ..Variation::default()
    });
    let mut phones: Vec<_> = [DEVICE_1001, "009033010211"]
        .iter()
        .zip(1..)
        .map(|(device, number)| lab.tls_phone(number, &lab.pki.device(device)))
        .collect();
    for phone in &mut phones {
        phone.register("1001", DOMAIN);
    }
    lab.portcullis.wait_event("pbx_single_contact", |_| true);
}
