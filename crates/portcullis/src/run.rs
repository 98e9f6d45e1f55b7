//! `portcullis run`: from a checked file to a running process, and to its end.
//!
//! The order is what matters here: file, admin socket, store and every port first, so that whatever fails
//! leaves nothing behind; the ready line only when everything listens. Threads: `core` decides and has the
//! sockets, `doors` lets strangers in, `media-0` the relays, `store` the disk, `admin` the operators, `signals` waits.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use border::interface::Output;
use border::{Border, Record};
use media::{RelayEvent, TableConfig};
use net::{Lanes, Listener, ListenerKind, Lists, Net, NetConfig, NetError, NetTasks, lanes};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::{Store, StoreError, StoreThread, WriteOutcome};
use tokio::signal::unix::{SignalKind, signal};
use wire::net::{Prefix, PrefixSet, Side, Transport};
use wire::words::of_system;

use crate::admin::server::{self, ServerConfig};
use crate::admin::socket::{AdminSocket, SocketError};
use crate::cli::EXIT_USAGE;
use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::config::value::{PortRange, StunServer};
use crate::config::{self, Loaded, Report, machine};
use crate::events::{EventLog, LogError, start_log};
use crate::inside_networks::inside_networks;
use crate::log::Log;
use crate::media_shard::{AddressSets, Shard};
use crate::signaling::{Plant, ShellEvent, Signaling, record};

/// How long whoever reads standard output may take for the ready line.
const READY_LINE_MAX: Duration = Duration::from_secs(1);
/// Descriptors that there is room for from the start: 8 bytes each.
const DESCRIPTORS: u64 = 16_384;
/// From how many relays a second on sockets are kept for the next: a company does not call so often, a loaded trunk does.
const SPARE_FROM: usize = 64;

/// Why the product cannot start, or not go on: the world's fault.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Logging.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The admin socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The data directory.
    #[error("cannot make the data directory {}: {}", path.display(), of_system(source))]
    DataDirectory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row of the store that this version does not know: taking the rest would be a silent new start.
    #[error("the store {} holds what this version cannot read: {what}; run the version that wrote it, or restore a backup", path.display())]
    Unreadable {
        /// The store's file.
        path: PathBuf,
        /// Which row.
        what: String,
    },
    /// A port.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The operating system.
    #[error("cannot {what}: {}", of_system(source))]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Any of these, where a value of the configuration file is to blame.
    #[error("{place}: {cause}; {help}")]
    Configured {
        /// `FILE:LINE`.
        place: String,
        /// Which.
        cause: Box<RunError>,
        /// What to set, and how.
        help: String,
    },
    /// The operating system's random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Entropy(#[from] getrandom::Error),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// Starts, works until a signal, ends. 64 where the file is wrong.
