//! The real binary with a configuration of its own: it serves on ports that the OS chose.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use portcullis_benches::templates::DOMAIN;

/// Where phones come.
pub(crate) const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 84, 0, 10));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 84, 0, 20));

/// The extension with this number.
pub(crate) fn extension(number: u32) -> String {
    format!("{}", 10_000 + number)
}

/// The device that may be it.
pub(crate) fn hardware_id(number: u32) -> String {
    format!("0090330{}", extension(number))
}

/// Writes the configuration beside the certificates.
pub(crate) fn configure(directory: &Path, pbx: SocketAddr, extensions: u32) -> io::Result<()> {
    let mut text = format!(
        "[node]\ndata_dir = \"data\"\nadmin_socket = \"admin.sock\"\nlog = \"warn\"\n\n\
         [outside]\naddress = \"{OUTSIDE}\"\ntls = 0\ncertificate = \"server.pem\"\n\
         private_key = \"server.key\"\ndevice_ca = [\"device-ca.pem\"]\n\n\
         [inside]\naddress = \"{INSIDE}\"\nudp = 0\n\n\
         [media]\nstun_server = false\n\n\
         [registration]\nphone_expires = \"1h\"\n\n\
         [[pbx]]\nname = \"main\"\nuri = \"sip:{pbx};transport=udp\"\ndomain = \"{DOMAIN}\"\n\
         registrations = \"1000/1s\"\n"
    );
    for number in 0..extensions {
        write!(
            text,
            "\n[[extension]]\nname = \"{}\"\nhardware_ids = [\"{}\"]\npassword = \"secret\"\n",
            extension(number),
            hardware_id(number)
        )
        .map_err(io::Error::other)?;
    }
    fs::write(directory.join("portcullis.toml"), text)
}

/// The daemon; it ends with this value.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    tls: SocketAddr,
}

impl Daemon {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(binary: &Path, directory: &Path) -> io::Result<Self> {
        let mut child = Command::new(binary)
            .args(["run", "-c", "portcullis.toml"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        let ready = lines.into_iter().flatten().map_while(Result::ok).find(|line| line.starts_with("ready:"));
        let mut daemon = Self { child, tls: SocketAddr::new(OUTSIDE, 0) };
        let address = ready.as_deref().and_then(|line| line.split_once("tls ")).map(|(_, rest)| rest);
        let address = address.and_then(|rest| rest.split([',', ' ']).next()).and_then(|it| it.parse().ok());
        daemon.tls = address.ok_or_else(|| io::Error::other("it ended, or named no TLS port"))?;
        Ok(daemon)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it takes phones.
    pub(crate) fn tls(&self) -> SocketAddr {
        self.tls
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // one that has ended already needs no signal
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
