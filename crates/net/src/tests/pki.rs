//! Certificates for the tests, and the clients that show them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use crate::certificate::{IdentityField, Leaf};
use crate::tls::{ClientAuth, Parts, ServerIdentity};
use crate::verifier::DeviceCas;

/// A clock that stands until it is set.
#[derive(Debug)]
pub(super) struct TestClock(AtomicU64);

impl TestClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(UnixTime::now().as_secs())))
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl TimeProvider for TestClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::SeqCst))))
    }
}

/// A certificate authority.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate with its key.
#[derive(Clone)]
pub(super) struct Minted {
    pub(super) chain: Vec<CertificateDer<'static>>,
    key: Arc<Vec<u8>>,
}

impl Minted {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.to_vec()).unwrap()
    }
}

/// What a device certificate shall be like.
pub(super) struct Device<'a> {
    pub(super) common_name: &'a str,
    pub(super) state: Option<&'a str>,
    /// Seconds from now.
    pub(super) valid: (i64, i64),
    pub(super) purposes: Vec<ExtendedKeyUsagePurpose>,
}

impl Default for Device<'_> {
    fn default() -> Self {
        Self {
            common_name: "009033010203",
            state: None,
            valid: (-3600, 3600),
            purposes: vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        Self::with_path_len(name, None)
    }

    /// One that allows so many CAs below itself.
    pub(super) fn with_path_len(name: &str, most: Option<u8>) -> Self {
        let (params, key) = Self::params(name, most);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A CA below this one.
    pub(super) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = Self::params(name, None);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn params(name: &str, most: Option<u8>) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(most.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
        (params, KeyPair::generate().unwrap())
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// As a listener gets it from its file.
    pub(super) fn device_cas(&self, identity: IdentityField) -> DeviceCas {
        let path_len = Leaf::read(&self.certificate).path_len();
        DeviceCas { roots: self.roots(), path_len, identity }
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    pub(super) fn device(&self, device: &Device<'_>) -> Minted {
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
        let at = |seconds: i64| {
            let (days, second) = ((now + seconds) / 86_400, (now + seconds) % 86_400);
            let days = i32::try_from(days).unwrap();
            let seconds = u32::try_from(second).unwrap();
            rcgen::date_time_ymd(1970, 1, 1)
                + Duration::from_secs(u64::try_from(days).unwrap() * 86_400 + u64::from(seconds))
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, device.common_name);
        if let Some(state) = device.state {
            params.distinguished_name.push(DnType::StateOrProvinceName, state);
        }
        params.not_before = at(device.valid.0);
        params.not_after = at(device.valid.1);
        params.extended_key_usages = device.purposes.clone();
        self.sign(&params)
    }

    /// The CA's own certificate, shown as if it were a device's.
    pub(super) fn itself(&self) -> Minted {
        let key = Arc::new(self.issuer.key().serialize_der());
        Minted { chain: vec![self.certificate.clone()], key }
    }

    pub(super) fn server(&self) -> Minted {
        self.sign(&CertificateParams::new(["localhost".to_owned()]).unwrap())
    }

    fn sign(&self, params: &CertificateParams) -> Minted {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Minted { chain: vec![certificate.der().clone()], key: Arc::new(key.serialize_der()) }
    }
}

/// Everything for a TLS listener.
pub(super) struct Pki {
    pub(super) server_ca: Ca,
    pub(super) device_ca: Ca,
    server: Minted,
    pub(super) clock: Arc<TestClock>,
}

impl Pki {
    pub(super) fn new() -> Self {
        let server_ca = Ca::new("server CA");
        let server = server_ca.server();
        Self { server_ca, device_ca: Ca::new("device CA"), server, clock: TestClock::new() }
    }

    pub(super) fn identity(&self, client_auth: ClientAuth) -> Arc<ServerIdentity> {
        self.identity_with(client_auth, &[(&self.device_ca, IdentityField::CommonName)])
    }

    pub(super) fn identity_with(
        &self,
        client_auth: ClientAuth,
        device_cas: &[(&Ca, IdentityField)],
    ) -> Arc<ServerIdentity> {
        let parts = Parts {
            chain: self.server.chain.clone(),
            key: self.server.key(),
            device_cas: device_cas.iter().map(|(ca, field)| ca.device_cas(*field)).collect(),
            client_auth,
        };
        let clock = Arc::<TestClock>::clone(&self.clock);
        ServerIdentity::build(parts, clock).unwrap()
    }

    /// With a server certificate that ends after so many seconds, and the CA behind it that ends later.
    pub(super) fn identity_that_ends(&self, seconds: i64) -> Arc<ServerIdentity> {
        let server = self.server_ca.device(&Device { valid: (-3600, seconds), ..Device::default() });
        let chain = server.chain.iter().cloned().chain([self.server_ca.certificate()]).collect();
        let parts = Parts {
            chain,
            key: server.key(),
            device_cas: Vec::new(),
            client_auth: ClientAuth::CertificateOrDigest,
        };
        ServerIdentity::build(parts, Arc::<TestClock>::clone(&self.clock)).unwrap()
    }

    /// A client that shows this certificate, or none.
    pub(super) fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        device: Option<&Minted>,
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.server_ca.roots());
        Arc::new(match device {
            Some(device) => builder.with_client_auth_cert(device.chain.clone(), device.key()).unwrap(),
            None => builder.with_no_client_auth(),
        })
    }

    /// A client that shows one certificate and signs with the key of another.
    pub(super) fn thief(
        &self,
        version: &'static SupportedProtocolVersion,
        stolen: &Minted,
        own: &Minted,
    ) -> Arc<ClientConfig> {
        let key = aws_lc_rs::sign::any_supported_type(&own.key()).unwrap();
        let shown = Arc::new(CertifiedKey::new(stolen.chain.clone(), key));
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.server_ca.roots())
            .with_client_cert_resolver(Arc::new(Thief(shown)));
        Arc::new(config)
    }
}

#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
