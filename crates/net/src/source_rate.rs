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

use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota};
use tokio::time::Instant;
use wire::net::Transport;

/// New connections a second for one source (contract section 6).
const CONNECTIONS: u32 = 20;
/// Datagrams a second for one source: a house of phones, with their keepalives and retransmissions.
const DATAGRAMS: u32 = 400;
/// Datagrams a second for one allowed source: an office behind one address.
const DATAGRAMS_ALLOWED: u32 = DATAGRAMS * 16;
/// Bytes a second that are read from one source's streams together, while nobody registered on them: some two
/// hundred small requests. What they send beyond that waits in the kernel, and then at their own end.
const STREAM_BYTES: u32 = 64 * 1024;
/// As many at once after a rest: a house of phones that all come back.
const STREAM_BYTES_BURST: u32 = 4 * STREAM_BYTES;
/// The same for one allowed source, in multiples.
const STREAM_BYTES_ALLOWED: u32 = 16;
/// Bytes a second from the streams of all sources together, while there are more than [`SOURCES_MAX`].
const STREAM_BYTES_SHARED: u32 = 64 * STREAM_BYTES;
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
/// Whoever has to wait waits so long at least: one wake-up for several small reads.
const WAIT_MIN: Duration = Duration::from_millis(20);
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
    stream_bytes: Limiter,
    stream_bytes_allowed: Limiter,
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
            stream_bytes: Limiter::new(STREAM_BYTES, STREAM_BYTES_BURST, STREAM_BYTES_SHARED, SOURCES_MAX),
            stream_bytes_allowed: Limiter::new(
                STREAM_BYTES * STREAM_BYTES_ALLOWED,
                STREAM_BYTES_BURST * STREAM_BYTES_ALLOWED,
                STREAM_BYTES_SHARED,
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

    /// Whether so many bytes from a stream on which nobody registered may go on to the core now; else when to
    /// ask again.
    pub(crate) fn admit_stream_bytes(
        &self,
        source: IpAddr,
        bytes: usize,
        allowed: bool,
    ) -> Result<(), Duration> {
        let limiter = if allowed { &self.stream_bytes_allowed } else { &self.stream_bytes };
        limiter.admit_many(source, u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// Forgets sources that are quiet again. To be called each second.
    pub(crate) fn forget_quiet(&self) {
        self.connections.forget_quiet();
        self.datagrams.forget_quiet();
        self.datagrams_allowed.forget_quiet();
        self.stream_bytes.forget_quiet();
        self.stream_bytes_allowed.forget_quiet();
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
        if self.is_crowded() {
            return self.shared.check().is_ok();
        }
        self.keyed.check_key(&source_key(source)).is_ok()
    }

    /// As [`Limiter::admit`], for so many together, up to a burst; else how long to wait.
    fn admit_many(&self, source: IpAddr, many: u32) -> Result<(), Duration> {
        let (many, now) = (at_least_one(many), self.keyed.clock().now());
        let outcome = if self.is_crowded() {
            self.shared.check_n(many)
        } else {
            self.keyed.check_key_n(&source_key(source), many)
        };
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_yet)) => Err(not_yet.wait_time_from(now).max(WAIT_MIN)),
            // More than a burst, which no caller asks for.
            Err(_) => Err(FLOOD_EVERY),
        }
    }

    fn is_crowded(&self) -> bool {
        if self.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) {
            self.look();
        }
        self.crowded.load(Ordering::Relaxed)
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
    fn the_bytes_of_a_sources_streams_are_counted_together() {
        let rates = SourceRates::new();
        let (one, other) = (ip("198.51.100.7"), ip("198.51.100.8"));
        let admitted = |source, allowed| {
            (0..10_000).filter(|_| rates.admit_stream_bytes(source, 4096, allowed).is_ok()).count()
        };
        let at_once = admitted(one, false);
        assert!((64..80).contains(&at_once), "{at_once} reads of 4 KiB at once");
        let wait = rates.admit_stream_bytes(one, 4096, false).unwrap_err();
        assert!(wait >= WAIT_MIN && wait <= Duration::from_millis(63), "{wait:?}");
        assert!(rates.admit_stream_bytes(other, 64 * 1024, false).is_ok());
        assert!(admitted(ip("198.51.100.9"), true) >= 1_024);
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
