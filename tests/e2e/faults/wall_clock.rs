//! The machine's clock is set: while it runs, before a kill, before a start.

use std::time::Duration;

use portcullis_tests::deadline::{Stopwatch, wait_until};
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab};
use portcullis_tests::portcullis::Surroundings;
use portcullis_tests::raw_message::Draft;
use portcullis_tests::raw_phone::RawPhone;
use portcullis_tests::rtp::RtpEnd;
use portcullis_tests::wall_clock::WallClock;
use serde_json::Value;

use crate::support::{SOON, call_desk, hang_up, number, registered_by_digest, talk, text, wait_idle};

const DAY: i64 = 86_400;

/// A lab whose border has a clock of its own.
struct Scene {
    lab: Lab,
    clock: WallClock,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::start();
        let clock = WallClock::new(lab.directory());
        let mut scene = Self { lab, clock };
        scene.start_again();
        scene
    }

    fn start_again(&mut self) {
        self.lab.portcullis.kill();
        let environment = self.clock.environment();
        self.lab.restart_in(&Surroundings { environment: &environment, ..Surroundings::default() });
    }

    /// Sets the clock, and waits until the border has said so: the newest such event.
    fn set(&self, ahead: i64) -> Value {
        let before = self.lab.portcullis.events("clock_stepped").len();
        self.clock.set(ahead);
        let events = wait_until("the step is told once", SOON, || {
            Some(self.lab.portcullis.events("clock_stepped")).filter(|events| events.len() > before)
        });
        assert_eq!(events.len(), before + 1, "{events:?}");
        events.into_iter().next_back().expect("there is one")
    }

    fn block(&self, address: &str, time: &str) {
        self.lab.portcullis.ask(&["block", "add", address, "--for", time]);
    }

    /// What is left of a block, in seconds; none where there is none.
    fn left_of_block(&self, address: &str) -> Option<f64> {
        let rows = self.lab.portcullis.rows(&["block", "list"]);
        rows.iter().find(|row| text(row, "address") == address).map(|row| number(row, "remaining_s"))
    }

    fn registrations(&self) -> Vec<Value> {
        self.lab.portcullis.rows(&["registrations"])
    }
}

#[test]
fn a_step_of_the_clock_is_not_noticed_by_anybody() {
    let scene = Scene::new();
    let lab = &scene.lab;
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let contact = lab.pbx.wait_contacts("1001", 1, SOON);
    let mut by_password = registered_by_digest(lab, RawPhone::udp(lab.addresses.phone(3), lab.plain()));
    // The answer to a challenge of today, to be used again: the PBX lets a nonce live for five minutes.
    let mut register = Draft::register("1003", DOMAIN, &by_password.contact("1003"), 60);
    let challenge = by_password.ask(&register);
    register.follow_up().authorize(&challenge, "1003", "secret1003");
    let mut outside = RtpEnd::open(lab.addresses.phone(1), None);
    let mut inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    let mut up = call_desk(&mut phone, &mut desk, [&outside, &inside]);

    for ahead in [DAY, -DAY, 0] {
        scene.block("203.0.113.1", "10m");
        let short = Stopwatch::start();
        scene.block("203.0.113.2", "5s");
        let before = scene.registrations();
        let step = scene.set(ahead);
        assert!(text(&step, "next_step").contains("certificates"), "{step}");
        let left = scene.left_of_block("203.0.113.1").expect("it goes on");
        assert!((500.0..=600.0).contains(&left), "{left}");
        let ended = scene.left_of_block("203.0.113.2").is_none();
        assert!(!ended || short.elapsed() >= Duration::from_secs(5), "it ended too soon");
        wait_until("it ends", SOON, || scene.left_of_block("203.0.113.2").is_none().then_some(()));
        assert!(short.elapsed() >= Duration::from_secs(5), "it ended too soon");

        let after = scene.registrations();
        assert_eq!(after.len(), before.len());
        for (before, after) in before.iter().zip(&after) {
            let lost = number(before, "expires_s") - number(after, "expires_s");
            assert!((0.0..60.0).contains(&lost), "{before} {after}");
        }
        assert_eq!(phone.register("1001", DOMAIN).status(), 200);
        assert_eq!(by_password.ask(register.follow_up()).status(), 200, "its nonce is as good as before");
        let mut newcomer = lab.tls_phone(2, &lab.pki.device(DEVICE_1002));
        assert_eq!(newcomer.register("1002", DOMAIN).status(), 200);
        let bye = newcomer.contact("1002");
        assert_eq!(newcomer.ask(&Draft::register("1002", DOMAIN, &bye, 0)).status(), 200);
        assert_eq!(lab.pbx.contacts("1001"), contact);
    }
    talk((&mut outside, &up.answered, 440), (&mut inside, &up.arrived, 880));
    let calls = lab.portcullis.wait_rows(&["calls"], 1);
    assert!(number(&calls[0], "seconds") < 600.0, "{calls:?}");
    hang_up(&mut phone, &mut up.caller, &mut desk);
    wait_idle(lab);
}

#[test]
fn events_bear_the_new_time() {
    let scene = Scene::new();
    let day_of = |event: &Value| text(event, "time").get(..10).expect("a date").to_owned();
    let days = [3 * DAY, 0].map(|ahead| day_of(&scene.set(ahead)));
    assert_ne!(days[0], days[1]);
}

#[test]
fn what_was_kept_survives_a_step_and_a_kill() {
    let mut scene = Scene::new();
    for ahead in [3 * DAY, 0] {
        let phone = scene.lab.registered_phone(1);
        let contact = scene.lab.pbx.wait_contacts("1001", 1, SOON);
        scene.block("203.0.113.1", "10m");
        scene.set(ahead);
        // This is answered when it is on disk, and so is what was dated anew before it.
        scene.block("203.0.113.2", "10m");
        scene.start_again();
        let left = scene.left_of_block("203.0.113.1").expect("it goes on");
        assert!((500.0..=600.0).contains(&left), "{left}");
        let rows = scene.registrations();
        assert_eq!(rows.len(), 1, "{rows:?}");
        let at_pbx = number(&rows[0], "pbx_expires_s");
        assert!((3_000.0..=3_600.0).contains(&at_pbx), "{rows:?}");
        drop(phone);
        let mut phone = scene.lab.tls_phone(1, &scene.lab.pki.device(DEVICE_1001));
        assert_eq!(phone.register("1001", DOMAIN).status(), 200);
        assert_eq!(scene.lab.pbx.contacts("1001"), contact);
    }
}

#[test]
fn a_start_with_a_wrong_clock_keeps_nothing_longer_than_it_may() {
    let mut scene = Scene::new();
    let _phone = scene.lab.registered_phone(1);
    let _by_password =
        registered_by_digest(&scene.lab, RawPhone::udp(scene.lab.addresses.phone(3), scene.lab.plain()));
    scene.block("203.0.113.1", "10m");
    scene.lab.portcullis.kill();
    // Two years: the certificates are good then, too.
    scene.clock.set(-730 * DAY);
    scene.start_again();
    let left = scene.left_of_block("203.0.113.1").expect("it goes on");
    assert!((0.0..=600.0).contains(&left), "{left}");
    let rows = scene.registrations();
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in &rows {
        assert!(number(row, "expires_s") <= 2.0 * DAY as f64, "{row}");
        assert!(number(row, "pbx_expires_s") <= DAY as f64, "{row}");
    }
    let mut phone = scene.lab.registered_phone(1);
    scene.set(0);
    assert_eq!(phone.register("1001", DOMAIN).status(), 200);
    assert_eq!(scene.lab.pbx.contacts("1001").len(), 1);
}
