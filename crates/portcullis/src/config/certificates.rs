//! The files of the outside face: server certificate, private key, device CAs. Read once, checked here.
//!
//! Never prints a private key, and keeps none but in the identity that handshakes use.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use border::config::ENDING_SOON;
use net::{ClientAuth, DeviceCa, ServerIdentity, TlsError, TlsFiles};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use wire::clock::WallTime;
use wire::words::of_system;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::document::{At, quoted_key};
use super::fault::{FaultCode, Faults, Place, Problem};
use super::file;
use super::host;

/// The most that a file named by the configuration may hold.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads and checks all of them. What is made of them is what handshakes use.
pub fn read(
    outside: &file::Outside,
    client_auth: ClientAuth,
    base: &Path,
    now: WallTime,
    faults: &mut Faults,
) -> Option<Arc<ServerIdentity>> {
    let chain = outside.certificate.as_ref().and_then(|path| server_chain(path, outside, base, now, faults));
    let key = outside.private_key.as_ref().and_then(|path| private_key(path, base, faults));
    if let (Some(chain), Some(key), Some(path)) = (&chain, &key, &outside.private_key) {
        check_match(chain, key, &path.place, faults);
    }
    let mut device_ca = Vec::new();
    for entry in &outside.device_ca {
        let path = At { value: entry.value.file.clone(), place: entry.place.clone() };
        authority(&path, base, now, faults);
        device_ca.push(DeviceCa { file: base.join(path.value), identity: entry.value.identity });
    }
    if faults.has_errors() {
        return None;
    }
    let files = TlsFiles {
        certificate: base.join(&outside.certificate.as_ref()?.value),
        private_key: base.join(&outside.private_key.as_ref()?.value),
        device_ca,
        client_auth,
    };
    identity(&files, outside, faults)
}

/// The last word is that of the library which will use the files.
fn identity(files: &TlsFiles, outside: &file::Outside, faults: &mut Faults) -> Option<Arc<ServerIdentity>> {
    let error = match ServerIdentity::load(files) {
        Ok(identity) => return Some(identity),
        Err(error) => error,
    };
    let place = match &error {
        TlsError::DeviceCa { .. } => &outside.device_ca_place,
        _ => &outside.certificate.as_ref()?.place,
    };
    let message = format!("{} cannot be used", quoted_key(&place.key));
    let help = "have the certificate issued anew, for TLS and with a usual key";
    faults.error(place, Problem::new(FaultCode::BadCertificate, message, error.to_string(), help));
    None
}

