//! The DSL's `call: mcp` (specification, section "MCP call"): a client of the Model Context Protocol, over streamable HTTP
//! and over the standard streams of a process. A session is opened once and used again.

mod message;
mod sessions;
mod stdio;
mod web;

use std::time::Duration;

use edge_core::engine::effect::{Call, Failure, kind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shared::{
    policy::{Action, TargetKind},
    workflow::definition::Duration as Span,
};

use super::{
    errand::{Errand, TIMEOUT},
    http::{Endpoint, address},
};
pub(super) use sessions::Sessions;

/// What a server may say at once; it becomes part of the run's state, which is stored at every step.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The version that the specification of the DSL names; servers answer with one that they have.
const VERSION: &str = "2025-06-18";
/// Versions that this client can speak.
const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// Of a tool's own error in the error's detail.
const SAID_CHARS_MAX: usize = 300;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Arguments {
    protocol_version: Option<String>,
    method: String,
    parameters: Option<Value>,
    timeout: Option<Value>,
    transport: Transport,
    client: Option<Client>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transport {
    http: Option<Web>,
    stdio: Option<Program>,
    /// Options of other transports; these two have none.
    #[serde(rename = "options")]
    _options: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Web {
    endpoint: Endpoint,
    headers: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    command: String,
    #[serde(default)]
    arguments: Vec<Value>,
    #[serde(default)]
    environment: Map<String, Value>,
}

/// How the client calls itself.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Client {
    name: String,
    version: String,
}

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Unreachable(String),
    #[error("the server does not let us in: {0}")]
    Denied(reqwest::StatusCode),
    #[error("the server answered {0}: {1}")]
    Status(reqwest::StatusCode, String),
    /// A session that the server no longer knows; a new one may do.
    #[error("the server has forgotten the session")]
    Forgotten,
    #[error("error {code}: {message}")]
    Rpc { code: i64, message: String },
    #[error("the server says what is not the protocol: {0}")]
    Nonsense(String),
}

impl Error {
    fn failure(&self, errand: &Errand<'_>) -> Failure {
        let kind = match self {
            Self::Unreachable(_) => kind::COMMUNICATION,
            Self::Status(status, _) => (kind::COMMUNICATION.0, status.as_u16()),
            Self::Denied(status) if status.as_u16() == 403 => kind::AUTHORIZATION,
            Self::Denied(_) => kind::AUTHENTICATION,
            Self::Forgotten | Self::Rpc { .. } | Self::Nonsense(_) => kind::RUNTIME,
        };
        errand.failure(kind, &self.to_string())
    }
}

/// Asks the server, and gives its result.
pub(super) async fn call(errand: &Errand<'_>) -> Result<Value, Failure> {
    let given: Arguments = errand.arguments()?;
    let client = given.client.unwrap_or_else(|| {
        let (name, version) = ("skerry".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Client { name, version }
    });
    let version = given.protocol_version.as_deref().unwrap_or(VERSION);
    let hello = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client});
    let within = match &given.timeout {
        Some(span) => Span::span_of(span).map_err(|error| errand.wrong("timeout", &error.to_string()))?,
        None => errand.within(TIMEOUT),
    };
    let parameters = given.parameters.unwrap_or_else(|| json!({}));
    let asked = Asked { method: &given.method, parameters: &parameters, within };
    match (&given.transport.http, &given.transport.stdio) {
        (Some(web), None) => {
            let url = address(errand, "transport.http.endpoint", web.endpoint.address())?;
            let host = url.host_str().unwrap_or_default().to_owned();
            errand.permit(Action::Http, TargetKind::Host, &host)?;
            errand.permit(Action::Mcp, TargetKind::Tool, &asked.target(&host))?;
            let door = web::Door::new(errand, url, web).await?;
            asked.told(errand, &host, errand.ways.sessions.by_web(door, &hello, &asked)).await
        }
        (None, Some(program)) => {
            let launch = stdio::launch(errand, program)?;
            let line = launch.line();
            errand.permit(Action::Run, TargetKind::Command, &line)?;
            errand.permit(Action::Mcp, TargetKind::Tool, &asked.target(&program.command))?;
            asked.told(errand, &line, errand.ways.sessions.by_stdio(errand, launch, &hello, &asked)).await
        }
        _ => Err(errand.wrong("transport", "expected exactly one of http and stdio")),
    }
}

/// How long the task lets its server take, if it says so.
pub(super) fn longest(call: &Call) -> Option<Duration> {
    call.input.get("timeout").and_then(|span| Span::span_of(span).ok())
}

/// What is asked of a server.
struct Asked<'a> {
    method: &'a str,
    parameters: &'a Value,
    within: Duration,
}

impl Asked<'_> {
    /// The server and what is used of it, as policy names it.
    fn target(&self, server: &str) -> String {
        let used = ["name", "uri"].iter().find_map(|key| self.parameters.get(*key)?.as_str());
        used.map_or_else(|| server.to_owned(), |used| format!("{server}/{used}"))
    }

    /// Tells what was asked and what came of it.
    async fn told(
        &self,
        errand: &Errand<'_>,
        server: &str,
        asking: impl Future<Output = Result<Value, Error>>,
    ) -> Result<Value, Failure> {
        let sent = errand.trail.begin("mcp", &format!("{server} {} {}", self.method, self.parameters));
        let outcome = match tokio::time::timeout(self.within, asking).await {
            Ok(outcome) => outcome.map_err(|error| error.failure(errand)),
            Err(_) => {
                let why = format!("no answer within {} ms", self.within.as_millis());
                Err(errand.failure(kind::TIMEOUT, &why))
            }
        };
        match &outcome {
            Ok(result) => sent.answered(&result.to_string()),
            Err(failure) => sent.failed(failure),
        }
        let result = outcome?;
        // A tool that failed says so in its result, for a model to read; a workflow has `catch`.
        if result.get("isError") == Some(&Value::Bool(true)) {
            let said = result.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
            let said: String = said.chars().take(SAID_CHARS_MAX).collect();
            return Err(errand.failure(kind::RUNTIME, &format!("the tool failed: {said}")));
        }
        Ok(result)
    }
}
