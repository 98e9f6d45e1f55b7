//! Memory of an idle registered phone: the real binary, N phones over mutual TLS, a PBX of byte templates.
//!
//! The figure is all in: what the process has more with the phones than without, and what the kernel has more
//! for its half of the connections. The phones come from addresses of their own, as phones do.

mod daemon;
mod pbx;
mod phones;
mod pki;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use portcullis_benches::process::{kernel_memory_kb, memory_kb, tcp_buffer_pages};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::daemon::Daemon;

/// What the project asks of itself, in kB.
const GOAL_KB: f64 = 24.0;
/// Memory is at rest when it has not moved by more than this share for a second.
const AT_REST: f64 = 0.002;
const SECONDS_TO_REST: u32 = 20;

/// Memory of an idle phone that is registered over mutual TLS.
#[derive(Debug, Parser)]
struct Arguments {
    /// Phones, each with a certificate and an extension of its own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=30_000))]
    phones: u32,
    /// The binary; left out: the one that was built beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// What is measured, at one moment.
#[derive(Clone, Copy)]
struct Memory {
    process_kb: u64,
    kernel_kb: u64,
    buffer_pages: u64,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("idle_phones: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> io::Result<()> {
    raise_file_limit()?;
    let binary = match &arguments.binary {
        // the daemon runs in a directory of its own
        Some(binary) => std::path::absolute(binary)?,
        None => std::env::current_exe()?.with_file_name("portcullis"),
    };
    if !binary.is_file() {
        let missing = format!("{} is not built; run `cargo build --release` first", binary.display());
        return Err(io::Error::other(missing));
    }
    let directory = Directory::new()?;
    let authority = pki::Authority::write(directory.path(), daemon::OUTSIDE)?;
    let registrar = pbx::start()?;
    daemon::configure(directory.path(), registrar, arguments.phones)?;
    let daemon = Daemon::start(&binary, directory.path())?;
    let before = at_rest(daemon.pid())?;
    let phones = phones::register(&authority, daemon.tls(), arguments.phones)?;
    let after = at_rest(daemon.pid())?;
    print(arguments.phones, before, after);
    drop(phones);
    Ok(())
}

fn print(phones: u32, before: Memory, after: Memory) {
    let each = |kb: u64| kb as f64 / f64::from(phones);
    let process = each(after.process_kb.saturating_sub(before.process_kb));
    // both ends of every connection are on this machine
    let kernel = each(after.kernel_kb.saturating_sub(before.kernel_kb)) / 2.0;
    let sum = process + kernel;
    let verdict = if sum <= GOAL_KB { "met" } else { "missed" };
    println!("{sum:.1} kB an idle registered phone, all in (goal: at most {GOAL_KB}; {verdict})");
    println!("{process:.1} kB of it in the process, {kernel:.1} kB in the kernel");
    println!(
        "{phones} phones over mutual TLS; process {} kB before, {} kB with them (PSS)",
        before.process_kb, after.process_kb
    );
    println!(
        "kernel {} kB before, {} kB with them (whole machine, half of the difference is counted); \
         TCP buffers {} pages before, {} with them",
        before.kernel_kb, after.kernel_kb, before.buffer_pages, after.buffer_pages
    );
}

/// Reads until memory no longer moves: freed buffers go back late.
fn at_rest(pid: u32) -> io::Result<Memory> {
    let mut last = Memory::read(pid)?;
    for _ in 0..SECONDS_TO_REST {
        std::thread::sleep(Duration::from_secs(1));
        let now = Memory::read(pid)?;
        let moved = now.process_kb.abs_diff(last.process_kb) + now.kernel_kb.abs_diff(last.kernel_kb);
        last = now;
        if moved as f64 <= now.process_kb as f64 * AT_REST {
            break;
        }
    }
    Ok(last)
}

impl Memory {
    fn read(pid: u32) -> io::Result<Self> {
        Ok(Self {
            process_kb: memory_kb(pid)?,
            kernel_kb: kernel_memory_kb()?,
            buffer_pages: tcp_buffer_pages()?,
        })
    }
}

/// Each phone is a file here and one there; the daemon inherits the limit.
fn raise_file_limit() -> io::Result<()> {
    let hard = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?)
}

/// A directory that is gone with this value.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("portcullis-idle-phones-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // what cannot be removed lies in the temporary directory
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}
