//! Signals that end a sweep before its last seed: the runs that have begun end first, and what was seen is told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether somebody wants an end.
pub(crate) struct Stop {
    signal: Arc<AtomicUsize>,
    at_once: Arc<AtomicBool>,
}

impl Stop {
    /// From now on the first signal is noted here; the second ends the process.
    pub(crate) fn listen() -> io::Result<Self> {
        let (signal, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for number in [SIGHUP, SIGINT, SIGTERM] {
            flag::register_conditional_default(number, Arc::clone(&at_once))?;
            flag::register(number, Arc::clone(&at_once))?;
            flag::register_usize(number, Arc::clone(&signal), usize::try_from(number).unwrap_or_default())?;
        }
        Ok(Self { signal, at_once })
    }

    /// The signal that came.
    pub(crate) fn signal(&self) -> Option<u8> {
        u8::try_from(self.signal.load(Ordering::Relaxed)).ok().filter(|signal| *signal > 0)
    }

    /// From now on the first signal ends the process.
    pub(crate) fn is_over(&self) {
        self.at_once.store(true, Ordering::Relaxed);
    }
}
