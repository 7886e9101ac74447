//! The functions that a workflow may call without defining them: those of the language itself, and the catalog
//! `default` with what this product adds. Each has the schemas of its arguments and of its output.

mod schemas;
mod words;

use std::{fmt, sync::LazyLock};

use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::Value;

use super::definition::parse_iso8601;
use crate::time;

/// The catalog of the built-in functions, as in `infer:1.0.0@default`.
pub const NAME: &str = "default";

/// The version of the built-in functions.
pub const VERSION: &str = "1.0.0";

/// Arguments that are a span of time whose length is known, and more than nothing: no year or month has one. A schema has no format for that,
/// and models are told the schemas.
const SPANS: [&str; 2] = ["keepFor", "parkFor"];

/// A built-in function.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    /// Whether this version of the product performs it; the others are part of the language, and only read.
    pub is_performed: bool,
    /// Arguments of which exactly one must be there.
    one_of: &'static [&'static str],
    input: Schema,
    output: Value,
}

impl Function {
    /// The schema of the arguments.
    #[must_use]
    pub const fn input(&self) -> &Schema {
        &self.input
    }

    /// The JSON schema of what the function gives; of `infer` with a schema of its own it is that schema instead.
    #[must_use]
    pub const fn output(&self) -> &Value {
        &self.output
    }

    /// Arguments of which exactly one must be there; empty when there are no such.
    #[must_use]
    pub const fn one_of(&self) -> &'static [&'static str] {
        self.one_of
    }

    /// What is wrong with these arguments, all of it.
    #[must_use]
    pub fn mismatches(&self, arguments: &Value) -> Vec<Mismatch> {
        let mut found = self.input.mismatches(arguments);
        for (name, text) in SPANS.iter().filter_map(|name| Some((name, arguments.get(name)?.as_str()?))) {
            if parse_iso8601(text).is_ok() && time::span(text).is_none_or(|span| span.is_zero()) {
                let message = format!("found {text:?}, expected {}", time::SPAN);
                found.push(Mismatch { pointer: format!("/{name}"), is_key: false, message });
            }
        }
        let given: Vec<&str> = self.one_of.iter().copied().filter(|name| arguments.get(name).is_some()).collect();
        if !self.one_of.is_empty() && given.len() != 1 {
            let wanted = self.one_of.join("`, `");
            let message = if given.is_empty() { "found none" } else { "found more than one" };
            let message = format!("expected exactly one of `{wanted}`; {message}");
            found.push(Mismatch { pointer: String::new(), is_key: false, message });
        }
        found
    }
}

/// A JSON schema, compiled.
#[derive(Debug)]
pub struct Schema {
    document: Value,
    validator: Validator,
}

/// How a value does not fit a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Where in the value, as a JSON pointer.
    pub pointer: String,
    /// Whether the key is wrong, not its value.
    pub is_key: bool,
    pub message: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", at(&self.pointer), self.message)
    }
}

/// The text is no JSON schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no JSON schema: {}{reason}", at(.pointer))]
pub struct SchemaError {
    /// Where in it, as a JSON pointer.
    pub pointer: String,
    pub reason: String,
}

/// A place inside a schema, in front of what is wrong there.
fn at(pointer: &str) -> String {
    if pointer.is_empty() { String::new() } else { format!("{pointer}: ") }
}

impl Schema {
    /// Compiles a schema (draft 2020-12 unless it says otherwise). References to other documents are refused, because
    /// nothing here reads them.
    pub fn compile(document: &Value) -> Result<Self, SchemaError> {
        let validator = jsonschema::options()
            .with_format("duration", |text: &str| parse_iso8601(text).is_ok())
            .should_validate_formats(true)
            .build(document)
            .map_err(|error| SchemaError { pointer: error.instance_path().to_string(), reason: words::of(&error) })?;
        Ok(Self { document: document.clone(), validator })
    }

    #[must_use]
    pub const fn document(&self) -> &Value {
        &self.document
    }

    /// Everything about the value that does not fit.
    #[must_use]
    pub fn mismatches(&self, value: &Value) -> Vec<Mismatch> {
        let mut found = Vec::new();
        for error in self.validator.iter_errors(value) {
            let pointer = error.instance_path().to_string();
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected } => {
                    let known = self.known_keys(&pointer);
                    found.extend(unexpected.iter().map(|key| Mismatch {
                        pointer: format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")),
                        is_key: true,
                        message: format!("unknown field `{key}`{known}"),
                    }));
                }
                ValidationErrorKind::Required { property } => {
                    let message = format!("missing field `{}`", property.as_str().unwrap_or_default());
                    found.push(Mismatch { pointer, is_key: false, message });
                }
                _ => found.push(Mismatch { pointer, is_key: false, message: words::of(&error) }),
            }
        }
        found
    }

    /// What keys the object at this place may have, if the schema says so plainly.
    fn known_keys(&self, pointer: &str) -> String {
        let mut at = &self.document;
        for segment in pointer.split('/').skip(1) {
            let next = at.pointer(&format!("/properties/{segment}")).or_else(|| at.get("items"));
            let Some(next) = next else { return String::new() };
            at = next;
        }
        let Some(Value::Object(properties)) = at.get("properties") else { return String::new() };
        let known: Vec<String> = properties.keys().map(|key| format!("`{key}`")).collect();
        format!(", expected one of {}", known.join(", "))
    }
}

