//! Kamailio 5.6 as the PBX: a registrar with digest, and calls between its extensions.
//!
//! An extension's password is `secret` and its name. Nothing outlives a restart of it, which is what the tests
//! of a lost binding need. Every message that it receives stands in its log.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::deadline::wait_until;
use crate::netns::Namespace;
use crate::process::{Process, Recipe, program};
use crate::raw_message::RawMessage;

const SOON: Duration = Duration::from_secs(15);

/// The realm of its challenges, and the domain of its extensions.
pub const DOMAIN: &str = "pbx.lab";

/// How the PBX shall behave.
#[derive(Clone, Debug)]
pub struct Manner {
    /// `MD5` or `SHA-256`.
    pub algorithm: &'static str,
    /// Whether challenges carry `qop="auth"`.
    pub qop: bool,
    /// Contacts that it keeps for an extension; of one, the newest displaces the old.
    pub contacts_max: u32,
    /// How long a nonce is good, in seconds.
    pub nonce_secs: u32,
    /// The realm of its challenges.
    pub realm: &'static str,
    /// Whether it challenges a BYE too, as it does an INVITE.
    pub challenge_bye: bool,
    /// Whether it takes a second to accept a contact; to forget one it never takes long.
    pub slow_register: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            algorithm: "MD5",
            qop: true,
            contacts_max: 8,
            nonce_secs: 300,
            realm: DOMAIN,
            challenge_bye: false,
            slow_register: false,
        }
    }
}

/// The PBX.
#[derive(Debug)]
pub struct Kamailio {
    process: Process,
    address: SocketAddr,
    directory: PathBuf,
    namespace: Option<u32>,
}

impl Kamailio {
    /// Starts it at this address, port 5060, UDP and TCP.
    pub fn start(address: IpAddr, directory: &Path, manner: &Manner, namespace: Option<&Namespace>) -> Self {
        fs::create_dir_all(directory).expect("a directory for the PBX can be made");
        let address = SocketAddr::new(address, 5060);
        fs::write(directory.join("kamailio.cfg"), configuration(address, directory, manner))
            .expect("its configuration");
        let process = launch(directory, namespace);
        let pbx = Self {
            process,
            address,
            directory: directory.to_owned(),
            namespace: namespace.map(Namespace::pid),
        };
        pbx.wait_ready();
        pbx
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once, as a crash would.
    pub fn crash(&mut self) {
        self.process.kill();
    }

    /// It hangs: its sockets stay open, and nothing reads them.
    pub fn hang(&self) {
        self.process.freeze();
    }

    /// It hangs no more, and reads what has come meanwhile.
    pub fn go_on(&self) {
        self.process.thaw();
    }

    /// Starts it again, without its bindings.
    pub fn start_again(&mut self, namespace: Option<&Namespace>) {
        assert_eq!(namespace.map(Namespace::pid), self.namespace, "a PBX stays where it is");
        self.process.kill();
        self.process = launch(&self.directory, namespace);
        self.wait_ready();
    }

    /// Gives it another manner; takes effect when it is started again.
    pub fn change(&self, manner: &Manner) {
        let text = configuration(self.address, &self.directory, manner);
        fs::write(self.directory.join("kamailio.cfg"), text).expect("its configuration");
    }

    /// The contacts it has for an extension.
    pub fn contacts(&self, extension: &str) -> Vec<String> {
        let answer = self.ask("ul.lookup", json!(["location", extension]));
        let contacts =
            answer.pointer("/result/Contacts").and_then(Value::as_array).cloned().unwrap_or_default();
        let addresses = contacts.iter().filter_map(|entry| entry.pointer("/Contact/Address")?.as_str());
        addresses.map(str::to_owned).collect()
    }

    /// Waits until it has so many contacts for an extension, and tells them.
    #[track_caller]
    pub fn wait_contacts(&self, extension: &str, count: usize, within: Duration) -> Vec<String> {
        wait_until(&format!("{count} contacts of {extension} at the PBX"), within, || {
            Some(self.contacts(extension)).filter(|contacts| contacts.len() == count)
        })
    }

    /// Makes it forget an extension's contacts.
    pub fn forget(&self, extension: &str) {
        let answer = self.ask("ul.rm", json!(["location", extension]));
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// Waits until it has done what a REGISTER that it received wants.
    #[track_caller]
    pub fn wait_saved(&self, register: &RawMessage, within: Duration) {
        let number = register.value("CSeq").replace(" REGISTER", "");
        self.process.wait_for(&format!("saved <{} {number}>", register.value("Call-ID")), within);
    }

    /// The place in its log.
    pub fn mark(&self) -> usize {
        self.process.mark()
    }

    /// All it received after a mark, requests and answers, oldest first.
    pub fn received_after(&self, mark: usize) -> Vec<RawMessage> {
        let text = self.process.text_after(mark);
        let messages = text.split(">>>> ").skip(1).filter_map(|part| Some(part.split_once("\n<<<<")?.0));
        messages.filter_map(|part| Some(RawMessage(part.split_once('\n')?.1.replace('\n', "\r\n")))).collect()
    }

    /// The requests of one method that it received after a mark.
    pub fn requests_after(&self, mark: usize, method: &str) -> Vec<RawMessage> {
        self.received_after(mark).into_iter().filter(|message| message.method() == method).collect()
    }

    fn wait_ready(&self) {
        wait_until("the PBX answers its control socket", SOON, || self.try_ask("core.version", &json!([])));
    }

    fn ask(&self, method: &str, parameters: Value) -> Value {
        wait_until("the PBX answers its control socket", SOON, || self.try_ask(method, &parameters))
    }

    fn try_ask(&self, method: &str, parameters: &Value) -> Option<Value> {
        let own = self.directory.join(crate::raw_message::unique("rpc-"));
        let socket = UnixDatagram::bind(&own).expect("a socket for questions");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout can be set");
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters });
        let mut buffer = vec![0; 65_536];
        let sent = socket.send_to(question.to_string().as_bytes(), self.directory.join("rpc"));
        let answer = sent.and_then(|_| socket.recv(&mut buffer));
        fs::remove_file(&own).expect("a socket for questions");
        serde_json::from_slice(buffer.get(..answer.ok()?)?).ok()
    }
}

