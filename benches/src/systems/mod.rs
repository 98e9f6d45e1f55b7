//! The systems that are measured: ours, the peers that do the same job, and the floors under both.
//!
//! A floor is the least that a user-space program can do for the job on this machine: no peer is as good, and
//! no goal goes below it. Each system runs in a process group of its own, and all of the group is counted.

pub mod floor;
mod kamailio;
mod ng;
mod portcullis;
mod rtpengine;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::interrupt;
use crate::load::pbx::Pbx;
use crate::measure::cost::Sample;
use crate::measure::cpus::Cpus;
use crate::measure::process::{descriptors, group_members};
use crate::measure::time::Nanos;

/// Where phones come.
pub const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 84, 0, 10));
/// Where the PBX is reached from.
pub const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 84, 0, 20));

/// How long a system may take to be up.
const START_MAX: Nanos = Nanos::from_secs(20);
/// How long it may take to end by itself.
const END_MAX: Nanos = Nanos::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

/// The extension with this number.
pub fn extension(number: u32) -> String {
    format!("{}", 10_000 + number)
}

/// The device that may be it.
pub fn hardware_id(number: u32) -> String {
    format!("0090330{}", extension(number))
}

/// How phones are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Each by datagrams.
    Udp,
    /// Each by a connection.
    Tls,
}

/// Who does the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum System {
    /// The product.
    Portcullis,
    /// Kamailio as an edge proxy: passes on what it gets.
    KamailioEdge,
    /// Kamailio as a registrar: answers REGISTER itself.
    KamailioRegistrar,
    /// Kamailio as an edge proxy that hides addresses by its module topoh.
    KamailioTopoh,
    /// The same, with rtpengine for the media of its calls.
    KamailioMedia,
    /// Kamailio as an edge proxy that blocks who sends too much.
    KamailioPike,
    /// rtpengine in user space, told its calls by its control protocol.
    Rtpengine,
    /// One Via in, one out, nothing remembered.
    FloorForward,
    /// Mutual TLS, and an answer to each request.
    FloorTls,
    /// One receive and one send for a packet.
    FloorRelay,
    /// Looks the source up in a block list and drops.
    FloorSink,
}

impl System {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portcullis => "portcullis",
            Self::KamailioEdge => "kamailio edge",
            Self::KamailioRegistrar => "kamailio registrar",
            Self::KamailioTopoh => "kamailio topoh",
            Self::KamailioMedia => "kamailio topoh + rtpengine",
            Self::KamailioPike => "kamailio pike",
            Self::Rtpengine => "rtpengine (user space)",
            Self::FloorForward => "floor: forwarder",
            Self::FloorTls => "floor: TLS responder",
            Self::FloorRelay => "floor: relay",
            Self::FloorSink => "floor: sink",
        }
    }

    /// Whether it is neither ours nor a peer.
    pub fn is_floor(self) -> bool {
        matches!(self, Self::FloorForward | Self::FloorTls | Self::FloorRelay | Self::FloorSink)
    }

    /// The programs of others that it needs, with the Debian package of each.
    pub fn needs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::KamailioEdge | Self::KamailioRegistrar | Self::KamailioTopoh | Self::KamailioPike => {
                &[("kamailio", "kamailio, kamailio-tls-modules")]
            }
            Self::KamailioMedia => {
                &[("kamailio", "kamailio, kamailio-tls-modules"), ("rtpengine", "rtpengine-daemon")]
            }
            Self::Rtpengine => &[("rtpengine", "rtpengine-daemon")],
            _ => &[],
        }
    }

    /// What is missing here for it, in words.
    pub fn missing(self) -> Option<String> {
        let missing = self.needs().iter().find(|(program, _)| find_program(program).is_none())?;
        Some(format!("{} is not installed (Debian: {})", missing.0, missing.1))
    }
}

