//! The copy of the tree in which mutants are made, so that nobody's work is touched and what was built stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::list;

/// Makes the copy equal to the tree, touching only what differs: also what an interrupted run left mutated. How
/// many files it wrote.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<usize> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let (mut wanted, mut there) = (BTreeSet::new(), BTreeSet::new());
    walk(from, Path::new(""), &mut wanted)?;
    walk(to, Path::new(""), &mut there)?;
    for path in there.difference(&wanted) {
        fs::remove_file(to.join(path)).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let mut written = 0;
    for path in &wanted {
        let text = fs::read(from.join(path)).with_context(|| format!("cannot read {}", path.display()))?;
        let target = to.join(path);
        if fs::read(&target).is_ok_and(|old| old == text) {
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, text).with_context(|| format!("cannot write {}", target.display()))?;
        written += 1;
    }
    Ok(written)
}

/// A number for all that a mutant of the crate in this directory is tried against: the crate, and the simulation
/// where it is linked.
pub(super) fn fingerprint(tree: &Path, directory: &Path, simulated: bool) -> Result<u64> {
    let mut paths = BTreeSet::new();
    walk(tree, directory, &mut paths)?;
    if simulated {
        walk(tree, Path::new("crates/sim"), &mut paths)?;
    }
    let mut parts = Vec::new();
    for path in paths {
        parts.push(path.to_string_lossy().into_owned().into_bytes());
        parts.push(fs::read(tree.join(&path))?);
    }
    Ok(list::hash(parts.iter().map(Vec::as_slice)))
}

/// The files of the tree below a directory, without what is built or belongs to version control.
fn walk(root: &Path, below: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let directory = root.join(below);
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let left_out = ["target", "mutants.out", "mutants.out.old"].iter().any(|known| name == **known);
            if !left_out && name != ".git" {
                walk(root, &below.join(&name), files)?;
            }
        } else if kind.is_file() && name != ".git" {
            files.insert(below.join(&name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_what_is_gone_is_removed() -> Result<()> {
        let root = std::env::temp_dir().join(format!("mutants-tree-{}", std::process::id()));
        let (from, to) = (root.join("from"), root.join("to"));
        fs::create_dir_all(from.join("crates/a/src"))?;
        fs::create_dir_all(from.join("target"))?;
        fs::write(from.join("crates/a/src/lib.rs"), "a")?;
        fs::write(from.join("Cargo.toml"), "b")?;
        fs::write(from.join("target/built"), "c")?;
        assert_eq!((copy(&from, &to)?, copy(&from, &to)?), (2, 0));
        assert!(!to.join("target").exists());
        let before = fingerprint(&to, Path::new("crates/a"), false)?;
        fs::write(to.join("crates/a/src/lib.rs"), "mutated")?;
        assert_ne!(fingerprint(&to, Path::new("crates/a"), false)?, before);
        fs::remove_file(from.join("Cargo.toml"))?;
        assert_eq!(copy(&from, &to)?, 1);
        assert_eq!(
            (fingerprint(&to, Path::new("crates/a"), false)?, to.join("Cargo.toml").exists()),
            (before, false)
        );
        fs::remove_dir_all(&root)?;
        Ok(())
    }
}
