//! Sources of datagrams from which phones registered: they are heard before strangers, and held to a rate of
//! their own. The core writes, the tasks of the listeners read. Never grows beyond its bound: who finds no place
//! goes on as a stranger. UDP has no connection, so whoever writes such a source into his packets uses up
//! that rate; he gets past nothing else by it.

use std::net::SocketAddr;

use dashmap::DashMap;
use governor::DefaultDirectRateLimiter;
use wire::net::FlowId;

use crate::source_rate::limiter;

/// Sources that are known at once.
const SOURCES_MAX: usize = 100_000;
/// Datagrams a second of one source: many phones behind one proxy may share it.
const DATAGRAMS: u32 = 2_000;

/// The sources, each with its rate, by the listener that they registered at.
#[derive(Debug)]
pub(crate) struct RegisteredSources {
    rates: DashMap<(FlowId, SocketAddr), DefaultDirectRateLimiter>,
    sources_max: usize,
}

impl Default for RegisteredSources {
    fn default() -> Self {
        Self { rates: DashMap::new(), sources_max: SOURCES_MAX }
    }
}

impl RegisteredSources {
    pub(crate) fn insert(&self, flow: FlowId, source: SocketAddr) {
        // Only the core inserts: nobody else takes the last place meanwhile.
        if !self.rates.contains_key(&(flow, source)) && self.rates.len() < self.sources_max {
            self.rates.insert((flow, source), limiter(DATAGRAMS, 2 * DATAGRAMS));
        }
    }

    pub(crate) fn remove(&self, flow: FlowId, source: SocketAddr) {
        self.rates.remove(&(flow, source));
    }

    /// Whether one more datagram of a registered source is read; `None` of a stranger.
    pub(crate) fn admit(&self, flow: FlowId, source: SocketAddr) -> Option<bool> {
        self.rates.get(&(flow, source)).map(|rate| rate.check().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 7], port))
    }

    #[test]
    fn a_source_is_an_address_and_port_at_one_listener() {
        let sources = RegisteredSources::default();
        sources.insert(FlowId(1), source(5060));
        assert_eq!(sources.admit(FlowId(1), source(5060)), Some(true));
        assert_eq!(sources.admit(FlowId(1), source(5061)), None);
        assert_eq!(sources.admit(FlowId(2), source(5060)), None);
        sources.remove(FlowId(1), source(5060));
        assert_eq!(sources.admit(FlowId(1), source(5060)), None);
    }

    #[test]
    fn each_source_has_its_own_rate_and_registering_again_does_not_renew_it() {
        let sources = RegisteredSources::default();
        for port in [1, 2] {
            sources.insert(FlowId(1), source(port));
        }
        let admitted = (0..40_000).filter(|_| sources.admit(FlowId(1), source(1)) == Some(true)).count();
        assert!((4_000..8_000).contains(&admitted), "{admitted} datagrams at once");
        sources.insert(FlowId(1), source(1));
        let admitted = (0..4_000).filter(|_| sources.admit(FlowId(1), source(1)) == Some(true)).count();
        assert!(admitted < 2_000, "{admitted} more datagrams at once");
        assert_eq!(sources.admit(FlowId(1), source(2)), Some(true));
    }

    #[test]
    fn who_finds_no_place_stays_a_stranger() {
        let sources = RegisteredSources { sources_max: 2, ..RegisteredSources::default() };
        for port in [1, 2, 1, 3] {
            sources.insert(FlowId(1), source(port));
        }
        assert_eq!(sources.admit(FlowId(1), source(3)), None);
        assert_eq!(sources.admit(FlowId(1), source(2)), Some(true));
        sources.remove(FlowId(1), source(1));
        sources.insert(FlowId(1), source(3));
        assert_eq!(sources.admit(FlowId(1), source(3)), Some(true));
    }
}
