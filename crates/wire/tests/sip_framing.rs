//! Streams cut into frames, however they are cut into reads.
#![expect(clippy::expect_used, reason = "a test ends where its own ground gives way")]

mod sip_corpus;

use wire::sip::{Frame, FrameError, Framer, Limits, Message};

/// All frames of a stream that comes in pieces of `size`; pongs left out, since a ping that comes in two
/// halves has one more.
fn frames(stream: &[u8], size: usize) -> Result<Vec<Frame>, FrameError> {
    let mut framer = Framer::default();
    let mut found = Vec::new();
    for piece in stream.chunks(size) {
        framer.push(piece)?;
        for frame in framer.by_ref() {
            found.push(frame?);
        }
    }
    assert!(!framer.is_partial(), "nothing is left over");
    found.retain(|frame| *frame != Frame::Pong);
    Ok(found)
}

fn fault(stream: &[u8]) -> FrameError {
    let whole = frames(stream, stream.len()).expect_err("refused");
    let by_byte = frames(stream, 1).expect_err("refused");
    assert_eq!(whole, by_byte, "the reason does not hang on the reads");
    whole
}

fn message(headers: &str, body: &str) -> Vec<u8> {
    format!("OPTIONS sip:a@b SIP/2.0\r\n{headers}\r\n{body}").into_bytes()
}

#[test]
fn any_reads_give_the_same_frames() {
    let mut stream = b"\r\n\r\n".to_vec();
    let mut expected = vec![Frame::Ping];
    for (name, bytes) in sip_corpus::files_of("sip_corpus") {
        stream.extend_from_slice(&bytes);
        assert!(Message::parse(&bytes).is_ok(), "{name}");
        expected.push(Frame::Message(bytes));
    }
    stream.extend_from_slice(b"\r\n\r\n");
    expected.push(Frame::Ping);
    for size in (1..64).chain([100, 500, 1000, stream.len()]) {
        assert_eq!(frames(&stream, size).as_ref(), Ok(&expected), "pieces of {size}");
    }
    for split in 0..stream.len() {
        let mut framer = Framer::default();
        let (first, second) = stream.split_at(split);
        framer.push(first).expect("fits");
        let mut found: Vec<_> = framer.by_ref().collect();
        framer.push(second).expect("fits");
        found.extend(framer.by_ref());
        found.retain(|frame| *frame != Ok(Frame::Pong));
        let expected: Vec<_> = expected.iter().cloned().map(Ok).collect();
        assert_eq!(found, expected, "split at {split}");
    }
}

#[test]
fn keepalives_are_told_from_the_line_ends_before_a_message() {
    let mut framer = Framer::default();
    framer.push(b"\r\n").expect("fits");
    assert_eq!(framer.next(), Some(Ok(Frame::Pong)));
    framer.push(b"\r\n").expect("fits");
    assert_eq!(framer.next(), Some(Ok(Frame::Ping)), "the second half makes it one");
    assert_eq!(framer.next(), None);
    let request = message("l: 0\r\n", "");
    framer.push(b"\r\n").expect("fits");
    framer.push(&request).expect("fits");
    assert_eq!(framer.next(), Some(Ok(Frame::Pong)));
    assert_eq!(framer.next(), Some(Ok(Frame::Message(request))));
    framer.push(b"\r\n\r").expect("fits");
    assert_eq!(framer.next(), Some(Ok(Frame::Pong)), "a pong after a message is no ping");
    assert!(!framer.is_partial(), "half a line end begins no message");
    framer.push(b"X").expect("fits");
    assert_eq!(framer.next(), Some(Err(FrameError::LineEnd)));
}

#[test]
fn a_ping_that_comes_whole_is_a_ping_alone() {
    let mut framer = Framer::default();
    framer.push(b"\r\n\r\n\r\n\r\n\r\n").expect("fits");
    let found: Vec<_> = framer.by_ref().collect();
    assert_eq!(found, [Ok(Frame::Ping), Ok(Frame::Ping), Ok(Frame::Pong)]);
}

#[test]
fn partial_says_whether_a_message_has_begun() {
    let mut framer = Framer::default();
    assert!(!framer.is_partial());
    let request = message("l: 2\r\n", "hi");
    for at in 1..request.len() {
        framer.push(request.get(at - 1..at).expect("in range")).expect("fits");
        assert_eq!(framer.next(), None);
        assert!(framer.is_partial(), "after {at} bytes");
    }
    framer.push(b"i").expect("fits");
    assert_eq!(framer.next(), Some(Ok(Frame::Message(request))));
    assert!(!framer.is_partial());
}

