//! The forms in which single values are written: durations, rates, addresses, port ranges, secrets.
//!
//! Never looks at another key or at the machine: what needs those is checked in `validate`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use guard::{CallRule, HardwareId};
use net::IdentityField;
use toml::de::DeValue;
use wire::net::{Prefix, Transport};
use wire::sip::{Host, Scheme, Uri};

use super::document::Item;
use super::fault::{FaultCode, Problem};

/// The longest duration that can be written.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The longest name that can be written.
const NAME_MAX: usize = 64;

/// A secret as it is written: never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration file itself.
    InPlace(String),
    /// In a file of its own.
    File(PathBuf),
    /// In an environment variable.
    Environment(String),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPlace(_) => f.write_str("***"),
            Self::File(path) => write!(f, "{{ file = {path:?} }}"),
            Self::Environment(name) => write!(f, "{{ env = {name:?} }}"),
        }
    }
}

/// A device CA file as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCaEntry {
    /// The file.
    pub file: PathBuf,
    /// Where its certificates hold the hardware ID.
    pub identity: IdentityField,
}

/// Where a PBX is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PbxUri {
    /// A name or an address.
    pub host: HostName,
    /// Where the URI names it.
    pub port: Option<u16>,
    /// Where the URI names it.
    pub transport: Option<Transport>,
}

/// A host as a configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// An address.
    Ip(IpAddr),
    /// A name that must be looked up.
    Name(String),
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// What an `[[allowed]]` entry allows, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedAddress {
    /// An address or a network.
    Prefix(Prefix),
    /// A domain, whose addresses are looked up.
    Domain(String),
}

/// A range of ports, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first, even.
    pub first: u16,
    /// The last, odd.
    pub last: u16,
}

impl PortRange {
    /// How many pairs of an RTP and an RTCP port it holds.
    pub fn pairs(self) -> usize {
        (usize::from(self.last) + 1).saturating_sub(usize::from(self.first)) / 2
    }

    /// Whether both have a port in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether a port lies in it.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Which ports answer STUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StunServer {
    /// None.
    Off,
    /// The outside SIP UDP port, and this one.
    On {
        /// The STUN port proper.
        port: u16,
    },
}

/// A piece of text.
pub fn text(item: &Item<'_>) -> Result<String, Problem> {
    let text = str_of(item, "text", "write it in quotes")?;
    if text.chars().any(char::is_control) {
        return Err(item.bad_value("text without control characters", text.escape_debug(), "take them out"));
    }
    Ok(text.to_owned())
}

fn str_of<'a>(item: &Item<'a>, wanted: &str, help: &str) -> Result<&'a str, Problem> {
    match item.value {
        DeValue::String(text) => Ok(text.as_ref()),
        _ => Err(item.wrong_type(wanted, help)),
    }
}

/// The name of something in the configuration.
pub fn name(item: &Item<'_>) -> Result<String, Problem> {
    let text = text(item)?;
    if text.trim().is_empty() || text.len() > NAME_MAX {
        let found = if text.len() > NAME_MAX { "a longer one" } else { "an empty one" };
        return Err(item.bad_value("a name of 1 to 64 characters", found, "choose a short name"));
    }
    Ok(text)
}

/// The user part of an AOR: what a phone registers.
pub fn extension_name(item: &Item<'_>) -> Result<String, Problem> {
    let text = name(item)?;
    // RFC 3261 §25.1: unreserved and user-unreserved without what would need escaping elsewhere.
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'()&=+$,?/".contains(c);
    if text.chars().all(legal) {
        return Ok(text);
    }
    let help = "use letters, digits, `-`, `_`, `.` and `+`, as the phone registers";
    Err(item.bad_value("the user part of a SIP address", text, help))
}

/// `500ms`, `10s`, `10m`, `24h`.
pub fn duration(item: &Item<'_>) -> Result<Duration, Problem> {
    let help = "write a number and its unit, such as \"500ms\", \"10s\", \"10m\" or \"24h\"";
    let text = str_of(item, "a duration", help)?;
    match parse_duration(text) {
        Some(duration) if duration <= DURATION_MAX => Ok(duration),
        Some(_) => Err(Problem::new(
            FaultCode::OutOfRange,
            format!("{} is longer than a year", super::document::quoted_key(&item.place.key)),
            format!("found `{text}`"),
            help,
        )),
        None => Err(item.bad_value("a duration", text, help)),
    }
}

