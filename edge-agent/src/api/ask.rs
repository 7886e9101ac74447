//! What a person asks of the node's functions, over the API: an answer from the documents, passages, texts kept and forgotten. Who has the
//! node's token may; policy and ledger are asked and told behind it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, State,
        rejection::{JsonRejection, PathRejection},
    },
};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;
use shared::label::Label;

use super::{Declined, Shared, admin::Problem};

/// As large as a document that is kept may be, with what JSON adds to it.
pub(super) const BODY_BYTES_MAX: usize = 12 << 20;

/// A function with its arguments; without a label, what the node takes for its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub function: String,
    pub input: Value,
    pub label: Option<Label>,
}

/// Does what a person asks; the output when the ledger has it.
pub type Ask = Arc<dyn Fn(Asked) -> BoxFuture<'static, Result<Value, Declined>> + Send + Sync>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    #[serde(default)]
    input: Value,
    label: Option<Label>,
}

pub(super) async fn perform(
    State(server): Shared,
    function: Result<Path<String>, PathRejection>,
    given: Result<Json<Given>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let (Path(function), Json(Given { input, label })) = (function?, given?);
    Ok(Json((server.handles.ask)(Asked { function, input, label }).await?))
}
