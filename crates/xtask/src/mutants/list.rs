//! Which mutants there are, and what tells one from another when the code around it changes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::children;

/// One small bug.
#[derive(Debug)]
pub(super) struct Mutant {
    pub(super) package: String,
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) column: u64,
    /// `crates/guard/src/ban.rs: replace > with >= in Ban::is_over`: without the place, which changes often.
    pub(super) name: String,
    /// The same as long as its function is the same, wherever in the file that stands.
    pub(super) key: u64,
}

impl Mutant {
    /// Its name as cargo-mutants prints it.
    pub(super) fn printed(&self) -> String {
        format!("{}:{}:{}: {}", self.file, self.line, self.column, self.what())
    }

    /// Where its crate is: a package may have another name.
    pub(super) fn directory(&self) -> PathBuf {
        Path::new(&self.file).components().take(2).collect()
    }

    /// What is replaced by what.
    pub(super) fn what(&self) -> &str {
        self.name.get(self.file.len() + 2..).unwrap_or_default()
    }
}

/// Lists the mutants of these packages in the tree.
pub(super) fn list(program: &Path, tree: &Path, packages: &[(&str, bool)]) -> Result<Vec<Mutant>> {
    let mut command = Command::new(program);
    command.args(["mutants", "--list", "--json", "--dir"]).arg(tree);
    command.args(packages.iter().flat_map(|(package, _)| ["--package", package]));
    // what it says of errors goes where ours go
    let output = children::output(&mut command).context("cannot run cargo-mutants")?;
    if !output.status.success() {
        bail!("cargo-mutants cannot list mutants");
    }
    let listed: Vec<Value> =
        serde_json::from_slice(&output.stdout).context("cannot read the list of mutants")?;
    let mut text = (String::new(), Vec::new());
    let mut mutants = Vec::with_capacity(listed.len());
    for entry in &listed {
        let file = entry["file"].as_str().context("a mutant without a file")?;
        if text.0 != file {
            let whole =
                std::fs::read_to_string(tree.join(file)).with_context(|| format!("cannot read {file}"))?;
            text = (file.to_owned(), whole.lines().map(str::to_owned).collect());
        }
        mutants.push(mutant(entry, file, &text.1).with_context(|| format!("cannot read {entry}"))?);
    }
    Ok(mutants)
}

/// One entry of the list, in a file of these lines.
fn mutant(entry: &Value, file: &str, lines: &[String]) -> Option<Mutant> {
    let (start, end) = (&entry["span"]["start"], &entry["span"]["end"]);
    let (line, column) = (start["line"].as_u64()?, start["column"].as_u64()?);
    let what = entry["name"].as_str()?.strip_prefix(&format!("{file}:{line}:{column}: "))?;
    let function = &entry["function"]["span"];
    let first = function["start"]["line"].as_u64().unwrap_or(line);
    let last = function["end"]["line"].as_u64().or_else(|| end["line"].as_u64())?;
    let body = lines.get(usize::try_from(first).ok()?.checked_sub(1)?..usize::try_from(last).ok()?)?;
    let name = format!("{file}: {what}");
    let place = format!("{}:{column}", line - first);
    let parts = [name.as_str(), &place].into_iter().chain(body.iter().map(String::as_str));
    let key = hash(parts.map(str::as_bytes));
    Some(Mutant {
        package: entry["package"].as_str()?.to_owned(),
        file: file.to_owned(),
        line,
        column,
        name,
        key,
    })
}

/// FNV-1a over all parts: the same in every version of Rust, which what is kept needs.
pub(super) fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().copied().chain([0]) {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    sum
}

/// Spreads a number over all bits (SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: u64) -> Value {
        serde_json::json!({
            "file": "a.rs",
            "function": { "span": { "start": { "line": line, "column": 1 }, "end": { "line": line + 2, "column": 2 } } },
            "name": format!("a.rs:{}:5: replace f with ()", line + 1),
            "package": "a",
            "span": { "start": { "line": line + 1, "column": 5 }, "end": { "line": line + 1, "column": 6 } },
        })
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_mutant_is_known_again_as_long_as_its_function_is_the_same() {
        let first = mutant(&entry(1), "a.rs", &lines("fn f() {\n    g();\n}\n")).expect("it is complete");
        assert_eq!(first.name, "a.rs: replace f with ()");
        assert_eq!(first.printed(), "a.rs:2:5: replace f with ()");
        let moved = mutant(&entry(2), "a.rs", &lines("\nfn f() {\n    g();\n}\n")).expect("it is complete");
        assert_eq!((moved.key, moved.line), (first.key, 3));
        let changed = mutant(&entry(1), "a.rs", &lines("fn f() {\n    h();\n}\n")).expect("it is complete");
        assert_ne!(changed.key, first.key);
        assert!(mutant(&entry(1), "a.rs", &lines("fn f() {\n")).is_none(), "the file is another one");
    }

    #[test]
    fn a_crate_is_where_its_files_are() {
        let file = "crates/lab/src/user_agent/dialog.rs".to_owned();
        let (package, name) = ("portcullis-lab".to_owned(), format!("{file}: replace f with ()"));
        let mutant = Mutant { package, file, line: 1, column: 1, name, key: 1 };
        assert_eq!(mutant.directory(), Path::new("crates/lab"));
    }

    #[test]
    fn parts_are_told_from_one_another() {
        let of = |parts: &[&str]| hash(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }
}
