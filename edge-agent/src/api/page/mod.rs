//! The local page: the node on its own, with the uplink cut as well as with it. Rendered here, live by server-sent events.

mod approvals;
mod door;
mod feeds;
mod models;
mod parts;
mod runs;
mod status;
mod steer;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Sse, sse},
    routing::{get, post},
};
use futures::Stream;
use tokio::sync::watch;

use super::{Server, Shared};

/// A page is told of changes at most this often.
const PACE: Duration = Duration::from_millis(700);
/// Live values move without any event; so often a page looks at them.
const PULSE: Duration = Duration::from_secs(2);

pub(super) fn routes(server: &Arc<Server>) -> Router<Arc<Server>> {
    let behind_the_door = Router::new()
        .route("/", get(status::show))
        .route("/feeds", get(feeds::show))
        .route("/runs", get(runs::list).post(steer::start))
        .route("/runs/{id}", get(runs::show).post(steer::act))
        .route("/approvals", get(approvals::list))
        .route("/approvals/{id}", post(approvals::decide))
        .route("/ledger", get(runs::ledger))
        .route("/logout", post(door::leave))
        .route("/events", get(events))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(server), door::require_session));
    Router::new()
        .route("/login", get(door::show).post(door::enter))
        .route("/assets/skerry.css", get(style))
        .route("/assets/live.js", get(script))
        .merge(behind_the_door)
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")], shared::look::STYLE)
}

async fn script() -> impl IntoResponse {
    let kind = "text/javascript; charset=utf-8";
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], shared::look::SCRIPT)
}

/// Tells a page that something may look different.
async fn events(State(server): Shared) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    struct Watched {
        changes: watch::Receiver<u64>,
        ledger: watch::Receiver<u64>,
    }
    let watched = Watched { changes: server.handles.changes.clone(), ledger: server.handles.store.ledger_size() };
    let told = futures::stream::unfold(watched, |mut watched| async move {
        tokio::time::sleep(PACE).await;
        tokio::select! {
            ended = watched.changes.changed() => ended.ok()?,
            ended = watched.ledger.changed() => ended.ok()?,
            () = tokio::time::sleep(PULSE) => {}
        }
        Some((Ok(sse::Event::default().event("changed").data("")), watched))
    });
    Sse::new(told).keep_alive(sse::KeepAlive::default())
}
