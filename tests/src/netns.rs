//! Network namespaces: a network of its own for phones behind NAT.
//!
//! A namespace is held by a process of ours and gone with it, so nothing is left behind however a test ends.
//! Needs root.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Process, Recipe, program, run};

const SOON: Duration = Duration::from_secs(10);

/// One network namespace, with its loopback up.
#[derive(Debug)]
pub struct Namespace {
    holder: Process,
    directory: std::path::PathBuf,
}

impl Namespace {
    /// Makes one; `name` is for logs.
    pub fn new(name: &str, directory: &Path) -> Self {
        let script = "ip link set lo up && echo ready && exec sleep infinity";
        let recipe =
            Recipe::new(program("unshare"), directory).named(name).args(["--net", "sh", "-c", script]);
        let holder = recipe.start();
        holder.wait_for("ready", SOON);
        Self { holder, directory: directory.to_owned() }
    }

    /// The process that holds it.
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// Runs a command in it, to its end.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> String {
        let (name, arguments) = command.split_first().expect("a command has a name");
        let recipe = Recipe::new(program(name), &self.directory)
            .named(&format!("{name}-in-{}", self.pid()))
            .args(arguments.iter().copied())
            .within(Some(self));
        run(recipe, SOON).unwrap_or_else(|fault| panic!("{command:?}: {fault}"))
    }

    /// Does something in it, such as making a socket, which stays there.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.pid());
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = File::open(path).expect("the namespace is there");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("a thread may enter the namespace");
                action()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// From now on packets to be received in it that fit this rule of nftables get lost, without a word to anybody.
    pub fn lose(&self, rule: &str) {
        self.run(&["nft", "add table inet loss"]);
        self.run(&["nft", "add chain inet loss input { type filter hook input priority 0 ; }"]);
        self.run(&["nft", &format!("add rule inet loss input {rule} counter drop")]);
    }

    /// Nothing gets lost any more; how many packets were.
    pub fn heal(&self) -> u64 {
        let table = self.run(&["nft", "list", "table", "inet", "loss"]);
        self.run(&["nft", "delete table inet loss"]);
        let counts = table
            .split("counter packets ")
            .skip(1)
            .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        counts.sum()
    }

    /// Lays a cable to another namespace: one address (`IP/length`) at each end.
    pub fn connect(&self, here: (&str, &str), other: &Self, there: (&str, &str)) {
        let (mine, theirs) = (self.pid().to_string(), other.pid().to_string());
        let link = ["ip", "link", "add", here.0, "netns", &mine, "type", "veth", "peer", "name", there.0];
        let mut command = link.to_vec();
        command.extend(["netns", &theirs]);
        self.run(&command);
        for (namespace, (device, address)) in [(self, here), (other, there)] {
            namespace.run(&["ip", "address", "add", address, "dev", device]);
            namespace.run(&["ip", "link", "set", device, "up"]);
        }
    }
}

/// A home behind a router that masquerades, and the machine outside that it reaches.
///
/// The home is `192.168.7.2`, its router `192.168.7.1` inside and `198.51.100.7` outside; the edge, on which
/// Portcullis runs, is `198.51.100.1`. The edge has no way to the home but through the router.
#[derive(Debug)]
pub struct Home {
    /// Where the phone is.
    pub home: Namespace,
    /// Its router.
    pub router: Namespace,
    /// Where Portcullis and the PBX are.
    pub edge: Namespace,
}

impl Home {
    /// The address of the phone, which nobody outside can reach.
    pub const PHONE: &'static str = "192.168.7.2";
    /// The router's address outside: what the edge sees.
    pub const ROUTER: &'static str = "198.51.100.7";
    /// Where Portcullis listens.
    pub const EDGE: &'static str = "198.51.100.1";

    /// Makes the three, connected.
    pub fn new(directory: &Path) -> Self {
        let [home, router, edge] = ["home", "router", "edge"].map(|name| Namespace::new(name, directory));
        home.connect(("eth0", "192.168.7.2/24"), &router, ("lan", "192.168.7.1/24"));
        router.connect(("wan", "198.51.100.7/24"), &edge, ("eth0", "198.51.100.1/24"));
        home.run(&["ip", "route", "add", "default", "via", "192.168.7.1"]);
        router.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        router.run(&["nft", "add table ip nat"]);
        router.run(&["nft", "add chain ip nat post { type nat hook postrouting priority 100 ; }"]);
        router.run(&["nft", "add rule ip nat post oifname wan masquerade random"]);
        Self { home, router, edge }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn nat_hides_the_phone_and_changes_its_port() {
        let scratch = Scratch::new();
        let home = Home::new(scratch.path());
        let edge = home.edge.enter(|| UdpSocket::bind((Home::EDGE, 5060)).unwrap());
        edge.set_read_timeout(Some(SOON)).unwrap();
        let phone = home.home.enter(|| UdpSocket::bind((Home::PHONE, 5060)).unwrap());
        phone.set_read_timeout(Some(SOON)).unwrap();
        phone.send_to(b"hello", (Home::EDGE, 5060)).unwrap();
        let mut buffer = [0; 16];
        let (length, source) = edge.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], source.ip().to_string().as_str()), (&b"hello"[..], Home::ROUTER));
        assert_ne!(source.port(), 5060, "the router chooses ports of its own");
        edge.send_to(b"back", source).unwrap();
        assert_eq!(phone.recv_from(&mut buffer).unwrap().0, 4);
    }
}
