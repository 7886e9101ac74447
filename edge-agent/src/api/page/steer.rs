//! What a person may do to runs from the page: each form names the person and asks for their secret, which is the
//! confirmation too.

use axum::{
    Extension, Form,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use edge_core::engine::history::TaskView;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use shared::{id::RunId, problem::words, wire::v1::RunSummary};

use super::{
    door,
    parts::{self, Unreadable},
};
use crate::api::{
    Declined, Place, Shared,
    auth::Session,
    steer::{Asked, ROLE, Wish},
};

#[derive(Deserialize)]
pub(super) struct Start {
    form: String,
    workflow: String,
    input: String,
    by: String,
    secret: String,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
pub(super) struct Acting {
    form: String,
    act: String,
    #[serde(default)]
    from: String,
    by: String,
    secret: String,
    #[serde(default)]
    comment: String,
}

/// The form that starts a workflow.
pub(super) fn start_form(session: &Session, workflows: &[String]) -> Markup {
    html! {
        details.sheet #start { summary.pad { "Start a workflow by hand" }
            form.pad method="post" action="/runs" {
                div.fields {
                    div { label for="workflow" { "Workflow" } input #workflow name="workflow" list="workflows" placeholder="namespace/name" required;
                        datalist #workflows { @for name in workflows { option value=(name); } } }
                    div { label for="input" { "Input, as JSON" } input #input name="input" value="{}" required; }
                }
                (who(session))
                div.buttons { button.yes { "Start" } }
            }
        }
    }
}

/// The form for what can be done to this run now.
pub(super) fn act_form(run: &RunSummary, tasks: &[TaskView], session: &Session) -> Markup {
    let acts: &[(&str, &str, &str)] = match (run.ended.is_some(), run.status.as_str()) {
        (true, _) => &[("retry", "yes", "Try again")],
        (false, "suspended") => &[("resume", "yes", "Resume"), ("cancel", "no", "Cancel the run")],
        (false, _) => &[("suspend", "yes", "Suspend"), ("cancel", "no", "Cancel the run")],
    };
    html! {
        details.sheet #act { summary.pad { @for (index, (.., words)) in acts.iter().enumerate() { @if index > 0 { " or " } (words) } " …" }
            form.pad method="post" action=(format!("/runs/{}", run.run)) {
                (who(session))
                @if run.ended.is_some() {
                    div.fields { div { label for="from" { "From this task; empty: the one that failed" }
                        input #from name="from" list="places" placeholder="/do/2/ask" maxlength="1000";
                        datalist #places { @for task in tasks { option value=(task.place); } } } }
                }
                div.buttons { @for (act, class, words) in acts { button class=(class) name="act" value=(act) { (words) } } }
            }
        }
    }
}

fn who(session: &Session) -> Markup {
    html! {
        input type="hidden" name="form" value=(session.form);
        p.faint { "For people on this node's list with the role " code { (ROLE) } "; the ledger says who did it." }
        div.fields {
            div { label for="by" { "Your name" } input #by name="by" autocomplete="name" maxlength="120" required; }
            div { label for="secret" { "Your secret" }
                input #secret type="password" name="secret" autocomplete="current-password" maxlength="1024" required; }
            div { label for="comment" { "Comment" } input #comment name="comment" maxlength="1000"; }
        }
    }
}

pub(super) async fn start(
    server: Shared,
    Extension(session): Extension<Session>,
    Form(Start { form, workflow, input, by, secret, comment }): Form<Start>,
) -> Result<Response, Unreadable> {
    if !session.owns(&form) {
        return Ok(door::foreign());
    }
    let input: Value = match serde_json::from_str(&input) {
        Ok(input) => input,
        Err(error) => {
            let reason = format!("the input is no JSON: {}", words::of_json(&error));
            return refused(server, &session, (StatusCode::UNPROCESSABLE_ENTITY, reason)).await;
        }
    };
    let asked = Asked { by, secret, comment: Some(comment), place: Place::LocalPage };
    wish(server, &session, Wish::Start { workflow: workflow.trim().to_owned(), input }, asked).await
}

pub(super) async fn act(
    server: Shared,
    Extension(session): Extension<Session>,
    Path(run): Path<RunId>,
    Form(Acting { form, act, from, by, secret, comment }): Form<Acting>,
) -> Result<Response, Unreadable> {
    if !session.owns(&form) {
        return Ok(door::foreign());
    }
    let from = Some(from.trim().to_owned()).filter(|from| !from.is_empty());
    let meant = match act.as_str() {
        "cancel" => Wish::Cancel(run),
        "suspend" => Wish::Suspend(run),
        "resume" => Wish::Resume(run),
        "retry" => Wish::Retry { run, from },
        other => {
            let reason = format!("`{other}` is nothing that can be done to a run");
            return refused(server, &session, (StatusCode::UNPROCESSABLE_ENTITY, reason)).await;
        }
    };
    let asked = Asked { by, secret, comment: Some(comment), place: Place::LocalPage };
    wish(server, &session, meant, asked).await
}

async fn wish(server: Shared, session: &Session, wish: Wish, asked: Asked) -> Result<Response, Unreadable> {
    let reason = match server.steer(wish, asked).await {
        Ok(entry) => {
            let to = entry.run.map_or_else(|| "/runs".to_owned(), |run| format!("/runs/{run}"));
            return Ok(Redirect::to(&to).into_response());
        }
        Err(Declined::Unknown(reason)) => (StatusCode::NOT_FOUND, reason),
        Err(Declined::Conflict(reason)) => (StatusCode::CONFLICT, reason),
        Err(Declined::Stranger(reason) | Declined::Forbidden(reason)) => (StatusCode::FORBIDDEN, reason),
        Err(Declined::Wait(reason)) => (StatusCode::TOO_MANY_REQUESTS, reason),
        Err(Declined::Failed(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    refused(server, session, reason).await
}

async fn refused(
    State(server): Shared,
    session: &Session,
    (status, reason): (StatusCode, String),
) -> Result<Response, Unreadable> {
    let body = html! {
        h1 { "Not done" }
        p.note.bad role="alert" { (reason) }
        p { a.button href="/runs" { "Back to the runs" } }
    };
    let page = parts::page(&server, session, "/runs", "Not done", body).await?;
    Ok((status, page).into_response())
}
