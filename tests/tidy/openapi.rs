//! The OpenAPI documents say what is served, neither more nor less: a route that is added, renamed or dropped without its
//! document fails here.

use std::collections::BTreeSet;

use serde_json::Value;
use shared::wire::v1;

use crate::{check, source::root};

/// Sources with routes, and the path that they are nested under.
const CONTROL: &[(&str, &str)] = &[
    ("cloud-control/src/api/mod.rs", ""),
    ("cloud-control/src/api/node.rs", ""),
    ("cloud-control/src/api/access.rs", "/operator/v1"),
    ("cloud-control/src/api/approvals.rs", "/operator/v1"),
    ("cloud-control/src/api/audit.rs", "/operator/v1"),
    ("cloud-control/src/api/bundles.rs", "/operator/v1"),
    ("cloud-control/src/api/nodes.rs", "/operator/v1"),
];
const NODE: &[(&str, &str)] = &[
    ("edge-agent/src/api/mod.rs", ""),
    ("edge-agent/src/api/admin.rs", "/api/v1"),
    ("edge-agent/src/api/openai.rs", ""),
];

#[test]
fn every_route_is_described_and_nothing_else() {
    let mut violations = Vec::new();
    for (file, sources) in [("cloud-control/src/api/openapi.json", CONTROL), ("edge-agent/src/api/openapi.json", NODE)]
    {
        let served: BTreeSet<String> =
            sources.iter().flat_map(|(source, under)| routes(&read(source), under)).collect();
        let described = operations(&document(file));
        assert!(served.len() > 5, "the routes are found in the sources of {file}");
        violations.extend(served.difference(&described).map(|route| format!("{file}: {route} is not described")));
        violations.extend(described.difference(&served).map(|route| format!("{file}: {route} is not served")));
    }
    check("an OpenAPI document and the routes differ:", &violations);
}

#[test]
fn documents_refer_to_what_is_there_and_are_of_this_version() {
    let mut violations = Vec::new();
    for file in ["cloud-control/src/api/openapi.json", "edge-agent/src/api/openapi.json"] {
        let document = document(file);
        if document["info"]["version"] != env!("CARGO_PKG_VERSION") {
            violations.push(format!("{file}: info.version is not {}", env!("CARGO_PKG_VERSION")));
        }
        let mut waiting = vec![&document];
        while let Some(value) = waiting.pop() {
            match value {
                Value::Object(map) => waiting.extend(map.values()),
                Value::Array(items) => waiting.extend(items),
                _ => {}
            }
            let place = value["$ref"].as_str().map(|place| place.trim_start_matches('#'));
            violations.extend(
                place.filter(|place| document.pointer(place).is_none()).map(|place| format!("{file}: {place}")),
            );
        }
    }
    check("an OpenAPI document refers to nothing:", &violations);
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn document(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// `GET /path` for each operation of a document.
fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().expect("a document has paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object().into_iter().flatten().map(move |(method, _)| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

/// `GET /path` for each method of each `.route(..)` in a source.
fn routes(source: &str, under: &str) -> Vec<String> {
    let route = regex::Regex::new(
        r#"\.route\(\s*(?:&format!\()?"?([^",]+)"?\)?,\s*((?:\.?\w+\([\w:]+\))+)(?:\.layer\([\w:]+\([\w:]+\)\))?\)"#,
    )
    .expect("a valid pattern");
    let method = regex::Regex::new(r"(get|post|put|delete|patch)\(").expect("a valid pattern");
    let mut found = Vec::new();
    for captures in route.captures_iter(source) {
        let path = spelt_out(&captures[1]);
        found.extend(method.captures_iter(&captures[2]).map(|m| format!("{} {under}{path}", m[1].to_uppercase())));
    }
    assert_eq!(found.is_empty(), !source.contains(".route("), "a route is written in a way that is not seen here");
    found
}

/// A path as it is, or the one that a constant of the wire stands for.
fn spelt_out(written: &str) -> String {
    let names = [
        ("ENROLL_PATH", v1::ENROLL_PATH),
        ("SYNC_PATH", v1::SYNC_PATH),
        ("LEDGER_PATH", v1::LEDGER_PATH),
        ("{BUNDLES_PATH}", v1::BUNDLES_PATH),
        ("{BLOBS_PATH}", v1::BLOBS_PATH),
    ];
    let path = names.iter().fold(written.to_owned(), |path, (name, value)| path.replace(name, value));
    // A document has no form of its own for a part with slashes in it.
    path.replace("{{", "{").replace("}}", "}").replace("{*", "{")
}

#[test]
fn every_shape_of_route_is_seen() {
    let source = r#".route("/a", get(list).post(push)) .route(SYNC_PATH, post(sync))
        .route(&format!("{BLOBS_PATH}{{digest}}"), get(metrics::show)) .route("/b", post(take).layer(Limit::max(MOST)))"#;
    let seen = ["GET /x/a", "POST /x/a", "POST /x/v1/sync", "GET /x/v1/blobs/{digest}", "POST /x/b"];
    assert_eq!(routes(source, "/x"), seen);
}
