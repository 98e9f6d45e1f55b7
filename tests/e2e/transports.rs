//! Every way outside with every way inside: TLS, TCP and UDP to the phones, UDP and TCP to the PBX (issue item 4).

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_tests::deadline::{never_within, wait_until};
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{Lab, Variation, register_at_pbx};
use portcullis_tests::raw_message::{Draft, RawMessage, audio_sdp};
use portcullis_tests::raw_phone::RawPhone;
use portcullis_tests::rtp::RtpEnd;

use crate::support::{
    Established, SOON, accept, call_desk, call_phone, challenged_invite, connect, hang_up, invite,
    register_by_digest, talk, wait_idle,
};

/// The PBX is reached over TCP.
const BY_TCP: (&str, &str) = (";transport=udp", ";transport=tcp");

/// One more softphone without a certificate.
const ANOTHER: &str = "\n[[extension]]\nname = \"1004\"\nauthentication = \"digest\"\n";

fn lab_by_tcp() -> Lab {
    Lab::with(&Variation { replace: &[BY_TCP], ..Variation::default() })
}

/// The requests of ours that the PBX received after a mark came over this transport, and there were some.
#[track_caller]
fn assert_came_by(lab: &Lab, mark: usize, transport: &str) {
    let inside = lab.addresses.inside().to_string();
    let requests = lab.pbx.received_after(mark).into_iter().filter(|it| !it.method().is_empty());
    let vias: Vec<_> = requests.map(|it| it.value("Via")).filter(|via| via.contains(&inside)).collect();
    let way = format!("SIP/2.0/{transport} ");
    assert!(!vias.is_empty() && vias.iter().all(|via| via.starts_with(&way)), "{transport}: {vias:#?}");
}

/// One call each way between a phone and a desk phone within the company.
#[track_caller]
fn call_each_way(lab: &Lab, phone: &mut RawPhone, extension: &str, desk: &mut RawPhone) {
    let (outside, inside) = (RtpEnd::open(phone.local().ip(), None), RtpEnd::open(desk.local().ip(), None));
    let draft = match extension {
        "1001" => invite(phone, extension, "2001", &outside),
        _ => challenged_invite(phone, extension, "2001", &outside),
    };
    let mut call = connect(phone, &draft, (desk, "2001"), &inside);
    hang_up(desk, &mut call.callee, phone);
    let draft = challenged_invite(desk, "2001", extension, &inside);
    let mut call = connect(desk, &draft, (phone, extension), &outside);
    hang_up(phone, &mut call.callee, desk);
    wait_idle(lab);
}

#[test]
fn every_way_outside_calls_by_every_way_inside() {
    for (inside, replace) in [("UDP", &[][..]), ("TCP", &[BY_TCP][..])] {
        let lab = Lab::with(&Variation { replace, add: ANOTHER, ..Variation::default() });
        let [tcp, udp] = [2, 3].map(|number| lab.addresses.phone(number));
        let mut phones = [
            (lab.registered_phone(1), "1001"),
            (RawPhone::tcp(tcp, lab.plain()).expect("TCP is open"), "1003"),
            (RawPhone::udp(udp, lab.plain()), "1004"),
        ];
        for (phone, extension) in phones.iter_mut().skip(1) {
            register_by_digest(&lab, phone, extension);
        }
        let mut desk = lab.desk_phone("2001");
        for (phone, extension) in &mut phones {
            let mark = lab.pbx.mark();
            call_each_way(&lab, phone, extension, &mut desk);
            assert_came_by(&lab, mark, inside);
        }
    }
}

#[test]
fn over_tcp_phones_call_and_are_called_and_heard() {
    let lab = lab_by_tcp();
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let contact = lab.pbx.wait_contacts("1001", 1, SOON).remove(0);
    assert!(contact.to_ascii_lowercase().ends_with(";transport=tcp"), "{contact}");
    let hidden = [lab.addresses.inside(), lab.addresses.pbx(), lab.addresses.inside_phone()];
    for inward in [false, true] {
        let mut outside = RtpEnd::open(lab.addresses.phone(1), None);
        let mut inside = RtpEnd::open(lab.addresses.inside_phone(), None);
        let shown = if inward {
            let Established { arrived, answered, mut callee, .. } =
                call_phone(&mut desk, &mut phone, [&inside, &outside]);
            talk((&mut inside, &answered, 880), (&mut outside, &arrived, 440));
            hang_up(&mut phone, &mut callee, &mut desk);
            arrived
        } else {
            let Established { arrived, answered, mut caller, .. } =
                call_desk(&mut phone, &mut desk, [&outside, &inside]);
            talk((&mut outside, &answered, 440), (&mut inside, &arrived, 880));
            hang_up(&mut phone, &mut caller, &mut desk);
            answered
        };
        for address in hidden {
            assert!(!shown.0.contains(&address.to_string()), "{address} is shown outside: {shown:?}");
        }
        wait_idle(&lab);
    }
    assert_came_by(&lab, 0, "TCP");
    let outside = [lab.addresses.outside(), lab.addresses.phone(1)].map(|address| address.to_string());
    for message in lab.pbx.received_after(0) {
        assert!(!outside.iter().any(|it| message.0.contains(it)), "the outside is shown inside: {message:?}");
    }
}

