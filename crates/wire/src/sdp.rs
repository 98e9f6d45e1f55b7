//! Session descriptions: what a border must know of them, and the same description with our addresses in it.
//!
//! Reads tolerantly: LF alone ends a line, `s=` and `t=` may be missing. Writes strictly. Lines that it does
//! not know pass byte for byte; none of the lines that carry addresses passes with the sender's.
//! Never resolves a name, never decides an offer or an answer.
//!
//! Start reading at [`SessionDescription::parse`]. RFC 8866, RFC 3264 (port 0, hold), RFC 3605 (`a=rtcp`),
//! RFC 5761 (`a=rtcp-mux`).

mod rewrite;

use std::net::{IpAddr, SocketAddr};

/// The longest description, in bytes.
pub const DESCRIPTION_MAX: usize = 64 * 1024;
/// The longest line, in bytes without its end.
pub const LINE_MAX: usize = 4 * 1024;
/// The most m-lines.
pub const MEDIA_MAX: usize = 16;

/// A session description, in slices of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDescription<'a> {
    /// The streams, in order.
    pub media: Vec<MediaDescription<'a>>,
    /// The address of the c= line that stands before the first stream; none where there is no such line, or
    /// where it names a host.
    pub connection: Option<IpAddr>,
    bytes: &'a [u8],
    present: Present,
}

/// Which lines stand before the first stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Present {
    origin: bool,
    subject: bool,
    time: bool,
    connection: bool,
}

/// One m= line and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaDescription<'a> {
    /// `audio`, `video`, `image`, …
    pub kind: &'a str,
    /// Zero: refused, or ended (RFC 3264 §6, §8.2).
    pub port: u16,
    /// How many ports of that kind: 1 unless the m= line says `port/count`.
    pub port_count: u16,
    /// `RTP/AVP`, `RTP/SAVP`, `udptl`, …
    pub proto: &'a str,
    /// The formats as they stand; empty only where the port is zero.
    pub formats: &'a str,
    /// The address for this stream: of its own c= line, else of the session's; none where that names a host.
    pub connection: Option<IpAddr>,
    /// Who may send: its own attribute, else the session's, else both.
    pub direction: Direction,
    /// Whether RTP and RTCP may share the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    rtcp: Option<Rtcp>,
    has_connection: bool,
}

/// Who may send, seen from the one who wrote the description (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Both.
    #[default]
    SendRecv,
    /// The writer alone: he holds the other.
    SendOnly,
    /// The other alone.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    /// The attribute that says so.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    fn of_attribute(name: &[u8]) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive]
            .into_iter()
            .find(|direction| direction.as_str().as_bytes() == name)
    }
}

/// An `a=rtcp` line (RFC 3605).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rtcp {
    port: u16,
    address: ConnectionAddress,
}

/// What a c= line, or the address of an `a=rtcp` line, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionAddress {
    /// There is none.
    Absent,
    /// A host name, or another network than the Internet.
    Unusable,
    Ip(IpAddr),
}

impl ConnectionAddress {
    /// Reads `IN IP4 198.51.100.1`, where a TTL or a count may follow after a slash.
    fn parse(value: &[u8]) -> Self {
        let mut words = words(value);
        let (nettype, addrtype, address) = (words.next(), words.next(), words.next());
        let ip = address
            .and_then(|address| address.split(|b| *b == b'/').next())
            .and_then(|address| std::str::from_utf8(address).ok())
            .and_then(|address| address.parse::<IpAddr>().ok())
            .filter(|_| nettype == Some(b"IN"))
            .filter(|ip| addrtype == Some(if ip.is_ipv4() { b"IP4" } else { b"IP6" }));
        ip.map_or(Self::Unusable, |ip| Self::Ip(ip.to_canonical()))
    }

    fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(ip),
            Self::Absent | Self::Unusable => None,
        }
    }

    fn or(self, outer: Self) -> Self {
        if self == Self::Absent { outer } else { self }
    }
}

/// Why bytes are no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (line {line})")]
pub struct SdpError {
    /// What is wrong.
    pub kind: SdpErrorKind,
    /// Where, counted from 1; 0 for the whole.
    pub line: usize,
}

/// What is wrong with a session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpErrorKind {
    /// More than [`DESCRIPTION_MAX`] bytes.
    #[error("session description too long")]
    TooLong,
    /// A line of more than [`LINE_MAX`] bytes.
    #[error("line of a session description too long")]
    LineTooLong,
    /// More than [`MEDIA_MAX`] streams.
    #[error("too many m= lines")]
    TooManyMedia,
    /// Not a small letter, `=` and a value; or a NUL, or a CR that ends no line.
    #[error("not a line of a session description")]
    Line,
    /// It does not begin with `v=0`, or does so twice.
    #[error("version of a session description missing or not 0")]
    Version,
    /// Not exactly one o= line, before the first stream, with six words.
    #[error("o= line missing, doubled or incomplete")]
    Origin,
    /// An m= line without a kind, a port, a protocol or a format.
    #[error("m= line incomplete")]
    Media,
}

