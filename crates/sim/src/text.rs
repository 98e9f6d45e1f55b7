//! SIP as the actors know it: lines of text, read and written naively from RFC 3261 §7.
//!
//! Shares no code with `wire` and `sip`, so that a mistake there is not its own witness.

use std::net::SocketAddr;

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
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        start.contains("SIP/2.0").then(|| Self { start, headers, body: body.to_owned() })
    }

    /// As it travels.
    pub fn render(&self) -> String {
        let mut out = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("content-length") {
                out.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        out.push_str(&format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body));
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
    host.parse().ok().or_else(|| Some(SocketAddr::new(host.parse().ok()?, 5060)))
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
            let Some(head) = self.0.windows(4).position(|four| four == b"\r\n\r\n") else { return messages };
            let length = Text::parse(&self.0[..head + 4])
                .and_then(|text| text.header("Content-Length").parse::<usize>().ok())
                .unwrap_or(0);
            if self.0.len() < head + 4 + length {
                return messages;
            }
            messages.push(self.0.drain(..head + 4 + length).collect());
        }
    }
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
        assert_eq!(read.body, "hello");
        let mut stream = Stream::default();
        let bytes = text.render().repeat(2);
        let (first, rest) = bytes.as_bytes().split_at(100);
        assert!(stream.push(first).is_empty());
        assert_eq!(stream.push(rest).len(), 2);
        assert_eq!(address_of("sip:a@10.0.0.1;transport=tcp"), Some("10.0.0.1:5060".parse().unwrap()));
        assert_eq!(user_of(uri_of("\"x\" <sip:2001@a>;tag=1")), "2001");
    }
}
