//! G.711 both ways through a relay: 50 packets a second each stream, evenly apart, checked on arrival.
//!
//! One thread, two sockets that nobody sleeps on: what a wake-up costs would be charged to the relay's send.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU64;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::interrupt;
use crate::measure::latency::Latencies;
use crate::measure::time::Nanos;

/// Of one stream, from packet to packet.
const APART: Duration = Duration::from_millis(20);
/// How long the thread sleeps between two looks at the clock.
const NAP: Duration = Duration::from_micros(100);
/// Enough for a second in which the machine does something else.
const BUFFER: usize = 32 << 20;
const HEADER: usize = 12;
const PACKET: usize = HEADER + 160;
/// Where the first phone is, and the PBX.
const ENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 85, 0, 1), super::pbx::PBX];

/// What became of the packets.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Sent by both ends.
    pub sent: u64,
    /// Arrived at the other end as they were sent.
    pub received: u64,
    /// Arrived, but not as they were sent, or at the wrong end.
    pub damaged: u64,
    /// From sending to looking, of those that arrived.
    pub delays: Latencies,
}

/// Two ends and the streams between them.
#[derive(Debug)]
pub struct Streams {
    ends: [UdpSocket; 2],
    /// By stream: even ones leave the phones, odd ones the PBX.
    targets: Vec<SocketAddr>,
    /// Packets that are due are counted from here.
    started: Nanos,
    next: u64,
    outcome: Outcome,
    /// Packets sent before this instant are not counted.
    counted_from: Nanos,
}

impl Streams {
    /// Two ends without streams.
    pub fn new() -> io::Result<Self> {
        // without it naps are a little longer, no more
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000)).unwrap_or_default();
        let ends = [end(ENDS[0])?, end(ENDS[1])?];
        let now = Nanos::now();
        Ok(Self {
            ends,
            targets: Vec::new(),
            started: now,
            next: 0,
            outcome: Outcome::default(),
            counted_from: now,
        })
    }

    /// The addresses of both ends.
    pub fn ends(&self) -> io::Result<[SocketAddr; 2]> {
        Ok([self.ends[0].local_addr()?, self.ends[1].local_addr()?])
    }

    /// Takes the sessions up: from now on packets are due.
    pub fn call(&mut self, sessions: &[[SocketAddr; 2]]) {
        self.targets = sessions.iter().flatten().copied().collect();
        self.started = Nanos::now();
        self.next = 0;
    }

    /// Forgets what was counted so far.
    pub fn forget(&mut self) {
        self.outcome = Outcome::default();
        self.counted_from = Nanos::now();
    }

    /// What was counted.
    pub fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// Takes other sessions up.
    pub fn hang_up(&mut self) {
        self.targets.clear();
    }

    /// Sends what is due and takes in what arrives, for so long.
    pub fn run(&mut self, time: Duration) -> io::Result<()> {
        let until = Nanos::now() + Nanos::from(time);
        while Nanos::now() < until {
            interrupt::check()?;
            self.send_due()?;
            self.receive();
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// Takes in what still arrives, until nothing is missing; at most for so long.
    pub fn listen(&mut self, at_most: Duration) -> io::Result<()> {
        let until = Nanos::now() + Nanos::from(at_most);
        while Nanos::now() < until && self.outcome.received + self.outcome.damaged < self.outcome.sent {
            self.receive();
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// All streams together are one row of packets, evenly apart.
    fn send_due(&mut self) -> io::Result<()> {
        let streams = self.targets.len() as u64;
        if streams == 0 {
            return Ok(());
        }
        let now = Nanos::now();
        let elapsed = now.since(self.started).as_nanos() as u64;
        let due = elapsed * streams / APART.as_nanos() as u64;
        while self.next < due {
            let (stream, number) = ((self.next % streams) as u32, (self.next / streams) as u32);
            let sent = Nanos::now();
            self.ends[stream as usize % 2]
                .send_to(&packet(stream, number, sent), self.targets[stream as usize])?;
            self.next += 1;
            self.outcome.sent += 1;
        }
        Ok(())
    }

    fn receive(&mut self) {
        let mut buffer = [0; 2 * PACKET];
        for end in 0..self.ends.len() {
            while let Ok(length) = self.ends[end].recv(&mut buffer) {
                let now = Nanos::now();
                match arrived(&buffer[..length], end) {
                    Some(sent) if sent < self.counted_from => {}
                    Some(sent) => {
                        self.outcome.received += 1;
                        self.outcome.delays.add(now.since(sent));
                    }
                    None => self.outcome.damaged += 1,
                }
            }
        }
    }
}

fn end(ip: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((ip, 0))?;
    socket.set_nonblocking(true)?;
    // who may not have so much has what the system gives
    set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap_or_default();
    Ok(socket)
}

/// RTP (RFC 3550 §5.1), PCMU; the SSRC is the stream, the payload the time and a pattern.
fn packet(stream: u32, number: u32, sent: Nanos) -> [u8; PACKET] {
    let mut packet = [pattern(stream, number); PACKET];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
    packet[4..8].copy_from_slice(&number.wrapping_mul(160).to_be_bytes());
    packet[8..HEADER].copy_from_slice(&stream.to_be_bytes());
    packet[HEADER..HEADER + 8].copy_from_slice(&sent.as_u64().to_be_bytes());
    packet
}

/// When a packet that arrived whole at the right end was sent.
fn arrived(bytes: &[u8], end: usize) -> Option<Nanos> {
    let packet: &[u8; PACKET] = bytes.try_into().ok()?;
    let word = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    let (stream, number) = (word(8), word(4) / 160);
    let sent = Nanos::from_u64(u64::from(word(HEADER)) << 32 | u64::from(word(HEADER + 4)));
    let whole = packet[HEADER + 8..].iter().all(|byte| *byte == pattern(stream, number));
    (whole && stream as usize % 2 != end).then_some(sent)
}

fn pattern(stream: u32, number: u32) -> u8 {
    (stream.wrapping_mul(31).wrapping_add(number)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_known_again() {
        let sent = Nanos::from_u64(0x0102_0304_0506_0708);
        let packet = packet(6, 70_000, sent);
        assert_eq!(arrived(&packet, 1), Some(sent));
        assert_eq!(arrived(&packet, 0), None, "a phone's own packet must not come back to it");
        assert_eq!(arrived(&packet[1..], 1), None);
        let mut damaged = packet;
        damaged[PACKET - 1] ^= 1;
        assert_eq!(arrived(&damaged, 1), None);
    }
}