/// The bytes of a file that the configuration names.
pub fn named_file(path: &Path, place: &Place, base: &Path, faults: &mut Faults) -> Option<Vec<u8>> {
    let path = base.join(path);
    match read_bounded(&path) {
        Ok(bytes) => Some(bytes),
        Err(why) => {
            let message = format!("{} names a file that cannot be read", quoted_key(&place.key));
            let found = format!("{}: {why}", path.display());
            let help = "check the path, which is relative to the configuration file, and who may read it";
            faults.error(place, Problem::new(FaultCode::NamedFile, message, found, help));
            None
        }
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let in_words = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => format!("permission denied to the user {}", host::user()),
        _ => of_system(&error),
    };
    let metadata = std::fs::metadata(path).map_err(in_words)?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err("it is larger than 4 MiB".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(in_words)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(in_words)?;
    Ok(bytes)
}

fn bad(place: &Place, message: &str, path: &Path, why: &str, help: &str) -> Problem {
    let message = format!("{} {message}", quoted_key(&place.key));
    Problem::new(FaultCode::BadCertificate, message, format!("{}: {why}", path.display()), help)
}

/// Every certificate of a PEM file, each of which can be read.
fn certificates(
    path: &At<PathBuf>,
    base: &Path,
    faults: &mut Faults,
) -> Option<Vec<CertificateDer<'static>>> {
    let help = "it must hold one or more blocks of BEGIN CERTIFICATE";
    let bytes = named_file(&path.value, &path.place, base, faults)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let problem = match read {
        Ok(found) if found.is_empty() => "no certificate in it".to_owned(),
        Ok(found) => match found.iter().position(|der| parse(der).is_none()) {
            None => return Some(found),
            Some(at) => format!("certificate {} in it cannot be read", at + 1),
        },
        Err(error) => format!("it is no PEM file ({error})"),
    };
    let message = "names a file without usable certificates";
    faults.error(&path.place, bad(&path.place, message, &path.value, &problem, help));
    None
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

/// Seconds since 1970.
fn seconds(now: WallTime) -> i64 {
    i64::try_from(now.0 / 1000).unwrap_or(i64::MAX)
}

/// What is wrong with a certificate's dates now.
fn date_fault(certificate: &X509Certificate<'_>, now: WallTime) -> Option<String> {
    let validity = certificate.validity();
    let subject = certificate.subject();
    if seconds(now) > validity.not_after.timestamp() {
        return Some(format!("`{subject}` expired on {}", validity.not_after));
    }
    if seconds(now) < validity.not_before.timestamp() {
        return Some(format!("`{subject}` is not valid before {}", validity.not_before));
    }
    None
}

/// A certificate that holds now, and not for long.
fn ending_soon(certificate: &X509Certificate<'_>, now: WallTime) -> Option<String> {
    let validity = certificate.validity();
    let left = validity.not_after.timestamp().saturating_sub(seconds(now));
    let soon = u64::try_from(left).is_ok_and(|left| left < ENDING_SOON.as_secs());
    (soon && date_fault(certificate, now).is_none())
        .then(|| format!("`{}` ends on {}", certificate.subject(), validity.not_after))
}

fn server_chain(
    path: &At<PathBuf>,
    outside: &file::Outside,
    base: &Path,
    now: WallTime,
    faults: &mut Faults,
) -> Option<Vec<CertificateDer<'static>>> {
    let chain = certificates(path, base, faults)?;
    let parsed: Vec<_> = chain.iter().filter_map(parse).collect();
    let place = &path.place;
    for why in parsed.iter().filter_map(|certificate| date_fault(certificate, now)) {
        let message = format!("{} names a certificate outside its dates", quoted_key(&place.key));
        let help = "renew it, or set this machine's clock right";
        faults.error(place, Problem::new(FaultCode::CertificateDate, message, why, help));
    }
    for why in parsed.iter().filter_map(|certificate| ending_soon(certificate, now)) {
        let message = format!("{} names a certificate of which {why}", quoted_key(&place.key));
        let help = "renew it before, and restart: after that day no phone connects any more";
        faults.warning(place, Problem::new(FaultCode::CertificateDate, message, "soon", help));
    }
    for pair in parsed.windows(2) {
        if let [issued, issuer] = pair
            && issued.issuer().as_raw() != issuer.subject().as_raw()
        {
            let why = format!("`{}` is not issued by `{}`", issued.subject(), issuer.subject());
            let message = "names certificates that form no chain";
            let help = "put our certificate first, then each time the one that issued the one before";
            faults.error(place, bad(place, message, &path.value, &why, help));
        }
    }
    if let Some(leaf) = parsed.first() {
        check_purpose(leaf, place, faults);
        check_names(leaf, outside, place, faults);
    }
    Some(chain)
}

/// A certificate that names its purposes and not ours is refused by careful phones.
fn check_purpose(leaf: &X509Certificate<'_>, place: &Place, faults: &mut Faults) {
    let usage = leaf.extended_key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        let message = format!("{} is not made for servers: phones may refuse it", quoted_key(&place.key));
        let help = "have it issued with the extended key usage serverAuth";
        faults.warning(place, Problem::new(FaultCode::BadCertificate, message, "no serverAuth", help));
    }
}

/// A phone refuses a server whose certificate does not bear the name or address by which it was told to connect.
fn check_names(leaf: &X509Certificate<'_>, outside: &file::Outside, place: &Place, faults: &mut Faults) {
    let Some(address) = outside.public_address.as_ref().or(outside.address.first()) else { return };
    let address = address.value;
    let found = leaf.subject_alternative_name().ok().flatten();
    let names = found.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    let dns: Vec<&str> = names.iter().filter_map(dns_name).collect();
    let key = quoted_key(&place.key);
    let anew =
        format!("have it issued anew with the name and the address by which phones reach us ({address})");
    let (message, help) = if names.iter().any(|name| is_address(name, address)) {
        return;
    } else if let Some(name) = dns.first() {
        let message =
            format!("{key} does not bear our address {address}: phones that connect to it refuse us");
        (message, format!("{anew}, or let every phone connect to `{name}`"))
    } else if names.is_empty() {
        (format!("{key} bears no name or address (subjectAltName): phones refuse us"), anew)
    } else {
        (format!("{key} bears neither a name nor our address {address}: phones refuse us"), anew)
    };
    faults.warning(place, Problem::new(FaultCode::BadCertificate, message, "another name", help));
}

