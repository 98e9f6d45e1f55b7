//! Networks and sets of them against a naive list.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod seeded;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::net::prefix::PrefixError;
use wire::net::{Prefix, PrefixSet};

use seeded::Seeded;

/// Addresses lie close together, so that networks meet, touch and nest.
fn v4(seeded: &mut Seeded) -> Ipv4Addr {
    let base = [0x0A00_0000_u32, 0xFFFF_FF00, 0x0000_0000][seeded.below(3)];
    Ipv4Addr::from_bits(base | seeded.below(256) as u32)
}

fn v6(seeded: &mut Seeded) -> Ipv6Addr {
    let base = [0x2001_0DB8_u128 << 96, u128::MAX << 8, 0][seeded.below(3)];
    Ipv6Addr::from_bits(base | seeded.below(256) as u128)
}

fn prefix(seeded: &mut Seeded) -> Prefix {
    if seeded.below(2) == 0 {
        let len = 24 + seeded.below(9) as u8;
        Prefix::new(v4(seeded).into(), len).unwrap()
    } else {
        let len = 120 + seeded.below(9) as u8;
        Prefix::new(v6(seeded).into(), len).unwrap()
    }
}

fn prefixes(seeded: &mut Seeded, count: usize) -> Vec<Prefix> {
    (0..count).map(|_| prefix(seeded)).collect()
}

fn every_address() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for low in 0..=256_u32 {
        for base in [0x0A00_0000_u32, 0xFFFF_FF00, 0] {
            all.push(Ipv4Addr::from_bits(base.wrapping_add(low)).into());
        }
        for base in [0x2001_0DB8_u128 << 96, u128::MAX << 8, 0] {
            all.push(Ipv6Addr::from_bits(base.wrapping_add(u128::from(low))).into());
        }
    }
    all
}

#[test]
fn a_set_answers_as_a_list_of_networks_does() {
    let addresses = every_address();
    for seed in 0..60 {
        let mut seeded = Seeded(seed);
        let count = seeded.below(30);
        let list = prefixes(&mut seeded, count);
        let set = PrefixSet::from_prefixes(list.iter().copied());
        assert_eq!(set.is_empty(), list.is_empty());
        for addr in &addresses {
            let listed = list.iter().any(|prefix| prefix.contains(*addr));
            assert_eq!(set.contains(*addr), listed, "seed {seed}, {addr}, {list:?}");
        }
    }
}

#[test]
fn two_sets_are_joined_and_taken_from_each_other() {
    let addresses = every_address();
    for seed in 100..160 {
        let mut seeded = Seeded(seed);
        let (count, holes) = (seeded.below(20), seeded.below(20));
        let whole = PrefixSet::from_prefixes(prefixes(&mut seeded, count));
        let hole = PrefixSet::from_prefixes(prefixes(&mut seeded, holes));
        let (left, joined) = (whole.without(&hole), whole.union(&hole));
        for addr in &addresses {
            let expected = whole.contains(*addr) && !hole.contains(*addr);
            assert_eq!(left.contains(*addr), expected, "seed {seed}, {addr}");
            let either = whole.contains(*addr) || hole.contains(*addr);
            assert_eq!(joined.contains(*addr), either, "seed {seed}, {addr}");
        }
    }
}

#[test]
fn a_set_covers_a_network_if_it_holds_every_address_of_it() {
    let addresses = every_address();
    for seed in 200..240 {
        let mut seeded = Seeded(seed);
        let set = PrefixSet::from_prefixes(prefixes(&mut seeded, 40));
        for prefix in prefixes(&mut seeded, 20) {
            let all = addresses.iter().filter(|addr| prefix.contains(**addr)).all(|addr| set.contains(*addr));
            assert_eq!(set.covers(&prefix), all, "seed {seed}, {prefix}");
        }
    }
}

