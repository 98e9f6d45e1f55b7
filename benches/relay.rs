//! One RTP packet through the relay table, without its sockets: what deciding costs.
//!
//! A packet of 172 bytes (G.711, 20 ms) costs several microseconds in the kernel on its way through us;
//! the table's share should stay far below one of them.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use media::{Action, Order, RelayId, RelayTable, SOCKETS_PER_RELAY, TableConfig, Verdict};
use portcullis_benches::relays::rtp_relay;
use wire::clock::Instant;
use wire::net::{Prefix, PrefixSet};

/// As many as a shard is planned for.
const RELAYS: usize = 1_000;
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PBX: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 6_000);

fn main() {
    divan::main();
}

/// A packet of a locked leg: the way of nearly all.
#[divan::bench(sample_size = 1_000)]
fn forwarded(bencher: divan::Bencher<'_, '_>) {
    bench(bencher, phone, true);
}

/// A packet of somebody else at a locked leg.
#[divan::bench(sample_size = 1_000)]
fn stranger(bencher: divan::Bencher<'_, '_>) {
    bench(bencher, |_| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 66)), 666), false);
}

fn bench(bencher: divan::Bencher<'_, '_>, source: impl Fn(usize) -> SocketAddr, passes: bool) {
    let mut table = open_table();
    let blocked = PrefixSet::from_prefixes([Prefix::single(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)))]);
    let packet = rtp();
    let now = Instant::ZERO + Duration::from_millis(1);
    table.set_blocked(Arc::new(blocked), now);
    for relay in 0..RELAYS {
        table.on_datagram(relay * SOCKETS_PER_RELAY, phone(relay), &packet, now);
    }
    let mut relay = 0;
    bencher.bench_local(|| {
        relay = (relay + 1) % RELAYS;
        let verdict =
            table.on_datagram(black_box(relay * SOCKETS_PER_RELAY), source(relay), black_box(&packet), now);
        assert_eq!(matches!(verdict, Verdict::Forward { .. }), passes);
        verdict
    });
}

fn open_table() -> RelayTable {
    let mut table = RelayTable::new(TableConfig {
        faces: [OUTSIDE, INSIDE],
        ports: [10_000..=19_999, 20_000..=29_999],
        forbidden: Default::default(),
        seed: 1,
        spare_from: usize::MAX,
    });
    for relay in 0..RELAYS {
        let spec = rtp_relay(phone(relay), PBX);
        table.handle_order(Order::Open { relay: RelayId(relay as u64), spec }, Instant::ZERO);
        while let Some(action) = table.poll_action() {
            if let Action::Bind { slot, side, port } = action {
                table.on_bind(slot, side, port, Ok(()), Instant::ZERO);
            }
        }
    }
    table
}

fn phone(relay: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, (relay % 250) as u8)), 30_000 + relay as u16)
}

fn rtp() -> Vec<u8> {
    let mut packet = vec![0; 172];
    packet.splice(..12, [0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7]);
    packet
}
