//! What the user of a telephone does: gives up, answers, holds, asks for this and that, hangs up.

use std::time::Duration;

use wire::clock::Instant;

use crate::act::Stage;
use crate::scenery::DOMAIN;
use crate::text::{Text, uri_of, user_of};
use crate::user_agent::{Leg, Ringing, State, Temper, UserAgent};

/// 64·T1, and a little.
const NO_ACK: Duration = Duration::from_secs(33);
/// What is done in a call before it is hung up, at most.
const DEEDS_MAX: u8 = 3;

/// What is done in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Hold,
    Video,
    Update,
    Digits,
    Options,
    Message,
    Transfer,
    Join,
    Subscribe,
    /// Wants to be heard and to hear elsewhere.
    Elsewhere,
    /// It forgets the call, and tells nobody.
    Vanish,
}

const DEEDS: [(Deed, &str); 14] = [
    (Deed::Hold, "holds"),
    (Deed::Hold, "holds"),
    (Deed::Hold, "holds"),
    (Deed::Video, "adds video"),
    (Deed::Video, "adds video"),
    (Deed::Update, "updates"),
    (Deed::Digits, "sends digits"),
    (Deed::Options, "asks for abilities"),
    (Deed::Message, "sends a message"),
    (Deed::Transfer, "transfers"),
    (Deed::Join, "transfers to a call"),
    (Deed::Subscribe, "subscribes"),
    (Deed::Elsewhere, "listens elsewhere"),
    (Deed::Vanish, "vanishes"),
];

impl Temper {
    pub(super) fn of_caller(stage: &mut Stage<'_>) -> Self {
        if !stage.busy {
            return Self::default();
        }
        let mut temper = Self::default();
        let waits =
            [(true, "never acknowledges"), (false, "acknowledges late"), (false, "acknowledges late")];
        if let Some(never) = stage.choose(100, &waits) {
            let late = stage.rng.millis(3_000, 12_000);
            temper.slow_ack = Some(stage.now + if never { Duration::from_secs(300) } else { late });
        }
        temper.double_ack = stage.decide_for(60, "acknowledges twice");
        temper.no_offer = stage.decide_for(50, "leaves the offer to the other side");
        temper
    }

    pub(super) fn of_called(reliable: bool, stage: &mut Stage<'_>) -> Self {
        let ringing = match stage.rng.below(10) {
            0..=3 if reliable => Ringing::Reliable,
            0 | 1 => Ringing::Silent,
            2 => Ringing::Early,
            _ => Ringing::Plain,
        };
        if !stage.busy {
            return Self { ringing, ..Self::default() };
        }
        let deaf = stage.decide_for(30, "accepts what was given up");
        let refuses = stage.decide_for(150, "refuses");
        let code = *stage.rng.pick(&[486, 486, 603, 480, 302, 404, 500, 503, 488]).unwrap_or(&486);
        Self { refuses: refuses.then_some(code), deaf, ringing, ..Self::default() }
    }
}

impl Leg {
    /// A number that both ends of the call know.
    pub(super) fn shared(&self) -> u64 {
        self.caller_tag.bytes().fold(5, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
    }

    /// Until when they speak. In some calls both ends have the same moment in mind: what they do then
    /// crosses.
    pub(super) fn talk(&self, stage: &mut Stage<'_>) -> Instant {
        if self.shared().is_multiple_of(4) && stage.busy {
            let period = Duration::from_secs(4).as_nanos() as u64;
            let passed = stage.now.as_nanos() % period;
            return stage.now + Duration::from_nanos(period - passed);
        }
        // one that only shows that calls work is short, but both are heard
        let (least, most) = match stage.busy {
            true => (500, 40_000),
            false if self.waits_for_the_caller() => (25_000, 30_000),
            false => (2_500, 5_000),
        };
        stage.now + stage.rng.millis(least, most)
    }
}

impl UserAgent {
    /// The user of the telephone does something.
    pub(super) fn on_user(&mut self, place: usize, stage: &mut Stage<'_>) {
        match self.legs[place].state {
            State::Calling => {
                self.legs[place].cancelled = true;
                if let Some(key) = self.legs[place].invite.clone() {
                    self.transactions.cancel(&key, stage);
                }
            }
            State::Ringing => self.on_picked_up(place, stage),
            State::Talking => self.on_talking(place, stage),
            // no ACK ever came (RFC 3261 §13.3.1.4)
            State::Answered => self.hang_up(place, stage),
            State::Ending | State::Over => {}
        }
    }

