//! Tests on real files: what comes back after a restart, what a damaged file does, how commits are grouped.

mod damage;
mod group_commit;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::*;

/// A directory that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("portcullis-store-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE_NAME)
    }
}

impl std::ops::Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left_behind_at_worst = std::fs::remove_dir_all(&self.0);
    }
}

fn row(table: u8, key: &str, value: &str) -> Row {
    Row { table, key: key.into(), value: Some(value.into()) }
}

fn gone(table: u8, key: &str) -> Row {
    Row { table, key: key.into(), value: None }
}

#[test]
fn rows_come_back_by_table_and_key() {
    let directory = Scratch::new();
    let (mut store, rows) = Store::open(&directory).unwrap();
    assert_eq!(rows, []);
    store.commit(&[row(2, "b", "1"), row(1, "z", "2"), row(2, "a", "3"), row(2, "c", "4")]).unwrap();
    store.commit(&[gone(2, "c"), row(2, "b", "5"), row(3, "x", ""), gone(9, "never there")]).unwrap();
    // In one transaction the last word counts.
    store.commit(&[row(4, "twice", "1"), gone(4, "twice"), row(4, "twice", "2")]).unwrap();
    store.commit(&[]).unwrap();
    drop(store);
    let expected =
        [row(1, "z", "2"), row(2, "a", "3"), row(2, "b", "5"), row(3, "x", ""), row(4, "twice", "2")];
    let (store, rows) = Store::open(&directory).unwrap();
    assert_eq!(rows, expected);
    assert_eq!(store.path(), directory.file());
    drop(store);
    assert_eq!(Store::open(&directory).unwrap().1, expected);
}

#[test]
fn many_rows_survive() {
    let directory = Scratch::new();
    let (mut store, _) = Store::open(&directory).unwrap();
    let rows: Vec<_> = (0..5000).map(|n| row(1, &format!("{n:05}"), &"v".repeat(200))).collect();
    rows.chunks(100).for_each(|rows| store.commit(rows).unwrap());
    drop(store);
    assert_eq!(Store::open(&directory).unwrap().1, rows);
}

#[test]
fn a_missing_directory_is_named() {
    let error = Store::open(Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nowhere/at/all is not there: make it with `mkdir -p /nowhere/at/all`, owned by the user that \
         Portcullis runs as"
    );
}

#[test]
fn a_second_process_is_refused_with_the_number_of_the_first() {
    let directory = Scratch::new();
    let open = Store::open(&directory).unwrap();
    let error = Store::open(&directory).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    let named = format!("is in use by process {}: stop it", std::process::id());
    assert!(error.to_string().contains(&named), "{error}");
    drop(open);
    Store::open(&directory).unwrap();
}

#[test]
fn a_first_start_that_was_cut_short_leaves_nothing_in_the_way() {
    let directory = Scratch::new();
    std::fs::write(directory.join("portcullis.redb.new"), b"half of something").unwrap();
    let (mut store, rows) = Store::open(&directory).unwrap();
    assert_eq!(rows, []);
    store.commit(&[row(1, "a", "b")]).unwrap();
    drop(store);
    assert_eq!(Store::open(&directory).unwrap().1, [row(1, "a", "b")]);
}
