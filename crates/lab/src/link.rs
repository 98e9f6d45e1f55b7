//! A connection of a phone: bytes to SIP messages and back (RFC 3261 §18.3, RFC 5626 §3.5.1).
//!
//! Waiting for a message may be given up and taken up again: nothing that came is lost.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rsip::SipMessage;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fault::Fault;
use crate::message::{MESSAGE_MAX, decode, encode};

/// A stream that carries SIP.
#[derive(Debug)]
pub(crate) struct Link<S> {
    stream: S,
    buffer: Vec<u8>,
}

/// Connects from an address of one's own.
pub(crate) async fn connect(from: IpAddr, to: SocketAddr) -> Result<TcpStream, Fault> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(Fault::system("make a socket"))?;
    socket.bind((from, 0).into()).map_err(Fault::system(format!("take a port on {from}")))?;
    socket.connect(to).await.map_err(Fault::system(format!("connect from {from} to {to}")))
}

/// Makes a connection to `server` a TLS one. In TLS 1.3 the server may refuse the certificate after that.
pub(crate) async fn shake_hands(
    stream: TcpStream,
    server: SocketAddr,
    client: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, Fault> {
    let name = ServerName::IpAddress(server.ip().into());
    let handshake = TlsConnector::from(client).connect(name, stream).await;
    handshake.map_err(Fault::system(format!("shake hands with {server}")))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Takes a stream over.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends messages, all at once.
    pub(crate) async fn send(&mut self, messages: impl IntoIterator<Item = SipMessage>) -> Result<(), Fault> {
        let bytes: Vec<u8> = messages.into_iter().flat_map(encode).collect();
        self.write(&bytes).await
    }

    /// Shows that we are there.
    pub(crate) async fn ping(&mut self) -> Result<(), Fault> {
        self.write(b"\r\n\r\n").await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        write.await.map_err(Fault::system("send a message"))
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> Result<SipMessage, Fault> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(message);
            }
            if self.buffer.len() > MESSAGE_MAX {
                return Err(Fault::NotSip("it is larger than 64 KiB".to_owned()));
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            if read.map_err(Fault::system("receive a message"))? == 0 {
                return Err(Fault::Closed);
            }
        }
    }

    /// Cuts one message off what has come.
    fn take_message(&mut self) -> Result<Option<SipMessage>, Fault> {
        let pings = self.buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.buffer.drain(..pings);
        let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = head + 4;
        let header_section = self.buffer.get(..head).unwrap_or_default();
        let whole = head + content_length(header_section)?;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let bytes: Vec<u8> = self.buffer.drain(..whole).collect();
        decode(&bytes).map(Some)
    }
}

/// On a stream a message says how long its body is (RFC 3261 §20.14).
fn content_length(header_section: &[u8]) -> Result<usize, Fault> {
    let text = String::from_utf8_lossy(header_section);
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let name = name.trim();
        (name.eq_ignore_ascii_case("Content-Length") || name.eq_ignore_ascii_case("l")).then_some(value)
    });
    let length = value.and_then(|value| value.trim().parse().ok());
    length
        .filter(|length| *length <= MESSAGE_MAX)
        .ok_or_else(|| Fault::NotSip("its Content-Length is missing or wrong".to_owned()))
}

#[cfg(test)]
mod tests {
    use rsip::message::HasHeaders;
    use tokio::io::duplex;

    use super::*;
    use crate::message::call_id;

    fn text(id: usize, body: &str) -> String {
        format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK1\r\nCall-ID: {id}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let (near, mut far) = duplex(4096);
        let mut link = Link::new(near);
        let sent = format!("\r\n{}\r\n\r\n{}", text(1, "v=0\r\n\r\n"), text(2, ""));
        let feed = async {
            for byte in sent.as_bytes() {
                far.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(far);
        };
        let check = async {
            let first = link.receive().await.unwrap();
            assert_eq!((call_id(&first), first.body().as_slice()), ("1", b"v=0\r\n\r\n".as_slice()));
            let second = link.receive().await.unwrap();
            assert_eq!(call_id(&second), "2");
            assert_eq!(second.headers().iter().count(), 3);
            assert!(matches!(link.receive().await, Err(Fault::Closed)));
        };
        tokio::join!(feed, check);
    }

    #[tokio::test]
    async fn a_large_message_is_taken_but_none_that_is_too_large() {
        for (length, is_taken) in [(60_000, true), (MESSAGE_MAX + 1, false)] {
            let (near, mut far) = duplex(200_000);
            let mut link = Link::new(near);
            far.write_all(text(1, &"x".repeat(length)).as_bytes()).await.unwrap();
            let taken = link.receive().await.is_ok_and(|message| message.body().len() == length);
            assert_eq!(taken, is_taken, "{length}");
        }
    }

    #[tokio::test]
    async fn what_is_no_message_ends_it() {
        for wrong in
            ["SIP/2.0 200 OK\r\nCall-ID: 1\r\n\r\n", "SIP/2.0 200 OK\r\nContent-Length: 70000\r\n\r\n"]
        {
            let (near, mut far) = duplex(4096);
            far.write_all(wrong.as_bytes()).await.unwrap();
            assert!(matches!(Link::new(near).receive().await, Err(Fault::NotSip(_))), "{wrong}");
        }
    }
}
