//! What a telephone answers.

use std::time::Duration;

use crate::act::Stage;
use crate::text::{Text, param, uri_of};
use crate::transactions::Key;
use crate::user_agent::{
    Leg, Ringing, State, Temper, Transfer, Unconfirmed, UserAgent, lines_of, media_of, stream_of, without_tag,
};

const T1: Duration = Duration::from_millis(500);

impl UserAgent {
    pub(super) fn answer(
        &mut self,
        key: &Key,
        code: u16,
        tag: &str,
        sdp: Option<String>,
        stage: &mut Stage<'_>,
    ) {
        if let Some(text) = self.build_answer(key, code, tag, sdp) {
            self.transactions.respond(key, text, true, stage);
        }
    }

    fn build_answer(&self, key: &Key, code: u16, tag: &str, sdp: Option<String>) -> Option<Text> {
        let (request, _) = self.transactions.asked(key)?;
        let mut text = Text::response(request, code, Some(tag).filter(|tag| !tag.is_empty()));
        if code > 100 && code < 300 {
            for route in request.all("Record-Route") {
                text = text.with("Record-Route", route);
            }
            for route in self.recorded.iter().rev().filter(|_| key.1 == "INVITE") {
                text = text.with("Record-Route", route);
            }
            text = text.with("Contact", self.contact());
        }
        text = self.signed(text);
        if code == 503 {
            text = text.with("Retry-After", "3");
        }
        if (300..400).contains(&code) {
            text = text.with("Contact", format!("<sip:2002@{}>", self.identity.host));
        }
        if let Some(sdp) = sdp {
            text = text.with_body("application/sdp", sdp);
        }
        Some(text)
    }

    /// A request that concerns a call.
    pub fn on_request(&mut self, text: &Text, key: &Key, stage: &mut Stage<'_>) {
        match text.method() {
            "CANCEL" => self.on_cancel(key, stage),
            "INVITE" if text.to_tag().is_empty() => self.on_invite(text, key, stage),
            _ if !text.to_tag().is_empty() => self.on_in_dialog(text, key, stage),
            "OPTIONS" | "MESSAGE" | "NOTIFY" => self.answer(key, 200, "alone", None, stage),
            _ => self.answer(key, 405, "alone", None, stage),
        }
    }

    fn on_invite(&mut self, text: &Text, key: &Key, stage: &mut Stage<'_>) {
        let Some(replaced) = self.replaced_by(text) else {
            return self.answer(key, 481, "none", None, stage);
        };
        let local_tag = stage.rng.word();
        let mut leg = self.leg(
            text.header("Call-ID").to_owned(),
            local_tag,
            text.from_tag().to_owned(),
            State::Ringing,
        );
        leg.remote_tag = text.from_tag().to_owned();
        leg.local = text.header("To").to_owned();
        leg.remote = without_tag(text.header("From"));
        leg.target = uri_of(text.header("Contact")).to_owned();
        leg.routes = text.all("Record-Route");
        leg.cseq = 100;
        leg.remote_cseq = text.cseq();
        leg.server = Some(key.clone());
        leg.remote_media = media_of(&text.body);
        leg.lines = lines_of(&text.body);
        let reliable = text.header("Supported").contains("100rel");
        leg.temper = Temper::of_called(reliable, stage);
        // some let it ring until everybody else has lost patience
        let long = stage.busy && stage.decide_for(8, "rings too long");
        let ring = if long { (305_000, 330_000) } else { (100, 4_000) };
        leg.act_at = Some(stage.now + stage.rng.millis(ring.0, ring.1));
        if let Some(place) = replaced {
            self.replaced += 1;
            leg.act_at = Some(stage.now);
            leg.temper = Temper::default();
            self.legs[place].deeds = u8::MAX;
            self.legs[place].act_at = Some(stage.now + Duration::from_millis(200));
        }
        self.name_another(&mut leg, stage);
        self.ring(&mut leg, key, stage);
        self.legs.push(leg);
    }

