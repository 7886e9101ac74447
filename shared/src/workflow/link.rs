//! What a workflow takes from other files of its bundle: functions of catalogs, schemas. They become part of its text, so
//! that its digest covers them and a run that is pinned to it has them for ever. Nothing is fetched from anywhere.

use std::collections::BTreeMap;

use super::{
    catalog,
    definition::{Call, Endpoint, ExternalResource},
};

/// The files of a bundle that a workflow uses, by path.
pub(super) type Files = BTreeMap<String, String>;

/// Between a workflow's own text and the files that it uses, as JSON.
const FILES: &str = "\n# --- files of the bundle that this workflow uses; do not edit below ---\n# ";

/// A file that a workflow needs, and the place that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// A JSON pointer into the workflow.
    pub pointer: String,
    /// Where the file must lie in the bundle.
    pub path: String,
}

/// A workflow's own text, and the files that were linked to it.
pub(super) fn split(text: &str) -> (&str, Files) {
    match text.rsplit_once(FILES) {
        Some((own, files)) => (own, serde_json::from_str(files.trim_end()).unwrap_or_default()),
        None => (text, Files::new()),
    }
}

/// The text with files linked to it.
pub(super) fn join(own: &str, files: &Files) -> String {
    if files.is_empty() {
        return own.to_owned();
    }
    format!("{own}{FILES}{}\n", serde_json::to_string(files).unwrap_or_default())
}

/// Where the bundle has the function that is called, if it is one of a catalog: `catalogs/mine/functions/log/1.0.0/function.yaml`
/// for `log:1.0.0@mine`, `catalogs/HOST/PATH` for a URI.
pub(super) fn function(call: &Call) -> Option<String> {
    if let Some(path) = remote(&call.function) {
        return Some(format!("catalogs/{path}"));
    }
    let catalog = call.catalog().filter(|name| *name != catalog::NAME)?;
    let version = call.version().unwrap_or("latest");
    Some(format!("catalogs/{catalog}/functions/{}/{version}/function.yaml", call.name()))
}

/// Where the bundle has a schema: `schemas/HOST/PATH` for a URI, else the path itself.
pub(super) fn schema(resource: &ExternalResource) -> String {
    let uri = match &resource.endpoint {
        Endpoint::Uri(uri) => uri,
        Endpoint::Configured(configured) => &configured.uri,
    };
    match remote(uri) {
        Some(path) => format!("schemas/{path}"),
        None => uri.trim_start_matches("file:").trim_start_matches('/').trim_start_matches("./").to_owned(),
    }
}

fn remote(uri: &str) -> Option<&str> {
    uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"))
}
