//! The quickstart's certificates: a CA, the frontend's certificate, one for each phone, and a stranger's.
//!
//! Keys are made on the spot, written for their owner alone, and never stand in this repository.

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
use wire::clock::WallTime;

use super::directory::Directory;
use super::fault::Fault;

/// How long they are good: a demonstration's certificates shall not live for ever.
pub(crate) const VALID: Duration = Duration::from_secs(30 * 24 * 3600);

/// Clocks that go a little slow still take them.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Where they are, below the quickstart's directory. The names are those of `certs/make-dev-ca.sh`, which
/// can therefore make more of them.
pub(crate) const FOLDER: &str = "certs";

/// Name of the server, beside its address.
pub(crate) const SERVER_NAME: &str = "portcullis.lab";

/// A CA, with everything it signs put into the directory.
pub(crate) struct Authority<'a> {
    directory: &'a Directory,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    from: WallTime,
}

/// A certificate with its key, ready for a handshake.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl<'a> Authority<'a> {
    /// Makes a CA and writes its certificate and key.
    pub(crate) fn make(directory: &'a Directory, now: WallTime) -> Result<Self, Fault> {
        directory.subdirectory(FOLDER)?;
        let (authority, certificate, key) = Self::sign_itself(directory, "Portcullis quickstart CA", now)?;
        directory.write(&format!("{FOLDER}/device-ca.pem"), &certificate)?;
        directory.write(&format!("{FOLDER}/device-ca.key"), &key)?;
        Ok(authority)
    }

    /// A CA that nobody trusts, of which nothing is written down.
    pub(crate) fn stranger(directory: &'a Directory, now: WallTime) -> Result<Self, Fault> {
        let (authority, _, _) = Self::sign_itself(directory, "Somebody else's CA", now)?;
        Ok(authority)
    }

    fn sign_itself(
        directory: &'a Directory,
        name: &str,
        from: WallTime,
    ) -> Result<(Self, String, String), Fault> {
        let mut params = params(name, from);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let key_text = key.serialize_pem();
        let certificate = params.self_signed(&key)?;
        let root = certificate.der().clone();
        let authority = Self { directory, issuer: Issuer::new(params, key), root, from };
        Ok((authority, certificate.pem(), key_text))
    }

    /// The frontend's certificate, which phones know it by: `server.pem` and `server.key`.
    pub(crate) fn server(&self, address: IpAddr) -> Result<(), Fault> {
        let mut params = params(SERVER_NAME, self.from);
        params.subject_alt_names =
            vec![SanType::DnsName(SERVER_NAME.try_into()?), SanType::IpAddress(address)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (_, certificate, key) = self.sign(params)?;
        self.directory.write(&format!("{FOLDER}/server.pem"), &certificate)?;
        self.directory.write(&format!("{FOLDER}/server.key"), &key)
    }

    /// A phone's certificate: `HARDWARE_ID.pem`, `.key`, and both in one file as many phones want them.
    pub(crate) fn phone(&self, hardware_id: &str) -> Result<Identity, Fault> {
        let (identity, certificate, key) = self.sign(device(hardware_id, self.from))?;
        self.directory.write(&format!("{FOLDER}/{hardware_id}.pem"), &certificate)?;
        self.directory.write(&format!("{FOLDER}/{hardware_id}.key"), &key)?;
        self.directory.write(&format!("{FOLDER}/{hardware_id}-both.pem"), &format!("{certificate}{key}"))?;
        Ok(identity)
    }

    /// A device's certificate that is written nowhere.
    pub(crate) fn unwritten(&self, hardware_id: &str) -> Result<Identity, Fault> {
        let (identity, _, _) = self.sign(device(hardware_id, self.from))?;
        Ok(identity)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<(Identity, String, String), Fault> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let identity = Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() };
        Ok((identity, certificate.pem(), key.serialize_pem()))
    }

    /// How somebody with this certificate connects to the frontend, whose certificate he checks.
    pub(crate) fn client(&self, identity: &Identity) -> Result<Arc<ClientConfig>, Fault> {
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

/// The path of one of them, as the configuration names it.
pub(crate) fn file(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

fn device(hardware_id: &str, from: WallTime) -> CertificateParams {
    let mut params = params(hardware_id, from);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn params(common_name: &str, from: WallTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = Duration::from_millis(from.0);
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(BACKDATED);
    params.not_after = date_time_ymd(1970, 1, 1) + now + VALID;
    params
}
