//! The node's models behind OpenAI's HTTP API (`platform.openai.com/docs/api-reference`): chat completions and completions, streamed
//! or not, embeddings, and the list of models. Serves local models alone and sends nothing on; every call has policy's permit and
//! its entries in the ledger.

mod completions;
mod embeddings;
mod envelope;
mod fields;
mod gate;
mod request;

use std::{
    convert::Infallible,
    future::{Future, pending},
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request as HttpRequest, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use edge_core::{admit::Priority, engine::effect};
use futures::{StreamExt as _, future::BoxFuture};
use models::generate::{Answer, Request};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::{
    digest::Digest,
    policy::{Action, Permit},
    problem,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

pub use embeddings::{Embed, Embedding};
use envelope::{Envelope, Form};
use gate::{Admitted, Said};
pub use gate::{Decide, Gate, WORKFLOW};
use request::ChatRequest;

/// Takes each piece of text as it is written; `Break` ends the answer.
pub type OnText = Box<dyn FnMut(&str) -> ControlFlow<()> + Send>;
/// Asks the local model that the permit is for.
pub type Chat =
    Arc<dyn Fn(Permit, Request, OnText, Priority) -> BoxFuture<'static, Result<Answer, effect::Error>> + Send + Sync>;

/// What the endpoint needs of the node.
#[derive(Clone)]
pub struct Handles {
    /// The names of the chat models.
    pub models: Vec<String>,
    pub chat: Chat,
    pub embedder: Embedding,
    /// The embedder as policy and the ledger name it.
    pub embed_target: String,
    pub gate: Gate,
    /// The bearer token that callers must show; `None` for a listener that only the node itself reaches.
    pub key: Option<String>,
}

impl Handles {
    /// Of all models.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(String::as_str).chain([self.embedder.name.as_str()])
    }
}

/// As much text as a request of a workflow may have.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Seconds after which it may be asked again: a small model has answered one or two by then.
const RETRY_AFTER_S: u64 = 2;

/// A stream without an event for so long gets a comment: proxies give connections up that are silent for a minute.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// The routes under `/v1`.
pub fn router(handles: Handles) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/models", get(list))
        .route("/v1/models/{*name}", get(retrieve))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(handles.clone(), check_key))
        .with_state(handles)
}

/// An error as OpenAI's clients read it.
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    message: String,
}

impl Refusal {
    fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "invalid_request_error", code: None, message: message.into() }
    }

    fn no_model(kind: &str, asked: &str, there: &str) -> Self {
        let message = format!("no {kind} {asked:?} on this node; it has {there}");
        let (status, code) = (StatusCode::NOT_FOUND, Some("model_not_found"));
        Self { status, kind: "invalid_request_error", code, message }
    }

    /// A model that is larger than the memory of this node. Its status is none after which clients try again.
    fn too_large(message: &str) -> Self {
        Self { code: Some("model_too_large"), ..Self::invalid(format!("model: {message}")) }
    }

    /// A body that is longer than may be, or broke off.
    fn unread(rejection: &BytesRejection) -> Self {
        let status = rejection.status();
        let message = match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                format!("the request is too large: expected at most {BODY_BYTES_MAX} bytes")
            }
            _ => format!("the request cannot be read: {}", rejection.body_text()),
        };
        Self { status, kind: "invalid_request_error", code: None, message }
    }

    fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param(), "code": self.code}})
    }

    /// The field that the message begins with.
    fn param(&self) -> Option<&str> {
        let is_of_path = |c: char| c.is_ascii_alphanumeric() || "_.[]".contains(c);
        let (field, _) = self.message.split_once(": ").filter(|_| self.status == StatusCode::BAD_REQUEST)?;
        field.chars().all(is_of_path).then_some(field)
    }
}

