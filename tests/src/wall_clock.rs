//! A wall clock for one program, which a test may set. The monotonic clock is left alone, as the kernel leaves it.
//!
//! By libfaketime, which stands between the program and its C library: what the program reads there is what a machine
//! would show whose clock was set. Who asks the kernel past the C library sees the true time; Rust does not.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the loader finds it on every architecture.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1";

/// The clock.
#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
    name: String,
}

impl WallClock {
    /// One that is right.
    pub fn new(directory: &Path) -> Self {
        let file = directory.join("clock");
        let clock = Self { name: file.display().to_string(), file };
        clock.set(0);
        clock
    }

    /// What a program needs in its environment to have it.
    pub fn environment(&self) -> [(&str, &str); 4] {
        [
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME_TIMESTAMP_FILE", &self.name),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }

    /// Sets it: so many seconds ahead of the true time, or behind it.
    pub fn set(&self, ahead: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead:+}\n")).expect("the clock can be set");
        fs::rename(&new, &self.file).expect("the clock can be set");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::{Recipe, program, run};
    use crate::scratch::Scratch;

    #[test]
    fn the_time_of_day_is_set() {
        let scratch = Scratch::new();
        let clock = WallClock::new(scratch.path());
        let read = || -> i64 {
            let recipe = Recipe::new(program("date"), scratch.path()).args(["+%s"]);
            let with =
                clock.environment().into_iter().fold(recipe, |recipe, (name, value)| recipe.env(name, value));
            run(with, Duration::from_secs(20)).expect("it runs").trim().parse().expect("a time")
        };
        let before = read();
        for (ahead, expected) in [(86_400, 86_400..86_460), (-86_400, -86_400..-86_340)] {
            clock.set(ahead);
            let now = read();
            assert!(expected.contains(&(now - before)), "{before} {now}");
        }
    }
}
