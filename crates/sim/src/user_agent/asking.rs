//! What a telephone asks, and what it makes of the answers.

use std::time::Duration;

use crate::act::{Path, Stage};
use crate::digest;
use crate::scenery::REALM;
use crate::text::{Text, uri_of};
use crate::transactions::Key;
use crate::user_agent::{Leg, State, Temper, UserAgent, lines_of, media_of, stream_of, without_tag};

/// So often somebody tries a challenged call again who wants more calls than he may have.
const INSISTS: u8 = 6;

impl UserAgent {
    /// Calls somebody. `uri` and `to` are URIs, `from` is how the caller shows himself.
    pub fn call(&mut self, uri: &str, from: &str, to: &str, stage: &mut Stage<'_>) {
        self.call_instead(uri, from, to, None, stage);
    }

    /// Calls somebody, perhaps in the place of a call that he has (RFC 3891).
    pub(crate) fn call_instead(
        &mut self,
        uri: &str,
        from: &str,
        to: &str,
        replaces: Option<String>,
        stage: &mut Stage<'_>,
    ) {
        let Some(path) = self.path else { return };
        let (call_id, tag) =
            (format!("{}@{}", stage.rng.word(), self.identity.call_id_host), stage.rng.word());
        let mut leg = self.leg(call_id, tag.clone(), tag, State::Calling);
        leg.local = from.to_owned();
        leg.remote = format!("<{to}>");
        leg.target = uri.to_owned();
        leg.cseq = u32::try_from(stage.rng.between(1, 100)).unwrap_or(1);
        leg.temper = Temper::of_caller(stage);
        // some users lose patience while it rings
        leg.act_at = (stage.busy && stage.decide_for(200, "loses patience"))
            .then(|| stage.now + stage.rng.millis(50, 6_000));
        leg.replaces = replaces;
        self.name_another(&mut leg, stage);
        let mut invite = self.build_invite(&leg, stage);
        if stage.busy && stage.decide_for(30, "calls without a hop to go") {
            invite.remove("Max-Forwards");
            invite = invite.with("Max-Forwards", 0);
        }
        // some show what they were asked for the last time, before they are asked
        if let Some((name, value)) = self.shown.clone()
            && stage.busy
            && stage.decide_for(700, "shows old credentials")
        {
            invite = invite.with(name, value);
        }
        leg.invite = Some(self.transactions.request(invite, &self.identity.host, path, stage));
        self.legs.push(leg);
    }

    fn build_invite(&self, leg: &Leg, stage: &mut Stage<'_>) -> Text {
        let mut invite =
            self.build("INVITE", leg).with("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO");
        if stage.rng.chance(400) {
            invite = invite.with("Supported", "100rel, timer");
        }
        for route in &self.recorded {
            invite = invite.with("Record-Route", route);
        }
        if let Some(replaces) = &leg.replaces {
            invite = invite.with("Replaces", replaces).with("Require", "replaces");
        }
        if leg.local.contains("anonymous.invalid") {
            invite = invite.with("Privacy", "id");
        }
        match leg.temper.no_offer {
            true => invite,
            false => invite.with_body("application/sdp", self.sdp(leg, "sendrecv", leg.lines)),
        }
    }

    /// An answer to a request of ours.
    pub fn on_response(&mut self, key: &Key, text: &Text, stage: &mut Stage<'_>) {
        let code = text.code().unwrap_or(0);
        let Some(place) = self.legs.iter().position(|leg| leg.invite.as_ref() == Some(key)) else {
            return self.on_other_response(key, text, code);
        };
        match code {
            0..=199 => self.on_provisional(place, text, stage),
            200..=299 => self.on_accepted(place, text, stage),
            _ if !self.legs[place].remote_tag.is_empty() => self.on_change_refused(place, code, stage),
            401 | 407 if self.retry(place, text, stage) => {}
            _ => {
                if text.has("Warning") {
                    self.told_to_wait = text.header("Retry-After").parse().ok().map(Duration::from_secs);
                }
                self.legs[place].status = code;
                self.legs[place].state = State::Over;
            }
        }
    }

