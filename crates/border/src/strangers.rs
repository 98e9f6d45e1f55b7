//! How much room strangers have: transactions and bytes, in all and for each source.
//!
//! A stranger is whoever speaks on the outside without a certificate and without a registration; over UDP
//! his address may be forged. What he can fill must leave room for phones, for the PBX and for ourselves.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sip::{Hop, ServerId};

/// Requests of strangers that may be under way.
const REQUESTS_MAX: usize = 20_000;
/// The same for one source: an office of digest phones that all register at once.
const REQUESTS_OF_SOURCE_MAX: u32 = 1_000;
/// Bytes of all these requests; each is kept with an answer of about its size.
const BYTES_MAX: usize = 64 << 20;
/// A request of a stranger over UDP; a REGISTER with credentials has about 1,200 bytes.
pub(crate) const DATAGRAM_MAX: usize = 4_096;

/// Whose room is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// That of one source.
    OfSource,
    /// That of all strangers together.
    OfStrangers,
    /// That of everybody.
    All,
}

/// The requests of strangers that are under way.
#[derive(Default)]
pub(crate) struct Strangers {
    requests: BTreeMap<ServerId, (IpAddr, usize)>,
    of_source: BTreeMap<IpAddr, u32>,
    bytes: usize,
}

impl Strangers {
    /// Whether one more request of this size may come in.
    pub(crate) fn has_room(&self, hop: &Hop, bytes: usize) -> Result<(), Full> {
        let of_source = self.of_source.get(&hop.remote.ip()).copied().unwrap_or(0);
        if of_source >= REQUESTS_OF_SOURCE_MAX {
            return Err(Full::OfSource);
        }
        let room = self.requests.len() < REQUESTS_MAX && self.bytes.saturating_add(bytes) <= BYTES_MAX;
        if room { Ok(()) } else { Err(Full::OfStrangers) }
    }

    pub(crate) fn began(&mut self, server: ServerId, hop: &Hop, bytes: usize) {
        let source = hop.remote.ip();
        if self.requests.insert(server, (source, bytes)).is_none() {
            *self.of_source.entry(source).or_default() += 1;
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    pub(crate) fn ended(&mut self, server: ServerId) {
        let Some((source, bytes)) = self.requests.remove(&server) else { return };
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(count) = self.of_source.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sip::{RequestOutcome, TransactionLayer};
    use wire::clock::Instant;
    use wire::net::{FlowId, Transport};
    use wire::sip::Message;

    fn hop(last: u8) -> Hop {
        Hop { flow: FlowId(1), remote: ([192, 0, 2, last], 5060).into(), transport: Transport::Udp }
    }

    /// Numbers as the transaction layer gives them.
    fn servers(count: usize) -> Vec<ServerId> {
        let mut layer = TransactionLayer::new(count);
        (0..count)
            .map(|number| {
                let text = Bytes::from(format!(
                    "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK{number}\r\nFrom: <sip:a@b>;tag=1\r\n\
                     To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
                ));
                let message = Message::parse(&text).unwrap();
                let essentials = message.essentials().unwrap();
                let outcome = layer.receive_request(hop(1), &message, &essentials, Instant::ZERO);
                let RequestOutcome::New(server) = outcome else { panic!("{outcome:?}") };
                server
            })
            .collect()
    }

    #[test]
    fn a_source_has_its_share_and_gives_it_back() {
        let mut strangers = Strangers::default();
        let servers = servers(REQUESTS_OF_SOURCE_MAX as usize);
        for server in &servers {
            assert_eq!(strangers.has_room(&hop(1), 500), Ok(()));
            strangers.began(*server, &hop(1), 500);
        }
        assert_eq!(strangers.has_room(&hop(1), 500), Err(Full::OfSource));
        assert_eq!(strangers.has_room(&hop(2), 500), Ok(()));
        assert_eq!(strangers.has_room(&hop(2), BYTES_MAX), Err(Full::OfStrangers));
        strangers.ended(servers[0]);
        assert_eq!(strangers.has_room(&hop(1), 500), Ok(()));
        for server in servers {
            strangers.ended(server);
        }
        assert!(strangers.requests.is_empty() && strangers.of_source.is_empty() && strangers.bytes == 0);
    }
}
