//! Every scenario once, with as little load as can be seen, against the product itself: are the figures there,
//! are they plausible, and do both ends count the same?
#![expect(clippy::expect_used, clippy::panic, reason = "a kit that cannot run fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use portcullis_benches::measure::time::Nanos;
use portcullis_benches::report::plots;
use portcullis_benches::report::ratios::{Beside, Ratio, draw_ratios, ratios};
use portcullis_benches::report::record::{CPU, DONE, Record};
use portcullis_benches::report::table::draw_table;
use portcullis_benches::scenarios::conductor::Conductor;
use portcullis_benches::scenarios::{Amount, SCENARIOS, Scenario};
use portcullis_benches::systems::{Programs, System};
use rustix::process::{Pid, Signal, kill_process};

/// An operation on this machine takes less CPU than that, however slow the build.
const CPU_US_MAX: f64 = 1e6;
/// How long the product may take until it is there, and how often that is looked at.
const START_MAX: Nanos = Nanos::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// The product, built as it is now.
fn portcullis() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        let built = build.args(["build", "--quiet", "--locked", "-p", "portcullis"]).status();
        assert!(built.expect("cargo runs").success(), "the product does not build");
        Path::new(env!("CARGO_BIN_EXE_load")).with_file_name("portcullis")
    })
}

/// What all scenarios with one of these rows find.
fn measured(rows: &[&str], systems: &[System]) -> Vec<Record> {
    let scenarios: Vec<&Scenario> =
        SCENARIOS.iter().filter(|it| it.rows.iter().any(|row| rows.contains(row))).collect();
    assert!(!scenarios.is_empty());
    let programs = Programs { portcullis: portcullis().to_owned(), load: env!("CARGO_BIN_EXE_load").into() };
    let conductor = Conductor { programs, amount: Amount::tiny(), seed: 1, systems: systems.to_vec() };
    let mut told = 0;
    let findings = conductor.conduct(&scenarios, &mut |_| told += 1).expect("the kit runs");
    assert!(findings.left_out.is_empty(), "{findings:?}");
    let records = findings.records;
    assert_eq!(told, records.len());
    for record in &records {
        assert!(record.faults.is_empty() && !record.crashed, "{record:?}");
    }
    records
}

fn find<'a>(records: &'a [Record], row: &str, system: System) -> &'a Record {
    let found = records.iter().find(|it| it.row == row && it.system == system && !it.curve);
    found.unwrap_or_else(|| panic!("{row} of {system:?} was not measured"))
}

fn figure(record: &Record, name: &str) -> f64 {
    record.figure(name).unwrap_or_else(|| panic!("{} has no {name}: {record:?}", record.row))
}

/// All was done, it cost something, and the quantiles are in order.
fn assert_plausible(record: &Record) {
    assert_eq!(figure(record, DONE), 100.0, "{record:?}");
    assert!(figure(record, "done") >= 1.0, "{record:?}");
    let cpu = figure(record, CPU);
    assert!(cpu > 0.0 && cpu < CPU_US_MAX, "{record:?}");
    let quantiles = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| figure(record, name));
    assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{record:?}");
}

#[test]
fn phones_with_certificates() {
    let systems = [System::Portcullis, System::FloorTls];
    let records = measured(&["refresh-tls"], &systems);
    for system in systems {
        for row in ["handshake", "keepalive", "refresh-tls"] {
            assert_plausible(find(&records, row, system));
        }
        assert!(figure(find(&records, "memory", system), "process_kb").abs() < 10_000.0);
    }
    let refresh = find(&records, "refresh-tls", System::Portcullis);
    assert_eq!(figure(refresh, "pbx_requests"), 0.0, "a refresh stays at the border: {refresh:?}");
    let ratios = ratios(&records);
    let floor = |it: &Ratio| matches!(it.beside, Beside::System(System::FloorTls));
    assert!(ratios.iter().any(|it| it.row.name == "handshake" && floor(it)));
    assert!(draw_ratios(&ratios).contains("floor: TLS responder"));
    assert!(draw_table(&records).contains("TLS 1.3 handshake"));
}

#[test]
fn handshakes_refused_resumed_and_all_at_once() {
    let records = measured(&["resumed", "storm"], &[System::Portcullis]);
    for row in ["refused-none", "refused-stranger", "resumed", "storm"] {
        assert_plausible(find(&records, row, System::Portcullis));
    }
    assert_eq!(figure(find(&records, "storm", System::Portcullis), "done"), 8.0, "all came back");
}

