//! Header fields and their names, compact forms included. RFC 3261 §7.3, §20 and the IANA registry.
//! Never tells two spellings of a name apart: case and compact form mean nothing.

use std::fmt;

/// One header field, in the place where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name.
    pub name: HeaderName<'a>,
    /// The value without the white space around it; may still be folded: [`super::unfold`] joins its lines.
    pub value: &'a str,
}

/// Writes the enum and its table from one list: variant, canonical name, compact form where there is one.
macro_rules! header_names {
    ($($variant:ident $name:literal $($compact:literal)?,)*) => {
        /// The name of a header. Made by [`HeaderName::parse`], so that a name we know is never `Other`.
        #[derive(Clone, Copy, Debug)]
        pub enum HeaderName<'a> {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// A name that is not in the list, as it stands.
            Other(&'a str),
        }

        /// Numbers the names that we know.
        #[repr(u8)]
        enum Number { $($variant),* }

        const KNOWN: &[(&str, HeaderName<'static>)] = &[$(($name, HeaderName::$variant)),*];
        const COMPACT: &[(&str, u8)] = &[$($(($compact, Number::$variant as u8),)?)*];

        impl<'a> HeaderName<'a> {
            /// The number of a name that we know.
            #[inline]
            const fn number(self) -> Option<u8> {
                match self {
                    $(Self::$variant => Some(Number::$variant as u8),)*
                    Self::Other(_) => None,
                }
            }

            /// The name as RFCs write it; of an unknown one, as it stands.
            pub fn as_str(self) -> &'a str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(name) => name,
                }
            }
        }
    };
}

header_names! {
    Via "Via" "v",
    From "From" "f",
    To "To" "t",
    CallId "Call-ID" "i",
    CSeq "CSeq",
    Contact "Contact" "m",
    MaxForwards "Max-Forwards",
    ContentLength "Content-Length" "l",
    ContentType "Content-Type" "c",
    ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding" "e",
    ContentLanguage "Content-Language",
    MimeVersion "MIME-Version",
    Route "Route",
    RecordRoute "Record-Route",
    Path "Path",
    ServiceRoute "Service-Route",
    Authorization "Authorization",
    ProxyAuthorization "Proxy-Authorization",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    AuthenticationInfo "Authentication-Info",
    Expires "Expires",
    MinExpires "Min-Expires",
    RetryAfter "Retry-After",
    FlowTimer "Flow-Timer",
    Supported "Supported" "k",
    Require "Require",
    ProxyRequire "Proxy-Require",
    Unsupported "Unsupported",
    Allow "Allow",
    AllowEvents "Allow-Events" "u",
    Accept "Accept",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    AcceptContact "Accept-Contact" "a",
    RejectContact "Reject-Contact" "j",
    RequestDisposition "Request-Disposition" "d",
    UserAgent "User-Agent",
    Server "Server",
    Organization "Organization",
    Warning "Warning",
    Reason "Reason",
    Date "Date",
    Timestamp "Timestamp",
    Subject "Subject" "s",
    Priority "Priority",
    CallInfo "Call-Info",
    AlertInfo "Alert-Info",
    ErrorInfo "Error-Info",
    Event "Event" "o",
    SubscriptionState "Subscription-State",
    SipETag "SIP-ETag",
    SipIfMatch "SIP-If-Match",
    ReferTo "Refer-To" "r",
    ReferredBy "Referred-By" "b",
    ReferSub "Refer-Sub",
    Replaces "Replaces",
    Join "Join",
    TargetDialog "Target-Dialog",
    InReplyTo "In-Reply-To",
    ReplyTo "Reply-To",
    RAck "RAck",
    RSeq "RSeq",
    SessionExpires "Session-Expires" "x",
    MinSe "Min-SE",
    InfoPackage "Info-Package",
    RecvInfo "Recv-Info",
    PAssertedIdentity "P-Asserted-Identity",
    PPreferredIdentity "P-Preferred-Identity",
    PCalledPartyId "P-Called-Party-ID",
    PAssociatedUri "P-Associated-URI",
    PAccessNetworkInfo "P-Access-Network-Info",
    PChargingVector "P-Charging-Vector",
    RemotePartyId "Remote-Party-ID",
    HistoryInfo "History-Info",
    Diversion "Diversion",
    Privacy "Privacy",
    Identity "Identity" "y",
    UserToUser "User-to-User",
    SessionId "Session-ID",
}

impl<'a> HeaderName<'a> {
    /// The header of this name, of any case, or of this compact form.
    pub fn parse(name: &'a str) -> Self {
        match Self::known(name.as_bytes()) {
            UNKNOWN => Self::Other(name),
            number => Self::from_number(number, name),
        }
    }

    /// The name of this number, or `Other(name)`.
    #[inline]
    pub(super) fn from_number(number: u8, name: &'a str) -> Self {
        KNOWN.get(usize::from(number)).map_or(Self::Other(name), |(_, known)| *known)
    }

