//! What `--json` shows (contract section 7): flat objects, snake_case, RFC 3339 times, durations in seconds.
//!
//! The names here are stable: fields may be added, none may change its meaning.

use std::time::Duration;

use border::command::{AllowView, Answer, BlockView, CallView, RegistrationView, StatusView};
use border::event::Event;
use jiff::Timestamp;
use net::Counters;
use serde::Serialize;
use serde_json::Value;
use wire::clock::WallTime;

use super::protocol::Response;
use crate::media_shard::ShardCounts;

/// The name of [`ShardCounts::socket_errors`] among the reasons.
const SOCKET_ERROR: &str = "socket_error";

/// What only the process knows, for `status`.
#[derive(Clone, Copy, Debug)]
pub struct ProcessFacts<'a> {
    /// Of the node.
    pub name: &'a str,
    /// Since the start.
    pub uptime: Duration,
    /// `tls 127.0.0.2:5061`, …
    pub listeners: &'a [String],
    /// Resident memory.
    pub memory_bytes: u64,
    /// What the network counted.
    pub net: &'a Counters,
    /// What the media plane counted.
    pub media: ShardCounts,
    /// Lines that the log has lost.
    pub log_lines_lost: u64,
}

#[derive(Serialize)]
struct Registration<'a> {
    extension: &'a str,
    display_name: Option<&'a str>,
    hardware_id: Option<&'a str>,
    source: &'a str,
    transport: &'static str,
    expires_s: u64,
    pbx: &'a str,
    pbx_state: &'static str,
    pbx_expires_s: u64,
}

#[derive(Serialize)]
struct Call<'a> {
    id: u64,
    extension: &'a str,
    display_name: Option<&'a str>,
    direction: &'static str,
    peer: &'a str,
    state: &'static str,
    started: String,
    seconds: u64,
    packets_in: u64,
    packets_out: u64,
}

#[derive(Serialize)]
struct Block<'a> {
    address: String,
    range: String,
    defense_type: &'a str,
    block_type: &'static str,
    protocol: &'a str,
    port: Option<u16>,
    since: String,
    expires: String,
    remaining_s: u64,
    evidence: &'a str,
    allowed_as: Option<&'a str>,
}

#[derive(Serialize)]
struct Allowed<'a> {
    name: &'a str,
    address: &'a str,
    description: &'a str,
    from_config: bool,
}

#[derive(Serialize)]
struct EventRow<'a> {
    time: String,
    code: &'static str,
    severity: &'static str,
    source: Option<String>,
    extension: Option<&'a str>,
    hardware_id: Option<&'a str>,
    rule: Option<&'a str>,
    text: &'a str,
    next_step: &'a str,
}

#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    version: &'static str,
    uptime_s: u64,
    listeners: &'a [String],
    pbx: Vec<String>,
    registrations: usize,
    calls: usize,
    blocks: usize,
    relays: usize,
    store_failing: bool,
    memory_bytes: u64,
    dropped: Vec<String>,
    log_lines_lost: u64,
}

/// The line for an answer of the border.
pub fn response(answer: &Answer, facts: ProcessFacts<'_>) -> Response {
    match answer {
        Answer::Registrations(rows) => Response::Rows(rows.iter().map(registration).collect()),
        Answer::Calls(rows) => Response::Rows(rows.iter().map(call).collect()),
        Answer::Blocks(rows) => Response::Rows(rows.iter().map(block).collect()),
        Answer::Allowed(rows) => Response::Rows(rows.iter().map(allowed).collect()),
        Answer::Status(view) => Response::Object(status(view, facts)),
        Answer::Done(text) => Response::Done(text.clone()),
        Answer::Refused(text) => Response::Refused(text.clone()),
    }
}

