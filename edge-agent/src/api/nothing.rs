//! What is answered where there is nothing, or nothing of that kind: an error as every other one, in the form that the
//! clients of the path read.

use axum::{
    Json,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// Gives the router's own answers, which are empty, their words.
pub(super) async fn told(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = next.run(request).await;
    let is_empty = !answer.headers().contains_key(header::CONTENT_TYPE);
    let (code, said) = match answer.status() {
        StatusCode::NOT_FOUND if is_empty => {
            ("unknown", format!("there is nothing at {path}: /openapi.json says what there is"))
        }
        // Which are taken, the router writes into the header when this is done.
        StatusCode::METHOD_NOT_ALLOWED if is_empty => {
            ("method", format!("{method} is not taken at {path}: the header `allow` says what is"))
        }
        _ => return answer,
    };
    let (mut parts, _) = answer.into_parts();
    let (body_parts, body) = Json(body(&path, code, &said)).into_response().into_parts();
    let kind = body_parts.headers.get(header::CONTENT_TYPE).cloned();
    parts.headers.insert(header::CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/json")));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

/// The error as the clients of this path read errors.
fn body(path: &str, code: &str, said: &str) -> Value {
    if path.starts_with("/v1/") {
        json!({"error": {"message": said, "type": "invalid_request_error", "param": null, "code": code}})
    } else {
        json!({"error": said, "code": code})
    }
}
