//! What every page is made of.

use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use shared::{label::Label, look::words, time::Timestamp};

use super::super::{Server, auth::Session, live::Link};
use crate::{
    clock,
    store::{self, runs},
};

impl From<store::Error> for Unreadable {
    fn from(error: store::Error) -> Self {
        Self(error)
    }
}

/// The store did not answer.
pub struct Unreadable(store::Error);

impl axum::response::IntoResponse for Unreadable {
    fn into_response(self) -> axum::response::Response {
        let page = plain("Out of order", &html! { p.note.bad { "The node " (self.0) "." } });
        (StatusCode::SERVICE_UNAVAILABLE, page).into_response()
    }
}

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
pub async fn page(
    server: &Server,
    session: &Session,
    here: &str,
    title: &str,
    body: Markup,
) -> Result<Markup, Unreadable> {
    let waiting = server.handles.store.read("list the open questions", runs::approvals_pending).await?.len();
    let places =
        [("/", "Status"), ("/feeds", "Feeds"), ("/runs", "Runs"), ("/approvals", "Approvals"), ("/ledger", "Ledger")];
    let head = html! {
        a.skip href="#main" { "Skip to content" }
        div.top { div {
            a.brand href="/" { (mark()) span { (server.handles.node) " " small { (server.handles.jurisdiction) } } }
            nav aria-label="Pages" #nav data-live {
                @for (path, name) in places {
                    a href=(path) aria-current=[(path == here).then_some("page")] {
                        (name)
                        @if path == "/approvals" && waiting > 0 { span.count title="waiting" { (waiting) } }
                    }
                }
            }
            div.end {
                span #link data-live { (link((server.handles.live)().link)) }
                span #live role="status" { "not live" }
                form method="post" action="/logout" {
                    input type="hidden" name="form" value=(session.form);
                    button.plain { "Log out" }
                }
            }
        } }
        main #main { (body) }
    };
    Ok(document(title, &head, true))
}

fn link(link: Link) -> Markup {
    match link {
        Link::None => pill("", "on its own"),
        Link::Up { .. } => pill("good", "uplink up"),
        Link::Down { .. } => pill("wait", "uplink down"),
    }
}

/// A word with a colour and a form: `good`, `wait`, `bad`, `sea` or nothing.
pub fn pill(kind: &str, word: &str) -> Markup {
    html! { span class=(format!("pill {kind}")) { (word) } }
}

/// A run's status as a pill.
pub fn status(word: &str) -> Markup {
    pill(words::status_class(word), word)
}

/// A label in words.
pub fn label(label: &Label) -> Markup {
    html! { span.soft { (words::label(label)) } }
}

/// An instant, as an age when it is near.
pub fn when(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (words::age(at, clock::now())) } }
}

/// JSON as people read it.
pub fn pretty(value: &serde_json::Value) -> Markup {
    html! { pre { (serde_json::to_string_pretty(value).unwrap_or_default()) } }
}
