//! What nodes ask: the contract of `shared::wire::v1`.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use shared::{
    digest::Digest,
    wire::v1::{
        BLOBS_PATH, BUNDLES_PATH, ENROLL_PATH, EnrollAnswer, EnrollRequest, LEDGER_PATH, LedgerAnswer, LedgerRequest,
        SYNC_PATH, SyncAnswer, SyncRequest,
    },
};
use tokio::io::AsyncSeekExt as _;

use super::{Asking, Failure, Input};
use crate::{
    control::{Control, Error},
    fleet::{Refused, Why},
    store::bundles,
};

pub(super) fn router() -> Router<Arc<Control>> {
    Router::new()
        .route(ENROLL_PATH, post(enroll))
        .route(SYNC_PATH, post(sync))
        .route(LEDGER_PATH, post(ledger))
        .route(&format!("{BUNDLES_PATH}{{digest}}"), get(bundle))
        .route(&format!("{BLOBS_PATH}{{digest}}"), get(blob))
}

async fn enroll(
    State(control): State<Arc<Control>>,
    Input(request): Input<EnrollRequest>,
) -> Result<Json<EnrollAnswer>, Failure> {
    Ok(Json(control.enroll(request).await?))
}

async fn sync(
    State(control): State<Arc<Control>>,
    Asking(node): Asking,
    Input(request): Input<SyncRequest>,
) -> Result<Json<SyncAnswer>, Failure> {
    Ok(Json(control.sync(&node, request).await?))
}

async fn ledger(
    State(control): State<Arc<Control>>,
    Asking(node): Asking,
    Input(request): Input<LedgerRequest>,
) -> Result<Json<LedgerAnswer>, Failure> {
    Ok(Json(control.ingest(&node, request).await?))
}

async fn bundle(
    State(control): State<Arc<Control>>,
    _: Asking,
    Path(digest): Path<String>,
) -> Result<Response, Failure> {
    let digest = parse(&digest)?;
    let bundle = control.read("look a bundle up", move |c| bundles::get(c, digest)).await?;
    let bundle = bundle.ok_or_else(|| absent(format!("there is no bundle {digest}")))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bundle.manifest).into_response())
}

async fn blob(
    State(control): State<Arc<Control>>,
    _: Asking,
    headers: HeaderMap,
    Path(digest): Path<String>,
) -> Result<Response, Failure> {
    let digest = parse(&digest)?;
    let len = control.blobs().len(digest).await.ok_or_else(|| absent(format!("there is no blob {digest}")))?;
    let from = headers.get(header::RANGE).and_then(|range| start_of(range.to_str().ok()?)).filter(|from| *from < len);
    let failed = |source| Error::Io { operation: format!("send blob {digest}"), source };
    let mut file = tokio::fs::File::open(control.blobs().path(digest)).await.map_err(failed)?;
    let start = from.unwrap_or(0);
    file.seek(std::io::SeekFrom::Start(start)).await.map_err(failed)?;
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, len - start);
    if from.is_some() {
        let range = format!("bytes {start}-{}/{len}", len - 1);
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    let body = Body::from_stream(tokio_util::io::ReaderStream::with_capacity(file, 64 << 10));
    response.body(body).map_err(|error| failed(std::io::Error::other(error)).into())
}

/// The first byte that `bytes=<n>-` asks for; other forms of a range are answered with the whole, as HTTP allows.
fn start_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn parse(digest: &str) -> Result<Digest, Failure> {
    digest.parse().map_err(|error: shared::digest::ParseError| {
        Failure(Refused::new(Why::Invalid, "digest", error.to_string()).into())
    })
}

fn absent(message: String) -> Failure {
    Failure(Refused::new(Why::Absent, "absent", message).into())
}
