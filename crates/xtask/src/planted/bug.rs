//! A bug as it stands in its file: what it is and who suffers, then what is written in place of what.
//!
//! ```text
//! Timer A does not double.
//! A PBX that is slow gets 64 INVITEs for each call in place of seven.
//!
//! --- crates/sip/src/timer.rs
//! @@
//! -        interval * 2
//! +        interval
//! ```
//!
//! It reads as a unified diff, but `@@` bears no numbers: the lines with ` ` and `-` must stand in the file once,
//! wherever that is, so that a change elsewhere does not move them away.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// One bug.
#[derive(Debug)]
pub(super) struct Bug {
    /// The directory that it is in.
    pub(super) kind: String,
    /// Its file's name.
    pub(super) key: String,
    /// What it is, and what a user would suffer.
    pub(super) about: String,
    hunks: Vec<Hunk>,
}

/// Lines of a file, and what is written in their place.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hunk {
    path: PathBuf,
    old: String,
    new: String,
}

/// All bugs below a directory, by kind and name.
pub(super) fn read_all(directory: &Path) -> Result<Vec<Bug>> {
    let mut bugs = Vec::new();
    for kind in sorted(directory)? {
        for path in sorted(&kind)? {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let bug = Bug::parse(&name(&kind), &name(&path), &text);
            bugs.push(bug.with_context(|| format!("cannot understand {}", path.display()))?);
        }
    }
    Ok(bugs)
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

impl Bug {
    /// Reads the text of its file.
    pub(super) fn parse(kind: &str, key: &str, text: &str) -> Result<Self> {
        let (mut about, mut path, mut hunks) = (Vec::new(), None, Vec::<Hunk>::new());
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("--- ") {
                path = Some(PathBuf::from(name));
                continue;
            }
            let Some(path) = &path else {
                about.push(line.trim());
                continue;
            };
            if line == "@@" {
                hunks.push(Hunk { path: path.clone(), ..Hunk::default() });
                continue;
            }
            let hunk = hunks.last_mut().context("a line stands before its @@")?;
            hunk.push(line)?;
        }
        about.retain(|line| !line.is_empty());
        ensure!(about.len() >= 2, "it must say what the bug is, and what a user suffers");
        ensure!(!hunks.is_empty(), "it changes nothing");
        ensure!(hunks.iter().all(|hunk| hunk.old != hunk.new), "a hunk changes nothing");
        Ok(Self { kind: kind.to_owned(), key: key.to_owned(), about: about.join("\n"), hunks })
    }

    /// As it is asked for.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.kind, self.key)
    }

    /// The files of a tree with the bug in them, none of them written.
    pub(super) fn plant(&self, tree: &Path) -> Result<BTreeMap<PathBuf, String>> {
        let mut files = BTreeMap::new();
        for hunk in &self.hunks {
            let before = match files.remove(&hunk.path) {
                Some(text) => text,
                None => fs::read_to_string(tree.join(&hunk.path))
                    .with_context(|| format!("{}: cannot read {}", self.name(), hunk.path.display()))?,
            };
            let after = hunk.replace(&before).with_context(|| self.name())?;
            files.insert(hunk.path.clone(), after);
        }
        Ok(files)
    }
}

impl Hunk {
    fn push(&mut self, line: &str) -> Result<()> {
        let (mark, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
        let to = match mark {
            " " => [Some(&mut self.old), Some(&mut self.new)],
            "-" => [Some(&mut self.old), None],
            "+" => [None, Some(&mut self.new)],
            _ => bail!("{line:?} begins neither with a blank nor with - or +"),
        };
        for text in to.into_iter().flatten() {
            text.push_str(rest);
            text.push('\n');
        }
        Ok(())
    }

    fn replace(&self, text: &str) -> Result<String> {
        let at_line = |place: &usize| *place == 0 || text.as_bytes().get(place - 1) == Some(&b'\n');
        let places: Vec<usize> =
            text.match_indices(&self.old).map(|(place, _)| place).filter(at_line).collect();
        let [place] = places[..] else {
            bail!("{} has {} times:\n{}", self.path.display(), places.len(), self.old);
        };
        let (before, rest) = text.split_at(place);
        let after = rest.strip_prefix(self.old.as_str()).unwrap_or_default();
        Ok([before, &self.new, after].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUG: &str = "It is wrong.\nNobody is called.\n\n--- a.rs\n@@\n a\n-b\n+c\n\n@@\n-last\n--- b/c.rs\n@@\n+new\n x\n";

    #[test]
    fn a_bug_is_read_from_its_file() -> Result<()> {
        let bug = Bug::parse("limits", "too-many", BUG)?;
        assert_eq!(
            (bug.name().as_str(), bug.about.as_str()),
            ("limits/too-many", "It is wrong.\nNobody is called.")
        );
        let hunk =
            |path: &str, old: &str, new: &str| Hunk { path: path.into(), old: old.into(), new: new.into() };
        let hunks = [
            hunk("a.rs", "a\nb\n\n", "a\nc\n\n"),
            hunk("a.rs", "last\n", ""),
            hunk("b/c.rs", "x\n", "new\nx\n"),
        ];
        assert_eq!(bug.hunks, hunks);
        for wrong in [
            "It is wrong.\n--- a.rs\n@@\n-a\n+b\n",
            "It is wrong.\nNobody is called.\n",
            "It is wrong.\nNobody is called.\n--- a.rs\n@@\n a\n",
            "It is wrong.\nNobody is called.\n--- a.rs\n-a\n",
            "It is wrong.\nNobody is called.\n--- a.rs\n@@\n?\n",
        ] {
            assert!(Bug::parse("limits", "x", wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn lines_are_replaced_where_they_stand_once_and_whole() {
        let hunk = Hunk { path: "a.rs".into(), old: "b\n".into(), new: "c\nd\n".into() };
        assert_eq!(hunk.replace("a\nb\nab\n").ok().as_deref(), Some("a\nc\nd\nab\n"));
        assert!(hunk.replace("a\nab\n").is_err(), "it is not there");
        assert!(hunk.replace("b\nb\n").is_err(), "it is there twice");
    }
}
