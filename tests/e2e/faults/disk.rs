//! The disk of the data directory: full, read-only, and well again. Needs root.

use portcullis_tests::deadline::wait_until;
use portcullis_tests::disk::SmallDisk;
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, Lab, Variation};
use portcullis_tests::portcullis::Surroundings;

use crate::support::SOON;

/// A lab whose data directory is on a disk of its own; the admin socket is elsewhere.
fn lab_on(make: fn(&std::path::Path, &std::path::Path) -> SmallDisk) -> (Lab, SmallDisk) {
    let replace = [("admin_socket = \"lab-data/admin.sock\"", "admin_socket = \"admin.sock\"")];
    let mut lab = Lab::with(&Variation { replace: &replace, ..Variation::default() });
    let disk = make(&lab.data_directory(), lab.directory());
    start_on(&mut lab, &disk);
    (lab, disk)
}

fn start_on(lab: &mut Lab, disk: &SmallDisk) {
    lab.restart_in(&Surroundings { mounts_of: Some(disk.pid()), ..Surroundings::default() });
}

#[test]
fn a_full_disk_is_an_event_and_customers_go_on() {
    let (lab, disk) = lab_on(SmallDisk::of_memory);
    let mut phone = lab.registered_phone(1);
    disk.fill();
    let mut number = 0;
    wait_until("the store can no longer be written", SOON, || {
        number += 1;
        let _refused_or_not =
            lab.portcullis.command(&["block", "add", &format!("203.0.113.{}", number % 250)]);
        (!lab.portcullis.events("store_failed").is_empty()).then_some(())
    });
    assert_eq!(phone.register("1001", DOMAIN).status(), 200, "a refresh needs no disk");
    drop(phone);
    let mut again = lab.tls_phone(2, &lab.pki.device(DEVICE_1001));
    assert_eq!(again.register("1001", DOMAIN).status(), 200, "nor does a customer's new connection");
    let mut stranger = lab.tls_phone(3, &lab.pki.device("009033fffffe"));
    assert_eq!(stranger.register("1001", DOMAIN).status(), 403);
}
