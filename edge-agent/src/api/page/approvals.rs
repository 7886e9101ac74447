//! Questions to people: the exact proposal, and a form to say yes or no with one's name.

use axum::{
    Extension, Form,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use shared::{digest::Digest, id::ApprovalId, ledger::entry::Verdict, wire::v1::PendingApproval};

use super::{
    door,
    parts::{self, Unreadable},
};
use crate::{
    api::{
        Declined, Place, Shared,
        admin::{LedgerFilter, ledger_entries},
        answer::{Given, NOBODY},
        auth::Session,
    },
    store::runs,
};

const DECIDED_SHOWN: usize = 30;

#[derive(Deserialize)]
pub(super) struct Decision {
    form: String,
    shown: Digest,
    verdict: Verdict,
    by: String,
    #[serde(default)]
    secret: String,
    #[serde(default)]
    comment: String,
}

pub(super) async fn list(State(server): Shared, Extension(session): Extension<Session>) -> Result<Markup, Unreadable> {
    let store = &server.handles.store;
    let open = store.read("list the open questions", runs::approvals_pending).await?;
    let filter = LedgerFilter {
        fact: Some("approval-decided".to_owned()),
        limit: Some(DECIDED_SHOWN),
        ..LedgerFilter::default()
    };
    let decided = store.read("list the answers", move |c| ledger_entries(c, &filter)).await?;
    // A list that cannot be read says so when somebody answers.
    let nobody = server.handles.people.people().is_ok_and(|people| people.is_empty());
    let body = html! {
        h1 { "Approvals" }
        p.lead { "A run waits until a person decides or its time is over. An answer is bound to exactly what is shown here." }
        @if nobody { p.note.bad role="alert" { (NOBODY) "." } }
        div #open data-live {
            @if open.is_empty() { section.sheet { p.empty { "Nothing waits for a person. A workflow asks one with " code { "call: approve" } ", and its question comes here." } } }
            @for question in &open { (card(question, &session, false)) }
        }
        section.sheet { header { h2 { "Decided" } }
            div #decided data-live { (history(&decided)) } }
    };
    parts::page(&server, &session, "/approvals", "Approvals", body).await
}

/// One open question. `brief` leaves the form out and links to it.
pub(super) fn card(question: &PendingApproval, session: &Session, brief: bool) -> Markup {
    let id = question.approval;
    html! {
        section.sheet.ask #(format!("ask-{id}")) {
            header {
                h2 { (question.title) }
                p { "for " strong { (question.role) } ", asked " (parts::when(question.asked))
                    @if let Some(deadline) = question.deadline { ", until " time datetime=(deadline) { (shared::look::words::minute(deadline)) } } }
                a.end href=(format!("/runs/{}", question.run)) { "The run behind it" }
            }
            div.pad {
                @match &question.proposal {
                    Some(proposal) => (parts::proposal(&id.to_string(), proposal)),
                    None => p.soft { "This proposal may not leave the node that asks." },
                }
                p.faint { "Shown: " code { (question.shown) } " · carries " (parts::label(&question.label)) }
                @if brief { a.button href="/approvals" { "Decide" } } @else { (form(question, session)) }
            }
        }
    }
}

fn form(question: &PendingApproval, session: &Session) -> Markup {
    let id = question.approval;
    html! {
        form method="post" action=(format!("/approvals/{id}")) {
            input type="hidden" name="form" value=(session.form);
            input type="hidden" name="shown" value=(question.shown);
            div.fields {
                div { label for=(format!("by-{id}")) { "Your name" }
                    input #(format!("by-{id}")) name="by" autocomplete="name" maxlength="120" required; }
                div { label for=(format!("secret-{id}")) { "Your secret" }
                    input #(format!("secret-{id}")) type="password" name="secret" autocomplete="current-password" maxlength="1024" required; }
                div { label for=(format!("comment-{id}")) { "Comment" }
                    input #(format!("comment-{id}")) name="comment" maxlength="1000"; }
            }
            div.buttons {
                button.yes name="verdict" value="approved" { "Approve" }
                button.no name="verdict" value="rejected" { "Reject" }
            }
        }
    }
}

fn history(entries: &[Value]) -> Markup {
    html! {
        @if entries.is_empty() { p.empty { "Nobody was asked yet." } } @else {
            div.scroll { table.rows {
                thead { tr { th { "Verdict" } th { "By" } th { "As" } th { "Where" } th { "Shown" } th { "Run" } th { "When" } } }
                tbody { @for entry in entries { tr {
                    @let verdict = entry["verdict"].as_str().unwrap_or("");
                    td { (parts::pill(if verdict == "approved" { "good" } else { "bad" }, verdict)) }
                    td { (entry["by"].as_str().unwrap_or("")) }
                    td { (entry["role"].as_str().unwrap_or("")) }
                    td { (entry["place"].as_str().unwrap_or("")) }
                    td.mono { (entry["shown"].as_str().unwrap_or("").get(7..19).unwrap_or("")) }
                    td { @if let Some(run) = entry["run"].as_str() { a href=(format!("/runs/{run}")) { "run" } } }
                    td.t { @if let Some(at) = entry["at"].as_str().and_then(|at| at.parse().ok()) { (parts::when(at)) } }
                } } }
            } }
        }
    }
}

pub(super) async fn decide(
    State(server): Shared,
    Extension(session): Extension<Session>,
    Path(approval): Path<ApprovalId>,
    Form(Decision { form, shown, verdict, by, secret, comment }): Form<Decision>,
) -> Result<Response, Unreadable> {
    if !session.owns(&form) {
        return Ok(door::foreign());
    }
    let given = Given { approval, shown, verdict, by, secret, comment: Some(comment), place: Place::LocalPage };
    let (status, reason) = match server.take(given).await {
        Ok(_) => return Ok(Redirect::to("/approvals").into_response()),
        Err(Declined::Unknown(reason)) => (StatusCode::NOT_FOUND, reason),
        Err(Declined::Conflict(reason)) => (StatusCode::CONFLICT, reason),
        Err(Declined::Stranger(reason) | Declined::Forbidden(reason)) => (StatusCode::FORBIDDEN, reason),
        Err(Declined::Wait(reason)) => (StatusCode::TOO_MANY_REQUESTS, reason),
        Err(Declined::Failed(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    let body = html! {
        h1 { "Not taken" }
        p.note.bad role="alert" { (reason) }
        p { a.button href="/approvals" { "Back to the questions" } }
    };
    let page = parts::page(&server, &session, "/approvals", "Not taken", body).await?;
    Ok((status, page).into_response())
}
