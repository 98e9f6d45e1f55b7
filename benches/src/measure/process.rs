//! What processes cost, as the kernel counted it. Linux only; reads `/proc`, changes nothing.

use std::fs;
use std::io;
use std::time::Duration;

/// CPU time of all threads of a process that are alive, as the scheduler charged it.
///
/// Nanoseconds, unlike `/proc/PID/stat`, which counts ticks of 10 ms. Threads that ended are not in it.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // a thread may end between the listing and the reading
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            nanos += first_number(&text)?;
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// Processes of a group that are alive: a program and all that it started.
pub fn group_members(group: u32) -> io::Result<Vec<u32>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // a process may end between the listing and the reading
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // PID (NAME) STATE PARENT GROUP …, and a name may hold anything
        let mut words = text.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        let state = words.next();
        if state != Some("Z") && words.nth(1).and_then(|word| word.parse().ok()) == Some(group) {
            members.push(pid);
        }
    }
    Ok(members)
}

/// Descriptors that a process has open.
pub fn descriptors(pid: u32) -> io::Result<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// Time that all CPUs together spent on anything but idling, and what the hypervisor took of it.
pub fn machine_busy() -> io::Result<[Duration; 2]> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, hard, soft, steal, ..] = ticks[..] else {
        return Err(no_number(line));
    };
    let time =
        |ticks: u64| Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
    Ok([time(user + nice + system + hard + soft + steal), time(steal)])
}

/// Datagrams that this network namespace dropped because a receiver was too slow.
pub fn datagrams_dropped() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let found = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "RcvbufErrors");
    first_number(found.map(|(_, value)| value).unwrap_or_default())
}

/// Memory of a process in kB: its own pages whole, shared ones by their share.
pub fn memory_kb(pid: u32) -> io::Result<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Pss:")
}

/// Kernel memory in kB that cannot be taken back, of the whole machine: sockets and epoll entries are in it.
pub fn kernel_memory_kb() -> io::Result<u64> {
    field(&fs::read_to_string("/proc/meminfo")?, "SUnreclaim:")
}

/// Pages that wait in the buffers of all TCP sockets of this network namespace's machine.
pub fn tcp_buffer_pages() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    field(line, "mem ")
}

/// The number that follows `name`.
fn field(text: &str, name: &str) -> io::Result<u64> {
    let (_, rest) = text.split_once(name).ok_or_else(|| no_number(name))?;
    first_number(rest)
}

fn first_number(text: &str) -> io::Result<u64> {
    let word = text.split_ascii_whitespace().next().unwrap_or_default();
    word.parse().map_err(|_| no_number(text))
}

fn no_number(where_: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no number where one was expected: {where_}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc() {
        let text = "Rss:  1000 kB\nPss:      512 kB\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3\n";
        assert_eq!(field(text, "Pss:").unwrap(), 512);
        assert_eq!(field(text, "mem ").unwrap(), 3);
        assert!(field(text, "Swap:").is_err());
        assert!(first_number("many").is_err());
    }

    #[test]
    fn this_process_costs_something() {
        let pid = std::process::id();
        let before = cpu_time(pid).unwrap();
        while cpu_time(pid).unwrap() == before {
            std::hint::black_box((0..100_000_u64).fold(0, u64::wrapping_add));
        }
        assert!(memory_kb(pid).unwrap() > 100);
        assert!(descriptors(pid).unwrap() >= 3);
        let group = rustix::process::getpgrp().as_raw_nonzero().get().unsigned_abs();
        assert!(group_members(group).unwrap().contains(&pid));
        let [busy, steal] = machine_busy().unwrap();
        assert!(busy > steal);
        assert!(datagrams_dropped().is_ok());
    }
}
