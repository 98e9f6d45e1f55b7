//! The layers and habits of this tree, as tests: what a reader may rely on without looking.
//!
//! Reads the sources as text, with rules simple enough to be seen through. Never fixes anything.
#![expect(clippy::expect_used, clippy::panic, reason = "a tree that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate, the crates of ours it may depend on, and the foreign crates it may depend on (`None`: any that
/// `deny.toml` lets in). Dependencies of tests are free, but for `sim`, which no shipped crate may have.
const LAYERS: &[Layer] = &[
    Layer {
        name: "wire",
        ours: &[],
        foreign: Some(&[
            ("memchr", "finds line ends; the scanner's inner loop"),
            ("thiserror", "error enums"),
            ("bytes", "frames cut from a stream without a copy"),
            ("stun-rs", "STUN with integrity, for our own client"),
        ]),
    },
    Layer { name: "guard", ours: &["wire"], foreign: Some(&[]) },
    Layer {
        name: "sip",
        ours: &["wire"],
        foreign: Some(&[
            ("bytes", "answers are kept for retransmission without a copy"),
            ("slab", "transactions by index"),
            ("subtle", "comparison of digests in constant time"),
            ("md-5", "RFC 7616, for the PBX that knows no better"),
            ("sha2", "RFC 7616"),
            ("thiserror", "error enums"),
        ]),
    },
    Layer {
        name: "media",
        ours: &["wire"],
        foreign: Some(&[("slab", "relays by index"), ("thiserror", "error enums")]),
    },
    Layer {
        name: "border",
        ours: &["wire", "guard", "sip", "media"],
        foreign: Some(&[
            ("bytes", "messages are built once and sent without a copy"),
            ("slab", "bindings and calls by index"),
            ("subtle", "comparison of tokens in constant time"),
            ("sha2", "keys of tokens and Call-IDs"),
            ("thiserror", "error enums"),
        ]),
    },
    Layer { name: "net", ours: &["wire"], foreign: None },
    Layer { name: "store", ours: &["wire"], foreign: None },
    // Actors of foreign make: a crate of ours would be its own witness.
    Layer { name: "portcullis-lab", ours: &[], foreign: None },
    Layer {
        name: "portcullis",
        ours: &["wire", "guard", "sip", "media", "border", "net", "store", "portcullis-lab"],
        foreign: None,
    },
    Layer { name: "sim", ours: &["wire", "guard", "sip", "media", "border"], foreign: None },
    Layer { name: "fuzz", ours: &["wire", "guard", "media", "border"], foreign: None },
    Layer { name: "xtask", ours: &[], foreign: None },
];

/// The crates without sockets, clocks, threads and randomness.
const PURE: &[&str] = &["wire", "guard", "sip", "media", "border"];

/// The files that may read the clock.
const CLOCKS: &[&str] = &[
    "crates/lab/src/pbx.rs",
    "crates/portcullis/src/clock.rs",
    "crates/sim/src/progress.rs",
    "crates/xtask/src/stage.rs",
    "tests/src/deadline.rs",
];

const CODE_LINES_MAX: usize = 800;

struct Layer {
    name: &'static str,
    ours: &'static [&'static str],
    foreign: Option<&'static [(&'static str, &'static str)]>,
}

// ---- layers ---------------------------------------------------------------------------------------------

#[test]
fn dependencies_point_down() {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for manifest in manifests() {
        let name = manifest.name();
        seen.insert(name.clone());
        faults.extend(layer_faults(&name, &manifest.dependencies("dependencies")));
        let shipped = !["sim", "fuzz", "portcullis-tests", "benches"].contains(&name.as_str());
        let of_tests = ["sim", "fuzz"].into_iter().filter(|_| shipped);
        for tests in of_tests.filter(|tests| manifest.dependencies("dependencies").contains(*tests)) {
            faults.push(format!("{name} may not depend on {tests}: it is for tests"));
        }
    }
    for layer in LAYERS {
        if !seen.contains(layer.name) {
            faults.push(format!("the layer table names {}, which is not there", layer.name));
        }
    }
    assert_none(&faults);
}

