//! What libraries say of broken input, in the words of whoever wrote it: no type of this program's language, and no place
//! where one is told beside it.

use jsonschema::{ReferencingError, ValidationError, error::ValidationErrorKind};

/// What serde says of a value that does not fit a type.
#[must_use]
pub fn of_serde(message: &str) -> String {
    let message = without_places(message);
    for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
        let parts = message.strip_prefix(kind).and_then(|rest| rest.rsplit_once(", expected "));
        if let Some((found, expected)) = parts {
            // A structure may be read from a list, which nobody means.
            if kind == "invalid length " {
                let found = if expected.starts_with("struct ") { "a list" } else { found };
                return format!(
                    "{}{found}, expected {}",
                    if found == "a list" { "invalid type: " } else { kind },
                    wanted(expected)
                );
            }
            return format!("{kind}{}, expected {}", kind_of(found), wanted(expected));
        }
    }
    message
}

/// Why a text is no JSON: where, and what was expected there.
#[must_use]
pub fn of_json(error: &serde_json::Error) -> String {
    let why = why_no_json(error);
    if error.is_eof() { why } else { format!("{why}, at line {}, column {}", error.line(), error.column()) }
}

/// Why a text is no JSON, without the place.
#[must_use]
pub fn why_no_json(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "it ends too early".to_owned();
    }
    let said = without_places(&error.to_string());
    match said.as_str() {
        "expected value" => "expected a value".to_owned(),
        "expected ident" => "expected true, false or null".to_owned(),
        "trailing characters" => "expected nothing more".to_owned(),
        "trailing comma" => "expected no comma before the end".to_owned(),
        _ => of_serde(&said),
    }
}

/// Why a text is no JSON schema, or a value does not fit one.
#[must_use]
pub fn of_schema(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::Referencing(ReferencingError::Unretrievable { uri, .. }) => {
            // What has no host is taken for a document beside this one.
            let uri = uri.strip_prefix("json-schema:///").unwrap_or(uri);
            format!(
                "the $ref to {uri:?} leads to another document, and none is fetched: expected one within the schema, such as \"#/$defs/part\""
            )
        }
        _ => error.to_string(),
    }
}

/// The message without ` at line 3 column 5`, wherever it says so.
pub(super) fn without_places(message: &str) -> String {
    let mut left = String::new();
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(" at line ") {
        let line = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(column) = line.strip_prefix(" column ").filter(|_| line.len() < after.len()) else {
            left.push_str(before);
            left.push_str(" at line ");
            rest = after;
            continue;
        };
        left.push_str(before);
        rest = column.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    left + rest
}

/// What was found, as YAML and JSON call it.
fn kind_of(found: &str) -> &str {
    match found {
        "map" => "an object",
        "sequence" => "a list",
        "unit value" | "null" | "Option value" => "nothing",
        other => other,
    }
}

/// What was expected.
fn wanted(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "path string" => "a path",
        "a boolean" => "true or false",
        "unit" => "nothing",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        nonzero if nonzero.starts_with("a nonzero ") => "a whole number from 1",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        shape if shape.starts_with("struct ") || shape.starts_with("internally tagged enum ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_of_the_program_is_told_and_no_place_twice() {
        for (said, told) in [
            ("invalid type: map, expected a sequence", "invalid type: an object, expected a list"),
            (
                "invalid type: string \"a, expected b\", expected u16",
                "invalid type: string \"a, expected b\", expected a whole number from 0 to 65535",
            ),
            (
                "invalid value: integer `-5`, expected u32",
                "invalid value: integer `-5`, expected a whole number from 0 to 4294967295",
            ),
            ("invalid type: unit value, expected struct Feed", "invalid type: nothing, expected an object"),
            ("invalid length 0, expected struct Label with 3 elements", "invalid type: a list, expected an object"),
            ("invalid length 3, expected a tuple of size 2", "invalid length 3, expected a tuple of size 2"),
            (
                "invalid type: integer `5`, expected a string at line 3 column 5",
                "invalid type: integer `5`, expected a string",
            ),
            (
                "did not find ',' at line 4 column 1, while parsing a mapping at line 3 column 1",
                "did not find ',', while parsing a mapping",
            ),
            ("stands at line of fire", "stands at line of fire"),
            ("unknown field `a`, expected `b`", "unknown field `a`, expected `b`"),
        ] {
            assert_eq!(of_serde(said), told);
        }
    }

    #[test]
    fn a_reference_to_another_document_is_named() {
        for uri in ["https://example.com/part.json", "part.json"] {
            let schema = serde_json::json!({"properties": {"a": {"$ref": uri}}});
            let told = of_schema(&jsonschema::validator_for(&schema).unwrap_err());
            assert!(told.starts_with(&format!("the $ref to {uri:?} leads to another document")), "{told}");
        }
    }

    #[test]
    fn what_is_no_json_says_where() {
        let told = |text: &str| of_json(&serde_json::from_str::<serde_json::Value>(text).unwrap_err());
        assert_eq!(told("x"), "expected a value, at line 1, column 1");
        assert_eq!(told("{\"a\": [1,"), "it ends too early");
        assert_eq!(told("{}\n{}"), "expected nothing more, at line 2, column 1");
        assert_eq!(told("nul"), "it ends too early");
        assert_eq!(told("{\"a\" 1}"), "expected `:`, at line 1, column 6");
    }
}
