//! From a message to readings: where each part comes from, and what is wrong if it is not there. A message that does not
//! fit is data, not an error of the program: it is quarantined with the reason given here.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value;
use shared::time::Timestamp;

pub use super::place::Names;
use super::{
    Feed,
    place::{NAME_LEN_MAX, Path, Source, Time},
};
use crate::reading::Reading;

/// The largest payload that is decoded; what is larger is quarantined. Sensors send a few hundred bytes.
pub const PAYLOAD_LEN_MAX: usize = 256 << 10;
const UNIT_LEN_MAX: usize = 32;
/// Channels that one message can carry.
const CHANNELS_MAX: usize = 256;

/// Where the parts of a reading are in a message.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawDecode")]
pub struct Decode {
    device: Source,
    values: Vec<(Channel, Path)>,
    time: Option<Time>,
    unit: Option<Source>,
    id: Option<Source>,
}

/// Which channel a value belongs to: said by the message, or by the key it stands under in the configuration.
#[derive(Debug, Clone)]
enum Channel {
    From(Source),
    Named(Arc<str>),
}

/// What a message says.
#[derive(Debug)]
pub struct Decoded {
    /// At least one.
    pub readings: Vec<Reading>,
    /// The message's own id, if the feed says where it is.
    pub id: Option<String>,
    /// Whether the message itself says when it was measured.
    pub timed: bool,
    pub payload: Value,
}

/// Why a message does not fit its feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("oversized: {bytes} bytes, at most {PAYLOAD_LEN_MAX} are decoded")]
    Oversized { bytes: usize },
    #[error("oversized: a packet of {bytes} bytes, at most {most} are taken; its client {client:?} was disconnected")]
    TooLarge { bytes: usize, most: usize, client: String },
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("schema: {0}")]
    Schema(String),
    #[error("missing field: no {what} at {place}")]
    Missing { what: &'static str, place: String },
    #[error("bad field: {what} at {place} is {found}, expected {expected}")]
    Bad { what: &'static str, place: String, found: String, expected: &'static str },
}

impl Decode {
    /// How many levels a topic must have for this to find its parts.
    #[must_use]
    pub fn levels_needed(&self) -> usize {
        let of = |source: &Source| if let Source::Topic(level) = source { level + 1 } else { 0 };
        let channels = self.values.iter().map(|(channel, _)| match channel {
            Channel::From(source) => of(source),
            Channel::Named(_) => 0,
        });
        let rest =
            [Some(&self.device), self.unit.as_ref(), self.id.as_ref(), self.time.as_ref().map(|time| &time.from)];
        channels.chain(rest.into_iter().flatten().map(of)).max().unwrap_or(0)
    }

    fn readings(
        &self,
        topic: &str,
        payload: &Value,
        received: Timestamp,
        names: &mut Names,
    ) -> Result<(Vec<Reading>, bool), Misfit> {
        let device = self.device.name("device", topic, payload, NAME_LEN_MAX, names)?;
        let at = match &self.time {
            None => None,
            Some(time) => Some(time.read(topic, payload)?),
        };
        let unit = match &self.unit {
            None => None,
            Some(source) => Some(source.name("unit", topic, payload, UNIT_LEN_MAX, names)?),
        };
        let mut readings = Vec::with_capacity(self.values.len());
        for (channel, path) in &self.values {
            let channel = match channel {
                Channel::From(source) => source.name("channel", topic, payload, NAME_LEN_MAX, names)?,
                // Of several channels a message may carry some.
                Channel::Named(_) if path.find(payload).is_none() => continue,
                Channel::Named(name) => Arc::clone(name),
            };
            let value = path.number("value", payload)?;
            readings.push(Reading {
                device: Arc::clone(&device),
                channel,
                value,
                unit: unit.clone(),
                at: at.unwrap_or(received),
            });
        }
        if readings.is_empty() {
            let places: Vec<&str> = self.values.iter().map(|(_, path)| path.text.as_str()).collect();
            return Err(Misfit::Missing { what: "value", place: places.join(", ") });
        }
        Ok((readings, at.is_some()))
    }
}