#[test]
fn content_length_stands_once_and_is_a_number() {
    assert_eq!(fault(&message("CSeq: 1 OPTIONS\r\n", "")), FrameError::NoContentLength);
    for doubled in
        ["l: 5\r\nContent-Length: 6\r\n", "l: 5\r\nl: 5\r\n", "CONTENT-LENGTH : 5\r\nX: y\r\nL:5\r\n"]
    {
        assert_eq!(fault(&message(doubled, "12345")), FrameError::ContentLength, "{doubled}");
    }
    for bad in
        ["-1", "+5", "", "5 5", "5,5", "0x5", "5;", "18446744073709551616", "4294967296", "65537", "５"]
    {
        assert_eq!(
            fault(&message(&format!("Content-Length: {bad}\r\n"), "12345")),
            FrameError::ContentLength,
            "{bad}"
        );
    }
    for good in ["l:5\r\n", "Content-length \t: \t00005 \r\n", "L:\r\n 5\r\n", "X: y\r\n l: 7\r\nl: 5\r\n"] {
        let bytes = message(good, "12345");
        assert_eq!(frames(&bytes, 1), Ok(vec![Frame::Message(bytes.clone())]), "{good}");
    }
}

#[test]
fn line_ends_are_crlf() {
    for bad in ["X: y\nl: 0\r\n", "X: y\rl: 0\r\n", "X: y\n\n", "l: 0\r\r\n", "X: y\r\n\nl: 0\r\n"] {
        assert_eq!(fault(&message(bad, "")), FrameError::LineEnd, "{bad:?}");
    }
    assert_eq!(fault(b"\nOPTIONS"), FrameError::LineEnd);
}

#[test]
fn limits_end_a_stream_before_memory_does() {
    let long = "x".repeat(Limits::FIELD);
    assert_eq!(fault(&message(&format!("X: {long}\r\nl: 0\r\n"), "")), FrameError::TooLong, "one field");
    assert_eq!(fault(&message(&format!("X: {long}"), "")), FrameError::TooLong, "a field without an end");
    let folded = "X: y\r\n".to_owned() + &" z\r\n".repeat(Limits::FIELD / 4);
    assert_eq!(fault(&message(&(folded + "l: 0\r\n"), "")), FrameError::TooLong, "a field of many lines");
    let many = "X: 0123456789\r\n".repeat(Limits::MESSAGE / 15 + 1);
    assert_eq!(fault(&message(&many, "")), FrameError::TooLong, "no end of headers");
    let large = message(&format!("l: {}\r\n", Limits::MESSAGE), "");
    assert_eq!(fault(&large), FrameError::TooLong, "head and body together");
}

#[test]
fn the_largest_message_passes() {
    let head = message(&format!("l: {:05}\r\n", 0), "").len();
    let body = "b".repeat(Limits::MESSAGE - head);
    let bytes = message(&format!("l: {}\r\n", body.len()), &body);
    assert_eq!(bytes.len(), Limits::MESSAGE);
    assert_eq!(frames(&bytes, 4096), Ok(vec![Frame::Message(bytes.clone())]));
    assert!(Message::parse(&bytes).is_ok());
}

#[test]
fn a_failed_stream_says_so_once_and_takes_nothing_more() {
    let mut framer = Framer::default();
    framer.push(b"X\n").expect("fits");
    assert_eq!(framer.next(), Some(Err(FrameError::LineEnd)));
    assert_eq!(framer.next(), None);
    assert_eq!(framer.push(&message("l: 0\r\n", "")), Err(FrameError::LineEnd));
    assert_eq!(framer.next(), None);
    assert!(!framer.is_partial());
}

#[test]
fn a_reader_that_takes_no_frames_is_stopped() {
    let mut framer = Framer::default();
    let request = message("l: 0\r\n", "");
    let pushed = (0..10_000).find(|_| framer.push(&request).is_err()).expect("there is a bound");
    assert!(pushed * request.len() <= Limits::MESSAGE * 2);
    assert_eq!(framer.next(), None, "what was not taken in time is gone");
}

#[test]
fn many_messages_in_one_read_are_all_found() {
    let request = message("l: 3\r\n", "abc");
    let count = 60_000 / request.len();
    let found = frames(&request.repeat(count), 60_000).expect("sound");
    assert_eq!(found.len(), count);
    assert!(found.iter().all(|frame| *frame == Frame::Message(request.clone())));
}

