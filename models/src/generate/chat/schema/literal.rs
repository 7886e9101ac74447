//! Values that a schema names: what cannot be written in one way alone, or not exactly, is refused.

use serde_json::{Number, Value};

use super::wrong;
use crate::Error;

/// Whole numbers beyond it are not exact in double precision.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

pub(super) fn check(value: &Value, at: &str, key: &str) -> Result<(), Error> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => check_number(number, at, key).map(drop),
        Value::String(text) => check_text(text, at, key),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, at, key)),
        Value::Object(map) => map.iter().try_for_each(|(name, value)| {
            check_text(name, at, key)?;
            check(value, at, key)
        }),
    }
}

/// The values that a narrowed schema allows, where it names them, none is a list or an object, and it asks for nothing but their types.
pub(super) fn values(schema: &Value) -> Option<Vec<Value>> {
    let map = schema.as_object()?;
    if !map.keys().all(|key| matches!(key.as_str(), "type" | "const" | "enum")) || map.len() > 2 {
        return None;
    }
    let named = map.get("const").map(|value| vec![value.clone()]).or_else(|| map.get("enum")?.as_array().cloned())?;
    let is_of = |value: &Value, kind: &str| match value {
        Value::Null => kind == "null",
        Value::Bool(_) => kind == "boolean",
        Value::String(_) => kind == "string",
        Value::Number(number) => {
            kind == "number" || kind == "integer" && number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        Value::Array(_) | Value::Object(_) => false,
    };
    let is_one = |value: &Value| match map.get("type") {
        None => !value.is_array() && !value.is_object(),
        Some(Value::String(kind)) => is_of(value, kind),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).any(|kind| is_of(value, kind)),
        Some(_) => false,
    };
    named.iter().all(is_one).then_some(named)
}

/// Whether two values are one, as JSON Schema has it: 1 and 1.0 are.
pub(super) fn is_equal(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

pub(super) fn check_number(number: &Number, at: &str, key: &str) -> Result<f64, Error> {
    let value = number.as_f64().filter(|value| value.abs() <= WHOLE_MAX);
    value.ok_or_else(|| wrong(at, key, &format!("holds {number}: expected a number of at most 2^53")))
}

/// The answer's characters have one spelling each, so that no name is written twice in two ways; control characters have none.
pub(super) fn check_text(text: &str, at: &str, key: &str) -> Result<(), Error> {
    let is_spelt = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' | '\u{80}'..);
    match text.chars().all(is_spelt) {
        true => Ok(()),
        false => Err(wrong(at, key, &format!("holds {text:?}: control characters are not written"))),
    }
}
