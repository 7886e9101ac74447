//! Logging in with the local token, and out.

use std::sync::Arc;

use axum::{
    Extension, Form,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::parts;
use crate::api::{Server, Shared, auth::Session};

#[derive(Deserialize)]
pub(super) struct Key {
    token: String,
}

/// The secret that every form carries.
#[derive(Deserialize)]
pub(super) struct Leaving {
    form: String,
}

pub(super) async fn show(State(server): Shared) -> Markup {
    door(&server, None)
}

fn door(server: &Server, refused: Option<&str>) -> Markup {
    let body = html! {
        div.door {
            div.brand { (parts::mark()) span { (server.handles.node) } }
            form.sheet method="post" action="/login" { div.pad {
                @if let Some(reason) = refused { p.note.bad role="alert" { (reason) } }
                p.soft { "The local page of this node asks for its token: the text in the file " code { "local-token" }
                    " in the node's data folder." }
                label for="token" { "Local token" }
                input #token type="password" name="token" autocomplete="current-password" required autofocus;
                button { "Log in" }
            } }
        }
    };
    parts::plain(&format!("Log in to {}", server.handles.node), &body)
}

pub(super) async fn enter(State(server): Shared, Form(key): Form<Key>) -> Response {
    if !server.handles.token.is(key.token.trim()) {
        // Guessing 256 bits is hopeless; the pause keeps a careless script from filling the log.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        return (StatusCode::UNAUTHORIZED, door(&server, Some("This is not the token of this node."))).into_response();
    }
    ([(header::SET_COOKIE, server.sessions.begin())], Redirect::to("/")).into_response()
}

pub(super) async fn leave(
    State(server): Shared,
    Extension(session): Extension<Session>,
    Form(leaving): Form<Leaving>,
) -> Response {
    if !session.owns(&leaving.form) {
        return foreign();
    }
    server.sessions.end(&session);
    Redirect::to("/login").into_response()
}

/// The answer to a form that another page made.
pub(super) fn foreign() -> Response {
    let body =
        html! { p.note.bad { "This form was not made for your session. Go back, reload the page and try again." } };
    (StatusCode::FORBIDDEN, parts::plain("Refused", &body)).into_response()
}

/// Lets a browser pass that is logged in; the page finds its `Session` among the extensions.
pub(super) async fn require_session(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    match server.sessions.of(request.headers()) {
        Some(session) => {
            request.extensions_mut().insert(session);
            next.run(request).await
        }
        None if request.method() == Method::GET && request.uri().path() != "/events" => {
            Redirect::to("/login").into_response()
        }
        None => (StatusCode::UNAUTHORIZED, "log in first").into_response(),
    }
}
