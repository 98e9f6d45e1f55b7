//! `cargo xtask`: the one command that checks everything. Not shipped.
//!
//! - `cargo xtask test [STAGE…]` checks the Rust version, installs what the tests need where it may, then runs
//!   the stages `tidy`, `unit`, `simulation`, `e2e` (all of them where none is named).
//! - `cargo xtask sim …` runs seeds of the simulation, optimised; `--help` tells its arguments.
//! - `cargo xtask faults` runs the fault lab alone and prints what it measured; `--rounds N` kills so often (200),
//!   `--seed S` chooses otherwise what is done meanwhile.
//! - `cargo xtask mutants [AREA…]` plants bugs and looks whether the tests and the simulation notice them;
//!   `CONTRIBUTING.md` tells how to read what it finds.
//! - `cargo xtask planted [NAME…]` plants the bugs of `crates/sim/planted` and looks whether the simulation notices
//!   each.
//! - `cargo xtask bench [ROW…] [--quick]` measures the product beside its peers; `--help` tells its arguments.
//!
//! `.ci/run` runs format, lints and dependencies before `test`.
//!
//! Never starts a daemon of the system and never touches anything outside the target directory, except for
//! the packages it installs.
#![forbid(unsafe_code)]

mod apt;
mod bench;
mod children;
mod machine;
mod mutants;
mod planted;
mod stage;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use stage::Stage;

const USAGE: &str = "\
usage: cargo xtask test [tidy] [unit] [simulation] [e2e]     all stages, or those that are named
       cargo xtask sim …                                     seeds of the simulation; sim --help tells more
       cargo xtask faults [--rounds N] [--seed S]            the fault lab alone, and what it measured
       cargo xtask mutants [AREA…]                           plants bugs, and looks whether they are noticed
       cargo xtask planted [KIND | NAME…]                    plants known bugs; the simulation must notice each
       cargo xtask bench [ROW…] [--quick]                    the product under load, beside its peers

with --help after its name each tells more";

const TEST_USAGE: &str = "\
usage: cargo xtask test [STAGE…]    all stages, or those that are named

  tidy          layers and habits
  unit          unit tests of every crate
  simulation    256 seeds of the simulation, optimised
  e2e           Kamailio, sipp, baresip and linphone on real sockets; as root with namespaces and small disks

What a stage prints goes to target/xtask/STAGE.log; a failure is shown.";

const FAULTS_USAGE: &str = "\
usage: cargo xtask faults [--rounds N] [--seed S]    as root; some 5 minutes, and more with each kill

  --rounds N    how often the product is killed (200)
  --seed S      chooses otherwise what is done meanwhile (1)

docs/faults.md tells what must hold; the whole output is in target/xtask/faults.log.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match prepare().and_then(|()| run(&words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> Result<()> {
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .context("cannot enter the tree")?;
    children::end_with_us()
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        ["test", chosen @ ..] => test(chosen),
        ["sim", arguments @ ..] => sim(arguments),
        ["faults", options @ ..] => faults(options),
        ["mutants", options @ ..] => mutants::run(options),
        ["planted", names @ ..] => planted::run(names),
        ["bench", options @ ..] => bench::run(options),
        _ => bail!("{USAGE}"),
    }
}

/// Becomes the simulation's own program.
fn sim(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--locked", "--profile", "sim", "--package", "sim", "--"]);
    eprintln!("building the simulation, optimised (some minutes the first time)");
    children::take_our_place(command.args(arguments))
}

fn asks_for_help(options: &[&str]) -> bool {
    options.iter().any(|option| matches!(*option, "--help" | "-h"))
}

fn test(chosen: &[&str]) -> Result<()> {
    if asks_for_help(chosen) {
        println!("{TEST_USAGE}");
        return Ok(());
    }
    machine::check_rust()?;
    let mut stages = stage::tests();
    if let Some(unknown) = chosen.iter().find(|name| !stages.iter().any(|stage| stage.key == **name)) {
        bail!("there is no stage {unknown:?}\n{TEST_USAGE}");
    }
    if !chosen.is_empty() {
        stages.retain(|stage| chosen.contains(&stage.key));
    }
    if let Some(end_to_end) = stages.iter_mut().find(|stage| stage.key == "e2e") {
        prepare_end_to_end(end_to_end)?;
    }
    stage::run_all(&stages)
}

fn prepare_end_to_end(stage: &mut Stage) -> Result<()> {
    machine::install_peers(&stage::directory())?;
    if !machine::has_namespaces() {
        println!(
            "note: no namespaces here (they need root): phones behind NAT, full disks and lost packets are left out"
        );
        stage.leave_out(&["nat::", "netns::", "disk::", "dns::", "network::"]);
    } else if !machine::has_loop_devices() {
        println!("note: no loop devices here: the disk that becomes read-only is left out");
        stage.leave_out(&["becomes_read_only", "both_kinds_fill"]);
    }
    Ok(())
}

/// The fault lab alone, with more kills than in the tests.
fn faults(options: &[&str]) -> Result<()> {
    if asks_for_help(options) {
        println!("{FAULTS_USAGE}");
        return Ok(());
    }
    let mut settings =
        [("--rounds", "PORTCULLIS_FAULT_ROUNDS", 200_u64), ("--seed", "PORTCULLIS_FAULT_SEED", 1)];
    for option in options.chunks(2) {
        let name = option.first().copied().unwrap_or_default();
        let Some((.., set)) = settings.iter_mut().find(|(known, ..)| *known == name) else {
            bail!("there is no option {name:?}\n{FAULTS_USAGE}");
        };
        let value = option.get(1).with_context(|| format!("{name} takes a number\n{FAULTS_USAGE}"))?;
        *set = value.parse().with_context(|| format!("{name} takes a number, not {value:?}"))?;
    }
    machine::check_rust()?;
    let mut stage = stage::faults();
    for (_, variable, value) in settings {
        stage.set(variable, &value.to_string());
    }
    prepare_end_to_end(&mut stage)?;
    stage::run_all(&[stage])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_help_gets_it_and_starts_nothing() {
        for words in [
            &["--help"][..],
            &["help"],
            &["-h"],
            &["test", "--help"],
            &["faults", "-h"],
            &["mutants", "--help"],
            &["planted", "limits", "--help"],
            &["bench", "--help"],
        ] {
            run(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
        let refused = run(&["ci"]).unwrap_err().to_string();
        assert_eq!(refused, USAGE, "what is not there is told what is");
    }

    #[test]
    fn who_asks_wrongly_is_told_what_is_wrong() {
        for (words, begin) in [
            (&["test", "unti"][..], "there is no stage \"unti\""),
            (&["faults", "--rounds"], "--rounds takes a number"),
            (&["faults", "--rounds=3"], "there is no option \"--rounds=3\""),
            (&["faults", "--rounds", "x"], "--rounds takes a number, not \"x\""),
        ] {
            let refused = match run(words) {
                Ok(()) => panic!("{words:?} are taken"),
                Err(error) => error.to_string(),
            };
            assert!(refused.starts_with(begin), "{words:?}: {refused}");
        }
    }
}
