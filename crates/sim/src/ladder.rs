//! What was said, kept as it travelled, and drawn as a ladder for one call: phone, border, PBX.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use wire::clock::Instant;
use wire::net::Side;

use crate::scenery;
use crate::text::{Text, uri_of, user_of};

/// Messages that are kept, and bytes of them.
const RUNGS_MAX: usize = 60_000;
const BYTES_MAX: usize = 16 << 20;
/// Messages that are drawn of one call, and where no call is known.
const DRAWN_MAX: usize = 160;
const LAST_SHOWN: usize = 60;
/// Characters between two lines of the ladder.
const WIDTH: usize = 38;

/// One message, as the border heard or said it.
#[derive(Clone, Debug)]
struct Rung {
    step: u64,
    at: Instant,
    side: Side,
    sent: bool,
    peer: SocketAddr,
    bytes: Bytes,
}

/// The newest messages of a run.
#[derive(Debug, Default)]
pub struct Ladder {
    rungs: VecDeque<Rung>,
    bytes: usize,
}

impl Ladder {
    /// Keeps a message that came from a peer of the border, or was sent to it.
    pub(crate) fn note(
        &mut self,
        step: u64,
        at: Instant,
        (side, sent): (Side, bool),
        peer: SocketAddr,
        bytes: &Bytes,
    ) {
        self.bytes += bytes.len();
        self.rungs.push_back(Rung { step, at, side, sent, peer, bytes: bytes.clone() });
        while self.rungs.len() > RUNGS_MAX || self.bytes > BYTES_MAX {
            let oldest = self.rungs.pop_front();
            self.bytes -= oldest.map_or(0, |rung| rung.bytes.len());
        }
    }

    /// The messages of the call that a tag or a Call-ID belongs to; the last ones for an empty name. With a
    /// registration come those that the border makes inside for the same extension.
    pub fn print(&self, name: &str) -> String {
        let read: Vec<(&Rung, Option<Text>)> =
            self.rungs.iter().map(|rung| (rung, Text::parse(&rung.bytes))).collect();
        let mut drawn: Vec<_> = if name.is_empty() {
            read.iter().collect()
        } else {
            // Tags cross the border unchanged, Call-IDs do not.
            let own = read.iter().filter_map(|(_, text)| text.as_ref().filter(|text| bears(text, name)));
            let registered: BTreeSet<&str> = own.clone().filter_map(registers).collect();
            let tags: BTreeSet<&str> = own.map(Text::from_tag).filter(|tag| !tag.is_empty()).collect();
            let of_call = |text: &Text| {
                bears(text, name) || tags.contains(text.from_tag()) || tags.contains(text.to_tag())
            };
            let is_meant = |(rung, text): &&(&Rung, Option<Text>)| {
                text.as_ref().is_some_and(|text| {
                    let made_inside = || registers(text).is_some_and(|name| registered.contains(name));
                    of_call(text) || rung.side == Side::Inside && made_inside()
                })
            };
            read.iter().filter(is_meant).collect()
        };
        let shown = if name.is_empty() { LAST_SHOWN } else { DRAWN_MAX };
        let left_out = drawn.len().saturating_sub(shown);
        drawn.drain(..left_out);
        draw(&drawn, left_out)
    }
}

fn bears(text: &Text, name: &str) -> bool {
    [text.from_tag(), text.to_tag(), text.header("Call-ID")].contains(&name)
}

/// The extension that a REGISTER is about, or its answer.
fn registers(text: &Text) -> Option<&str> {
    (text.method() == "REGISTER").then(|| user_of(uri_of(text.header("To"))))
}