/// What comes of a stream before its end, in one read and byte by byte.
fn begun(stream: &[u8]) -> Option<Result<Frame, FrameError>> {
    let mut whole = Framer::default();
    whole.push(stream).expect("fits");
    let found = whole.next();
    let mut slow = Framer::default();
    let by_byte = stream.chunks(1).find_map(|byte| {
        slow.push(byte).expect("fits");
        slow.next()
    });
    assert!(found == by_byte, "the same however it is read");
    found
}

#[test]
fn each_limit_lets_its_last_byte_through() {
    let too_long = Some(Err(FrameError::TooLong));
    let field = |length: usize| format!("X: {}", "x".repeat(length - 3));
    let whole = |length: usize| message(&format!("{}\r\nl: 0\r\n", field(length)), "");
    assert!(begun(&whole(Limits::FIELD)) == Some(Ok(Frame::Message(whole(Limits::FIELD)))));
    assert!(begun(&whole(Limits::FIELD + 1)) == too_long, "a whole field");
    // One after the other is no longer field.
    let two = message(&format!("{0}\r\n{0}\r\nl: 0\r\n", field(Limits::FIELD)), "");
    assert!(begun(&two) == Some(Ok(Frame::Message(two))));
    let folded = format!("{}\r\n {}", field(Limits::FIELD / 2), "y".repeat(Limits::FIELD / 2 - 3));
    assert_eq!(folded.len(), Limits::FIELD);
    let folded_whole = |more: &str| message(&format!("{folded}{more}\r\nl: 0\r\n"), "");
    assert!(begun(&folded_whole("")) == Some(Ok(Frame::Message(folded_whole("")))));
    assert!(begun(&folded_whole("y")) == too_long, "a field of two lines");
    let folded_open = |more: &str| format!("OPTIONS sip:a@b SIP/2.0\r\n{folded}{more}").into_bytes();
    assert_eq!(begun(&folded_open("yy")), None);
    assert_eq!(begun(&folded_open("yyy")), too_long, "two lines without an end");
    // Its line end may be on its way.
    let open = |length: usize| format!("OPTIONS sip:a@b SIP/2.0\r\n{}", field(length)).into_bytes();
    assert_eq!(begun(&open(Limits::FIELD + 2)), None);
    assert_eq!(begun(&open(Limits::FIELD + 3)), too_long, "a field without an end");
    // Short fields, until the header section alone is as long as a message may be.
    let mut headers = b"OPTIONS sip:a@b SIP/2.0\r\n".to_vec();
    while headers.len() + 200 < Limits::MESSAGE {
        headers.extend_from_slice(format!("{}\r\n", field(98)).as_bytes());
    }
    let up_to = |length: usize| [&headers[..], field(length - headers.len()).as_bytes()].concat();
    assert_eq!(begun(&up_to(Limits::MESSAGE)), None);
    assert_eq!(begun(&up_to(Limits::MESSAGE + 1)), too_long, "header fields without an end");
    let ended = |length: usize| [&up_to(length - 2)[..], b"\r\n"].concat();
    assert_eq!(begun(&ended(Limits::MESSAGE)), None);
    assert_eq!(begun(&ended(Limits::MESSAGE + 1)), too_long, "a line");
    let closed = [&ended(Limits::MESSAGE + 1)[..], b"\r\n"].concat();
    assert_eq!(begun(&closed), too_long, "before what it lacks");
}

#[test]
fn a_message_that_lacks_a_byte_and_a_read_find_room() {
    let mut framer = Framer::default();
    let head = message(&format!("l: {:05}\r\n", 0), "").len();
    let body = "b".repeat(Limits::MESSAGE - head);
    let large = message(&format!("l: {}\r\n", body.len()), &body);
    let (last, begun) = large.split_last().expect("it is not empty");
    framer.push(begun).expect("fits");
    assert_eq!(framer.next(), None);
    let mut read = vec![*last];
    read.resize(Limits::MESSAGE + 1, b'x');
    framer.push(&read).expect("a read fits behind it");
    assert_eq!(framer.next(), Some(Ok(Frame::Message(large))));
    let mut full = Framer::default();
    full.push(&vec![b'x'; Limits::MESSAGE * 2]).expect("the last byte fits");
    assert_eq!(full.push(b"x"), Err(FrameError::TooLong));
}

#[test]
fn each_fault_is_told_in_the_same_words_everywhere() {
    for (fault, words) in [
        (FrameError::TooLong, "message or field too long"),
        (FrameError::LineEnd, "line end is not CRLF"),
        (FrameError::NoContentLength, "no Content-Length"),
        (FrameError::ContentLength, "malformed or repeated Content-Length"),
    ] {
        assert_eq!((fault.as_str(), fault.to_string().as_str()), (words, words));
    }
}
