//! What outlives a restart, and what a broken store does (issue item 8, contract section 5).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_tests::deadline::{never_within, wait_until};
use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{DEVICE_1001, Lab};
use portcullis_tests::portcullis::command;
use portcullis_tests::rtp::RtpEnd;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::support::{SOON, call_phone, number, text, wait_idle};

#[test]
fn after_kill_9_blocks_lists_and_registrations_are_there() {
    let mut lab = Lab::start();
    let phone = lab.registered_phone(1);
    let before = lab.pbx.wait_contacts("1001", 1, SOON);
    let (blocked, allowed) = (lab.addresses.phone(66).to_string(), lab.addresses.phone(67).to_string());
    lab.portcullis.ask(&["block", "add", &blocked, "--for", "10m", "--why", "kept"]);
    lab.portcullis.ask(&["allow", "add", &allowed, "--name", "branch", "--description", "kept too"]);

    lab.portcullis.kill();
    drop(phone);
    lab.restart();

    let rows = lab.portcullis.wait_rows(&["block", "list"], 1);
    assert_eq!((text(&rows[0], "range"), text(&rows[0], "block_type")), (blocked.as_str(), "manual"));
    let left = number(&rows[0], "remaining_s");
    assert!(left > 500.0 && left <= 600.0, "the time that was left, not all of it again: {rows:?}");
    let rows = lab.portcullis.wait_rows(&["allow", "list"], 1);
    assert_eq!((text(&rows[0], "name"), rows[0]["from_config"].as_bool()), ("branch", Some(false)));

    // As soon as the phone is back, the PBX reaches it, by the same contact: neither doubled nor lost.
    let mut phone = lab.registered_phone(1);
    never_within("the contact changes", Duration::from_secs(3), || lab.pbx.contacts("1001") != before);
    let mut desk = lab.desk_phone("2001");
    let inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    let outside = RtpEnd::open(lab.addresses.phone(1), None);
    let mut established = call_phone(&mut desk, &mut phone, [&inside, &outside]);
    crate::support::hang_up(&mut phone, &mut established.callee, &mut desk);
    wait_idle(&lab);
}

#[test]
fn a_phone_that_does_not_come_back_is_signed_off() {
    let mut lab = Lab::start();
    let phone = lab.registered_phone(1);
    lab.pbx.wait_contacts("1001", 1, SOON);
    lab.portcullis.kill();
    drop(phone);
    lab.restart();
    lab.pbx.wait_contacts("1001", 0, Duration::from_secs(30));
}

#[test]
fn it_ends_in_order_when_it_is_asked_to() {
    let mut lab = Lab::start();
    let _phone = lab.registered_phone(1);
    assert_eq!(lab.portcullis.terminate(), Some(0));
    lab.restart();
    assert_eq!(lab.tls_phone(1, &lab.pki.device(DEVICE_1001)).register("1001", DOMAIN).status(), 200);
}

#[test]
fn a_broken_store_is_a_clear_error_and_never_a_new_start() {
    let mut lab = Lab::start();
    lab.portcullis.ask(&["block", "add", "203.0.113.7"]);
    lab.portcullis.kill();
    let store = store_file(&lab);
    let whole = fs::read(&store).expect("the store can be read");
    for broken in [b"this is no store at all".to_vec(), vec![0xa5; whole.len()]] {
        fs::write(&store, &broken).expect("the store can be broken");
        let file = lab.configuration().display().to_string();
        let output = command(&["run", "-c", &file], lab.directory());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(store.file_name().unwrap().to_str().unwrap()), "the file is named: {said}");
        assert_eq!(fs::read(&store).unwrap(), broken, "and it is not touched");
    }
    fs::write(&store, &whole).expect("the store can be mended");
    lab.restart();
    assert_eq!(lab.portcullis.rows(&["block", "list"]).len(), 1);
}

#[test]
fn a_store_that_lost_its_own_secret_is_an_error_and_never_a_new_start() {
    let mut lab = Lab::start();
    lab.portcullis.ask(&["block", "add", "203.0.113.7"]);
    assert_eq!(lab.portcullis.terminate(), Some(0));
    let store = store_file(&lab);
    break_secret(&store);
    let broken = rows_of(&store);
    let file = lab.configuration().display().to_string();
    for _ in 0..2 {
        let output = command(&["run", "-c", &file], lab.directory());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let file_name = store.file_name().and_then(|name| name.to_str()).expect("the store has a name");
        assert!(said.contains("secret") && said.contains(file_name), "record and file are named: {said}");
    }
    assert_eq!(rows_of(&store), broken, "nothing is thrown away, nothing made anew");
}

/// All facts of a store, as redb has them.
const ROWS: TableDefinition<'_, (u8, &[u8]), &[u8]> = TableDefinition::new("rows");

/// Puts something unreadable in the place of the node's secret.
fn break_secret(store: &Path) {
    let rows = rows_of(store);
    let secrets: Vec<_> = rows.iter().filter(|((_, key), _)| key == b"secret").collect();
    let [((table, key), _)] = secrets.as_slice() else { panic!("one secret: {rows:?}") };
    let database = Database::open(store).expect("the store is one of redb's");
    let transaction = database.begin_write().expect("nobody else has it");
    let mut open = transaction.open_table(ROWS).expect("its table");
    open.insert((*table, key.as_slice()), &b"\x01neither read nor made anew"[..]).expect("it can be broken");
    drop(open);
    transaction.commit().expect("it stays broken");
}

/// By table and key.
fn rows_of(store: &Path) -> BTreeMap<(u8, Vec<u8>), Vec<u8>> {
    let database = Database::open(store).expect("the store is one of redb's");
    let transaction = database.begin_read().expect("it can be read");
    let table = transaction.open_table(ROWS).expect("its table");
    let rows = table.iter().expect("its rows").map(|row| row.expect("a row"));
    rows.map(|(key, value)| ((key.value().0, key.value().1.to_vec()), value.value().to_vec())).collect()
}

/// The largest file in the data directory that is no socket.
fn store_file(lab: &Lab) -> PathBuf {
    wait_until("there is a store", SOON, || {
        let entries = fs::read_dir(lab.directory().join("lab-data")).ok()?.filter_map(Result::ok);
        let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        files.max_by_key(|entry| entry.metadata().map_or(0, |data| data.len())).map(|entry| entry.path())
    })
}
