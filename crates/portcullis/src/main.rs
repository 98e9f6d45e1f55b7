//! The binary: hands the arguments over, and says in one line why it could not do what they ask.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use portcullis::cli;

fn main() -> ExitCode {
    match cli::execute(std::env::args_os()) {
        Ok(code) => code,
        Err(error) => {
            // Where standard error is gone too, the exit code is all there is to say.
            let _told = writeln!(std::io::stderr(), "portcullis: {error}");
            ExitCode::from(cli::EXIT_WORLD)
        }
    }
}