fn dns_name<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::DNSName(name) => Some(name),
        _ => None,
    }
}

fn is_address(name: &GeneralName<'_>, address: IpAddr) -> bool {
    match (name, address) {
        (GeneralName::IPAddress(bytes), IpAddr::V4(address)) => **bytes == address.octets(),
        (GeneralName::IPAddress(bytes), IpAddr::V6(address)) => **bytes == address.octets(),
        _ => false,
    }
}

fn private_key(path: &At<PathBuf>, base: &Path, faults: &mut Faults) -> Option<PrivateKeyDer<'static>> {
    let bytes = named_file(&path.value, &path.place, base, faults)?;
    warn_if_readable_by_others(&base.join(&path.value), &path.place, faults);
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Some(key),
        Err(_) => {
            let message = "names a file without a private key";
            let help = "it must hold a block of BEGIN PRIVATE KEY that is not encrypted";
            let problem = bad(&path.place, message, &path.value, "no usable key in it", help);
            faults.error(&path.place, problem);
            None
        }
    }
}

fn check_match(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    place: &Place,
    faults: &mut Faults,
) {
    let Ok(signing_key) = rustls::crypto::aws_lc_rs::sign::any_supported_type(key) else {
        let message = format!("{} names a key of an unknown kind", quoted_key(&place.key));
        let help = "use an ECDSA (P-256, P-384), Ed25519 or RSA key";
        faults.error(place, Problem::new(FaultCode::BadCertificate, message, "not supported", help));
        return;
    };
    let certified = rustls::sign::CertifiedKey::new(chain.to_vec(), signing_key);
    if matches!(certified.keys_match(), Err(rustls::Error::InconsistentKeys(_))) {
        let message = format!("{} is not the key of the certificate", quoted_key(&place.key));
        let help = "name the key with which this certificate was requested";
        faults.error(place, Problem::new(FaultCode::KeyMismatch, message, "another key", help));
    }
}

fn authority(path: &At<PathBuf>, base: &Path, now: WallTime, faults: &mut Faults) {
    let Some(found) = certificates(path, base, faults) else { return };
    let place = &path.place;
    let late: Vec<_> =
        found.iter().filter_map(parse).filter_map(|certificate| date_fault(&certificate, now)).collect();
    for why in found.iter().filter_map(parse).filter_map(|certificate| ending_soon(&certificate, now)) {
        let message = format!("{} names a CA of which {why}", quoted_key(&place.key));
        let help = "name its successor beside it in time: after that day its devices are refused";
        faults.warning(place, Problem::new(FaultCode::CertificateDate, message, "soon", help));
    }
    let usable =
        |certificate: &X509Certificate<'_>| certificate.is_ca() && date_fault(certificate, now).is_none();
    let none_left = !found.iter().filter_map(parse).any(|certificate| usable(&certificate));
    let mut fault = |code, message: String, found: String, help: &str| {
        let problem = Problem::new(code, message, found, help);
        if none_left {
            faults.error(place, problem);
        } else {
            faults.warning(place, problem);
        }
    };
    let message = format!("{} names a CA outside its dates", quoted_key(&place.key));
    let help = "every device of it is refused: name its successor, or set this machine's clock right";
    for why in late {
        let message = if none_left { message.clone() } else { format!("{message}: {why}") };
        fault(FaultCode::CertificateDate, message, why, help);
    }
    for certificate in found.iter().filter_map(parse).filter(|certificate| !certificate.is_ca()) {
        let subject = certificate.subject();
        let message = format!("{} holds `{subject}`, which is no CA", quoted_key(&place.key));
        let help = "name the CA that issues the certificates of the devices";
        fault(FaultCode::BadCertificate, message, "no CA".to_owned(), help);
    }
}

/// A secret file that every user of the machine can read.
pub fn warn_if_readable_by_others(path: &Path, place: &Place, faults: &mut Faults) {
    if host::is_readable_by_all(path) {
        let message = format!(
            "{} names a secret file that every user of this machine can read",
            quoted_key(&place.key)
        );
        let help = format!("run `chmod 600 {}`", path.display());
        faults.warning(place, Problem::new(FaultCode::Secret, message, "readable by all", help));
    }
}
