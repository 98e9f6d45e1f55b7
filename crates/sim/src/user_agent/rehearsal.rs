//! What is done in a call when nothing breaks any more: one change after the other, after each of which both ends
//! hear and see each other again. Whoever called does it, whoever was called waits for him.

use std::net::SocketAddr;
use std::time::Duration;

use crate::act::{Act, Stage};
use crate::text::Text;
use crate::user_agent::user::Deed;
use crate::user_agent::{Leg, STALE, State, UserAgent};

/// Long enough for a change and for some packets after it.
const PAUSE: Duration = Duration::from_millis(3_500);

/// Stands behind the speaker in a packet of video.
pub(super) const VIDEO: &str = " video";

/// Both ends know which of these their call has.
const SCRIPTS: [&[Deed]; 6] = [
    &[],
    &[Deed::Hold, Deed::Hold],
    &[Deed::Elsewhere, Deed::Message],
    &[Deed::Video, Deed::Elsewhere],
    &[Deed::Update, Deed::Hold, Deed::Hold],
    REFUSED,
];

/// Of these the called party takes none.
const REFUSED: &[Deed] = &[Deed::Elsewhere, Deed::Digits];

impl Leg {
    fn script(&self) -> &'static [Deed] {
        let place = usize::try_from(self.shared() % SCRIPTS.len() as u64).unwrap_or(0);
        SCRIPTS.get(place).copied().unwrap_or_default()
    }

    /// Whether the other end has something in mind.
    pub(super) fn waits_for_the_caller(&self) -> bool {
        self.invite.is_none() && !self.script().is_empty()
    }

    /// Whether a change is refused.
    pub(super) fn is_to_refuse(&self) -> bool {
        self.script() == REFUSED
    }

    /// Something changed: from now on it is looked whether the other end is heard.
    pub(super) fn begin_to_listen(&mut self) {
        (self.heard_since, self.seen_since) = (0, 0);
    }

    /// Whether the other end was heard, and seen where it shows itself, since the last change.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard_since > 0 && (self.lines < 2 || self.remote_video.is_none() || self.seen_since > 0)
    }
}

impl Leg {
    /// The same in words.
    pub(crate) fn what_it_hears(&self) -> String {
        let Self { heard_since, seen_since, lines, remote_media, remote_video, port, .. } = self;
        format!(
            "{heard_since} packets of audio from {remote_media:?}, {seen_since} of video from {remote_video:?}, to \
             port {port}, {lines} streams, {:?}",
            self.script()
        )
    }
}

impl UserAgent {
    /// The next of what is to be done in this call; false where nothing is left.
    pub(super) fn rehearse(&mut self, place: usize, stage: &mut Stage<'_>) -> bool {
        let leg = &self.legs[place];
        let deed = leg.script().get(usize::from(leg.deeds)).copied();
        let Some(deed) = deed.filter(|_| !leg.waits_for_the_caller() && self.path.is_some()) else {
            return false;
        };
        self.legs[place].deeds += 1;
        self.legs[place].act_at = Some(stage.now + PAUSE);
        self.do_in_call(place, deed, stage);
        true
    }

    /// Offers another port: until the other end has agreed, the old one is spoken from.
    pub(super) fn move_media(&mut self, place: usize, stage: &mut Stage<'_>) {
        self.next_port += 4;
        let (port, leg) = (self.next_port, &mut self.legs[place]);
        leg.sdp_version += 1;
        leg.port_before = Some(std::mem::replace(&mut leg.port, port));
        let offer = self.sdp(&self.legs[place], "sendrecv", self.legs[place].lines);
        match self.ask(place, "INVITE", |text: Text| text.with_body("application/sdp", offer), stage) {
            Some(key) => {
                self.legs[place].invite = Some(key);
                self.legs[place].changing = true;
            }
            None => {
                let leg = &mut self.legs[place];
                leg.port = leg.port_before.take().unwrap_or(leg.port);
            }
        }
    }

    /// A packet of video, where there is any.
    pub(super) fn show(&mut self, place: usize, stage: &mut Stage<'_>) {
        let leg = &self.legs[place];
        let (Some(to), State::Talking, true) = (leg.remote_video, leg.state, leg.lines > 1) else { return };
        let mut bytes = vec![0x80, 99, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1];
        let call = if leg.stale { STALE } else { leg.caller_tag.as_str() };
        bytes.extend_from_slice(format!("{call} {}{VIDEO}", leg.local_tag).as_bytes());
        let from = SocketAddr::new(self.identity.media_seen, leg.port_before.unwrap_or(leg.port) + 2);
        stage.acts.push(Act::Audio { from, to, bytes });
    }

    /// A packet of video came to a port: it is no port of audio, and belongs to the call.
    pub(super) fn on_video(&mut self, port: u16, call: &str, speaker: &str) {
        for leg in self.legs.iter_mut().filter(|leg| !leg.stale && call != STALE) {
            let ports = [Some(leg.port), leg.port_before];
            if ports.contains(&Some(port)) {
                self.foreign_audio = Some(format!("port {port} of {} heard video", leg.call_id));
            } else if ports.into_iter().flatten().any(|own| own + 2 == port) {
                match leg.caller_tag == call && leg.local_tag != speaker {
                    true => leg.seen_since += 1,
                    false => self.foreign_audio = Some(format!("port {port} saw the call {call}")),
                }
            }
        }
    }
}
