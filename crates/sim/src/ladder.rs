//! What was said, kept as short lines, and printed as a ladder for one call.

use std::fmt::Write;
use std::net::SocketAddr;

use wire::clock::Instant;

use crate::text::{Text, tag_of};

/// One message.
#[derive(Clone, Debug)]
struct Rung {
    step: u64,
    at: Instant,
    from: String,
    to: String,
    line: String,
    /// Tags and Call-ID, to find the call by: tags cross the border unchanged.
    names: [String; 3],
    bytes: Vec<u8>,
}

/// The newest messages of a run.
#[derive(Debug, Default)]
pub struct Ladder {
    rungs: Vec<Rung>,
}

/// Messages that are kept.
const KEPT: usize = 60_000;

impl Ladder {
    /// Keeps a message.
    pub fn note(&mut self, step: u64, at: Instant, from: &str, to: SocketAddr, bytes: &[u8]) {
        if self.rungs.len() >= KEPT {
            self.rungs.drain(..KEPT / 2);
        }
        let text = Text::parse(bytes);
        let line = text.as_ref().map_or_else(
            || format!("({} bytes)", bytes.len()),
            |text| format!("{} | CSeq {} | {}", text.start, text.header("CSeq"), text.branch()),
        );
        let tag = |name| text.as_ref().and_then(|text| tag_of(text.header(name)).map(str::to_owned));
        let names = [
            tag("From").unwrap_or_default(),
            tag("To").unwrap_or_default(),
            text.as_ref().map(|text| text.header("Call-ID").to_owned()).unwrap_or_default(),
        ];
        let to = place(to);
        self.rungs.push(Rung { step, at, from: from.to_owned(), to, line, names, bytes: bytes.to_vec() });
    }

    /// The messages that bear a name (a tag, or a Call-ID); all of the last ones for an empty name.
    pub fn print(&self, name: &str) -> String {
        let chosen: Vec<&Rung> = if name.is_empty() {
            self.rungs.iter().skip(self.rungs.len().saturating_sub(60)).collect()
        } else {
            self.rungs.iter().filter(|rung| rung.names.iter().any(|own| own == name)).collect()
        };
        let mut out = String::new();
        for rung in chosen.iter().skip(chosen.len().saturating_sub(120)) {
            let Rung { step, from, to, line, .. } = rung;
            let secs = rung.at.since(Instant::ZERO).as_secs_f64();
            writeln!(out, "{step:>7} {secs:>10.3}  {from:<22} -> {to:<22} {line}").unwrap_or_default();
        }
        if let Some(last) = chosen.last() {
            writeln!(out, "\nthe last of them:\n{}", String::from_utf8_lossy(&last.bytes))
                .unwrap_or_default();
        }
        out
    }
}

/// An address as the ladder names it.
pub fn place(address: SocketAddr) -> String {
    let side = match address.ip() {
        ip if ip == crate::scenery::PBX_IP => "pbx",
        ip if ip == crate::scenery::INSIDE_IP => "inside",
        ip if ip == crate::scenery::OUTSIDE_IP => "outside",
        ip if ip.to_string().starts_with("192.0.2.") => "scanner",
        _ => "phone",
    };
    format!("{side} {address}")
}
