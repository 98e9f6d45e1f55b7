//! A file that cannot be trusted is an error that says so, never an empty store.

use redb::{Database, TableDefinition};

use super::*;

fn filled(directory: &Scratch) -> Vec<Row> {
    let (mut store, _) = Store::open(directory).unwrap();
    let rows: Vec<_> = (0..40).map(|n| row(n % 4, &format!("key {n:02}"), &"value ".repeat(20))).collect();
    store.commit(&rows).unwrap();
    drop(store);
    Store::open(directory).unwrap().1
}

fn overwrite(directory: &Scratch, format: Option<u32>) {
    let database = Database::open(directory.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(TableDefinition::<&str, u32>::new("meta")).unwrap();
        match format {
            Some(format) => drop(meta.insert("format", format).unwrap()),
            None => drop(meta.remove("format").unwrap()),
        }
    }
    transaction.commit().unwrap();
}

#[test]
fn a_newer_store_is_left_alone() {
    let directory = Scratch::new();
    let rows = filled(&directory);
    overwrite(&directory, Some(3));
    let error = Store::open(&directory).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "store {} was written by a newer version (format 3, this one reads up to 1): run that version, \
             or restore a backup",
            directory.file().display()
        )
    );
    overwrite(&directory, Some(FORMAT));
    assert_eq!(Store::open(&directory).unwrap().1, rows);
}

#[test]
fn what_is_no_store_of_ours_is_damaged() {
    type Change = fn(&Scratch);
    let cases: [(&str, Change); 8] = [
        ("empty", |directory| std::fs::write(directory.file(), b"").unwrap()),
        ("text", |directory| std::fs::write(directory.file(), b"hello, world\n").unwrap()),
        ("zeros", |directory| std::fs::write(directory.file(), vec![0; 100_000]).unwrap()),
        ("long text", |directory| std::fs::write(directory.file(), "hello ".repeat(20_000)).unwrap()),
        ("the beginning alone", |directory| truncate(directory, 4096)),
        ("half", |directory| {
            let length = std::fs::metadata(directory.file()).unwrap().len();
            truncate(directory, length / 2);
        }),
        ("no format", |directory| overwrite(directory, None)),
        ("format 0", |directory| overwrite(directory, Some(0))),
    ];
    for (case, change) in cases {
        let directory = Scratch::new();
        filled(&directory);
        change(&directory);
        let error = Store::open(&directory).map(|(_, rows)| rows).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{case}: {error:?}");
        let text = error.to_string();
        assert!(text.contains("is damaged (") && text.contains("restore a backup"), "{case}: {text}");
        // It stays so: no second start makes a new one.
        assert!(Store::open(&directory).is_err(), "{case}");
    }
}

fn truncate(directory: &Scratch, length: u64) {
    std::fs::OpenOptions::new().write(true).open(directory.file()).unwrap().set_len(length).unwrap();
}

#[test]
fn a_flipped_byte_is_found_or_harmless() {
    let directory = Scratch::new();
    let rows = filled(&directory);
    let good = std::fs::read(directory.file()).unwrap();
    let mut refused = 0;
    // The header's first bytes, then an even choice among those that are not zero: all that is in use.
    let used: Vec<_> = (64..good.len()).filter(|position| good[*position] != 0).collect();
    for position in (0..64).chain(used.iter().copied().step_by(used.len() / 150)) {
        let mut bad = good.clone();
        bad[position] ^= 0x55;
        std::fs::write(directory.file(), &bad).unwrap();
        match Store::open(&directory) {
            Ok((_, read)) => assert_eq!(read, rows, "byte {position} changed rows unnoticed"),
            Err(
                StoreError::Damaged { .. }
                | StoreError::PutBack(_)
                | StoreError::Io { .. }
                | StoreError::Other { .. },
            ) => refused += 1,
            Err(other) => panic!("byte {position}: {other}"),
        }
    }
    assert!(refused >= 40, "only {refused} flips were found");
}
