//! Names to addresses: SRV and A/AAAA for a SIP URI, A/AAAA alone for an allow-list entry. RFC 3263 §4.
//!
//! NAPTR is not asked for: the transports that we speak are asked by SRV in our order of preference. Among
//! SRV records of one priority the heavier comes first, always: one PBX is preferred until it fails, where
//! RFC 2782 would spread the load. Never decides which target is used.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError as DnsError;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::time::{sleep, timeout};
use wire::net::Transport;

use crate::event::NetEvent;
use crate::io_thread::IoThread;
use crate::lanes::Lane;

/// A name is looked up again no sooner, however short its records live.
const REFRESH_MIN: Duration = Duration::from_secs(30);
/// After a failure it is looked up again so soon; each further time after twice as long, up to [`REFRESH_MIN`].
const RETRY_MIN: Duration = Duration::from_secs(1);
/// A name is looked up again no later, however long its records live.
const REFRESH_MAX: Duration = Duration::from_secs(3600);
/// Time for one look-up with everything that it leads to.
const LOOK_UP_MAX: Duration = Duration::from_secs(15);
/// Targets of one name.
const TARGETS_MAX: usize = 64;
/// SRV records that are followed.
const SRV_MAX: usize = 16;

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameQuery {
    /// The host of a SIP URI.
    Sip {
        /// A name, or an address.
        host: String,
        /// Its port, where the URI has one.
        port: Option<u16>,
        /// Its `transport` parameter, where it has one.
        transport: Option<Transport>,
    },
    /// A name that stands for addresses alone; its targets have port 0.
    Address {
        /// The name.
        host: String,
    },
}

impl NameQuery {
    /// The targets of a host that is an address already: nothing needs to be asked.
    pub fn literal(&self) -> Option<Vec<(Transport, SocketAddr)>> {
        let ip = |host: &str| host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        match self {
            Self::Sip { host, port, transport } => {
                let transport = transport.unwrap_or(Transport::Udp);
                let port = port.unwrap_or(default_port(transport));
                Some(vec![(transport, SocketAddr::new(ip(host)?, port))])
            }
            Self::Address { host } => Some(vec![(Transport::Udp, SocketAddr::new(ip(host)?, 0))]),
        }
    }

    fn host(&self) -> &str {
        match self {
            Self::Sip { host, .. } | Self::Address { host } => host,
        }
    }
}

/// Why a name has no targets.
#[derive(Debug, thiserror::Error)]
#[error("cannot look up {host}: {problem}")]
pub struct ResolveError {
    host: String,
    problem: String,
}

/// Looks a name up once, on the calling thread: for the check of a configuration.
pub fn resolve_now(query: &NameQuery) -> Result<Vec<(Transport, SocketAddr)>, ResolveError> {
    if let Some(targets) = query.literal() {
        return Ok(targets);
    }
    let failed = |problem: String| ResolveError { host: query.host().to_owned(), problem };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let resolver = resolver().map_err(|error| failed(error.to_string()))?;
        look_up(&resolver, query).await.map(|found| found.targets).map_err(failed)
    })
}

/// Looks a name up, tells the core, and does so again whenever the records expire.
pub(crate) async fn watch<T: Send + 'static>(io: Rc<IoThread<T>>, name: usize, query: NameQuery) {
    // Read anew after a failure: the resolver's own configuration may be what is wrong.
    let mut kept = None;
    let mut retry = RETRY_MIN;
    loop {
        let found = match kept.take().map_or_else(resolver, Ok) {
            Ok(resolver) => {
                let found = look_up(&resolver, &query).await;
                kept = found.is_ok().then_some(resolver);
                found
            }
            Err(error) => Err(error.to_string()),
        };
        let (targets, pause) = match found {
            Ok(Found { targets, lifetime }) => {
                retry = RETRY_MIN;
                (targets, lifetime.clamp(REFRESH_MIN, REFRESH_MAX))
            }
            Err(problem) => {
                if retry == RETRY_MIN {
                    tracing::warn!(host = query.host(), problem, "look-up failed");
                }
                let pause = retry;
                retry = (retry * 2).min(REFRESH_MIN);
                (Vec::new(), pause)
            }
        };
        io.lanes.push(Lane::Registered, NetEvent::Resolved { name, targets }).await;
        sleep(pause).await;
    }
}

