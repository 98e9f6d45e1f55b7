//! One alert for every refused client: `access_denied`, whatever was wrong with its certificate.
//!
//! rustls lets a verifier choose the alert only for a certificate that it is shown. Two cases are left, and
//! both are settled where the record is made: a client without a certificate (`certificate_required`), and
//! one refused after a resumed handshake, where only `close_notify` can be sent. Encrypted records pass
//! through a thin layer over the provider's ciphers; TLS 1.2 sends its `certificate_required` in the clear,
//! so the socket's writer mends that one. Nothing else is ever changed. RFC 8446 §6, RFC 5246 §7.2.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use rustls::crypto::cipher::{
    AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls12AeadAlgorithm, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, SupportedCipherSuite, Tls12CipherSuite,
    Tls13CipherSuite,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

const FATAL: u8 = 2;
const CERTIFICATE_REQUIRED: u8 = 116;
const ACCESS_DENIED: u8 = 49;
const REFUSED: [u8; 2] = [FATAL, ACCESS_DENIED];

thread_local! {
    /// Set while the one connection that is refused on this thread says good-bye.
    static REFUSING: Cell<bool> = const { Cell::new(false) };
}

/// The provider of all cryptography: aws-lc-rs, with the layer over its ciphers.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = provider.cipher_suites.into_iter().map(layered).collect();
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// Ends a connection whose handshake is complete with a fatal `access_denied`.
pub(crate) fn poll_refuse(stream: &mut TlsStream<Socket>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    // The record is made within this call; later calls only wait for the socket.
    REFUSING.set(true);
    let outcome = Pin::new(stream).poll_shutdown(cx);
    REFUSING.set(false);
    outcome
}

/// The suites live as long as the process: rustls wants them `'static`, and there are nine.
fn layered(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    match suite {
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&suite.common),
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: Box::leak(Box::new(Layer(suite.aead_alg))),
            })))
        }
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&suite.common),
                hkdf_provider: suite.hkdf_provider,
                aead_alg: Box::leak(Box::new(Layer(suite.aead_alg))),
                quic: None,
            })))
        }
    }
}

fn common(common: &CipherSuiteCommon) -> CipherSuiteCommon {
    CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
    }
}

/// The provider's algorithm, with [`OneAlert`] around its encrypter.
struct Layer<A: ?Sized + 'static>(&'static A);

impl Tls13AeadAlgorithm for Layer<dyn Tls13AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(OneAlert(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

impl Tls12AeadAlgorithm for Layer<dyn Tls12AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(OneAlert(self.0.encrypter(key, iv, extra)))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct OneAlert(Box<dyn MessageEncrypter>);

impl MessageEncrypter for OneAlert {
    fn encrypt(&mut self, msg: OutboundPlainMessage<'_>, seq: u64) -> Result<OutboundOpaqueMessage, Error> {
        let refused = msg.typ == ContentType::Alert
            && (REFUSING.get() || msg.payload.to_vec() == [FATAL, CERTIFICATE_REQUIRED]);
        if !refused {
            return self.0.encrypt(msg, seq);
        }
        let payload = OutboundChunks::Single(&REFUSED);
        self.0.encrypt(OutboundPlainMessage { typ: msg.typ, version: msg.version, payload }, seq)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.0.encrypted_payload_len(payload_len)
    }
}

/// The TCP socket under TLS.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) TcpStream);

impl Socket {
    /// Whether the bytes are one whole alert record in the clear that says `certificate_required`.
    fn tells_the_cause(record: &[u8]) -> bool {
        matches!(record, [21, 3, _, 0, 2, FATAL, CERTIFICATE_REQUIRED])
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if Self::tells_the_cause(buf) {
            let mut record = buf.to_vec();
            if let Some(code) = record.last_mut() {
                *code = ACCESS_DENIED;
            }
            return Pin::new(&mut self.0).poll_write(cx, &record);
        }
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // rustls hands over one slice for each record.
        if !bufs.iter().any(|buf| Self::tells_the_cause(buf)) {
            return Pin::new(&mut self.0).poll_write_vectored(cx, bufs);
        }
        let mut records = Vec::new();
        for buf in bufs {
            records.extend_from_slice(buf);
            if Self::tells_the_cause(buf)
                && let Some(code) = records.last_mut()
            {
                *code = ACCESS_DENIED;
            }
        }
        Pin::new(&mut self.0).poll_write(cx, &records)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
