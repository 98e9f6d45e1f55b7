//! A phone that sends exactly the bytes it is told to, over UDP, TCP or TLS, and shows the bytes it gets.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::deadline::Deadline;
use crate::pki::{Identity, Pki};
use crate::raw_message::{Draft, RawMessage, unique};

/// How long a phone waits for an answer, where a test does not say.
pub const ANSWER: Duration = Duration::from_secs(8);

/// The phone.
#[derive(Debug)]
pub struct RawPhone {
    link: Link,
    local: SocketAddr,
    received: Vec<u8>,
}

#[derive(Debug)]
enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// What came instead of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nothing, for the whole time.
    Nothing,
    /// The other end closed the connection.
    Closed,
    /// The TLS layer ended it: the alert in words.
    Alert(String),
}

impl RawPhone {
    /// Over UDP, from this address.
    pub fn udp(from: IpAddr, to: SocketAddr) -> Self {
        let socket = UdpSocket::bind((from, 0)).expect("a socket for the phone");
        socket.connect(to).expect("the way to the border");
        let local = socket.local_addr().expect("a bound socket has an address");
        Self { link: Link::Udp(socket), local, received: Vec::new() }
    }

    /// Over TCP, from this address.
    pub fn tcp(from: IpAddr, to: SocketAddr) -> std::io::Result<Self> {
        let stream = connect(from, to)?;
        let local = stream.local_addr()?;
        Ok(Self { link: Link::Tcp(stream), local, received: Vec::new() })
    }

    /// Over TLS, with a device's certificate or none. The handshake is complete, as far as the client can tell:
    /// in TLS 1.3 a refusal of its certificate comes with the first read.
    pub fn tls(
        from: IpAddr,
        to: SocketAddr,
        pki: &Pki,
        identity: Option<&Identity>,
    ) -> Result<Self, Silence> {
        Self::tls_with(from, to, &Self::tls_config(pki, identity))
    }

    /// What a TLS phone keeps between its connections: tickets for resumption.
    pub fn tls_config(pki: &Pki, identity: Option<&Identity>) -> Arc<ClientConfig> {
        Arc::new(client_config(pki, identity))
    }

