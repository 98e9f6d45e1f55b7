//! The load kit's program: `cargo xtask bench` builds it and hands its arguments on. It is the floors, too.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portcullis_benches::scenarios::run::{self, RunArguments};
use portcullis_benches::systems::floor::{self, FloorArguments};

/// Portcullis under load, beside its peers and the floors under both.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, compare and draw.
    #[command(override_usage = "cargo xtask bench [ROW…] [OPTION…]")]
    Run(RunArguments),
    /// Be a floor: how this program starts itself.
    #[command(hide = true)]
    Floor(FloorArguments),
}

fn main() -> ExitCode {
    let done = match &Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Floor(arguments) => floor::serve(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("load: {fault}");
            ExitCode::FAILURE
        }
    }
}
