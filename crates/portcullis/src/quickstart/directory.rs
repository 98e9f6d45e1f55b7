//! The directory in which a quickstart keeps everything it makes: its own, for its user alone.
//!
//! Never writes into a directory in which something is already.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::fault::Fault;

/// A directory that is there and was empty.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// The one named, else a fresh one among the user's temporary files.
    pub(crate) fn make(named: Option<PathBuf>) -> Result<Self, Fault> {
        match named {
            Some(path) => Self::take(path),
            None => Self::fresh(&std::env::temp_dir()),
        }
    }

    fn take(path: PathBuf) -> Result<Self, Fault> {
        let what = format!("make the directory {}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(Fault::system(what))?;
        // The name is kept absolute, so that the commands printed work from anywhere.
        let what = format!("read the directory {}", path.display());
        let path = path.canonicalize().map_err(Fault::system(&*what))?;
        let mut entries = fs::read_dir(&path).map_err(Fault::system(what))?;
        if entries.next().is_some() { Err(Fault::NotEmpty(path)) } else { Ok(Self(path)) }
    }

    /// Made by nobody but us: a name that is taken is never used.
    fn fresh(parent: &Path) -> Result<Self, Fault> {
        loop {
            let path = parent.join(format!("portcullis-quickstart-{:08x}", getrandom::u32()?));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let what = format!("make the directory {}", path.display());
                    return Err(Fault::system(what)(error));
                }
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where a file of it is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a directory in it.
    pub(crate) fn subdirectory(&self, name: &str) -> Result<(), Fault> {
        let path = self.file(name);
        let what = format!("make the directory {}", path.display());
        DirBuilder::new().mode(0o700).create(&path).map_err(Fault::system(what))
    }

    /// Writes a file for its owner alone.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Fault> {
        let path = self.file(name);
        let what = format!("write {}", path.display());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Fault::system(what))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_for_their_owner_and_a_used_directory_is_refused() {
        let directory = Directory::make(None).unwrap();
        directory.write("secret", "x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(directory.path()), mode(&directory.file("secret"))), (0o700, 0o600));
        assert!(directory.write("secret", "y").is_err(), "nothing is written over");
        let again = Directory::make(Some(directory.path().to_owned()));
        assert!(matches!(again, Err(Fault::NotEmpty(path)) if path == directory.path()));
        fs::remove_dir_all(directory.path()).unwrap();
    }

    #[test]
    fn two_fresh_ones_differ() {
        let (one, other) = (Directory::make(None).unwrap(), Directory::make(None).unwrap());
        assert_ne!(one.path(), other.path());
        for directory in [one, other] {
            fs::remove_dir(directory.path()).unwrap();
        }
    }
}
