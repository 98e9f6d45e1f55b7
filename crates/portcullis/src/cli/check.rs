//! `portcullis check`: every fault of a configuration file, and what this machine has to say to it.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

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
        let running = running_listeners(&settings.node.admin_socket);
        let mut faults = Faults::default();
        machine::examine(settings, &KernelPorts::of_this_machine(), &running, &mut faults);
        loaded.report.append(faults);
    }
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &loaded.report.views())?;
        writeln!(out)?;
    } else {
        write_report(&loaded.report, &mut out)?;
    }
    Ok(if loaded.report.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) })
}

fn write_report(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    write!(out, "{}", report.draw_errors())?;
    for line in report.warning_lines() {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{}", report.summary())
}
