//! What the OpenAPI document says is served is served, to those who may.

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

#[tokio::test]
async fn what_is_described_is_served_and_asks_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::open(folder.path(), "https://127.0.0.1:1".to_owned()).await.unwrap();
    let router = router(control);
    let document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let path = path
                .split('/')
                .map(|step| if step.starts_with('{') { "x" } else { step })
                .collect::<Vec<_>>()
                .join("/");
            let request = Request::builder().method(&method).uri(&path).body(Body::empty()).unwrap();
            let status = router.clone().oneshot(request).await.unwrap().status();
            let open = operation["security"] == serde_json::json!([]);
            let expected = if open { status != StatusCode::NOT_FOUND } else { status == StatusCode::UNAUTHORIZED };
            assert!(expected && status != StatusCode::METHOD_NOT_ALLOWED, "{method} {path}: {status}");
            asked += 1;
        }
    }
    assert!(asked > 20);
}
