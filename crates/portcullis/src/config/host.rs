//! What this machine says of itself: its addresses, its user, what that user may write.
//!
//! Only asks; never makes or changes anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use wire::words::of_system;

/// The addresses of this machine, loopback last; empty where the kernel does not say.
pub fn addresses() -> Vec<IpAddr> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let v4 = parse_v4(&read("fib_trie")).into_iter().map(IpAddr::V4);
    let mut addresses: Vec<IpAddr> =
        v4.chain(parse_v6(&read("if_inet6")).into_iter().map(IpAddr::V6)).collect();
    addresses.sort_by_key(|address| (address.is_loopback(), *address));
    addresses.dedup();
    addresses
}

/// `/proc/net/fib_trie`: an address stands in the line above the one that calls it ours.
fn parse_v4(text: &str) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in text.lines() {
        if let Some((_, leaf)) = line.split_once("|-- ") {
            last = leaf.trim().parse().ok();
        } else if line.contains("/32 host LOCAL") {
            addresses.extend(last);
        }
    }
    addresses
}

/// `/proc/net/if_inet6`: 32 hexadecimal digits in front. Link-local ones are good for no configuration.
fn parse_v6(text: &str) -> Vec<Ipv6Addr> {
    let digits = text.lines().filter_map(|line| line.split_whitespace().next());
    let addresses =
        digits.filter_map(|digits| u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from_bits));
    addresses.filter(|address| !address.is_unicast_link_local()).collect()
}

/// The user who asks: a name, else a number.
pub fn user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(uid, &passwd).unwrap_or_else(|| format!("number {uid}"))
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Why this user could not make files in a directory, or the directory itself with those above it.
pub fn unwritable(directory: &Path) -> Option<String> {
    let nearest = directory.ancestors().find(|path| path.as_os_str().is_empty() || path.exists());
    let nearest = match nearest {
        Some(path) if !path.as_os_str().is_empty() => path.to_owned(),
        _ => PathBuf::from("."),
    };
    if !nearest.is_dir() {
        return Some(format!("{} is no directory", nearest.display()));
    }
    let error = access(&nearest, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(refusal(&nearest, error))
}

/// Whether every user of this machine can read a file: its own mode says so, and no directory above bars the way.
pub fn is_readable_by_all(file: &Path) -> bool {
    let Ok(whole) = file.canonicalize() else { return false };
    has_mode(&whole, 0o004) && whole.ancestors().skip(1).all(|directory| has_mode(directory, 0o001))
}

/// Whether every user of this machine may make files in a directory.
pub fn is_writable_by_all(directory: &Path) -> bool {
    directory.is_dir() && has_mode(directory, 0o002)
}

fn has_mode(path: &Path, bits: u32) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & bits == bits)
}

/// Why this user could not read and write a file that is there.
pub fn unusable(file: &Path) -> Option<String> {
    match access(file, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) | Err(Errno::NOENT) => None,
        Err(error) => Some(refusal(file, error)),
    }
}

fn refusal(path: &Path, error: Errno) -> String {
    match error {
        Errno::ACCESS => format!("no permission in {}", path.display()),
        Errno::ROFS => format!("{} is on a file system that is read-only", path.display()),
        other => format!("{}: {}", path.display(), of_system(&std::io::Error::from(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                    |-- 192.0.2.7\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(parse_v4(trie), [Ipv4Addr::new(192, 0, 2, 7)]);
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe80000000000000021122fffe334455 02 40 20 80     eth0\n\
                     20010db8000000000000000000000010 02 40 00 80     eth0\n";
        assert_eq!(parse_v6(inet6), [Ipv6Addr::LOCALHOST, "2001:db8::10".parse::<Ipv6Addr>().unwrap()]);
        assert!(addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{:?}", addresses());
    }

    #[test]
    fn a_user_is_known_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nphones:x:999:999::/nonexistent:/usr/sbin/nologin\n";
        assert_eq!(name_of(999, passwd).as_deref(), Some("phones"));
        assert_eq!(name_of(9, passwd), None);
    }

    #[test]
    fn a_directory_below_a_file_cannot_be_made() {
        let file = std::env::current_exe().unwrap();
        let why = unwritable(&file.join("data/deep")).unwrap();
        assert_eq!(why, format!("{} is no directory", file.display()));
        assert_eq!(unwritable(&std::env::temp_dir().join("portcullis-none/deep")), None);
    }
}
