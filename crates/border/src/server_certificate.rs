//! The end of our own certificate, without which no phone connects: told two weeks before, and on the day.

use std::time::Duration;

use wire::clock::WallTime;

use crate::Border;
use crate::config::ENDING_SOON;
use crate::event::Code;
use crate::report::About;
use crate::timers::Timer;

/// The clock of the machine may be set: it is looked at anew as often.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
const DAY_S: u64 = 24 * 3_600;

/// What was said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Nothing,
    Ending,
    Ended,
}

/// Our certificate, as far as its end goes.
pub(crate) struct ServerCertificate {
    ends: WallTime,
    said: Said,
}

impl ServerCertificate {
    pub(crate) fn new(ends: WallTime) -> Self {
        Self { ends, said: Said::Nothing }
    }

    fn stands(&self, now: WallTime) -> Said {
        if now > self.ends {
            Said::Ended
        } else if self.ends.since(now) < ENDING_SOON {
            Said::Ending
        } else {
            Said::Nothing
        }
    }

    /// When it is to be looked at again; none where all is said.
    fn next_look(&self, now: WallTime) -> Option<Duration> {
        let until_end = self.ends.since(now) + Duration::from_secs(1);
        (self.said != Said::Ended).then(|| until_end.min(LOOK_EVERY))
    }
}

impl Border {
    pub(crate) fn on_server_certificate_timer(&mut self) {
        let now = self.now.wall;
        let Some(certificate) = &mut self.server_certificate else { return };
        let stands = certificate.stands(now);
        let days = certificate.ends.since(now).as_secs().div_ceil(DAY_S);
        let news = stands > certificate.said;
        certificate.said = stands.max(certificate.said);
        if let Some(wait) = certificate.next_look(now) {
            self.timers.arm(self.now.mono + wait, Timer::ServerCertificate);
        }
        let next_step = "renew `certificate` of [outside], and restart";
        match stands {
            Said::Ending if news => self.event(Code::ServerCertEnding, About::default(), || {
                let text =
                    format!("our server certificate ends within {days} days: no phone connects after that");
                (text, next_step.into())
            }),
            Said::Ended if news => self.event(Code::ServerCertEnded, About::default(), || {
                let text = "our server certificate has ended: no phone connects any more";
                (text.into(), next_step.into())
            }),
            Said::Nothing | Said::Ending | Said::Ended => {}
        }
    }
}
