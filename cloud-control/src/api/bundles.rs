//! Uploading files, pushing bundles, going back to one.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    routing::{get, post, put},
};
use serde::{Deserialize, Serialize};
use shared::digest::Digest;

use super::{By, Failure, Input};
use crate::{
    control::{Control, PushRequest, Pushed, RollBackRequest},
    fleet::{Refused, Why},
    store::bundles::{self, Bundle, Group},
};

/// Which of these files are not here yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    pub digests: Vec<Digest>,
}

pub(super) fn router() -> Router<Arc<Control>> {
    Router::new()
        .route("/bundles", get(list).post(push))
        .route("/bundles/missing", post(missing))
        .route("/bundles/rollback", post(roll_back))
        .route("/blobs/{digest}", put(upload))
        .route("/groups", get(groups))
}

async fn list(State(control): State<Arc<Control>>, _: By) -> Result<Json<Vec<Bundle>>, Failure> {
    Ok(Json(control.read("list the bundles", bundles::list).await?))
}

async fn groups(State(control): State<Arc<Control>>, _: By) -> Result<Json<Vec<Group>>, Failure> {
    Ok(Json(control.read("list the groups", bundles::groups).await?))
}

async fn missing(
    State(control): State<Arc<Control>>,
    _: By,
    Input(Missing { digests }): Input<Missing>,
) -> Result<Json<Missing>, Failure> {
    let mut missing = Vec::new();
    for digest in digests {
        if control.blobs().len(digest).await.is_none() {
            missing.push(digest);
        }
    }
    Ok(Json(Missing { digests: missing }))
}

async fn upload(
    State(control): State<Arc<Control>>,
    By(operator): By,
    Path(digest): Path<String>,
    body: Body,
) -> Result<Json<()>, Failure> {
    if !operator.is_admin() {
        let refused = Refused::new(Why::Forbidden, "not-admin", "only an administrator may upload files");
        return Err(Failure(refused.into()));
    }
    let digest: Digest = digest.parse().map_err(|error: shared::digest::ParseError| {
        Failure(Refused::new(Why::Invalid, "digest", error.to_string()).into())
    })?;
    control.blobs().put(digest, body.into_data_stream()).await?;
    Ok(Json(()))
}

async fn push(
    State(control): State<Arc<Control>>,
    By(operator): By,
    Input(request): Input<PushRequest>,
) -> Result<Json<Pushed>, Failure> {
    Ok(Json(control.push(&operator, request).await?))
}

async fn roll_back(
    State(control): State<Arc<Control>>,
    By(operator): By,
    Input(request): Input<RollBackRequest>,
) -> Result<Json<Pushed>, Failure> {
    Ok(Json(control.roll_back(&operator, request).await?))
}
