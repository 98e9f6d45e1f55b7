//! The client-certificate verifier: the stock chain check against each device CA in turn.
//!
//! To the client every failure is the same `access_denied`; the true cause is left in a slot of the
//! verifier, from which the connection takes it. That is exact without a verifier for each connection: the
//! check runs within one poll of the handshake on the one thread of the doors, and the slot is emptied after every
//! poll. Never weaker than the stock verifier, never a second opinion. The stock verifier asks nothing of a trust
//! anchor; the path length that a device CA allows itself is kept by showing it no more of a chain than that.
//! RFC 5280 §4.2.1.9, §6, RFC 8446 §4.4.2.4.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use wire::net::{ChainVerified, HandshakeFault, VerifiedDevice};

use crate::certificate::{IdentityField, Leaf, printable};

/// Characters of the cause of a failure.
const CAUSE_CHARS_MAX: usize = 200;

/// Why a certificate was refused: for the event, never for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) fault: HandshakeFault,
    pub(crate) detail: String,
}

/// What the verifier found in the certificate of the connection that is being polled.
pub(crate) type Verification = Result<VerifiedDevice, Refusal>;

/// Verifies device certificates.
#[derive(Debug)]
pub(crate) struct DeviceVerifier {
    device_cas: Vec<DeviceCaSet>,
    hints: Vec<DistinguishedName>,
    mandatory: bool,
    verification: Mutex<Option<Verification>>,
}

/// Device CAs that are alike.
#[derive(Debug)]
pub(crate) struct DeviceCas {
    pub(crate) roots: RootCertStore,
    /// How many CAs there may be between one of them and a device, where they say it.
    pub(crate) path_len: Option<usize>,
    /// The field that they vouch for.
    pub(crate) identity: IdentityField,
}

#[derive(Debug)]
struct DeviceCaSet {
    stock: Arc<dyn ClientCertVerifier>,
    path_len: Option<usize>,
    identity: IdentityField,
}

impl DeviceVerifier {
    /// A verifier for these device CAs, in order.
    pub(crate) fn new(
        device_cas: Vec<DeviceCas>,
        mandatory: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let hints = device_cas.iter().flat_map(|cas| cas.roots.subjects()).collect();
        let device_cas = device_cas
            .into_iter()
            .map(|DeviceCas { roots, path_len, identity }| {
                let provider = Arc::clone(provider);
                let stock = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
                Ok(DeviceCaSet { stock, path_len, identity })
            })
            .collect::<Result<_, VerifierBuilderError>>()?;
        Ok(Self { device_cas, hints, mandatory, verification: Mutex::new(None) })
    }

    /// Whether nobody may come without a certificate.
    pub(crate) fn is_mandatory(&self) -> bool {
        self.mandatory
    }

