//! Local HTTP: health, metrics, the admin API, the local page, and the OpenAI-compatible endpoint. It shows what the
//! store and the handles say and passes a person's answer on; it never decides anything.

mod admin;
mod auth;
pub mod live;
mod metrics;
pub mod openai;
mod page;
mod trend;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use futures::future::BoxFuture;
use shared::{
    digest::Digest,
    id::{ApprovalId, NodeName},
    ledger::entry::Verdict,
};
use tokio::sync::watch;
use tower_http::set_header::SetResponseHeaderLayer;

pub use auth::Token;
use live::Live;

use crate::store::Store;

/// A person's answer, given here.
#[derive(Debug, Clone)]
pub struct Answer {
    pub approval: ApprovalId,
    /// The digest of the proposal that the person had before them.
    pub shown: Digest,
    pub verdict: Verdict,
    pub by: String,
    pub comment: Option<String>,
    /// `local page` or `api`.
    pub place: &'static str,
}

/// Why an answer was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    /// There is no such question.
    Unknown,
    /// It is no longer open, or what was shown differs; one sentence for the person.
    Conflict(String),
    /// The node cannot take it now.
    Failed(String),
}

/// Passes an answer to the runner; `Ok` when it is durable.
pub type Decide = Arc<dyn Fn(Answer) -> BoxFuture<'static, Result<(), Declined>> + Send + Sync>;

/// What the pages need of the rest of the node; the composition root fills it.
#[derive(Clone)]
pub struct Handles {
    pub node: NodeName,
    pub jurisdiction: String,
    pub store: Store,
    pub token: Token,
    /// How things are now. Asked for every page: it must be quick.
    pub live: Arc<dyn Fn() -> Live + Send + Sync>,
    pub decide: Decide,
    /// Changes whenever a page may look different now; the ledger's growth is watched beside it.
    pub changes: watch::Receiver<u64>,
}

type Shared = State<Arc<Server>>;

struct Server {
    handles: Handles,
    sessions: auth::Sessions,
    trends: trend::Trends,
}

/// The routes of this room. `more` are further routes on the same port, such as the OpenAI-compatible endpoint.
pub fn router(handles: Handles, more: Router) -> Router {
    let server = Arc::new(Server { handles, sessions: auth::Sessions::default(), trends: trend::Trends::default() });
    let guarded = Router::new()
        .nest("/api/v1", admin::routes())
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&server), auth::require_token));
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics::show))
        .merge(page::routes(&server))
        .merge(guarded)
        .with_state(server)
        .merge(more)
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(shared::look::CONTENT_SECURITY_POLICY),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")))
}

/// 200 when the node does its work, 503 with the reasons when not.
async fn health(State(server): Shared) -> impl IntoResponse {
    let live = (server.handles.live)();
    let status = if live.failing() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(serde_json::json!({"health": live.health, "complaints": live.complaints})))
}

#[cfg(test)]
mod tests;
