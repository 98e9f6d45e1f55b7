//! The PBX's proxy, without state (RFC 3261 §16.11): callers prove who they are, calls go to the newest
//! contact of the extension they want, and come back the way they went.

use std::net::{IpAddr, SocketAddr};

use rsip::headers::UntypedHeader;
use rsip::message::{HasHeaders, HeadersExt};
use rsip::{Header, Headers, Method, Request, Response, Uri};
use tokio::time::Instant;

use super::exchange::{Exchange, Outgoing};
use super::journal::CallSeen;
use crate::message::{self, answer, encode, parameter, uri_of, values};
use crate::sdp;

impl Exchange {
    /// Sends a request on its way, or answers it.
    pub(super) fn forward(&mut self, mut request: Request, from: SocketAddr, now: Instant) -> Outgoing {
        let is_ack = request.method == Method::Ack;
        // An ACK is never answered.
        let refuse = |status: (u16, &str), request: &Request| {
            (!is_ack).then(|| (from, encode(answer(request, status, &self.tag))))
        };
        let hops = hops_left(&request);
        if hops == 0 {
            return refuse((483, "Too Many Hops"), &request);
        }
        let is_new_call =
            request.method == Method::Invite && parameter(message::to(&request), "tag").is_none();
        if is_new_call {
            match self.prove(&request, true) {
                Ok(caller) => self.note_call(&request, caller),
                Err(challenge) => return Some((from, encode(challenge))),
            }
        }
        self.leave_our_route(&mut request);
        let next = match self.next_hop(&mut request, now) {
            Ok(next) => next,
            Err(status) => {
                let response = answer(&request, status, &self.tag);
                return (!is_ack).then(|| (from, encode(response)));
            }
        };
        self.sign(&mut request, hops - 1, is_new_call);
        Some((next, encode(request)))
    }

    /// Takes a response back to where its request came from.
    pub(super) fn pass_back(&mut self, mut response: Response) -> Outgoing {
        let vias: Vec<String> =
            values(response.headers(), message::via).into_iter().map(str::to_owned).collect();
        let (ours, rest) = vias.split_first()?;
        if sent_by(ours)? != self.address {
            return None;
        }
        let next = rest.first()?;
        let (host, port) = match (parameter(next, "received"), parameter(next, "rport")) {
            (Some(received), Some(rport)) => (received.parse().ok()?, rport.parse().ok()?),
            _ => sent_by(next).map(|address| (address.ip(), address.port()))?,
        };
        let mut headers = without(response.headers(), |header| matches!(header, Header::Via(_)));
        let mut kept: Vec<Header> = rest.iter().map(|via| Header::Via(via.as_str().into())).collect();
        kept.append(&mut headers);
        response.headers = kept.into();
        Some((SocketAddr::new(host, port), encode(response)))
    }

    fn note_call(&mut self, request: &Request, caller: String) {
        self.journal.note(CallSeen {
            call_id: message::call_id(request).to_owned(),
            caller,
            number: request.uri.user().unwrap_or_default().to_owned(),
            offer: sdp::read(&request.body),
            addresses: sdp::addresses(&request.to_string()),
        });
    }

    /// The topmost Route is ours, where a dialog goes by us: RFC 3261 §16.4.
    fn leave_our_route(&self, request: &mut Request) {
        let routes: Vec<String> =
            values(request.headers(), message::route).into_iter().map(str::to_owned).collect();
        let ours = routes
            .first()
            .is_some_and(|first| message::parse_uri(uri_of(first)).is_ok_and(|uri| self.is_our_host(&uri)));
        if !ours {
            return;
        }
        let mut headers = without(request.headers(), |header| matches!(header, Header::Route(_)));
        headers.extend(routes.into_iter().skip(1).map(|route| Header::Route(route.into())));
        request.headers = headers.into();
    }

    /// Where a request goes next; for an extension of ours it gets the address of a contact.
    fn next_hop(&self, request: &mut Request, now: Instant) -> Result<SocketAddr, (u16, &'static str)> {
        const UNREACHABLE: (u16, &str) = (480, "Temporarily Unavailable");
        if self.is_our_host(&request.uri) {
            let number = request.uri.user().unwrap_or_default();
            if !self.has(number) {
                return Err((404, "Not Found"));
            }
            let contact = self.registrar.contacts(number, now).next().ok_or(UNREACHABLE)?;
            request.uri = message::parse_uri(contact).map_err(|_| UNREACHABLE)?;
        }
        let route = values(request.headers(), message::route).first().map(|route| uri_of(route).to_owned());
        let hop = match route {
            Some(route) => message::parse_uri(&route).map_err(|_| (400, "Bad Request"))?,
            None => request.uri.clone(),
        };
        socket_address(&hop).ok_or(UNREACHABLE)
    }

    /// Our Via, with a branch that the same request gets again, and our Record-Route on a new call.
    fn sign(&self, request: &mut Request, hops: u32, records: bool) {
        let before = values(request.headers(), message::via).first().and_then(|via| parameter(via, "branch"));
        let branch = before.unwrap_or("z9hG4bK").replacen("z9hG4bK", "z9hG4bK-lab-", 1);
        let address = self.address;
        let mut headers = vec![Header::Via(format!("SIP/2.0/UDP {address};branch={branch};rport").into())];
        if records {
            headers.push(Header::RecordRoute(format!("<sip:{address};lr>").into()));
        }
        let replaced = |header: &Header| {
            matches!(header, Header::MaxForwards(_)) || matches!(header, Header::ProxyAuthorization(_))
        };
        headers.append(&mut without(request.headers(), replaced));
        headers.push(Header::MaxForwards(hops.into()));
        request.headers = headers.into();
    }
}

/// Max-Forwards, or its default.
fn hops_left(request: &Request) -> u32 {
    request.max_forwards_header().ok().and_then(|header| header.value().trim().parse().ok()).unwrap_or(70)
}

fn without(headers: &Headers, leave_out: impl Fn(&Header) -> bool) -> Vec<Header> {
    headers.iter().filter(|header| !leave_out(header)).cloned().collect()
}

/// The address in a Via; none where it is a name.
fn sent_by(via: &str) -> Option<SocketAddr> {
    let sent_by = via.split(';').next()?.split_whitespace().last()?;
    let with_port = sent_by.parse::<SocketAddr>().ok();
    with_port.or_else(|| Some(SocketAddr::new(sent_by.parse::<IpAddr>().ok()?, 5060)))
}

/// Where a URI leads; none where its host is a name, which the lab never looks up.
fn socket_address(uri: &Uri) -> Option<SocketAddr> {
    let host = uri.host().to_string().parse::<IpAddr>().ok()?;
    Some(SocketAddr::new(host, uri.port().map_or(5060, |port| *port.value())))
}
