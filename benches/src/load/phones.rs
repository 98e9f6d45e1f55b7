//! N phones, over UDP or each on a TLS connection of its own with its own certificate, driven by one thread.
//!
//! The load is open: each operation has a moment at which it is due, whatever became of those before it, and
//! its latency counts from that moment. A system that stalls is charged for all who had to wait.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::attack::Attack;
use super::calls::{Calls, Offer};
use super::framing::{self, About};
use super::pbx::media_end;
use super::pki::{Authority, Credentials};
use super::poller::Poller;
use super::stream::Stream;
use crate::interrupt;
use crate::measure::latency::Latencies;
use crate::measure::time::Nanos;
use crate::systems::{Transport, extension, hardware_id};
use crate::templates::Speaker;

/// So many at most are begun before what arrived is looked at.
const BURST: u64 = 16;
/// Where nothing happens for so long, no more is waited for.
const PATIENCE: Nanos = Nanos::from_secs(2);
/// The same, for those who are to come back.
const PATIENCE_STORM: Nanos = Nanos::from_secs(15);
const EXPIRES: u32 = 3_600;
/// Enough for a second in which the machine does something else.
const BUFFER: usize = 1 << 20;
/// Between two looks where nothing is due.
const NAP: Nanos = Nanos::from_millis(1);
/// A phone whose return failed tries again after this, as phones do.
const TRY_AGAIN: Nanos = Nanos::from_millis(500);

/// What phones do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Connects, shakes hands, and proves by a keepalive that it was let in; stays.
    Connect,
    /// The same, and leaves.
    Visit,
    /// The same as [`Self::Visit`], with a ticket from the time before.
    Return,
    /// The same, where being turned away is what is wanted.
    BeRefused,
    /// REGISTER.
    Register,
    /// A keepalive of CRLFs (RFC 5626 §3.5.1).
    Ping,
    /// Connects and registers, at most so many at once, until all are back.
    ComeBack(usize),
    /// A call from INVITE to the answer of BYE, held so long.
    Call(Offer, Duration),
}

/// An amount of work.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Of which kind.
    pub work: Work,
    /// So many a second.
    pub rate: f64,
    /// So many in all.
    pub total: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Begun.
    pub asked: u64,
    /// Done as they should be.
    pub done: u64,
    /// The others, by what became of them.
    pub faults: BTreeMap<String, u64>,
    /// Returns that had to be tried again.
    pub retries: u64,
    /// Returns whose handshake was spared by a ticket.
    pub resumed: u64,
    /// From when each was due until it was done; a call, until its INVITE was answered.
    pub latency: Latencies,
    /// From the first to the last that was begun.
    pub sending: Duration,
    /// Until all was over.
    pub lasted: Duration,
}

impl Outcome {
    /// One that failed.
    pub(super) fn fail(&mut self, why: impl Into<String>) {
        *self.faults.entry(why.into()).or_default() += 1;
    }

