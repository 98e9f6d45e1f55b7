//! Phones that connect, register once, and then say nothing.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portcullis_benches::templates::Speaker;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::daemon::{extension, hardware_id};
use crate::pki::Authority;

/// A phone's connection; it is registered for as long as this lives.
pub(crate) type Phone = StreamOwned<ClientConnection, TcpStream>;

/// Phones that register at the same time: each waits for the disk, and they wait together.
const AT_ONCE: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(15);
const EXPIRES: u32 = 3_600;

/// Registers so many, each from its own address.
pub(crate) fn register(authority: &Authority, server: SocketAddr, phones: u32) -> io::Result<Vec<Phone>> {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|first| {
                let numbers = (first..phones).step_by(AT_ONCE as usize);
                scope.spawn(move || numbers.map(|number| register_one(authority, server, number)).collect())
            })
            .collect();
        let mut registered = Vec::new();
        for worker in workers {
            let done: io::Result<Vec<Phone>> =
                worker.join().unwrap_or_else(|_| Err(io::Error::other("a phone's thread panicked")));
            registered.extend(done?);
        }
        Ok(registered)
    })
}

fn register_one(authority: &Authority, server: SocketAddr, number: u32) -> io::Result<Phone> {
    let config = authority.phone(&hardware_id(number))?;
    let mut phone = connect(config, server, number)?;
    let address = phone.sock.local_addr()?;
    let speaker = Speaker { extension: extension(number), authority: address.to_string(), transport: "TLS" };
    phone.write_all(&speaker.register(1, EXPIRES))?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        phone.read_exact(&mut byte)?;
        answer.extend_from_slice(&byte);
    }
    if answer.starts_with(b"SIP/2.0 200 ") {
        Ok(phone)
    } else {
        let text = String::from_utf8_lossy(&answer).into_owned();
        Err(io::Error::other(format!("phone {number} was not registered: {text}")))
    }
}

fn connect(config: Arc<ClientConfig>, server: SocketAddr, number: u32) -> io::Result<Phone> {
    let [_, _, high, low] = number.to_be_bytes();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(IpAddr::from([127, 85, high, low]), 0).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&server.into())?;
    let name = ServerName::IpAddress(server.ip().into());
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, socket.into()))
}
