//! Messages that one reader takes for this and the next for that, and addresses hidden in bodies (RFC 4475
//! speaks of such messages; contract section 3 of what is hidden).

use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{Lab, Variation};
use portcullis_tests::raw_message::{Draft, audio_sdp};
use portcullis_tests::raw_phone::RawPhone;

use crate::support::media_address;

/// Calls are not limited, for tests that make many.
const TALKATIVE: (&str, &str) = (r#"rules = ["5/1s", "60/1h"]"#, r#"rules = ["100/1s"]"#);

/// No automatic blocks, for tests that offend on purpose.
const PATIENT: (&str, &str) = ("[block]\n", "[block]\nafter = 1000\n");

/// The phone's address in its own network, which nobody inside may learn.
const PRIVATE: &str = "192.168.77.7";

fn lab() -> Lab {
    Lab::with(&Variation { replace: &[TALKATIVE, PATIENT], ..Variation::default() })
}

/// An INVITE of 1001 for 2001 whose description names the phone's private address.
fn telling_invite(phone: &RawPhone) -> Draft {
    Draft::invite("1001", "2001", DOMAIN, &phone.contact("1001"), &audio_sdp(PRIVATE, 4_000))
}

#[track_caller]
fn assert_private_stays_outside(lab: &Lab, mark: usize) {
    let told: Vec<_> =
        lab.pbx.received_after(mark).into_iter().filter(|message| message.0.contains(PRIVATE)).collect();
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn a_description_is_rewritten_however_its_type_is_spelled() {
    let lab = lab();
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let mark = lab.pbx.mark();
    for spelling in ["application / sdp", "APPLICATION/SDP", "application/sdp ;a=b", "application\t/\r\n sdp"]
    {
        let mut draft = telling_invite(&phone);
        draft.set("Content-Type", spelling);
        let via = phone.send(&draft);
        let arrived = desk.receive_request("INVITE");
        assert_eq!(media_address(&arrived).ip(), lab.addresses.inside(), "{spelling}: {arrived:?}");
        desk.reply(&Draft::answer(&arrived, 486, "Busy Here", "desk"));
        desk.receive_request("ACK");
        let busy = phone.receive_status(486);
        phone.acknowledge(&draft, &via, &busy);
    }
    assert_private_stays_outside(&lab, mark);
}

#[test]
fn a_body_that_could_be_read_as_a_description_by_others_is_refused() {
    let lab = lab();
    let mut phone = lab.registered_phone(1);
    let mark = lab.pbx.mark();
    let cases: [(&str, &str, &str, u16); 8] = [
        ("text/plain", "Content-Type", "application/sdp", 400),
        ("application/sdp", "Content-Type", "text/plain", 400),
        ("text/plain", "c", "application/sdp", 400),
        ("application/sdp", "Content-Encoding", "gzip", 415),
        ("application/sdp", "e", "gzip", 415),
        ("multipart /mixed;boundary=b", "MIME-Version", "1.0", 415),
        ("multipart/mixed;boundary=b", "MIME-Version", "1.0", 415),
        ("text/plain", "MIME-Version", "1.0", 415),
    ];
    for (content_type, name, value, status) in cases {
        let mut draft = telling_invite(&phone);
        draft.set("Content-Type", content_type).push(name, value);
        let answer = phone.invite(&draft);
        assert_eq!(answer.status(), status, "{content_type} {name} {value}: {answer:?}");
    }
    assert_eq!(lab.pbx.requests_after(mark, "INVITE").len(), 0);
    assert_private_stays_outside(&lab, mark);
    let free = Draft::invite("1001", "9999", DOMAIN, &phone.contact("1001"), &audio_sdp(PRIVATE, 4_000));
    assert_eq!(phone.invite(&free).status(), 404, "the phone may still call");
    assert_private_stays_outside(&lab, mark);
}

#[test]
fn a_name_within_a_quoted_tag_never_reaches_the_pbx() {
    let lab = lab();
    let mut phone = lab.registered_phone(1);
    let mark = lab.pbx.mark();
    let two_faced = "<sip:1001@pbx.lab>;tag=\"x, <sip:1002@pbx.lab>;tag=y\"";
    let invite = telling_invite(&phone);
    let message = Draft::request("MESSAGE", "sip:2001@pbx.lab", "sip:1001@pbx.lab", "sip:2001@pbx.lab");
    for mut draft in [invite, message] {
        let via = phone.send(draft.set("From", two_faced));
        let answer = phone.receive_final(crate::support::SOON);
        assert!((400..500).contains(&answer.status()), "{answer:?}");
        if draft.get("CSeq").ends_with("INVITE") {
            phone.acknowledge(&draft, &via, &answer);
        }
    }
    // What comes after it on the same connection arrives: so it would have arrived itself.
    let free = Draft::invite("1001", "9999", DOMAIN, &phone.contact("1001"), &audio_sdp(PRIVATE, 4_000));
    assert_eq!(phone.invite(&free).status(), 404);
    let arrived = lab.pbx.received_after(mark);
    assert!(arrived.iter().all(|message| !message.0.contains("1002")), "{arrived:#?}");
    assert_eq!(lab.pbx.requests_after(mark, "MESSAGE").len(), 0);
}

#[test]
fn a_body_of_the_pbx_does_not_name_it_outside() {
    let lab = lab();
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let pbx = lab.addresses.pbx().to_string();
    let mut notify = Draft::request("NOTIFY", "sip:1001@pbx.lab", "sip:2001@pbx.lab", "sip:1001@pbx.lab");
    notify.set("Event", "message-summary").set("Subscription-State", "active");
    let account = format!("Message-Account: sip:asterisk@{pbx}\r\n");
    let body = format!("Messages-Waiting: yes\r\n{account}Voice-Message: 2/8 (0/2)\r\n");
    desk.send(notify.body("application/simple-message-summary", &body));
    let arrived = phone.receive_request("NOTIFY");
    for hidden in [&pbx, &lab.addresses.inside().to_string(), &lab.addresses.inside_phone().to_string()] {
        assert!(!arrived.0.contains(hidden.as_str()), "{hidden} is shown outside: {arrived:?}");
    }
    assert_eq!(arrived.value("Content-Type"), "application/simple-message-summary");
    assert!(arrived.body().starts_with("Messages-Waiting: yes\r\n"), "{arrived:?}");
    assert!(arrived.body().ends_with("Voice-Message: 2/8 (0/2)\r\n"), "the body is whole: {arrived:?}");
    phone.reply(&Draft::answer(&arrived, 200, "OK", "phone"));
    desk.receive_status(200);
}