    /// Which call of ours an INVITE takes the place of (RFC 3891 §3); none where it names one that we don't have.
    fn replaced_by(&self, text: &Text) -> Option<Option<usize>> {
        let value = text.header("Replaces");
        if value.is_empty() {
            return Some(None);
        }
        let call_id = value.split(';').next().unwrap_or_default();
        let tag = |name| param(value, name).unwrap_or_default();
        let meant = |leg: &Leg| {
            leg.call_id == call_id && leg.local_tag == tag("to-tag") && leg.remote_tag == tag("from-tag")
        };
        self.legs.iter().position(|leg| leg.state == State::Talking && meant(leg)).map(Some)
    }

    fn ring(&mut self, leg: &mut Leg, key: &Key, stage: &mut Stage<'_>) {
        let tag = leg.local_tag.clone();
        match leg.temper.ringing {
            Ringing::Silent => {}
            Ringing::Plain => self.answer(key, 180, &tag, None, stage),
            Ringing::Early => {
                let sdp = self.sdp(leg, "sendrecv", leg.lines);
                self.answer(key, 183, &tag, Some(sdp), stage);
            }
            Ringing::Reliable => {
                let rseq = u32::try_from(stage.rng.between(1, 1_000_000)).unwrap_or(1);
                let Some(answer) =
                    self.build_answer(key, 183, &tag, Some(self.sdp(leg, "sendrecv", leg.lines)))
                else {
                    return;
                };
                let answer = answer.with("Require", "100rel").with("RSeq", rseq);
                self.transactions.respond(key, answer.clone(), false, stage);
                leg.unconfirmed = Some(Unconfirmed { answer, rseq, interval: T1, at: stage.now + T1 });
            }
        }
    }

    /// A reliable provisional answer is repeated until its PRACK (RFC 3262 §3).
    pub(super) fn ring_again(&mut self, place: usize, stage: &mut Stage<'_>) {
        let leg = &mut self.legs[place];
        let ringing = leg.state == State::Ringing;
        let Some(unconfirmed) = leg.unconfirmed.as_mut().filter(|own| own.at <= stage.now) else { return };
        if !ringing || unconfirmed.interval > Duration::from_secs(16) {
            leg.unconfirmed = None;
            return;
        }
        unconfirmed.interval *= 2;
        unconfirmed.at = stage.now + unconfirmed.interval;
        let answer = unconfirmed.answer.clone();
        if let Some(key) = leg.server.clone() {
            self.transactions.respond(&key, answer, false, stage);
        }
    }

    fn on_cancel(&mut self, key: &Key, stage: &mut Stage<'_>) {
        let invite: Key = (key.0.clone(), "INVITE".into());
        let meant = |leg: &Leg| leg.server.as_ref() == Some(&invite);
        let Some(tag) = self.legs.iter().find(|leg| meant(leg)).map(|leg| leg.local_tag.clone()) else {
            return self.answer(key, 481, "none", None, stage);
        };
        self.answer(key, 200, &tag, None, stage);
        for place in 0..self.legs.len() {
            let leg = &self.legs[place];
            if meant(leg) && leg.state == State::Ringing && !leg.temper.deaf {
                self.refuse(place, 487, stage);
            }
        }
    }

    /// One party refuses: the caller hears of it when no other rings or has accepted.
    pub(super) fn refuse(&mut self, place: usize, code: u16, stage: &mut Stage<'_>) {
        let (server, tag) = (self.legs[place].server.clone(), self.legs[place].local_tag.clone());
        self.legs[place].state = State::Over;
        let Some(key) = server else { return };
        let others = |leg: &Leg| leg.server.as_ref() == Some(&key) && leg.state != State::Over;
        if !self.legs.iter().any(others) && !self.transactions.is_answered(&key) {
            self.answer(&key, code, &tag, None, stage);
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
            "BYE" => self.on_bye(place, key, stage),
            "INVITE" | "UPDATE" => self.on_change(place, text, key, stage),
            "PRACK" => self.on_prack(place, text, key, stage),
            "REFER" => self.on_refer(place, text, key, stage),
            "SUBSCRIBE" => self.answer(key, 489, "", None, stage),
            _ => self.answer(key, 200, "", None, stage),
        }
    }

