//! Calls as a telephone sees them: INVITE, ringing, answer, change, hang up (RFC 3261 §12 to §15).
//!
//! Used by phones and by the desks that live on the PBX. Chance decides what its user does.

mod answering;
mod asking;
mod rehearsal;
mod user;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::clock::Instant;

use crate::act::{Act, Path, Stage};
use crate::text::{Text, tag_of};
use crate::transactions::{Key, Transactions};

/// Who is telephoning.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What stands in Via and Contact.
    pub host: String,
    /// What stands in SDP.
    pub media: IpAddr,
    /// What it may name in the place of this: where audio must not go.
    pub(crate) never: Vec<IpAddr>,
    /// From where audio really comes, as the world sees it.
    pub media_seen: IpAddr,
    /// Headers of every request and answer.
    pub signature: Vec<(String, String)>,
    /// Stands where the other side must not look.
    pub canary: &'static str,
    /// The machine, as descriptions name it beside its address.
    pub node: String,
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

/// What the user of a telephone has in mind, drawn with the call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Temper {
    /// Refuses, and how.
    refuses: Option<u16>,
    /// Accepts although the caller has given up.
    deaf: bool,
    /// Rings reliably where the caller can (RFC 3262), or with early media, or not at all.
    ringing: Ringing,
    /// Acknowledges not before this.
    slow_ack: Option<Instant>,
    /// Acknowledges twice.
    double_ack: bool,
    /// Makes its offer in the ACK: the INVITE has none (RFC 3261 §13.2.1).
    no_offer: bool,
}

/// How a call is announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ringing {
    /// 180.
    #[default]
    Plain,
    /// 183 with a description.
    Early,
    /// 183, repeated until its PRACK.
    Reliable,
    /// Nothing before the answer.
    Silent,
}

/// What a REFER asks for (RFC 3515).
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    /// Who is to call, as he shows himself.
    pub(crate) from: String,
    /// Whom.
    pub(crate) to: String,
    /// In the place of which call of his.
    pub(crate) replaces: Option<String>,
}