/// What a crate depends on and may not, in words.
fn layer_faults(name: &str, dependencies: &BTreeSet<String>) -> Vec<String> {
    if name == "portcullis-tests" || name == "portcullis-benches" {
        return Vec::new();
    }
    let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
        return vec![format!("{name} is not in the layer table")];
    };
    let mut faults = Vec::new();
    for dependency in dependencies {
        if LAYERS.iter().any(|other| other.name == dependency) {
            if !layer.ours.contains(&dependency.as_str()) {
                faults.push(format!("{name} may not depend on {dependency}"));
            }
        } else if let Some(allowed) = layer.foreign
            && !allowed.iter().any(|(foreign, _)| foreign == dependency)
        {
            faults.push(format!(
                "{name} may not depend on {dependency}: it is not on its list in tests/tidy.rs"
            ));
        }
    }
    faults
}

#[test]
fn the_layer_table_bites() {
    let on = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(layer_faults("sip", &on(&["wire", "guard"])), ["sip may not depend on guard"]);
    assert_eq!(layer_faults("sip", &on(&["wire", "bytes"])), Vec::<String>::new());
    assert_eq!(layer_faults("net", &on(&["wire", "border"])), ["net may not depend on border"]);
    assert_eq!(
        layer_faults("border", &on(&["tokio"])),
        ["border may not depend on tokio: it is not on its list in tests/tidy.rs"]
    );
    assert_eq!(layer_faults("newcomer", &on(&[])), ["newcomer is not in the layer table"]);
}

#[test]
fn some_crates_stay_out_of_ours() {
    let banned: &[(&str, &[&str])] = &[
        ("lazy_static", &[]),
        ("once_cell", &[]),
        ("rsip", &["portcullis-lab", "sim", "fuzz", "portcullis-tests", "portcullis-benches"]),
        ("webrtc-ice", &["portcullis-lab", "portcullis-tests"]),
    ];
    let mut faults = Vec::new();
    for manifest in manifests() {
        let name = manifest.name();
        for (dependency, except) in banned {
            if manifest.dependencies("dependencies").contains(*dependency) && !except.contains(&name.as_str())
            {
                faults.push(format!("{name} may not depend on {dependency}"));
            }
        }
    }
    assert_none(&faults);
}

// ---- habits ---------------------------------------------------------------------------------------------

#[test]
fn no_unsafe_code() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.code() {
            if words(line).any(|word| word == "unsafe") {
                faults.push(format!("{}:{number}: unsafe", source.path));
            }
        }
        let is_root = source.path.ends_with("/src/lib.rs") || source.path.ends_with("/src/main.rs");
        if is_root && source.path.starts_with("crates/") && !source.text.contains("#![forbid(unsafe_code)]") {
            faults.push(format!("{}: lacks #![forbid(unsafe_code)]", source.path));
        }
    }
    assert_none(&faults);
}

#[test]
fn every_exception_carries_a_reason() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, attribute) in attributes(&source.text) {
            if !has_reason(&attribute) {
                faults.push(format!("{}:{number}: {attribute} gives no reason", source.path));
            }
        }
    }
    assert_none(&faults);
}

/// The `ignore`, `allow` and `expect` attributes of a source, with the number of their line.
fn attributes(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for kind in ["ignore", "allow", "expect"] {
        for open in [format!("#[{kind}"), format!("#![{kind}")] {
            for (at, _) in text.match_indices(&open) {
                let line_begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
                let follows = text[at + open.len()..].chars().next();
                if !text[line_begin..at].trim().is_empty() || !matches!(follows, Some(']' | '(' | ' ')) {
                    continue;
                }
                let end = text[at..].find("]\n").map_or(text.len(), |length| at + length + 1);
                found.push((text[..at].matches('\n').count() + 1, text[at..end].to_owned()));
            }
        }
    }
    found
}

