//! The PBX without its socket and its clock: one datagram in, at most one out.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rsip::headers::UntypedHeader;
use rsip::message::HasHeaders;
use rsip::{Header, Method, Request, SipMessage};
use tokio::time::Instant;

use super::digest::Challenge;
use super::journal::Journal;
use super::registrar::Registrar;
use crate::fault::Fault;
use crate::message::{self, answer, decode, encode, parameter};

/// An extension of the PBX.
#[derive(Clone)]
pub struct Account {
    /// Its number, and user name.
    pub number: String,
    /// Its digest password: why an account is not `Debug`.
    pub password: String,
}

/// Everything that the PBX knows.
pub(crate) struct Exchange {
    pub(super) address: SocketAddr,
    pub(super) domain: String,
    pub(super) registrar: Registrar,
    pub(super) journal: Journal,
    pub(super) tag: String,
    challenge: Challenge,
    passwords: BTreeMap<String, String>,
}

/// Where to, and what.
pub(crate) type Outgoing = Option<(SocketAddr, Vec<u8>)>;

impl Exchange {
    /// `address` is its own.
    pub(crate) fn new(address: SocketAddr, domain: &str, accounts: Vec<Account>) -> Result<Self, Fault> {
        Ok(Self {
            address,
            domain: domain.to_owned(),
            registrar: Registrar::default(),
            journal: Journal::default(),
            tag: message::token()?,
            challenge: Challenge::new(domain, message::token()?),
            passwords: accounts.into_iter().map(|account| (account.number, account.password)).collect(),
        })
    }

    /// What it saw up to now.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Reacts to a datagram; what is no SIP is passed over.
    pub(crate) fn on_datagram(&mut self, bytes: &[u8], from: SocketAddr, now: Instant) -> Outgoing {
        match decode(bytes) {
            Ok(SipMessage::Request(request)) => self.on_request(received(request, from), from, now),
            Ok(SipMessage::Response(response)) => self.pass_back(response),
            Err(error) => {
                tracing::debug!(%error, %from, "the PBX of the lab got something else than SIP");
                None
            }
        }
    }

    fn on_request(&mut self, request: Request, from: SocketAddr, now: Instant) -> Outgoing {
        let is_ours = parameter(message::to(&request), "tag") == Some(&*self.tag);
        match request.method {
            // Of an answer that was our own: RFC 3261 §8.2.7.
            Method::Ack if is_ours => None,
            Method::Register => Some((from, encode(self.on_register(&request, now)))),
            Method::Options if self.is_for_us(&request) => {
                Some((from, encode(answer(&request, (200, "OK"), &self.tag))))
            }
            _ => self.forward(request, from, now),
        }
    }

    /// Whose request it is; otherwise the answer that asks for proof.
    pub(super) fn prove(&self, request: &Request, proxy: bool) -> Result<String, rsip::Response> {
        let credentials = request.headers().iter().filter_map(|header| match header {
            Header::Authorization(value) if !proxy => Some(value.value()),
            Header::ProxyAuthorization(value) if proxy => Some(value.value()),
            _ => None,
        });
        let method = request.method.to_string();
        let password_of = |user: &str| self.passwords.get(user).map(String::as_str);
        let mut proved = credentials.filter_map(|text| self.challenge.verify(text, &method, password_of));
        if let Some(user) = proved.next() {
            return Ok(user.to_owned());
        }
        let challenge = self.challenge.header();
        let status = if proxy { (407, "Proxy Authentication Required") } else { (401, "Unauthorized") };
        let mut response = answer(request, status, &self.tag);
        response.headers.push(if proxy {
            Header::ProxyAuthenticate(challenge.into())
        } else {
            Header::WwwAuthenticate(challenge.into())
        });
        Err(response)
    }

    /// Whether the PBX has such an extension.
    pub(super) fn has(&self, number: &str) -> bool {
        self.passwords.contains_key(number)
    }

    /// Whether a host and port of a URI are this PBX.
    pub(super) fn is_our_host(&self, uri: &rsip::Uri) -> bool {
        let host = uri.host().to_string();
        let port = uri.port().map_or(5060, |port| *port.value());
        host.eq_ignore_ascii_case(&self.domain)
            || (host == self.address.ip().to_string() && port == self.address.port())
    }

    fn is_for_us(&self, request: &Request) -> bool {
        request.uri.user().is_none() && self.is_our_host(&request.uri)
    }
}

/// The request with its sender's true address in the topmost Via (RFC 3261 §18.2.1, RFC 3581 §4).
fn received(mut request: Request, from: SocketAddr) -> Request {
    if let Some(Header::Via(via)) = request.headers.iter_mut().find(|header| matches!(header, Header::Via(_)))
    {
        let (ip, port) = (from.ip(), from.port());
        let mut items = message::split_list(via.value());
        let first = items.next().unwrap_or_default();
        let kept = first.split(';').filter(|parameter| {
            let name = parameter.split('=').next().unwrap_or_default().trim();
            !["rport", "received"].iter().any(|known| name.eq_ignore_ascii_case(known))
        });
        let first = kept.collect::<Vec<_>>().join(";");
        let mut list = vec![format!("{first};received={ip};rport={port}")];
        list.extend(items.map(str::to_owned));
        via.replace(list.join(", "));
    }
    request
}

#[cfg(test)]
mod tests;
