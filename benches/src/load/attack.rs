//! Hostile traffic that goes on while phones work: floods from many sources, and connections that say nothing.
//!
//! It is sent by the phones' own thread, a few packets at a time, so that the flood on this machine delays
//! no phone by more than those few.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::measure::time::Nanos;
use crate::templates::DOMAIN;

/// Sources of a flood.
pub const SOURCES: u32 = 64;
/// Datagrams between two looks at what phones do.
const BURST: u64 = 16;
/// Headers of a message that is meant to be slow to read.
const HEADERS: u32 = 200;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostile {
    /// REGISTER, INVITE and OPTIONS by turns, each of a name that nobody has.
    Requests,
    /// What is no SIP: noise, NULs, a broken Via, no CSeq, a length that lies.
    Garbage,
    /// OPTIONS with two hundred headers.
    Headers,
    /// TLS connections that are opened and say nothing.
    HalfOpen,
}

/// An attack that goes on.
#[derive(Debug)]
pub struct Attack {
    kind: Hostile,
    rate: f64,
    server: SocketAddr,
    sources: Vec<UdpSocket>,
    held: Vec<TcpStream>,
    started: Nanos,
    /// Datagrams sent, or connections begun.
    pub sent: u64,
    /// Those that the kernel refused to send.
    pub refused: u64,
    /// What came back.
    pub answers: u64,
}

/// The address of the source with this number.
pub fn source_address(number: u32) -> IpAddr {
    IpAddr::from([127, 86, (number / 250 % 250) as u8, (number % 250 + 1) as u8])
}

impl Attack {
    /// Begins one, so many a second; `server` is the UDP listener, or the TLS one for [`Hostile::HalfOpen`].
    pub fn begin(kind: Hostile, rate: f64, server: SocketAddr) -> io::Result<Self> {
        let mut sources = Vec::new();
        if kind != Hostile::HalfOpen {
            for number in 0..SOURCES {
                let socket = UdpSocket::bind((source_address(number), 0))?;
                socket.set_nonblocking(true)?;
                socket.connect(server)?;
                sources.push(socket);
            }
        }
        Ok(Self {
            kind,
            rate,
            server,
            sources,
            held: Vec::new(),
            started: Nanos::now(),
            sent: 0,
            refused: 0,
            answers: 0,
        })
    }

    /// When the next is to be sent.
    pub(super) fn next_due(&self) -> Nanos {
        // in clumps: a wake-up for each datagram would cost this side more than the datagram
        let clump = if self.kind == Hostile::HalfOpen { 1 } else { BURST };
        self.started + Nanos::from(Duration::from_secs_f64((self.sent + clump) as f64 / self.rate))
    }

    /// Sends what is due, within bounds.
    pub(super) fn go_on(&mut self, now: Nanos) {
        let due = (now.since(self.started).as_secs_f64() * self.rate) as u64;
        for _ in 0..BURST {
            if self.sent >= due {
                break;
            }
            match self.kind {
                Hostile::HalfOpen => self.open_one(),
                _ => self.send_one(),
            }
            self.sent += 1;
        }
    }

    fn send_one(&mut self) {
        let index = self.sent % self.sources.len().max(1) as u64;
        let Some(socket) = self.sources.get(index as usize) else { return };
        let from = source_address(index as u32);
        if socket.send(&self.datagram(from)).is_err() {
            self.refused += 1;
        }
        let mut answer = [0; 2_048];
        while socket.recv(&mut answer).is_ok() {
            self.answers += 1;
        }
    }

    fn open_one(&mut self) {
        let from = source_address(self.sent as u32 % SOURCES);
        match open(from, self.server) {
            Ok(stream) => self.held.push(stream),
            Err(_) => self.refused += 1,
        }
    }

    fn datagram(&self, from: IpAddr) -> Vec<u8> {
        let number = self.sent;
        match self.kind {
            Hostile::Requests => {
                let method = ["REGISTER", "INVITE", "OPTIONS"][(number / u64::from(SOURCES) % 3) as usize];
                request(method, number, from, "").into_bytes()
            }
            Hostile::Headers => {
                let headers: String = (0..HEADERS).map(|at| format!("X-H{at}: {number:x}\r\n")).collect();
                request("OPTIONS", number, from, &headers).into_bytes()
            }
            Hostile::Garbage => garbage(number, from),
            Hostile::HalfOpen => Vec::new(),
        }
    }
}

fn open(from: IpAddr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    // one that is under way is as good as open here
    socket.connect(&server.into()).unwrap_or_default();
    Ok(socket.into())
}

/// A request that is well formed; `number` makes it unlike every other.
fn request(method: &str, number: u64, from: IpAddr, more: &str) -> String {
    let name = 100 + number % 900;
    format!(
        "{method} sip:{name}@{DOMAIN} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from}:5080;rport;branch=z9hG4bKfl{number:x}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:{name}@{DOMAIN}>;tag={number:x}\r\n\
         To: <sip:{name}@{DOMAIN}>\r\n\
         Call-ID: {number:x}@{from}\r\n\
         CSeq: 1 {method}\r\n\
         Contact: <sip:x@{from}:5080>\r\n\
         User-Agent: DeskPhone/4.2\r\n\
         {more}\
         Content-Length: 0\r\n\r\n"
    )
}

/// What is no SIP, one kind after the other.
fn garbage(number: u64, from: IpAddr) -> Vec<u8> {
    let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match number / u64::from(SOURCES) % 5 {
        0 => (0..200).map(|at| noise.rotate_left(at) as u8).collect(),
        1 => vec![0; 400],
        2 => request("INVITE", number, from, "").replace("SIP/2.0/UDP", "SIP/2.0/\u{1}UDP ;;;").into_bytes(),
        3 => request("REGISTER", number, from, "").replace("CSeq: 1 REGISTER\r\n", "").into_bytes(),
        _ => request("OPTIONS", number, from, "").replace("Length: 0", "Length: 99999999999999").into_bytes(),
    }
}