fn has_reason(attribute: &str) -> bool {
    attribute.contains("reason = \"") || attribute.contains("ignore = \"")
}

#[test]
fn bare_exceptions_are_found() {
    let text = "#[ignore]\nfn a() {}\n    #[allow(dead_code)]\n#![expect(\n    unused,\n    reason = \"x\"\n)]\n#[ignore = \"slow\"]\n";
    let found: Vec<(usize, bool)> =
        attributes(text).iter().map(|(line, it)| (*line, has_reason(it))).collect();
    assert_eq!(found, [(1, false), (8, true), (3, false), (4, true)]);
}

#[test]
fn one_file_reads_the_clock() {
    let calls = [concat!("Instant::", "now("), concat!("SystemTime::", "now(")];
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !CLOCKS.contains(&source.path.as_str())) {
        let is_test_of_a_crate =
            source.path.starts_with("crates/") && (source.is_test() || source.path.ends_with("/tests.rs"));
        let is_tokios = source.path.starts_with("crates/net/") && source.text.contains("use tokio::time::");
        if is_test_of_a_crate || is_tokios {
            continue; // clippy bans std's clock there too, where no reason is given
        }
        for (number, line) in source.code() {
            if calls.iter().any(|call| line.contains(call)) {
                faults.push(format!("{}:{number}: reads the clock", source.path));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn pure_crates_stay_pure() {
    let banned = [
        ("std::thread", "a thread"),
        ("thread_local!", "state of a thread"),
        ("Mutex", "a lock"),
        ("RwLock", "a lock"),
        ("Condvar", "a lock"),
        ("std::fs", "a file"),
        ("std::env", "the environment"),
        ("UdpSocket", "a socket"),
        ("TcpStream", "a socket"),
        ("TcpListener", "a socket"),
        ("getrandom", "randomness"),
        ("println!", "the terminal"),
        ("async fn", "a future"),
        ("static mut", "global state"),
        ("OnceLock", "global state"),
        ("Atomic", "state shared between threads"),
    ];
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| PURE.iter().any(|name| source.is_shipped_by(name))) {
        for (number, line) in source.code() {
            for (word, what) in banned {
                if line.contains(word) {
                    faults.push(format!("{}:{number}: {word}: {what} in a pure crate", source.path));
                }
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn a_chain_is_called_verified_in_one_place() {
    let call = "ChainVerified::assertion()";
    let places: Vec<String> = sources()
        .iter()
        .filter(|source| source.path.starts_with("crates/") && source.path.contains("/src/"))
        .filter(|source| !source.is_shipped_by("sim") && !source.is_shipped_by("fuzz") && !source.is_test())
        .flat_map(|source| {
            let calls = source.code().filter(|(_, line)| line.contains(call)).map(|(number, _)| number);
            calls.map(|number| format!("{}:{number}", source.path)).collect::<Vec<_>>()
        })
        .collect();
    assert!(
        places.len() == 1 && places.iter().all(|place| place.starts_with("crates/net/src/")),
        "the TLS verifier of crates/net alone may state that a chain was verified, and once: {places:?}"
    );
}

#[test]
fn files_are_short_enough_to_know() {
    let faults: Vec<String> = sources()
        .iter()
        .map(|source| (source, source.code().filter(|(_, line)| !line.trim().is_empty()).count()))
        .filter(|(_, lines)| *lines > CODE_LINES_MAX)
        .map(|(source, lines)| {
            format!("{}: {lines} lines of code; split it by what the RFC names", source.path)
        })
        .collect();
    assert_none(&faults);
}

#[test]
fn every_module_says_what_it_is() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|source| !source.text.trim_start().starts_with("//!"))
        .map(|source| format!("{}: does not begin with //!", source.path))
        .collect();
    assert_none(&faults);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
        concat!("unimple", "mented!"),
        concat!("to", "do!("),
    ];
    assert_none(&text_faults(&marks, "is left for later"));
}

#[test]
fn the_text_speaks_of_the_product_alone() {
    let marks = [
        concat!("/wo", "rk/"),
        concat!("/fa", "rm/"),
        concat!("/tmp/", "t/"),
        concat!("crates", ".io"),
        concat!("py", "pi."),
        concat!("npm", "js"),
        concat!("deb.", "debian.org"),
    ];
    assert_none(&text_faults(&marks, "is not the product's matter"));
}

/// Where any of these marks stands in a file of the tree.
fn text_faults(marks: &[&str], why: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for path in files() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                faults.push(format!("{path}:{}: {mark} {why}", index + 1));
            }
        }
    }
    faults
}