#[test]
fn networks_that_touch_become_one_range() {
    let set =
        |texts: &[&str]| texts.iter().map(|text| text.parse::<Prefix>().unwrap()).collect::<PrefixSet>();
    assert_eq!(set(&["198.51.100.0/25", "198.51.100.128/25"]), set(&["198.51.100.0/24"]));
    assert_eq!(set(&["0.0.0.0/1", "128.0.0.0/1", "255.255.255.255"]), set(&["0.0.0.0/0"]));
    assert_eq!(set(&["::/1", "8000::/1", "::1"]), set(&["::/0"]));
    assert_ne!(set(&["198.51.100.0/25"]), set(&["198.51.100.0/24"]));
}

#[test]
fn mapped_addresses_are_ipv4() {
    let set: PrefixSet = ["198.51.100.0/24".parse::<Prefix>().unwrap()].into_iter().collect();
    assert!(set.contains("::ffff:198.51.100.7".parse().unwrap()));
    assert!(!set.contains("::198.51.100.7".parse().unwrap()));
    let set: PrefixSet = ["::ffff:198.51.100.0/120".parse::<Prefix>().unwrap()].into_iter().collect();
    assert!(set.contains("198.51.100.7".parse().unwrap()));
    let all_v6: PrefixSet = ["::/0".parse::<Prefix>().unwrap()].into_iter().collect();
    assert!(!all_v6.contains("::ffff:198.51.100.7".parse().unwrap()));
    assert_eq!(Prefix::single("::ffff:198.51.100.7".parse().unwrap()).to_string(), "198.51.100.7");
}

#[test]
fn networks_read_and_written() {
    for (text, expected) in [
        ("198.51.100.0/24", Ok("198.51.100.0/24")),
        ("198.51.100.7/24", Ok("198.51.100.0/24")),
        ("198.51.100.7", Ok("198.51.100.7")),
        ("198.51.100.7/32", Ok("198.51.100.7")),
        ("0.0.0.0/0", Ok("0.0.0.0/0")),
        ("2001:db8::/32", Ok("2001:db8::/32")),
        ("2001:db8:0:1:2::5/64", Ok("2001:db8:0:1::/64")),
        ("2001:db8::1", Ok("2001:db8::1")),
        ("2001:db8::1/128", Ok("2001:db8::1")),
        ("::/0", Ok("::/0")),
        ("::ffff:198.51.100.7/120", Ok("198.51.100.0/24")),
        ("::ffff:0:0/90", Ok("::ffc0:0:0/90")),
        ("198.51.100.0/33", Err(PrefixError::Length)),
        ("::/129", Err(PrefixError::Length)),
        ("::/256", Err(PrefixError::Length)),
        ("198.51.100.0/", Err(PrefixError::Length)),
        ("198.51.100.0/+24", Err(PrefixError::Length)),
        ("198.51.100.0/ 24", Err(PrefixError::Length)),
        ("198.51.100.0/24/24", Err(PrefixError::Length)),
        ("198.51.100/24", Err(PrefixError::Address)),
        ("office.example", Err(PrefixError::Address)),
        ("", Err(PrefixError::Address)),
        ("/24", Err(PrefixError::Address)),
    ] {
        let read = text.parse::<Prefix>().map(|prefix| prefix.to_string());
        assert_eq!(read, expected.map(str::to_owned), "{text:?}");
    }
}

#[test]
fn networks_that_nest_overlap_and_others_do_not() {
    let prefix = |text: &str| text.parse::<Prefix>().unwrap();
    assert!(prefix("198.51.0.0/16").covers(&prefix("198.51.100.0/24")));
    assert!(!prefix("198.51.100.0/24").covers(&prefix("198.51.0.0/16")));
    assert!(prefix("198.51.100.0/24").overlaps(&prefix("198.51.0.0/16")));
    assert!(!prefix("198.51.100.0/24").overlaps(&prefix("198.51.101.0/24")));
    assert!(!prefix("0.0.0.0/0").overlaps(&prefix("::/0")));
}
