//! A pipe from TCP to mutual TLS, for peers that have no TLS of their own: Debian's sipp.
//!
//! Each connection to the pipe becomes one TLS connection to the border, with a device's certificate.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use crate::pki::{Identity, Pki};
use crate::raw_phone::client_config;

/// The pipe; it closes with this handle.
#[derive(Debug)]
pub struct TlsPipe {
    /// Where to connect to, by TCP.
    pub address: SocketAddr,
    close: Option<oneshot::Sender<()>>,
    worker: Option<std::thread::JoinHandle<()>>,
}

impl TlsPipe {
    /// Opens it at an address of the phone; what comes there goes on to `to`, from the same address.
    pub fn open(phone: IpAddr, to: SocketAddr, pki: &Pki, identity: &Identity) -> Self {
        let connector = TlsConnector::from(Arc::new(client_config(pki, Some(identity))));
        let listener = std::net::TcpListener::bind((phone, 0)).expect("a port for the pipe");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (close, closed) = oneshot::channel();
        let worker = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener for tokio");
                tokio::select! {
                    () = accept(listener, phone, to, connector) => {}
                    _ = closed => {}
                }
            });
        });
        Self { address, close: Some(close), worker: Some(worker) }
    }
}

impl Drop for TlsPipe {
    fn drop(&mut self) {
        drop(self.close.take());
        if let Some(worker) = self.worker.take() {
            assert!(worker.join().is_ok() || std::thread::panicking(), "the pipe broke");
        }
    }
}

async fn accept(listener: TcpListener, from: IpAddr, to: SocketAddr, connector: TlsConnector) {
    while let Ok((plain, _)) = listener.accept().await {
        let connector = connector.clone();
        tokio::spawn(async move {
            if let Err(error) = carry(plain, from, to, connector).await {
                eprintln!("pipe to {to}: {error}");
            }
        });
    }
}

async fn carry(
    mut plain: TcpStream,
    from: IpAddr,
    to: SocketAddr,
    connector: TlsConnector,
) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let stream = socket.connect(to).await?;
    let mut secure = connector.connect(ServerName::from(to.ip()), stream).await?;
    tokio::io::copy_bidirectional(&mut plain, &mut secure).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

    use super::*;
    use crate::address::Addresses;
    use crate::raw_phone::{RawPhone, Silence};
    use crate::scratch::Scratch;

    /// A server that wants a device's certificate and sends back the first five bytes it gets, once for each
    /// connection.
    fn echo_once(pki: &Pki, directory: &std::path::Path, address: IpAddr, times: usize) -> SocketAddr {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.ca_file()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let chain = vec![CertificateDer::from_pem_file(directory.join("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).unwrap();
        let config =
            ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind((address, 0)).unwrap();
        let local = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(times) {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut tls = StreamOwned::new(connection, stream.unwrap());
                let mut buffer = [0; 5];
                if tls.read_exact(&mut buffer).is_ok() {
                    tls.write_all(&buffer).unwrap();
                }
            }
        });
        local
    }

    #[test]
    fn bytes_go_both_ways_with_the_devices_certificate_and_not_without() {
        let (scratch, addresses) = (Scratch::new(), Addresses::claim());
        let pki = Pki::new(scratch.path(), addresses.outside(), "sbc.lab");
        let server = echo_once(&pki, scratch.path(), addresses.outside(), 2);
        let pipe = TlsPipe::open(addresses.phone(1), server, &pki, &pki.device("009033010203"));
        let mut plain = RawPhone::tcp(addresses.phone(1), pipe.address).unwrap();
        plain.send_bytes(b"hello");
        assert_eq!(plain.receive_bytes(Duration::from_secs(5)).as_deref(), Ok(&b"hello"[..]));
        let refused = RawPhone::tls(addresses.phone(1), server, &pki, None)
            .and_then(|mut phone| phone.receive_bytes(Duration::from_secs(5)));
        assert!(matches!(refused, Err(Silence::Alert(_))), "{refused:?}");
    }
}
