//! `cargo xtask mutants`: plants small bugs, one after the other, and looks whether anything notices.
//!
//! cargo-mutants makes the bugs in a copy of the tree and runs the tests of their crate. What survives these, and
//! lies in a crate that the simulation links, meets the simulation too. Results are kept in the target directory:
//! a mutant that was killed is tried again when its function changes, one that survived when its crate or the
//! simulation does, and one that did not end once, for the machine may have been busy. Whatever survives must be argued in `docs/decisions/mutants.md`, else the command fails.

mod judge;
mod kept;
mod list;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{children, stage};
use judge::Judge;
use kept::{Kept, Outcome};
use list::Mutant;

/// The version that is installed: another one would make other mutants.
const VERSION: &str = "27.1.0";

/// Where it is argued why a mutant may live.
const ARGUED: &str = "docs/decisions/mutants.md";

const USAGE: &str = "\
usage: cargo xtask mutants [AREA…] [--sample N] [--seed S] [--again | --show]

  AREA          guard transaction auth framing entry registrar topology, each whole, or sample; all where none is named
  --sample N    how many of everything else are drawn (200)
  --seed S      draws others
  --again       tries what is known once more
  --show        tells what is known, and tries nothing

CONTRIBUTING.md tells how to read what it finds.";

/// What is mutated whole: the crate, and the beginning of its files' paths.
struct Area {
    name: &'static str,
    package: &'static str,
    files: &'static [&'static str],
}

const AREAS: &[Area] = &[
    // with the hardware ID
    Area { name: "guard", package: "guard", files: &["crates/guard/src/"] },
    Area {
        name: "transaction",
        package: "sip",
        files: &["crates/sip/src/transaction/", "crates/sip/src/timer.rs"],
    },
    Area { name: "auth", package: "sip", files: &["crates/sip/src/auth.rs", "crates/sip/src/auth/"] },
    Area { name: "framing", package: "wire", files: &["crates/wire/src/sip/framing"] },
    Area { name: "entry", package: "border", files: &["crates/border/src/entry.rs"] },
    Area { name: "registrar", package: "border", files: &["crates/border/src/registrar.rs"] },
    Area {
        name: "topology",
        package: "border",
        files: &["crates/border/src/topology.rs", "crates/border/src/host_"],
    },
];

/// The area of everything else, of which only so many mutants are drawn.
const SAMPLE: &str = "sample";

/// What is shipped, cheapest tests first; `true` where the simulation links it.
const PACKAGES: &[(&str, bool)] = &[
    ("guard", true),
    ("sip", true),
    ("wire", true),
    ("media", true),
    ("border", true),
    ("store", false),
    ("net", false),
    ("portcullis-lab", false),
    ("portcullis", false),
];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    areas: Vec<&'static str>,
    sample: usize,
    seed: u64,
    /// Also what is known already.
    again: bool,
    /// Nothing: only what is known is shown.
    show: bool,
}

impl Wish {
    fn parse(options: &[&str]) -> Result<Self> {
        let mut wish = Self { areas: Vec::new(), sample: 200, seed: 1, again: false, show: false };
        let mut words = options.iter();
        while let Some(word) = words.next() {
            let mut number = || {
                let value = words.next().and_then(|value| value.parse::<u64>().ok());
                value.with_context(|| format!("{word} takes a number\n{USAGE}"))
            };
            match *word {
                "--sample" => wish.sample = usize::try_from(number()?)?,
                "--seed" => wish.seed = number()?,
                "--again" => wish.again = true,
                "--show" => wish.show = true,
                name => {
                    let area = area_names().find(|known| *known == name);
                    let known = || area_names().collect::<Vec<_>>().join(", ");
                    wish.areas.push(area.with_context(|| {
                        format!("{name:?} is neither an option nor one of the areas {}\n{USAGE}", known())
                    })?);
                }
            }
        }
        if wish.areas.is_empty() {
            wish.areas.extend(area_names());
        }
        Ok(wish)
    }
}

fn area_names() -> impl Iterator<Item = &'static str> {
    AREAS.iter().map(|area| area.name).chain([SAMPLE])
}

