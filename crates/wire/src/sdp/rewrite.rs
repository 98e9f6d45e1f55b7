//! The description for the other side: our addresses, nothing of the writer's network.
//!
//! Never copies a line that is made to carry an address, and leaves out a line that happens to repeat one
//! of the writer's. Writes CRLF only.

use std::net::IpAddr;

use memchr::memmem::Finder;

use super::{ConnectionAddress, Line, Origin, SessionDescription, attribute, lines, words};

/// Attributes that carry candidates or addresses and are of no use behind a relay. All of ICE is left out
/// as well, by its prefix.
const DROPPED: [&[u8]; 5] =
    [b"candidate", b"remote-candidates", b"end-of-candidates", b"source-filter", b"alt"];

/// How many of the writer's addresses are looked for in the lines that pass.
const HIDDEN_MAX: usize = 24;

pub(super) fn rewritten(
    session: &SessionDescription<'_>,
    address: IpAddr,
    ports: &[Option<u16>],
    known: &[String],
) -> Vec<u8> {
    let known = known.iter().map(String::as_bytes).filter(|name| is_telling(name));
    let mut rewriter = Rewriter {
        session,
        ports,
        connection: format!("IN {} {address}", if address.is_ipv4() { "IP4" } else { "IP6" }),
        hidden: addresses(session.bytes).into_iter().chain(known).map(finder).collect(),
        // Room for the lines that may be added: `s=`, `t=`, and a c= line for each stream.
        out: Vec::with_capacity(session.bytes.len() + 64 * (session.media.len() + 1)),
        media: None,
        time_missing: !session.present.time,
        connection_written: false,
    };
    for line in lines(session.bytes).filter_map(|line| Line::parse(line).ok()) {
        rewriter.line(line);
    }
    rewriter.end_times();
    rewriter.out
}

struct Rewriter<'a> {
    session: &'a SessionDescription<'a>,
    ports: &'a [Option<u16>],
    /// Ours, as a c= line writes it.
    connection: String,
    /// The writer's addresses, in small letters.
    hidden: Vec<Finder<'static>>,
    out: Vec<u8>,
    /// The stream whose lines are being written; none before the first.
    media: Option<usize>,
    /// Whether a t= line has to be added where it belongs.
    time_missing: bool,
    /// Whether this section has its c= line already.
    connection_written: bool,
}

impl<'a> Rewriter<'a> {
    fn line(&mut self, line: Line<'a>) {
        match line.letter {
            b'o' => self.origin(line.value),
            b'c' => self.connection(line.value),
            b'm' => self.media(),
            b'i' | b'u' | b'e' | b'p' => {}
            b'v' | b't' => self.put(line.letter, line.value),
            b's' if self.repeats_hidden(line.value) => self.put(b's', b"-"),
            b's' => self.put(b's', line.value),
            b'b' => self.put_unless_hidden(b'b', line.value),
            b'a' => {
                self.end_times();
                self.attribute(line.value);
            }
            _ => {
                self.end_times();
                self.put_unless_hidden(line.letter, line.value);
            }
        }
    }

    fn origin(&mut self, value: &[u8]) {
        let Some(origin) = Origin::parse(value) else { return };
        let (id, version) = (digits(origin.session_id), digits(origin.version));
        self.put(b'o', format!("- {id} {version} {}", self.connection).as_bytes());
        if !self.session.present.subject {
            self.put(b's', b"-");
        }
    }

    fn connection(&mut self, value: &[u8]) {
        // Several in one section are for groups; ours is one host.
        if std::mem::replace(&mut self.connection_written, true) {
            return;
        }
        match ConnectionAddress::parse(value) {
            ConnectionAddress::Ip(IpAddr::V4(ip)) if ip.is_unspecified() => self.put(b'c', b"IN IP4 0.0.0.0"),
            ConnectionAddress::Ip(IpAddr::V6(ip)) if ip.is_unspecified() => self.put(b'c', b"IN IP6 ::"),
            _ => self.put_connection(),
        }
    }

    fn media(&mut self) {
        self.end_times();
        let index = self.media.map_or(0, |index| index + 1);
        self.media = Some(index);
        self.connection_written = false;
        let Some(media) = self.session.media.get(index) else { return };
        // A refused stream needs some format for the grammar's sake.
        let formats = if media.formats.is_empty() { "0" } else { media.formats };
        let text = format!("{} {} {} {formats}", media.kind, self.port().unwrap_or(0), media.proto);
        self.put(b'm', text.as_bytes());
        if !media.has_connection && !self.session.present.connection {
            self.connection_written = true;
            self.put_connection();
        }
    }

