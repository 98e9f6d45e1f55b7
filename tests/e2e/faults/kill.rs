//! `kill -9` at points that a seed chooses, under registrations, calls and commands.
//!
//! `PORTCULLIS_FAULT_ROUNDS` says how often (20), `PORTCULLIS_FAULT_SEED` with which seed (1). The seed chooses
//! what is done and when the kill comes; what the processes have done by then is the machine's affair.

mod device;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use portcullis_tests::deadline::{pause, wait_until};
use portcullis_tests::dialog::Dialog;
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab, Variation};
use portcullis_tests::portcullis::{Portcullis, Surroundings, command};
use portcullis_tests::raw_message::{Draft, RawMessage, unique};
use portcullis_tests::raw_phone::RawPhone;
use portcullis_tests::rng::Rng;
use portcullis_tests::rtp::RtpEnd;

use super::party::{ask, attend, receive};
use crate::support::{SOON, accept, invite, number, text};
use device::Device;

/// A second phone of 1001.
const SECOND_1001: &str = "009033010211";
/// How long the PBX keeps a contact that nobody refreshes.
const PBX_EXPIRES: Duration = Duration::from_secs(60);

#[test]
fn nothing_that_was_confirmed_is_lost_by_a_kill() {
    let setting = |name: &str, default: u64| {
        let value = std::env::var(name).ok();
        value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
    };
    let (rounds, seed) = (setting("PORTCULLIS_FAULT_ROUNDS", 20), setting("PORTCULLIS_FAULT_SEED", 1));
    let mut scene = Scene::new(seed);
    for round in 1..=rounds {
        println!("kill {round} of {rounds}, seed {seed}");
        scene.round();
    }
    scene.finish();
    scene.report(seed);
}

/// The lab under fire, and what has to be true of it.
struct Scene {
    lab: Lab,
    rng: Rng,
    devices: Vec<Device>,
    desk: RawPhone,
    /// The calls that were up at a kill: whose, and as that phone sees it.
    cut_off: Vec<(usize, Dialog)>,
    blocked: BTreeSet<String>,
    unblocked: BTreeSet<String>,
    started_in: Vec<Duration>,
    starts_cut_short: u32,
    calls: [u32; STAGES.len()],
}

/// How far a call comes before the kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sent,
    Ringing,
    Up,
    Ended,
}

const STAGES: [Stage; 4] = [Stage::Sent, Stage::Ringing, Stage::Up, Stage::Ended];

impl Scene {
    fn new(seed: u64) -> Self {
        let ids = format!("hardware_ids = [\"{DEVICE_1001}\", \"{SECOND_1001}\"]");
        let pbx_expires = PBX_EXPIRES.as_secs();
        let times = format!("grace = \"5m\"\nphone_expires = \"60s\"\npbx_expires = \"{pbx_expires}s\"");
        let replace = [
            ("hardware_ids = [\"009033010203\"]", ids.as_str()),
            ("grace = \"2s\"", &times),
            ("rules = [\"5/1s\", \"60/1h\"]", "rules = [\"50/1s\", \"9000/1h\"]"),
        ];
        let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
        let devices = vec![
            Device::new(&lab, 1, "1001", Some(DEVICE_1001)),
            Device::new(&lab, 2, "1001", Some(SECOND_1001)),
            Device::new(&lab, 3, "1002", Some(DEVICE_1002)),
            Device::new(&lab, 4, "1003", None),
        ];
        let desk = lab.desk_phone("2001");
        let (cut_off, blocked, unblocked, started_in) = Default::default();
        let (rng, starts_cut_short, calls) = (Rng::new(seed), 0, Default::default());
        Self { lab, rng, devices, desk, cut_off, blocked, unblocked, started_in, starts_cut_short, calls }
    }

    /// Phones come, call and sign off, the border is killed meanwhile, and nothing is lost.
    fn round(&mut self) {
        for index in 0..self.devices.len() {
            if !self.rng.one_in(3) {
                self.devices[index].come_back(&self.lab);
            }
        }
        self.hang_up_what_was_cut_off();
        let stage = self.rng.choose(&STAGES);
        match self.rng.below(5) {
            0 => {}
            1 | 2 => self.call(0, stage),
            _ => self.be_called(2, stage),
        }
        for device in &mut self.devices {
            match self.rng.below(3) {
                0 => {}
                wish => device.ask(wish == 1),
            }
        }
        self.kill_under_a_command();
        self.devices.iter_mut().for_each(Device::hear_to_the_end);
        self.restart();
        self.check_registrations();
        self.check_blocks();
    }

    /// Who hangs up a call that a kill has cut off is told that there is none.
    fn hang_up_what_was_cut_off(&mut self) {
        for (index, mut dialog) in std::mem::take(&mut self.cut_off) {
            let Some(phone) = self.devices[index].registered_phone() else { continue };
            let answer = ask(phone, &dialog.request("BYE"));
            assert_eq!(answer.status(), 481, "{answer:?}");
        }
    }

