//! The admin API under `/api/v1`: JSON for programs, guarded by the local token.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    digest::Digest,
    id::{ApprovalId, RunId},
    ledger::entry::{Entry, Verdict},
    time::Timestamp,
    wire::v1::{PendingApproval, RunSummary},
};

use super::{
    Declined, Place, Server, Shared,
    answer::Given,
    ask,
    steer::{Asked, Wish},
};
use crate::store::{self, runs};

/// Rows of one answer: what a page or a script can use.
const LIMIT_MAX: usize = 1_000;

pub(super) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/status", get(status))
        .route("/feeds", get(feeds))
        .route("/runs", get(list_runs).post(start))
        .route("/runs/{id}", get(one_run).post(steer))
        .route("/approvals", get(list_approvals))
        .route("/approvals/{id}", get(one_approval).post(decide))
        .route("/ledger", get(list_ledger))
        .route("/functions/{function}", post(ask::perform).layer(DefaultBodyLimit::max(ask::BODY_BYTES_MAX)))
}

/// An error as every route tells it: a word for programs and a sentence for people.
pub(super) struct Problem(StatusCode, &'static str, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.2, "code": self.1}))).into_response()
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, "store", error.to_string())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self(rejection.status(), "invalid", rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self(rejection.status(), "invalid", rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self(rejection.status(), "invalid", rejection.body_text())
    }
}

impl From<Declined> for Problem {
    fn from(declined: Declined) -> Self {
        match declined {
            Declined::Unknown(reason) => Self(StatusCode::NOT_FOUND, "unknown", reason),
            Declined::Conflict(reason) => Self(StatusCode::CONFLICT, "conflict", reason),
            Declined::Stranger(reason) => Self(StatusCode::FORBIDDEN, "secret", reason),
            Declined::Wait(reason) => Self(StatusCode::TOO_MANY_REQUESTS, "wait", reason),
            Declined::Forbidden(reason) => Self(StatusCode::FORBIDDEN, "role", reason),
            Declined::Failed(reason) => Self(StatusCode::SERVICE_UNAVAILABLE, "failed", reason),
        }
    }
}

