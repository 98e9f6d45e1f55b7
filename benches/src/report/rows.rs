//! The rows: what is compared, with whom, and how good we want to be.

use super::record::{CPU, RATE};
use crate::systems::System;

/// One comparison.
#[derive(Debug)]
pub struct Row {
    /// As it is asked for and printed.
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
    /// The figure that is compared.
    pub figure: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// Others of whom we want to be at most, or at least, this share.
    pub goals: &'static [(System, f64)],
}

const fn less(name: &'static str, what: &'static str, figure: &'static str, goals: Goals) -> Row {
    Row { name, what, figure, more_is_better: false, goals }
}

const fn more(name: &'static str, what: &'static str, figure: &'static str, goals: Goals) -> Row {
    Row { name, what, figure, more_is_better: true, goals }
}

type Goals = &'static [(System, f64)];

use System::{
    FloorForward, FloorRelay, FloorSink, FloorTls, KamailioEdge, KamailioMedia, KamailioPike,
    KamailioRegistrar, KamailioTopoh, Rtpengine,
};

/// All of them, in the order in which they are printed.
pub const ROWS: &[Row] = &[
    less(
        "refresh-tls",
        "REGISTER refreshed over TLS",
        CPU,
        &[(KamailioEdge, 0.3), (KamailioRegistrar, 0.5), (FloorTls, 1.15)],
    ),
    more(
        "refresh-tls-max",
        "the same, highest clean rate",
        RATE,
        &[(KamailioEdge, 1.0), (KamailioRegistrar, 1.0)],
    ),
    less(
        "handshake",
        "TLS 1.3 handshake, certificate matched",
        CPU,
        &[(KamailioEdge, 0.22), (FloorTls, 1.05)],
    ),
    less(
        "memory",
        "memory of an idle registered TLS phone",
        "process_kb",
        &[(KamailioEdge, 0.1), (FloorTls, 0.6)],
    ),
    less("keepalive", "CRLF keepalive over TLS", CPU, &[(KamailioEdge, 0.65), (FloorTls, 1.05)]),
    less(
        "refused-none",
        "handshake refused: no certificate",
        CPU,
        &[(KamailioRegistrar, 0.42), (FloorTls, 1.05)],
    ),
    less(
        "refused-stranger",
        "handshake refused: a stranger's certificate",
        CPU,
        &[(KamailioRegistrar, 0.26), (FloorTls, 1.05)],
    ),
    less("resumed", "handshake resumed by ticket", CPU, &[(KamailioRegistrar, 0.18), (FloorTls, 1.05)]),
    more("handshake-max", "handshakes, highest clean rate", RATE, &[(KamailioRegistrar, 1.0)]),
    less("storm", "all phones come back at once", CPU, &[(KamailioRegistrar, 0.11), (FloorTls, 1.15)]),
    less("storm-time", "the same, until the last is back", "back_s", &[(KamailioRegistrar, 0.12)]),
    less("storm-memory", "the same, memory of all processes", "memory_mb", &[(KamailioRegistrar, 0.15)]),
    less(
        "storm-resumed",
        "all phones come back at once, with tickets",
        CPU,
        &[(KamailioRegistrar, 0.07), (FloorTls, 1.15)],
    ),
    less("storm-resumed-time", "the same, until the last is back", "back_s", &[(KamailioRegistrar, 0.12)]),
    less("register-passed", "REGISTER passed through, UDP", CPU, &[(KamailioEdge, 0.7), (FloorForward, 1.2)]),
    more(
        "register-passed-max",
        "the same, highest clean rate",
        RATE,
        &[(KamailioEdge, 3.9), (FloorForward, 0.65)],
    ),
    less("calls", "call with SDP, addresses hidden, UDP", CPU, &[(KamailioTopoh, 0.55), (FloorForward, 1.3)]),
    more("calls-max", "the same, highest clean rate", RATE, &[(KamailioTopoh, 4.0), (FloorForward, 0.55)]),
    less(
        "calls-bare",
        "call without SDP, addresses hidden, UDP",
        CPU,
        &[(KamailioTopoh, 0.55), (FloorForward, 1.3)],
    ),
    less("calls-media", "call with media ports, UDP", CPU, &[(KamailioMedia, 0.21), (FloorForward, 1.5)]),
    more("calls-media-max", "the same, highest clean rate", RATE, &[(KamailioMedia, 1.0)]),
    less("calls-tls", "call with SDP, addresses hidden, TLS phones", CPU, &[(KamailioTopoh, 1.0)]),
    less("rtp", "RTP packet relayed", CPU, &[(Rtpengine, 0.5), (FloorRelay, 0.93)]),
    less(
        "rtp-p50",
        "the same, delay, half of the packets",
        "p50_us",
        &[(Rtpengine, 0.36), (FloorRelay, 1.2)],
    ),
    less("rtp-p99", "the same, delay, 99 of 100", "p99_us", &[(Rtpengine, 0.1), (FloorRelay, 1.2)]),
    more(
        "rtp-sessions",
        "sessions a CPU, 99 of 100 packets within 10 ms",
        RATE,
        &[(Rtpengine, 1.8), (FloorRelay, 1.05)],
    ),
    less(
        "flood",
        "99 of 100 refreshes during a flood of requests",
        "p99_us",
        &[(KamailioEdge, 0.1), (KamailioPike, 1.0)],
    ),
    less("flood-quiet", "the same, beside the figure without a flood", "of_quiet", &[]),
    less("garbage", "99 of 100 refreshes during a flood of garbage", "p99_us", &[(KamailioPike, 1.0)]),
    less("half-open", "99 of 100 refreshes beside silent connections", "p99_us", &[(KamailioPike, 1.0)]),
    less("blocked", "datagram of a blocked source", CPU, &[(KamailioPike, 0.7), (FloorSink, 1.15)]),
    less("garbage-datagram", "datagram that is no SIP", CPU, &[(KamailioEdge, 0.75), (FloorSink, 1.3)]),
    less("headers", "datagram with 200 headers", CPU, &[(KamailioEdge, 0.06), (FloorSink, 1.3)]),
    less(SOAK, "memory after a while, beside that at its beginning", "of_beginning", &[]),
];

/// The row of a long time.
pub const SOAK: &str = "soak";
/// In the first half of this fills what is kept for an hour; nothing is asked of a shorter soak.
const TWO_HOURS_S: f64 = 7_200.0;

/// A figure of ours beside the same in another state of ours.
#[derive(Debug)]
pub struct Own {
    /// In this row.
    pub row: &'static str,
    /// The ratio.
    pub figure: &'static str,
    /// In words: the figure without it.
    pub beside: &'static str,
    /// It shall be at most this.
    pub goal: f64,
    /// At a load of this or more.
    pub from: f64,
}

/// All of them. An hour of a soak has 18,000 calls: 100 bytes that each leaves are more than these shares, or a
/// descriptor that one of a thousand leaves.
pub const OWN: &[Own] = &[
    Own {
        row: "storm-resumed",
        figure: "of_unresumed",
        beside: "the same without tickets",
        goal: 0.75,
        from: 0.0,
    },
    Own { row: "flood-quiet", figure: "of_quiet", beside: "the same without a flood", goal: 1.5, from: 0.0 },
    Own { row: SOAK, figure: "of_beginning", beside: "its memory at first", goal: 1.05, from: TWO_HOURS_S },
    Own {
        row: SOAK,
        figure: "descriptors_of_beginning",
        beside: "its descriptors at first",
        goal: 1.05,
        from: TWO_HOURS_S,
    },
];

/// The row with this name.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}