// ---- documents ------------------------------------------------------------------------------------------

#[test]
fn architecture_names_only_what_is_there() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let faults: Vec<String> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|quoted| is_path(quoted))
        .filter(|path| !exists(path))
        .map(|path| format!("ARCHITECTURE.md mentions {path}, which is not there"))
        .collect();
    assert_none(&faults);
}

/// Whether a quoted word is meant as a path of this tree: `crates/…`, `tests/…`, or a file with an ending.
fn is_path(quoted: &str) -> bool {
    let plain = quoted.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let roots = ["crates/", "tests/", "docs/", "configs/", "certs/", "deploy/", "benches/", ".ci/"];
    plain
        && (roots.iter().any(|root| quoted.starts_with(root))
            || quoted.ends_with(".rs")
            || quoted.ends_with(".md"))
}

/// Whether a path is there: from the root, below `crates/` as `border/src/call.rs` or `border/call.rs`, or a
/// file's bare name anywhere.
fn exists(path: &str) -> bool {
    if !path.contains('/') && files().iter().any(|file| file.rsplit('/').next() == Some(path)) {
        return true;
    }
    let short = path.split_once('/').map(|(name, rest)| format!("crates/{name}/src/{rest}"));
    [Some(path.to_owned()), Some(format!("crates/{path}")), short]
        .into_iter()
        .flatten()
        .any(|candidate| root().join(candidate).exists())
}

#[test]
fn every_event_code_is_in_the_operators_documentation() {
    let text = fs::read_to_string(root().join("docs/operating.md")).expect("docs/operating.md is there");
    let rows = first_column(section(&text, "## Events"));
    let codes = event_codes();
    let known: Vec<&str> = codes.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        rows, known,
        "the table of events in docs/operating.md has each code once, in the order of Code::ALL"
    );
}

#[test]
fn every_reason_for_a_drop_is_in_the_operators_documentation() {
    let text = fs::read_to_string(root().join("docs/operating.md")).expect("docs/operating.md is there");
    let counters = read("crates/net/src/counters.rs");
    let gains = counters.lines().find_map(|line| line.trim().strip_suffix("=> false,")).expect("no gains");
    let gains: Vec<&str> = gains.split('|').map(str::trim).collect();
    let network = named_arms(&counters).into_iter().filter(|(variant, _)| !gains.contains(variant));
    let signalling = read("crates/border/src/drop_reason.rs");
    let signalling = named_variants(&signalling, "reasons! {");
    let media = read("crates/media/src/drop_reason.rs");
    let media = named_arms(&media).into_iter().map(|(_, name)| name).chain(["socket_error"]);
    let known: Vec<String> = network
        .map(|(_, name)| format!("network {name}"))
        .chain(signalling.iter().map(|(_, name)| format!("signalling {name}")))
        .chain(media.map(|name| format!("media {name}")))
        .collect();
    assert_eq!(gains.len(), 3, "what counts no loss: {gains:?}");
    assert_eq!(first_column(section(&text, "## What is dropped")), known);
}