    /// A call from this device to the desk.
    fn call(&mut self, index: usize, stage: Stage) {
        let (desk, Some(phone)) = (&mut self.desk, self.devices[index].registered_phone()) else { return };
        self.calls[stage as usize] += 1;
        let [outside, inside] = [phone.local(), desk.local()].map(|end| RtpEnd::open(end.ip(), None));
        let mut draft = invite(phone, "1001", "2001", &outside);
        let marker = unique("call ");
        phone.send(draft.set("Subject", &marker));
        if stage == Stage::Sent {
            return;
        }
        let is_it = |message: &RawMessage| message.values("Subject").contains(&marker);
        let arrived = receive(desk, "INVITE", |message| message.method() == "INVITE" && is_it(message));
        desk.reply(&Draft::answer(&arrived, 180, "Ringing", "accepted"));
        receive(phone, "180", of_call(draft.get("Call-ID"), "180"));
        if stage == Stage::Ringing {
            return;
        }
        accept(desk, &arrived, "2001", &inside);
        let answered = receive(phone, "200", of_call(draft.get("Call-ID"), "200"));
        let mut dialog = Dialog::of_caller(&draft, &answered);
        phone.send(&dialog.ack());
        let call_id = arrived.value("Call-ID");
        receive(desk, "ACK", of_call(&call_id, "ACK"));
        if stage == Stage::Up {
            return self.cut_off.push((index, dialog));
        }
        phone.send(&dialog.request("BYE"));
        let bye = receive(desk, "BYE", of_call(&call_id, "BYE"));
        desk.reply(&Draft::answer(&bye, 200, "OK", "accepted"));
        receive(phone, "200", of_call(draft.get("Call-ID"), "200"));
        self.check_ports();
    }

    /// A call from the desk to this device.
    fn be_called(&mut self, index: usize, stage: Stage) {
        let extension = self.devices[index].extension;
        let (desk, Some(phone)) = (&mut self.desk, self.devices[index].registered_phone()) else { return };
        self.calls[stage as usize] += 1;
        let [outside, inside] = [phone.local(), desk.local()].map(|end| RtpEnd::open(end.ip(), None));
        let mut draft = invite(desk, "2001", extension, &inside);
        let via = desk.send(&draft);
        let challenge = receive(desk, "407", of_call(draft.get("Call-ID"), "407"));
        desk.acknowledge(&draft, &via, &challenge);
        let marker = unique("call ");
        draft.follow_up().authorize(&challenge, "2001", "secret2001").set("Subject", &marker);
        desk.send(&draft);
        if stage == Stage::Sent {
            return;
        }
        let is_it = |message: &RawMessage| message.values("Subject").contains(&marker);
        let arrived = receive(phone, "INVITE", |message| message.method() == "INVITE" && is_it(message));
        phone.reply(&Draft::answer(&arrived, 180, "Ringing", "accepted"));
        receive(desk, "180", of_call(draft.get("Call-ID"), "180"));
        if stage == Stage::Ringing {
            return;
        }
        let accepted = accept(phone, &arrived, extension, &outside);
        let answered = receive(desk, "200", of_call(draft.get("Call-ID"), "200"));
        desk.send(&Dialog::of_caller(&draft, &answered).ack());
        let call_id = arrived.value("Call-ID");
        receive(phone, "ACK", of_call(&call_id, "ACK"));
        let mut dialog = Dialog::of_callee(&arrived, &accepted);
        if stage == Stage::Up {
            return self.cut_off.push((index, dialog));
        }
        phone.send(&dialog.request("BYE"));
        let bye = receive(desk, "BYE", of_call(draft.get("Call-ID"), "BYE"));
        desk.reply(&Draft::answer(&bye, 200, "OK", "accepted"));
        receive(phone, "200", of_call(&call_id, "200"));
        self.check_ports();
    }

    /// Calls that have ended gave everything back.
    fn check_ports(&mut self) {
        wait_until("no call, no relay and no port for media is left", SOON, || {
            attend(&mut self.desk);
            self.devices.iter_mut().filter_map(Device::registered_phone).for_each(attend);
            let status = self.lab.portcullis.ask(&["status"]);
            let counts = [number(&status, "calls"), number(&status, "relays"), self.lab.media_ports() as f64];
            (counts == [0.0; 3]).then_some(())
        });
    }

    /// The operator blocks or unblocks somebody, and at some moment the border is killed.
    fn kill_under_a_command(&mut self) {
        let add = self.blocked.len() < 5 || self.rng.one_in(2);
        let new = format!("203.0.{}.{}", self.rng.below(200), self.rng.below(255));
        let chosen = self.rng.below(self.blocked.len().max(1) as u64) as usize;
        let known = self.blocked.iter().nth(chosen).filter(|_| !add);
        let address = known.cloned().unwrap_or(new);
        let delay = Duration::from_micros(self.rng.magnitude(16));
        let (file, directory) =
            (self.lab.configuration().display().to_string(), self.lab.directory().to_owned());
        let words = ["block", if add { "add" } else { "remove" }, &address, "-c", &file];
        let portcullis = &mut self.lab.portcullis;
        let done = std::thread::scope(|scope| {
            let told = scope.spawn(|| command(&words, &directory).status.success());
            pause(delay);
            portcullis.kill();
            told.join().expect("the command line ends")
        });
        // Of what was not confirmed either may be true.
        self.blocked.remove(&address);
        self.unblocked.remove(&address);
        match (done, add) {
            (true, true) => self.blocked.insert(address),
            (true, false) => self.unblocked.insert(address),
            (false, _) => false,
        };
    }

