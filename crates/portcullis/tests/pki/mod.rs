//! Certificates for tests: made afresh for each, in a folder of its own.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};

/// Files by name.
pub(crate) struct Pki {
    files: Vec<(&'static str, String)>,
}

impl Pki {
    /// A server, a device CA, and everything that can be wrong with them.
    pub(crate) fn make() -> Self {
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate().unwrap();
        let ca = authority("Test Device CA", |_| {});
        let expired_ca = authority("Expired CA", |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        });
        let server = server(&key, |_| {});
        let expired = self::server(&key, |params| params.not_after = date_time_ymd(2002, 1, 1));
        let other_name = self::server(&key, |params| {
            params.subject_alt_names = vec![SanType::DnsName("sbc.example.com".try_into().unwrap())];
        });
        let other_address = self::server(&key, |params| {
            params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 7].into())];
        });
        let nameless = self::server(&key, |params| params.subject_alt_names.clear());
        let for_clients = self::server(&key, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let future = self::server(&key, |params| params.not_before = date_time_ymd(2990, 1, 1));
        let files = vec![
            ("server.pem", server.clone()),
            ("server.key", key.serialize_pem()),
            ("other.key", other.serialize_pem()),
            ("device-ca.pem", ca.clone()),
            ("expired-ca.pem", expired_ca),
            ("expired.pem", expired),
            ("future.pem", future),
            ("other-name.pem", other_name),
            ("other-address.pem", other_address),
            ("nameless.pem", nameless),
            ("for-clients.pem", for_clients),
            ("unchained.pem", format!("{server}{ca}")),
            ("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
            ("empty", "\n".to_owned()),
        ];
        Self { files }
    }

    /// Writes all of them, for the owner alone.
    pub(crate) fn write(&self, folder: &Path) {
        use std::os::unix::fs::PermissionsExt;
        for (name, content) in &self.files {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

fn authority(name: &str, change: impl Fn(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap().pem()
}

fn server(key: &KeyPair, change: impl Fn(&mut CertificateParams)) -> String {
    let mut params =
        CertificateParams::new(vec!["sbc.example.com".to_owned(), "127.0.0.2".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "sbc.example.com");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    params.self_signed(key).unwrap().pem()
}
