//! `certs/make-dev-ca.sh`: what it makes is what the border takes.

use std::path::Path;
use std::time::Duration;

use portcullis_tests::pki::Identity;
use portcullis_tests::process::{Recipe, program, run};
use portcullis_tests::scratch::Scratch;

#[test]
fn the_script_makes_a_ca_a_server_and_devices() {
    let scratch = Scratch::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../certs/make-dev-ca.sh");
    let target = scratch.path().join("pki").display().to_string();
    let make = |words: &[&str]| {
        let mut arguments = vec![script.display().to_string(), target.clone()];
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
        run(Recipe::new(program("bash"), scratch.path()).args(arguments), Duration::from_secs(30))
    };
    make(&["server", "sbc.example.com", "203.0.113.10"]).expect("a server certificate");
    make(&["device", "009033010203"]).expect("a device certificate");
    let directory = scratch.path().join("pki");
    for (name, purpose) in [("server.pem", "sslserver"), ("009033010203.pem", "sslclient")] {
        let file = directory.join(name).display().to_string();
        let ca = directory.join("device-ca.pem").display().to_string();
        let words = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &ca, &file];
        run(Recipe::new(program("openssl"), scratch.path()).args(words), Duration::from_secs(10))
            .expect(name);
    }
    let identity = Identity { file: directory.join("009033010203.pem") };
    assert!(!identity.certificate().is_empty());
    let key = std::fs::metadata(directory.join("009033010203.key")).expect("a key");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&key) & 0o077, 0, "nobody else may read it");
    make(&["device", "009033010203"]).expect_err("an existing certificate is not replaced");
}

#[test]
fn wrong_words_show_the_right_ones_and_make_nothing() {
    let scratch = Scratch::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../certs/make-dev-ca.sh");
    std::fs::copy(source, scratch.path().join("make-dev-ca.sh")).expect("a copy");
    for words in
        [&["pki"][..], &["pki", "serve", "a", "b"], &["pki", "server", "a"], &["pki", "server", "a", "b c"]]
    {
        let recipe =
            Recipe::new(program("bash"), scratch.path()).args(["make-dev-ca.sh"]).args(words.iter().copied());
        let said = run(recipe, Duration::from_secs(30)).expect_err("it is wrong");
        let right = said.contains("DIRECTORY server NAME ADDRESS") || said.contains("comes its IP address");
        assert!(right && !said.contains("sed:"), "{words:?}: {said}");
        assert!(!scratch.path().join("pki").exists(), "{words:?}");
    }
}
