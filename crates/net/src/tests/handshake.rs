//! Who completes a TLS handshake, what the others are told, and what a resumed session is worth.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::UnixTime;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, SupportedProtocolVersion};
use wire::net::{HandshakeFault, VerifiedDevice};

use super::pki::{Ca, Device, Minted, Pki};
use super::*;

static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn rig(identity: Arc<ServerIdentity>) -> Rig {
    Rig::start(NetConfig { identity: Some(identity), ..outside(&[ListenerKind::Tls]) })
}

fn device_of(rig: &mut Rig) -> (FlowId, Option<VerifiedDevice>) {
    rig.wait(|event| match event {
        NetEvent::FlowOpened { flow, device, .. } => Some((flow, device.map(|device| *device))),
        NetEvent::HandshakeFailed { fault, detail, .. } => panic!("{fault:?}: {detail}"),
        _ => None,
    })
}

fn failure_of(rig: &mut Rig) -> (HandshakeFault, String) {
    rig.wait(|event| match event {
        NetEvent::HandshakeFailed { fault, detail, .. } => Some((fault, detail)),
        NetEvent::FlowOpened { device, .. } => panic!("a flow for {device:?}"),
        NetEvent::Bytes { .. } => panic!("bytes without a flow"),
        _ => None,
    })
}

/// Shows up, tries to speak SIP all the same, and returns the alert.
fn refused(rig: &Rig, config: &Arc<ClientConfig>) -> AlertDescription {
    let mut client = tls_client(config, connect_from(source(1), rig.address(0)));
    write_or_not(&mut client, b"REGISTER sip:example.com SIP/2.0\r\n\r\n");
    let mut received = [0; 100];
    let error = match client.read(&mut received) {
        Ok(0) => panic!("closed without an alert"),
        Ok(many) => panic!("received {:?}", &received[..many]),
        Err(error) => error,
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("{other:?}"),
    }
}

fn assert_refused(rig: &mut Rig, config: &Arc<ClientConfig>, expected: HandshakeFault, case: &str) -> String {
    let alert = refused(rig, config);
    let (fault, detail) = failure_of(rig);
    assert_eq!((fault, alert), (expected, AlertDescription::AccessDenied), "{case}: {detail}");
    detail
}

/// A session as far as one exchange of bytes, after which the client holds its ticket.
fn exchange(rig: &mut Rig, config: &Arc<ClientConfig>) -> (HandshakeKind, Option<VerifiedDevice>) {
    let mut client = tls_client(config, connect_from(source(1), rig.address(0)));
    client.write_all(b"ping").unwrap();
    let (flow, device) = device_of(rig);
    assert_eq!(&rig.bytes()[..], b"ping");
    rig.net.send(flow, rig.address(0), Bytes::from_static(b"pong"));
    let mut pong = [0; 4];
    client.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"pong");
    client.conn.send_close_notify();
    client.flush().unwrap();
    rig.closed(flow);
    (client.conn.handshake_kind().unwrap(), device)
}

#[test]
fn an_identity_ends_with_the_first_certificate_of_its_chain() {
    let now = UnixTime::now().as_secs();
    let ends = Pki::new().identity_that_ends(500).ends().expect("it ends some day");
    // The test may have taken its time.
    assert!((now + 500..now + 520).contains(&(ends.0 / 1_000)), "{ends:?} after {now}");
}

#[test]
fn every_refusal_looks_alike() {
    let pki = Pki::new();
    let foreign = Ca::new("somebody else's CA");
    let (good, stranger) = (pki.device_ca.device(&Device::default()), foreign.device(&Device::default()));
    let old = Device { valid: (-7200, -3600), ..Device::default() };
    let cases: [(&str, HandshakeFault, Option<Minted>); 8] = [
        ("it is the certificate of a CA", HandshakeFault::CertUntrusted, Some(foreign.itself())),
        ("it was issued by no CA", HandshakeFault::CertUntrusted, Some(stranger.clone())),
        ("it was issued by no CA that is trusted", HandshakeFault::CertUntrusted, Some(foreign.device(&old))),
        ("it is past its date", HandshakeFault::CertExpired, Some(pki.device_ca.device(&old))),
        (
            "it is before its date",
            HandshakeFault::CertNotYetValid,
            Some(pki.device_ca.device(&Device { valid: (3600, 7200), ..Device::default() })),
        ),
        (
            "its extended key usage",
            HandshakeFault::CertPurpose,
            Some(pki.device_ca.device(&Device {
                purposes: vec![ExtendedKeyUsagePurpose::ServerAuth],
                ..Device::default()
            })),
        ),
        (
            "it was issued by no CA that is trusted for it",
            HandshakeFault::CertUntrusted,
            Some(pki.server_ca.server()),
        ),
        ("the client showed no certificate", HandshakeFault::CertMissing, None),
    ];
    for version in VERSIONS {
        for (case, fault, device) in &cases {
            let mut rig = rig(pki.identity(ClientAuth::CertificateOnly));
            let detail = assert_refused(&mut rig, &pki.client(version, device.as_ref()), *fault, case);
            let names =
                device.is_none() || (detail.contains("issuer CN=") && detail.contains(", valid from "));
            assert!(names, "{case}: {detail}");
            assert!(detail.starts_with(case), "{case}: {detail}");
        }
        let mut rig = rig(pki.identity(ClientAuth::CertificateOnly));
        let thief = pki.thief(version, &good, &stranger);
        let detail = assert_refused(&mut rig, &thief, HandshakeFault::CertUntrusted, "a stolen certificate");
        assert!(detail.contains("does not hold"), "{detail}");
        assert_eq!(rig.net.flows(), 0);
    }
}

