//! Messages with one anomaly each, made as the PROTOS suite makes them: a sound message, an element of it, and
//! a value that such an element must not have, or not so much of.

/// A kind of anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// The value of a header field.
    Header,
    /// The Request-URI and the URIs of From, To and Contact.
    Uri,
    /// CSeq.
    CSeq,
    /// Content-Length.
    ContentLength,
    /// Folds, blanks and line ends.
    Folding,
}

/// All of them.
pub(crate) const FAMILIES: [Family; 5] =
    [Family::Header, Family::Uri, Family::CSeq, Family::ContentLength, Family::Folding];

/// The fields of a sound INVITE; each may be put out of order.
const FIELDS: [(&str, &str); 12] = [
    ("Via", "SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK1"),
    ("Max-Forwards", "70"),
    ("From", "\"A\" <sip:1001@voice.example>;tag=a"),
    ("To", "<sip:2001@voice.example>"),
    ("Call-ID", "1@192.0.2.1"),
    ("CSeq", "1 INVITE"),
    ("Contact", "<sip:1001@192.0.2.1:5060>;expires=60"),
    ("Expires", "60"),
    ("Authorization", "Digest username=\"1001\", realm=\"r\", nonce=\"n\", uri=\"sip:r\", response=\"0\""),
    ("Route", "<sip:192.0.2.2;lr>"),
    ("Subject", "x"),
    ("Content-Type", "application/sdp"),
];

const BODY: &[u8] = b"v=0\r\n";

/// Where an anomaly is put into a value.
const LENGTHS: [usize; 12] = [1, 2, 16, 127, 128, 255, 256, 511, 512, 1_024, 8_192, 65_536];

/// What stands in place of a value, before it, after it or within it.
const PIECES: [&[u8]; 44] = [
    b"",
    b" ",
    b"\t",
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x7f",
    b"\xff",
    b"\xc3\xa9",
    b"\xc3",
    b"\xed\xa0\x80",
    b"%",
    b"%00",
    b"%s%s%s%s",
    b"%n%n%n%n",
    b"%x%p%d",
    b"%zz",
    b"\"",
    b"\"\"",
    b"\"\\\"",
    b"\\",
    b"\"a\"b\"",
    b"<",
    b">",
    b"<>",
    b"<<",
    b">>",
    b"<sip:a@b",
    b"sip:",
    b"sip:a@b@c",
    b";",
    b";;",
    b";=",
    b";tag",
    b";tag=b",
    b",",
    b",,",
    b"=",
    b"@",
    b":",
    b"::",
    b"()",
    b"[]",
];

const NUMBERS: [&str; 22] = [
    "",
    "-1",
    "+1",
    " 1",
    "1 ",
    "0",
    "00000000000000000000001",
    "1.0",
    "1e9",
    "0x1",
    "1,1",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999999999999999",
];

const URIS: [&str; 30] = [
    "",
    "sip",
    "sip:",
    "sip:@",
    "sip:@b",
    "sip:a@",
    ":a@b",
    "//a@b",
    "sip://a@b",
    "sip:a b@c",
    "sip:a@b c",
    "sip:a@b:",
    "sip:a@b:0",
    "sip:a@b:65536",
    "sip:a@b:-1",
    "sip:a@[::1",
    "sip:a@::1",
    "sip:a@[::1]x",
    "sip:a@1.2.3",
    "sip:a@1.2.3.4.5",
    "sip:a@256.1.1.1",
    "sip:a@b;",
    "sip:a@b;;lr",
    "sip:a@b;x=",
    "sip:a@b?",
    "sip:a%@b",
    "sip:a%4@b",
    "sip:%00@b",
    "tel:",
    "unknown:a",
];

const FOLDS: [&[u8]; 14] = [
    b"\r\n ",
    b"\r\n\t",
    b"\r\n  \r\n  ",
    b"\n ",
    b"\r ",
    b"\r\n",
    b"\r\n\r\n",
    b"\r\r\n ",
    b"\n\r ",
    b" \r\n \r\n",
    b"\r\n \0",
    b"\x0b",
    b"\x0c",
    b"\xc2\xa0",
];

/// Anomalies of one family without end, the same for the same seed.
pub(crate) fn anomaly(family: Family, below: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> =
        FIELDS.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    let mut uri = b"sip:2001@voice.example".to_vec();
    let mut length = format!("Content-Length: {}", BODY.len()).into_bytes();
    let at = below(fields.len());
    match family {
        Family::Header => {
            let piece = repeated(PIECES[below(PIECES.len())], below);
            put(&mut fields[at].1, &piece, below);
        }
        Family::Uri => {
            let odd = URIS[below(URIS.len())].as_bytes().to_vec();
            match below(3) {
                0 => uri = odd,
                1 => fields[[2, 3, 6][below(3)]].1 = [b"<", odd.as_slice(), b">;tag=a"].concat(),
                _ => put(&mut uri, &repeated(PIECES[below(PIECES.len())], below), below),
            }
        }
        Family::CSeq => {
            let methods = ["INVITE", "invite", "ACK", "", "INV ITE", "INVITE;x", "\u{e9}", "\0"];
            let blank = [" ", "", "\t", "  ", "\r\n "][below(5)];
            let number = NUMBERS[below(NUMBERS.len())];
            fields[5].1 = format!("{number}{blank}{}", methods[below(methods.len())]).into_bytes();
        }
        Family::ContentLength => {
            let number = NUMBERS[below(NUMBERS.len())];
            let name =
                ["Content-Length: ", "l:", "Content-Length :", "CONTENT-LENGTH:\r\n ", "L\t: "][below(5)];
            let again = ["", "\r\nContent-Length: 5", "\r\nl: 5", "\r\nl: 0"][below(4)];
            length = format!("{name}{number}{again}").into_bytes();
        }
        Family::Folding => {
            let fold = FOLDS[below(FOLDS.len())];
            match below(4) {
                0 => put(&mut fields[at].0, fold, below),
                1 => put(&mut length, fold, below),
                2 => put(&mut uri, fold, below),
                _ => put(&mut fields[at].1, fold, below),
            }
        }
    }
    written(&uri, &fields, &length)
}

/// A piece as often as fills one of the lengths at which buffers end.
fn repeated(piece: &[u8], below: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let length = if below(3) == 0 { LENGTHS[below(LENGTHS.len())] } else { 1 };
    piece.repeat(length.div_ceil(piece.len().max(1)))
}

/// In place of the value, before, after or within it.
fn put(value: &mut Vec<u8>, piece: &[u8], below: &mut impl FnMut(usize) -> usize) {
    let at = below(value.len() + 1);
    match below(4) {
        0 => *value = piece.to_vec(),
        1 => value.extend_from_slice(piece),
        _ => drop(value.splice(at..at, piece.iter().copied())),
    }
}

fn written(uri: &[u8], fields: &[(Vec<u8>, Vec<u8>)], length: &[u8]) -> Vec<u8> {
    let mut bytes = [b"INVITE ", uri, b" SIP/2.0\r\n"].concat();
    for (name, value) in fields {
        bytes.extend([name.as_slice(), b": ", value, b"\r\n"].concat());
    }
    bytes.extend([length, b"\r\n\r\n", BODY].concat());
    bytes
}