    fn on_picked_up(&mut self, place: usize, stage: &mut Stage<'_>) {
        let leg = self.legs[place].clone();
        let Some(key) = leg.server.clone() else { return };
        if let Some(code) = leg.temper.refuses {
            return self.refuse(place, code, stage);
        }
        // a description that was offered reliably is answered first (RFC 3262 §5)
        if leg.unconfirmed.is_some() {
            self.legs[place].act_at = Some(stage.now + Duration::from_millis(700));
            return;
        }
        let sdp = self.sdp(&leg, "sendrecv", leg.lines);
        self.answer(&key, 200, &leg.local_tag, Some(sdp), stage);
        self.legs[place].state = State::Answered;
        self.legs[place].act_at = Some(stage.now + NO_ACK);
    }

    fn on_talking(&mut self, place: usize, stage: &mut Stage<'_>) {
        if !stage.busy && self.rehearse(place, stage) {
            return;
        }
        let leg = &self.legs[place];
        let together = leg.shared().is_multiple_of(4);
        let may = leg.deeds < DEEDS_MAX && stage.busy && self.ready && self.path.is_some();
        let deed = match (may, together, leg.deeds) {
            (false, ..) => None,
            (true, true, 0) if leg.shared().is_multiple_of(8) => {
                stage.choose(1_000, &[(Deed::Hold, "crosses")])
            }
            (true, true, _) => None,
            (true, false, _) => stage.choose(600, &DEEDS),
        };
        let Some(deed) = deed else { return self.hang_up(place, stage) };
        self.legs[place].deeds += 1;
        self.legs[place].act_at = Some(stage.now + stage.rng.millis(1_000, 15_000));
        self.do_in_call(place, deed, stage);
    }

    pub(super) fn do_in_call(&mut self, place: usize, deed: Deed, stage: &mut Stage<'_>) {
        match deed {
            Deed::Hold => self.hold(place, stage),
            Deed::Video => self.add_video(place, stage),
            Deed::Update => self.update(place, stage),
            Deed::Digits => {
                let digits = |text: Text| {
                    text.with_body("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n".into())
                };
                self.ask(place, "INFO", digits, stage);
            }
            Deed::Options => {
                self.ask(place, "OPTIONS", |text| text, stage);
            }
            Deed::Message => {
                let words = format!("I am at {}", self.identity.media);
                self.ask(place, "MESSAGE", |text| text.with_body("text/plain", words), stage);
            }
            Deed::Transfer => self.transfer(place, stage),
            Deed::Join => self.transfer_to_other(place, stage),
            Deed::Subscribe => {
                self.ask(place, "SUBSCRIBE", |text| text.with("Event", "talk").with("Expires", 60), stage);
            }
            Deed::Elsewhere => self.move_media(place, stage),
            Deed::Vanish => {
                self.legs[place].state = State::Over;
            }
        }
    }