/// Reads `500ms`, `10s`, `10m`, `24h`; none for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

/// `5/1s`: so many in that time.
pub fn rate(item: &Item<'_>) -> Result<CallRule, Problem> {
    let help = "write how many in what time, such as \"5/1s\" or \"60/1h\"";
    let text = str_of(item, "a rate", help)?;
    let parsed = text.split_once('/').and_then(|(calls, period)| {
        let digits = !calls.is_empty() && calls.bytes().all(|byte| byte.is_ascii_digit());
        Some((digits.then(|| calls.parse::<u32>().ok())??, parse_duration(period)?))
    });
    match parsed {
        Some((calls, period))
            if (1..=100_000).contains(&calls) && !period.is_zero() && period <= DURATION_MAX =>
        {
            Ok(CallRule { calls, period })
        }
        Some(_) => {
            let message = "a rate of 1 to 100000 in a time above zero";
            let problem = item.bad_value(message, text, help);
            Err(Problem { code: FaultCode::OutOfRange, ..problem })
        }
        None => Err(item.bad_value("a rate", text, help)),
    }
}

/// A whole number within bounds.
pub fn number(item: &Item<'_>, least: u32, most: u32) -> Result<u32, Problem> {
    let wanted = format!("a number from {least} to {most}");
    let help = format!("write a number from {least} to {most}, without quotes");
    let DeValue::Integer(integer) = item.value else {
        return Err(item.wrong_type(&wanted, help));
    };
    let digits = integer.as_str().replace('_', "");
    match i64::from_str_radix(&digits, integer.radix()).ok().and_then(|value| u32::try_from(value).ok()) {
        Some(value) if (least..=most).contains(&value) => Ok(value),
        _ => {
            let problem = item.bad_value(&wanted, integer, help);
            Err(Problem { code: FaultCode::OutOfRange, ..problem })
        }
    }
}

/// At least 1.
pub fn count(item: &Item<'_>) -> Result<u32, Problem> {
    number(item, 1, 10_000)
}

/// Offences that lead to a block: as many as are counted of a source.
pub fn offences(item: &Item<'_>) -> Result<u32, Problem> {
    number(item, 1, guard::BlockPolicy::AFTER_MAX)
}

/// A port; 0 leaves the choice to the operating system.
pub fn port(item: &Item<'_>) -> Result<u16, Problem> {
    number(item, 0, u32::from(u16::MAX)).map(|port| u16::try_from(port).unwrap_or_default())
}

/// `true`, `false` or a port.
pub fn stun_server(item: &Item<'_>) -> Result<StunServer, Problem> {
    match item.value {
        DeValue::Boolean(false) => Ok(StunServer::Off),
        DeValue::Boolean(true) => Ok(super::defaults::STUN_SERVER),
        DeValue::Integer(_) => port(item).map(|port| StunServer::On { port }),
        _ => Err(item.wrong_type("true, false or a port", "write `true`, `false` or a port such as `3478`")),
    }
}

/// `10000-19999`: pairs of an even RTP port and the RTCP port above it.
pub fn port_range(item: &Item<'_>) -> Result<PortRange, Problem> {
    let help = "write the first, even port and the last, odd one, such as \"10000-19999\"";
    let text = str_of(item, "a range of ports", help)?;
    let ends = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
    });
    let Some((first, last)) = ends else {
        return Err(item.bad_value("a range of ports", text, help));
    };
    let out_of_range = |message: &str, help: String| {
        let problem = item.bad_value(message, text, help);
        Err(Problem { code: FaultCode::OutOfRange, ..problem })
    };
    if first >= last {
        return out_of_range("a range of ports, the smaller one first", help.to_owned());
    }
    if first < 1024 {
        return out_of_range(
            "a range of ports above 1023",
            "the ports below 1024 are for services".to_owned(),
        );
    }
    if !first.is_multiple_of(2) || last.is_multiple_of(2) {
        let (even, odd) = (first.next_multiple_of(2), last.saturating_sub(1) | 1);
        let help = format!("RTP takes an even port and RTCP the one above: write \"{even}-{odd}\"");
        return out_of_range("a range of whole pairs of ports", help);
    }
    Ok(PortRange { first, last })
}