/// A time as every program reads it; of two the later is the greater text, too.
pub fn rfc3339(time: WallTime) -> String {
    let millis = i64::try_from(time.0).ok();
    let time = millis.and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

fn value(row: impl Serialize) -> Value {
    // Rows have text keys and finite numbers, which JSON can always hold.
    serde_json::to_value(row).unwrap_or_default()
}

fn registration(view: &RegistrationView) -> Value {
    value(Registration {
        extension: &view.extension,
        display_name: view.display_name.as_deref(),
        hardware_id: view.hardware_id.as_deref(),
        source: &view.source,
        transport: view.transport.as_str(),
        expires_s: view.expires.as_secs(),
        pbx: &view.pbx,
        pbx_state: view.pbx_state,
        pbx_expires_s: view.pbx_expires.as_secs(),
    })
}

fn call(view: &CallView) -> Value {
    value(Call {
        id: view.id,
        extension: &view.extension,
        display_name: view.display_name.as_deref(),
        direction: view.direction,
        peer: &view.peer,
        state: view.state,
        started: rfc3339(view.started),
        seconds: view.duration.as_secs(),
        packets_in: view.packets_in,
        packets_out: view.packets_out,
    })
}

fn block(view: &BlockView) -> Value {
    value(Block {
        address: view.address.to_string(),
        range: view.range.to_string(),
        defense_type: &view.defense_type,
        block_type: view.block_type,
        protocol: &view.protocol,
        port: view.port,
        since: rfc3339(view.since),
        expires: rfc3339(view.expires),
        remaining_s: view.remaining.as_secs(),
        evidence: &view.evidence,
        allowed_as: view.allowed_as.as_deref(),
    })
}

fn allowed(view: &AllowView) -> Value {
    value(Allowed {
        name: &view.name,
        address: &view.address,
        description: &view.description,
        from_config: view.from_config,
    })
}

/// One row of `events`.
pub fn event(event: &Event) -> Value {
    value(EventRow {
        time: rfc3339(event.time),
        code: event.code.as_str(),
        severity: event.severity.as_str(),
        source: event.source.map(|source| source.to_string()),
        extension: event.extension.as_deref(),
        hardware_id: event.hardware_id.as_deref(),
        rule: event.rule.as_deref(),
        text: &event.text,
        next_step: &event.next_step,
    })
}

fn status(view: &StatusView, facts: ProcessFacts<'_>) -> Value {
    value(Status {
        name: facts.name,
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: facts.uptime.as_secs(),
        listeners: facts.listeners,
        pbx: view.pbx.iter().map(|(name, health)| format!("{name} {}", health.as_str())).collect(),
        registrations: view.registrations,
        calls: view.calls,
        blocks: view.blocks,
        relays: view.relays,
        store_failing: view.store_failing,
        memory_bytes: facts.memory_bytes,
        dropped: dropped(view, facts),
        log_lines_lost: facts.log_lines_lost,
    })
}

/// What went no further, where and why: each reason that came up, on the way from the network inwards.
fn dropped(view: &StatusView, facts: ProcessFacts<'_>) -> Vec<String> {
    let network = facts.net.iter().filter(|(count, _)| count.is_loss());
    let network = network.map(|(count, times)| ("network", count.as_str(), times));
    let signalling = view.drops.iter().map(|(reason, times)| ("signalling", reason.as_str(), times));
    let media = facts.media.drops.iter().map(|(reason, times)| ("media", reason.as_str(), times));
    let socket_errors = [("media", SOCKET_ERROR, facts.media.socket_errors)];
    let all = network.chain(signalling).chain(media).chain(socket_errors);
    all.filter(|(.., times)| *times > 0)
        .map(|(plane, reason, times)| format!("{plane} {reason} {times}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use border::command::PbxHealth;
    use border::event::{Code, Severity};
    use wire::net::{Prefix, Transport};

    use super::*;

    fn keys(value: &Value) -> Vec<&str> {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    fn sorted(names: &str) -> Vec<&str> {
        let mut names: Vec<_> = names.split(", ").collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(WallTime(1_795_255_200_000)), "2026-11-21T10:00:00.000Z");
        assert_eq!(rfc3339(WallTime(1_795_255_200_250)), "2026-11-21T10:00:00.250Z");
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let registration = registration(&RegistrationView {
            extension: "1001".to_owned(),
            display_name: Some("Home office".to_owned()),
            hardware_id: None,
            source: "127.0.1.1:40000".to_owned(),
            transport: Transport::Tls,
            expires: Duration::from_millis(119_900),
            pbx: "main".to_owned(),
            pbx_state: "registered",
            pbx_expires: Duration::from_secs(3600),
        });
        assert_eq!(registration["display_name"], "Home office");
        let names = "extension, display_name, hardware_id, source, transport, expires_s, pbx, pbx_state, pbx_expires_s";
        assert_eq!(keys(&registration), sorted(names));
        assert_eq!(registration["expires_s"], 119);
        assert_eq!(registration["hardware_id"], Value::Null);

        let call = call(&CallView {
            id: 7,
            extension: "1001".to_owned(),
            display_name: None,
            direction: "out",
            peer: "1002".to_owned(),
            state: "confirmed",
            started: WallTime(0),
            duration: Duration::from_secs(3),
            packets_in: 150,
            packets_out: 149,
        });
        let names =
            "id, extension, display_name, direction, peer, state, started, seconds, packets_in, packets_out";
        assert_eq!(keys(&call), sorted(names));

        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 9, 9));
        let block = block(&BlockView {
            address,
            range: Prefix::single(address),
            defense_type: "cert_untrusted".to_owned(),
            block_type: "automatic",
            protocol: "tls".to_owned(),
            port: Some(5061),
            since: WallTime(0),
            expires: WallTime(600_000),
            remaining: Duration::from_secs(600),
            evidence: String::new(),
            allowed_as: Some("office".to_owned()),
        });
        let names = "address, range, defense_type, block_type, protocol, port, since, expires, remaining_s, \
                     evidence, allowed_as";
        assert_eq!(keys(&block), sorted(names));
        assert_eq!((&block["range"], &block["allowed_as"]), (&"127.0.9.9".into(), &"office".into()));
        assert_eq!(block["expires"], "1970-01-01T00:10:00.000Z");
    }

    #[test]
    fn names_of_lists_and_events_are_those_of_the_contract() {
        let allowed = allowed(&AllowView {
            name: "office".to_owned(),
            address: "198.51.100.0/24".to_owned(),
            description: String::new(),
            from_config: true,
        });
        assert_eq!(keys(&allowed), sorted("name, address, description, from_config"));

        let event = event(&Event {
            time: WallTime(0),
            code: Code::CertUntrusted,
            severity: Severity::Warning,
            source: Some("127.0.9.9:4000".parse().unwrap()),
            extension: Some("not asked".to_owned()),
            hardware_id: None,
            rule: None,
            text: "text".to_owned(),
            next_step: "step".to_owned(),
        });
        let names = "time, code, severity, source, extension, hardware_id, rule, text, next_step";
        assert_eq!(keys(&event), sorted(names));
        assert_eq!((&event["code"], &event["severity"]), (&"cert_untrusted".into(), &"warning".into()));

        let view = StatusView { pbx: vec![("main".to_owned(), PbxHealth::Unknown)], ..StatusView::default() };
        let net = Counters::default();
        let media = ShardCounts { socket_errors: 3, ..ShardCounts::default() };
        let uptime = Duration::from_secs(61);
        let facts = ProcessFacts {
            name: "lab",
            uptime,
            listeners: &[],
            memory_bytes: 5,
            net: &net,
            media,
            log_lines_lost: 0,
        };
        let status = status(&view, facts);
        let names = "name, version, uptime_s, listeners, pbx, registrations, calls, blocks, relays, \
                     store_failing, memory_bytes, dropped, log_lines_lost";
        assert_eq!(keys(&status), sorted(names));
        assert_eq!(status["pbx"][0], "main unknown");
        assert_eq!(status["dropped"], serde_json::json!(["media socket_error 3"]), "what came up, no more");
    }
}