#[test]
fn over_tcp_refreshes_stay_outside_and_the_contact_stays_the_same() {
    let lab = lab_by_tcp();
    let mut phone = lab.registered_phone(1);
    let before = lab.pbx.wait_contacts("1001", 1, SOON);
    let contacts = |message: &RawMessage| !message.values("Contact").is_empty();
    // what it has done it says a little later
    wait_until("the PBX says that it was asked twice, the second time with credentials", SOON, || {
        let asked = lab.pbx.requests_after(0, "REGISTER");
        (asked.iter().filter(|asked| contacts(asked)).count() >= 2).then_some(())
    });
    let mark = lab.pbx.mark();
    for _ in 0..3 {
        assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    }
    assert!(!lab.pbx.requests_after(mark, "REGISTER").iter().any(contacts), "queries alone reach the PBX");
    let contact = phone.contact("1001");
    assert_eq!(lab.pbx.contacts("1001"), before);
    assert_eq!(phone.ask(&Draft::register("1001", DOMAIN, &contact, 0)).status(), 200);
    lab.pbx.wait_contacts("1001", 0, SOON);
}

#[test]
fn a_pbx_over_tcp_that_restarts_gets_its_registrations_again_and_calls_go_on() {
    let mut lab = lab_by_tcp();
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    lab.pbx.wait_contacts("1001", 1, SOON);
    let (outside, inside) =
        (RtpEnd::open(lab.addresses.phone(1), None), RtpEnd::open(lab.addresses.inside_phone(), None));
    let Established { mut caller, .. } = call_desk(&mut phone, &mut desk, [&outside, &inside]);
    lab.pbx.start_again(None);
    lab.pbx.wait_contacts("1001", 1, SOON);
    // The call began over a connection that is gone.
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(&lab);
    register_at_pbx(&mut desk, "2001", None);
    call_each_way(&lab, &mut phone, "1001", &mut desk);
}

#[test]
fn a_pbx_over_tcp_that_is_away_is_down_and_up_again() {
    let mut lab = lab_by_tcp();
    let mut phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.pbx.crash();
    lab.portcullis.wait_event("pbx_down", |_| true);
    let audio = RtpEnd::open(lab.addresses.phone(1), None);
    let draft = invite(&phone, "1001", "2001", &audio);
    assert_eq!(phone.invite(&draft).status(), 503);
    assert_eq!(phone.register("1001", DOMAIN).status(), 200, "a refresh is ours to answer");
    lab.pbx.start_again(None);
    lab.portcullis.wait_event("pbx_up", |_| true);
    lab.pbx.wait_contacts("1001", 1, SOON);
    let mut desk = lab.desk_phone("2001");
    call_each_way(&lab, &mut phone, "1001", &mut desk);
}

#[test]
fn a_pbx_may_call_over_a_connection_that_it_opens_itself() {
    let lab = lab_by_tcp();
    let mut phone = lab.registered_phone(1);
    let contact = lab.pbx.wait_contacts("1001", 1, SOON).remove(0);
    let face = SocketAddr::new(lab.addresses.inside(), 5060);
    let mut pbx = RawPhone::tcp(lab.addresses.pbx(), face).expect("the inside takes TCP");
    let mut inside = RtpEnd::open(lab.addresses.pbx(), None);
    let mut outside = RtpEnd::open(lab.addresses.phone(1), None);
    let sdp = audio_sdp(&inside.local.ip().to_string(), inside.local.port());
    let mut draft = Draft::request("INVITE", &contact, "sip:2001@pbx.lab", "sip:1001@pbx.lab");
    draft.set("Contact", &format!("<{}>", pbx.contact("2001"))).sdp(&sdp);
    let Established { arrived, answered, mut callee, mut caller } =
        connect(&mut pbx, &draft, (&mut phone, "1001"), &outside);
    talk((&mut inside, &answered, 880), (&mut outside, &arrived, 440));
    // Within the dialog both ways, over that connection.
    let mut again = caller.request("INVITE");
    again.set("Contact", &format!("<{}>", pbx.contact("2001"))).sdp(&sdp);
    pbx.send(&again);
    let arrived = phone.receive_request("INVITE");
    accept(&mut phone, &arrived, "1001", &outside);
    pbx.receive_status(200);
    pbx.send(&caller.ack());
    phone.receive_request("ACK");
    hang_up(&mut phone, &mut callee, &mut pbx);
    wait_idle(&lab);
}

