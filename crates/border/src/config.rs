//! The border's part of the configuration, already checked: every name resolves, every number is in range.

use std::net::IpAddr;
use std::time::Duration;

use guard::{CallRule, HardwareId};
use wire::clock::WallTime;
use wire::net::Prefix;

/// How long before its end a certificate of ours is warned of.
pub const ENDING_SOON: Duration = Duration::from_secs(14 * 24 * 3_600);

/// All that the border must know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The face to the phones.
    pub outside: Outside,
    /// The face to the PBX.
    pub inside: Inside,
    /// At least one.
    pub pbx: Vec<Pbx>,
    /// By name, each once.
    pub extensions: Vec<Extension>,
    /// How long registrations last.
    pub registration: Registration,
    /// Automatic blocks.
    pub block: guard::BlockPolicy,
    /// Never blocked.
    pub allowed: Vec<Allowed>,
    /// `Silent` relays end their call after this.
    pub silence_timeout: Duration,
    /// Relays that may be open at once: half the ports of the smaller range.
    pub relays_max: usize,
}

impl Config {
    /// What others are told as our address, by side.
    pub(crate) fn faces(&self) -> [IpAddr; 2] {
        [self.outside.public_address, self.inside.address]
    }
}

/// The face to the phones.
#[derive(Clone, Debug)]
pub struct Outside {
    /// What we bind.
    pub address: IpAddr,
    /// What phones are told.
    pub public_address: IpAddr,
    /// Host names that our server certificate carries: a phone may address us by them.
    pub server_names: Vec<String>,
    /// When the first certificate of our server's chain ends; none where there is none.
    pub certificate_ends: Option<WallTime>,
}

/// The face to the PBX.
#[derive(Clone, Debug)]
pub struct Inside {
    /// What we bind.
    pub address: IpAddr,
    /// Servers beside the PBX that may send requests.
    pub trusted: Vec<IpAddr>,
}

/// A PBX.
#[derive(Clone, Debug)]
pub struct Pbx {
    /// Its name in events and tables.
    pub name: String,
    /// The host of its `uri`, hidden outward.
    pub host: String,
    /// The domain of its extensions: public.
    pub domain: String,
    /// The digest realm; none: the first one seen is pinned.
    pub realm: Option<String>,
    /// Time between two OPTIONS.
    pub health_check: Duration,
    /// The most REGISTERs in a period.
    pub registrations: CallRule,
    /// Lower is tried first.
    pub priority: u32,
}

/// How an extension proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// By the device's certificate.
    Certificate,
    /// By the device's certificate, and the PBX's digest challenge passes through as well.
    CertificateAndDigest,
    /// By the PBX's digest challenge alone.
    Digest,
}

/// An extension entry: who may be this extension.
#[derive(Clone, Debug)]
pub struct Extension {
    /// The user part of its AOR.
    pub name: String,
    /// For people.
    pub display_name: Option<String>,
    /// The devices that may be it.
    pub hardware_ids: Vec<HardwareId>,
    /// How they prove it.
    pub authentication: Authentication,
    /// Its user name at the PBX's digest.
    pub pbx_user: String,
    /// Its password there.
    pub password: Option<Secret>,
    /// Name of the frequency restriction, for refusals.
    pub frequency: String,
    /// Its rules, all of which hold.
    pub rules: Vec<CallRule>,
    /// Calls at once.
    pub max_calls: usize,
}

/// Lifetimes of registrations.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// The most a phone is told.
    pub phone_expires: Duration,
    /// What we ask of the PBX.
    pub pbx_expires: Duration,
    /// From the loss of a connection to the de-registration.
    pub grace: Duration,
    /// Bindings of one extension at once.
    pub max_contacts: usize,
}

/// An entry of the allow list in the configuration.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// Its name, unique.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it allows; empty while a domain name is not resolved.
    pub prefixes: Vec<Prefix>,
    /// As it stands in the file.
    pub address: String,
}

/// A password: never printed, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(password: String) -> Self {
        Self(password)
    }

    /// The password itself, for the digest alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
