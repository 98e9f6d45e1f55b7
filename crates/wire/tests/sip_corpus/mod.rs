//! Messages that the tests of this folder share: those of RFC 4475 and RFC 5118, one file each, and a few
//! that phones and PBXs send every day.

use std::fs;
use std::path::Path;

/// Names and bytes of all files of `folder`, in order.
pub(crate) fn files_of(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<_> = fs::read_dir(&path)
        .expect("the folder is part of the tree")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sip"))
        .map(|path| {
            (
                path.file_stem().expect("a name").to_string_lossy().into_owned(),
                fs::read(&path).expect("readable"),
            )
        })
        .collect();
    files.sort();
    files
}
