//! The layers and habits of this tree, as tests: what a reader may rely on without looking.
//!
//! Reads the sources as text, with rules simple enough to be seen through. Never fixes anything.
#![expect(clippy::expect_used, clippy::panic, reason = "a tree that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Each crate, lowest first, the crates of ours it may depend on, and the foreign crates it may depend on
/// (`None`: any that `deny.toml` lets in). Dependencies of a crate's tests are free, but for crates that are
/// for tests themselves.
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
            ("memchr", "finds the quotes and commas of Digest"),
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
    // Actors of foreign make: a crate of ours would be its own witness.
    Layer { name: "portcullis-lab", ours: &[], foreign: None },
    Layer { name: "net", ours: &["wire"], foreign: None },
    Layer { name: "store", ours: &["wire"], foreign: None },
    Layer {
        name: "portcullis",
        ours: &["wire", "guard", "sip", "media", "border", "net", "store", "portcullis-lab"],
        foreign: None,
    },
    // Its actors are written without `sip`: bugs that both share would cancel.
    Layer { name: "sim", ours: &["wire", "guard", "media", "border"], foreign: None },
    Layer { name: "fuzz", ours: &["wire", "guard", "media", "border"], foreign: None },
    Layer { name: "xtask", ours: &[], foreign: None },
    // What is tested there is tested from outside.
    Layer { name: "portcullis-tests", ours: &[], foreign: None },
    Layer {
        name: "portcullis-benches",
        ours: &["wire", "guard", "sip", "media", "border", "net", "store", "portcullis"],
        foreign: None,
    },
];

/// The crates that nobody ships.
const FOR_TESTS: &[&str] = &["sim", "fuzz", "xtask", "portcullis-tests", "portcullis-benches"];

/// The crates without sockets, clocks, threads and randomness.
const PURE: &[&str] = &["wire", "guard", "sip", "media", "border"];

/// The files that read the clock.
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
        faults.extend(layer_faults(&name, &manifest.dependencies(BUILT)));
        faults.extend(test_faults(&name, &manifest.dependencies(&["dev-dependencies"])));
    }
    for (name, value) in workspace_dependencies() {
        if package(&name, &value) != name {
            faults.push(format!("{name} is a second name of {}", package(&name, &value)));
        }
    }
    for (index, layer) in LAYERS.iter().enumerate() {
        if !seen.contains(layer.name) {
            faults.push(format!("the layer table names {}, which is not there", layer.name));
        }
        for below in layer.ours {
            if !LAYERS.iter().take(index).any(|other| other.name == *below) {
                faults.push(format!("the layer table has {below} not below {}", layer.name));
            }
        }
    }
    assert_none(&faults);
}

/// What the tests of a crate depend on and may not, in words.
fn test_faults(name: &str, dependencies: &BTreeSet<String>) -> Vec<String> {
    if FOR_TESTS.contains(&name) {
        return Vec::new();
    }
    let of_tests = FOR_TESTS.iter().filter(|tests| dependencies.contains(**tests));
    of_tests.map(|tests| format!("the tests of {name} may not depend on {tests}")).collect()
}

/// What a crate depends on and may not, in words.
fn layer_faults(name: &str, dependencies: &BTreeSet<String>) -> Vec<String> {
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
    assert_eq!(test_faults("border", &on(&["sim", "rsip"])), ["the tests of border may not depend on sim"]);
    assert_eq!(test_faults("sim", &on(&["fuzz"])), Vec::<String>::new());
    let renamed = "[target.x.build-dependencies]\nrasp = { version = \"1\", package = \"rsip\" }\n";
    let manifest = Manifest(renamed.parse().expect("a manifest"));
    assert_eq!(manifest.dependencies(BUILT), on(&["rsip"]), "what a name stands for");
}

