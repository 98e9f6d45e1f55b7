//! Certificates, made anew for each test: a device CA, a server certificate, devices, and faulty ones.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A CA and what it has signed, in a directory.
#[derive(Debug)]
pub struct Pki {
    directory: PathBuf,
    ca: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes the device CA `device-ca.pem` and the server certificate `server.pem`, `server.key`.
    pub fn new(directory: &Path, server: IpAddr, server_name: &str) -> Self {
        let pki = Self::only_ca(directory, "device-ca", "Portcullis test device CA");
        let mut parameters = CertificateParams::new(vec![server_name.to_owned()]).unwrap();
        parameters.subject_alt_names.push(SanType::IpAddress(server));
        parameters.distinguished_name = name(&[server_name]);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &pki.ca).unwrap();
        write(&directory.join("server.pem"), &certificate.pem());
        write(&directory.join("server.key"), &key.serialize_pem());
        pki
    }

    /// Makes a CA alone: a stranger's.
    pub fn only_ca(directory: &Path, file: &str, common_name: &str) -> Self {
        fs::create_dir_all(directory).expect("a directory for certificates can be made");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = name(&[common_name]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        write(&directory.join(format!("{file}.pem")), &certificate.pem());
        Self { directory: directory.to_owned(), ca: Issuer::new(parameters, key) }
    }

    /// The CA's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("device-ca.pem")
    }

    /// A device's certificate with this common name.
    pub fn device(&self, common_name: &str) -> Identity {
        self.issue(&Device { common_names: vec![common_name], ..Device::default() })
    }

    /// A device's certificate with whatever is wrong about it.
    pub fn issue(&self, device: &Device<'_>) -> Identity {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = name(&device.common_names);
        parameters.extended_key_usages = vec![device.purpose.clone()];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (parameters.not_before, parameters.not_after) = match device.validity {
            Validity::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1)),
            Validity::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Validity::Future => (date_time_ymd(2089, 1, 1), date_time_ymd(2090, 1, 1)),
        };
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.ca).unwrap();
        let stem: String =
            device.common_names.join("+").chars().filter(char::is_ascii_alphanumeric).collect();
        let unique = (0..).map(|number| self.directory.join(format!("device-{stem}-{number}.pem")));
        let path = unique.into_iter().find(|path| !path.exists()).expect("one name is free");
        write(&path, &format!("{}{}", certificate.pem(), key.serialize_pem()));
        Identity { file: path }
    }
}

/// What stands in a device's certificate.
#[derive(Clone, Debug)]
pub struct Device<'a> {
    /// One CN each.
    pub common_names: Vec<&'a str>,
    /// From when until when.
    pub validity: Validity,
    /// The extended key usage.
    pub purpose: ExtendedKeyUsagePurpose,
}

impl Default for Device<'_> {
    fn default() -> Self {
        Self {
            common_names: Vec::new(),
            validity: Validity::Now,
            purpose: ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Today.
    Now,
    /// No longer.
    Past,
    /// Not yet.
    Future,
}

/// A certificate with its key, in one file.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Certificate and key, PEM.
    pub file: PathBuf,
}

impl Identity {
    /// The certificate, as rustls wants it.
    pub fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.file).expect("the certificate can be read")
    }

    /// The key, as rustls wants it.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(&self.file).expect("the key can be read")
    }
}

fn name(common_names: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (index, common_name) in common_names.iter().enumerate() {
        // The library keeps one value for each type; further CNs go under the type's bare OID, 2.5.4.3.
        let kind = if index == 0 { DnType::CommonName } else { DnType::CustomDnType(vec![2, 5, 4, 3]) };
        name.push(kind, *common_name);
    }
    name
}

/// Writes a file that nobody else may read: most of them hold a key.
fn write(path: &Path, text: &str) {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