    /// A re-INVITE was refused: the call goes on as it was, unless it is gone; after 491 we try again
    /// (RFC 3261 §14.1).
    fn on_change_refused(&mut self, place: usize, code: u16, stage: &mut Stage<'_>) {
        let leg = &mut self.legs[place];
        leg.changing = false;
        leg.port = leg.port_before.take().unwrap_or(leg.port);
        leg.begin_to_listen();
        if matches!(code, 408 | 481) {
            leg.state = State::Over;
        } else if code == 491 {
            leg.act_at = Some(stage.now + stage.rng.millis(0, 4_000));
        }
    }

    fn on_other_response(&mut self, key: &Key, text: &Text, code: u16) {
        if code < 200 {
            return;
        }
        for leg in self.legs.iter_mut().filter(|leg| leg.call_id == text.header("Call-ID")) {
            if key.1 == "BYE" && leg.state == State::Ending {
                leg.state = State::Over;
            }
            if key.1 == "UPDATE" && leg.local_tag == text.from_tag() {
                leg.changing = false;
                leg.begin_to_listen();
                if code < 300 {
                    leg.changes += 1;
                    leg.remote_media = media_of(&text.body).or(leg.remote_media);
                }
            }
        }
    }

    /// A reliable one has its PRACK (RFC 3262 §4), in the early dialog that it makes.
    fn on_provisional(&mut self, place: usize, text: &Text, stage: &mut Stage<'_>) {
        let (Ok(rseq), Some(path)) = (text.header("RSeq").parse::<u32>(), self.path) else { return };
        let known = (text.to_tag().to_owned(), rseq);
        let leg = &mut self.legs[place];
        if !text.header("Require").contains("100rel") || leg.state != State::Calling {
            return;
        }
        if leg.confirmed.contains(&known) {
            return;
        }
        leg.confirmed.push(known);
        let invite = text.cseq();
        leg.cseq = leg.cseq.max(invite) + 1;
        let mut early = leg.clone();
        early.remote_tag = text.to_tag().to_owned();
        early.remote = without_tag(text.header("To"));
        early.target = uri_of(text.header("Contact")).to_owned();
        early.routes = text.all("Record-Route").into_iter().rev().collect();
        let prack = self.build("PRACK", &early).with("RAck", format!("{rseq} {invite} INVITE"));
        self.transactions.request(prack, &self.identity.host, path, stage);
    }

    fn retry(&mut self, place: usize, text: &Text, stage: &mut Stage<'_>) -> bool {
        let (Some((user, password)), Some(path)) = (self.identity.credentials.clone(), self.path) else {
            return false;
        };
        let leg = &mut self.legs[place];
        if leg.cancelled {
            return false;
        }
        if !leg.challenged && leg.insists == 0 && stage.busy {
            let insists = stage.decide_for(100, "tries a challenged call again and again");
            leg.insists = if insists { INSISTS } else { 0 };
        }
        if leg.insists > 0 {
            return self.insist(place, text, path, stage);
        }
        let leg = &mut self.legs[place];
        if std::mem::replace(&mut leg.challenged, true) {
            return false;
        }
        let (theirs, ours) = challenge_of(text);
        leg.cseq += 1;
        let leg = self.legs[place].clone();
        let cnonce = stage.rng.word();
        let challenge = digest::choose(&text.all(theirs), REALM);
        let value = digest::answer(&challenge, &user, &password, "INVITE", &leg.target, &cnonce);
        self.shown = Some((ours, value.clone()));
        let invite = self.build_invite(&leg, stage).with(ours, value);
        self.legs[place].invite = Some(self.transactions.request(invite, &self.identity.host, path, stage));
        true
    }

