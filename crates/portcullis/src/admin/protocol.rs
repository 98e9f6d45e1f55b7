//! The lines that cross the admin socket.

use std::time::Duration;

use border::command::Command;
use border::event::Code;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::net::Prefix;

/// One question or order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The whole state in numbers.
    Status,
    /// Who is registered.
    Registrations,
    /// Which calls are up.
    Calls,
    /// What happened.
    Events {
        /// Go on with what happens from now on.
        follow: bool,
        /// Nothing older than this many seconds.
        since_s: Option<u64>,
        /// Only of this kind.
        code: Option<String>,
    },
    /// The block list.
    BlockList,
    /// Block an address or a network.
    BlockAdd {
        /// Which.
        address: String,
        /// For how long; left out, the configured time.
        for_ms: Option<u64>,
        /// For the list.
        why: String,
        /// Even if phones that are registered are cut off by it, or everybody is.
        #[serde(default)]
        force: bool,
    },
    /// Take entries from the block list.
    BlockRemove {
        /// Which.
        addresses: Vec<String>,
    },
    /// Move an entry to the allow list.
    BlockAllow {
        /// Which.
        address: String,
    },
    /// The allow list.
    AllowList,
    /// Add to the allow list.
    AllowAdd {
        /// Which.
        address: String,
        /// Unique.
        name: String,
        /// For people.
        description: String,
    },
    /// Take from the allow list.
    AllowRemove {
        /// Its name.
        name: String,
    },
}

/// What of the recorded events is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// Go on with what happens from now on.
    pub follow: bool,
    /// Nothing older than this.
    pub since: Option<Duration>,
    /// Only of this kind.
    pub code: Option<Code>,
}

/// Who answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The border.
    Border(Command),
    /// The record of events.
    Events(EventQuery),
}

/// One line of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Everything there is, in order.
    Rows(Vec<Value>),
    /// One more row of an answer that goes on.
    Row(Value),
    /// The one object asked for.
    Object(Value),
    /// The order is carried out.
    Done(String),
    /// The order is refused, or the question makes no sense.
    Refused(String),
}

impl Request {
    /// Reads what the request says; a sentence for the operator where it says nothing that can be done.
    pub fn resolve(self) -> Result<Asked, String> {
        let command = match self {
            Self::Status => Command::Status,
            Self::Registrations => Command::Registrations,
            Self::Calls => Command::Calls,
            Self::Events { follow, since_s, code } => {
                let code = code.map(|code| parse_code(&code)).transpose()?;
                let since = since_s.map(Duration::from_secs);
                return Ok(Asked::Events(EventQuery { follow, since, code }));
            }
            Self::BlockList => Command::BlockList,
            Self::BlockAdd { address, for_ms, why, force } => {
                let time = for_ms.map(Duration::from_millis);
                Command::BlockAdd { prefix: parse_prefix(&address)?, time, why, force }
            }
            Self::BlockRemove { addresses } => {
                let prefixes: Result<Vec<_>, _> = addresses.iter().map(|text| parse_prefix(text)).collect();
                Command::BlockRemove { prefixes: prefixes? }
            }
            Self::BlockAllow { address } => Command::BlockAllow { prefix: parse_prefix(&address)? },
            Self::AllowList => Command::AllowList,
            Self::AllowAdd { address, name, description } => {
                Command::AllowAdd { prefix: parse_prefix(&address)?, name, description }
            }
            Self::AllowRemove { name } => Command::AllowRemove { name },
        };
        Ok(Asked::Border(command))
    }

    /// Whether it changes something, and so leaves a line in the log.
    pub fn changes(&self) -> bool {
        match self {
            Self::Status | Self::Registrations | Self::Calls | Self::Events { .. } => false,
            Self::BlockList | Self::AllowList => false,
            Self::BlockAdd { .. } | Self::BlockRemove { .. } | Self::BlockAllow { .. } => true,
            Self::AllowAdd { .. } | Self::AllowRemove { .. } => true,
        }
    }
}

/// An address or a network.
pub fn parse_prefix(text: &str) -> Result<Prefix, String> {
    text.parse().map_err(|_| format!("`{text}` is no address and no network such as 198.51.100.0/24"))
}

/// A kind of event.
pub fn parse_code(text: &str) -> Result<Code, String> {
    if let Some(code) = Code::ALL.iter().find(|code| code.as_str() == text) {
        return Ok(*code);
    }
    let known = Code::ALL.iter().map(|code| code.as_str());
    Err(match crate::config::schema::nearest(text, known.clone()) {
        Some(near) => format!("there is no event code `{text}`; did you mean `{near}`?"),
        None => {
            format!("there is no event code `{text}`; there are {}", known.collect::<Vec<_>>().join(", "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_survives_its_line() {
        let requests = [
            Request::Status,
            Request::Events { follow: true, since_s: Some(600), code: Some("blocked".to_owned()) },
            Request::BlockAdd {
                address: "2001:db8::/64".to_owned(),
                for_ms: None,
                why: "scan".to_owned(),
                force: true,
            },
            Request::AllowRemove { name: "office".to_owned() },
        ];
        for request in requests {
            let line = serde_json::to_string(&request).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        }
    }

    #[test]
    fn what_cannot_be_done_is_said_in_a_sentence() {
        let bad = Request::BlockAdd {
            address: "10.0.0.300".to_owned(),
            for_ms: None,
            why: String::new(),
            force: false,
        };
        assert_eq!(
            bad.resolve(),
            Err("`10.0.0.300` is no address and no network such as 198.51.100.0/24".to_owned())
        );
        let typo = Request::Events { follow: false, since_s: None, code: Some("blocekd".to_owned()) };
        assert_eq!(
            typo.resolve(),
            Err("there is no event code `blocekd`; did you mean `blocked`?".to_owned())
        );
    }
}
