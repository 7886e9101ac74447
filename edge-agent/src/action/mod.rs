//! Actions: what goes out to the site and the world, one file or folder per protocol. Each asks policy for exactly where
//! it goes just before it goes there, and carries the effect's key, so that a receiver that honours it sees one effect
//! however often the node was killed. Whatever went out is told, whether it came to a good end or not.

mod asyncapi;
mod auth;
pub mod config;
mod document;
mod errand;
mod grpc;
mod hosts;
mod http;
mod mcp;
mod mqtt;
mod openapi;
mod process;
mod publish;
mod secret;
mod trail;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use edge_core::engine::effect::{Call, Completion, Failure, kind};
use serde_json::Value;
use shared::workflow::secret as secret_reference;

use errand::{Errand, TIMEOUT};
pub use mqtt::Broker;
pub use process::{problems as process_problems, sweep as sweep_processes};
use rustls_platform_verifier::ConfigVerifierExt as _;
pub use trail::Trail;

/// A call that may take longer has a place of another kind than the others. Requests end well before it, and so do processes
/// for which `[run]` sets no longer limit than usual.
const LONG: Duration = Duration::from_secs(100);

/// The name of the user property, JSON field and header that carry an effect's key.
const KEY: &str = "idempotencyKey";

/// A handle to the node's ways out; clones share it.
#[derive(Clone)]
pub struct Action {
    ways: Arc<Ways>,
}

/// What calls share.
struct Ways {
    publisher: mqtt::Publisher,
    /// Made at the first call: an agent that calls nobody does not pay for TLS roots.
    http: OnceLock<http::Client>,
    channel: OnceLock<grpc::Channel>,
    pools: grpc::Pools,
    sessions: mcp::Sessions,
    subscriptions: asyncapi::Sessions,
    secrets: secret::Secrets,
    tokens: auth::Tokens,
    documents: document::Documents,
    hosts: hosts::Hosts,
    unawaited: process::Unawaited,
    run: Option<config::Run>,
}

impl Ways {
    fn http(&self) -> &http::Client {
        self.http.get_or_init(http::Client::new)
    }

    /// TLS to servers whose certificates this machine trusts.
    fn tls(&self, errand: &Errand<'_>) -> Result<Arc<rustls::ClientConfig>, Failure> {
        // A second installation in the process is refused and harmless.
        drop(rustls::crypto::ring::default_provider().install_default());
        let config = rustls::ClientConfig::with_platform_verifier();
        let unset = |error: rustls::Error| errand.failure(kind::CONFIGURATION, &format!("TLS: {error}"));
        config.map(Arc::new).map_err(unset)
    }

    fn channel(&self) -> &grpc::Channel {
        self.channel.get_or_init(grpc::Channel::new)
    }
}

impl Action {
    /// Ways out by this broker and by what `agent.toml` allows. Connects when something is to be sent.
    #[must_use]
    pub fn new(broker: Broker, calls: config::Calls) -> Self {
        let documents = document::Documents::below(calls.documents);
        let (http, channel, pools, sessions, subscriptions, tokens, unawaited) = Default::default();
        let secrets = secret::Secrets(calls.secrets);
        let hosts = hosts::Hosts(calls.hosts);
        let publisher = mqtt::Publisher::new(broker);
        Self {
            ways: Arc::new(Ways {
                publisher,
                http,
                channel,
                pools,
                sessions,
                subscriptions,
                secrets,
                tokens,
                documents,
                hosts,
                unawaited,
                run: calls.run,
            }),
        }
    }

    /// Whether calls of this function come here.
    #[must_use]
    pub fn performs(function: &str) -> bool {
        matches!(
            function,
            "asyncapi" | "container" | "grpc" | "http" | "mcp" | "openapi" | "publish" | "script" | "shell"
        )
    }

    /// Performs the call. Policy is asked by way of the trail, which also gathers what the ledger must say.
    ///
    /// # Errors
    /// `validation` for wrong arguments, `configuration` for what this node is not set up for, `authorization` when
    /// policy or the other side refuses, `authentication`, `timeout`, `communication`. What was sent and then failed
    /// may have been received; its key is the same at the next try.
    pub async fn perform(&self, call: &Call, trail: &Trail<'_>) -> Result<Completion, Failure> {
        let errand = self.errand(call, trail)?;
        let within = errand::within(call, self.longest(call));
        let performed = tokio::time::timeout(within, dispatch(&errand)).await;
        let outcome = performed.unwrap_or_else(|_| {
            Err(errand.failure(kind::TIMEOUT, &format!("no answer within {} ms", within.as_millis())))
        });
        // An answer, or an error that quotes one, may repeat what it was asked with.
        let hidden = trail.hidden();
        match outcome {
            Ok(output) => {
                let output = hidden.strike_value(output);
                Ok(Completion { output, label: call.label.clone(), facts: Vec::new() })
            }
            Err(mut failure) => {
                failure.error.detail = failure.error.detail.map(|detail| hidden.strike(&detail));
                Err(failure)
            }
        }
    }
}

impl Action {
    /// Whether the call may take longer than a caller is made to wait for.
    #[must_use]
    pub fn is_long(&self, call: &Call) -> bool {
        Self::performs(&call.function) && errand::within(call, self.longest(call)) > LONG
    }

    /// How long the call may take when its task sets no deadline.
    fn longest(&self, call: &Call) -> Duration {
        match call.function.as_str() {
            // These end a little before this by themselves, and say so.
            "shell" | "script" | "container" => process::time_limit(self.ways.run.as_ref()).saturating_add(TIMEOUT),
            "asyncapi" => asyncapi::longest(call).map_or(TIMEOUT, |span| span.saturating_add(TIMEOUT)),
            "mcp" => mcp::longest(call).unwrap_or(TIMEOUT),
            _ => TIMEOUT,
        }
    }

    /// The call with secrets in place of references to them, each with policy's word for it.
    fn errand<'a>(&'a self, call: &Call, trail: &'a Trail<'a>) -> Result<Errand<'a>, Failure> {
        let mut errand = Errand { call: call.clone(), trail, ways: &self.ways };
        let mut values = BTreeMap::new();
        for name in secret_reference::names(&call.input) {
            let value = errand.secret(&name)?;
            values.insert(name, value);
        }
        if !values.is_empty() {
            let resolved = secret_reference::resolve(&call.input, &|name| values.get(name).cloned());
            errand.call.input = resolved.map_err(|error| errand.failure(kind::CONFIGURATION, &error.to_string()))?;
        }
        Ok(errand)
    }
}

async fn dispatch(errand: &Errand<'_>) -> Result<Value, Failure> {
    match errand.call.function.as_str() {
        "http" => Box::pin(http::call(errand)).await,
        "asyncapi" => Box::pin(asyncapi::call(errand)).await,
        "grpc" => Box::pin(grpc::call(errand)).await,
        "mcp" => Box::pin(mcp::call(errand)).await,
        "openapi" => Box::pin(openapi::call(errand)).await,
        "publish" => publish::call(errand).await,
        "shell" => Box::pin(process::call(errand, process::Kind::Shell)).await,
        "script" => Box::pin(process::call(errand, process::Kind::Script)).await,
        "container" => Box::pin(process::call(errand, process::Kind::Container)).await,
        other => Err(errand.failure(kind::CONFIGURATION, &format!("there is no function {other:?}"))),
    }
}

#[cfg(test)]
pub(crate) mod tests;
