//! G.711 both ways through a relay: 50 packets a second each stream, evenly apart, checked on arrival.
//!
//! One thread, two sockets that nobody sleeps on: what a wake-up costs would be charged to the relay's send.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU64;
use std::time::Duration;

use portcullis::clock::Clock;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use wire::clock::Instant;

/// Of one stream, from packet to packet.
const APART: Duration = Duration::from_millis(20);
/// How long the thread sleeps between two looks at the clock.
const NAP: Duration = Duration::from_micros(100);
/// Enough for a second in which the machine does something else.
const BUFFER: usize = 32 << 20;
const HEADER: usize = 12;
const PACKET: usize = HEADER + 160;
/// Where the phones are, and the PBX.
const ENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 83, 1, 1), Ipv4Addr::new(127, 83, 2, 1)];

/// What became of the packets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Sent by both ends.
    pub sent: u64,
    /// Arrived at the other end as they were sent.
    pub received: u64,
    /// Arrived, but not as they were sent, or at the wrong end.
    pub damaged: u64,
    /// From sending to looking, of those that arrived.
    pub delays_us: Vec<u32>,
}

/// Two ends and the streams between them.
#[derive(Debug)]
pub(crate) struct Load {
    ends: [UdpSocket; 2],
    /// By stream: even ones leave the phones, odd ones the PBX.
    targets: Vec<SocketAddr>,
    clock: Clock,
    /// Packets that are due are counted from here.
    started: Instant,
    next: u64,
    outcome: Outcome,
    /// Packets sent before this instant are not counted.
    counted_from: Instant,
}

impl Load {
    /// Two ends without streams.
    pub(crate) fn new() -> io::Result<Self> {
        // without it naps are a little longer, no more
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000)).unwrap_or_default();
        let clock = Clock::start();
        let ends = [end(ENDS[0])?, end(ENDS[1])?];
        let now = clock.mono();
        Ok(Self {
            ends,
            targets: Vec::new(),
            clock,
            started: now,
            next: 0,
            outcome: Outcome::default(),
            counted_from: now,
        })
    }

    /// The addresses of both ends.
    pub(crate) fn ends(&self) -> io::Result<[SocketAddr; 2]> {
        Ok([self.ends[0].local_addr()?, self.ends[1].local_addr()?])
    }

    /// Takes the sessions up: from now on packets are due.
    pub(crate) fn call(&mut self, sessions: &[[SocketAddr; 2]]) {
        self.targets = sessions.iter().flatten().copied().collect();
        self.started = self.clock.mono();
    }

    /// Forgets what was counted so far.
    pub(crate) fn forget(&mut self) {
        self.outcome = Outcome::default();
        self.counted_from = self.clock.mono();
    }

    /// What was counted.
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// Sends what is due and takes in what arrives, for so long.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<()> {
        let until = self.clock.mono() + time;
        while self.clock.mono() < until {
            self.send_due()?;
            self.receive();
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// Takes in what still arrives.
    pub(crate) fn listen(&mut self, time: Duration) -> io::Result<()> {
        let until = self.clock.mono() + time;
        while self.clock.mono() < until {
            self.receive();
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// All streams together are one row of packets, evenly apart.
    fn send_due(&mut self) -> io::Result<()> {
        let streams = self.targets.len() as u64;
        let now = self.clock.mono();
        let elapsed = now.since(self.started).as_nanos() as u64;
        let due = elapsed * streams / APART.as_nanos() as u64;
        while self.next < due {
            let (stream, number) = ((self.next % streams) as u32, (self.next / streams) as u32);
            let sent = self.clock.mono();
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
                let now = self.clock.mono();
                match arrived(&buffer[..length], end) {
                    Some(sent) if sent < self.counted_from => {}
                    Some(sent) => {
                        self.outcome.received += 1;
                        let delay = now.since(sent).as_micros();
                        self.outcome.delays_us.push(u32::try_from(delay).unwrap_or(u32::MAX));
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
fn packet(stream: u32, number: u32, sent: Instant) -> [u8; PACKET] {
    let mut packet = [pattern(stream, number); PACKET];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
    packet[4..8].copy_from_slice(&number.wrapping_mul(160).to_be_bytes());
    packet[8..HEADER].copy_from_slice(&stream.to_be_bytes());
    packet[HEADER..HEADER + 8].copy_from_slice(&sent.as_nanos().to_be_bytes());
    packet
}

/// When a packet that arrived whole at the right end was sent.
fn arrived(bytes: &[u8], end: usize) -> Option<Instant> {
    let packet: &[u8; PACKET] = bytes.try_into().ok()?;
    let word = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    let (stream, number) = (word(8), word(4) / 160);
    let sent = Instant::from_nanos(u64::from(word(HEADER)) << 32 | u64::from(word(HEADER + 4)));
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
        let sent = Instant::from_nanos(0x0102_0304_0506_0708);
        let packet = packet(6, 70_000, sent);
        assert_eq!(arrived(&packet, 1), Some(sent));
        assert_eq!(arrived(&packet, 0), None, "a phone's own packet must not come back to it");
        assert_eq!(arrived(&packet[1..], 1), None);
        let mut damaged = packet;
        damaged[PACKET - 1] ^= 1;
        assert_eq!(arrived(&damaged, 1), None);
    }
}
