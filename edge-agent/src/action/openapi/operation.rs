//! An operation of a document.

use edge_core::engine::effect::{Failure, kind};
use serde_json::Value;

use super::{super::errand::Errand, reference::Resolved};

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
/// Of the ids that a document has, in an error.
const SHOWN_MAX: usize = 20;

/// An operation, with what its path says for all of its operations.
pub(super) struct Operation<'d> {
    pub(super) method: &'static str,
    /// With `{name}` where parameters go.
    pub(super) path: &'d str,
    pub(super) own: &'d Value,
    pub(super) of_path: &'d Value,
}

impl<'d> Operation<'d> {
    /// The operation of this id.
    pub(super) fn find(errand: &Errand<'_>, document: &Resolved<'d>, id: &str) -> Result<Self, Failure> {
        let mut known = Vec::new();
        let paths = document.get(document.0, "paths").and_then(Value::as_object);
        for (path, item) in paths.into_iter().flatten() {
            let of_path = document.value(item);
            for method in METHODS {
                let Some(own) = document.get(of_path, method) else { continue };
                match own.get("operationId").and_then(Value::as_str) {
                    Some(found) if found == id => return Ok(Self { method, path, own, of_path }),
                    Some(other) => known.push(other),
                    None => {}
                }
            }
        }
        known.sort_unstable();
        let more = if known.len() > SHOWN_MAX { ", .." } else { "" };
        known.truncate(SHOWN_MAX);
        let expected = match &known[..] {
            [] => "the document has no operation with an id".to_owned(),
            known => format!("expected one of {}{more}", known.join(", ")),
        };
        Err(errand.failure(kind::CONFIGURATION, &format!("operationId: there is no {id:?}; {expected}")))
    }
}

/// Whether the document is Swagger 2.0.
pub(super) fn is_swagger(document: &Resolved<'_>) -> bool {
    document.0.get("swagger").is_some()
}