    /// How many failed.
    pub fn failed(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How many were begun a second.
    pub fn rate(&self) -> f64 {
        self.asked as f64 / self.sending.as_secs_f64().max(1e-9)
    }
}

/// How a phone is connected.
#[derive(Debug)]
enum Line {
    Udp(UdpSocket),
    Tls(Box<Stream>),
}

/// What a phone waits for.
#[derive(Clone, Copy, Debug)]
struct Ask {
    due: Nanos,
    what: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Handshake,
    Pong,
    Register(u32),
}

/// One of them.
#[derive(Debug)]
struct Phone {
    speaker: Speaker,
    ip: IpAddr,
    config: Option<Arc<ClientConfig>>,
    line: Option<Line>,
    cseq: u32,
    asks: VecDeque<Ask>,
}

/// All of them, where they go, and the clock.
#[derive(Debug)]
pub struct Phones {
    phones: Vec<Phone>,
    server: SocketAddr,
    poller: Poller,
    calls: Calls,
    /// Who is to try again, and when.
    again: VecDeque<(Nanos, usize)>,
    /// Hostile traffic of the same thread, if there is any.
    pub attack: Option<Attack>,
}

/// The address of the phone with this number.
pub fn phone_address(number: u32) -> IpAddr {
    let (high, low) = (number / 250, number % 250 + 1);
    IpAddr::from([127, 85, (high % 250) as u8, low as u8])
}

impl Phones {
    /// Phones with a port each at the UDP listener `server`.
    pub fn over_udp(server: SocketAddr, count: u32) -> io::Result<Self> {
        let poller = Poller::new()?;
        let mut phones = Vec::new();
        for number in 0..count {
            let ip = phone_address(number);
            let socket = UdpSocket::bind((ip, 0))?;
            socket.set_nonblocking(true)?;
            socket.connect(server)?;
            // who may not have so much has what the system gives
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap_or_default();
            poller.watch_datagrams(&socket, u64::from(number))?;
            let authority = socket.local_addr()?.to_string();
            let speaker = Speaker { extension: extension(number), authority, transport: "UDP" };
            let line = Some(Line::Udp(socket));
            phones.push(Phone { speaker, ip, config: None, line, cseq: 0, asks: VecDeque::new() });
        }
        Ok(Self::of(phones, server, poller))
    }

    /// Phones that are not connected yet, for the TLS listener `server`.
    pub fn over_tls(
        server: SocketAddr,
        count: u32,
        authority: &Authority,
        credentials: Credentials,
    ) -> io::Result<Self> {
        let mut phones = Vec::new();
        for number in 0..count {
            let config = Some(authority.phone(&hardware_id(number), credentials)?);
            let ip = phone_address(number);
            let speaker =
                Speaker { extension: extension(number), authority: ip.to_string(), transport: "TLS" };
            phones.push(Phone { speaker, ip, config, line: None, cseq: 0, asks: VecDeque::new() });
        }
        Ok(Self::of(phones, server, Poller::new()?))
    }

    /// Shows other credentials from the next connection on.
    pub fn show(&mut self, authority: &Authority, credentials: Credentials) -> io::Result<()> {
        for (number, phone) in (0..).zip(&mut self.phones) {
            phone.config = Some(authority.phone(&hardware_id(number), credentials)?);
        }
        Ok(())
    }

    fn of(phones: Vec<Phone>, server: SocketAddr, poller: Poller) -> Self {
        Self { phones, server, poller, calls: Calls::default(), again: VecDeque::new(), attack: None }
    }

    /// How they are connected.
    pub fn transport(&self) -> Transport {
        let udp = self.phones.first().is_some_and(|phone| phone.config.is_none());
        if udp { Transport::Udp } else { Transport::Tls }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.phones.len() as u64
    }

    /// Cuts all connections.
    pub fn hang_up(&mut self) {
        for phone in &mut self.phones {
            if matches!(phone.line, Some(Line::Tls(_))) {
                phone.line = None;
            }
            phone.asks.clear();
        }
    }

    /// Does nothing for so long but answer what comes, and go on with the attack.
    pub fn idle(&mut self, time: Duration) -> io::Result<()> {
        let until = Nanos::now() + Nanos::from(time);
        let mut unasked = Outcome::default();
        while Nanos::now() < until {
            interrupt::check()?;
            self.turn(Work::Ping, until, &mut unasked)?;
        }
        Ok(())
    }

