//! linphonec as a second phone, with a client certificate: another SIP stack and another TLS library than
//! baresip's.
//!
//! It takes its orders line by line from a FIFO. In its file mode it needs no sound card: it sends a tone, and
//! keeps what it hears in a file. Its connections come from `127.0.0.1`, whatever its address: it does not bind
//! them.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::baresip::Plan;
use crate::deadline::wait_until;
use crate::process::{Process, Recipe, program, run};
use crate::tone;

const SOON: Duration = Duration::from_secs(15);

/// The phone.
#[derive(Debug)]
pub struct Linphone {
    process: Process,
    orders: File,
    heard: PathBuf,
}

impl Linphone {
    /// Switches it on; it registers by itself, and answers every call.
    pub fn start(plan: &Plan<'_>, directory: &Path) -> Self {
        let directory = directory.join(format!("linphone-{}", plan.extension));
        // It makes none of these, and ends without its databases.
        fs::create_dir_all(directory.join(".local/share/linphone")).expect("a directory for the phone");
        let path = |name: &str| directory.join(name).display().to_string();
        fs::write(directory.join("linphonerc"), configuration(plan)).expect("its configuration");
        tone::write_tone(&directory.join("tone.wav"), plan.hertz, 120);
        let fifo = Recipe::new(program("mkfifo"), &directory).args([path("orders")]);
        run(fifo, SOON).unwrap_or_else(|fault| panic!("{fault}"));
        // Open for both, a FIFO never ends.
        let script = "exec linphonec -a -c \"$1\" -d 5 -l \"$2\" <>\"$3\"";
        let words = ["-i", &format!("HOME={}", directory.display()), "TERM=dumb", "sh", "-c", script, "sh"];
        let files = ["linphonerc", "sip.log", "orders"].map(path);
        let recipe = Recipe::new(program("env"), &directory).within(plan.namespace);
        let recipe = recipe.named(&format!("linphone-{}", plan.extension));
        let process = recipe.args(words.map(str::to_owned).into_iter().chain(files)).start();
        let orders = OpenOptions::new().read(true).write(true).open(directory.join("orders"));
        let mut phone =
            Self { process, orders: orders.expect("the FIFO is there"), heard: directory.join("heard.wav") };
        phone.order("soundcard use files");
        phone.order(&format!("play {}", path("tone.wav")));
        phone.order(&format!("record {}", path("heard.wav")));
        phone.process.wait_for("Using wav files", SOON);
        phone
    }

    /// Gives an order: a line of its command line.
    pub fn order(&mut self, line: &str) {
        writeln!(self.orders, "{line}").expect("the phone takes orders");
    }

    /// Calls somebody.
    pub fn dial(&mut self, uri: &str) {
        self.order(&format!("call {uri}"));
    }

    /// Ends the call.
    pub fn hang_up(&mut self) {
        self.order("terminate");
    }

    /// Waits until it has heard a tone for so many tenths of a second, while the call goes on.
    #[track_caller]
    pub fn wait_heard(&self, hertz: u32, tenths: usize) {
        wait_until(&format!("{tenths} tenths of a second of {hertz} Hz are heard"), SOON, || {
            (tone::tenths_with(&tone::read_wav(&self.heard), hertz) >= tenths).then_some(())
        });
    }
}

/// Where an IP address stands for the server its TLS library checks the chain alone: it does not know such
/// names in certificates.
fn configuration(plan: &Plan<'_>) -> String {
    let Plan { extension, domain, address, server, transport, .. } = plan;
    let mut text = format!(
        "[sip]\ndefault_proxy=0\nsip_port=-1\nsip_tcp_port=-1\nsip_tls_port=-1\nbind_address={address}\nverify_server_certs=1\n\
         verify_server_cn=0\nguess_hostname=0\nuse_ipv6=0\n"
    );
    if let Some(ca_file) = plan.ca_file {
        text.push_str(&format!("root_ca={}\n", ca_file.display()));
    }
    text.push_str(&format!(
        "[rtp]\naudio_rtp_port=-1\n[proxy_0]\nreg_proxy=<sip:{server};transport={transport}>\n\
         reg_route=<sip:{server};transport={transport}>\nreg_identity=sip:{extension}@{domain}\nreg_expires=60\n\
         reg_sendregister=1\npublish=0\n[auth_info_0]\nusername={extension}\ndomain={domain}\nrealm={domain}\n\
         passwd={}\n",
        plan.password
    ));
    if let Some(identity) = plan.identity {
        let file = identity.file.display();
        text.push_str(&format!("client_cert_chain={file}\nclient_cert_key={file}\n"));
    }
    text
}
