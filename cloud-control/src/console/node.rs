//! One node: what it says of itself, its runs, and the end of its ledger.

use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use shared::{id::NodeName, look::words};

use super::{
    Console, Shared, approvals as questions,
    door::Visitor,
    parts::{self, Page},
    runs as run_pages,
};
use crate::{
    control::Link,
    fleet::rollout,
    store::{
        approvals, ledger,
        nodes::{self, Node},
        runs,
    },
};

const RUNS_SHOWN: usize = 12;
const ENTRIES_SHOWN: usize = 20;
const QUESTIONS_MAX: usize = 500;

pub(super) async fn show(
    State(console): Shared,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<NodeName>,
) -> Page<Response> {
    let control = &console.control;
    let wanted = name.clone();
    let Some(node) = control.read("look the node up", move |c| nodes::get(c, &wanted)).await? else {
        let body = html! { h1 { "No such node" } p { a href="/" { "To the fleet" } } };
        let page = parts::page(&console, &visitor, "/", "No such node", body).await?;
        return Ok((StatusCode::NOT_FOUND, page).into_response());
    };
    let filter = runs::Filter { node: Some(name.clone()), limit: RUNS_SHOWN, ..runs::Filter::default() };
    let newest = control.read("list the runs", move |c| runs::list(c, &filter)).await?;
    let filter = ledger::Filter { node: Some(name.clone()), limit: ENTRIES_SHOWN, ..ledger::Filter::default() };
    let entries = control.read("list audit entries", move |c| ledger::list(c, &filter)).await?;
    let open = control.read("list the questions", |c| approvals::list(c, true, QUESTIONS_MAX)).await?;
    let body = html! {
        p.crumb { a href="/" { "Fleet" } " / " (name) }
        h1 { (name) }
        p.lead #lead data-live { (sentence(&console, &node)) }
        div #complaints data-live {
            @if let Some(reason) = &node.halted { p.note.bad { "Its ledger is no longer taken: " (reason) } }
            @for complaint in node.status.iter().flat_map(|status| &status.complaints) { p.note.wait { (complaint) } }
        }
        dl.tiles #tiles data-live { (figures(&node)) }
        div #questions data-live { @for question in open.iter().filter(|question| question.node == name) {
            (questions::card(question, &visitor, true))
        } }
        section.sheet { header { h2 { "Particulars" } } div.pad #facts data-live { (facts(&node)) } }
        section.sheet { header { h2 { "Runs" } a.end href=(format!("/runs?node={name}")) { "All runs" } }
            div #runs data-live { (run_pages::table(&newest)) } }
        section.sheet { header { h2 { "End of its ledger" } a.end href=(format!("/audit/{name}")) { "Verify" } }
            ol.steps #ledger data-live { @for entry in &entries { (parts::step(entry, false)) } }
            @if entries.is_empty() { p.empty { "No entry has come yet." } } }
    };
    Ok(parts::page(&console, &visitor, "/", name.as_str(), body).await?.into_response())
}

fn sentence(console: &Console, node: &Node) -> Markup {
    let status = node.status.as_ref();
    let link = console.control.link(&node.name);
    html! {
        (parts::link(link)) " " (parts::health(status.map(|status| status.health).unwrap_or_default())) " "
        @match link {
            Link::Up(since) => { "since " (parts::when(since)) },
            Link::Down(since) => { "since " (parts::when(since)) "; what follows is what it said last" },
            Link::Unknown => "it has not asked since the control plane started",
        }
    }
}

fn figures(node: &Node) -> Markup {
    let figures = node.status.iter().flat_map(|status| &status.figures);
    html! { @for (name, value) in figures {
        div.tile { dt { (figure_name(name)) } dd { (if name.ends_with("_count") { words::count(*value) } else { words::number(*value) }) } }
    } }
}

/// `readings_count` as `readings`, `readings_per_second` as `readings a second`.
fn figure_name(name: &str) -> String {
    name.trim_end_matches("_count").replace("_per_second", " a second").replace('_', " ")
}

fn facts(node: &Node) -> Markup {
    let status = node.status.as_ref();
    html! { dl.facts {
        dt { "Jurisdiction" } dd { (node.jurisdiction) }
        dt { "Group" } dd { (node.group) }
        dt { "Enrolled" } dd { (parts::when(node.enrolled)) }
        dt { "Heard" } dd { @if let Some(seen) = node.seen { (parts::when(seen)) } @else { "never" } }
        @if let Some(status) = status {
            dt { "Agent" } dd { "version " (status.version) ", started " (parts::when(status.started)) }
            dt { "Runs bundle" } dd { @if let Some(applied) = status.applied {
                "version " (applied.version) " " (parts::digest(applied.digest)) ", applied " (parts::when(applied.at)) " " (parts::stage(&rollout::stage(node)))
            } @else { "none" } }
            @if let Some(rejected) = &status.rejected {
                dt { "Went back from" } dd { (parts::digest(rejected.digest)) ", " (parts::when(rejected.at)) ": " (rejected.reason) }
            }
            dt { "Ledger" } dd { (words::count(status.ledger_size as f64)) " entries there, " (words::count(node.archived as f64)) " verified and countersigned here" }
        }
        dt { "Ledger key" } dd { code { (node.ledger_key) } }
    } }
}