    fn on_bye(&mut self, place: usize, key: &Key, stage: &mut Stage<'_>) {
        self.answer(key, 200, "", None, stage);
        if self.legs[place].state == State::Ringing {
            return self.refuse(place, 487, stage);
        }
        self.legs[place].state = State::Over;
    }

    /// A new offer, or none; while one of our own has no answer: 491 (RFC 3261 §14.2, RFC 3311 §5.2).
    fn on_change(&mut self, place: usize, text: &Text, key: &Key, stage: &mut Stage<'_>) {
        let invite = text.method() == "INVITE";
        if self.legs[place].changing && (invite || !text.body.is_empty()) {
            return self.answer(key, 491, "", None, stage);
        }
        if !invite && text.body.is_empty() {
            return self.answer(key, 200, "", None, stage);
        }
        let refuses = if stage.busy {
            stage.decide_for(80, "refuses a change")
        } else {
            self.legs[place].is_to_refuse()
        };
        self.legs[place].begin_to_listen();
        if refuses {
            return self.answer(key, 488, "", None, stage);
        }
        if let Some(media) = media_of(&text.body) {
            self.legs[place].remote_media = Some(media);
            self.legs[place].remote_video = stream_of(&text.body, "m=video ");
            self.legs[place].lines = lines_of(&text.body);
        }
        self.legs[place].sdp_version += 1;
        let direction = match &text.body {
            body if body.contains("a=sendonly") => "recvonly",
            body if body.contains("a=inactive") => "inactive",
            _ => "sendrecv",
        };
        let leg = &self.legs[place];
        let sdp = self.sdp(leg, direction, leg.lines);
        self.answer(key, 200, "", Some(sdp), stage);
    }

    fn on_prack(&mut self, place: usize, text: &Text, key: &Key, stage: &mut Stage<'_>) {
        let leg = &mut self.legs[place];
        let meant = text.header("RAck").split(' ').next().and_then(|rseq| rseq.parse::<u32>().ok());
        let known = leg.unconfirmed.as_ref().is_some_and(|own| Some(own.rseq) == meant);
        if known {
            leg.unconfirmed = None;
        }
        // one that comes too late, or again, confirms nothing
        self.answer(key, if known { 200 } else { 481 }, "", None, stage);
    }

    /// A transfer (RFC 3515): accepted, reported, and carried out.
    fn on_refer(&mut self, place: usize, text: &Text, key: &Key, stage: &mut Stage<'_>) {
        self.answer(key, 202, "", None, stage);
        let to = uri_of(text.header("Refer-To"));
        let (to, replaces) = match to.split_once("?Replaces=") {
            Some((to, escaped)) => {
                (to, Some(escaped.replace("%40", "@").replace("%3B", ";").replace("%3D", "=")))
            }
            None => (to, None),
        };
        let to = to.to_owned();
        for (state, line) in
            [("active;expires=60", "SIP/2.0 100 Trying"), ("terminated;reason=noresource", "SIP/2.0 200 OK")]
        {
            let notify = |text: Text| {
                text.with("Event", "refer")
                    .with("Subscription-State", state)
                    .with_body("message/sipfrag;version=2.0", format!("{line}\r\n"))
            };
            self.ask(place, "NOTIFY", notify, stage);
        }
        if stage.busy {
            self.transfers.push(Transfer { from: without_tag(&self.legs[place].local), to, replaces });
        }
    }

    /// The ACK of a 2xx, perhaps with the answer to our offer.
    pub fn on_ack(&mut self, text: &Text, stage: &mut Stage<'_>) {
        for leg in &mut self.legs {
            if leg.call_id != text.header("Call-ID") || leg.local_tag != text.to_tag() {
                continue;
            }
            if let Some(media) = media_of(&text.body) {
                leg.remote_media = Some(media);
                leg.remote_video = stream_of(&text.body, "m=video ");
            }
            if leg.state == State::Answered {
                leg.state = State::Talking;
                leg.audio_at = Some(stage.now);
                leg.act_at = Some(leg.talk(stage));
            }
        }
    }
}
