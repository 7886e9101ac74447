//! What does not fit a schema, in words: what was found, and what was expected in its place.

use jsonschema::{
    JsonType, ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::Value;

use crate::problem;

/// Letters of a value that are told.
const TOLD_CHARS_MAX: usize = 80;

/// The kinds of values, as a schema names them.
const TYPES: &str = "array, boolean, integer, null, number, object, string";

/// A topic that something is published to.
pub(super) const TOPIC: &str = "^[^$+#][^+#]*$";

/// One mismatch.
pub(super) fn of(error: &ValidationError<'_>) -> String {
    let found = short(error.instance());
    match error.kind() {
        ValidationErrorKind::Type { kind } => format!("found {found}, expected {}", kinds(kind)),
        ValidationErrorKind::Format { format } => format!("found {found}, expected {}", form(format)),
        ValidationErrorKind::Enum { options } => {
            let options: Vec<String> = options.as_array().into_iter().flatten().map(Value::to_string).collect();
            format!("{found} is not one of {}", options.join(", "))
        }
        ValidationErrorKind::Pattern { pattern } if pattern == TOPIC => {
            format!("found {found}, expected a topic that does not begin with $ and has no wildcard + or #")
        }
        ValidationErrorKind::Constant { expected_value } => format!("found {found}, expected {expected_value}"),
        // The schema of schemas is the one that says `anyOf` of a `type`.
        ValidationErrorKind::AnyOf { .. } if error.instance_path().as_str().ends_with("/type") => {
            format!("found {found}, expected one of {TYPES}, or a list of them")
        }
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
            format!("{found} fits none of the forms that are allowed here")
        }
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            format!("{found} fits more than one of the forms that are allowed here: expected exactly one")
        }
        _ => problem::words::of_schema(error),
    }
}

fn kinds(kind: &TypeKind) -> String {
    let word = |kind: JsonType| match kind {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::String => "a string",
        JsonType::Array => "a list",
        JsonType::Object => "an object",
    };
    match kind {
        TypeKind::Single(one) => word(*one).to_owned(),
        TypeKind::Multiple(all) => all.iter().map(word).collect::<Vec<_>>().join(" or "),
    }
}

fn form(format: &str) -> String {
    match format {
        "duration" => "a duration such as PT5M".to_owned(),
        "date-time" => "an instant such as 2026-01-31T12:00:00Z".to_owned(),
        "date" => "a date such as 2026-01-31".to_owned(),
        other => format!("the format {other:?}"),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(TOLD_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
