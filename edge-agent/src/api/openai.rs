//! The node's models behind OpenAI's HTTP API (`platform.openai.com/docs/api-reference`): chat completions, streamed or not,
//! embeddings, and the list of models. Serves local models alone and sends nothing on.

use std::{convert::Infallible, ops::ControlFlow, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request as HttpRequest, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_core::engine::effect;
use futures::{StreamExt as _, future::BoxFuture};
use models::{
    embed::Embedder,
    generate::{Answer, Finish, Message, Request, Role},
};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::digest::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Takes each piece of text as it is written; `Break` ends the answer.
pub type OnText = Box<dyn FnMut(&str) -> ControlFlow<()> + Send>;
/// Asks a local model by name.
pub type Chat = Arc<dyn Fn(String, Request, OnText) -> BoxFuture<'static, Result<Answer, effect::Error>> + Send + Sync>;

/// What the endpoint needs of the node.
#[derive(Clone)]
pub struct Handles {
    /// The names of the chat models.
    pub models: Vec<String>,
    pub chat: Chat,
    pub embedder: Arc<dyn Embedder>,
    /// The bearer token that callers must show; `None` for a listener that only the node itself reaches.
    pub key: Option<String>,
}

/// As much text as a request of a workflow may have.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Pieces between the model's thread and the network; a reader that is slower than the model holds the model back.
const PIECES_MAX: usize = 64;
const MAX_TOKENS: usize = 1_024;
const EMBED_TEXTS_MAX: usize = 2_048;
/// Texts that are embedded in one go, so that one large request does not hold a thread for minutes without a look.
const EMBED_BATCH_LEN: usize = 32;

/// The routes under `/v1`.
pub fn router(handles: Handles) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embeddings))
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
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Digests, so that the time of the comparison tells nothing about the key.
    let fits = |key: &String| shown.is_some_and(|shown| Digest::of(shown.as_bytes()) == Digest::of(key.as_bytes()));
    if handles.key.as_ref().is_none_or(fits) {
        return next.run(request).await;
    }
    let message = "this key is not the one of the node; it stands in the node's configuration under [api]".to_owned();
    let code = Some("invalid_api_key");
    Refusal { status: StatusCode::UNAUTHORIZED, kind: "invalid_request_error", code, message }.into_response()
}

async fn list(State(handles): State<Handles>) -> axum::Json<Value> {
    let names = handles.models.iter().map(String::as_str).chain([handles.embedder.name()]);
    let models: Vec<Value> =
        names.map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "node"})).collect();
    axum::Json(json!({"object": "list", "data": models}))
}

/// What of a chat request this endpoint looks at; other fields are the client's affair.
#[derive(Deserialize)]
struct ChatRequest {
    model: String,
    messages: Vec<ChatMessage>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    n: Option<u32>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    response_format: Option<ResponseFormat>,
    tools: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    content: Option<MessageContent>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MessageContent {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: NamedSchema },
}

#[derive(Deserialize)]
struct NamedSchema {
    schema: Option<Value>,
}

/// Names the parts of every answer to one request.
struct Envelope {
    id: String,
    created: i64,
    model: String,
}

async fn chat(State(handles): State<Handles>, body: Bytes) -> Result<Response, Refusal> {
    let asked: ChatRequest = parse(&body)?;
    let model = handles.models.iter().find(|name| **name == asked.model).cloned().ok_or_else(|| {
        let message = format!("no chat model {:?} on this node; it has {}", asked.model, handles.models.join(", "));
        let code = Some("model_not_found");
        Refusal { status: StatusCode::NOT_FOUND, kind: "invalid_request_error", code, message }
    })?;
    let (stream, with_usage) = (asked.stream, asked.stream_options.as_ref().is_some_and(|o| o.include_usage));
    let request = asked.into_request()?;
    let id = format!("chatcmpl-{}", hex::encode(crate::clock::seed()));
    let envelope = Envelope { id, created: crate::clock::now().as_millis() / 1_000, model: model.clone() };
    if stream {
        return streamed(&handles, envelope, request, with_usage).await;
    }
    let answer = (handles.chat)(model, request, Box::new(|_| ControlFlow::Continue(()))).await?;
    let Envelope { id, created, model } = envelope;
    let choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "refusal": null},
        "logprobs": null,
        "finish_reason": finish(answer.finish),
    });
    let body = json!({
        "id": id, "object": "chat.completion", "created": created, "model": model, "choices": [choice],
        "usage": usage(&answer),
    });
    Ok(axum::Json(body).into_response())
}

impl ChatRequest {
    fn into_request(self) -> Result<Request, Refusal> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(Refusal::invalid("n: a local model gives one answer"));
        }
        if self.tools.is_some_and(|tools| !tools.is_empty()) {
            return Err(Refusal::invalid("tools: local models call none; use a workflow"));
        }
        let messages: Vec<Message> =
            self.messages.into_iter().enumerate().map(|(at, message)| message.parse(at)).collect::<Result<_, _>>()?;
        if !messages.iter().any(|message| message.role == Role::User) {
            return Err(Refusal::invalid("messages: expected at least one by the user"));
        }
        let schema = match self.response_format {
            None | Some(ResponseFormat::Text) => None,
            Some(ResponseFormat::JsonObject) => Some(json!({"type": "object"})),
            Some(ResponseFormat::JsonSchema { json_schema }) => {
                let schema = json_schema.schema.unwrap_or_else(|| json!({"type": "object"}));
                let wrong =
                    |error| Refusal::invalid(format!("response_format.json_schema.schema: not a JSON schema: {error}"));
                jsonschema::validator_for(&schema).map_err(wrong)?;
                Some(schema)
            }
        };
        let defaults = Request::default();
        Ok(Request {
            messages,
            max_tokens: self.max_completion_tokens.or(self.max_tokens).unwrap_or(MAX_TOKENS),
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            seed: self.seed.map_or(defaults.seed, i64::cast_unsigned),
            stop: self.stop.map_or_else(Vec::new, OneOrMany::into_list),
            schema,
            ..defaults
        })
    }
}