fn launch(directory: &Path, namespace: Option<&Namespace>) -> Process {
    let path = |name: &str| directory.join(name).display().to_string();
    for left in ["rpc", "pid"] {
        if Path::new(&path(left)).exists() {
            fs::remove_file(path(left)).expect("what the last run left behind");
        }
    }
    let words = ["-DD", "-E", "-m", "64", "-M", "8"].map(str::to_owned).into_iter();
    let files = [("-f", "kamailio.cfg"), ("-P", "pid")]
        .into_iter()
        .flat_map(|(key, name)| [key.to_owned(), path(name)]);
    let places = ["-w", "-Y"].into_iter().flat_map(|key| [key.to_owned(), directory.display().to_string()]);
    Recipe::new(program("kamailio"), directory)
        .args(words.chain(files).chain(places))
        .within(namespace)
        .start()
}

fn configuration(address: SocketAddr, directory: &Path, manner: &Manner) -> String {
    let mut text = String::from("#!KAMAILIO\n");
    let Manner { algorithm, qop, contacts_max, nonce_secs, realm, challenge_bye, slow_register } = manner;
    let listen = format!("listen=udp:{address}\nlisten=tcp:{address}\n");
    text.push_str(&listen);
    text.push_str(GLOBALS);
    for module in MODULES {
        writeln!(text, "loadmodule \"{module}.so\"").expect("text grows");
    }
    for (module, key, value) in [
        ("jsonrpcs", "transport", "4".to_owned()),
        ("jsonrpcs", "dgram_socket", format!("\"{}\"", directory.join("rpc").display())),
        ("xlog", "buf_size", "65536".to_owned()),
        ("usrloc", "db_mode", "0".to_owned()),
        ("usrloc", "timer_interval", "1".to_owned()),
        ("registrar", "max_contacts", contacts_max.to_string()),
        ("registrar", "max_expires", "3600".to_owned()),
        ("registrar", "min_expires", "30".to_owned()),
        ("auth", "nonce_expire", nonce_secs.to_string()),
        ("auth", "algorithm", format!("\"{algorithm}\"")),
        ("tm", "fr_timer", "8000".to_owned()),
        ("tm", "fr_inv_timer", "60000".to_owned()),
    ] {
        writeln!(text, "modparam(\"{module}\", \"{key}\", {value})").expect("text grows");
    }
    // Flag 0x04: one contact for each AOR.
    let save = if *contacts_max == 1 { "0x04" } else { "0x00" };
    let qop = if *qop { "1" } else { "0" };
    let challenged_in_dialog = if *challenge_bye { "BYE" } else { "NONE" };
    let pause = if *slow_register { "1" } else { "0" };
    let routes = ROUTES.replace("@REALM@", realm).replace("@QOP@", qop).replace("@SAVE@", save);
    text + &routes.replace("@CHALLENGED_IN_DIALOG@", challenged_in_dialog).replace("@PAUSE@", pause)
}

const GLOBALS: &str = r#"
debug=1
log_stderror=yes
fork=yes
children=2
tcp_children=2
auto_aliases=no
dns=no
rev_dns=no
tcp_connection_lifetime=3605
tcp_rd_buf_size=65536
"#;

