//! Rates for each source on the outside face, by governor, and the reports of sources that exceed them.
//!
//! governor never evicts: what has run out is dropped each second, and where there are too many sources all
//! the same (spoofed datagrams), one limiter for all of them together takes over. These limits cost a
//! stranger nothing but time; they never block anybody.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota};
use tokio::time::Instant;
use wire::net::Transport;

/// New connections a second for one source (contract section 6).
const CONNECTIONS: u32 = 20;
/// Datagrams a second for one source: a house of phones, with their keepalives and retransmissions.
const DATAGRAMS: u32 = 400;
/// Datagrams a second for one allowed source: an office behind one address.
const DATAGRAMS_ALLOWED: u32 = DATAGRAMS * 16;
/// Sources that a limiter knows apart.
const SOURCES_MAX: usize = 65_536;
/// New connections a second for all sources together, while there are more than that.
const CONNECTIONS_SHARED: u32 = 500;
/// Datagrams a second for all sources together, while there are more than that.
const DATAGRAMS_SHARED: u32 = 4_000;
/// How many answers may pass before the number of sources is looked at again.
const LOOK_EVERY: u32 = 64;
/// Sources whose excess is reported one by one.
const FLOODS_MAX: usize = 4_096;
/// Time between two reports on one source.
const FLOOD_EVERY: Duration = Duration::from_secs(1);

/// Whom a rate holds for: an IPv4 address, or the /64 of an IPv6 address (one subscriber has it all).
pub(crate) fn source_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

/// All limiters of the outside face.
#[derive(Debug)]
pub(crate) struct SourceRates {
    connections: Limiter,
    datagrams: Limiter,
    datagrams_allowed: Limiter,
}

impl SourceRates {
    pub(crate) fn new() -> Self {
        Self {
            connections: Limiter::new(CONNECTIONS, CONNECTIONS, CONNECTIONS_SHARED, SOURCES_MAX),
            datagrams: Limiter::new(DATAGRAMS, 2 * DATAGRAMS, DATAGRAMS_SHARED, SOURCES_MAX),
            datagrams_allowed: Limiter::new(
                DATAGRAMS_ALLOWED,
                2 * DATAGRAMS_ALLOWED,
                DATAGRAMS_ALLOWED,
                SOURCES_MAX,
            ),
        }
    }

    /// Whether this source may open one more connection now.
    pub(crate) fn admit_connection(&self, source: IpAddr) -> bool {
        self.connections.admit(source)
    }

    /// Whether one more datagram of this source is read.
    pub(crate) fn admit_datagram(&self, source: IpAddr, allowed: bool) -> bool {
        if allowed { self.datagrams_allowed.admit(source) } else { self.datagrams.admit(source) }
    }

    /// Forgets sources that are quiet again. To be called each second.
    pub(crate) fn forget_quiet(&self) {
        self.connections.forget_quiet();
        self.datagrams.forget_quiet();
        self.datagrams_allowed.forget_quiet();
    }
}

#[derive(Debug)]
struct Limiter {
    keyed: DefaultKeyedRateLimiter<IpAddr>,
    shared: DefaultDirectRateLimiter,
    sources_max: usize,
    answers: AtomicU32,
    crowded: AtomicBool,
}

impl Limiter {
    fn new(per_second: u32, burst: u32, shared: u32, sources_max: usize) -> Self {
        Self {
            keyed: DefaultKeyedRateLimiter::dashmap(bursting(per_second, burst)),
            shared: DefaultDirectRateLimiter::direct(quota(shared)),
            sources_max,
            answers: AtomicU32::new(0),
            crowded: AtomicBool::new(false),
        }
    }

    fn admit(&self, source: IpAddr) -> bool {
        if self.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) {
            self.look();
        }
        if self.crowded.load(Ordering::Relaxed) {
            return self.shared.check().is_ok();
        }
        self.keyed.check_key(&source_key(source)).is_ok()
    }

    fn forget_quiet(&self) {
        self.keyed.retain_recent();
        self.look();
    }

    /// The length is the sum over all shards: too dear for every datagram.
    fn look(&self) {
        self.crowded.store(self.keyed.len() >= self.sources_max, Ordering::Relaxed);
    }
}

/// A rate for one source alone.
pub(crate) fn limiter(per_second: u32, burst: u32) -> DefaultDirectRateLimiter {
    DefaultDirectRateLimiter::direct(bursting(per_second, burst))
}

fn bursting(per_second: u32, burst: u32) -> Quota {
    quota(per_second).allow_burst(at_least_one(burst))
}

fn quota(per_second: u32) -> Quota {
    Quota::per_second(at_least_one(per_second))
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// What was refused, by source, until the core is told.
#[derive(Debug, Default)]
pub(crate) struct Floods(BTreeMap<(IpAddr, Transport), Flood>);

#[derive(Debug)]
struct Flood {
    last: SocketAddr,
    port: u16,
    refused: u64,
    reported: Option<Instant>,
}

/// What [`Floods`] has to say on one source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FloodReport {
    pub(crate) source: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) port: u16,
    pub(crate) refused: u64,
}