impl Problem {
    fn unknown(what: &str) -> Self {
        Self(StatusCode::NOT_FOUND, "unknown", format!("there is no such {what}"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFilter {
    status: Option<String>,
    workflow: Option<String>,
    since: Option<Timestamp>,
    subject: Option<String>,
    limit: Option<usize>,
}

/// Which ledger entries to list: those before position `before`, the newest first; or of one run, the oldest first.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LedgerFilter {
    pub run: Option<RunId>,
    pub fact: Option<String>,
    pub before: Option<u64>,
    pub limit: Option<usize>,
}

async fn status(State(server): Shared) -> Result<Json<Value>, Problem> {
    let handles = &server.handles;
    let runs = handles.store.read("count the runs", run_counts).await?;
    let waiting = handles.store.read("list the open questions", runs::approvals_pending).await?.len();
    let live = (handles.live)();
    let figures = live.figures();
    let counts: serde_json::Map<_, _> = runs.into_iter().map(|(status, count)| (status, count.into())).collect();
    Ok(Json(json!({
        "node": handles.node, "jurisdiction": handles.jurisdiction, "version": env!("CARGO_PKG_VERSION"),
        "started": live.started, "health": live.health, "complaints": live.complaints, "link": live.link,
        "bundle": live.bundle, "broker": live.broker, "targets": live.targets, "figures": figures,
        "runs": counts, "approvals": waiting, "ledgerSize": *handles.store.ledger_size().borrow(),
    })))
}

async fn feeds(State(server): Shared) -> Json<Value> {
    let live = (server.handles.live)();
    Json(json!({"feeds": live.feeds, "findings": live.findings}))
}

async fn list_runs(
    State(server): Shared,
    filter: Result<Query<RunFilter>, QueryRejection>,
) -> Result<Json<Vec<RunSummary>>, Problem> {
    let Query(filter) = filter?;
    if let Some(status) = &filter.status
        && !runs::STATUSES.contains(&status.as_str())
    {
        let reason = format!("`status` is {status:?}: expected one of {}", runs::STATUSES.join(", "));
        return Err(Problem(StatusCode::BAD_REQUEST, "invalid", reason));
    }
    if filter.limit == Some(0) {
        let reason = format!("`limit` is 0: expected 1 to {LIMIT_MAX}");
        return Err(Problem(StatusCode::BAD_REQUEST, "invalid", reason));
    }
    let limit = filter.limit.unwrap_or(100).min(LIMIT_MAX);
    let RunFilter { status, workflow, since, subject, .. } = filter;
    let filter = runs::Filter { status, workflow, since, subject, limit };
    Ok(Json(server.handles.store.read("list the runs", move |c| runs::list(c, &filter)).await?))
}

async fn one_run(State(server): Shared, id: Result<Path<RunId>, PathRejection>) -> Result<Json<Value>, Problem> {
    let Path(id) = id?;
    let run = server.handles.store.read("load the run", move |c| runs::detail(c, id)).await?;
    let run = run.ok_or_else(|| Problem::unknown("run"))?;
    let filter = LedgerFilter { run: Some(id), limit: Some(LIMIT_MAX), ..LedgerFilter::default() };
    let entries = server.handles.store.read("list the run's entries", move |c| ledger_entries(c, &filter)).await?;
    Ok(Json(json!({"run": run, "ledger": entries})))
}

/// Who wants something of runs.
struct Who {
    /// The person's name.
    by: String,
    /// The person's secret.
    secret: String,
    comment: Option<String>,
    place: Place,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    /// `namespace/name`.
    workflow: String,
    #[serde(default = "no_input")]
    input: Value,
    by: String,
    secret: String,
    comment: Option<String>,
    #[serde(default)]
    place: Place,
}

fn no_input() -> Value {
    json!({})
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Act {
    Cancel,
    Suspend,
    Resume,
    Retry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acting {
    act: Act,
    /// The place of the task that a retry goes on from.
    from: Option<String>,
    by: String,
    secret: String,
    comment: Option<String>,
    #[serde(default)]
    place: Place,
}

async fn start(State(server): Shared, body: Result<Json<Start>, JsonRejection>) -> Result<Json<Entry>, Problem> {
    let Json(Start { workflow, input, by, secret, comment, place }) = body?;
    let who = Who { by, secret, comment, place };
    done(&server, Wish::Start { workflow, input }, who).await
}

async fn steer(
    State(server): Shared,
    run: Result<Path<RunId>, PathRejection>,
    body: Result<Json<Acting>, JsonRejection>,
) -> Result<Json<Entry>, Problem> {
    let Path(run) = run?;
    let Json(Acting { act, from, by, secret, comment, place }) = body?;
    let who = Who { by, secret, comment, place };
    if from.is_some() && !matches!(act, Act::Retry) {
        let reason = "`from`: only a `retry` goes on from a task".to_owned();
        return Err(Problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", reason));
    }
    let wish = match act {
        Act::Cancel => Wish::Cancel(run),
        Act::Suspend => Wish::Suspend(run),
        Act::Resume => Wish::Resume(run),
        Act::Retry => Wish::Retry { run, from },
    };
    done(&server, wish, who).await
}

async fn done(server: &Server, wish: Wish, who: Who) -> Result<Json<Entry>, Problem> {
    let Who { by, secret, comment, place } = who;
    if place == Place::LocalPage {
        let reason = "`place` is `local-page`: expected `api` or `command-line`".to_owned();
        return Err(Problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", reason));
    }
    Ok(Json(server.steer(wish, Asked { by, secret, comment, place }).await?))
}

async fn list_approvals(State(server): Shared) -> Result<Json<Vec<PendingApproval>>, Problem> {
    Ok(Json(server.handles.store.read("list the open questions", runs::approvals_pending).await?))
}

async fn one_approval(
    State(server): Shared,
    id: Result<Path<ApprovalId>, PathRejection>,
) -> Result<Json<runs::ApprovalView>, Problem> {
    let Path(id) = id?;
    let known = server.handles.store.read("look for a question", move |c| runs::approval(c, id)).await?;
    known.map(Json).ok_or_else(|| Problem::unknown("question"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    /// The digest of what was shown, as `GET` gave it.
    shown: Digest,
    verdict: Verdict,
    /// The person's name.
    by: String,
    /// The person's secret.
    secret: String,
    comment: Option<String>,
    #[serde(default)]
    place: Place,
}

async fn decide(
    State(server): Shared,
    approval: Result<Path<ApprovalId>, PathRejection>,
    body: Result<Json<Decision>, JsonRejection>,
) -> Result<Json<Entry>, Problem> {
    let Path(approval) = approval?;
    let Json(Decision { shown, verdict, by, secret, comment, place }) = body?;
    let bad = |reason: &str| Problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", reason.to_owned());
    if verdict == Verdict::Expired {
        return Err(bad("`verdict` is `expired`: expected `approved` or `rejected`"));
    }
    if by.trim().is_empty() {
        return Err(bad("`by` is empty: expected the name of the person who decides"));
    }
    if place == Place::LocalPage {
        return Err(bad("`place` is `local-page`: expected `api` or `command-line`"));
    }
    Ok(Json(server.take(Given { approval, shown, verdict, by, secret, comment, place }).await?))
}

async fn list_ledger(
    State(server): Shared,
    filter: Result<Query<LedgerFilter>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(filter) = filter?;
    let size = *server.handles.store.ledger_size().borrow();
    let entries = server.handles.store.read("list the ledger", move |c| ledger_entries(c, &filter)).await?;
    Ok(Json(json!({"size": size, "entries": entries})))
}

/// Runs by status.
pub(super) fn run_counts(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    runs::counts(connection)
}

/// Entries with their position as `seq`.
pub(super) fn ledger_entries(connection: &Connection, filter: &LedgerFilter) -> rusqlite::Result<Vec<Value>> {
    let limit = filter.limit.unwrap_or(100).min(LIMIT_MAX) as i64;
    let read = |row: &rusqlite::Row<'_>| {
        let (seq, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let mut entry: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        entry["seq"] = seq.into();
        Ok(entry)
    };
    if let Some(run) = filter.run {
        let sql =
            "SELECT seq, body FROM ledger_of_run WHERE run = ?1 AND (?2 IS NULL OR fact = ?2) ORDER BY seq LIMIT ?3";
        return connection
            .prepare_cached(sql)?
            .query_map(params![run.to_string(), filter.fact, limit], read)?
            .collect();
    }
    let before = filter.before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let sql = "SELECT seq, body FROM ledger WHERE seq < ?1 AND (?2 IS NULL OR fact = ?2) ORDER BY seq DESC LIMIT ?3";
    connection.prepare_cached(sql)?.query_map(params![before, filter.fact, limit], read)?.collect()
}