pub fn run(path: &Path) -> Result<ExitCode, RunError> {
    let clock = Clock::start();
    let Loaded { settings, report } = config::load(path, clock.wall());
    let Some(settings) = settings else {
        let text = format!("{}{}\n", report.draw_errors(), report.summary());
        // Where nobody hears it, the exit code says it.
        let _told = io::stderr().write_all(text.as_bytes());
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    let error_output = io::stderr().as_fd().try_clone_to_owned().map_err(LogError::System)?;
    let log = start_log(File::from(error_output), clock, &settings.node.log, settings.node.log_format)?;
    for (warning, help) in report.warnings_in_words() {
        tracing::warn!(target: "config", "{warning} → {help}");
    }
    end_with_a_panic(log.log());
    raise_file_limit(settings.border.relays_max);
    enlarge_descriptor_table();
    let running =
        start(settings.clone(), clock, log.log()).map_err(|error| explain(error, &settings, &report))?;
    if let Err(error) = stop_on_signals(Arc::clone(&running.to_core)) {
        running.stop();
        return Err(error);
    }
    say_ready(&settings.node.name, format!("ready: {}\n", running.listeners().join(", ")));
    running.wait();
    Ok(ExitCode::SUCCESS)
}

/// Names the line of the file that a failed start is due to, and what to write there.
fn explain(error: RunError, settings: &Settings, report: &Report) -> RunError {
    let node = &settings.node;
    let (place, help) = match &error {
        RunError::Socket(SocketError::Alive(_)) => {
            let help = "end that one first, or set another `admin_socket` in [node]";
            (&node.admin_socket.place, help.to_owned())
        }
        RunError::Socket(SocketError::NotASocket(_)) => {
            (&node.admin_socket.place, machine::NAME_TAKEN_HELP.to_owned())
        }
        RunError::Socket(SocketError::System { .. }) => {
            (&node.admin_socket.place, machine::SOCKET_HELP.to_owned())
        }
        RunError::DataDirectory { source, path } => {
            (&node.data_dir.place, store_help(source, path).unwrap_or_else(|| machine::data_dir_help(path)))
        }
        RunError::Store(StoreError::Io { source, .. }) => match store_help(source, &node.data_dir.value) {
            Some(help) => (&node.data_dir.place, help),
            None => return error,
        },
        RunError::Net(NetError::Listen { address, kind, source }) => {
            match settings.listener_help(*address, kind, source.kind()) {
                Some(found) => found,
                None => return error,
            }
        }
        _ => return error,
    };
    RunError::Configured { place: report.locate(place), cause: Box::new(error), help }
}

/// What to do where the disk of the data directory says no; none where it may be broken.
fn store_help(error: &io::Error, directory: &Path) -> Option<String> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let full = "make room on its disk (`df -h` shows it), or set `data_dir` in [node] to a directory on another";
            Some(full.to_owned())
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some(machine::data_dir_help(directory))
        }
        _ => None,
    }
}

/// The product, up and working on threads of its own.
#[derive(Debug)]
pub struct Running {
    listening: Vec<Listener>,
    to_core: Arc<Lanes<ShellEvent>>,
    core: JoinHandle<()>,
}

impl Running {
    /// Every port as people read it: `tls 127.0.0.2:5061`, with the number that the operating system chose.
    pub fn listeners(&self) -> Vec<String> {
        self.listening.iter().map(describe).collect()
    }

    /// The first listener of a face and transport.
    pub fn address(&self, side: Side, transport: Transport) -> Option<SocketAddr> {
        let fits = |up: &&Listener| up.side == side && up.kind.transport() == transport;
        self.listening.iter().find(fits).map(|up| up.address)
    }

    /// Ends it, and comes back when everything has ended.
    pub fn stop(self) {
        self.to_core.push_internal(ShellEvent::Stop);
        self.wait();
    }

    /// Comes back when it has ended.
    fn wait(self) {
        if self.core.join().is_err() {
            tracing::error!("the core thread panicked");
        }
    }
}

fn describe(up: &Listener) -> String {
    format!("{} {}", up.kind.as_str(), up.address)
}

/// Starts everything; what fails leaves nothing behind. Signals and the log are the caller's.
pub fn start(settings: Settings, clock: Clock, log: Log) -> Result<Running, RunError> {
    let socket = AdminSocket::bind(&settings.node.admin_socket.value)?;
    let (store, records) = open_store(&settings.node.data_dir.value)?;
    let mut border = Border::new(settings.border.clone(), seed()?, records, clock.now());
    let early: Vec<Output> = std::iter::from_fn(|| border.poll_output()).collect();
    let (to_core, receiver) = lanes(net::LaneLimits::default());
    let (net, tasks) = Net::bind(net_config(&settings, &early), Arc::clone(&to_core))?;
    let media_sets = AddressSets::default();
    let shard = start_shard(&settings, clock, media_sets.clone(), Arc::clone(&to_core))?;
    let store = start_store(store, clock, Arc::clone(&to_core))?;
    let listening: Vec<Listener> = net.listening().iter().map(|up| up.listener).collect();
    let served = ServerConfig {
        name: settings.node.name.clone(),
        clock,
        listeners: listening.iter().map(describe).collect(),
        net: Arc::clone(net.counters()),
        media: shard.counts().clone(),
        log,
    };
    let (admin, admin_lanes) = server::lanes();
    let core_lanes = Arc::clone(&to_core);
    let submit = move |id, command| core_lanes.try_push_internal(ShellEvent::Command { id, command }).is_ok();
    server::start(&socket, admin_lanes, served, Box::new(submit))
        .map_err(system("serve the admin socket"))?;
    let names = settings.names().into_iter().map(|(name, _)| name).collect();
    let log = EventLog::new(admin.clone(), settings.node.log_format, settings.node.name);
    let plant = Plant { clock, net, receiver, names, shard, media_sets, store, admin, log };
    let signaling = Signaling::new(border, plant, early);
    let core = start_core(signaling, tasks, socket)?;
    Ok(Running { listening, to_core, core })
}

