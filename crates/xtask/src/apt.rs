//! Installing Debian packages: one line of progress, and no daemon started.
//!
//! Packages start their daemons by `deb-systemd-invoke` or `invoke-rc.d`, which they look up in the path that
//! dpkg is given. For these calls that path begins with a directory of ours, in which both do nothing. So
//! nothing in the system is changed, and whatever ends this program leaves nothing there to be taken back.
//! What apt writes goes to a file, so that it can finish where this program is killed; what an interrupted one
//! left half-done is finished.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What packages start their daemons with.
const STARTERS: [&str; 2] = ["deb-systemd-invoke", "invoke-rc.d"];

/// In the place of each: says that all is well.
const NOTHING: &str = "#!/bin/sh\nexit 0\n";

/// The path that apt gives to dpkg where nothing else is said.
const DPKG_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How many of apt's last lines are shown where it failed.
const SHOWN_LINES_MAX: usize = 15;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Installs packages; what it needs and writes is in `directory`.
pub(crate) fn install(packages: &[&str], directory: &Path) -> Result<()> {
    let path = dpkg_path(&place_starters(&directory.join("no-daemons"))?)?;
    let log = directory.join("apt.log");
    run(apt_get().arg("update"), &log)?;
    let option = format!("DPkg::Path={path}");
    let mut install = apt_get();
    install.args(["install", "--yes", "--no-install-recommends", "-o", &option]).args(packages);
    let Err(error) = run(&mut install, &log) else { return Ok(()) };
    // What apt says where an earlier one was interrupted.
    if !error.to_string().contains("dpkg --configure -a") {
        return Err(error);
    }
    run(Command::new("dpkg").args(["--configure", "-a"]).env("PATH", &path), &log)?;
    run(&mut install, &log)
}

/// Waits for somebody else's apt, and tells how far it is.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    for option in ["APT::Status-Fd=1", "Dpkg::Use-Pty=0", "DPkg::Lock::Timeout=300"] {
        command.args(["-o", option]);
    }
    command.arg("--quiet");
    command
}

fn place_starters(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for name in STARTERS {
        let path = directory.join(name);
        let written = fs::write(&path, NOTHING);
        let written = written.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    directory.canonicalize().with_context(|| format!("cannot find {}", directory.display()))
}

fn dpkg_path(directory: &Path) -> Result<String> {
    match directory.to_str().filter(|text| !text.contains([':', '"'])) {
        Some(text) => Ok(format!("{text}:{DPKG_PATH}")),
        None => bail!("{} cannot stand in a PATH; set CARGO_TARGET_DIR to another", directory.display()),
    }
}

fn run(command: &mut Command, log: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", log.display());
    // A new file each time: an apt that outlived a kill still writes to the old one.
    if log.exists() {
        fs::remove_file(log).with_context(cannot)?;
    }
    let output = File::create(log).with_context(cannot)?;
    let errors = output.try_clone().with_context(cannot)?;
    let mut child = command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot run {}", words(command)))?;
    let mut progress = Progress::new();
    let status = follow(&mut child, log, &mut progress)?;
    progress.end()?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    bail!("{} failed:\n{}", words(command), last_lines(&String::from_utf8_lossy(&text)))
}

/// A command as it would be typed.
fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Shows what the child writes to its log, until it ends.
fn follow(child: &mut Child, log: &Path, progress: &mut Progress) -> Result<ExitStatus> {
    let cannot = || format!("cannot read {}", log.display());
    let mut reader = BufReader::new(File::open(log).with_context(cannot)?);
    let mut line = Vec::new();
    loop {
        let ended = child.try_wait().context("cannot wait for the installation")?;
        while reader.read_until(b'\n', &mut line).with_context(cannot)? > 0 {
            if line.ends_with(b"\n") {
                if let Some(status) = Status::parse(String::from_utf8_lossy(&line).trim_end()) {
                    progress.show(&status)?;
                }
                line.clear();
            }
        }
        match ended {
            Some(status) => return Ok(status),
            None => std::thread::sleep(LOOK),
        }
    }
}

/// The end of an output, without its lines of progress.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| Status::parse(line).is_none()).collect();
    lines.get(lines.len().saturating_sub(SHOWN_LINES_MAX)..).unwrap_or_default().join("\n")
}

/// How far apt is: `KIND:PACKAGE:PERCENT:TEXT`, where KIND is `dlstatus` or `pmstatus`.
#[derive(Debug, PartialEq)]
struct Status {
    percent: u8,
    text: String,
}

impl Status {
    fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("dlstatus:").or_else(|| line.strip_prefix("pmstatus:"))?;
        // A package of another architecture has a colon in its name: the percentage is what reads as one.
        let mut parts = rest.split(':').skip(1).skip_while(|part| percent(part).is_none());
        Some(Self { percent: percent(parts.next()?)?, text: parts.collect::<Vec<_>>().join(":") })
    }
}

fn percent(text: &str) -> Option<u8> {
    let (whole, fraction) = text.split_once('.')?;
    fraction.bytes().all(|byte| byte.is_ascii_digit()).then_some(whole.parse().ok()?)
}

/// One line: written over again at a terminal; elsewhere, a new one for each quarter.
struct Progress {
    terminal: bool,
    quarter: Option<u8>,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), quarter: None }
    }

    fn show(&mut self, status: &Status) -> Result<()> {
        let quarter = Some(status.percent / 25);
        let text: String = status.text.chars().filter(|letter| !letter.is_control()).take(60).collect();
        let mut out = std::io::stdout();
        let written = if self.terminal {
            write!(out, "\r      {:3} % {text}\x1b[K", status.percent).and_then(|()| out.flush())
        } else if quarter == self.quarter {
            Ok(())
        } else {
            writeln!(out, "      {:3} % {text}", status.percent)
        };
        self.quarter = quarter;
        written.context("cannot write apt's progress")
    }

    /// Takes the line away.
    fn end(&self) -> Result<()> {
        if !self.terminal || self.quarter.is_none() {
            return Ok(());
        }
        let mut out = std::io::stdout();
        write!(out, "\r\x1b[K").and_then(|()| out.flush()).context("cannot write apt's progress")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_told_from_other_output() {
        let status = |percent, text: &str| Some(Status { percent, text: text.to_owned() });
        let parse = Status::parse;
        assert_eq!(parse("dlstatus:1:20.5882:Retrieving file 1 of 3"), status(20, "Retrieving file 1 of 3"));
        assert_eq!(
            parse("pmstatus:sip-tester:50.0000:Unpacking sip-tester (amd64)"),
            status(50, "Unpacking sip-tester (amd64)")
        );
        assert_eq!(
            parse("pmstatus:libgsl27:amd64:7.6923:Preparing: libgsl27"),
            status(7, "Preparing: libgsl27")
        );
        assert_eq!(parse("pmstatus:dpkg-exec"), None);
        assert_eq!(parse("E: Unable to locate package nothing"), None);
    }

    #[test]
    fn of_a_failure_the_last_lines_are_shown() {
        let text: String = (0..100).map(|number| format!("dlstatus:1:2.0000:x\n{number}\n")).collect();
        let shown = last_lines(&text);
        assert_eq!(shown.lines().count(), SHOWN_LINES_MAX);
        assert!(shown.ends_with("98\n99"), "{shown}");
    }

    #[test]
    fn a_directory_that_would_break_a_path_is_refused() {
        assert!(dpkg_path(Path::new("/a:b")).is_err());
        assert_eq!(dpkg_path(Path::new("/a b")).unwrap(), format!("/a b:{DPKG_PATH}"));
    }
}
