//! The scenarios: what each system goes through, alone on its CPU, fresh each time.

mod amounts;
mod attacks;
mod calls;
pub mod conductor;
mod curve;
mod handshakes;
mod media;
mod phones;
pub mod run;
mod soak;

use std::io;

use crate::load::phones::{Job, Outcome, Phones, Work};
use crate::load::pki::{Authority, Credentials};
use crate::measure::cost::Cost;
use crate::report::record::Record;
use crate::report::rows::SOAK;
use crate::systems::{Ground, Running, System, Transport, Wanted};

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Amount {
    /// How often each system goes through each scenario.
    pub rounds: u32,
    /// The same where single stalls of the machine decide: one of a hundred operations beside an attack.
    pub tail_rounds: u32,
    /// How long each rate is kept.
    pub seconds: f64,
    /// TLS phones.
    pub phones: u32,
    /// Phones that come back at once, and how many of them at a time.
    pub storm: [u32; 2],
    /// New connections a second.
    pub handshakes: f64,
    /// REGISTERs a second over TLS.
    pub refreshes: f64,
    /// Keepalives a second.
    pub keepalives: f64,
    /// REGISTERs a second over UDP.
    pub registers: f64,
    /// Calls a second.
    pub calls: f64,
    /// Calls a second with media ports.
    pub media_calls: f64,
    /// How long a call is held, in seconds.
    pub hold: f64,
    /// Sessions of audio: where it is compared, and the points of the curve.
    pub sessions: usize,
    /// Further numbers of sessions.
    pub more_sessions: Vec<usize>,
    /// Hostile datagrams a second beside phones that work.
    pub flood: f64,
    /// Hostile datagrams a second alone.
    pub datagrams: f64,
    /// Silent connections a second.
    pub half_open: f64,
    /// How long each point of a curve is kept; none: no curves.
    pub point: Option<f64>,
    /// How long the soak lasts, in seconds.
    pub soak: f64,
}

/// What a scenario has to work with.
#[derive(Debug)]
pub struct Site<'a> {
    /// Under all systems.
    pub ground: Ground<'a>,
    /// Signs the phones' certificates.
    pub authority: &'a Authority,
    /// How much of everything.
    pub amount: &'a Amount,
    /// Which round this is.
    pub round: u32,
}

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// The rows that it measures.
    pub rows: &'static [&'static str],
    /// Who goes through it.
    pub systems: &'static [System],
    /// How often each system goes through it.
    pub rounds: fn(&Amount) -> u32,
    /// How long a system takes for it in a full run, about, in seconds; and how much longer with a curve.
    seconds: [f64; 2],
    run: fn(&Site<'_>, System) -> io::Result<Vec<Record>>,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        rows: &["refresh-tls", "refresh-tls-max", "handshake", "memory", "keepalive"],
        systems: &[System::Portcullis, System::KamailioEdge, System::KamailioRegistrar, System::FloorTls],
        rounds: |amount| amount.rounds,
        seconds: [12.0, 10.0],
        run: phones::run,
    },
    Scenario {
        rows: &["refused-none", "refused-stranger", "resumed", "handshake-max"],
        systems: &[System::Portcullis, System::KamailioRegistrar, System::FloorTls],
        rounds: |amount| amount.rounds,
        seconds: [7.0, 9.0],
        run: handshakes::run,
    },
    Scenario {
        rows: &["storm", "storm-time", "storm-memory", "storm-resumed", "storm-resumed-time"],
        systems: &[System::Portcullis, System::KamailioRegistrar, System::FloorTls],
        rounds: |amount| amount.rounds.min(2),
        seconds: [11.0, 0.0],
        run: handshakes::storm,
    },
    Scenario {
        rows: &["register-passed", "register-passed-max"],
        systems: &[System::Portcullis, System::KamailioEdge, System::FloorForward],
        rounds: |amount| amount.rounds,
        seconds: [4.0, 10.0],
        run: calls::registers,
    },
    Scenario {
        rows: &["calls", "calls-max"],
        systems: &[System::Portcullis, System::KamailioTopoh, System::FloorForward],
        rounds: |amount| amount.rounds,
        seconds: [4.0, 12.0],
        run: calls::with_audio,
    },
    Scenario {
        rows: &["calls-bare"],
        systems: &[System::Portcullis, System::KamailioTopoh, System::FloorForward],
        rounds: |amount| amount.rounds,
        seconds: [4.0, 0.0],
        run: calls::bare,
    },
    Scenario {
        rows: &["calls-media", "calls-media-max"],
        systems: &[System::Portcullis, System::KamailioMedia, System::FloorForward],
        rounds: |amount| amount.rounds,
        seconds: [4.0, 10.0],
        run: calls::with_media,
    },
    Scenario {
        rows: &["calls-tls"],
        systems: &[System::Portcullis, System::KamailioTopoh],
        rounds: |amount| amount.rounds,
        seconds: [4.0, 0.0],
        run: calls::over_tls,
    },
    Scenario {
        rows: &["rtp", "rtp-p50", "rtp-p99", "rtp-sessions"],
        systems: &[System::Portcullis, System::Rtpengine, System::FloorRelay],
        rounds: |amount| amount.rounds,
        seconds: [4.0, 12.0],
        run: media::run,
    },
    Scenario {
        rows: &["flood", "flood-quiet", "garbage", "half-open"],
        systems: &[System::Portcullis, System::KamailioEdge, System::KamailioPike],
        rounds: |amount| amount.tail_rounds,
        seconds: [13.0, 0.0],
        run: attacks::beside_phones,
    },
    Scenario {
        rows: &["blocked"],
        systems: &[System::Portcullis, System::KamailioPike, System::FloorSink],
        rounds: |amount| amount.rounds,
        seconds: [3.0, 0.0],
        run: attacks::blocked,
    },
    Scenario {
        rows: &["garbage-datagram", "headers"],
        systems: &[System::Portcullis, System::KamailioEdge, System::FloorSink],
        rounds: |amount| amount.rounds,
        seconds: [5.0, 0.0],
        run: attacks::garbage,
    },
    Scenario {
        rows: &[SOAK],
        systems: &[System::Portcullis],
        rounds: |_| 1,
        seconds: [62.0, 0.0],
        run: soak::run,
    },
];

