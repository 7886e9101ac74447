//! Who may import whom: between crates (manifests), and between rooms inside a crate (`crate::` and `super::` paths).
//!
//! The tables below are the map of ARCHITECTURE.md. A new arrow is a decision: change the map and the table in a
//! commit of its own, with the reason.

use std::collections::BTreeSet;

use crate::{
    check,
    source::{File, code_of, files, line_of, root},
};

/// Crate -> the crates of the workspace that it may name in its manifest.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("shared", "shared", &[]),
    ("private", "shared/private", &[]),
    ("models", "models", &["shared"]),
    // Files of models, built alone.
    ("kernels", "cross/kernels", &[]),
    ("edge-core", "edge-agent/core", &["shared"]),
    ("reader", "edge-agent/reader", &[]),
    ("edge-agent", "edge-agent", &["edge-core", "models", "private", "reader", "shared"]),
    ("cloud-control", "cloud-control", &["shared", "private", "edge-core"]),
    ("demo", "demo", &["shared", "models", "edge-core", "edge-agent", "cloud-control"]),
    ("tests", "tests", &["shared", "private", "models", "edge-core", "edge-agent", "cloud-control", "demo"]),
];

/// Room -> the rooms of the same crate that it may name. A file right under `src` is a room of its own.
type Rooms = &'static [(&'static str, &'static [&'static str])];

const SHARED: Rooms = &[
    ("id", &["time"]),
    ("time", &[]),
    // Its test compares the two spellings.
    ("canonical", &["digest"]),
    ("digest", &["canonical"]),
    ("label", &[]),
    ("problem", &[]),
    ("event", &["time"]),
    ("look", &["time", "digest", "label", "ledger", "wire"]),
    ("ledger", &["id", "time", "digest", "label"]),
    ("policy", &["digest", "label", "problem"]),
    ("workflow", &["id", "time", "digest", "label", "problem", "event"]),
    ("bundle", &["id", "time", "digest", "problem", "ledger"]),
    ("wire", &["id", "time", "digest", "label", "problem", "event", "ledger", "bundle"]),
];

const EDGE_CORE: Rooms = &[
    ("text", &[]),
    ("admit", &[]),
    ("reading", &[]),
    ("signal", &["reading", "text"]),
    ("feed", &["reading", "signal", "text"]),
    ("hear", &[]),
    ("trigger", &["reading", "signal", "engine", "hear"]),
    // What `guard` checks under a name is a file of the bundle.
    ("site", &["feed", "engine", "guard"]),
    ("engine", &["hear"]),
    ("rehearse", &["engine"]),
    ("route", &[]),
    ("guard", &[]),
    ("budget", &[]),
    ("desired", &[]),
];

/// A room knows `store` and the clock, never a sibling; only `pipeline`, `workflow` and `agent` know several.
const EDGE_AGENT: Rooms = &[
    ("clock", &[]),
    ("tls", &[]),
    // What limits of several rooms are written in.
    ("size", &[]),
    // Work for which there is time.
    ("idle", &[]),
    // What scripts without spaces need: the full text in the store, and whoever cuts texts and asks it.
    ("script", &[]),
    // What tests of several rooms share.
    ("testing", &[]),
    ("store", &["clock", "script"]),
    ("feed", &["store", "clock"]),
    ("inference", &["store", "clock", "tls", "size"]),
    ("memory", &["store", "clock", "size", "script", "idle", "testing"]),
    ("learning", &["store", "clock"]),
    ("action", &["store", "clock", "tls", "testing"]),
    ("sync", &["store", "clock"]),
    ("api", &["store", "clock"]),
    ("config", &["feed", "inference", "memory", "action", "sync", "api", "store"]),
    ("site", &["feed", "inference", "memory", "action", "workflow", "config"]),
    // A checkpoint holds what detectors learn from, and takes up the model that was chosen.
    ("pipeline", &["feed", "learning", "store", "clock"]),
    ("workflow", &["inference", "memory", "learning", "action", "store", "clock"]),
    ("agent", ALL),
    ("cli", ALL),
    ("main", ALL),
];

const CLOUD_CONTROL: Rooms = &[
    ("clock", &[]),
    ("keys", &["clock"]),
    ("store", &["clock"]),
    ("fleet", &["store", "clock", "keys"]),
    ("api", &["control", "fleet", "store", "keys"]),
    ("console", &["control", "fleet", "store", "clock"]),
    ("config", &[]),
    ("control", ALL),
    ("serve", ALL),
    ("cli", ALL),
    ("main", ALL),
];

/// For the few that put the parts together.
const ALL: &[&str] = &["*"];