    /// What was found since the last call. To be called after every poll of a handshake.
    pub(crate) fn take_verification(&self) -> Option<Verification> {
        self.verification.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Checks a chain, leaf first: signatures, dates and purpose.
    pub(crate) fn check(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Verification {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(missing());
        };
        let mut refusal: Option<(HandshakeFault, Error)> = None;
        for ca in &self.device_cas {
            match ca.check(leaf, intermediates, now) {
                Ok(()) => return Ok(Leaf::read(leaf).device(ca.identity, ChainVerified::assertion())),
                // A CA that knows the certificate says more than one that does not.
                Err(found) if refusal.is_none() || found.0 != HandshakeFault::CertUntrusted => {
                    refusal = Some(found);
                }
                Err(_) => {}
            }
        }
        let (fault, cause) = match refusal {
            Some((fault, error)) => (fault, in_words(&error)),
            None => (HandshakeFault::CertUntrusted, "no device CA is configured".into()),
        };
        Err(Refusal { fault, detail: format!("{cause}; {}", Leaf::read(leaf).describe()) })
    }

    fn stock(&self) -> Result<&Arc<dyn ClientCertVerifier>, Error> {
        self.device_cas.first().map(|ca| &ca.stock).ok_or_else(denied)
    }

    fn conclude(&self, verification: Verification) -> Result<(), Error> {
        let passed = verification.is_ok();
        *self.verification.lock().unwrap_or_else(PoisonError::into_inner) = Some(verification);
        if passed { Ok(()) } else { Err(denied()) }
    }

    fn conclude_signature(
        &self,
        result: Result<HandshakeSignatureValid, Error>,
        certificate: &CertificateDer<'_>,
    ) -> Result<HandshakeSignatureValid, Error> {
        result.or_else(|error| {
            let cause = in_words(&error);
            let detail = format!(
                "the client does not hold the certificate's key: {cause}; {}",
                Leaf::read(certificate).describe()
            );
            self.conclude(Err(Refusal { fault: HandshakeFault::CertUntrusted, detail }))?;
            Err(denied())
        })
    }
}

/// The refusal of a client that shows nothing.
pub(crate) fn missing() -> Refusal {
    Refusal { fault: HandshakeFault::CertMissing, detail: "the client showed no certificate".into() }
}

/// The one error whose alert is `access_denied`.
fn denied() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

impl DeviceCaSet {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), (HandshakeFault, Error)> {
        // A chain comes in order, so that what is left out could only lead to a longer one.
        let shown = self.path_len.map_or(intermediates.len(), |most| most.min(intermediates.len()));
        let intermediates = intermediates.get(..shown).unwrap_or_default();
        let Err(error) = self.stock.verify_client_cert(leaf, intermediates, now) else { return Ok(()) };
        let fault = fault_of(&error);
        if !matches!(fault, HandshakeFault::CertExpired | HandshakeFault::CertNotYetValid) {
            return Err((fault, error));
        }
        // The stock verifier looks at the dates first. A stranger's certificate is a stranger's, however
        // old: so look whether it would have been good in its time.
        let in_its_time = Leaf::read(leaf).not_after().unwrap_or(0);
        let in_its_time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(in_its_time));
        match self.stock.verify_client_cert(leaf, intermediates, in_its_time) {
            Err(other) if fault_of(&other) == HandshakeFault::CertUntrusted => {
                Err((HandshakeFault::CertUntrusted, other))
            }
            _ => Err((fault, error)),
        }
    }
}

fn fault_of(error: &Error) -> HandshakeFault {
    match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            HandshakeFault::CertExpired
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => HandshakeFault::CertNotYetValid,
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => HandshakeFault::CertPurpose,
        _ => HandshakeFault::CertUntrusted,
    }
}

/// What is wrong with a certificate, for the operator.
pub(crate) fn in_words(error: &Error) -> String {
    let Error::InvalidCertificate(cause) = error else {
        return printable(&error.to_string(), CAUSE_CHARS_MAX);
    };
    match (fault_of(error), cause) {
        (HandshakeFault::CertExpired, _) => "it is past its date".into(),
        (HandshakeFault::CertNotYetValid, _) => "it is before its date".into(),
        (HandshakeFault::CertPurpose, _) => "its extended key usage does not allow this use".into(),
        (_, CertificateError::UnknownIssuer) => "it was issued by no CA that is trusted for it".into(),
        (_, CertificateError::BadEncoding) => "it cannot be read".into(),
        (_, CertificateError::Other(other)) => other_in_words(&other.to_string()),
        (_, other) => printable(&other.to_string(), CAUSE_CHARS_MAX),
    }
}

/// Causes that rustls hands on from its verifier without a variant of their own, told by their names.
fn other_in_words(cause: &str) -> String {
    if cause.contains("UnsupportedCertVersion") {
        "it is of X.509 version 1, which has no extensions; make one of version 3".into()
    } else if cause.contains("CaUsedAsEndEntity") {
        "it is the certificate of a CA, not of a device or server".into()
    } else {
        printable(cause, CAUSE_CHARS_MAX)
    }
}

impl ClientCertVerifier for DeviceVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        self.conclude(self.check(&chain, now))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.conclude_signature(self.stock()?.verify_tls12_signature(message, cert, dss), cert)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.conclude_signature(self.stock()?.verify_tls13_signature(message, cert, dss), cert)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.stock().map(|stock| stock.supported_verify_schemes()).unwrap_or_default()
    }
}
