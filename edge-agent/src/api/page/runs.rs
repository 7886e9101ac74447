//! The runs, one run with every entry that it left in the ledger, and the ledger itself.

use axum::{
    Extension,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;
use serde_json::Value;
use shared::{
    id::RunId,
    look::{self, words},
    wire::v1::RunSummary,
    workflow::draw::{self, Style},
};

use super::parts::{self, Unreadable};
use crate::{
    api::{
        Shared,
        admin::{LedgerFilter, ledger_entries},
        auth::Session,
    },
    clock,
    store::runs,
};

const RUNS_SHOWN: usize = 200;
const ENTRIES_SHOWN: usize = 500;
const PAGE_LEN: usize = 100;

#[derive(Deserialize)]
pub(super) struct Before {
    before: Option<u64>,
}

pub(super) async fn list(State(server): Shared, Extension(session): Extension<Session>) -> Result<Markup, Unreadable> {
    let filter = runs::Filter { limit: RUNS_SHOWN, ..runs::Filter::default() };
    let rows = server.handles.store.read("list the runs", move |c| runs::list(c, &filter)).await?;
    let body = html! {
        h1 { "Runs" }
        p.lead { "Each run is one execution of a workflow. It is durable: a power cut in the middle of a step changes nothing but the time." }
        section.sheet { div #runs data-live { (table(&rows)) } }
    };
    parts::page(&server, &session, "/runs", "Runs", body).await
}

/// Runs as a table.
pub(super) fn table(rows: &[RunSummary]) -> Markup {
    html! {
        @if rows.is_empty() { p.empty { "No workflow has run yet. One of the bundle's " code { "workflows" } " runs when what its " code { "schedule" } " names happens." } } @else {
            div.scroll { table.rows {
                thead { tr { th { "Workflow" } th { "About" } th { "Status" } th { "Changed" } } }
                tbody { @for run in rows { tr {
                    td { a href=(format!("/runs/{}", run.run)) { (run.workflow) } }
                    td { (run.subject.as_deref().unwrap_or("")) }
                    td { (parts::status(&run.status)) @if let Some(note) = &run.note { div.faint { (note) } } }
                    td.t { (parts::when(run.updated)) }
                } } }
            } }
        }
    }
}

pub(super) async fn show(
    State(server): Shared,
    Extension(session): Extension<Session>,
    Path(id): Path<RunId>,
) -> Result<Response, Unreadable> {
    let store = &server.handles.store;
    let Some(run) = store.read("load the run", move |c| runs::one(c, id)).await? else {
        let body = html! { h1 { "No such run" } p { a href="/runs" { "All runs" } } };
        let page = parts::page(&server, &session, "/runs", "No such run", body).await?;
        return Ok((StatusCode::NOT_FOUND, page).into_response());
    };
    let filter = LedgerFilter { run: Some(id), limit: Some(ENTRIES_SHOWN), ..LedgerFilter::default() };
    let entries = store.read("list the run's entries", move |c| ledger_entries(c, &filter)).await?;
    // A document that this version cannot read any more leaves the page without its drawing alone.
    let path = store.read("read the run's path", move |c| runs::path(c, id)).await.ok().flatten();
    let body = html! {
        p.crumb { a href="/runs" { "Runs" } " / " span.mono { (id) } }
        h1 { (run.workflow) }
        div #summary data-live { (parts::summary(&run, clock::now(), &html! {})) }
        @if let Some((workflow, path)) = &path {
            section.sheet { header { h2 { "Its path" } p { "through version " (workflow.definition().document.version) } }
                div.scroll #path data-live { (PreEscaped(draw::svg(workflow.definition(), Some(path), Style::Embedded))) } }
        }
        section.sheet { header { h2 { "What happened" } p { "every line is an entry of the ledger" } }
            ol.steps #steps data-live { @for entry in &entries { (step(entry, false)) } } }
    };
    Ok(parts::page(&server, &session, "/runs", &run.workflow, body).await?.into_response())
}

/// One ledger entry.
fn step(value: &Value, with_run: bool) -> Markup {
    let links = html! { @if with_run { @if let Some(run) = value["run"].as_str() { a.faint href=(format!("/runs/{run}")) { "run" } } } };
    look::parts::step("", value["seq"].as_u64().unwrap_or(0), value, &links, clock::now())
}

pub(super) async fn ledger(
    State(server): Shared,
    Extension(session): Extension<Session>,
    Query(Before { before }): Query<Before>,
) -> Result<Markup, Unreadable> {
    let store = &server.handles.store;
    let size = *store.ledger_size().borrow();
    let filter = LedgerFilter { before, limit: Some(PAGE_LEN), ..LedgerFilter::default() };
    let entries = store.read("list the ledger", move |c| ledger_entries(c, &filter)).await?;
    let oldest = entries.last().and_then(|entry| entry["seq"].as_u64()).unwrap_or(0);
    let body = html! {
        h1 { "Ledger" }
        p.lead #size data-live { (words::counted(size as f64, "entry", "entries")) ". Each is a leaf of a Merkle tree whose head the node signs and the control plane countersigns; "
            code { "edge-agent ledger verify" } " checks all of it." }
        section.sheet {
            ol.steps #entries data-live { @for entry in &entries { (step(entry, true)) } }
            @if entries.is_empty() { p.empty { "No entry yet." } }
        }
        @if oldest > 0 { p { a.button href=(format!("/ledger?before={oldest}")) { "Older entries" } } }
    };
    parts::page(&server, &session, "/ledger", "Ledger", body).await
}
