//! The configuration: from a file to checked [`Settings`], with every fault that stands in it.
//!
//! Never starts anything and never changes the machine; a faulty file yields no settings at all.
//!
//! ```text
//! bytes → document (places) → file (values, defaults) → validate (everything together) → Settings
//!                    └ not_built (what this version lacks)          machine (ports, names: warnings)
//! ```

pub mod certificates;
pub mod defaults;
pub mod document;
mod extensions;
pub mod fault;
pub mod file;
pub mod machine;
mod mask;
mod not_built;
pub mod schema;
pub mod settings;
mod validate;
pub mod value;

use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use wire::clock::WallTime;

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
    let unreadable = |why: String| {
        let message = format!("the configuration file {} cannot be read: {why}", path.display());
        let help = "name the file with -c, or write portcullis.toml here or in /etc/portcullis";
        Problem::new(FaultCode::FileUnreadable, message, why, help)
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    if metadata.is_dir() {
        return Err(unreadable("it is a directory".to_owned()));
    }
    let mut bounded = file.take(FILE_BYTES_MAX + 1);
    bounded.read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable("it is larger than 64 MiB".to_owned()));
    }
    Ok(text)
}

/// Checks the text of a file; paths in it are relative to `path`.
pub fn load_text(path: &Path, source: &str, now: WallTime) -> Loaded {
    let (table, errors) = DeTable::parse_recoverable(source);
    let masked = mask::masked(source, table.get_ref());
    let mut faults = Faults::default();
    let mut readable = true;
    for error in &errors {
        let code = if error.message() == "duplicate key" { FaultCode::Duplicate } else { FaultCode::Syntax };
        // A key that stands twice spoils nothing else; after any other error the rest would be guesswork.
        readable &= code == FaultCode::Duplicate;
        faults.error(
            &Place { key: String::new(), span: error.span().unwrap_or_default() },
            syntax(code, error),
        );
    }
    let settings = if readable { check(table.get_ref(), base_of(path), now, &mut faults) } else { None };
    Loaded { settings, report: Report::new(path, masked, faults) }
}

fn check(table: &DeTable<'_>, base: &Path, now: WallTime, faults: &mut Faults) -> Option<Settings> {
    let document = Document::open(table, faults);
    let sections = Sections::open(&document, faults);
    let config = FileConfig::read(&sections, faults);
    not_built::examine(&sections, faults);
    validate::settings(config, base, now, faults)
}

fn syntax(code: FaultCode, error: &toml::de::Error) -> Problem {
    let (message, help) = match code {
        FaultCode::Duplicate => ("this key or section stands twice", "take one of the two out"),
        _ => ("this is no TOML", "mend this first; the rest of the file is checked after that"),
    };
    Problem::new(code, message, error.message(), help)
}
