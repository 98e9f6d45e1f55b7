//! Why a step of the quickstart was not seen, as a sentence for the person who watches.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use wire::words::of_system;

use crate::admin::client::ClientError;
use crate::events::LogError;
use crate::run::RunError;

/// What went wrong. The world's fault, or the frontend's.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The directory of its own is somebody else's.
    #[error("{} is not empty; name a directory that is, or leave --dir out", .0.display())]
    NotEmpty(PathBuf),
    /// The operating system refuses.
    #[error("cannot {what}: {}", of_system(source))]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The configuration that was written is refused.
    #[error("the configuration is refused:\n{0}")]
    Configuration(String),
    /// The frontend does not start, or ended badly.
    #[error(transparent)]
    Frontend(#[from] RunError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] ClientError),
    /// The agent that gathers candidates.
    #[error("the ICE agent gathers no candidate: {0}")]
    Ice(#[from] webrtc_ice::Error),
    /// The operating system's random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// A peer closed the connection.
    #[error("the connection was closed by the other end")]
    Closed,
    /// A peer sends what is no SIP.
    #[error("a message is not understood: {0}")]
    NotSip(String),
    /// Nothing came in time.
    #[error("{what} did not come within {} s", deadline.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        deadline: Duration,
    },
    /// Something else came.
    #[error("{0}")]
    Unlike(String),
}

impl Fault {
    /// For `map_err` on what the operating system was asked for.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// What was seen is not what should be.
    pub fn unlike(text: impl Into<String>) -> Self {
        Self::Unlike(text.into())
    }
}

impl From<rsip::Error> for Fault {
    fn from(error: rsip::Error) -> Self {
        Self::NotSip(error.to_string())
    }
}

/// How long anything in the story may take. All of it takes a second or two; this is for a machine under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);

/// Waits for something, with a deadline.
pub(crate) async fn within<T>(
    what: impl Into<String>,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Fault::Late { what: what.into(), deadline: PATIENCE }),
    }
}
