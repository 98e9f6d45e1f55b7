//! `cargo xtask bench`: Portcullis under load, beside its peers and the floors under both.
//!
//! Installs the peers where it may, builds the product and the kit as they are shipped, and hands its
//! arguments on to the kit (`benches/README.md`). A peer that cannot be installed is said to be missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt, children, machine, stage};

/// A program that the kit runs, and the Debian package that has it.
const PEERS: &[(&str, &str)] = &[
    ("kamailio", "kamailio"),
    ("rtpengine", "rtpengine-daemon"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
];
/// Kamailio's TLS, which is a package of its own, where Debian keeps it.
const TLS_MODULE: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/kamailio/modules/tls.so",
    "/usr/lib/aarch64-linux-gnu/kamailio/modules/tls.so",
];

/// What the kit takes; told without building it.
const USAGE: &str = "\
usage: cargo xtask bench [ROW…] [OPTION…]    all rows, or those that are named; with them come those of the same scenario

  --quick                  one round (three of flood, garbage, half-open), short, no curves: three minutes
  --rounds N               how often each system goes through each scenario
  --systems SYSTEM…        these alone
  --minutes N              how long the row `soak` lasts; from 60 on it fails where memory or descriptors grow
  --output DIRECTORY       where table, lines and plots are written (target/bench); the run before is in its previous/
  --portcullis PROGRAM     another build of the product than this tree's

A row or system that is not there is told what is. benches/README.md has the rows, and how to read what comes out.";

/// Builds, and runs the kit at this terminal.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    if arguments.iter().any(|argument| matches!(*argument, "--help" | "-h")) {
        println!("{USAGE}");
        return Ok(());
    }
    machine::check_rust()?;
    install_peers()?;
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "-p", "portcullis", "-p", "portcullis-benches"]);
    build.args(["--bin", "portcullis", "--bin", "load"]);
    println!("building the product and the kit, optimised");
    if !children::status(&mut build).context("cannot run cargo")?.success() {
        bail!("the build failed");
    }
    let target = stage::target();
    let mut kit = Command::new(target.join("release/load"));
    kit.arg("run").args(arguments);
    if !arguments.iter().any(|argument| *argument == "--output" || argument.starts_with("--output=")) {
        kit.arg("--output").arg(target.join("bench"));
    }
    // a signal reaches whoever has something to end
    children::take_our_place(&mut kit)
}

/// Whoever cannot be installed is left out of the comparison, and the kit says so in its report.
fn install_peers() -> Result<()> {
    let absent = PEERS.iter().filter(|(program, _)| machine::find_program(program).is_none());
    let mut missing: Vec<&str> = absent.map(|(_, package)| *package).collect();
    if !TLS_MODULE.iter().any(|path| Path::new(path).is_file()) {
        missing.push("kamailio-tls-modules");
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !machine::is_root() || machine::find_program("apt-get").is_none() {
        println!("note: missing and not installed, for that needs root on Debian: {}", missing.join(" "));
        return Ok(());
    }
    println!("peers: installing {}", missing.join(" "));
    if let Err(error) = apt::install(&missing, &stage::directory()) {
        println!("note: {error:#}\nnote: what is missing is left out of the comparison");
    }
    Ok(())
}
