//! Why something was not seen in the lab, as a sentence for the person who watches.

use std::future::Future;
use std::io;
use std::time::Duration;

/// What went wrong: the world's fault, or that of the one whom the lab looks at.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system refuses.
    #[error("cannot {what}: {}", without_number(source))]
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
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// What was seen is not what should be.
    pub(crate) fn unlike(text: impl Into<String>) -> Self {
        Self::Unlike(text.into())
    }
}

impl From<rsip::Error> for Fault {
    fn from(error: rsip::Error) -> Self {
        Self::NotSip(error.to_string())
    }
}

/// What the operating system says, without the number that Rust puts behind it.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// How long anything may take. All of a story takes a second or two; this is for a machine under load.
const PATIENCE: Duration = Duration::from_secs(6);

/// Waits for something, with the lab's deadline.
pub async fn in_time<T>(what: impl Into<String>, work: impl Future<Output = T>) -> Result<T, Fault> {
    let deadline = PATIENCE;
    tokio::time::timeout(deadline, work).await.map_err(|_| Fault::Late { what: what.into(), deadline })
}

/// Waits for something that may fail of itself.
pub(crate) async fn within<T>(
    what: impl Into<String>,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    in_time(what, work).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_no_number_of_an_error() {
        let fault = |error| Fault::system("open a port")(error).to_string();
        assert_eq!(fault(io::Error::from_raw_os_error(24)), "cannot open a port: Too many open files");
        assert_eq!(fault(io::Error::other("it is shut")), "cannot open a port: it is shut");
    }
}
