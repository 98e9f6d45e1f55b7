//! Requests that are made from an INVITE's own bytes: the ACK of a final answer other than 2xx (RFC 3261
//! §17.1.1.3) and the CANCEL (§9.1).
//!
//! Never looks at anything but the INVITE that was sent and, for an ACK, the To of the answer.

use bytes::Bytes;
use wire::sip::{CSeq, HeaderName, Message, StartLine, Writer, split_list};

/// The ACK of the final answer whose To is `to`.
pub(super) fn ack(invite: &[u8], to: &str) -> Option<Bytes> {
    derive(invite, "ACK", Some(to))
}

/// The CANCEL.
pub(super) fn cancel(invite: &[u8]) -> Option<Bytes> {
    derive(invite, "CANCEL", None)
}

/// Request-URI, top Via, Route, From, Call-ID and CSeq number of the INVITE; its To unless another is given.
/// `None` only for bytes that are no INVITE.
fn derive(invite: &[u8], method: &str, to: Option<&str>) -> Option<Bytes> {
    let invite = Message::parse(invite).ok()?;
    let StartLine::Request { uri, .. } = invite.start() else { return None };
    let cseq = CSeq::parse(invite.value(HeaderName::CSeq)?).ok()?;
    let via = split_list(invite.value(HeaderName::Via)?).next()?;
    let mut writer = Writer::request(method, uri);
    writer.header(HeaderName::Via.as_str(), via);
    for route in invite.values(HeaderName::Route) {
        writer.header(HeaderName::Route.as_str(), route);
    }
    writer.header(HeaderName::MaxForwards.as_str(), 70);
    writer.header(HeaderName::From.as_str(), invite.value(HeaderName::From)?);
    writer.header(HeaderName::To.as_str(), to.or_else(|| invite.value(HeaderName::To))?);
    writer.header(HeaderName::CallId.as_str(), invite.value(HeaderName::CallId)?);
    writer.header(HeaderName::CSeq.as_str(), format_args!("{} {method}", cseq.number));
    Some(Bytes::from(writer.finish(b"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:bob@192.0.2.4;x=y SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours;rport\r\n\
        Route: <sip:p1.example;lr>\r\nRoute: <sip:p2.example;lr>\r\nMax-Forwards: 69\r\n\
        From: \"A, B\" <sip:a@example.com>;tag=f\r\nTo: <sip:bob@example.com>\r\nCall-ID: c@x\r\n\
        CSeq: 4711 INVITE\r\nRequire: 100rel\r\nContact: <sip:us@192.0.2.1>\r\n\
        Content-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0";

    #[test]
    fn ack_is_the_invite_with_the_to_of_the_answer() {
        let ack = ack(INVITE, "<sip:bob@example.com>;tag=t").expect("an ACK");
        assert_eq!(
            std::str::from_utf8(&ack).expect("text"),
            "ACK sip:bob@192.0.2.4;x=y SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours;rport\r\n\
             Route: <sip:p1.example;lr>\r\nRoute: <sip:p2.example;lr>\r\nMax-Forwards: 70\r\n\
             From: \"A, B\" <sip:a@example.com>;tag=f\r\nTo: <sip:bob@example.com>;tag=t\r\nCall-ID: c@x\r\n\
             CSeq: 4711 ACK\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn cancel_has_the_invites_own_to() {
        let cancel = cancel(INVITE).expect("a CANCEL");
        assert_eq!(
            std::str::from_utf8(&cancel).expect("text"),
            "CANCEL sip:bob@192.0.2.4;x=y SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours;rport\r\n\
             Route: <sip:p1.example;lr>\r\nRoute: <sip:p2.example;lr>\r\nMax-Forwards: 70\r\n\
             From: \"A, B\" <sip:a@example.com>;tag=f\r\nTo: <sip:bob@example.com>\r\nCall-ID: c@x\r\n\
             CSeq: 4711 CANCEL\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn bytes_that_are_no_request_give_nothing() {
        assert_eq!(cancel(b"SIP/2.0 200 OK\r\n\r\n"), None);
        assert_eq!(cancel(b""), None);
        assert_eq!(ack(b"INVITE sip:a SIP/2.0\r\n\r\n", "<sip:b>"), None);
    }
}
