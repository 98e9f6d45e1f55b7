//! What several tests do alike.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_tests::dialog::Dialog;
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::Lab;
use portcullis_tests::raw_message::{Draft, RawMessage, audio_sdp};
use portcullis_tests::raw_phone::RawPhone;
use portcullis_tests::rtp::RtpEnd;
use serde_json::Value;

/// Long enough for everything that does not wait by design.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// A field of a row, as text.
#[track_caller]
pub(crate) fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {field} in {row}"))
}

/// A field of a row, as a number.
#[track_caller]
pub(crate) fn number(row: &Value, field: &str) -> f64 {
    row.get(field).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number {field} in {row}"))
}

/// Where a session description wants audio to go.
#[track_caller]
pub(crate) fn media_address(message: &RawMessage) -> SocketAddr {
    let body = message.body();
    let line = |prefix: &str| body.lines().find_map(|line| line.strip_prefix(prefix));
    let address = line("c=IN IP4 ").or_else(|| line("c=IN IP6 "));
    let address = address.unwrap_or_else(|| panic!("no c= in {message:?}"));
    let port = line("m=audio ")
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or_else(|| panic!("no m= in {message:?}"));
    SocketAddr::new(address.trim().parse().expect("an address"), port.parse().expect("a port"))
}

/// An INVITE of an extension at this phone with this end of audio.
pub(crate) fn invite(phone: &RawPhone, extension: &str, callee: &str, audio: &RtpEnd) -> Draft {
    let sdp = audio_sdp(&audio.local.ip().to_string(), audio.local.port());
    Draft::invite(extension, callee, DOMAIN, &phone.contact(extension), &sdp)
}

/// A call between a phone outside and one within the company, answered.
pub(crate) struct Established {
    /// The caller's view.
    pub(crate) caller: Dialog,
    /// The called end's view.
    pub(crate) callee: Dialog,
    /// The INVITE as it came to the called end.
    pub(crate) arrived: RawMessage,
    /// The 200 as it came to the caller.
    pub(crate) answered: RawMessage,
}

/// Registered 1001 calls 2001, who rings and answers; audio is announced, not sent.
#[track_caller]
pub(crate) fn call_desk(phone: &mut RawPhone, desk: &mut RawPhone, audio: [&RtpEnd; 2]) -> Established {
    let invite = invite(phone, "1001", "2001", audio[0]);
    connect(phone, &invite, (desk, "2001"), audio[1])
}

/// 2001, who must answer the PBX's challenge, calls 1001, who rings and answers.
#[track_caller]
pub(crate) fn call_phone(desk: &mut RawPhone, phone: &mut RawPhone, audio: [&RtpEnd; 2]) -> Established {
    let invite = challenged_invite(desk, "2001", "1001", audio[0]);
    connect(desk, &invite, (phone, "1001"), audio[1])
}

/// Sends this INVITE; the called extension rings and answers.
#[track_caller]
pub(crate) fn connect(
    from: &mut RawPhone,
    invite: &Draft,
    (to, called): (&mut RawPhone, &str),
    audio: &RtpEnd,
) -> Established {
    from.send(invite);
    let arrived = to.receive_request("INVITE");
    to.reply(&Draft::answer(&arrived, 180, "Ringing", "accepted"));
    from.receive_status(180);
    let accepted = accept(to, &arrived, called, audio);
    let answered = from.receive_status(200);
    let caller = Dialog::of_caller(invite, &answered);
    from.send(&caller.ack());
    to.receive_request("ACK");
    let callee = Dialog::of_callee(&arrived, &accepted);
    Established { caller, callee, arrived, answered }
}

/// Lets both ends speak where the descriptions that came to them say, and hears them.
#[track_caller]
pub(crate) fn talk(caller: (&mut RtpEnd, &RawMessage, u32), callee: (&mut RtpEnd, &RawMessage, u32)) {
    caller.0.send_tone(media_address(caller.1), caller.2);
    callee.0.send_tone(media_address(callee.1), callee.2);
    caller.0.wait_heard(callee.2, 8, SOON);
    callee.0.wait_heard(caller.2, 8, SOON);
    assert_eq!(caller.0.tenths_heard(caller.2), 0, "nobody hears himself");
}

/// An INVITE for which the challenge is already answered.
#[track_caller]
pub(crate) fn challenged_invite(
    phone: &mut RawPhone,
    extension: &str,
    callee: &str,
    audio: &RtpEnd,
) -> Draft {
    let mut draft = invite(phone, extension, callee, audio);
    let challenge = phone.invite(&draft);
    assert_eq!(challenge.status(), 407, "{challenge:?}");
    draft.follow_up().authorize(&challenge, extension, &format!("secret{extension}"));
    draft
}

/// Answers an INVITE with 200 and this end of audio.
pub(crate) fn accept(phone: &mut RawPhone, arrived: &RawMessage, extension: &str, audio: &RtpEnd) -> Draft {
    let mut answer = Draft::answer(arrived, 200, "OK", "accepted");
    answer.set("Contact", &format!("<{}>", phone.contact(extension)));
    answer.sdp(&audio_sdp(&audio.local.ip().to_string(), audio.local.port()));
    phone.reply(&answer);
    answer
}

/// Registers 1003 with its password; the phone it did it from.
#[track_caller]
pub(crate) fn registered_by_digest(lab: &Lab, mut phone: RawPhone) -> RawPhone {
    register_by_digest(lab, &mut phone, "1003");
    phone
}

/// Registers an extension with its password.
#[track_caller]
pub(crate) fn register_by_digest(lab: &Lab, phone: &mut RawPhone, extension: &str) {
    let mut register = Draft::register(extension, DOMAIN, &phone.contact(extension), 60);
    let challenge = phone.ask(&register);
    assert_eq!(challenge.status(), 401, "{challenge:?}");
    let secret = format!("secret{extension}");
    let answer = phone.ask(register.follow_up().authorize(&challenge, extension, &secret));
    assert_eq!(answer.status(), 200, "{answer:?}");
    lab.pbx.wait_contacts(extension, 1, SOON);
}

/// One hangs up, the other agrees.
#[track_caller]
pub(crate) fn hang_up(from: &mut RawPhone, dialog: &mut Dialog, other: &mut RawPhone) {
    from.send(&dialog.request("BYE"));
    let bye = other.receive_request("BYE");
    other.reply(&Draft::answer(&bye, 200, "OK", "bye"));
    from.receive_status(200);
}

/// Waits until no call and no relay is left.
#[track_caller]
pub(crate) fn wait_idle(lab: &Lab) {
    portcullis_tests::deadline::wait_until("no call and no relay is left", SOON, || {
        let status = lab.portcullis.ask(&["status"]);
        (number(&status, "calls") == 0.0 && number(&status, "relays") == 0.0).then_some(())
    });
}