/// A program in `PATH`, or where daemons are.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let mut directories = std::env::var_os("PATH").unwrap_or_default();
    directories.push(":/usr/local/sbin:/usr/sbin:/sbin");
    std::env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// What a system is started with.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How its phones come.
    pub transport: Transport,
    /// How many there are.
    pub extensions: u32,
    /// Whether their addresses are never blocked.
    pub phones_allowed: bool,
    /// One worker of each kind: where several crash, or handshakes are all it does.
    pub single: bool,
}

/// The programs of ours.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The product.
    pub portcullis: PathBuf,
    /// This one: it is the floors too.
    pub load: PathBuf,
}

/// What all systems stand on.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The programs of ours.
    pub programs: &'a Programs,
    /// With the certificates; what systems write goes there.
    pub directory: &'a Path,
    /// Behind them.
    pub pbx: &'a Pbx,
    /// Who runs where.
    pub cpus: Cpus,
}

/// A system that runs; it ends with this value.
#[derive(Debug)]
pub struct Running {
    main: Group,
    helper: Option<Group>,
    /// Where it takes datagrams.
    pub udp: SocketAddr,
    /// Where it takes TLS.
    pub tls: SocketAddr,
    control: Option<PathBuf>,
    product: PathBuf,
}

impl Running {
    /// Starts one that takes phones, and waits until it serves.
    pub fn start(system: System, wanted: &Wanted, ground: &Ground<'_>) -> io::Result<Self> {
        ground.cpus.stay_on_system()?;
        let started = match system {
            System::Portcullis => portcullis::start(wanted, ground),
            System::Rtpengine => Err(io::Error::other("rtpengine takes no phones")),
            System::FloorForward | System::FloorTls | System::FloorSink | System::FloorRelay => {
                floor::start(system, ground)
            }
            _ => kamailio::start(system, wanted, ground),
        };
        ground.cpus.stay_on_load()?;
        started
    }

    /// Starts a relay of media that is told its sessions without signalling; the ports of each session.
    pub fn start_relay(
        system: System,
        sessions: usize,
        ends: [SocketAddr; 2],
        ground: &Ground<'_>,
    ) -> io::Result<(Self, Vec<[SocketAddr; 2]>)> {
        ground.cpus.stay_on_system()?;
        let started = match system {
            System::Rtpengine => rtpengine::start(sessions, ends, ground),
            _ => floor::start_relay(sessions, ends, ground),
        };
        ground.cpus.stay_on_load()?;
        started
    }

    fn of(main: Group, ground: &Ground<'_>) -> Self {
        let nowhere = SocketAddr::new(OUTSIDE, 0);
        let product = ground.programs.portcullis.clone();
        Self { main, helper: None, udp: nowhere, tls: nowhere, control: None, product }
    }

    /// Reads `ready: udp ADDRESS, tls ADDRESS …` from its standard output.
    fn wait_until_it_says_ready(&mut self) -> io::Result<()> {
        let lines = self.main.0.stdout.take().map(|out| BufReader::new(out).lines());
        let ready = lines.into_iter().flatten().map_while(Result::ok).find(|line| line.starts_with("ready:"));
        let ready = ready.ok_or_else(|| io::Error::other("it ended before it was ready"))?;
        let address = |word: &str| {
            let words = ready.trim_start_matches("ready:").split(',').map(str::trim);
            let mut addresses = words.filter_map(|it| it.strip_prefix(word)?.parse().ok());
            addresses.find(|address: &SocketAddr| address.ip() == OUTSIDE)
        };
        self.udp = address("udp ").unwrap_or(self.udp);
        self.tls = address("tls ").unwrap_or(self.tls);
        Ok(())
    }

    /// Asks by OPTIONS until it answers, or connects until it listens.
    fn wait_until_it_answers(&mut self, transport: Transport) -> io::Result<()> {
        let socket = UdpSocket::bind((INSIDE, 0))?;
        socket.set_read_timeout(Some(LOOK))?;
        let until = Nanos::now() + START_MAX;
        let mut number = 0;
        while Nanos::now() < until {
            interrupt::check()?;
            if let Some(status) = self.main.0.try_wait()? {
                return Err(io::Error::other(format!("it ended before it was ready: {status}")));
            }
            number += 1;
            socket.send_to(options(self.udp, &socket, number)?.as_bytes(), self.udp).unwrap_or_default();
            let answered = socket.recv(&mut [0; 2_048]).is_ok();
            let listens =
                transport == Transport::Udp || std::net::TcpStream::connect_timeout(&self.tls, LOOK).is_ok();
            if answered && listens {
                return Ok(());
            }
        }
        Err(io::Error::other("it does not answer"))
    }

