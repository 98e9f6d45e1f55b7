//! A phone with a device certificate: connects by mutual TLS, registers, calls, answers, talks, hangs up.
//!
//! What its user does, as one step each; the SIP of it is in `user_agent.rs`, the audio in `media.rs`.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::answer::Answer;
use crate::call::Call;
use crate::fault::{Fault, within};
use crate::link::{connect, shake_hands};
use crate::media::Media;
use crate::sdp;
use crate::user_agent::{Owner, UserAgent};

/// A phone on its connection.
#[derive(Debug)]
pub struct Phone {
    agent: UserAgent<TlsStream<TcpStream>>,
    tls_version: String,
}

impl Phone {
    /// Connects from an address of its own to a server, and shakes hands as `tls` says.
    pub async fn connect(
        owner: Owner,
        from: IpAddr,
        server: SocketAddr,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, Fault> {
        let stream = within("a TCP connection", connect(from, server)).await?;
        let local = stream.local_addr().map_err(Fault::system("name a port"))?;
        let stream = within("a TLS handshake", shake_hands(stream, server, tls)).await?;
        let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
        let tls_version = version.unwrap_or("TLS").replace("TLSv1_", "TLS 1.");
        Ok(Self { agent: UserAgent::new(owner, stream, local)?, tls_version })
    }

    /// Who it is.
    pub fn owner(&self) -> &Owner {
        self.agent.owner()
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.agent.ip()
    }

    /// `TLS 1.3`.
    pub fn tls_version(&self) -> &str {
        &self.tls_version
    }

    /// Registers, for so many seconds; with none, it takes its registration back.
    pub async fn register(&mut self, expires_s: u32) -> Result<Answer, Fault> {
        Ok(Answer::from(&self.agent.register(expires_s).await?))
    }

    /// Calls a number and waits until it is picked up.
    pub async fn call(&mut self, number: &str) -> Result<Call, Fault> {
        let media = Media::open(self.ip()).await?;
        let dialog = self.agent.call(number, &media.description()).await?;
        Call::begin(media, dialog)
    }

    /// Waits for a call, lets it ring and picks up.
    pub async fn pick_up(&mut self) -> Result<Call, Fault> {
        let media = Media::open(self.ip()).await?;
        let incoming = self.agent.ring().await?;
        if sdp::read(incoming.offer()).is_none() {
            return Err(Fault::unlike("the call offers no audio"));
        }
        let dialog = self.agent.pick_up(incoming, &media.description()).await?;
        Call::begin(media, dialog)
    }

    /// Hangs up.
    pub async fn hang_up(&mut self, call: Call) -> Result<(), Fault> {
        let Call { media, dialog, .. } = call;
        self.agent.hang_up(dialog).await?;
        media.close().await
    }

    /// Waits until the other hangs up.
    pub async fn hear_hanging_up(&mut self, call: Call) -> Result<(), Fault> {
        let Call { media, dialog, .. } = call;
        self.agent.hear_hanging_up(&dialog).await?;
        media.close().await
    }

    /// Calls a number so many times at once; the final answers, in the order of the calls.
    pub async fn burst(&mut self, number: &str, times: usize) -> Result<Vec<Answer>, Fault> {
        let media = Media::open(self.ip()).await?;
        let answers = self.agent.burst(number, times, &media.description()).await?;
        media.close().await?;
        Ok(answers.iter().map(Answer::from).collect())
    }

    /// Stays on until `end` comes: registers again and again for so many seconds, answers whoever calls, and
    /// sends back what it hears.
    pub async fn attend(self, expires_s: u32, end: impl Future<Output = ()>) -> Result<(), Fault> {
        self.agent.attend(expires_s, end).await
    }
}
