//! Certificates for a lab: a CA, and what it signs for a server and for devices.
//!
//! Keys are made on the spot. Never writes any of it down.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::fault::Fault;

/// Clocks that go a little slow still take them.
const BACKDATED: Duration = Duration::from_secs(3600);

/// A CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pem: Pem,
    now: Duration,
}

/// A certificate and its key, as text.
pub struct Pem {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// A certificate with its key, ready for a handshake.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    pem: Pem,
}

impl Authority {
    /// How long everything is good: a demonstration's certificates shall not live for ever.
    pub const VALID: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Makes a CA of that name. `now` is the time of day, since 1970.
    pub fn make(name: &str, now: Duration) -> Result<Self, Fault> {
        let mut params = params(name, now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let root = certificate.der().clone();
        let pem = Pem { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok(Self { issuer: Issuer::new(params, key), root, pem, now })
    }

    /// Its own certificate and key.
    pub fn pem(&self) -> &Pem {
        &self.pem
    }

    /// A server's certificate, for a name and an address.
    pub fn server(&self, name: &str, address: IpAddr) -> Result<Identity, Fault> {
        let mut params = params(name, self.now);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into()?), SanType::IpAddress(address)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A device's certificate.
    pub fn device(&self, hardware_id: &str) -> Result<Identity, Fault> {
        let mut params = params(hardware_id, self.now);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Identity, Fault> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pem = Pem { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok(Identity { chain: vec![certificate.der().clone()], key: key.serialize_der(), pem })
    }

    /// How somebody with this certificate, whoever signed it, connects to a server of this CA.
    pub fn client(&self, identity: &Identity) -> Result<Arc<ClientConfig>, Fault> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain.clone(), key)?;
        Ok(Arc::new(config))
    }
}

impl Identity {
    /// The certificate and its key.
    pub fn pem(&self) -> &Pem {
        &self.pem
    }
}

fn params(common_name: &str, now: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(BACKDATED);
    params.not_after = date_time_ymd(1970, 1, 1) + now + Authority::VALID;
    params
}
