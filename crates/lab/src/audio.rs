//! The audio of a call: a tone as G.711 in RTP, counted, and compared byte for byte where it is heard
//! (RFC 3550 §5.1, ITU-T G.711).

use std::collections::BTreeSet;
use std::f64::consts::TAU;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::fault::Fault;
use crate::media::{Datagram, Media};

/// Samples of a packet: 20 ms at 8 kHz.
const SAMPLES: u16 = 160;

/// Between two packets.
const PTIME: Duration = Duration::from_millis(20);

/// Bytes of an RTP header without extras.
const HEADER: usize = 12;

/// How long a packet may be under way at the end.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// A tone that can be told from another.
#[derive(Clone, Copy, Debug)]
pub struct Tone {
    /// Its pitch.
    pub hertz: u32,
    /// Marks its packets.
    pub ssrc: u32,
}

/// What was heard of a tone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Packets that are exactly what was sent, each counted once.
    pub equal: usize,
    /// Packets of anything else.
    pub other: usize,
    /// Where they came from.
    pub sources: BTreeSet<SocketAddr>,
}

impl Tone {
    /// The packet of that number.
    pub(crate) fn packet(self, sequence: u16) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER + usize::from(SAMPLES));
        let timestamp = u32::from(sequence) * u32::from(SAMPLES);
        packet.extend([0x80, 0]);
        packet.extend(sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend((0..u32::from(SAMPLES)).map(|sample| self.sample(timestamp + sample)));
        packet
    }

    fn sample(self, number: u32) -> u8 {
        let seconds = f64::from(number) / 8000.0;
        let level = (TAU * f64::from(self.hertz) * seconds).sin() * 8000.0;
        mu_law(level as i32)
    }
}

/// A sample as G.711 writes it: sign, exponent, mantissa, inverted.
fn mu_law(sample: i32) -> u8 {
    const BIAS: u32 = 0x84;
    const CLIP: u32 = 32_635;
    let sign: u8 = if sample < 0 { 0x80 } else { 0 };
    let magnitude = sample.unsigned_abs().min(CLIP) + BIAS;
    let exponent = magnitude.ilog2().saturating_sub(7).min(7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | u8::try_from((exponent << 4) | mantissa).unwrap_or(0x7f))
}

/// Sends `mine` and listens for `theirs`, `packets` of each, at the pace of speech.
pub(crate) async fn talk(
    media: &mut Media,
    to: SocketAddr,
    mine: Tone,
    theirs: Tone,
    packets: u16,
) -> Result<Heard, Fault> {
    let (socket, rtp) = media.both();
    let (sent, heard) = tokio::join!(say(socket, to, mine, packets), listen(rtp, theirs, packets));
    sent.map(|()| heard)
}

async fn say(socket: &UdpSocket, to: SocketAddr, tone: Tone, packets: u16) -> Result<(), Fault> {
    let mut pace = interval(PTIME);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for sequence in 0..packets {
        pace.tick().await;
        let sent = socket.send_to(&tone.packet(sequence), to).await;
        sent.map_err(Fault::system(format!("send RTP to {to}")))?;
    }
    Ok(())
}

/// Listens until every packet was heard, or none has come for a while.
async fn listen(rtp: &mut mpsc::Receiver<Datagram>, tone: Tone, packets: u16) -> Heard {
    let mut heard = Heard::default();
    let mut missing: BTreeSet<u16> = (0..packets).collect();
    while !missing.is_empty() {
        let Ok(Some(Datagram { bytes, from })) = timeout(UNDER_WAY, rtp.recv()).await else { break };
        heard.sources.insert(from);
        let sequence = bytes.get(2..4).and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)));
        let equal = sequence.is_some_and(|sequence| bytes == tone.packet(sequence));
        match sequence {
            Some(sequence) if equal && missing.remove(&sequence) => heard.equal += 1,
            _ => heard.other += 1,
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: Tone = Tone { hertz: 440, ssrc: 1 };
    const HIGH: Tone = Tone { hertz: 1000, ssrc: 2 };

    #[test]
    fn samples_are_those_of_g_711() {
        let table = [(0, 0xff), (-1, 0x7f), (1000, 0xce), (-1000, 0x4e), (8000, 0xa0), (32_767, 0x80)];
        for (sample, written) in table {
            assert_eq!(mu_law(sample), written, "{sample}");
        }
        assert_eq!(mu_law(i32::MIN), 0x00);
    }

    #[test]
    fn packets_differ_by_number_and_tone() {
        let packet = LOW.packet(7);
        assert_eq!(packet.len(), 172);
        assert_eq!(&packet[..12], &[0x80, 0, 0, 7, 0, 0, 4, 96, 0, 0, 0, 1]);
        assert_ne!(LOW.packet(7)[12..], HIGH.packet(7)[12..]);
        assert_ne!(LOW.packet(7)[12..], LOW.packet(8)[12..]);
    }

    #[tokio::test]
    async fn what_is_heard_is_counted_by_content() {
        let (phone, mut rtp) = mpsc::channel(16);
        let from = "127.0.0.2:4000".parse().unwrap();
        let mut spoiled = LOW.packet(2);
        *spoiled.last_mut().unwrap() ^= 1;
        for bytes in [LOW.packet(0), LOW.packet(0), HIGH.packet(1), spoiled, LOW.packet(1), LOW.packet(2)] {
            phone.send(Datagram { bytes, from }).await.unwrap();
        }
        let heard = listen(&mut rtp, LOW, 3).await;
        assert_eq!(heard, Heard { equal: 3, other: 3, sources: [from].into() });
    }

    #[tokio::test]
    async fn a_closed_socket_ends_the_listening() {
        let (_, mut rtp) = mpsc::channel(1);
        assert_eq!(listen(&mut rtp, LOW, 3).await, Heard::default());
    }

    #[tokio::test]
    async fn two_phones_hear_each_other() {
        let address = "127.0.0.1".parse().unwrap();
        let mut near = Media::open(address).await.unwrap();
        let mut far = Media::open(address).await.unwrap();
        let (near_at, far_at) = (near.local(), far.local());
        let (near_heard, far_heard) =
            tokio::join!(talk(&mut near, far_at, LOW, HIGH, 5), talk(&mut far, near_at, HIGH, LOW, 5));
        assert_eq!(near_heard.unwrap(), Heard { equal: 5, other: 0, sources: [far_at].into() });
        assert_eq!(far_heard.unwrap(), Heard { equal: 5, other: 0, sources: [near_at].into() });
        near.close().await.unwrap();
        far.close().await.unwrap();
    }
}
