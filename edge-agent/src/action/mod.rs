//! Actions: what goes out to the site and the world. Each holds a permit for exactly where it goes, and carries the
//! effect's key, so that a receiver that honours it sees one effect however often the node was killed.

mod http;
mod mqtt;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use edge_core::engine::effect::{Call, Completion, Failure, Keep, kind};
use http::Http;
pub use mqtt::Broker;
use mqtt::{Message, Publisher};
use rumqttc::v5::mqttbytes::QoS;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    ledger::entry::Fact,
    policy::{self, Permit, TargetKind},
};

/// The name of the user property, JSON field and header that carry an effect's key.
const KEY: &str = "idempotencyKey";
/// How long an action may take when the task sets no deadline.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What brokers take by default (Mosquitto has no limit, AWS 128 KiB, EMQX 1 MiB).
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Longer topics are a mistake in an expression.
const TOPIC_BYTES_MAX: usize = 1_024;

/// A handle to the node's ways out; clones share it.
#[derive(Clone)]
pub struct Action {
    inner: Arc<Inner>,
}

struct Inner {
    publisher: Publisher,
    /// Made at the first call: an agent that calls nobody does not pay for TLS roots.
    http: OnceLock<Http>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    topic: String,
    payload: Value,
    #[serde(default = "one")]
    qos: u8,
    #[serde(default)]
    retain: bool,
}

const fn one() -> u8 {
    1
}

impl Action {
    /// Ways out by this broker and by HTTP. Connects when something is to be sent.
    #[must_use]
    pub fn new(broker: Broker) -> Self {
        Self { inner: Arc::new(Inner { publisher: Publisher::new(broker), http: OnceLock::new() }) }
    }

    /// What policy must be asked about before this call: the topic or the host.
    ///
    /// # Errors
    /// A validation error when the call's arguments are wrong.
    pub fn target(&self, call: &Call) -> Result<policy::Target, Failure> {
        if call.function == "http" {
            return Ok(policy::Target::new(TargetKind::Host, http::Request::parse(call)?.host()));
        }
        Ok(policy::Target::new(TargetKind::Topic, parse_publish(call)?.topic))
    }

    /// Publishes a message on the node's broker and waits until the broker has taken it.
    ///
    /// # Errors
    /// `validation` for wrong arguments, `authorization` when the broker refuses, `timeout` or `communication` when it
    /// does not acknowledge. A message that failed so may have been delivered; its key is the same at the next try.
    pub async fn publish(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        let Publish { topic, mut payload, qos, retain } = parse_publish(call)?;
        hold(call, &permit, &topic)?;
        if let Value::Object(object) = &mut payload {
            // For receivers that speak MQTT 3.1.1 and see no user properties.
            object.entry(KEY).or_insert_with(|| call.key.0.as_str().into());
        }
        let text = match payload {
            Value::String(text) => text,
            other => other.to_string(),
        };
        if text.len() > PAYLOAD_BYTES_MAX {
            return Err(wrong(call, "payload", &format!("{} bytes; at most {PAYLOAD_BYTES_MAX}", text.len())));
        }
        let qos = match qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        let message = Message::new(topic.clone(), text.clone(), qos, retain, call.key.0.clone());
        self.inner.publisher.publish(message, within(call)).await.map_err(|error| {
            let detail = format!("publish of {}: {error}", call.task);
            Failure::new(error.kind(), detail)
        })?;
        let key = call.key.0.clone();
        let fact = Fact::MessagePublished { topic: topic.clone(), payload: keep.content(&text), key: key.clone() };
        Ok(Completion { output: json!({"topic": topic, "key": key}), label: call.label.clone(), facts: vec![fact] })
    }

    /// Makes an HTTP request, the DSL's `call: http`.
    ///
    /// # Errors
    /// `validation` for wrong arguments, `communication` with the response's status when that is no success,
    /// `authentication` for 401, `authorization` for 403, `timeout`.
    pub async fn http(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        let request = http::Request::parse(call)?;
        hold(call, &permit, &request.host())?;
        let began = Instant::now();
        let http = self.inner.http.get_or_init(Http::new);
        let answer = tokio::time::timeout(within(call), http.send(&request, call)).await;
        let output = answer.unwrap_or_else(|_| {
            let detail = format!("http of {}: no answer within {} ms", call.task, within(call).as_millis());
            Err(Failure::new(kind::TIMEOUT, detail))
        })?;
        let fact = Fact::ToolCalled {
            function: "http".to_owned(),
            input: keep.content(&request.told()),
            output: keep.content(&output.to_string()),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }
}

fn parse_publish(call: &Call) -> Result<Publish, Failure> {
    let publish: Publish = call.arguments()?;
    let topic = &publish.topic;
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || topic.contains(['+', '#', '\0']) || topic.starts_with('$') {
        let expected = format!("{topic:?}; expected 1 to {TOPIC_BYTES_MAX} bytes without + # and a leading $");
        return Err(wrong(call, "topic", &expected));
    }
    if publish.qos > 2 {
        return Err(wrong(call, "qos", &format!("{}; expected 0, 1 or 2", publish.qos)));
    }
    Ok(publish)
}

fn within(call: &Call) -> Duration {
    call.deadline.map_or(TIMEOUT, |deadline| deadline.since(crate::clock::now()))
}

/// Holds a permit against where the call is about to go.
fn hold(call: &Call, permit: &Permit, target: &str) -> Result<(), Failure> {
    if permit.target().name == target {
        return Ok(());
    }
    let detail =
        format!("{} of {}: the permit is for {}, not for {target}", call.function, call.task, permit.target().name);
    Err(Failure::new(kind::AUTHORIZATION, detail))
}

fn wrong(call: &Call, field: &str, expected: &str) -> Failure {
    Failure::new(kind::VALIDATION, format!("{} of {}: {field}: {expected}", call.function, call.task))
}

#[cfg(test)]
mod tests;