    /// Our port for the stream at hand, if it has one.
    fn port(&self) -> Option<u16> {
        let index = self.media?;
        let accepted = self.session.media.get(index).is_some_and(|media| media.port != 0);
        self.ports.get(index).copied().flatten().filter(|_| accepted)
    }

    fn attribute(&mut self, value: &[u8]) {
        let (name, _) = attribute(value);
        if name.eq_ignore_ascii_case(b"rtcp") {
            if let Some(port) = self.port().and_then(|port| port.checked_add(1)) {
                self.put(b'a', format!("rtcp:{port} {}", self.connection).as_bytes());
            }
        } else if !is_dropped(name) {
            self.put_unless_hidden(b'a', value);
        }
    }

    /// Before what stands after the times (RFC 8866 §5), and at the end.
    fn end_times(&mut self) {
        if std::mem::take(&mut self.time_missing) {
            self.put(b't', b"0 0");
        }
    }

    fn put_connection(&mut self) {
        let connection = std::mem::take(&mut self.connection);
        self.put(b'c', connection.as_bytes());
        self.connection = connection;
    }

    fn put_unless_hidden(&mut self, letter: u8, value: &[u8]) {
        if !self.repeats_hidden(value) {
            self.put(letter, value);
        }
    }

    fn put(&mut self, letter: u8, value: &[u8]) {
        self.out.extend_from_slice(&[letter, b'=']);
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }

    fn repeats_hidden(&self, value: &[u8]) -> bool {
        let value = value.to_ascii_lowercase();
        self.hidden.iter().any(|address| repeats(&value, address))
    }
}

fn is_dropped(name: &[u8]) -> bool {
    let is_ice = name.split_at_checked(4).is_some_and(|(prefix, _)| prefix.eq_ignore_ascii_case(b"ice-"));
    is_ice || DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped))
}

/// The addresses that the writer names as his own.
fn addresses(bytes: &[u8]) -> Vec<&[u8]> {
    let mut found: Vec<&[u8]> = Vec::new();
    for line in lines(bytes).filter_map(|line| Line::parse(line).ok()) {
        let address = match line.letter {
            b'o' => Origin::parse(line.value).map(|origin| origin.address),
            b'c' => words(line.value).nth(2).and_then(|word| word.split(|b| *b == b'/').next()),
            b'a' => {
                let (name, value) = attribute(line.value);
                let nth = if name.eq_ignore_ascii_case(b"rtcp") { 3 } else { 4 };
                let carries = nth == 3 || name.eq_ignore_ascii_case(b"candidate");
                value.filter(|_| carries).and_then(|value| words(value).nth(nth))
            }
            _ => None,
        };
        if let Some(address) = address.filter(|address| is_telling(address))
            && !found.contains(&address)
            && found.len() < HIDDEN_MAX
        {
            found.push(address);
        }
    }
    found
}

/// Whether a word is an address or a host name, and not the `0.0.0.0` of a hold.
fn is_telling(word: &[u8]) -> bool {
    let looks_so = word.iter().any(|b| matches!(b, b'.' | b':'));
    let ip = std::str::from_utf8(word).ok().and_then(|word| word.parse::<IpAddr>().ok());
    looks_so && !ip.is_some_and(|ip| ip.is_unspecified())
}

/// Looks for an address, or for a name, in small letters.
fn finder(address: &[u8]) -> Finder<'static> {
    Finder::new(&address.to_ascii_lowercase()).into_owned()
}

/// Whether `address` stands in `value` as a word, not as part of a longer number or name.
fn repeats(value: &[u8], address: &Finder<'_>) -> bool {
    address.find_iter(value).any(|start| {
        let before = start.checked_sub(1).and_then(|index| value.get(index));
        let after = value.get(start + address.needle().len());
        !before.is_some_and(u8::is_ascii_alphanumeric) && !after.is_some_and(u8::is_ascii_alphanumeric)
    })
}

/// The number that a session id or a version is; whatever else stands there could be an address.
fn digits(word: &[u8]) -> String {
    let number: String =
        word.iter().filter(|b| b.is_ascii_digit()).take(20).map(|b| char::from(*b)).collect();
    if number.is_empty() { "0".to_owned() } else { number }
}