impl From<effect::Error> for Refusal {
    fn from(error: effect::Error) -> Self {
        let message = error.detail.unwrap_or_default();
        match error.status {
            // Nothing else that a request meets is one of the configuration.
            400 if error.kind == effect::kind::CONFIGURATION.0 => Self::too_large(&message),
            400 => Self::invalid(message),
            413 => Self { code: Some("context_length_exceeded"), ..Self::invalid(message) },
            408 => Self { status: StatusCode::GATEWAY_TIMEOUT, kind: "timeout", code: None, message },
            // No place in the queue; no time, no memory, too hot: clients try again after a while.
            429 => {
                // As OpenAI tells of too many requests, and not of too many tokens.
                let (kind, code) = ("requests", Some("rate_limit_exceeded"));
                Self { status: StatusCode::TOO_MANY_REQUESTS, kind, code, message }
            }
            503 => {
                let (kind, code) = ("server_error", Some("overloaded"));
                Self { status: StatusCode::SERVICE_UNAVAILABLE, kind, code, message }
            }
            _ => Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "server_error", code: None, message },
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let passes = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status);
        let retry_after = passes.then_some([(header::RETRY_AFTER, RETRY_AFTER_S)]);
        (self.status, retry_after, axum::Json(self.body())).into_response()
    }
}

async fn check_key(State(handles): State<Handles>, request: HttpRequest, next: Next) -> Response {
    if is_of_another_page(request.headers()) {
        // Where no key is asked for, any page that a browser on this machine shows could use the models.
        let message =
            "this request comes from a page of another origin; only programs and this node's own pages may ask";
        let code = Some("foreign_origin");
        let (status, kind) = (StatusCode::FORBIDDEN, "permission_error");
        return Refusal { status, kind, code, message: message.to_owned() }.into_response();
    }
    let shown =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Digests, so that the time of the comparison tells nothing about the key.
    let fits = |key: &String| shown.is_some_and(|shown| Digest::of(shown.as_bytes()) == Digest::of(key.as_bytes()));
    if handles.key.as_ref().is_none_or(fits) {
        return next.run(request).await;
    }
    let message = "this key is not the one of the node; it stands in the node's configuration under [api]".to_owned();
    let code = Some("invalid_api_key");
    Refusal { status: StatusCode::UNAUTHORIZED, kind: "invalid_request_error", code, message }.into_response()
}

/// Browsers name the page that asks; programs name none.
fn is_of_another_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    origin.is_none() || origin != text(header::HOST)
}

async fn list(State(handles): State<Handles>) -> axum::Json<Value> {
    let models: Vec<Value> = handles.names().map(described).collect();
    axum::Json(json!({"object": "list", "data": models}))
}

/// Names have slashes in them.
async fn retrieve(State(handles): State<Handles>, Path(name): Path<String>) -> Result<axum::Json<Value>, Refusal> {
    let found = handles.names().find(|own| *own == name);
    let there = || handles.names().collect::<Vec<_>>().join(", ");
    found.map(|name| axum::Json(described(name))).ok_or_else(|| Refusal::no_model("model", &name, &there()))
}

fn described(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "node"})
}

async fn chat(State(handles): State<Handles>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let asked: ChatRequest = parse(body)?;
    let (stream, with_usage, priority) = (asked.is_streamed(), asked.wants_usage(), asked.priority()?);
    let envelope = Envelope::new(Form::Chat, known(&handles, &asked.model)?, with_usage);
    let asked = Asked { request: asked.into_request()?, priority };
    serve(handles, &headers, envelope, asked, stream).await
}

/// The name of a model of this node.
fn known(handles: &Handles, asked: &str) -> Result<String, Refusal> {
    let found = handles.models.iter().find(|name| **name == asked).cloned();
    found.ok_or_else(|| Refusal::no_model("chat model", asked, &handles.models.join(", ")))
}

/// Answers, if policy permits it.
async fn serve(
    handles: Handles,
    headers: &HeaderMap,
    envelope: Envelope,
    asked: Asked,
    stream: bool,
) -> Result<Response, Refusal> {
    let admitted = handles.gate.admit(Action::Infer, &envelope.model, headers).await?;
    if stream {
        return streamed(handles, admitted, envelope, asked).await;
    }
    let with_logprobs = asked.request.logprobs.is_some();
    let answer = whole(handles, admitted, asked).await?;
    Ok(axum::Json(envelope.whole(&answer, with_logprobs)).into_response())
}

/// What is asked of a model, and before whom.
struct Asked {
    request: Request,
    priority: Priority,
}

