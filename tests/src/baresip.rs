//! baresip as the phone: one process for each, with a client certificate where it has one.
//!
//! It sends a tone, and keeps what it hears in a file, so that audio is measured by content.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::deadline::{Deadline, wait_until};
use crate::netns::Namespace;
use crate::pki::Identity;
use crate::process::{Process, Recipe, program};
use crate::tone;

const SOON: Duration = Duration::from_secs(15);

/// What kind of phone.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The name it registers.
    pub extension: &'a str,
    /// The domain of its AOR.
    pub domain: &'a str,
    /// Its password, where it needs one.
    pub password: &'a str,
    /// Its own address.
    pub address: IpAddr,
    /// Where it registers and sends its calls.
    pub server: SocketAddr,
    /// `udp`, `tcp` or `tls`.
    pub transport: &'a str,
    /// The device's certificate.
    pub identity: Option<&'a Identity>,
    /// The CA of the server's certificate.
    pub ca_file: Option<&'a Path>,
    /// The tone it sends.
    pub hertz: u32,
    /// In which network it lives.
    pub namespace: Option<&'a Namespace>,
}

/// The phone.
#[derive(Debug)]
pub struct Baresip {
    process: Process,
    control: TcpStream,
    events: Arc<Events>,
    directory: PathBuf,
}

impl Baresip {
    /// Switches it on; it registers by itself.
    pub fn start(plan: &Plan<'_>, directory: &Path) -> Self {
        let directory = directory.join(format!("phone-{}-{}", plan.extension, plan.hertz));
        fs::create_dir_all(&directory).expect("a directory for the phone can be made");
        tone::write_tone(&directory.join("tone.wav"), plan.hertz, 120);
        let write =
            |name: &str, text: &str| fs::write(directory.join(name), text).expect("its configuration");
        write("config", &configuration(plan, &directory));
        write("accounts", &account(plan));
        write("contacts", "");
        let path = directory.display().to_string();
        let recipe =
            Recipe::new(program("baresip"), &directory).args(["-s", "-f", &path]).within(plan.namespace);
        let process = recipe.named(&format!("baresip-{}", plan.extension)).start();
        process.wait_for("baresip is ready", SOON);
        let connect = || TcpStream::connect((plan.address, CONTROL_PORT)).ok();
        let control = wait_until("the phone takes orders", SOON, || match plan.namespace {
            Some(namespace) => namespace.enter(connect),
            None => connect(),
        });
        let events = Arc::new(Events::default());
        events.follow(control.try_clone().expect("a socket can be shared"));
        Self { process, control, events, directory }
    }

    /// Waits until the server has confirmed its registration.
    #[track_caller]
    pub fn wait_registered(&self) {
        self.process.wait_for("binding", SOON);
    }

    /// Waits for a line in its log, which has every SIP message.
    #[track_caller]
    pub fn wait_for(&self, text: &str, within: Duration) -> String {
        self.process.wait_for(text, within)
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        self.process.text_after(0)
    }

    /// Gives an order: a command of baresip's menu.
    pub fn order(&mut self, command: &str, parameters: &str) {
        let order = json!({ "command": command, "params": parameters }).to_string();
        let netstring = format!("{}:{order},", order.len());
        self.control.write_all(netstring.as_bytes()).expect("the phone takes orders");
    }

    /// Calls somebody.
    pub fn dial(&mut self, uri: &str) {
        self.order("dial", uri);
    }

    /// Ends the call.
    pub fn hang_up(&mut self) {
        self.order("hangup", "");
    }

    /// The place in its list of events.
    pub fn mark(&self) -> usize {
        self.events.list.lock().unwrap().len()
    }

    /// Waits for an event after a mark, such as `CALL_ESTABLISHED`.
    #[track_caller]
    pub fn wait_event(&self, mark: usize, kind: &str, within: Duration) -> Value {
        let deadline = Deadline::after(within);
        let mut list = self.events.list.lock().unwrap();
        loop {
            if let Some(event) =
                list.get(mark..).unwrap_or_default().iter().find(|event| event["type"] == kind)
            {
                return event.clone();
            }
            let Some(left) = deadline.left() else {
                panic!("the phone told no {kind} within {within:?}, but {list:#?}\n{}", self.process.tail());
            };
            list = self.events.grown.wait_timeout(list, left).unwrap().0;
        }
    }

    /// What it has heard in its last call, which must be over.
    pub fn heard(&self) -> Vec<i16> {
        let entries = fs::read_dir(&self.directory).expect("its directory can be read");
        let paths = entries.map(|entry| entry.expect("its directory can be read").path());
        let newest = paths.filter(|path| path.to_string_lossy().ends_with("-dec.wav")).max();
        newest.map(|path| tone::read_wav(&path)).unwrap_or_default()
    }

    /// Waits until it has heard a tone for so many tenths of a second, while the call goes on.
    #[track_caller]
    pub fn wait_heard(&self, hertz: u32, tenths: usize, within: Duration) {
        wait_until(&format!("{tenths} tenths of a second of {hertz} Hz are heard"), within, || {
            (tone::tenths_with(&self.heard(), hertz) >= tenths).then_some(())
        });
    }

