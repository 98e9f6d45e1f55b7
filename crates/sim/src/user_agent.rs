//! Calls as a telephone sees them: INVITE, ringing, answer, hold, hang up (RFC 3261 §12 to §15).
//!
//! Used by phones and by the desks that live on the PBX. Chance decides what its user does.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;

use crate::act::{Act, Path, Stage};
use crate::digest;
use crate::text::{Text, tag_of, uri_of};
use crate::transactions::{Key, Transactions};

/// Who is telephoning.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What stands in Via and Contact.
    pub host: String,
    /// What stands in SDP.
    pub media: IpAddr,
    /// From where audio really comes, as the world sees it.
    pub media_seen: IpAddr,
    /// Headers of every request and answer.
    pub signature: Vec<(String, String)>,
    /// Part of every Call-ID.
    pub call_id_host: String,
    /// User name and password for challenges.
    pub credentials: Option<(String, String)>,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The INVITE is sent.
    Calling,
    /// It rings here.
    Ringing,
    /// The 2xx is sent, its ACK awaited.
    Answered,
    /// Both can speak.
    Talking,
    /// The BYE is sent.
    Ending,
    /// Nothing follows.
    Over,
}

/// One call at one telephone.
#[derive(Clone, Debug)]
pub struct Leg {
    /// Of the dialog.
    pub call_id: String,
    /// Ours.
    pub local_tag: String,
    /// Theirs, of the party we speak with.
    pub remote_tag: String,
    /// How far it is.
    pub state: State,
    /// The answer that ended the INVITE, where we called; 0 before.
    pub status: u16,
    /// Audio packets that came.
    pub heard: u64,
    /// Re-INVITEs of ours that were accepted.
    pub changes: u8,
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    cseq: u32,
    remote_cseq: u32,
    invite: Option<Key>,
    server: Option<Key>,
    /// When its user does the next thing.
    act_at: Option<Instant>,
    audio_at: Option<Instant>,
    port: u16,
    remote_media: Option<SocketAddr>,
    challenged: bool,
    cancelled: bool,
    holds: u8,
    /// Of the INVITE of ours that was accepted last.
    answered: u32,
    sdp_version: u32,
    refuses: bool,
}

/// A telephone.
pub struct UserAgent {
    /// Who it is.
    pub identity: Identity,
    /// Its transactions.
    pub transactions: Transactions,
    /// Its calls.
    pub legs: Vec<Leg>,
    /// Calls that are over.
    pub history: Vec<Leg>,
    /// How messages travel now; none while there is no connection.
    pub path: Option<Path>,
    /// Whether its requests are heard there: a phone must register on a new connection first.
    pub ready: bool,
    /// Audio that belongs to another call, if ever any came.
    pub foreign_audio: Option<String>,
    next_port: u16,
}

const AUDIO_EVERY: Duration = Duration::from_secs(1);

