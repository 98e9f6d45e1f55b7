//! sipp: scenarios from `tests/scenarios`, over UDP or TCP (and by a [`crate::tls_pipe`] over TLS).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::netns::Namespace;
use crate::process::{Process, Recipe, program};

/// One run of a scenario.
#[derive(Debug)]
pub struct Scenario<'a> {
    /// The file in `tests/scenarios`, without its ending.
    pub name: &'a str,
    /// Where sipp is; its port too.
    pub local: SocketAddr,
    /// Whom it calls; none for one who is called.
    pub remote: Option<SocketAddr>,
    /// `udp` or `tcp`.
    pub transport: &'a str,
    /// Words of the scenario: `[extension]` and the like.
    pub keys: &'a [(&'a str, &'a str)],
    /// User and password, where the scenario authenticates.
    pub credentials: Option<(&'a str, &'a str)>,
    /// How often it runs, one after the other.
    pub calls: u32,
    /// Send audio back to whom it came from; audio is received at this port.
    pub echo: Option<u16>,
}

impl<'a> Scenario<'a> {
    /// A scenario that runs once over UDP.
    pub fn new(name: &'a str, local: SocketAddr) -> Self {
        Self {
            name,
            local,
            remote: None,
            transport: "udp",
            keys: &[],
            credentials: None,
            calls: 1,
            echo: None,
        }
    }

    /// Starts it.
    pub fn start(&self, directory: &Path, namespace: Option<&Namespace>) -> Sipp {
        let file = scenarios().join(format!("{}.xml", self.name));
        assert!(file.is_file(), "{} is not there", file.display());
        let address = self.local.ip().to_string();
        let mut arguments = vec![
            "-sf".to_owned(),
            file.display().to_string(),
            "-i".to_owned(),
            address.clone(),
            "-p".to_owned(),
            self.local.port().to_string(),
            "-mi".to_owned(),
            address,
            "-t".to_owned(),
            if self.transport == "tcp" { "t1" } else { "u1" }.to_owned(),
            "-m".to_owned(),
            self.calls.to_string(),
            "-l".to_owned(),
            "1".to_owned(),
        ];
        arguments.extend(["-nostdin", "-trace_err", "-error_file", "errors.txt"].map(str::to_owned));
        arguments.extend(["-trace_msg", "-message_file", "messages.txt"].map(str::to_owned));
        for (key, value) in self.keys {
            arguments.extend(["-key", key, value].map(str::to_owned));
        }
        if let Some((user, password)) = self.credentials {
            arguments.extend(["-au", user, "-ap", password].map(str::to_owned));
        }
        if let Some(port) = self.echo {
            arguments.extend(["-rtp_echo".to_owned(), "-mp".to_owned(), port.to_string()]);
        }
        arguments.extend(self.remote.map(|remote| remote.to_string()));
        let name = format!("sipp-{}-{}", self.name, self.local.port());
        let directory = directory.join(&name);
        std::fs::create_dir_all(&directory).expect("a directory for sipp can be made");
        let recipe = Recipe::new(program("sipp"), &directory).named(&name).args(arguments).within(namespace);
        Sipp { process: recipe.start(), directory }
    }
}

/// A running sipp.
#[derive(Debug)]
pub struct Sipp {
    process: Process,
    directory: PathBuf,
}

impl Sipp {
    /// Waits for its end; panics with what it saw where the scenario was not fulfilled.
    #[track_caller]
    pub fn succeed(mut self, within: Duration) -> String {
        let status = self.process.wait(within);
        let [messages, errors] = ["messages.txt", "errors.txt"]
            .map(|name| std::fs::read_to_string(self.directory.join(name)).unwrap_or_default());
        assert!(status.success(), "sipp ended with {status}:\n{errors}\n{messages}\n{}", self.process.tail());
        messages
    }

    /// All messages so far, as it traces them.
    pub fn messages(&self) -> String {
        std::fs::read_to_string(self.directory.join("messages.txt")).unwrap_or_default()
    }
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addresses;
    use crate::kamailio::{Kamailio, Manner};
    use crate::lab::register_at_pbx;
    use crate::raw_phone::RawPhone;
    use crate::scratch::Scratch;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn one_calls_another_by_the_pbx_alone() {
        let (scratch, addresses) = (Scratch::new(), Addresses::claim());
        let pbx = Kamailio::start(addresses.pbx(), &scratch.subdirectory("pbx"), &Manner::default(), None);
        let [caller, callee] = [1, 2].map(|number| SocketAddr::new(addresses.phone(number), 5060));
        let register = Scenario {
            remote: Some(pbx.address()),
            transport: "tcp",
            keys: &[("extension", "2001"), ("via", "TCP")],
            credentials: Some(("2001", "secret2001")),
            ..Scenario::new("register_digest", caller)
        };
        register.start(scratch.path(), None).succeed(SOON);
        let mut phone = RawPhone::udp(callee.ip(), pbx.address());
        register_at_pbx(&mut phone, "2002", Some(&format!("sip:2002@{callee}")));
        let answer = Scenario { echo: Some(31_000), ..Scenario::new("answer", callee) };
        let answer = answer.start(scratch.path(), None);
        let call = Scenario {
            remote: Some(pbx.address()),
            keys: &[("extension", "2001"), ("via", "UDP"), ("callee", "2002")],
            credentials: Some(("2001", "secret2001")),
            ..Scenario::new("call_digest", caller)
        };
        let messages = call.start(scratch.path(), None).succeed(SOON);
        assert!(messages.contains("180 Ringing") && messages.contains("m=audio 31000"), "{messages}");
        answer.succeed(SOON);
    }
}
