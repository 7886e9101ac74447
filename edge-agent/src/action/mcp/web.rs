//! The transport over HTTP ("Streamable HTTP"): a request is a POST, its answer JSON or a stream of events.

use std::sync::atomic::{AtomicU64, Ordering};

use edge_core::engine::effect::Failure;
use eventsource_stream::Eventsource as _;
use futures::StreamExt as _;
use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use shared::digest::Digest;

use super::{
    super::{
        errand::{Errand, scalar},
        http::causes,
    },
    Error, MESSAGE_BYTES_MAX, Web,
    message::{self, Heard},
};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Of an error's body in the error's detail.
const SAID_CHARS_MAX: usize = 300;

/// Where a server is, and what it wants to see of us.
pub(super) struct Door {
    url: Url,
    headers: HeaderMap,
    client: reqwest::Client,
}

/// A session with a server. Several calls may use it at once.
pub(super) struct Session {
    id: Option<HeaderValue>,
    version: HeaderValue,
    next: AtomicU64,
}

impl Door {
    pub(super) async fn new(errand: &Errand<'_>, url: Url, web: &Web) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in web.headers.iter().flatten() {
            let bad = || errand.wrong("transport.http.headers", &format!("{name}: not a header and its text"));
            let value = scalar(value).and_then(|text| HeaderValue::from_str(&text).ok()).ok_or_else(bad)?;
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
        }
        if let Some(authentication) = web.endpoint.authentication(errand)? {
            headers.insert(AUTHORIZATION, authentication.only_header(errand).await?);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let url = errand.ways.hosts.reach(&url, &mut headers);
        Ok(Self { url, headers, client: errand.ways.http().direct().clone() })
    }

    /// What tells this door from others: a session is not shared between two that show different headers.
    pub(super) fn digest(&self, hello: &Value) -> Digest {
        Digest::of(format!("{} {:?} {hello}", self.url, self.headers).as_bytes())
    }

    /// Opens a session.
    pub(super) async fn open(&self, hello: &Value) -> Result<Session, Error> {
        let response = self.post(None, &message::request(0, "initialize", hello)).await?;
        let id = response.headers().get(SESSION).cloned();
        let version = message::version(&self.answer(None, response, 0).await?)?;
        let version = HeaderValue::from_str(&version).map_err(|error| Error::Nonsense(error.to_string()))?;
        let session = Session { id, version, next: AtomicU64::new(1) };
        self.post(Some(&session), &message::initialized()).await?;
        Ok(session)
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, session: &Session, method: &str, parameters: &Value) -> Result<Value, Error> {
        let id = session.next.fetch_add(1, Ordering::Relaxed);
        let response = self.post(Some(session), &message::request(id, method, parameters)).await?;
        self.answer(Some(session), response, id).await
    }

    async fn post(&self, session: Option<&Session>, message: &Value) -> Result<Response, Error> {
        let mut headers = self.headers.clone();
        if let Some(Session { id, version, .. }) = session {
            headers.insert(PROTOCOL, version.clone());
            headers.extend(id.iter().map(|id| (SESSION, id.clone())));
        }
        let request = self.client.post(self.url.clone()).headers(headers).body(message.to_string());
        let response = request.send().await.map_err(|error| Error::Unreachable(causes(&error)))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND if session.is_some_and(|session| session.id.is_some()) => Err(Error::Forgotten),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(Error::Denied(status)),
            status => {
                let said = String::from_utf8_lossy(&whole(response).await?).chars().take(SAID_CHARS_MAX).collect();
                Err(Error::Status(status, said))
            }
        }
    }

    /// The answer to request `id`, in one piece or among events.
    async fn answer(&self, session: Option<&Session>, response: Response, id: u64) -> Result<Value, Error> {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        if !kind.starts_with("text/event-stream") {
            let message: Value = serde_json::from_slice(&whole(response).await?)
                .map_err(|error| Error::Nonsense(format!("{kind:?} that is no JSON: {error}")))?;
            return match message::hear(&message, id) {
                Heard::Answer(answer) => answer,
                _ => Err(Error::Nonsense("an answer to something else".to_owned())),
            };
        }
        let mut heard = 0;
        let bytes = response.bytes_stream().map(|chunk| match chunk {
            Ok(chunk) => {
                heard += chunk.len();
                if heard > MESSAGE_BYTES_MAX { Err(too_long()) } else { Ok(chunk) }
            }
            Err(error) => Err(Error::Unreachable(causes(&error))),
        });
        let mut events = std::pin::pin!(bytes.eventsource());
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| match error {
                eventsource_stream::EventStreamError::Transport(error) => error,
                other => Error::Nonsense(other.to_string()),
            })?;
            // An event without data keeps the connection alive.
            let Ok(message) = serde_json::from_str::<Value>(&event.data) else { continue };
            match message::hear(&message, id) {
                Heard::Answer(answer) => return answer,
                Heard::Question(reply) => drop(Box::pin(self.post(session, &reply)).await?),
                Heard::Other => {}
            }
        }
        Err(Error::Nonsense("the stream ended before the answer".to_owned()))
    }
}

async fn whole(response: Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|error| Error::Unreachable(causes(&error)))?);
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(too_long());
        }
    }
    Ok(body)
}

fn too_long() -> Error {
    Error::Nonsense(format!("an answer of more than {MESSAGE_BYTES_MAX} bytes"))
}
