//! No file descriptors left: strangers hold them all.

use std::net::TcpStream;
use std::time::Duration;

use portcullis_tests::deadline::{never_within, wait_until};
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1002, Lab};
use portcullis_tests::raw_message::Draft;
use portcullis_tests::raw_phone::{RawPhone, connect};
use portcullis_tests::rtp::RtpEnd;

use crate::support::{call_desk, hang_up, invite, registered_by_digest, talk, text, wait_idle};

/// Descriptors that are left for the strangers.
const LEFT: usize = 10;
/// Sockets of a call.
const PORTS: usize = 4;
/// Strangers; none of them has as many connections as one source may have.
const STRANGERS: u8 = 10;
const CONNECTIONS_EACH: u8 = 3;

#[test]
fn connected_phones_go_on_without_descriptors_and_the_others_come_in_later() {
    let lab = Lab::start();
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let by_password = RawPhone::udp(lab.addresses.phone(3), lab.plain());
    let mut by_password = registered_by_digest(&lab, by_password);
    let mut outside = RtpEnd::open(lab.addresses.phone(1), None);
    let mut inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    let mut up = call_desk(&mut phone, &mut desk, [&outside, &inside]);

    let open = lab.portcullis.open_files().len();
    lab.portcullis.leave_open_files(LEFT);
    let strangers: Vec<TcpStream> = (0..STRANGERS * CONNECTIONS_EACH)
        .map(|number| {
            connect(lab.addresses.phone(100 + number % STRANGERS), lab.plain()).expect("the kernel")
        })
        .collect();
    let event = lab.portcullis.wait_event("files_exhausted", |_| true);
    assert!(text(&event, "next_step").contains("LimitNOFILE"), "{event}");

    // Who is in goes on.
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    let contact = by_password.contact("1003");
    assert_eq!(by_password.ask(&Draft::register("1003", DOMAIN, &contact, 60)).status(), 401, "to the PBX");
    talk((&mut outside, &up.answered, 440), (&mut inside, &up.arrived, 880));
    let refused = phone.invite(&invite(&phone, "1001", "2001", &outside));
    assert_eq!(refused.status(), 503, "a call needs ports: {refused:?}");
    lab.portcullis.wait_event("call_failed", |event| text(event, "extension") == "1001");

    // So does the operator, as often as he asks; and he is told once.
    lab.portcullis.ask(&["block", "add", "203.0.113.7"]);
    never_within("the event comes again", Duration::from_secs(2), || {
        lab.portcullis.events("files_exhausted").len() != 1
    });

    // Somebody waits at the door, and is let in when the strangers are gone.
    let (address, tls, identity) = (lab.addresses.phone(2), lab.tls(), lab.pki.device(DEVICE_1002));
    let config = RawPhone::tls_config(&lab.pki, Some(&identity));
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(move || RawPhone::tls_with(address, tls, &config).expect("a TLS connection"));
        never_within("it is let in", Duration::from_millis(500), || waiting.is_finished());
        drop(strangers);
        let mut waited = waiting.join().expect("a phone");
        assert_eq!(waited.register("1002", DOMAIN).status(), 200);
    });
    hang_up(&mut phone, &mut up.caller, &mut desk);
    wait_idle(&lab);
    // the last of them may still be at the door
    wait_until("there is room for the ports of a call", Duration::from_secs(10), || {
        (lab.portcullis.open_files().len() <= open + LEFT - PORTS).then_some(())
    });
    let mut again = call_desk(&mut phone, &mut desk, [&outside, &inside]);
    hang_up(&mut phone, &mut again.caller, &mut desk);
    wait_idle(&lab);
}