/// `IP`.
pub fn ip(item: &Item<'_>) -> Result<IpAddr, Problem> {
    let help = "write an address such as \"203.0.113.10\" or \"2001:db8::10\"";
    let text = str_of(item, "an IP address", help)?;
    IpAddr::from_str(text).map_err(|_| item.bad_value("an IP address", text, help))
}

/// `IP:port`, `[v6]:port`.
pub fn socket_address(item: &Item<'_>) -> Result<SocketAddr, Problem> {
    let help = "write address and port, such as \"10.0.0.2:8443\" or \"[2001:db8::2]:8443\"";
    let text = str_of(item, "an address with a port", help)?;
    SocketAddr::from_str(text).map_err(|_| item.bad_value("an address with a port", text, help))
}

/// An address, or a network such as `198.51.100.0/24`.
pub fn prefix(item: &Item<'_>) -> Result<Prefix, Problem> {
    let help = "write an address or a network such as \"198.51.100.0/24\"";
    let text = str_of(item, "an address or a network", help)?;
    Prefix::from_str(text).map_err(|_| item.bad_value("an address or a network", text, help))
}

/// An address, a network or a domain.
pub fn allowed_address(item: &Item<'_>) -> Result<AllowedAddress, Problem> {
    let help = "write an address, a network such as \"198.51.100.0/24\", or a domain";
    let text = str_of(item, "an address, a network or a domain", help)?;
    if let Ok(prefix) = Prefix::from_str(text) {
        return Ok(AllowedAddress::Prefix(prefix));
    }
    if is_domain(text) {
        return Ok(AllowedAddress::Domain(text.to_ascii_lowercase()));
    }
    Err(item.bad_value("an address, a network or a domain", text, help))
}

/// A host name or an address.
pub fn host(item: &Item<'_>) -> Result<String, Problem> {
    let help = "write a domain such as \"example.com\"";
    let text = str_of(item, "a domain", help)?;
    if is_domain(text) || IpAddr::from_str(text).is_ok() {
        return Ok(text.to_ascii_lowercase());
    }
    Err(item.bad_value("a domain", text, help))
}

/// Whether a text can be a host name: labels of letters, digits and hyphens, the last one no number.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last_is_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !last_is_number
}

/// Where a PBX is reached: `sip:HOST[:port][;transport=udp|tcp]`.
pub fn pbx_uri(item: &Item<'_>) -> Result<PbxUri, Problem> {
    let help = "write \"sip:HOST\", with `:PORT` and `;transport=udp` or `;transport=tcp` where needed";
    let text = str_of(item, "a SIP URI", help)?;
    let bad = || item.bad_value("a SIP URI", text, help);
    let uri = Uri::parse(text).map_err(|_| bad())?;
    if uri.scheme == Scheme::Sips
        || uri.params.value("transport").is_some_and(|it| it.eq_ignore_ascii_case("tls"))
    {
        let message = "TLS to the PBX is not available yet";
        let help = "write `sip:` with `;transport=tcp` or `;transport=udp`";
        return Err(Problem::new(FaultCode::NotAvailable, message, format!("found `{text}`"), help));
    }
    if uri.scheme != Scheme::Sip || uri.user.is_some() || uri.headers.is_some() {
        return Err(item.bad_value("the SIP URI of a host, without a user", text, help));
    }
    let host = match uri.host {
        Host::Ip(ip) => HostName::Ip(ip),
        Host::Name(name) if is_domain(name) => HostName::Name(name.to_ascii_lowercase()),
        Host::Name(_) => return Err(bad()),
    };
    let transport = match uri.params.value("transport").map(str::to_ascii_lowercase).as_deref() {
        None if uri.params.has("transport") => return Err(bad()),
        None => None,
        Some("udp") => Some(Transport::Udp),
        Some("tcp") => Some(Transport::Tcp),
        Some(_) => return Err(bad()),
    };
    Ok(PbxUri { host, port: uri.port, transport })
}

