//! Calls of a phone: the dialog from INVITE to BYE (RFC 3261 §12, §13, §15).

use rsip::message::HasHeaders;
use rsip::{Header, Headers, Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Outline, Owner, UserAgent};
use crate::answer::Answer;
use crate::fault::{Fault, within};
use crate::message::{self, answer, branch, call_id, token, uri_of, values};

/// A call that is up.
#[derive(Debug)]
pub(crate) struct Dialog {
    call_id: String,
    /// Our From, with its tag.
    local: String,
    /// The other's To, with its tag.
    remote: String,
    target: String,
    /// As it stands in Route.
    routes: Vec<String>,
    number: u32,
    /// How the other describes his media.
    pub remote_media: Vec<u8>,
    /// The whole message that brought it.
    pub message: String,
}

/// A call that rings.
#[derive(Debug)]
pub(crate) struct Incoming {
    request: Request,
    tag: String,
}

/// An INVITE under way: what is needed for its ACK.
struct Attempt {
    request: Request,
    branch: String,
    id: String,
    local: String,
}

impl Incoming {
    /// Whether it wants anything else than a call.
    pub(crate) fn read(request: Request) -> Result<Self, Fault> {
        if request.method != Method::Invite {
            return Err(Fault::unlike(format!("a {} came instead of a call", request.method)));
        }
        Ok(Self { request, tag: token()? })
    }

    /// Tells it from other calls.
    pub(crate) fn call_id(&self) -> &str {
        call_id(&self.request)
    }