    /// Pulls its plug.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

const CONTROL_PORT: u16 = 4444;

fn account(plan: &Plan<'_>) -> String {
    let Plan { extension, domain, password, server, transport, .. } = plan;
    let secret = if password.is_empty() {
        String::new()
    } else {
        format!(";auth_user={extension};auth_pass={password}")
    };
    format!(
        "<sip:{extension}@{domain};transport={transport}>{secret};outbound=\"sip:{server};transport={transport}\";\
         regint=60;audio_codecs=PCMU/8000/1;answermode=auto\n"
    )
}

fn configuration(plan: &Plan<'_>, directory: &Path) -> String {
    let mut text = String::new();
    let path = |name: &str| directory.join(name).display().to_string();
    let mut set = |key: &str, value: &str| writeln!(text, "{key} {value}").expect("text grows");
    set("module_path", "/usr/lib/baresip/modules");
    for module in ["g711.so", "aufile.so", "aubridge.so", "sndfile.so", "uuid.so"] {
        set("module", module);
    }
    set("module_tmp", "account.so");
    set("module_app", "menu.so");
    set("module_app", "ctrl_tcp.so");
    set("ctrl_tcp_listen", &SocketAddr::new(plan.address, CONTROL_PORT).to_string());
    set("net_interface", &plan.address.to_string());
    set("rtp_ports", "30000-32000");
    set("audio_source", &format!("aufile,{}", path("tone.wav")));
    set("audio_player", "aubridge,sink");
    set("audio_alert", "aubridge,alert");
    set("audio_path", &directory.display().to_string());
    set("snd_path", &directory.display().to_string());
    for key in ["ausrc_srate", "auplay_srate"] {
        set(key, "8000");
    }
    for key in ["ausrc_channels", "auplay_channels"] {
        set(key, "1");
    }
    if let Some(identity) = plan.identity {
        set("sip_certificate", &identity.file.display().to_string());
    }
    if let Some(ca_file) = plan.ca_file {
        set("sip_cafile", &ca_file.display().to_string());
    }
    text
}

/// What the phone tells by its control socket, in order.
#[derive(Debug, Default)]
struct Events {
    list: Mutex<Vec<Value>>,
    grown: Condvar,
}

impl Events {
    fn follow(self: &Arc<Self>, mut control: TcpStream) {
        let events = Arc::clone(self);
        std::thread::spawn(move || {
            let mut buffer = Vec::new();
            let mut part = [0; 4096];
            while let Ok(length) = control.read(&mut part) {
                if length == 0 {
                    return;
                }
                buffer.extend_from_slice(&part[..length]);
                while let Some(event) = take_netstring(&mut buffer) {
                    events.list.lock().unwrap().push(event);
                    events.grown.notify_all();
                }
            }
        });
    }
}

/// Cuts `LENGTH:JSON,` off.
fn take_netstring(buffer: &mut Vec<u8>) -> Option<Value> {
    let colon = buffer.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&buffer[..colon]).ok()?.trim_matches(',').parse().ok()?;
    let body = buffer.get(colon + 1..colon + 1 + length)?;
    let event = serde_json::from_slice(body).unwrap_or(Value::Null);
    buffer.drain(..(colon + 2 + length).min(buffer.len()));
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addresses;
    use crate::kamailio::{DOMAIN, Kamailio, Manner};
    use crate::scratch::Scratch;

    #[test]
    fn two_phones_hear_each_other_by_the_pbx_alone() {
        let (scratch, addresses) = (Scratch::new(), Addresses::claim());
        let pbx = Kamailio::start(addresses.pbx(), &scratch.subdirectory("pbx"), &Manner::default(), None);
        let plan = |extension, password, number, hertz| Plan {
            extension,
            domain: DOMAIN,
            password,
            address: addresses.phone(number),
            server: pbx.address(),
            transport: "udp",
            identity: None,
            ca_file: None,
            hertz,
            namespace: None,
        };
        let mut caller = Baresip::start(&plan("1001", "secret1001", 1, 440), scratch.path());
        let callee = Baresip::start(&plan("1002", "secret1002", 2, 880), scratch.path());
        caller.wait_registered();
        callee.wait_registered();
        caller.dial("sip:1002@pbx.lab");
        caller.wait_event(0, "CALL_ESTABLISHED", SOON);
        caller.wait_heard(880, 10, SOON);
        callee.wait_heard(440, 10, SOON);
        caller.hang_up();
        callee.wait_event(0, "CALL_CLOSED", SOON);
        assert!(tone::tenths_with(&caller.heard(), 440) <= 1, "nobody hears himself");
    }

    #[test]
    fn netstrings_are_cut_where_they_end() {
        let mut buffer = b"7:{\"a\":1},7:{\"a\"".to_vec();
        assert_eq!(take_netstring(&mut buffer), Some(json!({ "a": 1 })));
        assert_eq!(take_netstring(&mut buffer), None);
        buffer.extend_from_slice(b":2},");
        assert_eq!(take_netstring(&mut buffer), Some(json!({ "a": 2 })));
        assert!(buffer.is_empty());
    }
}
