//! What a PBX refused although we answered for the extension, a registration of ours or a call of its phone: why,
//! and what the operator hears of it.

use sip::auth::ChooseError;
use wire::sip::{Message, Method};

use crate::Border;
use crate::answer::{Ask, reason_phrase};
use crate::entry::EntryId;
use crate::event::Code;
use crate::forward::ForwardId;
use crate::report::About;

/// Why a PBX refused what we answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It did not accept the user name or password.
    Credentials,
    /// It asks for a password, and the extension has none.
    NoPassword,
    /// It asks in another realm than the agreed one, which has an event of its own.
    ForeignRealm,
    /// It asks for a call before any registration has agreed on a realm; the next one will.
    NoRealm,
    /// It asks for what we cannot answer.
    Unanswerable(ChooseError),
    /// It said yes, and did not list our contact.
    NotListed,
    /// It answered with this status.
    Status(u16),
}

/// What the operator hears.
pub(crate) struct Words {
    pub(crate) code: Code,
    pub(crate) why: String,
    pub(crate) next_step: &'static str,
}

impl Refusal {
    /// None where another event has said it.
    pub(crate) fn words(self) -> Option<Words> {
        let (code, why, next_step) = match self {
            Self::Credentials => (
                Code::DigestFailed,
                "it did not accept the stored user name or password".to_owned(),
                "compare pbx_user and password of the extension with the PBX's",
            ),
            Self::NoPassword => (
                Code::DigestFailed,
                "it asks for a password and the extension has none".to_owned(),
                "give the extension the password that it has at the PBX",
            ),
            Self::ForeignRealm | Self::NoRealm => return None,
            Self::Unanswerable(error) => (
                Code::PbxRefused,
                format!("it asks for a password in a way that cannot be answered: {error}"),
                "let the PBX ask by Digest with MD5 or SHA-256, and qop auth or none",
            ),
            Self::NotListed => (
                Code::PbxRefused,
                "its 200 does not list our contact".to_owned(),
                "look at the PBX whether this extension may have a contact, and whether a proxy changes it",
            ),
            Self::Status(404) => (
                Code::NameUnknown,
                "it does not know the extension (404)".to_owned(),
                "add the extension at the PBX, or correct its name here",
            ),
            Self::Status(status) => (
                Code::PbxRefused,
                format!("it answered {status} {}", reason_phrase(status)),
                "look in the PBX's log for the same moment: may the extension register there, from the inside \
                 address?",
            ),
        };
        Some(Words { code, why, next_step })
    }
}

impl Border {
    /// A phone's REGISTER gets no answer from a PBX: 503, and when to try again.
    pub(crate) fn put_off(&mut self, ask: &Ask, entry: EntryId, why: &str) {
        self.report_registration_failed(ask, entry, why);
        self.refuse_for_now(ask);
    }

    pub(crate) fn report_registration_failed(&mut self, ask: &Ask, entry: EntryId, why: &str) {
        let about = About::source(ask.hop.remote).extension(self.entries.name(entry));
        self.event(Code::RegistrationFailed, about, || {
            (
                format!("the phone was not registered and comes again: {why}"),
                "look with `portcullis status` which PBX is up, and at the way to it".into(),
            )
        });
    }

    /// A PBX does not say which contacts it has for an extension.
    pub(crate) fn report_query_refused(&mut self, pbx: usize, entry: EntryId, why: Refusal) {
        let about = About::default().extension(self.entries.name(entry));
        let pbx = self.pbx_name(pbx);
        if let Some(Words { code, why, next_step }) = why.words() {
            self.event(code, about, || {
                (
                    format!(
                        "PBX {pbx} refused to say which contacts it has: {why}; they are registered anew"
                    ),
                    next_step.into(),
                )
            });
        }
    }

    /// A PBX asks a phone's request for a password, and what we have to say to that is in vain: the phone is refused,
    /// and is not to blame. Who hangs up is told that it is done.
    pub(crate) fn fail_for_password(&mut self, id: ForwardId, entry: EntryId, why: Refusal) {
        let Some(ask) = self.close_ask(id) else { return };
        let call = self.call_of(id);
        let message = Message::parse(&ask.bytes).ok();
        let method = message.as_ref().and_then(Message::method).unwrap_or(Method::Other(""));
        let pbx = self.pbx_name(self.pbx_of(id));
        let about = About::source(ask.hop.remote).extension(self.entries.name(entry));
        let what = if method == Method::Invite { "call" } else { method.as_str() }.to_owned();
        if let Some(Words { code, why, next_step }) = why.words() {
            self.event(code, about, || (format!("PBX {pbx} refused the {what}: {why}"), next_step.into()));
        } else if why == Refusal::NoRealm {
            self.event(Code::CallFailed, about, || {
                (
                    format!("the {what} failed: PBX {pbx} asks for a password in a realm that was not agreed on yet"),
                    "write realm = \"…\" in its [[pbx]], where it asks for no password when phones register".into(),
                )
            });
        }
        let bye = method == Method::Bye;
        if bye {
            self.refuse(&ask, 200);
        } else if why == Refusal::NoRealm {
            self.refuse_for_now(&ask);
        } else {
            self.refuse(&ask, 403);
        }
        self.after_failure(id);
        if let Some(call) = call.filter(|_| bye) {
            self.end_call(call);
        }
    }
}
