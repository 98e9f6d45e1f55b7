//! rtpengine's control protocol: a cookie, a blank, a bencoded dictionary, over UDP.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How long one answer is waited for, and how often it is asked for.
const PATIENCE: Duration = Duration::from_millis(200);
const ATTEMPTS: u32 = 50;

/// A client of one rtpengine.
#[derive(Debug)]
pub(super) struct Ng {
    socket: UdpSocket,
    server: SocketAddr,
    cookie: u64,
}

impl Ng {
    /// Chooses a port for the server that is free now.
    pub(super) fn new(face: IpAddr) -> io::Result<Self> {
        let server = UdpSocket::bind((face, 0))?.local_addr()?;
        let socket = UdpSocket::bind((face, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, server, cookie: 0 })
    }

    /// Where the server must listen.
    pub(super) fn address(&self) -> SocketAddr {
        self.server
    }

    /// Asks until it is up.
    pub(super) fn wait_until_it_answers(&mut self) -> io::Result<()> {
        self.ask(&[("command", "ping")], "pong").map(drop)
    }

    /// Opens a session between a phone and a PBX; gives the ports where it expects each of them.
    pub(super) fn open(
        &mut self,
        session: usize,
        [phone, pbx]: [SocketAddr; 2],
    ) -> io::Result<[SocketAddr; 2]> {
        let (call_id, from_tag) = (format!("call{session}"), format!("from{session}"));
        let offer = self.ask(
            &[
                ("ICE", "remove"),
                ("call-id", &call_id),
                ("command", "offer"),
                ("direction", "outside inside"),
                ("from-tag", &from_tag),
                ("sdp", &sdp(phone)),
            ],
            "ok",
        )?;
        let to_tag = format!("to{session}");
        let answer = self.ask(
            &[
                ("ICE", "remove"),
                ("call-id", &call_id),
                ("command", "answer"),
                ("from-tag", &from_tag),
                ("sdp", &sdp(pbx)),
                ("to-tag", &to_tag),
            ],
            "ok",
        )?;
        Ok([media_address(&answer)?, media_address(&offer)?])
    }

    /// Sends a dictionary, whose keys are in order, until it is answered with this `result`.
    fn ask(&mut self, dictionary: &[(&str, &str)], result: &str) -> io::Result<Vec<u8>> {
        self.cookie += 1;
        let cookie = format!("{} ", self.cookie);
        let request = format!("{cookie}{}", encode(dictionary));
        let mut buffer = vec![0; 65_536];
        for _ in 0..ATTEMPTS {
            // while nobody listens yet, the port is reported as unreachable
            self.socket.send_to(request.as_bytes(), self.server).map(drop).unwrap_or_default();
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let Some(reply) = buffer.get(..length).and_then(|reply| reply.strip_prefix(cookie.as_bytes()))
            else {
                continue;
            };
            if value(reply, "result") == Some(result.as_bytes()) {
                return Ok(reply.to_vec());
            }
            return Err(io::Error::other(format!("rtpengine: {}", String::from_utf8_lossy(reply))));
        }
        Err(io::Error::other("rtpengine does not answer"))
    }
}

/// `direction` is a list of words, all else a string.
fn encode(dictionary: &[(&str, &str)]) -> String {
    let string = |text: &str| format!("{}:{text}", text.len());
    let mut text = String::from("d");
    for (key, value) in dictionary {
        text.push_str(&string(key));
        match *key {
            "direction" => text.push_str(&format!("l{}e", value.split(' ').map(string).collect::<String>())),
            _ => text.push_str(&string(value)),
        }
    }
    text.push('e');
    text
}

/// The string that a dictionary has under `key`.
fn value<'a>(dictionary: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut rest = dictionary.strip_prefix(b"d")?;
    while rest.first()? != &b'e' {
        let (name, after) = item(rest)?;
        let (found, after) = item(after)?;
        if name == key.as_bytes() {
            return Some(found);
        }
        rest = after;
    }
    None
}

/// One item and what follows it: a string's text, anything else with its marks.
fn item(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes.first()? {
        b'i' => Some(bytes.split_at(bytes.iter().position(|byte| *byte == b'e')? + 1)),
        b'l' | b'd' => {
            let mut rest = bytes.get(1..)?;
            while rest.first()? != &b'e' {
                rest = item(rest)?.1;
            }
            Some(bytes.split_at(bytes.len() - rest.len() + 1))
        }
        _ => {
            let colon = bytes.iter().position(|byte| *byte == b':')?;
            let length: usize = std::str::from_utf8(bytes.get(..colon)?).ok()?.parse().ok()?;
            bytes.get(colon + 1..)?.split_at_checked(length)
        }
    }
}

fn sdp(end: SocketAddr) -> String {
    let (ip, port) = (end.ip(), end.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}

/// Where the SDP in a reply says that audio is received.
fn media_address(reply: &[u8]) -> io::Result<SocketAddr> {
    let sdp = String::from_utf8_lossy(value(reply, "sdp").unwrap_or_default()).into_owned();
    let word = |line: &str, index: usize| {
        sdp.lines().find(|text| text.starts_with(line)).and_then(|text| text.split(' ').nth(index))
    };
    let ip = word("c=IN", 2).and_then(|text| text.trim().parse::<IpAddr>().ok());
    let port = word("m=audio", 1).and_then(|text| text.parse().ok());
    match (ip, port) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        _ => Err(io::Error::other(format!("rtpengine's SDP has no address: {sdp}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries() {
        let encoded = encode(&[("command", "offer"), ("direction", "outside inside"), ("sdp", "v=0")]);
        assert_eq!(encoded, "d7:command5:offer9:directionl7:outside6:insidee3:sdp3:v=0e");
        assert_eq!(value(encoded.as_bytes(), "sdp"), Some(b"v=0".as_slice()));
        let reply = b"d7:createdi1790e6:nestedd1:ali1ei2eee6:result2:ok3:sdp4:v=0\re";
        assert_eq!(value(reply, "result"), Some(b"ok".as_slice()));
        assert_eq!(value(reply, "sdp"), Some(b"v=0\r".as_slice()));
        assert_eq!(value(reply, "tag"), None);
        for broken in ["", "d", "d3:sd", "d3:sdp", "d3:sdp99:v", "di1", "dl"] {
            assert_eq!(value(broken.as_bytes(), "sdp"), None, "{broken}");
        }
    }

    #[test]
    fn addresses() {
        let end: SocketAddr = "127.83.0.10:10020".parse().unwrap();
        let reply = encode(&[("result", "ok"), ("sdp", &sdp(end))]);
        assert_eq!(media_address(reply.as_bytes()).unwrap(), end);
        assert!(media_address(b"d6:result2:oke").is_err());
    }
}
