//! What every page is made of.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use shared::{
    digest::Digest,
    ledger::entry::Entry,
    look::{self, words},
    time::Timestamp,
    wire::v1::Health,
};

use super::{Console, door::Visitor};
use crate::{
    clock,
    control::{Error, Link},
    fleet::rollout::Stage,
    store::{self, approvals},
};

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

/// A document without head and navigation.
pub fn plain(title: &str, body: &Markup) -> Markup {
    document(title, &html! { main #main { (body) } }, false)
}

fn document(title: &str, body: &Markup, live: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Skerry" }
                link rel="stylesheet" href="/assets/skerry.css";
                script src="/assets/live.js" defer {}
            }
            @if live { body data-events="/events" { (body) } } @else { body { (body) } }
        }
    }
}

/// A rock in the waves.
pub fn mark() -> Markup {
    PreEscaped(words::MARK.to_owned())
}

/// A page with head and navigation. `here` is the path of its place in the navigation.
pub async fn page(console: &Console, visitor: &Visitor, here: &str, title: &str, body: Markup) -> Page {
    let questions =
        console.control.read("list the questions", |c| approvals::list(c, true, QUESTIONS_MAX)).await?.len();
    let places = [("/", "Fleet"), ("/runs", "Runs"), ("/approvals", "Approvals"), ("/audit", "Audit")];
    let whole = html! {
        a.skip href="#main" { "Skip to content" }
        div.top { div {
            a.brand href="/" { (mark()) span { "Skerry" } }
            nav aria-label="Pages" #nav data-live {
                @for (path, name) in places {
                    a href=(path) aria-current=[(path == here).then_some("page")] {
                        (name)
                        @if path == "/approvals" && questions > 0 { span.count title="waiting" { (questions) } }
                    }
                }
            }
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
    Ok(document(title, &whole, true))
}

/// A word with a colour and a form: `good`, `wait`, `bad`, `sea` or nothing.
pub fn pill(kind: &str, word: &str) -> Markup {
    html! { span class=(format!("pill {kind}")) { (word) } }
}

/// A run's status as a pill.
pub fn status(word: &str) -> Markup {
    pill(words::status_class(word), word)
}

/// A node's link as a pill.
pub fn link(link: Link) -> Markup {
    match link {
        Link::Up(_) => pill("good", "connected"),
        Link::Down(_) => pill("wait", "cut off"),
        Link::Unknown => pill("", "not heard yet"),
    }
}

/// A node's health as a pill.
pub fn health(health: Health) -> Markup {
    match health {
        Health::Healthy => pill("good", "healthy"),
        Health::Degraded => pill("wait", "degraded"),
        Health::Failing => pill("bad", "failing"),
        Health::Starting => pill("sea", "starting"),
        Health::Unknown => pill("", "unknown"),
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
    html! { time datetime=(at) title=(at) { (words::age(at, clock::now())) } }
}

/// The first digits of a digest, with all of it to hover over.
pub fn digest(digest: Digest) -> Markup {
    html! { code title=(digest) { (digest.short()) } }
}

/// JSON as people read it.
pub fn pretty(value: &Value) -> Markup {
    html! { pre { (serde_json::to_string_pretty(value).unwrap_or_default()) } }
}

/// One archived entry as a step. `place` says where it was recorded, when a list mixes several.
pub fn step(entry: &store::ledger::Archived, place: bool) -> Markup {
    let Ok(known) = serde_json::from_value::<Entry>(entry.entry.clone()) else {
        return html! { li { div.head { strong { (entry.fact) } span.faint { "#" (entry.seq) } } (pretty(&entry.entry)) } };
    };
    let told = look::tell(&known);
    html! {
        li class=(told.tone.class()) {
            div.head {
                strong { (told.headline) }
                @if place { a.faint href=(format!("/nodes/{}", entry.node)) { (entry.node) } }
                @if let Some(task) = &known.task { span.faint.mono { (task) } }
                span.faint { "#" (entry.seq) }
                @if place { @if let Some(run) = entry.run { a.faint href=(format!("/runs/{}/{run}", entry.node)) { "run" } } }
                (when(entry.at))
            }
            @if !told.detail.is_empty() { p { (told.detail) } }
            @for (name, text) in &told.texts {
                details #(format!("entry-{}-{}-{name}", entry.node, entry.seq)) { summary { (name) } pre { (text) } }
            }
        }
    }
}
