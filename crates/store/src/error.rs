//! What can go wrong with the store, each in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

/// Why the store cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory is not there.
    #[error(
        "{path} is not there: make it with `mkdir -p {path}`, owned by the user that Portcullis runs as",
        path = .0.display()
    )]
    NoDirectory(PathBuf),
    /// Another process has it open.
    #[error("store {} is in use by {}: stop it, or give this one a data_dir of its own", file.display(), holder(*process))]
    InUse {
        /// The file.
        file: PathBuf,
        /// Its number, where the system tells.
        process: Option<u32>,
    },
    /// A later version wrote it.
    #[error(
        "store {} was written by a newer version (format {found}, this one reads up to {known}): \
         run that version, or restore a backup",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// The format in it.
        found: u32,
        /// The newest that we know.
        known: u32,
    },
    /// What is in the file cannot be trusted.
    #[error(
        "store {} is damaged ({problem}): restore a backup, or move the file away to begin with an \
         empty store (registrations come back as phones refresh; blocks and run-time lists are lost)",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found.
        problem: String,
    },
    /// Part of the file was damaged, and the last intact state has been put back.
    #[error(
        "store {} was damaged and has been put back to its last intact state; the latest changes may be \
         lost. Start again to go on with it, or restore a backup first",
        .0.display()
    )]
    PutBack(PathBuf),
    /// The operating system refuses: no space, no permission, a broken disk.
    #[error("store {}: {}", file.display(), wire::words::of_system(source))]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Anything else that redb says.
    #[error("store {}: {problem}", file.display())]
    Other {
        /// The file.
        file: PathBuf,
        /// Its words.
        problem: String,
    },
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}

impl StoreError {
    pub(crate) fn io(file: &Path, source: io::Error) -> Self {
        // redb says so of a file that does not begin as its own do.
        if source.kind() == io::ErrorKind::InvalidData || source.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Damaged { file: file.to_owned(), problem: wire::words::of_system(&source) };
        }
        Self::Io { file: file.to_owned(), source }
    }

    pub(crate) fn storage(file: &Path, error: StorageError) -> Self {
        match error {
            StorageError::Corrupted(problem) => Self::Damaged { file: file.to_owned(), problem },
            StorageError::Io(source) => Self::io(file, source),
            other => Self::Other { file: file.to_owned(), problem: other.to_string() },
        }
    }

    pub(crate) fn database(file: &Path, error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => {
                Self::InUse { file: file.to_owned(), process: lock_holder(file) }
            }
            DatabaseError::UpgradeRequired(version) => Self::Other {
                file: file.to_owned(),
                problem: format!("its file format {version} is one that no version of Portcullis wrote"),
            },
            DatabaseError::RepairAborted => Self::Other { file: file.to_owned(), problem: error.to_string() },
            DatabaseError::Storage(error) => Self::storage(file, error),
            other => Self::Other { file: file.to_owned(), problem: other.to_string() },
        }
    }

    pub(crate) fn transaction(file: &Path, error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => Self::storage(file, error),
            other => Self::Other { file: file.to_owned(), problem: other.to_string() },
        }
    }

    pub(crate) fn table(file: &Path, error: TableError) -> Self {
        match error {
            TableError::Storage(error) => Self::storage(file, error),
            // The tables are ours: another type or none at all is no work of ours.
            other => Self::Damaged { file: file.to_owned(), problem: other.to_string() },
        }
    }

    pub(crate) fn commit(file: &Path, error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => Self::storage(file, error),
            other => Self::Other { file: file.to_owned(), problem: other.to_string() },
        }
    }
}

/// The process that holds the lock on a file, as the kernel tells it.
pub(crate) fn lock_holder(file: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(file).ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        // "7: FLOCK  ADVISORY  WRITE 1234 08:01:131090 0 EOF"
        let mut words = line.split_whitespace().skip(4);
        let process = words.next()?;
        let holds = words.next()?.rsplit(':').next()? == inode;
        holds.then(|| process.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_refuses_is_quoted_without_its_number() {
        let file = Path::new("data/portcullis.redb");
        // ENOSPC, as Linux has it.
        let full = StoreError::io(file, io::Error::from_raw_os_error(28)).to_string();
        assert_eq!(full, "store data/portcullis.redb: No space left on device");
    }
}