/// Tries what was asked for and is not known yet; fails where something lives that may not.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    if options.iter().any(|option| matches!(*option, "--help" | "-h")) {
        println!("{USAGE}");
        return Ok(());
    }
    let wish = Wish::parse(options)?;
    let directory = std::path::absolute(stage::directory().join("mutants"))?;
    let tools = install(&directory, wish.show)?;
    let tree = if wish.show { std::env::current_dir()? } else { directory.join("tree") };
    if !wish.show {
        let written = tree::copy(Path::new("."), &tree)?;
        println!("mutants: {written} files of the tree are new or changed");
    }
    let all = list::list(&tools, &tree, PACKAGES)?;
    let chosen = choose(&all, &wish);
    let mut kept = Kept::open(&directory.join("results.tsv"))?;
    for (package, simulated) in PACKAGES {
        let mutants: Vec<&Mutant> =
            chosen.iter().map(|(_, mutant)| *mutant).filter(|mutant| mutant.package == *package).collect();
        let Some(first) = mutants.first().filter(|_| !wish.show) else { continue };
        let against = tree::fingerprint(&tree, &first.directory(), *simulated)?;
        let judge = Judge { tools: &tools, directory: &directory, package, simulated: *simulated, against };
        judge.try_all(&mutants, wish.again, &mut kept)?;
    }
    let text = fs::read_to_string(ARGUED).with_context(|| format!("cannot read {ARGUED}"))?;
    conclude(&chosen, &all, &kept, argued(&text))
}

/// The mutants of the areas asked for, each with its area.
fn choose<'a>(all: &'a [Mutant], wish: &Wish) -> Vec<(&'static str, &'a Mutant)> {
    let mut chosen = Vec::new();
    let mut elsewhere = Vec::new();
    for mutant in all {
        let area = AREAS.iter().find(|area| {
            area.package == mutant.package && area.files.iter().any(|begin| mutant.file.starts_with(begin))
        });
        match area {
            Some(area) if wish.areas.contains(&area.name) => chosen.push((area.name, mutant)),
            Some(_) => {}
            None => elsewhere.push(mutant),
        }
    }
    if wish.areas.contains(&SAMPLE) {
        // drawn by what the mutant is, so that a change elsewhere draws no others
        elsewhere.sort_by_key(|mutant| list::mix(mutant.key ^ list::mix(wish.seed)));
        chosen.extend(elsewhere.into_iter().take(wish.sample).map(|mutant| (SAMPLE, mutant)));
    }
    chosen
}

/// Installs cargo-mutants where it is not there yet, unless what is known is to be shown: without it nothing is.
fn install(directory: &Path, show: bool) -> Result<std::path::PathBuf> {
    let root = directory.join("tools");
    let program = root.join("bin/cargo-mutants");
    let version = Command::new(&program).args(["mutants", "--version"]).output();
    let wanted = format!("cargo-mutants {VERSION}");
    if version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted) {
        return Ok(program);
    }
    if show {
        bail!(
            "nothing is known: {wanted}, which lists the mutants, is not here; a run without --show installs it"
        );
    }
    println!("mutants: installing {wanted} (ten minutes or so)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut install = Command::new(cargo);
    install
        .args(["install", "--locked", "--quiet", "--force", "--version", VERSION, "cargo-mutants", "--root"])
        .arg(&root)
        .env_remove("CARGO_TARGET_DIR");
    let status = children::status(&mut install).context("cannot run cargo install")?;
    if status.success() { Ok(program) } else { bail!("cargo-mutants {VERSION} could not be installed") }
}

/// How many mutants of each name are argued: the list items that begin with a name in backticks.
fn argued(text: &str) -> BTreeMap<&str, usize> {
    let mut names = BTreeMap::new();
    let items = text.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next());
    for name in items.filter(|name| name.starts_with("crates/")) {
        *names.entry(name).or_default() += 1;
    }
    names
}

/// The counts of one area.
#[derive(Default)]
struct Row {
    mutants: usize,
    by: BTreeMap<Outcome, usize>,
    not_argued: usize,
    not_tried: usize,
}

