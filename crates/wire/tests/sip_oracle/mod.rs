//! What must hold for every message that is accepted. The fuzz targets judge by it too.

use wire::sip::{
    CSeq, Frame, Framer, HeaderName, Host, Limits, Message, Method, NameAddr, Params, StartLine, Uri, Via,
    Writer, split_list, unescape, unfold,
};

/// Reads `value` as every type, whatever it was meant for.
pub(crate) fn read_value(value: &str) {
    for item in split_list(value) {
        if let Ok(address) = NameAddr::parse(item) {
            assert!(!address.uri.contains(['<', '>', '"', ' ', '\r', '\n', '\0']), "{item:?}");
            read_params(&address.params);
            read_uri(address.uri);
        }
        if let Ok(via) = Via::parse(item) {
            assert_eq!(via.branch(), via.params.value("BRANCH"));
            assert_eq!(Host::parse(&via.host.to_string()), Some(via.host), "{item:?}");
            read_params(&via.params);
        }
    }
    if let Ok(cseq) = CSeq::parse(value) {
        let written = format!("{} {}", cseq.number, cseq.method);
        assert_eq!(CSeq::parse(&written), Ok(cseq));
    }
    if let Ok(params) = Params::parse(value) {
        read_params(&params);
    }
    assert!(!unfold(value).contains(['\r', '\n']));
    unescape(value);
}

fn read_params(params: &Params<'_>) {
    for (index, (name, value)) in params.iter().enumerate() {
        // Each look-up begins at the front; of thousands the first ones have to do.
        assert!(index >= 64 || params.has(name), "{params:?}");
        assert!(!name.is_empty() && !name.contains([';', ',', ' ', '=', '"']), "{params:?}");
        assert!(value != Some("") || params.as_str().contains("\"\""), "{params:?}");
    }
}

fn read_uri(text: &str) {
    if let Ok(uri) = Uri::parse(text) {
        let written = uri.to_string();
        assert_eq!(Uri::parse(&written), Ok(uri), "{text:?}");
        assert!(uri.user.is_none_or(|user| !user.contains('@')));
        uri.user_unescaped();
    }
}

/// What the scanner accepts, the framer cuts at the same place.
fn check_framing(bytes: &[u8], message: &Message<'_>) {
    if bytes.starts_with(b"\r") || message.value(HeaderName::ContentLength).is_none() {
        return;
    }
    let body = bytes.len() - message.body().as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
    let length = bytes.len() - body + message.body().len();
    let mut framer = Framer::default();
    framer.push(bytes).expect("within its limits");
    assert_eq!(framer.next(), Some(Ok(Frame::Message(bytes.get(..length).unwrap_or_default().to_vec()))));
}

/// What was read, written, and read again, is the same.
pub(crate) fn check_writing(message: &Message<'_>) {
    let mut writer = match message.start() {
        StartLine::Request { method, uri } => Writer::request(method.as_str(), uri),
        StartLine::Status { code, reason } => Writer::response(code, reason),
    };
    let kept = |name: &HeaderName<'_>| *name != HeaderName::ContentLength;
    for header in message.headers().filter(|header| kept(&header.name)) {
        writer.header(header.name.as_str(), unfold(header.value));
    }
    let bytes = writer.finish(message.body());
    // The length line is ours, and may be one more than there was room for.
    if bytes.len() > Limits::MESSAGE || message.headers().count() == Limits::HEADERS {
        return;
    }
    let again = Message::parse(&bytes).unwrap_or_else(|fault| panic!("{fault}: {}", bytes.escape_ascii()));
    assert_eq!((again.start(), again.body()), (message.start(), message.body()));
    let blanked = |text: &str| {
        text.replace(|character: char| character.is_ascii_control() && character != '\t', " ")
            .trim_matches([' ', '\t'])
            .to_owned()
    };
    let before = message
        .headers()
        .filter(|header| kept(&header.name))
        .map(|header| (header.name, blanked(&unfold(header.value))));
    let after = again
        .headers()
        .filter(|header| kept(&header.name))
        .map(|header| (header.name, header.value.to_owned()));
    assert!(before.eq(after), "{}", bytes.escape_ascii());
}

/// What is salvaged is a request that may be answered, and reads as the scanner reads it where that accepts it.
fn check_salvage(bytes: &[u8], accepted: Option<&Message<'_>>) {
    let salvaged = Message::salvage(bytes);
    if let Some(salvaged) = &salvaged {
        assert!(salvaged.method().is_some_and(|method| method != Method::Ack), "{}", bytes.escape_ascii());
        assert_eq!((salvaged.status(), salvaged.body()), (None, &b""[..]));
    }
    if let Some(accepted) = accepted {
        let answerable = accepted.method().is_some_and(|method| method != Method::Ack);
        assert_eq!(salvaged.is_some(), answerable, "{}", bytes.escape_ascii());
        assert!(salvaged.is_none_or(|salvaged| salvaged.headers().eq(accepted.headers())));
    }
}

/// Reads all there is to read and judges it; the message, where it was accepted.
pub(crate) fn read(bytes: &[u8]) -> Option<Message<'_>> {
    let accepted = Message::parse(bytes).ok();
    check_salvage(bytes, accepted.as_ref());
    let message = accepted?;
    for header in message.headers() {
        assert!(message.values(header.name).any(|value| value == header.value));
        read_value(header.value);
    }
    if let StartLine::Request { uri, .. } = message.start() {
        assert!(!uri.contains([' ', '<', '>', '"', '\r', '\n', '\0']));
        read_uri(uri);
    }
    if let Ok(essentials) = message.essentials() {
        assert!(message.method().is_none_or(|method| method == essentials.cseq.method));
        assert!(!essentials.call_id.is_empty() && essentials.call_id.len() <= Limits::CALL_ID);
    }
    check_framing(bytes, &message);
    Some(message)
}
