//! The audio socket of a phone: one port, from which STUN goes to the ICE agent and RTP to the phone
//! (RFC 7983).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::fault::Fault;
use crate::ice::{Candidates, Ice};
use crate::sdp;

/// Datagrams that wait: some seconds of audio. What comes then is dropped, as a phone's buffer would.
const WAITING_MAX: usize = 256;

/// The largest datagram that is looked at.
const DATAGRAM_MAX: usize = 2048;

/// Bytes, and who sent them.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// The whole of it.
    pub bytes: Vec<u8>,
    /// Its source.
    pub from: SocketAddr,
}

/// An open port with its candidates.
pub(crate) struct Media {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    ice: Ice,
    rtp: mpsc::Receiver<Datagram>,
    reader: JoinHandle<()>,
}

impl Media {
    /// Opens a port that the operating system chooses, and gathers its candidates.
    pub(crate) async fn open(address: IpAddr) -> Result<Self, Fault> {
        let what = format!("open a port for RTP on {address}");
        let socket = UdpSocket::bind((address, 0)).await.map_err(Fault::system(&*what))?;
        let local = socket.local_addr().map_err(Fault::system(what))?;
        let socket = Arc::new(socket);
        let (to_ice, stun) = mpsc::channel(WAITING_MAX);
        let (to_phone, rtp) = mpsc::channel(WAITING_MAX);
        let reader = tokio::spawn(read(Arc::clone(&socket), to_ice, to_phone));
        let ice = Ice::gather(Arc::clone(&socket), stun).await?;
        Ok(Self { socket, local, ice, rtp, reader })
    }

    /// Its own port.
    #[cfg(test)]
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// What the agent gathered.
    pub(crate) fn candidates(&self) -> &Candidates {
        &self.ice.candidates
    }

    /// How a phone describes it to the other.
    pub(crate) fn description(&self) -> String {
        sdp::describe(self.local, self.candidates())
    }

    /// The agent itself.
    #[cfg(test)]
    pub(crate) fn agent(&self) -> &webrtc_ice::agent::Agent {
        self.ice.agent()
    }

    /// Sends a packet.
    pub(crate) async fn send(&self, packet: &[u8], to: SocketAddr) -> Result<(), Fault> {
        self.socket.send_to(packet, to).await.map(drop).map_err(Fault::system(format!("send RTP to {to}")))
    }

    /// The next packet.
    pub(crate) async fn receive(&mut self) -> Result<Datagram, Fault> {
        self.rtp.recv().await.ok_or(Fault::Closed)
    }

    /// Sending and receiving at once.
    pub(crate) fn both(&mut self) -> (&UdpSocket, &mut mpsc::Receiver<Datagram>) {
        (&self.socket, &mut self.rtp)
    }

    /// Ends the agent and gives the port back.
    pub(crate) async fn close(self) -> Result<(), Fault> {
        self.ice.close().await?;
        self.reader.abort();
        Ok(())
    }
}

async fn read(socket: Arc<UdpSocket>, ice: mpsc::Sender<Datagram>, phone: mpsc::Sender<Datagram>) {
    let mut buffer = [0; DATAGRAM_MAX];
    loop {
        // An error here is a port unreachable from somebody who is gone: nothing that concerns the next.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        let lane = match bytes.first() {
            Some(0..=3) => &ice,
            Some(128..=191) => &phone,
            _ => continue,
        };
        if lane.try_send(Datagram { bytes, from }).is_err() {
            tracing::debug!(%from, "a phone of the lab dropped a datagram");
        }
    }
}
