//! One model behind HTTP: sends the request, reads the stream, tries again where that may help.

mod anthropic;
mod openai;

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable as _};
use edge_core::engine::ToolCall;
use eventsource_stream::Eventsource as _;
use futures::StreamExt as _;
use models::generate::Message;
use reqwest::{StatusCode, header::RETRY_AFTER};
use serde_json::Value;
use shared::ledger::entry::CallEnd;

use super::{
    ask::Sampling,
    chat::{Chat, arguments},
    config::{Key, Protocol, Provider},
};

/// What a provider is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub messages: Vec<Message>,
    /// In place of the messages: an agent's conversation with its tools.
    pub chat: Option<Chat>,
    pub max_tokens: u32,
    pub sampling: Sampling,
    pub schema: Option<Value>,
}

/// What it answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    pub text: String,
    /// The tools that the model wants called, as far as they have come.
    calls: Vec<Wanted>,
    /// `None` when the provider does not say.
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
    /// Whether the provider said that the answer is over. Without it the stream was cut.
    pub ended: bool,
}

/// A tool call as it comes in pieces: `index` says which one a piece belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Wanted {
    index: u64,
    id: String,
    name: String,
    /// JSON text.
    arguments: String,
}

impl Reply {
    /// The tools that the model wants called.
    #[must_use]
    pub fn tool_calls(&self) -> Vec<ToolCall> {
        let call = |wanted: &Wanted| ToolCall {
            id: wanted.id.clone(),
            name: wanted.name.clone(),
            arguments: arguments(&wanted.arguments),
        };
        self.calls.iter().map(call).collect()
    }

    /// The tool call with this index, a new one if none has come of it; `None` when there are too many.
    fn wanted(&mut self, index: u64) -> Option<&mut Wanted> {
        let at = self.calls.iter().position(|wanted| wanted.index == index);
        if at.is_none() && self.calls.len() < CALLS_MAX {
            self.calls.push(Wanted { index, ..Wanted::default() });
        }
        let at = at.unwrap_or(self.calls.len() - 1);
        self.calls.get_mut(at).filter(|wanted| wanted.index == index)
    }

    fn len(&self) -> usize {
        self.text.len() + self.calls.iter().map(|wanted| wanted.arguments.len() + wanted.name.len()).sum::<usize>()
    }
}

/// What kept a provider from answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Nobody was there: nothing was sent.
    Connection,
    /// The request or its answer broke off.
    Cut,
    /// It answered with this status.
    Status(u16),
}

/// Why there is no answer. The key never stands in it; the provider's own words may quote the prompt, so what goes where
/// no text of the data may go is told by [`Fault::brief`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection, an answer of class 5xx or 429, or a stream that was cut: it may work later.
    #[error("{detail}")]
    Unreachable { what: Lost, detail: String, retry_after: Option<Duration> },
    /// There is no key, or the provider does not take it, and with what status.
    #[error("{detail}")]
    Key { status: Option<u16>, detail: String },
    /// The provider does not take this request.
    #[error("{detail}")]
    Rejected { status: u16, detail: String },
    /// The provider's answer is not what its protocol says.
    #[error("{detail}")]
    Garbled { detail: String },
    #[error("no answer within {} ms", after.as_millis())]
    Timeout { after: Duration },
}

/// A request that left this node, and what became of it.
#[derive(Debug)]
pub struct Sent {
    pub took: Duration,
    /// As far as it came.
    pub reply: Reply,
    pub ended: CallEnd,
}

/// A request under way. However it ends, also when its future is dropped, it is told to the list of those that left.
struct UnderWay<'a> {
    told: &'a Mutex<Vec<Sent>>,
    began: Instant,
    reply: Reply,
    /// `None`: nothing has left.
    ended: Option<CallEnd>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(ended) = self.ended {
            let sent = Sent { took: self.began.elapsed(), reply: std::mem::take(&mut self.reply), ended };
            self.told.lock().expect("no thread panicked with the list of requests").push(sent);
        }
    }
}

/// Tries of one request. The breaker takes over where this gives up.
const TRIES_MAX: usize = 3;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A longer `Retry-After` is the breaker's: the target rests, and the route takes another.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// An answer longer than this is cut off as garbled: no model writes 8 MiB.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Tool calls in one answer; an agent performs fewer, and drops the others too.
const CALLS_MAX: usize = 64;
/// Of an error's body; enough for the provider's sentence, never a page of HTML.
const ERROR_BYTES_MAX: usize = 400;

