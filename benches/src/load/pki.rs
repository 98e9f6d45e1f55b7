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
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Who vouches for phones.
pub const DEVICE_CA: &str = "device-ca.pem";
/// The server's certificate, and its key.
pub const SERVER: [&str; 2] = ["server.pem", "server.key"];

/// What a phone shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A certificate that our CA signed, with its hardware ID.
    Good,
    /// The same, and it comes back with a ticket where it is given one.
    Resuming,
    /// No certificate.
    Nothing,
    /// The same hardware ID, signed by a CA that nobody knows.
    Stranger,
}

/// Who signs both the server and the phones.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    stranger: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    /// All phones share it: what is measured does not depend on it, and keys take their time.
    phone_key: KeyPair,
}

impl Authority {
    /// Makes it and writes `device-ca.pem`, `server.pem` and `server.key`.
    pub fn write(directory: &Path, server: IpAddr) -> io::Result<Self> {
        let params = ca_params("bench CA");
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        fs::write(directory.join(DEVICE_CA), certificate.pem())?;
        let root = certificate.der().clone();
        let stranger = Issuer::new(ca_params("stranger CA"), new_key()?);
        let authority = Self { issuer: Issuer::new(params, key), stranger, root, phone_key: new_key()? };
        authority.write_server(directory, server)?;
        Ok(authority)
    }

    fn write_server(&self, directory: &Path, address: IpAddr) -> io::Result<()> {
        let key = new_key()?;
        let mut params = params("bench server");
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        fs::write(directory.join(SERVER[0]), certificate.pem())?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join(SERVER[1]))?;
        file.write_all(key.serialize_pem().as_bytes())
    }

    /// How the phone with this hardware ID connects.
    pub fn phone(&self, hardware_id: &str, credentials: Credentials) -> io::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).map_err(io::Error::other)?;
        // as desk phones do: without a post-quantum exchange, which not every peer here has
        let kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
        let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let issuer = if credentials == Credentials::Stranger { &self.stranger } else { &self.issuer };
        let mut config = if credentials == Credentials::Nothing {
            config.with_no_client_auth()
        } else {
            let mut params = params(hardware_id);
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&self.phone_key, issuer).map_err(io::Error::other)?;
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.phone_key.serialize_der()));
            config.with_client_auth_cert(vec![certificate.der().clone()], key).map_err(io::Error::other)?
        };
        if credentials != Credentials::Resuming {
            config.resumption = Resumption::disabled();
        }
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

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}
