//! A phone's TLS connection that never blocks, and the messages in it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::io::Errno;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use socket2::{Domain, Socket, Type};

use super::framing;

/// One connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    tls: ClientConnection,
    heard: Vec<u8>,
}

impl Stream {
    /// Begins it, from an address of its own.
    pub fn connect(config: Arc<ClientConfig>, server: SocketAddr, from: IpAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        match socket.connect(&server.into()) {
            Err(fault) if fault.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(fault);
            }
            _ => {}
        }
        let name = ServerName::IpAddress(server.ip().into());
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self { socket: socket.into(), tls, heard: Vec::new() })
    }

    /// What is watched for readiness.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether the handshake is done, as far as this end can see.
    pub fn is_established(&self) -> bool {
        !self.tls.is_handshaking()
    }

    /// Whether the handshake was spared by a ticket of an earlier one.
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Says something; what does not fit goes out at the next turn.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)?;
        self.write()
    }

    /// Sends and receives what can be. An error is the end of it.
    pub fn turn(&mut self) -> io::Result<()> {
        self.write()?;
        loop {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    let read = self.tls.process_new_packets();
                    // an alert of ours goes out, whatever became of the connection
                    self.write().unwrap_or_default();
                    read.map_err(|fault| io::Error::other(fault.to_string()))?;
                    self.take_plain_text()?;
                }
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return self.write(),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// The next whole message, or CRLF, that was heard.
    pub fn message(&mut self) -> Option<Vec<u8>> {
        let length = framing::first_message(&self.heard)?;
        let rest = self.heard.split_off(length);
        Some(std::mem::replace(&mut self.heard, rest))
    }

    fn take_plain_text(&mut self) -> io::Result<()> {
        match self.tls.reader().read_to_end(&mut self.heard) {
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => Ok(()),
            Ok(_) => Err(ErrorKind::UnexpectedEof.into()),
            Err(fault) => Err(fault),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                // not connected yet, or the other side is slow: the next turn goes on
                Err(fault) if matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }
}
