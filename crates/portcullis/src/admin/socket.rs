//! The socket file: made with the right permissions, a dead one replaced, a live one respected.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why the admin socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers on it.
    #[error("another instance is running: it answers on the admin socket {}", .0.display())]
    Alive(PathBuf),
    /// Something else bears its name.
    #[error("{} is no socket; move it away, or name another `admin_socket`", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refuses.
    #[error("the admin socket {} cannot be opened: {source}", path.display())]
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
}

impl AdminSocket {
    /// Opens the socket, for its owner alone. A directory that is missing is made, for owner and group.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let system = |source| SocketError::System { path: path.to_owned(), source };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o750).create(parent).map_err(system)?;
        }
        check_free(path)?;
        // Opened under another name, so that the real one never has the wrong permissions.
        let mut nascent = path.as_os_str().to_owned();
        nascent.push(".new");
        let nascent = PathBuf::from(nascent);
        match std::fs::remove_file(&nascent) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(system(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&nascent).map_err(system)?;
        std::fs::set_permissions(&nascent, Permissions::from_mode(0o600)).map_err(system)?;
        std::fs::rename(&nascent, path).map_err(system)?;
        listener.set_nonblocking(true).map_err(system)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the admin socket was gone already");
        }
    }
}

/// Nothing at that path, or a socket on which nobody answers.
fn check_free(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Alive(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(source) => Err(SocketError::System { path: path.to_owned(), source }),
    }
}