/// Of a resolver that keeps silent.
const NO_ANSWER: &str = "no name server answers";

/// What a look-up brought.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    targets: Vec<(Transport, SocketAddr)>,
    lifetime: Duration,
}

fn resolver() -> Result<TokioResolver, DnsError> {
    TokioResolver::builder_tokio()?.build()
}

async fn look_up(resolver: &TokioResolver, query: &NameQuery) -> Result<Found, String> {
    let found = timeout(LOOK_UP_MAX, async {
        match query {
            NameQuery::Address { host } => addresses(resolver, host, Transport::Udp, 0).await,
            NameQuery::Sip { host, port: Some(port), transport } => {
                addresses(resolver, host, transport.unwrap_or(Transport::Udp), *port).await
            }
            NameQuery::Sip { host, port: None, transport } => services(resolver, host, *transport).await,
        }
    });
    let mut found = found.await.map_err(|_| NO_ANSWER.to_owned())?.map_err(|error| in_words(&error))?;
    found.targets.truncate(TARGETS_MAX);
    Ok(found)
}

/// What a resolver says, for somebody who asked for a name and knows nothing of queries.
fn in_words(error: &DnsError) -> String {
    if error.is_nx_domain() {
        "there is no such name".to_owned()
    } else if error.is_no_records_found() {
        "the name servers know no address of this name".to_owned()
    } else if matches!(error, DnsError::Timeout | DnsError::NoConnections) {
        NO_ANSWER.to_owned()
    } else {
        wire::words::of_system(error)
    }
}

/// SRV, or where there is none the name's own addresses (RFC 3263 §4.2).
async fn services(
    resolver: &TokioResolver,
    host: &str,
    transport: Option<Transport>,
) -> Result<Found, DnsError> {
    let wanted = transport.map_or(vec![Transport::Udp, Transport::Tcp], |transport| vec![transport]);
    let mut all = Found { targets: Vec::new(), lifetime: REFRESH_MAX };
    for transport in wanted {
        let Ok(lookup) = resolver.lookup(service_name(host, transport), RecordType::SRV).await else {
            continue;
        };
        all.lifetime = all.lifetime.min(lifetime(lookup.answers()));
        for (target, port) in in_order(lookup.answers()) {
            if let Ok(found) = addresses(resolver, &target, transport, port).await {
                all.lifetime = all.lifetime.min(found.lifetime);
                all.targets.extend(found.targets);
            }
        }
    }
    if !all.targets.is_empty() {
        return Ok(all);
    }
    let transport = transport.unwrap_or(Transport::Udp);
    addresses(resolver, host, transport, default_port(transport)).await
}

async fn addresses(
    resolver: &TokioResolver,
    host: &str,
    transport: Transport,
    port: u16,
) -> Result<Found, DnsError> {
    let lookup = resolver.lookup_ip(host).await?;
    let mut targets: Vec<_> = lookup.iter().map(|ip| (transport, SocketAddr::new(ip, port))).collect();
    targets.sort_unstable();
    targets.dedup();
    Ok(Found { targets, lifetime: lifetime(lookup.as_lookup().answers()) })
}

/// Hosts and ports of SRV records: by priority, then by weight. The root as a target says that the service
/// is not there (RFC 2782).
fn in_order(records: &[Record]) -> Vec<(String, u16)> {
    let mut services: Vec<&SRV> = records
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(service) if !service.target.is_root() => Some(service),
            _ => None,
        })
        .collect();
    services.sort_by_key(|service| (service.priority, std::cmp::Reverse(service.weight)));
    services.truncate(SRV_MAX);
    services.into_iter().map(|service| (service.target.to_ascii(), service.port)).collect()
}

fn lifetime(records: &[Record]) -> Duration {
    let seconds = records.iter().map(|record| record.ttl).min().unwrap_or(0);
    Duration::from_secs(u64::from(seconds))
}

fn service_name(host: &str, transport: Transport) -> String {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
    };
    format!("{service}.{host}")
}

fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Udp | Transport::Tcp => 5060,
        Transport::Tls => 5061,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::str::FromStr;

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::Name;
    use hickory_resolver::proto::rr::rdata::A;

    const LONG: Duration = Duration::from_secs(20);

    fn name(text: &str) -> Name {
        Name::from_str(text).unwrap()
    }

    fn a(host: &str, last: u8, ttl: u32) -> Record {
        Record::from_rdata(name(host), ttl, RData::A(A::new(192, 0, 2, last)))
    }

    fn srv(service: &str, priority: u16, weight: u16, target: &str, port: u16) -> Record {
        Record::from_rdata(name(service), 300, RData::SRV(SRV::new(priority, weight, port, name(target))))
    }

    fn zone() -> Vec<Record> {
        vec![
            a("plain.example.com.", 9, 40),
            a("one.example.com.", 1, 60),
            a("two.example.com.", 2, 600),
            a("three.example.com.", 3, 600),
            srv("_sip._udp.pbx.example.com.", 20, 0, "three.example.com.", 5060),
            srv("_sip._udp.pbx.example.com.", 10, 1, "one.example.com.", 5070),
            srv("_sip._udp.pbx.example.com.", 10, 9, "two.example.com.", 5080),
            srv("_sip._tcp.pbx.example.com.", 0, 0, "one.example.com.", 5090),
            srv("_sip._udp.gone.example.com.", 0, 0, ".", 0),
            a("gone.example.com.", 8, 60),
        ]
    }

    /// Answers from the zone, for as long as somebody asks.
    fn serve(socket: &UdpSocket) {
        let zone = zone();
        let mut query = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let asked = Message::from_vec(&query[..length]).unwrap();
            let question = asked.queries[0].clone();
            let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
            answer.add_query(question.clone());
            let wanted = |record: &&Record| {
                record.name == *question.name() && record.record_type() == question.query_type()
            };
            answer.add_answers(zone.iter().filter(wanted).cloned());
            if !zone.iter().any(|record| record.name == *question.name()) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    }

    fn resolved(query: &NameQuery) -> Result<Found, String> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || serve(&socket));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = ConnectionConfig::udp();
            connection.port = address.port();
            let server = NameServerConfig::new(address.ip(), true, vec![connection]);
            let config = ResolverConfig::from_parts(None, vec![], vec![server]);
            let resolver =
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap();
            look_up(&resolver, query).await
        })
    }

    fn sip(host: &str, port: Option<u16>, transport: Option<Transport>) -> NameQuery {
        NameQuery::Sip { host: host.into(), port, transport }
    }

    #[test]
    fn targets_come_in_the_order_of_the_rfc() {
        use Transport::{Tcp, Udp};
        let pbx = "pbx.example.com.";
        for (query, expected, lifetime) in [
            (sip(pbx, None, None), vec![(Udp, 2, 5080), (Udp, 1, 5070), (Udp, 3, 5060), (Tcp, 1, 5090)], 60),
            (sip(pbx, None, Some(Tcp)), vec![(Tcp, 1, 5090)], 60),
            (sip("plain.example.com.", None, None), vec![(Udp, 9, 5060)], 40),
            (sip("plain.example.com.", None, Some(Tcp)), vec![(Tcp, 9, 5060)], 40),
            (sip("plain.example.com.", Some(5099), None), vec![(Udp, 9, 5099)], 40),
            (sip("gone.example.com.", None, Some(Udp)), vec![(Udp, 8, 5060)], 60),
            (NameQuery::Address { host: "two.example.com.".into() }, vec![(Udp, 2, 0)], 600),
        ] {
            let found = resolved(&query).unwrap();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(transport, last, port)| (transport, SocketAddr::from(([192, 0, 2, last], port))))
                .collect();
            assert_eq!(found.targets, expected, "{query:?}");
            assert_eq!(found.lifetime, Duration::from_secs(lifetime), "{query:?}");
        }
    }

    #[test]
    fn a_name_that_is_not_there_is_an_error() {
        let error = resolved(&sip("nobody.example.com.", None, None)).unwrap_err();
        assert_eq!(error, "there is no such name");
        let service = NameQuery::Address { host: "_sip._udp.pbx.example.com.".into() };
        assert_eq!(resolved(&service).unwrap_err(), "the name servers know no address of this name");
    }
}
