//! `portcullis check`: every fault of a configuration file, and what this machine has to say to it.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::table::wrap;
use super::{CliError, EXIT_USAGE};
use crate::admin::client::running_listeners;
use crate::clock::Clock;
use crate::config::fault::Faults;
use crate::config::machine::{self, KernelPorts};
use crate::config::{self, Report};

/// Checks a file and says everything that was found. Exits 64 where something must be mended.
pub fn check(path: &Path, json: bool) -> Result<ExitCode, CliError> {
    let mut loaded = config::load(path, Clock::start().wall());
    if let Some(settings) = &loaded.settings {
        let running = running_listeners(&settings.node.admin_socket.value);
        let mut faults = Faults::default();
        machine::examine(settings, &KernelPorts::of_this_machine(), running.as_deref(), &mut faults);
        loaded.report.append(faults);
    }
    match write_report(&loaded.report, json, &mut std::io::stdout().lock()) {
        // Who reads no further still hears by the exit code what came of it.
        Err(error) if !error.is_reader_gone() => return Err(error),
        Ok(()) | Err(_) => {}
    }
    Ok(if loaded.report.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) })
}

fn write_report(report: &Report, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    if json {
        serde_json::to_writer_pretty(&mut *out, &report.views())?;
        writeln!(out)?;
        return Ok(());
    }
    write!(out, "{}", report.draw_errors())?;
    for (line, help) in report.warnings_in_words() {
        write!(out, "{line}\n{}", wrap(&format!("→ {help}"), 2))?;
    }
    writeln!(out, "{}", report.summary())?;
    Ok(())
}
