//! What operators hear of: one clear event for each rejection, block, failed call and registration.

use std::net::SocketAddr;

use wire::clock::WallTime;

/// One line for the operator, and one object for a program (contract section 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: WallTime,
    /// What kind.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// Who caused it.
    pub source: Option<SocketAddr>,
    /// The extension concerned, `not asked` where a handshake failed.
    pub extension: Option<String>,
    /// The hardware ID concerned.
    pub hardware_id: Option<String>,
    /// The rule or setting that decided.
    pub rule: Option<String>,
    /// What happened, in a sentence.
    pub text: String,
    /// What the operator may do.
    pub next_step: String,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is well.
    Info,
    /// Look at it some day.
    Warning,
    /// Somebody cannot work.
    Error,
}

impl Severity {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// How an event is told where it comes in floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Each by itself: strangers cannot cause as many of these as they like.
    OneByOne,
    /// The first ones of a second by themselves, the rest by their number.
    SummedUp,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $severity:ident, $telling:ident;)*) => {
        /// The kinds of events (contract section 7); their text is stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code, in the order of the operator's documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub(crate) fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            pub(crate) fn telling(self) -> Telling {
                match self { $(Self::$variant => Telling::$telling,)* }
            }
        }
    };
}

codes! {
    /// A phone registered for the first time, or from a new flow.
    Registered = "registered", Info, OneByOne;
    /// A binding ended: by the phone, by expiry, or by the loss of its connection.
    Deregistered = "deregistered", Info, OneByOne;
    /// An inside registration was made again after the PBX had lost it.
    Reregistered = "reregistered", Info, OneByOne;
    /// A client certificate that no device CA of ours vouches for.
    CertUntrusted = "cert_untrusted", Warning, SummedUp;
    /// A client certificate past its date.
    CertExpired = "cert_expired", Warning, SummedUp;
    /// A client certificate before its date.
    CertNotYetValid = "cert_not_yet_valid", Warning, SummedUp;
    /// A client certificate that is not good for client authentication.
    CertPurpose = "cert_purpose", Warning, SummedUp;
    /// Our own certificate ends within two weeks.
    ServerCertEnding = "server_cert_ending", Warning, OneByOne;
    /// Our own certificate is past its date.
    ServerCertEnded = "server_cert_ended", Error, OneByOne;
    /// No client certificate where one is needed.
    CertMissing = "cert_missing", Warning, SummedUp;
    /// A client certificate whose identity field has no, several or unusable values.
    CertAmbiguous = "cert_ambiguous", Warning, SummedUp;
    /// A valid certificate whose hardware ID no extension lists.
    HwidUnknown = "hwid_unknown", Warning, SummedUp;
    /// A valid certificate whose hardware ID belongs to another extension than the one asked for.
    CnMismatch = "cn_mismatch", Warning, SummedUp;
    /// A registration name that no extension has.
    NameUnknown = "name_unknown", Warning, SummedUp;
    /// Credentials that the PBX refused.
    DigestFailed = "digest_failed", Warning, SummedUp;
    /// A call from a flow on which no phone is registered.
    FlowNotRegistered = "flow_not_registered", Warning, SummedUp;
    /// Bytes that are no SIP, or SIP that breaks its grammar or our limits.
    Malformed = "malformed", Warning, SummedUp;
    /// Too many connections or datagrams from one source.
    Flood = "flood", Warning, SummedUp;
    /// The first offence of a source within the window.
    Detected = "detected", Warning, OneByOne;
    /// A source is blocked from now on.
    Blocked = "blocked", Warning, OneByOne;
    /// A block ended: by time or by the operator.
    Unblocked = "unblocked", Info, OneByOne;
    /// A call refused by a frequency rule or by `max_calls`.
    CallLimited = "call_limited", Warning, SummedUp;
    /// A device was refused because its extension has as many registrations as may be.
    ContactsLimited = "contacts_limited", Warning, SummedUp;
    /// A registration that no PBX took in, for there was no answer that decides.
    RegistrationFailed = "registration_failed", Error, SummedUp;
    /// A call that failed for another reason than the called party's wish.
    CallFailed = "call_failed", Error, OneByOne;
    /// Media that are not let through, for the address that they come from or should go to.
    MediaRefused = "media_refused", Warning, SummedUp;
    /// A PBX does not answer.
    PbxDown = "pbx_down", Error, OneByOne;
    /// A PBX answers again.
    PbxUp = "pbx_up", Info, OneByOne;
    /// A PBX forgot its bindings; they are made again.
    PbxLostBindings = "pbx_lost_bindings", Error, OneByOne;
    /// A PBX keeps one contact for each extension, so that two devices displace each other.
    PbxSingleContact = "pbx_single_contact", Warning, OneByOne;
    /// A PBX refused a registration of ours, or a call that we answered its challenge for, and not for user name or
    /// password.
    PbxRefused = "pbx_refused", Error, OneByOne;
    /// A PBX challenges with another realm than the one agreed.
    RealmChanged = "realm_changed", Error, OneByOne;
    /// A request on the inside face from an address that is neither PBX nor trusted.
    InsideStranger = "inside_stranger", Warning, SummedUp;
    /// A PBX named an address as the other end of a call that nothing is sent to.
    TargetRefused = "target_refused", Warning, SummedUp;
    /// A source was refused by a limit, without offence.
    SourceLimited = "source_limited", Warning, SummedUp;
    /// A table of ours was full, and a request was dropped for it.
    NoRoom = "no_room", Error, SummedUp;
    /// A name of the configuration cannot be looked up.
    NameUnresolved = "name_unresolved", Error, OneByOne;
    /// The machine's clock was set.
    ClockStepped = "clock_stepped", Warning, OneByOne;
    /// No file descriptor is left for connections that wait.
    FilesExhausted = "files_exhausted", Error, OneByOne;
    /// The store could not be written.
    StoreFailed = "store_failed", Error, OneByOne;
    /// The store can be written again, and was.
    StoreWorks = "store_works", Info, OneByOne;
}
