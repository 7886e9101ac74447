//! What must stay pure, and what must stay out of the cloud.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

use crate::{
    check,
    source::{code_of, files, line_of, root, tests_start},
};

/// Crates that bring a runtime, a network, a database or a clock with them.
const OUTSIDE: &[&str] =
    &["tokio", "async-std", "rusqlite", "sqlx", "reqwest", "hyper", "axum", "rumqttc", "mqtt5", "rustls"];

/// What pure code does not say: clocks, randomness, files, the network, processes, threads.
const IMPURE: &str = concat!(
    r"\bSystemTime\b|\bInstant\s*::|\b(?:Utc|Local|Zoned|Timestamp)\s*::\s*now\b",
    r"|\brand\s*::|\bgetrandom\b|\bthread_rng\b|\bOsRng\b",
    r"|\bstd\s*::\s*(?:fs|net|process|thread|env)\b|\btokio\b|\breqwest\b|\brusqlite\b|\basync\s+fn\b|\.await\b",
);

#[test]
fn pure_crates_depend_on_nothing_that_reaches_outside() {
    let metadata = metadata();
    let mut violations = Vec::new();
    for (name, more) in
        [("shared", &["rand", "getrandom", "candle-core"][..]), ("edge-core", &["rand", "getrandom", "candle-core"])]
    {
        let direct = direct(&metadata, name);
        let all = closure(&metadata, name);
        violations
            .extend(more.iter().filter(|banned| direct.contains(**banned)).map(|banned| format!("{name} -> {banned}")));
        violations.extend(
            OUTSIDE.iter().filter(|banned| all.contains(**banned)).map(|banned| format!("{name} -> .. -> {banned}")),
        );
    }
    check("a pure crate depends on what reaches outside:", &violations);
}

#[test]
fn the_control_plane_never_compiles_candle() {
    let all = closure(&metadata(), "cloud-control");
    let found: Vec<_> =
        all.iter().filter(|name| name.starts_with("candle") || *name == "tokenizers").cloned().collect();
    check("cloud-control depends, directly or not, on what runs models:", &found);
}

#[test]
fn pure_code_reads_no_clock_and_touches_nothing_outside() {
    let impure = regex::Regex::new(IMPURE).expect("a valid pattern");
    let mut violations = Vec::new();
    for folder in ["shared/src", "edge-agent/core/src"] {
        for file in files(folder, &[".rs"]) {
            let code = code_of(&file.text);
            // Tests may read their test data and measure.
            let end = tests_start(&file.path, &code).unwrap_or(code.len());
            for found in impure.find_iter(&code[..end]) {
                violations.push(format!(
                    "{}:{}: {}",
                    file.path,
                    line_of(&code, found.start()),
                    found.as_str().split_whitespace().collect::<String>()
                ));
            }
        }
    }
    check("pure code reaches outside; take it as data instead:", &violations);
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned).to_vec())
        .exec()
        .expect("cargo can tell the workspace's dependencies")
}

/// The names of a member's own dependencies, those of its tests left out.
fn direct(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let package = metadata.packages.iter().find(|package| package.name == name).expect("a member of the workspace");
    package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal).map(|d| d.name.clone()).collect()
}

/// The names of all that is linked into a member on Linux; what only builds or tests it left out.
fn closure(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let names: BTreeMap<&PackageId, &str> = metadata.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let resolve = metadata.resolve.as_ref().expect("cargo resolved the workspace");
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut waiting: Vec<_> = metadata
        .workspace_packages()
        .iter()
        .filter(|package| package.name == name)
        .map(|package| &package.id)
        .collect();
    assert!(!waiting.is_empty(), "{name} is a member of the workspace");
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        for dependency in &nodes[id].deps {
            let linked = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if linked && seen.insert(&dependency.pkg) {
                waiting.push(&dependency.pkg);
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}
