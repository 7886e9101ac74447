//! Events: CloudEvents 1.0 in the JSON format (`cloudevents/spec`, `cloudevents/formats/json-format.md`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::Timestamp;

/// The type of an event that a detector's finding becomes.
pub const FINDING_TYPE: &str = "io.skerry.finding.v1";
/// The type of an event that a message of a feed with `events: message` becomes.
pub const MESSAGE_TYPE: &str = "io.skerry.message.v1";

/// A CloudEvent. `source` and `id` together name it: a second event with the same pair is the same event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub specversion: String,
    pub id: String,
    pub source: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataschema: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Extension attributes, such as `traceparent`.
    #[serde(flatten)]
    pub extensions: Map<String, Value>,
}

impl Event {
    /// An event with JSON data and no extension.
    #[must_use]
    pub fn new(id: impl Into<String>, source: impl Into<String>, kind: impl Into<String>, data: Value) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id: id.into(),
            source: source.into(),
            kind: kind.into(),
            subject: None,
            time: None,
            datacontenttype: Some("application/json".to_owned()),
            dataschema: None,
            data: Some(data),
            extensions: Map::new(),
        }
    }
}
