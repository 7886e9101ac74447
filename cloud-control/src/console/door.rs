//! Logging in with an operator's secret, and out. A session is a cookie that no other page can use (`SameSite=Strict`);
//! every form carries the session's own secret besides.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Extension, Form,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;
use shared::{digest::Digest, time::Timestamp};

use super::{Console, Shared, parts};
use crate::{
    clock,
    store::operators::{self, Operator},
};

/// Browsers logged in at once; beyond it the oldest must log in again.
const SESSIONS_MAX: usize = 1_000;
/// A working day with a handover.
const SESSION_S: u64 = 12 * 3_600;
const COOKIE: &str = "skerry-console";

struct Session {
    /// The digest of the cookie's value, so that looking one up takes as long for every guess.
    id: Digest,
    form: String,
    operator: String,
    ends: Timestamp,
}

/// The browsers that are logged in. Kept in memory: a restart asks for the secret again.
#[derive(Default)]
pub(super) struct Sessions(Mutex<VecDeque<Session>>);

/// The operator behind a request, and what their forms must carry.
#[derive(Clone)]
pub(super) struct Visitor {
    pub operator: Operator,
    pub form: String,
    id: Digest,
}

impl Visitor {
    /// Whether a form was made for this session.
    pub fn owns(&self, form: &str) -> bool {
        Digest::of(form.as_bytes()) == Digest::of(self.form.as_bytes())
    }
}

impl Sessions {
    /// A new session; the text is the cookie to set.
    fn begin(&self, operator: &str) -> String {
        let id = clock::secret();
        let cookie = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SESSION_S}");
        let session = Session {
            id: Digest::of(id.as_bytes()),
            form: clock::secret(),
            operator: operator.to_owned(),
            ends: clock::now().plus(Duration::from_secs(SESSION_S)),
        };
        let mut sessions = self.0.lock().expect("no thread panicked with the sessions");
        if sessions.len() == SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(session);
        cookie
    }

    /// The operator's name, the form's secret and the id of the session that the cookie names.
    fn of(&self, headers: &HeaderMap) -> Option<(String, String, Digest)> {
        let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
        let id = cookies.split(';').find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
        let (id, now) = (Digest::of(id.as_bytes()), clock::now());
        let mut sessions = self.0.lock().expect("no thread panicked with the sessions");
        sessions.retain(|session| session.ends > now);
        let session = sessions.iter().find(|session| session.id == id)?;
        Some((session.operator.clone(), session.form.clone(), id))
    }

    fn end(&self, id: Digest) {
        self.0.lock().expect("no thread panicked with the sessions").retain(|session| session.id != id);
    }
}

#[derive(Deserialize)]
pub(super) struct Key {
    secret: String,
}

#[derive(Deserialize)]
pub(super) struct Leaving {
    form: String,
}

pub(super) async fn show() -> Markup {
    door(None)
}

fn door(refused: Option<&str>) -> Markup {
    let body = html! {
        div.door {
            div.brand { (parts::mark()) span { "Skerry console" } }
            form.sheet method="post" action="/login" { div.pad {
                @if let Some(reason) = refused { p.note.bad role="alert" { (reason) } }
                p.soft { "Log in with your operator secret. The first start of the control plane printed the one of " code { "admin" } "." }
                label for="secret" { "Operator secret" }
                input #secret type="password" name="secret" autocomplete="current-password" required autofocus;
                button { "Log in" }
            } }
        }
    };
    parts::plain("Log in", &body)
}

pub(super) async fn enter(State(console): Shared, Form(key): Form<Key>) -> Response {
    match console.control.login(&key.secret).await {
        Ok(Some(operator)) => {
            ([(header::SET_COOKIE, console.sessions.begin(&operator.name))], Redirect::to("/")).into_response()
        }
        Ok(None) => {
            // Guessing 256 bits is hopeless; the pause keeps a careless script from filling the log.
            tokio::time::sleep(Duration::from_millis(400)).await;
            (StatusCode::UNAUTHORIZED, door(Some("This is no operator's secret."))).into_response()
        }
        Err(error) => parts::Failed::from(error).into_response(),
    }
}

pub(super) async fn leave(
    State(console): Shared,
    Extension(visitor): Extension<Visitor>,
    Form(leaving): Form<Leaving>,
) -> Response {
    if !visitor.owns(&leaving.form) {
        return foreign();
    }
    console.sessions.end(visitor.id);
    Redirect::to("/login").into_response()
}

/// The answer to a form that another page made.
pub(super) fn foreign() -> Response {
    let body =
        html! { p.note.bad { "This form was not made for your session. Go back, reload the page and try again." } };
    (StatusCode::FORBIDDEN, parts::plain("Refused", &body)).into_response()
}

/// Lets an operator pass who is logged in and still one; the page finds the `Visitor` among the extensions.
pub(super) async fn require_session(State(console): State<Arc<Console>>, mut request: Request, next: Next) -> Response {
    let page = request.method() == Method::GET && request.uri().path() != "/events";
    let stranger = || {
        if page {
            return Redirect::to("/login").into_response();
        }
        (StatusCode::UNAUTHORIZED, "log in first").into_response()
    };
    let Some((name, form, id)) = console.sessions.of(request.headers()) else { return stranger() };
    // Asked each time: an operator who was removed is out with the next click.
    match console.control.read("look the operator up", move |c| operators::get(c, &name)).await {
        Ok(Some(operator)) => {
            request.extensions_mut().insert(Visitor { operator, form, id });
            next.run(request).await
        }
        Ok(None) => stranger(),
        Err(error) => parts::Failed::from(error).into_response(),
    }
}