#[test]
fn a_connection_from_the_pbx_that_breaks_off_does_not_end_its_call() {
    let lab = lab_by_tcp();
    let mut phone = lab.registered_phone(1);
    let contact = lab.pbx.wait_contacts("1001", 1, SOON).remove(0);
    let face = SocketAddr::new(lab.addresses.inside(), 5060);
    let open = || RawPhone::tcp(lab.addresses.pbx(), face).expect("the inside takes TCP");
    let (mut first, mut second) = (open(), open());
    let mut inside = RtpEnd::open(lab.addresses.pbx(), None);
    let mut outside = RtpEnd::open(lab.addresses.phone(1), None);
    let sdp = audio_sdp(&inside.local.ip().to_string(), inside.local.port());
    let mut draft = Draft::request("INVITE", &contact, "sip:2001@pbx.lab", "sip:1001@pbx.lab");
    draft.set("Contact", &format!("<{}>", second.contact("2001"))).sdp(&sdp);
    let Established { arrived, answered, mut caller, .. } =
        connect(&mut first, &draft, (&mut phone, "1001"), &outside);
    talk((&mut inside, &answered, 880), (&mut outside, &arrived, 440));
    drop(first);
    never_within("the call ends", Duration::from_secs(1), || lab.portcullis.rows(&["calls"]).is_empty());
    inside.forget();
    inside.wait_heard(440, 5, SOON);
    // What comes next comes over another connection.
    hang_up(&mut second, &mut caller, &mut phone);
    wait_idle(&lab);
}

/// A description of 40 kB: lines that every endpoint passes over, and one at the end to know it by.
fn large_sdp(audio: &RtpEnd) -> String {
    let lines = (0..1_000).map(|number| format!("a=x-padding:{number:04} {:->20}\r\n", ""));
    let sdp = audio_sdp(&audio.local.ip().to_string(), audio.local.port());
    sdp + &lines.collect::<String>() + "a=x-last:1\r\n"
}

#[test]
fn over_tcp_an_invite_of_40_kb_arrives_whole() {
    let lab = lab_by_tcp();
    let mut phone = lab.registered_phone(1);
    let contact = lab.pbx.wait_contacts("1001", 1, SOON).remove(0);
    let mut desk = RawPhone::tcp(lab.addresses.inside_phone(), lab.pbx.address()).expect("the PBX takes TCP");
    register_at_pbx(&mut desk, "2001", None);
    let face = SocketAddr::new(lab.addresses.inside(), 5060);
    let mut pbx = RawPhone::tcp(lab.addresses.pbx(), face).expect("the inside takes TCP");
    let [outside, inside] =
        [lab.addresses.phone(1), lab.addresses.pbx()].map(|address| RtpEnd::open(address, None));

    let mut out = invite(&phone, "1001", "2001", &outside);
    let mut call = connect(&mut phone, out.sdp(&large_sdp(&outside)), (&mut desk, "2001"), &inside);
    assert!(call.arrived.body().ends_with("a=x-last:1\r\n"), "{:?}", call.arrived);
    hang_up(&mut phone, &mut call.caller, &mut desk);

    let mut inward = Draft::request("INVITE", &contact, "sip:2001@pbx.lab", "sip:1001@pbx.lab");
    inward.set("Contact", &format!("<{}>", pbx.contact("2001"))).sdp(&large_sdp(&inside));
    let mut call = connect(&mut pbx, &inward, (&mut phone, "1001"), &outside);
    assert!(call.arrived.body().ends_with("a=x-last:1\r\n"), "{:?}", call.arrived);
    hang_up(&mut phone, &mut call.callee, &mut pbx);
    wait_idle(&lab);
}
