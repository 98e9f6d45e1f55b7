//! A CA, the server's certificate, and one for each phone; all of it dies with the run.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Who signs both the server and the phones.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    /// All phones share it: what is measured does not depend on it, and keys take their time.
    phone_key: KeyPair,
}

impl Authority {
    /// Makes it and writes `device-ca.pem`, `server.pem` and `server.key`.
    pub(crate) fn write(directory: &Path, server: IpAddr) -> io::Result<Self> {
        let mut params = params("bench CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        fs::write(directory.join("device-ca.pem"), certificate.pem())?;
        let root = certificate.der().clone();
        let authority = Self { issuer: Issuer::new(params, key), root, phone_key: new_key()? };
        authority.write_server(directory, server)?;
        Ok(authority)
    }

    fn write_server(&self, directory: &Path, address: IpAddr) -> io::Result<()> {
        let key = new_key()?;
        let mut params = params("bench server");
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        fs::write(directory.join("server.pem"), certificate.pem())?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join("server.key"))?;
        file.write_all(key.serialize_pem().as_bytes())
    }

    /// How the phone with this hardware ID connects.
    pub(crate) fn phone(&self, hardware_id: &str) -> io::Result<Arc<ClientConfig>> {
        let mut params = params(hardware_id);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&self.phone_key, &self.issuer).map_err(io::Error::other)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.phone_key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }
}

fn new_key() -> io::Result<KeyPair> {
    KeyPair::generate().map_err(io::Error::other)
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
