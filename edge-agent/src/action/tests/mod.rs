//! What goes out, against real servers and a real broker on loopback.

mod asyncapi;
mod auth;
pub(crate) mod grpc;
mod http;
mod mcp;
pub(crate) mod mosquitto;
mod openapi;
mod process;
mod publish;

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Uri},
    response::{IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use edge_core::engine::effect::{EffectKey, Keep};
use mosquitto::Mosquitto;
use serde_json::json;
use shared::{
    id::RunId,
    label::Label,
    ledger::entry::Fact,
    policy::{PolicySet, Request},
};

use super::{config::Calls, *};

fn call(function: &str, input: Value) -> Call {
    let now = crate::clock::now();
    Call {
        key: EffectKey("run:/do/0/act".to_owned()),
        run: RunId::derive(now, b"test"),
        task: "/do/0/act".to_owned(),
        workflow: "test/act:1.0.0".to_owned(),
        function: function.to_owned(),
        input,
        label: Label::default(),
        deadline: Some(now.plus(Duration::from_secs(10))),
        agent: None,
        asked_at: now,
        ahead_us: 0,
    }
}

/// What became of a call, and what the ledger says of it.
struct Done {
    outcome: Result<Value, Failure>,
    facts: Vec<Fact>,
}

impl Done {
    #[track_caller]
    fn output(self) -> Value {
        self.outcome.expect("a good end")
    }

    #[track_caller]
    fn failure(&self) -> &Failure {
        self.outcome.as_ref().expect_err("a bad end")
    }

    #[track_caller]
    fn detail(&self) -> String {
        self.failure().error.detail.clone().unwrap_or_default()
    }

    /// The facts in short: `http host yes`, `http: input -> output`.
    fn told(&self) -> Vec<String> {
        let text = |content: &shared::ledger::entry::Content| content.text.clone().unwrap_or_default();
        let one = |fact: &Fact| match fact {
            Fact::PolicyDecided { action, resource, allowed, .. } => {
                format!("{action} {resource} {}", if *allowed { "yes" } else { "no" })
            }
            Fact::ToolCalled { function, input, output, .. } => {
                format!("{function}: {} -> {}", text(input), text(output))
            }
            Fact::MessagePublished { topic, payload, .. } => format!("published {topic}: {}", text(payload)),
            other => format!("{other:?}"),
        };
        self.facts.iter().map(one).collect()
    }
}

/// Performs a call by these rules.
async fn perform_by(rules: &PolicySet, action: &Action, call: &Call) -> Done {
    let decide = |action, target| {
        let (workflow, node_jurisdiction) = ("test/act".to_owned(), "CH".to_owned());
        rules.decide(&Request { action, workflow, agent: None, target, label: call.label.clone(), node_jurisdiction })
    };
    let trail = Trail::new(call.label.clone(), Keep::Text, decide);
    let outcome = action.perform(call, &trail).await.map(|done| done.output);
    Done { outcome, facts: trail.facts() }
}

async fn perform(action: &Action, call: &Call) -> Done {
    perform_by(&PolicySet::default_rules(), action, call).await
}

pub(crate) fn is_root() -> bool {
    super::process::is_root()
}

fn site(address: SocketAddr) -> Broker {
    Broker { host: address.ip().to_string(), port: address.port(), login: None, tls: None, client_id: "out".to_owned() }
}

/// A node without a broker.
fn nowhere() -> Action {
    with(Calls::default())
}

fn with(calls: Calls) -> Action {
    Action::new(site(([127, 0, 0, 1], 1).into()), calls)
}

/// A node whose broker this is.
fn through(broker: &Mosquitto) -> Action {
    Action::new(site(broker.address), Calls::default())
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn echo(method: axum::http::Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    axum::Json(json!({
        "method": method.as_str(), "uri": uri.to_string(), "key": header("idempotency-key"), "auth": header("authorization"),
        "type": header("content-type"), "x": header("x-site"), "body": String::from_utf8_lossy(&body),
    }))
    .into_response()
}
