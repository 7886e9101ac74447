//! The runs, one run with every entry that it left in the ledger, and the ledger itself.

use axum::{
    Extension,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use edge_core::engine::history::{Act, TaskView};
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;
use serde_json::Value;
use shared::{
    id::RunId,
    look::{self, words},
    wire::v1::RunSummary,
    workflow::draw::{self, Style},
};

use super::{
    parts::{self, Unreadable},
    steer,
};
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

/// The fields of the filter form; an empty one filters nothing.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Wanted {
    status: String,
    workflow: String,
    subject: String,
}

pub(super) async fn list(
    State(server): Shared,
    Extension(session): Extension<Session>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Unreadable> {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let (status, workflow, subject) = (some(&wanted.status), some(&wanted.workflow), some(&wanted.subject));
    let filter = runs::Filter { status, workflow, subject, limit: RUNS_SHOWN, ..runs::Filter::default() };
    let rows = server.handles.store.read("list the runs", move |c| runs::list(c, &filter)).await?;
    let known = server.handles.store.read("list the workflows", runs::workflows).await?;
    let body = html! {
        h1 { "Runs" }
        p.lead { "Each run is one execution of a workflow. It is durable: a power cut in the middle of a step changes nothing but the time." }
        (filters(&wanted))
        section.sheet { div #runs data-live { (table(&rows)) } }
        (steer::start_form(&session, &known))
    };
    parts::page(&server, &session, "/runs", "Runs", body).await
}

fn filters(wanted: &Wanted) -> Markup {
    html! {
        form.sheet method="get" action="/runs" { div.pad {
            div.fields {
                div { label for="status" { "Status" }
                    select #status name="status" {
                        option value="" { "any" }
                        @for status in runs::STATUSES { option value=(status) selected[wanted.status == status] { (status) } }
                    } }
                div { label for="of" { "Workflow" } input #of name="workflow" list="workflows" value=(wanted.workflow) placeholder="namespace/name"; }
                div { label for="subject" { "About" } input #subject name="subject" value=(wanted.subject); }
            }
            div.buttons { button { "Show" } }
        } }
    }
}

/// The tasks of a run with their data.
fn tasks(tasks: &[TaskView]) -> Markup {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    html! {
        @if tasks.is_empty() { p.empty { "It has not begun." } } @else {
            div.scroll { table {
                thead { tr { th { "Task" } th { "Status" } } }
                tbody { @for task in tasks { tr {
                    td.place { span.mono { (task.place) }
                        @if let Some(function) = &task.function { " " span.faint { (function) } }
                        details #(format!("data-{}", task.place)) { summary { "data in and out" }
                            span.faint { "in" } pre { (pretty(&task.input)) }
                            @if let Some(output) = &task.output { span.faint { "out" } pre { (pretty(output)) } }
                            @if let Some(error) = &task.error { span.faint { "error" } pre { (pretty(&error.to_value())) } }
                        }
                        @if !task.acts.is_empty() { (acts(&task.place, &task.acts)) }
                    }
                    td { (parts::status(task.status.name())) }
                } } }
            } }
        }
    }
}

/// What a task's agent did.
fn acts(place: &str, acts: &[Act]) -> Markup {
    html! {
        details #(format!("acts-{place}")) { summary { "what the agent did: " (acts.len()) }
            ol { @for act in acts {
                @let (what, with, came) = act.words();
                li { span.mono { (what) } " " span.faint { (with) }
                    @if !came.is_empty() { pre { (came) } } }
            } }
        }
    }
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
    let Some(detail) = store.read("load the run", move |c| runs::detail(c, id)).await? else {
        let body = html! { h1 { "No such run" } p { a href="/runs" { "All runs" } } };
        let page = parts::page(&server, &session, "/runs", "No such run", body).await?;
        return Ok((StatusCode::NOT_FOUND, page).into_response());
    };
    let run = &detail.summary;
    let filter = LedgerFilter { run: Some(id), limit: Some(ENTRIES_SHOWN), ..LedgerFilter::default() };
    let entries = store.read("list the run's entries", move |c| ledger_entries(c, &filter)).await?;
    // A document that this version cannot read any more leaves the page without its drawing alone.
    let path = store.read("read the run's path", move |c| runs::path(c, id)).await.ok().flatten();
    let body = html! {
        p.crumb { a href="/runs" { "Runs" } " / " span.mono { (id) } }
        h1 { (run.workflow) }
        div #summary data-live { (parts::summary(run, clock::now(), &html! {})) }
        @if let Some((workflow, path)) = &path {
            section.sheet { header { h2 { "Its path" } p { "through version " (workflow.definition().document.version) } }
                div.scroll #path data-live { (PreEscaped(draw::svg(workflow.definition(), Some(path), Style::Embedded))) } }
        }
        section.sheet { header { h2 { "Its tasks" } p { "with what went in and came out" } }
            div #tasks data-live { (tasks(&detail.tasks)) } }
        (steer::act_form(run, &detail.tasks, &session))
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
