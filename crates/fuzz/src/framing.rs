//! A stream: the same frames however it is cut into reads, and each frame stands for itself.

use wire::sip::{Frame, FrameError, Framer, Limits, Message};

/// The first byte says how the rest is cut.
pub(crate) fn run(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let (whole, rest) = frames(stream, stream.len().max(1));
    let (pieces, rest_of_pieces) = frames(stream, usize::from(*cut).max(1));
    assert_eq!((&whole, rest), (&pieces, rest_of_pieces), "in pieces of {cut}");
    let (by_byte, _) = frames(stream, 1);
    assert_eq!(whole, by_byte, "byte by byte");
    let mut length = 0;
    for message in whole.iter().flatten() {
        length += message.len();
        stands_for_itself(message);
    }
    assert!(length <= stream.len(), "more came out than went in");
}

/// The messages of a stream that comes in pieces of `size`, how it ended, and whether a message has begun.
/// Keepalives are left out: one that comes in two halves is one more.
fn frames(stream: &[u8], size: usize) -> (Vec<Result<Vec<u8>, FrameError>>, bool) {
    let mut framer = Framer::default();
    let mut found = Vec::new();
    for piece in stream.chunks(size) {
        if framer.push(piece).is_err() {
            break;
        }
        for frame in framer.by_ref() {
            match frame {
                Ok(Frame::Message(message)) => found.push(Ok(message)),
                Ok(Frame::Ping | Frame::Pong) => {}
                Err(fault) => found.push(Err(fault)),
            }
        }
    }
    (found, framer.is_partial())
}

/// A frame read alone is the same frame, and the parser finds its end where the framer did.
fn stands_for_itself(message: &[u8]) {
    assert!(message.len() <= Limits::MESSAGE);
    let (alone, rest) = frames(message, message.len());
    assert_eq!((alone, rest), (vec![Ok(message.to_vec())], false));
    if let Ok(parsed) = Message::parse(message) {
        assert!(message.ends_with(parsed.body()), "the body ends where the frame ends");
        let head = message.len() - parsed.body().len();
        assert!(
            message.get(..head).is_some_and(|head| head.ends_with(b"\r\n\r\n")),
            "and begins after the head"
        );
    }
}
