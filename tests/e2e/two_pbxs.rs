//! Two PBXs behind one border: what befalls one leaves the other untouched, and neither learns of the other.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_tests::deadline::never_within;
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1002, Lab, Variation, register_at_pbx};
use portcullis_tests::raw_message::{Draft, RawMessage, audio_sdp};
use portcullis_tests::raw_phone::RawPhone;
use portcullis_tests::rtp::RtpEnd;

use crate::support::{
    Established, SOON, call_desk, call_phone, connect, hang_up, invite, talk, text, wait_idle,
};

/// The domain of the PBX that stands by, where it has one of its own.
const OTHER: &str = "other.lab";

/// A lab whose main PBX has this health check, by TCP or UDP.
fn lab_with(domain: &str, main: &str) -> Lab {
    let replace = [(";transport=udp\"\ndomain = \"pbx.lab\"\nhealth_check = \"2s\"", main)];
    let lab = Lab::with(&Variation { standby: Some(domain), replace: &replace, ..Variation::default() });
    // The first phone goes to the main one all the same.
    lab.portcullis.wait_event("pbx_up", |event| text(event, "text").contains("standby"));
    lab
}

/// One whose main PBX is known to be down, and up, by its connection: who left it does not go back to it within
/// a test.
fn lab(domain: &str) -> Lab {
    lab_with(domain, ";transport=tcp\"\ndomain = \"pbx.lab\"\nhealth_check = \"60s\"")
}

/// 1001's phone at the PBX that stands by, 1002's at the main one: 1001 was moved when the main one was down.
fn one_phone_each(lab: &mut Lab) -> [RawPhone; 2] {
    let one = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.pbx.crash();
    lab.portcullis.wait_event("pbx_down", |event| text(event, "text").contains("main"));
    lab.standby().wait_contacts("1001", 1, SOON);
    lab.pbx.start_again(None);
    lab.portcullis.wait_event("pbx_up", |event| {
        text(event, "text").contains("main") && lab.portcullis.events("pbx_up").len() > 2
    });
    let mut two = lab.tls_phone(2, &lab.pki.device(DEVICE_1002));
    assert_eq!(two.register("1002", DOMAIN).status(), 200);
    lab.pbx.wait_contacts("1002", 1, SOON);
    [one, two]
}

/// A desk phone that is registered at the PBX that stands by.
fn desk_at_standby(lab: &mut Lab) -> RawPhone {
    let mut desk = RawPhone::udp(lab.addresses.inside_phone(), lab.standby().address());
    register_at_pbx(&mut desk, "2001", None);
    desk
}

#[test]
fn the_phones_of_a_pbx_that_is_down_move_to_the_one_that_stands_by() {
    let mut lab = lab(DOMAIN);
    let [mut one, _two] = one_phone_each(&mut lab);
    let rows = lab.portcullis.wait_rows(&["registrations"], 2);
    let at = |extension| {
        let row = rows.iter().find(|row| text(row, "extension") == extension).expect("it is registered");
        text(row, "pbx")
    };
    assert_eq!((at("1001"), at("1002")), ("standby", "main"));
    let mut desk = desk_at_standby(&mut lab);
    let outside = RtpEnd::open(lab.addresses.phone(1), None);
    let inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    let mut call = call_desk(&mut one, &mut desk, [&outside, &inside]);
    hang_up(&mut one, &mut call.caller, &mut desk);
    let mut call = call_phone(&mut desk, &mut one, [&inside, &outside]);
    hang_up(&mut one, &mut call.callee, &mut desk);
    wait_idle(&lab);
}

#[test]
fn what_befalls_one_leaves_the_other_untouched() {
    let mut lab = lab(OTHER);
    let mut phone = lab.registered_phone(1);
    let before = lab.pbx.wait_contacts("1001", 1, SOON);
    let mut desk = lab.desk_phone("2001");
    let mut outside = RtpEnd::open(lab.addresses.phone(1), None);
    let mut inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    let Established { mut caller, arrived, answered, .. } =
        call_desk(&mut phone, &mut desk, [&outside, &inside]);
    talk((&mut outside, &answered, 440), (&mut inside, &arrived, 880));
    let mark = lab.pbx.mark();
    lab.standby().crash();
    lab.portcullis.wait_event("pbx_down", |event| text(event, "text").contains("standby"));
    lab.standby().start_again(None);
    lab.portcullis.wait_event("pbx_up", |_| {
        let up = lab.portcullis.events("pbx_up");
        up.iter().filter(|event| text(event, "text").contains("standby")).count() == 2
    });
    let changes = |message: &RawMessage| !message.values("Contact").is_empty();
    let registers = lab.pbx.requests_after(mark, "REGISTER");
    assert!(!registers.iter().any(changes), "{registers:#?}");
    assert_eq!(lab.pbx.contacts("1001"), before);
    assert_eq!(lab.standby().contacts("1001").len(), 0);
    for end in [&outside, &inside] {
        end.forget();
    }
    outside.wait_heard(880, 5, SOON);
    inside.wait_heard(440, 5, SOON);
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);
}

