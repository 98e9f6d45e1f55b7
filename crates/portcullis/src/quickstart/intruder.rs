//! The intruder of the story, on an address of his own: a certificate that nobody trusts, then a stolen one.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::cast::{DOMAIN, INTRUDER};
use super::fault::{Fault, within};
use super::lab_phone::{LabPhone, Owner};
use super::link::{connect, shake_hands};

/// What the intruder got for one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// A SIP answer with that status.
    Answer(u16),
    /// TLS ended with an alert, before any SIP.
    Alert(String),
    /// The handshake had not even begun when the connection was closed.
    ShutOut,
    /// The connection was closed later, without a word.
    HungUp,
}

/// Connects with a certificate and asks to register a name.
pub(crate) async fn guess(server: SocketAddr, client: Arc<ClientConfig>, name: &str) -> Result<Got, Fault> {
    let attempt = async {
        let stream = match connect(INTRUDER, server).await {
            Ok(stream) => stream,
            Err(fault) => return refusal(fault, Got::ShutOut),
        };
        let local = stream.local_addr().map_err(Fault::system("name a port"))?;
        let stream = match shake_hands(stream, server, client).await {
            Ok(stream) => stream,
            Err(fault) => return refusal(fault, Got::ShutOut),
        };
        let hardware_id = "000000000000".to_owned();
        let owner = Owner { number: name.to_owned(), domain: DOMAIN.to_owned(), hardware_id };
        let mut phone = LabPhone::new(owner, stream, local)?;
        match phone.register(60).await {
            Ok(response) => Ok(Got::Answer(response.status_code.code())),
            Err(fault) => refusal(fault, Got::HungUp),
        }
    };
    within("an end of the intruder's attempt", attempt).await
}

/// What the end of a connection means; `silence` where it came without a word. Anything else is a fault of
/// the lab.
fn refusal(fault: Fault, silence: Got) -> Result<Got, Fault> {
    match fault {
        Fault::Closed => Ok(silence),
        Fault::System { what, source } => match source.kind() {
            ErrorKind::InvalidData => Ok(Got::Alert(source.to_string())),
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected => Ok(silence),
            _ => Err(Fault::System { what, source }),
        },
        other => Err(other),
    }
}
