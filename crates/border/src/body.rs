//! Message bodies: which may cross, and how their type is read (RFC 3261 §7.4, §20.11–20.15).
//!
//! A body that sets up media crosses only as a session description that we have rewritten. Whatever the
//! sender calls it otherwise could be read as one by the other side, past the relay.

use wire::sip::{HeaderName, Message, Method, Writer};

use crate::host_text;
use crate::topology::Topology;

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    Empty,
    /// A session description, in a message of offer and answer (RFC 3264).
    Sdp,
    /// Anything else that may cross as it is, with its type as written.
    Other(String),
}

/// A body as it leaves us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    content_type: Option<String>,
    bytes: Vec<u8>,
}

impl Body {
    pub(crate) fn sdp(bytes: Vec<u8>) -> Self {
        Self { content_type: Some("application/sdp".to_owned()), bytes }
    }

    /// A body that is no SDP, as it came.
    pub(crate) fn other(content_type: String, bytes: &[u8]) -> Self {
        Self { content_type: Some(content_type), bytes: bytes.to_vec() }
    }

    /// Replaces every host of the inside by the domain.
    pub(crate) fn masked_outward(mut self, topology: &Topology, domain: &str) -> Self {
        self.bytes = topology.masked(&self.bytes, domain);
        self
    }

    /// Replaces a phone's own addresses and host names by the domain. A word without a dot or colon stays: a
    /// phone may call itself "phone", and so may people.
    pub(crate) fn masked_inward(mut self, private: &[String], domain: &str) -> Self {
        let hosts = private.iter().filter(|name| name.contains(['.', ':'])).map(String::as_str);
        self.bytes = host_text::replaced(&self.bytes, hosts, domain);
        self
    }

    /// Writes the type and closes the message.
    pub(crate) fn finish(&self, mut writer: Writer) -> Vec<u8> {
        if let Some(content_type) = &self.content_type {
            writer.header("Content-Type", content_type);
        }
        writer.finish(&self.bytes)
    }
}

/// Whether a header that says how to read the body stands twice: two readers could choose differently.
pub(crate) fn is_ambiguous(message: &Message<'_>) -> bool {
    [HeaderName::ContentType, HeaderName::ContentEncoding, HeaderName::ContentDisposition]
        .into_iter()
        .any(|name| message.values(name).nth(1).is_some())
}

/// What a message of a transaction of `method` carries; `Err`: it may not cross, with the status to refuse
/// a request by.
pub(crate) fn kind_of(message: &Message<'_>, method: Method<'_>) -> Result<BodyKind, u16> {
    if message.body().is_empty() {
        return Ok(BodyKind::Empty);
    }
    let written = wire::sip::unfold(message.value(HeaderName::ContentType).unwrap_or_default());
    let encoded = message
        .value(HeaderName::ContentEncoding)
        .is_some_and(|value| !value.trim().eq_ignore_ascii_case("identity"));
    let (media, subtype) = media_type(&written).ok_or(415_u16)?;
    let sdp = media == "application" && subtype == "sdp";
    let negotiates = matches!(method, Method::Invite | Method::Ack | Method::Prack | Method::Update);
    match (negotiates, sdp) {
        (true, true) if !encoded => Ok(BodyKind::Sdp),
        (false, false) if media != "multipart" => Ok(BodyKind::Other(written.into_owned())),
        _ => Err(415),
    }
}

/// Type and subtype in lower case; blanks around the slash are legal (RFC 3261 §25.1, SLASH).
fn media_type(value: &str) -> Option<(String, String)> {
    let (media, subtype) = value.split(';').next()?.split_once('/')?;
    let word = |text: &str| Some(text.trim().to_ascii_lowercase()).filter(|word| !word.is_empty());
    Some((word(media)?, word(subtype)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: &str, headers: &str) -> Result<BodyKind, u16> {
        let text = format!(
            "{method} sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 {method}\r\n{headers}Content-Length: 3\r\n\r\nv=0"
        );
        let message = Message::parse(text.as_bytes()).unwrap();
        if is_ambiguous(&message) {
            return Err(400);
        }
        kind_of(&message, Method::parse(method))
    }

    #[test]
    fn a_phone_is_not_named_in_what_it_writes() {
        let masked = |text: &str| {
            let private = ["192.168.1.20", "2001:db8::7", "desk.lan", "phone"].map(str::to_owned);
            let body =
                Body::other("text/plain".into(), text.as_bytes()).masked_inward(&private, "example.com");
            String::from_utf8(body.bytes).unwrap()
        };
        assert_eq!(masked("<192.168.1.20> or Desk.LAN"), "<example.com> or example.com");
        assert_eq!(masked("sip:x@[2001:db8::7]"), "sip:x@example.com");
        assert_eq!(masked("192.168.1.201, my phone"), "192.168.1.201, my phone");
        let latin = Body::other("application/x".into(), b"\xff192.168.1.20")
            .masked_inward(&["192.168.1.20".into()], "d");
        assert_eq!(latin.bytes, b"\xffd");
    }

    #[test]
    fn only_rewritten_descriptions_set_up_media() {
        for (method, headers, expected) in [
            ("INVITE", "Content-Type: application/sdp\r\n", Ok(BodyKind::Sdp)),
            ("INVITE", "c: Application / SDP ;x=y\r\n", Ok(BodyKind::Sdp)),
            ("INVITE", "Content-Type: text/plain\r\nc: application/sdp\r\n", Err(400)),
            ("INVITE", "Content-Type: multipart /mixed;boundary=b\r\n", Err(415)),
            ("INVITE", "Content-Type: text/plain\r\n", Err(415)),
            ("INVITE", "", Err(415)),
            ("UPDATE", "Content-Type: application/sdp\r\nContent-Encoding: gzip\r\n", Err(415)),
            ("UPDATE", "Content-Type: application/sdp\r\nContent-Encoding: Identity\r\n", Ok(BodyKind::Sdp)),
            ("MESSAGE", "Content-Type: application/sdp\r\n", Err(415)),
            ("MESSAGE", "Content-Type: text/plain\r\n", Ok(BodyKind::Other("text/plain".to_owned()))),
            (
                "INFO",
                "Content-Type: application/dtmf-relay\r\n",
                Ok(BodyKind::Other("application/dtmf-relay".to_owned())),
            ),
        ] {
            assert_eq!(kind(method, headers), expected, "{method} {headers}");
        }
    }
}
