//! SIP as text, taken apart naively and put together by hand: the witness that shares no code with the product.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use md5::{Digest, Md5};

static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A value that no other message of this run has, for branches, tags and Call-IDs.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A received message, as text.
#[derive(Clone, PartialEq, Eq)]
pub struct RawMessage(pub String);

impl RawMessage {
    /// The first line.
    pub fn start_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    /// The code of an answer, 0 for a request.
    pub fn status(&self) -> u16 {
        let code = self.start_line().strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The method of a request, else nothing.
    pub fn method(&self) -> &str {
        if self.status() != 0 { "" } else { self.start_line().split(' ').next().unwrap_or_default() }
    }

    /// The address that a request is for.
    pub fn request_uri(&self) -> &str {
        self.start_line().split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a header, in order, whole.
    pub fn values(&self, name: &str) -> Vec<String> {
        let head = self.0.split("\r\n\r\n").next().unwrap_or_default();
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(found, _)| found.trim().eq_ignore_ascii_case(name))
            .map(|(_, it)| it.trim().to_owned())
            .collect()
    }

    /// The first value of a header.
    #[track_caller]
    pub fn value(&self, name: &str) -> String {
        self.values(name).into_iter().next().unwrap_or_else(|| panic!("no {name} in\n{self:?}"))
    }

    /// The tag of From or To.
    pub fn tag(&self, name: &str) -> Option<String> {
        parameter(&self.value(name), "tag")
    }

    /// The address within a name-addr header such as Contact.
    #[track_caller]
    pub fn uri_of(&self, name: &str) -> String {
        let value = self.value(name);
        let inner = value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(uri, _)| uri);
        inner.unwrap_or_else(|| value.split(';').next().unwrap_or_default()).to_owned()
    }

    /// What follows the headers.
    pub fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// The message without what may differ between two that are alike: branch, tags, Call-ID, CSeq, nonce,
    /// opaque, and these words, which are the client's own.
    pub fn template(&self, own: &[&str]) -> String {
        let mut lines = Vec::new();
        for line in self.0.lines() {
            let mut line = line.to_owned();
            if line.starts_with("Call-ID:") || line.starts_with("CSeq:") {
                line.truncate(line.find(':').unwrap_or(line.len()) + 1);
            }
            for parameter in ["branch=", "tag=", "nonce=\"", "opaque=\""] {
                if let Some(at) = line.find(parameter) {
                    let begin = at + parameter.len();
                    let rest = &line[begin..];
                    let length = rest.find([';', '"', '>', ',', ' ']).unwrap_or(rest.len());
                    line.replace_range(begin..begin + length, "_");
                }
            }
            for word in own {
                line = line.replace(word, "_");
            }
            lines.push(line);
        }
        lines.join("\n")
    }
}

impl fmt::Debug for RawMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A parameter of a header's value, without quotes.
pub fn parameter(value: &str, name: &str) -> Option<String> {
    let after = value.rsplit_once('>').map_or(value, |(_, after)| after);
    let found = after.split([';', ',']).filter_map(|part| part.trim().split_once('='));
    found
        .into_iter()
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, it)| it.trim_matches('"').to_owned())
}

/// A message that is being written.
#[derive(Clone, Debug)]
pub struct Draft {
    start: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Draft {
    /// A request outside a dialog, with all that it needs but a Via: the phone that sends it adds that.
    pub fn request(method: &str, uri: &str, from: &str, to: &str) -> Self {
        let mut draft =
            Self { start: format!("{method} {uri} SIP/2.0"), headers: Vec::new(), body: String::new() };
        draft.set("Max-Forwards", "70");
        draft.set("From", &format!("<{from}>;tag={}", unique("f")));
        draft.set("To", &format!("<{to}>"));
        draft.set("Call-ID", &unique("call-"));
        draft.set("CSeq", &format!("1 {method}"));
        draft
    }

    /// REGISTER of an extension in a domain.
    pub fn register(extension: &str, domain: &str, contact: &str, expires: u32) -> Self {
        let aor = format!("sip:{extension}@{domain}");
        let mut draft = Self::request("REGISTER", &format!("sip:{domain}"), &aor, &aor);
        draft.set("Contact", &format!("<{contact}>"));
        draft.set("Expires", &expires.to_string());
        draft
    }

    /// An INVITE of an extension in a domain, with an offer.
    pub fn invite(extension: &str, callee: &str, domain: &str, contact: &str, sdp: &str) -> Self {
        let callee = format!("sip:{callee}@{domain}");
        let mut draft = Self::request("INVITE", &callee, &format!("sip:{extension}@{domain}"), &callee);
        draft.set("Contact", &format!("<{contact}>"));
        draft.sdp(sdp);
        draft
    }

    /// ACK of a refusal, or CANCEL, of this INVITE: to be sent with its Via.
    #[must_use]
    pub fn same_transaction(&self, method: &str, to: &str) -> Self {
        let uri = self.start.split(' ').nth(1).unwrap_or_default();
        let mut draft = Self::request(method, uri, "sip:a@b", "sip:a@b");
        let number = self.get("CSeq").split(' ').next().unwrap_or_default();
        draft.set("From", self.get("From")).set("To", to).set("Call-ID", self.get("Call-ID"));
        draft.set("CSeq", &format!("{number} {method}"));
        draft
    }

    /// An answer to a request: its Via, From, To, Call-ID, CSeq and Record-Route, the To with a tag.
    pub fn answer(request: &RawMessage, status: u16, reason: &str, tag: &str) -> Self {
        let mut draft =
            Self { start: format!("SIP/2.0 {status} {reason}"), headers: Vec::new(), body: String::new() };
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in request.values(name) {
                let tagged = name == "To" && parameter(&value, "tag").is_none() && status > 100;
                draft
                    .headers
                    .push((name.to_owned(), if tagged { format!("{value};tag={tag}") } else { value }));
            }
        }
        draft
    }

