//! A registrar that challenges once and then says 200, on a thread of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use portcullis_benches::templates::pbx_answers;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 84, 0, 30);

/// Starts it; it serves until the process ends.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((ADDRESS, 0))?;
    let address = socket.local_addr()?;
    thread::Builder::new().name("pbx".into()).spawn(move || serve(&socket))?;
    Ok(address)
}

fn serve(socket: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let request = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        for answer in pbx_answers(&request) {
            // what is lost is asked for again
            socket.send_to(&answer, from).map(drop).unwrap_or_default();
        }
    }
}
