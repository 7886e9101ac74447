//! Places: where a part of a reading is, in the payload, in the topic, or always the same; and reading it there.

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value;
use shared::time::Timestamp;

use super::decode::Misfit;

/// The longest device or channel name; keeps a row of the journal and a series' key small.
pub(super) const NAME_LEN_MAX: usize = 200;
/// Names kept for reuse; beyond it the set begins anew, which costs allocations but loses nothing.
const NAMES_KEPT_MAX: usize = 16_384;

/// A part of the payload, a level of the topic, or always the same.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Payload(Path),
    Topic(usize),
    Constant(Arc<str>),
}

/// A place in a JSON value.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) text: String,
    steps: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Time {
    pub(super) from: Source,
    format: TimeFormat,
    /// Appended to a time without zone, such as `+01:00` or `Z`.
    offset: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
enum TimeFormat {
    #[default]
    #[serde(rename = "rfc3339")]
    Rfc3339,
    #[serde(rename = "epoch-s")]
    EpochSeconds,
    #[serde(rename = "epoch-ms")]
    EpochMillis,
    #[serde(rename = "YYYY-MM-DD hh:mm:ss")]
    Civil,
}

/// Names seen lately, so that a million readings of one device share one text.
#[derive(Debug, Default)]
pub struct Names(HashSet<Arc<str>>);

impl Names {
    fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        if self.0.len() >= NAMES_KEPT_MAX {
            self.0.clear();
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}

impl Source {
    pub(super) fn text<'a>(
        &'a self,
        what: &'static str,
        topic: &'a str,
        payload: &'a Value,
    ) -> Result<Cow<'a, str>, Misfit> {
        match self {
            Self::Constant(text) => Ok((&**text).into()),
            Self::Topic(level) => match topic.split('/').nth(*level) {
                Some(text) => Ok(text.into()),
                None => Err(Misfit::Missing { what, place: format!("topic[{level}]") }),
            },
            Self::Payload(path) => match path.find(payload) {
                None | Some(Value::Null) => Err(Misfit::Missing { what, place: path.text.clone() }),
                Some(Value::String(text)) => Ok(text.as_str().into()),
                Some(Value::Number(number)) => Ok(number.to_string().into()),
                Some(other) => Err(path.bad(what, other, "a text or a number")),
            },
        }
    }

    pub(super) fn name(
        &self,
        what: &'static str,
        topic: &str,
        payload: &Value,
        len_max: usize,
        names: &mut Names,
    ) -> Result<Arc<str>, Misfit> {
        if let Self::Constant(text) = self {
            return Ok(Arc::clone(text));
        }
        let text = self.text(what, topic, payload)?;
        if text.is_empty() || text.len() > len_max {
            let found = format!("a text of {} bytes", text.len());
            return Err(Misfit::Bad {
                what,
                place: self.to_string(),
                found,
                expected: "a short text that is not empty",
            });
        }
        Ok(names.share(&text))
    }
}

impl Time {
    pub(super) fn read(&self, topic: &str, payload: &Value) -> Result<Timestamp, Misfit> {
        let text = self.from.text("time", topic, payload)?;
        let parsed = match self.format {
            TimeFormat::Rfc3339 => text.parse().ok(),
            TimeFormat::EpochSeconds => epoch(&text, 1e6),
            TimeFormat::EpochMillis => epoch(&text, 1e3),
            TimeFormat::Civil => format!("{}{}", text.replacen(' ', "T", 1), self.offset).parse().ok(),
        };
        parsed.ok_or_else(|| {
            let expected = match self.format {
                TimeFormat::Rfc3339 => "an RFC 3339 time such as 2026-11-21T08:30:00Z",
                TimeFormat::EpochSeconds => "seconds since 1970",
                TimeFormat::EpochMillis => "milliseconds since 1970",
                TimeFormat::Civil => "a time such as 2026-11-21 08:30:00",
            };
            let found: String = text.chars().take(80).collect();
            Misfit::Bad { what: "time", place: self.from.to_string(), found: format!("{found:?}"), expected }
        })
    }
}

/// A count of seconds or milliseconds as an instant between the years 1 and 9999.
fn epoch(text: &str, micros_each: f64) -> Option<Timestamp> {
    let micros = match text.parse::<i64>() {
        // The unit is 1e3 or 1e6: exact as an integer.
        #[expect(clippy::cast_possible_truncation, reason = "1e3 and 1e6 are whole")]
        Ok(whole) => whole.checked_mul(micros_each as i64)?,
        Err(_) => {
            let micros = (text.parse::<f64>().ok()? * micros_each).round();
            if micros.is_nan() || micros.abs() >= 9e17 {
                return None;
            }
            #[expect(clippy::cast_possible_truncation, reason = "checked to lie within the range")]
            {
                micros as i64
            }
        }
    };
    (-62_135_596_800_000_000..=253_402_300_799_000_000).contains(&micros).then(|| Timestamp::from_micros(micros))
}