static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let compile = |(name, is_performed, one_of, input, output): schemas::Entry| match Schema::compile(&input) {
        Ok(input) => Function { name, is_performed, one_of, input, output },
        Err(error) => unreachable!("the arguments of {name}: {error}"),
    };
    schemas::all().into_iter().map(compile).collect()
});

/// Every built-in function, by name.
#[must_use]
pub fn functions() -> &'static [Function] {
    &FUNCTIONS
}

/// The built-in function of this name, given without version and catalog.
#[must_use]
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(name: &str, arguments: Value) -> Vec<String> {
        let found = function(name).unwrap().mismatches(&arguments);
        found.into_iter().map(|mismatch| format!("{}: {}", mismatch.pointer, mismatch.message)).collect()
    }

    #[test]
    fn every_schema_is_valid_and_names_are_unique() {
        let mut names: Vec<&str> = functions().iter().map(|function| function.name).collect();
        for function in functions() {
            assert!(Schema::compile(function.output()).is_ok(), "{}", function.name);
        }
        let sorted = {
            let mut s = names.clone();
            s.sort_unstable();
            s
        };
        assert_eq!(names, sorted);
        names.dedup();
        assert_eq!(names.len(), functions().len());
    }

    #[test]
    fn arguments_of_infer_are_told_apart() {
        assert_eq!(
            messages("infer", json!({"prompt": "x", "model": ["local/*"], "parkFor": "PT1H", "offline": "park"})),
            [""; 0]
        );
        assert_eq!(
            messages("infer", json!({"prompt": "x", "messages": [{"role": "user", "content": "y"}]})),
            [": expected exactly one of `prompt`, `messages`; found more than one"]
        );
        assert_eq!(
            messages("infer", json!({"prompt": "x", "parkFor": "soon"})),
            [r#"/parkFor: found "soon", expected a duration such as PT5M"#]
        );
        let told = r#"/parkFor: found "P1M", expected a span of time such as P30D or PT12H, in weeks, days, hours, minutes and seconds"#;
        assert_eq!(messages("infer", json!({"prompt": "x", "parkFor": "P1M"})), [told]);
        for (span, fits) in
            [("P1Y", false), ("P1M", false), ("P0D", false), ("PT0S", false), ("P52W", true), ("P1DT12H", true)]
        {
            assert_eq!(messages("remember", json!({"text": "x", "keepFor": span})).is_empty(), fits, "{span}");
        }
        let found = messages("infer", json!({"prompt": "x", "offline": "wait"}));
        assert_eq!(found, [r#"/offline: "wait" is not one of "refuse", "local", "degrade", "park""#]);
    }

    #[test]
    fn what_does_not_fit_is_told_in_words() {
        let told = |schema: Value, value: Value| {
            let found = Schema::compile(&schema).unwrap().mismatches(&value);
            found.into_iter().map(|mismatch| mismatch.message).collect::<Vec<_>>().join("; ")
        };
        for (schema, value, words) in [
            (json!({"type": ["string", "object"]}), json!(5), "found 5, expected a string or an object"),
            (json!({"type": "boolean"}), json!("yes"), "found \"yes\", expected true or false"),
            (
                json!({"anyOf": [{"minimum": 5}, {"maximum": 1}]}),
                json!(3),
                "3 fits none of the forms that are allowed here",
            ),
            (json!({"minimum": 1}), json!(0), "0 is less than the minimum of 1"),
            (json!({"const": 2}), json!(0), "found 0, expected 2"),
        ] {
            assert_eq!(told(schema, value), words);
        }
        let long = told(json!({"type": "null"}), json!("ä".repeat(500)));
        assert_eq!(long, format!("found \"{}…, expected null", "ä".repeat(79)));
        let error = Schema::compile(&json!({"properties": {"a": {"type": "objct"}}})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this is no JSON schema: /properties/a/type: found \"objct\", expected one of array, boolean, integer, null, \
             number, object, string, or a list of them"
        );
    }

    #[test]
    fn unknown_and_missing_keys_are_named() {
        assert_eq!(
            messages("publish", json!({"topic": "a", "payloud": 1})),
            [
                ": missing field `payload`",
                "/payloud: unknown field `payloud`, expected one of `topic`, `payload`, `qos`, `retain`"
            ]
        );
    }
}