/// Twelve digits of a device, in one of the forms in which they are printed on it.
pub fn hardware_id(item: &Item<'_>) -> Result<HardwareId, Problem> {
    let help =
        "write it as \"009033010203\", \"00:90:33:01:02:03\", \"SEP009033010203\" or \"IP110-01-02-03\"";
    let text = str_of(item, "a hardware ID", help)?;
    HardwareId::parse(text.as_bytes()).map_err(|_| item.bad_value("a hardware ID", text, help))
}

/// A path.
pub fn path(item: &Item<'_>) -> Result<PathBuf, Problem> {
    let help = "write the path of a file in quotes";
    let text = str_of(item, "a path", help)?;
    if text.is_empty() || text.contains('\0') {
        return Err(item.bad_value("a path", text.escape_debug(), help));
    }
    Ok(PathBuf::from(text))
}

/// A CA file, alone or with the field of its certificates that holds the hardware ID.
pub fn device_ca(item: &Item<'_>) -> Result<DeviceCaEntry, Problem> {
    let help = "write \"ca.pem\" or { file = \"ca.pem\", identity = \"subject.CN\" }";
    let Some(entries) = item.entries() else {
        let file = str_of(item, "a CA file", help).and_then(|_| path(item))?;
        return Ok(DeviceCaEntry { file, identity: IdentityField::default() });
    };
    let (mut file, mut identity) = (None, IdentityField::default());
    for (key, entry) in &entries {
        match *key {
            "file" => file = Some(path(entry)?),
            "identity" => identity = identity_field(entry)?,
            other => return Err(unknown_entry(item, other, &["file", "identity"], help)),
        }
    }
    let file = file.ok_or_else(|| item.bad_value("a CA file", "no `file`", help))?;
    Ok(DeviceCaEntry { file, identity })
}

fn unknown_entry(item: &Item<'_>, key: &str, known: &[&str], help: &str) -> Problem {
    let message = format!("{} has no key `{key}`", super::document::quoted_key(&item.place.key));
    let help = match super::schema::nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => help.to_owned(),
    };
    Problem::new(FaultCode::UnknownKey, message, "unknown key in it", help)
}

fn identity_field(item: &Item<'_>) -> Result<IdentityField, Problem> {
    let fields = IdentityField::ALL.map(|field| (field.as_str(), field));
    one_of(item, &fields)
}

/// One of a few words.
pub fn one_of<T: Copy>(item: &Item<'_>, words: &[(&str, T)]) -> Result<T, Problem> {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let list = known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let wanted = format!("one of {list}");
    let text = str_of(item, &wanted, &format!("write one of {list}"))?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let help = match super::schema::nearest(text, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write one of {list}"),
    };
    Err(item.bad_value(&wanted, text, help))
}

/// A secret in place, in a file or in the environment.
pub fn secret(item: &Item<'_>) -> Result<SecretSource, Problem> {
    let help = "write it in quotes, or { file = \"PATH\" }, or { env = \"NAME\" }";
    if let DeValue::String(text) = item.value {
        // What was found is not said: it is a secret.
        return if text.is_empty() || text.chars().any(char::is_control) {
            let message = format!("{} is empty or unusable", super::document::quoted_key(&item.place.key));
            Err(Problem::new(FaultCode::Secret, message, "this one", help))
        } else {
            Ok(SecretSource::InPlace(text.to_string()))
        };
    }
    let entries = item.entries().ok_or_else(|| item.wrong_type("a secret", help))?;
    match entries.as_slice() {
        [("file", entry)] => path(entry).map(SecretSource::File),
        [("env", entry)] => text(entry).map(SecretSource::Environment),
        [(key, _)] => Err(unknown_entry(item, key, &["file", "env"], help)),
        _ => Err(item.wrong_type("a secret: one of file and env", help)),
    }
}