/// Asks the provider until it answers, the tries are used up or the time is over. Every request that left comes back too,
/// in order, whatever became of it; a try that found nobody to connect to sent nothing.
///
/// # Errors
/// The last try's fault.
pub async fn complete(
    http: &reqwest::Client,
    provider: &Provider,
    prompt: &Prompt,
    within: Duration,
) -> (Result<Reply, Fault>, Vec<Sent>) {
    let body = match provider.protocol {
        Protocol::OpenAi => openai::body(&provider.model, prompt),
        Protocol::Anthropic => anthropic::body(&provider.model, prompt),
    };
    let backoff = ExponentialBuilder::default()
        .with_min_delay(BACKOFF_FIRST)
        .with_max_delay(BACKOFF_MAX)
        .with_max_times(TRIES_MAX - 1)
        .with_jitter();
    let told = Mutex::default();
    let tries = (|| attempt(http, provider, &body, &told))
        .retry(backoff)
        .when(Fault::may_pass)
        .adjust(|fault, delay| match fault {
            Fault::Unreachable { retry_after: Some(after), .. } => delay.map(|delay| delay.max(*after)),
            _ => delay,
        })
        .notify(|fault, delay| tracing::debug!(model = %provider.model, %fault, ?delay, "asking the provider again"));
    let mut reply = tokio::time::timeout(within, tries).await.unwrap_or(Err(Fault::Timeout { after: within }));
    if let (Ok(reply), Protocol::Anthropic, Some(schema)) = (&mut reply, provider.protocol, &prompt.schema) {
        reply.text = anthropic::unwrapped(schema, std::mem::take(&mut reply.text));
    }
    (reply, told.into_inner().expect("no thread panicked with the list of requests"))
}

async fn attempt(
    http: &reqwest::Client,
    provider: &Provider,
    body: &Value,
    told: &Mutex<Vec<Sent>>,
) -> Result<Reply, Fault> {
    let request = request(http, provider, body)?;
    // What ends this early is the time: then the request is told as it stands.
    let mut under_way =
        UnderWay { told, began: Instant::now(), reply: Reply::default(), ended: Some(CallEnd::TimedOut) };
    let outcome = exchange(provider.protocol, request, &mut under_way.reply).await;
    under_way.ended = match &outcome {
        Ok(()) => Some(CallEnd::Answered),
        Err(fault) => fault.ended(),
    };
    outcome.map(|()| under_way.reply.clone())
}

fn request(http: &reqwest::Client, provider: &Provider, body: &Value) -> Result<reqwest::RequestBuilder, Fault> {
    let path = match provider.protocol {
        Protocol::OpenAi => "chat/completions",
        Protocol::Anthropic => "messages",
    };
    let mut request = http.post(format!("{}/{path}", provider.url.as_str().trim_end_matches('/'))).json(body);
    let key = provider.key.as_ref().map(Key::read).transpose()?;
    request = match (provider.protocol, key) {
        (Protocol::OpenAi, Some(key)) => request.bearer_auth(key),
        (Protocol::Anthropic, Some(key)) => request.header("x-api-key", key),
        (_, None) => request,
    };
    if provider.protocol == Protocol::Anthropic {
        request = request.header("anthropic-version", anthropic::VERSION);
    }
    Ok(request)
}

/// Sends the request and reads the answer into `reply`, which keeps what came when it breaks off.
async fn exchange(protocol: Protocol, request: reqwest::RequestBuilder, reply: &mut Reply) -> Result<(), Fault> {
    let response = request.send().await.map_err(|error| unreachable(&error))?;
    if !response.status().is_success() {
        return Err(refused(response).await);
    }
    let content_type = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let streamed = content_type.is_some_and(|kind| kind.starts_with("text/event-stream"));
    if !streamed {
        // Some servers know no streaming and answer at once.
        let body = bounded(response, ANSWER_BYTES_MAX).await?;
        let body: Value = serde_json::from_slice(&body)
            .map_err(|error| Fault::Garbled { detail: format!("the answer is not JSON: {error}") })?;
        match protocol {
            Protocol::OpenAi => openai::whole(reply, &body)?,
            Protocol::Anthropic => anthropic::whole(reply, &body)?,
        }
        return Ok(());
    }
    let mut events = response.bytes_stream().eventsource();
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| cut(&error.to_string()))?;
        let done = match protocol {
            Protocol::OpenAi => openai::event(reply, &event.data)?,
            Protocol::Anthropic => anthropic::event(reply, &event.data)?,
        };
        if reply.len() > ANSWER_BYTES_MAX {
            return Err(Fault::Garbled { detail: format!("the answer is longer than {ANSWER_BYTES_MAX} bytes") });
        }
        if done {
            break;
        }
    }
    if reply.ended { Ok(()) } else { Err(cut("it ended before the answer did")) }
}

