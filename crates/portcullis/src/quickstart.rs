//! `portcullis quickstart`: the whole product at work on one machine, without anything else installed.
//!
//! Makes certificates and a configuration in a directory of its own, starts the frontend by the same code as
//! `portcullis run`, and around it the lab of `crates/lab`: a PBX, two phones and an intruder of foreign make.
//! Says only what was truly seen. Nothing in the frontend knows of it.
//!
//! Start reading at `story.rs`.

mod cast;
mod certificates;
mod configuration;
mod directory;
mod fault;
mod frontend;
mod guide;
mod output;
mod softphone;
mod story;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::EXIT_WORLD;
use crate::clock::Clock;
use crate::config::defaults;
use crate::config::file::LogFormat;
use crate::events::start_log;
use crate::log::{Log, LogThread};
use directory::Directory;
pub use fault::Fault;
use guide::Guide;
use output::{Failed, Output};
use story::Ending;

/// Where the frontend's events are written, in the quickstart's directory.
const LOG_FILE: &str = "portcullis.log";

/// Tells the story; then goes on until Ctrl-C, unless it is to be told `once`.
pub fn quickstart(once: bool, directory: Option<PathBuf>) -> Result<ExitCode, Fault> {
    let clock = Clock::start();
    let directory = Directory::make(directory)?;
    let log = log_to(&directory, clock)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Fault::system("start a runtime"))?;
    let mut out = output::standard();
    match runtime.block_on(perform(once, &directory, (clock, log.log()), &mut out)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Failed) => Ok(ExitCode::from(EXIT_WORLD)),
    }
}

async fn perform<W: Write>(
    once: bool,
    directory: &Directory,
    (clock, log): (Clock, Log),
    out: &mut Output<W>,
) -> Result<(), Failed> {
    out.say(&format!("Portcullis quickstart, in {}\n\n", directory.path().display()))?;
    let begin = clock.mono();
    let told = story::tell(directory, (clock, log), out).await;
    let Ok(Ending { frontend, server, pbx, phone, free }) = told else {
        let log = directory.file(LOG_FILE);
        out.say(&format!("\nNot everything was seen; the frontend's log is {}\n", log.display()))?;
        return Err(Failed);
    };
    let seconds = clock.mono().since(begin).as_secs_f64();
    out.say(&format!("\nAll {} steps were seen, in {seconds:.1} s.\n", out.seen()))?;
    if !once {
        let stays = phone.owner().number.clone();
        if let Err(fault) = softphone::write(directory, server, &free) {
            out.say(&format!("\nNo softphone could be prepared: {fault}\n"))?;
            return Err(Failed);
        }
        out.say(&Guide { directory, server, stays: &stays, free: &free }.text())?;
        out.say("\nRunning until Ctrl-C.\n")?;
        if let Err(fault) = phone.attend(story::EXPIRES_S, end_wanted()).await {
            out.say(&format!("Phone 1001 is gone: {fault}\n"))?;
            end_wanted().await;
        }
    }
    drop(pbx);
    frontend.stop();
    out.say(&guide::farewell(directory))
}

/// Ctrl-C, or a wish of the system's.
async fn end_wanted() {
    let wait = async |kind: SignalKind| match signal(kind) {
        Ok(mut wanted) => wanted.recv().await,
        Err(error) => {
            tracing::error!(%error, "signals cannot be waited for");
            None
        }
    };
    tokio::select! {
        _ = wait(SignalKind::interrupt()) => {}
        _ = wait(SignalKind::terminate()) => {}
    }
}

/// The log goes to a file: the terminal is the story's.
fn log_to(directory: &Directory, clock: Clock) -> Result<LogThread, Fault> {
    let path = directory.file(LOG_FILE);
    let file = File::create_new(&path).map_err(Fault::system(format!("write {}", path.display())))?;
    Ok(start_log(file, clock, defaults::LOG, LogFormat::Text)?)
}
