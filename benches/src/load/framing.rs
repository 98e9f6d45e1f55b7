//! What a generator must see in the messages that it gets, read as text and without our own parser.

use crate::templates::{CALL, REGISTRATION, between};

/// Length of the first whole message in a stream; a CRLF before it is a message of its own.
pub(super) fn first_message(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(bytes.get(..end)?);
    let lower = head.to_ascii_lowercase();
    let body = between(&lower, "\r\ncontent-length:", "\r\n").and_then(|it| it.trim().parse().ok());
    let length = end + body.unwrap_or(0);
    (bytes.len() >= length).then_some(length)
}

/// What an answer is about.
#[derive(Debug, PartialEq)]
pub(super) enum About {
    /// The REGISTER with this CSeq.
    Register(u32),
    /// A request of this call, by its method.
    Call(u64, String),
}

/// The status of an answer and what it is about; none where it is a request, or nothing of ours.
pub(super) fn answer(text: &str) -> Option<(u16, About)> {
    let status = text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
    let call_id = between(text, "\r\nCall-ID: ", "\r\n")?;
    let (number, method) = between(text, "\r\nCSeq: ", "\r\n")?.split_once(' ')?;
    if call_id.starts_with(REGISTRATION) {
        return Some((status, About::Register(number.parse().ok()?)));
    }
    let call = u64::from_str_radix(call_id.strip_prefix(CALL)?.get(..16)?, 16).ok()?;
    Some((status, About::Call(call, method.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_from_a_stream() {
        let message = b"SIP/2.0 200 OK\r\nContent-length: 3\r\n\r\nabcSIP".as_slice();
        assert_eq!(first_message(message), Some(message.len() - 3));
        assert_eq!(first_message(&message[..message.len() - 5]), None);
        assert_eq!(first_message(b"\r\nSIP"), Some(2));
        assert_eq!(first_message(b"SIP/2.0 200 OK\r\n"), None);
    }

    #[test]
    fn answers_are_told_apart() {
        let register = format!("SIP/2.0 401 No\r\nCall-ID: {REGISTRATION}10001\r\nCSeq: 7 REGISTER\r\n\r\n");
        assert_eq!(answer(&register), Some((401, About::Register(7))));
        let call = format!("SIP/2.0 200 OK\r\nCall-ID: {CALL}{:016x}\r\nCSeq: 2 BYE\r\n\r\n", 300);
        assert_eq!(answer(&call), Some((200, About::Call(300, "BYE".into()))));
        assert_eq!(answer("BYE sip:a SIP/2.0\r\nCall-ID: x\r\nCSeq: 2 BYE\r\n\r\n"), None);
    }
}
