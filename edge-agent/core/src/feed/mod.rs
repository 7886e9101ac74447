//! Feeds: what a person writes of them in a bundle's `feeds.yaml`, checked wholly at the door, and what a message says by
//! it. A mistake names file, line, field and what was expected.

pub mod decode;
mod place;
pub mod topic;

use std::{collections::HashSet, fmt, sync::Arc};

use serde::Deserialize;
use serde_json::Value;
use shared::{
    label::{DataClass, Label},
    problem::{Problem, Problems},
};

use crate::signal::{
    Signal,
    config::{Detector, Quantity, Window},
};
use decode::Decode;
use topic::Filter;

/// Feeds of one node. Each message goes to the first that matches, so a longer list costs every message.
const FEEDS_MAX: usize = 256;
/// Detectors of one feed; each has a state per series.
const DETECTORS_MAX: usize = 32;

/// All feeds of a bundle, in the order written: a message belongs to the first whose topic filter matches.
#[derive(Debug, Clone, Default)]
pub struct Feeds {
    feeds: Vec<Arc<Feed>>,
}

/// A source of readings.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawFeed")]
pub struct Feed {
    pub name: String,
    pub topic: Filter,
    /// The quality of service to subscribe with: 0, or 1 for readings that must not be lost.
    pub qos: u8,
    pub decode: Decode,
    pub schema: Option<Schema>,
    pub label: Label,
    pub signal: Signal,
    pub events: Events,
}

/// What becomes an event besides findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Events {
    #[default]
    Findings,
    /// Each message, too: `io.skerry.message.v1` with the decoded payload as data.
    Message,
}

/// A compiled JSON schema over a feed's payload.
pub struct Schema(jsonschema::Validator);

impl Schema {
    /// The first thing that is wrong with the value, with its place in it.
    ///
    /// # Errors
    /// When the schema does not allow the value.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        match self.0.validate(value) {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("{} at {:?}", error, error.instance_path().as_str())),
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFeed {
    name: String,
    topic: Filter,
    #[serde(default = "at_least_once")]
    qos: u8,
    decode: Decode,
    schema: Option<Value>,
    #[serde(default = "internal")]
    label: Label,
    window: Option<Window>,
    #[serde(default)]
    detectors: Vec<Detector>,
    #[serde(default)]
    events: Events,
}

/// What nobody labelled is not for everybody: readings stay inside as documents without a label do.
fn internal() -> Label {
    Label { class: DataClass::Internal, ..Label::default() }
}

const fn at_least_once() -> u8 {
    1
}

impl TryFrom<RawFeed> for Feed {
    type Error = String;

    fn try_from(raw: RawFeed) -> Result<Self, String> {
        let name = raw.name;
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !(1..=63).contains(&name.len()) || !name.chars().all(good) {
            return Err(format!("name {name:?} must be 1 to 63 of a-z, A-Z, 0-9, `-`, `_` and `.`"));
        }
        let wrong = |reason: &str| Err(format!("feed `{name}`: {reason}"));
        if raw.qos > 1 {
            return wrong("`qos` must be 0 or 1");
        }
        if raw.detectors.len() > DETECTORS_MAX {
            return wrong("there may be at most 32 `detectors`");
        }
        let mut names = HashSet::new();
        for detector in &raw.detectors {
            if !names.insert(&detector.name) {
                return wrong(&format!("two detectors are named `{}`: each needs its own name", detector.name));
            }
            if raw.window.is_none() && detector.of != Quantity::Value {
                return wrong(&format!("detector `{}` looks at windows: the feed needs a `window`", detector.name));
            }
        }
        if raw.decode.levels_needed() > raw.topic.levels_max() {
            return wrong("`decode` takes a topic level that no topic of the filter has");
        }
        let schema = match raw.schema {
            None => None,
            Some(schema) => match jsonschema::validator_for(&schema) {
                Ok(compiled) => Some(Schema(compiled)),
                Err(error) => return wrong(&format!("`schema` is not a JSON schema: {error}")),
            },
        };
        let signal = Signal { window: raw.window, detectors: raw.detectors };
        let (topic, qos, decode, label, events) = (raw.topic, raw.qos, raw.decode, raw.label, raw.events);
        Ok(Self { name, topic, qos, decode, schema, label, signal, events })
    }
}

impl Feeds {
    /// Reads `feeds.yaml`: a mapping with the one key `feeds`, a list.
    ///
    /// # Errors
    /// The first mistake, with line and field. Unknown keys are mistakes.
    pub fn parse(file: &str, yaml: &str) -> Result<Self, Problems> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Document {
            feeds: Vec<Feed>,
        }
        let document: Document = serde_yaml_ng::from_str(yaml).map_err(|error| Problems(vec![locate(file, &error)]))?;
        let whole = |message: String| {
            Err(Problems(vec![Problem {
                file: file.to_owned(),
                line: None,
                column: None,
                field: "feeds".to_owned(),
                message,
            }]))
        };
        if document.feeds.len() > FEEDS_MAX {
            return whole(format!("{} feeds, but at most {FEEDS_MAX} are allowed", document.feeds.len()));
        }
        let mut names = HashSet::new();
        if let Some(twice) = document.feeds.iter().find(|feed| !names.insert(feed.name.as_str())) {
            return whole(format!("two feeds are named `{}`: each needs its own name", twice.name));
        }
        Ok(Self { feeds: document.feeds.into_iter().map(Arc::new).collect() })
    }

