//! The SIP of a phone: registers, calls, answers, hangs up (RFC 3261 §8, §10, §13, §15).
//!
//! Speaks rsip's messages on a stream of its own. Does one thing at a time, as its user does; what comes meanwhile waits. Never retransmits: streams do that (RFC 3261 §17).

mod attend;
mod dialog;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use rsip::{Header, Method, Request, Response, SipMessage, Version};
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use dialog::{Dialog, Incoming};

use crate::fault::{Fault, within};
use crate::link::Link;
use crate::message::{answer, branch, call_id, cseq, parse_uri, token};

/// Requests that may wait until somebody asks for them.
const WAITING_MAX: usize = 32;

/// Who a phone is.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its extension.
    pub number: String,
    /// The PBX's domain.
    pub domain: String,
    /// The six bytes of its certificate.
    pub hardware_id: String,
}

/// A user agent on its connection.
#[derive(Debug)]
pub(crate) struct UserAgent<S> {
    owner: Owner,
    link: Link<S>,
    /// Its end of the connection.
    local: SocketAddr,
    /// Call-ID and tag of its registration.
    registration: (String, String),
    registered: u32,
    waiting: VecDeque<Request>,
}

/// What every request of a dialog, or of none, has.
struct Outline<'a> {
    method: Method,
    uri: &'a str,
    from: String,
    to: String,
    call_id: &'a str,
    number: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> UserAgent<S> {
    /// One that has connected.
    pub(crate) fn new(owner: Owner, stream: S, local: SocketAddr) -> Result<Self, Fault> {
        let registration = (token()?, token()?);
        let link = Link::new(stream);
        Ok(Self { owner, link, local, registration, registered: 0, waiting: VecDeque::new() })
    }

    /// Who it is.
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Its address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.local.ip()
    }

    /// Registers, for so many seconds; with none, it takes its registration back. Gives the answer.
    pub(crate) async fn register(&mut self, expires: u32) -> Result<Response, Fault> {
        self.registered += 1;
        let Owner { number, domain, .. } = &self.owner;
        let aor = format!("<sip:{number}@{domain}>");
        let (id, tag) = self.registration.clone();
        let outline = Outline {
            method: Method::Register,
            uri: &format!("sip:{domain}"),
            from: format!("{aor};tag={tag}"),
            to: aor,
            call_id: &id,
            number: self.registered,
        };
        let mut request = self.request(outline, &branch()?)?;
        let instance = format!("urn:uuid:00000000-0000-1000-8000-{}", self.owner.hardware_id);
        let contact = format!("{};+sip.instance=\"<{instance}>\";reg-id=1", self.contact());
        request.headers.push(Header::Contact(contact.into()));
        request.headers.push(Header::Expires(expires.into()));
        request.headers.push(Header::Supported("path, outbound".into()));
        self.link.send([request.into()]).await?;
        within("an answer to REGISTER", self.final_answer(&id, self.registered)).await
    }

    /// Shows the frontend that it is there.
    pub(crate) async fn ping(&mut self) -> Result<(), Fault> {
        self.link.ping().await
    }

    /// The next request that wants something of it.
    pub(crate) async fn next_request(&mut self) -> Result<Request, Fault> {
        loop {
            if let Some(request) = self.waiting.pop_front() {
                return Ok(request);
            }
            if let SipMessage::Request(request) = self.link.receive().await? {
                return Ok(request);
            }
        }
    }

    /// Answers a request.
    pub(crate) async fn respond(&mut self, request: &Request, status: (u16, &str)) -> Result<(), Fault> {
        let response = answer(request, status, &self.registration.1);
        self.link.send([response.into()]).await
    }

    /// The final answer to a request of ours.
    async fn final_answer(&mut self, id: &str, number: u32) -> Result<Response, Fault> {
        loop {
            let response = self.next_final_answer().await?;
            if call_id(&response) == id && cseq(&response).is_some_and(|(of, _)| of == number) {
                return Ok(response);
            }
        }
    }

    /// The next final answer to anything; requests that come before it wait.
    async fn next_final_answer(&mut self) -> Result<Response, Fault> {
        loop {
            match self.link.receive().await? {
                SipMessage::Response(response) if response.status_code.code() >= 200 => return Ok(response),
                SipMessage::Response(_) => {}
                SipMessage::Request(request) if self.waiting.len() < WAITING_MAX => {
                    self.waiting.push_back(request);
                }
                SipMessage::Request(_) => return Err(Fault::unlike("more requests came than a phone takes")),
            }
        }
    }

    fn request(&self, outline: Outline<'_>, branch: &str) -> Result<Request, Fault> {
        let Outline { method, uri, from, to, call_id, number } = outline;
        let headers = vec![
            Header::Via(format!("SIP/2.0/TLS {};branch={branch};rport", self.local).into()),
            Header::MaxForwards(70.into()),
            Header::From(from.into()),
            Header::To(to.into()),
            Header::CallId(call_id.into()),
            Header::CSeq(format!("{number} {method}").into()),
            Header::UserAgent("Portcullis lab phone".into()),
        ];
        let uri = parse_uri(uri)?;
        Ok(Request { method, uri, version: Version::V2, headers: headers.into(), body: Vec::new() })
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{};transport=tls>", self.owner.number, self.local)
    }
}

#[cfg(test)]
mod tests;
