//! A JSON schema (2020-12, and what older drafts write in its place) made ready to hold an answer to: what cannot be held is refused by
//! keyword and place before anything is computed, and the rest is written so that whatever fits it fits the schema that was given.
//! It may be narrower: an object has the properties that are described, a list without equals has one item, formats leave out leap days.

mod ends;
mod examples;
mod keywords;
mod literal;
#[cfg(test)]
mod tests;

pub(super) use examples::examples;
use serde_json::{Map, Value, json};

use crate::Error;

/// Decimals that are told apart.
const DECIMALS_MAX: usize = 40;
/// Schemas for answers are small; deeper ones are mistakes.
const DEPTH_MAX: usize = 64;
/// Parts of a schema, each counted as often as it is referred to in another way.
const PARTS_MAX: usize = 4_096;

/// Where a part of a schema stands: alone, or as one of several that must all fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Alone,
    Among,
}

/// A schema that the grammar's compiler takes.
pub(super) fn narrow(schema: &Value) -> Result<Value, Error> {
    if schema == &Value::Bool(false) {
        return Err(wrong("", "false", "is fitted by no value"));
    }
    let mut narrowing =
        Narrowing { root: schema, definitions: Vec::new(), parts: 0, decimals: decimals(schema).max(5) + 1 };
    let mut narrowed = narrowing.part(schema, "", 0, Stands::Alone)?;
    let mut at = 0;
    while let Some(Definition { reference, stands, .. }) = narrowing.definitions.get(at) {
        let (reference, stands) = (reference.clone(), *stands);
        let target = resolve(schema, &reference, &reference)?;
        let place = reference.trim_start_matches('#').to_owned();
        narrowing.definitions[at].narrowed = narrowing.part(target, &place, 0, stands)?;
        at += 1;
    }
    let definitions = narrowing.definitions.into_iter().enumerate();
    let mut definitions: Map<String, Value> =
        definitions.map(|(at, definition)| (format!("r{at}"), definition.narrowed)).collect();
    ends::prune(&mut narrowed, &mut definitions)?;
    match &mut narrowed {
        Value::Object(map) if !definitions.is_empty() => {
            map.insert("$defs".to_owned(), Value::Object(definitions));
        }
        _ => {}
    }
    Ok(narrowed)
}

/// Whether a narrowed schema asks anywhere for a multiple.
pub(super) fn has_multiples(schema: &Value) -> bool {
    match schema {
        Value::Array(parts) => parts.iter().any(has_multiples),
        Value::Object(parts) => {
            // A property may have that name too; its numbers are then shorter than they might be.
            parts.contains_key("multipleOf") || parts.values().any(has_multiples)
        }
        _ => false,
    }
}

/// What a reference leads to, read once for each way in which it stands.
struct Definition {
    reference: String,
    stands: Stands,
    narrowed: Value,
}

struct Narrowing<'a> {
    root: &'a Value,
    definitions: Vec<Definition>,
    parts: usize,
    /// One more than any number of the schema has, and six at least.
    decimals: usize,
}

/// How many decimals the number with the most of them has, as far as they are counted.
fn decimals(schema: &Value) -> usize {
    match schema {
        Value::Number(number) => number.as_f64().map_or(0, |number| {
            format!("{number}").split_once('.').map_or(0, |(_, decimals)| decimals.len().min(DECIMALS_MAX))
        }),
        Value::Array(parts) => parts.iter().map(decimals).max().unwrap_or(0),
        Value::Object(parts) => parts.values().map(decimals).max().unwrap_or(0),
        _ => 0,
    }
}