fn draw(drawn: &[&(&Rung, Option<Text>)], left_out: usize) -> String {
    let mut out =
        format!("{:>7} {:>10}  {:<12}{:<WIDTH$}  border{:WIDTH$}PBX\n", "step", "seconds", "peer", "", "");
    if left_out > 0 {
        out.push_str(&format!("{:20}({left_out} earlier messages)\n", ""));
    }
    let mut before = BTreeSet::new();
    for (rung, text) in drawn {
        let again = !before.insert((rung.side, rung.sent, &rung.bytes));
        let blank = " ".repeat(WIDTH);
        let arrow = arrow(&words(rung, text.as_ref(), again), rung.sent == (rung.side == Side::Inside));
        let (left, right) = match rung.side {
            Side::Outside => (arrow, blank),
            Side::Inside => (blank, arrow),
        };
        let seconds = rung.at.since(Instant::ZERO).as_secs_f64();
        let line = format!("{:>7} {seconds:>10.3}  {:<12}│{left}│{right}│", rung.step, peer(rung));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    if let Some((rung, _)) = drawn.last() {
        out.push_str(&format!("\nthe last of them:\n{}\n", String::from_utf8_lossy(&rung.bytes)));
    }
    out
}

/// What stands on an arrow: method and target, or status and method; then the number of the CSeq.
fn words(rung: &Rung, text: Option<&Text>, again: bool) -> String {
    let Some(text) = text else { return format!("({} bytes)", rung.bytes.len()) };
    let what = match text.code() {
        Some(code) => format!("{code} {}", text.method()),
        None => format!("{} {}", text.method(), text.uri().trim_start_matches("sip:")),
    };
    let number = format!(" #{}{}", text.cseq(), if again { " again" } else { "" });
    let room = WIDTH - 5 - number.chars().count().min(WIDTH - 5);
    what.chars().take(room).chain(number.chars()).collect()
}

/// `── INVITE ────▶`, as wide as the ladder.
fn arrow(words: &str, to_the_right: bool) -> String {
    let rest = "─".repeat(WIDTH.saturating_sub(words.chars().count() + 4));
    if to_the_right { format!("─ {words} {rest}▶") } else { format!("◀{rest} {words} ─") }
}

fn peer(rung: &Rung) -> String {
    let ip = rung.peer.ip();
    match rung.side {
        Side::Inside => ip.to_string(),
        Side::Outside => match (scenery::phone_at(ip), scenery::scanner_at(ip)) {
            (Some(number), _) => format!("phone {number}"),
            (None, Some(number)) => format!("scanner {number}"),
            (None, None) => ip.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenery::Places;

    fn invite(call_id: &str, tag: &str) -> Bytes {
        let text = Text::request("INVITE", "sip:2001@voice.example")
            .with("From", format!("<sip:1001@voice.example>;tag={tag}"))
            .with("To", "<sip:2001@voice.example>")
            .with("Call-ID", call_id)
            .with("CSeq", "7 INVITE");
        text.render().into()
    }

    #[test]
    fn both_legs_of_a_call_are_drawn_and_nothing_else() {
        let mut ladder = Ladder::default();
        let places = Places::default();
        let (phone, at) = (SocketAddr::new(places.phone(11), 5070), Instant::ZERO + Duration::from_secs(2));
        ladder.note(5, at, (Side::Outside, false), phone, &invite("outer", "a"));
        ladder.note(5, at, (Side::Inside, true), places.pbx(0), &invite("inner", "a"));
        ladder.note(6, at, (Side::Outside, false), phone, &invite("other", "b"));
        ladder.note(9, at, (Side::Outside, false), phone, &invite("outer", "a"));
        let drawn = ladder.print("outer");
        let lines: Vec<&str> = drawn.lines().skip(1).take(4).collect();
        assert_eq!(
            lines,
            [
                "      5      2.000  phone 11    │─ INVITE 2001@voice.example #7 ──────▶│                                      │",
                "      5      2.000  10.77.0.2   │                                      │─ INVITE 2001@voice.example #7 ──────▶│",
                "      9      2.000  phone 11    │─ INVITE 2001@voice.exampl #7 again ─▶│                                      │",
                "",
            ]
        );
        assert!(ladder.print("").contains("      6 "));
    }

    #[test]
    fn a_registration_is_drawn_with_what_it_becomes_inside() {
        let register = |name: &str, call_id: &str, tag: &str| -> Bytes {
            let text = Text::request("REGISTER", "sip:voice.example")
                .with("From", format!("<sip:{name}@voice.example>;tag={tag}"))
                .with("To", format!("<sip:{name}@voice.example>"))
                .with("Call-ID", call_id)
                .with("CSeq", "7 REGISTER");
            text.render().into()
        };
        let mut ladder = Ladder::default();
        let places = Places::default();
        let (phone, other) =
            (SocketAddr::new(places.phone(11), 5070), SocketAddr::new(places.phone(12), 5070));
        let (out, inside) = ((Side::Outside, false), (Side::Inside, true));
        ladder.note(1, Instant::ZERO, out, phone, &register("1001", "phone's", "a"));
        ladder.note(2, Instant::ZERO, inside, places.pbx(0), &register("1001", "border's", "b"));
        ladder.note(3, Instant::ZERO, out, other, &register("1001", "another's", "c"));
        ladder.note(4, Instant::ZERO, inside, places.pbx(0), &register("1002", "border's too", "d"));
        ladder.note(5, Instant::ZERO, inside, places.pbx(0), &invite("a call", "e"));
        let drawn = ladder.print("phone's");
        let steps = drawn.lines().filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        assert_eq!(steps.collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut ladder = Ladder::default();
        let (phone, bytes) =
            (SocketAddr::new(Places::default().phone(11), 5070), Bytes::from(vec![b'x'; BYTES_MAX / 4]));
        for step in 0..9 {
            ladder.note(step, Instant::ZERO, (Side::Outside, false), phone, &bytes);
        }
        assert_eq!(ladder.rungs.iter().map(|rung| rung.step).collect::<Vec<_>>(), [5, 6, 7, 8]);
    }
}
