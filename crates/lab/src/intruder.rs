//! An intruder at the door: connects with some certificate, asks for some name, and tells what he got.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;

use crate::fault::{Fault, within};
use crate::phone::Phone;
use crate::user_agent::Owner;

/// For how long the intruder would be registered.
const EXPIRES_S: u32 = 60;

/// What the intruder got for one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// A SIP answer with that status.
    Answer(u16),
    /// TLS ended with an alert, before any SIP.
    Alert(String),
    /// The handshake had not even begun when the connection was closed.
    ShutOut,
    /// The connection was closed later, without a word.
    HungUp,
}

/// Connects from an address of his own as `tls` says, and asks to register as `pretended`.
pub async fn guess(
    pretended: Owner,
    from: IpAddr,
    server: SocketAddr,
    tls: Arc<ClientConfig>,
) -> Result<Got, Fault> {
    let attempt = async {
        let mut phone = match Phone::connect(pretended, from, server, tls).await {
            Ok(phone) => phone,
            Err(fault) => return refusal(fault, Got::ShutOut),
        };
        match phone.register(EXPIRES_S).await {
            Ok(answer) => Ok(Got::Answer(answer.status)),
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rsip::SipMessage;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::authority::Authority;
    use crate::link::Link;
    use crate::message::answer;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[expect(clippy::disallowed_methods, reason = "the handshake looks at this clock too")]
    fn now() -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
    }

    /// A server that lets devices of its CA in.
    fn acceptor(authority: &Authority) -> TlsAcceptor {
        let identity = authority.server("lab", HERE).unwrap();
        let certificate = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&authority.pem().certificate)).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![certificate(&identity.pem().certificate)],
                PrivateKeyDer::from_pem_slice(identity.pem().key.as_bytes()).unwrap(),
            );
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    /// What an intruder gets from somebody who does `serve` with his connection.
    async fn attempt<F: Future<Output = ()>>(
        tls: &Arc<ClientConfig>,
        serve: impl FnOnce(TcpStream) -> F,
    ) -> Got {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        let pretended = Owner {
            number: "1001".to_owned(),
            domain: "pbx.lab".to_owned(),
            hardware_id: "000000000000".to_owned(),
        };
        let served = async { serve(listener.accept().await.unwrap().0).await };
        let (got, ()) = tokio::join!(guess(pretended, HERE, server, Arc::clone(tls)), served);
        got.unwrap()
    }

    #[tokio::test]
    async fn an_intruder_tells_how_far_he_came() {
        let authority = Authority::make("CA", now()).unwrap();
        let stranger = Authority::make("another CA", now()).unwrap();
        let acceptor = acceptor(&authority);
        let [stolen, foreign] = [&authority, &stranger].map(|signer| {
            let identity = signer.device("009033010203").unwrap();
            authority.client(&identity).unwrap()
        });
        assert_eq!(attempt(&stolen, async |stream| drop(stream)).await, Got::ShutOut);
        let refused = attempt(&foreign, async |stream| assert!(acceptor.accept(stream).await.is_err()));
        assert!(matches!(refused.await, Got::Alert(text) if text.contains("alert")));
        let hung_up = attempt(&stolen, async |stream| drop(acceptor.accept(stream).await.unwrap()));
        assert_eq!(hung_up.await, Got::HungUp);
        let answered = attempt(&stolen, async |stream| {
            let mut link = Link::new(acceptor.accept(stream).await.unwrap());
            let SipMessage::Request(request) = link.receive().await.unwrap() else { panic!("a request") };
            link.send([answer(&request, (403, "Forbidden"), "t").into()]).await.unwrap();
        });
        assert_eq!(answered.await, Got::Answer(403));
    }
}