impl UserAgent {
    /// A telephone without calls.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            transactions: Transactions::default(),
            legs: Vec::new(),
            history: Vec::new(),
            path: None,
            ready: true,
            foreign_audio: None,
            next_port: 40_000,
        }
    }

    /// Calls somebody. `from` and `to` are URIs; `display` is how the caller shows himself.
    pub fn call(&mut self, uri: &str, from: &str, to: &str, stage: &mut Stage<'_>) {
        let Some(path) = self.path else { return };
        let port = self.port();
        let mut leg = Leg {
            call_id: format!("{}@{}", stage.rng.word(), self.identity.call_id_host),
            local_tag: stage.rng.word(),
            remote_tag: String::new(),
            state: State::Calling,
            status: 0,
            heard: 0,
            changes: 0,
            local: from.to_owned(),
            remote: format!("<{to}>"),
            target: uri.to_owned(),
            routes: Vec::new(),
            cseq: u32::try_from(stage.rng.between(1, 100)).unwrap_or(1),
            remote_cseq: 0,
            invite: None,
            server: None,
            act_at: None,
            audio_at: None,
            port,
            remote_media: None,
            challenged: false,
            cancelled: false,
            holds: 0,
            answered: 0,
            sdp_version: 1,
            refuses: false,
        };
        // some users lose patience while it rings
        leg.act_at = (stage.busy && stage.decide_for(200, "loses patience"))
            .then(|| stage.now + stage.rng.millis(50, 6_000));
        let offer = self.sdp(&leg, "sendrecv");
        let invite = self.build("INVITE", &leg).with_body("application/sdp", offer);
        leg.invite = Some(self.transactions.request(invite, &self.identity.host, path, stage));
        self.legs.push(leg);
    }

    fn port(&mut self) -> u16 {
        self.next_port = if self.next_port >= 60_000 { 40_000 } else { self.next_port + 2 };
        self.next_port
    }

    fn sdp(&self, leg: &Leg, direction: &str) -> String {
        let ip = self.identity.media;
        format!(
            "v=0\r\no=canary-{ip} 1 {} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio {} RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na={direction}\r\n",
            leg.sdp_version, leg.port
        )
    }

    fn contact(&self) -> String {
        let transport = if self.path.is_some_and(Path::is_reliable) { ";transport=tcp" } else { "" };
        format!("<sip:line@{}{transport}>", self.identity.host)
    }

    fn build(&self, method: &str, leg: &Leg) -> Text {
        let remote_tag =
            if leg.remote_tag.is_empty() { String::new() } else { format!(";tag={}", leg.remote_tag) };
        let mut text = Text::request(method, &leg.target).with("Max-Forwards", "70");
        for route in &leg.routes {
            text = text.with("Route", route);
        }
        text = text
            .with("From", format!("{};tag={}", leg.local, leg.local_tag))
            .with("To", format!("{}{remote_tag}", leg.remote))
            .with("Call-ID", &leg.call_id)
            .with("CSeq", format!("{} {method}", leg.cseq))
            .with("Contact", self.contact());
        self.signed(text)
    }

    fn signed(&self, mut text: Text) -> Text {
        for (name, value) in &self.identity.signature {
            text = text.with(name, value);
        }
        text
    }

    fn answer(&mut self, key: &Key, code: u16, tag: &str, sdp: Option<String>, stage: &mut Stage<'_>) {
        let Some((request, _)) = self.transactions.asked(key) else { return };
        let mut text = Text::response(request, code, Some(tag).filter(|tag| !tag.is_empty()));
        if code > 100 && code < 300 {
            for route in request.all("Record-Route") {
                text = text.with("Record-Route", route);
            }
            text = text.with("Contact", self.contact());
        }
        text = self.signed(text);
        if let Some(sdp) = sdp {
            text = text.with_body("application/sdp", sdp);
        }
        self.transactions.respond(key, text, true, stage);
    }

    /// A request that concerns a call.
    pub fn on_request(&mut self, text: &Text, key: &Key, stage: &mut Stage<'_>) {
        match text.method() {
            "OPTIONS" => self.answer(key, 200, "opt", None, stage),
            "CANCEL" => self.on_cancel(key, stage),
            "INVITE" if text.to_tag().is_empty() => self.on_invite(text, key, stage),
            _ => self.on_in_dialog(text, key, stage),
        }
    }

    fn on_invite(&mut self, text: &Text, key: &Key, stage: &mut Stage<'_>) {
        let port = self.port();
        let ring = stage.rng.millis(100, 4_000);
        let leg = Leg {
            call_id: text.header("Call-ID").to_owned(),
            local_tag: stage.rng.word(),
            remote_tag: text.from_tag().to_owned(),
            state: State::Ringing,
            status: 0,
            heard: 0,
            changes: 0,
            local: text.header("To").to_owned(),
            remote: without_tag(text.header("From")),
            target: uri_of(text.header("Contact")).to_owned(),
            routes: text.all("Record-Route"),
            cseq: 100,
            remote_cseq: text.cseq(),
            invite: None,
            server: Some(key.clone()),
            act_at: Some(stage.now + ring),
            audio_at: None,
            port,
            remote_media: media_of(&text.body),
            challenged: false,
            cancelled: false,
            holds: 0,
            answered: 0,
            sdp_version: 1,
            refuses: stage.busy && stage.decide_for(150, "refuses"),
        };
        if stage.rng.chance(800) {
            let tag = leg.local_tag.clone();
            self.answer(key, 180, &tag, None, stage);
        }
        self.legs.push(leg);
    }

    fn on_cancel(&mut self, key: &Key, stage: &mut Stage<'_>) {
        let invite: Key = (key.0.clone(), "INVITE".into());
        let Some(place) = self.legs.iter().position(|leg| leg.server.as_ref() == Some(&invite)) else {
            return self.answer(key, 481, "none", None, stage);
        };
        let tag = self.legs[place].local_tag.clone();
        self.answer(key, 200, &tag, None, stage);
        if self.legs[place].state == State::Ringing {
            self.answer(&invite, 487, &tag, None, stage);
            self.legs[place].state = State::Over;
        }
    }

    fn on_in_dialog(&mut self, text: &Text, key: &Key, stage: &mut Stage<'_>) {
        let found = self.legs.iter().position(|leg| {
            leg.call_id == text.header("Call-ID")
                && leg.local_tag == text.to_tag()
                && leg.remote_tag == text.from_tag()
                && leg.state != State::Over
        });
        let Some(place) = found else { return self.answer(key, 481, "", None, stage) };
        if text.cseq() <= self.legs[place].remote_cseq && self.legs[place].remote_cseq != 0 {
            return self.answer(key, 500, "", None, stage);
        }
        self.legs[place].remote_cseq = text.cseq();
        match text.method() {
            "BYE" => {
                self.answer(key, 200, "", None, stage);
                if let Some(server) = self.legs[place].server.clone()
                    && self.legs[place].state == State::Ringing
                {
                    let tag = self.legs[place].local_tag.clone();
                    self.answer(&server, 487, &tag, None, stage);
                }
                self.legs[place].state = State::Over;
            }
            "INVITE" => {
                if let Some(media) = media_of(&text.body) {
                    self.legs[place].remote_media = Some(media);
                }
                self.legs[place].sdp_version += 1;
                let direction = if text.body.contains("a=sendonly") { "recvonly" } else { "sendrecv" };
                let sdp = self.sdp(&self.legs[place], direction);
                self.answer(key, 200, "", Some(sdp), stage);
            }
            _ => self.answer(key, 200, "", None, stage),
        }
    }

    /// The ACK of a 2xx.
    pub fn on_ack(&mut self, text: &Text, stage: &mut Stage<'_>) {
        for leg in &mut self.legs {
            if leg.call_id == text.header("Call-ID")
                && leg.local_tag == text.to_tag()
                && leg.state == State::Answered
            {
                leg.state = State::Talking;
                leg.audio_at = Some(stage.now);
                leg.act_at = Some(stage.now + talk(stage));
            }
        }
    }

    /// An answer to a request of ours.
    pub fn on_response(&mut self, key: &Key, text: &Text, stage: &mut Stage<'_>) {
        let code = text.code().unwrap_or(0);
        let Some(place) = self.legs.iter().position(|leg| leg.invite.as_ref() == Some(key)) else {
            return self.on_other_response(key, text, code, stage);
        };
        match code {
            0..=199 => {}
            200..=299 => self.on_accepted(place, text, stage),
            _ if !self.legs[place].remote_tag.is_empty() => {
                // a re-INVITE was refused: the call goes on as it was, unless it is gone
                if matches!(code, 408 | 481) {
                    self.legs[place].state = State::Over;
                }
            }
            401 | 407 if self.retry(place, text, stage) => {}
            _ => {
                self.legs[place].status = code;
                self.legs[place].state = State::Over;
            }
        }
    }

    fn on_other_response(&mut self, key: &Key, text: &Text, code: u16, _stage: &mut Stage<'_>) {
        if key.1 != "BYE" || code < 200 {
            return;
        }
        for leg in &mut self.legs {
            if leg.call_id == text.header("Call-ID") && leg.state == State::Ending {
                leg.state = State::Over;
            }
        }
    }

    fn retry(&mut self, place: usize, text: &Text, stage: &mut Stage<'_>) -> bool {
        let (Some((user, password)), Some(path)) = (self.identity.credentials.clone(), self.path) else {
            return false;
        };
        let leg = &mut self.legs[place];
        if std::mem::replace(&mut leg.challenged, true) || leg.cancelled {
            return false;
        }
        let (theirs, ours) = if text.has("Proxy-Authenticate") {
            ("Proxy-Authenticate", "Proxy-Authorization")
        } else {
            ("WWW-Authenticate", "Authorization")
        };
        leg.cseq += 1;
        let leg = self.legs[place].clone();
        let cnonce = stage.rng.word();
        let value = digest::answer(text.header(theirs), &user, &password, "INVITE", &leg.target, &cnonce);
        let offer = self.sdp(&leg, "sendrecv");
        let invite = self.build("INVITE", &leg).with(ours, value).with_body("application/sdp", offer);
        self.legs[place].invite = Some(self.transactions.request(invite, &self.identity.host, path, stage));
        true
    }

    /// Every 2xx is acknowledged; a second party that answered is hung up on (RFC 3261 §13.2.2.4).
    fn on_accepted(&mut self, place: usize, text: &Text, stage: &mut Stage<'_>) {
        let Some(path) = self.path else { return };
        let mut leg = self.legs[place].clone();
        let first = leg.remote_tag.is_empty();
        let surplus = !first && leg.remote_tag != text.to_tag();
        leg.remote_tag = text.to_tag().to_owned();
        leg.remote = without_tag(text.header("To"));
        leg.target = uri_of(text.header("Contact")).to_owned();
        if first || surplus {
            leg.routes = text.all("Record-Route").into_iter().rev().collect();
        }
        leg.cseq = text.cseq();
        let mut ack = self.build("ACK", &leg);
        ack.push_front(
            "Via",
            format!("SIP/2.0/UDP {};branch=z9hG4bK{};rport", self.identity.host, stage.rng.word()),
        );
        stage.send(path, &ack);
        if surplus {
            leg.cseq += 1;
            let bye = self.build("BYE", &leg);
            self.transactions.request(bye, &self.identity.host, path, stage);
            return;
        }
        if !first && leg.remote_media.is_some() {
            leg.changes += u8::from(leg.answered != text.cseq());
        }
        leg.answered = text.cseq();
        let known = self.legs[place].cseq;
        leg.cseq = known;
        if let Some(media) = media_of(&text.body) {
            leg.remote_media = Some(media);
        }
        if leg.state == State::Calling {
            leg.state = State::Talking;
            leg.status = 200;
            leg.audio_at = Some(stage.now);
            let talk = if leg.cancelled { Duration::from_millis(1) } else { talk(stage) };
            leg.act_at = Some(stage.now + talk);
        }
        self.legs[place] = leg;
    }

    /// Transactions that ended without what they waited for.
    pub fn on_lost(&mut self, keys: &[Key], stage: &mut Stage<'_>) {
        for leg in &mut self.legs {
            let invite = leg.invite.as_ref().is_some_and(|key| keys.contains(key));
            if invite && leg.state == State::Calling {
                leg.status = 408;
                leg.state = State::Over;
            } else if invite && leg.state == State::Talking {
                leg.act_at = Some(stage.now);
            }
            if leg.server.as_ref().is_some_and(|key| keys.contains(key)) && leg.state == State::Answered {
                // no ACK ever came: hang up (RFC 3261 §13.3.1.4)
                leg.state = State::Talking;
                leg.act_at = Some(stage.now);
            }
            if leg.state == State::Ending && keys.iter().any(|key| key.1 == "BYE") {
                leg.state = State::Over;
            }
        }
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        let legs = self.legs.iter().filter(|leg| leg.state != State::Over);
        legs.flat_map(|leg| [leg.act_at, leg.audio_at]).flatten().chain(self.transactions.next()).min()
    }

    /// What is due.
    pub fn on_timer(&mut self, stage: &mut Stage<'_>) -> Vec<Key> {
        let lost = self.transactions.on_timer(stage);
        self.on_lost(&lost, stage);
        for place in 0..self.legs.len() {
            if self.legs[place].audio_at.is_some_and(|at| at <= stage.now) {
                self.speak(place, stage);
            }
            if self.legs[place].act_at.is_some_and(|at| at <= stage.now) {
                self.legs[place].act_at = None;
                self.on_user(place, stage);
            }
        }
        let over = self.legs.extract_if(.., |leg| leg.state == State::Over);
        self.history.extend(over);
        lost
    }

    /// The user of the telephone does something.
    fn on_user(&mut self, place: usize, stage: &mut Stage<'_>) {
        let leg = self.legs[place].clone();
        match leg.state {
            State::Calling => {
                self.legs[place].cancelled = true;
                if let Some(key) = leg.invite {
                    self.transactions.cancel(&key, stage);
                }
            }
            State::Ringing => {
                let Some(key) = leg.server.clone() else { return };
                if leg.refuses {
                    self.answer(
                        &key,
                        if stage.rng.chance(500) { 486 } else { 603 },
                        &leg.local_tag,
                        None,
                        stage,
                    );
                    self.legs[place].state = State::Over;
                } else {
                    let sdp = self.sdp(&leg, "sendrecv");
                    self.answer(&key, 200, &leg.local_tag, Some(sdp), stage);
                    self.legs[place].state = State::Answered;
                }
            }
            State::Talking if leg.holds < 2 && stage.busy && stage.decide_for(300, "holds") => {
                self.hold(place, stage);
            }
            State::Talking => self.hang_up(place, stage),
            State::Answered | State::Ending | State::Over => {}
        }
    }

    /// Holds, or resumes.
    fn hold(&mut self, place: usize, stage: &mut Stage<'_>) {
        let Some(path) = self.path.filter(|_| self.ready) else { return self.hang_up(place, stage) };
        self.legs[place].holds += 1;
        self.legs[place].cseq += 1;
        self.legs[place].sdp_version += 1;
        let leg = self.legs[place].clone();
        let direction = if leg.holds % 2 == 1 { "sendonly" } else { "sendrecv" };
        let offer = self.sdp(&leg, direction);
        let invite = self.build("INVITE", &leg).with_body("application/sdp", offer);
        let key = self.transactions.request(invite, &self.identity.host, path, stage);
        self.legs[place].invite = Some(key);
        self.legs[place].act_at = Some(stage.now + stage.rng.millis(2_000, 20_000));
    }

    fn hang_up(&mut self, place: usize, stage: &mut Stage<'_>) {
        let Some(path) = self.path.filter(|_| self.ready) else {
            // the connection will be back
            self.legs[place].act_at = Some(stage.now + Duration::from_secs(2));
            return;
        };
        self.legs[place].cseq += 1;
        self.legs[place].state = State::Ending;
        self.legs[place].audio_at = None;
        let bye = self.build("BYE", &self.legs[place].clone());
        self.transactions.request(bye, &self.identity.host, path, stage);
    }

    fn speak(&mut self, place: usize, stage: &mut Stage<'_>) {
        let leg = &mut self.legs[place];
        leg.audio_at = (leg.state == State::Talking).then_some(stage.now + AUDIO_EVERY);
        let (Some(to), State::Talking) = (leg.remote_media, leg.state) else { return };
        let mut bytes = vec![0x80, 8, 0, 1, 0, 0, 0, 1];
        let ssrc =
            leg.local_tag.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        bytes.extend_from_slice(&ssrc.to_be_bytes());
        bytes.extend_from_slice(leg.local_tag.as_bytes());
        let from = SocketAddr::new(self.identity.media_seen, leg.port);
        stage.acts.push(Act::Audio { from, to, bytes });
    }

    /// A packet of audio came to a port.
    pub fn on_audio(&mut self, port: u16, bytes: &[u8]) {
        let spoken = bytes.get(12..).map(|tag| String::from_utf8_lossy(tag).into_owned()).unwrap_or_default();
        for leg in self.legs.iter_mut().filter(|leg| leg.port == port) {
            if leg.remote_tag == spoken {
                leg.heard += 1;
            } else if leg.local_tag == spoken {
                self.foreign_audio = Some(format!("port {port} of {} heard itself", leg.call_id));
            }
        }
    }
}

/// How long one talks; a call that only shows that calls work is short, but both are heard.
fn talk(stage: &mut Stage<'_>) -> Duration {
    let (least, most) = if stage.busy { (500, 40_000) } else { (2_500, 5_000) };
    stage.rng.millis(least, most)
}

fn without_tag(value: &str) -> String {
    match tag_of(value) {
        Some(tag) => value.replace(&format!(";tag={tag}"), ""),
        None => value.to_owned(),
    }
}

/// Where a description wants its audio.
fn media_of(sdp: &str) -> Option<SocketAddr> {
    let ip = sdp.lines().find_map(|line| line.trim().strip_prefix("c=IN IP4 "))?.parse().ok()?;
    let port = sdp.lines().find_map(|line| line.trim().strip_prefix("m=audio "))?.split(' ').next()?;
    Some(SocketAddr::new(ip, port.parse().ok().filter(|port| *port != 0)?))
}
