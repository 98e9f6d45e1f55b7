//! The intruder of the story: a certificate that nobody trusts, then a stolen one, then a closed door.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::cast::{DOMAIN, INTRUDER};
use super::fault::{Fault, within};
use super::lab_phone::{LabPhone, Owner};
use super::link::{connect, connect_tls};

/// What the intruder got for one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// An answer with that status.
    Answer(u16),
    /// Not a byte of SIP, and why.
    Nothing(String),
}

/// Connects with a certificate and registers a name.
pub async fn guess(server: SocketAddr, client: Arc<ClientConfig>, name: &str) -> Result<Got, Fault> {
    let attempt = async {
        let stream = match connect_tls(INTRUDER, server, client).await {
            Ok(stream) => stream,
            Err(fault) => return refusal(fault),
        };
        let local = stream.get_ref().0.local_addr().map_err(Fault::system("name a port"))?;
        let hardware_id = "000000000000".to_owned();
        let owner = Owner { number: name.to_owned(), domain: DOMAIN.to_owned(), hardware_id };
        let mut phone = LabPhone::new(owner, stream, local)?;
        match phone.register(60).await {
            Ok(response) => Ok(Got::Answer(response.status_code.code())),
            Err(fault) => refusal(fault),
        }
    };
    within("an end of the intruder's attempt", attempt).await
}

/// Connects and waits without a word: what a blocked source sees. True where the connection ends without a
/// byte.
pub async fn knock(server: SocketAddr) -> Result<bool, Fault> {
    let knock = async {
        let mut stream = connect(INTRUDER, server).await?;
        Ok(first_byte(&mut stream).await.is_none())
    };
    within("an end of the intruder's connection", knock).await
}

async fn first_byte(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<u8> {
    // Something to answer, so that silence is not mistaken for a refusal.
    stream.write_all(b"\x16\x03\x01").await.ok()?;
    stream.read_u8().await.ok()
}

/// A connection that ended is what the intruder shall get; anything else is a fault of the lab.
fn refusal(fault: Fault) -> Result<Got, Fault> {
    match fault {
        Fault::Closed => Ok(Got::Nothing("the connection was closed".to_owned())),
        Fault::System { source, .. } => Ok(Got::Nothing(source.to_string())),
        other => Err(other),
    }
}
