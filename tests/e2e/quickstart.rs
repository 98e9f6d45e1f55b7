//! The quickstart: everything shown, and truly seen (issue item 9).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_tests::deadline::wait_until;
use portcullis_tests::portcullis::binary;
use portcullis_tests::process::{Process, Recipe, program, run};
use portcullis_tests::scratch::Scratch;
use portcullis_tests::tone;
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(30);

/// The tone that the softphone is told to send, and gets back from the phone that answers.
const HERTZ: u32 = 440;

#[test]
fn it_shows_a_call_an_intruder_and_a_burst_and_ends_well() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("quickstart").display().to_string();
    let recipe = Recipe::new(binary(), scratch.path()).args(["quickstart", "--once", "--dir", &directory]);
    let shown = run(recipe, Duration::from_secs(60)).expect("all was truly seen");
    assert!(shown.lines().filter(|line| line.contains('✓')).count() >= 5, "{shown}");
    assert!(!shown.contains('✗'), "{shown}");
}

#[test]
fn the_softphone_that_it_prepares_calls_the_phone_that_stays() {
    let scratch = Scratch::new();
    let directory = scratch.path().join("a lab");
    let path = directory.display().to_string();
    let recipe = Recipe::new(binary(), scratch.path()).args(["quickstart", "--dir", &path]);
    let mut quickstart = recipe.named("quickstart").start();
    quickstart.wait_for("Running until Ctrl-C.", SOON);
    // The printed command, word for word.
    let line = quickstart.wait_for("baresip -f", SOON);
    let softphone = start_softphone(&line, scratch.path());
    softphone.wait_for("registered successfully", SOON);
    dial(&softphone, scratch.path());
    wait_until("a second of its own tone comes back", SOON, || {
        (tone::tenths_with(&heard(&directory.join("baresip")), HERTZ) >= 10).then_some(())
    });
    let mark = quickstart.mark();
    quickstart.signal(Signal::INT);
    assert!(quickstart.wait(SOON).success());
    quickstart.wait_after(mark, &format!("rm -r '{path}'"), SOON);
    assert!(directory.join("portcullis.log").is_file(), "what it made is left to its user");
}

/// Where the softphone's keyboard is.
fn keyboard(directory: &Path) -> PathBuf {
    directory.join("keyboard")
}

fn start_softphone(command: &str, directory: &Path) -> Process {
    let keyboard = keyboard(directory);
    // Open for both: so that the end of one who types is not the end of the keyboard.
    let script = format!("mkfifo '{0}' && {1} <>'{0}'", keyboard.display(), command.trim());
    let recipe = Recipe::new(program("sh"), directory).args(["-c", &script]);
    recipe.named("softphone").start()
}

/// Calls the phone that stays; again, where the burst of calls that was just shown is not a second ago.
fn dial(softphone: &Process, directory: &Path) {
    let mut mark = softphone.mark();
    type_to(directory, "/dial 1001\n");
    wait_until("the call is answered", SOON, || {
        let said = softphone.text_after(mark);
        if said.contains("session closed: 480") {
            mark = softphone.mark();
            type_to(directory, "/dial 1001\n");
        }
        said.contains("Call established").then_some(())
    });
}

fn type_to(directory: &Path, text: &str) {
    let mut keyboard = OpenOptions::new().write(true).open(keyboard(directory)).expect("the phone reads it");
    keyboard.write_all(text.as_bytes()).expect("the phone reads it");
}

/// What baresip has kept of what it heard.
fn heard(directory: &Path) -> Vec<i16> {
    let entries = fs::read_dir(directory).expect("its directory can be read");
    let mut paths = entries.map(|entry| entry.expect("its directory can be read").path());
    let kept = paths.find(|path| path.to_string_lossy().ends_with("-dec.wav"));
    kept.map(|path| tone::read_wav(&path)).unwrap_or_default()
}
