//! What makes two messages belong to one transaction (RFC 3261 §17.1.3, §17.2.3).
//!
//! A key names the flow as well as the branch: the same branch on the other face, on another connection
//! or from another UDP source is another transaction. Never longer than a fixed bound, whatever the peer
//! sent.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use sha2::{Digest, Sha256};
use wire::net::FlowId;
use wire::sip::{Essentials, Method};

use super::Hop;

const MAGIC_COOKIE: &str = "z9hG4bK";
/// Longer texts are kept as their hash.
const TEXT_MAX: usize = 128;

/// Key of a transaction. Ordered by flow first, so that all of one flow lie together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TransactionKey {
    pub(super) flow: FlowId,
    /// Of all that follows: a search in a large table then compares numbers, and texts once. Who makes keys of
    /// one number slows a search down to the comparison of texts, no more.
    hash: u64,
    /// Of a server transaction over UDP: a listener's flow has many sources.
    remote: Option<SocketAddr>,
    branch: Box<str>,
    method: Box<str>,
}

impl TransactionKey {
    /// The key under which a request with this method is looked up (§17.2.3). An ACK, and the INVITE that
    /// a CANCEL means, are looked up as INVITE.
    pub(super) fn server(hop: &Hop, method: Method<'_>, uri: &str, essentials: &Essentials<'_>) -> Self {
        let branch = match essentials.via.branch().filter(|branch| has_cookie(branch)) {
            Some(branch) => rfc3261_text(branch, essentials),
            None => rfc2543_text(uri, essentials),
        };
        let remote = (!hop.transport.is_reliable()).then_some(hop.remote);
        Self::new(hop.flow, remote, bounded(branch), method)
    }

    /// The key under which a response to our request is looked up (§17.1.3).
    pub(super) fn client(flow: FlowId, branch: &str, method: Method<'_>) -> Self {
        Self::new(flow, None, bounded(branch.to_owned()), method)
    }

    fn new(flow: FlowId, remote: Option<SocketAddr>, branch: Box<str>, method: Method<'_>) -> Self {
        let method = bounded(method.as_str().to_owned());
        // The same in every run, as all that a core does.
        let mut hasher = DefaultHasher::new();
        (remote, &branch, &method).hash(&mut hasher);
        Self { flow, hash: hasher.finish(), remote, branch, method }
    }

    /// The same with another method: the CANCEL of an INVITE.
    pub(super) fn with_method(&self, method: Method<'_>) -> Self {
        Self::new(self.flow, self.remote, self.branch.clone(), method)
    }

    /// Not later than any key of `flow`.
    pub(super) fn first_of(flow: FlowId) -> Self {
        Self { flow, hash: 0, remote: None, branch: Box::default(), method: Box::default() }
    }
}

/// Whether the branch is one of RFC 3261 with something behind the cookie (RFC 4475 §3.2.1).
fn has_cookie(branch: &str) -> bool {
    branch.len() > MAGIC_COOKIE.len()
        && branch.get(..MAGIC_COOKIE.len()).is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
}

/// Branch and sent-by. NUL separates: no message that was parsed has one.
fn rfc3261_text(branch: &str, essentials: &Essentials<'_>) -> String {
    let mut text = sent_by(essentials);
    text.push('\0');
    text.push_str(branch);
    text
}

/// Request-URI, From tag, Call-ID, CSeq number and top Via. The To tag is left out, so that the ACK, which
/// has the tag of our answer, finds its INVITE.
fn rfc2543_text(uri: &str, essentials: &Essentials<'_>) -> String {
    let tag = essentials.from.tag().unwrap_or_default();
    let via = &essentials.via;
    let branch = via.branch().unwrap_or_default();
    let mut text = sent_by(essentials);
    let (call_id, number, transport) = (essentials.call_id, essentials.cseq.number, via.transport);
    let written = write!(text, "\0\0{branch}\0{transport}\0{uri}\0{tag}\0{call_id}\0{number}");
    debug_assert!(written.is_ok(), "a String takes everything");
    text
}