fn cut(why: &str) -> Fault {
    Fault::Unreachable { what: Lost::Cut, detail: format!("the stream was cut: {why}"), retry_after: None }
}

fn unreachable(error: &reqwest::Error) -> Fault {
    // The innermost cause says it best ("connection refused"), and has no address with a query in it.
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let (what, words) =
        if error.is_connect() { (Lost::Connection, "cannot connect") } else { (Lost::Cut, "the request failed") };
    Fault::Unreachable { what, detail: format!("{words}: {cause}"), retry_after: None }
}

async fn refused(response: reqwest::Response) -> Fault {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let body = bounded(response, 64 << 10).await.unwrap_or_default();
    let detail = format!("the provider answered {status}: {}", sentence(&body));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Fault::Key { status: Some(status.as_u16()), detail },
        // 529 is Anthropic's "overloaded", of class 5xx.
        status
            if status.is_server_error()
                || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) =>
        {
            Fault::Unreachable { what: Lost::Status(status.as_u16()), detail, retry_after }
        }
        status => Fault::Rejected { status: status.as_u16(), detail },
    }
}

/// The provider's own words: `error.message` in both protocols, or the start of whatever it sent.
fn sentence(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| json.pointer("/error/message")?.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body), std::borrow::Cow::Borrowed);
    text.chars().filter(|c| !c.is_control()).take(ERROR_BYTES_MAX).collect()
}

async fn bounded(response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|error| unreachable(&error))?);
        if body.len() > bytes_max {
            return Err(Fault::Garbled { detail: format!("the answer is longer than {bytes_max} bytes") });
        }
    }
    Ok(body)
}

const fn no_key(detail: String) -> Fault {
    Fault::Key { status: None, detail }
}

/// Parses one event's data; what is not JSON is the provider's fault.
fn parse(data: &str) -> Result<Value, Fault> {
    serde_json::from_str(data).map_err(|error| Fault::Garbled { detail: format!("an event is not JSON: {error}") })
}

impl Fault {
    /// Whether the same request may work at the next try.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { retry_after, .. } => retry_after.is_none_or(|after| after <= RETRY_AFTER_MAX),
            Self::Key { .. } | Self::Rejected { .. } | Self::Garbled { .. } | Self::Timeout { .. } => false,
        }
    }

    /// How the request ended; `None` when nothing left this node.
    const fn ended(&self) -> Option<CallEnd> {
        match self {
            Self::Unreachable { what: Lost::Connection, .. } | Self::Key { status: None, .. } => None,
            Self::Unreachable { what: Lost::Cut, .. } => Some(CallEnd::Cut),
            Self::Unreachable { what: Lost::Status(_), .. } => Some(CallEnd::Failed),
            Self::Key { .. } | Self::Rejected { .. } => Some(CallEnd::Refused),
            Self::Garbled { .. } => Some(CallEnd::Garbled),
            Self::Timeout { .. } => Some(CallEnd::TimedOut),
        }
    }

    /// Why there is no answer, without a word of the provider's.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            // The system's own words; nothing was sent that they could quote.
            Self::Unreachable { what: Lost::Connection, detail, .. } => detail.clone(),
            Self::Unreachable { what: Lost::Cut, .. } => "the answer broke off".to_owned(),
            Self::Unreachable { what: Lost::Status(status), .. } | Self::Rejected { status, .. } => {
                format!("the provider answered {status}")
            }
            Self::Key { status: Some(status), .. } => format!("the provider refused the key with {status}"),
            Self::Key { status: None, .. } => "there is no usable key".to_owned(),
            Self::Garbled { .. } => "the answer is not what the protocol says".to_owned(),
            Self::Timeout { after } => format!("no answer within {} ms", after.as_millis()),
        }
    }
}

impl Key {
    fn read(&self) -> Result<String, Fault> {
        let key = match self {
            Self::Env(variable) => std::env::var(variable)
                .map_err(|_| no_key(format!("the key's environment variable {variable} is not set")))?,
            Self::File(file) => private::read(file, private::Origin::Given)
                .map_err(|error| no_key(format!("the key's file: {:#}", anyhow::Error::new(error))))?,
        };
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(no_key("the key is empty or not plain text".to_owned()));
        }
        Ok(key.to_owned())
    }
}
