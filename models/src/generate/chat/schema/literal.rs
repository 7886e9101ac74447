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
