//! The PBX is there and does nothing.

use std::time::Duration;

use portcullis_tests::lab::{Lab, Variation};
use portcullis_tests::rtp::RtpEnd;

use crate::support::{SOON, invite, text, wait_idle};

#[test]
fn a_call_that_a_hanging_pbx_leaves_waiting_is_refused_within_ten_seconds() {
    let replace = [("health_check = \"2s\"", "health_check = \"60s\"")];
    let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let mut phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.pbx.hang();
    let audio = RtpEnd::open(lab.addresses.phone(1), None);
    let draft = invite(&phone, "1001", "2001", &audio);
    let via = phone.send(&draft);
    let refused = phone.receive_final(Duration::from_secs(10));
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert_eq!(refused.value("Retry-After"), "60");
    phone.acknowledge(&draft, &via, &refused);
    let failed = lab.portcullis.wait_event("call_failed", |event| text(event, "extension") == "1001");
    assert!(text(&failed, "text").contains("PBX main is down and had not answered it"), "{failed}");
    assert!(text(&failed, "next_step").contains("look whether PBX main runs"), "{failed}");
    lab.portcullis.wait_event("pbx_down", |_| true);
    wait_idle(&lab);
    // What it answers late tells that it is back, and nothing else comes of it.
    lab.pbx.go_on();
    lab.portcullis.wait_event("pbx_up", |event| text(event, "time") > text(&failed, "time"));
    wait_idle(&lab);
}
