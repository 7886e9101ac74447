//! The node's models behind OpenAI's HTTP API (`platform.openai.com/docs/api-reference`): chat completions, streamed or not,
//! embeddings, and the list of models. Serves local models alone and sends nothing on; every call has policy's permit and
//! its entries in the ledger.

mod embeddings;
mod gate;
mod request;

use std::{convert::Infallible, ops::ControlFlow, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request as HttpRequest, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::{get, post},
};
use edge_core::engine::effect;
use futures::{StreamExt as _, future::BoxFuture};
use models::{
    embed::Embedder,
    generate::{Answer, Finish, Request, TokenLogprob},
};
use serde_json::{Value, json};
use shared::{
    digest::Digest,
    policy::{Action, Permit},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use gate::{Admitted, Said};
pub use gate::{Decide, Gate, WORKFLOW};
use request::ChatRequest;

/// Takes each piece of text as it is written; `Break` ends the answer.
pub type OnText = Box<dyn FnMut(&str) -> ControlFlow<()> + Send>;
/// Asks the local model that the permit is for.
pub type Chat = Arc<dyn Fn(Permit, Request, OnText) -> BoxFuture<'static, Result<Answer, effect::Error>> + Send + Sync>;

/// What the endpoint needs of the node.
#[derive(Clone)]
pub struct Handles {
    /// The names of the chat models.
    pub models: Vec<String>,
    pub chat: Chat,
    pub embedder: Arc<dyn Embedder>,
    /// The embedder as policy and the ledger name it.
    pub embed_target: String,
    pub gate: Gate,
    /// The bearer token that callers must show; `None` for a listener that only the node itself reaches.
    pub key: Option<String>,
}

/// As much text as a request of a workflow may have.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Pieces between the model's thread and the network; a reader that is slower than the model holds the model back.
const PIECES_MAX: usize = 64;

/// The routes under `/v1`.
pub fn router(handles: Handles) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/models", get(list))
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

    fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": null, "code": self.code}})
    }
}

impl From<effect::Error> for Refusal {
    fn from(error: effect::Error) -> Self {
        let message = error.detail.unwrap_or_default();
        match error.status {
            400 => Self::invalid(message),
            408 => Self { status: StatusCode::GATEWAY_TIMEOUT, kind: "timeout", code: None, message },
            _ => Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "server_error", code: None, message },
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.body())).into_response()
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
    let names = handles.models.iter().map(String::as_str).chain([handles.embedder.name()]);
    let models: Vec<Value> =
        names.map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "node"})).collect();
    axum::Json(json!({"object": "list", "data": models}))
}

/// Names the parts of every answer to one request.
struct Envelope {
    id: String,
    created: i64,
    model: String,
}

