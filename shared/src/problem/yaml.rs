//! YAML text that a person wrote: read into JSON, and asked afterwards where in the text a thing stands. The second
//! question is rare (only mistakes raise it), so it reads the text again with a reader that stops at the place in question.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{Problem, dotted, split_field, words};

/// More than any real document (the largest public workflow has 9 KB), and little enough to be read many times.
const BYTES_MAX: usize = 1 << 20;

/// Line and column, 1-based.
pub type Place = (u32, u32);

/// Reads YAML into JSON. The error is the place, if known, and what is wrong there.
pub fn read(yaml: &str) -> Result<Value, (Option<Place>, String)> {
    if yaml.len() > BYTES_MAX {
        return Err((None, format!("the document has {} bytes: expected at most {BYTES_MAX}", yaml.len())));
    }
    let fail = |error: serde_yaml_ng::Error| {
        let place = error.location().and_then(|at| place(&at));
        (place, in_yaml(words::of_serde(&error.to_string())))
    };
    // JSON's own reader would take the last of two equal keys.
    Once.deserialize(serde_yaml_ng::Deserializer::from_str(yaml)).map_err(|error| {
        let (place, message) = fail(error);
        // The reader puts the path in front; the place says more.
        let own = message.find('`').filter(|_| message.ends_with(TWICE)).map(|start| message[start..].to_owned());
        (place, own.unwrap_or(message))
    })?;
    serde_yaml_ng::from_str(yaml).map_err(fail)
}

const TWICE: &str = " is here twice: keep one";

/// Looks through a document for a key that is there twice.
#[derive(Clone, Copy)]
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A key that must not have been seen in its object.
struct NewKey<'s>(&'s mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_owned()) { Ok(()) } else { Err(E::custom(format!("`{key}`{TWICE}"))) }
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    /// What a document gives that holds nothing.
    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while map.next_key_seed(NewKey(&mut seen))?.is_some() {
            map.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn place(at: &serde_yaml_ng::Location) -> Option<Place> {
    Some((u32::try_from(at.line()).ok()?, u32::try_from(at.column()).ok()?))
}

/// Whether the key of an object's member is meant, or its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Key,
    Value,
}

/// Where in the text the thing at this path stands; of what is not there, where its nearest parent stands.
pub fn locate(yaml: &str, path: &[String], side: Side) -> Option<Place> {
    (0..=path.len()).rev().find_map(|len| {
        let side = if len == path.len() { side } else { Side::Key };
        let seek = Seek { path: &path[..len], side };
        let stopped = seek.deserialize(serde_yaml_ng::Deserializer::from_str(yaml)).err()?;
        if !stopped.to_string().contains(FOUND) {
            return None;
        }
        place(&stopped.location()?)
    })
}

const FOUND: &str = "\u{1}found\u{1}";

/// Goes down a path and stops with an error there, because errors are what knows the place.
struct Seek<'p> {
    path: &'p [String],
    side: Side,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A key that stops the reader when it is the wanted one.
struct SeekKey<'p> {
    wanted: &'p str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        let is_wanted = key == self.wanted;
        if is_wanted && self.stop { Err(E::custom(FOUND)) } else { Ok(is_wanted) }
    }
}

impl Seek<'_> {
    fn scalar<E: de::Error>(self) -> Result<(), E> {
        if self.path.is_empty() { Err(E::custom(FOUND)) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.scalar()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((index, rest)) = self.path.split_first() else { return Err(de::Error::custom(FOUND)) };
        let mut position = 0_usize;
        loop {
            let more = if index.parse() == Ok(position) {
                seq.next_element_seed(Seek { path: rest, side: self.side })?
            } else {
                seq.next_element::<IgnoredAny>()?.map(|_| ())
            };
            if more.is_none() {
                return Ok(());
            }
            position += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else { return Err(de::Error::custom(FOUND)) };
        let stop = rest.is_empty() && self.side == Side::Key;
        while let Some(is_wanted) = map.next_key_seed(SeekKey { wanted, stop })? {
            if is_wanted {
                map.next_value_seed(Seek { path: rest, side: self.side })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Reads JSON into a type; the error is the path to what is wrong, whether its key or its value is, and what.
pub fn decode<'v, T: Deserialize<'v>>(value: &'v Value) -> Result<T, (Vec<String>, Side, String)> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                serde_path_to_error::Segment::Enum { variant } => Some(variant.clone()),
                serde_path_to_error::Segment::Unknown => None,
            })
            .collect();
        let message = in_yaml(words::of_serde(&error.into_inner().to_string()));
        let side = if message.starts_with("unknown field") { Side::Key } else { Side::Value };
        further(path, side, message)
    })
}

/// Says how YAML writes what was expected.
fn in_yaml(message: String) -> String {
    if message.ends_with(", expected a list") { message + DASHES } else { message }
}

/// What YAML's writers are told of a list, and JSON's need not know.
pub const DASHES: &str = ", each entry begun with `- `";

/// Begins the message of a mistake further down than serde knows; no document has it.
const FURTHER: char = '\u{1}';

/// The message of a mistake in what a type reads for itself, out of a part of its value at `step`: `decode` of the whole
/// places it there.
pub fn within(step: &str, path: &[String], side: Side, message: &str) -> String {
    let side = if side == Side::Key { 'k' } else { 'v' };
    let path: Vec<&str> = step.split('/').chain(path.iter().map(String::as_str)).collect();
    format!("{FURTHER}{side}{}{FURTHER}{message}", serde_json::json!(path))
}

/// What `within` has written into a message, as part of the path.
fn further(path: Vec<String>, side: Side, message: String) -> (Vec<String>, Side, String) {
    let parts = message.strip_prefix(FURTHER).and_then(|rest| rest.split_once(FURTHER));
    let Some((place, said)) = parts else { return (path, side, message) };
    let (side, steps) = place.split_at(1);
    let steps: Vec<String> = serde_json::from_str(steps).unwrap_or_default();
    (path.into_iter().chain(steps).collect(), if side == "k" { Side::Key } else { Side::Value }, said.to_owned())
}

/// A YAML file that was read, for readers of its parts: a mistake names file, line, column and field.
#[derive(Debug)]
pub struct Document<'t> {
    file: &'t str,
    text: &'t str,
    value: Value,
}

