//! Requests that a PBX leaves without a word.
//!
//! Health checks tell that a PBX is dead within two of their intervals; who calls it meanwhile would wait and hear
//! nothing. So what begins something there is watched until its first answer, be it a 100. Where nothing at all comes
//! from the PBX for a while, it is asked whether it is there, and where that is in vain it is down. Registrations have
//! a patience of their own, and requests inside a dialog their timers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use sip::ClientId;
use wire::clock::Instant;
use wire::net::Side;
use wire::sip::{Message, Method};

use crate::Border;
use crate::event::Code;
use crate::forward::{ForwardId, Kind};
use crate::pbx::PbxState;
use crate::report::About;
use crate::response::ClientUse;
use crate::timers::{Deadline, Timer, Timers};

/// How long a PBX may say nothing after a request before it is asked.
const ASK_AFTER: Duration = Duration::from_secs(4);
/// How often it is asked from then on. One question would be repeated so seldom that a living PBX could seem dead
/// where many packets are lost.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long it may say nothing after a request before it is down.
const DOWN_AFTER: Duration = Duration::from_secs(8);

/// The requests without any answer, and how long their PBXs have been silent.
#[derive(Default)]
pub(crate) struct Unanswered {
    /// Which PBX each of them went to.
    requests: BTreeMap<ForwardId, usize>,
    /// The PBXs from which nothing has come since such a request went there.
    silent: BTreeMap<usize, Silence>,
}

struct Silence {
    since: Instant,
    deadline: Deadline,
}

impl Unanswered {
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    fn sent(&mut self, id: ForwardId, pbx: usize, now: Instant, timers: &mut Timers) {
        self.requests.insert(id, pbx);
        self.silent.entry(pbx).or_insert_with(|| {
            let mut deadline = Deadline::default();
            deadline.set(now + ASK_AFTER, Timer::Silence(pbx), timers);
            Silence { since: now, deadline }
        });
    }

    /// It has its first answer, or waits for none any more.
    pub(crate) fn ended(&mut self, id: ForwardId) {
        self.requests.remove(&id);
    }

    fn heard(&mut self, pbx: usize, timers: &mut Timers) {
        if let Some(mut silence) = self.silent.remove(&pbx) {
            silence.deadline.clear(Timer::Silence(pbx), timers);
        }
    }

    /// The timer of a PBX fired: how long it has been silent, where it still is. Wants the next one.
    fn timed_out(&mut self, pbx: usize, now: Instant, timers: &mut Timers) -> Option<Duration> {
        let silence = self.silent.get_mut(&pbx)?;
        if !silence.deadline.fired(now, Timer::Silence(pbx), timers) {
            return None;
        }
        let next = (now + ASK_EVERY).min(silence.since + DOWN_AFTER);
        if next > now {
            silence.deadline.set(next, Timer::Silence(pbx), timers);
        }
        Some(now - silence.since)
    }

    fn take_those_at(&mut self, pbx: usize) -> Vec<ForwardId> {
        let those: Vec<ForwardId> =
            self.requests.iter().filter(|(_, at)| **at == pbx).map(|(id, _)| *id).collect();
        for id in &those {
            self.requests.remove(id);
        }
        those
    }
}

impl Border {
    /// A forwarded request went out: whether its first answer is waited for here.
    pub(crate) fn watch(&mut self, id: ForwardId) {
        if let Some(pbx) = self.pbx_begun_at(id) {
            self.unanswered.sent(id, pbx, self.now.mono, &mut self.timers);
        }
    }

    /// The PBX at which a request begins something; none for those inside a dialog, and from a PBX to a phone.
    fn pbx_begun_at(&self, id: ForwardId) -> Option<usize> {
        let forward = self.forward(id).filter(|forward| forward.ask.side == Side::Outside)?;
        match &forward.kind {
            Kind::Invite { .. } | Kind::Single(_) => Some(self.pbx_of(id)),
            Kind::InDialog { .. } => None,
        }
    }

    /// Whether a request would begin something at a PBX that is down by now.
    pub(crate) fn begins_in_vain(&self, id: ForwardId) -> bool {
        self.pbx_begun_at(id).and_then(|pbx| self.pbxs.get(pbx)).is_some_and(|pbx| !pbx.is_usable())
    }

