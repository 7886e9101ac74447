//! Local HTTP: health, metrics, the admin API, the local page, and the OpenAI-compatible endpoint. It shows what the
//! store and the handles say and passes a person's answer on; it never decides anything.

mod admin;
mod answer;
pub mod ask;
mod auth;
mod host;
pub mod live;
mod metrics;
mod nothing;
pub mod openai;
mod page;
pub mod people;
pub mod steer;
mod trend;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use futures::future::BoxFuture;
use shared::{
    digest::Digest,
    id::{ApprovalId, NodeName},
    ledger::entry::{Entry, Verdict},
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
    /// The name of a person who showed their secret.
    pub by: String,
    /// For which roles this person may answer.
    pub roles: Vec<String>,
    pub comment: Option<String>,
    pub place: Place,
}

/// Where a person answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    LocalPage,
    CommandLine,
    #[default]
    Api,
}

impl Place {
    /// As the ledger says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LocalPage => "local page",
            Self::CommandLine => "command line",
            Self::Api => "api",
        }
    }
}

/// Why an answer was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    /// There is no such question, run or workflow; one sentence for the person.
    Unknown(String),
    /// It is no longer open, or what was shown differs; one sentence for the person.
    Conflict(String),
    /// Who answers could not show who they are.
    Stranger(String),
    /// Too many tried that under this name.
    Wait(String),
    /// This person may not answer this question, or nobody may.
    Forbidden(String),
    /// The node cannot take it now.
    Failed(String),
}

/// Passes an answer to the runner; the ledger's entry of it when it is durable.
pub type Decide = Arc<dyn Fn(Answer) -> BoxFuture<'static, Result<Entry, Declined>> + Send + Sync>;

/// What the pages need of the rest of the node; the composition root fills it.
#[derive(Clone)]
pub struct Handles {
    pub node: NodeName,
    pub jurisdiction: String,
    pub store: Store,
    pub token: Token,
    /// Who may answer questions.
    pub people: Arc<people::Door>,
    /// What else than an address or `localhost` callers may name this node.
    pub hosts: Vec<String>,
    /// Beyond loopback, what is open there to all asks for the token or for `key`.
    pub exposed: bool,
    /// The key of the OpenAI-compatible endpoint.
    pub key: Option<String>,
    /// How things are now. Asked for every page: it must be quick.
    pub live: Arc<dyn Fn() -> Live + Send + Sync>,
    pub decide: Decide,
    pub steer: steer::Steer,
    pub ask: ask::Ask,
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
    let known = axum::middleware::from_fn_with_state(Arc::clone(&server), host::check);
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics::show))
        .route("/openapi.json", get(openapi))
        .merge(page::routes(&server))
        .merge(guarded)
        .with_state(server)
        .merge(more)
        .layer(axum::middleware::from_fn(nothing::told))
        .layer(known)
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

/// What can be asked here, for programs and for those who write them. `tests/tidy` compares it with the routes.
async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}

/// 200 when the node does its work, 503 when not; the reasons are told on this machine, and elsewhere to whoever has a key.
async fn health(State(server): Shared, headers: HeaderMap) -> impl IntoResponse {
    let live = (server.handles.live)();
    let status = if live.failing() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut said = serde_json::json!({"health": live.health});
    if server.is_trusted(&headers) {
        said["complaints"] = serde_json::json!(live.complaints);
    }
    (status, Json(said))
}

#[cfg(test)]
mod tests;