/// What a message of this feed says.
///
/// # Errors
/// Why it does not fit.
pub fn decode(
    feed: &Feed,
    topic: &str,
    payload: &[u8],
    received: Timestamp,
    names: &mut Names,
) -> Result<Decoded, Misfit> {
    if payload.len() > PAYLOAD_LEN_MAX {
        return Err(Misfit::Oversized { bytes: payload.len() });
    }
    let value: Value = serde_json::from_slice(payload).map_err(|error| Misfit::NotJson(error.to_string()))?;
    if let Some(schema) = &feed.schema {
        schema.check(&value).map_err(Misfit::Schema)?;
    }
    let (readings, timed) = feed.decode.readings(topic, &value, received, names)?;
    let id = match &feed.decode.id {
        None => None,
        Some(source) => Some(source.text("id", topic, &value)?.into_owned()),
    };
    Ok(Decoded { readings, id, timed, payload: value })
}

/// Whether a message that does not fit still says which one it is: its own id, and whether it says its time.
#[must_use]
pub fn identity(feed: &Feed, topic: &str, payload: &[u8]) -> (Option<String>, bool) {
    if payload.len() > PAYLOAD_LEN_MAX {
        return (None, false);
    }
    let Ok(value) = serde_json::from_slice::<Value>(payload) else { return (None, false) };
    let decode = &feed.decode;
    let id =
        decode.id.as_ref().and_then(|source| source.text("id", topic, &value).ok()).map(std::borrow::Cow::into_owned);
    (id, decode.time.as_ref().is_some_and(|time| time.read(topic, &value).is_ok()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDecode {
    #[serde(default)]
    format: Format,
    device: Source,
    channel: Option<Source>,
    value: Option<Values>,
    time: Option<Time>,
    unit: Option<Source>,
    id: Option<Source>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
}

enum Values {
    One(Path),
    Several(Vec<(Arc<str>, Path)>),
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;
        impl<'de> Visitor<'de> for Place {
            type Value = Values;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place such as /value, or a mapping from channel to place")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Values, E> {
                text.parse().map(Values::One).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut several = Vec::new();
                while let Some((channel, path)) = map.next_entry::<String, Path>()? {
                    if channel.is_empty() || channel.len() > NAME_LEN_MAX {
                        return Err(A::Error::custom("a channel's name must have 1 to 200 bytes"));
                    }
                    several.push((channel.into(), path));
                }
                Ok(Values::Several(several))
            }
        }
        deserializer.deserialize_any(Place)
    }
}

impl TryFrom<RawDecode> for Decode {
    type Error = String;

    fn try_from(raw: RawDecode) -> Result<Self, String> {
        let Format::Json = raw.format;
        let values = match (raw.value, raw.channel) {
            (Some(Values::Several(_)), Some(_)) => {
                return Err("channel: `value` names the channels itself: leave `channel` out".to_owned());
            }
            (Some(Values::Several(several)), None) => {
                if !(1..=CHANNELS_MAX).contains(&several.len()) {
                    return Err(format!("value: expected 1 to {CHANNELS_MAX} channels, found {}", several.len()));
                }
                several.into_iter().map(|(channel, path)| (Channel::Named(channel), path)).collect()
            }
            (_, None) => {
                return Err("channel: it is missing: expected a place such as topic[2] or /channel".to_owned());
            }
            (Some(Values::One(path)), Some(channel)) => vec![(Channel::From(channel), path)],
            (None, Some(channel)) => vec![(Channel::From(channel), "/value".parse()?)],
        };
        Ok(Self { device: raw.device, values, time: raw.time, unit: raw.unit, id: raw.id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Feeds;

    fn decoded(decode: &str, more: &str, payload: &str) -> Result<Vec<(String, String, f64, String)>, String> {
        let yaml = format!("feeds:\n  - name: t\n    topic: plant/+/#\n    decode: {decode}\n{more}");
        let feeds = Feeds::parse("feeds.yaml", &yaml).expect("a feed");
        let received = Timestamp::from_millis(0);
        let decoded =
            super::decode(&feeds.list()[0], "plant/press-1/temp", payload.as_bytes(), received, &mut Names::default());
        let decoded = decoded.map_err(|misfit| misfit.to_string())?;
        let reading = |reading: Reading| {
            (reading.device.to_string(), reading.channel.to_string(), reading.value, reading.at.to_string())
        };
        Ok(decoded.readings.into_iter().map(reading).collect())
    }

    fn one(device: &str, channel: &str, value: f64, at: &str) -> Result<Vec<(String, String, f64, String)>, String> {
        Ok(vec![(device.to_owned(), channel.to_owned(), value, at.to_owned())])
    }

    #[test]
    fn each_part_comes_from_where_the_feed_says() {
        let simple = "{device: 'topic[1]', channel: 'topic[2]'}";
        assert_eq!(decoded(simple, "", r#"{"value":1.5}"#), one("press-1", "temp", 1.5, "1970-01-01T00:00:00Z"));
        let paths =
            "{device: '$.meta.id', channel: {constant: flow}, value: '$.data[1]', time: {from: /ts, format: epoch-s}}";
        let payload = r#"{"meta":{"id":7},"data":[1,2.5],"ts":1767225600.5}"#;
        assert_eq!(decoded(paths, "", payload), one("7", "flow", 2.5, "2026-01-01T00:00:00.5Z"));
        let civil =
            "{device: /d, channel: /c, value: /v, time: {from: /t, format: 'YYYY-MM-DD hh:mm:ss', offset: '+01:00'}}";
        let payload = r#"{"d":"a","c":"b","v":-0.0,"t":"2026-01-01 01:00:00"}"#;
        assert_eq!(decoded(civil, "", payload), one("a", "b", 0.0, "2026-01-01T00:00:00Z"));
        let whole = "{device: 'topic[1]', channel: {constant: x}, value: $}";
        assert_eq!(decoded(whole, "", "21"), one("press-1", "x", 21.0, "1970-01-01T00:00:00Z"));
    }

    #[test]
    fn a_message_with_several_channels_gives_those_it_has() {
        let several = "{device: 'topic[1]', value: {temperature: /t, pressure: /p}}";
        let channels = |payload: &str| {
            decoded(several, "", payload).map(|all| all.into_iter().map(|r| (r.1, r.2)).collect::<Vec<_>>())
        };
        assert_eq!(
            channels(r#"{"t":1,"p":2}"#),
            Ok(vec![("temperature".to_owned(), 1.0), ("pressure".to_owned(), 2.0)])
        );
        assert_eq!(channels(r#"{"p":2}"#), Ok(vec![("pressure".to_owned(), 2.0)]));
        assert_eq!(channels("{}"), Err("missing field: no value at /t, /p".to_owned()));
    }

    #[test]
    fn a_misfit_says_why() {
        let decode = "{device: 'topic[1]', channel: 'topic[2]', time: /t}";
        let schema = "    schema: {type: object, properties: {value: {maximum: 10}}}\n";
        for (payload, told) in [
            ("nonsense", "not JSON: "),
            (
                r#"{"value":11,"t":"2026-01-01T00:00:00Z"}"#,
                "schema: 11 is greater than the maximum of 10 at \"/value\"",
            ),
            (r#"{"value":1}"#, "missing field: no time at /t"),
            (r#"{"value":"1","t":"2026-01-01T00:00:00Z"}"#, "bad field: value at /value is \"1\", expected a number"),
            (r#"{"value":1,"t":"today"}"#, "bad field: time at /t is \"today\", expected an RFC 3339 time"),
        ] {
            let misfit = decoded(decode, schema, payload).expect_err("a misfit");
            assert!(misfit.starts_with(told), "{payload}: {misfit}");
        }
        let large = format!("\"{}\"", "x".repeat(PAYLOAD_LEN_MAX));
        assert!(decoded(decode, "", &large).expect_err("too large").starts_with("oversized: 262146 bytes"));
    }
}