impl ChatMessage {
    fn parse(self, at: usize) -> Result<Message, Refusal> {
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let expected = "expected system, developer, user or assistant";
                return Err(Refusal::invalid(format!("messages[{at}].role: {other:?}; {expected}")));
            }
        };
        let content = match self.content {
            None => String::new(),
            Some(MessageContent::Text(text)) => text,
            Some(MessageContent::Parts(parts)) => {
                let texts = parts.into_iter().map(|part| part.text.filter(|_| part.kind == "text"));
                let texts: Option<Vec<String>> = texts.collect();
                let expected = || Refusal::invalid(format!("messages[{at}].content: a local model reads text alone"));
                texts.ok_or_else(expected)?.join("\n")
            }
        };
        Ok(Message { role, content })
    }
}

impl OneOrMany {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// What the model's thread sends to the response.
enum Piece {
    Text(String),
    End(Result<Answer, effect::Error>),
}

/// Streams the answer. An error before the first piece is an HTTP error; a later one is an event, as OpenAI does it.
async fn streamed(
    handles: &Handles,
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
    let answer = (handles.chat)(envelope.model.clone(), request, on_text);
    tokio::spawn(async move {
        let end = Piece::End(answer.await);
        drop(sender.send(end).await);
    });
    let mut pieces = ReceiverStream::new(receiver);
    let first = match pieces.next().await {
        Some(Piece::End(Err(error))) => return Err(error.into()),
        first => first,
    };
    let opening = envelope.chunk(json!({"role": "assistant", "content": ""}), Value::Null);
    let body = futures::stream::iter(first).chain(pieces).flat_map(move |piece| {
        futures::stream::iter(match piece {
            Piece::Text(text) => vec![envelope.chunk(json!({ "content": text }), Value::Null)],
            Piece::End(Ok(answer)) => envelope.end(&answer, with_usage),
            Piece::End(Err(error)) => vec![Refusal::from(error).body().to_string()],
        })
    });
    let events = futures::stream::iter([opening]).chain(body);
    let events = events.map(|data| Ok::<_, Infallible>(Event::default().data(data)));
    Ok(Sse::new(events).into_response())
}

impl Envelope {
    fn chunk(&self, delta: Value, finish_reason: Value) -> String {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        self.event(json!([choice]), Value::Null).to_string()
    }

    fn event(&self, choices: Value, usage: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices, "usage": usage,
        })
    }

    fn end(&self, answer: &Answer, with_usage: bool) -> Vec<String> {
        let mut events = vec![self.chunk(json!({}), finish(answer.finish).into())];
        if with_usage {
            events.push(self.event(json!([]), usage(answer)).to_string());
        }
        events.push("[DONE]".to_owned());
        events
    }
}

const fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Cancelled => "stop",
        Finish::Length => "length",
    }
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.tokens_in,
        "completion_tokens": answer.tokens_out,
        "total_tokens": answer.tokens_in + answer.tokens_out,
    })
}

#[derive(Deserialize)]
struct EmbeddingRequest {
    input: Input,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts (lists of tokens are not read)")]
enum Input {
    One(String),
    Many(Vec<String>),
}

async fn embeddings(State(handles): State<Handles>, body: Bytes) -> Result<axum::Json<Value>, Refusal> {
    let asked: EmbeddingRequest = parse(&body)?;
    let texts = match asked.input {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
    };
    if !(1..=EMBED_TEXTS_MAX).contains(&texts.len()) {
        return Err(Refusal::invalid(format!("input: {} texts; expected 1 to {EMBED_TEXTS_MAX}", texts.len())));
    }
    let dimensions = handles.embedder.dimensions();
    if asked.dimensions.is_some_and(|asked| asked != dimensions) {
        return Err(Refusal::invalid(format!("dimensions: this node's embedder makes vectors of {dimensions}")));
    }
    let in_base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(Refusal::invalid(format!("encoding_format: {other:?}; expected float or base64"))),
    };
    let embedder = Arc::clone(&handles.embedder);
    let words: usize = texts.iter().map(|text| text.split_whitespace().count()).sum();
    let embed = move || -> Result<Vec<Vec<f32>>, models::Error> {
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(EMBED_BATCH_LEN) {
            vectors.extend(embedder.embed(&batch.iter().map(String::as_str).collect::<Vec<_>>())?);
        }
        Ok(vectors)
    };
    let failed = |message: String| Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        kind: "server_error",
        code: None,
        message,
    };
    let vectors = tokio::task::spawn_blocking(embed).await.map_err(|error| failed(error.to_string()))?;
    let vectors = vectors.map_err(|error| failed(error.to_string()))?;
    let encode = |vector: &[f32]| match in_base64 {
        true => STANDARD.encode(vector.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()).into(),
        false => json!(vector),
    };
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": encode(vector)}))
        .collect();
    Ok(axum::Json(json!({
        "object": "list", "data": data, "model": handles.embedder.name(),
        // In words: the embedder does not say how many tokens it read.
        "usage": {"prompt_tokens": words, "total_tokens": words},
    })))
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(format!("the request cannot be read: {error}")))
}

#[cfg(test)]
mod tests;
