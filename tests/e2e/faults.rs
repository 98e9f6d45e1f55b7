//! The fault lab: what breaks around the running binary, and what it does then. `docs/faults.md` says what is
//! expected, fault by fault.

mod descriptors;
mod disk;
mod dns;
mod kill;
mod network;
mod party;
mod pbx;
mod wall_clock;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn what_is_expected_is_tested_and_what_is_tested_is_expected() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(tree.join("docs/faults.md")).expect("the page of faults");
    let promised = page.split('`').skip(1).step_by(2).filter(|word| word.contains("::"));
    let promised: BTreeSet<String> = promised.map(str::to_owned).collect();
    let mut tested = BTreeSet::new();
    for entry in fs::read_dir(tree.join("tests/e2e/faults")).expect("the tests of faults") {
        let path = entry.expect("a file").path();
        let (Some(module), Ok(source)) =
            (path.file_stem().and_then(|stem| stem.to_str()), fs::read_to_string(&path))
        else {
            continue;
        };
        let names = source.split("#[test]\nfn ").skip(1).filter_map(|rest| rest.split('(').next());
        tested.extend(names.map(|name| format!("{module}::{name}")));
    }
    assert_eq!(promised, tested);
}