impl Path {
    pub(super) fn find<'a>(&self, payload: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(payload, |value, step| match value {
            Value::Object(map) => map.get(step),
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    pub(super) fn number(&self, what: &'static str, payload: &Value) -> Result<f64, Misfit> {
        let value = match self.find(payload) {
            None | Some(Value::Null) => return Err(Misfit::Missing { what, place: self.text.clone() }),
            Some(Value::Bool(on)) => Some(f64::from(u8::from(*on))),
            Some(Value::Number(number)) => number.as_f64(),
            Some(_) => None,
        };
        match value {
            // Adding zero turns -0 into 0, which SQLite would do on the way through the journal.
            Some(number) if number.is_finite() => Ok(number + 0.0),
            _ => Err(self.bad(what, self.find(payload).unwrap_or(&Value::Null), "a number")),
        }
    }

    fn bad(&self, what: &'static str, found: &Value, expected: &'static str) -> Misfit {
        let found: String = found.to_string().chars().take(80).collect();
        Misfit::Bad { what, place: self.text.clone(), found, expected }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload(path) => f.write_str(&path.text),
            Self::Topic(level) => write!(f, "topic[{level}]"),
            Self::Constant(text) => write!(f, "constant {text:?}"),
        }
    }
}

impl std::str::FromStr for Path {
    type Err = String;

    /// A JSON pointer (RFC 6901) or the dotted subset of JSONPath: `/a/0/b`, `$.a[0].b`, `$`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?} is not a place in a message: expected a JSON pointer such as /value, a path such as $.data.value, topic[1], or {{constant: text}}"
            )
        };
        let steps = if let Some(pointer) = text.strip_prefix('/') {
            pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
        } else if let Some(path) = text.strip_prefix('$') {
            let dotted = path.replace('[', ".").replace(']', "");
            match dotted.strip_prefix('.') {
                Some(rest) => rest.split('.').map(str::to_owned).collect::<Vec<_>>(),
                None if dotted.is_empty() => Vec::new(),
                None => return Err(expected()),
            }
        } else {
            return Err(expected());
        };
        if text.starts_with('$') && steps.iter().any(String::is_empty) {
            return Err(expected());
        }
        Ok(Self { text: text.to_owned(), steps })
    }
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = text.strip_prefix("topic[").and_then(|rest| rest.strip_suffix(']'));
        match level.map(str::parse::<u16>) {
            Some(Ok(level)) => Ok(Self::Topic(usize::from(level))),
            Some(Err(_)) => {
                Err(format!("{text:?}: expected the number of a topic level, counted from 0, such as topic[1]"))
            }
            None => text.parse().map(Self::Payload),
        }
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;
        impl<'de> Visitor<'de> for Place {
            type Value = Source;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("/pointer, $.path, topic[1] or {constant: text}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Source, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Source, A::Error> {
                let Some((key, text)) = map.next_entry::<String, String>()? else {
                    return Err(A::Error::custom("expected {constant: text}"));
                };
                if key != "constant" || map.next_key::<String>()?.is_some() {
                    return Err(A::Error::custom(format!("unknown key `{key}`: expected {{constant: text}}")));
                }
                if text.is_empty() || text.len() > NAME_LEN_MAX {
                    return Err(A::Error::custom("a constant must have 1 to 200 bytes"));
                }
                Ok(Source::Constant(text.into()))
            }
        }
        deserializer.deserialize_any(Place)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::text::parsed(deserializer)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            from: Source,
            #[serde(default)]
            format: TimeFormat,
            offset: Option<String>,
        }
        struct Place;
        impl<'de> Visitor<'de> for Place {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place with an RFC 3339 time, or {from, format, offset}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
                let from = text.parse().map_err(E::custom)?;
                Ok(Time { from, format: TimeFormat::Rfc3339, offset: "Z".to_owned() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Time, A::Error> {
                let full = Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let offset = full.offset.unwrap_or_else(|| "Z".to_owned());
                if format!("2000-01-01T00:00:00{offset}").parse::<Timestamp>().is_err() {
                    return Err(A::Error::custom(format!("`offset` {offset:?} must be Z or such as +01:00")));
                }
                Ok(Time { from: full.from, format: full.format, offset })
            }
        }
        deserializer.deserialize_any(Place)
    }
}
