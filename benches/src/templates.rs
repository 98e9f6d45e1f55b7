//! SIP as byte templates: what a phone says, and what a PBX answers.
//!
//! Written from the RFC's text with `format!`, never with our own parser or writer: cheap beside the border,
//! and no witness in its own cause. RFC 3261 §24, RFC 7616.

use std::net::SocketAddr;

/// The public domain of the extensions.
pub const DOMAIN: &str = "voice.example";

/// The tag of every party behind the PBX.
const PBX_TAG: &str = "as5d0c7f31";
const CHALLENGE: &str = "WWW-Authenticate: Digest realm=\"voice.example\", qop=\"auth\", algorithm=MD5, \
    nonce=\"Zc0ffee1beef5a17d00dfeed900dcafe\"\r\n";
/// What the Call-ID of a phone's registrations begins with; its extension follows.
pub const REGISTRATION: &str = "6f1c2b9e-7d20-4c1a-";
/// What the Call-ID of a call begins with; its number follows.
pub const CALL: &str = "0b6c1f9e-33a1-4d57-";

/// One phone's words: who it is and where it is.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Its extension's name.
    pub extension: String,
    /// Its address and port, as it writes them itself.
    pub authority: String,
    /// How it speaks to us: `TLS`, or `UDP` for one that answers the PBX's challenges itself.
    pub transport: &'static str,
}

/// What a phone answered to an earlier challenge, sent again before it is asked (RFC 7616 §3.6).
const CREDENTIALS: &str = "Authorization: Digest username=\"10000\", realm=\"voice.example\", \
    nonce=\"Zc0ffee1beef5a17d00dfeed900dcafe\", uri=\"sip:voice.example\", qop=auth, nc=00000002, \
    cnonce=\"5d41402abc4b2a76\", response=\"7b8f5a3c9d2e1f60718293a4b5c6d7e8\", algorithm=MD5\r\n";

impl Speaker {
    /// REGISTER for `expires` seconds; 0 ends the registration.
    pub fn register(&self, cseq: u32, expires: u32) -> Vec<u8> {
        let Self { extension, authority, transport } = self;
        let credentials = if *transport == "UDP" { CREDENTIALS } else { "" };
        let uri_transport = self.uri_transport();
        format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {authority};rport;branch=z9hG4bKr{extension}x{cseq}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{extension}@{DOMAIN}>;tag=reg{extension}\r\n\
             To: <sip:{extension}@{DOMAIN}>\r\n\
             Call-ID: {REGISTRATION}{extension}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{extension}@{authority}{uri_transport}>;expires={expires}\r\n\
             {credentials}\
             Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER, INFO, UPDATE, PRACK, MESSAGE\r\n\
             Supported: replaces, timer\r\n\
             User-Agent: DeskPhone/4.2\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    /// INVITE of 2000, some 850 bytes with its offer. `call` makes it unlike every other.
    pub fn invite(&self, call: u64) -> Vec<u8> {
        let host = self.authority.split(':').next().unwrap_or_default();
        self.invite_to_hear_at(call, &format!("{host}:4002"))
    }

    /// The same, with the media end named as `HOST:PORT`.
    pub fn invite_to_hear_at(&self, call: u64, media: &str) -> Vec<u8> {
        let (host, port) = media.split_once(':').unwrap_or_default();
        let extension = &self.extension;
        let sdp = format!(
            "v=0\r\no={extension} 3841 3841 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 9 8 0 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
             a=ptime:20\r\na=sendrecv\r\n"
        );
        self.invite_with(call, "Content-Type: application/sdp\r\n", &sdp)
    }

    /// INVITE without an offer.
    pub fn bare_invite(&self, call: u64) -> Vec<u8> {
        self.invite_with(call, "", "")
    }

    fn invite_with(&self, call: u64, content_type: &str, body: &str) -> Vec<u8> {
        let Self { extension, authority, .. } = self;
        let head = self.head("INVITE", &format!("sip:2000@{DOMAIN}"), call, 1, "");
        format!(
            "{head}\
             Contact: <sip:{extension}@{authority}{}>\r\n\
             Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER, INFO, UPDATE, PRACK, MESSAGE\r\n\
             Supported: replaces, timer\r\n\
             Session-Expires: 1800\r\n\
             Min-SE: 90\r\n\
             Accept: application/sdp\r\n\
             User-Agent: DeskPhone/4.2\r\n\
             {content_type}\
             Content-Length: {}\r\n\r\n{body}",
            self.uri_transport(),
            body.len()
        )
        .into_bytes()
    }

    fn uri_transport(&self) -> &'static str {
        if self.transport == "UDP" { "" } else { ";transport=tls" }
    }

