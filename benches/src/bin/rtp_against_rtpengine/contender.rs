//! A relay in a process of its own, with its sessions open.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use crate::ng::Ng;

/// Where relays have their ports: towards the phones, towards the PBX.
pub(crate) const FACES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 83, 0, 10)), IpAddr::V4(Ipv4Addr::new(127, 83, 0, 20))];

/// Who relays.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Contender {
    /// Our media shard.
    Portcullis,
    /// rtpengine in user space.
    Rtpengine {
        /// Its poller threads.
        threads: usize,
    },
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portcullis => "portcullis",
            Self::Rtpengine { .. } => "rtpengine",
        })
    }
}

/// A relay that runs; it ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    sessions: Vec<[SocketAddr; 2]>,
}

impl Running {
    /// Starts it and opens the sessions between the two `ends`: the phones' and the PBX's.
    pub(crate) fn start(contender: Contender, sessions: usize, ends: [SocketAddr; 2]) -> io::Result<Self> {
        match contender {
            Contender::Portcullis => Self::start_shard(sessions, ends),
            Contender::Rtpengine { threads } => Self::start_rtpengine(threads, sessions, ends),
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The ports of each session: the phone's and the PBX's way in.
    pub(crate) fn sessions(&self) -> &[[SocketAddr; 2]] {
        &self.sessions
    }

    fn start_shard(sessions: usize, [phones, pbx]: [SocketAddr; 2]) -> io::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(["--sessions", &sessions.to_string()])
            .args(["--shard", &phones.to_string(), &pbx.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut running = Self { child, sessions: Vec::new() };
        let lines = running.child.stdout.take().map(|out| BufReader::new(out).lines());
        for line in lines.into_iter().flatten().take(sessions) {
            let line = line?;
            let mut ports = line.split(' ').map(str::parse::<u16>);
            let (Some(Ok(outside)), Some(Ok(inside))) = (ports.next(), ports.next()) else {
                return Err(io::Error::other(format!("the shard said: {line}")));
            };
            running.sessions.push([SocketAddr::new(FACES[0], outside), SocketAddr::new(FACES[1], inside)]);
        }
        if running.sessions.len() == sessions {
            Ok(running)
        } else {
            Err(io::Error::other("the shard ended before all sessions were open"))
        }
    }

    fn start_rtpengine(threads: usize, sessions: usize, ends: [SocketAddr; 2]) -> io::Result<Self> {
        let mut ng = Ng::new(FACES[0])?;
        let [outside, inside] = FACES;
        let child = Command::new("rtpengine")
            .args(["--foreground", "--log-stderr", "--log-level=3", "--config-file=none", "--table=-1"])
            .arg(format!("--interface=outside/{outside}"))
            .arg(format!("--interface=inside/{inside}"))
            .arg(format!("--listen-ng={}", ng.address()))
            .arg(format!("--num-threads={threads}"))
            .args(["--port-min=10000", "--port-max=60000", "--timeout=3600", "--delete-delay=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|fault| io::Error::other(format!("rtpengine (Debian: rtpengine-daemon): {fault}")))?;
        let mut running = Self { child, sessions: Vec::new() };
        ng.wait_until_it_answers()?;
        for session in 0..sessions {
            running.sessions.push(ng.open(session, ends)?);
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // one that has ended already needs no signal
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