#[test]
fn both_ends_count_the_same_registers_and_calls() {
    let rows = ["register-passed", "calls", "calls-bare", "calls-media", "calls-tls"];
    let records = measured(&rows, &[System::Portcullis, System::FloorForward]);
    for record in records.iter().filter(|it| !it.curve) {
        assert_plausible(record);
        assert_eq!(figure(record, "pbx_requests"), figure(record, "done"), "{record:?}");
    }
    assert!(rows.iter().all(|row| records.iter().any(|it| it.row == *row)));
}

#[test]
fn audio_arrives_as_it_was_sent() {
    let systems = [System::Portcullis, System::FloorRelay];
    let records = measured(&["rtp"], &systems);
    for system in systems {
        let record = find(&records, "rtp", system);
        assert_plausible(record);
        // three sessions, two streams each, fifty packets a second, a second or a little more
        let packets = figure(record, "done");
        assert!(packets >= 200.0 && figure(record, "damaged") == 0.0, "{record:?}");
    }
}

#[test]
fn phones_go_on_working_beside_attacks() {
    let records = measured(&["flood"], &[System::Portcullis]);
    for row in ["flood", "garbage", "half-open"] {
        let record = find(&records, row, System::Portcullis);
        assert_plausible(record);
        assert!(figure(record, "hostile_sent") >= 10.0 && figure(record, "quiet_p99_us") > 0.0, "{record:?}");
    }
    let records = measured(&["blocked", "headers"], &[System::Portcullis]);
    let blocked = find(&records, "blocked", System::Portcullis);
    assert!(figure(blocked, "done") >= 50.0 && figure(blocked, CPU) > 0.0, "{blocked:?}");
    assert_eq!(figure(blocked, "answers"), 0.0, "a blocked source hears nothing: {blocked:?}");
    for row in ["garbage-datagram", "headers"] {
        assert!(figure(find(&records, row, System::Portcullis), CPU) > 0.0);
    }
}

#[test]
fn a_soak_has_points_and_plots() {
    let records = measured(&["soak"], &[System::Portcullis]);
    let points: Vec<&Record> = records.iter().filter(|it| it.curve).collect();
    assert!(points.len() >= 2, "{records:?}");
    for point in points {
        assert_eq!(figure(point, DONE), 100.0, "{point:?}");
        assert!(figure(point, "memory_mb") > 1.0 && figure(point, "descriptors") > 8.0, "{point:?}");
    }
    assert!(find(&records, "soak", System::Portcullis).figure("of_beginning").is_some());
    let plots: Vec<String> = plots::of(&records).into_iter().map(|(name, _)| name).collect();
    assert_eq!(plots, ["soak-memory", "soak-descriptors"]);
}

/// Whether any process is at work in this directory, or below it.
fn is_inhabited(directory: &Path) -> bool {
    let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
    let mut places = processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
    places.any(|place| place.starts_with(directory))
}

#[test]
fn a_run_that_is_told_to_end_leaves_nothing_running() {
    let place = std::env::temp_dir().join(format!("kit-signal-{}", std::process::id()));
    fs::create_dir_all(&place).expect("there is room");
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    command.args(["run", "soak", "--here", "--minutes", "60", "--portcullis"]).arg(portcullis());
    command.arg("--output").arg(place.join("output")).env("TMPDIR", &place);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the kit starts");
    let until = Nanos::now() + START_MAX;
    while !is_inhabited(&place) {
        assert!(run.try_wait().expect("it is ours").is_none(), "it ended by itself");
        assert!(Nanos::now() < until, "the product did not start");
        thread::sleep(LOOK);
    }
    let pid = i32::try_from(run.id()).ok().and_then(Pid::from_raw).expect("it has a number");
    kill_process(pid, Signal::TERM).expect("it is ours");
    let output = run.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.ends_with("load: the run was told to end\n"), "{words}");
    assert!(!is_inhabited(&place), "the product goes on");
    let left: Vec<String> = fs::read_dir(&place)
        .expect("it is there")
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    assert_eq!(left, ["output"], "the server's key is gone");
    fs::remove_dir_all(&place).expect("it is ours");
}
