//! The quickstart: everything shown, and truly seen (issue item 9).

use std::time::Duration;

use portcullis_tests::portcullis::binary;
use portcullis_tests::process::{Recipe, run};
use portcullis_tests::scratch::Scratch;

#[test]
fn it_shows_a_call_an_intruder_and_a_burst_and_ends_well() {
    let scratch = Scratch::new();
    let recipe = Recipe::new(binary(), scratch.path()).args(["quickstart", "--once"]);
    let shown = run(recipe, Duration::from_secs(60)).expect("all was truly seen");
    assert!(shown.lines().filter(|line| line.contains('✓')).count() >= 5, "{shown}");
    assert!(!shown.contains('✗'), "{shown}");
}