impl Narrowing<'_> {
    fn part(&mut self, schema: &Value, at: &str, depth: usize, stands: Stands) -> Result<Value, Error> {
        self.parts += 1;
        if depth > DEPTH_MAX || self.parts > PARTS_MAX {
            let expected = format!("at most {DEPTH_MAX} levels and {PARTS_MAX} parts");
            return Err(Error::request(format!("schema{} is too large: expected {expected}", place(at))));
        }
        let map = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(map) => map,
            _ => return Err(Error::request(format!("schema{} must be an object, true or false", place(at)))),
        };
        if let Some(key) = map.keys().find(|key| keywords::UNSUPPORTED.contains(&key.as_str())) {
            return Err(wrong(at, key, "is not supported here"));
        }
        let is_named = |key: &str| map.get(key).and_then(Value::as_str).is_some_and(|id| !id.starts_with('#'));
        if let Some(key) = ["$id", "id"].into_iter().find(|key| !at.is_empty() && is_named(key) && refers(schema)) {
            return Err(wrong(at, key, "says where the references in it begin: expected it at the top alone"));
        }
        let inner = keywords::inner(map, stands);
        let mut part = Part { whole: self, at, depth, inner: inner.own, out: Map::new(), all_of: Vec::new() };
        part.order(map)?;
        part.kinds(map)?;
        for (key, value) in map {
            part.keyword(key, value, &inner)?;
        }
        part.beyond_excluded(map);
        part.array(map)?;
        part.object(map)?;
        let Part { mut out, all_of, .. } = part;
        if !all_of.is_empty() {
            out.insert("allOf".to_owned(), Value::Array(all_of));
        }
        Ok(Value::Object(out))
    }

    /// A reference by the name that its target has among the definitions.
    fn reference(&mut self, reference: &Value, at: &str, stands: Stands) -> Result<Value, Error> {
        let text = reference.as_str().filter(|text| *text == "#" || text.starts_with("#/"));
        let text =
            text.ok_or_else(|| wrong(at, "$ref", &format!("is {reference}: expected a place in this schema")))?;
        resolve(self.root, text, at)?;
        let known = self.definitions.iter().position(|known| known.reference == text && known.stands == stands);
        let number = known.unwrap_or_else(|| {
            self.definitions.push(Definition { reference: text.to_owned(), stands, narrowed: Value::Bool(true) });
            self.definitions.len() - 1
        });
        Ok(json!(format!("#/$defs/r{number}")))
    }
}

/// Whether there is a reference in a part of a schema.
fn refers(part: &Value) -> bool {
    match part {
        Value::Object(map) => map.get("$ref").is_some_and(Value::is_string) || map.values().any(refers),
        Value::Array(parts) => parts.iter().any(refers),
        _ => false,
    }
}

fn resolve<'a>(root: &'a Value, reference: &str, at: &str) -> Result<&'a Value, Error> {
    let pointer = unescaped(reference.trim_start_matches('#'));
    root.pointer(&pointer).ok_or_else(|| wrong(at, "$ref", &format!("is {reference:?}, which is not in this schema")))
}

/// A fragment of a URI without its percent-encoding (RFC 6901, section 6).
fn unescaped(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.first_chunk::<2>().filter(|_| *first == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One part on its way.
struct Part<'a, 'b> {
    whole: &'a mut Narrowing<'b>,
    at: &'a str,
    depth: usize,
    /// How what its own keywords describe stands.
    inner: Stands,
    out: Map<String, Value>,
    all_of: Vec<Value>,
}

impl Part<'_, '_> {
    fn inside(&mut self, key: &str, schema: &Value, stands: Stands) -> Result<Value, Error> {
        self.whole.part(schema, &format!("{}/{key}", self.at), self.depth + 1, stands)
    }

    fn list(&mut self, key: &str, schemas: &Value, stands: Stands) -> Result<Vec<Value>, Error> {
        let schemas = schemas.as_array().filter(|schemas| !schemas.is_empty());
        let schemas = schemas.ok_or_else(|| wrong(self.at, key, "must be a list with an entry"))?;
        schemas.iter().enumerate().map(|(i, schema)| self.inside(&format!("{key}/{i}"), schema, stands)).collect()
    }

    /// Of each property.
    fn properties(&mut self, key: &str, map: &Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let properties = match map.get(key) {
            None => return Ok(Map::new()),
            Some(Value::Object(properties)) => properties,
            Some(_) => return Err(wrong(self.at, key, "must be an object")),
        };
        let read = |(name, schema): (&String, &Value)| {
            literal::check_text(name, self.at, key)?;
            Ok((name.clone(), self.inside(&format!("{key}/{name}"), schema, self.inner)?))
        };
        properties.iter().map(read).collect()
    }
}

fn wrong(at: &str, key: &str, message: &str) -> Error {
    Error::request(format!("schema{}: {key} {message}", place(at)))
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" at {at}") }
}
