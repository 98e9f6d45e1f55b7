//! The socket file: made with the right permissions, a dead one replaced, a live one respected.
//!
//! The OS makes a socket file with the permissions of the umask, and the umask belongs to the whole process.
//! So it is made in a directory for the owner alone, where nobody else reaches it before its own permissions
//! are set, and moved to its place afterwards.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use wire::words::of_system;

/// The socket's first name: short, since the path of a socket may have about a hundred bytes.
const NASCENT: &str = "s";

/// The longest path that a socket file of ours may have: the kernel takes 107 bytes, and its first path has
/// six more than its last.
pub const PATH_BYTES_MAX: usize = 101;

/// Why the admin socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers on it.
    #[error("another instance is running: it answers on the admin socket {}", .0.display())]
    Alive(PathBuf),
    /// Something else bears its name.
    #[error("the admin socket {} cannot be made: something else has this name", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refuses.
    #[error("the admin socket {} cannot be made: {}", path.display(), of_system(source))]
    System {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that is open; its file goes with it.
#[derive(Debug)]
pub struct AdminSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that is ours, whatever has its name later.
    file: (u64, u64),
}

impl AdminSocket {
    /// Opens the socket, for its owner alone. A directory that is missing is made, for owner and group.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let system = |source| SocketError::System { path: path.to_owned(), source };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        DirBuilder::new().recursive(true).mode(0o750).create(parent).map_err(system)?;
        // Two starts at once would both find it free.
        let starts = lock(parent).map_err(system)?;
        check_free(path)?;
        let mut nursery = path.as_os_str().to_owned();
        nursery.push(".new");
        let (listener, file) = bind_in_private(Path::new(&nursery), path).map_err(system)?;
        drop(starts);
        listener.set_nonblocking(true).map_err(system)?;
        Ok(Self { listener, path: path.to_owned(), file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    /// Takes the file away, unless another instance has put its own there.
    fn drop(&mut self) {
        let removed = match identity(&self.path) {
            Ok(file) if file == self.file => std::fs::remove_file(&self.path),
            Ok(_) => return tracing::warn!(path = %self.path.display(), "another admin socket is left alone"),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::debug!(%error, path = %self.path.display(), "the admin socket was gone already");
        }
    }
}

/// Device and inode of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Holds other starts up until the file that comes back is dropped.
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    tracing::warn!("waiting for another program that has locked {}", directory.display());
    file.lock()?;
    Ok(file)
}

/// Binds the socket in the directory `nursery`, made for it, and moves it to `path`. What it is by then is
/// what it stays.
fn bind_in_private(nursery: &Path, path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let nascent = nursery.join(NASCENT);
    make_private(nursery)?;
    let listener = UnixListener::bind(&nascent)?;
    std::fs::set_permissions(&nascent, Permissions::from_mode(0o600))?;
    let file = identity(&nascent)?;
    std::fs::rename(&nascent, path)?;
    std::fs::remove_dir(nursery)?;
    Ok((listener, file))
}

/// Makes the directory anew, for the owner alone: a start that was cut short may have left one behind, and
/// a socket in it.
fn make_private(nursery: &Path) -> io::Result<()> {
    absent_or_removed(std::fs::remove_file(nursery.join(NASCENT)))?;
    absent_or_removed(std::fs::remove_dir(nursery))?;
    DirBuilder::new().mode(0o700).create(nursery)
}

fn absent_or_removed(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Nothing at that path, or a socket on which nobody answers.
fn check_free(path: &Path) -> Result<(), SocketError> {
    let system = |source| SocketError::System { path: path.to_owned(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Alive(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(system(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_made_where_only_its_owner_comes() {
        let folder = std::env::temp_dir().join(format!("portcullis-socket-{}", std::process::id()));
        let nursery = folder.join("admin.sock.new");
        DirBuilder::new().create(&folder).unwrap();
        // Left behind by another start, and open to everybody.
        DirBuilder::new().create(&nursery).unwrap();
        std::fs::set_permissions(&nursery, Permissions::from_mode(0o777)).unwrap();
        drop(UnixListener::bind(nursery.join(NASCENT)).unwrap());
        make_private(&nursery).unwrap();
        assert_eq!(std::fs::metadata(&nursery).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(&nursery).unwrap().count(), 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