    /// ACK or BYE in the dialog that this 200 confirmed, by the way that it recorded (RFC 3261 §12.1.2).
    pub fn in_dialog(&self, method: &str, cseq: u32, call: u64, ok: &str) -> Vec<u8> {
        let target = between(ok, "\r\nContact: <", ">").unwrap_or_default();
        let tag = between(ok, "\r\nTo: ", "\r\n").and_then(|to| to.split_once(";tag=")).map(|(_, tag)| tag);
        let tag = format!(";tag={}", tag.unwrap_or_default());
        let head = self.head(method, target, call, cseq, &tag);
        let recorded: Vec<&str> =
            ok.split("\r\n").filter_map(|line| line.strip_prefix("Record-Route: ")).collect();
        let route: String = recorded.iter().rev().map(|way| format!("Route: {way}\r\n")).collect();
        format!("{head}{route}Content-Length: 0\r\n\r\n").into_bytes()
    }

    fn head(&self, method: &str, uri: &str, call: u64, cseq: u32, to_tag: &str) -> String {
        let Self { extension, authority, transport } = self;
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {authority};rport;branch=z9hG4bK{method}{call:x}\r\n\
             Max-Forwards: 70\r\n\
             From: \"Anna Example\" <sip:{extension}@{DOMAIN}>;tag=7f3b{call:x}\r\n\
             To: <sip:2000@{DOMAIN}>{to_tag}\r\n\
             Call-ID: {CALL}{call:016x}\r\n\
             CSeq: {cseq} {method}\r\n"
        )
    }
}

/// A PBX: where it is, where its parties hear, and whether it asks for credentials.
#[derive(Clone, Copy, Debug)]
pub struct PbxWords {
    /// What its Contact names.
    pub address: SocketAddr,
    /// What its answers to offers name.
    pub media: SocketAddr,
    /// Whether a REGISTER without credentials is challenged.
    pub challenges: bool,
}

impl PbxWords {
    /// What it answers: a REGISTER is taken, once it has credentials where they are asked for; so is a call.
    pub fn answers(&self, request: &str) -> Vec<Vec<u8>> {
        match request.split(' ').next().unwrap_or_default() {
            "REGISTER" => match between(request, "\r\nContact: ", "\r\n") {
                _ if self.challenges && !request.contains("\r\nAuthorization: ") => {
                    vec![response(request, "401 Unauthorized", CHALLENGE, "")]
                }
                Some(contact) => vec![response(request, "200 OK", &format!("Contact: {contact}\r\n"), "")],
                None => vec![response(request, "200 OK", "", "")],
            },
            "INVITE" => {
                let contact = format!("Contact: <sip:2000@{}>\r\n", self.address);
                let (media, sdp) = if request.contains("\r\n\r\nv=0") {
                    (format!("{contact}Content-Type: application/sdp\r\n"), self.sdp())
                } else {
                    (contact.clone(), String::new())
                };
                vec![
                    response(request, "100 Trying", "", ""),
                    response(request, "180 Ringing", &contact, ""),
                    response(request, "200 OK", &media, &sdp),
                ]
            }
            "ACK" => Vec::new(),
            _ => vec![response(request, "200 OK", "", "")],
        }
    }

    fn sdp(&self) -> String {
        let (host, port) = (self.media.ip(), self.media.port());
        format!(
            "v=0\r\no=pbx 71 71 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-16\r\na=sendrecv\r\n"
        )
    }
}

/// A response with what it repeats of the request (RFC 3261 §8.2.6.2, §12.1.1; RFC 3327 §5).
pub fn response(request: &str, status: &str, more: &str, body: &str) -> Vec<u8> {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for line in request.split("\r\n").skip(1).take_while(|line| !line.is_empty()) {
        let repeated = ["Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: ", "Record-Route: ", "Path: "];
        if !repeated.iter().any(|name| line.starts_with(name)) {
            continue;
        }
        text.push_str(line);
        if line.starts_with("To: ") && !line.contains(";tag=") && !status.starts_with("100") {
            text.push_str(";tag=");
            text.push_str(PBX_TAG);
        }
        text.push_str("\r\n");
    }
    text.push_str(more);
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}

/// What stands in `text` between these two, the first time.
pub fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}
