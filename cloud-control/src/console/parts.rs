//! What every page is made of.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
pub use shared::look::parts::{digest, health, mark, pill, plain, proposal, status, summary, tile};
use shared::{
    look::{
        self,
        parts::{document, navigation},
    },
    time::Timestamp,
};

use super::{Console, door::Visitor};
use crate::{
    clock,
    control::{Error, Link},
    fleet::rollout::Stage,
    store::{self, approvals},
};

/// Where the navigation leads.
const PAGES: [(&str, &str); 4] = [("/", "Fleet"), ("/runs", "Runs"), ("/approvals", "Approvals"), ("/audit", "Audit")];
/// Open questions that are counted in the head; more are `many` to anyone.
const QUESTIONS_MAX: usize = 500;

/// A page could not be made.
pub struct Failed(Error);

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Error::Refused(_) => StatusCode::CONFLICT,
            error => {
                tracing::error!(%error, "a page of the console failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let body = html! {
            h1 { "Not done" }
            p.note.bad role="alert" { (self.0.refusal().message) }
            p { a.button href="/" { "To the fleet" } }
        };
        (status, plain("Not done", &body)).into_response()
    }
}

/// What the store says, or the page that says that it does not.
pub type Page<T = Markup> = Result<T, Failed>;

/// A page with head and navigation. `here` is the path of its place in the navigation.
pub async fn page(console: &Console, visitor: &Visitor, here: &str, title: &str, body: Markup) -> Page {
    let questions =
        console.control.read("list the questions", |c| approvals::list(c, true, QUESTIONS_MAX)).await?.len();
    let whole = html! {
        a.skip href="#main" { "Skip to content" }
        div.top { div {
            a.brand href="/" { (mark()) span { "Skerry" } }
            (navigation(&PAGES, here, questions))
            div.end {
                span #live role="status" { "not live" }
                span { (visitor.operator.name) }
                form method="post" action="/logout" {
                    input type="hidden" name="form" value=(visitor.form);
                    button.plain { "Log out" }
                }
            }
        } }
        main #main { (body) }
    };
    Ok(document(title, Some("/events"), &whole))
}

/// A node's link as a pill.
pub fn link(link: Link) -> Markup {
    match link {
        Link::Up(_) => pill("good", "connected"),
        Link::Down(_) => pill("wait", "cut off"),
        Link::Unknown => pill("", "not heard yet"),
    }
}

/// Where a node stands towards its group's bundle.
pub fn stage(stage: &Stage) -> Markup {
    match stage {
        Stage::Unassigned => html! { span.faint { "none yet" } },
        Stage::Pending => pill("sea", "on its way"),
        Stage::Current => pill("good", "current"),
        Stage::Rejected(reason) => html! { (pill("bad", "rejected")) div.faint { (reason) } },
    }
}

/// An instant, as an age when it is near.
pub fn when(at: Timestamp) -> Markup {
    look::parts::when(at, clock::now())
}

/// One archived entry as a step. `place` says where it was recorded, when a list mixes several.
pub fn step(entry: &store::ledger::Archived, place: bool) -> Markup {
    let links = html! { @if place {
        a.faint href=(format!("/nodes/{}", entry.node)) { (entry.node) }
        @if let Some(run) = entry.run { a.faint href=(format!("/runs/{}/{run}", entry.node)) { "run" } }
    } };
    look::parts::step(entry.node.as_str(), entry.seq, &entry.entry, &links, clock::now())
}
