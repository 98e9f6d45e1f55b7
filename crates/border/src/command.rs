//! What an operator may ask of the running border, and what it answers.

use std::net::IpAddr;
use std::time::Duration;

use wire::clock::WallTime;
use wire::net::{Prefix, Transport};

use crate::drop_reason::DropCounts;

/// A question or an order of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Who is registered.
    Registrations,
    /// Which calls are up.
    Calls,
    /// The whole state in numbers.
    Status,
    /// The block list.
    BlockList,
    /// Block an address or a network.
    BlockAdd {
        /// Whom.
        prefix: Prefix,
        /// For how long; none: the configured time.
        time: Option<Duration>,
        /// Why, for the list.
        why: String,
        /// Even if phones that are registered are cut off by it, or everybody is.
        force: bool,
    },
    /// Take entries from the block list.
    BlockRemove {
        /// Which, exactly as listed.
        prefixes: Vec<Prefix>,
    },
    /// Move an entry from the block list to the allow list.
    BlockAllow {
        /// Which.
        prefix: Prefix,
    },
    /// The allow list.
    AllowList,
    /// Add to the allow list.
    AllowAdd {
        /// Whom.
        prefix: Prefix,
        /// Unique.
        name: String,
        /// For people.
        description: String,
    },
    /// Take an entry from the allow list.
    AllowRemove {
        /// Its name.
        name: String,
    },
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To `Registrations`.
    Registrations(Vec<RegistrationView>),
    /// To `Calls`.
    Calls(Vec<CallView>),
    /// To `Status`.
    Status(StatusView),
    /// To `BlockList`.
    Blocks(Vec<BlockView>),
    /// To `AllowList`.
    Allowed(Vec<AllowView>),
    /// The order is carried out; a sentence that says what was done.
    Done(String),
    /// The order was refused; a sentence that says why and what to do.
    Refused(String),
}

/// A row of `portcullis registrations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationView {
    /// The extension.
    pub extension: String,
    /// Its name for people, where it has one.
    pub display_name: Option<String>,
    /// Of the device, where it showed a certificate.
    pub hardware_id: Option<String>,
    /// The phone's address, as `IP:port`.
    pub source: String,
    /// How it is connected.
    pub transport: Transport,
    /// Until the phone must refresh, or be back where its connection is lost.
    pub expires: Duration,
    /// The PBX's name.
    pub pbx: String,
    /// `registered`, `registering`, `grace`, `lost`.
    pub pbx_state: &'static str,
    /// Until we must refresh there.
    pub pbx_expires: Duration,
}

/// A row of `portcullis calls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallView {
    /// Our number of the call.
    pub id: u64,
    /// The extension whose call it is.
    pub extension: String,
    /// Its name for people, where it has one.
    pub display_name: Option<String>,
    /// `out` from the phone, `in` to the phone.
    pub direction: &'static str,
    /// The number or name at the other end.
    pub peer: String,
    /// `ringing`, `confirmed`, …
    pub state: &'static str,
    /// When it began.
    pub started: WallTime,
    /// For how long.
    pub duration: Duration,
    /// RTP packets from the phone.
    pub packets_in: u64,
    /// RTP packets to the phone.
    pub packets_out: u64,
}

/// A row of `portcullis block list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockView {
    /// The address that attacked, or was named by the operator.
    pub address: IpAddr,
    /// What is blocked.
    pub range: Prefix,
    /// The kind of offence, or `operator`.
    pub defense_type: String,
    /// `automatic` or `manual`.
    pub block_type: &'static str,
    /// The protocol that was attacked.
    pub protocol: String,
    /// The port that was attacked.
    pub port: Option<u16>,
    /// Since when.
    pub since: WallTime,
    /// Until when.
    pub expires: WallTime,
    /// For how long still.
    pub remaining: Duration,
    /// The last offences, in words.
    pub evidence: String,
    /// The entry of the allow list that takes all effect from it.
    pub allowed_as: Option<String>,
}

/// A row of `portcullis allow list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowView {
    /// Its name.
    pub name: String,
    /// What is allowed, as it was given.
    pub address: String,
    /// For people.
    pub description: String,
    /// Whether it stands in the configuration file, and so cannot be removed here.
    pub from_config: bool,
}

/// Whether a PBX answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PbxHealth {
    /// It was not heard since the start, nor has it been asked in vain.
    Unknown,
    /// It answered last.
    Up,
    /// It did not answer, and is asked again at each health check.
    Down,
}

impl PbxHealth {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// `portcullis status`, the border's part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusView {
    /// Name and health of each PBX.
    pub pbx: Vec<(String, PbxHealth)>,
    /// Bindings.
    pub registrations: usize,
    /// Calls.
    pub calls: usize,
    /// Entries of the block list.
    pub blocks: usize,
    /// Open relays.
    pub relays: usize,
    /// Whether the last write failed: what changes now is lost by a restart.
    pub store_failing: bool,
    /// What went no further, and why.
    pub drops: DropCounts,
}
