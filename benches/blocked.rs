//! One datagram of a blocked source, and a STUN keepalive: what strangers can make us do at most.
//!
//! The network's own test comes first and ends nearly all of it; the border's is the second line, for the
//! replay of recorded inputs. Both lists are long.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use border::config::Authentication;
use border::{Command, Input};
use divan::{Bencher, black_box};
use portcullis_benches::bare_border::{BareBorder, OUTSIDE_UDP};
use wire::net::{Prefix, PrefixSet};
use wire::stun;

/// As many as the block list holds.
const BLOCKS: u32 = 100_000;
/// Each block of these makes the list anew: more would take long to set up.
const BLOCKS_AT_THE_BORDER: u32 = 5_000;
/// Sources that take turns, so that the look-up does not always go the same way.
const SOURCES: u32 = 4_096;

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// Every second address from 100.64.0.0 on: no two of them merge into one range.
fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x6440_0000 + 2 * number))
}

/// Sources spread over the whole list; `beside`: the addresses between them, which are not on it.
fn sources(blocks: u32, beside: bool) -> Vec<IpAddr> {
    (0..SOURCES)
        .map(|number| match address(number.wrapping_mul(2_654_435_761) % blocks) {
            IpAddr::V4(ip) if beside => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() + 1)),
            ip => ip,
        })
        .collect()
}

/// The test right after `recv`: the snapshot of the list, one search in it.
#[divan::bench(args = [true, false], sample_size = 1_000)]
fn snapshot_test(bencher: Bencher<'_, '_>, blocked: bool) {
    let set = PrefixSet::from_prefixes((0..BLOCKS).map(|number| Prefix::single(address(number))));
    let list = ArcSwap::new(Arc::new(set));
    let sources = sources(BLOCKS, !blocked);
    let mut sources = sources.iter().cycle();
    bencher.bench_local(|| {
        let source = sources.next().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(list.load().contains(black_box(source)), blocked);
    });
}

/// A REGISTER of a blocked source that reached the border all the same.
#[divan::bench(sample_size = 1_000)]
fn datagram_through_the_border(bencher: Bencher<'_, '_>) {
    let (mut bare, phones) = BareBorder::new(1, Authentication::Certificate);
    for number in 0..BLOCKS_AT_THE_BORDER {
        let prefix = Prefix::single(address(number));
        let command = Command::BlockAdd { prefix, time: None, why: "a scanner".into(), force: false };
        bare.input(Input::Command { id: u64::from(number), command });
    }
    let datagram = phones[0].speaker.register(1, 600);
    let sources = sources(BLOCKS_AT_THE_BORDER, false);
    let mut sources = sources.iter().cycle();
    bencher.bench_local(|| {
        let ip = sources.next().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let from = SocketAddr::new(ip, 5060);
        bare.input(Input::Bytes { flow: OUTSIDE_UDP, from, bytes: black_box(&datagram) });
    });
    assert!(bare.is_silent(), "a blocked source got an answer");
}

/// The reply to a STUN keepalive, made on the thread of the listeners.
#[divan::bench(sample_size = 1_000)]
fn stun_binding_reply(bencher: Bencher<'_, '_>) {
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    request.extend_from_slice(b"twelve bytes");
    let from = SocketAddr::new(address(7), 40_000);
    bencher.bench_local(|| {
        let mut reply = [0; 64];
        let length = stun::binding_reply(black_box(&request), from, &mut reply);
        assert_eq!(length, Some(32));
        reply
    });
}