fn sent_by(essentials: &Essentials<'_>) -> String {
    let via = &essentials.via;
    let mut text = via.host.to_string();
    text.make_ascii_lowercase();
    if let Some(port) = via.port {
        let written = write!(text, ":{port}");
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    text
}

/// Texts of a hostile length become a hash. It begins with a NUL, which no short text does.
fn bounded(text: String) -> Box<str> {
    if text.len() <= TEXT_MAX {
        return text.into_boxed_str();
    }
    let mut hash = String::with_capacity(65);
    hash.push('\0');
    crate::auth::push_hex(&mut hash, &Sha256::digest(text.as_bytes()));
    hash.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use wire::net::Transport;
    use wire::sip::{Message, StartLine};

    use super::*;

    const CANCEL: Method<'static> = Method::Cancel;
    const INVITE: Method<'static> = Method::Invite;

    fn hop(flow: u64, remote: &str, transport: Transport) -> Hop {
        Hop { flow: FlowId(flow), remote: remote.parse().expect("an address"), transport }
    }

    fn key_of(via: &str, uri: &str, to_tag: &str, method: Method<'_>) -> TransactionKey {
        let hop = hop(1, "192.0.2.1:5060", Transport::Udp);
        key_at(&hop, via, uri, to_tag, method)
    }

    fn key_at(hop: &Hop, via: &str, uri: &str, to_tag: &str, method: Method<'_>) -> TransactionKey {
        let bytes = format!(
            "INVITE {uri} SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@example.com>;tag=f\r\n\
             To: <sip:b@example.com>{to_tag}\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n"
        );
        let message = Message::parse(bytes.as_bytes()).expect("a message");
        let StartLine::Request { uri, .. } = message.start() else { panic!("a request") };
        TransactionKey::server(hop, method, uri, &message.essentials().expect("essentials"))
    }

    #[test]
    fn branch_sent_by_and_method_make_the_key() {
        let key = |via| key_of(via, "sip:b@example.com", "", INVITE);
        let first = key("SIP/2.0/UDP Host.example:5060;branch=z9hG4bKa");
        assert_eq!(first, key("SIP/2.0/UDP host.EXAMPLE:5060;branch=z9hG4bKa;rport"));
        assert_ne!(first, key("SIP/2.0/UDP host.example:5060;branch=z9hG4bKb"));
        assert_ne!(first, key("SIP/2.0/UDP host.example:5061;branch=z9hG4bKa"));
        assert_ne!(first, key("SIP/2.0/UDP host.example;branch=z9hG4bKa"));
        assert_ne!(first, first.with_method(CANCEL));
        assert_eq!(first, first.with_method(CANCEL).with_method(INVITE));
        // with the cookie, nothing else counts
        assert_eq!(
            key_of("SIP/2.0/UDP h;branch=z9hG4bKa", "sip:b@example.com", "", INVITE),
            key_of("SIP/2.0/UDP h;branch=z9hG4bKa", "sip:c@example.com", ";tag=t", INVITE)
        );
    }

    #[test]
    fn faces_connections_and_sources_do_not_collide() {
        let via = "SIP/2.0/UDP h;branch=z9hG4bKa";
        let key = |hop: Hop| key_at(&hop, via, "sip:b@example.com", "", INVITE);
        let first = key(hop(1, "192.0.2.1:5060", Transport::Udp));
        assert_ne!(first, key(hop(2, "192.0.2.1:5060", Transport::Udp)));
        assert_ne!(first, key(hop(1, "192.0.2.1:5061", Transport::Udp)));
        assert_ne!(first, key(hop(1, "192.0.2.2:5060", Transport::Udp)));
        assert!(TransactionKey::first_of(FlowId(1)) <= first && first < TransactionKey::first_of(FlowId(2)));
    }

    #[test]
    fn without_the_cookie_rfc_2543_holds() {
        for via in ["SIP/2.0/UDP h", "SIP/2.0/UDP h;branch=1", "SIP/2.0/UDP h;branch=z9hG4bK"] {
            let first = key_of(via, "sip:b@example.com", "", INVITE);
            assert_eq!(first, key_of(via, "sip:b@example.com", ";tag=answer", INVITE), "the ACK finds it");
            assert_ne!(first, key_of(via, "sip:c@example.com", "", INVITE));
        }
        let key = |via| key_of(via, "sip:b@example.com", "", INVITE);
        assert_ne!(key("SIP/2.0/UDP h"), key("SIP/2.0/UDP g"));
        assert_ne!(key("SIP/2.0/UDP h"), key("SIP/2.0/UDP h;branch=1"));
    }

    #[test]
    fn length_is_bounded_and_long_keys_still_differ() {
        let key = |tail: char| {
            let via = format!("SIP/2.0/UDP h;branch=z9hG4bK{}{tail}", "x".repeat(400));
            key_of(&via, "sip:b@example.com", "", INVITE)
        };
        assert_eq!(key('a'), key('a'));
        assert_ne!(key('a'), key('b'));
        assert!(key('a').branch.len() <= TEXT_MAX);
    }
}
