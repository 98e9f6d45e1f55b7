//! Why a step of the quickstart was not seen, as a sentence for the person who watches.

use std::io;
use std::path::PathBuf;

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
    /// The lab saw something else, or nothing.
    #[error(transparent)]
    Lab(#[from] portcullis_lab::Fault),
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
    /// The operating system's random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// What was seen is not what should be.
    #[error("{0}")]
    Unlike(String),
}

impl Fault {
    /// For `map_err` on what the operating system was asked for.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// What was seen is not what should be.
    pub(crate) fn unlike(text: impl Into<String>) -> Self {
        Self::Unlike(text.into())
    }
}
