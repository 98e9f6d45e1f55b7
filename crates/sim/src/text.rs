//! SIP as the actors know it: lines of text, read and written naively from RFC 3261 §7.
//!
//! Shares no code with `wire` and `sip`, so that a mistake there is not its own witness.

use std::net::SocketAddr;

use memchr::memmem;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Request line or status line.
    pub start: String,
    /// Names and values in order.
    pub headers: Vec<(String, String)>,
    /// Whatever follows the blank line.
    pub body: String,
}

impl Text {
    /// A request without headers.
    pub fn request(method: &str, uri: &str) -> Self {
        Self { start: format!("{method} {uri} SIP/2.0"), headers: Vec::new(), body: String::new() }
    }

    /// A response with what RFC 3261 §8.2.6.2 copies from the request.
    pub fn response(request: &Self, code: u16, to_tag: Option<&str>) -> Self {
        let mut text =
            Self { start: format!("SIP/2.0 {code} Answer"), headers: Vec::new(), body: String::new() };
        for (name, value) in &request.headers {
            match name.to_ascii_lowercase().as_str() {
                "via" | "from" | "call-id" | "cseq" => text.headers.push((name.clone(), value.clone())),
                "to" => {
                    let tag = to_tag.filter(|_| tag_of(value).is_none());
                    let value = tag.map_or_else(|| value.clone(), |tag| format!("{value};tag={tag}"));
                    text.headers.push((name.clone(), value));
                }
                _ => {}
            }
        }
        text
    }

    /// Reads one whole message; none where it is no SIP.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_at(head_of(bytes)?);
        let mut lines = head.split_terminator('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let start = lines.next().filter(|line| line.contains("SIP/2.0"))?.to_owned();
        let mut headers = Vec::with_capacity(24);
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        Some(Self { start, headers, body: body.to_owned() })
    }

    /// As it travels.
    pub fn render(&self) -> String {
        let lines: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let mut out = String::with_capacity(self.start.len() + lines + self.body.len() + 32);
        out.push_str(&self.start);
        out.push_str("\r\n");
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("content-length") {
                for part in [name, ": ", value, "\r\n"] {
                    out.push_str(part);
                }
            }
        }
        out.push_str("Content-Length: ");
        out.push_str(&self.body.len().to_string());
        out.push_str("\r\n\r\n");
        out.push_str(&self.body);
        out
    }

    /// The status code of a response.
    pub fn code(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request; of a response, that of its CSeq.
    pub fn method(&self) -> &str {
        match self.code() {
            None => self.start.split(' ').next().unwrap_or_default(),
            Some(_) => self.header("CSeq").split(' ').nth(1).unwrap_or_default(),
        }
    }

    /// The Request-URI.
    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The first value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Whether a header is there.
    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// Every value of a header, one a line.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone()).collect()
    }

    /// Adds a header at the end.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a header before all others.
    pub fn push_front(&mut self, name: &str, value: impl ToString) {
        self.headers.insert(0, (name.to_owned(), value.to_string()));
    }

    /// Takes the first value of a header away.
    pub fn take_first(&mut self, name: &str) -> Option<String> {
        let place = self.headers.iter().position(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(self.headers.remove(place).1)
    }

    /// Takes every value of a header away.
    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Adds a body of a kind.
    pub fn with_body(mut self, kind: &str, body: String) -> Self {
        self.headers.push(("Content-Type".into(), kind.into()));
        self.body = body;
        self
    }

    /// The branch of the topmost Via.
    pub fn branch(&self) -> &str {
        param(self.header("Via"), "branch").unwrap_or_default()
    }

    /// Who sent it, by the topmost Via: host and port.
    pub fn sent_by(&self) -> &str {
        let via = self.header("Via").split(';').next().unwrap_or_default();
        via.trim_end().rsplit(' ').next().unwrap_or_default()
    }

    /// The number of the CSeq.
    pub fn cseq(&self) -> u32 {
        self.header("CSeq").split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// The From tag.
    pub fn from_tag(&self) -> &str {
        tag_of(self.header("From")).unwrap_or_default()
    }

    /// The To tag, empty outside a dialog.
    pub fn to_tag(&self) -> &str {
        tag_of(self.header("To")).unwrap_or_default()
    }
}

/// A parameter of a header value or URI, without quotes.
pub fn param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let after = value.rsplit_once('>').map_or(value, |(_, after)| after);
    after.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// The tag of a From or To.
pub fn tag_of(value: &str) -> Option<&str> {
    param(value, "tag").filter(|tag| !tag.is_empty())
}

/// The URI of a name-addr.
pub fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => value.split(';').next().unwrap_or_default(),
    }
}

