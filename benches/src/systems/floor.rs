//! The floors: for each job the least that a user-space program can do for it.
//!
//! Each is a process of its own, which this program starts of itself. None of them checks, limits, remembers
//! or hides anything. They send and receive one datagram a call, as the product does.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Ground, Group, INSIDE, OUTSIDE, Running, System, free_port, program};
use crate::load::attack::{SOURCES, source_address};
use crate::load::pki::{DEVICE_CA, SERVER};
use crate::load::poller::Poller;
use crate::measure::time::Nanos;
use crate::templates::{between, response};

/// Sources in the block list of the sink.
const BLOCKED: u32 = 60_000;
/// The first port of the relay; each session has every fourth.
const FIRST_PORT: usize = 10_000;
const BUFFER: usize = 16 << 20;

/// Which floor.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// SIP over UDP, forwarded.
    Forward,
    /// SIP over TLS, answered.
    Tls,
    /// RTP, forwarded.
    Relay,
    /// Datagrams, dropped.
    Sink,
}

/// How this program is told to be a floor.
#[derive(Args, Debug)]
pub struct FloorArguments {
    #[arg(value_enum)]
    kind: Kind,
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    pbx: SocketAddr,
    /// Of the relay: its sessions.
    #[arg(long, default_value_t = 0)]
    sessions: usize,
    /// Of the relay: where the phones hear.
    #[arg(long)]
    phones: Option<SocketAddr>,
}

/// Is a floor, until it is ended.
pub fn serve(arguments: &FloorArguments) -> io::Result<()> {
    match arguments.kind {
        Kind::Forward => forward(arguments.pbx),
        Kind::Tls => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(respond(&arguments.directory))
        }
        Kind::Relay => relay(arguments),
        Kind::Sink => sink(),
    }
}

pub(super) fn start(system: System, ground: &Ground<'_>) -> io::Result<Running> {
    let kind = match system {
        System::FloorForward => "forward",
        System::FloorTls => "tls",
        _ => "sink",
    };
    let mut running = Running::of(Group::spawn(command(kind, ground))?, ground);
    running.wait_until_it_says_ready()?;
    Ok(running)
}

/// The relay, with its sessions open between the two `ends`: the phones' and the PBX's.
pub(super) fn start_relay(
    sessions: usize,
    [phones, pbx]: [SocketAddr; 2],
    ground: &Ground<'_>,
) -> io::Result<(Running, Vec<[SocketAddr; 2]>)> {
    let mut command = command("relay", ground);
    command.args(["--sessions", &sessions.to_string(), "--phones", &phones.to_string()]);
    command.args(["--pbx", &pbx.to_string()]);
    let mut running = Running::of(Group::spawn(command)?, ground);
    running.wait_until_it_says_ready()?;
    let open = (0..sessions).map(|session| faces(session).map(|(ip, port)| SocketAddr::new(ip, port)));
    Ok((running, open.collect()))
}

fn command(kind: &str, ground: &Ground<'_>) -> Command {
    let mut command = program(&ground.programs.load);
    command.args(["floor", kind, "--directory"]).arg(ground.directory).stdout(Stdio::piped());
    if kind != "relay" {
        command.args(["--pbx", &ground.pbx.address().to_string()]);
    }
    command
}

fn say_ready(words: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready: {words}")?;
    out.flush()
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // who may not have so much has what the system gives
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap_or_default();
    Ok(socket)
}

/// A Via more on requests, a Via less on responses, and nothing remembered.
fn forward(pbx: SocketAddr) -> io::Result<()> {
    let [outside, inside] = [bind(SocketAddr::new(OUTSIDE, 0))?, bind(SocketAddr::new(INSIDE, 0))?];
    let via = inside.local_addr()?;
    say_ready(&format!("udp {}", outside.local_addr()?))?;
    let mut buffer = vec![0; 65_536];
    loop {
        let mut readable = [&outside, &inside].map(|socket| PollFd::new(socket, PollFlags::IN));
        poll(&mut readable, None)?;
        while let Ok((length, from)) = outside.recv_from(&mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { continue };
            let (line, rest) = bytes.split_at(end + 1);
            let via = format!("Via: SIP/2.0/UDP {via};branch=z9hG4bKfw-{from}\r\n");
            lose(inside.send_to(&[line, via.as_bytes(), rest].concat(), pbx));
        }
        while let Ok((length, _)) = inside.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            let Some(to) = between(&text, "z9hG4bKfw-", "\r\n") else { continue };
            let Ok(to) = to.parse::<SocketAddr>() else { continue };
            let Some((line, rest)) = text.split_once("\r\n") else { continue };
            let Some((_via, rest)) = rest.split_once("\r\n") else { continue };
            lose(outside.send_to(format!("{line}\r\n{rest}").as_bytes(), to));
        }
    }
}