    /// Holds, or resumes, by a new INVITE; some leave the offer to the other side.
    fn hold(&mut self, place: usize, stage: &mut Stage<'_>) {
        let leg = &mut self.legs[place];
        leg.sdp_version += 1;
        leg.held = !leg.held;
        let direction = match (leg.held, stage.rng.below(4)) {
            (false, _) => "sendrecv",
            (true, 0) => "inactive",
            (true, 1) => "hold",
            (true, _) => "sendonly",
        };
        let leg = &self.legs[place];
        let offer = (!stage.rng.chance(100)).then(|| self.sdp(leg, direction, leg.lines));
        let offer = |text: Text| match offer {
            Some(offer) => text.with_body("application/sdp", offer),
            None => text,
        };
        if let Some(key) = self.ask(place, "INVITE", offer, stage) {
            self.legs[place].invite = Some(key);
            self.legs[place].changing = true;
        }
    }

    /// Wants to be seen as well: one m-line more.
    fn add_video(&mut self, place: usize, stage: &mut Stage<'_>) {
        self.legs[place].sdp_version += 1;
        let offer = self.sdp(&self.legs[place], "sendrecv", 2);
        let offer = |text: Text| text.with_body("application/sdp", offer);
        if let Some(key) = self.ask(place, "INVITE", offer, stage) {
            self.legs[place].invite = Some(key);
            self.legs[place].changing = true;
        }
    }

    /// Holds, or only shows that it is there (RFC 3311).
    fn update(&mut self, place: usize, stage: &mut Stage<'_>) {
        if stage.rng.chance(400) {
            self.ask(place, "UPDATE", |text| text, stage);
            return;
        }
        let leg = &mut self.legs[place];
        leg.sdp_version += 1;
        leg.held = !leg.held;
        let direction = if leg.held { "sendonly" } else { "sendrecv" };
        let leg = &self.legs[place];
        let offer = self.sdp(leg, direction, leg.lines);
        let sent = self.ask(place, "UPDATE", |text| text.with_body("application/sdp", offer), stage);
        self.legs[place].changing = sent.is_some();
    }

    /// The phone is elsewhere now: the other ends of its calls hear of it at once.
    pub fn tell_where(&mut self, stage: &mut Stage<'_>) {
        for place in 0..self.legs.len() {
            if self.legs[place].state == State::Talking && !self.legs[place].changing {
                self.legs[place].held = true;
                self.hold(place, stage);
            }
        }
    }

    /// Asks the other end to call somebody else, and leaves soon (RFC 3515).
    fn transfer(&mut self, place: usize, stage: &mut Stage<'_>) {
        let number = *stage.rng.pick(&["2002", "1001", "1002", "1003"]).unwrap_or(&"2002");
        self.refer(place, format!("<sip:{number}@{DOMAIN}>"), stage);
    }

    /// Asks it to take the place that we have in another call of ours (RFC 3891).
    fn transfer_to_other(&mut self, place: usize, stage: &mut Stage<'_>) {
        let other = |leg: &&Leg| leg.state == State::Talking && leg.call_id != self.legs[place].call_id;
        let Some(other) = self.legs.iter().find(other) else { return self.transfer(place, stage) };
        let who = user_of(uri_of(&other.remote));
        let dialog = format!("{};to-tag={};from-tag={}", other.call_id, other.remote_tag, other.local_tag);
        let escaped = dialog.replace('@', "%40").replace(';', "%3B").replace('=', "%3D");
        self.refer(place, format!("<sip:{who}@{DOMAIN}?Replaces={escaped}>"), stage);
    }

    fn refer(&mut self, place: usize, to: String, stage: &mut Stage<'_>) {
        self.ask(place, "REFER", |text| text.with("Refer-To", to), stage);
        self.legs[place].deeds = DEEDS_MAX;
        self.legs[place].act_at = Some(stage.now + stage.rng.millis(1_500, 6_000));
    }

    fn hang_up(&mut self, place: usize, stage: &mut Stage<'_>) {
        if self.ask(place, "BYE", |text| text, stage).is_none() {
            // the connection will be back
            self.legs[place].act_at = Some(stage.now + Duration::from_secs(2));
            return;
        }
        self.legs[place].state = State::Ending;
        self.legs[place].audio_at = None;
    }
}
