//! Who opens connections, many of them, and wastes them: says nothing, or a byte now and then, half a message, blank
//! lines alone, or asks and goes in the midst of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wire::clock::Instant;
use wire::net::FlowId;

use crate::act::{Act, Path, Stage};
use crate::scenery::{DOMAIN, Places, SCANNER_CANARY};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug)]
enum Waste {
    Silent,
    Drip,
    Half,
    Ping,
    Reset,
}

const WASTES: [(Waste, &str); 5] = [
    (Waste::Silent, "connects and says nothing"),
    (Waste::Drip, "sends a byte now and then"),
    (Waste::Half, "sends half a message"),
    (Waste::Ping, "sends blank lines alone"),
    (Waste::Reset, "goes in the midst of a message"),
];

/// The number that its address ends in.
const NUMBER: u8 = 69;

/// One connection, and how much of its message was sent.
#[derive(Debug)]
struct Wasted {
    waste: Waste,
    sent: usize,
    /// He is gone from there.
    left: bool,
}

impl Wasted {
    /// What is done next on it, if anything.
    fn goes_on(&mut self, flow: FlowId, message: &[u8]) -> Option<Act> {
        let more = match self.waste {
            Waste::Drip if self.sent < message.len() => 1,
            Waste::Half | Waste::Reset if self.sent == 0 => message.len() / 2,
            Waste::Reset => {
                self.left = true;
                return Some(Act::Disconnect(flow));
            }
            Waste::Ping => return Some(Act::Send(Path::Stream(flow), b"\r\n\r\n".to_vec())),
            Waste::Silent | Waste::Drip | Waste::Half => return None,
        };
        let bytes = message.get(self.sent..self.sent + more)?.to_vec();
        self.sent += more;
        Some(Act::Send(Path::Stream(flow), bytes))
    }
}

/// Who does it.
pub(crate) struct Idler {
    places: Places,
    connections: BTreeMap<FlowId, Wasted>,
    at: Option<Instant>,
    port: u16,
}

impl Idler {
    /// One who begins soon.
    pub(crate) fn new(places: Places, stage: &mut Stage<'_>) -> Self {
        let at = Some(stage.now + stage.rng.millis(2_000, 15_000));
        Self { places, connections: BTreeMap::new(), at, port: 20_000 }
    }

    /// Where he is.
    pub(crate) fn ip(&self) -> IpAddr {
        self.places.scanner(NUMBER)
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.at
    }

    /// A connection is gone.
    pub(crate) fn on_closed(&mut self, flow: FlowId) {
        self.connections.remove(&flow);
    }

    /// A little of each, and perhaps more of them.
    pub(crate) fn on_timer(&mut self, stage: &mut Stage<'_>) {
        self.at =
            (stage.busy || !self.connections.is_empty()).then(|| stage.now + stage.rng.millis(300, 4_000));
        let message = message();
        for (flow, own) in &mut self.connections {
            stage.acts.extend(own.goes_on(*flow, message.as_bytes()));
        }
        self.connections.retain(|_, own| !own.left);
        if let Some(waste) = stage.busy.then(|| stage.choose(150, &WASTES)).flatten() {
            self.open(waste, stage);
        }
    }

    fn open(&mut self, waste: Waste, stage: &mut Stage<'_>) {
        let to = if stage.rng.chance(500) { self.places.tls() } else { self.places.tcp() };
        for _ in 0..stage.rng.between(1, 8) {
            self.port = self.port.checked_add(1).unwrap_or(20_000);
            let flow = stage.connect((self.ip(), self.port).into(), to);
            self.connections.insert(flow, Wasted { waste, sent: 0, left: false });
        }
    }
}

fn message() -> String {
    format!(
        "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.69;branch=z9hG4bKidle\r\n\
         From: <sip:1003@{DOMAIN}>;tag=idle\r\nTo: <sip:1003@{DOMAIN}>\r\nCall-ID: {SCANNER_CANARY}\r\n\
         CSeq: 1 REGISTER\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}
