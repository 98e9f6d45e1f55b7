//! Digest at the border: the PBX's challenges answered with the stored password, or passed through.
//!
//! Only the agreed realm of a PBX is ever answered (contract section 3); another one is an event.

use std::borrow::Cow;

use sip::auth::{Authorization, Challenge, ChooseError, Credentials, authorization_with, choose};
use wire::sip::{HeaderName, Message, Method, unfold};

use crate::Border;
use crate::entry::EntryId;
use crate::event::Code;
use crate::refusal::Refusal;
use crate::report::About;

/// Challenges in a row that are answered: a new nonce each time, with `stale` or not.
const TRIES_MAX: u8 = 3;

/// The challenge that one series of requests answers, and how often it did.
#[derive(Debug, Default)]
pub(crate) struct AuthState {
    challenge: Option<Challenge>,
    proxy: bool,
    nonce_count: u32,
    cnonce: String,
    /// Challenges since the last success.
    tries: u8,
}

impl AuthState {
    /// The PBX was content.
    pub(crate) fn succeeded(&mut self) {
        self.tries = 0;
    }
}

/// What is to be done about a challenge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenged {
    /// Send the request again, with credentials.
    Retry,
    /// Give up; why.
    Refused(Refusal),
}

impl Border {
    /// Credentials for a request, where a challenge is known: the header's name and value.
    pub(crate) fn credentials(
        &mut self,
        entry: EntryId,
        auth: &mut AuthState,
        method: &str,
        uri: &str,
    ) -> Option<(&'static str, String)> {
        let challenge = auth.challenge.as_ref()?;
        let config = &self.entries.entry(entry).config;
        let password = config.password.as_ref()?;
        if auth.cnonce.is_empty() {
            auth.cnonce = self.entropy.word();
        }
        auth.nonce_count += 1;
        let credentials = Credentials { user: &config.pbx_user, password: password.reveal() };
        let value = credentials.answer(challenge, method, uri, &auth.cnonce, auth.nonce_count)?;
        let header = if auth.proxy { HeaderName::ProxyAuthorization } else { HeaderName::Authorization };
        Some((header.as_str(), value))
    }

    /// Takes the challenge of a 401 or 407 in answer to a request of ours.
    pub(crate) fn take_challenge(
        &mut self,
        pbx: usize,
        entry: EntryId,
        auth: &mut AuthState,
        message: &Message<'_>,
    ) -> Challenged {
        let challenges = Challenge::parse_all(challenges_of(message).map(|(_, value)| value));
        if message.essentials().is_ok_and(|essentials| essentials.cseq.method == Method::Register) {
            self.pin_realm(pbx, &challenges);
        }
        let Some(realm) = self.pbxs[pbx].realm.clone() else {
            let refusal = match challenges.is_empty() {
                true => Refusal::Unanswerable(ChooseError::NoChallenge),
                false => Refusal::NoRealm,
            };
            return Challenged::Refused(refusal);
        };
        let challenge = match choose(&challenges, &realm) {
            Ok(challenge) => challenge.clone(),
            Err(ChooseError::ForeignRealm) => {
                self.report_realm(pbx, entry, &realm, &challenges);
                return Challenged::Refused(Refusal::ForeignRealm);
            }
            Err(error @ (ChooseError::NoChallenge | ChooseError::Unsupported)) => {
                return Challenged::Refused(Refusal::Unanswerable(error));
            }
        };
        if self.entries.entry(entry).config.password.is_none() {
            return Challenged::Refused(Refusal::NoPassword);
        }
        auth.tries += 1;
        let again = auth.tries > 1 && !challenge.stale;
        if again || auth.tries > TRIES_MAX {
            auth.challenge = None;
            auth.tries = 0;
            return Challenged::Refused(Refusal::Credentials);
        }
        auth.proxy = message.status() == Some(407);
        auth.challenge = Some(challenge);
        auth.nonce_count = 0;
        auth.cnonce = self.entropy.word();
        Challenged::Retry
    }

    /// Without a configured realm, the first one that a PBX shows us is the agreed one, for good.
    fn pin_realm(&mut self, pbx: usize, challenges: &[Challenge]) {
        if self.pbxs[pbx].realm.is_none()
            && let Some(first) = challenges.first()
        {
            let realm = first.realm().into_owned();
            self.persist_realm(pbx, &realm);
            self.pbxs[pbx].realm = Some(realm);
        }
    }

    fn report_realm(&mut self, pbx: usize, entry: EntryId, realm: &str, challenges: &[Challenge]) {
        let name = self.pbx_name(pbx);
        let seen = challenges.first().map(|challenge| challenge.realm().into_owned()).unwrap_or_default();
        let realm = realm.to_owned();
        let about = About::default().extension(self.entries.name(entry)).rule(format!("realm {realm}"));
        self.event(Code::RealmChanged, about, || {
            (
                format!("PBX {name} asks in the realm \"{seen}\" instead of \"{realm}\"; it is not answered"),
                "if that is right, write realm = \"…\" in its [[pbx]]; if not, somebody else answers".into(),
            )
        });
    }
}

/// Digest credentials of a request.
pub(crate) struct Given<'a> {
    /// The header's name.
    pub(crate) name: &'static str,
    /// Its value, on one line.
    pub(crate) value: Cow<'a, str>,
    /// The `opaque` that they return.
    pub(crate) opaque: Option<String>,
}

/// The credentials of a request. What is no Digest is none, and goes no further.
pub(crate) fn credentials_of<'a>(message: &Message<'a>) -> impl Iterator<Item = Given<'a>> {
    let read = |name: HeaderName<'static>| {
        move |value: &'a str| {
            let value = unfold(value);
            let opaque = Authorization::parse(&value)?.opaque.map(Cow::into_owned);
            Some(Given { name: name.as_str(), value, opaque })
        }
    };
    let own = message.values(HeaderName::Authorization).filter_map(read(HeaderName::Authorization));
    let proxied = message.values(HeaderName::ProxyAuthorization);
    own.chain(proxied.filter_map(read(HeaderName::ProxyAuthorization))).collect::<Vec<_>>().into_iter()
}

/// The challenges of a response: header names and values.
pub(crate) fn challenges_of<'a>(message: &Message<'a>) -> impl Iterator<Item = (&'static str, &'a str)> {
    let named = |name: HeaderName<'static>| move |value| (name.as_str(), value);
    message
        .values(HeaderName::WwwAuthenticate)
        .map(named(HeaderName::WwwAuthenticate))
        .chain(message.values(HeaderName::ProxyAuthenticate).map(named(HeaderName::ProxyAuthenticate)))
        .collect::<Vec<_>>()
        .into_iter()
}

/// The `opaque` that a challenge gives.
pub(crate) fn given_opaque(challenge: &str) -> Option<String> {
    Challenge::parse(challenge).first()?.opaque().map(|opaque| opaque.into_owned())
}

/// The nonce of a challenge.
pub(crate) fn nonce_of(challenge: &str) -> Option<String> {
    Challenge::parse(challenge).first().map(|challenge| challenge.nonce().into_owned())
}

/// Whether a challenge only renews its nonce.
pub(crate) fn is_stale(challenge: &str) -> bool {
    Challenge::parse(challenge).iter().any(|challenge| challenge.stale)
}

/// Credentials with the PBX's own `opaque`; unreadable ones as they came, for the PBX to refuse.
pub(crate) fn with_opaque(credentials: &str, opaque: Option<&str>) -> String {
    authorization_with(credentials, opaque).unwrap_or_else(|| unfold(credentials).into_owned())
}
