//! The audit archive: reading, proving, handing out, and what to do after an alarm.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use shared::{
    id::NodeName,
    ledger::note::{Note, VerifierKey},
};

use super::{By, Failure};
use crate::{
    control::{Control, Verification},
    fleet::{Refused, Why},
    store::{
        ledger::{self, Alarm, Archived},
        nodes,
    },
};

/// Alarms in one answer.
const ALARMS_MAX: usize = 500;
/// Entries in one page of an export.
const PAGE_LEN: usize = 2_000;

/// A page of a node's entries, byte for byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entries {
    /// The index of the first.
    pub from: u64,
    pub bodies: Vec<String>,
}

/// What is needed to check a node's exported entries without trusting anyone's word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportHead {
    pub node: NodeName,
    pub size: u64,
    /// `None` when nothing was archived yet.
    pub head: Option<Note>,
    pub ledger_key: VerifierKey,
    pub witness_key: VerifierKey,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct From {
    #[serde(default)]
    from: u64,
}

pub(super) fn router() -> Router<Arc<Control>> {
    Router::new()
        .route("/audit", get(list))
        .route("/audit/alarms", get(alarms))
        .route("/audit/{node}/verify", get(verify))
        .route("/audit/{node}/head", get(head))
        .route("/audit/{node}/entries", get(entries))
        .route("/audit/{node}/resume", post(resume))
}

async fn list(
    State(control): State<Arc<Control>>,
    _: By,
    Query(filter): Query<ledger::Filter>,
) -> Result<Json<Vec<Archived>>, Failure> {
    Ok(Json(control.read("list audit entries", move |c| ledger::list(c, &filter)).await?))
}

async fn alarms(State(control): State<Arc<Control>>, _: By) -> Result<Json<Vec<Alarm>>, Failure> {
    Ok(Json(control.read("list the alarms", |c| ledger::alarms(c, ALARMS_MAX)).await?))
}

async fn verify(
    State(control): State<Arc<Control>>,
    _: By,
    Path(node): Path<NodeName>,
) -> Result<Json<Verification>, Failure> {
    Ok(Json(control.verify_ledger(&node).await?))
}

async fn head(
    State(control): State<Arc<Control>>,
    _: By,
    Path(name): Path<NodeName>,
) -> Result<Json<ExportHead>, Failure> {
    let node = name.clone();
    let known = control
        .read("look a head up", move |c| Ok(nodes::get(c, &node)?.map(|known| (known, ledger::head(c, &node)))))
        .await?;
    let Some((node, head)) = known else {
        return Err(Failure(Refused::new(Why::Absent, "node-unknown", format!("there is no node {name}")).into()));
    };
    let head = head.map_err(|source| crate::store::Error::Sqlite { operation: "look a head up", source })?;
    let witness_key = control.keys().witness().public().clone();
    let (size, head) = (head.tail.size(), head.note);
    Ok(Json(ExportHead { node: name, size, head, ledger_key: node.ledger_key, witness_key }))
}

async fn entries(
    State(control): State<Arc<Control>>,
    _: By,
    Path(node): Path<NodeName>,
    Query(From { from }): Query<From>,
) -> Result<Json<Entries>, Failure> {
    let rows = control.read("read audit entries", move |c| ledger::bodies(c, &node, from, PAGE_LEN)).await?;
    Ok(Json(Entries { from, bodies: rows.into_iter().map(|(_, body)| body).collect() }))
}

async fn resume(
    State(control): State<Arc<Control>>,
    By(operator): By,
    Path(node): Path<NodeName>,
) -> Result<Json<()>, Failure> {
    Ok(Json(control.resume_ledger(&operator, &node).await?))
}
