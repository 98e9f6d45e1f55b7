//! Whether the run was told to end, by Ctrl-C or by a signal.
//!
//! Nobody who drives load is stopped in the middle: whoever waits or sends asks here, and fails where the run is
//! over. So every system ends with its value, and what was measured until then is reported.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// What a process says that was ended by Ctrl-C.
const STATUS: i32 = 130;

static TOLD: AtomicBool = AtomicBool::new(false);

/// From now on the first SIGINT or SIGTERM ends the run, and the second this process at once.
pub fn heed() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let (mut asked, mut told) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(guard);
    let mut next = async move || {
        tokio::select! {
            _ = asked.recv() => {}
            _ = told.recv() => {}
        }
    };
    let watch = move || {
        runtime.block_on(next());
        TOLD.store(true, Ordering::Relaxed);
        runtime.block_on(next());
        // systems are told to end by the kernel then
        std::process::exit(STATUS);
    };
    thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}

/// Whether the run is over.
pub fn is_told() -> bool {
    TOLD.load(Ordering::Relaxed)
}

/// Fails where the run is over.
pub fn check() -> io::Result<()> {
    if is_told() { Err(io::Error::other("the run was told to end")) } else { Ok(()) }
}