    /// A phone calls and holds the call, hearing at `media`; where it is to send its audio.
    pub fn place(&mut self, index: usize, call: u64, media: SocketAddr) -> io::Result<SocketAddr> {
        let mut ignored = Outcome::default();
        let invite = self.phones[index].speaker.invite_to_hear_at(call, &media.to_string());
        if !self.send(index, &invite, &mut ignored) {
            return Err(io::Error::other("the call could not be sent"));
        }
        let until = Nanos::now() + PATIENCE;
        while Nanos::now() < until {
            self.poller.wait(NAP.into())?;
            let Some(Line::Udp(socket)) = &self.phones[index].line else { break };
            let mut datagram = [0; 4_096];
            while let Ok(length) = socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(datagram.get(..length).unwrap_or_default()).into_owned();
                let Some((status @ 200.., About::Call(number, _))) = framing::answer(&text) else { continue };
                if number != call {
                    continue;
                }
                let ack = self.phones[index].speaker.in_dialog("ACK", 1, call, &text);
                self.send(index, &ack, &mut ignored);
                let end = media_end(&text).filter(|_| status == 200);
                return end.ok_or_else(|| io::Error::other(format!("the call was answered: {text}")));
            }
        }
        Err(io::Error::other("the call was not answered"))
    }

    /// Does a job to its end.
    pub fn run(&mut self, job: Job) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        self.calls.clear();
        self.again.clear();
        let started = Nanos::now();
        let mut all_begun = None;
        let (mut moved, mut seen) = (started, (0, 0));
        loop {
            interrupt::check()?;
            let now = Nanos::now();
            self.begin_due(job, started, &mut outcome)?;
            if outcome.asked == job.total && all_begun.is_none() {
                all_begun = Some(now);
            }
            let ended = outcome.done + outcome.failed();
            if seen != (outcome.asked, ended) {
                (moved, seen) = (now, (outcome.asked, ended));
            }
            let over = ended >= job.total && self.again.is_empty();
            if over || now > moved + self.patience(job.work) {
                outcome.sending = all_begun.unwrap_or(now).since(started);
                break;
            }
            let next = self.next_due(job, started, &outcome);
            self.turn(job.work, next, &mut outcome)?;
        }
        let lost = outcome.asked.saturating_sub(outcome.done + outcome.failed());
        if lost > 0 {
            outcome.faults.insert("no answer".into(), lost);
        }
        for phone in &mut self.phones {
            phone.asks.clear();
        }
        outcome.lasted = Nanos::now().since(started);
        Ok(outcome)
    }

    /// How long nothing may happen until no more is expected.
    fn patience(&self, work: Work) -> Nanos {
        match work {
            Work::ComeBack(_) => PATIENCE_STORM,
            _ => PATIENCE + self.calls.longest_hold(),
        }
    }

    /// When operation number `index` is due.
    fn due_at(job: Job, started: Nanos, index: u64) -> Nanos {
        match job.work {
            // they all lost their connections at the beginning
            Work::ComeBack(_) => started,
            _ => started + Nanos::from(Duration::from_secs_f64(index as f64 / job.rate)),
        }
    }

    fn next_due(&self, job: Job, started: Nanos, outcome: &Outcome) -> Nanos {
        let soon = Nanos::now() + NAP;
        let next = if outcome.asked < job.total { Self::due_at(job, started, outcome.asked) } else { soon };
        let next = if is_full(job.work, outcome) { soon } else { next };
        next.min(self.calls.next_due().unwrap_or(soon)).min(soon)
    }

    fn begin_due(&mut self, job: Job, started: Nanos, outcome: &mut Outcome) -> io::Result<()> {
        let now = Nanos::now();
        while self.again.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, index)) = self.again.pop_front() {
                self.connect(index, started, job.work, outcome)?;
            }
        }
        for _ in 0..BURST {
            if is_full(job.work, outcome) {
                break;
            }
            let due = Self::due_at(job, started, outcome.asked);
            if outcome.asked == job.total || due > now {
                break;
            }
            let index = (outcome.asked % self.count()) as usize;
            outcome.asked += 1;
            self.begin(index, job.work, due, outcome)?;
        }
        for (index, call, method, text) in self.calls.byes_due(now) {
            let bye = self.phones[index].speaker.in_dialog(method, 2, call, &text);
            self.send(index, &bye, outcome);
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, work: Work, due: Nanos, outcome: &mut Outcome) -> io::Result<()> {
        match work {
            Work::Connect | Work::Visit | Work::Return | Work::BeRefused | Work::ComeBack(_) => {
                if self.phones[index].asks.is_empty() {
                    return self.connect(index, due, work, outcome);
                }
                outcome.fail("still busy with the one before");
            }
            Work::Register => self.register(index, due, outcome),
            Work::Ping => {
                self.phones[index].asks.push_back(Ask { due, what: Asked::Pong });
                self.send(index, b"\r\n\r\n", outcome);
            }
            Work::Call(offer, hold) => {
                let (call, invite) = self.calls.invite(index, &self.phones[index].speaker, offer, hold, due);
                if !self.send(index, &invite, outcome) {
                    self.calls.forget(call);
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self, index: usize, due: Nanos, work: Work, outcome: &mut Outcome) -> io::Result<()> {
        let phone = &mut self.phones[index];
        let Some(config) = phone.config.clone() else { return Ok(()) };
        phone.line = None;
        match Stream::connect(config, self.server, phone.ip) {
            Ok(stream) => {
                phone.speaker.authority = stream.socket().local_addr()?.to_string();
                self.poller.watch_stream(stream.socket(), index as u64)?;
                phone.line = Some(Line::Tls(Box::new(stream)));
                phone.asks.push_back(Ask { due, what: Asked::Handshake });
            }
            Err(fault) => self.hung_up(index, &fault, work, outcome),
        }
        Ok(())
    }

    fn register(&mut self, index: usize, due: Nanos, outcome: &mut Outcome) {
        let phone = &mut self.phones[index];
        phone.cseq += 1;
        phone.asks.push_back(Ask { due, what: Asked::Register(phone.cseq) });
        let register = phone.speaker.register(phone.cseq, EXPIRES);
        self.send(index, &register, outcome);
    }

    /// Whether it went out; where not, the operation has failed.
    fn send(&mut self, index: usize, bytes: &[u8], outcome: &mut Outcome) -> bool {
        let phone = &mut self.phones[index];
        let sent = match &mut phone.line {
            Some(Line::Udp(socket)) => socket.send(bytes).map(drop),
            Some(Line::Tls(stream)) => stream.send(bytes),
            None => Err(io::Error::other("not connected")),
        };
        if let Err(fault) = &sent {
            phone.asks.pop_back();
            outcome.fail(fault.to_string());
        }
        sent.is_ok()
    }

    /// Waits until something happens or `until`, and does what it calls for.
    fn turn(&mut self, work: Work, until: Nanos, outcome: &mut Outcome) -> io::Result<()> {
        if let Some(attack) = &mut self.attack {
            attack.go_on(Nanos::now());
        }
        let until = self.attack.as_ref().map_or(until, |attack| until.min(attack.next_due()));
        let at_most = until.since(Nanos::now()).min(NAP.into());
        for number in self.poller.wait(at_most)? {
            self.ready(number as usize, work, outcome)?;
        }
        Ok(())
    }

    fn ready(&mut self, index: usize, work: Work, outcome: &mut Outcome) -> io::Result<()> {
        let mut datagram = [0; 4_096];
        let turned = match &mut self.phones[index].line {
            Some(Line::Tls(stream)) => stream.turn(),
            Some(Line::Udp(_)) | None => Ok(()),
        };
        if turned.is_ok() {
            self.shaken_hands(index, work, outcome);
        }
        loop {
            let message = match &mut self.phones[index].line {
                Some(Line::Tls(stream)) => stream.message(),
                Some(Line::Udp(socket)) => {
                    let length = socket.recv(&mut datagram);
                    length.ok().and_then(|length| datagram.get(..length)).map(<[u8]>::to_vec)
                }
                None => None,
            };
            let Some(message) = message else { break };
            self.heard(index, &message, work, outcome);
        }
        if let Err(fault) = turned {
            self.hung_up(index, &fault, work, outcome);
        }
        Ok(())
    }

    /// Goes on where a handshake has just ended.
    fn shaken_hands(&mut self, index: usize, work: Work, outcome: &mut Outcome) {
        let phone = &mut self.phones[index];
        let Some(Line::Tls(stream)) = &phone.line else { return };
        let waits = phone.asks.front().is_some_and(|ask| ask.what == Asked::Handshake);
        if !stream.is_established() || !waits {
            return;
        }
        let resumed = stream.is_resumed();
        let Some(Ask { due, .. }) = phone.asks.pop_front() else { return };
        if work == Work::Return && !resumed {
            phone.line = None;
            outcome.fail("not resumed");
        } else if matches!(work, Work::ComeBack(_)) {
            outcome.resumed += u64::from(resumed);
            self.register(index, due, outcome);
        } else {
            // in TLS 1.3 the client has done its part before its certificate is judged
            phone.asks.push_back(Ask { due, what: Asked::Pong });
            self.send(index, b"\r\n\r\n", outcome);
        }
    }

    fn heard(&mut self, index: usize, message: &[u8], work: Work, outcome: &mut Outcome) {
        let phone = &mut self.phones[index];
        if message == b"\r\n" {
            if phone.asks.front().is_some_and(|ask| ask.what == Asked::Pong) {
                let due = phone.asks.pop_front().map(|ask| ask.due);
                self.let_in(index, due.unwrap_or_default(), work, outcome);
            }
            return;
        }
        let text = String::from_utf8_lossy(message);
        match framing::answer(&text) {
            Some((100..200, _)) | None => {}
            Some((status, About::Register(cseq))) => {
                let Some(at) = phone.asks.iter().position(|ask| ask.what == Asked::Register(cseq)) else {
                    return;
                };
                let Some(ask) = phone.asks.remove(at) else { return };
                finish(outcome, status, ask.due);
            }
            Some((status, About::Call(call, method))) => {
                let ack = self.calls.answered(call, &method, status, &text, outcome);
                if ack {
                    let ack = phone.speaker.in_dialog("ACK", 1, call, &text);
                    self.send(index, &ack, &mut Outcome::default());
                }
            }
        }
    }

    fn let_in(&mut self, index: usize, due: Nanos, work: Work, outcome: &mut Outcome) {
        match work {
            Work::BeRefused => outcome.fail("let in"),
            _ => finish(outcome, 200, due),
        }
        if matches!(work, Work::Visit | Work::Return | Work::BeRefused) {
            self.phones[index].line = None;
        }
    }

    fn hung_up(&mut self, index: usize, fault: &io::Error, work: Work, outcome: &mut Outcome) {
        let phone = &mut self.phones[index];
        phone.line = None;
        let asks = std::mem::take(&mut phone.asks);
        if asks.is_empty() && !matches!(work, Work::ComeBack(_)) {
            return; // nobody was waiting
        }
        if work == Work::BeRefused {
            asks.front().map(|ask| finish(outcome, 200, ask.due)).unwrap_or_default();
        } else if matches!(work, Work::ComeBack(_)) {
            outcome.retries += 1;
            self.again.push_back((Nanos::now() + TRY_AGAIN, index));
        } else {
            for _ in asks {
                outcome.fail(fault.to_string());
            }
        }
    }
}

/// Whether as many are on their way back as may be.
fn is_full(work: Work, outcome: &Outcome) -> bool {
    matches!(work, Work::ComeBack(at_once) if outcome.asked - outcome.done >= at_once as u64)
}

fn finish(outcome: &mut Outcome, status: u16, due: Nanos) {
    if status == 200 {
        outcome.done += 1;
        outcome.latency.add(Nanos::now().since(due));
    } else {
        outcome.fail(status.to_string());
    }
}
