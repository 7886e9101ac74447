//! `call: publish`: a message on the node's own broker.

use edge_core::engine::effect::Failure;
use rumqttc::v5::mqttbytes::QoS;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::policy::{Action, Permit, TargetKind};

use super::{
    KEY,
    errand::{Errand, TIMEOUT},
    mqtt::{Message, Publisher},
};

/// What brokers take by default (Mosquitto has no limit, AWS 128 KiB, EMQX 1 MiB).
pub(super) const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Longer topics are a mistake in an expression.
const TOPIC_BYTES_MAX: usize = 1_024;

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

/// What goes to a broker, checked.
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) text: String,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) headers: Vec<(String, String)>,
}

/// Publishes and waits until the broker has taken it.
pub(super) async fn call(errand: &Errand<'_>) -> Result<Value, Failure> {
    let Publish { topic, mut payload, qos, retain } = errand.arguments()?;
    check_topic(errand, "topic", &topic)?;
    let qos = quality(qos).ok_or_else(|| errand.wrong("qos", &format!("{qos}; expected 0, 1 or 2")))?;
    let key = &errand.call.key.0;
    if let Value::Object(object) = &mut payload {
        // For receivers that speak MQTT 3.1.1 and see no user properties.
        object.entry(KEY).or_insert_with(|| key.as_str().into());
    }
    let text = match payload {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let permit = errand.permit(Action::Publish, TargetKind::Topic, &topic)?;
    let outgoing = Outgoing { topic: topic.clone(), text, qos, retain, headers: Vec::new() };
    send(errand, &errand.ways.publisher, outgoing, &permit).await?;
    Ok(json!({"topic": topic, "key": key}))
}

/// Sends one message to a broker. A message that failed may have been delivered; its key is the same at the next try.
pub(super) async fn send(
    errand: &Errand<'_>,
    publisher: &Publisher,
    outgoing: Outgoing,
    permit: &Permit,
) -> Result<(), Failure> {
    let Outgoing { topic, text, qos, retain, headers } = outgoing;
    assert!(permit.target().name.ends_with(&topic), "a message goes where its permit says");
    if text.len() > PAYLOAD_BYTES_MAX {
        return Err(errand.wrong("payload", &format!("{} bytes; at most {PAYLOAD_BYTES_MAX}", text.len())));
    }
    let key = errand.call.key.0.clone();
    let message = Message::new(topic, text.clone(), qos, retain, key.clone()).with_headers(headers);
    let name = permit.target().name.clone();
    let sent = errand.trail.begin("publish", &format!("{name}\n\n{text}"));
    match publisher.publish(message, errand.within(TIMEOUT)).await {
        Ok(()) => {
            sent.published(name, &text, &key);
            Ok(())
        }
        Err(error) => {
            let failure = errand.failure(error.kind(), &error.to_string());
            sent.failed(&failure);
            Err(failure)
        }
    }
}

pub(super) const fn quality(qos: u8) -> Option<QoS> {
    match qos {
        0 => Some(QoS::AtMostOnce),
        1 => Some(QoS::AtLeastOnce),
        2 => Some(QoS::ExactlyOnce),
        _ => None,
    }
}

/// A topic that messages can be sent to.
pub(super) fn check_topic(errand: &Errand<'_>, field: &str, topic: &str) -> Result<(), Failure> {
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || topic.contains(['+', '#', '\0']) || topic.starts_with('$') {
        let expected = format!("{topic:?}; expected 1 to {TOPIC_BYTES_MAX} bytes without + # and a leading $");
        return Err(errand.wrong(field, &expected));
    }
    Ok(())
}