async fn chat(State(handles): State<Handles>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let asked: ChatRequest = parse(&body)?;
    let model = handles.models.iter().find(|name| **name == asked.model).cloned().ok_or_else(|| {
        let message = format!("no chat model {:?} on this node; it has {}", asked.model, handles.models.join(", "));
        let code = Some("model_not_found");
        Refusal { status: StatusCode::NOT_FOUND, kind: "invalid_request_error", code, message }
    })?;
    let (stream, with_usage) = (asked.stream, asked.wants_usage());
    let request = asked.into_request()?;
    let with_logprobs = request.logprobs.is_some();
    let admitted = handles.gate.admit(Action::Infer, &model, &headers).await?;
    let id = format!("chatcmpl-{}", hex::encode(crate::clock::seed()));
    let envelope = Envelope { id, created: crate::clock::now().as_millis() / 1_000, model };
    if stream {
        return streamed(handles, admitted, envelope, request, with_usage).await;
    }
    let answer = whole(handles, admitted, request).await?;
    let calls = tool_calls(&envelope.id, &answer);
    let Envelope { id, created, model } = envelope;
    let mut message = json!({"role": "assistant", "content": answer.text, "refusal": null});
    if !calls.is_empty() {
        message["content"] = if answer.text.is_empty() { Value::Null } else { json!(answer.text) };
        message["tool_calls"] = json!(calls);
    }
    let logprobs = with_logprobs.then(|| logprobs(&answer.logprobs));
    let choice = json!({"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish(&answer)});
    let body = json!({
        "id": id, "object": "chat.completion", "created": created, "model": model, "choices": [choice],
        "usage": usage(&answer),
    });
    Ok(axum::Json(body).into_response())
}

/// Asks the model and tells the ledger what became of it; the answer is given when that is durable.
async fn ask(handles: &Handles, admitted: &Admitted, request: Request, mut on_text: OnText) -> Result<Answer, Refusal> {
    let (began, messages, said) = (Instant::now(), gate::sent(&request.messages), Said::default());
    let heard = said.clone();
    let relay: OnText = Box::new(move |text| {
        heard.push(text);
        on_text(text)
    });
    let outcome = (handles.chat)(admitted.permit.clone(), request, relay).await;
    handles.gate.tell(admitted.chatted(&messages, &outcome, &said, began.elapsed())).await?;
    Ok(outcome?)
}

/// The whole answer. The task is its own, so that the ledger is told also when the caller goes away meanwhile; then the
/// model stops at its next piece.
async fn whole(handles: Handles, admitted: Admitted, request: Request) -> Result<Answer, Refusal> {
    let gone = CancellationToken::new();
    let _when_dropped = gone.clone().drop_guard();
    let on_text: OnText = Box::new(move |_| match gone.is_cancelled() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    let task = tokio::spawn(async move { ask(&handles, &admitted, request, on_text).await });
    task.await.map_err(|error| Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        kind: "server_error",
        code: None,
        message: format!("the call broke down: {error}"),
    })?
}

/// What the model's thread sends to the response.
enum Piece {
    Text(String),
    End(Result<Answer, Refusal>),
}

/// Streams the answer. An error before the first piece is an HTTP error; a later one is an event, as OpenAI does it.
async fn streamed(
    handles: Handles,
    admitted: Admitted,
    envelope: Envelope,
    request: Request,
    with_usage: bool,
) -> Result<Response, Refusal> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let texts = sender.clone();
    let on_text: OnText = Box::new(move |text: &str| {
        // Called on the model's own thread, so it may block. The reader has gone when nobody receives.
        match texts.blocking_send(Piece::Text(text.to_owned())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    tokio::spawn(async move {
        let end = Piece::End(ask(&handles, &admitted, request, on_text).await);
        drop(sender.send(end).await);
    });
    let mut pieces = ReceiverStream::new(receiver);
    let first = match pieces.next().await {
        Some(Piece::End(Err(refusal))) => return Err(refusal),
        first => first,
    };
    let opening = envelope.chunk(json!({"role": "assistant", "content": ""}), Value::Null);
    let body = futures::stream::iter(first).chain(pieces).flat_map(move |piece| {
        futures::stream::iter(match piece {
            Piece::Text(text) => vec![envelope.chunk(json!({ "content": text }), Value::Null)],
            Piece::End(Ok(answer)) => envelope.end(&answer, with_usage),
            Piece::End(Err(refusal)) => vec![refusal.body().to_string()],
        })
    });
    let events = futures::stream::iter([opening]).chain(body);
    let events = events.map(|data| Ok::<_, Infallible>(Event::default().data(data)));
    Ok(Sse::new(events).into_response())
}

impl Envelope {
    fn chunk(&self, delta: Value, finish_reason: Value) -> String {
        self.chunk_with(delta, Value::Null, finish_reason)
    }

    fn chunk_with(&self, delta: Value, logprobs: Value, finish_reason: Value) -> String {
        let choice = json!({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason});
        self.event(json!([choice]), Value::Null).to_string()
    }

    fn event(&self, choices: Value, usage: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices, "usage": usage,
        })
    }

    fn end(&self, answer: &Answer, with_usage: bool) -> Vec<String> {
        let mut events = Vec::new();
        if !answer.logprobs.is_empty() {
            // Text goes out when it is sure that no stop text begins in it, so its tokens' probabilities come together, after it.
            events.push(self.chunk_with(json!({"content": ""}), logprobs(&answer.logprobs), Value::Null));
        }
        let mut calls = tool_calls(&self.id, answer);
        if !calls.is_empty() {
            for (at, call) in calls.iter_mut().enumerate() {
                call["index"] = json!(at);
            }
            events.push(self.chunk(json!({ "tool_calls": calls }), Value::Null));
        }
        events.push(self.chunk(json!({}), finish(answer).into()));
        if with_usage {
            events.push(self.event(json!([]), usage(answer)).to_string());
        }
        events.push("[DONE]".to_owned());
        events
    }
}

fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Length => "length",
        _ if !answer.calls.is_empty() => "tool_calls",
        Finish::Stop | Finish::Cancelled => "stop",
    }
}

fn tool_calls(id: &str, answer: &Answer) -> Vec<Value> {
    let call = |(at, call): (usize, &models::generate::ToolCall)| {
        let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
        json!({"id": format!("call_{id}_{at}"), "type": "function", "function": function})
    };
    answer.calls.iter().enumerate().map(call).collect()
}

fn logprobs(tokens: &[TokenLogprob]) -> Value {
    let told = |bytes: &[u8], logprob: f32| json!({"token": String::from_utf8_lossy(bytes), "bytes": bytes, "logprob": logprob});
    let token = |token: &TokenLogprob| {
        let mut own = told(&token.bytes, token.logprob);
        own["top_logprobs"] = token.top.iter().map(|(bytes, logprob)| told(bytes, *logprob)).collect();
        own
    };
    json!({"content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null})
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.tokens_in,
        "completion_tokens": answer.tokens_out,
        "total_tokens": answer.tokens_in + answer.tokens_out,
    })
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(format!("the request cannot be read: {error}")))
}

#[cfg(test)]
mod tests;
