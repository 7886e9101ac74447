//! How large a value may be that a run remembers.

use serde_json::Value;

use super::effect::{Error, kind};

/// Bytes of JSON text that one value of a run may have: its input, a task's input or output, the context. Larger things
/// belong in the memory room, and their reference in the run.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Whether the value is within `VALUE_BYTES_MAX`.
#[must_use]
pub fn fits(value: &Value) -> bool {
    left(value, VALUE_BYTES_MAX).is_some()
}

/// Roughly the bytes of a value's JSON text; no more than `VALUE_BYTES_MAX` are counted.
#[must_use]
pub fn size(value: &Value) -> usize {
    VALUE_BYTES_MAX - left(value, VALUE_BYTES_MAX).unwrap_or(0)
}

/// # Errors
/// When the value is too large; `what` names it.
pub(super) fn check(what: &str, value: &Value) -> Result<(), Error> {
    if fits(value) {
        return Ok(());
    }
    let detail = format!("{what} is larger than {VALUE_BYTES_MAX} bytes, the most that a run carries");
    Err(Error::new(kind::LIMIT, detail))
}

/// What is left of the budget after this value's JSON text, escapes not counted; `None` when it is spent.
fn left(value: &Value, budget: usize) -> Option<usize> {
    match value {
        Value::Null | Value::Bool(_) => budget.checked_sub(4),
        Value::Number(_) => budget.checked_sub(8),
        Value::String(text) => budget.checked_sub(text.len() + 2),
        Value::Array(items) => items.iter().try_fold(budget.checked_sub(2)?, |b, item| left(item, b)?.checked_sub(1)),
        Value::Object(map) => {
            map.iter().try_fold(budget.checked_sub(2)?, |b, (key, v)| left(v, b.checked_sub(key.len() + 4)?))
        }
    }
}
