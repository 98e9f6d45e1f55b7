//! A name server that knows one name (RFC 1035), and programs that ask it. Needs root, and a network of its own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::{Process, Recipe, program};

const SOON: Duration = Duration::from_secs(10);

/// The server.
#[derive(Debug)]
pub struct NameServer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    address: Mutex<Ipv4Addr>,
    asked: Mutex<usize>,
    stop: AtomicBool,
}

impl NameServer {
    /// Serves one name on this socket.
    pub fn start(socket: UdpSocket, name: &str, address: IpAddr) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            address: Mutex::new(ipv4(address)),
            asked: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(&socket, &of_thread));
        Self { shared, thread: Some(thread) }
    }

    /// The name stands for another address from now on.
    pub fn set(&self, address: IpAddr) {
        *self.shared.address.lock().unwrap() = ipv4(address);
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        *self.shared.asked.lock().unwrap()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking(), "the name server broke");
    }
}

fn ipv4(address: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(address) = address else { panic!("an address of IPv4, not {address}") };
    address
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut query = [0; 1500];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
        *shared.asked.lock().unwrap() += 1;
        let address = *shared.address.lock().unwrap();
        if let Some(answer) = answer(&query[..length], &shared.name, address) {
            // Whoever asked may have given up.
            let _gone_or_not = socket.send_to(&answer, from);
        }
    }
}

/// The answer to a query with one question: an address for a second, nothing of that type, or no such name.
fn answer(query: &[u8], name: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let (head, rest) = query.split_first_chunk::<12>()?;
    let mut asked = Vec::new();
    let mut at = 0;
    while *rest.get(at)? != 0 {
        let length = usize::from(rest[at]);
        asked.push(String::from_utf8_lossy(rest.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let question = rest.get(..at + 5)?;
    let known = asked.join(".") == name;
    let has_address = known && question[at + 1..at + 3] == [0, 1];
    let code = if known { 0 } else { 3 };
    let mut answer = vec![head[0], head[1], 0x85, 0x80 | code, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0];
    answer.extend_from_slice(question);
    if has_address {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    Some(answer)
}

/// The mounts of programs that ask a certain name server.
#[derive(Debug)]
pub struct Asking(Process);

impl Asking {
    /// Whoever is within these mounts asks the server at this address, port 53.
    pub fn server(address: IpAddr, scratch: &Path) -> Self {
        let file = scratch.join("resolv.conf");
        fs::write(&file, format!("nameserver {address}\noptions timeout:1 attempts:2\n")).expect("a file");
        let script = "mount --bind \"$1\" /etc/resolv.conf && echo ready && exec sleep infinity";
        let words = ["--mount", "sh", "-c", script, "sh", &file.display().to_string()].map(str::to_owned);
        let holder = Recipe::new(program("unshare"), scratch).named("resolver").args(words).start();
        holder.wait_for("ready", SOON);
        Self(holder)
    }

    /// The process whose mounts they are.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}

/// Where a name server of a lab listens.
pub fn port(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 53)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03pbx\x04Test\x00\x00\x01\x00\x01";

    #[test]
    fn one_name_is_known() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let known = answer(QUERY, "pbx.test", address).expect("an answer");
        assert_eq!(known[..8], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1]);
        assert!(known.ends_with(&[0, 4, 192, 0, 2, 7]));
        let unknown = answer(QUERY, "other.test", address).expect("an answer");
        assert_eq!((unknown[3] & 0x0f, unknown[7]), (3, 0));
        let mut other_type = QUERY.to_vec();
        other_type[QUERY.len() - 3] = 28;
        let nothing = answer(&other_type, "pbx.test", address).expect("an answer");
        assert_eq!((nothing[3] & 0x0f, nothing[7]), (0, 0));
        assert_eq!(answer(&QUERY[..15], "pbx.test", address), None);
    }
}
