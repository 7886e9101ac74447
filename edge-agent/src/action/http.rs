//! The DSL's `call: http` (specification, section "HTTP call"): one request, its answer as content, as raw bytes or whole.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_core::engine::effect::{Call, Error, Failure, kind};
use futures::StreamExt as _;
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::wrong;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer becomes part of the run's state, which is stored at every step.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const REDIRECTS_MAX: usize = 5;
/// Of an error's body in the error's detail.
const ERROR_CHARS_MAX: usize = 300;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    method: String,
    endpoint: Endpoint,
    #[serde(default)]
    headers: Map<String, Value>,
    body: Option<Value>,
    #[serde(default)]
    query: Map<String, Value>,
    #[serde(default)]
    output: Output,
    #[serde(default)]
    redirect: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "an address, or {uri, authentication}")]
enum Endpoint {
    Address(String),
    Object(EndpointObject),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointObject {
    uri: String,
    authentication: Option<Authentication>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Authentication {
    Basic { username: String, password: String },
    Bearer { token: String },
}

/// What of the answer becomes the task's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Output {
    /// The body, parsed when it is JSON.
    #[default]
    Content,
    /// Status, headers and content.
    Response,
    /// The body in base64.
    Raw,
}

/// A request, checked.
pub(super) struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    output: Output,
    redirect: bool,
}

impl Request {
    /// Parses a call's arguments.
    pub(super) fn parse(call: &Call) -> Result<Self, Failure> {
        let given: Arguments = call.arguments()?;
        let method = Method::from_bytes(given.method.to_ascii_uppercase().as_bytes())
            .map_err(|_| wrong(call, "method", &format!("{:?}; expected GET, POST and the like", given.method)))?;
        let (address, authentication) = match given.endpoint {
            Endpoint::Address(address) => (address, None),
            Endpoint::Object(EndpointObject { uri, authentication }) => (uri, authentication),
        };
        let mut url = Url::parse(&address)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && !address.contains(['{', '}']))
            .ok_or_else(|| wrong(call, "endpoint", &format!("{address:?}; expected http:// or https:// and a host")))?;
        for (name, value) in &given.query {
            let values = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
            for value in values {
                url.query_pairs_mut().append_pair(name, &scalar(call, "query", value)?);
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &given.headers {
            let value = scalar(call, "headers", value)?;
            let bad = || wrong(call, "headers", &format!("{name}: not a header and its text"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            headers.insert(name, HeaderValue::from_str(&value).map_err(|_| bad())?);
        }
        if let Some(authentication) = authentication {
            let value = HeaderValue::from_str(&authentication.header())
                .map_err(|_| wrong(call, "endpoint.authentication", "has letters that a header cannot carry"))?;
            headers.insert(AUTHORIZATION, value);
        }
        let key = HeaderValue::from_str(&call.key.0).map_err(|_| wrong(call, "task", "its name cannot be a header"))?;
        headers.entry("idempotency-key").or_insert(key);
        let body = given.body.map(|body| encode(&body, &mut headers));
        Ok(Self { method, url, headers, body, output: given.output, redirect: given.redirect })
    }

    /// The host, as policy names it.
    pub(super) fn host(&self) -> String {
        self.url.host_str().unwrap_or_default().to_owned()
    }

    /// What the ledger says of the request: no headers, as they may hold secrets.
    pub(super) fn told(&self) -> String {
        let body = self.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        format!("{} {}\n\n{body}", self.method, self.url)
    }
}

impl Authentication {
    fn header(&self) -> String {
        match self {
            Self::Basic { username, password } => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
            }
            Self::Bearer { token } => format!("Bearer {token}"),
        }
    }
}

/// The text of a value that stands in a query or a header.
fn scalar(call: &Call, field: &str, value: &Value) -> Result<String, Failure> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        other => Err(wrong(call, field, &format!("{other}; expected texts, numbers or booleans"))),
    }
}