/// Prints the table and what must be done; fails where there is something.
fn conclude(
    chosen: &[(&'static str, &Mutant)],
    all: &[Mutant],
    kept: &Kept,
    mut argued: BTreeMap<&str, usize>,
) -> Result<()> {
    let strange: Vec<&str> =
        argued.keys().filter(|name| all.iter().all(|mutant| mutant.name != **name)).copied().collect();
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut to_do = Vec::new();
    for (area, mutant) in chosen {
        let row = rows.entry(area).or_default();
        row.mutants += 1;
        let Some(outcome) = kept.settled(mutant.key) else {
            row.not_tried += 1;
            continue;
        };
        *row.by.entry(outcome).or_default() += 1;
        if outcome != Outcome::Survived {
            continue;
        }
        match argued.get_mut(mutant.name.as_str()) {
            Some(left) if *left > 0 => *left -= 1,
            _ => {
                row.not_argued += 1;
                to_do.push(mutant.printed());
            }
        }
    }
    println!("\n{}", table(&rows));
    for line in &to_do {
        println!("survived: {line}");
    }
    for name in &strange {
        println!("argued, but there is no such mutant: {name}");
    }
    let not_tried: usize = rows.values().map(|row| row.not_tried).sum();
    match (to_do.len(), strange.len(), not_tried) {
        (0, 0, 0) => Ok(()),
        (living, strange, not_tried) => bail!(
            "{living} mutants survived that {ARGUED} does not argue, {strange} are argued that are not there, \
             {not_tried} were not tried"
        ),
    }
}

/// A line for each area, in the order of their trial.
fn table(rows: &BTreeMap<&str, Row>) -> String {
    const COLUMNS: &[(&str, &[Outcome])] = &[
        ("by tests", &[Outcome::Killed]),
        ("by sim", &[Outcome::KilledBySimulation]),
        ("timeout", &[Outcome::Timeout]),
        ("unviable", &[Outcome::Unviable]),
        ("survived", &[Outcome::Survived]),
    ];
    let mut text = format!("{:<12} {:>8}", "area", "mutants");
    for (title, _) in COLUMNS {
        text += &format!(" {title:>9}");
    }
    text += &format!(" {:>9} {:>9}\n", "to argue", "not tried");
    for (area, row) in area_names().filter_map(|name| Some((name, rows.get(name)?))) {
        text += &format!("{area:<12} {:>8}", row.mutants);
        for (_, outcomes) in COLUMNS {
            let count: usize = outcomes.iter().filter_map(|outcome| row.by.get(outcome)).sum();
            text += &format!(" {count:>9}");
        }
        text += &format!(" {:>9} {:>9}\n", row.not_argued, row.not_tried);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(package: &str, file: &str, key: u64) -> Mutant {
        let name = format!("{file}: replace f with ()");
        Mutant { package: package.into(), file: file.into(), line: 1, column: 1, name, key }
    }

    #[test]
    fn options_are_areas_and_numbers() -> Result<()> {
        let wish = Wish::parse(&["guard", "--sample", "7", "sample", "--seed", "9", "--again"])?;
        assert_eq!(wish, Wish { areas: vec!["guard", SAMPLE], sample: 7, seed: 9, again: true, show: false });
        assert!(Wish::parse(&["--show"])?.show);
        assert_eq!(Wish::parse(&[])?.areas, area_names().collect::<Vec<_>>());
        assert!(Wish::parse(&["gard"]).is_err() && Wish::parse(&["--seed", "x"]).is_err());
        Ok(())
    }

    #[test]
    fn areas_are_whole_and_the_rest_is_drawn_by_seed() -> Result<()> {
        let mut all: Vec<Mutant> =
            (0..50).map(|key| mutant("border", "crates/border/src/call.rs", key)).collect();
        all.push(mutant("border", "crates/border/src/entry.rs", 50));
        let drawn = |words: &[&str]| -> Result<Vec<u64>> {
            Ok(choose(&all, &Wish::parse(words)?).iter().map(|(_, mutant)| mutant.key).collect())
        };
        assert_eq!(drawn(&["entry"])?, [50]);
        let first = drawn(&["sample", "--sample", "10"])?;
        assert_eq!((first.len(), first.contains(&50)), (10, false));
        assert_eq!(drawn(&["sample", "--sample", "10"])?, first);
        assert_ne!(drawn(&["sample", "--sample", "10", "--seed", "2"])?, first);
        // the rest of the code draws nothing anew
        all.remove(0);
        let again = choose(&all, &Wish::parse(&["sample", "--sample", "10"])?);
        assert!(again.iter().filter(|(_, mutant)| first.contains(&mutant.key)).count() >= 9);
        Ok(())
    }

    #[test]
    fn what_is_argued_is_counted_by_name() {
        let text = "# Mutants\n- `crates/a.rs: replace f with ()`\n- `crates/a.rs: replace f with ()`: why\n- `no`\n";
        assert_eq!(argued(text), BTreeMap::from([("crates/a.rs: replace f with ()", 2)]));
    }

    #[test]
    fn only_what_is_argued_may_live() -> Result<()> {
        let all = [mutant("guard", "crates/guard/src/a.rs", 1), mutant("guard", "crates/guard/src/b.rs", 2)];
        let chosen: Vec<(&str, &Mutant)> = all.iter().map(|mutant| ("guard", mutant)).collect();
        let argued = |names: &[&'static str]| names.iter().map(|name| (*name, 1)).collect();
        let name = "crates/guard/src/a.rs: replace f with ()";
        let mut kept = Kept::default();
        kept.note(1, Outcome::Survived, 0, "")?;
        assert!(conclude(&chosen, &all, &kept, argued(&[name])).is_err(), "one is not tried");
        kept.note(2, Outcome::PassedTests, 0, "")?;
        assert!(conclude(&chosen, &all, &kept, argued(&[name])).is_err(), "the simulation has not seen it");
        kept.note(2, Outcome::Killed, 0, "")?;
        assert!(conclude(&chosen, &all, &kept, argued(&[])).is_err(), "one lives");
        assert!(conclude(&chosen, &all, &kept, argued(&[name])).is_ok());
        assert!(conclude(&chosen, &all, &kept, argued(&[name, "crates/gone.rs: x"])).is_err());
        Ok(())
    }
}