/// What cannot be sent is lost, as datagrams are.
fn lose(sent: io::Result<usize>) {
    sent.map(drop).unwrap_or_default();
}

/// The ports of a session of the relay.
fn faces(session: usize) -> [(IpAddr, u16); 2] {
    let port = u16::try_from(FIRST_PORT + 4 * session).unwrap_or(u16::MAX);
    [(OUTSIDE, port), (INSIDE, port)]
}

/// One receive and one send for a packet, between ends that it knows beforehand.
fn relay(arguments: &FloorArguments) -> io::Result<()> {
    let phones = arguments.phones.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    let poller = Poller::new()?;
    let mut sockets = Vec::new();
    for session in 0..arguments.sessions {
        for ((ip, port), end) in faces(session).into_iter().zip([phones, arguments.pbx]) {
            let socket = bind(SocketAddr::new(ip, port))?;
            socket.connect(end)?;
            poller.watch_datagrams(&socket, sockets.len() as u64)?;
            sockets.push(socket);
        }
    }
    say_ready("relay")?;
    let mut buffer = [0; 2_048];
    loop {
        for number in poller.wait(Nanos::from_secs(1).into())? {
            let number = number as usize;
            let (Some(from), Some(to)) = (sockets.get(number), sockets.get(number ^ 1)) else { continue };
            while let Ok(length) = from.recv(&mut buffer) {
                lose(to.send(buffer.get(..length).unwrap_or_default()));
            }
        }
    }
}

/// Receives, looks the source up among many, drops.
fn sink() -> io::Result<()> {
    let socket = UdpSocket::bind(free_port(OUTSIDE)?)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap_or_default();
    say_ready(&format!("udp {}", socket.local_addr()?))?;
    let blocked: BTreeSet<IpAddr> = (0..BLOCKED.max(SOURCES)).map(source_address).collect();
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        if !blocked.contains(&from.ip()) {
            lose(socket.send_to(buffer.get(..length).unwrap_or_default(), from));
        }
    }
}

/// Mutual TLS by tokio-rustls, and a 200 to every request.
async fn respond(directory: &Path) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(directory)?));
    let listener = TcpListener::bind(SocketAddr::new(OUTSIDE, 0)).await?;
    say_ready(&format!("tls {}", listener.local_addr()?))?;
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        // a phone that fails is gone, nobody else minds
        tokio::spawn(async move { respond_to(stream, acceptor).await.unwrap_or_default() });
    }
}

fn server_config(directory: &Path) -> io::Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(directory.join(DEVICE_CA)).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let [certificate, key] = SERVER.map(|name| directory.join(name));
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?.collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
        .with_single_cert(
            chain.map_err(io::Error::other)?,
            PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?,
        )
        .map_err(io::Error::other)?;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
    Ok(config)
}

async fn respond_to(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let mut heard = Vec::new();
    while stream.read_buf(&mut heard).await? > 0 {
        let mut answers = Vec::new();
        while let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = heard.split_off(end + 4);
            let request = std::mem::replace(&mut heard, rest);
            if end == 0 {
                answers.extend_from_slice(b"\r\n");
                continue;
            }
            let text = String::from_utf8_lossy(&request);
            let contact = between(&text, "\r\nContact: ", "\r\n").unwrap_or_default();
            answers.extend(response(&text, "200 OK", &format!("Contact: {contact}\r\n"), ""));
        }
        if heard.is_empty() {
            heard = Vec::new(); // an idle phone costs no buffer
        }
        stream.write_all(&answers).await?;
        stream.flush().await?;
    }
    Ok(())
}