#[test]
fn no_manifest_draws_a_forbidden_arrow() {
    let mut violations = Vec::new();
    let names: BTreeSet<_> = CRATES.iter().map(|(name, ..)| *name).collect();
    for (name, folder, allowed) in CRATES {
        let text = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("every crate has a manifest");
        let manifest: toml::Table = text.parse().expect("a manifest is TOML");
        for dependency in dependencies(&manifest) {
            if names.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                violations.push(format!("{folder}/Cargo.toml: {name} -> {dependency}"));
            }
        }
    }
    let listed = std::fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let workspace: toml::Table = listed.parse().expect("a manifest is TOML");
    for member in workspace["workspace"]["members"].as_array().expect("members are a list") {
        let member = member.as_str().expect("a member is a path");
        if !CRATES.iter().any(|(_, folder, _)| *folder == member) {
            violations.push(format!("{member}: a crate that the table of arrows does not know"));
        }
    }
    check("a crate names a crate that ARCHITECTURE.md does not let it know:", &violations);
}

#[test]
fn no_room_imports_a_sibling() {
    let mut violations = Vec::new();
    for (folder, rooms) in [
        ("shared/src", SHARED),
        ("edge-agent/core/src", EDGE_CORE),
        ("edge-agent/src", EDGE_AGENT),
        ("cloud-control/src", CLOUD_CONTROL),
    ] {
        for file in files(folder, &[".rs"]) {
            violations.extend(forbidden(folder, rooms, &file));
        }
    }
    check("a room imports a room that ARCHITECTURE.md does not let it know:", &violations);
}

/// Every dependency of a manifest, of whatever kind and for whatever platform.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            for (name, how) in table {
                let renamed = how.get("package").and_then(|package| package.as_str());
                names.insert(renamed.unwrap_or(name).to_owned());
            }
        } else if key == "target" {
            names.extend(table.values().filter_map(|target| target.as_table()).flat_map(dependencies));
        }
    }
    names
}

fn forbidden(folder: &str, rooms: Rooms, file: &File) -> Vec<String> {
    let inside = file.path.strip_prefix(folder).expect("listed from the folder").trim_start_matches('/');
    let room = inside.split('/').next().expect("a path has a first part").trim_end_matches(".rs");
    if room == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = rooms.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: a room that the table of arrows does not know", file.path)];
    };
    if *allowed == ALL {
        return Vec::new();
    }
    let code = code_of(&file.text);
    imports(inside, &code)
        .into_iter()
        .filter(|(name, _)| name != room && rooms.iter().any(|(known, _)| known == name))
        .filter(|(name, _)| !allowed.contains(&name.as_str()))
        .map(|(name, offset)| format!("{}:{}: {room} -> {name}", file.path, line_of(&file.text, offset)))
        .collect()
}

/// The first segment after the crate's root of every path in the code, and where: `crate::a::b`, `crate::{a::b, c}`,
/// and `super::` chains that reach the root.
fn imports(inside: &str, code: &str) -> Vec<(String, usize)> {
    let paths = regex::Regex::new(r"\bcrate\s*::\s*|\b(?:super\s*::\s*)+").expect("a valid pattern");
    let depth = depth(inside);
    let mut found = Vec::new();
    for path in paths.find_iter(code) {
        let ups = path.as_str().matches("super").count();
        if ups > 0 && ups < depth {
            continue;
        }
        let start = path.end();
        if code[start..].starts_with('{') {
            found.extend(group(&code[start + 1..]).into_iter().map(|(name, at)| (name, start + 1 + at)));
        } else {
            found.push((word(&code[start..]), start));
        }
    }
    found
}

/// How many `super::` lead from a file's module to the crate's root.
fn depth(inside: &str) -> usize {
    let parts = inside.split('/').count();
    if inside.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The first word of each item of a use group, up to its closing brace.
fn group(code: &str) -> Vec<(String, usize)> {
    let (mut nested, mut expecting, mut found) = (0_u32, true, Vec::new());
    for (at, c) in code.char_indices() {
        match c {
            '{' => nested += 1,
            '}' if nested == 0 => break,
            '}' => nested -= 1,
            ',' if nested == 0 => expecting = true,
            c if expecting && (c.is_alphanumeric() || c == '_') => {
                found.push((word(&code[at..]), at));
                expecting = false;
            }
            _ => {}
        }
    }
    found
}

fn word(code: &str) -> String {
    code.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn every_shape_of_import_is_seen() {
    let seen =
        |inside: &str, code: &str| -> Vec<String> { imports(inside, code).into_iter().map(|(name, _)| name).collect() };
    assert_eq!(
        seen("feed/mqtt.rs", "use crate::{store::{Store, Error}, memory}; fn f() { crate::api::serve() }"),
        ["store", "memory", "api"]
    );
    assert_eq!(seen("feed/mqtt.rs", "use super::super::memory::Index; use super::decoder::Decoder;"), ["memory"]);
    assert_eq!(seen("feed/mod.rs", "use super::memory::Index;"), ["memory"]);
    assert_eq!(seen("feed.rs", "pub(crate) fn f() {} use super::memory;"), ["memory"]);
}

#[test]
fn a_forbidden_import_is_reported_with_its_line() {
    let file = File {
        path: "edge-agent/src/feed/mqtt.rs".to_owned(),
        text: "//! x\n\nuse crate::memory::Index;\n".to_owned(),
    };
    assert_eq!(forbidden("edge-agent/src", EDGE_AGENT, &file), ["edge-agent/src/feed/mqtt.rs:3: feed -> memory"]);
}