impl<'t> Document<'t> {
    /// Reads the text; `file` is what problems call it.
    ///
    /// # Errors
    /// When it is no YAML, or a key is there twice.
    pub fn read(file: &'t str, text: &'t str) -> Result<Self, Problem> {
        let value = read(text).map_err(|(place, message)| {
            let (line, column) = place.unzip();
            Problem { file: file.to_owned(), line, column, field: String::new(), message }
        })?;
        Ok(Self { file, text, value })
    }

    /// The whole of it.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.value
    }

    /// Reads the part at `path` into a type.
    ///
    /// # Errors
    /// The first mistake in it. A type's own check may begin its message with `field: ` to say which of its fields is meant.
    pub fn part<T: de::DeserializeOwned>(&self, path: &[String]) -> Result<T, Problem> {
        let part = path.iter().try_fold(&self.value, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            value => value.get(step),
        });
        decode(part.unwrap_or(&Value::Null)).map_err(|(inner, side, message)| {
            let (field, message) = split_field(&message);
            self.problem(&[path, &inner, &field].concat(), side, message)
        })
    }

    /// A problem with what stands at `path`.
    #[must_use]
    pub fn problem(&self, path: &[String], side: Side, message: impl Into<String>) -> Problem {
        let (line, column) = locate(self.text, path, side).unzip();
        Problem { file: self.file.to_owned(), line, column, field: dotted(path), message: message.into() }
    }
}

/// The path of the first thing in `read` that `written` lacks or has otherwise.
pub fn first_difference(read: &Value, written: &Value) -> Option<Vec<String>> {
    if read == written {
        return None;
    }
    let inner = match (read, written) {
        (Value::Object(read), Value::Object(written)) => read.iter().find_map(|(key, value)| {
            let rest = written.get(key).map_or_else(|| Some(Vec::new()), |other| first_difference(value, other))?;
            Some((key.clone(), rest))
        }),
        (Value::Array(read), Value::Array(written)) => {
            let mut pairs = read.iter().zip(written).enumerate();
            pairs.find_map(|(index, (value, other))| Some((index.to_string(), first_difference(value, other)?)))
        }
        _ => None,
    };
    Some(inner.map_or_else(Vec::new, |(segment, rest)| [vec![segment], rest].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
a: 1
do:
  - first:
      set: { x: [1, 2, { y: 3 }] }
  - second:
      set:
        z: >-
          long
";

    fn at(path: &str, side: Side) -> Option<Place> {
        let path: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
        locate(TEXT, &path, side)
    }

    #[test]
    fn every_key_and_value_is_found_where_it_stands() {
        assert_eq!(at("/a", Side::Key), Some((1, 1)));
        assert_eq!(at("/a", Side::Value), Some((1, 4)));
        assert_eq!(at("/do/0/first", Side::Key), Some((3, 5)));
        assert_eq!(at("/do/0/first/set/x/2/y", Side::Key), Some((4, 26)));
        assert_eq!(at("/do/0/first/set/x/2/y", Side::Value), Some((4, 29)));
        assert_eq!(at("/do/1/second/set/z", Side::Value), Some((7, 12)));
    }

    #[test]
    fn what_is_missing_is_placed_at_its_nearest_parent() {
        assert_eq!(at("/do/1/second/set/nothing/here", Side::Value), Some((6, 7)));
        assert_eq!(at("/nothing", Side::Value), Some((1, 1)));
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused_with_its_place() {
        let (place, message) = read("a: 1\nb: 2\nc: [{ a: 3, d: 4,\n  d: 5 }]\n").unwrap_err();
        assert_eq!((place, message.as_str()), (Some((4, 3)), "`d` is here twice: keep one"));
    }
}
