//! The disk of the data directory: full, read-only, and well again. Needs root.

use std::path::Path;
use std::time::Duration;

use portcullis_tests::deadline::wait_until;
use portcullis_tests::disk::SmallDisk;
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, DEVICE_1002, Lab, Variation};
use portcullis_tests::portcullis::{Portcullis, Surroundings};

use crate::support::{SOON, text};

/// How long it may take until a disk that is well again has everything.
const WRITTEN_LATER: Duration = Duration::from_secs(60);

/// A lab whose data directory is on a disk of its own; the admin socket is elsewhere.
struct Scene {
    lab: Lab,
    disk: SmallDisk,
}

impl Scene {
    fn new(make: fn(&Path, &Path) -> SmallDisk) -> Self {
        let replace = [("admin_socket = \"lab-data/admin.sock\"", "admin_socket = \"admin.sock\"")];
        let lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
        let disk = make(&lab.data_directory(), lab.directory());
        let mut scene = Self { lab, disk };
        scene.start_again();
        scene
    }

    /// Kills the border and starts it on the same disk.
    fn start_again(&mut self) {
        self.lab.portcullis.kill();
        self.lab.restart_in(&on(&self.disk));
    }

    /// Blocks addresses until the disk takes no more; the number of `store_failed`.
    fn block_until_it_fails(&self) {
        let mut number = 0;
        wait_until("the store can no longer be written", SOON, || {
            number += 1;
            self.lab.portcullis.command(&["block", "add", &format!("203.0.113.{}", number % 250)]);
            (!self.lab.portcullis.events("store_failed").is_empty()).then_some(())
        });
    }

    fn wait_written(&self) {
        wait_until("the store works again", WRITTEN_LATER, || {
            (!self.lab.portcullis.events("store_works").is_empty()).then_some(())
        });
    }

    fn is_blocked(&self, address: &str) -> bool {
        let rows = self.lab.portcullis.rows(&["block", "list"]);
        rows.iter().any(|row| text(row, "address") == address)
    }

    fn extensions(&self) -> Vec<String> {
        let rows = self.lab.portcullis.rows(&["registrations"]);
        let mut names: Vec<String> = rows.iter().map(|row| text(row, "extension").to_owned()).collect();
        names.sort_unstable();
        names
    }
}

fn on(disk: &SmallDisk) -> Surroundings<'static> {
    Surroundings { mounts_of: Some(disk.pid()), ..Surroundings::default() }
}

#[test]
fn a_full_disk_is_an_event_and_what_came_meanwhile_is_written_later() {
    customers_go_on_and_nothing_is_lost(SmallDisk::of_memory, SmallDisk::fill, SmallDisk::free);
}

#[test]
fn a_disk_that_becomes_read_only_is_no_different() {
    let breaks = SmallDisk::make_read_only;
    customers_go_on_and_nothing_is_lost(SmallDisk::with_a_file_system, breaks, SmallDisk::repair);
}

fn customers_go_on_and_nothing_is_lost(
    make: fn(&Path, &Path) -> SmallDisk,
    breaks: fn(&SmallDisk),
    mend: fn(&SmallDisk),
) {
    let mut scene = Scene::new(make);
    let lab = &scene.lab;
    let mut phone = lab.registered_phone(1);
    lab.portcullis.ask(&["block", "add", "198.51.100.1"]);
    lab.portcullis.ask(&["block", "add", "198.51.100.2"]);
    breaks(&scene.disk);
    scene.block_until_it_fails();
    assert_eq!(phone.register("1001", DOMAIN).status(), 200, "a refresh needs no disk");
    drop(phone);
    let mut again = lab.tls_phone(2, &lab.pki.device(DEVICE_1001));
    assert_eq!(again.register("1001", DOMAIN).status(), 200, "nor does a customer's new connection");
    let mut another = lab.tls_phone(4, &lab.pki.device(DEVICE_1002));
    assert_eq!(another.register("1002", DOMAIN).status(), 200, "nor his first registration");
    let mut stranger = lab.tls_phone(3, &lab.pki.device("009033fffffe"));
    assert_eq!(stranger.register("1001", DOMAIN).status(), 403);
    for order in [["block", "add", "198.51.100.3"], ["block", "remove", "198.51.100.2"]] {
        let output = lab.portcullis.command(&order);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("could not be stored"), "{order:?}: {said}");
    }
    assert_eq!(lab.portcullis.events("store_failed").len(), 1, "told once");
    assert!(lab.portcullis.events("store_works").is_empty());

    mend(&scene.disk);
    scene.wait_written();
    scene.start_again();
    assert_eq!(scene.extensions(), ["1001", "1002"]);
    let blocked = ["198.51.100.1", "198.51.100.2", "198.51.100.3"].map(|address| scene.is_blocked(address));
    assert_eq!(blocked, [true, false, true]);
    assert!(scene.lab.portcullis.events("store_failed").is_empty());
}

#[test]
fn it_starts_on_a_full_disk() {
    let mut scene = Scene::new(SmallDisk::of_memory);
    let phone = scene.lab.registered_phone(1);
    scene.lab.portcullis.ask(&["block", "add", "198.51.100.1"]);
    scene.disk.fill();
    scene.start_again();
    drop(phone);
    assert!(scene.is_blocked("198.51.100.1"));
    let _phone = scene.lab.registered_phone(1);
    scene.block_until_it_fails();
    scene.disk.free();
    scene.wait_written();
}

#[test]
fn it_does_not_start_where_it_cannot_write() {
    let mut scene = Scene::new(SmallDisk::of_memory);
    scene.lab.portcullis.ask(&["block", "add", "198.51.100.1"]);
    scene.lab.portcullis.kill();
    scene.disk.make_read_only();
    let (code, said) = Portcullis::start_in_vain(scene.lab.configuration(), &on(&scene.disk));
    assert_eq!(code, Some(1), "{said}");
    for word in ["portcullis.toml:3", "portcullis.redb", "data_dir", "Read-only"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    scene.disk.repair();
    scene.start_again();
    assert!(scene.is_blocked("198.51.100.1"));
}