impl Floods {
    /// Counts a refusal; reports the first of a source at once.
    pub(crate) fn refused(
        &mut self,
        source: SocketAddr,
        transport: Transport,
        port: u16,
        now: Instant,
    ) -> Option<FloodReport> {
        let key = (source_key(source.ip()), transport);
        if self.0.len() >= FLOODS_MAX && !self.0.contains_key(&key) {
            return None;
        }
        let flood = self.0.entry(key).or_insert(Flood { last: source, port, refused: 0, reported: None });
        flood.last = source;
        flood.port = port;
        flood.refused += 1;
        flood.report(transport, now)
    }

    /// Reports that were held back for their second; forgets sources that have stopped.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<FloodReport> {
        let mut reports = Vec::new();
        self.0.retain(|(_, transport), flood| {
            let quiet = flood.refused == 0;
            reports.extend(flood.report(*transport, now));
            !(quiet && flood.may_report(now))
        });
        reports
    }

    /// The core had no room for the report: it comes with the next.
    pub(crate) fn take_back(&mut self, report: &FloodReport) {
        if let Some(flood) = self.0.get_mut(&(source_key(report.source.ip()), report.transport)) {
            flood.refused += report.refused;
        }
    }
}

impl Flood {
    fn may_report(&self, now: Instant) -> bool {
        self.reported.is_none_or(|reported| now.saturating_duration_since(reported) >= FLOOD_EVERY)
    }

    fn report(&mut self, transport: Transport, now: Instant) -> Option<FloodReport> {
        if self.refused == 0 || !self.may_report(now) {
            return None;
        }
        self.reported = Some(now);
        let refused = std::mem::take(&mut self.refused);
        Some(FloodReport { source: self.last, transport, port: self.port, refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_subscriber_is_one_source() {
        for (address, key) in [
            ("198.51.100.7", "198.51.100.7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(source_key(ip(address)), ip(key), "{address}");
        }
    }

    #[test]
    fn each_source_has_its_own_burst() {
        let rates = SourceRates::new();
        let admitted = |source| (0..200).filter(|_| rates.admit_connection(source)).count();
        let first = admitted(ip("198.51.100.7"));
        assert!((20..30).contains(&first), "{first} connections at once");
        assert!(admitted(ip("198.51.100.8")) >= 20);
        let datagrams =
            |source, allowed| (0..20_000).filter(|_| rates.admit_datagram(source, allowed)).count();
        let stranger = datagrams(ip("198.51.100.7"), false);
        assert!((800..1_600).contains(&stranger), "{stranger} datagrams at once");
        assert!(datagrams(ip("198.51.100.9"), true) >= 12_800);
    }

    #[test]
    fn too_many_sources_share_one_limit() {
        let limiter = Limiter::new(10, 10, 5, 100);
        let admitted = (0..1_000_u32).filter(|host| limiter.admit(IpAddr::from(host.to_be_bytes()))).count();
        assert!(admitted < 300, "{admitted} of 1,000 sources passed");
        assert!(limiter.keyed.len() <= 100 + LOOK_EVERY as usize);
    }

    #[test]
    fn a_flood_is_reported_once_a_second() {
        let (mut floods, start) = (Floods::default(), Instant::now());
        let source = |port| SocketAddr::new(ip("198.51.100.7"), port);
        let report = |source, refused| FloodReport { source, transport: Transport::Tls, port: 5061, refused };
        let refused = |floods: &mut Floods, port, millis| {
            floods.refused(source(port), Transport::Tls, 5061, start + Duration::from_millis(millis))
        };
        assert_eq!(refused(&mut floods, 1, 0), Some(report(source(1), 1)));
        assert_eq!(refused(&mut floods, 2, 10), None);
        assert_eq!(refused(&mut floods, 3, 20), None);
        assert_eq!(floods.due(start + Duration::from_millis(500)), []);
        let due = floods.due(start + Duration::from_millis(1000));
        assert_eq!(due, [report(source(3), 2)]);
        floods.take_back(&due[0]);
        assert_eq!(floods.due(start + Duration::from_millis(2000)), [report(source(3), 2)]);
        assert_eq!(floods.due(start + Duration::from_millis(3000)), []);
        assert!(floods.0.is_empty());
    }

    #[test]
    fn the_table_of_floods_is_bounded() {
        let (mut floods, now) = (Floods::default(), Instant::now());
        let reports = (0..u32::try_from(FLOODS_MAX).unwrap() + 100)
            .filter_map(|host| {
                let source = SocketAddr::new(IpAddr::from(host.to_be_bytes()), 9);
                floods.refused(source, Transport::Udp, 5060, now)
            })
            .count();
        assert_eq!((reports, floods.0.len()), (FLOODS_MAX, FLOODS_MAX));
    }
}