    /// The same call once more, with an answer to a question that nobody asked.
    fn insist(&mut self, place: usize, text: &Text, path: Path, stage: &mut Stage<'_>) -> bool {
        let Some((user, password)) = self.identity.credentials.clone() else { return false };
        let leg = &mut self.legs[place];
        (leg.insists, leg.cseq, leg.challenged) = (leg.insists - 1, leg.cseq + 1, true);
        let leg = self.legs[place].clone();
        let (theirs, ours) = challenge_of(text);
        let unknown = format!("Digest realm=\"{REALM}\", nonce=\"{}\"", stage.rng.word());
        let opaque = digest::field(&digest::choose(&text.all(theirs), REALM), "opaque").map(str::to_owned);
        let challenge = opaque.map_or(unknown.clone(), |opaque| format!("{unknown}, opaque=\"{opaque}\""));
        let value = digest::answer(&challenge, &user, &password, "INVITE", &leg.target, "c");
        let invite = self.build_invite(&leg, stage).with(ours, value);
        self.legs[place].invite = Some(self.transactions.request(invite, &self.identity.host, path, stage));
        true
    }

    /// Every 2xx is acknowledged; a second party that answered is hung up on (RFC 3261 §13.2.2.4).
    fn on_accepted(&mut self, place: usize, text: &Text, stage: &mut Stage<'_>) {
        let Some(path) = self.path else { return };
        let mut leg = self.legs[place].clone();
        let first = leg.remote_tag.is_empty();
        let surplus = !first && leg.remote_tag != text.to_tag();
        let cseq = leg.cseq;
        leg.remote_tag = text.to_tag().to_owned();
        leg.remote = without_tag(text.header("To"));
        leg.target = uri_of(text.header("Contact")).to_owned();
        if first || surplus {
            leg.routes = text.all("Record-Route").into_iter().rev().collect();
        }
        if leg.temper.slow_ack.is_none_or(|until| until <= stage.now) {
            self.acknowledge(&leg, text, stage);
        }
        if surplus {
            if self.legs[place].hung_up.contains(&leg.remote_tag) {
                return;
            }
            leg.cseq = cseq + 1;
            self.legs[place].hung_up.push(leg.remote_tag.clone());
            self.legs[place].cseq = leg.cseq;
            let bye = self.build("BYE", &leg);
            self.transactions.request(bye, &self.identity.host, path, stage);
            return;
        }
        leg.changing = false;
        if !first && leg.remote_media.is_some() {
            leg.changes += u8::from(leg.answered != text.cseq());
        }
        if leg.answered != text.cseq() {
            leg.begin_to_listen();
            leg.port_before = None;
        }
        leg.answered = text.cseq();
        if let Some(media) = media_of(&text.body) {
            leg.remote_media = Some(media);
            leg.remote_video = stream_of(&text.body, "m=video ");
            leg.lines = lines_of(&text.body);
        }
        if leg.state == State::Calling {
            leg.state = State::Talking;
            leg.status = 200;
            leg.audio_at = Some(stage.now);
            let given_up = stage.now + Duration::from_millis(1);
            leg.act_at = Some(if leg.cancelled { given_up } else { leg.talk(stage) });
        }
        self.legs[place] = leg;
    }

    /// The ACK of a 2xx; with an answer where the 2xx made the offer.
    fn acknowledge(&mut self, leg: &Leg, text: &Text, stage: &mut Stage<'_>) {
        let Some(path) = self.path else { return };
        let numbered = Leg { cseq: text.cseq(), ..leg.clone() };
        let offered = leg.invite.as_ref().and_then(|key| self.transactions.sent(key));
        let answers = offered.is_some_and(|invite| invite.body.is_empty()) && !text.body.is_empty();
        for _ in 0..=u8::from(leg.temper.double_ack) {
            let mut ack = self.build("ACK", &numbered);
            if answers {
                ack = ack.with_body("application/sdp", self.sdp(leg, "sendrecv", lines_of(&text.body)));
            }
            let via = format!("SIP/2.0/UDP {};branch=z9hG4bK{};rport", self.identity.host, stage.rng.word());
            ack.push_front("Via", via);
            stage.send(path, &ack);
        }
    }
}

/// The header of a challenge, and that of its answer.
fn challenge_of(text: &Text) -> (&'static str, &'static str) {
    match text.has("Proxy-Authenticate") {
        true => ("Proxy-Authenticate", "Proxy-Authorization"),
        false => ("WWW-Authenticate", "Authorization"),
    }
}