impl<'a> SessionDescription<'a> {
    /// Reads a description.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SdpError> {
        if bytes.len() > DESCRIPTION_MAX {
            return Err(SdpError { kind: SdpErrorKind::TooLong, line: 0 });
        }
        let mut reader = Reader::default();
        for (index, line) in lines(bytes).enumerate() {
            let fault = |kind| SdpError { kind, line: index + 1 };
            Line::parse(line).and_then(|line| reader.read(line)).map_err(fault)?;
        }
        reader.finish(bytes).map_err(|kind| SdpError { kind, line: 0 })
    }

    /// Where the writer wants RTP of a stream; none where the stream is refused, held by `0.0.0.0`, or bound
    /// for a host name, a group or everybody.
    pub fn rtp_address(&self, index: usize) -> Option<SocketAddr> {
        let media = self.media.get(index)?;
        unicast(media.connection?, media.port)
    }

    /// Where the writer wants RTCP of a stream, if it does not share the RTP port: as `a=rtcp` says, else
    /// one port above. None where RTP has no address either.
    pub fn rtcp_address(&self, index: usize) -> Option<SocketAddr> {
        let media = self.media.get(index)?;
        let rtp = self.rtp_address(index)?;
        match media.rtcp {
            None => unicast(rtp.ip(), rtp.port().checked_add(1)?),
            Some(rtcp) => unicast(rtcp.address.or(ConnectionAddress::Ip(rtp.ip())).ip()?, rtcp.port),
        }
    }

    /// The same description, for the other side: our `address` and `ports` in place of the writer's.
    ///
    /// - `o=`: no user name, our address; session id and version stay.
    /// - `c=`: our address; an unspecified one stays (hold as before RFC 3264). A stream that has no c= line
    ///   anywhere gets one.
    /// - `m=`: the port of the same index in `ports`; none, and a stream that was refused: 0.
    /// - `a=rtcp`: our address, one port above.
    /// - ICE attributes, `i=`, `u=`, `e=`, `p=`, and attributes that filter by or repeat the writer's
    ///   addresses, those that it names itself and `known`: left out.
    /// - All else: byte for byte.
    pub fn rewritten(&self, address: IpAddr, ports: &[Option<u16>], known: &[String]) -> Vec<u8> {
        rewrite::rewritten(self, address, ports, known)
    }
}

/// The address if a datagram to it reaches one host.
fn unicast(ip: IpAddr, port: u16) -> Option<SocketAddr> {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let one_host = port != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast;
    one_host.then_some(SocketAddr::new(ip, port))
}

/// What has been read so far.
#[derive(Default)]
struct Reader<'a> {
    begun: bool,
    present: Present,
    session: Section,
    media: Vec<(MediaDescription<'a>, Section)>,
}

/// What a c= line and the attributes before the next m= line say.
struct Section {
    connection: ConnectionAddress,
    direction: Option<Direction>,
    rtcp_mux: bool,
    rtcp: Option<Rtcp>,
}

impl Default for Section {
    fn default() -> Self {
        Self { connection: ConnectionAddress::Absent, direction: None, rtcp_mux: false, rtcp: None }
    }
}

impl<'a> Reader<'a> {
    fn read(&mut self, line: Line<'a>) -> Result<(), SdpErrorKind> {
        if line.letter == b'v' {
            let first = !std::mem::replace(&mut self.begun, true);
            return if first && line.value == b"0" { Ok(()) } else { Err(SdpErrorKind::Version) };
        }
        if !self.begun {
            return Err(SdpErrorKind::Version);
        }
        match line.letter {
            b'o' => return self.read_origin(line.value),
            b'm' => return self.read_media(line.value),
            b'c' => {
                let section = self.section();
                if section.connection == ConnectionAddress::Absent {
                    section.connection = ConnectionAddress::parse(line.value);
                }
            }
            b'a' => self.section().read_attribute(line.value),
            b's' => self.present.subject |= self.media.is_empty(),
            b't' => self.present.time |= self.media.is_empty(),
            _ => {}
        }
        Ok(())
    }

    fn section(&mut self) -> &mut Section {
        self.media.last_mut().map_or(&mut self.session, |(_, section)| section)
    }

    fn read_origin(&mut self, value: &[u8]) -> Result<(), SdpErrorKind> {
        let first = !std::mem::replace(&mut self.present.origin, true);
        if first && self.media.is_empty() && Origin::parse(value).is_some() {
            Ok(())
        } else {
            Err(SdpErrorKind::Origin)
        }
    }

    fn read_media(&mut self, value: &'a [u8]) -> Result<(), SdpErrorKind> {
        if self.media.len() >= MEDIA_MAX {
            return Err(SdpErrorKind::TooManyMedia);
        }
        let media = MediaDescription::parse(value).ok_or(SdpErrorKind::Media)?;
        self.media.push((media, Section::default()));
        Ok(())
    }