#[test]
fn a_good_device_comes_with_its_field() {
    let pki = Pki::new();
    let good = pki.device_ca.device(&Device::default());
    for version in VERSIONS {
        for client_auth in [ClientAuth::CertificateOnly, ClientAuth::CertificateOrDigest] {
            let mut rig = rig(pki.identity(client_auth));
            let (kind, device) = exchange(&mut rig, &pki.client(version, Some(&good)));
            let device = device.unwrap();
            assert_ne!(kind, HandshakeKind::Resumed);
            assert_eq!(device.field_values, [b"009033010203".to_vec()]);
            assert_eq!(device.subject, "CN=009033010203");
            assert_eq!(device.issuer, "CN=device CA");
        }
    }
}

#[test]
fn without_a_certificate_only_where_digest_is_used() {
    let pki = Pki::new();
    let stranger = Ca::new("somebody else's CA").device(&Device::default());
    for version in VERSIONS {
        let mut rig = rig(pki.identity(ClientAuth::CertificateOrDigest));
        assert_eq!(exchange(&mut rig, &pki.client(version, None)).1, None);
        let wrong = pki.client(version, Some(&stranger));
        assert_refused(&mut rig, &wrong, HandshakeFault::CertUntrusted, "a wrong one is worse than none");
    }
}

#[test]
fn the_field_is_that_of_the_ca_that_signed() {
    let pki = Pki::new();
    let vendor = Ca::new("vendor");
    let device = Device { common_name: "generic", state: Some("SEP009033010204"), ..Device::default() };
    let both = [(&pki.device_ca, IdentityField::CommonName), (&vendor, IdentityField::State)];
    for (ca, field) in [(&vendor, "SEP009033010204"), (&pki.device_ca, "generic")] {
        let mut rig = rig(pki.identity_with(ClientAuth::CertificateOnly, &both));
        let minted = ca.device(&device);
        let (_, device) = exchange(&mut rig, &pki.client(&TLS13, Some(&minted)));
        assert_eq!(device.unwrap().field_values, [field.as_bytes().to_vec()]);
    }
}

#[test]
fn a_resumed_session_is_checked_again() {
    for version in VERSIONS {
        let pki = Pki::new();
        let minted = pki.device_ca.device(&Device { valid: (-3600, 60), ..Device::default() });
        let mut rig = rig(pki.identity(ClientAuth::CertificateOnly));
        let client = pki.client(version, Some(&minted));
        let (first, device) = exchange(&mut rig, &client);
        let (second, resumed) = exchange(&mut rig, &client);
        assert_eq!((first == HandshakeKind::Resumed, second), (false, HandshakeKind::Resumed));
        assert_eq!(device, resumed);
        assert_eq!(rig.net.counters().read(Count::HandshakeResumed), 1);

        pki.clock.advance(120);
        let detail = assert_refused(&mut rig, &client, HandshakeFault::CertExpired, "expired meanwhile");
        assert!(detail.contains("009033010203"), "{detail}");
        assert_eq!(rig.net.counters().read(Count::HandshakeResumed), 2, "{version:?}");
    }
}

#[test]
fn what_is_no_tls_is_broken() {
    let pki = Pki::new();
    let mut rig = rig(pki.identity(ClientAuth::CertificateOnly));
    let mut client = connect_from(source(1), rig.address(0));
    client.write_all(b"OPTIONS sip:nm SIP/2.0\r\n\r\n").unwrap();
    let (fault, detail) = failure_of(&mut rig);
    assert_eq!(fault, HandshakeFault::Broken, "{detail}");
    let answer = read_to_close(&mut client);
    assert!(answer.first().is_none_or(|first| *first == 21), "only an alert, not {answer:?}");

    drop(connect_from(source(1), rig.address(0)));
    assert_eq!(failure_of(&mut rig).0, HandshakeFault::Broken);
}

#[test]
fn an_identity_says_what_is_wrong_with_its_files() {
    let missing = TlsFiles {
        certificate: "no/such/server.pem".into(),
        private_key: "no/such/server.key".into(),
        device_ca: Vec::new(),
        client_auth: ClientAuth::CertificateOnly,
    };
    let error = ServerIdentity::load(&missing).unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such/server.pem: "), "{error}");
    // A file that is there, but is no certificate.
    let source = std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let wrong = TlsFiles { certificate: source.clone(), ..missing };
    let error = ServerIdentity::load(&wrong).unwrap_err().to_string();
    assert_eq!(error, format!("{} holds no certificate in PEM form: there is none in it", source.display()));
    let pki = Pki::new();
    assert_eq!(pki.identity(ClientAuth::CertificateOnly).host_names(), ["localhost"]);
}