    /// Replaces a header, or adds it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.headers.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Adds a header on top: a Via.
    pub fn push_front(&mut self, name: &str, value: &str) -> &mut Self {
        self.headers.insert(0, (name.to_owned(), value.to_owned()));
        self
    }

    /// Adds one more header at the end.
    pub fn push(&mut self, name: &str, value: &str) -> &mut Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a header out.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.headers.retain(|(found, _)| found != name);
        self
    }

    /// A session description as body.
    pub fn sdp(&mut self, sdp: &str) -> &mut Self {
        self.body("application/sdp", sdp)
    }

    /// A body of any type.
    pub fn body(&mut self, content_type: &str, body: &str) -> &mut Self {
        self.set("Content-Type", content_type);
        body.clone_into(&mut self.body);
        self
    }

    /// A header that was set.
    #[track_caller]
    pub fn get(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("the draft has no {name}"))
    }

    /// Makes it the next request of its series: CSeq one higher.
    pub fn follow_up(&mut self) -> &mut Self {
        let (number, method) = self.get("CSeq").split_once(' ').expect("a CSeq has two parts");
        let next = format!("{} {method}", number.parse::<u32>().expect("a CSeq has a number") + 1);
        self.set("CSeq", &next)
    }

    /// Answers a digest challenge (RFC 7616 with MD5, `qop=auth` or none).
    pub fn authorize(&mut self, challenge: &RawMessage, user: &str, password: &str) -> &mut Self {
        let (asked, answer) = match challenge.status() {
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => ("WWW-Authenticate", "Authorization"),
        };
        let asked = challenge.value(asked);
        let (_, parameters) = asked.split_once(' ').expect("a challenge has a scheme and parameters");
        let of = |name| parameter(parameters, name);
        let (realm, nonce) = (of("realm").expect("a realm"), of("nonce").expect("a nonce"));
        let mut words = self.start.split(' ');
        let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
        let secret = md5_hex(&format!("{user}:{realm}:{password}"));
        let target = md5_hex(&format!("{method}:{uri}"));
        let (response, more) = match of("qop") {
            Some(_) => {
                let cnonce = unique("c");
                let response = md5_hex(&format!("{secret}:{nonce}:00000001:{cnonce}:auth:{target}"));
                (response, format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\""))
            }
            None => (md5_hex(&format!("{secret}:{nonce}:{target}")), String::new()),
        };
        let opaque = of("opaque").map(|opaque| format!(", opaque=\"{opaque}\"")).unwrap_or_default();
        let value = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm=MD5{opaque}{more}"
        );
        self.set(answer, &value)
    }

    /// The bytes.
    pub fn text(&self) -> String {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.headers.iter().any(|(name, _)| name == "Content-Length") {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text + "\r\n" + &self.body
    }
}

/// An offer or answer of one audio stream, PCMU.
pub fn audio_sdp(address: &str, port: u16) -> String {
    let family = if address.contains(':') { "IP6" } else { "IP4" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
    )
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_as_in_rfc_2069_and_2617() {
        let challenge = "SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"testrealm@host.com\", \
                         nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"\r\n\r\n";
        let mut draft = Draft::request("GET", "/dir/index.html", "sip:a@b", "sip:a@b");
        draft.authorize(&RawMessage(challenge.to_owned()), "Mufasa", "Circle Of Life");
        let answer = parameter(draft.get("Authorization"), "response");
        // RFC 2617 without qop (its own erratum computes this value for RFC 2069's rule).
        assert_eq!(answer.as_deref(), Some("670fd8c2df070c60b045671b8b24ff02"));
    }

    #[test]
    fn two_refusals_that_differ_in_their_own_words_have_one_template() {
        let refusal = |branch, name| {
            RawMessage(format!(
                "SIP/2.0 403 Forbidden\r\nVia: SIP/2.0/TLS a;branch={branch};rport=1\r\nTo: <sip:{name}@d>;tag={branch}\r\n\r\n"
            ))
        };
        assert_eq!(refusal("z1", "1001").template(&["1001"]), refusal("z2", "9999").template(&["9999"]));
        assert_ne!(refusal("z1", "1001").template(&[]), refusal("z1", "9999").template(&[]));
    }
}
