//! The candidates of a phone: gathered by a full ICE agent of foreign make, on the phone's own RTP
//! socket (RFC 8445 §5.1.1).
//!
//! The agent gets the socket's STUN and nothing else, and answers checks on it for as long as it lives.

use std::any::Any;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, mpsc};
use webrtc_ice::agent::Agent;
use webrtc_ice::agent::agent_config::AgentConfig;
use webrtc_ice::candidate::{Candidate, CandidateType};
use webrtc_ice::mdns::MulticastDnsMode;
use webrtc_ice::network_type::NetworkType;
use webrtc_ice::udp_mux::{UDPMux, UDPMuxDefault, UDPMuxParams};
use webrtc_ice::udp_network::UDPNetwork;
use webrtc_util::Conn;

use crate::fault::{Fault, within};
use crate::media::Datagram;

/// Candidates that one agent may name: one for each address of the machine.
const CANDIDATES_MAX: usize = 64;

/// What a description says about them.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    /// The user name fragment.
    pub user: String,
    /// The password.
    pub password: String,
    /// Each as it stands behind `a=candidate:`.
    pub lines: Vec<String>,
}

/// An agent that has gathered.
pub(crate) struct Ice {
    agent: Agent,
    mux: Arc<UDPMuxDefault>,
    /// What it found.
    pub candidates: Candidates,
}

impl Ice {
    /// Gathers the candidates of a socket, whose STUN comes by `stun`.
    pub(crate) async fn gather(
        socket: Arc<UdpSocket>,
        stun: mpsc::Receiver<Datagram>,
    ) -> Result<Self, Fault> {
        let local = socket.local_addr().map_err(Fault::system("name the RTP socket"))?;
        let mux = UDPMuxDefault::new(UDPMuxParams::new(StunOf { socket, stun: Mutex::new(stun) }));
        let network: Arc<dyn UDPMux + Send + Sync> = Arc::<UDPMuxDefault>::clone(&mux);
        let agent = Agent::new(AgentConfig {
            udp_network: UDPNetwork::Muxed(network),
            network_types: vec![if local.is_ipv4() { NetworkType::Udp4 } else { NetworkType::Udp6 }],
            candidate_types: vec![CandidateType::Host],
            multicast_dns_mode: MulticastDnsMode::Disabled,
            include_loopback: true,
            ip_filter: Arc::new(Some(Box::new(move |ip| ip == local.ip()))),
            ..AgentConfig::default()
        })
        .await?;
        let (found, mut finds) = mpsc::channel(CANDIDATES_MAX);
        agent.on_candidate(Box::new(move |candidate: Option<Arc<dyn Candidate + Send + Sync>>| {
            let found = found.clone();
            Box::pin(async move {
                if found.send(candidate.map(|candidate| candidate.marshal())).await.is_err() {
                    tracing::debug!("a candidate came after the end");
                }
            })
        }));
        agent.gather_candidates()?;
        let all = async {
            let mut lines = Vec::new();
            while let Some(line) = finds.recv().await.flatten() {
                lines.push(line);
            }
            Ok(lines)
        };
        let lines = within("the end of the gathering of candidates", all).await?;
        let (user, password) = agent.get_local_user_credentials().await;
        Ok(Self { agent, mux, candidates: Candidates { user, password, lines } })
    }

    /// The agent itself.
    #[cfg(test)]
    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Ends the agent.
    pub(crate) async fn close(self) -> Result<(), Fault> {
        self.agent.close().await?;
        self.mux.close().await.map_err(|error| Fault::Ice(error.into()))
    }
}

/// The STUN of a socket, as the agent sees a socket.
struct StunOf {
    socket: Arc<UdpSocket>,
    stun: Mutex<mpsc::Receiver<Datagram>>,
}

fn unconnected() -> webrtc_util::Error {
    io::Error::from(ErrorKind::NotConnected).into()
}

#[async_trait]
impl Conn for StunOf {
    async fn connect(&self, _: SocketAddr) -> Result<(), webrtc_util::Error> {
        Err(unconnected())
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, webrtc_util::Error> {
        self.recv_from(buffer).await.map(|(length, _)| length)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), webrtc_util::Error> {
        let Some(Datagram { bytes, from }) = self.stun.lock().await.recv().await else {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
        };
        let length = bytes.len().min(buffer.len());
        buffer.iter_mut().zip(&bytes).for_each(|(place, byte)| *place = *byte);
        Ok((length, from))
    }

    async fn send(&self, _: &[u8]) -> Result<usize, webrtc_util::Error> {
        Err(unconnected())
    }

    async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> Result<usize, webrtc_util::Error> {
        Ok(self.socket.send_to(bytes, to).await?)
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        Ok(self.socket.local_addr()?)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[cfg(test)]
mod tests {
    use webrtc_ice::candidate::candidate_base::unmarshal_candidate;

    use super::*;
    use crate::media::Media;

    /// Tells one agent what the other found.
    async fn introduce(agent: &Agent, other: &Candidates) {
        for line in &other.lines {
            let candidate: Arc<dyn Candidate + Send + Sync> = Arc::new(unmarshal_candidate(line).unwrap());
            agent.add_remote_candidate(&candidate).unwrap();
        }
    }

    #[tokio::test]
    async fn candidates_name_the_phones_own_port_and_answer_checks_on_it() {
        let address = "127.0.0.1".parse().unwrap();
        let (near, far) = (Media::open(address).await.unwrap(), Media::open(address).await.unwrap());
        for media in [&near, &far] {
            let [line] = media.candidates().lines.as_slice() else { panic!("one candidate") };
            let port = media.local().port();
            assert!(line.contains(&format!(" 127.0.0.1 {port} typ host")), "{line}");
        }
        let (one, other) = (near.agent(), far.agent());
        introduce(one, far.candidates()).await;
        introduce(other, near.candidates()).await;
        let ((_one_end, one_cancel), (_other_end, other_cancel)) = (mpsc::channel(1), mpsc::channel(1));
        let (theirs, ours) = (far.candidates().clone(), near.candidates().clone());
        let met = async {
            tokio::join!(
                one.dial(one_cancel, theirs.user, theirs.password),
                other.accept(other_cancel, ours.user, ours.password)
            )
        };
        let (dialled, accepted) = within("a nominated pair", async { Ok(met.await) }).await.unwrap();
        assert_eq!(dialled.unwrap().remote_addr(), Some(far.local()));
        assert_eq!(accepted.unwrap().remote_addr(), Some(near.local()));
        near.close().await.unwrap();
        far.close().await.unwrap();
    }
}