    fn finish(self, bytes: &'a [u8]) -> Result<SessionDescription<'a>, SdpErrorKind> {
        if !self.begun {
            return Err(SdpErrorKind::Version);
        }
        if !self.present.origin {
            return Err(SdpErrorKind::Origin);
        }
        let session = self.session;
        let present = Present { connection: session.connection != ConnectionAddress::Absent, ..self.present };
        let media = self.media.into_iter().map(|(mut media, section)| {
            media.connection = section.connection.or(session.connection).ip();
            media.direction = section.direction.or(session.direction).unwrap_or_default();
            media.rtcp_mux = section.rtcp_mux;
            media.rtcp = section.rtcp;
            media.has_connection = section.connection != ConnectionAddress::Absent;
            media
        });
        let media = media.collect();
        Ok(SessionDescription { media, connection: session.connection.ip(), bytes, present })
    }
}

impl Section {
    fn read_attribute(&mut self, line: &[u8]) {
        if let Some(direction) = Direction::of_attribute(line.trim_ascii()) {
            self.direction = Some(direction);
        } else if line.trim_ascii() == b"rtcp-mux" {
            self.rtcp_mux = true;
        } else if let (b"rtcp", value) = attribute(line) {
            self.rtcp = value.and_then(Rtcp::parse);
        }
    }
}

impl Rtcp {
    fn parse(value: &[u8]) -> Option<Self> {
        let (port, address) = split_word(value);
        let address = match address.trim_ascii() {
            [] => ConnectionAddress::Absent,
            address => ConnectionAddress::parse(address),
        };
        Some(Self { port: port_number(port)?, address })
    }
}

impl<'a> MediaDescription<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?.trim_matches(' ');
        let (kind, rest) = value.split_once(' ')?;
        let (port, rest) = rest.trim_start_matches(' ').split_once(' ')?;
        let rest = rest.trim_start_matches(' ');
        let (proto, formats) = rest.split_once(' ').unwrap_or((rest, ""));
        let (port, count) = match port.split_once('/') {
            Some((port, count)) => (port, port_number(count.as_bytes()).filter(|count| *count > 0)?),
            None => (port, 1),
        };
        let port = port_number(port.as_bytes())?;
        let formats = formats.trim_start_matches(' ');
        let sound = is_token(kind) && proto.split('/').all(is_token);
        let complete = formats.split(' ').all(|word| word.is_empty() || is_token(word))
            && (port == 0 || !formats.is_empty());
        (sound && complete).then_some(Self {
            kind,
            port,
            port_count: count,
            proto,
            formats,
            connection: None,
            direction: Direction::SendRecv,
            rtcp_mux: false,
            rtcp: None,
            has_connection: false,
        })
    }
}

/// A token of RFC 8866 §9: printable, without separators.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&byte)
}

/// Digits only, so that a sign does not pass.
fn port_number(digits: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// The words of an o= line that we keep or hide.
struct Origin<'a> {
    session_id: &'a [u8],
    version: &'a [u8],
    address: &'a [u8],
}

impl<'a> Origin<'a> {
    /// Reads from the right, because some phones write a user name with blanks in it.
    fn parse(value: &'a [u8]) -> Option<Self> {
        let mut words = value.rsplit(|b| *b == b' ').filter(|word| !word.is_empty());
        let address = words.next()?;
        let (_addrtype, _nettype) = (words.next()?, words.next()?);
        let (version, session_id) = (words.next()?, words.next()?);
        words.next().map(|_user| Self { session_id, version, address })
    }
}

/// A line: its letter and what follows the `=`.
#[derive(Clone, Copy)]
struct Line<'a> {
    letter: u8,
    value: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, SdpErrorKind> {
        if line.len() > LINE_MAX {
            return Err(SdpErrorKind::LineTooLong);
        }
        // A CR inside could pass for the end of a line at somebody else's parser.
        if memchr::memchr2(b'\r', 0, line).is_some() {
            return Err(SdpErrorKind::Line);
        }
        match line {
            [letter @ b'a'..=b'z', b'=', value @ ..] => Ok(Self { letter: *letter, value }),
            _ => Err(SdpErrorKind::Line),
        }
    }
}

/// The lines without their ends; empty ones are passed over.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    let cut = std::iter::from_fn(move || {
        let (line, after) = match memchr::memchr(b'\n', rest) {
            Some(end) => (rest.get(..end)?, rest.get(end + 1..)?),
            None => (rest, [].as_slice()),
        };
        let found = !rest.is_empty();
        rest = after;
        found.then_some(line)
    });
    cut.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty())
}

/// Name and value of an attribute. The name ends where no letter of a token can stand, so that a blank in
/// place of the colon, or before it, hides no attribute from us that another parser might find.
fn attribute(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let value = value.trim_ascii_start();
    let end = value.iter().position(|b| !is_token_byte(*b)).unwrap_or(value.len());
    let (name, rest) = value.split_at_checked(end).unwrap_or((value, &[]));
    (name, rest.trim_ascii_start().strip_prefix(b":"))
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b' ').filter(|word| !word.is_empty())
}

/// The first word, and the rest.
fn split_word(value: &[u8]) -> (&[u8], &[u8]) {
    let value = value.trim_ascii();
    let end = memchr::memchr(b' ', value).unwrap_or(value.len());
    value.split_at_checked(end).unwrap_or((value, &[]))
}
