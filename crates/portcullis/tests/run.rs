//! The binary itself: how it starts, what it says, how it ends, on ports that the operating system chose.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod pki;

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use pki::Pki;
use portcullis::clock::Clock;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use wire::clock::Instant;

const CONFIG: &str = r#"
[node]
data_dir = "data"
admin_socket = "run/admin.sock"
[outside]
address = "127.0.0.1"
tls = 0
udp = 0
certificate = "server.pem"
private_key = "server.key"
device_ca = ["device-ca.pem"]
[inside]
address = "127.0.0.1"
udp = 0
tcp = 0
[[pbx]]
name = "main"
uri = "sip:127.0.0.1:9"
[media]
outside_ports = "10000-10099"
inside_ports = "11000-11099"
stun_server = 0
[[extension]]
name = "1001"
hardware_ids = ["009033010203"]
password = "canary"
[metrics]
listen = "127.0.0.1:1"
"#;

fn folder(name: &str, config: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("run").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    Pki::make().write(&folder);
    std::fs::write(folder.join("test.toml"), config).unwrap();
    folder
}

fn portcullis(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).args(arguments).args(["-c", "test.toml"]);
    command
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    portcullis(folder, arguments).output().unwrap()
}

/// A running instance; ended with the test.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(folder: &Path) -> (Self, String) {
        Self::start_with_log(folder, Stdio::piped())
    }

    fn start_with_log(folder: &Path, log: Stdio) -> (Self, String) {
        let mut command = portcullis(folder, &["run"]);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self { child, out };
        let mut ready = String::new();
        running.out.read_line(&mut ready).unwrap();
        if ready.is_empty() {
            panic!("it ended: {}", running.errors());
        }
        (running, ready)
    }

    /// What it says until it ends, where somebody reads it.
    fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut text).unwrap();
        }
        text
    }

    /// Sends SIGTERM and waits for the end.
    fn end(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let errors = self.errors();
        (self.child.wait().unwrap().code(), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn it_says_ready_answers_and_ends_well() {
    let folder = folder("life", CONFIG);
    let (running, ready) = Running::start(&folder);
    for kind in ["ready: tls 127.0.0.1:", ", udp 127.0.0.1:", ", tcp 127.0.0.1:", ", stun 127.0.0.1:"] {
        assert!(ready.contains(kind), "{kind} in {ready}");
    }
    assert!(!ready.contains(":0"), "the chosen ports are named: {ready}");

    let status = output(&folder, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let listeners: Vec<_> =
        status["listeners"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(format!("ready: {}\n", listeners.join(", ")), ready);

    let second = output(&folder, &["run"]);
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(said.contains("portcullis: test.toml:4: another instance is running"), "{said}");
    assert!(output(&folder, &["status"]).status.success(), "the first one keeps its socket");

    assert!(output(&folder, &["block", "add", "192.0.2.7", "--for", "10m"]).status.success());
    let (code, errors) = running.end();
    assert_eq!(code, Some(0), "{errors}");
    let warning =
        "test.toml:27: [metrics] is not available yet; nothing listens on 127.0.0.1:1 → leave it out";
    assert!(errors.contains(warning), "{errors}");
    assert!(!errors.contains("canary"), "{errors}");
    assert!(!folder.join("run/admin.sock").exists());

    // What was ordered outlives the restart.
    let (running, _) = Running::start(&folder);
    let blocks = output(&folder, &["block", "list", "--json"]);
    let blocks: serde_json::Value = serde_json::from_slice(&blocks.stdout).unwrap();
    assert_eq!(blocks[0]["range"], "192.0.2.7");
    assert_eq!(running.end().0, Some(0));
}

/// Asks for the status until it lists all of these, and gives what it shows to people.
#[test]
fn a_udp_port_for_sip_answers_stun_as_well() {
    // An address of its own, so that nobody else takes the port that the system chose.
    let free = UdpSocket::bind("127.9.9.9:0").unwrap().local_addr().unwrap();
    let config = CONFIG
        .replacen("address = \"127.0.0.1\"", "address = \"127.9.9.9\"", 1)
        .replacen("udp = 0", &format!("udp = {}", free.port()), 1)
        .replace("stun_server = 0", &format!("stun_server = {}", free.port()));
    let folder = folder("stun", &config);
    let (running, ready) = Running::start(&folder);
    assert!(ready.contains(&format!(", udp {free}")) && !ready.contains("stun"), "{ready}");
    let phone = UdpSocket::bind("127.9.9.9:0").unwrap();
    phone.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // RFC 5389 §6: a Binding request, its length, the magic cookie, the transaction.
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42a transactio";
    phone.send_to(request, free).unwrap();
    let mut answer = [0; 200];
    let (length, from) = phone.recv_from(&mut answer).unwrap();
    assert!(length > request.len() && from == free);
    assert_eq!((&answer[..2], &answer[4..20]), (&[1, 1][..], &request[4..]));
    assert_eq!(running.end().0, Some(0));
}

fn wait_for_dropped(folder: &Path, wanted: &[&str]) -> String {
    let clock = Clock::start();
    loop {
        let status = output(folder, &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        let dropped = status["dropped"].as_array().unwrap();
        if wanted.iter().all(|wanted| dropped.iter().any(|it| it == wanted)) {
            return text(&output(folder, &["status"]).stdout);
        }
        assert!(clock.mono() < Instant::ZERO + Duration::from_secs(10), "{wanted:?} in {dropped:?}");
    }
}

#[test]
fn status_says_what_was_dropped_and_why() {
    let folder = folder("dropped", &CONFIG.replace("[node]\n", "[node]\nname = \"edge-7\"\n"));
    let (running, ready) = Running::start(&folder);
    let outside: SocketAddr = ready.split(", udp ").nth(1).unwrap().trim().parse().unwrap();
    assert!(wait_for_dropped(&folder, &[]).contains("\ndropped        nothing\n"));
    let scanner = UdpSocket::bind("127.0.0.1:0").unwrap();
    let options = "OPTIONS sip:1001@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n\
                   From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\
                   Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..3 {
        scanner.send_to(options.as_bytes(), outside).unwrap();
    }
    assert!(output(&folder, &["block", "add", "127.0.9.9"]).status.success());
    let blocked = UdpSocket::bind("127.0.9.9:0").unwrap();
    blocked.send_to(options.as_bytes(), outside).unwrap();
    let shown =
        wait_for_dropped(&folder, &["network blocked_datagram 1", "signalling flow_not_registered 3"]);
    let lines =
        "\ndropped        network blocked_datagram 1\n               signalling flow_not_registered 3\n";
    assert!(shown.contains(lines) && shown.starts_with("name           edge-7\n"), "{shown}");
    let (code, log) = running.end();
    assert_eq!(code, Some(0));
    assert!(log.contains("ready: tls ") && log.contains("node=\"edge-7\""), "the log names the node: {log}");
}

#[test]
fn a_killed_instance_is_followed_by_another() {
    let folder = folder("killed", CONFIG);
    let (mut running, _) = Running::start(&folder);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(folder.join("run/admin.sock").exists(), "nobody took the socket away");
    let (running, _) = Running::start(&folder);
    assert!(output(&folder, &["status"]).status.success());
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn the_exit_code_says_whose_fault_it_is() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tls = {}", taken.local_addr().unwrap().port());
    let folder = folder("codes", &CONFIG.replace("tls = 0", &port));
    let run = output(&folder, &["run"]);
    assert_eq!(run.status.code(), Some(1));
    let said = text(&run.stderr);
    assert!(said.contains("portcullis: test.toml:7: cannot listen on 127.0.0.1:"), "{said}");
    assert_eq!(said.matches("in use").count(), 1, "{said}");
    assert!(said.contains("or choose another port"), "{said}");
    assert_eq!(text(&run.stdout), "");
    let check = output(&folder, &["check"]);
    assert_eq!(check.status.code(), Some(0));
    let said = text(&check.stdout);
    assert!(said.contains("is taken by another program\n  → see who has it"), "{said}");

    std::fs::write(folder.join("test.toml"), CONFIG.replace("tls = 0", "tsl = 0")).unwrap();
    let run = output(&folder, &["run"]);
    assert_eq!(run.status.code(), Some(64));
    assert!(text(&run.stderr).contains("did you mean `tls`?"), "{}", text(&run.stderr));
    let check = output(&folder, &["check", "--json"]);
    assert_eq!(check.status.code(), Some(64));
    let faults: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(faults[0]["code"], "unknown-key");

    assert_eq!(output(&folder, &["bogus"]).status.code(), Some(64));
    assert_eq!(output(&folder, &["block", "add", "nonsense"]).status.code(), Some(64));
    assert_eq!(output(&folder, &["block", "add", "192.0.2.7", "--for", "0s"]).status.code(), Some(64));
    assert_eq!(output(&folder, &["allow", "add", "192.0.2.7", "--name", ""]).status.code(), Some(64));
    let absent = output(&folder, &["status"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("run/admin.sock"), "{}", text(&absent.stderr));
}

#[test]
fn an_address_of_another_machine_is_a_warning_in_check_and_the_end_of_run() {
    let folder = folder("address", &CONFIG.replacen("\"127.0.0.1\"", "\"203.0.113.10\"", 1));
    let check = output(&folder, &["check"]);
    assert_eq!(check.status.code(), Some(0));
    let said = text(&check.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("test.toml:6: this machine has no address 203.0.113.10"), "{said}");
    let remedy = ["this machine has ", "127.0.0.1", "write `public_address = \"203.0.113.10\"` beside it"];
    assert!(remedy.iter().all(|words| said.contains(words)), "{said}");
    let run = output(&folder, &["run"]);
    assert_eq!(run.status.code(), Some(1));
    let said = text(&run.stderr);
    assert!(said.contains("portcullis: test.toml:6: cannot listen on 203.0.113.10:"), "{said}");
    assert!(remedy.iter().all(|words| said.contains(words)), "{said}");
}

/// What stands in the way of both paths here stands in the way of root too.
#[test]
fn paths_that_cannot_be_made_are_named_with_their_keys() {
    let folder = folder("paths", CONFIG);
    for (key, name, line) in [("admin_socket", "run", 4), ("data_dir", "data", 3)] {
        std::fs::write(folder.join(name), "a file").unwrap();
        let check = output(&folder, &["check"]);
        assert_eq!(check.status.code(), Some(0));
        let said = text(&check.stdout);
        assert!(said.contains(&format!("test.toml:{line}: the user ")), "{said}");
        assert!(said.contains(&format!("{name} is no directory")) && said.contains(key), "{said}");
        let run = output(&folder, &["run"]);
        assert_eq!(run.status.code(), Some(1));
        let said = text(&run.stderr);
        assert!(said.contains(&format!("portcullis: test.toml:{line}: ")), "{said}");
        assert!(said.contains(&format!("set `{key}` in [node]")) && !said.contains("os error"), "{said}");
        std::fs::remove_file(folder.join(name)).unwrap();
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let folder = folder("pipe", &CONFIG.replace("tls = 0", "tsl = 0"));
    for (arguments, code) in [(&["--help"][..], 0), (&["check"], 64), (&["check", "--json"], 64)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = portcullis(&folder, arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((ended.status.code(), text(&ended.stderr).as_str()), (Some(code), ""), "{arguments:?}");
    }
}

#[test]
fn every_command_shows_an_example_of_itself() {
    let folder = folder("help", CONFIG);
    let verbs = "run, check, quickstart, status, registrations, calls, events, block, block list, block add, \
                 block remove, block allow, allow, allow list, allow add, allow remove";
    for verb in verbs.split(", ") {
        let words: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        let help = text(&output(&folder, &words).stdout);
        assert!(help.contains(&format!("Example: portcullis {verb}")), "{verb}: {help}");
        let mut asked = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let asked = asked.arg("help").args(verb.split(' ')).output().unwrap();
        assert_eq!((asked.status.code(), text(&asked.stdout)), (Some(0), help), "help {verb}");
    }
}

/// The status, once the log has lost lines.
fn status_with_lost_lines(folder: &Path) -> serde_json::Value {
    let mut status = || -> serde_json::Value {
        serde_json::from_slice(&output(folder, &["status", "--json"]).stdout).unwrap()
    };
    let lost = |status: &serde_json::Value| status["log_lines_lost"].as_u64().unwrap() > 0;
    std::iter::repeat_with(&mut status).take(500).find(lost).unwrap()
}

/// A pipe that is full: whoever writes to it waits, for as long as nobody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    for size in [4096, 1] {
        while writer.write(&vec![b'\n'; size]).is_ok() {}
    }
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// It takes orders, tells what came of them, and ends well.
fn works_and_ends(folder: &Path, running: Running) {
    assert!(output(folder, &["block", "add", "192.0.2.7"]).status.success());
    let events = text(&output(folder, &["events", "--code", "blocked"]).stdout);
    assert!(events.contains("192.0.2.7"), "{events}");
    let (code, errors) = running.end();
    assert_eq!(code, Some(0), "{errors}");
}

#[test]
fn a_log_on_a_full_disk_ends_nothing() {
    let folder = folder("full-disk", CONFIG);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (running, _) = Running::start_with_log(&folder, full.into());
    status_with_lost_lines(&folder);
    let said = text(&output(&folder, &["status"]).stdout);
    assert!(said.contains("lines lost: it could not be written"), "{said}");
    works_and_ends(&folder, running);
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let folder = folder("closed-pipe", CONFIG);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (running, _) = Running::start_with_log(&folder, writer.into());
    status_with_lost_lines(&folder);
    works_and_ends(&folder, running);
}

#[test]
fn a_reader_of_the_log_that_stands_still_holds_nothing_up() {
    let folder = folder("stalled-log", CONFIG);
    let (reader, writer) = full_pipe();
    let (running, ready) = Running::start_with_log(&folder, writer.into());
    assert!(ready.starts_with("ready: "), "{ready}");
    works_and_ends(&folder, running);
    drop(reader);
}

#[test]
fn a_ready_line_that_cannot_be_written_ends_nothing() {
    let (_reader, writer) = full_pipe();
    let full = File::options().write(true).open("/dev/full").unwrap();
    for (name, out, why) in [
        ("full-output", Stdio::from(full), "could not be written on standard output"),
        ("stalled-output", Stdio::from(writer), "nobody reads standard output"),
    ] {
        let folder = folder(name, CONFIG);
        let mut child = portcullis(&folder, &["run"]).stdout(out).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(log.any(|line| line.contains(why)), "{name}");
        assert!(log.any(|line| line.contains("ready: tls")), "{name}");
        assert!(output(&folder, &["status"]).status.success());
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
    }
}

#[test]
fn a_faulty_file_has_its_exit_code_though_nobody_hears_of_it() {
    let folder = folder("unheard", "[nodes]\n");
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(portcullis(&folder, &["run"]).stderr(full).status().unwrap().code(), Some(64));
}