#[test]
fn neither_pbx_nor_the_outside_learns_of_the_other() {
    let mut lab = lab(OTHER);
    let [mut one, mut two] = one_phone_each(&mut lab);
    let addresses = [lab.pbx.address().ip(), lab.standby().address().ip()].map(|ip| ip.to_string());
    for (phone, extension, device) in [(&mut one, "1001", 1), (&mut two, "1002", 2)] {
        let mut desk = if extension == "1001" { desk_at_standby(&mut lab) } else { lab.desk_phone("2001") };
        let outside = RtpEnd::open(lab.addresses.phone(device), None);
        let inside = RtpEnd::open(lab.addresses.inside_phone(), None);
        let draft = invite(phone, extension, "2001", &outside);
        let mut call = connect(phone, &draft, (&mut desk, "2001"), &inside);
        for address in &addresses {
            assert!(!call.answered.0.contains(address.as_str()), "{:?}", call.answered);
        }
        hang_up(phone, &mut call.caller, &mut desk);
    }
    wait_idle(&lab);
    // Of what we sent: the desk phones of this test say what they like.
    let (main, standby) = (lab.pbx.received_after(0), lab.standby().received_after(0));
    let own = lab.addresses.inside().to_string();
    for (messages, words) in
        [(main, [OTHER, &addresses[1], "standby"]), (standby, ["@pbx.lab", &addresses[0], "main"])]
    {
        let sent: Vec<_> = messages.into_iter().filter(|it| it.value("Via").contains(&own)).collect();
        assert!(sent.iter().any(|it| it.method() == "INVITE"), "{sent:#?}");
        let told: Vec<_> = sent.iter().filter(|it| words.iter().any(|word| it.0.contains(word))).collect();
        assert!(told.is_empty(), "{words:?}: {told:#?}");
    }
}

#[test]
fn a_pbx_does_not_call_the_phones_of_another_domain() {
    let mut lab = lab(OTHER);
    let [mut one, mut two] = one_phone_each(&mut lab);
    let of_one = lab.standby().wait_contacts("1001", 1, SOON).remove(0);
    let of_two = lab.pbx.wait_contacts("1002", 1, SOON).remove(0);
    let face = SocketAddr::new(lab.addresses.inside(), 5060);
    let calls = [
        (lab.addresses.pbx(), &of_one, "1001", &mut one),
        (lab.addresses.standby(), &of_two, "1002", &mut two),
    ];
    for (from, contact, extension, phone) in calls {
        let mut pbx = RawPhone::tcp(from, face).expect("the inside takes TCP");
        let to = format!("sip:{extension}@{DOMAIN}");
        let mut draft = Draft::request("INVITE", contact, "sip:2001@pbx.lab", &to);
        draft.set("Contact", &format!("<{}>", pbx.contact("2001"))).sdp(&audio_sdp(&from.to_string(), 4_000));
        assert_eq!(pbx.invite(&draft).status(), 404, "{extension}");
        let message = Draft::request("MESSAGE", contact, "sip:2001@pbx.lab", &to);
        assert_eq!(pbx.ask(&message).status(), 404, "{extension}");
        never_within("a call begins", Duration::from_millis(300), || {
            !lab.portcullis.rows(&["calls"]).is_empty()
        });
        // What the phone gets next is the answer to its own request: nothing came before it.
        assert_eq!(phone.register(extension, DOMAIN).status(), 200);
    }
}

#[test]
fn whichever_pbx_comes_back_first_takes_the_phones() {
    let mut lab = lab(DOMAIN);
    let mut phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.standby().crash();
    lab.portcullis.wait_event("pbx_down", |event| text(event, "text").contains("standby"));
    lab.pbx.crash();
    lab.portcullis.wait_event("pbx_down", |event| text(event, "text").contains("main"));
    assert_eq!(phone.register("1001", DOMAIN).status(), 200, "a refresh is ours to answer");
    lab.standby().start_again(None);
    lab.standby().wait_contacts("1001", 1, SOON);
}

#[test]
fn phones_go_back_to_the_main_pbx_when_it_has_come_back() {
    let mut lab = lab_with(DOMAIN, ";transport=udp\"\ndomain = \"pbx.lab\"\nhealth_check = \"1s\"");
    let mut phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.pbx.crash();
    let contacts = lab.standby().wait_contacts("1001", 1, SOON);
    lab.pbx.start_again(None);
    assert_eq!(lab.pbx.wait_contacts("1001", 1, SOON), contacts);
    lab.portcullis.wait_event("reregistered", |event| text(event, "text").contains("main"));
    let rows = lab.portcullis.wait_rows(&["registrations"], 1);
    assert_eq!(text(&rows[0], "pbx"), "main");
    let mut desk = lab.desk_phone("2001");
    let outside = RtpEnd::open(lab.addresses.phone(1), None);
    let inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    let mut call = call_phone(&mut desk, &mut phone, [&inside, &outside]);
    hang_up(&mut phone, &mut call.callee, &mut desk);
    wait_idle(&lab);
}