/// Starts the thread of the core and the network; an error where that cannot run.
fn start_core(
    signaling: Signaling,
    tasks: NetTasks<ShellEvent>,
    socket: AdminSocket,
) -> Result<JoinHandle<()>, RunError> {
    let (started, outcome) = mpsc::sync_channel(1);
    let run = move || {
        let (runtime, told) = match tasks.start() {
            Ok(runtime) => (Some(runtime), started.send(Ok(()))),
            Err(error) => (None, started.send(Err(error))),
        };
        if let (Some(runtime), Ok(())) = (runtime, told)
            && let Some(plant) = runtime.run(signaling.serve())
        {
            end(plant);
        }
        drop(socket);
    };
    let core = std::thread::Builder::new().name("core".to_owned()).spawn(run);
    let core = core.map_err(system("start the core's thread"))?;
    let gone = |_| RunError::System { what: "start the core's thread", source: io::ErrorKind::Other.into() };
    outcome.recv().map_err(gone)??;
    Ok(core)
}

/// Standard output tells a supervisor, or a person, that phones may come. Nobody waits for ever for a reader
/// who does not read.
fn say_ready(node: &str, line: String) {
    let announced = line.clone();
    let (said, outcome) = mpsc::sync_channel(1);
    let say = move || {
        let mut out = io::stdout();
        // Who asked may have gone on.
        let _late = said.send(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
    };
    let thread = std::thread::Builder::new().name("ready".to_owned()).spawn(say);
    let outcome = thread.map(|_| outcome.recv_timeout(READY_LINE_MAX));
    match outcome {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) | Err(error) => {
            tracing::warn!(%error, "the ready line could not be written on standard output");
        }
        Ok(Err(_)) => tracing::warn!("nobody reads standard output: the ready line waits there"),
    }
    tracing::info!(node, "{}", announced.trim_end());
}

fn seed() -> Result<[u8; 32], RunError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}

fn open_store(data_dir: &Path) -> Result<(Store, Vec<Record>), RunError> {
    let made = DirBuilder::new().recursive(true).mode(0o750).create(data_dir);
    made.map_err(|source| RunError::DataDirectory { path: data_dir.to_owned(), source })?;
    let (store, rows) = Store::open(data_dir)?;
    let unreadable = |what: String| RunError::Unreadable { path: store.path().to_owned(), what };
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let table = row.table;
        records.push(record(row).ok_or_else(|| unreadable(format!("rows of table {table}")))?);
    }
    border::check_records(&records).map_err(|error| unreadable(error.to_string()))?;
    Ok((store, records))
}

fn start_store(store: Store, clock: Clock, to_core: Arc<Lanes<ShellEvent>>) -> Result<StoreThread, RunError> {
    let mut failing = false;
    let stored = move |tickets: Vec<u64>, outcome: WriteOutcome| {
        let ok = matches!(outcome, WriteOutcome::Written { .. });
        let failed_before = std::mem::replace(&mut failing, !ok);
        match outcome {
            WriteOutcome::Failed(error) if !failed_before => {
                tracing::error!(%error, "the store could not be written");
            }
            WriteOutcome::Written { lost } if lost > 0 => tracing::error!(
                lost,
                "so many changes had no room while the store could not be written, and are not in it"
            ),
            WriteOutcome::Written { .. } | WriteOutcome::Failed(_) | WriteOutcome::Postponed => {}
        }
        for ticket in tickets {
            to_core.push_internal(ShellEvent::Stored { ticket, ok });
        }
    };
    let now = move || Duration::from_nanos(clock.mono().as_nanos());
    StoreThread::start(store, now, stored).map_err(system("start the store's thread"))
}