/// The body as the content type says; JSON when that says nothing.
fn encode(body: &Value, headers: &mut HeaderMap) -> Vec<u8> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    match body {
        Value::Object(fields) if kind.starts_with("application/x-www-form-urlencoded") => {
            let mut form = Url::parse("form:/").expect("a constant address");
            for (name, value) in fields {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                form.query_pairs_mut().append_pair(name, &text);
            }
            form.query().unwrap_or_default().as_bytes().to_vec()
        }
        Value::String(text) if !kind.is_empty() && !kind.contains("json") => text.as_bytes().to_vec(),
        other => {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            other.to_string().into_bytes()
        }
    }
}

/// The client: two, as whether redirects are followed is a setting of the client.
pub(super) struct Http {
    direct: reqwest::Client,
    following: reqwest::Client,
}

impl Http {
    pub(super) fn new() -> Self {
        // A second installation in the process is refused and harmless.
        drop(rustls::crypto::ring::default_provider().install_default());
        // Only within the host that the permit names: a redirect elsewhere is given back as it is.
        let same_host = reqwest::redirect::Policy::custom(|attempt| {
            let first = attempt.previous().first().and_then(|url| url.host_str());
            if attempt.previous().len() > REDIRECTS_MAX {
                attempt.error("too many redirects")
            } else if first == attempt.url().host_str() {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let client = |policy| {
            let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(policy);
            client.build().expect("an HTTP client with these settings can be made")
        };
        Self { direct: client(reqwest::redirect::Policy::none()), following: client(same_host) }
    }

    /// Sends the request and makes the task's output of the answer.
    pub(super) async fn send(&self, request: &Request, call: &Call) -> Result<Value, Failure> {
        let client = if request.redirect { &self.following } else { &self.direct };
        let mut builder = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let response = builder.send().await.map_err(|error| unreachable(call, &error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read(call, response).await?;
        let is_good = status.is_success() || (request.redirect && status.is_redirection());
        if !is_good {
            return Err(refused(call, status, &body));
        }
        Ok(match request.output {
            Output::Content => content(&headers, &body),
            Output::Raw => Value::String(STANDARD.encode(&body)),
            Output::Response => {
                let told = |headers: &HeaderMap| -> BTreeMap<String, String> {
                    let shown = headers.iter().filter(|(name, _)| **name != AUTHORIZATION);
                    shown.map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect()
                };
                json!({
                    "request": {
                        "method": request.method.as_str(),
                        "uri": request.url.as_str(),
                        "headers": told(&request.headers),
                    },
                    "statusCode": status.as_u16(),
                    "headers": told(&headers),
                    "content": content(&headers, &body),
                })
            }
        })
    }
}

fn content(headers: &HeaderMap, body: &[u8]) -> Value {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if body.is_empty() {
        return Value::Null;
    }
    let text = || Value::String(String::from_utf8_lossy(body).into_owned());
    // `application/json`, `application/problem+json`, `text/json`.
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().ends_with("json"));
    if is_json { serde_json::from_slice(body).unwrap_or_else(|_| text()) } else { text() }
}

async fn read(call: &Call, response: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|error| unreachable(call, &error))?);
        if body.len() > ANSWER_BYTES_MAX {
            let detail = format!("http of {}: the answer is longer than {ANSWER_BYTES_MAX} bytes", call.task);
            return Err(Failure::new(kind::COMMUNICATION, detail));
        }
    }
    Ok(body)
}

fn unreachable(call: &Call, error: &reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let host = error.url().and_then(Url::host_str).unwrap_or("the host").to_owned();
    Failure::new(kind::COMMUNICATION, format!("http of {}: {host}: {cause}", call.task))
}

fn refused(call: &Call, status: StatusCode, body: &[u8]) -> Failure {
    let (uri, _) = match status {
        StatusCode::UNAUTHORIZED => kind::AUTHENTICATION,
        StatusCode::FORBIDDEN => kind::AUTHORIZATION,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => kind::TIMEOUT,
        _ => kind::COMMUNICATION,
    };
    let said: String = String::from_utf8_lossy(body).chars().take(ERROR_CHARS_MAX).collect();
    let error = Error::new((uri, status.as_u16()), format!("http of {}: answered {status}: {said}", call.task));
    Failure { error, facts: Vec::new(), ask_again_at: None }
}
