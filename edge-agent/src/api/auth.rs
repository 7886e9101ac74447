//! Who may look: the bearer of the local token, or a browser that logged in with it.
//!
//! The token is made at the first start and lies in `<data_dir>/local-token`, readable by the agent's user alone. A login
//! gives a session cookie that a page elsewhere cannot use (`SameSite=Strict`), and every form carries the session's own
//! secret besides.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use private::Origin;
use sha2::{Digest as _, Sha256};

use super::Server;
use crate::clock;

/// Browsers logged in at once; beyond it the oldest must log in again.
const SESSIONS_MAX: usize = 64;
/// A working day with a handover.
const SESSION_S: u64 = 12 * 3_600;
const COOKIE: &str = "skerry-session";

/// The secret that opens this node's pages and admin API.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// Reads the token, making it if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written, or others may read it.
    pub fn load_or_create(path: &Path) -> anyhow::Result<Self> {
        match private::read(path, Origin::Own) {
            Ok(text) if !text.trim().is_empty() => return Ok(Self(text.trim().into())),
            Ok(_) => {}
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error.into()),
        }
        let text = format!("skl_{}", random());
        private::write(path, format!("{text}\n").as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(text.into()))
    }

    pub(super) fn is(&self, given: &str) -> bool {
        same(given, &self.0)
    }
}

/// Compares by digest, so that the time it takes tells nothing of where two texts differ.
fn same(a: &str, b: &str) -> bool {
    Sha256::digest(a.as_bytes()) == Sha256::digest(b.as_bytes())
}

fn random() -> String {
    hex::encode([clock::seed(), clock::seed()].concat())
}

/// A browser that logged in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    id: String,
    /// What every form must send back.
    pub form: String,
    ends: shared::time::Timestamp,
}

/// The browsers that are logged in. Kept in memory: a restart asks for the token again.
#[derive(Default)]
pub(super) struct Sessions(Mutex<VecDeque<Session>>);

impl Sessions {
    /// A new session; the text is the cookie to set.
    pub fn begin(&self) -> String {
        let ends = clock::now().plus(std::time::Duration::from_secs(SESSION_S));
        let session = Session { id: random(), form: random(), ends };
        let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SESSION_S}", session.id);
        let mut sessions = self.0.lock().expect("no thread panicked with the sessions");
        if sessions.len() == SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(session);
        cookie
    }

    /// The session that the cookie names.
    pub fn of(&self, headers: &HeaderMap) -> Option<Session> {
        let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
        let id = cookies.split(';').find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
        let now = clock::now();
        let mut sessions = self.0.lock().expect("no thread panicked with the sessions");
        sessions.retain(|session| session.ends > now);
        sessions.iter().find(|session| same(&session.id, id)).cloned()
    }

    pub fn end(&self, session: &Session) {
        self.0.lock().expect("no thread panicked with the sessions").retain(|other| other.id != session.id);
    }
}

impl Session {
    /// Whether a form was made for this session.
    pub fn owns(&self, form: &str) -> bool {
        same(&self.form, form)
    }
}

/// Lets a request pass whose bearer token is this node's.
pub(super) async fn require_token(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match given.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) if server.handles.token.is(token) => next.run(request).await,
        Some(_) => refuse("this is not the token in local-token of this node's data folder"),
        None => refuse("expected `authorization: Bearer` with the token in local-token of this node's data folder"),
    }
}

impl Server {
    /// Whether what is open on loopback is open to this request: on loopback, or with the token or the endpoint's key.
    pub(super) fn is_trusted(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let fits = |given: &str| {
            self.handles.token.is(given) || self.handles.key.as_deref().is_some_and(|key| same(given, key))
        };
        !self.handles.exposed || given.is_some_and(fits)
    }
}

pub(super) fn refuse(reason: &str) -> Response {
    let body = axum::Json(serde_json::json!({"error": reason, "code": "unauthorized"}));
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], body).into_response()
}