/// What `net` opens, and the block list that holds from the first byte.
fn net_config(settings: &Settings, early: &[Output]) -> NetConfig {
    let stun = settings.stun_server.value;
    let sip = settings.listeners.iter().map(|listener| Listener {
        side: listener.side,
        address: listener.address,
        kind: match listener.transport {
            Transport::Tls => ListenerKind::Tls,
            Transport::Tcp => ListenerKind::Tcp,
            Transport::Udp => {
                ListenerKind::Udp { stun: listener.side == Side::Outside && stun != StunServer::Off }
            }
        },
    });
    let mut listeners: Vec<Listener> = sip.collect();
    if let StunServer::On { port } = stun {
        let address = SocketAddr::new(settings.media.outside_address.value, port);
        let shared = |other: &Listener| {
            other.kind.transport() == Transport::Udp && other.address == address && port != 0
        };
        if !listeners.iter().any(shared) {
            listeners.push(Listener { side: Side::Outside, kind: ListenerKind::Stun, address });
        }
    }
    let lists = early.iter().rev().find_map(|output| match output {
        Output::Lists { blocked, allowed, spared } => {
            Some(Lists::new(Arc::clone(blocked), Arc::clone(allowed), spared))
        }
        _ => None,
    });
    NetConfig {
        listeners,
        identity: Some(Arc::clone(&settings.tls)),
        inside: Some(settings.media.inside_address.value),
        names: settings.names().into_iter().map(|(_, query)| query).collect(),
        lists: lists.unwrap_or_default(),
    }
}

fn start_shard(
    settings: &Settings,
    clock: Clock,
    sets: AddressSets,
    to_core: Arc<Lanes<ShellEvent>>,
) -> Result<Shard, RunError> {
    let events = move |event: RelayEvent| match event {
        // Another of these follows within a second; the relay must not wait for the core to say it.
        RelayEvent::Stats { .. } | RelayEvent::Refused { .. } => {
            if to_core.try_push_internal(ShellEvent::Media(event)).is_err() {
                tracing::debug!("the core is busy: a report of the media plane is left out");
            }
        }
        // Nobody waits for these.
        RelayEvent::Updated { .. } | RelayEvent::Closed { .. } => {
            to_core.leave_internal(ShellEvent::Media(event))
        }
        _ => to_core.push_internal(ShellEvent::Media(event)),
    };
    let table = table_config(settings)?;
    let now = move || clock.mono();
    Shard::spawn("media-0".to_owned(), table, now, sets, Box::new(events))
        .map_err(system("start the media plane's thread"))
}

fn table_config(settings: &Settings) -> Result<TableConfig, RunError> {
    let media = &settings.media;
    let ports = |range: PortRange| -> RangeInclusive<u16> { range.first..=range.last };
    let border = &settings.border;
    let ours = Prefix::single(border.outside.public_address);
    let faces = [media.outside_address.value, media.inside_address.value];
    let inside = border.inside.trusted.iter().copied().map(Prefix::single);
    let inside = inside.chain(inside_networks(faces));
    Ok(TableConfig {
        faces,
        ports: [ports(media.outside.value), ports(media.inside.value)],
        forbidden: [PrefixSet::from_prefixes(inside.chain([ours])), PrefixSet::from_prefixes([ours])],
        seed: getrandom::u64()?,
        spare_from: SPARE_FROM,
    })
}

/// Each relay takes four sockets, each phone one: as many as the operator's limit lets us have.
fn raise_file_limit(relays_max: usize) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let wanted = u64::try_from(relays_max.saturating_mul(4)).unwrap_or(u64::MAX);
    if maximum.is_some_and(|maximum| maximum < wanted) {
        tracing::warn!(
            maximum,
            wanted,
            "the limit of open files is below what all media ports together need (LimitNOFILE of systemd)"
        );
    }
}

