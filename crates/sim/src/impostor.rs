//! Datagrams in another's name: whoever sends them is nowhere, knows addresses and names, and hears no answer. Of the
//! phones' calls he may have overheard all, but then he does not come from their address.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use wire::net::{Side, Transport};

use crate::decision::Decider;
use crate::digest;
use crate::phone::Phone;
use crate::scenery::{self, DOMAIN, IMPOSTOR_CANARY, REALM};
use crate::text::Text;
use crate::world::{Happening, World};

/// What is said in another's name.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// A request that knows nothing.
    Blind(&'static str),
    /// A request in a dialog of somebody else, whose names are right.
    Overheard(&'static str),
    /// An answer to nothing.
    BlindAnswer,
    /// An answer to a request that went another way, whose branch is right.
    OverheardAnswer,
    /// REGISTERs for nobody with a value of the border's that another source was given.
    StolenProof,
    /// The same with a value that has the form of its values.
    MadeUpProof,
}

const LIES: [(Lie, &str); 22] = [
    (Lie::Blind("REGISTER"), "registers in another's name"),
    (Lie::Blind("REGISTER"), "registers in another's name"),
    (Lie::Blind("INVITE"), "calls in another's name"),
    (Lie::Blind("INVITE"), "calls in another's name"),
    (Lie::Blind("MESSAGE"), "writes in another's name"),
    (Lie::Blind("OPTIONS"), "asks in another's name"),
    (Lie::Blind("BYE"), "hangs up in another's name"),
    (Lie::Blind("CANCEL"), "cancels in another's name"),
    (Lie::Blind("ACK"), "acknowledges in another's name"),
    (Lie::BlindAnswer, "answers in another's name"),
    (Lie::Overheard("BYE"), "hangs up an overheard call"),
    (Lie::Overheard("BYE"), "hangs up an overheard call"),
    (Lie::Overheard("CANCEL"), "cancels an overheard call"),
    (Lie::Overheard("CANCEL"), "cancels an overheard call"),
    (Lie::Overheard("ACK"), "acknowledges an overheard call"),
    (Lie::Overheard("INVITE"), "changes an overheard call"),
    (Lie::Overheard("UPDATE"), "changes an overheard call"),
    (Lie::Overheard("INFO"), "speaks in an overheard call"),
    (Lie::OverheardAnswer, "answers an overheard request"),
    (Lie::OverheardAnswer, "answers an overheard request"),
    (Lie::StolenProof, "shows what another was given"),
    (Lie::MadeUpProof, "shows a made-up value"),
];
/// Enough for a block, if they counted.
const PROOFS: usize = 8;

/// The phone that comes by UDP in every world.
const BY_UDP: usize = 3;
/// So much of each kind is remembered.
const OVERHEARD_MAX: usize = 20;

/// What somebody heard who listens on every way, and with whom it was spoken.
#[derive(Debug, Default)]
pub(crate) struct Overheard {
    /// The border's answers to INVITEs of phones: they name the dialog.
    answers: VecDeque<(SocketAddr, Text)>,
    /// Its requests.
    requests: VecDeque<(SocketAddr, Text)>,
    /// Its challenges, each with a value of its own in it.
    challenges: VecDeque<(SocketAddr, Text)>,
}

impl Overheard {
    /// The border says something.
    pub(crate) fn note(&mut self, side: Side, peer: SocketAddr, text: Text) {
        let kind = match (side, text.method(), text.code()) {
            (Side::Outside, "REGISTER", Some(401)) => &mut self.challenges,
            (Side::Outside, "INVITE", Some(_)) => &mut self.answers,
            (_, _, None) => &mut self.requests,
            _ => return,
        };
        if kind.len() >= OVERHEARD_MAX {
            kind.pop_front();
        }
        kind.push_back((peer, text));
    }
}

impl World {
    /// Somebody speaks in another's name, and will again.
    pub(crate) fn on_impostor(&mut self) {
        if !self.busy {
            return;
        }
        self.turn(Decider::Impostor);
        let after = self.rng.millis(200, 9_000);
        self.at(after, Happening::Impostor);
        let Some((lie, what)) = self.rng.pick(&LIES).copied() else { return };
        if !self.decisions.may(Decider::Impostor, what) {
            return;
        }
        let told = match lie {
            Lie::Blind(method) => vec![(self.victim(), self.blind(method))],
            Lie::BlindAnswer => vec![(self.victim(), self.blind_answer())],
            Lie::Overheard(method) => self.overheard_request(method).into_iter().collect(),
            Lie::OverheardAnswer => self.overheard_answer().into_iter().collect(),
            Lie::StolenProof => self.stolen_proofs(),
            Lie::MadeUpProof => {
                let made_up = format!("{}{}A", "A".repeat(10), self.rng.word());
                let challenge = format!("Digest realm=\"{REALM}\", nonce=\"x\", opaque=\"{made_up}\"");
                let victim = self.victim();
                self.proofs(victim, &challenge)
            }
        };
        for (from, text) in told {
            let delay = self.rng.millis(1, 50);
            let bytes = Bytes::from(text.render());
            self.at(delay, Happening::Forged { from, bytes });
        }
    }

    /// What one phone was given, shown in the name of another address.
    fn stolen_proofs(&mut self) -> Vec<(SocketAddr, Text)> {
        let heard = self.rng.pick(self.overheard.challenges.make_contiguous()).cloned();
        let victim = self.victim();
        match heard.filter(|(peer, _)| peer.ip() != victim.ip()) {
            Some((_, challenge)) => self.proofs(victim, challenge.header("WWW-Authenticate")),
            None => Vec::new(),
        }
    }

    /// REGISTERs of names that nobody has, with an answer to a challenge.
    fn proofs(&mut self, victim: SocketAddr, challenge: &str) -> Vec<(SocketAddr, Text)> {
        let mut register = || {
            let (name, uri) = (self.rng.word(), format!("sip:{DOMAIN}"));
            let value = digest::answer(challenge, &name, "1234", "REGISTER", &uri, "c");
            let mut text = self.blind("REGISTER");
            for header in ["From", "To", "Contact"] {
                text.remove(header);
            }
            let aor = format!("<sip:{name}@{DOMAIN}>");
            let text = text.with("From", format!("{aor};tag={}", self.rng.word())).with("To", aor);
            let text = text.with("Contact", format!("<sip:{name}@{victim}>")).with("Authorization", value);
            (victim, text)
        };
        (0..PROOFS).map(|_| register()).collect()
    }

    /// In whose name: a phone's, where it is or where it may come to, the PBX's, the border's own, a scanner's.
    fn victim(&mut self) -> SocketAddr {
        let phone = self.pick_phone();
        match self.rng.below(9) {
            0..=2 => self.phones[BY_UDP].source(),
            3 | 4 => self.phones[phone].source(),
            5 => SocketAddr::new(self.phones[phone].ip(), 5_060),
            6 => self.pbxs[0].address,
            7 => self.places.inside_sip(),
            _ => SocketAddr::new(self.places.scanner(71), 5_060),
        }
    }

    /// A request as anybody could write it.
    fn blind(&mut self, method: &str) -> Text {
        let name = *self.rng.pick(&["1001", "1002", "1003", "1003", "1004"]).unwrap_or(&"1003");
        let aor = format!("sip:{name}@{DOMAIN}");
        let uri = if method == "REGISTER" { format!("sip:{DOMAIN}") } else { format!("sip:2001@{DOMAIN}") };
        let to = if method == "REGISTER" { &aor } else { &uri };
        let inside = matches!(method, "BYE" | "ACK").then(|| format!(";tag={}", self.rng.word()));
        let home = SocketAddr::new(self.places.scanner(71), 5_060);
        let contact = if self.rng.chance(300) {
            "*".to_owned()
        } else {
            format!("<sip:{name}@{home}>;expires={}", self.rng.below(2) * 600)
        };
        let text = Text::request(method, &uri)
            .with("Via", format!("SIP/2.0/UDP {home};branch=z9hG4bK{};rport", self.rng.word()))
            .with("Max-Forwards", "70")
            .with("From", format!("<{aor}>;tag={}", self.rng.word()))
            .with("To", format!("<{to}>{}", inside.unwrap_or_default()))
            .with("Call-ID", format!("{IMPOSTOR_CANARY}{}", self.rng.word()))
            .with("CSeq", format!("1 {method}"))
            .with("Contact", contact);
        if method == "REGISTER" { text.with("Expires", 0) } else { text }
    }

    /// An answer to a branch that nobody gave.
    fn blind_answer(&mut self) -> Text {
        let method = *self.rng.pick(&["INVITE", "REGISTER", "BYE", "OPTIONS"]).unwrap_or(&"INVITE");
        let code = *self.rng.pick(&[200, 180, 401, 404, 487, 503]).unwrap_or(&200);
        let request = self.blind(method);
        let mut answer = Text::response(&request, code, Some("guessed"));
        answer.remove("Via");
        answer.push_front(
            "Via",
            format!("SIP/2.0/UDP {};branch=z9hG4bK{}", self.places.udp(), self.rng.word()),
        );
        answer.with("Contact", format!("<sip:x@{}>", self.places.udp()))
    }

    /// From an address that is not that of whom he speaks for.
    fn not(&mut self, peer: SocketAddr, method: &str) -> SocketAddr {
        // a port that nobody has: another one may be that of the peer himself, who was lied about before
        let beside = SocketAddr::new(peer.ip(), 9);
        let others = [
            beside,
            self.pbxs[0].address,
            SocketAddr::new(self.places.scanner(71), peer.port()),
            self.phones[BY_UDP].source(),
        ];
        // a phone's own INVITE begins a call, whatever names it bears
        let others = if method == "INVITE" { &others[..3] } else { &others[..] };
        let from = *self.rng.pick(others).unwrap_or(&beside);
        // nor may it be where the peer himself has gone
        let is_peer = from.ip() == peer.ip() || Some(from.ip()) == scenery::elsewhere(peer.ip());
        if is_peer { beside } else { from }
    }

    /// A request in a call of somebody else's, all of whose names are right. A CANCEL has the branch of its INVITE.
    fn overheard_request(&mut self, method: &str) -> Option<(SocketAddr, Text)> {
        let (peer, heard) = self.rng.pick(self.overheard.answers.make_contiguous()).cloned()?;
        let from = self.not(peer, method);
        let mut text = Text::request(method, &format!("sip:2001@{DOMAIN}"));
        let home = SocketAddr::new(self.places.scanner(71), 5_060);
        let via = format!("SIP/2.0/UDP {home};branch=z9hG4bK{};rport", self.rng.word());
        let (via, call_id, cseq) = match method {
            // the other names make it another one for whoever judges the answers
            "CANCEL" => (heard.header("Via"), format!("{IMPOSTOR_CANARY}{}", self.rng.word()), heard.cseq()),
            "ACK" => (via.as_str(), heard.header("Call-ID").to_owned(), heard.cseq()),
            _ => (via.as_str(), heard.header("Call-ID").to_owned(), heard.cseq() + 50),
        };
        text = text.with("Via", via).with("Max-Forwards", "70").with("From", heard.header("From"));
        text = text.with("To", heard.header("To")).with("Call-ID", call_id);
        Some((from, text.with("CSeq", format!("{cseq} {method}"))))
    }

    /// An answer to a request that went by a stream, or inside.
    fn overheard_answer(&mut self) -> Option<(SocketAddr, Text)> {
        let (peer, request) = self.rng.pick(self.overheard.requests.make_contiguous()).cloned()?;
        // to a phone by UDP the branch alone proves the answer, and nobody guesses that
        let by_udp = |phone: &Phone| phone.model.transport == Transport::Udp && phone.ip() == peer.ip();
        if self.phones.iter().any(by_udp) {
            return None;
        }
        let code = *self.rng.pick(&[200, 180, 401, 404, 487, 503]).unwrap_or(&200);
        Some((peer, Text::response(&request, code, Some("overheard"))))
    }

    /// Bytes that come from somebody else than they say.
    pub(crate) fn on_forged(&mut self, from: SocketAddr, bytes: &Bytes) {
        let (flow, side, ..) = self.places.listeners()[0];
        self.ladder.note(self.step, self.now, (side, false), from, bytes);
        self.oracles.on_forged(flow, from, bytes, self.now);
        self.input(border::Input::Bytes { flow, from, bytes });
    }
}