    /// The feeds in the order written.
    #[must_use]
    pub fn list(&self) -> &[Arc<Feed>] {
        &self.feeds
    }

    /// The feed that a message of this topic belongs to.
    #[must_use]
    pub fn of_topic(&self, topic: &str) -> Option<&Arc<Feed>> {
        self.feeds.iter().find(|feed| feed.topic.matches(topic))
    }

    /// The feed of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Feed>> {
        self.feeds.iter().find(|feed| feed.name == name)
    }
}

/// A YAML error as a problem. The parser's text begins with the path of the field and ends with the place.
fn locate(file: &str, error: &serde_yaml_ng::Error) -> Problem {
    let text = error.to_string();
    let place = error.location();
    let text = place.as_ref().and_then(|_| text.rfind(" at line ")).map_or(text.as_str(), |end| &text[..end]);
    let (field, message) = match text.split_once(": ") {
        Some((path, rest)) if path.starts_with("feeds") && !path.contains(' ') => (path, rest),
        _ => ("", text),
    };
    let number = |n: usize| u32::try_from(n).ok();
    Problem {
        file: file.to_owned(),
        line: place.as_ref().and_then(|place| number(place.line())),
        column: place.as_ref().and_then(|place| number(place.column())),
        field: field.to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "feeds:
  - name: t
    topic: plant/+/temperature
    decode:
      device: topic[1]
      channel: topic[2]
";

    fn wrong(yaml: &str) -> String {
        Feeds::parse("feeds.yaml", yaml).expect_err("refused").to_string()
    }

    #[test]
    fn a_mistake_is_named_with_file_line_field_and_what_was_expected() {
        assert!(Feeds::parse("feeds.yaml", GOOD).is_ok());
        for (old, new, told) in [
            ("topic: plant", "topik: plant", "feeds.yaml:3:5: feeds[0]: unknown field `topik`"),
            ("plant/+/temperature", "plant/#/temperature", "feeds.yaml:3:12: feeds[0].topic: "),
            (
                "device: topic[1]",
                "device: level 1",
                "feeds.yaml:5:15: feeds[0].decode.device: \"level 1\" is not a place in a message",
            ),
            (
                "channel: topic[2]",
                "channel: topic[7]",
                "feed `t`: `decode` takes a topic level that no topic of the filter has",
            ),
            ("      channel: topic[2]\n", "", "missing field `channel`"),
            ("name: t\n", "name: t\n    qos: 2\n", "feed `t`: `qos` must be 0 or 1"),
            ("name: t\n", "name: t\n    schema: {type: nonsense}\n", "`schema` is not a JSON schema"),
            ("name: t\n", "name: t\n    label: {class: secret}\n", "unknown variant `secret`"),
            (
                "name: t\n",
                "name: t\n    detectors: [{name: a, kind: limits}]\n",
                "detector `a`: limits need `low` or `high`",
            ),
            (
                "name: t\n",
                "name: t\n    detectors: [{name: a, kind: limits, of: mean, high: 1}]\n",
                "the feed needs a `window`",
            ),
        ] {
            let error = wrong(&GOOD.replacen(old, new, 1));
            assert!(error.starts_with("feeds.yaml:") && error.contains(told), "{new}: {error}");
        }
        let twice = format!("{GOOD}{}", &GOOD[7..]);
        assert!(wrong(&twice).contains("two feeds are named `t`"));
    }
}