    /// What the scanner keeps of this name.
    #[inline]
    pub(super) const fn to_number(self) -> u8 {
        match self.number() {
            Some(number) => number,
            None => UNKNOWN,
        }
    }

    /// The number of a name, or [`UNKNOWN`].
    #[inline]
    pub(super) fn known(name: &[u8]) -> u8 {
        if let [letter] = name {
            let letter = usize::from(letter.to_ascii_lowercase().wrapping_sub(b'a'));
            return LETTERS.get(letter).copied().unwrap_or(UNKNOWN);
        }
        let mut slot = slot(name);
        loop {
            let number = SLOTS.get(slot).copied().unwrap_or(UNKNOWN);
            let Some((known, _)) = KNOWN.get(usize::from(number)) else {
                return UNKNOWN;
            };
            // Nearly all senders write names as RFCs do, so the cheap comparison goes first.
            if name == known.as_bytes() || name.eq_ignore_ascii_case(known.as_bytes()) {
                return number;
            }
            slot = (slot + 1) % SLOTS.len();
        }
    }
}

impl PartialEq for HeaderName<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.number(), other.number()) {
            (None, None) => self.as_str().eq_ignore_ascii_case(other.as_str()),
            (mine, theirs) => mine == theirs,
        }
    }
}

impl Eq for HeaderName<'_> {}

impl fmt::Display for HeaderName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The number of all names that are not in the list.
pub(super) const UNKNOWN: u8 = u8::MAX;

/// Hash table of the known names, filled by the compiler; a name whose slot is taken stands in the next.
static SLOTS: [u8; 512] = slots();
/// The known name of each compact form, `a` to `z`.
static LETTERS: [u8; 26] = letters();

const _: () =
    assert!(KNOWN.len() < 128, "a number is a byte, and a table three quarters empty ends every search soon");

/// Where the search for a name begins: by its length, first, last and middle letter. The factors were
/// searched so that no two known names meet; a name that is added may need others, or the next slot.
#[inline]
const fn slot(name: &[u8]) -> usize {
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return 0;
    };
    let (_, upper_half) = name.split_at(name.len() / 2);
    let Some(middle) = upper_half.first() else {
        return 0;
    };
    let (first, middle, last) = (*first | 0x20, *middle | 0x20, *last | 0x20);
    (name.len() * 242 + first as usize * 427 + middle as usize * 375 + last as usize * 384) % 512
}

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, bounded by the lengths")]
const fn slots() -> [u8; 512] {
    let mut table = [UNKNOWN; 512];
    let mut number = 0;
    while number < KNOWN.len() {
        let mut at = slot(KNOWN[number].0.as_bytes());
        while table[at] != UNKNOWN {
            at = (at + 1) % table.len();
        }
        table[at] = number as u8;
        number += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, bounded by the lengths")]
const fn letters() -> [u8; 26] {
    let mut table = [UNKNOWN; 26];
    let mut at = 0;
    while at < COMPACT.len() {
        let letter = COMPACT[at].0.as_bytes()[0] - b'a';
        assert!(table[letter as usize] == UNKNOWN, "one letter for two names");
        table[letter as usize] = COMPACT[at].1;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for (name, known) in KNOWN {
            for spelled in [(*name).to_owned(), name.to_uppercase(), name.to_lowercase()] {
                let found = HeaderName::parse(&spelled);
                assert!(!matches!(found, HeaderName::Other(_)), "{spelled}");
                assert_eq!(found, *known);
                assert_eq!(found.as_str(), *name);
            }
        }
    }

    #[test]
    fn compact_forms_are_the_same_name() {
        for (letter, number) in COMPACT {
            assert_eq!(HeaderName::parse(letter), HeaderName::from_number(*number, ""), "{letter}");
            assert_eq!(HeaderName::parse(&letter.to_uppercase()).to_number(), *number);
        }
        assert_eq!(HeaderName::parse("l"), HeaderName::ContentLength);
        assert!(matches!(HeaderName::parse("g"), HeaderName::Other("g")));
        assert!(matches!(HeaderName::parse("1"), HeaderName::Other("1")));
    }

    #[test]
    fn unknown_names_are_equal_whatever_the_case() {
        assert_eq!(HeaderName::parse("X-Thing"), HeaderName::parse("x-thing"));
        assert_ne!(HeaderName::parse("X-Thing"), HeaderName::parse("X-Thin"));
        assert_ne!(HeaderName::parse("X-Thing"), HeaderName::Via);
        assert!(matches!(HeaderName::parse(""), HeaderName::Other("")));
    }

    #[test]
    fn every_known_name_stands_in_the_slot_where_its_search_begins() {
        for (number, (name, _)) in KNOWN.iter().enumerate() {
            let found = SLOTS.get(slot(name.as_bytes())).copied();
            assert_eq!(found, u8::try_from(number).ok(), "{name}: choose other factors in `slot`");
        }
    }
}
