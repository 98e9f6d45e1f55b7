//! rtpengine (Debian's `rtpengine-daemon`) in user space: without its kernel module.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::ng::Ng;
use super::{Ground, Group, INSIDE, OUTSIDE, Running, find_program, program};

/// Poller threads: one, as ours.
const THREADS: &str = "--num-threads=1";

fn command(ng: SocketAddr) -> io::Result<Command> {
    let path = find_program("rtpengine").ok_or_else(|| io::Error::other("rtpengine is not installed"))?;
    let mut command = program(&path);
    command
        .args(["--foreground", "--log-stderr", "--log-level=3", "--config-file=none", "--table=-1", THREADS])
        .arg(format!("--interface=outside/{OUTSIDE}"))
        .arg(format!("--interface=inside/{INSIDE}"))
        .arg(format!("--listen-ng={ng}"))
        .args(["--port-min=10000", "--port-max=60000", "--timeout=3600", "--delete-delay=0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// One that somebody else tells its calls; where its control port is.
pub(super) fn spawn(ground: &Ground<'_>) -> io::Result<(Group, SocketAddr)> {
    let mut ng = Ng::new(OUTSIDE)?;
    ground.cpus.stay_on_system()?;
    let group = Group::spawn(command(ng.address())?)?;
    ng.wait_until_it_answers()?;
    Ok((group, ng.address()))
}

/// One with its sessions open between the two `ends`: the phones' and the PBX's.
pub(super) fn start(
    sessions: usize,
    ends: [SocketAddr; 2],
    ground: &Ground<'_>,
) -> io::Result<(Running, Vec<[SocketAddr; 2]>)> {
    let mut ng = Ng::new(OUTSIDE)?;
    let running = Running::of(Group::spawn(command(ng.address())?)?, ground);
    ng.wait_until_it_answers()?;
    let open = (0..sessions).map(|session| ng.open(session, ends)).collect::<io::Result<_>>()?;
    Ok((running, open))
}
