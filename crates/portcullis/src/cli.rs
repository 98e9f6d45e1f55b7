//! The command line: one grammar, `portcullis VERB … [-c FILE | --socket PATH] [--json]`.
//!
//! Never prints a secret, and ends with 64 where file or command line are wrong, 1 where the world is, 0.

pub mod check;
pub mod query;
pub mod table;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};
use wire::words::of_system;

use crate::admin::protocol::{Request, parse_code, parse_prefix};
use crate::config::value::parse_duration;
use crate::{config, quickstart, run};

/// The file or the command line is wrong.
pub const EXIT_USAGE: u8 = 64;

/// The world is: a port is taken, the disk is full, nobody answers.
pub const EXIT_WORLD: u8 = 1;

/// A SIP session border controller: phones on one side, the PBX on the other.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, propagate_version = true)]
#[command(after_help = "Example: portcullis check -c portcullis.toml && portcullis run -c portcullis.toml")]
pub struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

/// Which instance, and in which form.
#[derive(Args, Debug)]
struct Target {
    /// The configuration file; without it ./portcullis.toml, then /etc/portcullis/portcullis.toml.
    #[arg(short, long, global = true, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// The admin socket of the running instance, instead of the one in the configuration.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// For programs: JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the border controller.
    #[command(after_help = "Example: portcullis run -c /etc/portcullis/portcullis.toml")]
    Run,
    /// Check the configuration file, and this machine against it.
    #[command(after_help = "Example: portcullis check -c portcullis.toml\n\n\
                            Exits with 64 where something must be mended before a start, else with 0.")]
    Check,
    /// See it all at work on this machine: a lab PBX, two phones, a call, an intruder, a burst of calls.
    #[command(after_help = "Example: portcullis quickstart --dir lab")]
    Quickstart {
        /// End when all was shown: with 0 only if all was truly seen.
        #[arg(long)]
        once: bool,
        /// An empty directory for certificates and configuration; without it, a fresh one among the
        /// temporary files.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Show the whole state in numbers.
    #[command(after_help = "Example: portcullis status --json")]
    Status,
    /// Show who is registered.
    #[command(after_help = "Example: portcullis registrations -c /etc/portcullis/portcullis.toml")]
    Registrations,
    /// Show which calls are up: of a call between two phones, one row for each.
    #[command(after_help = "Example: portcullis calls --json")]
    Calls,
    /// Show what happened: registrations, rejections, blocks, failed calls.
    #[command(after_help = "Example: portcullis events --follow --since 10m --code blocked")]
    Events(EventArgs),
    /// Show or change the block list.
    #[command(subcommand, after_help = "Example: portcullis block list")]
    Block(BlockVerb),
    /// Show or change the allow list.
    #[command(subcommand, after_help = "Example: portcullis allow list")]
    Allow(AllowVerb),
}

#[derive(Args, Debug)]
struct EventArgs {
    /// Go on with what happens from now on; with --json, one object a line.
    #[arg(long)]
    follow: bool,
    /// Nothing older than this, such as 10m.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// Only events of this code, such as blocked.
    #[arg(long, value_name = "CODE", value_parser = code)]
    code: Option<String>,
}

#[derive(Debug, Subcommand)]
enum BlockVerb {
    /// Show the block list.
    #[command(after_help = "Example: portcullis block list --json")]
    List,
    /// Block an address or a network. A network with registered phones in it asks for --force.
    #[command(after_help = "Example: portcullis block add 192.0.2.0/24 --for 24h --why \"scans from there\"")]
    Add {
        /// Such as 192.0.2.7 or 192.0.2.0/24.
        #[arg(value_parser = address)]
        address: String,
        /// For how long, such as 10m; without it, the configured time.
        #[arg(long = "for", value_name = "DURATION", value_parser = time)]
        time: Option<Duration>,
        /// Why, for the list.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        why: String,
        /// Even if phones that are registered are cut off by it, or everybody is.
        #[arg(long)]
        force: bool,
    },
    /// Take addresses from the block list.
    #[command(after_help = "Example: portcullis block remove 192.0.2.7 192.0.2.0/24")]
    Remove {
        /// As the list shows them.
        #[arg(required = true, value_name = "ADDRESS", value_parser = address)]
        addresses: Vec<String>,
    },
    /// Move an address from the block list to the allow list.
    #[command(after_help = "Example: portcullis block allow 192.0.2.7")]
    Allow {
        /// As the list shows it.
        #[arg(value_parser = address)]
        address: String,
    },
}

#[derive(Debug, Subcommand)]
enum AllowVerb {
    /// Show the allow list.
    #[command(after_help = "Example: portcullis allow list --json")]
    List,
    /// Never block an address or a network.
    #[command(after_help = "Example: portcullis allow add 198.51.100.0/24 --name office")]
    Add {
        /// Such as 198.51.100.0/24.
        #[arg(value_parser = address)]
        address: String,
        /// Its name in the list.
        #[arg(long, value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// For people.
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// Take an entry from the allow list.
    #[command(after_help = "Example: portcullis allow remove office")]
    Remove {
        /// Its name.
        name: String,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let hint = || format!("`{text}` is no duration such as 30s, 10m or 24h");
    parse_duration(text).filter(|duration| *duration <= config::value::DURATION_MAX).ok_or_else(hint)
}

fn time(text: &str) -> Result<Duration, String> {
    let some = |time: &Duration| !time.is_zero();
    duration(text).ok().filter(some).ok_or_else(|| format!("`{text}` is no time such as 30s, 10m or 24h"))
}

fn address(text: &str) -> Result<String, String> {
    parse_prefix(text).map(|prefix| prefix.to_string())
}

fn code(text: &str) -> Result<String, String> {
    parse_code(text).map(|code| code.as_str().to_owned())
}

impl BlockVerb {
    fn request(self) -> Request {
        match self {
            Self::List => Request::BlockList,
            Self::Add { address, time, why, force } => {
                let for_ms = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                Request::BlockAdd { address, for_ms, why, force }
            }
            Self::Remove { addresses } => Request::BlockRemove { addresses },
            Self::Allow { address } => Request::BlockAllow { address },
        }
    }
}

impl AllowVerb {
    fn request(self) -> Request {
        match self {
            Self::List => Request::AllowList,
            Self::Add { address, name, description } => Request::AllowAdd { address, name, description },
            Self::Remove { name } => Request::AllowRemove { name },
        }
    }
}

impl EventArgs {
    fn request(self) -> Request {
        let since_s = self.since.map(|since| since.as_secs());
        Request::Events { follow: self.follow, since_s, code: self.code }
    }
}

/// Does what the arguments say. An error is the world's fault; that somebody has read enough, such as `head`,
/// is none.
pub fn execute(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<ExitCode, CliError> {
    match carry_out(arguments) {
        Err(error) if error.is_reader_gone() => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn carry_out(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<ExitCode, CliError> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no faults; both say so by where they are printed.
            let code = if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
            error.print()?;
            return Ok(code);
        }
    };
    let Target { config, socket, json } = cli.target;
    let request = match cli.verb {
        Verb::Run => return Ok(run::run(&config::path_or_default(config))?),
        Verb::Check => return check::check(&config::path_or_default(config), json),
        Verb::Quickstart { once, dir } => return Ok(quickstart::quickstart(once, dir)?),
        Verb::Status => Request::Status,
        Verb::Registrations => Request::Registrations,
        Verb::Calls => Request::Calls,
        Verb::Events(arguments) => arguments.request(),
        Verb::Block(verb) => verb.request(),
        Verb::Allow(verb) => verb.request(),
    };
    let socket = match socket {
        Some(socket) => socket,
        None => match config::admin_socket(config) {
            Ok(socket) => socket,
            Err(report) => {
                write!(std::io::stderr(), "{}", report.draw_errors())?;
                return Ok(ExitCode::from(EXIT_USAGE));
            }
        },
    };
    query::query(&socket, request, json)
}

/// Why a command could not be carried out, though it was well said.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The admin socket.
    #[error(transparent)]
    Client(#[from] crate::admin::client::ClientError),
    /// The daemon.
    #[error(transparent)]
    Run(#[from] run::RunError),
    /// The quickstart.
    #[error(transparent)]
    Quickstart(#[from] quickstart::Fault),
    /// The terminal, or the program behind it, went away.
    #[error("cannot write: {}", of_system(.0))]
    Output(#[from] std::io::Error),
    /// The same, or a row that JSON cannot hold.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl CliError {
    /// Whether nobody reads any more what we write.
    pub fn is_reader_gone(&self) -> bool {
        let kind = match self {
            Self::Output(error) => Some(error.kind()),
            Self::Json(error) => error.io_error_kind(),
            Self::Client(_) | Self::Run(_) | Self::Quickstart(_) => None,
        };
        kind == Some(ErrorKind::BrokenPipe)
    }
}