    /// Something came on the inside face, whatever it is: whoever sent it is there.
    pub(crate) fn on_inside_heard(&mut self, from: SocketAddr) {
        if self.unanswered.silent.is_empty() {
            return;
        }
        // Two PBXs may share an address, and only one of them be dead.
        let port = |pbx: &PbxState| pbx.targets.iter().any(|target| target.address == from);
        let exact = self.pbxs.iter().any(port);
        let ip = from.ip().to_canonical();
        for pbx in 0..self.pbxs.len() {
            let state = &self.pbxs[pbx];
            if if exact { port(state) } else { state.has_address(ip) } {
                self.unanswered.heard(pbx, &mut self.timers);
            }
        }
    }

    /// A request of ours was answered, from whatever address: the PBX that it was for is there. One with several
    /// addresses may answer from another than it was asked at.
    pub(crate) fn on_request_heard(&mut self, client: ClientId) {
        if self.unanswered.silent.is_empty() {
            return;
        }
        let pbx = match self.clients.find(client) {
            Some(
                ClientUse::Registration { pbx, .. }
                | ClientUse::Query { pbx, .. }
                | ClientUse::Options { pbx, .. }
                | ClientUse::Sample { pbx, .. },
            ) => Some(*pbx),
            Some(ClientUse::Return(returning)) => Some(returning.place.pbx),
            Some(ClientUse::Abandoned(leaving) | ClientUse::Deregistration(leaving)) => Some(leaving.pbx),
            Some(ClientUse::PassedRegister(passed)) => Some(passed.pbx),
            // What is inside a dialog may have gone to another machine than the PBX.
            Some(ClientUse::Forward(id)) => self.pbx_begun_at(*id),
            Some(ClientUse::Ending) | None => None,
        };
        if let Some(pbx) = pbx {
            self.unanswered.heard(pbx, &mut self.timers);
        }
    }

    pub(crate) fn on_silence_timer(&mut self, pbx: usize) {
        let silent_for = self.unanswered.timed_out(pbx, self.now.mono, &mut self.timers);
        match silent_for {
            Some(time) if time >= DOWN_AFTER => {
                let seconds = DOWN_AFTER.as_secs();
                let why =
                    format!("for {seconds} s it has answered neither a request nor whether it is there");
                self.pbx_down(pbx, &why);
            }
            Some(_) => {
                self.ask_whether_there(pbx);
            }
            None => {}
        }
    }

    /// A PBX is down: who waits there for a first answer is told so at once.
    pub(crate) fn fail_unanswered(&mut self, pbx: usize) {
        self.unanswered.heard(pbx, &mut self.timers);
        for id in self.unanswered.take_those_at(pbx) {
            self.fail_for_pbx(id);
        }
    }

    /// Answers a request whose PBX is down: 503, and when to try again.
    pub(crate) fn fail_for_pbx(&mut self, id: ForwardId) {
        let Some(forward) = self.forward(id) else { return self.never("a forward that waits is gone") };
        if forward.cancelled {
            return self.fail_forward(id, 487, "it was given up");
        }
        let Some(ask) = self.close_ask(id) else { return };
        self.report_pbx_down(id);
        match self.preferred_pbx() {
            Some(_) => self.refuse_for(&ask, 1),
            None => self.refuse_for_now(&ask),
        }
        self.after_failure(id);
    }

    fn report_pbx_down(&mut self, id: ForwardId) {
        let Some(forward) = self.forward(id) else {
            return self.never("a forward is gone while it is worked on");
        };
        let message = Message::parse(&forward.ask.bytes).ok();
        let what = match message.as_ref().and_then(Message::method) {
            Some(method) if method != Method::Invite => method.as_str().to_owned(),
            _ => "call".to_owned(),
        };
        let mut about = About::source(forward.ask.hop.remote);
        if let Some(entry) = self.entry_of(id) {
            about = about.extension(self.entries.name(entry));
        }
        let name = self.pbx_name(self.pbx_of(id));
        let standby = self.preferred_pbx().map(|standby| self.pbx_name(standby));
        self.event(Code::CallFailed, about, || {
            let next_step = match standby {
                Some(standby) => {
                    format!("nothing for the caller: the next try goes to PBX {standby}; look at {name}")
                }
                None => {
                    format!("look whether PBX {name} runs and can be reached; calls fail until it answers")
                }
            };
            (format!("the {what} failed: PBX {name} is down and had not answered it"), next_step)
        });
    }
}
