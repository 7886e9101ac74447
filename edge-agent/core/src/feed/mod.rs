//! Feeds: what a person writes of them in a bundle's `feeds.yaml`, checked wholly at the door, and what a message says by
//! it. A mistake names file, line, field and what was expected.

pub mod decode;
mod place;
pub mod rhythm;
pub mod topic;

use std::{collections::HashSet, fmt, sync::Arc};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use shared::{
    label::{DataClass, Label},
    problem::{
        Problems, words,
        yaml::{Document, Side},
    },
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
            return Err(format!("name: {name:?} is no name: expected 1 to 63 of a-z, A-Z, 0-9, `-`, `_` and `.`"));
        }
        if raw.qos > 1 {
            return Err(format!("qos: {} is no quality of service for a feed: expected 0 or 1", raw.qos));
        }
        if raw.detectors.len() > DETECTORS_MAX {
            return Err(format!("detectors: there are {}: expected at most {DETECTORS_MAX}", raw.detectors.len()));
        }
        let mut names = HashSet::new();
        for (index, detector) in raw.detectors.iter().enumerate() {
            if !names.insert(&detector.name) {
                return Err(format!(
                    "detectors.{index}.name: a second detector is called `{}`: each needs its own name",
                    detector.name
                ));
            }
            if raw.window.is_none() && detector.of != Quantity::Value {
                return Err(format!(
                    "detectors.{index}.of: this looks at windows: expected the feed to have a `window`"
                ));
            }
        }
        let (needed, most) = (raw.decode.levels_needed(), raw.topic.levels_max());
        if needed > most {
            return Err(format!(
                "decode: it takes topic[{}], which no topic of {:?} has: expected a level below {most}, counted from 0",
                needed - 1,
                raw.topic.as_str()
            ));
        }
        let schema = match raw.schema {
            None => None,
            Some(schema) => match jsonschema::validator_for(&schema) {
                Ok(compiled) => Some(Schema(compiled)),
                Err(error) => return Err(format!("schema: not a JSON schema: {}", words::of_schema(&error))),
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
    /// The first mistake of each feed, with line and field. Unknown keys are mistakes.
    pub fn parse(file: &str, yaml: &str) -> Result<Self, Problems> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, expecting = "a mapping with the key `feeds`")]
        struct Outline {
            feeds: Vec<IgnoredAny>,
        }
        let one = |problem| Problems(vec![problem]);
        let document = Document::read(file, yaml).map_err(one)?;
        let count = document.part::<Outline>(&[]).map_err(one)?.feeds.len();
        let path = |steps: &[&str]| steps.iter().map(|&step| step.to_owned()).collect::<Vec<_>>();
        if count > FEEDS_MAX {
            let message = format!("there are {count} feeds: expected at most {FEEDS_MAX}");
            return Err(one(document.problem(&path(&["feeds"]), Side::Key, message)));
        }
        let (mut feeds, mut problems) = (Vec::<Arc<Feed>>::new(), Vec::new());
        for index in 0..count {
            let place = path(&["feeds", &index.to_string()]);
            match document.part::<Feed>(&place) {
                Ok(feed) if feeds.iter().any(|other| other.name == feed.name) => {
                    let name = [place, path(&["name"])].concat();
                    let message = format!("a second feed is called `{}`: each needs its own name", feed.name);
                    problems.push(document.problem(&name, Side::Value, message));
                }
                Ok(feed) => feeds.push(Arc::new(feed)),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self { feeds }) } else { Err(Problems(problems)) }
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
        let more = |text: &str| format!("name: t\n    {text}\n");
        let mut others = Vec::new();
        for (old, new, told) in [
            (
                "topic: plant",
                "topik: plant".to_owned(),
                "3:5: feeds[0].topik: unknown field `topik`, expected one of `name`, `topic`, `qos`, `decode`, `schema`, `label`, `window`, `detectors`, `events`",
            ),
            (
                "plant/+/temperature",
                "plant/#/temperature".to_owned(),
                "3:12: feeds[0].topic: \"plant/#/temperature\" is not a topic filter: `#` may only be the last level",
            ),
            (
                "device: topic[1]",
                "device: level 1".to_owned(),
                "5:15: feeds[0].decode.device: \"level 1\" is not a place in a message: expected a JSON pointer such as /value, a path such as $.data.value, topic[1], or {constant: text}",
            ),
            (
                "channel: topic[2]",
                "channel: topic[7]".to_owned(),
                "5:7: feeds[0].decode: it takes topic[7], which no topic of \"plant/+/temperature\" has: expected a level below 3, counted from 0",
            ),
            (
                "      channel: topic[2]\n",
                String::new(),
                "4:5: feeds[0].decode.channel: it is missing: expected a place such as topic[2] or /channel",
            ),
            ("  - name: t\n    topic", "  - topic".to_owned(), "2:5: feeds[0]: missing field `name`"),
            ("name: t\n", more("qos: 2"), "3:10: feeds[0].qos: 2 is no quality of service for a feed: expected 0 or 1"),
            (
                "name: t\n",
                "name: 'a b'\n".to_owned(),
                "2:11: feeds[0].name: \"a b\" is no name: expected 1 to 63 of a-z, A-Z, 0-9, `-`, `_` and `.`",
            ),
            ("name: t\n", more("schema: {type: nonsense}"), "3:13: feeds[0].schema: not a JSON schema: "),
            (
                "name: t\n",
                more("label: {class: secret}"),
                "3:20: feeds[0].label.class: unknown variant `secret`, expected one of `public`, `internal`, `confidential`, `restricted`",
            ),
            (
                "name: t\n",
                more("events: all"),
                "3:13: feeds[0].events: unknown variant `all`, expected `findings` or `message`",
            ),
            (
                "name: t\n",
                more("window: {kind: tumbling, size: soon}"),
                "3:36: feeds[0].window.size: \"soon\" is not a span of time",
            ),
            (
                "name: t\n",
                more("window: {kind: sliding, size: 1h, step: 7m}"),
                "3:45: feeds[0].window.step: 7m must divide `size` 1h into 1 to 1000 parts",
            ),
            (
                "name: t\n",
                more("detectors: [{name: a, kind: limits}]"),
                "3:17: feeds[0].detectors[0]: limits need `low` or `high`, or both",
            ),
            (
                "name: t\n",
                more("detectors: [{name: a, kind: limits, low: 5, high: 5}]"),
                "3:46: feeds[0].detectors[0].low: 5 must lie below `high` 5 by more than twice the hysteresis",
            ),
            (
                "name: t\n",
                more("detectors: [{name: a, kind: limits, high: 5, slots: 3}]"),
                "3:57: feeds[0].detectors[0].slots: does not belong to this kind of detector",
            ),
            (
                "name: t\n",
                more("detectors: [{name: a, kind: limits, of: mean, high: 1}]"),
                "3:45: feeds[0].detectors[0].of: this looks at windows: expected the feed to have a `window`",
            ),
            (
                "name: t\n",
                more("detectors: [{name: a, kind: limits, high: 1}, {name: a, kind: limits, low: 1}]"),
                "3:58: feeds[0].detectors[1].name: a second detector is called `a`: each needs its own name",
            ),
            ("name: t\n", more("qos: 0\n    qos: 1"), "4:5: `qos` is here twice: keep one"),
            ("feeds:\n", "feed:\n".to_owned(), "1:1: feed: unknown field `feed`, expected `feeds`"),
            ("name: t\n", "name: [t\n".to_owned(), "3:"),
        ] {
            let error = wrong(&GOOD.replacen(old, &new, 1));
            if !error.starts_with(&format!("feeds.yaml:{told}")) {
                others.push(format!("{new}\nis told of as {error}\n     expected {told}"));
            }
        }
        assert!(others.is_empty(), "{}", others.join("\n\n"));
    }

    #[test]
    fn every_feed_is_looked_at_before_anything_is_refused() {
        let second = &GOOD[7..];
        let twice = format!("{GOOD}{}{second}", second.replace("plant/+/t", "plant/#/t"));
        assert_eq!(
            wrong(&twice),
            "feeds.yaml:8:12: feeds[1].topic: \"plant/#/temperature\" is not a topic filter: `#` may only be the last level\n\
             feeds.yaml:12:11: feeds[2].name: a second feed is called `t`: each needs its own name"
        );
    }
}
