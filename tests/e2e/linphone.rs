//! A second softphone with a device certificate: linphone, whose SIP and TLS share nothing with baresip's
//! (issue items 2 and 4).

use portcullis_tests::baresip::Plan;
use portcullis_tests::dialog::Dialog;
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, Lab};
use portcullis_tests::linphone::Linphone;
use portcullis_tests::raw_message::Draft;
use portcullis_tests::rtp::RtpEnd;

use crate::support::{SOON, accept, challenged_invite, media_address, text, wait_idle};

#[test]
fn linphone_registers_with_its_certificate_calls_and_is_called() {
    let lab = Lab::start();
    let mut desk = lab.desk_phone("2001");
    let identity = lab.pki.device(DEVICE_1001);
    let plan = Plan {
        extension: "1001",
        domain: DOMAIN,
        password: "",
        address: lab.addresses.phone(1),
        server: lab.tls(),
        transport: "tls",
        identity: Some(&identity),
        ca_file: Some(&lab.pki.ca_file()),
        hertz: 440,
        namespace: None,
    };
    let mut phone = Linphone::start(&plan, lab.directory());
    let rows = lab.portcullis.wait_rows(&["registrations"], 1);
    assert_eq!((text(&rows[0], "hardware_id"), text(&rows[0], "transport")), (DEVICE_1001, "tls"));
    lab.pbx.wait_contacts("1001", 1, SOON);

    let mut ear = RtpEnd::open(lab.addresses.inside_phone(), None);
    phone.dial("sip:2001@pbx.lab");
    let arrived = desk.receive_request("INVITE");
    desk.reply(&Draft::answer(&arrived, 180, "Ringing", "accepted"));
    accept(&mut desk, &arrived, "2001", &ear);
    desk.receive_request("ACK");
    ear.send_tone(media_address(&arrived), 880);
    ear.wait_heard(440, 10, SOON);
    phone.wait_heard(880, 10);
    phone.hang_up();
    let bye = desk.receive_request("BYE");
    desk.reply(&Draft::answer(&bye, 200, "OK", "bye"));
    wait_idle(&lab);

    let mut ear = RtpEnd::open(lab.addresses.inside_phone(), None);
    let draft = challenged_invite(&mut desk, "2001", "1001", &ear);
    desk.send(&draft);
    let answered = desk.receive_status(200);
    let mut caller = Dialog::of_caller(&draft, &answered);
    desk.send(&caller.ack());
    ear.send_tone(media_address(&answered), 660);
    phone.wait_heard(660, 10);
    ear.wait_heard(440, 10, SOON);
    desk.send(&caller.request("BYE"));
    desk.receive_status(200);
    wait_idle(&lab);
}
