//! How long a chain may be between a device CA and a device.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::UnixTime;
use wire::net::HandshakeFault;

use super::pki::{Ca, Device};
use crate::certificate::IdentityField;
use crate::verifier::DeviceVerifier;

#[test]
fn a_device_ca_is_held_to_the_path_length_that_it_allows_itself() {
    for (path_len, below, fault) in [
        (None, 0, None),
        (None, 2, None),
        (Some(0), 0, None),
        (Some(0), 1, Some(HandshakeFault::CertUntrusted)),
        (Some(1), 1, None),
        (Some(1), 2, Some(HandshakeFault::CertUntrusted)),
    ] {
        let root = Ca::with_path_len("root", path_len);
        let mut cas: Vec<Ca> = Vec::new();
        for number in 0..below {
            cas.push(cas.last().unwrap_or(&root).intermediate(&format!("CA {number}")));
        }
        let mut chain = cas.last().unwrap_or(&root).device(&Device::default()).chain;
        chain.extend(cas.iter().rev().map(Ca::certificate));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let device_cas = vec![root.device_cas(IdentityField::CommonName)];
        let verifier = DeviceVerifier::new(device_cas, true, &provider).unwrap();
        let found = verifier.check(&chain, UnixTime::now());
        assert_eq!(found.err().map(|refusal| refusal.fault), fault, "{path_len:?}, {below} CAs");
    }
}
