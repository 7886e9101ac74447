//! Questions and answers.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use shared::{digest::Digest, id::ApprovalId, ledger::entry::Verdict};

use super::{By, Failure, Input};
use crate::{
    control::Control,
    fleet::{Refused, Why},
    store::approvals::{self, Approval},
};

/// Questions in one answer.
const APPROVALS_MAX: usize = 500;

/// A person's word on a question.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// The digest of the proposal that the person saw.
    pub shown: Digest,
    pub verdict: Verdict,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Which {
    #[serde(default)]
    all: bool,
}

pub(super) fn router() -> Router<Arc<Control>> {
    Router::new().route("/approvals", get(list)).route("/approvals/{id}", post(decide))
}

async fn list(
    State(control): State<Arc<Control>>,
    _: By,
    Query(Which { all }): Query<Which>,
) -> Result<Json<Vec<Approval>>, Failure> {
    Ok(Json(control.read("list the questions", move |c| approvals::list(c, !all, APPROVALS_MAX)).await?))
}

async fn decide(
    State(control): State<Arc<Control>>,
    By(operator): By,
    Path(id): Path<String>,
    Input(Decide { shown, verdict, comment }): Input<Decide>,
) -> Result<Json<()>, Failure> {
    let id: ApprovalId = id.parse().map_err(|error: shared::id::ParseError| {
        Failure(Refused::new(Why::Invalid, "approval-id", error.to_string()).into())
    })?;
    Ok(Json(control.decide(&operator, id, shown, verdict, comment).await?))
}
