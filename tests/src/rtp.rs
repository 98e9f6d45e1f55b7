//! One end of an RTP stream: sends a tone as PCMU, keeps what it hears. Reads and writes its 12 bytes itself.

use std::f64::consts::TAU;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::deadline::{Deadline, wait_until};
use crate::netns::Namespace;
use crate::tone::{RATE, tenths_with};

/// Samples in a packet of 20 ms.
const SAMPLES: u32 = 160;

/// The stream's end.
#[derive(Debug)]
pub struct RtpEnd {
    /// Where it sends from and listens.
    pub local: SocketAddr,
    socket: UdpSocket,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    heard: Mutex<Vec<i16>>,
    sources: Mutex<Vec<SocketAddr>>,
}

impl RtpEnd {
    /// Opens one at an address, and listens.
    pub fn open(address: IpAddr, namespace: Option<&Namespace>) -> Self {
        let bind = || UdpSocket::bind((address, 0)).expect("a port for RTP");
        let socket = namespace.map_or_else(bind, |namespace| namespace.enter(bind));
        let local = socket.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let ear = { listen(socket.try_clone().expect("a socket can be shared"), Arc::clone(&shared)) };
        Self { local, socket, shared, workers: vec![ear] }
    }

    /// Sends a tone to an address from now on.
    pub fn send_tone(&mut self, to: SocketAddr, hertz: u32) {
        let socket = self.socket.try_clone().expect("a socket can be shared");
        self.workers.push(speak(socket, to, hertz, Arc::clone(&self.shared)));
    }

    /// Sends single packets of a tone, all at once: for those who are not to be heard.
    pub fn send_packets(&self, to: SocketAddr, hertz: u32, count: u16) {
        for number in 0..count {
            self.socket.send_to(&packet(number, hertz, 0xBAD), to).expect("loopback takes packets");
        }
    }

    /// Waits until it has heard a tone for so many tenths of a second.
    #[track_caller]
    pub fn wait_heard(&self, hertz: u32, tenths: usize, within: Duration) {
        wait_until(
            &format!("{tenths} tenths of a second of {hertz} Hz are heard at {}", self.local),
            within,
            || (self.tenths_heard(hertz) >= tenths).then_some(()),
        );
    }

    /// How many tenths of a second of a tone it has heard.
    pub fn tenths_heard(&self, hertz: u32) -> usize {
        tenths_with(&self.shared.heard.lock().unwrap(), hertz)
    }

    /// Forgets what it has heard.
    pub fn forget(&self) {
        self.shared.heard.lock().unwrap().clear();
    }

    /// Who has sent to it, each once.
    pub fn sources(&self) -> Vec<SocketAddr> {
        self.shared.sources.lock().unwrap().clone()
    }
}

impl Drop for RtpEnd {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            assert!(worker.join().is_ok() || std::thread::panicking(), "an end of RTP broke");
        }
    }
}

fn listen(socket: UdpSocket, shared: Arc<Shared>) -> JoinHandle<()> {
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !shared.stop.load(Ordering::Relaxed) {
            let Ok((length, source)) = socket.recv_from(&mut buffer) else { continue };
            let mut sources = shared.sources.lock().unwrap();
            if !sources.contains(&source) {
                sources.push(source);
            }
            let is_pcmu = buffer[0] >> 6 == 2 && buffer[1] & 0x7f == 0;
            if is_pcmu && length > 12 {
                shared.heard.lock().unwrap().extend(buffer[12..length].iter().map(|byte| from_mu_law(*byte)));
            }
        }
    })
}

fn speak(socket: UdpSocket, to: SocketAddr, hertz: u32, shared: Arc<Shared>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let ssrc = hertz << 8 | u32::from(socket.local_addr().map_or(0, |local| local.port())) << 16;
        for number in 0..=u16::MAX {
            let next = Deadline::after(Duration::from_millis(20));
            // Nobody may listen yet, or no longer: the kernel then says so with the next packet.
            let _refused = socket.send_to(&packet(number, hertz, ssrc), to);
            while let Some(left) = next.left() {
                std::thread::park_timeout(left);
            }
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    })
}

fn packet(number: u16, hertz: u32, ssrc: u32) -> Vec<u8> {
    let begin = u32::from(number) * SAMPLES;
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&begin.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    for at in begin..begin + SAMPLES {
        let angle = f64::from(at) * TAU * f64::from(hertz) / f64::from(RATE);
        packet.push(to_mu_law((angle.sin() * 12_000.0) as i16));
    }
    packet
}

/// G.711 µ-law.
fn to_mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(32_635) + 0x84;
    let exponent = (7..15).rev().find(|bit| magnitude & (1 << bit) != 0).map_or(0, |bit| bit - 7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

fn from_mu_law(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 0x0f) << 3) + 0x84) << ((byte >> 4) & 7);
    if byte & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addresses;

    #[test]
    fn a_tone_comes_through_mu_law() {
        for sample in [0, 1_000, -1_000, 12_000, -12_000, 32_000] {
            let back = from_mu_law(to_mu_law(sample));
            assert!(
                (i32::from(back) - i32::from(sample)).abs() <= i32::from(sample).abs() / 16 + 8,
                "{sample} {back}"
            );
        }
        let addresses = Addresses::claim();
        let (mut one, two) = (RtpEnd::open(addresses.phone(1), None), RtpEnd::open(addresses.phone(2), None));
        one.send_tone(two.local, 700);
        two.wait_heard(700, 3, Duration::from_secs(5));
        assert_eq!(two.tenths_heard(440), 0);
        assert_eq!(two.sources(), [one.local]);
    }
}