    /// It starts again; sometimes it is killed in the middle of that first.
    fn restart(&mut self) {
        if self.rng.one_in(4) {
            let after = Duration::from_micros(self.rng.magnitude(17));
            Portcullis::cut_short(self.lab.configuration(), &Surroundings::default(), after);
            self.starts_cut_short += 1;
        }
        self.lab.restart();
        self.started_in.push(self.lab.portcullis.started_in);
    }

    /// What phones were told is what the border knows and the PBX has.
    fn check_registrations(&mut self) {
        let rows = self.lab.portcullis.rows(&["registrations"]);
        for device in &mut self.devices {
            let is_it = |row: &&serde_json::Value| {
                text(row, "extension") == device.extension
                    && row["hardware_id"].as_str() == device.hardware_id
            };
            let listed = rows.iter().filter(is_it).count();
            assert!(listed <= 1, "one binding for each device: {rows:?}");
            let told = device.what_holds_after_a_kill();
            let (extension, id) = (device.extension, device.hardware_id);
            assert!(told.is_none_or(|told| told == (listed == 1)), "{extension} {id:?}: {told:?}: {rows:?}");
        }
        for extension in ["1001", "1002", "1003"] {
            let of_it = || self.devices.iter().filter(|device| device.extension == extension);
            let contacts = self.lab.pbx.contacts(extension).len();
            let told = of_it().filter(|device| device.told == Some(true)).count();
            assert!(contacts >= told, "{extension}: {told} were told 200, the PBX has {contacts}");
            assert!(contacts <= of_it().count(), "{extension}: {contacts} contacts at the PBX");
        }
    }

    fn check_blocks(&self) {
        let rows = self.lab.portcullis.rows(&["block", "list"]);
        let listed: BTreeSet<String> = rows.iter().map(|row| text(row, "address").to_owned()).collect();
        let lost: Vec<_> = self.blocked.difference(&listed).collect();
        assert!(lost.is_empty(), "{lost:?} were blocked: {rows:?}");
        let back: Vec<_> = self.unblocked.intersection(&listed).collect();
        assert!(back.is_empty(), "{back:?} were unblocked: {rows:?}");
    }

    /// The phones stay away: in the end the PBX has no contact that nobody owns.
    fn finish(&mut self) {
        self.check_ports();
        self.devices[3].come_back(&self.lab);
        self.devices[3].sign_off();
        self.lab.portcullis.kill();
        self.devices.iter_mut().for_each(Device::hear_to_the_end);
        let file = fs::read_to_string(self.lab.configuration()).expect("the configuration");
        let short = file.replace("grace = \"5m\"", "grace = \"1s\"");
        fs::write(self.lab.configuration(), short).expect("the configuration can be changed");
        self.lab.restart();
        self.lab.portcullis.wait_rows(&["registrations"], 0);
        for extension in ["1001", "1002", "1003"] {
            self.lab.pbx.wait_contacts(extension, 0, PBX_EXPIRES + SOON);
        }
    }

    /// For `cargo xtask faults`: what was done, and how long starts took.
    fn report(&mut self, seed: u64) {
        self.started_in.sort_unstable();
        let millis = |time: Option<&Duration>| time.map_or(0, Duration::as_millis);
        let (median, longest) =
            (millis(self.started_in.get(self.started_in.len() / 2)), millis(self.started_in.last()));
        let late = self.started_in.iter().filter(|time| **time > Duration::from_secs(1)).count();
        let (kills, cut_short) = (self.started_in.len(), self.starts_cut_short);
        println!(
            "report: {kills} kills with seed {seed}, and {cut_short} start(s) cut short: nothing was lost"
        );
        assert!(median < 1_000, "a start takes {median} ms (median), and a second at most is promised");
        println!("report: start-up {median} ms (median), {longest} ms (longest); {late} took over a second");
        let calls = STAGES.map(|stage| format!("{} {stage:?}", self.calls[stage as usize])).join(", ");
        println!("report: calls at the kill or before it: {calls}");
    }
}

/// Belongs to this call and is a request of this method, or an answer with this status.
fn of_call(call_id: &str, kind: &str) -> impl Fn(&RawMessage) -> bool {
    let (call_id, kind) = (call_id.to_owned(), kind.to_owned());
    move |message| {
        let is_kind = message.method() == kind || message.status().to_string() == kind;
        is_kind && message.value("Call-ID") == call_id
    }
}