/// Makes room for many descriptors at once. The kernel doubles a process' table of them as they are opened, and whoever
/// opens the one too many waits some milliseconds for it where there are several threads: the media plane, in a call.
fn enlarge_descriptor_table() {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS);
    let highest = i32::try_from(limit.min(DESCRIPTORS)).unwrap_or(i32::MAX).saturating_sub(1);
    // its number is what counts: it is closed at once
    if let Err(error) = rustix::io::fcntl_dupfd_cloexec(io::stderr(), highest) {
        tracing::debug!(%error, "the table of descriptors grows as they are opened");
    }
}

/// A thread that panics takes the process with it, to be started anew, but for the media plane, which starts
/// anew by itself.
fn end_with_a_panic(log: Log) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        let trace = Backtrace::capture();
        let trace =
            if trace.status() == BacktraceStatus::Captured { trace.to_string() } else { String::new() };
        // As it comes: what formats lines may be what panicked.
        log.say(format!("thread '{name}' {panic}\n{trace}").as_bytes());
        if !name.starts_with("media") {
            log.flush();
            std::process::abort();
        }
    }));
}

fn stop_on_signals(to_core: Arc<Lanes<ShellEvent>>) -> Result<(), RunError> {
    let wait = system("wait for signals");
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Err(wait(error)),
    };
    let signals = {
        let _context = runtime.enter();
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hangup] = kinds.map(signal);
        (|| Ok((terminate?, interrupt?, hangup?)))()
    };
    let (mut terminate, mut interrupt, mut hangup) = signals.map_err(wait)?;
    let watch = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return "SIGTERM",
                _ = interrupt.recv() => return "SIGINT",
                _ = hangup.recv() => {
                    tracing::warn!(
                        "SIGHUP: a running instance cannot take a changed file yet; run `portcullis check`, then \
                         restart"
                    );
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let signal = runtime.block_on(watch);
        tracing::info!("{signal}: ending; registrations are kept and go on after a start");
        to_core.push_internal(ShellEvent::Stop);
    });
    thread.map(drop).map_err(system("start the thread for signals"))
}

/// Ends every thread that the core was served by, and lets the store write what it has.
fn end(plant: Plant) {
    let Plant { receiver, shard, store, .. } = plant;
    // A thread that still has something to say must not wait for ever for somebody to hear it.
    drop(receiver);
    drop(shard);
    drop(store);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::config::file::LogFormat;
    use crate::log::LogThread;

    #[test]
    fn a_panic_ends_the_process_but_in_a_media_thread() {
        // The test starts itself as a process that panics in the thread so named.
        const THREAD: &str = "PORTCULLIS_TEST_PANICS_IN";
        if let Ok(name) = std::env::var(THREAD) {
            let log = LogThread::start(io::stderr(), Clock::start(), LogFormat::Text).unwrap();
            end_with_a_panic(log.log());
            let thread = std::thread::Builder::new().name(name).spawn(|| panic!("on purpose")).unwrap();
            assert!(thread.join().is_err());
            return;
        }
        let test = "run::tests::a_panic_ends_the_process_but_in_a_media_thread";
        for (name, goes_on) in [("media-0", true), ("core", false)] {
            let mut itself = Command::new(std::env::current_exe().unwrap());
            let ended = itself.args([test, "--exact", "--nocapture"]).env(THREAD, name).output().unwrap();
            assert_eq!(ended.status.success(), goes_on, "{name}: {ended:?}");
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(
                said.contains(&format!("thread '{name}' panicked")) && said.contains("on purpose"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_disk_that_says_no_comes_with_a_next_step() {
        let help = |code| store_help(&io::Error::from_raw_os_error(code), Path::new("/var/lib/portcullis"));
        let (full, denied, broken) = (28, 13, 5); // ENOSPC, EACCES, EIO
        assert!(help(full).unwrap().starts_with("make room on its disk"), "{:?}", help(full));
        assert!(help(denied).unwrap().contains("give that user the directory"), "{:?}", help(denied));
        assert_eq!(help(broken), None);
    }
}