/// The arms `Self::Variant => "name"` of a source.
fn named_arms(text: &str) -> Vec<(&str, &str)> {
    let arms = text.lines().filter_map(|line| line.trim().strip_suffix("\",")?.split_once(" => \""));
    arms.filter(|(variant, _)| variant.starts_with("Self::")).collect()
}

#[test]
fn every_option_of_the_command_line_is_in_the_operators_documentation() {
    let text = read("docs/operating.md");
    let source = read("crates/portcullis/src/cli.rs");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let options: Vec<String> = lines
        .windows(2)
        .filter(|pair| pair[0].starts_with("#[arg(") && pair[0].contains("long"))
        .map(|pair| match pair[0].split_once("long = \"") {
            Some((_, rest)) => rest.split('"').next().unwrap_or_default(),
            None => pair[1].split(':').next().unwrap_or_default(),
        })
        .map(|name| format!("--{name}"))
        .collect();
    assert!(options.len() >= 10, "the options could not be read: {options:?}");
    let commands = section(&text, "## Commands");
    let faults: Vec<String> = options.into_iter().filter(|option| !commands.contains(option)).collect();
    assert_none(&faults);
}

/// A chapter of a document: from its heading to the next of the same rank or above.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let after = text.split_once(&format!("\n{heading}\n")).map(|(_, after)| after);
    let after = after.unwrap_or_else(|| panic!("there is no heading {heading:?}"));
    let rank = heading.chars().take_while(|c| *c == '#').count();
    let end = (1..=rank).filter_map(|rank| after.find(&format!("\n{} ", "#".repeat(rank)))).min();
    &after[..end.unwrap_or(after.len())]
}

/// What stands in backquotes at the beginning of each row of its tables.
fn first_column(text: &str) -> Vec<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(first, _)| first).collect()
}

#[test]
fn every_field_of_an_answer_is_in_the_operators_documentation() {
    let text = fs::read_to_string(root().join("docs/operating.md")).expect("docs/operating.md is there");
    let source = fs::read_to_string(root().join("crates/portcullis/src/admin/view.rs"));
    let source = source.expect("the views of the admin socket are there");
    let tables = [
        ("Registration", "registrations"),
        ("Call", "calls"),
        ("Block", "block list"),
        ("Allowed", "allow list"),
        ("EventRow", "events"),
        ("Status", "status"),
    ];
    let answers = answers_of(&source);
    let known: Vec<&str> = tables.iter().map(|(name, _)| *name).collect();
    assert_eq!(answers.iter().map(|(name, _)| *name).collect::<Vec<_>>(), known, "a table for each answer");
    for ((name, fields), (_, command)) in answers.iter().zip(tables) {
        let heading = format!("### `portcullis {command}`");
        assert_eq!(&first_column(section(&text, &heading)), fields, "fields of {name} below {heading}");
    }
}

/// The structs that are answers, and their fields, as a source names them.
fn answers_of(source: &str) -> Vec<(&str, Vec<&str>)> {
    let structs = source.split("#[derive(Serialize)]\nstruct ").skip(1);
    let parts = structs.filter_map(|rest| rest.split_once("\n}")?.0.split_once(" {\n"));
    parts
        .map(|(name, fields)| {
            let names = fields.lines().filter_map(|line| Some(line.trim().split_once(": ")?.0));
            (name.split('<').next().unwrap_or(name), names.collect())
        })
        .collect()
}

#[test]
fn every_event_code_is_reached_by_a_test() {
    let tests: String = sources().iter().map(Source::test_text).collect();
    let faults: Vec<String> = event_codes()
        .into_iter()
        .filter(|(name, text)| {
            !tests.contains(&format!("Code::{name}")) && !tests.contains(&format!("\"{text}\""))
        })
        .map(|(_, text)| format!("no test names the event {text}"))
        .collect();
    assert_none(&faults);
}

