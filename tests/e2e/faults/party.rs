//! Parties for times of faults: one that knows whom it speaks with, and turns away what belongs to earlier calls; and
//! one that answers every call, and says so until it is heard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use portcullis_tests::deadline::Deadline;
use portcullis_tests::raw_message::{Draft, RawMessage, audio_sdp};
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
    receive(phone, "final answer", |message| message.status() >= 200 && is_answer(message, draft))
}

/// Whether a message answers this request.
pub(super) fn is_answer(message: &RawMessage, draft: &Draft) -> bool {
    let same = |name: &str| message.value(name) == draft.get(name);
    message.status() != 0 && same("Call-ID") && same("CSeq")
}

/// Turns away what has come and nobody waits for.
pub(super) fn attend(phone: &mut RawPhone) {
    while let Ok(message) = phone.receive(Duration::from_millis(1)) {
        turn_away(phone, &message);
    }
}

/// Is busy, where it is a call.
pub(super) fn turn_away(phone: &mut RawPhone, message: &RawMessage) {
    if message.method() == "INVITE" {
        phone.reply(&Draft::answer(message, 486, "Busy Here", "busy"));
    }
}

/// A party that answers every call, until it is dropped.
pub(super) struct Answering {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// This phone, as an extension, with its audio at an address.
    pub(super) fn start(mut phone: RawPhone, extension: &'static str, audio: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut unheard = Vec::new();
            while !told.load(Ordering::Relaxed) {
                answer_one(&mut phone, (extension, audio), &mut unheard);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking(), "the answering party broke");
    }
}

/// A 200 that was not acknowledged, when it is said again, and how long after that.
type Unheard = (Draft, Deadline, Duration);

/// Answers what comes within a moment, and says again what nobody acknowledged (RFC 3261 §13.3.1.4).
fn answer_one(phone: &mut RawPhone, (extension, audio): (&str, SocketAddr), unheard: &mut Vec<Unheard>) {
    if let Ok(message) = phone.receive(Duration::from_millis(50)) {
        let call_id = message.value("Call-ID");
        let known = unheard.iter().any(|(answer, ..)| answer.get("Call-ID") == call_id);
        match message.method() {
            "INVITE" if !known => {
                let mut answer = Draft::answer(&message, 200, "OK", "answering");
                answer.set("Contact", &format!("<{}>", phone.contact(extension)));
                answer.sdp(&audio_sdp(&audio.ip().to_string(), audio.port()));
                phone.reply(&Draft::answer(&message, 180, "Ringing", "answering"));
                phone.reply(&answer);
                let first = Duration::from_millis(500);
                unheard.push((answer, Deadline::after(first), first));
            }
            "ACK" => unheard.retain(|(answer, ..)| answer.get("Call-ID") != call_id),
            "BYE" => {
                unheard.retain(|(answer, ..)| answer.get("Call-ID") != call_id);
                phone.reply(&Draft::answer(&message, 200, "OK", "answering"));
            }
            _ => {}
        }
    }
    for (answer, next, pause) in unheard.iter_mut().filter(|(_, next, _)| next.left().is_none()) {
        phone.reply(answer);
        *pause = (*pause * 2).min(Duration::from_secs(4));
        *next = Deadline::after(*pause);
    }
}
