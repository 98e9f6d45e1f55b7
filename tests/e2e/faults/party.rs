//! A party that knows whom it speaks with: what belongs to earlier calls, cut off by a fault, it turns away.

use std::time::Duration;

use portcullis_tests::deadline::Deadline;
use portcullis_tests::raw_message::{Draft, RawMessage};
use portcullis_tests::raw_phone::RawPhone;

use crate::support::SOON;

/// Waits for a message that fits; is busy for every other call meanwhile.
#[track_caller]
pub(super) fn receive(phone: &mut RawPhone, what: &str, fits: impl Fn(&RawMessage) -> bool) -> RawMessage {
    let deadline = Deadline::after(SOON);
    loop {
        match phone.receive(deadline.left().unwrap_or_default()) {
            Ok(message) if fits(&message) => return message,
            Ok(message) => turn_away(phone, &message),
            Err(silence) => panic!("no {what} but {silence:?}"),
        }
    }
}

/// Sends a request and waits for its final answer.
#[track_caller]
pub(super) fn ask(phone: &mut RawPhone, draft: &Draft) -> RawMessage {
    phone.send(draft);
    let (call_id, cseq) = (draft.get("Call-ID"), draft.get("CSeq"));
    let ours = |message: &RawMessage| message.value("Call-ID") == call_id && message.value("CSeq") == cseq;
    receive(phone, "final answer", |message| message.status() >= 200 && ours(message))
}

/// Turns away what has come and nobody waits for.
pub(super) fn attend(phone: &mut RawPhone) {
    while let Ok(message) = phone.receive(Duration::from_millis(1)) {
        turn_away(phone, &message);
    }
}

fn turn_away(phone: &mut RawPhone, message: &RawMessage) {
    if message.method() == "INVITE" {
        phone.reply(&Draft::answer(message, 486, "Busy Here", "busy"));
    }
}