    /// All its processes.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let mut processes = group_members(self.main.0.id())?;
        if let Some(helper) = &self.helper {
            processes.extend(group_members(helper.0.id())?);
        }
        Ok(processes)
    }

    /// Its counters now.
    pub fn sample(&self) -> io::Result<Sample> {
        Sample::take(&self.processes()?)
    }

    /// Descriptors that its processes have open.
    pub fn descriptors(&self) -> io::Result<u64> {
        self.processes()?.into_iter().map(descriptors).sum()
    }

    /// Tells it to serve these sources no more; whether it can.
    pub fn block(&self, sources: impl Iterator<Item = IpAddr>) -> io::Result<bool> {
        let Some(control) = &self.control else { return Ok(false) };
        for source in sources {
            let mut command = if control.extension().is_some_and(|it| it == "toml") {
                let mut command = Command::new(&self.product);
                command.args(["block", "add", &source.to_string(), "-c"]).arg(control);
                command
            } else {
                let mut command = Command::new("kamcmd");
                command.arg("-s").arg(format!("unix:{}", control.display()));
                command.args(["htable.seti", "ipban", &source.to_string(), "1"]);
                command
            };
            let output = command.stdin(Stdio::null()).output()?;
            if !output.status.success() {
                let words = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(io::Error::other(format!("could not block {source}: {words}")));
            }
        }
        Ok(true)
    }
}

/// A program with all that it starts; they end with this value.
#[derive(Debug)]
struct Group(Child);

impl Group {
    fn spawn(mut command: Command) -> io::Result<Self> {
        interrupt::check()?;
        let words = format!("{command:?}");
        let child = command.process_group(0).stdin(Stdio::null()).spawn();
        child.map(Self).map_err(|fault| io::Error::other(format!("could not start {words}: {fault}")))
    }

    fn is_gone(&mut self) -> bool {
        let ended = self.0.try_wait().is_ok_and(|status| status.is_some());
        ended && group_members(self.0.id()).is_ok_and(|left| left.is_empty())
    }
}

impl Drop for Group {
    /// Asked first, then by force.
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        for signal in [Signal::TERM, Signal::KILL] {
            // a group that is gone needs no signal
            group.map(|group| kill_process_group(group, signal)).map(Result::ok).unwrap_or_default();
            let until = Nanos::now() + END_MAX;
            while Nanos::now() < until {
                if self.is_gone() {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// A program that is told to end where ours ends without its doing, so that nothing is left running.
fn program(path: &Path) -> Command {
    let Some(setpriv) = find_program("setpriv") else { return Command::new(path) };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "TERM", "--"]).arg(path);
    command
}

fn options(to: SocketAddr, socket: &UdpSocket, number: u32) -> io::Result<String> {
    let own = socket.local_addr()?;
    Ok(format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKrdy{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:ready@{own}>;tag=1\r\nTo: <sip:{to}>\r\n\
         Call-ID: ready{number}@{own}\r\nCSeq: 1 OPTIONS\r\nContact: <sip:ready@{own}>\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

/// A port that is free now.
fn free_port(ip: IpAddr) -> io::Result<SocketAddr> {
    UdpSocket::bind((ip, 0))?.local_addr()
}

/// An empty directory of its own for a system.
fn own_directory(ground: &Ground<'_>, name: &str) -> io::Result<PathBuf> {
    let directory = ground.directory.join(name);
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Where a system's words go.
fn log(directory: &Path) -> io::Result<Stdio> {
    Ok(Stdio::from(File::create(directory.join("log"))?))
}
