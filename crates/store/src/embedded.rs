//! The embedded store: one redb file with one table of rows and one number, its format.
//!
//! A new file is made under another name and takes its own only when it is complete and on disk, so that a
//! kill in the first second leaves either no store or a good one. The whole file is checked at every start.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::error::{StoreError, lock_holder};

/// The store's file in the data directory.
pub const FILE_NAME: &str = "portcullis.redb";
/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Pages kept in memory; all rows are in the core's memory anyway.
const CACHE_BYTES: usize = 4 << 20;
const ROWS: TableDefinition<'_, (u8, &[u8]), &[u8]> = TableDefinition::new("rows");
const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";

/// A fact, in a table of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The kind.
    pub table: u8,
    /// Unique in its table.
    pub key: Vec<u8>,
    /// The fact; none deletes it.
    pub value: Option<Vec<u8>>,
}

impl Row {
    /// Bytes that the row holds.
    pub(crate) fn weight(&self) -> usize {
        self.key.len().saturating_add(self.value.as_ref().map_or(0, Vec::len))
    }
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
    /// None after a failed write: redb does not go on after one, so the next write opens anew.
    database: Option<Database>,
}

impl Store {
    /// Opens the store in the data directory, or makes a new one where there is none, and returns its rows
    /// by table and key.
    pub fn open(data_dir: &Path) -> Result<(Self, Vec<Row>), StoreError> {
        if !data_dir.is_dir() {
            return Err(StoreError::NoDirectory(data_dir.to_owned()));
        }
        let file = data_dir.join(FILE_NAME);
        // redb gives up on some damaged files by a panic; nothing of ours is changed in here.
        let opened = catch_unwind(AssertUnwindSafe(|| open_and_check(data_dir, &file)));
        let (database, rows) = opened.unwrap_or_else(|_| {
            let problem = "it cannot be read to its end".to_owned();
            Err(StoreError::Damaged { file: file.clone(), problem })
        })?;
        Ok((Self { file, database: Some(database) }, rows))
    }

    /// Writes all rows in their order, in one transaction; they are on disk when this returns.
    pub fn commit(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_existing(&self.file)?,
        };
        write(&self.file, &database, rows)?;
        self.database = Some(database);
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    #[cfg(test)]
    pub(crate) fn with_database(file: PathBuf, database: Database) -> Self {
        Self { file, database: Some(database) }
    }
}

fn open_and_check(data_dir: &Path, file: &Path) -> Result<(Database, Vec<Row>), StoreError> {
    let exists = file.try_exists().map_err(|error| StoreError::io(file, error))?;
    let mut database = if exists { open_existing(file)? } else { create(data_dir, file)? };
    match database.check_integrity() {
        Ok(true) => {}
        Ok(false) => return Err(StoreError::PutBack(file.to_owned())),
        Err(error) => return Err(StoreError::database(file, error)),
    }
    check_format(file, &database)?;
    let rows = read_all(file, &database)?;
    Ok((database, rows))
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_existing(file: &Path) -> Result<Database, StoreError> {
    builder().open(file).map_err(|error| StoreError::database(file, error))
}

fn create(data_dir: &Path, file: &Path) -> Result<Database, StoreError> {
    let unfinished = data_dir.join(format!("{FILE_NAME}.new"));
    let at = |error| StoreError::io(&unfinished, error);
    let new = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        // It holds the node's secret.
        .mode(0o600)
        .open(&unfinished)
        .map_err(at)?;
    match new.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let process = lock_holder(&unfinished);
            return Err(StoreError::InUse { file: unfinished, process });
        }
        Err(TryLockError::Error(error)) => return Err(at(error)),
    }
    // What a start that was cut short left behind was never a store.
    new.set_len(0).map_err(at)?;
    let database = builder().create_file(new).map_err(|error| StoreError::database(&unfinished, error))?;
    initialize(&unfinished, &database)?;
    std::fs::rename(&unfinished, file).map_err(at)?;
    File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(at)?;
    Ok(database)
}

fn initialize(file: &Path, database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(|error| StoreError::transaction(file, error))?;
    {
        let mut meta = transaction.open_table(META).map_err(|error| StoreError::table(file, error))?;
        meta.insert(FORMAT_KEY, FORMAT).map_err(|error| StoreError::storage(file, error))?;
        transaction.open_table(ROWS).map_err(|error| StoreError::table(file, error))?;
    }
    transaction.commit().map_err(|error| StoreError::commit(file, error))
}

fn check_format(file: &Path, database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_read().map_err(|error| StoreError::transaction(file, error))?;
    let meta = transaction.open_table(META).map_err(|error| StoreError::table(file, error))?;
    let found = meta.get(FORMAT_KEY).map_err(|error| StoreError::storage(file, error))?;
    match found.map(|found| found.value()) {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => {
            Err(StoreError::Newer { file: file.to_owned(), found, known: FORMAT })
        }
        Some(_) | None => Err(StoreError::Damaged {
            file: file.to_owned(),
            problem: "it does not say in which format it is".into(),
        }),
    }
}

fn read_all(file: &Path, database: &Database) -> Result<Vec<Row>, StoreError> {
    let transaction = database.begin_read().map_err(|error| StoreError::transaction(file, error))?;
    let table = transaction.open_table(ROWS).map_err(|error| StoreError::table(file, error))?;
    let rows = table.iter().map_err(|error| StoreError::storage(file, error))?;
    rows.map(|row| {
        let (key, value) = row.map_err(|error| StoreError::storage(file, error))?;
        let (table, key) = key.value();
        Ok(Row { table, key: key.to_vec(), value: Some(value.value().to_vec()) })
    })
    .collect()
}

fn write(file: &Path, database: &Database, rows: &[Row]) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(|error| StoreError::transaction(file, error))?;
    {
        let mut table = transaction.open_table(ROWS).map_err(|error| StoreError::table(file, error))?;
        for row in rows {
            let key = (row.table, row.key.as_slice());
            match &row.value {
                Some(value) => table.insert(key, value.as_slice()).map(drop),
                None => table.remove(key).map(drop),
            }
            .map_err(|error| StoreError::storage(file, error))?;
        }
    }
    transaction.commit().map_err(|error| StoreError::commit(file, error))
}
