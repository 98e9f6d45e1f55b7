//! The TLS of the outside face: the server's identity, and the handshake with all that must hold after it.
//!
//! TLS 1.2 and 1.3 by tokio-rustls on aws-lc-rs. Sessions resume from tickets whose keys live in memory and
//! rotate; rustls restores the client's chain from a ticket without a check, so the chain is verified again
//! on every resumption. Never sends a byte of SIP, never early data. RFC 8446, RFC 5246, RFC 5077.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{HandshakeKind, RootCertStore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wire::clock::WallTime;
use wire::net::{HandshakeFault, VerifiedDevice};

use crate::certificate::{IdentityField, Leaf, printable};
use crate::counters::{Count, Counters};
use crate::one_alert::{self, Socket};
use crate::verifier::{self, DeviceCas, DeviceVerifier, Refusal, Verification};

/// Characters of the reason for which a handshake broke off.
const REASON_CHARS_MAX: usize = 200;

/// Who may complete a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Devices with a good certificate.
    CertificateOnly,
    /// Clients without a certificate too: some extension proves itself by digest.
    CertificateOrDigest,
}

/// A file of device CAs, and the field in which they write the hardware ID.
#[derive(Clone, Debug)]
pub struct DeviceCa {
    /// Certificates in PEM.
    pub file: PathBuf,
    /// The field they vouch for.
    pub identity: IdentityField,
}

/// The files of the server's identity, all PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server certificate, then its intermediates.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: PathBuf,
    /// Who may vouch for phones, in the order in which they are asked.
    pub device_ca: Vec<DeviceCa>,
    /// Who may complete a handshake.
    pub client_auth: ClientAuth,
}

/// Why a server identity cannot be made of the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no PEM, or holds nothing of what it should.
    #[error("{} holds no {wanted} in PEM form: {problem}", file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A device CA that cannot be used.
    #[error("certificate {number} of {} cannot be a device CA: {problem}", file.display())]
    DeviceCa {
        /// Which file.
        file: PathBuf,
        /// Which certificate in it, from 1.
        number: usize,
        /// Why.
        problem: String,
    },
    /// Certificate and key do not make a server.
    #[error("{} with {} cannot be a server: {problem}", certificate.display(), private_key.display())]
    Server {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        private_key: PathBuf,
        /// Why.
        problem: String,
    },
    /// The cryptographic library failed.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

/// Certificate, key and device CAs as TLS uses them.
#[derive(Debug)]
pub struct ServerIdentity {
    config: Arc<ServerConfig>,
    verifier: Arc<DeviceVerifier>,
    host_names: Vec<String>,
    ends: Option<WallTime>,
}

impl ServerIdentity {
    /// Reads the files.
    pub fn load(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.private_key)
            .map_err(|error| pem_error(&files.private_key, "private key", error))?;
        let mut device_cas = Vec::new();
        for ca in &files.device_ca {
            device_cas.extend(read_device_cas(ca)?);
        }
        let parts = Parts { chain, key, device_cas, client_auth: files.client_auth };
        Self::build(parts, Arc::new(DefaultTimeProvider)).map_err(|problem| match problem {
            BuildError::Server(problem) => TlsError::Server {
                certificate: files.certificate.clone(),
                private_key: files.private_key.clone(),
                problem,
            },
            BuildError::Library(problem) => TlsError::Library(problem),
        })
    }

    /// The DNS names in the server certificate: a phone may address us by them.
    pub fn host_names(&self) -> &[String] {
        &self.host_names
    }

    /// When the first certificate of the server's chain ends.
    pub fn ends(&self) -> Option<WallTime> {
        self.ends
    }

    pub(crate) fn build(parts: Parts, time: Arc<dyn TimeProvider>) -> Result<Arc<Self>, BuildError> {
        let library = |error: &dyn std::fmt::Display| BuildError::Library(error.to_string());
        let provider = one_alert::provider();
        let mandatory = parts.client_auth == ClientAuth::CertificateOnly;
        let verifier =
            DeviceVerifier::new(parts.device_cas, mandatory, &provider).map_err(|error| library(&error))?;
        let verifier = Arc::new(verifier);
        let host_names = parts.chain.first().map(|leaf| Leaf::read(leaf).host_names()).unwrap_or_default();
        let ends = parts.chain.iter().filter_map(|certificate| Leaf::read(certificate).not_after()).min();
        let ends = ends.map(|seconds| WallTime(seconds.saturating_mul(1000)));
        let mut config = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| library(&error))?
            .with_client_cert_verifier(Arc::<DeviceVerifier>::clone(&verifier))
            .with_single_cert(parts.chain, parts.key)
            .map_err(|error| BuildError::Server(verifier::in_words(&error)))?;
        // Tickets keep the sessions at the clients: no table of ours grows with them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().map_err(|error| library(&error))?;
        config.send_tls13_tickets = 1;
        Ok(Arc::new(Self { config: Arc::new(config), verifier, host_names, ends }))
    }

    /// The device of a completed handshake: as the verifier saw it, or after a resumption by a check of
    /// the restored chain, now.
    fn conclude(
        &self,
        stream: &TlsStream<Socket>,
        seen: Option<Verification>,
        counters: &Counters,
    ) -> Outcome {
        let session = stream.get_ref().1;
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        if resumed {
            counters.add(Count::HandshakeResumed);
        }
        match (session.peer_certificates(), seen) {
            (None, _) if self.verifier.is_mandatory() => Err(verifier::missing()),
            (None, _) => Ok(None),
            (Some(_), Some(verification)) if !resumed => verification.map(Some),
            (Some(chain), _) => {
                let now = self.config.time_provider.current_time().ok_or_else(|| Refusal {
                    fault: HandshakeFault::Broken,
                    detail: "the time is not known".into(),
                })?;
                self.verifier.check(chain, now).map(Some)
            }
        }
    }
}

