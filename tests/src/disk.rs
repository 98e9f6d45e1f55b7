//! A small disk that can be filled, broken and mended, for a data directory. Needs root.
//!
//! It is mounted in a mount namespace that a process of ours holds: it outlives the program that uses it, and
//! is gone with the test.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::deadline::wait_until;
use crate::process::{Process, Recipe, program, run};

const SOON: Duration = Duration::from_secs(15);

/// Megabytes on it: a store fits, a hundred do not.
const MEGABYTES: u32 = 8;

/// The disk.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Process,
    mounted_at: PathBuf,
    scratch: PathBuf,
    /// What lies under it, where it is no memory.
    image: Option<PathBuf>,
}

impl SmallDisk {
    /// One of memory, mounted at this directory for whoever is within its mounts.
    pub fn of_memory(at: &Path, scratch: &Path) -> Self {
        let mount = format!("mount -t tmpfs -o size={MEGABYTES}m tmpfs \"$1\"");
        Self::hold(at, scratch, &mount, None)
    }

    /// One with a file system like that of a real disk (ext4), which becomes read-only when it finds a fault.
    pub fn with_a_file_system(at: &Path, scratch: &Path) -> Self {
        let image = scratch.join("disk.img");
        File::create(&image).and_then(|file| file.set_len(u64::from(MEGABYTES) << 20)).expect("an image");
        let format = Recipe::new(program("mkfs.ext4"), scratch).args(["-qF", &image.display().to_string()]);
        run(format, SOON).expect("a file system can be made");
        Self::hold(at, scratch, "mount -o loop \"$2\" \"$1\"", Some(image))
    }

    fn hold(at: &Path, scratch: &Path, mount: &str, image: Option<PathBuf>) -> Self {
        let script = format!("{mount} && echo ready && exec sleep infinity");
        let paths = [at, image.as_deref().unwrap_or(at)].map(|path| path.display().to_string());
        let words = ["--mount", "sh", "-c", &script, "sh"].map(str::to_owned);
        let recipe = Recipe::new(program("unshare"), scratch).named("disk");
        let holder = recipe.args(words.into_iter().chain(paths)).start();
        holder.wait_for("ready", SOON);
        Self { holder, mounted_at: at.to_owned(), scratch: scratch.to_owned(), image }
    }

    /// The process whose mounts have it.
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// Where it is for those who are not within its mounts.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.pid(), self.mounted_at.display()))
    }

    /// Takes all room that is left, to the last byte.
    pub fn fill(&self) {
        let mut fill = File::create(self.path().join("fill")).expect("the disk can be filled");
        for piece in [4096, 1] {
            while fill.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    /// Gives the room back. A file system has it again when its journal says so.
    pub fn free(&self) {
        fs::remove_file(self.path().join("fill")).expect("what filled the disk can be removed");
        File::open(self.path())
            .and_then(|directory| directory.sync_all())
            .expect("a directory can be synced");
    }

    /// Nobody may write from now on, as after a fault of the disk. Only one with a file system can do that while
    /// files are open.
    #[track_caller]
    pub fn make_read_only(&self) {
        let how = if self.image.is_some() { "remount,abort" } else { "remount,ro" };
        self.mount(&["-o", how, &self.mounted_at.display().to_string()]);
    }

    /// Everybody may write again, as after a repair: the file system is mounted anew.
    #[track_caller]
    pub fn repair(&self) {
        let at = self.mounted_at.display().to_string();
        match &self.image {
            None => self.mount(&["-o", "remount,rw", &at]),
            Some(image) => {
                // Whoever looks whether it is well again has it open for a moment.
                wait_until("nobody has the disk open", SOON, || self.try_run("umount", &[&at]).ok());
                self.mount(&["-o", "loop", &image.display().to_string(), &at]);
            }
        }
    }

    #[track_caller]
    fn mount(&self, words: &[&str]) {
        self.try_run("mount", words).unwrap_or_else(|fault| panic!("mount {words:?}: {fault}"));
    }

    fn try_run(&self, name: &str, words: &[&str]) -> Result<String, String> {
        let recipe = Recipe::new(program(name), &self.scratch).args(words.iter().copied());
        run(recipe.with_mounts_of(self.pid()), SOON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn both_kinds_fill_break_and_mend() {
        for make in [SmallDisk::of_memory, SmallDisk::with_a_file_system] {
            let scratch = Scratch::new();
            let disk = make(&scratch.subdirectory("small"), scratch.path());
            let file = disk.path().join("file");
            fs::write(&file, "kept").expect("there is room");
            disk.fill();
            assert!(fs::write(disk.path().join("more"), [0; 8192]).is_err(), "it is full");
            disk.free();
            let more = disk.path().join("more");
            wait_until("there is room again", SOON, || fs::write(&more, [0; 8192]).ok());
            File::open(&file).and_then(|file| file.sync_all()).expect("it is kept");
            disk.make_read_only();
            assert!(fs::write(&file, "lost").is_err(), "nobody may write");
            disk.repair();
            assert_eq!(fs::read_to_string(&file).expect("it is there"), "kept");
            fs::write(&file, "new").expect("one may write again");
            assert!(!scratch.path().join("small/file").exists(), "others do not see it");
        }
    }
}