impl Scenario {
    /// How long one system takes in this round, about, beside other scenarios.
    fn seconds(&self, round: u32, amount: &Amount) -> f64 {
        let [once, curve] = self.seconds;
        once + if round == 0 && amount.point.is_some() { curve } else { 0.0 }
    }
}

impl Site<'_> {
    /// Lets a system serve so many phones.
    fn start(&self, system: System, wanted: Wanted) -> io::Result<Running> {
        Running::start(system, &wanted, &self.ground)
    }

    /// Phones over TLS that are not connected yet.
    fn tls_phones(&self, running: &Running, count: u32, credentials: Credentials) -> io::Result<Phones> {
        Phones::over_tls(running.tls, count, self.authority, credentials)
    }

    /// So many of one kind at this rate, for as long as rates are kept.
    fn job(&self, work: Work, rate: f64) -> Job {
        Job { work, rate, total: (rate * self.amount.seconds).ceil() as u64 }
    }
}

impl Wanted {
    fn phones(transport: Transport, extensions: u32) -> Self {
        Self { transport, extensions, phones_allowed: false, single: false }
    }
}

/// Does a job, and says what it cost the system.
fn measured(running: &Running, phones: &mut Phones, job: Job) -> io::Result<(Outcome, Cost)> {
    let before = running.sample()?;
    let outcome = phones.run(job)?;
    Ok((outcome, running.sample()?.since(&before)))
}

/// Does what must be done before anything can be measured: all of it must succeed.
fn prepare(phones: &mut Phones, work: Work, rate: f64) -> io::Result<Outcome> {
    let outcome = phones.run(Job { work, rate, total: phones.count() })?;
    // a few that a busy peer loses do not spoil what is measured with the others
    if outcome.done * 100 < outcome.asked * 99 {
        return Err(io::Error::other(format!(
            "{work:?}: {} of {} were done; {:?}",
            outcome.done, outcome.asked, outcome.faults
        )));
    }
    Ok(outcome)
}
