//! What every page is made of.

use axum::http::StatusCode;
use maud::{Markup, html};
pub use shared::look::parts::{health, mark, pill, plain, proposal, status, summary, tile};
use shared::{
    label::Label,
    look::{
        self,
        parts::{document, navigation},
        words,
    },
    time::Timestamp,
};

use super::super::{Server, auth::Session, live::Link};
use crate::{
    clock,
    store::{self, runs},
};

/// Where the navigation leads.
const PAGES: [(&str, &str); 5] =
    [("/", "Status"), ("/feeds", "Feeds"), ("/runs", "Runs"), ("/approvals", "Approvals"), ("/ledger", "Ledger")];

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

/// A page with head and navigation. `here` is the path of its place in the navigation.
pub async fn page(
    server: &Server,
    session: &Session,
    here: &str,
    title: &str,
    body: Markup,
) -> Result<Markup, Unreadable> {
    let waiting = server.handles.store.read("list the open questions", runs::approvals_pending).await?.len();
    let head = html! {
        a.skip href="#main" { "Skip to content" }
        div.top { div {
            a.brand href="/" { (mark()) span { (server.handles.node) " " small { (server.handles.jurisdiction) } } }
            (navigation(&PAGES, here, waiting))
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
    Ok(document(title, Some("/events"), &head))
}

fn link(link: Link) -> Markup {
    match link {
        Link::None => pill("", "on its own"),
        Link::Up { .. } => pill("good", "uplink up"),
        Link::Down { .. } => pill("wait", "uplink down"),
    }
}

/// A label in words.
pub fn label(label: &Label) -> Markup {
    html! { span.soft { (words::label(label)) } }
}

/// An instant, as an age when it is near.
pub fn when(at: Timestamp) -> Markup {
    look::parts::when(at, clock::now())
}
