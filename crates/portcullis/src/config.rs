//! The configuration: from a file to checked [`Settings`], with every fault that stands in it.
//!
//! Never starts anything and never changes the machine; a faulty file yields no settings at all.
//!
//! ```text
//! bytes → syntax → document (places) → file (values, defaults) → validate (all together) → Settings
//!                             └ not_built (what this version lacks)          machine (ports, names: warnings)
//! ```

pub mod certificates;
pub mod defaults;
pub mod document;
mod extensions;
pub mod fault;
pub mod file;
pub mod host;
mod log_levels;
pub mod machine;
mod mask;
mod not_built;
mod reach;
pub mod schema;
pub mod settings;
mod syntax;
mod validate;
pub mod value;

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use wire::clock::WallTime;
use wire::words::of_system;

pub use fault::Report;
pub use settings::Settings;

use document::Document;
use fault::{FaultCode, Faults, Place, Problem};
use file::{FileConfig, Sections};

/// The most that a configuration file may hold: room for 100,000 extensions.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where the file is looked for when none is named, in this order.
pub const DEFAULT_PATHS: [&str; 2] = ["portcullis.toml", "/etc/portcullis/portcullis.toml"];

/// What came of a file.
#[derive(Debug)]
pub struct Loaded {
    /// Only where nothing has to be mended.
    pub settings: Option<Settings>,
    /// Every fault and warning.
    pub report: Report,
}

/// The file to read: the one named, else the first default that exists, else the first default.
pub fn path_or_default(named: Option<PathBuf>) -> PathBuf {
    let [here, system] = DEFAULT_PATHS.map(PathBuf::from);
    named.unwrap_or_else(|| if here.exists() || !system.exists() { here } else { system })
}

/// The admin socket of the instance that runs with a file: the one named, else a default one, else the
/// default socket. Nothing else of the file is looked at, so that a faulty file keeps nobody from asking.
pub fn admin_socket(named: Option<PathBuf>) -> Result<PathBuf, Report> {
    let is_named = named.is_some();
    let path = path_or_default(named);
    if !is_named && !path.exists() {
        return Ok(PathBuf::from(defaults::ADMIN_SOCKET));
    }
    let mut faults = Faults::default();
    let source = match read(&path) {
        Ok(source) => source,
        Err(problem) => {
            faults.error(&Place::default(), problem);
            return Err(Report::new(&path, String::new(), faults));
        }
    };
    let (table, _) = DeTable::parse_recoverable(&source);
    let document = Document::open(table.get_ref(), &mut Faults::default());
    let node = document.sections("node", &mut Faults::default()).pop();
    let node = file::Node::read(node.as_ref(), &mut Faults::default());
    Ok(base_of(&path).join(node.admin_socket.value))
}

/// What paths in a file are relative to.
fn base_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

/// Reads and checks a file.
pub fn load(path: &Path, now: WallTime) -> Loaded {
    match read(path) {
        Ok(source) => load_text(path, &source, now),
        Err(problem) => {
            let mut faults = Faults::default();
            faults.error(&Place::default(), problem);
            Loaded { settings: None, report: Report::new(path, String::new(), faults) }
        }
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let unreadable = |why: &str, help: String| {
        let message = format!("the configuration file {} cannot be read: {why}", path.display());
        Problem::new(FaultCode::FileUnreadable, message, why, help)
    };
    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            let help = "name the file with -c, or write portcullis.toml here or in /etc/portcullis";
            unreadable("there is no such file", help.to_owned())
        }
        ErrorKind::PermissionDenied => {
            let help = format!("the user {} may not: try it as the service's user", host::user());
            unreadable("permission denied", help)
        }
        ErrorKind::InvalidData => unreadable("it is no text in UTF-8", "name a TOML file".to_owned()),
        _ => unreadable(&of_system(&error), "look at the file and its disk".to_owned()),
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(refused)?;
    if file.metadata().map_err(refused)?.is_dir() {
        return Err(unreadable("it is a directory", "name the file in it".to_owned()));
    }
    let mut bounded = file.take(FILE_BYTES_MAX + 1);
    bounded.read_to_string(&mut text).map_err(refused)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable("it is larger than 64 MiB", "name a configuration file".to_owned()));
    }
    Ok(text)
}

/// Checks the text of a file; paths in it are relative to `path`.
pub fn load_text(path: &Path, source: &str, now: WallTime) -> Loaded {
    let (table, errors) = DeTable::parse_recoverable(source);
    let masked = mask::masked(source, table.get_ref());
    let mut faults = Faults::default();
    let readable = syntax::examine(source, table.get_ref(), &errors, &mut faults);
    let settings = if readable { check(table.get_ref(), path, now, &mut faults) } else { None };
    Loaded { settings, report: Report::new(path, masked, faults) }
}

fn check(table: &DeTable<'_>, path: &Path, now: WallTime, faults: &mut Faults) -> Option<Settings> {
    let document = Document::open(table, faults);
    let sections = Sections::open(&document, faults);
    let config = FileConfig::read(&sections, faults);
    not_built::examine(&sections, faults);
    extensions::warn_if_file_is_open(&config.extensions, path, faults);
    validate::settings(config, base_of(path), now, faults)
}