#[test]
fn some_crates_stay_out_of_ours() {
    let banned: &[(&str, &[&str])] = &[
        ("lazy_static", &[]),
        ("once_cell", &[]),
        ("rsip", &["portcullis-lab", "fuzz"]),
        ("webrtc-ice", &["portcullis-lab"]),
    ];
    let mut faults = Vec::new();
    for manifest in manifests() {
        let name = manifest.name();
        for (dependency, except) in banned {
            match (manifest.dependencies(BUILT).contains(*dependency), except.contains(&name.as_str())) {
                (true, false) => faults.push(format!("{name} may not depend on {dependency}")),
                (false, true) => faults.push(format!("{name} may depend on {dependency}, and does not")),
                (true, true) | (false, false) => {}
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn some_names_stay_where_they_belong() {
    // Where it may not be named, except there.
    let names = [
        ("portcullis_lab", "crates/", &["crates/lab/", "crates/portcullis/src/quickstart"][..]),
        ("wire::sip", "crates/net/", &[]),
        ("wire::sdp", "crates/net/", &[]),
    ];
    let mut faults = Vec::new();
    for source in sources() {
        let path = source.path.as_str();
        for (name, kept_out, except) in names {
            if path.starts_with(kept_out) && !except.iter().any(|folder| path.starts_with(folder)) {
                let lines = source.lines().filter(|(_, line)| line.contains(name));
                faults.extend(lines.map(|(number, _)| format!("{path}:{number}: names {name}")));
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
        for (number, line) in source.lines() {
            if words(line).any(|word| word == "unsafe") {
                faults.push(format!("{}:{number}: unsafe", source.path));
            }
        }
        let is_root = source.path.ends_with("/src/lib.rs") || source.path.ends_with("/src/main.rs");
        let forbids = source.lines().any(|(_, line)| line == "#![forbid(unsafe_code)]");
        if is_root && source.path.starts_with("crates/") && !forbids {
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
            if !has_reason(attribute) {
                faults.push(format!("{}:{number}: {attribute} gives no reason", source.path));
            }
        }
    }
    assert_none(&faults);
}

/// The attributes of a source that make an exception, with the number of their line.
fn attributes(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('#') {
        let line_begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = &text[line_begin..at];
        let quotes = before.replace("\\\"", "").matches('"').count();
        let is_quoted = quotes % 2 == 1 || without_comment(before) != before;
        let inside = text[at + 1..].trim_start_matches('!').strip_prefix('[').and_then(in_brackets);
        let Some(inside) = inside.filter(|_| !is_quoted) else { continue };
        let kind = inside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        let is_exception = match kind {
            "ignore" | "allow" | "expect" => true,
            "cfg_attr" => words(inside).any(|word| ["ignore", "allow", "expect"].contains(&word)),
            _ => false,
        };
        if is_exception {
            found.push((text[..at].matches('\n').count() + 1, inside));
        }
    }
    found
}

/// What follows an opened bracket, up to the one that closes it; brackets in quotes count for nothing.
fn in_brackets(text: &str) -> Option<&str> {
    let (mut open, mut quoted) = (1, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' if !quoted => open += 1,
            ']' if !quoted => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(&text[..at]);
        }
    }
    None
}

fn has_reason(attribute: &str) -> bool {
    ["reason = \"", "ignore = \""].iter().any(|given| {
        attribute.split_once(given).is_some_and(|(_, reason)| !reason.trim_start().starts_with('"'))
    })
}

#[test]
fn bare_exceptions_are_found() {
    let text = [
        "#[ignore]",
        "    #[allow(dead_code)]",
        "#![expect(",
        "    unused,",
        "    reason = \"x\"",
        ")]",
        "#[ignore = \"slow\"]",
        "#[ignore = \"\"]",
        "fn b(#[allow(unused)] c: u8) {}",
        "#![cfg_attr(not(test), warn(unused))]",
        "#[cfg_attr(test, allow(unused))]",
        "// #[allow(unused)]",
        "let d = \"#[allow(unused)]\";",
    ]
    .join("\n");
    let found: Vec<(usize, bool)> =
        attributes(&text).iter().map(|(line, it)| (*line, has_reason(it))).collect();
    assert_eq!(found, [(1, false), (2, false), (3, true), (7, true), (8, false), (9, false), (11, false)]);
}

#[test]
fn few_files_read_the_clock() {
    let calls =
        ["Instant", "SystemTime", "UnixTime", "Timestamp", "Zoned"].map(|clock| format!("{clock}::now"));
    let mut faults = Vec::new();
    let mut clocks = CLOCKS.to_vec();
    for source in sources() {
        if source.path.starts_with("crates/") && source.is_test() {
            continue; // clippy bans std's clock there too, where no reason is given
        }
        // `net` waits by tokio's clock.
        let tokios = source.path.starts_with("crates/net/") && !source.text.contains("std::time::Instant");
        let calls = if tokios { &calls[1..] } else { &calls[..] };
        let mut reads =
            source.code().filter(|(_, line)| calls.iter().any(|call| line.contains(call))).peekable();
        if CLOCKS.contains(&source.path.as_str()) {
            clocks.retain(|path| reads.peek().is_none() || *path != source.path);
        } else {
            faults.extend(reads.map(|(number, _)| format!("{}:{number}: reads the clock", source.path)));
        }
    }
    faults.extend(clocks.iter().map(|path| format!("{path} may read the clock, and does not")));
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
        ("std::process", "a process"),
        ("std::{", "an import that hides what it names"),
        ("mpsc", "a channel"),
        ("UnixStream", "a socket"),
        ("UnixListener", "a socket"),
        ("UnixDatagram", "a socket"),
        ("UdpSocket", "a socket"),
        ("TcpStream", "a socket"),
        ("TcpListener", "a socket"),
        ("getrandom", "randomness"),
        ("print!(", "the terminal"),
        ("println!", "the terminal"),
        ("async ", "a future"),
        ("static mut", "global state"),
        ("OnceLock", "global state"),
        ("LazyLock", "global state"),
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

/// Where the shipped code makes a value that stands for a proof. `call` has no parentheses: it may be handed over, too.
fn places_of(call: &str) -> Vec<String> {
    sources()
        .iter()
        .filter(|source| source.path.starts_with("crates/") && source.path.contains("/src/"))
        .filter(|source| !source.is_shipped_by("sim") && !source.is_shipped_by("fuzz") && !source.is_test())
        .flat_map(|source| {
            let calls = source.code().filter(|(_, line)| line.contains(call)).map(|(number, _)| number);
            calls.map(|number| format!("{}:{number}", source.path)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_chain_is_called_verified_in_one_place() {
    let places = places_of("ChainVerified::assertion");
    assert!(
        places.len() == 1 && places.iter().all(|place| place.starts_with("crates/net/src/")),
        "the TLS verifier of crates/net alone may state that a chain was verified, and once: {places:?}"
    );
}

#[test]
fn a_source_is_called_verified_in_one_place() {
    let places = places_of("VerifiedSource::assertion");
    assert!(
        places.len() == 1 && places.iter().all(|place| place.starts_with("crates/border/src/ingress.rs:")),
        "ingress alone may state that a source owns its address, and once: {places:?}"
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
        .filter(|source| !source.text.starts_with("//! "))
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
    let known: BTreeSet<&str> = commands.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    let faults: Vec<String> = options.into_iter().filter(|option| !known.contains(option.as_str())).collect();
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
    assert_eq!(answers.len(), source.matches("Serialize)]").count(), "every answer is read");
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
    let sources = sources();
    let lines = sources.iter().flat_map(Source::test_lines);
    let tests: String = lines.flat_map(|line| [line, "\n"]).collect();
    let variants: BTreeSet<&str> =
        tests.split("Code::").skip(1).filter_map(|rest| words(rest).next()).collect();
    let faults: Vec<String> = event_codes()
        .into_iter()
        .filter(|(name, text)| !variants.contains(name.as_str()) && !tests.contains(&format!("\"{text}\"")))
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
    /// Its lines with their numbers, without comments.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, without_comment(line)))
    }

    /// Its lines of code: without those of its module of tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = if self.is_test() { 0..0 } else { self.tests() };
        self.lines().filter(move |(number, _)| !tests.contains(number))
    }

    /// Its lines of tests.
    fn test_lines(&self) -> impl Iterator<Item = &str> {
        let is_for_tests = ["crates/sim/", "crates/fuzz/"].iter().any(|folder| self.path.starts_with(folder));
        let tests = if self.is_test() || is_for_tests { 0..usize::MAX } else { self.tests() };
        self.lines().filter(move |(number, _)| tests.contains(number)).map(|(_, line)| line)
    }

    /// The numbers of the lines of a module of tests that stands in it, as rustfmt writes one.
    fn tests(&self) -> Range<usize> {
        let mark = "\n#[cfg(test)]\n";
        let mut marked = self.text.match_indices(mark).map(|(at, _)| at);
        let opens = |at: &usize| {
            self.text[at + mark.len()..].lines().next().is_some_and(|line| line.ends_with("mod tests {"))
        };
        let Some(begin) = marked.find(opens) else { return 0..0 };
        let end = self.text[begin..].find("\n}\n").map_or(self.text.len(), |length| begin + length);
        let number = |at: usize| self.text[..at].matches('\n').count() + 2;
        number(begin)..number(end) + 1
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    fn is_shipped_by(&self, name: &str) -> bool {
        self.path.starts_with(&format!("crates/{name}/src/")) && !self.is_test()
    }
}

#[test]
fn code_goes_on_behind_tests() {
    let text = "//! A.\n\n#[cfg(test)]\nmod tests;\na();\n\n#[cfg(test)]\npub(super) mod tests {\n    b();\n}\n\nc();\n";
    let source = Source { path: "crates/a/src/lib.rs".to_owned(), text: text.to_owned() };
    let code: Vec<usize> = source.code().map(|(number, _)| number).collect();
    assert_eq!(code, [1, 2, 3, 4, 5, 6, 11, 12]);
    assert!(source.test_lines().eq(["#[cfg(test)]", "pub(super) mod tests {", "    b();", "}"]));
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
            let is_directory = entry.file_type().expect("the tree can be read").is_dir();
            let left_behind = name == "target" || name.starts_with("mutants.out");
            if hidden || name == "Cargo.lock" || (is_directory && left_behind) {
                continue;
            }
            if is_directory {
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

    /// The packages that its sections of dependencies name, those for single targets included.
    fn dependencies(&self, sections: &[&str]) -> BTreeSet<String> {
        let targets = self.0.get("target").and_then(toml::Value::as_table);
        let tables =
            targets.into_iter().flat_map(|targets| targets.values()).filter_map(toml::Value::as_table);
        let tables = tables.chain([&self.0]).flat_map(|table| sections.iter().map(|name| table.get(*name)));
        let tables = tables.flatten().filter_map(toml::Value::as_table);
        tables.flatten().map(|(name, value)| package(name, value)).collect()
    }
}

/// What crates name by `workspace = true`.
fn workspace_dependencies() -> toml::Table {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest can be read");
    let manifest: toml::Table = text.parse().unwrap_or_else(|error| panic!("Cargo.toml: {error}"));
    let dependencies =
        manifest.get("workspace").and_then(|workspace| workspace.get("dependencies")?.as_table());
    dependencies.expect("the workspace has dependencies").clone()
}

/// The sections of what a crate is built from.
const BUILT: &[&str] = &["dependencies", "build-dependencies"];

/// The package that a dependency stands for: its name, unless it is a second name.
fn package(name: &str, value: &toml::Value) -> String {
    let second = value.get("package").and_then(toml::Value::as_str);
    second.unwrap_or(name).to_owned()
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