/// What a [`ServerIdentity`] is made of.
pub(crate) struct Parts {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) device_cas: Vec<DeviceCas>,
    pub(crate) client_auth: ClientAuth,
}

/// Why the parts do not fit.
#[derive(Debug)]
pub(crate) enum BuildError {
    Server(String),
    Library(String),
}

/// The device, none where the client has no certificate and needs none, or the refusal.
type Outcome = Result<Option<VerifiedDevice>, Refusal>;

/// A handshake that failed, with the socket where there still is something to be said on it.
pub(crate) struct Failed {
    pub(crate) socket: Option<Socket>,
    pub(crate) refusal: Refusal,
}

/// Runs a handshake to its end. The alert has been sent when this fails.
pub(crate) async fn accept(
    identity: &ServerIdentity,
    socket: Socket,
    counters: &Counters,
) -> Result<(TlsStream<Socket>, Option<VerifiedDevice>), Failed> {
    let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
    let mut handshake = pin!(acceptor.accept(socket).into_fallible());
    let mut seen = None;
    let outcome = poll_fn(|cx| {
        let outcome = handshake.as_mut().poll(cx);
        seen = identity.verifier.take_verification().or(seen.take());
        outcome
    })
    .await;
    let mut stream = match outcome {
        Ok(stream) => stream,
        Err((error, socket)) => {
            return Err(Failed { socket: Some(socket), refusal: refusal(&error, seen) });
        }
    };
    match identity.conclude(&stream, seen, counters) {
        Ok(device) => Ok((stream, device)),
        Err(refusal) => {
            let said = poll_fn(|cx| one_alert::poll_refuse(&mut stream, cx)).await;
            let socket = said.is_ok().then(|| stream.into_inner().0);
            Err(Failed { socket, refusal })
        }
    }
}

fn refusal(error: &io::Error, seen: Option<Verification>) -> Refusal {
    if let Some(Err(refusal)) = seen {
        return refusal;
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::NoCertificatesPresented) = inner {
        return verifier::missing();
    }
    Refusal { fault: HandshakeFault::Broken, detail: printable(&error.to_string(), REASON_CHARS_MAX) }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem_error(file, "certificate", error))?;
    if all.is_empty() {
        return Err(pem_error(file, "certificate", pem::Error::NoItemsFound));
    }
    Ok(all)
}

/// The device CAs of one file, those with the same path length together.
fn read_device_cas(ca: &DeviceCa) -> Result<Vec<DeviceCas>, TlsError> {
    let mut by_path_len: BTreeMap<Option<usize>, RootCertStore> = BTreeMap::new();
    for (index, certificate) in certificates(&ca.file)?.into_iter().enumerate() {
        let roots = by_path_len.entry(Leaf::read(&certificate).path_len());
        roots.or_insert_with(RootCertStore::empty).add(certificate).map_err(|error| TlsError::DeviceCa {
            file: ca.file.clone(),
            number: index + 1,
            problem: verifier::in_words(&error),
        })?;
    }
    let identity = ca.identity;
    Ok(by_path_len.into_iter().map(|(path_len, roots)| DeviceCas { roots, path_len, identity }).collect())
}

fn pem_error(file: &Path, wanted: &'static str, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(source) => TlsError::Read { file: file.to_owned(), source },
        pem::Error::NoItemsFound => {
            TlsError::Pem { file: file.to_owned(), wanted, problem: "there is none in it".into() }
        }
        other => TlsError::Pem {
            file: file.to_owned(),
            wanted,
            problem: printable(&other.to_string(), REASON_CHARS_MAX),
        },
    }
}