/// Asks the model and tells the ledger what became of it; the answer is given when that is durable. When the caller is `gone` before the
/// model says anything, the model is not asked any more; one that is writing stops at its next piece, and tells how far it came.
async fn ask(
    handles: &Handles,
    admitted: &Admitted,
    asked: Asked,
    mut on_text: OnText,
    gone: impl Future<Output = ()>,
) -> Result<Answer, Refusal> {
    let Asked { request, priority } = asked;
    let (began, messages, said) = (Instant::now(), gate::sent(&request.messages), Said::default());
    let heard = said.clone();
    let relay: OnText = Box::new(move |text| {
        heard.push(text);
        on_text(text)
    });
    let unheard = async {
        gone.await;
        if said.has_begun() {
            pending::<()>().await;
        }
    };
    let outcome = tokio::select! {
        outcome = (handles.chat)(admitted.permit.clone(), request, relay, priority) => outcome,
        () = unheard => Err(gate::nobody_waits()),
    };
    handles.gate.tell(admitted.chatted(&messages, &outcome, &said, began.elapsed())).await?;
    Ok(outcome?)
}

/// The whole answer. The task is its own, so that the ledger is told also when the caller goes away meanwhile.
async fn whole(handles: Handles, admitted: Admitted, asked: Asked) -> Result<Answer, Refusal> {
    let gone = CancellationToken::new();
    let _when_dropped = gone.clone().drop_guard();
    let left = gone.clone();
    let on_text: OnText = Box::new(move |_| match left.is_cancelled() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    let task = tokio::spawn(async move { ask(&handles, &admitted, asked, on_text, gone.cancelled()).await });
    task.await.map_err(|error| Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        kind: "server_error",
        code: None,
        message: format!("the call broke down: {error}"),
    })?
}

/// What the model's thread sends to the response.
enum Piece {
    /// The first may be empty: the model has begun.
    Text(String),
    End(Result<Answer, Refusal>),
}

/// Streams the answer, from when the model begins with the prompt. An error before that is an HTTP error; a later one is an event, as OpenAI
/// does it.
async fn streamed(handles: Handles, admitted: Admitted, envelope: Envelope, asked: Asked) -> Result<Response, Refusal> {
    // Without a bound of its own: an answer has one, and a reader who does not read must hold up no model.
    let (sender, receiver) = mpsc::unbounded_channel();
    let texts = sender.clone();
    let mut has_begun = false;
    let on_text: OnText = Box::new(move |text: &str| {
        // An empty piece only asks whether anybody still receives; the first says, too, that there will be an answer.
        let is_told = std::mem::replace(&mut has_begun, true) && text.is_empty();
        let is_read = if is_told { !texts.is_closed() } else { texts.send(Piece::Text(text.to_owned())).is_ok() };
        if is_read { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    tokio::spawn(async move {
        // Nobody may be there any more; the ledger was told.
        let outcome = ask(&handles, &admitted, asked, on_text, sender.closed()).await;
        drop(sender.send(Piece::End(outcome)));
    });
    let mut pieces = UnboundedReceiverStream::new(receiver);
    let first = match pieces.next().await {
        Some(Piece::End(Err(refusal))) => return Err(refusal),
        first => first,
    };
    let opening = envelope.opening();
    let body = futures::stream::iter(first).chain(pieces).flat_map(move |piece| {
        futures::stream::iter(match piece {
            Piece::Text(text) if text.is_empty() => Vec::new(),
            Piece::Text(text) => vec![envelope.piece(&text)],
            Piece::End(Ok(answer)) => envelope.end(&answer),
            Piece::End(Err(refusal)) => vec![refusal.body().to_string()],
        })
    });
    let events = futures::stream::iter(opening).chain(body);
    let events = events.map(|data| Ok::<_, Infallible>(Event::default().data(data)));
    // So that nothing between here and the reader takes a long prompt for a dead connection.
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response())
}

/// A seed for a request that has none.
fn chance() -> u64 {
    let bytes = crate::clock::seed();
    u64::from_le_bytes(std::array::from_fn(|at| bytes[at]))
}

/// What came with a request, or why it did not come whole.
type Body = Result<Bytes, BytesRejection>;

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| Refusal::unread(&rejection))?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|error| Refusal::invalid(format!("the request is no JSON: {}", problem::words::of_json(&error))))?;
    problem::yaml::decode(&value).map_err(|(path, _, message)| {
        let field = problem::dotted(&path);
        let message = message.strip_suffix(problem::yaml::DASHES).map_or_else(|| message.clone(), str::to_owned);
        Refusal::invalid(if field.is_empty() { message } else { format!("{field}: {message}") })
    })
}

#[cfg(test)]
mod tests;