    /// Over TLS, with what was kept from an earlier connection.
    pub fn tls_with(from: IpAddr, to: SocketAddr, config: &Arc<ClientConfig>) -> Result<Self, Silence> {
        let stream = connect(from, to).map_err(|_| Silence::Closed)?;
        let local = stream.local_addr().expect("a connected socket has an address");
        let connection =
            ClientConnection::new(Arc::clone(config), ServerName::from(to.ip())).expect("a client");
        let mut tls = StreamOwned::new(connection, stream);
        tls.sock.set_read_timeout(Some(ANSWER)).expect("a timeout can be set");
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).map_err(|error| silence_of(&error))?;
        }
        Ok(Self { link: Link::Tls(Box::new(tls)), local, received: Vec::new() })
    }

    /// Its own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether its TLS session was resumed.
    pub fn is_resumed(&self) -> bool {
        let Link::Tls(stream) = &self.link else { return false };
        stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// As a Via writes the transport.
    pub fn transport(&self) -> &'static str {
        match self.link {
            Link::Udp(_) => "UDP",
            Link::Tcp(_) => "TCP",
            Link::Tls(_) => "TLS",
        }
    }

    /// A Contact of an extension at this phone.
    pub fn contact(&self, extension: &str) -> String {
        format!("sip:{extension}@{};transport={}", self.local, self.transport().to_lowercase())
    }

    /// Sends bytes as they are. A connection that is closed meanwhile is no fault: the next read tells.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _told_by_next_read = match &mut self.link {
            Link::Udp(socket) => socket.send(bytes).map(|_| ()),
            Link::Tcp(stream) => stream.write_all(bytes),
            Link::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
    }

    /// Sends a request with a Via of its own on top, which it returns.
    pub fn send(&mut self, draft: &Draft) -> String {
        let via = format!("SIP/2.0/{} {};rport;branch=z9hG4bK{}", self.transport(), self.local, unique("b"));
        self.send_by(draft, &via);
        via
    }

    /// Sends a request with this Via on top: again, or a CANCEL.
    pub fn send_by(&mut self, draft: &Draft, via: &str) {
        self.send_bytes(draft.clone().push_front("Via", via).text().as_bytes());
    }

    /// Sends an INVITE and waits for its final answer; acknowledges it where it is a refusal.
    #[track_caller]
    pub fn invite(&mut self, draft: &Draft) -> RawMessage {
        let via = self.send(draft);
        let answer = self.receive_final(ANSWER);
        if answer.status() >= 300 {
            self.acknowledge(draft, &via, &answer);
        }
        answer
    }

    /// Acknowledges the refusal of an INVITE (RFC 3261 §17.1.1.3).
    pub fn acknowledge(&mut self, invite: &Draft, via: &str, answer: &RawMessage) {
        self.send_by(&invite.same_transaction("ACK", &answer.value("To")), via);
    }

    /// Waits for a request of this method; answers to earlier requests are passed over.
    #[track_caller]
    pub fn receive_request(&mut self, method: &str) -> RawMessage {
        loop {
            match self.receive(ANSWER) {
                Ok(message) if message.method() == method => return message,
                Ok(message) if message.status() != 0 => {}
                other => panic!("no {method} but {other:?}"),
            }
        }
    }

    /// Waits for an answer with this status; provisional ones are passed over where it is a final one: a PBX of
    /// several processes may send them in any order.
    #[track_caller]
    pub fn receive_status(&mut self, status: u16) -> RawMessage {
        let passed_over = 100..if status < 200 { 101 } else { 200 };
        loop {
            match self.receive(ANSWER) {
                Ok(message) if message.status() == status => return message,
                Ok(message) if passed_over.contains(&message.status()) => {}
                other => panic!("no {status} but {other:?}"),
            }
        }
    }

    /// Sends an answer: without a Via of its own.
    pub fn reply(&mut self, draft: &Draft) {
        self.send_bytes(draft.text().as_bytes());
    }

    /// The next message.
    pub fn receive(&mut self, within: Duration) -> Result<RawMessage, Silence> {
        let deadline = Deadline::after(within);
        loop {
            if let Some(message) = self.take_message() {
                return Ok(message);
            }
            let Some(left) = deadline.left() else { return Err(Silence::Nothing) };
            let mut buffer = [0; 65_536];
            let length = self.read(&mut buffer, left)?;
            self.received.extend_from_slice(&buffer[..length]);
        }
    }

    /// The next message that is no provisional answer.
    #[track_caller]
    pub fn receive_final(&mut self, within: Duration) -> RawMessage {
        let deadline = Deadline::after(within);
        loop {
            match self.receive(deadline.left().unwrap_or_default()) {
                Ok(message) if (100..200).contains(&message.status()) => {}
                Ok(message) => return message,
                Err(silence) => panic!("no final answer but {silence:?}"),
            }
        }
    }

    /// Sends a request and waits for its final answer.
    #[track_caller]
    pub fn ask(&mut self, draft: &Draft) -> RawMessage {
        self.send(draft);
        self.receive_final(ANSWER)
    }

    /// Registers an extension for 60 seconds; the final answer.
    #[track_caller]
    pub fn register(&mut self, extension: &str, domain: &str) -> RawMessage {
        let contact = self.contact(extension);
        self.ask(&Draft::register(extension, domain, &contact, 60))
    }

    /// Raw bytes, as they come: for what is no SIP.
    pub fn receive_bytes(&mut self, within: Duration) -> Result<Vec<u8>, Silence> {
        let mut buffer = [0; 65_536];
        let length = self.read(&mut buffer, within)?;
        Ok(buffer[..length].to_vec())
    }

    fn read(&mut self, buffer: &mut [u8], within: Duration) -> Result<usize, Silence> {
        let deadline = Deadline::after(within);
        loop {
            match self.try_read(buffer, deadline.left().unwrap_or_default()) {
                // A machine that was stopped for a moment says nothing about the other end.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(silence_of(&error)),
                Ok(0) if !matches!(self.link, Link::Udp(_)) => return Err(Silence::Closed),
                Ok(length) => return Ok(length),
            }
        }
    }

    fn try_read(&mut self, buffer: &mut [u8], within: Duration) -> std::io::Result<usize> {
        let within = Some(within.max(Duration::from_millis(1)));
        match &mut self.link {
            Link::Udp(socket) => {
                socket.set_read_timeout(within)?;
                socket.recv(buffer)
            }
            Link::Tcp(stream) => {
                stream.set_read_timeout(within)?;
                stream.read(buffer)
            }
            Link::Tls(stream) => {
                stream.sock.set_read_timeout(within)?;
                stream.read(buffer)
            }
        }
    }

    /// Cuts one message off what was received. Keepalives between messages are passed over.
    fn take_message(&mut self) -> Option<RawMessage> {
        let skipped = self.received.iter().take_while(|byte| **byte == b'\r' || **byte == b'\n').count();
        self.received.drain(..skipped);
        let head = self.received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(self.received.get(..head)?).into_owned();
        let length =
            RawMessage(text).values("Content-Length").first().and_then(|it| it.parse().ok()).unwrap_or(0);
        if self.received.len() < head + length {
            return None;
        }
        let message: Vec<u8> = self.received.drain(..head + length).collect();
        Some(RawMessage(String::from_utf8_lossy(&message).into_owned()))
    }
}

/// A TLS client that trusts the lab's CA, with or without a certificate of its own.
pub fn client_config(pki: &Pki, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pki.ca_file()).expect("the CA can be read"))
        .expect("the CA is good");
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.certificate()], identity.key())
            .expect("certificate and key match"),
        None => builder.with_no_client_auth(),
    }
}

/// A TCP connection from a chosen address.
pub fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), ANSWER)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn silence_of(error: &std::io::Error) -> Silence {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Silence::Nothing,
        ErrorKind::InvalidData => Silence::Alert(error.to_string()),
        _ => Silence::Closed,
    }
}
