//! The fleet and its runs.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use serde::{Deserialize, Serialize};

use super::{By, Failure};
use crate::{
    control::{Control, Link},
    fleet::rollout::{self, Stage},
    store::{
        nodes::{self, Node},
        runs::{self, Run},
    },
};

/// A node, with what follows from what is known of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeView {
    #[serde(flatten)]
    pub node: Node,
    #[serde(flatten)]
    pub link: Link,
    pub rollout: Stage,
}

pub(super) fn router() -> Router<Arc<Control>> {
    Router::new().route("/nodes", get(list)).route("/runs", get(runs))
}

async fn list(State(control): State<Arc<Control>>, _: By) -> Result<Json<Vec<NodeView>>, Failure> {
    let nodes = control.read("list the nodes", nodes::list).await?;
    let view = |node: Node| NodeView { link: control.link(&node.name), rollout: rollout::stage(&node), node };
    Ok(Json(nodes.into_iter().map(view).collect()))
}

async fn runs(
    State(control): State<Arc<Control>>,
    _: By,
    Query(filter): Query<runs::Filter>,
) -> Result<Json<Vec<Run>>, Failure> {
    Ok(Json(control.read("list the runs", move |c| runs::list(c, &filter)).await?))
}
