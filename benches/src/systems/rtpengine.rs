//! rtpengine (Debian's `rtpengine-daemon`) in user space: without its kernel module.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::ng::Ng;
use super::{Ground, INSIDE, OUTSIDE, Running, find_program};

/// Poller threads: one, as ours.
const THREADS: &str = "--num-threads=1";

fn command(ng: SocketAddr) -> io::Result<Command> {
    let program = find_program("rtpengine").ok_or_else(|| io::Error::other("rtpengine is not installed"))?;
    let mut command = Command::new(program);
    command
        .args(["--foreground", "--log-stderr", "--log-level=3", "--config-file=none", "--table=-1", THREADS])
        .arg(format!("--interface=outside/{OUTSIDE}"))
        .arg(format!("--interface=inside/{INSIDE}"))
        .arg(format!("--listen-ng={ng}"))
        .args(["--port-min=10000", "--port-max=60000", "--timeout=3600", "--delete-delay=0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// One that somebody else tells its calls; where its control port is.
pub(super) fn spawn(ground: &Ground<'_>) -> io::Result<(Child, SocketAddr)> {
    let mut ng = Ng::new(OUTSIDE)?;
    ground.cpus.stay_on_system()?;
    let child = command(ng.address())?.process_group(0).spawn()?;
    ng.wait_until_it_answers()?;
    Ok((child, ng.address()))
}

/// One with its sessions open between the two `ends`: the phones' and the PBX's.
pub(super) fn start(
    sessions: usize,
    ends: [SocketAddr; 2],
    ground: &Ground<'_>,
) -> io::Result<(Running, Vec<[SocketAddr; 2]>)> {
    let mut ng = Ng::new(OUTSIDE)?;
    let running = Running::spawn(&mut command(ng.address())?, ground)?;
    ng.wait_until_it_answers()?;
    let open = (0..sessions).map(|session| ng.open(session, ends)).collect::<io::Result<_>>()?;
    Ok((running, open))
}
