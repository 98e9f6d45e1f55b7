//! A PBX that takes whatever comes, on a thread of its own, and counts it.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::templates::{PbxWords, between};

/// Where it is.
pub const PBX: Ipv4Addr = Ipv4Addr::new(127, 84, 0, 30);
/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// Where its parties hear as long as nobody sends them anything.
const UNUSED: u16 = 4_000;
/// So many requests are known again.
const LAST: usize = 64;
const BUFFER: usize = 16 << 20;

/// It ends with this value.
#[derive(Debug)]
pub struct Pbx {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it got.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Requests, by method; what comes again soon is the same one.
    pub requests: BTreeMap<String, u64>,
    /// Where the last offer wants to hear.
    pub offer: Option<SocketAddr>,
    /// Where its own parties hear.
    media: Option<SocketAddr>,
    /// Of the last requests: method, Call-ID and CSeq.
    last: VecDeque<u64>,
}

impl Pbx {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((PBX, 0))?;
        socket.set_read_timeout(Some(LOOK))?;
        // who may not have so much has what the system gives
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap_or_default();
        let address = socket.local_addr()?;
        let words = PbxWords { address, media: SocketAddr::new(PBX.into(), UNUSED), challenges: false };
        let heard = Arc::new(Mutex::new(Heard::default()));
        let end = Arc::new(AtomicBool::new(false));
        let (to_tell, asked) = (Arc::clone(&heard), Arc::clone(&end));
        let serve = move || serve(&socket, words, &to_tell, &asked);
        let thread = Some(thread::Builder::new().name("pbx".into()).spawn(serve)?);
        Ok(Self { address, heard, end, thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its parties hear there from now on.
    pub fn hear_at(&self, media: SocketAddr) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).media = Some(media);
    }

    /// What it got so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests with this method it got so far.
    pub fn requests(&self, method: &str) -> u64 {
        self.heard().requests.get(method).copied().unwrap_or_default()
    }
}

impl Drop for Pbx {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join).map(drop).unwrap_or_default();
    }
}

fn serve(socket: &UdpSocket, mut words: PbxWords, heard: &Mutex<Heard>, end: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !end.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let request = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        words.media = note(&request, heard).unwrap_or(words.media);
        for answer in words.answers(&request) {
            // what is lost is asked for again
            socket.send_to(&answer, from).map(drop).unwrap_or_default();
        }
    }
}

/// Counts it; where parties hear, if that was said.
fn note(request: &str, heard: &Mutex<Heard>) -> Option<SocketAddr> {
    let method = request.split(' ').next().unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    let [call_id, cseq] = ["\r\nCall-ID: ", "\r\nCSeq: "].map(|name| between(request, name, "\r\n"));
    (method, call_id, cseq).hash(&mut hasher);
    let transaction = hasher.finish();
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if heard.last.contains(&transaction) {
        return heard.media;
    }
    heard.last.push_back(transaction);
    if heard.last.len() > LAST {
        heard.last.pop_front();
    }
    match heard.requests.get_mut(method) {
        Some(count) => *count += 1,
        None => drop(heard.requests.insert(method.to_owned(), 1)),
    }
    if method == "INVITE" {
        heard.offer = media_end(request);
    }
    heard.media
}

/// Where the SDP in a message says that its sender hears.
pub fn media_end(message: &str) -> Option<SocketAddr> {
    let host = between(message, "\r\nc=IN IP4 ", "\r\n")?.trim();
    let port = between(message, "\r\nm=audio ", " ")?;
    Some(SocketAddr::new(host.parse().ok()?, port.parse().ok()?))
}
