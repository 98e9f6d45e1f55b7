//! Spoiled messages, made from those of `sip_corpus` and a seed.

use crate::sip_corpus::files_of;

/// Spoiled messages without end, the same for the same seed.
#[derive(Debug)]
pub(crate) struct Mutants {
    corpus: Vec<Vec<u8>>,
    random: Random,
}

impl Mutants {
    pub(crate) fn new(seed: u64) -> Self {
        let files = files_of("sip_torture").into_iter().chain(files_of("sip_corpus"));
        Self { corpus: files.map(|(_, bytes)| bytes).collect(), random: Random(seed) }
    }

    /// The next one, with one to three mutations.
    pub(crate) fn draw(&mut self) -> Vec<u8> {
        let mut bytes = self.corpus.get(self.random.below(self.corpus.len())).expect("in range").clone();
        let other = self.corpus.get(self.random.below(self.corpus.len())).expect("in range");
        for _ in 0..=self.random.below(3) {
            mutate(&mut bytes, other, &mut self.random);
        }
        bytes
    }
}

/// xorshift64*: enough to choose bytes with.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
        usize::try_from(drawn % bound.max(1) as u64).expect("below a length")
    }
}

/// What parsers stumble over.
const BAIT: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"\r\n ",
    b"\r\n\r\n",
    b"\"",
    b"\\",
    b"<",
    b">",
    b";",
    b",",
    b"=",
    b"@",
    b":",
    b"?",
    b"%",
    b"%00",
    b"[",
    b"]",
    b"[::1]",
    b" ",
    b"\t",
    b"SIP/2.0",
    b"Content-Length: 5\r\n",
    b"l: 18446744073709551616\r\n",
    b"CSeq: 1 ACK\r\n",
    b"From: <sip:x@y>\r\n",
    b"\xc3",
    b"\xff",
    "é".as_bytes(),
    b"0",
    b"-1",
    b":65536",
    b";tag=x",
    b"sip:",
    b"tel:",
    b"*",
    b"/",
    b"\x7f",
];

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(24)).min(bytes.len());
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let copied: Vec<u8> = bytes.get(at..end).unwrap_or_default().to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copied);
        }
        3 => {
            let from = random.below(other.len());
            let piece = other.get(from..(from + random.below(80)).min(other.len())).unwrap_or_default();
            bytes.splice(at..end, piece.iter().copied());
        }
        4 => {
            let drawn = u8::try_from(random.below(256)).expect("a byte");
            bytes.splice(at..(at + 1).min(bytes.len()), [drawn]);
        }
        _ => {
            let bait = BAIT.get(random.below(BAIT.len())).expect("in range");
            bytes.splice(at..at, bait.iter().copied());
        }
    }
}
