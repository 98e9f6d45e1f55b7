//! What this machine has, and what it lacks.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::apt;

/// The oldest Rust that builds the product (`rust-version` of the workspace).
const RUST_MIN: (u32, u32) = (1, 90);

/// A program that the end-to-end tests run, and the Debian package that has it.
const PEERS: &[(&str, &str)] = &[
    ("kamailio", "kamailio"),
    ("sipp", "sip-tester"),
    ("baresip", "baresip-core"),
    ("linphonec", "linphone-cli"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("setpriv", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    // with its library, which is what we need
    ("faketime", "faketime"),
];

/// Where programs are looked for beside `PATH`, which leaves out `sbin` for ordinary users.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Fails with a clear sentence where Rust is too old.
pub(crate) fn check_rust() -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(&rustc).arg("--version").output().context("cannot run rustc --version")?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let Some(version) = parse_version(&text) else { bail!("cannot read the version of Rust from {text:?}") };
    if version < RUST_MIN {
        let (major, minor) = RUST_MIN;
        bail!("Rust {major}.{minor} or newer is needed, this is {text}; `rustup update stable` brings it");
    }
    println!("rust: {text}");
    Ok(())
}

/// `rustc 1.95.0 (…)` → `(1, 95)`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Installs the real peers of the end-to-end tests where it may; else says once what is missing.
pub(crate) fn install_peers(directory: &Path) -> Result<()> {
    let missing = missing_packages();
    if missing.is_empty() {
        println!(
            "peers: all here ({})",
            PEERS.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ")
        );
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() || find_program("apt-get").is_none() {
        bail!(
            "the end-to-end tests need packages that are missing here; as root on Debian 12:\n    \
             apt-get install --no-install-recommends {list}\n(without them: cargo xtask test tidy unit simulation)"
        );
    }
    println!("peers: installing {list}");
    apt::install(&missing, directory)?;
    match missing_packages().as_slice() {
        [] => Ok(()),
        still => bail!("installed, but these still lack their program: {}", still.join(" ")),
    }
}

fn missing_packages() -> Vec<&'static str> {
    PEERS.iter().filter(|(program, _)| find_program(program).is_none()).map(|(_, package)| *package).collect()
}

pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let mut directories = std::env::var_os("PATH").unwrap_or_default();
    directories.push(":");
    directories.push(SBIN);
    std::env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file())
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Whether namespaces of networks and mounts can be made here.
pub(crate) fn has_namespaces() -> bool {
    let probe = Command::new("unshare").args(["--net", "--mount", "true"]).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

/// Whether a file can be mounted as a disk here.
pub(crate) fn has_loop_devices() -> bool {
    Path::new("/dev/loop-control").exists()
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_read_as_rustc_writes_them() {
        assert_eq!(parse_version("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert_eq!(parse_version("rustc 1.90.0-nightly"), Some((1, 90)));
        assert_eq!(parse_version("rustc"), None);
        assert!((1, 9) < super::RUST_MIN && (2, 0) > super::RUST_MIN);
    }
}