    /// How the caller describes his media.
    pub(crate) fn offer(&self) -> &[u8] {
        &self.request.body
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> UserAgent<S> {
    /// Calls a number and waits until it is picked up.
    pub(crate) async fn call(&mut self, number: &str, offer: &str) -> Result<Dialog, Fault> {
        let attempt = self.attempt(number, offer)?;
        self.link.send([attempt.request.clone().into()]).await?;
        let waits = self.final_answer(&attempt.id, 1);
        let response = within(format!("an answer to the call to {number}"), waits).await?;
        self.acknowledge(&attempt, &response).await?;
        if response.status_code.code() >= 300 {
            return Err(Fault::unlike(format!("the call to {number} got {}", Answer::from(&response))));
        }
        dialog_as_caller(&attempt, &response)
    }

    /// Calls a number so many times at once; the final answers, in the order of the calls.
    pub(crate) async fn burst(
        &mut self,
        number: &str,
        times: usize,
        offer: &str,
    ) -> Result<Vec<Response>, Fault> {
        let attempts: Result<Vec<Attempt>, Fault> = (0..times).map(|_| self.attempt(number, offer)).collect();
        let attempts = attempts?;
        self.link.send(attempts.iter().map(|attempt| attempt.request.clone().into())).await?;
        let mut answers: Vec<Option<Response>> = attempts.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            let response = within("an answer to each call", self.next_final_answer()).await?;
            let found =
                attempts.iter().zip(&mut answers).find(|(attempt, _)| attempt.id == call_id(&response));
            let Some((attempt, place)) = found else { continue };
            self.acknowledge(attempt, &response).await?;
            *place = Some(response);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Waits for a call and lets it ring.
    pub(crate) async fn ring(&mut self) -> Result<Incoming, Fault> {
        let request = within("a call", self.next_request()).await?;
        let incoming = Incoming::read(request)?;
        let mut ringing = answer(&incoming.request, (180, "Ringing"), &incoming.tag);
        ringing.headers.push(Header::Contact(self.contact().into()));
        self.link.send([ringing.into()]).await?;
        Ok(incoming)
    }

    /// Picks up, and waits for the caller's ACK.
    pub(crate) async fn pick_up(&mut self, incoming: Incoming, description: &str) -> Result<Dialog, Fault> {
        let response = self.accept(&incoming, description).await?;
        let Incoming { request, .. } = incoming;
        let ack = within("the ACK of the call", self.next_request()).await?;
        if ack.method != Method::Ack || call_id(&ack) != call_id(&request) {
            return Err(Fault::unlike(format!("a {} came instead of the ACK", ack.method)));
        }
        dialog_as_callee(&request, &response)
    }

    /// Answers that the call is taken; the ACK comes as any request does.
    pub(crate) async fn accept(&mut self, incoming: &Incoming, description: &str) -> Result<Response, Fault> {
        let mut response = answer(&incoming.request, (200, "OK"), &incoming.tag);
        response.headers.push(Header::Contact(self.contact().into()));
        response.headers.push(Header::ContentType("application/sdp".into()));
        response.body = description.as_bytes().to_vec();
        self.link.send([response.clone().into()]).await?;
        Ok(response)
    }

    /// Refuses a call.
    pub(crate) async fn refuse(&mut self, incoming: Incoming, status: (u16, &str)) -> Result<(), Fault> {
        let response = answer(&incoming.request, status, &incoming.tag);
        self.link.send([response.into()]).await
    }

    /// Hangs up.
    pub(crate) async fn hang_up(&mut self, dialog: Dialog) -> Result<(), Fault> {
        let number = dialog.number + 1;
        let bye = self.in_dialog(&dialog, Method::Bye, number)?;
        self.link.send([bye.into()]).await?;
        let response = within("an answer to BYE", self.final_answer(&dialog.call_id, number)).await?;
        match response.status_code.code() {
            200..300 => Ok(()),
            _ => Err(Fault::unlike(format!("BYE got {}", Answer::from(&response)))),
        }
    }

    /// Waits until the other hangs up.
    pub(crate) async fn hear_hanging_up(&mut self, dialog: &Dialog) -> Result<(), Fault> {
        let request = within("the other's BYE", self.next_request()).await?;
        if request.method != Method::Bye || call_id(&request) != dialog.call_id {
            return Err(Fault::unlike(format!("a {} came instead of a BYE", request.method)));
        }
        self.respond(&request, (200, "OK")).await
    }

    fn attempt(&self, number: &str, offer: &str) -> Result<Attempt, Fault> {
        let Owner { number: own, domain, .. } = &self.owner;
        let (id, branch) = (token()?, branch()?);
        let uri = format!("sip:{number}@{domain}");
        let local = format!("<sip:{own}@{domain}>;tag={}", token()?);
        let outline = Outline {
            method: Method::Invite,
            uri: &uri,
            from: local.clone(),
            to: format!("<{uri}>"),
            call_id: &id,
            number: 1,
        };
        let mut request = self.request(outline, &branch)?;
        request.headers.push(Header::Contact(self.contact().into()));
        request.headers.push(Header::Allow("INVITE, ACK, CANCEL, BYE, OPTIONS".into()));
        request.headers.push(Header::ContentType("application/sdp".into()));
        request.body = offer.as_bytes().to_vec();
        Ok(Attempt { request, branch, id, local })
    }

    /// The ACK of a final answer: part of the dialog after a 2xx, of the transaction otherwise.
    async fn acknowledge(&mut self, attempt: &Attempt, response: &Response) -> Result<(), Fault> {
        let ack = if response.status_code.code() < 300 {
            let dialog = dialog_as_caller(attempt, response)?;
            self.in_dialog(&dialog, Method::Ack, dialog.number)?
        } else {
            let uri = attempt.request.uri.to_string();
            let outline = Outline {
                method: Method::Ack,
                uri: &uri,
                from: attempt.local.clone(),
                to: message::to(response).to_owned(),
                call_id: &attempt.id,
                number: 1,
            };
            self.request(outline, &attempt.branch)?
        };
        self.link.send([ack.into()]).await
    }

    fn in_dialog(&self, dialog: &Dialog, method: Method, number: u32) -> Result<Request, Fault> {
        let outline = Outline {
            method,
            uri: &dialog.target,
            from: dialog.local.clone(),
            to: dialog.remote.clone(),
            call_id: &dialog.call_id,
            number,
        };
        let mut request = self.request(outline, &branch()?)?;
        let routes = dialog.routes.iter().map(|route| Header::Route(route.as_str().into()));
        request.headers.extend(routes.collect());
        Ok(request)
    }
}

fn dialog_as_caller(attempt: &Attempt, response: &Response) -> Result<Dialog, Fault> {
    let mut routes = routes(response.headers());
    routes.reverse();
    Ok(Dialog {
        call_id: attempt.id.clone(),
        local: attempt.local.clone(),
        remote: message::to(response).to_owned(),
        target: target(response.headers())?,
        routes,
        number: 1,
        remote_media: response.body.clone(),
        message: response.to_string(),
    })
}

fn dialog_as_callee(request: &Request, response: &Response) -> Result<Dialog, Fault> {
    Ok(Dialog {
        call_id: call_id(request).to_owned(),
        local: message::to(response).to_owned(),
        remote: message::from(request).to_owned(),
        target: target(request.headers())?,
        routes: routes(request.headers()),
        number: 0,
        remote_media: request.body.clone(),
        message: request.to_string(),
    })
}

fn target(headers: &Headers) -> Result<String, Fault> {
    let contact = values(headers, message::contact).first().map(|contact| uri_of(contact).to_owned());
    contact.ok_or_else(|| Fault::unlike("the other names no contact"))
}

fn routes(headers: &Headers) -> Vec<String> {
    values(headers, message::record_route).into_iter().map(str::to_owned).collect()
}