/// The codes of events as `border` lists them: name of the variant and text.
fn event_codes() -> Vec<(String, String)> {
    let text = read("crates/border/src/event.rs");
    let codes = named_variants(&text, "codes! {");
    assert!(codes.len() >= 20, "the list of codes could not be read: {codes:?}");
    codes.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// The variants and names of a list that a macro makes an enum of.
fn named_variants<'a>(text: &'a str, head: &str) -> Vec<(&'a str, &'a str)> {
    let list = text.split_once(&format!("\n{head}")).and_then(|(_, rest)| rest.split_once("\n}"));
    let (list, _) = list.unwrap_or_else(|| panic!("there is no list {head}"));
    let rows = list.lines().filter_map(|line| line.trim().split_once(" = \""));
    rows.filter_map(|(name, rest)| Some((name, rest.split_once('"')?.0))).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

// ---- the tree -------------------------------------------------------------------------------------------

struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The lines of code with their numbers: without comments, and without the tests at the end of the file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_test() { self.text.len() } else { self.tests_begin() };
        self.text[..end].lines().enumerate().map(|(index, line)| (index + 1, without_comment(line)))
    }

    /// What of it is test code.
    fn test_text(&self) -> &str {
        let is_for_tests = ["crates/sim/", "crates/fuzz/"].iter().any(|folder| self.path.starts_with(folder));
        if self.is_test() || is_for_tests { &self.text } else { &self.text[self.tests_begin()..] }
    }

    fn tests_begin(&self) -> usize {
        self.text.find("\n#[cfg(test)]\nmod tests").unwrap_or(self.text.len())
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    fn is_shipped_by(&self, name: &str) -> bool {
        self.path.starts_with(&format!("crates/{name}/src/")) && !self.path.ends_with("/tests.rs")
    }
}

/// A line up to its comment; `//` within a string is taken for none.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' if before != '\\' => quoted = !quoted,
            '/' if !quoted && before == '/' => return &line[..at - 1],
            _ => {}
        }
        before = c;
    }
    line
}

#[test]
fn comments_are_cut_off_and_strings_kept() {
    assert_eq!(without_comment("let a = 1; // one"), "let a = 1; ");
    assert_eq!(without_comment("/// doc"), "");
    assert_eq!(without_comment("let a = \"sip://x\";"), "let a = \"sip://x\";");
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '"')
}

fn sources() -> Vec<Source> {
    files()
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| {
            let text =
                fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            Source { path, text }
        })
        .collect()
}

/// Every file of the tree, from the root, sorted; without what tools leave behind.
fn files() -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("the tree can be read") {
            let entry = entry.expect("the tree can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = directory.join(&name);
            let hidden = name.starts_with('.') && ![".ci", ".cargo"].contains(&name.as_str());
            if hidden || name == "Cargo.lock" || name.starts_with("target") || name.starts_with("mutants.out")
            {
                continue;
            }
            if entry.file_type().expect("the tree can be read").is_dir() {
                open.push(path);
            } else {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

struct Manifest(toml::Table);

impl Manifest {
    fn name(&self) -> String {
        let name = self.0.get("package").and_then(|package| package.get("name")?.as_str());
        name.expect("a manifest names its package").to_owned()
    }

    /// The names of a section of dependencies, those for single targets included.
    fn dependencies(&self, section: &str) -> BTreeSet<String> {
        let targets = self.0.get("target").and_then(toml::Value::as_table);
        let tables =
            targets.into_iter().flat_map(|targets| targets.values()).filter_map(|target| target.get(section));
        tables
            .chain(self.0.get(section))
            .filter_map(toml::Value::as_table)
            .flat_map(|table| table.keys().cloned())
            .collect()
    }
}

fn manifests() -> Vec<Manifest> {
    let paths =
        files().into_iter().filter(|path| path.ends_with("/Cargo.toml") && !path.starts_with("tests/fuzz/"));
    paths
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).expect("the manifest can be read");
            Manifest(text.parse().unwrap_or_else(|error| panic!("{path}: {error}")))
        })
        .collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
