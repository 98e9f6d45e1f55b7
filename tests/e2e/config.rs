//! Configuration, `check`, start and exit codes (issue item 1, contract section 1).

use std::fs;
use std::net::UdpSocket;

use portcullis_tests::address::Addresses;
use portcullis_tests::lab::{Lab, Places, Variation};
use portcullis_tests::pki::Pki;
use portcullis_tests::portcullis::{Portcullis, command};
use portcullis_tests::scratch::Scratch;

struct Desk {
    scratch: Scratch,
    addresses: Addresses,
}

impl Desk {
    fn new() -> Self {
        let (scratch, addresses) = (Scratch::new(), Addresses::claim());
        Pki::new(&scratch.subdirectory("pki"), addresses.outside(), "sbc.lab");
        Self { scratch, addresses }
    }

    fn write(&self, variation: &Variation<'_>) -> String {
        let addresses = &self.addresses;
        let places =
            Places { outside: addresses.outside(), inside: addresses.inside(), pbx: addresses.pbx() };
        let file = self.scratch.path().join("portcullis.toml");
        fs::write(&file, places.configuration(variation)).expect("a configuration can be written");
        file.display().to_string()
    }

    /// Runs a command on the file: its exit code and all it said.
    fn run(&self, verb: &str, file: &str) -> (Option<i32>, String) {
        let output = command(&[verb, "-c", file], self.scratch.path());
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    }
}

#[test]
fn check_passes_a_good_file_and_names_every_fault_of_a_bad_one() {
    let desk = Desk::new();
    let (code, said) = desk.run("check", &desk.write(&Variation::default()));
    assert_eq!(code, Some(0), "{said}");

    let replace = [
        ("health_check = \"2s\"", "health_chek = \"2s\""),
        ("grace = \"2s\"", "grace = \"soon\""),
        ("hardware_ids = [\"009033010203\"]", "hardware_ids = [\"not an id\"]"),
        ("rules = [\"5/1s\", \"60/1h\"]", "rules = [\"five a second\"]"),
        ("outside_ports = \"20000-21999\"", "outside_ports = \"21999-20000\""),
    ];
    let file = desk.write(&Variation { replace: &replace, ..Variation::default() });
    let (code, said) = desk.run("check", &file);
    assert_eq!(code, Some(64), "{said}");
    for word in [
        "health_chek",
        "health_check",
        "soon",
        "not an id",
        "five a second",
        "21999-20000",
        "portcullis.toml",
    ] {
        assert!(said.contains(word), "{word} is not in:\n{said}");
    }
    assert_eq!(desk.run("run", &file).0, Some(64), "and it does not start");
}

#[test]
fn what_names_one_thing_twice_is_refused() {
    let desk = Desk::new();
    for (add, word) in [
        ("\n[[extension]]\nname = \"1001\"\nhardware_ids = [\"009033aaaaaa\"]\npassword = \"x\"\n", "1001"),
        (
            "\n[[extension]]\nname = \"1009\"\nhardware_ids = [\"00:90:33:01:02:03\"]\npassword = \"x\"\n",
            "twice",
        ),
        (
            "\n[[extension]]\nname = \"1009\"\nhardware_ids = [\"009033aaaaaa\"]\npassword = \"x\"\nfrequency = \"none\"\n",
            "none",
        ),
    ] {
        let (code, said) = desk.run("check", &desk.write(&Variation { add, ..Variation::default() }));
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn files_that_are_missing_or_do_not_match_are_named() {
    let desk = Desk::new();
    assert_eq!(desk.run("check", "nowhere.toml").0, Some(64));
    let (code, said) = desk.run(
        "check",
        &desk.write(&Variation { replace: &[("pki/server.pem", "pki/none.pem")], ..Variation::default() }),
    );
    assert!(code == Some(64) && said.contains("none.pem"), "{said}");
    let (code, said) = desk.run(
        "check",
        &desk.write(&Variation {
            replace: &[("pki/server.pem", "pki/device-ca.pem")],
            ..Variation::default()
        }),
    );
    assert_eq!(code, Some(64), "certificate and key do not match: {said}");
}

#[test]
fn what_is_not_built_warns_where_it_harms_nobody_and_is_refused_where_it_would() {
    let desk = Desk::new();
    let harmless = "\n[metrics]\nlisten = \"127.0.0.1:9\"\n";
    let (code, said) = desk.run("check", &desk.write(&Variation { add: harmless, ..Variation::default() }));
    assert!(code == Some(0) && said.contains("metrics") && said.contains("not available"), "{said}");
    let replace = [("[block]\n", "[block]\nfirewall = \"nftables\"\n")];
    let (code, said) =
        desk.run("check", &desk.write(&Variation { replace: &replace, ..Variation::default() }));
    assert!(code == Some(64) && said.contains("firewall"), "{said}");
}

#[test]
fn a_password_is_never_shown() {
    let desk = Desk::new();
    let replace = [("grace = \"2s\"", "grace = \"soon\"")];
    for variation in [Variation::default(), Variation { replace: &replace, ..Variation::default() }] {
        let (_, said) = desk.run("check", &desk.write(&variation));
        assert!(!said.contains("secret1001"), "{said}");
    }
}

#[test]
fn a_taken_port_is_a_warning_in_check_and_the_end_of_run() {
    let desk = Desk::new();
    let _taken = UdpSocket::bind((desk.addresses.outside(), 5060)).expect("the port is free");
    let file = desk.write(&Variation::default());
    let (code, said) = desk.run("check", &file);
    assert!(code == Some(0) && said.contains("5060"), "{said}");
    let (code, said) = desk.run("run", &file);
    assert!(code == Some(1) && said.contains("5060"), "{said}");
}

#[test]
fn a_wrong_command_line_is_64() {
    let desk = Desk::new();
    assert_eq!(command(&["blok", "list"], desk.scratch.path()).status.code(), Some(64));
    assert_eq!(command(&["check", "--nonsense"], desk.scratch.path()).status.code(), Some(64));
}

#[test]
fn port_0_is_chosen_by_the_system_and_named() {
    let desk = Desk::new();
    let file = desk.write(&Variation { replace: &[("tls = 5061", "tls = 0")], ..Variation::default() });
    let portcullis = Portcullis::start(file.as_ref(), None);
    let tls = portcullis.listener("tls");
    assert!(tls.port() != 0 && tls.ip() == desk.addresses.outside(), "{}", portcullis.ready);
}

#[test]
fn status_tells_what_runs() {
    let lab = Lab::start();
    let status = lab.portcullis.ask(&["status"]);
    for field in [
        "version",
        "uptime_s",
        "listeners",
        "pbx",
        "registrations",
        "calls",
        "blocks",
        "relays",
        "memory_bytes",
        "log_lines_lost",
    ] {
        assert!(status.get(field).is_some(), "no {field} in {status}");
    }
    let (code, said) =
        (command(&["check", "-c", &lab.configuration().display().to_string()], lab.directory()), "");
    assert_eq!(code.status.code(), Some(0), "its own ports are not taken {said}");
}
