//! Runs of the whole fleet, and one run with every entry that came from its node.

use axum::{
    Extension,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use serde::Deserialize;
use shared::id::{NodeName, RunId};

use super::{
    Shared,
    door::Visitor,
    parts::{self, Page},
};
use crate::{
    clock,
    store::{
        ledger,
        runs::{self, Run},
    },
};

const RUNS_SHOWN: usize = 200;
const ENTRIES_SHOWN: usize = 500;
const STATUSES: [&str; 6] = ["running", "waiting", "parked", "completed", "faulted", "cancelled"];

#[derive(Deserialize)]
pub(super) struct Wanted {
    node: Option<NodeName>,
    status: Option<String>,
}

pub(super) async fn list(
    State(console): Shared,
    Extension(visitor): Extension<Visitor>,
    Query(Wanted { node, status }): Query<Wanted>,
) -> Page {
    let filter = runs::Filter { node: node.clone(), status: status.clone(), limit: RUNS_SHOWN };
    let rows = console.control.read("list the runs", move |c| runs::list(c, &filter)).await?;
    let of = |status: Option<&str>| {
        let pairs = [("node", node.as_ref().map(NodeName::as_str)), ("status", status)];
        let query: Vec<String> =
            pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))).collect();
        if query.is_empty() { "/runs".to_owned() } else { format!("/runs?{}", query.join("&")) }
    };
    let body = html! {
        h1 { "Runs" @if let Some(node) = &node { " of " (node) } }
        p.lead { "Each run is one execution of a workflow on a node. What a node did while it was cut off shows here when it is back." }
        section.sheet {
            header { nav aria-label="Status" {
                a href=(of(None)) aria-current=[status.is_none().then_some("true")] { "all" }
                @for word in STATUSES { a href=(of(Some(word))) aria-current=[(status.as_deref() == Some(word)).then_some("true")] { (word) } }
            } }
            div #runs data-live { (table(&rows)) }
        }
    };
    parts::page(&console, &visitor, "/runs", "Runs", body).await
}

/// Runs as a table.
pub(super) fn table(rows: &[Run]) -> Markup {
    html! {
        @if rows.is_empty() { p.empty { "No run here. A workflow of a node's bundle runs when what its " code { "schedule" } " names happens." } } @else {
            div.scroll { table.rows {
                thead { tr { th { "Workflow" } th { "Node" } th { "About" } th { "Status" } th { "Changed" } } }
                tbody { @for Run { node, summary } in rows { tr {
                    td { a href=(format!("/runs/{node}/{}", summary.run)) { (summary.workflow) } }
                    td { (node) }
                    td { (summary.subject.as_deref().unwrap_or("")) }
                    td { (parts::status(&summary.status)) @if let Some(note) = &summary.note { div.faint { (note) } } }
                    td.t { (parts::when(summary.updated)) }
                } } }
            } }
        }
    }
}

pub(super) async fn show(
    State(console): Shared,
    Extension(visitor): Extension<Visitor>,
    Path((node, id)): Path<(NodeName, RunId)>,
) -> Page<Response> {
    let wanted = node.clone();
    let Some(run) = console.control.read("look the run up", move |c| runs::get(c, &wanted, id)).await? else {
        let body = html! { h1 { "No such run" } p { a href="/runs" { "All runs" } } };
        let page = parts::page(&console, &visitor, "/runs", "No such run", body).await?;
        return Ok((StatusCode::NOT_FOUND, page).into_response());
    };
    let filter = ledger::Filter { node: Some(node), run: Some(id), limit: ENTRIES_SHOWN, ..ledger::Filter::default() };
    let mut entries = console.control.read("list audit entries", move |c| ledger::list(c, &filter)).await?;
    entries.sort_by_key(|entry| entry.seq);
    let body = html! {
        p.crumb { a href="/runs" { "Runs" } " / " a href=(format!("/nodes/{}", run.node)) { (run.node) } " / " span.mono { (id) } }
        h1 { (run.summary.workflow) " " span.faint { (run.summary.version) } }
        div #summary data-live { (parts::summary(&run.summary, clock::now(), &html! { " · bundle " (parts::digest(run.summary.bundle)) })) }
        section.sheet { header { h2 { "What happened" } p { "every line is a verified entry of the node's ledger" } }
            ol.steps #steps data-live { @for entry in &entries { (parts::step(entry, false)) } }
            @if entries.is_empty() { p.empty { "Its entries have not come yet." } } }
    };
    Ok(parts::page(&console, &visitor, "/runs", &run.summary.workflow, body).await?.into_response())
}
