//! HTTP for nodes (`/v1/..`, by client certificate) and operators (`/operator/v1/..`, by bearer secret). Translates; decides
//! nothing.

mod access;
mod approvals;
mod audit;
mod bundles;
mod node;
mod nodes;
mod tls;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::de::DeserializeOwned;
use shared::{digest::Digest, id::NodeName, wire::v1};

pub use access::{NewOperator, NewToken, OperatorSecret};
pub use approvals::Decide;
pub use audit::{Entries, ExportHead};
pub use bundles::Missing;
pub use nodes::NodeView;
pub use tls::{SHUTDOWN_MAX, config, serve};

use crate::{
    control::{Control, Error},
    fleet::{Refused, Why},
    store::{self, operators::Operator},
};

/// All that is served on the TLS port.
pub fn router(control: Arc<Control>) -> Router {
    let operator = Router::new()
        .merge(access::router())
        .merge(bundles::router())
        .merge(nodes::router())
        .merge(approvals::router())
        .merge(audit::router());
    Router::new()
        .merge(node::router())
        .route("/openapi.json", get(openapi))
        .nest("/operator/v1", operator)
        .fallback(async || Failure(Refused::new(Why::Absent, "path", "there is nothing at this path").into()))
        .layer(axum::extract::DefaultBodyLimit::max(v1::BODY_BYTES_MAX))
        .with_state(control)
}

/// What can be asked here, for programs and for those who write them. `tests/tidy` compares it with the routes.
async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}

/// The SHA-256 of the client certificate that the TLS handshake verified, if there was one.
#[derive(Debug, Clone, Copy)]
struct Peer(Option<Digest>);

/// The node that asks, known by its client certificate.
struct Asking(NodeName);

impl FromRequestParts<Arc<Control>> for Asking {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, control: &Arc<Control>) -> Result<Self, Failure> {
        let stranger = |code, message| Failure(Refused::new(Why::Stranger, code, message).into());
        let Some(Peer(Some(certificate))) = parts.extensions.get().copied() else {
            return Err(stranger("certificate-missing", "nodes show their client certificate here; enroll first"));
        };
        let node = control.node_by_certificate(certificate).await?;
        let message =
            "this client certificate does not count (any more): the node was removed, or enrolled again since";
        node.map(Asking).ok_or_else(|| stranger("certificate-unknown", message))
    }
}

/// The operator who asks, known by the bearer secret.
struct By(Operator);

impl FromRequestParts<Arc<Control>> for By {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, control: &Arc<Control>) -> Result<Self, Failure> {
        let stranger = |message| Failure(Refused::new(Why::Stranger, "secret", message).into());
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(secret) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(stranger("operators show their secret here: Authorization: Bearer <secret>"));
        };
        let operator = control.login(secret).await.map_err(Error::from)?;
        operator.map(By).ok_or_else(|| stranger("no operator has this secret"))
    }
}

/// A JSON body.
struct Input<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(Failure(Refused::new(Why::Invalid, "body", rejection.body_text()).into())),
        }
    }
}

/// An error on its way out.
struct Failure(Error);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Error::Refused(refused) => match refused.why {
                Why::Stranger => StatusCode::UNAUTHORIZED,
                Why::Forbidden => StatusCode::FORBIDDEN,
                Why::Absent => StatusCode::NOT_FOUND,
                Why::Conflict => StatusCode::CONFLICT,
                Why::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            },
            Error::Store(store::Error::Closed { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            other => {
                tracing::error!(error = %with_sources(other), "a request failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, Json(self.0.refusal())).into_response()
    }
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