/// The user part of a URI.
pub fn user_of(uri: &str) -> &str {
    uri.split_once(':').and_then(|(_, rest)| rest.split_once('@')).map_or("", |(user, _)| user)
}

/// Host and port of a URI whose host is an address.
pub fn address_of(uri: &str) -> Option<SocketAddr> {
    let rest = uri.split_once(':')?.1;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host).split([';', '?']).next()?;
    let alone = host.trim_start_matches('[').trim_end_matches(']');
    host.parse().ok().or_else(|| Some(SocketAddr::new(alone.parse().ok()?, 5060)))
}

/// Bytes of a stream, cut into messages by Content-Length (RFC 3261 §18.3).
#[derive(Clone, Debug, Default)]
pub struct Stream(Vec<u8>);

impl Stream {
    /// Adds bytes and takes every whole message out.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.0.extend_from_slice(bytes);
        let mut messages = Vec::new();
        loop {
            let blank = self.0.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.0.drain(..blank);
            let Some(head) = head_of(&self.0) else { return messages };
            let length = head + content_length(&self.0[..head]);
            if self.0.len() < length {
                return messages;
            }
            messages.push(self.0.drain(..length).collect());
        }
    }
}

/// How long everything up to and with the blank line is.
fn head_of(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|end| end + 4)
}

/// What the first Content-Length says; nothing where there is none, or none that is a number.
fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length";
    let line = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        let value = std::str::from_utf8(value).ok()?.trim().strip_prefix(':')?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let text = Text::request("INVITE", "sip:1002@voice.example")
            .with("Via", "SIP/2.0/UDP 192.168.77.10:5060;branch=z9hG4bKx;rport")
            .with("From", "\"A\" <sip:1001@voice.example>;tag=a")
            .with("CSeq", "7 INVITE")
            .with_body("text/plain", "hello".into());
        let read = Text::parse(text.render().as_bytes()).unwrap();
        assert_eq!(
            (read.method(), read.branch(), read.from_tag(), read.cseq()),
            ("INVITE", "z9hG4bKx", "a", 7)
        );
        assert_eq!(read.sent_by(), "192.168.77.10:5060");
        assert_eq!(read.body, "hello");
        let mut stream = Stream::default();
        let bytes = text.render().repeat(2);
        let (first, rest) = bytes.as_bytes().split_at(100);
        assert!(stream.push(first).is_empty());
        assert_eq!(stream.push(rest).len(), 2);
        assert_eq!(content_length(b"A: 1\r\nCONTENT-LENGTH : 7\r\n\r\n"), 7);
        assert_eq!(content_length(b"A: 1\r\nX-Content-Length: 7\r\n\r\n"), 0);
        assert_eq!(Text::parse(b"INVITE sip:a SIP/2.0\r\nno header\r\n\r\n"), None);
        assert_eq!(Text::parse(b"INVITE sip:a\r\nA: SIP/2.0\r\n\r\n"), None);
        assert_eq!(address_of("sip:a@10.0.0.1;transport=tcp"), Some("10.0.0.1:5060".parse().unwrap()));
        assert_eq!(user_of(uri_of("\"x\" <sip:2001@a>;tag=1")), "2001");
    }
}
