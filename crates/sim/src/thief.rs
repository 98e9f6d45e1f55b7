//! Who comes by TLS with a certificate that is valid, and is not that of whom he says he is: a telephone taken from
//! another desk, one that no extension lists, one whose identity says too much or nothing.

use std::net::{IpAddr, SocketAddr};

use wire::clock::Instant;
use wire::net::FlowId;

use crate::act::{Act, Path, Stage};
use crate::scenery::{DOMAIN, Places, THIEF_CANARY};
use crate::text::Text;

/// What he tries.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Register,
    Call,
    Speak,
}

const DEEDS: [(Deed, &str); 5] = [
    (Deed::Register, "registers by another's certificate"),
    (Deed::Register, "registers by another's certificate"),
    (Deed::Register, "registers by another's certificate"),
    (Deed::Call, "calls by another's certificate"),
    (Deed::Speak, "speaks by another's certificate"),
];

/// What stands in the identity field of his certificates: the device of extension 1002, one that nobody lists, two at
/// once, none, and none that can be read. Never that of an extension in [`WANTED`].
const CARDS: [&[&str]; 5] =
    [&["009033010021"], &["009033019999"], &["009033010011", "009033010012"], &[], &["the desk by the door"]];

/// Whom he says he is: who comes by a certificate, and by a password, and nobody at all.
const WANTED: [&str; 6] = ["1001", "1001", "1003", "1004", "1005", "1777"];

/// Those of them who come by a password: so may he, and what he is called by may cross.
const BY_PASSWORD: [&str; 2] = ["1003", "1004"];

/// The number that his address ends in.
const NUMBER: u8 = 72;

/// The most that he says by one certificate, before he tries the next.
const SAYS_MAX: u64 = 4;

/// Who does it.
pub(crate) struct Thief {
    places: Places,
    /// By which certificate, and how much more he says by it.
    connection: Option<(FlowId, usize, u64)>,
    at: Option<Instant>,
    port: u16,
}

impl Thief {
    /// One who begins soon.
    pub(crate) fn new(places: Places, stage: &mut Stage<'_>) -> Self {
        let at = Some(stage.now + stage.rng.millis(1_000, 15_000));
        Self { places, connection: None, at, port: 30_000 }
    }

    /// Where he is.
    pub(crate) fn ip(&self) -> IpAddr {
        self.places.scanner(NUMBER)
    }

    /// What the certificate of a connection says of its device.
    pub(crate) fn identity(&self, flow: FlowId) -> Option<&'static [&'static str]> {
        let (_, card, _) = self.connection.filter(|(own, ..)| *own == flow)?;
        CARDS.get(card).copied()
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.at
    }

    /// A connection is gone.
    pub(crate) fn on_closed(&mut self, flow: FlowId) {
        self.connection = self.connection.filter(|(own, ..)| *own != flow);
    }

    /// The next attempt.
    pub(crate) fn on_timer(&mut self, stage: &mut Stage<'_>) {
        let deed = stage.busy.then(|| stage.choose(600, &DEEDS)).flatten();
        self.at = stage.busy.then(|| stage.now + stage.rng.millis(1_000, 18_000));
        if let Some(deed) = deed {
            let flow = self.connect(stage);
            let text = self.request(deed, stage);
            stage.send(Path::Stream(flow), &text);
        }
        if !stage.busy
            && let Some((flow, ..)) = self.connection.take()
        {
            stage.acts.push(Act::Disconnect(flow));
        }
    }

    /// By the certificate that he has shown, or by the next.
    fn connect(&mut self, stage: &mut Stage<'_>) -> FlowId {
        match &mut self.connection {
            Some((flow, _, left)) if *left > 0 => {
                *left -= 1;
                return *flow;
            }
            Some((flow, ..)) => stage.acts.push(Act::Disconnect(*flow)),
            None => {}
        }
        self.port = self.port.checked_add(1).unwrap_or(30_000);
        let flow = stage.connect(SocketAddr::new(self.ip(), self.port), self.places.tls());
        let card = usize::try_from(stage.rng.below(CARDS.len() as u64)).unwrap_or(0);
        self.connection = Some((flow, card, stage.rng.below(SAYS_MAX)));
        flow
    }

    fn request(&self, deed: Deed, stage: &mut Stage<'_>) -> Text {
        let name = *stage.rng.pick(&WANTED).unwrap_or(&"1001");
        // any other domain is refused as an unknown name is
        let domain = if stage.rng.chance(100) { "elsewhere.example" } else { DOMAIN };
        let own = format!("sip:{name}@{domain}");
        let (method, uri, to) = match deed {
            Deed::Register => ("REGISTER", format!("sip:{DOMAIN}"), own.clone()),
            Deed::Call => ("INVITE", format!("sip:2001@{DOMAIN}"), format!("sip:2001@{DOMAIN}")),
            Deed::Speak => ("MESSAGE", format!("sip:2001@{DOMAIN}"), format!("sip:2001@{DOMAIN}")),
        };
        let source = SocketAddr::new(self.ip(), self.port);
        Text::request(method, &uri)
            .with("Via", format!("SIP/2.0/TLS {source};branch=z9hG4bK{};rport", stage.rng.word()))
            .with("Max-Forwards", "70")
            .with("From", format!("\"{THIEF_CANARY}\" <{own}>;tag={THIEF_CANARY}{}", stage.rng.word()))
            .with("To", format!("<{to}>"))
            .with("Call-ID", format!("{THIEF_CANARY}{}", stage.rng.word()))
            .with("CSeq", format!("1 {method}"))
            .with("Contact", format!("<sip:{THIEF_CANARY}@{source};transport=tcp>;expires=600"))
            .with("User-Agent", if BY_PASSWORD.contains(&name) { "SimPhone/1.72" } else { THIEF_CANARY })
    }
}
