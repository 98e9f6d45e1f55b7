//! The command line's side of the admin socket.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wire::words::of_system;

use super::protocol::{Request, Response};

/// How long the server may take for an answer that does not go on.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no instance is running: nothing answers on {}; start it with `portcullis run`, or name its file \
         with -c or its socket with --socket",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// Somebody else's socket.
    #[error("the admin socket {} is for the user who runs portcullis: try it as that user, or as root", .0.display())]
    Forbidden(PathBuf),
    /// The answer did not come.
    #[error("no answer on {}: {}", path.display(), of_system(source))]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is none of ours.
    #[error("the answer on {} is not understood: is that portcullis, of the same version?", .0.display())]
    NotUnderstood(PathBuf),
}

/// A connection to the running process.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let broken = |source| ClientError::Broken { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning(path.to_owned()),
            ErrorKind::PermissionDenied => ClientError::Forbidden(path.to_owned()),
            _ => broken(error),
        })?;
        stream.set_read_timeout(Some(ANSWER_TIME)).map_err(broken)?;
        stream.set_write_timeout(Some(ANSWER_TIME)).map_err(broken)?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// Asks.
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let mut line =
            serde_json::to_vec(request).map_err(|_| ClientError::NotUnderstood(self.path.clone()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(|source| self.broken(source))
    }

    /// The next line; none at the end.
    pub fn receive(&mut self) -> Result<Option<Response>, ClientError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => match serde_json::from_str(&line) {
                Ok(response) => Ok(Some(response)),
                Err(_) => Err(ClientError::NotUnderstood(self.path.clone())),
            },
            Err(source) => Err(self.broken(source)),
        }
    }

    /// From now on an answer may take as long as it likes.
    pub fn wait_for_ever(&mut self) -> Result<(), ClientError> {
        self.stream.get_ref().set_read_timeout(None).map_err(|source| self.broken(source))
    }

    fn broken(&self, source: io::Error) -> ClientError {
        ClientError::Broken { path: self.path.clone(), source }
    }
}

/// Asks one question and hears one answer.
pub fn ask(path: &Path, request: &Request) -> Result<Response, ClientError> {
    let mut client = Client::connect(path)?;
    client.send(request)?;
    client.receive()?.ok_or_else(|| ClientError::Broken {
        path: path.to_owned(),
        source: io::Error::from(ErrorKind::UnexpectedEof),
    })
}

/// The listeners of the instance that is up, as `status` names them: empty where there is none, `None` where
/// this user may not ask.
pub fn running_listeners(path: &Path) -> Option<Vec<String>> {
    let status = match ask(path, &Request::Status) {
        Ok(Response::Object(status)) => status,
        Err(ClientError::Forbidden(_)) => return None,
        Ok(_) | Err(_) => return Some(Vec::new()),
    };
    let listeners = status.get("listeners").and_then(|listeners| listeners.as_array());
    Some(listeners.into_iter().flatten().filter_map(|text| text.as_str()).map(str::to_owned).collect())
}
