//! The console: server-rendered pages over what `control` knows, live by server-sent events. It shows and passes answers
//! on; who may do what is decided by `control`.

mod approvals;
mod audit;
mod door;
mod fleet;
mod node;
mod parts;
mod runs;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Sse, sse},
    routing::{get, post},
};
use futures::Stream;
use tokio::sync::broadcast::error::RecvError;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::Control;

/// A page is told of changes at most this often, however many there are.
const PACE: Duration = Duration::from_millis(600);
/// Ages on a page grow without any event; so often it looks again.
const PULSE: Duration = Duration::from_secs(10);

type Shared = State<Arc<Console>>;

struct Console {
    control: Arc<Control>,
    sessions: door::Sessions,
}

/// The console's routes.
pub fn router(control: Arc<Control>) -> Router {
    let console = Arc::new(Console { control, sessions: door::Sessions::default() });
    let behind_the_door = Router::new()
        .route("/", get(fleet::show))
        .route("/nodes/{name}", get(node::show))
        .route("/runs", get(runs::list))
        .route("/runs/{node}/{run}", get(runs::show))
        .route("/approvals", get(approvals::list))
        .route("/approvals/{id}", post(approvals::decide))
        .route("/audit", get(audit::show))
        .route("/audit/{node}", get(audit::verify))
        .route("/logout", post(door::leave))
        .route("/events", get(events))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&console), door::require_session));
    Router::new()
        .route("/login", get(door::show).post(door::enter))
        .route("/assets/skerry.css", get(style))
        .route("/assets/live.js", get(script))
        .merge(behind_the_door)
        .with_state(console)
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

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")], shared::look::STYLE)
}

async fn script() -> impl IntoResponse {
    let kind = "text/javascript; charset=utf-8";
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], shared::look::SCRIPT)
}

/// Tells a page that something may look different.
async fn events(State(console): Shared) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let told = futures::stream::unfold(console.control.changes(), |mut changes| async move {
        tokio::time::sleep(PACE).await;
        tokio::select! {
            change = changes.recv() => match change {
                // Notices that were missed are changes all the same.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            },
            () = tokio::time::sleep(PULSE) => {}
        }
        // What came at once is one change for a page.
        while changes.try_recv().is_ok() {}
        Some((Ok(sse::Event::default().event("changed").data("")), changes))
    });
    Sse::new(told).keep_alive(sse::KeepAlive::default())
}

#[cfg(test)]
mod tests;