/// A provisional answer that is repeated until its PRACK.
#[derive(Clone, Debug)]
pub(crate) struct Unconfirmed {
    answer: Text,
    rseq: u32,
    interval: Duration,
    at: Instant,
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
    /// Of whoever called: both ends know it, whoever answers.
    pub caller_tag: String,
    /// How far it is.
    pub state: State,
    /// The answer that ended the INVITE, where we called; 0 before.
    pub status: u16,
    /// Audio packets that came.
    pub heard: u64,
    /// The same since the last change of either end.
    pub(crate) heard_since: u64,
    /// Packets of video that came since then.
    pub(crate) seen_since: u64,
    /// Changes of ours that were accepted.
    pub changes: u8,
    pub(crate) temper: Temper,
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
    /// What its descriptions name in the place of its own address.
    named: Option<IpAddr>,
    /// Where it spoke and listened before the change that has no answer yet.
    port_before: Option<u16>,
    /// The number of the packet of audio that was sent last.
    spoken: u16,
    /// Who was heard, and which packets of his.
    heard_of: BTreeSet<(String, u16)>,
    remote_media: Option<SocketAddr>,
    remote_video: Option<SocketAddr>,
    /// The border has forgotten it.
    stale: bool,
    challenged: bool,
    /// So often it is tried again without the answer to the challenge.
    insists: u8,
    cancelled: bool,
    /// An INVITE of ours in the dialog has no answer yet: theirs gets 491 (RFC 3261 §14.2).
    changing: bool,
    held: bool,
    deeds: u8,
    /// Of the INVITE of ours that was accepted last.
    answered: u32,
    sdp_version: u32,
    /// Of the description: audio, perhaps video.
    lines: usize,
    /// The call that this one takes the place of.
    replaces: Option<String>,
    unconfirmed: Option<Unconfirmed>,
    /// Early dialogs whose reliable answers were acknowledged: To tag and RSeq.
    confirmed: Vec<(String, u32)>,
    /// Further parties that accepted, and had their BYE.
    hung_up: Vec<String>,
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
    /// A call of its own was one too many: how long it shall wait.
    pub(crate) told_to_wait: Option<Duration>,
    /// Proxies on its way to the border, which record themselves: the nearest to the border first.
    pub(crate) recorded: Vec<String>,
    /// Whom it was asked to call instead.
    pub(crate) transfers: Vec<Transfer>,
    /// The credentials that it showed last: header and value.
    shown: Option<(&'static str, String)>,
    /// Calls whose place another one took.
    pub replaced: u64,
    next_port: u16,
}

/// Spoken in the place of a call that the border has forgotten.
const STALE: &str = "stale";
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
            told_to_wait: None,
            recorded: Vec::new(),
            transfers: Vec::new(),
            shown: None,
            replaced: 0,
            next_port: 40_000,
        }
    }

    /// A call without any message yet.
    fn leg(&mut self, call_id: String, local_tag: String, caller_tag: String, state: State) -> Leg {
        self.next_port = if self.next_port >= 60_000 { 40_000 } else { self.next_port + 4 };
        Leg {
            call_id,
            local_tag,
            remote_tag: String::new(),
            caller_tag,
            state,
            status: 0,
            heard: 0,
            heard_since: 0,
            seen_since: 0,
            changes: 0,
            temper: Temper::default(),
            local: String::new(),
            remote: String::new(),
            target: String::new(),
            routes: Vec::new(),
            cseq: 0,
            remote_cseq: 0,
            invite: None,
            server: None,
            act_at: None,
            audio_at: None,
            port: self.next_port,
            named: None,
            port_before: None,
            spoken: 0,
            heard_of: BTreeSet::new(),
            remote_media: None,
            remote_video: None,
            stale: false,
            challenged: false,
            insists: 0,
            cancelled: false,
            changing: false,
            held: false,
            deeds: 0,
            answered: 0,
            sdp_version: 1,
            lines: 1,
            replaces: None,
            unconfirmed: None,
            confirmed: Vec::new(),
            hung_up: Vec::new(),
        }
    }

    /// Some name an address that is not theirs, and that nobody may send to.
    fn name_another(&self, leg: &mut Leg, stage: &mut Stage<'_>) {
        if !self.identity.never.is_empty()
            && stage.busy
            && stage.decide_for(50, "wants audio where none may go")
        {
            leg.named = stage.rng.pick(&self.identity.never).copied();
        }
    }

    /// A description with so many m-lines, and with our address in all places where one may stand.
    fn sdp(&self, leg: &Leg, direction: &str, lines: usize) -> String {
        let ip = self.identity.media;
        let kind = if ip.is_ipv4() { "IP4" } else { "IP6" };
        // the way of RFC 2543 to hold
        let shown = match (direction, ip) {
            ("hold", IpAddr::V4(_)) => "0.0.0.0".to_owned(),
            ("hold", IpAddr::V6(_)) => "::".to_owned(),
            _ => leg.named.unwrap_or(ip).to_string(),
        };
        let shown = format!("{} {shown}", if shown.contains(':') { "IP6" } else { "IP4" });
        let direction = if direction == "hold" { "sendrecv" } else { direction };
        let (canary, version, port) = (self.identity.canary, leg.sdp_version, leg.port);
        let (node, loud) = (&self.identity.node, self.identity.node.to_uppercase());
        let mut sdp = format!(
            "v=0\r\no={canary}-{ip} 1 {version} IN {kind} {ip}\r\ns=at {ip}\r\ni=a call by {node}\r\n\
             u=http://{node}/\r\nc=IN {shown}\r\nt=0 0\r\na=tool:mixer of {node}\r\na=x-rack:{loud}\r\n\
             m=audio {port} RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtcp:{} IN {kind} {ip}\r\n\
             a=candidate:1 1 UDP 2130706431 {ip} {port} typ host\r\na=x-where:{ip}\r\n\
             a=x-node:{node}\r\n\
             a={direction}\r\n",
            port + 1
        );
        if lines > 1 {
            sdp.push_str(&format!("m=video {} RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n", port + 2));
        }
        sdp
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

    /// Sends the next request of a dialog.
    fn ask(
        &mut self,
        place: usize,
        method: &str,
        more: impl FnOnce(Text) -> Text,
        stage: &mut Stage<'_>,
    ) -> Option<Key> {
        let path = self.path.filter(|_| self.ready)?;
        self.legs[place].cseq += 1;
        let text = more(self.build(method, &self.legs[place]));
        Some(self.transactions.request(text, &self.identity.host, path, stage))
    }

    /// The border lost all calls: what is spoken in one goes to ports that may be another's by now.
    pub(crate) fn outlive_border(&mut self) {
        self.legs.iter_mut().for_each(|leg| leg.stale = true);
    }

    /// A call of one of these tags was ended while nobody could be told here.
    pub(crate) fn outlive_call(&mut self, tags: [&str; 2]) {
        let of_call = |leg: &&mut Leg| tags.contains(&leg.caller_tag.as_str());
        self.legs.iter_mut().filter(of_call).for_each(|leg| leg.stale = true);
    }

    /// Transactions that ended without what they waited for.
    pub fn on_lost(&mut self, keys: &[Key], stage: &mut Stage<'_>) {
        for leg in &mut self.legs {
            let invite = leg.invite.as_ref().is_some_and(|key| keys.contains(key));
            if invite && leg.state == State::Calling {
                leg.status = 408;
                leg.state = State::Over;
            } else if invite && leg.state == State::Talking {
                leg.changing = false;
                leg.act_at = Some(stage.now);
            }
            if leg.server.as_ref().is_some_and(|key| keys.contains(key)) && leg.state == State::Answered {
                // no ACK ever came: hang up (RFC 3261 §13.3.1.4)
                leg.state = State::Talking;
                leg.deeds = u8::MAX;
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
        let again = |leg: &Leg| leg.unconfirmed.as_ref().map(|unconfirmed| unconfirmed.at);
        legs.flat_map(|leg| [leg.act_at, leg.audio_at, again(leg)])
            .flatten()
            .chain(self.transactions.next())
            .min()
    }

    /// What is due.
    pub fn on_timer(&mut self, stage: &mut Stage<'_>) -> Vec<Key> {
        let lost = self.transactions.on_timer(stage);
        self.on_lost(&lost, stage);
        for place in 0..self.legs.len() {
            if self.legs[place].audio_at.is_some_and(|at| at <= stage.now) {
                self.speak(place, stage);
            }
            self.ring_again(place, stage);
            if self.legs[place].act_at.is_some_and(|at| at <= stage.now) {
                self.legs[place].act_at = None;
                self.on_user(place, stage);
            }
        }
        self.put_away();
        lost
    }

    /// Calls that are over go to the history.
    pub(crate) fn put_away(&mut self) {
        let over = self.legs.extract_if(.., |leg| leg.state == State::Over);
        self.history.extend(over);
    }

    fn speak(&mut self, place: usize, stage: &mut Stage<'_>) {
        let leg = &mut self.legs[place];
        leg.audio_at = (leg.state == State::Talking).then_some(stage.now + AUDIO_EVERY);
        let (Some(to), State::Talking) = (leg.remote_media, leg.state) else { return };
        leg.spoken += 1;
        let call = if leg.stale { STALE } else { leg.caller_tag.as_str() };
        let bytes = packet(leg.spoken, call, &leg.local_tag);
        // a new port is spoken from when it was agreed on
        let from = SocketAddr::new(self.identity.media_seen, leg.port_before.unwrap_or(leg.port));
        stage.acts.push(Act::Audio { from, to, bytes });
        self.show(place, stage);
    }

    /// A packet of audio came to a port: it belongs to the call that the port was told for, is byte for byte what was
    /// spoken, and comes once.
    pub fn on_audio(&mut self, port: u16, bytes: &[u8]) {
        let spoken =
            bytes.get(12..).map(|tags| String::from_utf8_lossy(tags).into_owned()).unwrap_or_default();
        let (call, speaker) = spoken.split_once(' ').unwrap_or_default();
        if let Some(speaker) = speaker.strip_suffix(rehearsal::VIDEO) {
            return self.on_video(port, call, speaker);
        }
        let number = bytes.get(2..4).map_or(0, |number| u16::from_be_bytes([number[0], number[1]]));
        let is_there = |leg: &Leg| leg.port == port || leg.port_before == Some(port);
        for leg in self.legs.iter_mut().filter(|leg| is_there(leg) && !leg.stale && call != STALE) {
            if bytes != packet(number, call, speaker) {
                self.foreign_audio = Some(format!("port {port} of {} heard {bytes:?}", leg.call_id));
            } else if !leg.heard_of.insert((speaker.to_owned(), number)) {
                self.foreign_audio = Some(format!("port {port} of {} heard {spoken} twice", leg.call_id));
            } else if leg.caller_tag != call {
                self.foreign_audio = Some(format!("port {port} of {} heard the call {call}", leg.call_id));
            } else if leg.local_tag == speaker {
                self.foreign_audio = Some(format!("port {port} of {} heard itself", leg.call_id));
            } else {
                leg.heard += 1;
                leg.heard_since += 1;
            }
        }
    }
}

/// A packet of RTP, each number once in a call.
fn packet(number: u16, call: &str, speaker: &str) -> Vec<u8> {
    let mut bytes = vec![0x80, 8];
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&(160 * u32::from(number)).to_be_bytes());
    let ssrc = speaker.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(format!("{call} {speaker}").as_bytes());
    bytes
}

/// How many m-lines a description has.
fn lines_of(sdp: &str) -> usize {
    sdp.lines().filter(|line| line.starts_with("m=")).count().max(1)
}

fn without_tag(value: &str) -> String {
    match tag_of(value) {
        Some(tag) => value.replace(&format!(";tag={tag}"), ""),
        None => value.to_owned(),
    }
}

/// Where a description wants its audio; none where it wants none.
fn media_of(sdp: &str) -> Option<SocketAddr> {
    stream_of(sdp, "m=audio ")
}

fn stream_of(sdp: &str, kind: &str) -> Option<SocketAddr> {
    let words = sdp.lines().find_map(|line| line.trim().strip_prefix("c=IN IP"))?;
    let ip: IpAddr = words.split_once(' ')?.1.parse().ok()?;
    let port = sdp.lines().find_map(|line| line.trim().strip_prefix(kind))?.split(' ').next()?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some(SocketAddr::new(ip, port)).filter(|media| !media.ip().is_unspecified())
}