const MODULES: &[&str] = &[
    "kex",
    "corex",
    "tm",
    "tmx",
    "sl",
    "rr",
    "pv",
    "maxfwd",
    "textops",
    "cfgutils",
    "siputils",
    "xlog",
    "usrloc",
    "registrar",
    "auth",
    "jsonrpcs",
];

const ROUTES: &str = r#"
request_route {
	xlog("L_NOTICE", "\n>>>> $pr $si:$sp\n$mb\n<<<<\n");
	if (!mf_process_maxfwd_header("70")) {
		sl_send_reply("483", "Too Many Hops");
		exit;
	}
	if (is_method("OPTIONS") && $rU == $null) {
		sl_send_reply("200", "OK");
		exit;
	}
	if (has_totag()) {
		if ($rm == "@CHALLENGED_IN_DIALOG@") {
			if (!pv_proxy_authenticate("@REALM@", "secret$fU", "0")) {
				proxy_challenge("@REALM@", "@QOP@");
				exit;
			}
			consume_credentials();
		}
		if (loose_route()) {
			t_relay();
			exit;
		}
		if (!is_method("ACK")) {
			sl_send_reply("404", "Not Here");
		} else if (t_check_trans()) {
			t_relay();
		}
		exit;
	}
	if (is_method("CANCEL")) {
		if (t_check_trans()) t_relay();
		exit;
	}
	if (is_method("REGISTER")) {
		if (!pv_www_authenticate("@REALM@", "secret$tU", "0")) {
			www_challenge("@REALM@", "@QOP@");
			exit;
		}
		if (@PAUSE@ == 1 && is_present_hf("Contact") && !($hdr(Contact) =~ "expires=0")) {
			# A transaction takes in what the other end sends again meanwhile.
			if (!t_newtran()) exit;
			sleep("1");
		}
		if (!save("location", "@SAVE@")) sl_reply_error();
		xlog("L_NOTICE", "saved <$ci $cs>\n");
		exit;
	}
	if (is_method("INVITE|MESSAGE")) {
		if (!pv_proxy_authenticate("@REALM@", "secret$fU", "0")) {
			proxy_challenge("@REALM@", "@QOP@");
			exit;
		}
		consume_credentials();
		record_route();
	}
	if (!lookup("location")) {
		sl_send_reply("404", "Not Found");
		exit;
	}
	t_relay();
}

onreply_route {
	xlog("L_NOTICE", "\n>>>> $pr $si:$sp\n$mb\n<<<<\n");
}
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addresses;
    use crate::raw_message::Draft;
    use crate::raw_phone::{ANSWER, RawPhone};
    use crate::scratch::Scratch;

    #[test]
    fn it_registers_with_digest_alone_and_forgets_on_restart() {
        let (scratch, addresses) = (Scratch::new(), Addresses::claim());
        let mut pbx = Kamailio::start(addresses.pbx(), scratch.path(), &Manner::default(), None);
        let mut phone = RawPhone::udp(addresses.inside_phone(), pbx.address());
        let mut register = Draft::register("2001", DOMAIN, &phone.contact("2001"), 60);
        let challenge = phone.ask(&register);
        assert_eq!(challenge.status(), 401, "{challenge:?}");
        assert_eq!(phone.ask(register.follow_up().authorize(&challenge, "2001", "wrong")).status(), 401);
        assert_eq!(phone.ask(register.follow_up().authorize(&challenge, "2001", "secret2001")).status(), 200);
        assert_eq!(pbx.contacts("2001"), [phone.contact("2001")]);
        wait_until("three REGISTERs are in its log", ANSWER, || {
            (pbx.requests_after(0, "REGISTER").len() == 3).then_some(())
        });
        pbx.start_again(None);
        assert_eq!(pbx.contacts("2001"), [""; 0]);
    }

    #[test]
    fn without_qop_and_over_tcp() {
        let (scratch, addresses) = (Scratch::new(), Addresses::claim());
        let manner = Manner { qop: false, ..Manner::default() };
        let pbx = Kamailio::start(addresses.pbx(), scratch.path(), &manner, None);
        let mut phone = RawPhone::tcp(addresses.inside_phone(), pbx.address()).expect("the PBX takes TCP");
        let mut register = Draft::register("2001", DOMAIN, &phone.contact("2001"), 60);
        let challenge = phone.ask(&register);
        assert!(!challenge.value("WWW-Authenticate").contains("qop"), "{challenge:?}");
        assert_eq!(phone.ask(register.follow_up().authorize(&challenge, "2001", "secret2001")).status(), 200);
        pbx.forget("2001");
        pbx.wait_contacts("2001", 0, ANSWER);
    }
}
