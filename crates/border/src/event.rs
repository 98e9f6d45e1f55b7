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

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
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
        }
    };
}

codes! {
    /// A phone registered for the first time, or from a new flow.
    Registered = "registered",
    /// A binding ended: by the phone, by expiry, or by the loss of its connection.
    Deregistered = "deregistered",
    /// An inside registration was made again after the PBX had lost it.
    Reregistered = "reregistered",
    /// A client certificate that no device CA of ours vouches for.
    CertUntrusted = "cert_untrusted",
    /// A client certificate past its date.
    CertExpired = "cert_expired",
    /// A client certificate before its date.
    CertNotYetValid = "cert_not_yet_valid",
    /// A client certificate that is not good for client authentication.
    CertPurpose = "cert_purpose",
    /// No client certificate where one is needed.
    CertMissing = "cert_missing",
    /// A client certificate whose identity field has no, several or unusable values.
    CertAmbiguous = "cert_ambiguous",
    /// A valid certificate whose hardware ID no extension lists.
    HwidUnknown = "hwid_unknown",
    /// A valid certificate whose hardware ID belongs to another extension than the one asked for.
    CnMismatch = "cn_mismatch",
    /// A registration name that no extension has.
    NameUnknown = "name_unknown",
    /// Credentials that the PBX refused.
    DigestFailed = "digest_failed",
    /// A call from a flow on which no phone is registered.
    FlowNotRegistered = "flow_not_registered",
    /// Bytes that are no SIP, or SIP that breaks its grammar or our limits.
    Malformed = "malformed",
    /// Too many connections or datagrams from one source.
    Flood = "flood",
    /// The first offence of a source within the window.
    Detected = "detected",
    /// A source is blocked from now on.
    Blocked = "blocked",
    /// A block ended: by time or by the operator.
    Unblocked = "unblocked",
    /// A call refused by a frequency rule or by `max_calls`.
    CallLimited = "call_limited",
    /// A call that failed for another reason than the called party's wish.
    CallFailed = "call_failed",
    /// Media that are not let through, for the address that they come from or should go to.
    MediaRefused = "media_refused",
    /// A PBX does not answer.
    PbxDown = "pbx_down",
    /// A PBX answers again.
    PbxUp = "pbx_up",
    /// A PBX forgot its bindings; they are made again.
    PbxLostBindings = "pbx_lost_bindings",
    /// A PBX keeps one contact for each extension, so that two devices displace each other.
    PbxSingleContact = "pbx_single_contact",
    /// A PBX challenges with another realm than the one agreed.
    RealmChanged = "realm_changed",
    /// A request on the inside face from an address that is neither PBX nor trusted.
    InsideStranger = "inside_stranger",
    /// A PBX named an address as the other end of a call that nothing is sent to.
    TargetRefused = "target_refused",
    /// A source was refused by a limit, without offence.
    SourceLimited = "source_limited",
    /// A name of the configuration cannot be looked up.
    NameUnresolved = "name_unresolved",
    /// The machine's clock was set.
    ClockStepped = "clock_stepped",
    /// No file descriptor is left for connections that wait.
    FilesExhausted = "files_exhausted",
    /// The store could not be written.
    StoreFailed = "store_failed",
    /// The store can be written again, and was.
    StoreWorks = "store_works",
}
