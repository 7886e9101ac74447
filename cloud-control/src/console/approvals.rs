//! Questions to people: the exact proposal, its digest, and a form to say yes or no.

use axum::{
    Extension, Form,
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;
use shared::{digest::Digest, id::ApprovalId, ledger::entry::Verdict, look::words};

use super::{
    Shared, door,
    door::Visitor,
    parts::{self, Page},
};
use crate::store::approvals::{self, Approval, State as Stands};

const QUESTIONS_SHOWN: usize = 200;

#[derive(Deserialize)]
pub(super) struct Decision {
    form: String,
    shown: Digest,
    verdict: Verdict,
    #[serde(default)]
    comment: String,
}

pub(super) async fn list(State(console): Shared, Extension(visitor): Extension<Visitor>) -> Page {
    let all = console.control.read("list the questions", |c| approvals::list(c, false, QUESTIONS_SHOWN)).await?;
    let (open, past): (Vec<_>, Vec<_>) = all.into_iter().partition(|question| question.state() == Stands::Open);
    let body = html! {
        h1 { "Approvals" }
        p.lead { "A run waits until a person decides or its time is over. An answer is signed and bound to exactly what is shown here." }
        div #open data-live {
            @if open.is_empty() { section.sheet { p.empty { "Nothing waits for a person. A workflow asks one with " code { "call: approve" } ", and its question comes here." } } }
            @for question in &open { (card(question, &visitor, false)) }
        }
        section.sheet { header { h2 { "Past" } } div #past data-live { (history(&past)) } }
    };
    parts::page(&console, &visitor, "/approvals", "Approvals", body).await
}

/// One open question. `brief` leaves the form out and links to it.
pub(super) fn card(question: &Approval, visitor: &Visitor, brief: bool) -> Markup {
    let asked = &question.question;
    html! {
        section.sheet.ask #(format!("ask-{}", asked.approval)) {
            header {
                h2 { (asked.title) }
                p { "at " a href=(format!("/nodes/{}", question.node)) { (question.node) } ", for " strong { (asked.role) } ", asked " (parts::when(asked.asked))
                    @if let Some(deadline) = asked.deadline { ", until " time datetime=(deadline) { (words::minute(deadline)) } } }
                a.end href=(format!("/runs/{}/{}", question.node, asked.run)) { "The run behind it" }
            }
            div.pad {
                @if let Some(proposal) = &asked.proposal { (parts::proposal(&asked.approval.to_string(), proposal)) }
                p.faint { "Shown: " code { (asked.shown) } " · carries " (words::label(&asked.label)) }
                @if asked.proposal.is_none() {
                    p.note.wait { "This proposal is on the node alone: policy keeps it there, or it is too large. It is decided there, on the local page." }
                } @else if brief {
                    a.button href="/approvals" { "Decide" }
                } @else if visitor.operator.has_role(&asked.role) {
                    (form(question, visitor))
                } @else {
                    p.note { "You do not have the role " strong { (asked.role) } "." }
                }
            }
        }
    }
}

fn form(question: &Approval, visitor: &Visitor) -> Markup {
    let id = question.question.approval;
    html! {
        form method="post" action=(format!("/approvals/{id}")) {
            input type="hidden" name="form" value=(visitor.form);
            input type="hidden" name="shown" value=(question.question.shown);
            label for=(format!("comment-{id}")) { "Comment" }
            input #(format!("comment-{id}")) name="comment" maxlength="1000";
            div.buttons {
                button.yes name="verdict" value="approved" { "Approve as " (visitor.operator.name) }
                button.no name="verdict" value="rejected" { "Reject" }
            }
        }
    }
}

fn history(past: &[Approval]) -> Markup {
    html! {
        @if past.is_empty() { p.empty { "Nobody was asked yet." } } @else {
            div.scroll { table.rows {
                thead { tr { th { "Question" } th { "Node" } th { "Answer" } th { "By" } th { "Shown" } th { "Asked" } } }
                tbody { @for question in past { tr {
                    td { a href=(format!("/runs/{}/{}", question.node, question.question.run)) { (question.question.title) } }
                    td { (question.node) }
                    td { (answer(question)) }
                    td { (question.by.as_deref().unwrap_or("")) }
                    td { (parts::digest(question.question.shown)) }
                    td.t { (parts::when(question.question.asked)) }
                } } }
            } }
        }
    }
}

fn answer(question: &Approval) -> Markup {
    let verdict = question.answer.as_ref().map(|answer| answer.verdict());
    let (kind, word) = match verdict {
        Some(Verdict::Approved) => ("good", "approved"),
        Some(Verdict::Rejected) => ("bad", "rejected"),
        _ => ("", "decided on site or expired"),
    };
    html! {
        (parts::pill(kind, word))
        @match question.state() {
            Stands::Answered => div.faint { "on its way to the node" },
            Stands::Closed => @if let Some(reason) = question.outcome.as_ref().and_then(|outcome| outcome.reason.as_ref()) {
                div.faint { "not taken: " (reason) }
            },
            Stands::Delivered | Stands::Open => {},
        }
    }
}

pub(super) async fn decide(
    State(console): Shared,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<ApprovalId>,
    Form(Decision { form, shown, verdict, comment }): Form<Decision>,
) -> Page<Response> {
    if !visitor.owns(&form) {
        return Ok(door::foreign());
    }
    let comment = Some(comment.trim().to_owned()).filter(|comment| !comment.is_empty());
    console.control.decide(&visitor.operator, id, shown, verdict, comment).await?;
    Ok(Redirect::to("/approvals").into_response())
}
